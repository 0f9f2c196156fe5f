//! The shapes of the event catalogue.

use serde_json::{Value, json};

use super::{maybe, object, page, text};
use crate::limits;

pub(super) fn event_types() -> Value {
    let event_type = object(
        json!({
            "type": {"type": "string"},
            "count": {"type": "integer"},
            "first_at": maybe("Time"),
            "last_at": maybe("Time"),
            "description": {"type": ["string", "null"]},
            "published": {"type": "boolean", "description": "Whether tenants see it that have no events of it."},
            "sample": {"description": "The data of the last event that was looked into, masked."},
            "schema": {"type": ["object", "null"], "description": "JSON Schema 2020-12 of the data, inferred."},
        }),
        &[],
    );
    json!({
        "EventType": event_type,
        "EventTypePage": page("EventType"),
        "EventTypePatch": {
            "type": "object",
            "properties": {"description": text(limits::SHORT_TEXT), "published": {"type": "boolean"}},
            "additionalProperties": false,
            "examples": [{"description": "A contact was made.", "published": true}, {"description": null}],
        },
    })
}
