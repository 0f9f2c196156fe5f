//! Receives, and acknowledges what is settled.
//!
//! Each session has a channel of its own for the tags that are settled. When the session ends, so does that channel, and
//! tickets of its messages go nowhere: the server has put those messages back already. So it does where a message is held for
//! longer than the server's consumer timeout (30 minutes): the session ends, another begins, and no more comes of it.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures_util::StreamExt as _;
use futures_util::future::join_all;
use lapin::message::Delivery;
use lapin::options::{BasicAckOptions, BasicCancelOptions, BasicConsumeOptions, BasicQosOptions};
use lapin::types::{DeliveryTag, FieldTable};
use lapin::{Channel, Consumer};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::server::{Server, Session};
use crate::limits;
use crate::queue::handle::Shared;
use crate::queue::inbox::Arrived;
use crate::queue::message;
use crate::queue::retrying::Pauses;

/// Receives until the process stops, from the moment its worker asks.
pub(super) async fn run(server: Arc<Server>, shared: Arc<Shared>) {
    tokio::select! {
        () = shared.inbox.wanted() => {}
        () = shared.closing() => return,
    }
    let mut pauses = Pauses::new();
    loop {
        let ended = match server.connect().await {
            Ok(session) => pauses.lasting(receive(&session, &server, &shared)).await,
            Err(error) => Err(error),
        };
        // What still waits came with the session that ended, and comes again.
        shared.inbox.clear();
        match ended {
            Ok(()) => return,
            Err(error) => shared.receiving.down(&error),
        }
        tokio::select! {
            () = tokio::time::sleep(pauses.next()) => {}
            () = shared.closing() => return,
        }
    }
}

/// Receives on one session until it breaks; `Ok` when the process stops.
async fn receive(session: &Session, server: &Server, shared: &Shared) -> anyhow::Result<()> {
    let prefetch = u16::try_from(limits::CALLS_HELD).unwrap_or(u16::MAX);
    session.channel.basic_qos(prefetch, BasicQosOptions::default()).await?;
    let (options, arguments) = (BasicConsumeOptions::default(), FieldTable::default());
    let mut messages = session.channel.basic_consume(server.queue(), "".into(), options, arguments).await?;
    // No more tags are settled than messages are held.
    let (settle, mut settled) = mpsc::unbounded_channel();
    let (mut held, mut tags) = (Unsettled::default(), Vec::with_capacity(limits::CALLS));
    shared.receiving.up();
    loop {
        tokio::select! {
            message = messages.next() => match message {
                Some(Ok(message)) => {
                    held.0.insert(message.delivery_tag);
                    take(&message, shared, &settle);
                }
                Some(Err(error)) => return Err(error.into()),
                None => anyhow::bail!("RabbitMQ ended the consumer"),
            },
            _ = settled.recv_many(&mut tags, limits::CALLS_HELD) => {
                acknowledge(&session.channel, held.settle(&mut tags)).await?;
            }
            () = shared.closing() => break,
        }
    }
    while let Ok(tag) = settled.try_recv() {
        tags.push(tag);
    }
    acknowledge(&session.channel, held.settle(&mut tags)).await?;
    finish(session, server, &messages).await
}

fn take(message: &Delivery, shared: &Shared, settle: &mpsc::UnboundedSender<DeliveryTag>) {
    let tag = message.delivery_tag;
    let Some(delivery) = message::id(&message.data) else {
        shared.inbox.count_foreign();
        // The receiver is our caller's.
        let _ = settle.send(tag);
        return;
    };
    let settle = settle.clone();
    let settle = Box::new(move || {
        // Where the session has ended, the message is no longer ours.
        let _ = settle.send(tag);
    });
    shared.inbox.extend([Arrived { delivery, settle }]);
}

/// Tags of messages that came on this session and are not settled.
#[derive(Default)]
struct Unsettled(BTreeSet<DeliveryTag>);

impl Unsettled {
    /// The fewest acknowledgements that say that these are settled: one for all that came before the oldest unsettled one, and
    /// one for each later one. To a quorum queue each is an entry in its log, and it takes 32 at a time.
    fn settle(&mut self, tags: &mut Vec<DeliveryTag>) -> Vec<(DeliveryTag, BasicAckOptions)> {
        tags.sort_unstable();
        for tag in &*tags {
            self.0.remove(tag);
        }
        let oldest = self.0.first().copied().unwrap_or(DeliveryTag::MAX);
        let before = tags.partition_point(|tag| *tag < oldest);
        let last_before = tags[..before].last().map(|tag| (*tag, BasicAckOptions { multiple: true }));
        let later = tags[before..].iter().map(|tag| (*tag, BasicAckOptions { multiple: false }));
        let acknowledgements = last_before.into_iter().chain(later).collect();
        tags.clear();
        acknowledgements
    }
}

async fn acknowledge(channel: &Channel, tags: Vec<(DeliveryTag, BasicAckOptions)>) -> anyhow::Result<()> {
    let sent = join_all(tags.into_iter().map(|(tag, options)| channel.basic_ack(tag, options)));
    for result in timeout(limits::QUEUE_ANSWER, sent).await? {
        result?;
    }
    Ok(())
}

/// Ends a session so that what was acknowledged stays so. The server keeps acknowledgements back while many are on their way
/// to the queue's log, and forgets those when the channel ends. Cancelling goes through the log after the earlier ones, and
/// the answer to the question behind it comes when the server has sent the later ones on.
async fn finish(session: &Session, server: &Server, messages: &Consumer) -> anyhow::Result<()> {
    session.channel.basic_cancel(messages.tag(), BasicCancelOptions::default()).await?;
    server.declare(&session.channel).await?;
    session.end().await;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_acknowledgement_settles_all_before_the_oldest_unsettled_one() {
        let mut held = Unsettled((1..=9).collect());
        let mut check = |tags: &[DeliveryTag], expected: &[(DeliveryTag, bool)]| {
            let settled = held.settle(&mut tags.to_vec());
            let found: Vec<_> = settled.iter().map(|(tag, options)| (*tag, options.multiple)).collect();
            assert_eq!(found, expected, "{tags:?}");
        };
        check(&[], &[]);
        check(&[4], &[(4, false)]);
        check(&[2, 1, 6], &[(2, true), (6, false)]);
        check(&[3], &[(3, true)]);
        check(&[7, 9], &[(7, false), (9, false)]);
        check(&[8, 5], &[(8, true)]);
    }
}
