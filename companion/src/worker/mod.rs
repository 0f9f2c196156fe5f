//! Makes deliveries: claims what is due, sends it, records what came of it.
//!
//! The store says what is due and the [`Lanes`] say whose turn it is; this file only carries out. A delivery is claimed
//! under a lease before it is sent, so a crash at any point leaves it to be sent again, never lost. An attempt whose
//! record the store refuses is sent again too: at least once.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, MissedTickBehavior};

use crate::clock::Clock;
use crate::directory::{Directory, Entry};
use crate::keys::SigningKeys;
use crate::lanes::{Answer, Lanes, Terms};
use crate::limits;
use crate::matcher::may_see;
use crate::model::{Attempt, Outcome, Subscription, SubscriptionId, SubscriptionStatus};
use crate::parcel::parcel;
use crate::queue::Queue;
use crate::retry::later;
use crate::sender::Sender;
use crate::store::{Claimed, Claims, Store, StoreError};
use crate::telemetry::Metrics;

/// Time until a lane is tried again whose store operation failed.
const STORE_PAUSE: Duration = Duration::from_secs(1);

/// Why a delivery ends whose event is not, or no longer, the subscription's to see: its tenant was changed.
const NOT_ITS_TENANT: &str = "the event is not one of the subscription's tenant";

/// All that a worker needs; it holds no state of its own.
pub struct Worker {
    /// The truth.
    pub store: Arc<dyn Store>,
    /// The subscriptions.
    pub directory: Arc<Directory>,
    /// What wakes it.
    pub queue: Arc<Queue>,
    /// What it sends with.
    pub sender: Sender,
    /// What signs for subscriptions that want no shared secret.
    pub keys: Arc<SigningKeys>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// What it counts.
    pub metrics: Arc<Metrics>,
}

/// What a task reports to the loop.
enum News {
    Claimed { id: SubscriptionId, count: usize, bytes: usize, more: bool, next_due_at: Option<Timestamp> },
    Finished { id: SubscriptionId, bytes: usize, done: Done, now: Timestamp },
    Swept { due: Vec<(SubscriptionId, Timestamp)>, now: Timestamp },
}

/// What an attempt means for its lane.
struct Done {
    answer: Answer,
    /// When to look at the lane again, where that is known.
    retry_at: Option<Timestamp>,
    /// When the receiver wants the next attempt at the earliest.
    not_before: Option<Timestamp>,
}

impl Worker {
    /// Runs until `stop` turns true, then waits for the attempts under way, at most [`limits::DRAIN`].
    pub async fn run(self: Arc<Self>, mut stop: watch::Receiver<bool>) {
        let (report, mut news) = mpsc::unbounded_channel();
        let mut lanes = Lanes::default();
        let mut sweep = tokio::time::interval(limits::SWEEP_EVERY);
        sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while !*stop.borrow() {
            let now = self.clock.now();
            let next_timer = lanes.tick(now);
            while let Some((id, limit)) = lanes.next(now, |id| self.terms(id)) {
                tokio::spawn(self.clone().serve(id, limit, report.clone()));
            }
            self.metrics.breakers_open.set(i64::try_from(lanes.open_breakers()).unwrap_or(i64::MAX));
            self.metrics.attempts_in_flight.set(i64::try_from(lanes.in_flight()).unwrap_or(i64::MAX));
            tokio::select! {
                ids = self.queue.receive() => ids.iter().for_each(|id| lanes.wake(id)),
                Some(first) = news.recv() => {
                    take_in(&mut lanes, first);
                    while let Ok(next) = news.try_recv() {
                        take_in(&mut lanes, next);
                    }
                }
                () = until(next_timer, now) => {}
                _ = sweep.tick() => drop(tokio::spawn(self.clone().sweep(report.clone()))),
                // An error means that nobody is left to say stop; that is a stop.
                changed = stop.changed() => if changed.is_err() { break },
            }
        }
        self.drain(lanes, report, news).await;
    }

