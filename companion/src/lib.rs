//! Gatehook's companion: takes events, and delivers them signed and retried to whoever subscribed.
//!
//! A few pure rules, a database that owns the truth, and thin edges around them. [`start`] has the parts assembled and
//! decides nothing.
#![doc = include_str!("../README.md")]

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

// Rules: pure.
pub mod cloudevents;
pub mod condition;
pub mod credentials;
mod lanes;
pub mod limits;
pub mod links;
pub mod matcher;
pub mod members;
pub mod model;
pub mod news;
pub mod parcel;
pub mod payload;
pub mod rate;
pub mod retry;
pub mod signature;
pub mod statistics;
pub mod target;
pub mod vault;

// The truth, and what is known of it in memory.
pub mod ahead;
pub mod board;
pub mod bookkeeper;
pub mod catalogue;
pub mod courier;
pub mod directory;
pub mod feed;
pub mod queue;
pub mod replayer;
pub mod replica;
pub mod retention;
pub mod store;
pub mod timekeeper;

// Edges.
pub mod api;
pub mod clock;
pub mod commands;
pub mod config;
pub mod connections;
pub mod disk;
pub mod handshake;
pub mod keys;
pub mod sender;
pub mod server;
pub mod telemetry;
pub mod worker;

mod assembly;

#[cfg(test)]
mod simulation;
#[cfg(test)]
mod testing;

use assembly::Companion;
use clock::Clock;
use config::{Role, Settings};
use sender::Sender;

/// A companion at work.
pub struct Running {
    /// Where the API listens.
    pub address: SocketAddr,
    /// Where tenants are served, behind the API's own gateway.
    pub public_address: Option<SocketAddr>,
    stop: watch::Sender<bool>,
    tasks: Vec<JoinHandle<()>>,
}

impl Running {
    /// Stops taking requests and claiming deliveries, and waits for what is under way.
    pub async fn stop(self) {
        // Fails only where everything has ended already.
        let _ = self.stop.send(true);
        let end = tokio::time::Instant::now() + limits::STOP;
        for mut task in self.tasks {
            match tokio::time::timeout_at(end, &mut task).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::error!(%error, "a part of the companion ended badly"),
                Err(_) => {
                    tracing::warn!(
                        "a part of the companion did not end in time; what it had claimed is sent again"
                    );
                    task.abort();
                }
            }
        }
    }
}

/// What a companion listens on.
pub struct Listeners {
    /// For operators and gateways' events.
    pub operators: TcpListener,
    /// For tenants, behind the API's own gateway.
    pub tenants: Option<TcpListener>,
}

impl Listeners {
    /// The listeners that the settings name.
    ///
    /// # Errors
    /// An address that cannot be bound, by its setting.
    pub async fn bind(settings: &Settings) -> anyhow::Result<Self> {
        let bind = async |name: &str, address: SocketAddr| {
            TcpListener::bind(address).await.with_context(|| format!("{name}: cannot bind {address}"))
        };
        let tenants = match settings.public_listen {
            Some(address) => Some(bind("--public-listen", address).await?),
            None => None,
        };
        Ok(Self { operators: bind("--listen", settings.listen).await?, tenants })
    }
}

/// Opens the store, reads the subscriptions, and starts the API on the listeners and the worker.
///
/// # Errors
/// Whatever stops the start, in a sentence: settings that do not go together, a store that cannot be
/// opened, a wrong key.
pub async fn start(
    settings: &Settings,
    listeners: Listeners,
    clock: Arc<dyn Clock>,
) -> anyhow::Result<Running> {
    settings.fit()?;
    let store = store::connect(&settings.store, settings.vault()?).await.context("--store")?;
    let sender = Sender::trusting(settings.guard(), &settings.roots()?)?;
    let (stop, stopped) = watch::channel(false);
    let transport = Arc::new(sender.clone());
    let queue = queue::connect(&settings.queue).await.context("--queue")?;
    let companion =
        Companion::assemble(settings, store, sender, transport, queue, clock, stopped.clone()).await?;
    let address = listeners.operators.local_addr().context("the listener has no address")?;
    let public_address = listeners.tenants.as_ref().and_then(|listener| listener.local_addr().ok());
    let (api, mut tasks) = companion.run();
    let count = 1 + usize::from(public_address.is_some());
    if let Some(listener) = listeners.tenants {
        let router = api::of_tenants(api.clone());
        tasks.push(tokio::spawn(server::run(listener, router, count, stopped.clone())));
    }
    let router = if settings.role == Role::Worker { api::of_worker(api) } else { api::router(api) };
    tasks.push(tokio::spawn(server::run(listeners.operators, router, count, stopped)));
    tracing::info!(%address, public_address = public_address.map(tracing::field::display), "listening");
    Ok(Running { address, public_address, stop, tasks })
}
