//! The nouns: subscription, event, delivery, attempt, outcome.
//!
//! Plain data, the same words as in SQL, JSON and logs (design §1). Nothing here does I/O, reads a clock or
//! draws a random number; this file imports nothing of ours.

use std::collections::BTreeMap;
use std::fmt;

use bytes::Bytes;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// Declares a string newtype with its prefix: `sub_…`, `dlv_…`.
macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub String);

        impl $name {
            /// A new id: the prefix and a UUIDv7 (RFC 9562) of `now` and ten random bytes, so ids sort by age.
            pub fn new(now: Timestamp, random: [u8; 10]) -> Self {
                let millis = u64::try_from(now.as_millisecond()).unwrap_or(0);
                let uuid = uuid::Builder::from_unix_timestamp_millis(millis, &random).into_uuid();
                Self(format!(concat!($prefix, "{}"), uuid.simple()))
            }

            /// The id as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

id!(
    /// Names one subscription.
    SubscriptionId, "sub_"
);
id!(
    /// Names one delivery. It is also the `webhook-id` that receivers see, the same over all its attempts.
    DeliveryId, "dlv_"
);

id!(
    /// Names one replay or recovery.
    ReplayId, "rpl_"
);

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

/// Something that happened, immutable: a CloudEvents 1.0 event as it was accepted.
#[derive(Clone, Debug)]
pub struct Event {
    /// Unique within `source`.
    pub id: String,
    /// Who says so, a URI reference.
    pub source: String,
    /// The event type, such as `contact.create`.
    pub event_type: String,
    /// The resource's path.
    pub subject: Option<String>,
    /// When it happened.
    pub time: Timestamp,
    /// Media type of `data`; `None` means JSON.
    pub datacontenttype: Option<String>,
    /// The data exactly as it came.
    pub data: Option<Bytes>,
    /// The customer it belongs to (extension `tenant`).
    pub tenant: Option<String>,
    /// All other attributes, by name, as JSON: simple values, but for `previous` and `changed` (design §2).
    pub extensions: BTreeMap<String, Box<RawValue>>,
}

impl Event {
    /// Whether `data` is JSON: by RFC 6839 also `application/anything+json`; no media type means JSON.
    pub fn is_json(&self) -> bool {
        let Some(media_type) = &self.datacontenttype else {
            return true;
        };
        is_json_media_type(media_type)
    }

    /// Bytes that it holds in memory: its data and extension attributes, `previous` among them.
    pub fn size(&self) -> usize {
        let extensions = self.extensions.iter().map(|(name, json)| name.len() + json.get().len());
        self.data.as_ref().map_or(0, Bytes::len) + extensions.sum::<usize>()
    }
}

/// Whether a media type names JSON (`…/json` or `…+json`, parameters ignored).
pub fn is_json_media_type(media_type: &str) -> bool {
    let essence = media_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    essence.ends_with("/json") || essence.ends_with("+json")
}

/// One event for one subscription.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// Its name, and the receiver's `webhook-id`.
    pub id: DeliveryId,
    /// Who gets it.
    pub subscription: SubscriptionId,
    /// What is delivered, without its data.
    pub event: EventHead,
    /// Where it stands.
    pub status: DeliveryStatus,
    /// Why it was cancelled.
    pub reason: Option<String>,
    /// Attempts made so far, over all rounds.
    pub attempt_count: u32,
    /// When the next attempt is due, while pending.
    pub due_at: Option<Timestamp>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
}

/// What names an event in a list.
#[derive(Clone, Debug, Serialize)]
pub struct EventHead {
    /// See [`Event::id`].
    pub id: String,
    /// See [`Event::source`].
    pub source: String,
    /// See [`Event::event_type`].
    #[serde(rename = "type")]
    pub event_type: String,
    /// See [`Event::subject`].
    pub subject: Option<String>,
}

/// Where a delivery stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DeliveryStatus {
    /// An attempt is due, now or later.
    Pending,
    /// A receiver answered 2xx.
    Delivered,
    /// The last attempt of its policy failed.
    Exhausted,
    /// Its subscription went off or was deleted, or its receiver gave it up.
    Cancelled,
}

/// One HTTP request of a delivery.
#[derive(Clone, Debug)]
pub struct Attempt {
    /// 1 for the first.
    pub number: u32,
    /// When the request was begun.
    pub started_at: Timestamp,
    /// Until the answer was read, or given up.
    pub duration_ms: i64,
    /// How it ended.
    pub outcome: Outcome,
    /// First bytes of the answer's body.
    pub answer: Bytes,
}

