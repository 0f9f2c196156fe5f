//! An event as conditions see it: fields by name, and the scalars they hold.

use std::borrow::Cow;
use std::cell::OnceCell;
use std::fmt;

use serde_json::{Number, Value};

use crate::model::Event;

/// Where a condition looks.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Field {
    /// An attribute of the event by its CloudEvents name: `subject`.
    Attribute(String),
    /// A member of the event's data by its JSON pointer (RFC 6901): `/customer/id`.
    Data(String),
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::Attribute(name) | Self::Data(name)) = self;
        f.write_str(name)
    }
}

/// A JSON value without members, in the one form in which equal values are alike: 1 and 1.0 are the same integer.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Scalar<'a> {
    /// `null`
    Null,
    /// `true`, `false`
    Bool(bool),
    /// Every whole number below 2^127, exact as far as it was read exactly (from -2^63 to 2^64).
    Integer(i128),
    /// Any other number, as the bits of its `f64`.
    Float(u64),
    /// A string.
    Text(Cow<'a, str>),
}

impl<'a> Scalar<'a> {
    /// The scalar of a JSON value; none for arrays and objects.
    pub fn of(value: &'a Value) -> Option<Self> {
        Some(match value {
            Value::Null => Self::Null,
            Value::Bool(truth) => Self::Bool(*truth),
            Value::Number(number) => Self::number(number)?,
            Value::String(text) => Self::Text(Cow::Borrowed(text)),
            Value::Array(_) | Value::Object(_) => return None,
        })
    }

    fn number(number: &Number) -> Option<Self> {
        if let Some(integer) = number.as_i128() {
            return Some(Self::Integer(integer));
        }
        let float = number.as_f64()?;
        let is_whole = float.fract() == 0.0 && float.abs() < 2_f64.powi(127);
        Some(if is_whole { Self::Integer(float as i128) } else { Self::Float(float.to_bits()) })
    }

    /// Whether it is what was written, and no whole number that was rounded when it was read.
    pub fn is_exact(&self) -> bool {
        match self {
            Self::Integer(integer) => (i128::from(i64::MIN)..=i128::from(u64::MAX)).contains(integer),
            Self::Float(bits) => f64::from_bits(*bits).fract() != 0.0,
            _ => true,
        }
    }

    /// The same, owned.
    pub fn into_owned(self) -> Scalar<'static> {
        match self {
            Self::Null => Scalar::Null,
            Self::Bool(truth) => Scalar::Bool(truth),
            Self::Integer(integer) => Scalar::Integer(integer),
            Self::Float(bits) => Scalar::Float(bits),
            Self::Text(text) => Scalar::Text(Cow::Owned(text.into_owned())),
        }
    }
}

/// An event while conditions look at it. Its data is parsed when the first of them asks, and once for all of them.
#[derive(Debug)]
pub struct View<'a> {
    event: &'a Event,
    data: OnceCell<Option<Value>>,
}

impl<'a> View<'a> {
    /// A view of an event.
    pub fn new(event: &'a Event) -> Self {
        Self { event, data: OnceCell::new() }
    }

    /// The event.
    pub fn event(&self) -> &'a Event {
        self.event
    }

    /// The event's data, where it is JSON: within a double's range and nested at most 127 deep, as `serde_json` reads it.
    pub fn data(&self) -> Option<&Value> {
        let parse = || {
            let bytes = self.event.data.as_deref().filter(|_| self.event.is_json())?;
            serde_json::from_slice(bytes).ok()
        };
        self.data.get_or_init(parse).as_ref()
    }

    /// The scalar in a field; none where it is absent or has members.
    pub fn scalar(&self, field: &Field) -> Option<Scalar<'_>> {
        match field {
            Field::Attribute(name) => attribute(self.event, name).map(Scalar::Text),
            Field::Data(pointer) => self.data()?.pointer(pointer).and_then(Scalar::of),
        }
    }

    /// The text in a field; none where it is absent or, in the data, no string.
    pub fn text(&self, field: &Field) -> Option<Cow<'_, str>> {
        match self.scalar(field)? {
            Scalar::Text(text) => Some(text),
            _ => None,
        }
    }
}

/// An attribute as text (CloudEvents 1.0, section 3.1: every simple value has a canonical string).
pub(super) fn attribute<'a>(event: &'a Event, name: &str) -> Option<Cow<'a, str>> {
    let text = match name {
        "specversion" => Some("1.0"),
        "id" => Some(&*event.id),
        "source" => Some(&*event.source),
        "type" => Some(&*event.event_type),
        "subject" => event.subject.as_deref(),
        "datacontenttype" => event.datacontenttype.as_deref(),
        "tenant" => event.tenant.as_deref(),
        "time" => return Some(Cow::Owned(event.time.to_string())),
        _ => {
            let json = event.extensions.get(name)?.get();
            return match json.as_bytes().first()? {
                b'"' => serde_json::from_str(json).ok().map(Cow::Owned),
                // `previous` and `changed` have members, which no condition sees.
                b'{' | b'[' | b'n' => None,
                _ => Some(Cow::Borrowed(json)),
            };
        }
    };
    text.map(Cow::Borrowed)
}
