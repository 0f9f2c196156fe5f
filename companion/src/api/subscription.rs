//! A subscription as JSON: read from a body with every fault named, and shown.
//!
//! Pure. PUT and PATCH share one path: a merge patch (RFC 7396) is applied to what is writable, and the result is read
//! like a PUT, so one set of rules holds however a subscription changes.

use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Map, Value};
use url::Url;

use super::access::Caller;
use super::error::Problem;
use super::request::object;
use super::tokens::time_to_come;
use crate::condition::Condition;
use crate::credentials::Credentials;
use crate::keys::ends_within;
use crate::limits;
use crate::matcher::Pattern;
use crate::members::{Fault, Members};
use crate::model::{
    Format, Handshake, Options, Ordering, Secret, Signing, Subscription, SubscriptionId, SubscriptionStatus,
};
use crate::payload::{Shape, Wanted};
use crate::rate::Rate;
use crate::retry::{self, Policy};
use crate::signature;

/// Shown, but not the caller's to write; accepted and ignored, so that what was read can be sent back.
const READ_ONLY: &[&str] =
    &["id", "off_reason", "failing_since", "created_at", "updated_at", "previous_secret_expires_at"];

/// What a caller writes of a subscription; the rest is ours.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Fields {
    pub(super) target_url: String,
    events: Vec<String>,
    pub(super) status: SubscriptionStatus,
    description: Option<String>,
    tenant: Option<String>,
    format: Format,
    metadata: Map<String, Value>,
    pub(super) options: Options,
    pub(super) credentials: Credentials,
    pub(super) expires_at: Option<Timestamp>,
    pub(super) secret: Option<Vec<u8>>,
}

/// A subscription as the API shows it.
#[derive(Debug, Serialize)]
pub(super) struct Representation<'a> {
    id: &'a SubscriptionId,
    target_url: &'a str,
    events: &'a [String],
    status: SubscriptionStatus,
    /// Why it is off, where the companion turned it off.
    off_reason: Option<&'a str>,
    description: Option<&'a str>,
    tenant: Option<&'a str>,
    #[serde(rename = "match")]
    condition: Option<&'a Value>,
    format: Format,
    template: Option<&'a str>,
    content_type: Option<&'a str>,
    ce_headers: bool,
    /// Values are shown as `***`.
    headers: Value,
    /// Secrets are shown as `***`.
    auth: Value,
    /// The private key is shown as `***`.
    client_certificate: Value,
    /// `null`: the companion's default.
    retry: Option<&'a Value>,
    rate_limit: Option<&'a str>,
    max_in_flight: Option<usize>,
    ordering: Ordering,
    signing: Signing,
    handshake: Handshake,
    metadata: &'a Map<String, Value>,
    expires_at: Option<Timestamp>,
    /// Since when every attempt has failed.
    failing_since: Option<Timestamp>,
    created_at: Timestamp,
    updated_at: Timestamp,
    /// In the answer to its making and to its rotation alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    secret: Option<String>,
    /// In the answer to a rotation alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) previous_secret_expires_at: Option<Timestamp>,
}

/// Reads the fields of a create or replace; all faults at once.
pub(super) fn read(body: &[u8], now: Timestamp) -> Result<Fields, Problem> {
    fields(object(body)?, None, now)
}

/// Reads the fields of a replace.
pub(super) fn replaced(current: &Subscription, body: &[u8], now: Timestamp) -> Result<Fields, Problem> {
    fields(object(body)?, Some(current), now)
}

/// Applies a merge patch to a subscription and reads the result.
pub(super) fn patched(current: &Subscription, patch: &[u8], now: Timestamp) -> Result<Fields, Problem> {
    let mut value = serde_json::to_value(representation(current)).unwrap_or_default();
    merge(&mut value, Value::Object(object(patch)?));
    match value {
        Value::Object(map) => fields(map, Some(current), now),
        _ => Err(Problem::malformed("", "must be a JSON object")),
    }
}

