//! Forgets what ended long ago, or is more than is kept: deliveries with their attempts, then the events that no delivery
//! needs; old lines of the audit log, replays that have ended and counts for charts.
//!
//! Works in the background, in chunks so small that nobody who waits for the store notices. What is pending is never
//! touched, however old.

use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;

use crate::clock::Clock;
use crate::limits;
use crate::store::{Store, StoreError};
use crate::telemetry::Metrics;

/// All that pruning needs.
pub struct Retention {
    /// Where to prune.
    pub store: Arc<dyn Store>,
    /// How long what ended is kept.
    pub keep: Duration,
    /// How many events are kept, the newest; `None`: as many as are young enough.
    pub keep_events: Option<u64>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
}

impl Retention {
    /// Prunes now and every [`limits::PRUNE_EVERY`], until `stop` turns true.
    pub async fn run(self, mut stop: watch::Receiver<bool>) {
        let mut interval = tokio::time::interval(limits::PRUNE_EVERY);
        interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while !*stop.borrow() {
            tokio::select! {
                _ = interval.tick() => self.prune(&stop).await,
                // An error means that nobody is left to say stop; that is a stop.
                changed = stop.changed() => if changed.is_err() { break },
            }
        }
    }

    /// Prunes all that ended before now less `keep` or is more than is kept, chunk by chunk; a stop or an error of the store
    /// puts the rest off.
    async fn prune(&self, stop: &watch::Receiver<bool>) {
        let before = earlier(self.clock.now(), self.keep);
        let pruned = async {
            if !self.store.leads().await? {
                return Ok(());
            }
            self.prune_events(stop, before).await?;
            self.prune_log(stop, before).await?;
            self.prune_statistics(stop, before).await
        };
        if let Err(error) = pruned.await {
            self.metrics.store_errors.inc();
            tracing::error!(error = format!("{error:#?}"), "pruning was put off");
        }
    }

    async fn prune_events(&self, stop: &watch::Receiver<bool>, before: Timestamp) -> Result<(), StoreError> {
        let first_kept = match self.keep_events {
            Some(keep) => self.store.first_kept(keep).await?,
            None => 0,
        };
        let (mut after, mut events, mut deliveries) = (0, 0, 0);
        while !*stop.borrow() {
            let pruned = self.store.prune(after, limits::PRUNE_CHUNK, before, first_kept).await?;
            events += pruned.events;
            deliveries += pruned.deliveries;
            Metrics::count(&self.metrics.pruned, "kind", "events", pruned.events as u64);
            Metrics::count(&self.metrics.pruned, "kind", "deliveries", pruned.deliveries as u64);
            match pruned.next {
                Some(next) => after = next,
                None => break,
            }
        }
        if events + deliveries > 0 {
            tracing::info!(events, deliveries, %before, "pruned what ended before the retention time or is more than is kept");
        }
        Ok(())
    }

    async fn prune_log(&self, stop: &watch::Receiver<bool>, before: Timestamp) -> Result<(), StoreError> {
        while !*stop.borrow()
            && self.store.prune_log(limits::AUDIT_LINES, limits::PRUNE_CHUNK, before).await? > 0
        {}
        Ok(())
    }

    /// Counts of minutes go before those of hours, which are kept as long as deliveries.
    async fn prune_statistics(
        &self,
        stop: &watch::Receiver<bool>,
        before: Timestamp,
    ) -> Result<(), StoreError> {
        let minutes = before.max(earlier(self.clock.now(), limits::STATISTICS_MINUTES));
        while !*stop.borrow()
            && self.store.prune_statistics(minutes, before, limits::STATISTICS_CHUNK).await? > 0
        {}
        Ok(())
    }
}

