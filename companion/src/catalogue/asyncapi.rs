//! The catalogue as AsyncAPI 3.0: one channel, to each receiver, with a message for each event type.

use serde_json::{Map, Value, json};

use super::webhook::{Described, HEADERS, header};

/// The document.
pub fn document(types: &[Described]) -> Value {
    let messages: Map<String, Value> =
        types.iter().map(|described| (described.event_type.clone(), message(described))).collect();
    json!({
        "asyncapi": "3.0.0",
        "info": {
            "title": "Webhooks",
            "version": "1",
            "description": "What is POSTed to whoever subscribed, in the format `standard`. The schemas are inferred from what was sent.",
        },
        "defaultContentType": "application/json",
        "channels": {
            "webhooks": {
                "address": null,
                "description": "The target_url of a subscription.",
                "messages": messages,
            },
        },
        "operations": {
            "deliver": {
                "action": "send",
                "channel": {"$ref": "#/channels/webhooks"},
                "bindings": {"http": {"method": "POST", "bindingVersion": "0.3.0"}},
            },
        },
    })
}

fn message(described: &Described) -> Value {
    let headers: Map<String, Value> = HEADERS
        .iter()
        .map(|(name, description, example)| {
            let mut schema = header(example);
            schema["description"] = (*description).into();
            ((*name).to_owned(), schema)
        })
        .collect();
    let required: Vec<&str> = HEADERS.iter().map(|(name, ..)| *name).collect();
    let mut message = json!({
        "name": described.event_type,
        "summary": described.summary(),
        "contentType": "application/json",
        "headers": {"type": "object", "required": required, "properties": headers},
        "payload": described.payload(),
    });
    if let Some(description) = &described.description {
        message["description"] = description.as_str().into();
    }
    if let Some(example) = described.example() {
        message["examples"] = json!([{"payload": example}]);
    }
    message
}
