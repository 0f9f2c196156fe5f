//! One process of several on the same store: keeps its copies as the store has them, goes by the store's clock, and takes up
//! what the others tell.
//!
//! Each process has the subscriptions, the tokens and the signing keys in memory. Whoever changes one of them in the store
//! changes its version, and the others read anew: told at once, or after [`limits::VERSION_EVERY`]. Events are accepted only
//! as of the current version, so a copy that is behind costs time and nothing else. On a store with a single process none
//! of this does anything.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use anyhow::Context;
use jiff::{SignedDuration, Timestamp};
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;

use crate::api::Access;
use crate::board::Board;
use crate::clock::Clock;
use crate::directory::Directory;
use crate::keys::SigningKeys;
use crate::limits;
use crate::model::SubscriptionId;
use crate::retry::later;
use crate::store::{Signal, Store};
use crate::telemetry::Metrics;

/// The copies of a process, and the store they are of.
pub struct Replica {
    /// The truth.
    pub store: Arc<dyn Store>,
    /// The subscriptions.
    pub directory: Arc<Directory>,
    /// Who may call.
    pub access: Arc<Access>,
    /// What signs for subscriptions that want no shared secret.
    pub keys: Arc<SigningKeys>,
    /// Where the worker looks.
    pub board: Arc<Board>,
    /// The time.
    pub clock: Arc<StoreClock>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// Whether the worker is in this process. One that only takes events tells others of what it has changed itself, and of
    /// nothing that it was told: that would go round for ever.
    pub delivers: bool,
    /// Held while the copies are read anew.
    pub turn: tokio::sync::Mutex<()>,
}

impl Replica {
    /// Reads anew what has changed since it was last read, if anything has.
    ///
    /// # Errors
    /// Where the store does not answer.
    pub async fn catch_up(&self) -> anyhow::Result<()> {
        if self.store.version().await? == self.directory.version() {
            return Ok(());
        }
        // One at a time: a slower reading would put older tokens over newer ones.
        let _turn = self.turn.lock().await;
        // Before anything is read: what changes in between is read again.
        let version = self.store.version().await?;
        if version == self.directory.version() {
            return Ok(());
        }
        self.access.reload(&*self.store).await?;
        if let Err(error) = self.keys.reload(&*self.store).await {
            // A process that was not given a new key goes on with what it has; its events must not wait for that.
            self.metrics.store_errors.inc();
            tracing::error!(error = format!("{error:#}"), "the signing keys were not read anew");
        }
        // A subscription that went off has pending deliveries to cancel, one that went on or changed may have some due.
        let changed = self.directory.catch_up(&*self.store, version).await?;
        self.wake(changed);
        Ok(())
    }

    fn wake(&self, subscriptions: impl IntoIterator<Item = SubscriptionId>) {
        if self.delivers {
            self.board.wake(subscriptions);
        }
    }

    /// Follows the store until `stop` turns true.
    pub async fn run(self: Arc<Self>, mut stop: watch::Receiver<bool>) {
        if !self.store.is_shared() {
            return;
        }
        let mut ticks = tokio::time::interval(limits::VERSION_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while !*stop.borrow() {
            let done = tokio::select! {
                signal = self.store.signal() => self.take_in(signal).await,
                _ = ticks.tick() => match self.clock.follow(&*self.store).await {
                    Ok(()) => self.catch_up().await,
                    error => error,
                },
                // An error means that nobody is left to say stop; that is a stop.
                changed = stop.changed() => if changed.is_err() { break } else { Ok(()) },
            };
            if let Err(error) = done {
                self.metrics.store_errors.inc();
                tracing::error!(error = format!("{error:#}"), "what changed in the store is not known yet");
            }
        }
    }

    async fn take_in(&self, signal: Signal) -> anyhow::Result<()> {
        match signal {
            Signal::Due(subscriptions) => self.wake(subscriptions),
            Signal::Changed => self.catch_up().await?,
            Signal::Missed => {
                self.catch_up().await?;
                let due = self.store.due().await?;
                let now = self.clock.now();
                self.wake(due.into_iter().filter(|(_, at)| *at <= now).map(|(id, _)| id));
            }
        }
        Ok(())
    }

    /// Tells the workers of other processes what this one, which has none, is told; until `stop` turns true.
    pub async fn announce(self: Arc<Self>, mut stop: watch::Receiver<bool>) {
        while !*stop.borrow() {
            let arrived = tokio::select! {
                arrived = self.board.receive() => arrived,
                changed = stop.changed() => if changed.is_err() { break } else { continue },
            };
            let woken: Vec<_> = arrived.woken.into_iter().collect();
            if !woken.is_empty()
                && let Err(error) = self.store.announce(woken).await
            {
                self.metrics.store_errors.inc();
                tracing::warn!(error = format!("{error:#}"), "workers were not told; their sweep finds it");
            }
        }
    }
}

/// The clock of the store's server where it has one, so that processes on several machines agree on when a lease ends.
///
/// Between two readings it goes on by this machine's clock that nobody sets.
pub struct StoreClock {
    own: Arc<dyn Clock>,
    /// What the store's clock shows more than [`Clock::elapsed`], in microseconds; [`Self::OWN`] where the own clock holds.
    ahead: AtomicI64,
}

impl StoreClock {
    const OWN: i64 = i64::MIN;

