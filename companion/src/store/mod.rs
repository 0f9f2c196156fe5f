//! Where the truth lives: subscriptions, events, deliveries and attempts.
//!
//! [`Store`] has one method per use case, each one transaction with the guarantee its comment states. Methods take
//! `now` and never read a clock. Only this file names the backends, and only they hold SQL. What every backend must do
//! is written down in `conformance.rs`.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use jiff::Timestamp;

use crate::model::{
    Attempt, Delivery, DeliveryId, DeliveryStatus, Event, EventHead, Shape, Subscription, SubscriptionId,
    SubscriptionStatus,
};
use crate::retry::Verdict;
use crate::vault::Vault;

#[cfg(test)]
mod conformance;
mod sqlite;

/// Why the store did not do what it was asked; variants are those that callers tell apart.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// There is no such row.
    #[error("not found")]
    NotFound,
    /// Another change came first.
    #[error("changed by somebody else in the meantime")]
    Conflict,
    /// The writer has more work than it may queue; nothing was written.
    #[error("the store has too much to do")]
    Busy,
    /// The database did not answer, or not as expected; nothing was written.
    #[error("the store is unavailable")]
    Unavailable(#[source] anyhow::Error),
}

/// An event about to be accepted, with the deliveries it gives rise to.
#[derive(Clone, Debug)]
pub struct NewEvent {
    /// The event.
    pub event: Event,
    /// Its deliveries, one per matching subscription.
    pub deliveries: Vec<(DeliveryId, SubscriptionId)>,
}

/// What became of an event that was offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Acceptance {
    /// It and its deliveries are on disk.
    Accepted,
    /// An event with this source and id was accepted before; nothing changed.
    Repeated,
}

/// A delivery that this process holds under a lease.
#[derive(Clone, Debug)]
pub struct Claimed {
    /// Which delivery.
    pub id: DeliveryId,
    /// The claim's token; recording needs it.
    pub claim: i64,
    /// Attempts made before this one, over all rounds.
    pub attempt_count: u32,
    /// Attempts made before this one in this round.
    pub step: u32,
    /// What to deliver.
    pub event: Event,
}

/// Answer to [`Store::claim`].
#[derive(Debug)]
pub struct Claims {
    /// Oldest due first.
    pub claimed: Vec<Claimed>,
    /// Whether more is due now than was asked for.
    pub more: bool,
    /// When the earliest of the subscription's other pending deliveries is due, or its lease runs out.
    pub next_due_at: Option<Timestamp>,
}

/// Answer to [`Store::record`].
#[derive(Debug)]
pub enum Recorded {
    /// Written; with the subscription as it now is, where the verdict turned it off.
    Current(Option<Box<Subscription>>),
    /// The claim was no longer held: the lease ran out, or the delivery ended otherwise. Nothing was written.
    Stale,
}

/// Answer to [`Store::prune`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pruned {
    /// Events removed.
    pub events: usize,
    /// Deliveries removed, each with its attempts.
    pub deliveries: usize,
    /// Where the next chunk begins; `None` where there is no more.
    pub next: Option<i64>,
}

/// A page of deliveries, newest first.
#[derive(Clone, Debug, Default)]
pub struct DeliveryQuery {
    /// Of this subscription.
    pub subscription: Option<String>,
    /// With this status.
    pub status: Option<DeliveryStatus>,
    /// Of events with this id.
    pub event: Option<String>,
    /// Older than this delivery.
    pub before: Option<String>,
    /// At most so many.
    pub limit: usize,
}

/// A page of subscriptions, oldest first.
#[derive(Clone, Debug, Default)]
pub struct SubscriptionQuery {
    /// Of this tenant.
    pub tenant: Option<String>,
    /// With this status.
    pub status: Option<SubscriptionStatus>,
    /// Made after this one.
    pub after: Option<String>,
    /// At most so many.
    pub limit: usize,
}

/// A page of events, newest first.
#[derive(Clone, Debug, Default)]
pub struct EventQuery {
    /// With this type.
    pub event_type: Option<String>,
    /// With this subject.
    pub subject: Option<String>,
    /// Of this tenant.
    pub tenant: Option<String>,
    /// With this id; more than one event where several sources use it.
    pub id: Option<String>,
    /// Accepted before this one.
    pub before: Option<i64>,
    /// At most so many.
    pub limit: usize,
}

/// An event as it was accepted.
#[derive(Clone, Debug)]
pub struct AcceptedEvent {
    /// Place in the order of acceptance.
    pub seq: i64,
    /// When it was accepted.
    pub accepted_at: Timestamp,
    /// The event.
    pub event: Event,
}

/// A shape of writes that no rule named, and how often it was seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unmatched {
    /// How often, and its place in the list.
    pub place: UnmatchedPlace,
    /// The filter's `source`.
    pub source: String,
    /// See [`Shape::method`].
    pub method: String,
    /// See [`Shape::path`].
    pub path: String,
    /// HTTP status of the last one.
    pub status: u16,
    /// When it was first reported.
    pub first_at: Timestamp,
    /// When it was last reported.
    pub last_at: Timestamp,
}

/// A place in the list of unmatched shapes, which is by count, the most frequent first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnmatchedPlace {
    /// Writes counted.
    pub count: i64,
    /// Order of first sight, among equal counts.
    pub seq: i64,
}

