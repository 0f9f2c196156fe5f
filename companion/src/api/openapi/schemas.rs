//! The shapes of bodies, parameters and answers, as JSON Schema 2020-12.
//!
//! Words and bounds are those of the code. Answers are closed (`additionalProperties: false`) where we write all of them, so
//! that a field which is shown and not described here fails the test that compares.

use serde_json::{Map, Value, json};

use crate::limits;
use crate::model::{
    DeliveryStatus, Format, Handshake, Ordering, ReplayKind, ReplayStatus, Signing, SubscriptionStatus,
};
use crate::retry::Policy;

mod access;
mod catalogue;

/// All schemas by name.
pub(super) fn all() -> Value {
    let mut schemas = Map::new();
    for part in [
        simple(),
        subscriptions(),
        parts(),
        retries(),
        deliveries(),
        statistics(),
        events(),
        catalogue::event_types(),
        replays(),
        unmatched(),
        access::all(),
    ] {
        if let Value::Object(part) = part {
            schemas.extend(part);
        }
    }
    Value::Object(schemas)
}

/// An object of these properties. Those named in `optional` may be missing.
fn object(properties: Value, optional: &[&str]) -> Value {
    let required: Vec<&str> = properties
        .as_object()
        .into_iter()
        .flat_map(Map::keys)
        .map(String::as_str)
        .filter(|name| !optional.contains(name))
        .collect();
    let mut schema = json!({"type": "object", "required": required, "additionalProperties": false});
    schema["properties"] = properties;
    schema
}

/// A page of a list.
fn page(of: &str) -> Value {
    let data = json!({"type": "array", "items": of_schema(of)});
    object(
        json!({"data": data, "next_cursor": {"type": ["string", "null"], "description": "For the next page; null where there is none."}}),
        &[],
    )
}

fn of_schema(name: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{name}")})
}

fn maybe(name: &str) -> Value {
    json!({"oneOf": [of_schema(name), {"type": "null"}]})
}

fn word(words: &[&str], default: &str) -> Value {
    json!({"type": "string", "enum": words, "default": default})
}

fn text(most: usize) -> Value {
    json!({"type": ["string", "null"], "minLength": 1, "maxLength": most})
}

fn simple() -> Value {
    json!({
        "Id": {"type": "string", "minLength": 1, "pattern": "^[A-Za-z0-9_.:-]+$"},
        "Text": {"type": "string"},
        "Types": {"type": "string", "minLength": 1, "examples": ["contact.*,order.create"]},
        "Limit": {"type": "integer", "minimum": 1, "maximum": limits::PAGE_MAX, "default": limits::PAGE_DEFAULT},
        "Cursor": {"type": "string"},
        "Place": {"type": "integer", "minimum": 0},
        "UnmatchedPlace": {"type": "string", "pattern": "^[0-9]{1,15}-[0-9]{1,15}$"},
        "IdempotencyKey": {"type": "string", "minLength": 1, "maxLength": limits::IDEMPOTENCY_KEY},
        "HttpStatus": {"type": "integer", "minimum": 200, "maximum": 599},
        "Seconds": {"type": "integer", "minimum": 0},
        "Object": {"type": "object"},
        "Time": {"type": "string", "format": "date-time", "examples": ["2026-01-30T12:34:56.000789Z"]},
        "Duration": {"type": "string", "pattern": "^[0-9]{1,6}(ms|s|m|h|d)$", "examples": ["5s", "2h"]},
        "Rate": {"type": "string", "pattern": "^[1-9][0-9]{0,5}/[smh]$", "examples": ["100/s"]},
        "Pattern": {"type": "string", "minLength": 1, "maxLength": limits::EVENT_TYPE, "pattern": "^([a-z0-9_]+(\\.[a-z0-9_]+)*(\\.\\*)?|\\*)$", "examples": ["contact.*"]},
        "Patterns": {"type": "array", "minItems": 1, "maxItems": limits::SUBSCRIPTION_EVENTS, "items": of_schema("Pattern")},
        "Problem": {
            "type": "object",
            "description": "RFC 9457.",
            "required": ["type", "title", "status", "detail"],
            "properties": {
                "type": {"type": "string"},
                "title": {"type": "string"},
                "status": {"type": "integer"},
                "detail": {"type": "string"},
                "errors": {"type": "array", "items": object(json!({"field": {"type": "string", "description": "JSON pointer (RFC 6901) into the body, or the name of a parameter or header."}, "detail": {"type": "string"}}), &[])},
            },
            "additionalProperties": false,
        },
    })
}

