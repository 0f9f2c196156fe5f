//! Where the truth lives: subscriptions, events, deliveries and attempts.
//!
//! [`Store`] has one method per use case, each one transaction with the guarantee its comment states. Methods take
//! `now` and never read a clock. Only this file names the backends, and only they hold SQL. What every backend must do
//! is written down in `conformance.rs`.

use std::sync::Arc;

use anyhow::Context as _;
use async_trait::async_trait;
use bytes::Bytes;
use jiff::Timestamp;

use crate::model::{
    Attempt, Delivery, DeliveryId, Event, EventHead, Replay, ReplayId, Shape, Subscription, SubscriptionId,
    Token,
};
use crate::vault::Vault;

mod catalogue;
#[cfg(test)]
mod conformance;
mod housekeeping;
pub mod migration;
pub mod offline;
mod postgres;
mod sealing;
mod sharing;
mod sqlite;
mod statistics;
mod types;

pub use catalogue::{
    Ahead, Catalogue, EventType, FollowedPlace, Learnt, Passed, Round, TypeKey, TypePatch, TypeQuery,
};
use housekeeping::Traces;
pub use housekeeping::{Erased, Erasure, Housekeeping, keys_of, tenant_actor};
pub use sharing::{Sharing, Signal};
pub use statistics::{Chart, ChartQuery, Charts, Group};
pub use types::*;

/// Why the store did not do what it was asked; variants are those that callers tell apart.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// There is no such row.
    #[error("not found")]
    NotFound,
    /// Another change came first.
    #[error("changed by somebody else in the meantime")]
    Conflict,
    /// What was asked rests on subscriptions that have changed meanwhile; nothing was written.
    #[error("the subscriptions have changed")]
    Outdated,
    /// There are as many as are allowed; nothing was written.
    #[error("there are as many as are allowed")]
    Full,
    /// The idempotency key was used before; nothing was written.
    #[error("this was asked for before")]
    Repeated {
        /// What was made then.
        resource: String,
        /// Whether the request then was the same.
        same: bool,
    },
    /// The writer has more work than it may queue; nothing was written.
    #[error("the store has too much to do")]
    Busy,
    /// The database did not answer, or not as expected; nothing was written, unless the connection to it broke in a commit.
    #[error("the store is unavailable")]
    Unavailable(#[source] anyhow::Error),
}

/// The largest count kept: above it a JSON reader with doubles would see another number (RFC 8259 §6).
const MOST_COUNTED: i64 = (1 << 53) - 1;

/// What an exhausted delivery says whose resource is delivered in order.
const PASSED: &str = "exhausted; later events of its resource went on without it";

/// The truth, and the use cases on it.
#[async_trait]
pub trait Store: Housekeeping + Sharing + Charts + Catalogue {
    /// Adds a subscription. Durable when it returns.
    async fn create_subscription(&self, subscription: Subscription, note: Note) -> Result<(), StoreError> {
        self.create_subscription_within(usize::MAX, subscription, note).await
    }
    /// As [`Store::create_subscription`], where its tenant has fewer than `most` of them; [`StoreError::Full`] where it has
    /// not, whoever else makes one at the same time.
    async fn create_subscription_within(
        &self,
        most: usize,
        subscription: Subscription,
        note: Note,
    ) -> Result<(), StoreError>;
    /// Writes a changed subscription over the revision before it (`revision - 1`); [`StoreError::Conflict`] where that
    /// is no longer the current one. Durable when it returns.
    async fn update_subscription(&self, subscription: Subscription, note: Note) -> Result<(), StoreError>;
    /// Turns a subscription off that is on; returns it as it then is, `None` where it was off or gone. Durable.
    async fn turn_off(
        &self,
        id: SubscriptionId,
        reason: &'static str,
        note: Note,
        now: Timestamp,
    ) -> Result<Option<Subscription>, StoreError>;
    /// Removes a subscription; its deliveries stay. Durable when it returns.
    async fn delete_subscription(&self, id: SubscriptionId, note: Note) -> Result<(), StoreError>;
    /// One subscription.
    async fn subscription(&self, id: &SubscriptionId) -> Result<Subscription, StoreError>;
    /// A page of subscriptions.
    async fn subscriptions(&self, query: SubscriptionQuery) -> Result<Vec<Subscription>, StoreError>;

    /// Writes events and their deliveries in one transaction. They are on disk (fsync) when it returns, in the order
    /// given; on an error nothing is. A delivery whose resource has an earlier one pending waits for it; one with a lease is
    /// claimed already.
    async fn accept(&self, events: Vec<NewEvent>, now: Timestamp) -> Result<Vec<Acceptance>, StoreError>;

