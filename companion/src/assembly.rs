//! Puts the parts of a companion together, and sets them to work.
//!
//! Decides nothing. Store, transport and clock are given, so that a simulation runs all the rest as it is.

use std::sync::Arc;

use anyhow::Context;
use bytes::Bytes;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;

use crate::api::{self, Access, Api, Tenants, TokenHash};
use crate::bookkeeper::Bookkeeper;
use crate::catalogue::follower::Follower;
use crate::clock::Clock;
use crate::config::{Hidden, Role, Settings};
use crate::courier::Courier;
use crate::directory::{Defaults, Directory};
use crate::disk::Disk;
use crate::feed::Feed;
use crate::keys::SigningKeys;
use crate::limits;
use crate::links::Links;
use crate::queue::Queue;
use crate::replayer::Replayer;
use crate::replica::{Replica, StoreClock};
use crate::retention::Retention;
use crate::sender::{Sender, Transport};
use crate::store::{Note, Store, StoreError, redacted};
use crate::timekeeper::Timekeeper;
use crate::vault::Vault;
use crate::worker::Worker;

/// A companion that is not at work yet.
pub(crate) struct Companion {
    pub(crate) api: Api,
    pub(crate) worker: Worker,
    bookkeeper: Bookkeeper,
    retention: Retention,
    replayer: Replayer,
    follower: Follower,
    timekeeper: Timekeeper,
    replica: Arc<Replica>,
    courier: Option<Courier>,
    queue: Option<Arc<dyn Queue>>,
    role: Role,
    stopped: watch::Receiver<bool>,
}

impl Companion {
    /// Reads what the store holds, and makes the parts. Deliveries go by `transport`, all other requests by `sender`. All ends
    /// when `stopped` turns true.
    ///
    /// # Errors
    /// Whatever stops the start, in a sentence.
    pub(crate) async fn assemble(
        settings: &Settings,
        store: Arc<dyn Store>,
        sender: Sender,
        transport: Arc<dyn Transport>,
        queue: Option<Arc<dyn Queue>>,
        clock: Arc<dyn Clock>,
        stopped: watch::Receiver<bool>,
    ) -> anyhow::Result<Self> {
        let replica = Arc::new(replica(settings, store, clock).await?);
        let Replica { store, directory, access, keys, board, clock, metrics, .. } = &*replica;
        let (clock, asked): (Arc<dyn Clock>, _) = (clock.clone(), Arc::new(Notify::new()));
        let timekeeper =
            Timekeeper::begin(store.clone(), board.clone(), clock.clone(), metrics.clone()).await?;
        let feed = Feed::new(stopped.clone());
        let follower = follower(&replica, &feed);
        let host = settings.api_url.as_ref().and_then(|url| url.host_str());
        let api = Api {
            origin: host.unwrap_or("gatehook").to_owned(),
            base_url: base_url(settings),
            tenants: tenants(settings)?,
            store: store.clone(),
            directory: directory.clone(),
            board: board.clone(),
            sender,
            clock,
            metrics: metrics.clone(),
            keys: keys.clone(),
            access: access.clone(),
            queue: queue.clone(),
            replica: replica.clone(),
            feed,
            replays: asked.clone(),
            ingest_room: api::ingest_room(),
            disk: Disk::of(&settings.store, settings.min_free_disk),
            embed_origins: settings.embed_origins.clone(),
        };
        let worker = worker(&replica, transport);
        Ok(Self {
            api,
            bookkeeper: bookkeeper(&worker),
            worker,
            retention: retention(&replica, settings),
            replayer: replayer(&replica, asked),
            follower,
            timekeeper,
            courier: queue.clone().map(|queue| courier(&replica, queue)),
            replica,
            queue,
            role: settings.role,
            stopped,
        })
    }

    /// Sets the parts to work; returns the API, which nobody serves yet.
    pub(crate) fn run(self) -> (Arc<Api>, Vec<JoinHandle<()>>) {
        let stopped = self.stopped;
        let mut tasks = vec![tokio::spawn(self.replica.clone().run(stopped.clone()))];
        if self.role == Role::Api {
            tasks.push(tokio::spawn(self.replica.announce(stopped.clone())));
        } else {
            let bookkeeper = Arc::new(self.bookkeeper);
            tasks.push(tokio::spawn(bookkeeper.clone().run(stopped.clone())));
            let working = Arc::new(self.worker).run(stopped.clone());
            tasks.push(tokio::spawn(async move {
                working.await;
                bookkeeper.write().await;
            }));
            tasks.push(tokio::spawn(self.replayer.run(stopped.clone())));
            tasks.push(tokio::spawn(self.follower.run(stopped.clone())));
            tasks.push(tokio::spawn(self.timekeeper.run(stopped.clone())));
            tasks.push(tokio::spawn(self.retention.run(stopped.clone())));
            tasks.extend(self.courier.map(|courier| tokio::spawn(courier.run(stopped.clone()))));
        }
        tasks.extend(self.queue.map(|queue| tokio::spawn(close(queue, stopped))));
        (Arc::new(self.api), tasks)
    }
}