/// The fields of a subscription that are its owner's to write.
fn written() -> Value {
    json!({
        "target_url": {"type": "string", "format": "uri", "minLength": 1, "maxLength": limits::TARGET_URL, "pattern": "^https?://"},
        "events": of_schema("Patterns"),
        "status": word(SubscriptionStatus::WORDS, "on"),
        "description": text(limits::SHORT_TEXT),
        "tenant": text(limits::SHORT_TEXT),
        "match": {"oneOf": [of_schema("Filter"), {"type": "array", "items": of_schema("Filter"), "maxItems": limits::CONDITION_FILTERS}, {"type": "null"}]},
        "format": word(Format::WORDS, "standard"),
        "template": text(limits::TEMPLATE_SOURCE),
        "content_type": text(limits::SHORT_TEXT),
        "ce_headers": {"type": "boolean", "default": false},
        "headers": {"type": ["object", "null"], "maxProperties": 20, "additionalProperties": {"type": "string"}, "description": "Values are shown as `***`."},
        "auth": {"oneOf": [of_schema("Auth"), {"type": "null"}]},
        "client_certificate": {"oneOf": [of_schema("ClientCertificate"), {"type": "null"}]},
        "retry": maybe("RetryPolicy"),
        "rate_limit": {"oneOf": [of_schema("Rate"), {"type": "null"}]},
        "max_in_flight": {"type": ["integer", "null"], "minimum": 1, "maximum": limits::IN_FLIGHT},
        "ordering": word(Ordering::WORDS, "none"),
        "signing": word(Signing::WORDS, "hmac"),
        "handshake": word(Handshake::WORDS, "none"),
        "metadata": {"type": "object", "description": format!("At most {} bytes.", limits::METADATA)},
        "expires_at": {"type": ["string", "null"], "format": "date-time"},
        "secret": {"type": ["string", "null"], "pattern": "^whsec_[A-Za-z0-9+/=]+$", "description": "24 to 64 bytes in base64."},
    })
}

fn subscriptions() -> Value {
    let example = json!({"target_url": "https://example.com/hook", "events": ["contact.*"]});
    let written = written();
    let mut shown = written.clone();
    for (name, schema) in [
        ("id", json!({"type": "string"})),
        ("off_reason", json!({"type": ["string", "null"]})),
        ("failing_since", maybe("Time")),
        ("created_at", of_schema("Time")),
        ("updated_at", of_schema("Time")),
        ("previous_secret_expires_at", of_schema("Time")),
    ] {
        shown[name] = schema;
    }
    // What callers write is bounded by pattern; what we show may be of an event type that is none of ours.
    shown["events"] = json!({"type": "array", "items": {"type": "string"}});
    let own_names = |value: &Value| value.as_object().map(|map| map.keys().cloned().collect::<Vec<_>>());
    let all: Vec<String> = own_names(&written).unwrap_or_default();
    let all_but_needed: Vec<&str> =
        all.iter().map(String::as_str).filter(|name| !matches!(*name, "target_url" | "events")).collect();
    let mut fields = object(written.clone(), &all_but_needed);
    fields["examples"] = json!([example, {
        "target_url": "https://example.com/hook",
        "events": ["order.create", "order.update"],
        "match": {"exact": {"/status": "paid"}},
        "retry": {"policy": "exponential", "first": "10s", "attempts": 12},
        "ordering": "resource",
        "headers": {"x-api-key": "k3y"},
        "auth": {"type": "basic", "username": "ada", "password": "pa55"},
    }]);
    let every: Vec<&str> = all.iter().map(String::as_str).collect();
    let mut patch = object(written, &every);
    patch["examples"] = json!([{"status": "off"}, {"description": null}]);
    json!({
        "SubscriptionFields": fields,
        "SubscriptionPatch": patch,
        "Subscription": object(shown, &["secret", "previous_secret_expires_at"]),
        "SubscriptionPage": page("Subscription"),
    })
}

