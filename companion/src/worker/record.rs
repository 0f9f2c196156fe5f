//! Writes down how attempts ended, and what follows of it.

use jiff::Timestamp;

use super::{Done, NOT_ITS_TENANT, Worker, is_its_own};
use crate::clock::{random_fraction, random_id_bytes};
use crate::directory::Entry;
use crate::lanes::Answer;
use crate::limits;
use crate::model::{Attempt, Outcome, SubscriptionId, SubscriptionStatus};
use crate::news;
use crate::retry::{Progress, Verdict, later};
use crate::store::{Claimed, Ended, Health, Note, Recorded};
use crate::telemetry::Metrics;

impl Worker {
    /// Writes down how an attempt ended and what follows; says when to look at the lane again, where that is known.
    pub(super) async fn record(
        &self,
        entry: &Entry,
        claimed: &Claimed,
        attempt: Attempt,
        failing_since: Option<Timestamp>,
    ) -> Option<Timestamp> {
        let now = self.clock.now();
        let id = &entry.subscription.id;
        let verdict = match is_its_own(entry, claimed) {
            true => {
                let progress = Progress { step: claimed.step + 1, began_at: claimed.began_at, failing_since };
                entry.retry.judge(&attempt.outcome, progress, now, random_fraction())
            }
            false => Verdict::Cancelled(NOT_ITS_TENANT),
        };
        let (number, word) = (attempt.number, attempt.outcome.word());
        Metrics::count(&self.metrics.attempts, "outcome", word, 1);
        let note = self.note(entry, claimed, &attempt.outcome, &verdict, now);
        let wanted_by = note.wanted_by();
        let health = match (word == "delivered", failing_since) {
            (true, Some(_)) => Health::Well,
            (false, None) => Health::Failing,
            _ => Health::Same,
        };
        let (delivery, claim) = (claimed.id.clone(), claimed.claim);
        let ended = Ended { id: delivery, claim, attempt, verdict: verdict.clone(), health, note };
        let released = match self.store.record(ended, now).await {
            Err(error) => {
                self.store_failed(&error, "an attempt was not recorded and will be made again");
                return Some(later(now, limits::LEASE));
            }
            Ok(Recorded::Stale) => {
                tracing::warn!(delivery.id = %claimed.id, attempt = number, "an attempt outlived its lease");
                return Some(now);
            }
            Ok(Recorded::Current { turned_off, released }) => {
                if let Some(subscription) = turned_off {
                    self.went_off(*subscription);
                }
                self.queue.publish(wanted_by);
                released
            }
        };
        self.ended(id, claimed, number, &verdict, now).or(released.then_some(now))
    }

    /// Counts and logs how a delivery ended; says when to look at the lane again where it goes on.
    fn ended(
        &self,
        id: &SubscriptionId,
        claimed: &Claimed,
        number: u32,
        verdict: &Verdict,
        now: Timestamp,
    ) -> Option<Timestamp> {
        let ended = match verdict {
            Verdict::Retry(due_at) => {
                let on = self
                    .directory
                    .get(id)
                    .is_some_and(|entry| entry.subscription.status == SubscriptionStatus::On);
                return Some(if on { *due_at } else { now });
            }
            Verdict::Delivered => "delivered",
            Verdict::Exhausted => "exhausted",
            Verdict::Cancelled(_) | Verdict::Off(_) => "cancelled",
        };
        if ended == "exhausted" {
            tracing::warn!(delivery.id = %claimed.id, subscription.id = %id, attempt = number, "a delivery is exhausted");
        }
        Metrics::count(&self.metrics.deliveries, "status", ended, 1);
        None
    }

    /// What is told of a verdict that ends more than an attempt.
    fn note(
        &self,
        entry: &Entry,
        claimed: &Claimed,
        outcome: &Outcome,
        verdict: &Verdict,
        now: Timestamp,
    ) -> Note {
        let subscription = &entry.subscription;
        match verdict {
            Verdict::Off(reason) => self.directory.note_off(subscription, reason, now),
            Verdict::Exhausted => {
                let event = news::exhausted(claimed, subscription, outcome, random_id_bytes(), now);
                let news = event.map(|event| self.directory.address(event, now)).into_iter().collect();
                Note { news, ..Note::default() }
            }
            _ => Note::default(),
        }
    }

    /// Ends a delivery whose subscription was deleted since the claim: nothing is sent, nothing waits for the lease to end.
    pub(super) async fn give_up(&self, id: &SubscriptionId, claimed: &Claimed) -> Done {
        let now = self.clock.now();
        let outcome = Outcome::Blocked("the subscription was deleted".into());
        let number = claimed.attempt_count + 1;
        let attempt =
            Attempt { number, started_at: now, duration_ms: 0, outcome, answer: bytes::Bytes::new() };
        let verdict = Verdict::Cancelled("the subscription was deleted");
        let (delivery, claim, note) = (claimed.id.clone(), claimed.claim, Note::default());
        let ended =
            Ended { id: delivery, claim, attempt, verdict: verdict.clone(), health: Health::Same, note };
        let retry_at = match self.store.record(ended, now).await {
            Ok(_) => self.ended(id, claimed, number, &verdict, now),
            Err(error) => {
                self.store_failed(&error, "a delivery was not cancelled and will be looked at again");
                Some(later(now, limits::LEASE))
            }
        };
        Done { answer: Answer::Refused, retry_at, not_before: None }
    }
}