/// A subscription as the API would show it, made of `body` and changed by each of the patches, for whoever has bodies and
/// no service. Nothing is kept, and no receiver is asked or looked up.
///
/// # Errors
/// What is wrong with the first body that is refused, and where.
pub fn rehearse(body: &[u8], patches: &[&[u8]], now: Timestamp) -> Result<Value, Vec<Fault>> {
    let made = read(body, now).map_err(Problem::into_faults)?;
    let mut subscription = made.create(SubscriptionId::new(now, [0; 10]), vec![0; 32], now);
    for patch in patches {
        let fields = patched(&subscription, patch, now).map_err(Problem::into_faults)?;
        subscription = fields.change(&subscription, now);
    }
    Ok(serde_json::to_value(representation(&subscription)).unwrap_or_default())
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

fn fields(
    map: Map<String, Value>,
    current: Option<&Subscription>,
    now: Timestamp,
) -> Result<Fields, Problem> {
    let mut members = Members::new("", map);
    for field in READ_ONLY {
        members.take(field);
    }
    if !members.has("target_url") {
        members.fault("target_url", "is missing");
    }
    let target_url = members.text("target_url", limits::TARGET_URL).unwrap_or_default();
    let fields = Fields {
        credentials: credentials(&mut members, current, &target_url, now),
        target_url,
        events: events(&mut members),
        status: members.word(
            "status",
            SubscriptionStatus::On,
            SubscriptionStatus::of,
            SubscriptionStatus::WORDS,
        ),
        description: members.text("description", limits::SHORT_TEXT),
        tenant: members.text("tenant", limits::SHORT_TEXT),
        format: members.word("format", Format::Standard, Format::of, Format::WORDS),
        metadata: metadata(&mut members),
        options: options(&mut members),
        expires_at: expires_at(&mut members, current, now),
        secret: members.read("secret", signature::parse_secret),
    };
    if let Err(fault) = Shape::new(&Wanted::of(fields.format, &fields.options, None)) {
        members.faults([fault]);
    }
    members.finish("a subscription")?;
    Ok(fields)
}

fn options(members: &mut Members) -> Options {
    let most = limits::IN_FLIGHT as u64;
    Options {
        retry: members.take("retry").and_then(|retry| {
            let read = Policy::parse(&retry, "/retry").map_err(|faults| members.faults(faults));
            read.ok().map(|_| retry)
        }),
        rate_limit: members.read("rate_limit", |text| text.parse::<Rate>().map(|rate| rate.to_string())),
        max_in_flight: members.count("max_in_flight", 1..=most).and_then(|count| usize::try_from(count).ok()),
        ordering: members.word("ordering", Ordering::None, Ordering::of, Ordering::WORDS),
        signing: members.word("signing", Signing::Hmac, Signing::of, Signing::WORDS),
        handshake: members.word("handshake", Handshake::None, Handshake::of, Handshake::WORDS),
        condition: members.take("match").and_then(|condition| {
            let below = |fault: Fault| Fault { pointer: format!("/match{}", fault.pointer), ..fault };
            let read = Condition::parse(&condition);
            let read = read.map_err(|faults| members.faults(faults.into_iter().map(below)));
            read.ok().map(|_| condition)
        }),
        template: members.text("template", limits::TEMPLATE_SOURCE),
        content_type: members.text("content_type", limits::SHORT_TEXT),
        ce_headers: members.switch("ce_headers"),
    }
}

/// What lets deliveries in. A secret shown as `***` is kept, unless deliveries go to another host now: it was not meant
/// for that one.
fn credentials(
    members: &mut Members,
    current: Option<&Subscription>,
    target_url: &str,
    now: Timestamp,
) -> Credentials {
    let given = Credentials::FIELDS.iter().filter_map(|name| Some(((*name).to_owned(), members.take(name)?)));
    let given: Map<String, Value> = given.collect();
    let origin = |url: &str| Url::parse(url).ok().map(|url| url.origin());
    let kept = current.filter(|current| origin(&current.target_url) == origin(target_url));
    let read = Credentials::parse(&given, kept.map(|kept| &kept.credentials), now);
    read.map_err(|faults| members.faults(faults)).unwrap_or_default()
}

/// A time that has passed is refused, unless it stands there already.
fn expires_at(members: &mut Members, current: Option<&Subscription>, now: Timestamp) -> Option<Timestamp> {
    let known = current.and_then(|current| current.expires_at);
    members.read("expires_at", |text| match text.parse::<Timestamp>() {
        Ok(time) if Some(time) == known => Ok(time),
        _ => time_to_come(text, now),
    })
}

fn events(members: &mut Members) -> Vec<String> {
    let Some(Value::Array(entries)) = members.take("events") else {
        members.fault("events", "must be a list of event types, such as [\"contact.*\"]");
        return Vec::new();
    };
    let mut events = patterns(members, &entries);
    events.sort_unstable();
    events.dedup();
    events
}

/// Reads the entries of the member `events`; those that are no patterns are faults.
pub(super) fn patterns(members: &mut Members, entries: &[Value]) -> Vec<String> {
    if entries.is_empty() || entries.len() > limits::SUBSCRIPTION_EVENTS {
        members.fault("events", format!("must have 1 to {} entries", limits::SUBSCRIPTION_EVENTS));
        return Vec::new();
    }
    let mut patterns = Vec::with_capacity(entries.len());
    for (index, entry) in entries.iter().enumerate() {
        match entry.as_str().ok_or("must be a string".to_owned()).and_then(Pattern::parse) {
            Ok(pattern) => patterns.push(pattern.to_string()),
            Err(detail) => members.faults([Fault::new(format!("/events/{index}"), detail)]),
        }
    }
    patterns
}

fn metadata(members: &mut Members) -> Map<String, Value> {
    let map = members.object("metadata").unwrap_or_default();
    let value = Value::Object(map);
    if value.to_string().len() > limits::METADATA {
        members.fault("metadata", format!("must be a JSON object of at most {} bytes", limits::METADATA));
    }
    match value {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

impl Fields {
    /// The same fields, kept to what a caller may write: a tenant's subscriptions are its own. Our own keys sign for all
    /// receivers alike, so who could have them sign what it likes could speak to another's receiver in our name.
    pub(super) fn of(self, caller: &Caller) -> Result<Self, Problem> {
        let Some(own) = caller.tenant() else { return Ok(self) };
        let mut faults = Vec::new();
        if self.tenant.as_deref().is_some_and(|named| named != own) {
            faults.push(Fault::new("/tenant", "must be your own, or absent"));
        }
        if self.options.signing == Signing::Ed25519 {
            faults.push(Fault::new("/signing", "must be hmac: ed25519 is the operator's to choose"));
        }
        match faults.is_empty() {
            true => Ok(Self { tenant: Some(own.to_owned()), ..self }),
            false => Err(Problem::fields(faults)),
        }
    }

    /// Whether it is to be a tenant's.
    pub(super) fn is_of_tenant(&self) -> bool {
        self.tenant.is_some()
    }

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
            options: Options::default(),
            credentials: Default::default(),
            secrets: vec![Secret { key, expires_at: None }],
            expires_at: None,
            failing_since: None,
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
            failing_since: current.failing_since.filter(|_| self.status == current.status),
            status: self.status,
            description: self.description,
            format: self.format,
            metadata: self.metadata,
            options: self.options,
            credentials: self.credentials,
            secrets,
            expires_at: self.expires_at,
            created_at: current.created_at,
            updated_at: now,
        }
    }
}

/// Reads what a rotation asks for, by default nothing: its own secret, and for how long the old one signs too.
pub(super) fn rotation(body: &[u8]) -> Result<(Option<Vec<u8>>, Duration), Problem> {
    if body.is_empty() {
        return Ok((None, limits::SECRET_OVERLAP));
    }
    let mut members = Members::new("", object(body)?);
    let secret = members.read("secret", signature::parse_secret);
    let overlap = overlap(&mut members);
    members.finish("a rotation")?;
    Ok((secret, overlap))
}

/// For how long what a rotation replaces signs too.
pub(super) fn overlap(members: &mut Members) -> Duration {
    let overlap = members.read("overlap", |text| retry::duration(text, limits::SECRET_OVERLAP_MOST_DAYS));
    overlap.unwrap_or(limits::SECRET_OVERLAP)
}

/// The next revision with a new secret, at most [`limits::ACTIVE_SECRETS`]; no other signs longer than `overlap_ends_at`,
/// whatever an earlier rotation gave it, so that a leaked one can be ended at once.
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
            .map(|secret| Secret {
                expires_at: Some(ends_within(secret.expires_at, overlap_ends_at)),
                ..secret
            })
            .filter(|secret| secret.expires_at > Some(now)),
    );
    secrets.truncate(limits::ACTIVE_SECRETS);
    Subscription { revision: current.revision + 1, secrets, updated_at: now, ..current.clone() }
}