/// What stands inside a subscription.
fn parts() -> Value {
    json!({
        "Rotation": {
            "type": "object",
            "properties": {"secret": {"type": ["string", "null"], "pattern": "^whsec_[A-Za-z0-9+/=]+$"}, "overlap": {"oneOf": [of_schema("Duration"), {"type": "null"}]}},
            "additionalProperties": false,
            "examples": [{"overlap": "1h"}, {}],
        },
        "KeyRotation": {
            "type": "object",
            "properties": {"overlap": {"oneOf": [of_schema("Duration"), {"type": "null"}]}},
            "additionalProperties": false,
            "examples": [{"overlap": "1h"}, {}],
        },
        "Filter": {
            "type": "object",
            "description": "A filter of the CloudEvents Subscriptions API 1.0, or a CEL expression.",
            "minProperties": 1,
            "maxProperties": 1,
            "properties": {
                "exact": {"type": "object", "minProperties": 1},
                "prefix": {"type": "object", "minProperties": 1, "additionalProperties": {"type": "string", "minLength": 1}},
                "suffix": {"type": "object", "minProperties": 1, "additionalProperties": {"type": "string", "minLength": 1}},
                "all": {"type": "array", "minItems": 1, "items": of_schema("Filter")},
                "any": {"type": "array", "minItems": 1, "items": of_schema("Filter")},
                "not": of_schema("Filter"),
                "cel": {"type": "string", "minLength": 1, "maxLength": limits::EXPRESSION},
            },
            "additionalProperties": false,
            "examples": [{"exact": {"/status": "paid"}}, {"cel": "has(data.total) && data.total > 100"}],
        },
        "Auth": {
            "oneOf": [
                object(json!({"type": {"const": "basic"}, "username": {"type": "string"}, "password": {"type": "string"}}), &[]),
                object(json!({"type": {"const": "bearer"}, "token": {"type": "string"}}), &[]),
                object(json!({
                    "type": {"const": "oauth2"},
                    "token_url": {"type": "string", "format": "uri"},
                    "client_id": {"type": "string"},
                    "client_secret": {"type": "string"},
                    "scope": {"type": "string"},
                    "audience": {"type": "string"},
                    "client_authentication": {"type": "string", "enum": ["basic", "body"]},
                }), &["scope", "audience", "client_authentication"]),
            ],
            "examples": [{"type": "bearer", "token": "t0k3n"}],
        },
        "ClientCertificate": object(json!({
            "certificate": {"type": "string", "description": "PEM, the chain."},
            "private_key": {"type": "string", "description": "PEM: PKCS#8, PKCS#1 or SEC1."},
        }), &[]),
    })
}

fn retries() -> Value {
    let attempts = json!({"type": "integer", "minimum": 1, "maximum": limits::RETRY_STEPS});
    let duration = of_schema("Duration");
    let branches = json!({
        "type": "object",
        "description": "By status (`404`), class (`4xx`), `timed_out` or `unreachable`: a policy of their own.",
        "additionalProperties": {"type": ["object", "string"]},
    });
    json!({
        "RetryPolicy": {
            "oneOf": [
                {"type": "string", "enum": Policy::WORDS},
                object(json!({
                    "policy": {"type": "string", "enum": Policy::WORDS},
                    "first": duration,
                    "factor": {"type": "number", "minimum": 1, "maximum": 10},
                    "most": duration,
                    "step": duration,
                    "delay": duration,
                    "delays": {"type": "array", "minItems": 1, "maxItems": limits::RETRY_STEPS, "items": duration},
                    "attempts": attempts,
                    "longest_age": duration,
                    "jitter": {"type": "number", "minimum": 0, "maximum": 0.5},
                    "on": branches,
                }), &["first", "factor", "most", "step", "delay", "delays", "attempts", "longest_age", "jitter", "on"]),
            ],
            "examples": ["standard", {"policy": "fixed", "delay": "1m", "attempts": 5, "on": {"4xx": "none"}}],
        },
        "RetryPreview": object(json!({"attempts": {"type": "array", "items": object(json!({
            "number": {"type": "integer"},
            "at": of_schema("Time"),
            "earliest": of_schema("Time"),
            "latest": of_schema("Time"),
        }), &[])}}), &[]),
    })
}

