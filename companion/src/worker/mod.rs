//! Makes deliveries: claims what is due, sends it, records what came of it.
//!
//! The store says what is due and the [`Lanes`] say whose turn it is; this file only carries out. A delivery is claimed
//! under a lease before it is sent, so a crash at any point leaves it to be sent again, never lost. An attempt whose
//! record the store refuses is sent again too: at least once.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, MissedTickBehavior};

use crate::ahead::Ready;
use crate::board::{Arrived, Board};
use crate::clock::Clock;
use crate::directory::Directory;
use crate::keys::SigningKeys;
use crate::lanes::{Answer, Lanes, Source, Terms, Turn};
use crate::limits;
use crate::model::{DeliveryId, Subscription, SubscriptionId, SubscriptionStatus};
use crate::queue::Ticket;
use crate::retry::later;
use crate::sender::Transport;
use crate::statistics::Statistics;
use crate::store::{Claimed, Claims, Store, StoreError};
use crate::telemetry::Metrics;
use attempt::Attempted;
use record::Recording;

mod attempt;
mod record;
#[cfg(test)]
mod tests;

/// All that a worker needs; it holds no state of its own.
pub struct Worker {
    /// The truth.
    pub store: Arc<dyn Store>,
    /// The subscriptions.
    pub directory: Arc<Directory>,
    /// What wakes it.
    pub board: Arc<Board>,
    /// What it sends with.
    pub sender: Arc<dyn Transport>,
    /// What signs for subscriptions that want no shared secret.
    pub keys: Arc<SigningKeys>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// What it counts.
    pub metrics: Arc<Metrics>,
    /// What it counts for charts.
    pub statistics: Arc<Statistics>,
}

/// What a task reports to the loop.
enum News {
    Claimed { id: SubscriptionId, claims: Claims },
    Attempted(Box<Attempted>),
    Recorded(Vec<Finished>),
    Swept { due: Vec<(SubscriptionId, Timestamp)>, now: Timestamp },
}

/// What an attempt that is recorded means for its lane.
struct Finished {
    id: SubscriptionId,
    bytes: usize,
    /// When to look at the lane again, where that is known.
    retry_at: Option<Timestamp>,
}

/// What the loop knows: whose turn it is, what was claimed ahead of it, and what is to be recorded.
struct Desk {
    worker: Arc<Worker>,
    lanes: Lanes,
    held: HashMap<SubscriptionId, VecDeque<Ready>>,
    recording: Recording,
    report: mpsc::UnboundedSender<News>,
}

impl Worker {
    /// Runs until `stop` turns true, then waits for the attempts under way, at most [`limits::DRAIN`].
    pub async fn run(self: Arc<Self>, mut stop: watch::Receiver<bool>) {
        let (report, mut news) = mpsc::unbounded_channel();
        let mut desk = Desk::new(self.clone(), report);
        let mut sweep = tokio::time::interval(limits::SWEEP_EVERY);
        sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while !*stop.borrow() {
            // All of both, so that neither waits for the end of the other.
            desk.take_up(self.board.take());
            desk.take_in_all(&mut news);
            let now = self.clock.now();
            let next_timer = desk.lanes.tick(now);
            desk.take_turns(now);
            tokio::select! {
                biased;
                // An error means that nobody is left to say stop; that is a stop.
                changed = stop.changed() => if changed.is_err() { break },
                _ = sweep.tick() => drop(tokio::spawn(self.clone().sweep(desk.report.clone()))),
                arrived = self.board.receive() => desk.take_up(arrived),
                Some(next) = news.recv() => desk.take_in(next),
                () = until(next_timer, now) => {}
            }
        }
        desk.drain(news).await;
    }

