//! The handle of a queue: buffers in front, and tasks behind them that talk to the server.
//!
//! Backends bring the tasks. They end when the handle is closed or dropped, and nothing that a server does ends them.

use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::inbox::Inbox;
use super::outbox::Outbox;
use super::retrying::Way;
use super::{Call, Queue};
use crate::limits;
use crate::model::DeliveryId;

/// What the handle and its tasks share.
pub(super) struct Shared {
    /// What waits to be sent.
    pub(super) outbox: Outbox,
    /// What came.
    pub(super) inbox: Inbox,
    /// The way out.
    pub(super) publishing: Way,
    /// The way in.
    pub(super) receiving: Way,
    closing: watch::Sender<bool>,
}

impl Shared {
    /// Empty buffers, and ways that stand.
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            outbox: Outbox::default(),
            inbox: Inbox::new(),
            publishing: Way::new("publishing"),
            receiving: Way::new("receiving"),
            closing: watch::Sender::new(false),
        })
    }

    /// Waits until the process stops.
    pub(super) async fn closing(&self) {
        // The sender is ours, so the wait cannot fail.
        let _ = self.closing.subscribe().wait_for(|closing| *closing).await;
    }
}

/// The handle.
pub(super) struct Handle {
    shared: Arc<Shared>,
    tasks: Mutex<Vec<JoinHandle<()>>>,
}

impl Handle {
    /// A queue of these tasks.
    pub(super) fn queue(shared: Arc<Shared>, tasks: Vec<JoinHandle<()>>) -> Arc<dyn Queue> {
        Arc::new(Self { shared, tasks: Mutex::new(tasks) })
    }
}

#[async_trait]
impl Queue for Handle {
    fn publish(&self, deliveries: Vec<DeliveryId>) {
        self.shared.outbox.push(deliveries);
    }

    async fn receive(&self) -> Vec<Call> {
        self.shared.inbox.receive().await
    }

    fn is_up(&self) -> bool {
        self.shared.publishing.is_up() && self.shared.receiving.is_up()
    }

    fn forgotten(&self) -> u64 {
        self.shared.outbox.forgotten()
    }

    async fn close(&self) {
        self.shared.outbox.close();
        self.shared.closing.send_replace(true);
        let mut tasks = std::mem::take(&mut *self.tasks.lock().unwrap_or_else(PoisonError::into_inner));
        let ended = futures_util::future::join_all(tasks.iter_mut());
        if tokio::time::timeout(limits::QUEUE_CLOSE, ended).await.is_err() {
            tasks.iter().for_each(JoinHandle::abort);
        }
        self.shared.outbox.abandon();
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        let tasks = self.tasks.get_mut().unwrap_or_else(PoisonError::into_inner);
        tasks.iter().for_each(JoinHandle::abort);
    }
}
