//! Wakes the worker: which subscriptions have deliveries due.
//!
//! It carries names only and may forget them: the database keeps the truth, and the sweep finds what was missed. Waking
//! a subscription twice is waking it once, so the queue is bounded by the subscriptions there are.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

use tokio::sync::Notify;

use crate::model::SubscriptionId;

/// The embedded queue, inside one process.
#[derive(Default)]
pub struct Queue {
    waiting: Mutex<HashSet<SubscriptionId>>,
    arrived: Notify,
}

impl Queue {
    /// Says that these have deliveries due.
    pub fn publish(&self, subscriptions: impl IntoIterator<Item = SubscriptionId>) {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).extend(subscriptions);
        self.arrived.notify_one();
    }

    /// Waits for the next names; there may be none. One receiver only.
    pub async fn receive(&self) -> HashSet<SubscriptionId> {
        self.arrived.notified().await;
        std::mem::take(&mut *self.waiting.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_was_published_before_anyone_waited_is_received_once() {
        let queue = Queue::default();
        let id = |name: &str| SubscriptionId(name.to_owned());
        queue.publish([id("a"), id("b")]);
        queue.publish([id("a")]);
        let mut received: Vec<_> = queue.receive().await.into_iter().collect();
        received.sort();
        assert_eq!(received, [id("a"), id("b")]);
        queue.publish([id("c")]);
        assert_eq!(queue.receive().await.len(), 1);
    }
}
