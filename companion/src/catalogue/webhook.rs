//! What a receiver gets, as both exports describe it: the body of `format: standard`, and the headers.

use serde_json::{Value, json};

use super::{Observed, sample, schema};

/// An event type as an export describes it.
#[derive(Clone, Debug)]
pub struct Described {
    /// The type.
    pub event_type: String,
    /// What it means.
    pub description: Option<String>,
    /// What was observed of its data.
    pub observed: Observed,
    /// The masked sample of its data.
    pub sample: Option<Value>,
}

/// Headers of a delivery (Standard Webhooks 1.0): name, what it is, an example.
pub(super) const HEADERS: [(&str, &str, &str); 3] = [
    (
        "webhook-id",
        "Names the delivery; the same at each attempt, so that a repeat is recognised.",
        "dlv_0198f6c2a1b07c3e9d5f4a6b8c7d0e1f",
    ),
    ("webhook-timestamp", "When this attempt was made, in seconds since 1970.", "1769776496"),
    (
        "webhook-signature",
        "Signatures of id, timestamp and body, separated by spaces (Standard Webhooks 1.0).",
        "v1,K5oZfzN95Z9UVu1EsfQmfVNQhnkZ2pj9o9NDN/H/pI4=",
    ),
];

/// The schema of a header.
pub(super) fn header(example: &str) -> Value {
    json!({"type": "string", "examples": [example]})
}

impl Described {
    /// One line.
    pub(super) fn summary(&self) -> String {
        let first = self.description.as_deref().and_then(|text| text.lines().next());
        first.filter(|line| !line.is_empty()).unwrap_or(&self.event_type).to_owned()
    }

    /// The schema of the body.
    pub(super) fn payload(&self) -> Value {
        let mut data = schema::schema(&self.observed);
        // An event may come without its data (`thin`), whatever was observed.
        if let Some(types) = data.get("type").cloned() {
            let types = types.as_array().cloned().unwrap_or_else(|| vec![types]);
            let has_null = types.iter().any(|name| name == "null");
            data["type"] = types.into_iter().chain((!has_null).then(|| "null".into())).collect();
            if let Some(words) = data.get_mut("enum").and_then(Value::as_array_mut).filter(|_| !has_null) {
                words.push(Value::Null);
            }
        }
        let text = || json!({"type": "string"});
        json!({
            "type": "object",
            "required": ["type", "timestamp", "data", "hook"],
            "properties": {
                "type": {"type": "string", "const": self.event_type},
                "timestamp": {"type": "string", "format": "date-time", "description": "When it happened."},
                "subject": {"type": "string", "description": "The resource's path."},
                "actor": {"type": "string", "description": "Who did it."},
                "data": data,
                "thin": {"type": "string", "description": "Why there are no data."},
                "previous": {"description": "The data as they stood before."},
                "changed": {"type": "array", "items": text(), "description": "JSON pointers to what differs from before."},
                "hook": {
                    "type": "object",
                    "description": "The subscription that this is a delivery of.",
                    "required": ["id", "events", "target_url"],
                    "properties": {
                        "id": text(),
                        "events": {"type": "array", "items": text()},
                        "target_url": {"type": "string", "format": "uri"},
                        "metadata": {"type": "object"},
                    },
                },
            },
        })
    }

    /// An example of the body.
    pub(super) fn example(&self) -> Option<Value> {
        let sample = self.sample.as_ref()?;
        Some(json!({
            "type": self.event_type,
            "timestamp": sample::TIME,
            "data": sample,
            "hook": {
                "id": "sub_0198f6c2a1b07c3e9d5f4a6b8c7d0e1f",
                "events": [self.event_type],
                "target_url": "https://receiver.example/hook",
            },
        }))
    }
}
