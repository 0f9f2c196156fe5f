//! Sends what waits: a batch is published, then its confirms are awaited together.
//!
//! What is not confirmed is put back and published again; that a message may then come twice is harmless.

use std::sync::Arc;

use anyhow::Context;
use futures_util::StreamExt as _;
use futures_util::future::join_all;
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::{BasicProperties, Confirmation, Event};

use super::server::{Server, Session};
use crate::limits;
use crate::model::DeliveryId;
use crate::queue::handle::Shared;
use crate::queue::retrying::Pauses;

/// Survives a restart of the server.
const PERSISTENT: u8 = 2;

/// Publishes until the buffer is closed and empty; begins with a session that stands.
pub(super) async fn run(server: Arc<Server>, shared: Arc<Shared>, first: Session) {
    let (mut next, mut pauses) = (Some(first), Pauses::new());
    loop {
        let session = match next.take() {
            Some(session) => Ok(session),
            None => server.connect().await,
        };
        let ended = match session {
            Ok(session) => {
                shared.publishing.up();
                pauses.lasting(publish(&session, &server, &shared)).await
            }
            Err(error) => Err(error),
        };
        match ended {
            Ok(()) => return,
            Err(error) => shared.publishing.down(&error),
        }
        tokio::time::sleep(pauses.next()).await;
    }
}

/// Publishes on one session until it breaks; `Ok` when nothing will come any more.
async fn publish(session: &Session, server: &Server, shared: &Shared) -> anyhow::Result<()> {
    session.channel.confirm_select(ConfirmSelectOptions::default()).await?;
    let mut pauses = Pauses::new();
    let mut events = std::pin::pin!(session.connection.events_listener());
    loop {
        let batch = tokio::select! {
            batch = shared.outbox.take(limits::CALLS_PUBLISHED) => batch,
            event = events.next() => match event {
                Some(Event::Error(error)) => return Err(error.into()),
                Some(Event::ConnectionBlocked(why)) => {
                    shared.publishing.down(&anyhow::anyhow!("RabbitMQ takes nothing now: {why}"));
                    continue;
                }
                Some(Event::ConnectionUnblocked) => {
                    shared.publishing.up();
                    continue;
                }
                None => anyhow::bail!("the connection ended"),
                Some(_) => continue,
            },
        };
        if batch.is_empty() {
            session.end().await;
            return Ok(());
        }
        let (refused, error) = send(session, server, batch).await;
        let all_confirmed = refused.is_empty();
        shared.outbox.put_back(refused);
        match error {
            None if all_confirmed => {
                pauses = Pauses::new();
                shared.outbox.sent();
            }
            // The server is there but does not take it, as when the queue has a greatest length.
            None => tokio::time::sleep(pauses.next()).await,
            Some(error) => return Err(error),
        }
    }
}

/// The ids that were not confirmed, and what went wrong if the session is of no more use.
async fn send(
    session: &Session,
    server: &Server,
    batch: Vec<DeliveryId>,
) -> (Vec<DeliveryId>, Option<anyhow::Error>) {
    let published = join_all(batch.iter().map(|delivery| publish_one(session, server, delivery)));
    let Ok(confirmed) = tokio::time::timeout(limits::QUEUE_ANSWER, published).await else {
        return (batch, Some(anyhow::anyhow!("RabbitMQ did not confirm in time")));
    };
    let (mut refused, mut failed) = (Vec::new(), None);
    for (delivery, confirmed) in batch.into_iter().zip(confirmed) {
        match confirmed {
            Ok(true) => continue,
            Ok(false) => {}
            Err(error) => failed = Some(error),
        }
        refused.push(delivery);
    }
    (refused, failed)
}

/// Publishes one and waits for its confirm: whether the server has taken it.
async fn publish_one(session: &Session, server: &Server, delivery: &DeliveryId) -> anyhow::Result<bool> {
    // Mandatory: a queue that somebody deleted would swallow everything, and confirm it.
    let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
    let properties = BasicProperties::default().with_delivery_mode(PERSISTENT);
    let (queue, body) = (server.queue(), delivery.as_str().as_bytes());
    let sent = session.channel.basic_publish("".into(), queue, options, body, properties).await?;
    match sent.await.context("a message was not confirmed")? {
        Confirmation::Ack(None) => Ok(true),
        Confirmation::Ack(Some(_)) => anyhow::bail!("the queue is gone"),
        Confirmation::Nack(_) | Confirmation::NotRequested => Ok(false),
    }
}
