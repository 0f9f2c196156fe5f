//! What the event catalogue keeps: a row for each event type and tenant, and how far the accepted events were followed.
//!
//! [`Catalogue`] is part of every [`super::Store`]. Who follows reads what is ahead and hands back what came of it, with the
//! place that it began at: where that is no longer the place, nothing is written. So each event is counted once, whatever
//! crashes and whoever else follows.

use async_trait::async_trait;
use jiff::Timestamp;

use super::{AcceptedEvent, Note, StoreError};

/// How far the accepted events were followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FollowedPlace {
    /// Up to the event with this place.
    pub position: i64,
    /// Grows where rows are removed: what is being learnt meanwhile rests on what is to be forgotten.
    pub turn: i64,
}

/// Answer to [`Catalogue::passed`].
#[derive(Clone, Debug)]
pub struct Ahead {
    /// Where it begins.
    pub place: FollowedPlace,
    /// The last place in the order of acceptance that was given.
    pub newest: i64,
    /// The next events, in the order of acceptance.
    pub passed: Vec<Passed>,
}

/// An event of which only this much is looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Passed {
    /// Place in the order of acceptance.
    pub seq: i64,
    /// Whose row it counts for, beside the one of all.
    pub tenant: Option<String>,
    /// Its type.
    pub event_type: String,
    /// When it was accepted.
    pub accepted_at: Timestamp,
    /// Bytes of its data; `None` where it has none.
    pub size: Option<usize>,
}

/// What names a row: an event type, and the tenant whose events it is about; `None`: of all, with and without a tenant.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TypeKey {
    /// The tenant.
    pub tenant: Option<String>,
    /// The event type.
    pub event_type: String,
}

/// What a round adds to a row.
#[derive(Clone, Debug)]
pub struct Learnt {
    /// Which row.
    pub key: TypeKey,
    /// Events.
    pub count: u64,
    /// When the first of them was accepted.
    pub first_at: Timestamp,
    /// When the last of them was.
    pub last_at: Timestamp,
    /// State and sample as they now are, JSON; `None` where no data were looked at.
    pub state: Option<(String, Option<String>)>,
}

/// All that a round has come to.
#[derive(Clone, Debug)]
pub struct Round {
    /// Where it began.
    pub place: FollowedPlace,
    /// Where it ended: the place of the last event.
    pub position: i64,
    /// What was learnt, each row once.
    pub learnt: Vec<Learnt>,
    /// Rows that are kept, of all and of tenants; those longest unseen go.
    pub keep: (usize, usize),
}

/// An event type as it is known, to an operator or to a tenant.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EventType {
    /// The type.
    pub event_type: String,
    /// Events counted; 0 where it was only described.
    pub count: i64,
    /// When the first one was accepted.
    pub first_at: Option<Timestamp>,
    /// When the last one was.
    pub last_at: Option<Timestamp>,
    /// The state that its schema is made of, JSON.
    pub state: Option<String>,
    /// The last masked sample, JSON.
    pub sample: Option<String>,
    /// What an operator has written of it.
    pub description: Option<String>,
    /// Whether tenants see it that have no events of it.
    pub published: bool,
}

/// A change of what an operator says of an event type; `None` leaves it as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TypePatch {
    /// The description, or that there is none.
    pub description: Option<Option<String>>,
    /// See [`EventType::published`].
    pub published: Option<bool>,
}

/// A page of event types, by name.
#[derive(Clone, Debug, Default)]
pub struct TypeQuery {
    /// Who asks; `None`: an operator.
    pub tenant: Option<String>,
    /// This one alone.
    pub event_type: Option<String>,
    /// Behind this one.
    pub after: Option<String>,
    /// At most so many.
    pub limit: usize,
}

/// The use cases of the event catalogue.
#[async_trait]
pub trait Catalogue: Send + Sync {
    /// The next events that are to be learnt from, and where that begins.
    async fn passed(&self, limit: usize) -> Result<Ahead, StoreError>;
    /// Of the events at these places those that are still there, until their bytes pass `limits::EVENT_PAGE`.
    async fn events_at(&self, seqs: Vec<i64>) -> Result<Vec<AcceptedEvent>, StoreError>;
    /// The states of those of these rows that have one.
    async fn states(&self, keys: Vec<TypeKey>) -> Result<Vec<(TypeKey, String)>, StoreError>;
    /// Writes what a round has come to, with what is told of it, in one transaction; [`StoreError::Conflict`] where its place
    /// is no longer the one where it began.
    async fn learn(&self, round: Round, note: Note, now: Timestamp) -> Result<(), StoreError>;

    /// A page of event types. A tenant sees those that it has events of, as these are, and those that are published.
    async fn event_types(&self, query: TypeQuery) -> Result<Vec<EventType>, StoreError>;
    /// Changes what is said of an event type that is known; [`StoreError::NotFound`] where it is not. Durable when it returns.
    async fn describe_type(&self, event_type: String, patch: TypePatch, note: Note)
    -> Result<(), StoreError>;
    /// Forgets an event type: all that was learnt of it, for whomever, and what was said of it. Durable when it returns.
    async fn forget_type(&self, event_type: String, note: Note) -> Result<(), StoreError>;
}
