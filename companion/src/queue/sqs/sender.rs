//! Sends what waits, one request after the other: while one is under way, ids gather for the next.

use std::sync::Arc;

use super::server::Server;
use crate::limits;
use crate::model::DeliveryId;
use crate::queue::handle::Shared;
use crate::queue::message;
use crate::queue::retrying::Pauses;

/// Ids in one request.
const MOST: usize = limits::SQS_BATCH * limits::CALLS_PER_MESSAGE;

/// Sends until the buffer is closed and empty.
pub(super) async fn run(server: Arc<Server>, shared: Arc<Shared>) {
    let mut pauses = Pauses::new();
    loop {
        let batch = shared.outbox.take(MOST).await;
        if batch.is_empty() {
            return;
        }
        let messages = spread(&batch);
        let bodies: Vec<_> = messages.iter().map(|ids| message::text(ids)).collect();
        match server.send(&bodies).await {
            Ok(refused) if refused.is_empty() => {
                shared.publishing.up();
                shared.outbox.sent();
                pauses = Pauses::new();
                continue;
            }
            Ok(refused) => {
                let refused = refused.into_iter().filter_map(|number| messages.get(number));
                shared.outbox.put_back(refused.copied().flatten().cloned().collect());
                shared.publishing.down(&anyhow::anyhow!("SQS does not take messages now"));
            }
            Err(error) => {
                shared.outbox.put_back(batch);
                shared.publishing.down(&error);
            }
        }
        tokio::time::sleep(pauses.next()).await;
    }
}

/// The ids of each message: over as many messages as a request holds, so that receivers share them.
fn spread(batch: &[DeliveryId]) -> Vec<&[DeliveryId]> {
    batch.chunks(batch.len().div_ceil(limits::SQS_BATCH).max(1)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_ids_have_a_message_each_and_many_share() {
        let check = |count: usize, messages: usize, largest: usize| {
            let batch: Vec<_> = (0..count).map(|at| DeliveryId(format!("dlv_{at}"))).collect();
            let spread = spread(&batch);
            assert_eq!(spread.len(), messages, "{count}");
            assert_eq!(spread.iter().map(|ids| ids.len()).max(), Some(largest), "{count}");
        };
        check(1, 1, 1);
        check(10, 10, 1);
        check(11, 6, 2);
        check(MOST, limits::SQS_BATCH, limits::CALLS_PER_MESSAGE);
    }
}
