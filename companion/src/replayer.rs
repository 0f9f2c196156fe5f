//! Carries out replays and recoveries: a chunk at a time, at a bounded rate, behind live traffic.
//!
//! The store keeps how far each has come, so a crash continues where it was. A replay waits while its subscription has
//! much pending, so that live events find a short queue; and it makes deliveries no faster than its rate.

use std::collections::HashMap;
use std::sync::Arc;

use jiff::Timestamp;
use tokio::sync::{Notify, watch};
use tokio::time::MissedTickBehavior;

use crate::board::Board;
use crate::clock::Clock;
use crate::directory::{Directory, Entry};
use crate::limits;
use crate::matcher::Pattern;
use crate::model::{Event, Replay, ReplayId, ReplayKind, ReplayStatus, SubscriptionId, SubscriptionStatus};
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
    pub board: Arc<Board>,
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
                biased;
                () = self.asked.notified(), if !busy => busy = true,
                // Another process may have been asked.
                () = tokio::time::sleep(limits::VERSION_EVERY), if !busy && self.store.is_shared() => busy = true,
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
        if !self.store.leads().await? {
            return Ok(false);
        }
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
                None => return self.give_up(replay, id, now).await,
            },
        };
        let (events, pending) =
            self.store.replay_ahead(&replay.id, limits::REPLAY_CHUNK, limits::REPLAY_PENDING).await?;
        let room = room.min(limits::REPLAY_PENDING.saturating_sub(pending));
        if room == 0 {
            return Ok(0);
        }
        let mut wanted: Vec<AcceptedEvent> = Vec::new();
        // A reading that finds nothing says that there is no more; a short one may only have found large events.
        let (mut position, whole) = (replay.position, events.is_empty());
        for accepted in events {
            if wanted.len() == room {
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
        self.board.wake(woken);
        if moved.status == ReplayStatus::Done {
            tracing::info!(replay.id = %replay.id, made = moved.made, "a replay is done");
        }
        Ok(made)
    }

    /// Ends a replay whose subscription is gone or off.
    async fn give_up(
        &self,
        replay: &Replay,
        subscription: &SubscriptionId,
        now: Timestamp,
    ) -> Result<u64, StoreError> {
        match self.store.subscription(subscription).await {
            // Another process has made it or turned it on, and this one is about to know.
            Ok(found) if found.status == SubscriptionStatus::On => return Ok(0),
            Ok(_) | Err(StoreError::NotFound) => {}
            Err(error) => return Err(error),
        }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::directory::Defaults;
    use crate::model::{Options, ReplayRange, Secret, Subscription, SubscriptionId};
    use crate::store;
    use crate::target::Guard;
    use crate::testing::{Folder, ManualClock};
    use crate::vault::Vault;

    struct Bench {
        replayer: Replayer,
        credits: Credits,
        _folder: Folder,
    }

    fn start() -> Timestamp {
        Timestamp::from_second(1_700_000_000).unwrap()
    }

    fn subscription() -> Subscription {
        Subscription {
            id: SubscriptionId("sub_1".into()),
            revision: 1,
            tenant: Some("blue".into()),
            target_url: "https://example.com/".into(),
            events: vec!["contact.*".into()],
            status: SubscriptionStatus::On,
            off_reason: None,
            description: None,
            format: crate::model::Format::Raw,
            metadata: Default::default(),
            options: Options::default(),
            credentials: Default::default(),
            secrets: vec![Secret { key: vec![7; 32], expires_at: None }],
            expires_at: None,
            failing_since: None,
            created_at: start(),
            updated_at: start(),
        }
    }

    fn event(number: usize, event_type: &str, tenant: &str) -> Event {
        Event {
            id: format!("{event_type}{tenant}{number}"),
            source: "/test".into(),
            event_type: event_type.into(),
            subject: None,
            time: start(),
            datacontenttype: None,
            data: None,
            tenant: Some(tenant.into()),
            extensions: Default::default(),
        }
    }

    impl Bench {
        /// A store with `count` past events, nobody's yet, and a subscription that joins late.
        async fn new(count: usize) -> Self {
            let folder = Folder::new();
            let url = format!("sqlite:{}", folder.path("test.db").display());
            let store = store::embedded(&url, Vault::new(&[1; 32])).unwrap();
            let directory = Directory::load(&*store, Guard::default(), Defaults::default()).await.unwrap();
            let past = (0..count).map(|number| event(number, "contact.create", "blue"));
            let others = [event(0, "contact.create", "red"), event(0, "order.create", "blue")];
            let batch = past.chain(others).map(|event| directory.address(event, start())).collect();
            store.accept(batch, start()).await.unwrap();
            store.create_subscription(subscription(), Note::default()).await.unwrap();
            directory.put(subscription());
            let replayer = Replayer {
                store,
                directory: Arc::new(directory),
                board: Arc::default(),
                asked: Arc::default(),
                clock: Arc::new(ManualClock::at(start())),
                metrics: Arc::default(),
            };
            Self { replayer, credits: Credits::new(), _folder: folder }
        }

        async fn ask(&self, rate: Option<&str>) -> ReplayId {
            let replay = Replay {
                id: ReplayId("rpl_1".into()),
                kind: ReplayKind::Replay,
                subscription: Some(SubscriptionId("sub_1".into())),
                range: ReplayRange { rate: rate.map(str::to_owned), ..ReplayRange::default() },
                status: ReplayStatus::Running,
                first: 0,
                position: 0,
                last: 0,
                made: 0,
                created_at: start(),
                ended_at: None,
            };
            self.replayer.store.create_replay(replay, Note::default()).await.unwrap().id
        }

        /// Gives a replay some turns; returns how many deliveries it has made after each.
        async fn turns(&mut self, id: &ReplayId, count: usize) -> Vec<u64> {
            let mut made = Vec::new();
            for _ in 0..count {
                self.replayer.turn(&mut self.credits).await.unwrap();
                made.push(self.replayer.store.replay(id).await.unwrap().made);
            }
            made
        }
    }

    #[tokio::test]
    async fn a_replay_keeps_to_its_rate() {
        let mut bench = Bench::new(50).await;
        let id = bench.ask(Some("25/s")).await;
        // A turn is a tenth of a second: two and a half deliveries each.
        assert_eq!(bench.turns(&id, 6).await, [2, 5, 7, 10, 12, 15]);
    }

    #[tokio::test]
    async fn a_replay_waits_while_much_is_pending_and_then_goes_on() {
        let mut bench = Bench::new(limits::REPLAY_PENDING + 50).await;
        let id = bench.ask(Some("100000/s")).await;
        let full = limits::REPLAY_PENDING as u64;
        assert_eq!(bench.turns(&id, 2).await, [full, full]);
        let store = bench.replayer.store.clone();
        let subscription = SubscriptionId("sub_1".into());
        store.cancel_pending(subscription, "made room".into(), limits::REPLAY_CHUNK, start()).await.unwrap();
        assert_eq!(bench.turns(&id, 1).await, [full + 50]);
    }

    #[tokio::test]
    async fn only_what_the_subscription_wants_and_may_see_is_replayed() {
        let mut bench = Bench::new(3).await;
        let id = bench.ask(None).await;
        bench.turns(&id, 1).await;
        let done = bench.replayer.store.replay(&id).await.unwrap();
        assert_eq!((done.made, done.status, done.last - done.first + 1), (3, ReplayStatus::Done, 5));
    }

    #[tokio::test]
    async fn a_replay_ends_with_its_subscription() {
        let mut bench = Bench::new(3).await;
        let id = bench.ask(None).await;
        let subscription = SubscriptionId("sub_1".into());
        bench.replayer.directory.remove(&subscription);
        assert_eq!(bench.turns(&id, 1).await, [0]);
        let replay = bench.replayer.store.replay(&id).await.unwrap();
        assert_eq!(replay.status, ReplayStatus::Running, "this process is only behind");
        bench.replayer.store.delete_subscription(subscription, Note::default()).await.unwrap();
        assert_eq!(bench.turns(&id, 1).await, [0]);
        assert_eq!(bench.replayer.store.replay(&id).await.unwrap().status, ReplayStatus::Cancelled);
    }
}
