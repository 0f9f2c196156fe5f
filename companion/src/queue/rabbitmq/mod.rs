//! RabbitMQ: a durable quorum queue, one message for each delivery, confirmed when it is published and acknowledged by hand.
//!
//! Publishing and receiving have a connection each, owned by a task each: RabbitMQ stops reading from who publishes when it
//! runs out of memory or disk, and must read acknowledgements to get some back. What was received on a connection is
//! acknowledged on that connection or not at all, because delivery tags belong to a channel.

use std::sync::Arc;

use super::Queue;
use super::handle::{Handle, Shared};

mod consumer;
mod publisher;
mod server;

use server::Server;

/// Connects, and makes the queue if it is not there.
///
/// # Errors
/// One sentence: a URL that is none, a server that cannot be reached or refuses us, a queue of another type.
pub(super) async fn connect(url: &str) -> anyhow::Result<Arc<dyn Queue>> {
    let server = Arc::new(Server::parse(url)?);
    let session = server.connect().await?;
    let shared = Shared::new();
    let publisher = publisher::run(Arc::clone(&server), Arc::clone(&shared), session);
    let tasks = vec![tokio::spawn(publisher), tokio::spawn(consumer::run(server, Arc::clone(&shared)))];
    Ok(Handle::queue(shared, tasks))
}
