//! Writes down how attempts ended, many in one transaction, and carries out what follows of it.
//!
//! One batch is under way at a time; what ends meanwhile is the next one. So a batch is as large as the store is slow, and
//! an attempt that ends alone waits for nobody.

use std::sync::Arc;

use jiff::Timestamp;
use tokio::sync::mpsc;

use super::attempt::{Attempted, Counted};
use super::{Finished, News, Worker};
use crate::limits;
use crate::model::{SubscriptionId, SubscriptionStatus};
use crate::retry::{Verdict, later};
use crate::statistics::Of;
use crate::store::{Ended, Recorded, StoreError};
use crate::telemetry::Metrics;

/// What is to be recorded, and whether a batch is under way.
#[derive(Default)]
pub(super) struct Recording {
    waiting: Vec<Attempted>,
    under_way: bool,
}

impl Recording {
    /// Takes an attempt that has ended.
    pub(super) fn add(&mut self, attempted: Attempted) {
        self.waiting.push(attempted);
    }

    /// The batch under way has come back.
    pub(super) fn has_ended(&mut self) {
        self.under_way = false;
    }

    /// Begins the next batch where there is one and none is under way; it is reported as [`News::Recorded`].
    pub(super) fn go_on(&mut self, worker: &Arc<Worker>, report: &mpsc::UnboundedSender<News>) {
        if self.under_way || self.waiting.is_empty() {
            return;
        }
        self.under_way = true;
        let rest = self.waiting.split_off(self.waiting.len().min(limits::RECORDS));
        let batch = std::mem::replace(&mut self.waiting, rest);
        let (worker, report) = (worker.clone(), report.clone());
        tokio::spawn(async move {
            let finished = worker.record(batch).await;
            let _ = report.send(News::Recorded(finished));
        });
    }
}

impl Worker {
    /// Writes down how attempts ended and what follows; says of each what it means for its lane.
    pub(super) async fn record(&self, batch: Vec<Attempted>) -> Vec<Finished> {
        let now = self.clock.now();
        let (mut ended, mut lanes) = (Vec::with_capacity(batch.len()), Vec::with_capacity(batch.len()));
        // Kept until the record is written, or is known to have failed.
        let mut tickets = Vec::new();
        let mut counted = Vec::with_capacity(batch.len());
        for Attempted { subscription: id, bytes, ended: end, ticket, counted: of, .. } in batch {
            ended.push(end);
            counted.push(of);
            tickets.extend(ticket);
            lanes.push(Finished { id, bytes, retry_at: None });
        }
        let ended = Arc::new(ended);
        let recorded = self.record_in_time(&ended, now).await;
        self.count(&ended, &recorded, &counted, now);
        for ((lane, ended), recorded) in lanes.iter_mut().zip(&*ended).zip(recorded) {
            let is_off_known = matches!(recorded, Some(Recorded::Current { .. }));
            if matches!(ended.verdict, Verdict::Off(_)) && !is_off_known {
                // It may be written all the same.
                self.directory.doubt(lane.id.clone());
            }
            lane.retry_at = match recorded {
                Some(recorded) => self.follow(&lane.id, ended, recorded, now),
                None => Some(later(now, limits::LEASE)),
            };
        }
        lanes
    }

    /// Counts for charts what was recorded.
    fn count(
        &self,
        ended: &[Ended],
        recorded: &[Option<Recorded>],
        counted: &[Option<Counted>],
        now: Timestamp,
    ) {
        let mut collector = self.statistics.collector();
        for ((ended, recorded), counted) in ended.iter().zip(recorded).zip(counted) {
            let (Some(Recorded::Current { .. }), Some((entry, event))) = (recorded, counted) else {
                continue;
            };
            let (subscription, event_type) = (&entry.subscription.id, &event.event_type);
            let of = Of { subscription, owner: entry.owner, event_type };
            collector.count(of, &ended.attempt, &ended.verdict, now);
        }
    }

    /// Records a batch; while the store is away it tries again until the leases of the batch have run out. What is known of
    /// an attempt is worth waiting for: else all of them would be made again.
    async fn record_in_time(&self, batch: &Arc<Vec<Ended>>, now: Timestamp) -> Vec<Option<Recorded>> {
        let (too_late, mut seen) = (later(now, limits::LEASE), now);
        loop {
            let error = match self.store.record(batch.clone(), now).await {
                Ok(recorded) => return recorded.into_iter().map(Some).collect(),
                Err(error) => error,
            };
            if self.store.ping().await.is_ok() {
                return self.record_singly(batch, &error, now).await;
            }
            self.store_failed(&error, "attempts are not recorded yet");
            tokio::time::sleep(limits::STORE_PAUSE).await;
            let present = self.clock.now();
            // A clock that went back makes their next times wrong: they were reckoned by the one before.
            if present >= too_late || present < seen {
                return batch.iter().map(|_| None).collect();
            }
            seen = present;
        }
    }

    /// Records each of a batch for itself, so that one that cannot be recorded has no other one sent again with it.
    async fn record_singly(
        &self,
        batch: &[Ended],
        error: &StoreError,
        now: Timestamp,
    ) -> Vec<Option<Recorded>> {
        let mut recorded = Vec::with_capacity(batch.len());
        if let [_] = batch {
            self.store_failed(error, "an attempt was not recorded and will be made again");
            return vec![None];
        }
        for ended in batch {
            let one = self.store.record(Arc::new(vec![ended.clone()]), now).await;
            let one = one.map_err(|error| {
                self.store_failed(&error, "an attempt was not recorded and will be made again");
            });
            recorded.push(one.ok().and_then(|mut one| one.pop()));
        }
        recorded
    }

    /// Carries out what follows of a record; says when to look at the lane again, where that is known.
    fn follow(
        &self,
        id: &SubscriptionId,
        ended: &Ended,
        recorded: Recorded,
        now: Timestamp,
    ) -> Option<Timestamp> {
        let number = ended.attempt.number;
        let Recorded::Current { turned_off, released } = recorded else {
            tracing::warn!(delivery.id = %ended.id, attempt = number, "an attempt outlived its lease");
            return Some(now);
        };
        if let Some(subscription) = turned_off {
            self.went_off(*subscription);
        }
        if !ended.note.news.is_empty() {
            self.board.wake(ended.note.wanted_by());
        }
        self.ended(id, ended, now).or(released.then_some(now))
    }

    /// Counts and logs how a delivery ended; says when to look at the lane again where it goes on.
    fn ended(&self, id: &SubscriptionId, ended: &Ended, now: Timestamp) -> Option<Timestamp> {
        let word = match &ended.verdict {
            Verdict::Retry(due_at) => {
                let entry = self.directory.get(id);
                let on = entry.is_some_and(|entry| entry.subscription.status == SubscriptionStatus::On);
                return Some(if on { *due_at } else { now });
            }
            Verdict::Delivered => "delivered",
            Verdict::Exhausted => "exhausted",
            Verdict::Cancelled(_) | Verdict::Off(_) => "cancelled",
        };
        if word == "exhausted" {
            let attempt = ended.attempt.number;
            tracing::warn!(delivery.id = %ended.id, subscription.id = %id, attempt, "a delivery is exhausted");
        }
        Metrics::count(&self.metrics.deliveries, "status", word, 1);
        None
    }
}
