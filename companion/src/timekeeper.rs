//! Keeps due times right when the wall clock is set back: see [`crate::clock`].

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;

use crate::board::Board;
use crate::clock::{Clock, Jumps};
use crate::limits;
use crate::store::{EventQuery, Store, StoreError};
use crate::telemetry::Metrics;

/// All that keeping time needs.
pub struct Timekeeper {
    /// Where the due times are.
    pub store: Arc<dyn Store>,
    /// What wakes the worker.
    pub board: Arc<Board>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    jumps: Jumps,
}

impl Timekeeper {
    /// Begins with a time that has passed, that of the newest event: where it lies ahead, the clock was set back while no
    /// companion ran. Looks before any event is accepted, because the first one would hide that.
    ///
    /// # Errors
    /// Where the store does not answer.
    pub async fn begin(
        store: Arc<dyn Store>,
        board: Arc<Board>,
        clock: Arc<dyn Clock>,
        metrics: Arc<Metrics>,
    ) -> Result<Self, StoreError> {
        let newest = store.events(EventQuery { limit: 1, ..EventQuery::default() }).await?;
        let (now, elapsed) = (clock.now(), clock.elapsed());
        let mut jumps = Jumps::since(newest.first().map_or(now, |newest| newest.accepted_at), elapsed);
        let back = jumps.back(now, elapsed);
        let timekeeper = Self { store, board, clock, metrics, jumps };
        if let Some(back) = back {
            timekeeper.put_right(back, now).await?;
        }
        Ok(timekeeper)
    }

    /// Looks at the clock every [`limits::CLOCK_EVERY`], until `stop` turns true.
    pub async fn run(mut self, mut stop: watch::Receiver<bool>) {
        let mut ticks = tokio::time::interval(limits::CLOCK_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut owed = Duration::ZERO;
        while !*stop.borrow() {
            tokio::select! {
                _ = ticks.tick() => {
                    let now = self.clock.now();
                    owed += self.jumps.back(now, self.clock.elapsed()).unwrap_or_default();
                    if owed.is_zero() {
                        continue;
                    }
                    match self.put_right(owed, now).await {
                        Ok(()) => owed = Duration::ZERO,
                        Err(error) => self.failed(&error),
                    }
                }
                // An error means that nobody is left to say stop; that is a stop.
                changed = stop.changed() => if changed.is_err() { break },
            }
        }
    }

    /// Brings back what is pending, and has the worker look at it; on an error that has to be done again.
    async fn put_right(&self, back: Duration, now: Timestamp) -> Result<(), StoreError> {
        let deliveries = self.store.shift_due(back, now).await?;
        let due = self.store.due().await?;
        let back_s = back.as_secs();
        tracing::warn!(back_s, deliveries, "the clock was set back; due times were brought back with it");
        self.board.wake(due.into_iter().map(|(subscription, _)| subscription));
        Ok(())
    }

    fn failed(&self, error: &StoreError) {
        self.metrics.store_errors.inc();
        let consequence = "due times were not brought back with the clock; they will be";
        tracing::error!(error = format!("{error:#?}"), "{consequence}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{DeliveryId, Event, SubscriptionId};
    use crate::retry::later;
    use crate::store::{self, NewDelivery, NewEvent};
    use crate::testing::{Folder, ManualClock};
    use crate::vault::Vault;

    const HOUR: Duration = Duration::from_secs(3600);

    fn start() -> Timestamp {
        Timestamp::from_second(1_700_000_000).unwrap()
    }

    /// A delivery that is due at `due`, of an event accepted at `accepted`; a timekeeper that begins when the clock says
    /// `now`, and then it is set to `set`. Returns when the delivery is due once the worker was told to look.
    async fn due_again(accepted: Timestamp, due: Timestamp, now: Timestamp, set: Timestamp) -> Timestamp {
        let folder = Folder::new();
        let url = format!("sqlite:{}", folder.path("test.db").display());
        let store = store::embedded(&url, Vault::new(&[1; 32])).unwrap();
        let event = |id: &str, deliveries| {
            let event = Event {
                id: id.into(),
                source: "/test".into(),
                event_type: "contact.create".into(),
                subject: None,
                time: accepted,
                datacontenttype: None,
                data: None,
                tenant: None,
                extensions: Default::default(),
            };
            vec![NewEvent { event: event.into(), deliveries }]
        };
        let subscription = SubscriptionId("sub_1".into());
        let delivery = NewDelivery {
            id: DeliveryId("dlv_1".into()),
            subscription: subscription.clone(),
            due_at: due,
            resource: None,
            lease: None,
        };
        store.accept(event("1", vec![delivery]), accepted).await.unwrap();
        let (clock, board) = (Arc::new(ManualClock::at(now)), Arc::new(Board::default()));
        let timekeeper =
            Timekeeper::begin(store.clone(), board.clone(), clock.clone(), Arc::default()).await.unwrap();
        store.accept(event("2", Vec::new()), now).await.unwrap();
        let (stop, stopped) = watch::channel(false);
        let set_clock = async {
            // Tokio's time is paused, so this takes none; the timekeeper has looked at the clock meanwhile.
            tokio::time::sleep(2 * limits::CLOCK_EVERY).await;
            clock.set(set);
            assert!(board.receive().await.woken.contains(&subscription));
            stop.send(true).unwrap();
        };
        tokio::join!(timekeeper.run(stopped), set_clock);
        store.due().await.unwrap()[0].1
    }

    /// The clock that nobody sets goes on during the test, so a jump is seen a little larger than it was.
    fn assert_about(due: Timestamp, expected: Timestamp) {
        assert!(due <= expected && later(due, Duration::from_secs(60)) > expected, "{due}, not {expected}");
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_pending_goes_back_with_the_clock() {
        let (noon, one, two) = (start(), later(start(), HOUR), later(start(), 2 * HOUR));
        let due = due_again(noon, later(two, HOUR / 6), two, one).await;
        assert_about(due, later(one, HOUR / 6));
    }

    #[tokio::test(start_paused = true)]
    async fn a_clock_set_back_before_the_start_is_seen_by_what_was_accepted() {
        let (noon, one) = (start(), later(start(), HOUR));
        let due = due_again(one, later(one, HOUR / 6), noon, noon).await;
        assert_about(due, later(noon, HOUR / 6));
    }
}
