//! What processes on one database tell each other: `NOTIFY`, and a connection that only listens.
//!
//! A notification is told once, to who listens at that moment. So whoever was away is told [`Signal::Missed`], and looks.

use std::time::Duration;

use async_trait::async_trait;
use futures_util::StreamExt;
use futures_util::stream;
use jiff::Timestamp;
use tokio::sync::{Mutex, mpsc};
use tokio_postgres::AsyncMessage;

use super::connection::Server;
use super::transaction::{execute, row};
use super::{PostgresStore, subscriptions, time};
use crate::limits;
use crate::model::SubscriptionId;
use crate::store::{Sharing, Signal, StoreError};

/// The channel of a schema; the trigger in `0004_places.sql` writes it in the same way.
const CHANNEL: &str = "('gatehook.' || current_schema())::name::text";
/// A payload that says that the version has changed.
const CHANGED: &str = "changed";
/// What a payload begins with that names subscriptions.
const DUE: &str = "due ";
/// Bytes of a payload; PostgreSQL takes 7,999.
const PAYLOAD: usize = 7_900;
/// Pause between two tries to listen again, at first and at most.
const PAUSE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// The listening task, as seen from the store; it ends with it.
pub(super) struct Ear {
    signals: Mutex<mpsc::Receiver<Signal>>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Ear {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A connection that listens, as a stream of what it hears.
type Heard = std::pin::Pin<Box<dyn futures_util::Stream<Item = Option<Signal>> + Send>>;

impl Ear {
    /// Begins to listen: what is told after this returns is heard.
    pub(super) async fn open(server: Server) -> anyhow::Result<Self> {
        let heard = listen(&server).await?;
        let (sender, receiver) = mpsc::channel(limits::SIGNALS);
        let task = tokio::spawn(run(server, heard, sender));
        Ok(Self { signals: Mutex::new(receiver), task })
    }
}

/// Passes on what is heard, and listens again when the connection has broken.
async fn run(server: Server, mut heard: Heard, signals: mpsc::Sender<Signal>) {
    loop {
        while let Some(signal) = heard.next().await {
            let Some(signal) = signal else { continue };
            if signals.try_send(signal).is_err() {
                // What comes until somebody takes them is part of what is missed.
                tokio::select! {
                    sent = signals.send(Signal::Missed) => if sent.is_err() { return },
                    () = heard.by_ref().for_each(|_| std::future::ready(())) => break,
                }
            }
        }
        tracing::warn!("the connection that hears other processes was lost");
        heard = listen_again(&server).await;
        if signals.send(Signal::Missed).await.is_err() {
            return;
        }
    }
}

async fn listen_again(server: &Server) -> Heard {
    let mut pause = PAUSE.0;
    loop {
        match listen(server).await {
            Ok(heard) => return heard,
            Err(error) => tracing::debug!(error = format!("{error:#}"), "cannot listen yet"),
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(PAUSE.1);
    }
}

async fn listen(server: &Server) -> anyhow::Result<Heard> {
    let (client, mut connection) = server.connect().await?;
    let messages = stream::poll_fn(move |context| connection.poll_message(context));
    // Ends where the connection does; an error is its end.
    let mut messages = messages.take_while(|message| std::future::ready(message.is_ok())).boxed();
    // The client's requests only move while the connection is polled.
    {
        let ready = async {
            let channel = client.query_one(&format!("SELECT quote_ident({CHANNEL})"), &[]).await?;
            client.batch_execute(&format!("LISTEN {}", channel.get::<_, &str>(0))).await
        };
        tokio::pin!(ready);
        loop {
            tokio::select! {
                done = &mut ready => break done?,
                message = messages.next() => anyhow::ensure!(message.is_some(), "the connection was closed"),
            }
        }
    }
    // With the client the connection would end.
    Ok(messages
        .map(move |message| {
            let _ = &client;
            message.ok().and_then(signal)
        })
        .boxed())
}

fn signal(message: AsyncMessage) -> Option<Signal> {
    let AsyncMessage::Notification(told) = message else { return None };
    match told.payload().strip_prefix(DUE) {
        Some(ids) => Some(Signal::Due(ids.split(' ').map(|id| SubscriptionId(id.to_owned())).collect())),
        None if told.payload() == CHANGED => Some(Signal::Changed),
        None => None,
    }
}

/// Payloads that name these subscriptions, no one too long. An id with a space is not one of ours.
fn payloads(subscriptions: &[SubscriptionId]) -> Vec<String> {
    let mut payloads = Vec::<String>::new();
    for id in subscriptions.iter().map(SubscriptionId::as_str).filter(|id| !id.contains([' ', '\0'])) {
        match payloads.last_mut() {
            Some(last) if last.len() + id.len() < PAYLOAD => {
                last.push(' ');
                last.push_str(id);
            }
            _ => payloads.push(format!("{DUE}{id}")),
        }
    }
    payloads
}

#[async_trait]
impl Sharing for PostgresStore {
    fn is_shared(&self) -> bool {
        true
    }

    async fn leads(&self) -> Result<bool, StoreError> {
        self.leader.is_this(&self.database).await
    }

    async fn version(&self) -> Result<i64, StoreError> {
        let found = row(&self.database.get().await?, "SELECT version FROM places", &[]).await?;
        Ok(found.ok_or(StoreError::NotFound)?.get(0))
    }

    async fn revisions(&self) -> Result<Vec<(SubscriptionId, i64)>, StoreError> {
        subscriptions::revisions(&self.database.get().await?).await
    }

    async fn announce(&self, subscriptions: Vec<SubscriptionId>) -> Result<(), StoreError> {
        let payloads = payloads(&subscriptions);
        if payloads.is_empty() {
            return Ok(());
        }
        let sql = format!("SELECT pg_notify({CHANNEL}, payload) FROM unnest($1::text[]) AS payload");
        execute(&self.database.get().await?, &sql, &[&payloads]).await?;
        Ok(())
    }

    async fn signal(&self) -> Signal {
        match self.ear.signals.lock().await.recv().await {
            Some(signal) => signal,
            // The task ends with the store alone.
            None => std::future::pending().await,
        }
    }

    async fn clock(&self) -> Result<Option<Timestamp>, StoreError> {
        let sql = "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint";
        let found = row(&self.database.get().await?, sql, &[]).await?;
        Ok(found.map(|row| time(row.get(0))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_subscriptions_are_named_in_several_payloads_that_fit() {
        let ids: Vec<_> = (0..1_000).map(|number| SubscriptionId(format!("sub_{number:036}"))).collect();
        let payloads = payloads(&ids);
        assert!(payloads.len() > 1 && payloads.iter().all(|payload| payload.len() < 8_000));
        assert_eq!(payloads.iter().map(|payload| payload.split(' ').count() - 1).sum::<usize>(), ids.len());
        assert!(super::payloads(&[]).is_empty());
    }
}
