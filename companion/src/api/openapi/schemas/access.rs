//! The shapes of who may do what, of what is forgotten, and of who did it.

use serde_json::{Value, json};

use super::{maybe, object, of_schema, page, text};
use crate::limits;
use crate::model::Scope;

pub(super) fn all() -> Value {
    let token = json!({
        "id": {"type": "string"},
        "scope": {"type": "string", "enum": Scope::WORDS},
        "description": {"type": ["string", "null"]},
        "expires_at": maybe("Time"),
        "created_at": of_schema("Time"),
        "token": {"type": "string", "description": "In the answer to its making alone."},
    });
    json!({
        "SigningKeys": object(json!({"data": {"type": "array", "items": object(json!({
            "id": {"type": "string"},
            "public_key": {"type": "string", "pattern": "^whpk_"},
            "created_at": of_schema("Time"),
            "expires_at": maybe("Time"),
        }), &[])}}), &[]),
        "Jwks": object(json!({"keys": {"type": "array", "items": {"type": "object", "required": ["kty", "crv", "kid", "x", "whpk"]}}}), &[]),
        "Token": object(token, &["token"]),
        "TokenList": object(json!({"data": {"type": "array", "items": of_schema("Token")}}), &[]),
        "TokenFields": {
            "type": "object",
            "required": ["scope"],
            "properties": {"scope": {"type": "string", "enum": Scope::WORDS}, "description": text(limits::SHORT_TEXT), "expires_at": {"type": ["string", "null"], "format": "date-time"}},
            "additionalProperties": false,
            "examples": [{"scope": "read", "description": "dashboard"}],
        },
        "PortalLinkFields": {
            "type": "object",
            "required": ["tenant"],
            "properties": {
                "tenant": {"type": "string", "minLength": 1, "maxLength": limits::SHORT_TEXT},
                "expires_in": {"type": ["string", "null"], "pattern": "^[0-9]+(ms|s|m|h|d)$", "description": "How long it is good: `1m` to `24h`, by default `1h`."},
            },
            "additionalProperties": false,
            "examples": [{"tenant": "acme"}, {"tenant": "acme", "expires_in": "15m"}],
        },
        "PortalLink": object(json!({
            "url": {"type": "string", "description": "Below the companion's `--api-url`; a path where it has none."},
            "tenant": {"type": "string"},
            "expires_at": of_schema("Time"),
        }), &[]),
        "Session": object(json!({
            "scope": {"type": "string", "enum": ["admin", "read", "tenant"]},
            "tenant": {"type": ["string", "null"]},
            "expires_at": maybe("Time"),
        }), &[]),
        "Erasure": {
            "oneOf": [
                object(json!({"subject": {"type": "string", "minLength": 1, "maxLength": limits::EVENT_URI}}), &[]),
                object(json!({"tenant": {"type": "string", "minLength": 1, "maxLength": limits::SHORT_TEXT}}), &[]),
            ],
            "examples": [{"subject": "/contacts/7"}],
        },
        "Erased": object(json!({
            "events": {"type": "integer"},
            "deliveries": {"type": "integer"},
            "attempts": {"type": "integer"},
            "subscriptions": {"type": "integer"},
            "overwritten": {"type": "boolean"},
        }), &[]),
        "AuditPage": page("AuditLine"),
        "AuditLine": object(json!({
            "at": of_schema("Time"),
            "actor": {"type": "string"},
            "action": {"type": "string"},
            "resource": {"type": "string"},
            "detail": {},
        }), &[]),
    })
}