    /// Finds what no wake-up told of: leases that ran out, all that was due before this process started, and subscriptions
    /// whose time is over.
    async fn sweep(self: Arc<Self>, report: mpsc::UnboundedSender<News>) {
        if let Err(error) = self.settle().await {
            self.store_failed(&error, "what the store has of some subscriptions is not known yet");
        }
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
            Some(_) => self.claim(&id, limit, now).await,
        };
        let claims = claims.unwrap_or_else(|error| {
            self.store_failed(&error, "a claim was put off");
            Claims { next_due_at: Some(later(now, limits::STORE_PAUSE)), ..Claims::default() }
        });
        let _ = report.send(News::Claimed { id, claims });
    }

    /// Leases what is due. What comes so late that an attempt might outlast its lease is given back: it would be claimed
    /// again meanwhile.
    async fn claim(&self, id: &SubscriptionId, limit: usize, now: Timestamp) -> Result<Claims, StoreError> {
        let lease_until = later(now, limits::LEASE);
        let mut claims = self.store.claim(id.clone(), limit, now, lease_until).await?;
        if later(self.clock.now(), limits::ATTEMPT * 2) > lease_until && !claims.claimed.is_empty() {
            let late = claims.claimed.drain(..).map(|claimed| (claimed.id, claimed.claim)).collect();
            self.release(late).await;
            claims.more = true;
        }
        Ok(claims)
    }

    /// Ends claims that are not used; where that fails their leases run out.
    async fn release(&self, claims: Vec<(DeliveryId, i64)>) {
        if let Err(error) = self.store.release(claims, self.clock.now()).await {
            self.store_failed(&error, "claims were not released; they run out");
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

    /// Takes in that a subscription was turned off; what is pending for it is cancelled when its lane is served.
    fn went_off(&self, subscription: Subscription) {
        let (id, reason) = (subscription.id.clone(), subscription.off_reason.clone());
        tracing::warn!(subscription.id = %id, reason, "a subscription was turned off");
        self.directory.put(subscription);
        self.board.wake([id]);
    }

    /// Reads subscriptions again whose change had no certain end, once the store has done what it was asked before.
    async fn settle(&self) -> Result<(), StoreError> {
        let doubtful = self.directory.doubtful();
        if !doubtful.is_empty() {
            self.store.ping().await?;
        }
        for id in doubtful {
            let change = self.directory.change(&id).await;
            match self.store.subscription(&id).await {
                Ok(subscription) => change.put(subscription),
                Err(StoreError::NotFound) => change.remove(),
                Err(error) => return Err(error),
            }
            self.board.wake([id]);
        }
        Ok(())
    }

    /// Turns the subscriptions off whose time is over.
    async fn expire(&self) {
        let now = self.clock.now();
        for entry in self.directory.expired(now) {
            let change = self.directory.change(&entry.subscription.id).await;
            let (id, reason) = (entry.subscription.id.clone(), "its time is over (expires_at)");
            let note = self.directory.note_off(&entry.subscription, reason, now);
            let wanted_by = note.wanted_by();
            match self.store.turn_off(id, reason, note, now).await {
                // Somebody else turned it off, and says so here.
                Ok(None) => change.give_up(),
                Ok(Some(subscription)) => {
                    change.give_up();
                    self.went_off(subscription);
                    self.board.wake(wanted_by);
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
    fn new(worker: Arc<Worker>, report: mpsc::UnboundedSender<News>) -> Self {
        let (lanes, held, recording) = Default::default();
        Self { worker, lanes, held, recording, report }
    }

    /// Begins all that may begin.
    fn take_turns(&mut self, now: Timestamp) {
        let worker = self.worker.clone();
        while let Some(Turn { id, limit, source }) = self.lanes.next(now, |id| worker.terms(id)) {
            match source {
                Source::Held => self.send_held(&id, limit, now),
                Source::Store => {
                    self.close_ahead(&id);
                    tokio::spawn(worker.clone().serve(id, limit, self.report.clone()));
                }
            }
        }
        let gauge = |count| i64::try_from(count).unwrap_or(i64::MAX);
        worker.metrics.breakers_open.set(gauge(self.lanes.open_breakers()));
        worker.metrics.attempts_in_flight.set(gauge(self.lanes.in_flight()));
    }

    /// Takes in what has been reported; what ended meanwhile is recorded together.
    fn take_in_all(&mut self, news: &mut mpsc::UnboundedReceiver<News>) {
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
                if !more && failing_since.is_none() && self.lanes.is_well(&id) {
                    self.worker.directory.get(&id).inspect(|entry| entry.ahead.open());
                }
                for delivery in claimed {
                    self.attempt(id.clone(), delivery, failing_since, None);
                }
            }
            News::Attempted(attempted) => {
                if attempted.answer != Answer::Taken {
                    self.close_ahead(&attempted.subscription);
                }
                if attempted.answer == Answer::Failed {
                    self.give_back(&attempted.subscription);
                }
                let Attempted { subscription, answer, not_before, ended_at, .. } = &*attempted;
                self.lanes.answered(subscription, *answer, *not_before, *ended_at);
                self.recording.add(*attempted);
            }
            News::Recorded(finished) => {
                self.recording.has_ended();
                for Finished { id, bytes, retry_at } in finished {
                    self.lanes.recorded(&id, bytes, retry_at);
                }
            }
            News::Swept { due, now } => {
                self.lanes.tidy(now);
                due.iter().for_each(|(id, due_at)| self.lanes.wake_at(id, *due_at));
            }
        }
    }

    /// Takes up what the board says.
    fn take_up(&mut self, arrived: Arrived) {
        arrived.woken.iter().for_each(|id| self.lanes.wake(id));
        let mut surplus: HashMap<SubscriptionId, Vec<_>> = HashMap::new();
        for ready in arrived.ready {
            let held = self.held.entry(ready.subscription.clone()).or_default();
            // A queue knows nothing of receivers, and one that is slow must not hold all that a process may take from it.
            let is_surplus =
                held.len() >= 2 * limits::IN_FLIGHT || self.lanes.is_failing(&ready.subscription);
            if ready.ticket.is_some() && is_surplus {
                let Ready { subscription, claimed, .. } = ready;
                surplus.entry(subscription).or_default().push((claimed.id, claimed.claim));
                continue;
            }
            self.lanes.hold(&ready.subscription, 1);
            held.push_back(ready);
        }
        surplus.into_iter().for_each(|(id, claims)| self.release_later(id, claims));
    }

    /// Sends deliveries that were claimed ahead; none where their lease may not last, or nothing is to be sent any more.
    fn send_held(&mut self, id: &SubscriptionId, limit: usize, now: Timestamp) {
        let entry = self.worker.directory.get(id);
        let is_on = entry.is_some_and(|entry| entry.subscription.status == SubscriptionStatus::On);
        let held = self.held.entry(id.clone()).or_default();
        let last_safe = later(now, limits::ATTEMPT * 2);
        let lasting = held.iter().take(limit).take_while(|ready| is_on && ready.lease_until > last_safe);
        let count = lasting.count();
        let ready: Vec<Ready> = held.drain(..count).collect();
        let bytes = ready.iter().map(|ready| ready.claimed.event.size()).sum();
        self.lanes.claimed(id, (ready.len(), bytes), false, None);
        if ready.len() < limit {
            self.close_ahead(id);
            self.give_back(id);
        }
        for Ready { claimed, ticket, .. } in ready {
            self.attempt(id.clone(), claimed, None, ticket);
        }
    }

    /// What comes for a subscription from now on goes by the store.
    fn close_ahead(&self, id: &SubscriptionId) {
        self.worker.directory.get(id).inspect(|entry| entry.ahead.close());
    }

    /// Ends the claims of what is held for a subscription, and wakes its lane when that is done.
    fn give_back(&mut self, id: &SubscriptionId) {
        let claims = self.take_held(id);
        if !claims.is_empty() {
            self.release_later(id.clone(), claims);
        }
    }

    /// Ends claims, and wakes their lane when that is done.
    fn release_later(&self, id: SubscriptionId, claims: Vec<(DeliveryId, i64)>) {
        let worker = self.worker.clone();
        tokio::spawn(async move {
            worker.release(claims).await;
            worker.board.wake([id]);
        });
    }

    fn take_held(&mut self, id: &SubscriptionId) -> Vec<(DeliveryId, i64)> {
        let held = self.held.remove(id).unwrap_or_default();
        self.lanes.hold_none(id);
        held.into_iter().map(|ready| (ready.claimed.id, ready.claimed.claim)).collect()
    }

    /// Begins an attempt of a claimed delivery.
    fn attempt(
        &self,
        id: SubscriptionId,
        delivery: Claimed,
        failing_since: Option<Timestamp>,
        ticket: Option<Ticket>,
    ) {
        let (worker, report) = (self.worker.clone(), self.report.clone());
        tokio::spawn(async move {
            let mut attempted = worker.deliver(id, delivery, failing_since).await;
            attempted.ticket = ticket;
            let _ = report.send(News::Attempted(Box::new(attempted)));
        });
    }

    /// Waits for what is under way, claims that were begun included; what is held is due again for whoever comes next.
    async fn drain(mut self, mut news: mpsc::UnboundedReceiver<News>) {
        let deadline = Instant::now() + limits::DRAIN;
        self.worker.directory.stop_ahead();
        let late = self.worker.board.take();
        self.take_up(late);
        let ids: Vec<_> = self.held.keys().cloned().collect();
        let held = ids.iter().flat_map(|id| self.take_held(id)).collect();
        self.worker.release(held).await;
        // Other processes may send them at once.
        if let Err(error) = self.worker.store.announce(ids).await {
            self.worker.store_failed(&error, "other workers were not told; their sweep finds it");
        }
        while self.lanes.is_busy()
            && let Ok(Some(next)) = tokio::time::timeout_at(deadline, news.recv()).await
        {
            self.take_in(next);
            self.take_in_all(&mut news);
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