fn deliveries() -> Value {
    let attempt = object(
        json!({
            "number": {"type": "integer"},
            "started_at": of_schema("Time"),
            "duration_ms": {"type": "integer"},
            "outcome": {"type": "string", "enum": ["delivered", "refused", "timed_out", "unreachable", "blocked"]},
            "status": {"type": ["integer", "null"]},
            "error": {"type": ["string", "null"]},
            "answer": {"type": "string", "description": "The first kilobytes of the answer's body."},
        }),
        &[],
    );
    let event = object(
        json!({"id": {"type": "string"}, "source": {"type": "string"}, "type": {"type": "string"}, "subject": {"type": ["string", "null"]}, "tenant": {"type": ["string", "null"]}}),
        &[],
    );
    let listed = json!({
        "id": {"type": "string"},
        "subscription": {"type": "string"},
        "event": event,
        "status": {"type": "string", "enum": DeliveryStatus::WORDS},
        "reason": {"type": ["string", "null"]},
        "attempt_count": {"type": "integer"},
        "due_at": maybe("Time"),
        "created_at": of_schema("Time"),
        "ended_at": maybe("Time"),
    });
    let mut whole = listed.clone();
    whole["attempts"] = json!({"type": "array", "items": of_schema("Attempt")});
    json!({
        "Attempt": attempt,
        "Delivery": object(whole, &[]),
        "ListedDelivery": object(listed, &[]),
        "DeliveryPage": page("ListedDelivery"),
        "DeliveryRequest": object(json!({
            "method": {"type": "string"}, "url": {"type": "string"},
            "headers": {"type": "array", "items": object(json!({"name": {"type": "string"}, "value": {"type": "string"}}), &[])},
            "body": {"type": "string"}, "body_base64": {"type": "string", "description": "In place of `body` where that is not UTF-8."},
        }), &["body", "body_base64"]),
    })
}

fn statistics() -> Value {
    let duration = json!({"type": "integer", "minimum": 0});
    let counts = |first: &str, schema: Value| {
        let mut shown = json!({
            "attempts": {"type": "integer"}, "delivered": {"type": "integer", "description": "Attempts that were answered 2xx."},
            "failed": {"type": "integer", "description": "All other attempts."},
            "exhausted": {"type": "integer", "description": "Attempts that were the last of their delivery, and failed."},
            "duration_ms": {"oneOf": [object(json!({"p50": duration, "p95": duration, "p99": duration}), &[]), {"type": "null"}]},
        });
        shown[first] = schema;
        json!({"type": "array", "items": object(shown, &[])})
    };
    json!({
        "Statistics": object(json!({
            "from": of_schema("Time"), "to": of_schema("Time"), "step_s": {"type": "integer", "minimum": 60},
            "data": counts("at", of_schema("Time")), "groups": counts("key", json!({"type": "string"})),
        }), &["groups"]),
    })
}

fn events() -> Value {
    let cloud_event = |needed: &[&str]| {
        json!({
            "type": "object",
            "description": "CloudEvents 1.0; all other attributes are simple values, but for `previous` and `changed`.",
            "required": needed,
            "properties": {
                "specversion": {"const": "1.0"},
                "id": {"type": "string", "minLength": 1, "maxLength": limits::EVENT_ID},
                "source": {"type": "string", "minLength": 1, "maxLength": limits::EVENT_URI},
                "type": {"type": "string", "minLength": 1, "maxLength": limits::EVENT_TYPE},
                "subject": {"type": ["string", "null"]},
                "time": {"type": ["string", "null"]},
                "tenant": {"type": ["string", "null"]},
                "actor": {"type": ["string", "null"]},
            },
            "examples": [{"specversion": "1.0", "id": "7", "source": "gatehook", "type": "contact.update", "data": {"name": "Ada"}}],
        })
    };
    let mut accepted = cloud_event(&["specversion", "id", "source", "type", "time", "accepted_at"]);
    accepted["properties"]["accepted_at"] = of_schema("Time");
    accepted.as_object_mut().map(|schema| schema.remove("examples"));
    let ids = json!({"type": "array", "items": {"type": "string"}});
    let refusal = object(
        json!({"id": {"type": ["string", "null"]}, "path": {"type": "string"}, "reason": {"type": "string"}}),
        &["id"],
    );
    json!({
        "CloudEvent": cloud_event(&["specversion", "id", "source", "type"]),
        "CloudEventBatch": {"type": "array", "description": format!("CloudEvents, at most {}; each is accepted or refused by itself.", limits::BATCH_EVENTS)},
        "Receipt": object(json!({"accepted": ids, "repeated": ids, "refused": {"type": "array", "items": refusal}}), &[]),
        "AcceptedEvent": accepted,
        "EventPage": page("AcceptedEvent"),
    })
}

