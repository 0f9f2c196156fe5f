//! Ids that wait to be sent: a bounded buffer between publishers, who never wait, and the task that sends.
//!
//! While the server is away it fills, and then forgets the newest; the sweep finds those. One line of log tells when that
//! begins, another how many it were.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::limits;
use crate::model::DeliveryId;

/// The buffer.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<DeliveryId>,
    closed: bool,
    forgotten: u64,
    /// Of them, those since there was room the last time.
    burst: u64,
}

impl Outbox {
    /// Takes ids in; what does not fit is forgotten.
    pub(super) fn push(&self, deliveries: Vec<DeliveryId>) {
        let mut state = self.lock();
        let room = if state.closed { 0 } else { limits::CALLS_WAITING.saturating_sub(state.waiting.len()) };
        let lost = deliveries.len().saturating_sub(room);
        state.waiting.extend(deliveries.into_iter().take(room));
        state.forget(lost);
        drop(state);
        self.changed.notify_one();
    }

    /// Takes ids back that could not be sent, before the others. They were there first, so the newest make room for them.
    pub(super) fn put_back(&self, deliveries: Vec<DeliveryId>) {
        let mut state = self.lock();
        deliveries.into_iter().rev().for_each(|delivery| state.waiting.push_front(delivery));
        let lost = state.waiting.len().saturating_sub(limits::CALLS_WAITING);
        state.waiting.truncate(limits::CALLS_WAITING);
        state.forget(lost);
        drop(state);
        self.changed.notify_one();
    }

    /// Waits for ids and takes some, the oldest first; none once the buffer is closed and empty. One taker only.
    pub(super) async fn take(&self, most: usize) -> Vec<DeliveryId> {
        loop {
            {
                let mut state = self.lock();
                let count = state.waiting.len().min(most);
                if count > 0 {
                    return state.waiting.drain(..count).collect();
                }
                if state.closed {
                    return Vec::new();
                }
            }
            self.changed.notified().await;
        }
    }

    /// Says that ids went out, so that a burst of forgotten ones has an end.
    pub(super) fn sent(&self) {
        let mut state = self.lock();
        if state.burst > 0 && state.waiting.len() < limits::CALLS_WAITING / 2 {
            tracing::info!(
                count = state.burst,
                "the queue takes deliveries again; the sweep finds what it was not told"
            );
            state.burst = 0;
        }
    }

    /// Takes no more.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_one();
    }

    /// Forgets what still waits: nobody is there to send it.
    pub(super) fn abandon(&self) {
        let mut state = self.lock();
        let lost = std::mem::take(&mut state.waiting).len();
        state.forget(lost);
    }

    /// Ids forgotten since the start.
    pub(super) fn forgotten(&self) -> u64 {
        self.lock().forgotten
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn forget(&mut self, count: usize) {
        let count = u64::try_from(count).unwrap_or(u64::MAX);
        if count == 0 {
            return;
        }
        if self.burst == 0 {
            tracing::warn!("too many deliveries wait for the queue: the newest are left to the sweep");
        }
        self.burst = self.burst.saturating_add(count);
        self.forgotten = self.forgotten.saturating_add(count);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(range: std::ops::Range<usize>) -> Vec<DeliveryId> {
        range.map(|number| DeliveryId(format!("dlv_{number}"))).collect()
    }

    #[tokio::test]
    async fn the_newest_are_forgotten_and_counted() {
        let outbox = Outbox::default();
        outbox.push(ids(0..limits::CALLS_WAITING - 1));
        outbox.push(ids(20_000..20_003));
        assert_eq!(outbox.forgotten(), 2);
        let taken = outbox.take(3).await;
        assert_eq!(taken, ids(0..3));
        outbox.push(ids(30_000..30_001));
        outbox.put_back(taken);
        assert_eq!(outbox.forgotten(), 3);
        assert_eq!(outbox.take(usize::MAX).await.last(), ids(20_000..20_001).last());
    }

    #[tokio::test]
    async fn a_closed_one_gives_what_it_has_and_takes_no_more() {
        let outbox = Outbox::default();
        outbox.push(ids(0..1));
        outbox.close();
        outbox.push(ids(1..2));
        assert_eq!((outbox.take(9).await, outbox.forgotten()), (ids(0..1), 1));
        assert!(outbox.take(9).await.is_empty());
    }
}
