//! `match`: conditions of a subscription on an event, in the filter dialect of the CloudEvents Subscriptions API 1.0.
//!
//! Pure. Filters look at attributes by name, and at members of `data` by JSON pointer (RFC 6901), which begins with `/`.
//! What is absent fits nothing, so `not` of it does. CloudEvents SQL is left out: no library for it is kept up.

use std::borrow::Cow;

use serde_json::value::RawValue;
use serde_json::{Map, Value};

use crate::limits;
use crate::members::{Fault, step};
use crate::model::Event;

/// Conditions that all hold, or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition(Vec<Filter>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Filter {
    /// Each field has this value, written as [`View::key`] writes it.
    Exact(Vec<(Field, String)>),
    Prefix(Vec<(Field, String)>),
    Suffix(Vec<(Field, String)>),
    All(Vec<Filter>),
    Any(Vec<Filter>),
    Not(Box<Filter>),
}

/// What a filter looks at.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Field {
    /// An attribute of the event.
    Attribute(String),
    /// A member of its data: the reference tokens of a JSON pointer.
    Data(Vec<String>),
}

/// Names of filters.
const WORDS: &str = "exact, prefix, suffix, all, any, not";

impl Condition {
    /// Reads a filter, or a list of filters that must all hold, that stands at the pointer `at`.
    ///
    /// # Errors
    /// All faults at once, each with its place and what is allowed there.
    pub fn parse(value: &Value, at: &str) -> Result<Self, Vec<Fault>> {
        let mut reader = Reader { faults: Vec::new(), filters: 0 };
        let filters = match value {
            Value::Array(list) => reader.list(list, at, 1),
            one => reader.filter(one, at, 1).into_iter().collect(),
        };
        if reader.filters > limits::FILTERS {
            let detail = format!("has {} filters; {} are allowed", reader.filters, limits::FILTERS);
            reader.faults.push(Fault::new(at, detail));
        }
        if reader.faults.is_empty() { Ok(Self(filters)) } else { Err(reader.faults) }
    }

    /// Whether an event fits.
    pub fn holds(&self, view: &View<'_>) -> bool {
        self.0.iter().all(|filter| filter.holds(view))
    }

    /// A field and the key of its value without which the condition never holds: an index can find it by that.
    pub fn discriminant(&self) -> Option<(&Field, &str)> {
        self.0.iter().find_map(Filter::discriminant)
    }
}

impl Filter {
    fn holds(&self, view: &View<'_>) -> bool {
        let each = |fields: &[(Field, String)], fits: fn(&str, &str) -> bool| {
            fields.iter().all(|(field, wanted)| view.text(field).is_some_and(|text| fits(&text, wanted)))
        };
        match self {
            Self::Exact(fields) => {
                fields.iter().all(|(field, wanted)| view.key(field).is_some_and(|key| key == *wanted))
            }
            Self::Prefix(fields) => each(fields, |text, wanted| text.starts_with(wanted)),
            Self::Suffix(fields) => each(fields, |text, wanted| text.ends_with(wanted)),
            Self::All(filters) => filters.iter().all(|filter| filter.holds(view)),
            Self::Any(filters) => filters.iter().any(|filter| filter.holds(view)),
            Self::Not(filter) => !filter.holds(view),
        }
    }

    fn discriminant(&self) -> Option<(&Field, &str)> {
        match self {
            Self::Exact(fields) => fields.first().map(|(field, key)| (field, key.as_str())),
            Self::All(filters) => filters.iter().find_map(Self::discriminant),
            _ => None,
        }
    }
}

/// An event as filters see it.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    /// The event.
    pub event: &'a Event,
}

impl<'a> View<'a> {
    /// The view of an event.
    pub fn new(event: &'a Event) -> Self {
        Self { event }
    }

    /// A field's value in a form in which equal values are equal: attributes are strings, so that theirs is the same as
    /// that of a string in the data; numbers are equal by value. `None` where it is absent, an object or a list.
    pub fn key(&self, field: &Field) -> Option<String> {
        match field {
            Field::Attribute(_) => self.text(field).map(|text| key(&Value::from(text.as_ref())))?,
            Field::Data(tokens) => key(&serde_json::from_str(self.member(tokens)?.get()).ok()?),
        }
    }

