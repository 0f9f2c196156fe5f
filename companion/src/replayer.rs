//! Carries out replays and recoveries: a chunk at a time, at a bounded rate, behind live traffic.
//!
//! The store keeps how far each has come, so a crash continues where it was. A replay waits while its subscription has
//! much pending, so that live events find a short queue; and it makes deliveries no faster than its rate.

use std::collections::HashMap;
use std::sync::Arc;

use jiff::Timestamp;
use tokio::sync::{Notify, watch};
use tokio::time::MissedTickBehavior;

use crate::clock::Clock;
use crate::directory::{Directory, Entry};
use crate::limits;
use crate::matcher::Pattern;
use crate::model::{Event, Replay, ReplayId, ReplayKind, ReplayStatus, SubscriptionStatus};
use crate::queue::Queue;
use crate::rate::Rate;
use crate::store::{AcceptedEvent, AuditEntry, NewDelivery, Note, ReplayQuery, Store, StoreError};
use crate::telemetry::Metrics;

/// All that replaying needs.
pub struct Replayer {
    /// The truth.
    pub store: Arc<dyn Store>,
    /// The subscriptions.
    pub directory: Arc<Directory>,
    /// What wakes the worker.
    pub queue: Arc<Queue>,
    /// Told when a replay was asked for.
    pub asked: Arc<Notify>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
}

/// Deliveries that each running replay may make now; fractions add up.
type Credits = HashMap<ReplayId, f64>;

impl Replayer {
    /// Carries out what is asked until `stop` turns true. Reads the store only while something runs, and at its start.
    pub async fn run(self, mut stop: watch::Receiver<bool>) {
        let mut turns = tokio::time::interval(limits::REPLAY_EVERY);
        turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut credits, mut busy) = (Credits::new(), true);
        while !*stop.borrow() {
            tokio::select! {
                () = self.asked.notified(), if !busy => busy = true,
                _ = turns.tick(), if busy => {
                    busy = self.turn(&mut credits).await.unwrap_or_else(|error| {
                        self.metrics.store_errors.inc();
                        tracing::error!(error = format!("{error:#?}"), "a replay was put off");
                        true
                    });
                }
                // An error means that nobody is left to say stop; that is a stop.
                changed = stop.changed() => if changed.is_err() { break },
            }
        }
    }

    /// Gives each running replay its turn; says whether any still runs.
    async fn turn(&self, credits: &mut Credits) -> Result<bool, StoreError> {
        let query = ReplayQuery {
            status: Some(ReplayStatus::Running),
            limit: limits::REPLAYS,
            ..ReplayQuery::default()
        };
        let running = self.store.replays(query).await?;
        credits.retain(|id, _| running.iter().any(|replay| replay.id == *id));
        for replay in &running {
            let rate = replay.range.rate.as_deref().and_then(|rate| rate.parse::<Rate>().ok());
            let per_second = rate.map_or(limits::REPLAY_RATE, Rate::per_second);
            let credit = credits.entry(replay.id.clone()).or_insert(0.0);
            *credit = (*credit + per_second * limits::REPLAY_EVERY.as_secs_f64()).min(per_second.max(1.0));
            if *credit >= 1.0 {
                let made = self.advance(replay, *credit as usize).await?;
                *credit -= made as f64;
            }
        }
        Ok(!running.is_empty())
    }

    /// Moves a replay on by one chunk, making at most about `room` deliveries; returns how many were made.
    async fn advance(&self, replay: &Replay, room: usize) -> Result<u64, StoreError> {
        let now = self.clock.now();
        let entry = match &replay.subscription {
            None => None,
            Some(id) => match self.directory.get(id).filter(is_on) {
                Some(entry) => Some(entry),
                None => return self.give_up(replay, now).await,
            },
        };
        let (events, pending) =
            self.store.replay_ahead(&replay.id, limits::REPLAY_CHUNK, limits::REPLAY_PENDING).await?;
        if pending >= limits::REPLAY_PENDING {
            return Ok(0);
        }
        let mut wanted: Vec<AcceptedEvent> = Vec::new();
        let (mut position, mut whole) = (replay.position, events.len() < limits::REPLAY_CHUNK);
        for accepted in events {
            if wanted.len() == room {
                whole = false;
                break;
            }
            position = accepted.seq;
            if asks_for(replay, &accepted.event) {
                wanted.push(accepted);
            }
        }
        let position = if whole { replay.last } else { position };
        let (moved, woken) = match (&entry, replay.kind) {
            (Some(entry), ReplayKind::Replay) => {
                let deliveries = deliveries(entry, &wanted, now);
                let moved = self.store.advance_replay(replay.id.clone(), position, deliveries, now).await?;
                (moved, vec![entry.subscription.id.clone()])
            }
            _ => {
                let seqs = wanted.iter().map(|accepted| accepted.seq).collect();
                self.store.advance_recovery(replay.id.clone(), position, seqs, now).await?
            }
        };
        let made = moved.made.saturating_sub(replay.made);
        Metrics::count(&self.metrics.deliveries, "status", "pending", made);
        self.queue.publish(woken);
        if moved.status == ReplayStatus::Done {
            tracing::info!(replay.id = %replay.id, made = moved.made, "a replay is done");
        }
        Ok(made)
    }

    /// Ends a replay whose subscription is gone or off.
    async fn give_up(&self, replay: &Replay, now: Timestamp) -> Result<u64, StoreError> {
        let audit = AuditEntry {
            at: now,
            actor: "gatehook".to_owned(),
            action: "replay.cancel".to_owned(),
            resource: replay.id.0.clone(),
            detail: Some("\"its subscription is off or was deleted\"".to_owned()),
        };
        self.store
            .cancel_replay(replay.id.clone(), Note { audit: Some(audit), ..Note::default() }, now)
            .await?;
        Ok(0)
    }
}

fn is_on(entry: &Arc<Entry>) -> bool {
    entry.subscription.status == SubscriptionStatus::On
}

/// Whether a replay asks for an event.
fn asks_for(replay: &Replay, event: &Event) -> bool {
    let range = &replay.range;
    let mut patterns = range.events.iter().filter_map(|text| Pattern::parse(text).ok());
    (range.events.is_empty() || patterns.any(|pattern| pattern.matches(&event.event_type)))
        && range.subject.as_ref().is_none_or(|subject| event.subject.as_ref() == Some(subject))
}

/// The deliveries of those events that the subscription wants.
fn deliveries(entry: &Entry, events: &[AcceptedEvent], now: Timestamp) -> Vec<(i64, NewDelivery)> {
    let wanted = events.iter().filter(|accepted| entry.wants(&accepted.event));
    wanted.map(|accepted| (accepted.seq, entry.delivery(&accepted.event, now))).collect()
}
