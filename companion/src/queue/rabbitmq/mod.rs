//! RabbitMQ: a durable quorum queue, one message for each delivery, confirmed when it is published and acknowledged by hand.
//!
//! Publishing and receiving have a connection each, owned by a task each: RabbitMQ stops reading from who publishes when it
//! runs out of memory or disk, and must read acknowledgements to get some back. What was received on a connection is
//! acknowledged on that connection or not at all, because delivery tags belong to a channel.

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

mod consumer;
mod publisher;
mod server;

use server::Server;

/// What the handle and its two tasks share.
struct Shared {
    outbox: Outbox,
    inbox: Inbox,
    publishing: Way,
    receiving: Way,
    closing: watch::Sender<bool>,
}

impl Shared {
    /// Waits until the process stops.
    async fn closing(&self) {
        // The sender is ours, so the wait cannot fail.
        let _ = self.closing.subscribe().wait_for(|closing| *closing).await;
    }
}

/// The handle; both connections end with it.
struct RabbitMq {
    shared: Arc<Shared>,
    tasks: Mutex<Vec<JoinHandle<()>>>,
}

/// Connects, and makes the queue if it is not there.
///
/// # Errors
/// One sentence: a URL that is none, a server that cannot be reached or refuses us, a queue of another type.
pub(super) async fn connect(url: &str) -> anyhow::Result<Arc<dyn Queue>> {
    let server = Arc::new(Server::parse(url)?);
    let session = server.connect().await?;
    let shared = Arc::new(Shared {
        outbox: Outbox::default(),
        inbox: Inbox::new(),
        publishing: Way::new("publishing"),
        receiving: Way::new("receiving"),
        closing: watch::Sender::new(false),
    });
    let publisher = publisher::run(Arc::clone(&server), Arc::clone(&shared), session);
    let tasks = vec![tokio::spawn(publisher), tokio::spawn(consumer::run(server, Arc::clone(&shared)))];
    Ok(Arc::new(RabbitMq { shared, tasks: Mutex::new(tasks) }))
}

#[async_trait]
impl Queue for RabbitMq {
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

impl Drop for RabbitMq {
    fn drop(&mut self) {
        let tasks = self.tasks.get_mut().unwrap_or_else(PoisonError::into_inner);
        tasks.iter().for_each(JoinHandle::abort);
    }
}
