//! What a case of the suite works with: a server, a queue on it, handles to that, and what they receive.

use std::collections::{BTreeMap, HashSet};
use std::hash::{BuildHasher as _, RandomState};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use companion::model::DeliveryId;
use companion::queue::{Call, Queue, connect};
use tokio::time::timeout;

/// Longer than a queue keeps a message for somebody who died (`limits::LEASE`).
pub(crate) const PATIENCE: Duration = Duration::from_secs(100);

/// A server of queues, as its operator sees it.
pub(crate) trait Broker: 'static {
    /// Where it listens.
    fn address(&self) -> SocketAddr;
    /// The URL of a queue, by way of this address.
    fn url(&self, queue: &str, by: SocketAddr) -> String;
    /// Makes a queue of this name, where connecting does not: how the others call it.
    async fn make(&self, name: &str) -> Result<String>;
    /// Removes it.
    async fn remove(&self, queue: &str) -> Result<()>;
    /// Puts a message into it that may be none of ours.
    async fn post(&self, queue: &str, body: &str) -> Result<()>;
    /// Messages in it that nobody has settled.
    async fn depth(&self, queue: &str) -> Result<usize>;
    /// URLs that are refused at the start, and what the sentence says.
    async fn refusals(&self, queue: &str) -> Result<Vec<(String, &'static str)>>;
}

/// A queue that only one case uses.
pub(crate) struct Bench<B> {
    pub(crate) broker: Arc<B>,
    pub(crate) queue: String,
}

impl<B: Broker> Bench<B> {
    pub(crate) async fn new(broker: Arc<B>) -> Result<Self> {
        // A server may be shared with other runs, on other machines too.
        let random = RandomState::new().hash_one(std::process::id());
        let queue = broker.make(&format!("gatehook-test-{random:016x}")).await?;
        Ok(Self { broker, queue })
    }

    /// A handle, as a process has one.
    pub(crate) async fn handle(&self) -> Result<Arc<dyn Queue>> {
        self.handle_by(self.broker.address()).await
    }

    /// A handle that takes another way to the server.
    pub(crate) async fn handle_by(&self, address: SocketAddr) -> Result<Arc<dyn Queue>> {
        connect(&self.broker.url(&self.queue, address)).await?.context("a queue of its own")
    }

    /// Waits until nothing unsettled is left in the queue.
    pub(crate) async fn is_empty(&self) -> Result<()> {
        let empty = async || self.broker.depth(&self.queue).await.is_ok_and(|depth| depth == 0).then_some(());
        harness::wait::until("the queue to be empty", PATIENCE, empty).await
    }
}

/// Ids that were never used before.
pub(crate) fn ids(count: usize) -> Vec<DeliveryId> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let id = |_| format!("dlv_{:08x}{:024x}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
    (0..count).map(id).map(DeliveryId).collect()
}

/// What was received, by id, with its tickets.
#[derive(Default)]
pub(crate) struct Held(BTreeMap<DeliveryId, Vec<Call>>);

impl Held {
    pub(crate) fn add(&mut self, calls: Vec<Call>) {
        for call in calls {
            self.0.entry(call.delivery.clone()).or_default().push(call);
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn has(&self, id: &DeliveryId) -> bool {
        self.0.contains_key(id)
    }

    pub(crate) fn ids(&self) -> HashSet<DeliveryId> {
        self.0.keys().cloned().collect()
    }

    /// Fails where an id came twice.
    pub(crate) fn once(&self) -> Result<()> {
        let twice = self.0.values().filter(|calls| calls.len() > 1).count();
        ensure!(twice == 0, "{twice} ids came more than once");
        Ok(())
    }
}

/// Receives until all these have come.
pub(crate) async fn all(handle: &Arc<dyn Queue>, wanted: &[DeliveryId]) -> Result<Held> {
    let mut held = Held::default();
    let came = timeout(PATIENCE, async {
        while !wanted.iter().all(|id| held.has(id)) {
            held.add(handle.receive().await);
        }
    });
    let in_time = came.await.is_ok();
    let missing = wanted.iter().filter(|id| !held.has(id)).count();
    ensure!(in_time, "{missing} of {} ids did not come", wanted.len());
    Ok(held)
}

/// Waits until the handle says so of its server.
pub(crate) async fn says(handle: &Arc<dyn Queue>, up: bool) -> Result<()> {
    let what = format!("is_up to be {up}");
    harness::wait::until(&what, PATIENCE, async || (handle.is_up() == up).then_some(())).await
}