/// A subscription as the API shows it: without its secret.
pub(super) fn representation(subscription: &Subscription) -> Representation<'_> {
    let options = &subscription.options;
    let mut credentials = subscription.credentials.shown();
    let mut shown = |name: &str| credentials.get_mut(name).map(Value::take).unwrap_or_default();
    Representation {
        id: &subscription.id,
        target_url: &subscription.target_url,
        events: &subscription.events,
        status: subscription.status,
        off_reason: subscription.off_reason.as_deref(),
        description: subscription.description.as_deref(),
        tenant: subscription.tenant.as_deref(),
        condition: options.condition.as_ref(),
        format: subscription.format,
        template: options.template.as_deref(),
        content_type: options.content_type.as_deref(),
        ce_headers: options.ce_headers,
        headers: shown("headers"),
        auth: shown("auth"),
        client_certificate: shown("client_certificate"),
        retry: options.retry.as_ref(),
        rate_limit: options.rate_limit.as_deref(),
        max_in_flight: options.max_in_flight,
        ordering: options.ordering,
        signing: options.signing,
        handshake: options.handshake,
        metadata: &subscription.metadata,
        expires_at: subscription.expires_at,
        failing_since: subscription.failing_since,
        created_at: subscription.created_at,
        updated_at: subscription.updated_at,
        secret: None,
        previous_secret_expires_at: None,
    }
}

