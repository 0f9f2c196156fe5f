//! A subscription as JSON: read from a body with every fault named, and shown.
//!
//! Pure. PUT and PATCH share one path: a merge patch (RFC 7396) is applied to what is writable, and the result is read
//! like a PUT, so one set of rules holds however a subscription changes.

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::error::{FieldError, Problem};
use crate::limits;
use crate::matcher::Pattern;
use crate::model::{Format, Secret, Subscription, SubscriptionId, SubscriptionStatus};
use crate::signature;

/// Shown, but not the caller's to write; accepted and ignored, so that what was read can be sent back.
const READ_ONLY: &[&str] = &["id", "off_reason", "created_at", "updated_at", "previous_secret_expires_at"];

/// What a caller writes of a subscription; the rest is ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fields {
    pub(super) target_url: String,
    events: Vec<String>,
    status: SubscriptionStatus,
    description: Option<String>,
    tenant: Option<String>,
    format: Format,
    metadata: Map<String, Value>,
    pub(super) secret: Option<Vec<u8>>,
}

/// Reads the fields of a create or replace; all faults at once.
pub(super) fn read(body: &[u8]) -> Result<Fields, Problem> {
    fields(object(body)?)
}

/// Applies a merge patch to a subscription and reads the result.
pub(super) fn patched(current: &Subscription, patch: &[u8]) -> Result<Fields, Problem> {
    let mut value = json!({
        "target_url": current.target_url,
        "events": current.events,
        "status": current.status,
        "description": current.description,
        "tenant": current.tenant,
        "format": current.format,
        "metadata": current.metadata,
    });
    merge(&mut value, Value::Object(object(patch)?));
    match value {
        Value::Object(map) => fields(map),
        _ => Err(Problem::malformed("", "must be a JSON object")),
    }
}

fn object(body: &[u8]) -> Result<Map<String, Value>, Problem> {
    match serde_json::from_slice(body) {
        Ok(Value::Object(map)) => Ok(map),
        Ok(_) => Err(Problem::malformed("", "must be a JSON object")),
        Err(error) => Err(Problem::malformed("", format!("is not JSON: {error}"))),
    }
}