    async fn drain(
        &self,
        mut lanes: Lanes,
        report: mpsc::UnboundedSender<News>,
        mut news: mpsc::UnboundedReceiver<News>,
    ) {
        let deadline = Instant::now() + limits::DRAIN;
        // Claims that were begun report too: once ours is gone, the channel closes when the last task has ended.
        drop(report);
        while let Ok(Some(next)) = tokio::time::timeout_at(deadline, news.recv()).await {
            take_in(&mut lanes, next);
        }
        if lanes.in_flight() > 0 {
            tracing::warn!(
                attempts = lanes.in_flight(),
                "stopped before all attempts had ended; they will be made again"
            );
        }
    }

    /// Finds what no wake-up told of: leases that ran out, all that was due before this process started, and subscriptions
    /// whose time is over.
    async fn sweep(self: Arc<Self>, report: mpsc::UnboundedSender<News>) {
        self.expire().await;
        match self.store.due().await {
            Ok(due) => drop(report.send(News::Swept { due, now: self.clock.now() })),
            Err(error) => self.store_failed(&error, "the sweep was put off"),
        }
    }

    /// Serves one lane once: claims and delivers, or cancels where the subscription takes nothing any more.
    async fn serve(self: Arc<Self>, id: SubscriptionId, limit: usize, report: mpsc::UnboundedSender<News>) {
        let now = self.clock.now();
        let entry = self.directory.get(&id);
        let claims = match entry.filter(|entry| entry.subscription.status == SubscriptionStatus::On) {
            None => self.cancel(&id, now).await.map(|more| Claims { more, ..Claims::default() }),
            Some(_) => self.store.claim(id.clone(), limit, now, later(now, limits::LEASE)).await,
        };
        let claims = claims.unwrap_or_else(|error| {
            self.store_failed(&error, "a claim was put off");
            Claims { next_due_at: Some(later(now, STORE_PAUSE)), ..Claims::default() }
        });
        let Claims { claimed, more, next_due_at, failing_since } = claims;
        let bytes = claimed.iter().map(|claimed| claimed.event.size()).sum();
        let count = claimed.len();
        let _ = report.send(News::Claimed { id: id.clone(), count, bytes, more, next_due_at });
        for delivery in claimed {
            let (worker, id, report) = (self.clone(), id.clone(), report.clone());
            tokio::spawn(async move {
                let bytes = delivery.event.size();
                let done = worker.deliver(&id, delivery, failing_since).await;
                let _ = report.send(News::Finished { id, bytes, done, now: worker.clock.now() });
            });
        }
    }

    /// The bounds of a subscription's lane.
    fn terms(&self, id: &SubscriptionId) -> Terms {
        self.directory.get(id).map_or_else(Terms::default, |entry| entry.terms)
    }

    async fn cancel(&self, id: &SubscriptionId, now: Timestamp) -> Result<bool, StoreError> {
        let reason = match self.directory.get(id) {
            Some(_) => "the subscription is off",
            None => "the subscription was deleted",
        };
        let count = self.store.cancel_pending(id.clone(), reason.into(), limits::CANCEL_CHUNK, now).await?;
        Metrics::count(&self.metrics.deliveries, "status", "cancelled", count as u64);
        Ok(count == limits::CANCEL_CHUNK)
    }

    /// Makes one attempt of a claimed delivery; says whether the receiver took it and when to try again.
    async fn deliver(&self, id: &SubscriptionId, claimed: Claimed, failing_since: Option<Timestamp>) -> Done {
        let Some(entry) = self.directory.get(id) else {
            return self.give_up(id, &claimed).await;
        };
        let started_at = self.clock.now();
        let begun = Instant::now();
        let (outcome, answer) = self.attempt(&entry, &claimed, started_at).await;
        let elapsed = begun.elapsed();
        let duration_ms = i64::try_from(elapsed.as_millis()).unwrap_or(i64::MAX);
        self.metrics.attempt_duration.observe(elapsed.as_secs_f64());
        let number = claimed.attempt_count + 1;
        let healthy = matches!(outcome, Outcome::Answered { status: 200..=299, .. });
        if !healthy {
            tracing::info!(
                delivery.id = %claimed.id, subscription.id = %id, attempt = number, outcome = outcome.word(),
                status = outcome.status(), error = outcome.error(), duration_ms, "an attempt failed"
            );
        }
        let (said, not_before) = (said(&outcome), not_before(&outcome, self.clock.now()));
        let attempt = Attempt { number, started_at, duration_ms, outcome, answer };
        let retry_at = self.record(&entry, &claimed, attempt, failing_since).await;
        Done { answer: said, retry_at, not_before }
    }