/// As [`representation`], with the current secret: shown once, when it is made.
pub(super) fn with_secret(subscription: &Subscription) -> Representation<'_> {
    let secret = subscription.secrets.first().map(|secret| signature::secret_text(&secret.key));
    Representation { secret, ..representation(subscription) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn faults(body: &str) -> Vec<String> {
        let problem = format!("{:?}", read(body.as_bytes(), Timestamp::UNIX_EPOCH).unwrap_err());
        problem
            .match_indices("pointer: \"")
            .map(|(at, found)| problem[at + found.len()..].split('"').next().unwrap_or_default().to_owned())
            .collect()
    }

    #[test]
    fn two_fields_are_enough() {
        let body = br#"{"target_url":"https://example.com/","events":["contact.*","contact.*","a.b"]}"#;
        let fields = read(body, Timestamp::UNIX_EPOCH).unwrap();
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
        let subscription = read(body, now).unwrap().create(SubscriptionId("sub_1".into()), vec![1; 32], now);
        let fields = patched(
            &subscription,
            br#"{"status":"off","description":null,"metadata":{"a":null,"c":3}}"#,
            now,
        )
        .unwrap();
        let changed = fields.change(&subscription, now);
        assert_eq!(
            (changed.revision, changed.status, changed.description.as_deref()),
            (2, SubscriptionStatus::Off, None)
        );
        assert_eq!(Value::Object(changed.metadata), json!({"b": 2, "c": 3}));
        assert_eq!(changed.secrets, subscription.secrets);
        assert!(patched(&subscription, br#"{"events":null}"#, now).is_err());
    }

    #[test]
    fn what_was_read_can_be_sent_back() {
        let now = Timestamp::UNIX_EPOCH;
        let body = br#"{"target_url":"https://example.com/","events":["*"],"tenant":"blue"}"#;
        let fields = read(body, now).unwrap();
        let subscription = fields.clone().create(SubscriptionId("sub_1".into()), vec![1; 32], now);
        let shown = representation(&subscription);
        assert_eq!(read(&serde_json::to_vec(&shown).unwrap(), now).unwrap(), fields);
    }

    #[test]
    fn rotation_keeps_the_old_secret_for_its_overlap() {
        let at = |seconds| Timestamp::from_second(seconds).unwrap();
        let body = br#"{"target_url":"https://example.com/","events":["*"]}"#;
        let first = read(body, at(0)).unwrap().create(SubscriptionId("sub_1".into()), vec![1; 32], at(0));
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
        let alone = rotated(&third, vec![4; 32], at(60), at(60));
        assert_eq!(alone.secrets.len(), 1, "an overlap of nothing ends the older ones too");
    }
}
