//! What keeps a store in order: what is more than is kept, what must be erased, clocks that went back.
//!
//! [`Housekeeping`] is part of every [`super::Store`]; it stands apart because accepting and delivering need none of it.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use jiff::Timestamp;

use super::{Note, StoreError};
use crate::model::SubscriptionId;
use crate::statistics::owner;

/// Under what a tenant's name stands beside its events.
#[derive(Debug)]
pub(super) struct Traces {
    /// Who did something, in the audit log.
    pub(super) actor: String,
    /// Whom a link was made for, in the audit log.
    pub(super) detail: String,
    /// What the keys of its requests begin with.
    pub(super) keys: String,
    /// Whose attempts were counted.
    pub(super) owner: i64,
}

impl Traces {
    /// Those of a tenant.
    pub(super) fn of(tenant: &str) -> Self {
        let actor = tenant_actor(tenant);
        // A string always serializes.
        let detail = serde_json::to_string(tenant).unwrap_or_default();
        Self { keys: keys_of(&actor), actor, detail, owner: owner(Some(tenant)) }
    }
}

/// What the idempotency keys of a caller begin with. A name may hold blanks, so its length says where it ends.
pub fn keys_of(caller: &str) -> String {
    format!("{} {caller} ", caller.len())
}

/// What the audit log calls a tenant.
pub fn tenant_actor(tenant: &str) -> String {
    format!("tenant:{tenant}")
}

/// What is to be erased.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Erasure {
    /// Events with this subject, or with one below it: `/contacts/7` and `/contacts/7/notes/1`, not `/contacts/70`. Of
    /// our own events those that tell of such an event.
    Subject(String),
    /// Events of this tenant. Its subscriptions go by [`Housekeeping::erase_subscription`].
    Tenant(String),
}

/// One chunk of an erasure.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Erased {
    /// Events removed.
    pub events: usize,
    /// Deliveries removed, pending ones too.
    pub deliveries: usize,
    /// Attempts removed.
    pub attempts: usize,
    /// Subscriptions with a delivery that waited for an erased one of its resource, and is due now.
    pub released: Vec<SubscriptionId>,
    /// Where the next chunk begins; `None` where there is no more.
    pub next: Option<i64>,
}

/// The use cases of keeping a store in order. None holds the writer for longer than a chunk takes, a few milliseconds.
#[async_trait]
pub trait Housekeeping: Send + Sync {
    /// Place of the oldest of the newest `keep` events, 0 where there are no more than that. Counts all events, which
    /// only reads.
    async fn first_kept(&self, keep: u64) -> Result<i64, StoreError>;
    /// Removes up to `limit` lines of the audit log that are not among its newest `keep`, and up to `limit` replays that
    /// ended before a time; returns how many of both.
    async fn prune_log(&self, keep: u64, limit: usize, before: Timestamp) -> Result<usize, StoreError>;

    /// Seals up to `limit` subscriptions' secrets again that are not sealed under the vault's first key; returns how many.
    /// Durable when it returns.
    async fn reseal(&self, limit: usize) -> Result<usize, StoreError>;
    /// Writes a note of what changes nothing here. Durable when it returns.
    async fn write_note(&self, note: Note) -> Result<(), StoreError>;

    /// Writes a value kept beside the data over the one that is expected; [`StoreError::Conflict`] where another stands.
    /// Durable when it returns.
    async fn replace_meta(
        &self,
        name: &'static str,
        expected: Bytes,
        value: Bytes,
        note: Note,
    ) -> Result<(), StoreError>;

    /// Begins an erasure: writes the note, and forgets replays that name the subject. Returns the place of the newest
    /// event; what is accepted later is not part of the erasure. Durable when it returns.
    async fn begin_erasure(&self, what: Erasure, note: Note) -> Result<i64, StoreError>;
    /// Removes one chunk of the events after the place `after` and up to `until` that are to be erased, with all their
    /// deliveries and attempts: no more than `limit` events and `limit` deliveries.
    /// An attempt under way leaves nothing: its record is [`super::Recorded::Stale`].
    async fn erase(
        &self,
        what: Erasure,
        (after, until): (i64, i64),
        limit: usize,
        now: Timestamp,
    ) -> Result<Erased, StoreError>;
    /// Removes up to `limit` deliveries of a subscription with their attempts; after the last of them up to `limit` of its
    /// counts for charts, and after these the subscription and its replays; there is no `next` then.
    async fn erase_subscription(&self, id: SubscriptionId, limit: usize) -> Result<Erased, StoreError>;
    /// Takes what was erased off the disk as far as the store can; false where bytes of it may be left, because a
    /// long-running reader needed them, or because the database keeps what its module says.
    async fn finish_erasure(&self) -> Result<bool, StoreError>;

    /// Brings due times and leases that lie after `now` back by so much, because the clock went back. Not one transaction:
    /// a delivery that changes in the meantime is left as it then is. Returns how many. A shared store does nothing: its
    /// processes go by its clock, and each would do it again.
    async fn shift_due(&self, by: Duration, now: Timestamp) -> Result<usize, StoreError>;
}
