//! Keeps due times right when the wall clock is set back: see [`crate::clock`].

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;

use crate::clock::{Clock, Jumps};
use crate::limits;
use crate::queue::Queue;
use crate::store::{EventQuery, Store, StoreError};
use crate::telemetry::Metrics;

/// All that keeping time needs.
pub struct Timekeeper {
    /// Where the due times are.
    pub store: Arc<dyn Store>,
    /// What wakes the worker.
    pub queue: Arc<Queue>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
}

impl Timekeeper {
    /// Looks at the clock every [`limits::CLOCK_EVERY`], until `stop` turns true.
    pub async fn run(self, mut stop: watch::Receiver<bool>) {
        let mut ticks = tokio::time::interval(limits::CLOCK_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut owed = Duration::ZERO;
        let mut jumps = Jumps::since(self.last_known().await, self.clock.elapsed());
        while !*stop.borrow() {
            tokio::select! {
                _ = ticks.tick() => {
                    let now = self.clock.now();
                    owed += jumps.back(now, self.clock.elapsed()).unwrap_or_default();
                    if !owed.is_zero() && self.put_right(owed, now).await {
                        owed = Duration::ZERO;
                    }
                }
                // An error means that nobody is left to say stop; that is a stop.
                changed = stop.changed() => if changed.is_err() { break },
            }
        }
    }

    /// A time that has passed: that of the newest event. Where it lies ahead, the clock was set back while no companion ran.
    async fn last_known(&self) -> Timestamp {
        let newest = self.store.events(EventQuery { limit: 1, ..EventQuery::default() }).await;
        let newest = newest.unwrap_or_else(|error| {
            self.failed(&error, "whether the clock was set back is not known");
            Vec::new()
        });
        newest.first().map_or_else(|| self.clock.now(), |newest| newest.accepted_at)
    }

    /// Brings back what is pending, and has the worker look at it; false where that has to be done again.
    async fn put_right(&self, back: Duration, now: Timestamp) -> bool {
        let shifted = async {
            let count = self.store.shift_due(back, now).await?;
            Ok((count, self.store.due().await?))
        };
        match shifted.await {
            Ok((deliveries, due)) => {
                let back_s = back.as_secs();
                tracing::warn!(
                    back_s,
                    deliveries,
                    "the clock was set back; due times were brought back with it"
                );
                self.queue.publish(due.into_iter().map(|(subscription, _)| subscription));
                true
            }
            Err(error) => {
                self.failed(&error, "due times were not brought back with the clock; they will be");
                false
            }
        }
    }

    fn failed(&self, error: &StoreError, consequence: &str) {
        self.metrics.store_errors.inc();
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
        let store = store::connect(&url, Vault::new(&[1; 32])).unwrap();
        let event = Event {
            id: "1".into(),
            source: "/test".into(),
            event_type: "contact.create".into(),
            subject: None,
            time: accepted,
            datacontenttype: None,
            data: None,
            tenant: None,
            extensions: Default::default(),
        };
        let subscription = SubscriptionId("sub_1".into());
        let delivery = NewDelivery {
            id: DeliveryId("dlv_1".into()),
            subscription: subscription.clone(),
            due_at: due,
            resource: None,
            lease: None,
        };
        store
            .accept(vec![NewEvent { event: event.into(), deliveries: vec![delivery] }], accepted)
            .await
            .unwrap();
        let (clock, queue) = (Arc::new(ManualClock::at(now)), Arc::new(Queue::default()));
        let timekeeper = Timekeeper {
            store: store.clone(),
            queue: queue.clone(),
            clock: clock.clone(),
            metrics: Arc::default(),
        };
        let (stop, stopped) = watch::channel(false);
        let set_clock = async {
            // Tokio's time is paused, so this takes none; the timekeeper has looked at the clock meanwhile.
            tokio::time::sleep(2 * limits::CLOCK_EVERY).await;
            clock.set(set);
            assert!(queue.receive().await.woken.contains(&subscription));
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
