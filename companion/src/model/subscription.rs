//! A subscription: who wants which events, where, and how they are delivered.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{SubscriptionId, words};
use crate::credentials::Credentials;

/// Who wants which events, where.
#[derive(Clone, Debug)]
pub struct Subscription {
    /// Its name.
    pub id: SubscriptionId,
    /// Counts its changes; a change is refused when another came first.
    pub revision: i64,
    /// The customer whose events it sees; `None` is the operator's and sees all.
    pub tenant: Option<String>,
    /// Where deliveries are POSTed.
    pub target_url: String,
    /// Patterns of event types: exact, `contact.*`, `*`.
    pub events: Vec<String>,
    /// Whether deliveries are made.
    pub status: SubscriptionStatus,
    /// Why it is off, where the companion turned it off.
    pub off_reason: Option<String>,
    /// Free text of its owner.
    pub description: Option<String>,
    /// Shape of the body that is sent.
    pub format: Format,
    /// Free JSON object of its owner.
    pub metadata: serde_json::Map<String, serde_json::Value>,
    /// How its deliveries are made.
    pub options: Options,
    /// How its deliveries authenticate to the receiver.
    pub credentials: Credentials,
    /// Signing secrets, newest first.
    pub secrets: Vec<Secret>,
    /// When it goes off by itself.
    pub expires_at: Option<Timestamp>,
    /// Since when every attempt has failed.
    pub failing_since: Option<Timestamp>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
}

/// What a subscription says of how its deliveries are made, as its owner wrote it; absent means the default.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Options {
    /// Conditions on the event (`condition`).
    #[serde(rename = "match", skip_serializing_if = "Option::is_none")]
    pub condition: Option<serde_json::Value>,
    /// The payload template of format `template`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub template: Option<String>,
    /// Media type of what the template makes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content_type: Option<String>,
    /// Whether `ce-…` headers go out beside `webhook-…`.
    #[serde(skip_serializing_if = "is_false")]
    pub ce_headers: bool,
    /// The retry policy (`retry::Policy`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry: Option<serde_json::Value>,
    /// Attempts in a time, such as `100/s`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate_limit: Option<String>,
    /// Attempts under way at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_in_flight: Option<usize>,
    /// Whose deliveries wait for each other.
    #[serde(skip_serializing_if = "is_default")]
    pub ordering: Ordering,
    /// How deliveries are signed.
    #[serde(skip_serializing_if = "is_default")]
    pub signing: Signing,
    /// How the receiver shows that it wants deliveries.
    #[serde(skip_serializing_if = "is_default")]
    pub handshake: Handshake,
}

fn is_false(value: &bool) -> bool {
    !value
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// Whose deliveries wait for each other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Ordering {
    /// Nobody's.
    #[default]
    None,
    /// Those of one resource (the event's subject): one at a time, in the order accepted.
    Resource,
}

/// How deliveries are signed (Standard Webhooks 1.0).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Signing {
    /// HMAC-SHA256 with the subscription's own secrets: `v1,…`.
    #[default]
    Hmac,
    /// Ed25519 with the companion's key, published at `/.well-known/jwks.json`: `v1a,…`.
    Ed25519,
}

/// How a receiver shows that it wants deliveries, before the first one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Handshake {
    /// It need not.
    #[default]
    #[serde(rename = "none")]
    None,
    /// It answers a POST with the `x-hook-secret` that this bore (REST Hooks).
    #[serde(rename = "x-hook-secret")]
    XHookSecret,
    /// It answers OPTIONS with `webhook-allowed-origin` (CloudEvents HTTP 1.1 Web Hooks §4).
    #[serde(rename = "cloudevents")]
    CloudEvents,
}

/// `on` or `off`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SubscriptionStatus {
    /// Deliveries are made.
    On,
    /// None are made; what was pending is cancelled.
    Off,
}

/// Shape of the body that a receiver gets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Format {
    /// `{"type","timestamp","data","hook"}` (Standard Webhooks, REST Hooks).
    #[default]
    Standard,
    /// The representation alone.
    Raw,
    /// What happened to which resource, without data: the receiver reads it from the API.
    Thin,
    /// CloudEvents 1.0, structured mode.
    Cloudevents,
    /// CloudEvents 1.0, binary mode: attributes as headers.
    CloudeventsBinary,
    /// The subscription's own template.
    Template,
    /// What Slack's incoming webhooks accept.
    Slack,
}

/// A symmetric signing key, 24 to 64 bytes (Standard Webhooks). Its `Debug` shows nothing of it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret {
    /// The key.
    pub key: Vec<u8>,
    /// When it stops signing; `None` is the current one.
    pub expires_at: Option<Timestamp>,
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

words!(Ordering { None = "none", Resource = "resource" });
words!(Signing { Hmac = "hmac", Ed25519 = "ed25519" });
words!(Handshake { None = "none", XHookSecret = "x-hook-secret", CloudEvents = "cloudevents" });
words!(SubscriptionStatus { On = "on", Off = "off" });
words!(Format {
    Standard = "standard",
    Raw = "raw",
    Thin = "thin",
    Cloudevents = "cloudevents",
    CloudeventsBinary = "cloudevents-binary",
    Template = "template",
    Slack = "slack",
});
