//! Reads the members of a JSON object, and collects every fault with its place.
//!
//! Pure. What a caller wrote wrong is told all at once, each fault with a JSON pointer and what is allowed there.

use std::fmt::Display;
use std::ops::RangeInclusive;

use serde::Serialize;
use serde_json::{Map, Value};

/// What is wrong at one place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, thiserror::Error)]
#[error("{pointer}: {detail}")]
pub struct Fault {
    /// JSON pointer (RFC 6901).
    #[serde(rename = "field")]
    pub pointer: String,
    /// What is allowed there.
    pub detail: String,
}

impl Fault {
    /// A fault at a pointer.
    pub fn new(pointer: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { pointer: pointer.into(), detail: detail.into() }
    }
}

/// A member's name as a step of a JSON pointer.
pub fn step(name: &str) -> String {
    format!("/{}", name.replace('~', "~0").replace('/', "~1"))
}

/// The members of an object that have not been read yet, and the faults found so far. A member that is null counts as absent.
#[derive(Debug)]
pub struct Members {
    at: String,
    map: Map<String, Value>,
    faults: Vec<Fault>,
}

impl Members {
    /// The members of the object that stands at the pointer `at`.
    pub fn new(at: impl Into<String>, map: Map<String, Value>) -> Self {
        Self { at: at.into(), map, faults: Vec::new() }
    }

    /// Notes a fault of a member.
    pub fn fault(&mut self, name: &str, detail: impl Into<String>) {
        let pointer = format!("{}{}", self.at, step(name));
        self.faults.push(Fault { pointer, detail: detail.into() });
    }

    /// Notes faults found below this object; their pointers are whole.
    pub fn faults(&mut self, faults: impl IntoIterator<Item = Fault>) {
        self.faults.extend(faults);
    }

    /// Whether a member is there, null included.
    pub fn has(&self, name: &str) -> bool {
        self.map.contains_key(name)
    }

    /// Takes a member; `None` where it is absent or null.
    pub fn take(&mut self, name: &str) -> Option<Value> {
        self.map.remove(name).filter(|value| !value.is_null())
    }

    /// Takes a string of 1 to `most` bytes.
    pub fn text(&mut self, name: &str, most: usize) -> Option<String> {
        match self.take(name)? {
            Value::String(text) if !text.is_empty() && text.len() <= most => Some(text),
            _ => {
                self.fault(name, format!("must be a string of 1 to {most} bytes"));
                None
            }
        }
    }

    /// Takes a string and reads it by a rule whose error says what is allowed.
    pub fn read<T, E: Display>(&mut self, name: &str, rule: impl FnOnce(&str) -> Result<T, E>) -> Option<T> {
        let value = self.take(name)?;
        let result = match value.as_str() {
            Some(text) => rule(text).map_err(|error| error.to_string()),
            None => Err("must be a string".to_owned()),
        };
        result.map_err(|detail| self.fault(name, detail)).ok()
    }

    /// Takes one of a few words; `default` where it is absent.
    pub fn word<T>(&mut self, name: &str, default: T, of: impl Fn(&str) -> Option<T>, words: &[&str]) -> T {
        let allowed = || format!("must be one of {}", words.join(", "));
        self.read(name, |text| of(text).ok_or_else(allowed)).unwrap_or(default)
    }

    /// Takes `true` or `false`; false where it is absent.
    pub fn switch(&mut self, name: &str) -> bool {
        match self.take(name) {
            None => false,
            Some(Value::Bool(value)) => value,
            Some(_) => {
                self.fault(name, "must be true or false");
                false
            }
        }
    }

    /// Takes a whole number within a range.
    pub fn count(&mut self, name: &str, range: RangeInclusive<u64>) -> Option<u64> {
        let found = self.take(name)?.as_u64().filter(|number| range.contains(number));
        if found.is_none() {
            self.fault(name, format!("must be a whole number from {} to {}", range.start(), range.end()));
        }
        found
    }

    /// Takes a number within a range.
    pub fn number(&mut self, name: &str, range: RangeInclusive<f64>) -> Option<f64> {
        let found = self.take(name)?.as_f64().filter(|number| range.contains(number));
        if found.is_none() {
            self.fault(name, format!("must be a number from {} to {}", range.start(), range.end()));
        }
        found
    }

    /// Takes an object.
    pub fn object(&mut self, name: &str) -> Option<Map<String, Value>> {
        match self.take(name)? {
            Value::Object(map) => Some(map),
            _ => {
                self.fault(name, "must be a JSON object");
                None
            }
        }
    }

    /// What was found wrong, members left over included: each `is not a …`, of `what`.
    ///
    /// # Errors
    /// All faults, in the order found.
    pub fn finish(mut self, what: &str) -> Result<(), Vec<Fault>> {
        for name in std::mem::take(&mut self.map).keys() {
            self.fault(name, format!("is not a field of {what}"));
        }
        if self.faults.is_empty() { Ok(()) } else { Err(self.faults) }
    }
}
