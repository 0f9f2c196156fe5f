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
use crate::directory::Directory;
use crate::keys::SigningKeys;
use crate::lanes::{Lanes, Terms};
use crate::limits;
use crate::model::{Subscription, SubscriptionId, SubscriptionStatus};
use crate::queue::Queue;
use crate::retry::later;
use crate::sender::Sender;
use crate::store::{Claimed, Claims, Store, StoreError};
use crate::telemetry::Metrics;
use attempt::Attempted;
use record::Recording;

mod attempt;
mod record;
#[cfg(test)]
mod tests;

/// Time until a lane is tried again whose store operation failed.
const STORE_PAUSE: Duration = Duration::from_secs(1);

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
    Claimed { id: SubscriptionId, claims: Claims },
    Attempted(Attempted),
    Recorded { finished: Vec<Finished>, now: Timestamp },
    Swept { due: Vec<(SubscriptionId, Timestamp)>, now: Timestamp },
}

/// What an attempt that is recorded means for its lane.
struct Finished {
    id: SubscriptionId,
    bytes: usize,
    done: Done,
}

/// What an attempt says of its receiver, and when its lane is to be looked at again.
struct Done {
    answer: crate::lanes::Answer,
    /// When to look at the lane again, where that is known.
    retry_at: Option<Timestamp>,
    /// When the receiver wants the next attempt at the earliest.
    not_before: Option<Timestamp>,
}

/// What the loop knows: whose turn it is, and what is to be recorded.
struct Desk {
    worker: Arc<Worker>,
    lanes: Lanes,
    recording: Recording,
    report: mpsc::UnboundedSender<News>,
}

impl Worker {
    /// Runs until `stop` turns true, then waits for the attempts under way, at most [`limits::DRAIN`].
    pub async fn run(self: Arc<Self>, mut stop: watch::Receiver<bool>) {
        let (report, mut news) = mpsc::unbounded_channel();
        let mut desk =
            Desk { worker: self.clone(), lanes: Lanes::default(), recording: Recording::default(), report };
        let mut sweep = tokio::time::interval(limits::SWEEP_EVERY);
        sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while !*stop.borrow() {
            let now = self.clock.now();
            let next_timer = desk.lanes.tick(now);
            desk.take_turns(now);
            tokio::select! {
                ids = self.queue.receive() => ids.iter().for_each(|id| desk.lanes.wake(id)),
                Some(first) = news.recv() => desk.take_in_all(first, &mut news),
                () = until(next_timer, now) => {}
                _ = sweep.tick() => drop(tokio::spawn(self.clone().sweep(desk.report.clone()))),
                // An error means that nobody is left to say stop; that is a stop.
                changed = stop.changed() => if changed.is_err() { break },
            }
        }
        desk.drain(news).await;
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

    /// Serves one lane once: claims, or cancels where the subscription takes nothing any more.
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
        let _ = report.send(News::Claimed { id, claims });
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

impl Desk {
    /// Begins all that may begin.
    fn take_turns(&mut self, now: Timestamp) {
        let worker = self.worker.clone();
        while let Some((id, limit)) = self.lanes.next(now, |id| worker.terms(id)) {
            tokio::spawn(worker.clone().serve(id, limit, self.report.clone()));
        }
        let gauge = |count| i64::try_from(count).unwrap_or(i64::MAX);
        worker.metrics.breakers_open.set(gauge(self.lanes.open_breakers()));
        worker.metrics.attempts_in_flight.set(gauge(self.lanes.in_flight()));
    }

    /// Takes in what was reported, and all that has been reported since; what ended meanwhile is recorded together.
    fn take_in_all(&mut self, first: News, news: &mut mpsc::UnboundedReceiver<News>) {
        self.take_in(first);
        while let Ok(next) = news.try_recv() {
            self.take_in(next);
        }
        self.recording.go_on(&self.worker, &self.report);
    }

    fn take_in(&mut self, news: News) {
        match news {
            News::Claimed { id, claims: Claims { claimed, more, next_due_at, failing_since } } => {
                let bytes = claimed.iter().map(|claimed| claimed.event.size()).sum();
                self.lanes.claimed(&id, (claimed.len(), bytes), more, next_due_at);
                for delivery in claimed {
                    self.attempt(id.clone(), delivery, failing_since);
                }
            }
            News::Attempted(attempted) => self.recording.add(attempted),
            News::Recorded { finished, now } => {
                self.recording.has_ended();
                for Finished { id, bytes, done: Done { answer, retry_at, not_before } } in finished {
                    self.lanes.finished(&id, (answer, bytes), (retry_at, not_before), now);
                }
            }
            News::Swept { due, now } => {
                self.lanes.tidy(now);
                due.iter().for_each(|(id, due_at)| self.lanes.wake_at(id, *due_at));
            }
        }
    }

    /// Begins an attempt of a claimed delivery.
    fn attempt(&self, id: SubscriptionId, delivery: Claimed, failing_since: Option<Timestamp>) {
        let (worker, report) = (self.worker.clone(), self.report.clone());
        tokio::spawn(async move {
            let attempted = worker.deliver(id, delivery, failing_since).await;
            let _ = report.send(News::Attempted(attempted));
        });
    }

    /// Waits for what is under way, claims that were begun included.
    async fn drain(mut self, mut news: mpsc::UnboundedReceiver<News>) {
        let deadline = Instant::now() + limits::DRAIN;
        while self.lanes.is_busy()
            && let Ok(Some(next)) = tokio::time::timeout_at(deadline, news.recv()).await
        {
            self.take_in_all(next, &mut news);
        }
        if self.lanes.in_flight() > 0 {
            tracing::warn!(
                attempts = self.lanes.in_flight(),
                "stopped before all attempts had ended; they will be made again"
            );
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
