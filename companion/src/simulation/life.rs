//! One life of the companion: from its start until it is killed, stopped, or nothing is left to do.

use std::path::Path;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use clap::Parser;
use tokio::runtime::Builder;
use tokio::sync::watch;

use super::client::Client;
use super::plan::PATIENCE;
use super::receivers::Receivers;
use super::store::{Faulty, wait_for};
use super::world::{World, WorldClock};
use crate::assembly::Companion;
use crate::board::Board;
use crate::config::Settings;
use crate::model::SubscriptionStatus;
use crate::sender::Sender;
use crate::store::{self, Store, SubscriptionQuery};
use crate::target::Guard;
use crate::vault::Vault;

/// How a life ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// Nothing is pending, nothing left to be done; or it took too long.
    Settled,
    /// Killed.
    Crash,
    /// Stopped politely.
    Stop,
}

#[derive(Parser)]
struct Program {
    #[command(flatten)]
    settings: Settings,
}

/// Lives until the plan's next crash or stop, or to the end.
pub(super) fn live(world: &Arc<World>) -> End {
    let runtime = Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(async {
        world.begin();
        let end = tokio::select! {
            biased;
            () = world.crashed.notified() => End::Crash,
            end = run(world) => end,
        };
        world.end(end == End::Crash);
        end
    })
}

/// Opens the store; that of the life before may take a moment to let go of its file.
pub(super) fn open(path: &Path) -> Arc<dyn Store> {
    loop {
        match store::embedded(&format!("sqlite:{}", path.display()), Vault::new(&[7; 32])) {
            Ok(store) => return store,
            Err(error) if format!("{error:#}").contains("in use") => std::thread::yield_now(),
            Err(error) => panic!("{error:#}"),
        }
    }
}

fn settings(world: &World) -> Settings {
    static BASE: LazyLock<Settings> = LazyLock::new(|| {
        let key = "BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=";
        let tokens = ["--admin-token", "admin", "--ingest-token", "ingest", "--secret-key", key];
        let flags = ["gatehook", "--min-free-disk", "0B", "--allow-targets", "127.0.0.0/8"];
        Program::parse_from(flags.into_iter().chain(tokens)).settings
    });
    let store = format!("sqlite:{}", world.database().display());
    Settings { store, retention_events: world.plan.keep_events, ..BASE.clone() }
}

async fn run(world: &Arc<World>) -> End {
    static SENDER: LazyLock<Sender> = LazyLock::new(|| Sender::new(Guard::new(&[])).unwrap());
    let inner = open(&world.database());
    let store = Arc::new(Faulty { inner: inner.clone(), world: world.clone() });
    let (stop, stopped) = watch::channel(false);
    let clock = Arc::new(WorldClock(world.clone()));
    let transport = Arc::new(Receivers(world.clone()));
    let settings = settings(world);
    let assembled =
        Companion::assemble(&settings, store, SENDER.clone(), transport, None, clock, stopped).await;
    let Ok(mut companion) = assembled else {
        // A start that the store refuses is tried again, as a supervisor would.
        tokio::time::sleep(Duration::from_secs(1)).await;
        return End::Stop;
    };
    promises_were_kept(world, &*inner);
    let board = std::mem::take(&mut companion.worker.board);
    tokio::spawn(forward(world.clone(), board, companion.worker.board.clone()));
    let (api, tasks) = companion.run();
    let client = Client::new(api, inner, world.clone());
    let settled = async {
        client.subscribe().await;
        tokio::join!(client.offer(), client.act());
        while world.now_ms() < PATIENCE && (!world.is_calm() || client.is_anything_pending().await) {
            tokio::time::sleep(Duration::from_secs(20)).await;
        }
    };
    tokio::select! {
        biased;
        () = world.stopped.notified() => {}
        () = settled => return End::Settled,
    }
    world.stop();
    world.count("stopped");
    let _ = stop.send(true);
    for task in tasks {
        task.await.unwrap();
    }
    End::Stop
}

/// Checks that what the API said of subscriptions before a crash is what the store says after it.
fn promises_were_kept(world: &World, store: &dyn Store) {
    let query = SubscriptionQuery { limit: 99, ..Default::default() };
    let found = wait_for(store.subscriptions(query)).unwrap();
    let promised = world.state().promised.clone();
    for (id, promised) in promised {
        let status = found.iter().find(|one| one.id.as_str() == id).map(|one| one.status.word());
        // One that is on may go off by itself.
        if status != promised && (promised != Some("on") || status != Some(SubscriptionStatus::Off.word())) {
            world.fault(format!("{id} is {status:?} after it was said to be {promised:?}"));
        }
    }
}

/// Carries what the API publishes to the worker; loses some and repeats some.
async fn forward(world: Arc<World>, from: Arc<Board>, to: Arc<Board>) {
    let drawn = |chance: u64| chance > 0 && !world.is_calm() && world.state().dice.percent(chance);
    let is_lost = || {
        let is_lost = drawn(world.plan.lost);
        if is_lost {
            world.count("wake-ups lost");
        }
        is_lost
    };
    loop {
        let mut arrived = from.receive().await;
        arrived.woken.retain(|_| !is_lost());
        arrived.ready.retain(|_| !is_lost());
        if drawn(world.plan.repeated) {
            world.count("wake-ups repeated");
            let (woken, to) = (arrived.woken.clone(), to.clone());
            let pause = Duration::from_millis(world.state().dice.below(3_000));
            tokio::spawn(async move {
                tokio::time::sleep(pause).await;
                to.wake(woken);
            });
        }
        to.hand_over(arrived.ready, arrived.woken);
    }
}
