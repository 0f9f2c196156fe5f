//! One attempt of a delivery: what is sent, what the receiver said, and what follows of it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use tokio::time::Instant;

use super::Worker;
use crate::clock::{random_fraction, random_id_bytes};
use crate::directory::Entry;
use crate::lanes::Answer;
use crate::limits;
use crate::matcher::may_see;
use crate::model::{Attempt, Event, Outcome, SubscriptionId};
use crate::news;
use crate::parcel::parcel;
use crate::queue::Ticket;
use crate::retry::{Progress, Verdict, later};
use crate::store::{Claimed, Ended, Health, Note};
use crate::telemetry::Metrics;

/// Why a delivery ends whose event is not, or no longer, the subscription's to see: its tenant was changed.
pub(super) const NOT_ITS_TENANT: &str = "the event is not one of the subscription's tenant";

/// An attempt that has ended and is not recorded yet.
pub(super) struct Attempted {
    pub(super) subscription: SubscriptionId,
    /// Bytes of the event.
    pub(super) bytes: usize,
    pub(super) ended: Ended,
    /// What it says of the receiver.
    pub(super) answer: Answer,
    /// When the receiver wants the next attempt at the earliest.
    pub(super) not_before: Option<Timestamp>,
    pub(super) ended_at: Timestamp,
    /// The message that named the delivery; settled once this is recorded.
    pub(super) ticket: Option<Ticket>,
    /// By what charts count it; none where it was not made for the subscription as it now is.
    pub(super) counted: Option<Counted>,
}

/// Whose attempt it was, and of what.
pub(super) type Counted = (Arc<Entry>, Arc<Event>);

impl Worker {
    /// Makes one attempt of a claimed delivery and judges it.
    pub(super) async fn deliver(
        &self,
        id: SubscriptionId,
        claimed: Claimed,
        failing_since: Option<Timestamp>,
    ) -> Attempted {
        let Some(entry) = self.directory.get(&id) else {
            return self.give_up(id, claimed);
        };
        let started_at = self.clock.now();
        let begun = Instant::now();
        let (outcome, answer) = self.attempt(&entry, &claimed, started_at).await;
        let elapsed = begun.elapsed();
        let duration_ms = i64::try_from(elapsed.as_millis()).unwrap_or(i64::MAX);
        self.metrics.attempt_duration.observe(elapsed.as_secs_f64());
        let number = claimed.attempt_count + 1;
        if said(&outcome) != Answer::Taken {
            tracing::info!(
                delivery.id = %claimed.id, subscription.id = %id, attempt = number, outcome = outcome.word(),
                status = outcome.status(), error = outcome.error(), duration_ms, "an attempt failed"
            );
        }
        Metrics::count(&self.metrics.attempts, "outcome", outcome.word(), 1);
        let now = self.clock.now();
        let (said, not_before) = (said(&outcome), not_before(&outcome, now));
        let is_its_own = is_its_own(&entry, &claimed);
        let verdict = match is_its_own {
            true => {
                let progress = Progress { step: claimed.step + 1, began_at: claimed.began_at, failing_since };
                entry.retry.judge(&outcome, progress, now, random_fraction())
            }
            false => Verdict::Cancelled(NOT_ITS_TENANT),
        };
        let health = match (said == Answer::Taken, failing_since) {
            (true, Some(_)) => Health::Well,
            (false, None) => Health::Failing,
            _ => Health::Same,
        };
        let note = self.note(&entry, &claimed, &outcome, &verdict, now);
        let bytes = claimed.event.size();
        let attempt = Attempt { number, started_at, duration_ms, outcome, answer };
        let ended = Ended { id: claimed.id, claim: claimed.claim, attempt, verdict, health, note };
        let counted = is_its_own.then_some((entry, claimed.event));
        Attempted {
            subscription: id,
            bytes,
            ended,
            answer: said,
            not_before,
            ended_at: now,
            ticket: None,
            counted,
        }
    }

    async fn attempt(&self, entry: &Entry, claimed: &Claimed, now: Timestamp) -> (Outcome, Bytes) {
        let parcel = match is_its_own(entry, claimed) {
            true => parcel(entry, &claimed.event, &claimed.id, claimed.sequence, &self.keys.all(), now),
            false => Err(NOT_ITS_TENANT.into()),
        };
        match parcel {
            Ok(parcel) => self.sender.send(parcel, now).await,
            Err(blocked) => (Outcome::Blocked(blocked), Bytes::new()),
        }
    }

    /// Ends a delivery whose subscription was deleted since the claim: nothing is sent, nothing waits for the lease to end.
    fn give_up(&self, subscription: SubscriptionId, claimed: Claimed) -> Attempted {
        let reason = "the subscription was deleted";
        let now = self.clock.now();
        let attempt = Attempt {
            number: claimed.attempt_count + 1,
            started_at: now,
            duration_ms: 0,
            outcome: Outcome::Blocked(reason.into()),
            answer: Bytes::new(),
        };
        let (verdict, health, note) = (Verdict::Cancelled(reason), Health::Same, Note::default());
        let bytes = claimed.event.size();
        let ended = Ended { id: claimed.id, claim: claimed.claim, attempt, verdict, health, note };
        Attempted {
            subscription,
            bytes,
            ended,
            answer: Answer::Refused,
            not_before: None,
            ended_at: now,
            ticket: None,
            counted: None,
        }
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