    /// A field's text; `None` where it is absent or no string.
    fn text(&self, field: &Field) -> Option<Cow<'a, str>> {
        match field {
            Field::Attribute(name) => self.attribute(name),
            Field::Data(tokens) => match serde_json::from_str(self.member(tokens)?.get()) {
                Ok(Value::String(text)) => Some(text.into()),
                _ => None,
            },
        }
    }

    fn attribute(&self, name: &str) -> Option<Cow<'a, str>> {
        let event = self.event;
        match name {
            "id" => Some(event.id.as_str().into()),
            "source" => Some(event.source.as_str().into()),
            "type" => Some(event.event_type.as_str().into()),
            "subject" => event.subject.as_deref().map(Cow::from),
            "tenant" => event.tenant.as_deref().map(Cow::from),
            "datacontenttype" => event.datacontenttype.as_deref().map(Cow::from),
            "time" => Some(event.time.to_string().into()),
            "specversion" => Some("1.0".into()),
            _ => match serde_json::from_str(event.extensions.get(name)?.get()).ok()? {
                Value::String(text) => Some(text.into()),
                simple @ (Value::Number(_) | Value::Bool(_)) => Some(simple.to_string().into()),
                _ => None,
            },
        }
    }

    /// A member of the data, read a level at a time: what stands beside it may be of any depth and is skipped.
    fn member(&self, tokens: &[String]) -> Option<&'a RawValue> {
        let data = self.event.data.as_deref().filter(|_| self.event.is_json())?;
        let mut found: &RawValue = serde_json::from_slice(data).ok()?;
        for token in tokens {
            found = match found.get().as_bytes().first()? {
                b'{' => member_of(found, token)?,
                b'[' => element_of(found, token)?,
                _ => return None,
            };
        }
        Some(found)
    }
}

fn member_of<'a>(object: &'a RawValue, name: &str) -> Option<&'a RawValue> {
    let members: std::collections::BTreeMap<Cow<'_, str>, &RawValue> =
        serde_json::from_str(object.get()).ok()?;
    members.get(name).copied()
}

fn element_of<'a>(list: &'a RawValue, token: &str) -> Option<&'a RawValue> {
    let is_index =
        token == "0" || (!token.starts_with('0') && token.bytes().all(|byte| byte.is_ascii_digit()));
    let index: usize = token.parse().ok().filter(|_| is_index)?;
    let elements: Vec<&RawValue> = serde_json::from_str(list.get()).ok()?;
    elements.get(index).copied()
}

/// A simple value in a form in which equal values are equal; `None` for an object or a list.
fn key(value: &Value) -> Option<String> {
    match value {
        Value::Object(_) | Value::Array(_) => None,
        Value::Number(number) => Some(match number.as_f64() {
            // Whole numbers that a double holds exactly are written like integers.
            Some(double) if number.is_f64() && double.fract() == 0.0 && double.abs() < 9e15 => {
                (double as i64).to_string()
            }
            _ => number.to_string(),
        }),
        simple => Some(simple.to_string()),
    }
}

/// Reads filters and notes what is wrong.
struct Reader {
    faults: Vec<Fault>,
    filters: usize,
}

impl Reader {
    fn fault<T>(&mut self, at: &str, detail: impl Into<String>) -> Option<T> {
        self.faults.push(Fault::new(at, detail));
        None
    }

