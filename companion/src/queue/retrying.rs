//! A server that may be away: whether it is there, and when to try it again.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use crate::limits;

/// One way to a server: says whether it stands, and tells the log of each change.
#[derive(Debug)]
pub(super) struct Way {
    /// What goes this way, for the log.
    purpose: &'static str,
    up: AtomicBool,
}

impl Way {
    /// One that stands.
    pub(super) fn new(purpose: &'static str) -> Self {
        Self { purpose, up: AtomicBool::new(true) }
    }

    /// Whether it stands now.
    pub(super) fn is_up(&self) -> bool {
        self.up.load(Ordering::Relaxed)
    }

    /// It stands.
    pub(super) fn up(&self) {
        if !self.up.swap(true, Ordering::Relaxed) {
            tracing::info!(purpose = self.purpose, "the queue is back");
        }
    }

    /// It does not, and why.
    pub(super) fn down(&self, error: &anyhow::Error) {
        if self.up.swap(false, Ordering::Relaxed) {
            tracing::warn!(purpose = self.purpose, error = format!("{error:#}"), "the queue is away");
        }
    }
}

/// Pauses between attempts, each twice as long as the one before.
#[derive(Debug)]
pub(super) struct Pauses(Duration);

impl Pauses {
    /// From the shortest one.
    pub(super) fn new() -> Self {
        Self(limits::QUEUE_PAUSE)
    }

    /// Goes on with what needs the server; where that lasted, the next pause is the shortest one again.
    pub(super) async fn lasting<T>(&mut self, work: impl Future<Output = T>) -> T {
        let began = Instant::now();
        let ended = work.await;
        if began.elapsed() > limits::QUEUE_PAUSE_MOST {
            *self = Self::new();
        }
        ended
    }

    /// The next pause.
    pub(super) fn next(&mut self) -> Duration {
        let longer = (self.0 * 2).min(limits::QUEUE_PAUSE_MOST);
        std::mem::replace(&mut self.0, longer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_bound() {
        let mut pauses = Pauses::new();
        let all: Vec<_> = (0..7).map(|_| pauses.next().as_millis()).collect();
        assert_eq!(all, [500, 1_000, 2_000, 4_000, 8_000, 10_000, 10_000]);
    }
}
