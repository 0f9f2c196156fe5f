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

mod replay;
mod subscription;

pub use replay::*;
pub use subscription::*;

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

use words;

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
    /// Whether the events of its resource are delivered in order.
    pub is_ordered: bool,
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
    /// See [`Event::tenant`].
    pub tenant: Option<String>,
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

words!(DeliveryStatus { Pending = "pending", Delivered = "delivered", Exhausted = "exhausted", Cancelled = "cancelled" });