/// `now` less a time span, at least the beginning of time.
fn earlier(now: Timestamp, span: Duration) -> Timestamp {
    SignedDuration::try_from(span).ok().and_then(|span| now.checked_sub(span).ok()).unwrap_or(Timestamp::MIN)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Event;
    use crate::retry::later;
    use crate::statistics::{Counts, HOUR_S, Key, MINUTE_S, Row, beginning};
    use crate::store::{self, ChartQuery, EventQuery, NewEvent};
    use crate::testing::{Folder, ManualClock};
    use crate::vault::Vault;

    const DAY: Duration = Duration::from_secs(24 * 3600);

    fn start() -> Timestamp {
        Timestamp::from_second(1_700_000_000).unwrap()
    }

    /// A store with more events than a chunk has, none of them wanted by anybody, and a clock.
    async fn bench(folder: &Folder) -> (Retention, Arc<ManualClock>) {
        let url = format!("sqlite:{}", folder.path("test.db").display());
        let store = store::embedded(&url, Vault::new(&[1; 32])).unwrap();
        let event = |number: usize| Event {
            id: number.to_string(),
            source: "/test".into(),
            event_type: "contact.create".into(),
            subject: None,
            time: start(),
            datacontenttype: None,
            data: None,
            tenant: None,
            extensions: Default::default(),
        };
        let batch = (0..2 * limits::PRUNE_CHUNK + 1)
            .map(|number| NewEvent { event: event(number).into(), deliveries: Vec::new() });
        store.accept(batch.collect(), start()).await.unwrap();
        let clock = Arc::new(ManualClock::at(start()));
        let metrics = Arc::default();
        let retention = Retention { store, keep: 30 * DAY, keep_events: None, clock: clock.clone(), metrics };
        (retention, clock)
    }

    async fn is_empty(store: &dyn Store) -> bool {
        store.events(EventQuery { limit: 1, ..Default::default() }).await.unwrap().is_empty()
    }

    #[tokio::test]
    async fn nothing_is_pruned_before_its_time_and_everything_after_it() {
        let folder = Folder::new();
        let (retention, clock) = bench(&folder).await;
        let (_stop, stopped) = watch::channel(false);
        for (now, expected) in [(30 * DAY, false), (30 * DAY + Duration::from_micros(1), true)] {
            clock.set(later(start(), now));
            retention.prune(&stopped).await;
            assert_eq!(is_empty(&*retention.store).await, expected);
        }
        let count = format!("gatehook_pruned_total{{kind=\"events\"}} {}\n", 2 * limits::PRUNE_CHUNK + 1);
        assert!(retention.metrics.text().contains(&count), "{}", retention.metrics.text());
    }

    #[tokio::test]
    async fn counts_for_charts_go_by_the_minute_first_and_by_the_hour_when_deliveries_do() {
        let folder = Folder::new();
        let (retention, clock) = bench(&folder).await;
        let (_stop, stopped) = watch::channel(false);
        let counts = Counts { attempts: 1, delivered: 1, ..Counts::default() };
        let row = |resolution_s| {
            let at = beginning(start(), resolution_s);
            let key =
                Key { resolution_s, at, subscription: String::new(), event_type: "a.b".into(), owner: 0 };
            Row { key, counts: counts.clone() }
        };
        retention.store.add_statistics(vec![row(MINUTE_S), row(HOUR_S)]).await.unwrap();
        let kept = async |step_s| {
            let query = ChartQuery {
                from: beginning(start(), HOUR_S),
                to: later(start(), DAY),
                step_s,
                subscriptions: None,
                owner: None,
                event_type: None,
                group: None,
                most_groups: 9,
                most_rows: 9,
            };
            retention.store.statistics(query).await.unwrap().unwrap().steps.len()
        };
        for (age, expected) in [(DAY, (1, 1)), (DAY + DAY / 12, (0, 1)), (31 * DAY, (0, 0))] {
            clock.set(later(start(), age));
            retention.prune(&stopped).await;
            assert_eq!((kept(MINUTE_S).await, kept(HOUR_S).await), expected, "{age:?}");
        }
    }

    #[tokio::test]
    async fn the_newest_events_are_kept_and_no_more_of_them_than_said() {
        let folder = Folder::new();
        let (_stop, stopped) = watch::channel(false);
        let (mut retention, _clock) = bench(&folder).await;
        for (keep, kept) in [(300, 201), (150, 150), (150, 150), (1, 1)] {
            retention.keep_events = Some(keep);
            retention.prune(&stopped).await;
            let query = EventQuery { limit: 999, ..Default::default() };
            let found = retention.store.events(query).await.unwrap();
            assert_eq!((found.len(), found[0].event.id.as_str()), (kept, "200"));
        }
    }

    #[tokio::test]
    async fn it_prunes_when_started_and_stops_when_told() {
        let folder = Folder::new();
        let (retention, clock) = bench(&folder).await;
        clock.set(later(start(), 31 * DAY));
        let (stop, stopped) = watch::channel(false);
        let store = retention.store.clone();
        let running = tokio::spawn(retention.run(stopped));
        while !is_empty(&*store).await {
            tokio::task::yield_now().await;
        }
        stop.send(true).unwrap();
        running.await.unwrap();
    }

    #[tokio::test]
    async fn a_stop_puts_the_rest_off() {
        let folder = Folder::new();
        let (retention, clock) = bench(&folder).await;
        clock.set(later(start(), 31 * DAY));
        let (_stop, stopped) = watch::channel(true);
        retention.prune(&stopped).await;
        assert!(!is_empty(&*retention.store).await);
    }

    #[test]
    fn a_retention_longer_than_time_prunes_nothing() {
        assert_eq!(earlier(start(), Duration::MAX), Timestamp::MIN);
    }
}