    /// A clock that is its own until it follows a store.
    pub fn new(own: Arc<dyn Clock>) -> Self {
        Self { own, ahead: AtomicI64::new(Self::OWN) }
    }

    /// Sets it by the store's clock, where that has one.
    ///
    /// # Errors
    /// Where the store does not answer.
    pub async fn follow(&self, store: &dyn Store) -> anyhow::Result<()> {
        let before = self.own.elapsed();
        let Some(theirs) = store.clock().await.context("the store's clock was not read")? else {
            return Ok(());
        };
        let asked = self.own.elapsed().saturating_sub(before);
        // What was long on its way says little about the time; another reading will come.
        if asked > limits::CLOCK_SLEW && self.ahead.load(Ordering::Relaxed) != Self::OWN {
            return Ok(());
        }
        let middle = SignedDuration::try_from(before + asked / 2)?;
        let ahead = theirs.as_microsecond() - i64::try_from(middle.as_micros())?;
        let was = self.ahead.swap(ahead, Ordering::Relaxed);
        if was != Self::OWN && was.abs_diff(ahead) > limits::CLOCK_SLEW.as_micros() as u64 {
            tracing::warn!(by_us = ahead - was, "the store's clock was set");
        }
        Ok(())
    }
}

impl Clock for StoreClock {
    fn now(&self) -> Timestamp {
        match self.ahead.load(Ordering::Relaxed) {
            Self::OWN => self.own.now(),
            ahead => {
                let base = Timestamp::from_microsecond(ahead).unwrap_or(Timestamp::UNIX_EPOCH);
                later(base, Duration::from_micros(self.own.elapsed().as_micros() as u64))
            }
        }
    }

    fn elapsed(&self) -> Duration {
        self.own.elapsed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::TokenHash;
    use crate::clock::SystemClock;
    use crate::directory::Defaults;
    use crate::store::embedded;
    use crate::target::Guard;
    use crate::testing::{Folder, ManualClock};
    use crate::vault::Vault;

    async fn replica(folder: &Folder, delivers: bool) -> Replica {
        let url = format!("sqlite:{}", folder.path("test.db").display());
        let store = embedded(&url, Vault::new(&[1; 32])).unwrap();
        let keys = SigningKeys::load(&*store, Vault::new(&[1; 32]), SystemClock.now()).await.unwrap();
        let none = TokenHash([0; 32]);
        let directory = Directory::load(&*store, Guard::new(&[]), Defaults::default()).await.unwrap();
        Replica {
            access: Arc::new(Access::load(&*store, none, none).await.unwrap()),
            directory: Arc::new(directory),
            keys: Arc::new(keys),
            store,
            board: Arc::default(),
            clock: Arc::new(StoreClock::new(Arc::new(SystemClock))),
            metrics: Arc::default(),
            delivers,
            turn: tokio::sync::Mutex::default(),
        }
    }

    #[tokio::test]
    async fn a_process_that_delivers_nothing_tells_nobody_what_it_was_told() {
        let id = SubscriptionId("sub_1".into());
        for delivers in [true, false] {
            let folder = Folder::new();
            let replica = replica(&folder, delivers).await;
            replica.take_in(Signal::Due(vec![id.clone()])).await.unwrap();
            assert_eq!(replica.board.take().woken.contains(&id), delivers);
        }
    }

    #[test]
    fn a_clock_that_follows_no_store_is_its_own() {
        let own = Arc::new(ManualClock::at(Timestamp::UNIX_EPOCH));
        let clock = StoreClock::new(own.clone());
        assert_eq!(clock.now(), own.now());
        clock.ahead.store(1_000_000_000_000_000, Ordering::Relaxed);
        let since = clock.now().duration_since(Timestamp::from_second(1_000_000_000).unwrap());
        assert!(!since.is_negative() && since.as_mins() < 60, "it goes on by the clock that nobody sets");
    }
}
