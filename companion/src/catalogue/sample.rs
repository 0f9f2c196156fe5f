//! A sample of an event type's data that tells nobody's secrets: keys and shape stay, values are masked.
//!
//! What stands in it are the names that the state keeps, words that are sure to be one of a few, and otherwise nothing of the
//! event that it was made of. So it outlives the erasure of that event's subject.

use serde_json::{Map, Value};

use super::observed::Observed;
use super::texts::Format;
use crate::limits;

/// What stands for a time, also for that of an example.
pub(super) const TIME: &str = "2000-01-01T00:00:00Z";
/// Items of an array that are shown.
const ITEMS: usize = 2;
/// Characters of a string that are shown.
const CHARACTERS: usize = 40;

/// The data masked; `None` where even that is too large to show.
pub fn sample(data: &Value, observed: &Observed) -> Option<Value> {
    let masked = mask(data, Some(observed), 0);
    (masked.to_string().len() <= limits::CATALOGUE_SAMPLE).then_some(masked)
}

fn mask(value: &Value, observed: Option<&Observed>, depth: usize) -> Value {
    match value {
        Value::Null => Value::Null,
        Value::Bool(_) => true.into(),
        Value::Number(_) => 0.into(),
        Value::String(text) if observed.is_some_and(|node| node.sure_words().contains(&text.as_str())) => {
            text.as_str().into()
        }
        Value::String(text) => masked_text(text).into(),
        // Below the depth that is learnt no name is known to be one.
        Value::Array(_) if depth == limits::CATALOGUE_DEPTH => Value::Array(Vec::new()),
        Value::Object(_) if depth == limits::CATALOGUE_DEPTH => Value::Object(Map::new()),
        Value::Array(items) => {
            let node = observed.and_then(|node| node.items.as_deref());
            items.iter().take(ITEMS).map(|item| mask(item, node, depth + 1)).collect()
        }
        Value::Object(members) => Value::Object(match observed {
            Some(node) if node.is_map => {
                let values = node.values.as_deref();
                let first = members.iter().next();
                first
                    .map(|(name, value)| (masked_text(name), mask(value, values, depth + 1)))
                    .into_iter()
                    .collect()
            }
            Some(node) => {
                let known =
                    members.iter().filter_map(|(name, value)| Some((name, value, node.members.get(name)?)));
                known.map(|(name, value, node)| (name.clone(), mask(value, Some(node), depth + 1))).collect()
            }
            None => Map::new(),
        }),
    }
}

/// A string of the same shape, or of the same format where it has one.
fn masked_text(text: &str) -> String {
    match Format::of(text) {
        Some(Format::DateTime) => TIME.to_owned(),
        Some(Format::Date) => "2000-01-01".to_owned(),
        Some(Format::Uuid) => "00000000-0000-0000-0000-000000000000".to_owned(),
        Some(Format::Email) => "xxx@xxx.example".to_owned(),
        Some(Format::Uri) => "https://xxx.example/xxx".to_owned(),
        None => text.chars().take(CHARACTERS).map(masked_character).collect(),
    }
}

fn masked_character(c: char) -> char {
    match c {
        c if c.is_numeric() => '0',
        c if c.is_ascii_punctuation() || c == ' ' => c,
        _ => 'x',
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check(data: &Value, expected: &Value) {
        let mut observed = Observed::default();
        observed.learn(data);
        assert_eq!(sample(data, &observed).as_ref(), Some(expected));
    }

    #[test]
    fn shapes_stay_and_values_do_not() {
        check(
            &json!({"name": "Ada Lovelace", "phone": "+44 20 7946-0958", "age": 36, "paid": false, "none": null}),
            &json!({"name": "xxx xxxxxxxx", "phone": "+00 00 0000-0000", "age": 0, "paid": true, "none": null}),
        );
        check(
            &json!({"at": "2026-01-30T12:34:56Z", "on": "2026-01-30", "mail": "ada@example.com", "url": "https://a.example/ada"}),
            &json!({"at": "2000-01-01T00:00:00Z", "on": "2000-01-01", "mail": "xxx@xxx.example", "url": "https://xxx.example/xxx"}),
        );
        check(&json!(["Grüße", "你好", "🙂", "long ".repeat(20)]), &json!(["xxxxx", "xx"]));
        check(&json!({"ada@example.com": {"age": 1}}), &json!({"xxx@xxx.example": {"age": 0}}));
        check(&json!("y".repeat(100)), &json!("x".repeat(40)));
    }

    #[test]
    fn sure_words_stay() {
        let mut observed = Observed::default();
        let data = |n: usize| json!({"status": (["open", "paid"][n % 2]), "n": n});
        (0..50).for_each(|n| drop(observed.learn(&data(n))));
        assert_eq!(sample(&data(0), &observed).unwrap()["status"], "xxxx");
        (0..60).for_each(|n| drop(observed.learn(&data(n))));
        assert_eq!(sample(&data(1), &observed).unwrap()["status"], "paid");
    }

    #[test]
    fn a_sample_that_is_too_large_is_none() {
        let data: Map<String, Value> = (0..limits::CATALOGUE_MEMBERS)
            .map(|n| {
                (
                    format!("m{}{}", "a".repeat(n % 20), "b".repeat(n / 20)),
                    json!({"a": "y".repeat(40), "b": "y".repeat(40)}),
                )
            })
            .collect();
        let data = Value::Object(data);
        let mut observed = Observed::default();
        observed.learn(&data);
        assert_eq!(sample(&data, &observed), None);
    }
}
