//! What an event must be like beyond its type: a subscription's `match`.
//!
//! Pure. The filter dialects of the CloudEvents Subscriptions API 1.0 (section 3.2.4), widened to the event's data: a name
//! that begins with `/` is a JSON pointer (RFC 6901). [`Condition::parse`] accepts what can be evaluated in bounded time
//! only, so [`Condition::matches`] needs no errors. What is absent never fits.

use std::sync::Arc;

use expression::Expression;
use serde_json::Value;

use crate::members::Fault;

mod expression;
mod parse;
mod view;

pub use view::{Field, Scalar, View};

/// What holds, or does not hold, of an event. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Condition(Arc<Filter>);

/// A field that has exactly this value.
#[derive(Clone, Debug, PartialEq)]
pub struct Atom {
    /// Where to look.
    pub field: Field,
    /// What must be there.
    pub value: Scalar<'static>,
}

#[derive(Debug)]
enum Filter {
    All(Vec<Filter>),
    Any(Vec<Filter>),
    Not(Box<Filter>),
    Exact(Atom),
    Prefix(Field, String),
    Suffix(Field, String),
    Cel(Expression),
}

impl Condition {
    /// Reads a filter, or a list of filters that all must hold; an empty list always holds, as the specification has it.
    ///
    /// # Errors
    /// All faults at once; their pointers begin within `match`, and one of the whole is empty.
    pub fn parse(value: &Value) -> Result<Self, Vec<Fault>> {
        parse::filter(value).map(|filter| Self(Arc::new(filter)))
    }

    /// A condition that never holds: for what is stored and cannot be read any more, which must not match everything.
    pub fn never() -> Self {
        Self(Arc::new(Filter::Any(Vec::new())))
    }

    /// Whether it holds of an event.
    pub fn matches(&self, view: &View<'_>) -> bool {
        self.0.holds(view)
    }

    /// Atoms without which it cannot hold; an index needs one of them.
    pub fn necessary(&self) -> Vec<&Atom> {
        let mut atoms = Vec::new();
        self.0.necessary(&mut atoms);
        atoms
    }
}

impl Filter {
    fn holds(&self, view: &View<'_>) -> bool {
        match self {
            Self::All(filters) => filters.iter().all(|filter| filter.holds(view)),
            Self::Any(filters) => filters.iter().any(|filter| filter.holds(view)),
            Self::Not(filter) => !filter.holds(view),
            Self::Exact(atom) => view.scalar(&atom.field).is_some_and(|found| found == atom.value),
            Self::Prefix(field, prefix) => view.text(field).is_some_and(|text| text.starts_with(prefix)),
            Self::Suffix(field, suffix) => view.text(field).is_some_and(|text| text.ends_with(suffix)),
            Self::Cel(expression) => expression.holds(view),
        }
    }