/// JSON Merge Patch, RFC 7396 §2. The depth is bounded by the parser's.
fn merge(target: &mut Value, patch: Value) {
    let Value::Object(patch) = patch else {
        *target = patch;
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let Value::Object(target) = target else { return };
    for (name, value) in patch {
        if value.is_null() {
            target.remove(&name);
        } else {
            merge(target.entry(name).or_insert(Value::Null), value);
        }
    }
}

/// Collects faults while fields are taken out of a body.
struct Reader {
    map: Map<String, Value>,
    errors: Vec<FieldError>,
}

impl Reader {
    fn fault(&mut self, field: &str, detail: impl Into<String>) {
        self.errors.push(FieldError { field: format!("/{field}"), detail: detail.into() });
    }

    /// Takes a string; `None` where it is absent, null, or faulty (and then noted).
    fn text(&mut self, field: &str, most: usize) -> Option<String> {
        match self.map.remove(field) {
            None | Some(Value::Null) => None,
            Some(Value::String(text)) if !text.is_empty() && text.len() <= most => Some(text),
            Some(_) => {
                self.fault(field, format!("must be a string of 1 to {most} bytes"));
                None
            }
        }
    }

    fn word<T: Copy>(
        &mut self,
        field: &str,
        default: T,
        of: impl Fn(&str) -> Option<T>,
        words: &[&str],
    ) -> T {
        let found = match self.map.remove(field) {
            None | Some(Value::Null) => Some(default),
            Some(Value::String(text)) => of(&text),
            Some(_) => None,
        };
        found.unwrap_or_else(|| {
            self.fault(field, format!("must be one of {}", words.join(", ")));
            default
        })
    }

    fn events(&mut self) -> Vec<String> {
        let Some(Value::Array(entries)) = self.map.remove("events") else {
            self.fault("events", "must be a list of event types, such as [\"contact.*\"]");
            return Vec::new();
        };
        if entries.is_empty() || entries.len() > limits::SUBSCRIPTION_EVENTS {
            self.fault("events", format!("must have 1 to {} entries", limits::SUBSCRIPTION_EVENTS));
        }
        let mut events = Vec::with_capacity(entries.len());
        for (index, entry) in entries.into_iter().enumerate() {
            let parsed = entry.as_str().ok_or("must be a string".to_owned()).and_then(Pattern::parse);
            match parsed {
                Ok(pattern) => events.push(pattern.to_string()),
                Err(detail) => self.fault(&format!("events/{index}"), detail),
            }
        }
        events.sort_unstable();
        events.dedup();
        events
    }

    fn metadata(&mut self) -> Map<String, Value> {
        match self.map.remove("metadata") {
            None | Some(Value::Null) => Map::new(),
            Some(Value::Object(map)) if Value::Object(map.clone()).to_string().len() <= limits::METADATA => {
                map
            }
            Some(_) => {
                self.fault(
                    "metadata",
                    format!("must be a JSON object of at most {} bytes", limits::METADATA),
                );
                Map::new()
            }
        }
    }

    fn secret(&mut self) -> Option<Vec<u8>> {
        match self.map.remove("secret") {
            None | Some(Value::Null) => None,
            Some(Value::String(text)) => {
                signature::parse_secret(&text).map_err(|detail| self.fault("secret", detail)).ok()
            }
            Some(_) => {
                self.fault("secret", "must be a string");
                None
            }
        }
    }
}

fn fields(map: Map<String, Value>) -> Result<Fields, Problem> {
    let mut reader = Reader { map, errors: Vec::new() };
    for field in READ_ONLY {
        reader.map.remove(*field);
    }
    let had_target = reader.map.contains_key("target_url");
    let target_url = reader.text("target_url", limits::TARGET_URL);
    if !had_target {
        reader.fault("target_url", "is missing");
    }
    let fields = Fields {
        target_url: target_url.unwrap_or_default(),
        events: reader.events(),
        status: reader.word(
            "status",
            SubscriptionStatus::On,
            SubscriptionStatus::of,
            SubscriptionStatus::WORDS,
        ),
        description: reader.text("description", limits::SHORT_TEXT),
        tenant: reader.text("tenant", limits::SHORT_TEXT),
        format: reader.word("format", Format::Standard, Format::of, Format::WORDS),
        metadata: reader.metadata(),
        secret: reader.secret(),
    };
    for field in std::mem::take(&mut reader.map).keys() {
        reader.fault(&field.replace('~', "~0").replace('/', "~1"), "is not a field of a subscription");
    }
    match reader.errors.as_slice() {
        [] => Ok(fields),
        _ => Err(Problem::fields(reader.errors)),
    }
}

impl Fields {
    /// A new subscription of these fields; `key` signs where the caller brought no secret.
    pub(super) fn create(self, id: SubscriptionId, key: Vec<u8>, now: Timestamp) -> Subscription {
        let key = self.secret.clone().unwrap_or(key);
        let blank = Subscription {
            id,
            revision: 0,
            tenant: None,
            target_url: String::new(),
            events: Vec::new(),
            status: SubscriptionStatus::On,
            off_reason: None,
            description: None,
            format: Format::Standard,
            metadata: Map::new(),
            secrets: vec![Secret { key, expires_at: None }],
            created_at: now,
            updated_at: now,
        };
        Self { secret: None, ..self }.change(&blank, now)
    }

    /// The next revision of a subscription. A secret among the fields replaces all others at once.
    pub(super) fn change(self, current: &Subscription, now: Timestamp) -> Subscription {
        let secrets = match self.secret {
            Some(key) => vec![Secret { key, expires_at: None }],
            None => current.secrets.clone(),
        };
        Subscription {
            id: current.id.clone(),
            revision: current.revision + 1,
            tenant: self.tenant,
            target_url: self.target_url,
            events: self.events,
            off_reason: current.off_reason.clone().filter(|_| self.status == SubscriptionStatus::Off),
            status: self.status,
            description: self.description,
            format: self.format,
            metadata: self.metadata,
            secrets,
            created_at: current.created_at,
            updated_at: now,
        }
    }
}

/// The next revision with a new secret; the others sign until their overlap ends, at most [`limits::ACTIVE_SECRETS`].
pub(super) fn rotated(
    current: &Subscription,
    key: Vec<u8>,
    now: Timestamp,
    overlap_ends_at: Timestamp,
) -> Subscription {
    let mut secrets = vec![Secret { key, expires_at: None }];
    secrets.extend(
        signature::active(&current.secrets, now)
            .cloned()
            .map(|secret| Secret { expires_at: secret.expires_at.or(Some(overlap_ends_at)), ..secret }),
    );
    secrets.truncate(limits::ACTIVE_SECRETS);
    Subscription { revision: current.revision + 1, secrets, updated_at: now, ..current.clone() }
}

/// A subscription as the API shows it: without its secret.
pub(super) fn representation(subscription: &Subscription) -> Value {
    json!({
        "id": subscription.id,
        "target_url": subscription.target_url,
        "events": subscription.events,
        "status": subscription.status,
        "off_reason": subscription.off_reason,
        "description": subscription.description,
        "tenant": subscription.tenant,
        "format": subscription.format,
        "metadata": subscription.metadata,
        "created_at": subscription.created_at.to_string(),
        "updated_at": subscription.updated_at.to_string(),
    })
}

/// As [`representation`], with the current secret: shown once, when it is made.
pub(super) fn with_secret(subscription: &Subscription) -> Value {
    let mut value = representation(subscription);
    if let Some(secret) = subscription.secrets.first() {
        value["secret"] = signature::secret_text(&secret.key).into();
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(body: &str) -> Vec<String> {
        let problem = format!("{:?}", read(body.as_bytes()).unwrap_err());
        problem
            .match_indices("field: \"")
            .map(|(at, found)| problem[at + found.len()..].split('"').next().unwrap_or_default().to_owned())
            .collect()
    }

    #[test]
    fn two_fields_are_enough() {
        let fields =
            read(br#"{"target_url":"https://example.com/","events":["contact.*","contact.*","a.b"]}"#)
                .unwrap();
        assert_eq!(fields.events, ["a.b", "contact.*"]);
        assert_eq!((fields.status, fields.format), (SubscriptionStatus::On, Format::Standard));
    }

    #[test]
    fn every_fault_is_named_at_once() {
        assert_eq!(faults("{}"), ["/target_url", "/events"]);
        assert_eq!(
            faults(
                r#"{"target_url":7,"events":["*x",1],"status":"paused","format":"xml","metadata":[],"secret":"x","evnets":[],"a/b":1}"#
            ),
            [
                "/target_url",
                "/events/0",
                "/events/1",
                "/status",
                "/format",
                "/metadata",
                "/secret",
                "/a~1b",
                "/evnets"
            ]
        );
        assert_eq!(faults("[]"), [""]);
        assert_eq!(faults("{"), [""]);
    }

    #[test]
    fn a_patch_changes_what_it_names_and_null_resets() {
        let now = Timestamp::UNIX_EPOCH;
        let body = br#"{"target_url":"https://example.com/","events":["*"],"description":"d","metadata":{"a":1,"b":2}}"#;
        let subscription = read(body).unwrap().create(SubscriptionId("sub_1".into()), vec![1; 32], now);
        let fields =
            patched(&subscription, br#"{"status":"off","description":null,"metadata":{"a":null,"c":3}}"#)
                .unwrap();
        let changed = fields.change(&subscription, now);
        assert_eq!(
            (changed.revision, changed.status, changed.description.as_deref()),
            (2, SubscriptionStatus::Off, None)
        );
        assert_eq!(Value::Object(changed.metadata), json!({"b": 2, "c": 3}));
        assert_eq!(changed.secrets, subscription.secrets);
        assert!(patched(&subscription, br#"{"events":null}"#).is_err());
    }

    #[test]
    fn what_was_read_can_be_sent_back() {
        let now = Timestamp::UNIX_EPOCH;
        let body = br#"{"target_url":"https://example.com/","events":["*"],"tenant":"blue"}"#;
        let fields = read(body).unwrap();
        let shown = representation(&fields.clone().create(SubscriptionId("sub_1".into()), vec![1; 32], now));
        assert_eq!(read(shown.to_string().as_bytes()).unwrap(), fields);
    }

    #[test]
    fn rotation_keeps_the_old_secret_for_its_overlap() {
        let at = |seconds| Timestamp::from_second(seconds).unwrap();
        let body = br#"{"target_url":"https://example.com/","events":["*"]}"#;
        let first = read(body).unwrap().create(SubscriptionId("sub_1".into()), vec![1; 32], at(0));
        let second = rotated(&first, vec![2; 32], at(10), at(100));
        let third = rotated(&second, vec![3; 32], at(50), at(150));
        let expiries: Vec<_> =
            third.secrets.iter().map(|secret| (secret.key[0], secret.expires_at)).collect();
        assert_eq!(expiries, [(3, None), (2, Some(at(150))), (1, Some(at(100)))]);
        assert_eq!(
            rotated(&third, vec![4; 32], at(120), at(220)).secrets.len(),
            3,
            "an expired secret is dropped"
        );
    }
}
