//! Gatehook's companion: takes events, and delivers them signed and retried to whoever subscribed.
//!
//! A few pure rules, a database that owns the truth, and thin edges around them. [`start`] assembles the parts and
//! decides nothing.
#![doc = include_str!("../README.md")]

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context;
use bytes::Bytes;
use tokio::net::TcpListener;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;

// Rules: pure.
pub mod cloudevents;
pub mod condition;
pub mod credentials;
mod lanes;
pub mod limits;
pub mod matcher;
pub mod members;
pub mod model;
pub mod news;
pub mod parcel;
pub mod payload;
pub mod rate;
pub mod retry;
pub mod signature;
pub mod target;
pub mod vault;

// The truth, and what is known of it in memory.
pub mod ahead;
pub mod directory;
pub mod feed;
pub mod queue;
pub mod replayer;
pub mod retention;
pub mod store;
pub mod timekeeper;

// Edges.
pub mod api;
pub mod clock;
pub mod commands;
pub mod config;
pub mod disk;
pub mod handshake;
pub mod keys;
pub mod sender;
pub mod server;
pub mod telemetry;
pub mod worker;

#[cfg(test)]
mod testing;

use api::{Access, Api, TokenHash};
use clock::Clock;
use config::{Hidden, Settings};
use directory::{Defaults, Directory};
use disk::Disk;
use feed::Feed;
use keys::SigningKeys;
use queue::Queue;
use replayer::Replayer;
use retention::Retention;
use sender::Sender;
use store::{Note, Store};
use target::Guard;
use timekeeper::Timekeeper;
use vault::Vault;
use worker::Worker;

/// A companion at work.
pub struct Running {
    /// Where the API listens.
    pub address: SocketAddr,
    stop: watch::Sender<bool>,
    tasks: Vec<JoinHandle<()>>,
}

impl Running {
    /// Stops taking requests and claiming deliveries, and waits for what is under way.
    pub async fn stop(self) {
        // Fails only where everything has ended already.
        let _ = self.stop.send(true);
        for task in self.tasks {
            if let Err(error) = task.await {
                tracing::error!(%error, "a part of the companion ended badly");
            }
        }
    }
}

