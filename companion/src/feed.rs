//! Tells those who follow events that there are new ones.
//!
//! A wake-up may be missed, and other processes on the same store send none; so whoever waits looks again after a second
//! all the same. Places (`seq`) are given in the order of commits by a store with one writer; one with several has to see to
//! it that no smaller place appears after a larger one was read.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use crate::limits;

/// How long until somebody who was not woken looks again.
const POLL: Duration = Duration::from_secs(1);

/// What ingest wakes, and streams watch.
pub struct Feed {
    accepted: watch::Sender<()>,
    stopped: watch::Receiver<bool>,
    room: Arc<Semaphore>,
}

/// One stream's view of a [`Feed`].
pub struct Watch {
    accepted: watch::Receiver<()>,
    stopped: watch::Receiver<bool>,
}

impl Feed {
    /// A feed that ends when `stopped` turns true.
    pub fn new(stopped: watch::Receiver<bool>) -> Self {
        let (accepted, _) = watch::channel(());
        Self { accepted, stopped, room: Arc::new(Semaphore::new(limits::STREAMS)) }
    }

    /// Says that events were accepted.
    pub fn wake(&self) {
        self.accepted.send_replace(());
    }

    /// Room for one stream, if there is any.
    pub fn room(&self) -> Option<OwnedSemaphorePermit> {
        self.room.clone().try_acquire_owned().ok()
    }

    /// Streams that are open.
    pub fn streams(&self) -> usize {
        limits::STREAMS - self.room.available_permits()
    }

    /// Begins to watch. What is accepted from now on is not missed.
    pub fn watch(&self) -> Watch {
        Watch { accepted: self.accepted.subscribe(), stopped: self.stopped.clone() }
    }
}

impl Watch {
    /// Waits until there may be new events; `None` where the feed has ended.
    pub async fn fresh(&mut self) -> Option<()> {
        tokio::select! {
            _ = self.accepted.changed() => Some(()),
            () = tokio::time::sleep(POLL) => Some(()),
            _ = self.stopped.wait_for(|stopped| *stopped) => None,
        }
    }

    /// Waits until this process has accepted events since it was last asked; for ever where the feed has ended.
    pub async fn woken(&mut self) {
        if self.accepted.changed().await.is_err() {
            std::future::pending().await
        }
    }

    /// Waits a moment; `None` where the feed has ended.
    pub async fn pause(&mut self) -> Option<()> {
        tokio::select! {
            () = tokio::time::sleep(POLL) => Some(()),
            _ = self.stopped.wait_for(|stopped| *stopped) => None,
        }
    }
}
