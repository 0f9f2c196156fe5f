//! Brings the worker what a queue between processes names.
//!
//! Claims all that a reading of the queue names in one step, so that a claim is as cheap as a message, and puts it on the
//! board. A message is settled when its delivery's attempt is recorded, is given back, or was never to be had.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::sync::watch;

use crate::ahead::Ready;
use crate::board::Board;
use crate::clock::Clock;
use crate::limits;
use crate::model::DeliveryId;
use crate::queue::{Call, Queue, Ticket};
use crate::retry::later;
use crate::store::{Named, Store, StoreError};
use crate::telemetry::Metrics;

/// All that a courier needs.
pub struct Courier {
    /// The truth.
    pub store: Arc<dyn Store>,
    /// What names deliveries.
    pub queue: Arc<dyn Queue>,
    /// Where the worker looks.
    pub board: Arc<Board>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
}

impl Courier {
    /// Runs until `stop` turns true.
    pub async fn run(self, mut stop: watch::Receiver<bool>) {
        while !*stop.borrow() {
            let calls = tokio::select! {
                calls = self.queue.receive() => calls,
                // An error means that nobody is left to say stop; that is a stop.
                changed = stop.changed() => if changed.is_err() { break } else { continue },
            };
            let mut tickets: HashMap<DeliveryId, Ticket> =
                calls.into_iter().map(|Call { delivery, ticket }| (delivery, ticket)).collect();
            // While the store is away nothing more is received; the queue keeps it.
            while let Err(error) = self.take_up(&mut tickets, &stop).await {
                self.metrics.store_errors.inc();
                tracing::error!(error = format!("{error:#?}"), "what a queue named was not claimed yet");
                tokio::select! {
                    () = tokio::time::sleep(limits::STORE_PAUSE) => {}
                    _ = stop.changed() => return,
                }
            }
        }
    }

    /// Claims what is to be had of these deliveries, and hands it to the worker with its tickets.
    async fn take_up(
        &self,
        tickets: &mut HashMap<DeliveryId, Ticket>,
        stop: &watch::Receiver<bool>,
    ) -> Result<(), StoreError> {
        let lease_until = later(self.clock.now(), limits::LEASE);
        let ids = tickets.keys().cloned().collect();
        let Named { claimed, due } = self.store.claim_named(ids, self.clock.now(), lease_until).await?;
        if *stop.borrow() {
            // Nobody looks at the board any more.
            let claims = claimed.into_iter().map(|(_, claimed)| (claimed.id, claimed.claim));
            return self.store.release(claims.collect(), self.clock.now()).await;
        }
        let ready = claimed.into_iter().map(|(subscription, claimed)| {
            let ticket = tickets.remove(&claimed.id);
            Ready { subscription, claimed, lease_until, place: None, ticket }
        });
        self.board.hand_over(ready.collect(), due);
        Ok(())
    }
}
