//! What several processes on one store tell each other.
//!
//! Every [`super::Store`] has these; one that lives in a single process has nothing to tell, which is the default.

use async_trait::async_trait;
use jiff::Timestamp;

use super::StoreError;
use crate::model::SubscriptionId;

/// What another process, or this one, has told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Signal {
    /// These subscriptions may have something due.
    Due(Vec<SubscriptionId>),
    /// The [`Sharing::version`] has changed.
    Changed,
    /// Nobody knows what was missed: the connection was lost for a while.
    Missed,
}

/// A store that several processes may share.
#[async_trait]
pub trait Sharing: Send + Sync {
    /// Whether other processes may be at work on it.
    fn is_shared(&self) -> bool {
        false
    }
    /// Whether this process is the one that does what only one should do at a time: replays, pruning. Another one follows when
    /// it ends. A store may have two for a moment; what they do is then done twice, which only costs time.
    async fn leads(&self) -> Result<bool, StoreError> {
        Ok(true)
    }
    /// Grows with every change of subscriptions (but for `failing_since`), tokens and signing keys, in its transaction.
    async fn version(&self) -> Result<i64, StoreError> {
        Ok(0)
    }
    /// Every subscription's revision, so that a process can tell which of those it knows have changed.
    async fn revisions(&self) -> Result<Vec<(SubscriptionId, i64)>, StoreError> {
        Ok(Vec::new())
    }
    /// Tells all processes that these subscriptions may have something due. It may get lost; the sweep finds it.
    async fn announce(&self, _subscriptions: Vec<SubscriptionId>) -> Result<(), StoreError> {
        Ok(())
    }
    /// Waits for the next signal, for ever where there is nobody to send one. One caller at a time.
    async fn signal(&self) -> Signal {
        std::future::pending().await
    }
    /// What the store's own clock says, where processes on several machines go by it; `None` where this process's does.
    async fn clock(&self) -> Result<Option<Timestamp>, StoreError> {
        Ok(None)
    }
}