    async fn attempt(&self, entry: &Entry, claimed: &Claimed, now: Timestamp) -> (Outcome, bytes::Bytes) {
        let parcel = match is_its_own(entry, claimed) {
            true => {
                let sequence = claimed.ordered.then_some(claimed.seq);
                parcel(entry, &claimed.event, &claimed.id, sequence, &self.keys.all(), now)
            }
            false => Err(NOT_ITS_TENANT.into()),
        };
        match parcel {
            Ok(parcel) => self.sender.send(parcel, now).await,
            Err(blocked) => (Outcome::Blocked(blocked), bytes::Bytes::new()),
        }
    }

    /// Takes in that a subscription was turned off; what is pending for it is cancelled when its lane is served.
    fn went_off(&self, subscription: Subscription) {
        let (id, reason) = (subscription.id.clone(), subscription.off_reason.clone());
        tracing::warn!(subscription.id = %id, reason, "a subscription was turned off");
        self.directory.put(subscription);
        self.queue.publish([id]);
    }

    /// Turns the subscriptions off whose time is over.
    async fn expire(&self) {
        let now = self.clock.now();
        for entry in self.directory.expired(now) {
            let _change = self.directory.change().await;
            let (id, reason) = (entry.subscription.id.clone(), "its time is over (expires_at)");
            let note = self.directory.note_off(&entry.subscription, reason, now);
            let wanted_by = note.wanted_by();
            match self.store.turn_off(id, reason, note, now).await {
                Ok(None) => {}
                Ok(Some(subscription)) => {
                    self.went_off(subscription);
                    self.queue.publish(wanted_by);
                }
                Err(error) => self.store_failed(&error, "a subscription was not turned off in time"),
            }
        }
    }

    fn store_failed(&self, error: &StoreError, consequence: &str) {
        self.metrics.store_errors.inc();
        tracing::error!(error = format!("{error:#?}"), "{consequence}");
    }
}

/// Whether the subscription may see the event as it now stands; it may have changed since the event was accepted.
fn is_its_own(entry: &Entry, claimed: &Claimed) -> bool {
    may_see(entry.subscription.tenant.as_deref(), claimed.event.tenant.as_deref())
}

/// What an outcome says of the receiver: an answer of 4xx says that it is there, but for those that ask for time.
fn said(outcome: &Outcome) -> Answer {
    match outcome {
        Outcome::Answered { status: 200..=299, .. } => Answer::Taken,
        Outcome::Answered { status: 400..=407 | 409..=428 | 430..=499, .. } | Outcome::Blocked(_) => {
            Answer::Refused
        }
        _ => Answer::Failed,
    }
}

/// Until when a receiver that answered 429 or 503 wants to be left alone.
fn not_before(outcome: &Outcome, now: Timestamp) -> Option<Timestamp> {
    let Outcome::Answered { status: 429 | 503, retry_after_s: Some(seconds), .. } = outcome else {
        return None;
    };
    Some(later(now, Duration::from_secs(*seconds).min(limits::LANE_PAUSE)))
}

fn take_in(lanes: &mut Lanes, news: News) {
    match news {
        News::Claimed { id, count, bytes, more, next_due_at } => {
            lanes.claimed(&id, (count, bytes), more, next_due_at);
        }
        News::Finished { id, bytes, done: Done { answer, retry_at, not_before }, now } => {
            lanes.finished(&id, (answer, bytes), (retry_at, not_before), now);
        }
        News::Swept { due, now } => {
            lanes.tidy(now);
            due.iter().for_each(|(id, due_at)| lanes.wake_at(id, *due_at));
        }
    }
}

/// Sleeps until a time of our clock, for ever where there is none.
async fn until(at: Option<Timestamp>, now: Timestamp) {
    match at {
        None => std::future::pending().await,
        Some(at) => tokio::time::sleep(Duration::try_from(at.duration_since(now)).unwrap_or_default()).await,
    }
}

mod record;
#[cfg(test)]
mod tests;