    /// As [`Store::accept`], of events that were matched with the subscriptions as they were at a version of
    /// [`Sharing::version`]; [`StoreError::Outdated`] where that is no longer the current one. So no event accepted after
    /// a subscription was made misses it, whichever process took either. A store with a single process needs no version.
    async fn accept_as_of(
        &self,
        _version: i64,
        events: Vec<NewEvent>,
        now: Timestamp,
    ) -> Result<Vec<Acceptance>, StoreError> {
        self.accept(events, now).await
    }

    /// Leases up to `limit` due deliveries of a subscription until `lease_until`. No two claims hold the same delivery. A
    /// shared store keeps to the subscription's rate and cap over all processes: where they allow none now,
    /// [`Claims::next_due_at`] says when to ask again.
    async fn claim(
        &self,
        subscription: SubscriptionId,
        limit: usize,
        now: Timestamp,
        lease_until: Timestamp,
    ) -> Result<Claims, StoreError>;
    /// Leases those of these deliveries that are due, as [`Store::claim`] does, where their subscriptions are on, have no
    /// rate and no cap of their own, and do not fail, until they are too many bytes for one claim. Of the others that are
    /// due it names the subscriptions, and so it does where nobody holds one that is due within two seconds: clocks
    /// differ. What is due later, is claimed or is not there is passed over.
    async fn claim_named(
        &self,
        ids: Vec<DeliveryId>,
        now: Timestamp,
        lease_until: Timestamp,
    ) -> Result<Named, StoreError>;
    /// Writes attempts and what they mean, and ends their leases, in one transaction; says of each what became of it. Where
    /// a delivery has ended, the next one of its resource is due.
    async fn record(&self, ended: Arc<Vec<Ended>>, now: Timestamp) -> Result<Vec<Recorded>, StoreError>;
    /// Ends claims that will not be used: what they held is due at once. Those not held any more are passed over.
    async fn release(&self, claims: Vec<(DeliveryId, i64)>, now: Timestamp) -> Result<(), StoreError>;
    /// Called at a start: makes due what waits too long or for nobody; returns how many deliveries that were. A store with a
    /// single process ends all leases too, as no attempt can be under way; on a shared one others hold theirs, and those of a
    /// process that is gone run out.
    async fn release_all(&self, now: Timestamp) -> Result<usize, StoreError>;
    /// Cancels up to `limit` of a subscription's pending deliveries; returns how many it found. On a shared store it finds
    /// nothing of a subscription that is on: who asks may be behind.
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
    /// Begins a new round of attempts of a delivery, whatever its status; returns its subscription. It is due now, or takes
    /// its turn where its resource has others pending. Durable.
    async fn redeliver(
        &self,
        id: DeliveryId,
        note: Note,
        now: Timestamp,
    ) -> Result<SubscriptionId, StoreError>;

    /// Removes one chunk of what ended before a time: deliveries with their attempts, and events accepted before it that
    /// have no delivery left. Of events whose place is before `first_kept`, what has ended goes whatever its age. Pending
    /// deliveries and their events stay. A chunk looks at no more than `limit` events accepted after the one at `after`,
    /// and removes no more than `limit` deliveries. On a shared store the first chunk also does what [`Store::release_all`]
    /// does at a start.
    async fn prune(
        &self,
        after: i64,
        limit: usize,
        before: Timestamp,
        first_kept: i64,
    ) -> Result<Pruned, StoreError>;

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

    /// Adds a replay at its beginning: its range becomes a range of accepted events. Durable when it returns.
    async fn create_replay(&self, replay: Replay, note: Note) -> Result<Replay, StoreError>;
    /// One replay.
    async fn replay(&self, id: &ReplayId) -> Result<Replay, StoreError>;
    /// A page of replays, newest first.
    async fn replays(&self, query: ReplayQuery) -> Result<Vec<Replay>, StoreError>;
    /// The next events that a replay has to look at, and how many deliveries its subscription has pending (counted up to
    /// `most_pending`).
    async fn replay_ahead(
        &self,
        id: &ReplayId,
        limit: usize,
        most_pending: usize,
    ) -> Result<(Vec<AcceptedEvent>, usize), StoreError>;
    /// Moves a running replay on to `position` and makes these deliveries, each one only where its subscription has none of
    /// that event yet: a crash repeats nothing. The replay is done where `position` is its last.
    async fn advance_replay(
        &self,
        id: ReplayId,
        position: i64,
        deliveries: Vec<(i64, NewDelivery)>,
        now: Timestamp,
    ) -> Result<Replay, StoreError>;
    /// As [`Store::advance_replay`] for a recovery: begins a new round of the failed deliveries of the events up to
    /// `position` that it asks for; returns their subscriptions too.
    async fn advance_recovery(
        &self,
        id: ReplayId,
        position: i64,
        events: Vec<i64>,
        now: Timestamp,
    ) -> Result<(Replay, Vec<SubscriptionId>), StoreError>;
    /// Ends a replay that runs; what it has made stays. Durable when it returns.
    async fn cancel_replay(&self, id: ReplayId, note: Note, now: Timestamp) -> Result<Replay, StoreError>;

