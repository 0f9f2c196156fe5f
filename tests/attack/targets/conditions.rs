//! Conditions of subscriptions: the laws of logic hold, and the index finds whom a plain look finds.

use anyhow::{Result, ensure};
use bytes::Bytes;
use companion::cloudevents;
use companion::condition::{Condition, View};
use companion::matcher::{Index, Pattern};
use companion::model::Event;
use serde_json::{Value, json};

use super::{NOW, Reading, Target, parts};

pub(super) const MATCH: Target = Target {
    name: "conditions",
    percent: 8,
    words: &[
        "exact",
        "prefix",
        "suffix",
        "all",
        "any",
        "not",
        "{\"exact\":{\"/a\":1}}",
        "{\"prefix\":{\"subject\":\"/\"}}",
        "\"/a/0\"",
        "/~1",
        "/~0",
        "id",
        "subject",
        "type",
        "time",
        "specversion",
        "actor",
        "1.0",
        "null",
        "-0.0",
        "1e3",
    ],
    play: filters,
    bytes: 512 << 10,
    per_byte: 256,
};

/// Each has a thread of its own to be parsed on, so there are few.
pub(super) const CEL: Target = Target {
    name: "cel",
    percent: 3,
    words: &[
        "data",
        "event",
        "data.a",
        "event.id",
        "event['tenant']",
        "size(",
        "contains(",
        "startsWith(",
        "endsWith(",
        "int(",
        "uint(",
        "double(",
        "string(",
        "bool(",
        "has(data.a)",
        " in ",
        "[1, 2]",
        "&&",
        "||",
        "!",
        "? 1 : 2",
        "==",
        "!=",
        "<=",
        ">",
        "+",
        "-",
        "*",
        "/",
        "%",
        "0",
        "1u",
        "0x7f",
        "1e308",
        "9223372036854775807",
        "-9223372036854775808",
        "'",
        "\"\"\"",
        "r'\\'",
        "b'\\xff'",
        "'\\u0041'",
        "\\U0010ffff",
        "true",
        "null",
        "{'a': 1}",
        ".map(x, x)",
        "// c\n",
        "a.?b",
        "optional.of(1)",
        "timestamp('x')",
        "matches('a*')",
        "msg{a: 1}",
    ],
    play: expression,
    bytes: 1 << 20,
    per_byte: 4_096,
};

const DATA: &str = r#"{"a":1,"b":["x",{"c":null}],"s":"paid","t":true,"f":1.5,"big":18446744073709551615}"#;

fn filters(input: &[u8]) -> Result<Reading> {
    let [condition, event] = parts(input);
    match serde_json::from_slice(condition) {
        Ok(condition) => judged(&condition, event),
        Err(_) => Ok(Reading::refused("no JSON")),
    }
}

fn expression(input: &[u8]) -> Result<Reading> {
    let [source, event] = parts(input);
    match std::str::from_utf8(source) {
        Ok(source) => judged(&json!({ "cel": source }), event),
        Err(_) => Ok(Reading::refused("no text")),
    }
}

fn judged(value: &Value, data: &[u8]) -> Result<Reading> {
    let condition = match Condition::parse(value) {
        Ok(condition) => condition,
        Err(faults) => {
            for fault in &faults {
                let above = fault.pointer.rsplit_once('/').map_or("", |(above, _)| above);
                ensure!(value.pointer(above).is_some(), "a fault is somewhere in the condition: {fault}");
            }
            return Reading::faulty(&faults);
        }
    };
    let mut found = String::new();
    for event in [event(DATA.as_bytes()), event(data), whole(data)].into_iter().flatten() {
        let holds = judge(value, &condition, &event)?;
        found.push_str(if holds { "yes " } else { "no " });
    }
    let necessary = condition.necessary().len().min(3);
    Ok(Reading::taken(&format!(
        "{found}{necessary} {:?}",
        value.as_object().and_then(|map| map.keys().next())
    )))
}

/// Whether the condition holds, by every way to ask.
fn judge(value: &Value, condition: &Condition, event: &Event) -> Result<bool> {
    let view = View::new(event);
    let holds = condition.matches(&view);
    let laws =
        [(json!({"not": value}), !holds), (json!({"all": [value]}), holds), (json!({"any": [value]}), holds)];
    for (law, expected) in laws {
        // Only a whole list has no such form, and only the deepest condition cannot be put into another.
        if let Ok(lawful) = Condition::parse(&law) {
            ensure!(lawful.matches(&view) == expected, "the laws of logic: {law} of {event:?}");
        }
    }
    for atom in condition.necessary() {
        let there = view.scalar(&atom.field).is_some_and(|found| found == atom.value);
        ensure!(there || !holds, "what is necessary: {atom:?} of {event:?}");
    }
    let mut index = Index::default();
    index.insert(&1, None, &[Pattern::All], Some(condition));
    ensure!(
        index.matching(&view).len() == usize::from(holds),
        "the index finds whom a look finds: {event:?}"
    );
    Ok(holds)
}

fn event(data: &[u8]) -> Option<Event> {
    let extensions = [("actor", r#""ad\u0061""#), ("sequence", "5"), ("previous", "{}")];
    let extensions =
        extensions.map(|(name, json)| (name.to_owned(), serde_json::from_str(json).expect("JSON")));
    Some(Event {
        id: "7".into(),
        source: "/shop".into(),
        event_type: "order.update".into(),
        subject: Some("/orders/7".into()),
        time: NOW,
        datacontenttype: None,
        data: (!data.is_empty()).then(|| Bytes::copy_from_slice(data)),
        tenant: Some("blue".into()),
        extensions: extensions.into(),
    })
}

/// The second part of an input may be a whole event, too.
fn whole(bytes: &[u8]) -> Option<Event> {
    cloudevents::structured(&Bytes::copy_from_slice(bytes), NOW).ok()
}