/// How an attempt ended. A failed delivery is data, not an error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The receiver answered.
    Answered {
        /// HTTP status.
        status: u16,
        /// `Retry-After`, in whole seconds from the answer.
        retry_after_s: Option<u64>,
        /// `webhook-delivery`, what the receiver asks for.
        instruction: Option<Instruction>,
    },
    /// No whole answer within the deadline.
    TimedOut,
    /// No connection, or it broke off before the answer.
    Unreachable(String),
    /// The target's address may not be called.
    Blocked(String),
}

/// What a receiver may ask for by the header `webhook-delivery`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Instruction {
    /// `disable`: turn the subscription off.
    Disable,
    /// `abort-message`: give this delivery up.
    AbortMessage,
}

impl Outcome {
    /// The outcome's word in SQL, JSON and metrics.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Answered { status: 200..=299, .. } => "delivered",
            Self::Answered { .. } => "refused",
            Self::TimedOut => "timed_out",
            Self::Unreachable(_) => "unreachable",
            Self::Blocked(_) => "blocked",
        }
    }

    /// HTTP status, where there was one.
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Answered { status, .. } => Some(*status),
            _ => None,
        }
    }

    /// What went wrong where no status says it.
    pub fn error(&self) -> Option<&str> {
        match self {
            Self::Unreachable(why) | Self::Blocked(why) => Some(why),
            _ => None,
        }
    }
}

/// Past events delivered to a subscription, or failed deliveries tried again.
#[derive(Clone, Debug, PartialEq)]
pub struct Replay {
    /// Its name.
    pub id: ReplayId,
    /// What it does.
    pub kind: ReplayKind,
    /// For whom; `None` is for everybody (recovery only).
    pub subscription: Option<SubscriptionId>,
    /// What of the past.
    pub range: ReplayRange,
    /// Where it stands.
    pub status: ReplayStatus,
    /// It has looked at events up to this place in the order of acceptance.
    pub position: i64,
    /// The last event that it looks at.
    pub last: i64,
    /// Where it began.
    pub first: i64,
    /// Deliveries made, or begun anew.
    pub made: u64,
    /// When it was asked for.
    pub created_at: Timestamp,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
}

/// What a replay is asked to look at; absent means all.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ReplayRange {
    /// Events accepted from then on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    /// Events accepted before then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
    /// Patterns of event types.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub events: Vec<String>,
    /// Events of this subject.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// Deliveries with this status (recovery only).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<DeliveryStatus>,
    /// Deliveries in a time, such as `50/s`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate: Option<String>,
}

/// What a replay does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ReplayKind {
    /// Delivers past events to a subscription that has not had them.
    Replay,
    /// Begins a new round of failed deliveries.
    Recover,
}

/// Where a replay stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ReplayStatus {
    /// It goes on.
    Running,
    /// It has looked at all.
    Done,
    /// Somebody ended it.
    Cancelled,
}

/// A bearer token of the API, without the token itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    /// Its name, `tok_…`.
    pub id: String,
    /// SHA-256 of the token.
    pub hash: [u8; 32],
    /// What it allows.
    pub scope: Scope,
    /// Free text of its owner.
    pub description: Option<String>,
    /// When it ends.
    pub expires_at: Option<Timestamp>,
    /// When it was made.
    pub created_at: Timestamp,
}

/// What a token allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// All but handing over events.
    Admin,
    /// To look, not to change.
    Read,
    /// To hand over events, and nothing else.
    Ingest,
}

/// Writes that no rule of a filter named, alike but for their ids.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shape {
    /// HTTP method.
    pub method: String,
    /// The path, its ids replaced: `/v1/users/{id}/settle`.
    pub path: String,
    /// How many since the last report.
    pub count: u64,
    /// HTTP status of the last one.
    pub status: u16,
}

/// Gives an enum of unit variants its word for SQL and JSON.
macro_rules! words {
    ($name:ident { $($variant:ident = $word:literal),+ $(,)? }) => {
        impl $name {
            /// The words, as they stand in SQL and JSON.
            pub const WORDS: &[&str] = &[$($word),+];

            /// This value's word.
            pub fn word(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }

            /// The value of a word.
            pub fn of(word: &str) -> Option<Self> {
                match word { $($word => Some(Self::$variant),)+ _ => None }
            }
        }
    };
}

words!(ReplayKind { Replay = "replay", Recover = "recover" });
words!(ReplayStatus { Running = "running", Done = "done", Cancelled = "cancelled" });
words!(Scope { Admin = "admin", Read = "read", Ingest = "ingest" });
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
words!(DeliveryStatus { Pending = "pending", Delivered = "delivered", Exhausted = "exhausted", Cancelled = "cancelled" });