    /// Adds a token. Durable when it returns.
    async fn create_token(&self, token: Token, note: Note) -> Result<(), StoreError>;
    /// All tokens, oldest first.
    async fn tokens(&self) -> Result<Vec<Token>, StoreError>;
    /// Removes a token. Durable when it returns.
    async fn delete_token(&self, id: String, note: Note) -> Result<(), StoreError>;
    /// A page of the audit log, newest first.
    async fn audit(&self, before: Option<i64>, limit: usize) -> Result<Vec<AuditLine>, StoreError>;

    /// A value kept beside the data (token hashes, the check of the secret key). Writes `value` where there is none yet
    /// and returns the one that stands.
    async fn meta(&self, name: &'static str, value: Option<Bytes>) -> Result<Option<Bytes>, StoreError>;
    /// Whether the database answers. It does after every change of subscriptions that this process asked for before, also
    /// where it did not wait for the end of that.
    async fn ping(&self) -> Result<(), StoreError>;
}

/// Opens the store that a URL names and brings its schema up to date: `sqlite:PATH`, or `postgres://…` where several
/// processes share it.
///
/// # Errors
/// One sentence: an unknown scheme, a file that cannot be opened, a server that cannot be reached or does not let us in, a
/// schema newer than this program, another process on the same file.
pub async fn connect(url: &str, vault: Vault) -> anyhow::Result<Arc<dyn Store>> {
    match is_shared(url)? {
        true => Ok(Arc::new(postgres::PostgresStore::connect(url, vault).await?)),
        false => embedded(url, vault),
    }
}

/// Whether the store that a URL names is one that several processes share; nothing is opened for that.
///
/// # Errors
/// One sentence: an unknown scheme.
pub fn is_shared(url: &str) -> anyhow::Result<bool> {
    match url.split_once(':') {
        _ if offline::is_postgres(url) => Ok(true),
        Some(("sqlite", path)) if !path.is_empty() => Ok(false),
        _ => anyhow::bail!("`{}` names no store; use sqlite:PATH or postgres://…", redacted(url)),
    }
}

/// As [`connect`], for a store that lives in this process alone.
///
/// # Errors
/// See [`connect`].
pub fn embedded(url: &str, vault: Vault) -> anyhow::Result<Arc<dyn Store>> {
    let path = url.strip_prefix("sqlite:").filter(|path| !path.is_empty());
    let path = path.with_context(|| format!("`{}` names no store; use sqlite:PATH", redacted(url)))?;
    Ok(Arc::new(sqlite::SqliteStore::open(path.as_ref(), vault)?))
}

/// A store's URL without the password that may stand in it, however wrong it is otherwise.
pub fn redacted(url: &str) -> String {
    let mut shown = url.to_owned();
    if let Some(begin) = shown.find("://").map(|scheme| scheme + 3) {
        let rest = &shown[begin..];
        let host = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        // A password with one of these signs in it hides the host.
        let user = rest[..host].rfind('@').or_else(|| rest.rfind('@')).unwrap_or(0);
        if let Some(name) = rest[..user].find(':') {
            shown.replace_range(begin + name + 1..begin + user, "***");
        }
    }
    if let Some(begin) = shown.find("password=").map(|name| name + 9) {
        let end = shown[begin..].find('&').map_or(shown.len(), |length| begin + length);
        shown.replace_range(begin..end, "***");
    }
    shown
}

impl From<&Event> for EventHead {
    fn from(event: &Event) -> Self {
        Self {
            id: event.id.clone(),
            source: event.source.clone(),
            event_type: event.event_type.clone(),
            subject: event.subject.clone(),
            tenant: event.tenant.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_url_is_shown_without_its_password() {
        for (url, shown) in [
            ("sqlite:a.db", "sqlite:a.db"),
            ("postgres://host:5432/db", "postgres://host:5432/db"),
            ("postgres://me@host/db?x=a@b", "postgres://me@host/db?x=a@b"),
            ("postgres://me:pa:ss@host:1,other:2/db", "postgres://me:***@host:1,other:2/db"),
            ("postgres://me:pa/s@s@host/db", "postgres://me:***@host/db"),
            ("postgres://host/db?password=pass&user=me", "postgres://host/db?password=***&user=me"),
        ] {
            assert_eq!(super::redacted(url), shown);
        }
    }
}