/// Opens the store, reads the subscriptions, and starts the API on `listener` and the worker.
///
/// # Errors
/// Whatever stops the start, in a sentence: a store that cannot be opened, a wrong key.
pub async fn start(
    settings: &Settings,
    listener: TcpListener,
    clock: Arc<dyn Clock>,
) -> anyhow::Result<Running> {
    let vault = settings.vault()?;
    let store = store::connect(&settings.store, vault.clone()).context("--store")?;
    check_key(&*store, &vault).await?;
    let keys = Arc::new(SigningKeys::load(&*store, vault.clone(), clock.now()).await?);
    let admin_token = token(&*store, settings.admin_token.as_ref(), "admin", "admin_token_hash").await?;
    let ingest_token = token(&*store, settings.ingest_token.as_ref(), "ingest", "ingest_token_hash").await?;
    let released = store.release_all(clock.now()).await?;
    let guard = Guard::new(&settings.allow_targets);
    let defaults = Defaults {
        retry: settings.retry_schedule.clone().unwrap_or_default(),
        base_url: settings.api_url.as_ref().map(|url| url.as_str().trim_end_matches('/').to_owned()),
    };
    let directory = Arc::new(Directory::load(&*store, guard.clone(), defaults).await?);
    tracing::info!(?settings, subscriptions = directory.count(), taken_up = released, "starting");

    let (queue, metrics) = (Arc::new(Queue::default()), Arc::default());
    let sender = Sender::trusting(guard, &settings.roots()?)?;
    let (stop, stopped) = watch::channel(false);
    let worker = Arc::new(Worker {
        store: store.clone(),
        directory: directory.clone(),
        queue: queue.clone(),
        sender: sender.clone(),
        keys: keys.clone(),
        clock: clock.clone(),
        metrics: Arc::clone(&metrics),
    });
    let retention = Retention {
        store: store.clone(),
        keep: settings.retention,
        keep_events: settings.retention_events,
        clock: clock.clone(),
        metrics: Arc::clone(&metrics),
    };
    let asked = Arc::new(Notify::new());
    let replayer = Replayer {
        store: store.clone(),
        directory: directory.clone(),
        queue: queue.clone(),
        asked: asked.clone(),
        clock: clock.clone(),
        metrics: Arc::clone(&metrics),
    };
    let timekeeper = Timekeeper {
        store: store.clone(),
        queue: queue.clone(),
        clock: clock.clone(),
        metrics: Arc::clone(&metrics),
    };
    let disk = Disk::of(&settings.store, settings.min_free_disk);
    let access = Access::load(&*store, admin_token, ingest_token).await?;
    let ingest_room = api::ingest_room();
    let origin = settings.api_url.as_ref().and_then(|url| url.host_str()).unwrap_or("gatehook").to_owned();
    let api = Api {
        origin,
        store,
        directory,
        queue,
        sender,
        clock,
        metrics,
        keys,
        access,
        feed: Feed::new(stopped.clone()),
        replays: asked.clone(),
        ingest_room,
        disk,
    };
    let address = listener.local_addr().context("the listener has no address")?;
    let tasks = vec![
        tokio::spawn(server::run(listener, api::router(Arc::new(api)), stopped.clone())),
        tokio::spawn(worker.run(stopped.clone())),
        tokio::spawn(replayer.run(stopped.clone())),
        tokio::spawn(timekeeper.run(stopped.clone())),
        tokio::spawn(retention.run(stopped)),
    ];
    tracing::info!(%address, "listening");
    Ok(Running { address, stop, tasks })
}

/// Refuses a key that did not seal what the store holds, and seals under the first key what another one sealed.
async fn check_key(store: &dyn Store, vault: &Vault) -> anyhow::Result<()> {
    let name = "secret_key_check";
    let mut nonce = [0; 24];
    getrandom::fill(&mut nonce).map_err(|error| anyhow::anyhow!("no randomness: {error}"))?;
    let check = Bytes::from(vault.seal(name, &[], nonce));
    let sealed = store.meta(name, Some(check.clone())).await?.unwrap_or_default();
    vault.open(name, &sealed).context("--secret-key is not the one this store was made with")?;
    let (mut count, mut more) = (0, true);
    while more {
        let resealed = store.reseal(limits::RESEAL_CHUNK).await.context("secrets were not sealed again")?;
        count += resealed;
        more = resealed == limits::RESEAL_CHUNK;
    }
    if !sealed.starts_with(&vault.prefix()) {
        store.replace_meta(name, sealed, check, Note::default()).await?;
        tracing::info!(subscriptions = count, "sealed all secrets under the first --secret-key");
    }
    Ok(())
}

/// The hash of the token that was given, or of the one made at the first start; that one is printed once, not logged.
async fn token(
    store: &dyn Store,
    given: Option<&Hidden>,
    kind: &str,
    name: &'static str,
) -> anyhow::Result<TokenHash> {
    use base64::Engine;

    if let Some(given) = given {
        return Ok(TokenHash::of(given.reveal()));
    }
    if let Some(known) = store.meta(name, None).await? {
        let hash = <[u8; 32]>::try_from(&known[..]).ok().context("the store holds a damaged token hash")?;
        return Ok(TokenHash(hash));
    }
    let mut bytes = [0; 24];
    getrandom::fill(&mut bytes).map_err(|error| anyhow::anyhow!("no randomness for a token: {error}"))?;
    let token = format!("gatehook_{kind}_{}", base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes));
    let hash = TokenHash::of(&token);
    store.meta(name, Some(Bytes::copy_from_slice(&hash.0))).await?;
    eprintln!("{kind} token, shown this once: {token}");
    Ok(hash)
}
