//! Receives by long polls: one while little comes, more side by side while they come back full.

use std::sync::Arc;
use std::time::Duration;

use aws_sdk_sqs::types::Message;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

use super::holdings::Holdings;
use super::server::Server;
use crate::limits;
use crate::queue::handle::Shared;
use crate::queue::message;
use crate::queue::retrying::Pauses;

/// Receives until the process stops, from the moment its worker asks.
pub(super) async fn run(server: Arc<Server>, shared: Arc<Shared>, holdings: Arc<Holdings>) {
    tokio::select! {
        () = shared.inbox.wanted() => {}
        () = shared.closing() => return,
    }
    let (mut polls, mut wanted, mut pauses) = (FuturesUnordered::new(), 1, Pauses::new());
    let mut pause = Duration::ZERO;
    loop {
        while polls.len() < wanted {
            polls.push(poll(&server, &shared, &holdings, pause));
        }
        let polled = tokio::select! {
            polled = polls.next() => polled,
            // What a poll under way brings now is shown to others again when its time is over.
            () = shared.closing() => return,
        };
        (wanted, pause) = match polled {
            Some(Ok(count)) => {
                pauses = Pauses::new();
                let change = if count == limits::SQS_BATCH { wanted + 1 } else { wanted.saturating_sub(1) };
                (change.clamp(1, limits::SQS_REQUESTS), Duration::ZERO)
            }
            Some(Err(error)) => {
                shared.receiving.down(&error);
                (1, pauses.next())
            }
            None => (1, Duration::ZERO),
        };
    }
}

/// Receives once, after a pause: how many messages came.
async fn poll(
    server: &Server,
    shared: &Shared,
    holdings: &Arc<Holdings>,
    pause: Duration,
) -> anyhow::Result<usize> {
    tokio::time::sleep(pause).await;
    let mut room = holdings.room().await;
    let messages = server.receive(room.num_permits() / limits::CALLS_PER_MESSAGE).await?;
    shared.receiving.up();
    let count = messages.len();
    for message in messages {
        take(message, shared, holdings, &mut room);
    }
    Ok(count)
}

fn take(message: Message, shared: &Shared, holdings: &Arc<Holdings>, room: &mut OwnedSemaphorePermit) {
    let Some(receipt) = message.receipt_handle else { return };
    match message::ids(message.body.as_deref().unwrap_or_default()) {
        Some(ids) => shared.inbox.extend(holdings.hold(receipt, ids, Instant::now() + limits::LEASE, room)),
        None => {
            shared.inbox.count_foreign();
            holdings.settle(&receipt);
        }
    }
}