/// Reads what the store holds of what a process keeps in memory.
async fn replica(
    settings: &Settings,
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
) -> anyhow::Result<Replica> {
    let clock = Arc::new(StoreClock::new(clock));
    clock.follow(&*store).await?;
    let vault = settings.vault()?;
    check_key(&*store, &vault).await?;
    let released = store.release_all(clock.now()).await?;
    // First, because it knows of which version it is: keys and tokens that change after that are read again.
    let directory = Arc::new(directory(settings, &*store).await?);
    let keys = Arc::new(SigningKeys::load(&*store, vault, clock.now()).await?);
    let access = Arc::new(access(settings, &*store).await?);
    // A URL may hold a password.
    let (shown, queue) = (redacted(&settings.store), redacted(&settings.queue));
    let shown = Settings { store: shown, queue, ..settings.clone() };
    tracing::info!(settings = ?shown, subscriptions = directory.count(), taken_up = released, "starting");
    let (board, metrics) = Default::default();
    let (delivers, turn) = (settings.role != Role::Api, tokio::sync::Mutex::default());
    Ok(Replica { store, directory, access, keys, board, clock, metrics, delivers, turn })
}

fn worker(replica: &Replica, transport: Arc<dyn Transport>) -> Worker {
    Worker {
        store: replica.store.clone(),
        directory: replica.directory.clone(),
        board: replica.board.clone(),
        sender: transport,
        keys: replica.keys.clone(),
        clock: replica.clock.clone(),
        metrics: replica.metrics.clone(),
        statistics: Arc::default(),
    }
}

fn bookkeeper(worker: &Worker) -> Bookkeeper {
    Bookkeeper {
        store: worker.store.clone(),
        statistics: worker.statistics.clone(),
        metrics: worker.metrics.clone(),
    }
}

fn courier(replica: &Replica, queue: Arc<dyn Queue>) -> Courier {
    Courier {
        store: replica.store.clone(),
        queue,
        board: replica.board.clone(),
        clock: replica.clock.clone(),
        metrics: replica.metrics.clone(),
    }
}

fn retention(replica: &Replica, settings: &Settings) -> Retention {
    Retention {
        store: replica.store.clone(),
        keep: settings.retention,
        keep_events: settings.retention_events,
        clock: replica.clock.clone(),
        metrics: replica.metrics.clone(),
    }
}

fn replayer(replica: &Replica, asked: Arc<Notify>) -> Replayer {
    Replayer {
        store: replica.store.clone(),
        directory: replica.directory.clone(),
        board: replica.board.clone(),
        asked,
        clock: replica.clock.clone(),
        metrics: replica.metrics.clone(),
    }
}

fn follower(replica: &Replica, feed: &Feed) -> Follower {
    Follower {
        store: replica.store.clone(),
        directory: replica.directory.clone(),
        board: replica.board.clone(),
        accepted: feed.watch(),
        clock: replica.clock.clone(),
        metrics: replica.metrics.clone(),
    }
}

/// Has a queue sent what waits to be sent once everything ends.
async fn close(queue: Arc<dyn Queue>, mut stopped: watch::Receiver<bool>) {
    // An error means that nobody is left to say stop; that is a stop.
    let _ = stopped.wait_for(|stopped| *stopped).await;
    queue.close().await;
}

/// Who may call: the tokens that are set, or that were made at the first start, and those of the store.
async fn access(settings: &Settings, store: &dyn Store) -> anyhow::Result<Access> {
    let admin = token(store, settings.admin_token.as_ref(), "admin", "admin_token_hash").await?;
    let ingest = token(store, settings.ingest_token.as_ref(), "ingest", "ingest_token_hash").await?;
    Ok(Access::load(store, admin, ingest).await?)
}

/// The subscriptions, with what the settings say of all of them.
async fn directory(settings: &Settings, store: &dyn Store) -> Result<Directory, StoreError> {
    let defaults =
        Defaults { retry: settings.retry_schedule.clone().unwrap_or_default(), base_url: base_url(settings) };
    Directory::load(store, settings.guard(), defaults).await
}

/// The API's public base URL, without a slash at its end.
fn base_url(settings: &Settings) -> Option<String> {
    settings.api_url.as_ref().map(|url| url.as_str().trim_end_matches('/').to_owned())
}

/// Who comes through the API's own gateway.
fn tenants(settings: &Settings) -> anyhow::Result<Tenants> {
    let gateway = settings.gateway_token.as_ref().map(|token| TokenHash::of(token.reveal()));
    let (header, links) = (settings.tenant_header.clone(), Links::new(settings.vault()?));
    Ok(Tenants::new(header, gateway, settings.tenant_subscriptions, settings.tenant_rate, links))
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
        match store.replace_meta(name, sealed, check, Note::default()).await {
            // Another process, started with the same keys, came first.
            Err(StoreError::Conflict) => {}
            done => done?,
        }
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
    let stands = store.meta(name, Some(Bytes::copy_from_slice(&hash.0))).await?;
    let stands = stands.and_then(|stands| <[u8; 32]>::try_from(&stands[..]).ok()).map(TokenHash);
    let stands = stands.context("the store holds a damaged token hash")?;
    // Of several processes that start for the first time together, one makes the token.
    if stands == hash {
        eprintln!("{kind} token, shown this once: {token}");
    }
    Ok(stands)
}