/// The truth, and the use cases on it.
#[async_trait]
pub trait Store: Send + Sync {
    /// Adds a subscription. Durable when it returns.
    async fn create_subscription(&self, subscription: Subscription) -> Result<(), StoreError>;
    /// Writes a changed subscription over the revision before it (`revision - 1`); [`StoreError::Conflict`] where that
    /// is no longer the current one. Durable when it returns.
    async fn update_subscription(&self, subscription: Subscription) -> Result<(), StoreError>;
    /// Removes a subscription; its deliveries stay. Durable when it returns.
    async fn delete_subscription(&self, id: SubscriptionId) -> Result<(), StoreError>;
    /// One subscription.
    async fn subscription(&self, id: &SubscriptionId) -> Result<Subscription, StoreError>;
    /// A page of subscriptions.
    async fn subscriptions(&self, query: SubscriptionQuery) -> Result<Vec<Subscription>, StoreError>;

    /// Writes events and their deliveries, due at `due_at`, in one transaction. They are on disk (fsync) when it
    /// returns, in the order given; on an error nothing is.
    async fn accept(
        &self,
        events: Vec<NewEvent>,
        due_at: Timestamp,
        now: Timestamp,
    ) -> Result<Vec<Acceptance>, StoreError>;

    /// Leases up to `limit` due deliveries of a subscription until `lease_until`. No two claims hold the same delivery.
    async fn claim(
        &self,
        subscription: SubscriptionId,
        limit: usize,
        now: Timestamp,
        lease_until: Timestamp,
    ) -> Result<Claims, StoreError>;
    /// Writes an attempt and what it means, and ends the lease.
    async fn record(
        &self,
        claimed: (DeliveryId, i64),
        attempt: Attempt,
        verdict: Verdict,
        now: Timestamp,
    ) -> Result<Recorded, StoreError>;
    /// Ends all leases at once: only for a store with a single process, at its start, when no attempt can be under way.
    async fn release_all(&self, now: Timestamp) -> Result<usize, StoreError>;
    /// Cancels up to `limit` of a subscription's pending deliveries; returns how many it found.
    async fn cancel_pending(
        &self,
        subscription: SubscriptionId,
        reason: String,
        limit: usize,
        now: Timestamp,
    ) -> Result<usize, StoreError>;
    /// Every subscription with pending deliveries, and when its earliest is due. Grows with the subscriptions that
    /// have any, not with the deliveries.
    async fn due(&self) -> Result<Vec<(SubscriptionId, Timestamp)>, StoreError>;
    /// Begins a new round of attempts of a delivery, due now, whatever its status; returns its subscription. Durable.
    async fn redeliver(&self, id: DeliveryId, now: Timestamp) -> Result<SubscriptionId, StoreError>;

    /// Removes one chunk of what ended before a time: deliveries with their attempts, and events accepted before it that
    /// have no delivery left. Pending deliveries and their events stay. A chunk looks at no more than `limit` events
    /// accepted after the one at `after`, and removes no more than `limit` deliveries.
    async fn prune(&self, after: i64, limit: usize, before: Timestamp) -> Result<Pruned, StoreError>;

    /// One delivery with its attempts, oldest first.
    async fn delivery(&self, id: &DeliveryId) -> Result<(Delivery, Vec<Attempt>), StoreError>;
    /// A page of deliveries.
    async fn deliveries(&self, query: DeliveryQuery) -> Result<Vec<Delivery>, StoreError>;
    /// A page of events.
    async fn events(&self, query: EventQuery) -> Result<Vec<AcceptedEvent>, StoreError>;

    /// Adds to the counts of a source's unmatched shapes. Of all shapes of all sources the `keep` last seen stay.
    /// Durable when it returns; on an error nothing was counted.
    async fn count_unmatched(
        &self,
        source: String,
        shapes: Vec<Shape>,
        keep: usize,
        now: Timestamp,
    ) -> Result<(), StoreError>;
    /// A page of unmatched shapes, the most frequent first. A shape that was seen again while the caller turns pages
    /// may move to a page that was read already.
    async fn unmatched(
        &self,
        after: Option<UnmatchedPlace>,
        limit: usize,
    ) -> Result<Vec<Unmatched>, StoreError>;
    /// Forgets all unmatched shapes. Durable when it returns.
    async fn forget_unmatched(&self) -> Result<(), StoreError>;

    /// A value kept beside the data (token hashes, the check of the secret key). Writes `value` where there is none yet
    /// and returns the one that stands.
    async fn meta(&self, name: &'static str, value: Option<Bytes>) -> Result<Option<Bytes>, StoreError>;
    /// Whether the database answers.
    async fn ping(&self) -> Result<(), StoreError>;
}

/// Opens the store that a URL names and brings its schema up to date: `sqlite:PATH`.
///
/// # Errors
/// One sentence: an unknown scheme, a file that cannot be opened, a schema newer than this program, another process
/// on the same file.
pub fn connect(url: &str, vault: Vault) -> anyhow::Result<Arc<dyn Store>> {
    match url.split_once(':') {
        Some(("sqlite", path)) if !path.is_empty() => {
            Ok(Arc::new(sqlite::SqliteStore::open(path.as_ref(), vault)?))
        }
        _ => anyhow::bail!("`{}` names no store; use sqlite:PATH", redacted(url)),
    }
}

/// A store's URL without the password that may stand in it.
pub fn redacted(url: &str) -> String {
    match url::Url::parse(url) {
        Ok(mut parsed) if parsed.password().is_some() => {
            // Fails only for URLs that cannot have a password.
            let _ = parsed.set_password(Some("***"));
            parsed.into()
        }
        _ => url.to_owned(),
    }
}

impl From<&Event> for EventHead {
    fn from(event: &Event) -> Self {
        Self {
            id: event.id.clone(),
            source: event.source.clone(),
            event_type: event.event_type.clone(),
            subject: event.subject.clone(),
        }
    }
}
