//! Messages that this process holds: hidden from others until they are settled.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::Instant;

use crate::limits;
use crate::model::DeliveryId;
use crate::queue::inbox::Arrived;

/// What is held.
pub(super) struct Holdings {
    held: Mutex<HashMap<String, Instant>>,
    settled: mpsc::UnboundedSender<String>,
    /// Calls that may still be taken up.
    room: Arc<Semaphore>,
}

impl Holdings {
    /// Nothing yet; receipts of settled messages go to the sender.
    pub(super) fn new(settled: mpsc::UnboundedSender<String>) -> Self {
        Self { held: Mutex::default(), settled, room: Arc::new(Semaphore::new(limits::CALLS_HELD)) }
    }

    /// Waits until there is room for one message at least, and takes as much of it as a request may need.
    pub(super) async fn room(&self) -> OwnedSemaphorePermit {
        let each = u32::try_from(limits::CALLS_PER_MESSAGE).unwrap_or(u32::MAX);
        let Ok(mut room) = Arc::clone(&self.room).acquire_many_owned(each).await else {
            // Nobody closes the semaphore.
            return std::future::pending().await;
        };
        for _ in 1..limits::SQS_BATCH {
            match Arc::clone(&self.room).try_acquire_many_owned(each) {
                Ok(more) => room.merge(more),
                Err(_) => break,
            }
        }
        room
    }

    /// Holds a message that is hidden until then; what its ids need of the room stays taken as long as they do.
    pub(super) fn hold(
        self: &Arc<Self>,
        receipt: String,
        ids: Vec<DeliveryId>,
        until: Instant,
        room: &mut OwnedSemaphorePermit,
    ) -> Vec<Arrived> {
        self.lock().insert(receipt.clone(), until);
        let left = Arc::new((AtomicUsize::new(ids.len()), receipt));
        let arrived = |delivery| {
            let (holdings, left, place) = (Arc::clone(self), Arc::clone(&left), room.split(1));
            let settle = Box::new(move || {
                if left.0.fetch_sub(1, Ordering::AcqRel) == 1 {
                    holdings.settle(&left.1);
                }
                drop(place);
            });
            Arrived { delivery, settle }
        };
        ids.into_iter().map(arrived).collect()
    }

    /// Lets a message be deleted.
    pub(super) fn settle(&self, receipt: &str) {
        self.lock().remove(receipt);
        // Where the handle has gone, the message comes again.
        let _ = self.settled.send(receipt.to_owned());
    }

    /// Receipts of messages that are shown to others before then.
    pub(super) fn shown_before(&self, then: Instant) -> Vec<String> {
        self.lock().iter().filter(|(_, until)| **until < then).map(|(receipt, _)| receipt.clone()).collect()
    }

    /// Notes that messages are hidden until then, if they are held still.
    pub(super) fn hidden(&self, receipts: &[String], until: Instant) {
        let mut held = self.lock();
        for receipt in receipts {
            held.entry(receipt.clone()).and_modify(|known| *known = until);
        }
    }

    /// Forgets a message that others may see by now.
    pub(super) fn lose(&self, receipt: &str) {
        self.lock().remove(receipt);
    }

    /// Receipts of all that is held.
    pub(super) fn all(&self) -> Vec<String> {
        self.lock().keys().cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Instant>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_message_is_settled_when_the_last_of_its_ids_is() {
        let (settled, mut to_delete) = mpsc::unbounded_channel();
        let holdings = Arc::new(Holdings::new(settled));
        let mut room = holdings.room().await;
        let ids = vec![DeliveryId("dlv_1".into()), DeliveryId("dlv_2".into())];
        let mut arrived = holdings.hold("r".into(), ids, Instant::now(), &mut room);
        drop(room);
        assert_eq!(holdings.room.available_permits(), limits::CALLS_HELD - 2);
        (arrived.pop().unwrap().settle)();
        assert!(to_delete.try_recv().is_err());
        assert_eq!(holdings.all(), ["r"]);
        (arrived.pop().unwrap().settle)();
        assert_eq!(to_delete.try_recv().unwrap(), "r");
        assert!(holdings.all().is_empty());
        assert_eq!(holdings.room.available_permits(), limits::CALLS_HELD);
    }
}