    fn necessary<'a>(&'a self, atoms: &mut Vec<&'a Atom>) {
        match self {
            Self::All(filters) => filters.iter().for_each(|filter| filter.necessary(atoms)),
            Self::Exact(atom) => atoms.push(atom),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Event;
    use serde_json::json;

    fn event(data: &str) -> Event {
        Event {
            id: "7".into(),
            source: "/shop".into(),
            event_type: "order.update".into(),
            subject: Some("/orders/7".into()),
            time: "2026-01-02T03:04:05Z".parse().unwrap(),
            datacontenttype: None,
            data: (!data.is_empty()).then(|| data.to_owned().into()),
            tenant: Some("blue".into()),
            extensions: [("actor", r#""ad\u0061""#), ("sequence", "5"), ("thin", "true"), ("previous", "{}")]
                .map(|(name, json)| (name.to_owned(), serde_json::from_str(json).unwrap()))
                .into(),
        }
    }

    fn check(data: &str, condition: &Value, expected: bool) {
        let parsed = Condition::parse(condition).unwrap();
        assert_eq!(parsed.matches(&View::new(&event(data))), expected, "{condition} {data}");
        if condition.is_array() {
            return;
        }
        let negated = Condition::parse(&json!({ "not": condition })).unwrap();
        assert_eq!(negated.matches(&View::new(&event(data))), !expected, "not {condition} {data}");
    }

    #[test]
    fn attributes_compare_as_text() {
        for (name, value) in [
            ("id", "7"),
            ("source", "/shop"),
            ("type", "order.update"),
            ("subject", "/orders/7"),
            ("time", "2026-01-02T03:04:05Z"),
            ("tenant", "blue"),
            ("actor", "ada"),
            ("sequence", "5"),
            ("thin", "true"),
            ("specversion", "1.0"),
        ] {
            check("", &json!({"exact": {name: value}}), true);
            check("", &json!({"exact": {name: format!("{value} ")}}), false);
            check("", &json!({"prefix": {name: &value[..1]}}), true);
            check("", &json!({"suffix": {name: &value[value.len() - 1..]}}), true);
        }
        for absent in ["datacontenttype", "requestid", "previous"] {
            check("", &json!({"prefix": {absent: "{"}}), false);
            check("", &json!({"exact": {absent: "{}"}}), false);
        }
    }

    #[test]
    fn data_compares_as_json() {
        let data = r#"{"status":"paid","customer":{"id":42},"vip":true,"parent":null,"a/b":["x",{"~":1.5}],
            "big":9007199254740993,"most":18446744073709551615,"one":1.0,"empty":"","zero":-0.0}"#;
        for (pointer, value, expected) in [
            ("/status", json!("paid"), true),
            ("/status", json!("Paid"), false),
            ("/customer/id", json!(42), true),
            ("/customer/id", json!(42.0), true),
            ("/customer/id", json!("42"), false),
            ("/customer", json!(42), false),
            ("/vip", json!(true), true),
            ("/vip", json!("true"), false),
            ("/parent", json!(null), true),
            ("/mother", json!(null), false),
            ("/a~1b/0", json!("x"), true),
            ("/a~1b/1/~0", json!(1.5), true),
            ("/big", json!(9_007_199_254_740_993_u64), true),
            ("/big", json!(9_007_199_254_740_992_u64), false),
            ("/big", json!(9_007_199_254_740_992.0), false),
            ("/most", json!(u64::MAX), true),
            ("/most", json!(u64::MAX - 1), false),
            ("/one", json!(1), true),
            ("/zero", json!(0), true),
            ("/empty", json!(""), true),
        ] {
            check(data, &json!({"exact": {pointer: value}}), expected);
        }
        check(data, &json!({"prefix": {"/status": "pa"}}), true);
        check(data, &json!({"suffix": {"/status": "id"}}), true);
        check(data, &json!({"prefix": {"/customer/id": "4"}}), false);
    }

    #[test]
    fn what_is_no_json_has_no_members() {
        for data in ["", "{", "1e999", "[1,2"] {
            check(data, &json!({"exact": {"/a": null}}), false);
        }
        let mut text = event(r#"{"a":1}"#);
        text.datacontenttype = Some("text/plain".into());
        let condition = Condition::parse(&json!({"exact": {"/a": 1}})).unwrap();
        assert!(!condition.matches(&View::new(&text)));
        text.datacontenttype = Some("application/hal+json".into());
        assert!(condition.matches(&View::new(&text)));
    }

    #[test]
    fn filters_combine() {
        let (yes, no) = (json!({"exact": {"id": "7"}}), json!({"exact": {"id": "8"}}));
        check("", &json!([]), true);
        check("", &json!([yes, yes]), true);
        check("", &json!([yes, no]), false);
        check("", &json!({"all": [yes, no]}), false);
        check("", &json!({"any": [no, yes]}), true);
        check("", &json!({"any": [no, no]}), false);
        check("", &json!({"not": no}), true);
        check("", &json!({"all": [yes, {"cel": "event.id == '7' && data == null"}]}), true);
        check("", &json!({"cel": "event.id == 7"}), false);
        check("", &json!({"exact": {"id": "7", "source": "/shop"}}), true);
        check("", &json!({"exact": {"id": "7", "source": "/"}}), false);
        check("", &json!({"prefix": {"id": "7", "source": "/x"}}), false);
    }

    #[test]
    fn only_what_must_hold_is_necessary() {
        let condition = json!([
            {"exact": {"type": "a", "/b": 1}},
            {"all": [{"exact": {"subject": "c"}}, {"prefix": {"id": "d"}}]},
            {"any": [{"exact": {"id": "e"}}]},
            {"not": {"exact": {"id": "f"}}},
        ]);
        let condition = Condition::parse(&condition).unwrap();
        let fields: Vec<_> = condition.necessary().into_iter().map(|atom| atom.field.to_string()).collect();
        assert_eq!(fields, ["/b", "type", "subject"]);
    }
}
