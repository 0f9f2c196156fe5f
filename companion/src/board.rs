//! What this process's worker is told: which subscriptions have deliveries due, and which deliveries are claimed for it already.
//!
//! It may forget all of it: the database keeps the truth, and the sweep finds what was missed. Waking a subscription twice
//! is waking it once, so the names are bounded by the subscriptions there are, and the deliveries by [`crate::ahead`].

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use tokio::sync::Notify;

use crate::ahead::Ready;
use crate::model::SubscriptionId;

/// Where the worker looks.
#[derive(Default)]
pub struct Board {
    waiting: Mutex<Arrived>,
    arrived: Notify,
}

/// What has come since it was last asked for.
#[derive(Debug, Default)]
pub struct Arrived {
    /// Subscriptions with deliveries due.
    pub woken: BTreeSet<SubscriptionId>,
    /// Deliveries to send, in the order of their acceptance.
    pub ready: Vec<Ready>,
}

impl Board {
    /// Says that these have deliveries due.
    pub fn wake(&self, subscriptions: impl IntoIterator<Item = SubscriptionId>) {
        self.hand_over(Vec::new(), subscriptions);
    }

    /// Hands deliveries over that were claimed as they were accepted, and says which subscriptions have others due.
    pub fn hand_over(&self, ready: Vec<Ready>, subscriptions: impl IntoIterator<Item = SubscriptionId>) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.woken.extend(subscriptions);
        waiting.ready.extend(ready);
        drop(waiting);
        self.arrived.notify_one();
    }

    /// Waits for what comes next; that may be nothing. One receiver only.
    pub async fn receive(&self) -> Arrived {
        self.arrived.notified().await;
        self.take()
    }

    /// What has come so far.
    pub fn take(&self) -> Arrived {
        std::mem::take(&mut *self.waiting.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_was_published_before_anyone_waited_is_received_once() {
        let board = Board::default();
        let id = |name: &str| SubscriptionId(name.to_owned());
        board.wake([id("a"), id("b")]);
        board.wake([id("a")]);
        let received: Vec<_> = board.receive().await.woken.into_iter().collect();
        assert_eq!(received, [id("a"), id("b")]);
        board.wake([id("c")]);
        assert_eq!(board.receive().await.woken.len(), 1);
    }
}
