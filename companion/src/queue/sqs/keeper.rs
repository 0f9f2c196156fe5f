//! Keeps what is held hidden from others, and deletes what is settled.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::{Instant, interval, timeout};

use super::holdings::Holdings;
use super::server::Server;
use crate::limits;
use crate::queue::handle::Shared;

/// Receipts that are on their way at once.
const MOST: usize = limits::SQS_BATCH * limits::SQS_REQUESTS;

/// Keeps and deletes until the process stops; then others get at once what is not settled.
pub(super) async fn run(
    server: Arc<Server>,
    shared: Arc<Shared>,
    holdings: Arc<Holdings>,
    mut settled: UnboundedReceiver<String>,
) {
    let mut look = interval(limits::SQS_EXTEND_EVERY);
    let mut receipts = Vec::with_capacity(MOST);
    loop {
        tokio::select! {
            _ = settled.recv_many(&mut receipts, MOST) => {
                gather(&mut settled, &mut receipts).await;
                delete(&server, &shared, &receipts).await;
                receipts.clear();
            }
            _ = look.tick() => extend(&server, &shared, &holdings).await,
            () = shared.closing() => break,
        }
    }
    while let Ok(receipt) = settled.try_recv() {
        receipts.push(receipt);
    }
    delete(&server, &shared, &receipts).await;
    hide(&server, &shared, &holdings, &holdings.all(), Duration::ZERO).await;
}

/// Fills a request: deleting may wait, and a request for one message costs as much as one for ten.
async fn gather(settled: &mut UnboundedReceiver<String>, receipts: &mut Vec<String>) {
    let more = async {
        while receipts.len() < limits::SQS_BATCH {
            match settled.recv().await {
                Some(receipt) => receipts.push(receipt),
                None => return,
            }
        }
    };
    // What came in time is there.
    let _ = timeout(limits::SQS_LINGER, more).await;
}

async fn delete(server: &Server, shared: &Shared, receipts: &[String]) {
    for some in receipts.chunks(MOST) {
        let requests = some.chunks(limits::SQS_BATCH).map(|batch| server.delete(batch));
        for answer in join_all(requests).await {
            if let Err(error) = answer {
                shared.receiving.down(&error);
            }
        }
    }
}

/// Hides again what would soon be shown: it has come half of its time.
async fn extend(server: &Server, shared: &Shared, holdings: &Holdings) {
    let due = holdings.shown_before(Instant::now() + limits::LEASE / 2);
    hide(server, shared, holdings, &due, limits::LEASE).await;
}

async fn hide(server: &Server, shared: &Shared, holdings: &Holdings, receipts: &[String], time: Duration) {
    for some in receipts.chunks(MOST) {
        let until = Instant::now() + time;
        let answers = join_all(some.chunks(limits::SQS_BATCH).map(|batch| server.hide(batch, time))).await;
        for (batch, answer) in some.chunks(limits::SQS_BATCH).zip(answers) {
            match answer {
                Ok(lost) => {
                    holdings.hidden(batch, until);
                    let lost = lost.into_iter().filter_map(|number| batch.get(number));
                    lost.for_each(|receipt| holdings.lose(receipt));
                }
                Err(error) => shared.receiving.down(&error),
            }
        }
    }
}
