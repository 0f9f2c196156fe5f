//! What goes into a store and comes out of it.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use crate::model::{
    Attempt, DeliveryId, DeliveryStatus, Event, ReplayStatus, Subscription, SubscriptionId,
    SubscriptionStatus,
};
use crate::retry::Verdict;

/// An event about to be accepted, with the deliveries it gives rise to.
#[derive(Clone, Debug)]
pub struct NewEvent {
    /// The event.
    pub event: Arc<Event>,
    /// Its deliveries, one per matching subscription.
    pub deliveries: Vec<NewDelivery>,
}

/// A delivery about to be made.
#[derive(Clone, Debug)]
pub struct NewDelivery {
    /// Its name.
    pub id: DeliveryId,
    /// Who gets it.
    pub subscription: SubscriptionId,
    /// When its first attempt is due, unless it has to wait for an earlier one of its resource.
    pub due_at: Timestamp,
    /// Whose events are delivered in order; `None` where order does not matter.
    pub resource: Option<String>,
    /// Claims it at once; only where order does not matter.
    pub lease: Option<Lease>,
}

/// A claim as it is made with its delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    /// The claim's token.
    pub claim: i64,
    /// When it ends.
    pub until: Timestamp,
}

/// A change that somebody made, with what is told of it: all of it in the change's own transaction.
#[derive(Clone, Debug, Default)]
pub struct Note {
    /// What the audit log says.
    pub audit: Option<AuditEntry>,
    /// Events of our own.
    pub news: Vec<NewEvent>,
    /// By what a repeat of the request is recognised.
    pub idempotency: Option<Idempotency>,
}

impl Note {
    /// Who gets the events of our own.
    pub fn wanted_by(&self) -> Vec<SubscriptionId> {
        let deliveries = self.news.iter().flat_map(|news| &news.deliveries);
        deliveries.map(|delivery| delivery.subscription.clone()).collect()
    }
}

/// What the `Idempotency-Key` of a request is kept as.
#[derive(Clone, Debug)]
pub struct Idempotency {
    /// Caller, route and key.
    pub key: String,
    /// SHA-256 of the request's body.
    pub request: [u8; 32],
    /// What is being made.
    pub resource: String,
    /// When.
    pub at: Timestamp,
}

/// A line of the audit log as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditLine {
    /// Its place.
    pub seq: i64,
    /// The line.
    pub entry: AuditEntry,
}

/// A page of replays, newest first.
#[derive(Clone, Debug, Default)]
pub struct ReplayQuery {
    /// Of this subscription.
    pub subscription: Option<String>,
    /// With this status.
    pub status: Option<ReplayStatus>,
    /// Of this tenant's subscriptions.
    pub tenant: Option<String>,
    /// Older than this one.
    pub before: Option<String>,
    /// At most so many.
    pub limit: usize,
}

/// One line of the audit log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditEntry {
    /// When.
    pub at: Timestamp,
    /// Who: a token's id or kind, or `gatehook` itself.
    pub actor: String,
    /// What was done, such as `subscription.update`.
    pub action: String,
    /// To what: an id.
    pub resource: String,
    /// More, as JSON: names of fields, never a secret.
    pub detail: Option<String>,
}

/// How a claimed delivery's attempt ended.
#[derive(Clone, Debug)]
pub struct Ended {
    /// Which delivery.
    pub id: DeliveryId,
    /// The claim's token.
    pub claim: i64,
    /// The attempt.
    pub attempt: Attempt,
    /// What follows.
    pub verdict: Verdict,
    /// What it says of its subscription.
    pub health: Health,
    /// What is told of it.
    pub note: Note,
}

/// What an attempt says of its subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// Nothing new.
    Same,
    /// It is the first to fail.
    Failing,
    /// It is the first to arrive again.
    Well,
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
    /// When this round began.
    pub began_at: Timestamp,
    /// Place of the event in the order of acceptance, where the events of its resource are delivered in order.
    pub sequence: Option<i64>,
    /// What to deliver.
    pub event: Arc<Event>,
}

/// Answer to [`Store::claim`].
#[derive(Debug, Default)]
pub struct Claims {
    /// Oldest due first.
    pub claimed: Vec<Claimed>,
    /// Whether more is due now than was asked for.
    pub more: bool,
    /// When the earliest of the subscription's other pending deliveries is due, or its lease runs out. These leases do not
    /// count: if every lane looked again at the end of its own, they all would at once, and the sweep finds it anyway.
    pub next_due_at: Option<Timestamp>,
    /// Since when every attempt of the subscription has failed.
    pub failing_since: Option<Timestamp>,
}

/// What is due within this time may be due already by the clock of the process that named it.
pub(super) const DUE_SOON: Duration = Duration::from_secs(2);

/// Answer to [`Store::claim_named`].
#[derive(Debug, Default)]
pub struct Named {
    /// What is leased now, with whose it is.
    pub claimed: Vec<(SubscriptionId, Claimed)>,
    /// Subscriptions that have one of the others due now or soon; sorted, each once.
    pub due: Vec<SubscriptionId>,
}

/// Answer to [`Store::record`].
#[derive(Debug)]
pub enum Recorded {
    /// Written.
    Current {
        /// The subscription as it now is, where the verdict turned it off.
        turned_off: Option<Box<Subscription>>,
        /// Whether another delivery of the same resource is due now because this one has ended.
        released: bool,
    },
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
    /// Of this tenant's subscriptions, and of its events: a subscription may have been another tenant's before.
    pub tenant: Option<String>,
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

/// A page of events. It ends early where their bytes pass `limits::EVENT_PAGE`; only an empty one says that there is no more.
#[derive(Clone, Debug, Default)]
pub struct EventQuery {
    /// With this id; more than one event where several sources use it.
    pub id: Option<String>,
    /// Accepted before this one, or after it where the oldest come first.
    pub cursor: Option<i64>,
    /// Whether the oldest come first.
    pub oldest_first: bool,
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
