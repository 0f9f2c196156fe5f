//! Writes what was counted for charts to the store, every few seconds and at a stop: see [`crate::statistics`].

use std::sync::Arc;

use tokio::sync::watch;
use tokio::time::MissedTickBehavior;

use crate::limits;
use crate::statistics::Statistics;
use crate::store::Store;
use crate::telemetry::Metrics;

/// All that writing the counts needs.
pub struct Bookkeeper {
    /// Where they are added.
    pub store: Arc<dyn Store>,
    /// What the worker counts.
    pub statistics: Arc<Statistics>,
    /// What went wrong is counted.
    pub metrics: Arc<Metrics>,
}

impl Bookkeeper {
    /// Writes every [`limits::STATISTICS_EVERY`], less often where there is much, until `stop` turns true. What the worker counts while it ends is left for
    /// one more [`Bookkeeper::write`].
    pub async fn run(self: Arc<Self>, mut stop: watch::Receiver<bool>) {
        let mut interval = tokio::time::interval(limits::STATISTICS_EVERY);
        interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut put_off = 0;
        while !*stop.borrow() {
            tokio::select! {
                _ = interval.tick() => {
                    let is_much = self.statistics.collector().pairs() > limits::STATISTICS_FEW;
                    if is_much && put_off < limits::STATISTICS_PUT_OFF {
                        put_off += 1;
                        continue;
                    }
                    put_off = 0;
                    self.write().await;
                }
                // An error means that nobody is left to say stop; that is a stop.
                changed = stop.changed() => if changed.is_err() { break },
            }
        }
    }

    /// Writes what was counted by now; what the store does not take is kept for the next time.
    pub async fn write(&self) {
        let (taken, left_out) = {
            let mut collector = self.statistics.collector();
            (collector.take(), collector.left_out())
        };
        if left_out > 0 {
            tracing::warn!(
                attempts = left_out,
                "more is delivered than charts have room for; they show less"
            );
        }
        let mut rows = taken.rows();
        while !rows.is_empty() {
            let rest = rows.split_off(rows.len().min(limits::STATISTICS_CHUNK));
            let chunk = std::mem::replace(&mut rows, rest);
            if let Err(error) = self.store.add_statistics(chunk.clone()).await {
                self.metrics.store_errors.inc();
                tracing::error!(error = format!("{error:#?}"), "what charts show was not written yet");
                let mut collector = self.statistics.collector();
                collector.give_back(chunk);
                collector.give_back(rows);
                return;
            }
        }
    }
}
