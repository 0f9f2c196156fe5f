//! Amazon SQS: a standard queue, asked by long polls.
//!
//! SQS bills by request, and a request holds ten messages. So ids are spread over ten messages as long as that will do, one id
//! each where few wait, and only where many wait a message carries up to twenty: the same request takes two hundred then. A
//! message is kept from the others while one of its tickets lives, and is deleted when the last of them has gone.

use std::sync::Arc;

use tokio::sync::mpsc;

use super::Queue;
use super::handle::{Handle, Shared};

mod holdings;
mod keeper;
mod receiver;
mod sender;
mod server;
mod url;

use holdings::Holdings;
use server::Server;
use url::Place;

/// Sees that the queue is there and ours to use.
///
/// # Errors
/// One sentence: a URL that is none, a FIFO queue, no credentials, a server that cannot be reached or refuses us, no such queue.
pub(super) async fn connect(url: &str) -> anyhow::Result<Arc<dyn Queue>> {
    let server = Arc::new(Server::connect(Place::parse(url)?).await?);
    let shared = Shared::new();
    // Each settled message is one that is held, so there are no more of them than that.
    let (settled, to_delete) = mpsc::unbounded_channel();
    let holdings = Arc::new(Holdings::new(settled));
    let tasks = vec![
        tokio::spawn(sender::run(Arc::clone(&server), Arc::clone(&shared))),
        tokio::spawn(receiver::run(Arc::clone(&server), Arc::clone(&shared), Arc::clone(&holdings))),
        tokio::spawn(keeper::run(server, Arc::clone(&shared), holdings, to_delete)),
    ];
    Ok(Handle::queue(shared, tasks))
}
