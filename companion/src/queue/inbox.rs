//! Ids that came, until the worker takes them.
//!
//! Nobody fetches any before the worker has asked once: a process that only publishes keeps nothing from the others.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, watch};

use super::{Call, Ticket};
use crate::limits;
use crate::model::DeliveryId;

/// An id that came. Dropped before it became a call, it settles nothing.
pub(super) struct Arrived {
    /// The delivery.
    pub(super) delivery: DeliveryId,
    /// What its ticket does when it is dropped.
    pub(super) settle: Box<dyn FnOnce() + Send + Sync>,
}

/// Where they wait. Who puts them in bounds them.
pub(super) struct Inbox {
    waiting: Mutex<VecDeque<Arrived>>,
    arrived: Notify,
    wanted: watch::Sender<bool>,
    /// Tickets that may still be given out. It outlives connections, as tickets do.
    free: Arc<Semaphore>,
    foreign: AtomicU64,
}

impl Inbox {
    /// An empty one.
    pub(super) fn new() -> Self {
        Self {
            waiting: Mutex::default(),
            arrived: Notify::new(),
            wanted: watch::Sender::new(false),
            free: Arc::new(Semaphore::new(limits::CALLS_HELD)),
            foreign: AtomicU64::new(0),
        }
    }

    /// Puts some in.
    pub(super) fn extend(&self, arrived: impl IntoIterator<Item = Arrived>) {
        self.lock().extend(arrived);
        self.arrived.notify_one();
    }

    /// Lets go of what waits: the server brings it again.
    pub(super) fn clear(&self) {
        self.lock().clear();
    }

    /// Counts a message that is none of ours, and tells of it ever more seldom.
    pub(super) fn count_foreign(&self) {
        let count = self.foreign.fetch_add(1, Ordering::Relaxed) + 1;
        if count.is_power_of_two() {
            tracing::warn!(count, "the queue brought a message that names no delivery; it is thrown away");
        }
    }

    /// Waits until the worker has asked for the first time.
    pub(super) async fn wanted(&self) {
        // The sender is ours, so the wait cannot fail.
        let _ = self.wanted.subscribe().wait_for(|wanted| *wanted).await;
    }

    /// See [`super::Queue::receive`].
    pub(super) async fn receive(&self) -> Vec<Call> {
        self.wanted.send_replace(true);
        let Ok(permit) = Arc::clone(&self.free).acquire_owned().await else {
            // Nobody closes the semaphore.
            return std::future::pending().await;
        };
        let first = loop {
            let next = self.lock().pop_front();
            match next {
                Some(arrived) => break arrived,
                None => self.arrived.notified().await,
            }
        };
        let mut calls = vec![call(first, permit)];
        while calls.len() < limits::CALLS {
            let Ok(permit) = Arc::clone(&self.free).try_acquire_owned() else { break };
            let Some(arrived) = self.lock().pop_front() else { break };
            calls.push(call(arrived, permit));
        }
        calls
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Arrived>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn call(arrived: Arrived, permit: OwnedSemaphorePermit) -> Call {
    let Arrived { delivery, settle } = arrived;
    let ticket = Ticket::new(move || {
        settle();
        drop(permit);
    });
    Call { delivery, ticket }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use futures_util::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn no_more_are_given_out_than_may_be_held_and_only_tickets_settle() {
        let (inbox, settled) = (Inbox::new(), Arc::new(AtomicUsize::new(0)));
        let arrived = |number: usize| {
            let settled = Arc::clone(&settled);
            let settle = Box::new(move || {
                settled.fetch_add(1, Ordering::Relaxed);
            });
            Arrived { delivery: DeliveryId(format!("dlv_{number}")), settle }
        };
        inbox.extend((0..limits::CALLS_HELD + 5).map(arrived));
        let mut held = Vec::new();
        while let Some(calls) = inbox.receive().now_or_never() {
            assert!(calls.len() <= limits::CALLS);
            held.extend(calls);
        }
        assert_eq!(held.len(), limits::CALLS_HELD);
        held.truncate(limits::CALLS_HELD - 3);
        assert_eq!(inbox.receive().await.len(), 3);
        inbox.clear();
        drop(held);
        assert_eq!(settled.load(Ordering::Relaxed), limits::CALLS_HELD + 3);
        assert!(inbox.receive().now_or_never().is_none());
    }
}
