//! What is attacked: everything that reads bytes of someone else's, each as one function from an input to a reading.
//!
//! A reading that breaks a promise is an error, whose first words (up to a colon) say which promise. Besides, no input may
//! panic, and none may cost more memory than its length allows.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use anyhow::{Result, ensure};
use companion::members::Fault;
use jiff::Timestamp;

mod cloudevents;
mod conditions;
mod configuration;
mod exchanges;
mod json;
mod openapi;
mod retry;
mod subscriptions;
mod templates;
mod urls;

/// The time at which everything is read.
const NOW: Timestamp = Timestamp::UNIX_EPOCH;

/// Stands between the parts of an input that has several.
pub(crate) const BETWEEN: &[u8] = b"\n--\n";

/// One thing that reads bytes.
#[derive(Debug)]
pub(crate) struct Target {
    /// Its name, and that of its corpus.
    pub(crate) name: &'static str,
    /// Its share of all inputs, in percent: what is quick gets many.
    pub(crate) percent: usize,
    /// Words that mean something to it.
    pub(crate) words: &'static [&'static str],
    /// Reads an input; an error is a broken promise.
    pub(crate) play: fn(&[u8]) -> Result<Reading>,
    /// Bytes that an input may have allocated at once, beside [`Target::per_byte`].
    pub(crate) bytes: u64,
    /// Bytes that may be allocated at once for each byte of the input.
    pub(crate) per_byte: u64,
}

/// All of them.
pub(crate) const TARGETS: [&Target; 13] = [
    &cloudevents::STRUCTURED,
    &cloudevents::BATCH,
    &cloudevents::BINARY,
    &subscriptions::TARGET,
    &templates::TARGET,
    &conditions::MATCH,
    &conditions::CEL,
    &retry::TARGET,
    &urls::TARGET,
    &openapi::TARGET,
    &configuration::TARGET,
    &exchanges::TARGET,
    &json::TARGET,
];

/// How an input was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Reading {
    /// Whether it was taken.
    pub(crate) taken: bool,
    /// Inputs that are read alike have the same kind; a new kind is worth keeping.
    pub(crate) kind: u64,
}

impl Reading {
    /// It was taken; `how` tells inputs apart that were taken differently.
    fn taken(how: &str) -> Self {
        Self { taken: true, kind: kind(how) }
    }

    /// It was refused for a reason, which is compared without what it quotes.
    fn refused(reason: &str) -> Self {
        Self { taken: false, kind: kind(reason) }
    }

    /// It was refused for faults, each of which names a place and says something.
    fn faulty(faults: &[Fault]) -> Result<Self> {
        ensure!(!faults.is_empty(), "refused without a fault: nothing is named");
        for Fault { pointer, detail } in faults {
            place(pointer, detail)?;
        }
        Ok(Self::refused(&faults[0].detail))
    }
}

/// A place is a JSON pointer, and there is something to say about it.
fn place(pointer: &str, detail: &str) -> Result<()> {
    let is_pointer = pointer.is_empty() || pointer.starts_with('/');
    ensure!(is_pointer, "a place is a JSON pointer: {pointer:?} is none");
    ensure!(!detail.trim().is_empty(), "a fault has words: {pointer:?} has none");
    Ok(())
}

/// Numbers, and what stands in quotes, are of one input alone.
fn kind(text: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    let plain = text.split('`').step_by(2).flat_map(str::chars).map(|letter| match letter {
        '0'..='9' => '0',
        letter if letter.is_ascii() => letter,
        _ => '?',
    });
    let mut last = ' ';
    for letter in plain.take(120) {
        if letter != last || letter != '0' {
            letter.hash(&mut hasher);
        }
        last = letter;
    }
    hasher.finish()
}

/// The parts of an input, as many as are asked for; those that it lacks are empty.
fn parts<const COUNT: usize>(input: &[u8]) -> [&[u8]; COUNT] {
    let mut parts = [&input[..0]; COUNT];
    let mut rest = input;
    for (index, part) in parts.iter_mut().enumerate() {
        let end = rest.windows(BETWEEN.len()).position(|window| window == BETWEEN);
        match end.filter(|_| index + 1 < COUNT) {
            Some(end) => (*part, rest) = (&rest[..end], &rest[end + BETWEEN.len()..]),
            None => {
                *part = rest;
                break;
            }
        }
    }
    parts
}

/// The lines `name: value` of a head.
fn lines(head: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    head.split(|byte| *byte == b'\n').filter_map(|line| {
        let colon = line.iter().skip(1).position(|byte| *byte == b':')? + 1;
        Some((&line[..colon], line[colon + 1..].trim_ascii()))
    })
}
