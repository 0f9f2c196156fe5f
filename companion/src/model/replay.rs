//! Replays, and the tokens of those who ask for them.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{DeliveryStatus, ReplayId, SubscriptionId, words};

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

words!(ReplayKind { Replay = "replay", Recover = "recover" });
words!(ReplayStatus { Running = "running", Done = "done", Cancelled = "cancelled" });
words!(Scope { Admin = "admin", Read = "read", Ingest = "ingest" });