fn replays() -> Value {
    let range = |recovers: bool, many: bool| {
        let mut fields = json!({
            "since": maybe("Time"),
            "until": maybe("Time"),
            "events": {"oneOf": [of_schema("Patterns"), {"type": "null"}]},
            "subject": text(limits::EVENT_URI),
            "rate": {"oneOf": [of_schema("Rate"), {"type": "null"}]},
        });
        if recovers {
            fields["status"] = json!({"type": ["string", "null"], "enum": ["exhausted", "cancelled", null]});
        }
        if many {
            fields["subscription"] = text(limits::SHORT_TEXT);
        }
        json!({"type": "object", "properties": fields, "additionalProperties": false, "examples": [{"since": "2026-01-01T00:00:00Z", "rate": "50/s"}]})
    };
    let replay = object(
        json!({
            "id": {"type": "string"},
            "kind": {"type": "string", "enum": ReplayKind::WORDS},
            "subscription": {"type": ["string", "null"]},
            "since": of_schema("Time"),
            "until": of_schema("Time"),
            "events": {"type": "array", "items": {"type": "string"}},
            "subject": {"type": "string"},
            "status": {"type": "string", "enum": DeliveryStatus::WORDS},
            "rate": {"type": "string"},
            "state": {"type": "string", "enum": ReplayStatus::WORDS},
            "progress": object(json!({"looked_at": {"type": "integer"}, "total": {"type": "integer"}, "made": {"type": "integer"}}), &[]),
            "created_at": of_schema("Time"),
            "ended_at": maybe("Time"),
        }),
        &["since", "until", "events", "subject", "status", "rate"],
    );
    json!({
        "ReplayFields": range(false, false),
        "RecoveryFields": range(true, false),
        "RecoveryQuery": range(true, true),
        "Replay": replay,
        "ReplayPage": page("Replay"),
    })
}

fn unmatched() -> Value {
    let shape = json!({
        "method": {"type": "string"},
        "path": {"type": "string"},
        "count": {"type": "integer"},
        "status": {"type": "integer"},
        "source": {"type": "string"},
        "first_at": of_schema("Time"),
        "last_at": of_schema("Time"),
        "rule": {"type": ["object", "null"], "description": "A member for `resources` in the filter's configuration that would name these writes; null where there can be none."},
    });
    // Members that it does not know are ignored, so that filters may be newer.
    let reported = json!({
        "type": "object",
        "required": ["method", "path", "count", "status"],
        "properties": {
            "method": {"type": "string", "minLength": 1, "maxLength": limits::UNMATCHED_METHOD},
            "path": {"type": "string", "pattern": "^/", "maxLength": limits::UNMATCHED_PATH},
            "count": {"type": "integer", "minimum": 1, "maximum": limits::UNMATCHED_COUNT},
            "status": {"type": "integer", "minimum": 100, "maximum": 599},
        },
    });
    json!({
        "UnmatchedPage": page("UnmatchedShape"),
        "UnmatchedShape": object(shape, &[]),
        "UnmatchedReport": {
            "type": "object",
            "required": ["source", "shapes"],
            "properties": {
                "source": {"type": "string", "minLength": 1},
                "shapes": {"type": "array", "maxItems": limits::UNMATCHED_REPORT, "items": reported},
            },
            "examples": [{"source": "gatehook", "shapes": [{"method": "POST", "path": "/v1/graphql", "count": 12, "status": 200}]}],
        },
        "UnmatchedReceipt": object(json!({"accepted": {"type": "integer"}}), &[]),
    })
}
