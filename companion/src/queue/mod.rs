//! Wakes workers in other processes: says which deliveries are due now.
//!
//! A queue carries ids of deliveries and nothing else; the database keeps the truth. What a queue loses the sweep finds,
//! what it brings twice has been claimed already. So publishing never fails and never waits, and no state has two owners.
//! Within one process [`crate::board`] does the same, and processes without a queue tell each other through the store.

use std::sync::Arc;

use async_trait::async_trait;

use crate::model::DeliveryId;

// What every backend is made of.
mod handle;
mod inbox;
mod message;
mod outbox;
mod retrying;

mod rabbitmq;
mod sqs;

/// A message that was received; dropping it tells the queue that it is settled.
///
/// It is kept until the attempt is recorded or the delivery is given back: a process that dies settles nothing, so the
/// queue brings its messages to another one.
pub struct Ticket(Option<Box<dyn FnOnce() + Send + Sync>>);

impl Ticket {
    /// A ticket that runs `settle` when it is dropped.
    pub fn new(settle: impl FnOnce() + Send + Sync + 'static) -> Self {
        Self(Some(Box::new(settle)))
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if let Some(settle) = self.0.take() {
            settle();
        }
    }
}

impl std::fmt::Debug for Ticket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Ticket")
    }
}

/// A delivery that a queue named.
#[derive(Debug)]
pub struct Call {
    /// Which.
    pub delivery: DeliveryId,
    /// The message.
    pub ticket: Ticket,
}

/// A queue between processes.
#[async_trait]
pub trait Queue: Send + Sync {
    /// Says that these deliveries are due now. Returns at once and never fails: what cannot be sent, because the queue is
    /// away for longer than a bounded buffer lasts, is counted and forgotten.
    fn publish(&self, deliveries: Vec<DeliveryId>);
    /// Waits for the next calls, one at least, as many as have come up to `limits::CALLS`; for ever while the queue is away. One
    /// receiver per process. No more than `limits::CALLS_HELD` are unsettled at a time.
    async fn receive(&self) -> Vec<Call>;
    /// Whether the queue is there now.
    fn is_up(&self) -> bool;
    /// Deliveries that were forgotten since the start.
    fn forgotten(&self) -> u64;
    /// Sends what waits to be sent, and settles what is settled; for a process that stops.
    async fn close(&self);
}

/// Connects to the queue that a URL names; `None` for `embedded:`, which needs none.
///
/// # Errors
/// One sentence: an unknown scheme, a server that cannot be reached, a queue of the wrong type.
pub async fn connect(url: &str) -> anyhow::Result<Option<Arc<dyn Queue>>> {
    match url.split_once(':') {
        Some(("embedded", "")) => Ok(None),
        Some(("amqp" | "amqps", _)) => Ok(Some(rabbitmq::connect(url).await?)),
        Some(("sqs", _)) => Ok(Some(sqs::connect(url).await?)),
        _ => anyhow::bail!(
            "`{}` names no queue; use embedded:, amqp://… or sqs://…",
            crate::store::redacted(url)
        ),
    }
}