    fn filter(&mut self, value: &Value, at: &str, depth: usize) -> Option<Filter> {
        self.filters += 1;
        if depth > limits::FILTER_DEPTH {
            return self.fault(at, format!("filters nest at most {} deep", limits::FILTER_DEPTH));
        }
        let allowed = || format!("must be an object with one of {WORDS}");
        let Some((word, inner)) =
            value.as_object().filter(|map| map.len() == 1).and_then(|map| map.iter().next())
        else {
            return self.fault(at, allowed());
        };
        let place = format!("{at}{}", step(word));
        match word.as_str() {
            "exact" => self.fields(inner, &place, true).map(Filter::Exact),
            "prefix" => self.fields(inner, &place, false).map(Filter::Prefix),
            "suffix" => self.fields(inner, &place, false).map(Filter::Suffix),
            "all" => self.several(inner, &place, depth).map(Filter::All),
            "any" => self.several(inner, &place, depth).map(Filter::Any),
            "not" => self.filter(inner, &place, depth + 1).map(|filter| Filter::Not(Box::new(filter))),
            _ => self.fault(at, allowed()),
        }
    }

    fn several(&mut self, value: &Value, at: &str, depth: usize) -> Option<Vec<Filter>> {
        match value {
            Value::Array(list) => Some(self.list(list, at, depth + 1)),
            _ => self.fault(at, "must be a list of filters"),
        }
    }

    fn list(&mut self, list: &[Value], at: &str, depth: usize) -> Vec<Filter> {
        if list.is_empty() || list.len() > limits::FILTERS {
            self.faults.push(Fault::new(at, format!("must have 1 to {} filters", limits::FILTERS)));
            return Vec::new();
        }
        let each = list.iter().enumerate();
        each.filter_map(|(index, value)| self.filter(value, &format!("{at}/{index}"), depth)).collect()
    }

    /// The members of `exact`, `prefix` and `suffix`; only `exact` may be of other than strings, and that on data alone.
    fn fields(&mut self, value: &Value, at: &str, is_exact: bool) -> Option<Vec<(Field, String)>> {
        let empty = Map::new();
        let map = value.as_object().unwrap_or(&empty);
        if map.is_empty() || map.len() > limits::FILTERS {
            let detail = format!("must be an object of 1 to {} fields and their values", limits::FILTERS);
            return self.fault(at, detail);
        }
        let mut fields = Vec::with_capacity(map.len());
        for (name, value) in map {
            let place = format!("{at}{}", step(name));
            let Some(field) = self.field(name, &place) else { continue };
            let wanted = match (value, &field) {
                (Value::String(text), _) if text.len() > limits::FILTER_VALUE => None,
                (Value::String(text), _) if !is_exact => Some(text.clone()).filter(|text| !text.is_empty()),
                (Value::String(_), _) => key(value),
                (_, Field::Data(_)) if is_exact => key(value),
                _ => None,
            };
            match wanted {
                Some(wanted) => fields.push((field, wanted)),
                None if is_exact && matches!(field, Field::Data(_)) => {
                    let detail = "must be a string, a number, true, false or null";
                    self.faults.push(Fault::new(place, detail));
                }
                None => {
                    let detail = format!("must be a string of 1 to {} bytes", limits::FILTER_VALUE);
                    self.faults.push(Fault::new(place, detail));
                }
            }
        }
        Some(fields)
    }

    fn field(&mut self, name: &str, place: &str) -> Option<Field> {
        if name.len() > limits::FILTER_VALUE {
            return self.fault(place, format!("a field's name has at most {} bytes", limits::FILTER_VALUE));
        }
        if let Some(pointer) = name.strip_prefix('/') {
            let tokens = pointer.split('/').map(unescaped).collect::<Option<Vec<_>>>();
            let short = tokens.filter(|tokens| tokens.len() <= limits::FILTER_DEPTH);
            return match short {
                Some(tokens) => Some(Field::Data(tokens)),
                None => self.fault(
                    place,
                    format!("is no JSON pointer (RFC 6901) of at most {} steps", limits::FILTER_DEPTH),
                ),
            };
        }
        let is_attribute = !name.is_empty()
            && name != "data"
            && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
        match is_attribute {
            true => Some(Field::Attribute(name.to_owned())),
            false => self.fault(
                place,
                "is neither an attribute (lower-case letters and digits) nor a JSON pointer into the data (`/…`)",
            ),
        }
    }
}

/// A reference token without its escapes (RFC 6901 §4).
fn unescaped(token: &str) -> Option<String> {
    let is_whole = token.split('~').skip(1).all(|after| after.starts_with(['0', '1']));
    is_whole.then(|| token.replace("~1", "/").replace("~0", "~"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use jiff::Timestamp;
    use proptest::prelude::*;
    use serde_json::json;

    fn event(data: &str) -> Event {
        Event {
            id: "7".into(),
            source: "/test".into(),
            event_type: "order.update".into(),
            subject: Some("/orders/42".into()),
            time: Timestamp::UNIX_EPOCH,
            datacontenttype: None,
            data: Some(Bytes::copy_from_slice(data.as_bytes())),
            tenant: Some("blue".into()),
            extensions: [("actor", "\"ada\""), ("sequence", "17"), ("previous", "{\"a\":1}")]
                .map(|(name, json)| (name.to_owned(), serde_json::from_str(json).unwrap()))
                .into(),
        }
    }

    const DATA: &str = r#"{"status": "paid", "total": 120.0, "vip": true, "parent": null, "a/b": {"c~d": ["x", 2]},
                           "big": 9007199254740993, "deep": [[[]]]}"#;

    #[expect(clippy::needless_pass_by_value, reason = "a table of literals reads better without ampersands")]
    fn check(condition: Value, expected: bool) {
        let event = event(DATA);
        let parsed = Condition::parse(&condition, "").unwrap();
        assert_eq!(parsed.holds(&View::new(&event)), expected, "{condition}");
    }

    #[test]
    fn attributes_are_compared_as_text() {
        check(json!({"exact": {"type": "order.update", "subject": "/orders/42"}}), true);
        check(json!({"exact": {"type": "order.update", "tenant": "red"}}), false);
        check(json!({"exact": {"actor": "ada", "sequence": "17", "time": "1970-01-01T00:00:00Z"}}), true);
        check(json!({"exact": {"previous": "x"}}), false);
        check(json!({"prefix": {"subject": "/orders/"}}), true);
        check(json!({"suffix": {"subject": "/42", "source": "test"}}), true);
        check(json!({"suffix": {"subject": "/43"}}), false);
        check(json!({"prefix": {"actor": "Ada"}}), false);
    }

    #[test]
    fn members_of_the_data_are_compared_as_json() {
        check(json!({"exact": {"/status": "paid", "/total": 120, "/vip": true, "/parent": null}}), true);
        check(json!({"exact": {"/total": 120.0}}), true);
        check(json!({"exact": {"/total": "120"}}), false);
        check(json!({"exact": {"/missing": null}}), false);
        check(json!({"exact": {"/big": 9_007_199_254_740_993_u64}}), true);
        check(json!({"exact": {"/big": 9_007_199_254_740_992_u64}}), false);
        check(json!({"exact": {"/a~1b/c~0d/0": "x", "/a~1b/c~0d/1": 2}}), true);
        check(json!({"exact": {"/a~1b/c~0d/01": 2}}), false);
        check(json!({"exact": {"/status/x": "paid"}}), false);
        check(json!({"prefix": {"/status": "pa"}}), true);
        check(json!({"prefix": {"/total": "12"}}), false);
        check(json!({"not": {"exact": {"/missing": "x"}}}), true);
    }

    #[test]
    fn filters_combine() {
        let (yes, no) = (json!({"exact": {"/vip": true}}), json!({"exact": {"/vip": false}}));
        check(json!([yes, yes]), true);
        check(json!([yes, no]), false);
        check(json!({"all": [yes, {"not": no}]}), true);
        check(json!({"any": [no, yes]}), true);
        check(json!({"any": [no, no]}), false);
        check(json!({"not": {"any": [no, {"all": [yes, no]}]}}), true);
    }

    #[test]
    fn data_of_any_depth_hides_nothing_and_what_is_no_json_has_no_members() {
        let deep = format!(r#"{{"deep": {}1{}, "a": "x"}}"#, "[".repeat(5_000), "]".repeat(5_000));
        let condition = Condition::parse(&json!({"exact": {"/a": "x"}}), "").unwrap();
        assert!(condition.holds(&View::new(&event(&deep))));
        let text = Event { datacontenttype: Some("text/plain".into()), ..event(DATA) };
        let none = Event { data: None, ..event("") };
        for event in [text, none, event("not json"), event("[]"), event("7")] {
            assert!(!condition.holds(&View::new(&event)));
        }
    }

    #[test]
    fn each_fault_names_its_place() {
        #[expect(
            clippy::needless_pass_by_value,
            reason = "a table of literals reads better without ampersands"
        )]
        fn check(condition: Value, expected: &[&str]) {
            let faults = Condition::parse(&condition, "/match").unwrap_err();
            let places: Vec<_> = faults.iter().map(|fault| fault.pointer.as_str()).collect();
            assert_eq!(places, expected, "{condition}");
        }
        check(json!(7), &["/match"]);
        check(json!([]), &["/match"]);
        check(json!({}), &["/match"]);
        check(json!({"exact": {"a": "b"}, "not": {}}), &["/match"]);
        check(json!({"sql": "a = b"}), &["/match"]);
        check(
            json!([{"exact": {}}, {"any": [{"exact": {"/a": []}}, 7]}]),
            &["/match/0/exact", "/match/1/any/0/exact/~1a", "/match/1/any/1"],
        );
        check(
            json!({"exact": {"type": 7, "Type": "x", "/a~2": "x", "data": "x"}}),
            &["/match/exact/~1a~02", "/match/exact/Type", "/match/exact/data", "/match/exact/type"],
        );
        check(
            json!({"prefix": {"/a": 7, "type": "", "subject": "x".repeat(1025)}}),
            &["/match/prefix/~1a", "/match/prefix/subject", "/match/prefix/type"],
        );
        check(json!({"all": {}}), &["/match/all"]);
        let mut deep = json!({"exact": {"a": "b"}});
        for _ in 0..limits::FILTER_DEPTH {
            deep = json!({"not": deep});
        }
        assert!(Condition::parse(&deep, "").is_err());
        let many: Vec<_> = (0..30).map(|_| json!({"all": [{"exact": {"a": "b"}}]})).collect();
        assert!(Condition::parse(&Value::from(many), "").is_err());
    }

    #[test]
    fn what_must_be_equal_is_found() {
        #[expect(
            clippy::needless_pass_by_value,
            reason = "a table of literals reads better without ampersands"
        )]
        fn check(condition: Value, expected: Option<&str>) {
            let condition = Condition::parse(&condition, "").unwrap();
            assert_eq!(condition.discriminant().map(|(_, key)| key), expected);
        }
        check(json!([{"prefix": {"type": "a"}}, {"all": [{"exact": {"/id": 7}}]}]), Some("7"));
        check(json!({"any": [{"exact": {"/id": 7}}]}), None);
        check(json!({"not": {"exact": {"/id": 7}}}), None);
    }

    fn simple() -> impl Strategy<Value = Value> {
        prop_oneof![
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            any::<bool>().prop_map(Value::from),
            "\\PC{0,8}".prop_map(Value::from)
        ]
    }

    proptest! {
        #[test]
        fn a_value_is_exactly_itself_and_its_negation_never(name in "\\PC{1,8}", value in simple()) {
            let pointer = format!("/{}", name.replace('~', "~0").replace('/', "~1"));
            let event = event(&json!({&name: &value}).to_string());
            let condition = Condition::parse(&json!({"exact": {&pointer: &value}}), "").unwrap();
            prop_assert!(condition.holds(&View::new(&event)));
            let negated = Condition::parse(&json!({"not": {"exact": {&pointer: &value}}}), "").unwrap();
            prop_assert!(!negated.holds(&View::new(&event)));
        }

        #[test]
        fn nothing_that_a_caller_writes_panics(text in "[\\[\\]{}\",:/a-d0-9~]{0,60}", data in "\\PC{0,40}") {
            if let Ok(value) = serde_json::from_str::<Value>(&text)
                && let Ok(condition) = Condition::parse(&value, "")
            {
                condition.holds(&View::new(&event(&data)));
            }
        }
    }
}
