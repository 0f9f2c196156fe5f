//! The filter's configuration changes while callers write, and neither they nor the receivers notice.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use anyhow::{Result, ensure};
use harness::gateway::Builder;
use harness::http::Client;
use harness::wait;
use harness::workspace::RunDirectory;
use serde_json::json;

use crate::world::{World, create, numbers, tell};

const CALLERS: usize = 4;
const CHANGES: u64 = 8;

/// How many replaced filter chains still wait for their callers to leave; a new filter configuration replaces one.
pub(crate) const DRAINING: &str = "envoy_listener_manager_total_filter_chains_draining";

#[tokio::test(flavor = "multi_thread")]
async fn a_change_under_load_costs_no_answer_and_no_event() {
    tell(changes_under_load).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_for_the_companion_survives_a_change() {
    tell(async |run| {
        let mut world = World::start(run, Builder::listeners_from_file).await?;
        let caller = world.gateway.caller();
        world.companion.stop()?;
        for number in 0..30 {
            create(&caller, number).await?;
        }
        world.gateway.reconfigure(&json!({"source": "gateway-1"})).await?;
        // The old root goes with the old filter chain, and it is the one under which all of them were observed.
        world.gateway.metric_becomes(DRAINING, 0).await?;
        world.companion.restart().await?;
        // No caller writes any more, so the new root has to take up what the old one left by itself.
        let arrivals = world.receiver.wait_for(30, wait::PATIENCE).await?;
        ensure!(numbers(&arrivals) == (0..30).collect::<Vec<_>>(), "arrived: {:?}", numbers(&arrivals));
        Ok(())
    })
    .await;
}

async fn changes_under_load(run: &Arc<RunDirectory>) -> Result<()> {
    let mut world = World::start(run, |gateway| gateway.listeners_from_file().concurrency(2)).await?;
    let (next, over) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
    let callers: Vec<_> = (0..CALLERS)
        .map(|_| tokio::spawn(write(world.gateway.caller(), Arc::clone(&next), Arc::clone(&over))))
        .collect();
    for change in 1..=CHANGES {
        let before = next.load(Ordering::Relaxed);
        // Another source is a change that shows in every event, so that a change without effect would be noticed.
        let source = format!("gateway-{change}");
        world.gateway.reconfigure(&json!({"source": source})).await?;
        // Between two changes the callers get some work done, or there would be no load to speak of.
        let busy = async || (next.load(Ordering::Relaxed) > before + 50).then_some(());
        wait::until("the callers to go on", wait::PATIENCE, busy).await?;
    }
    // The load goes on until the last of the old filter chains is gone, and with it the old root of every worker.
    world.gateway.metric_becomes(DRAINING, 0).await?;
    over.store(true, Ordering::Relaxed);
    for caller in callers {
        caller.await??;
    }
    let written = next.load(Ordering::Relaxed);
    let arrivals = world.receiver.wait_for(written, wait::PATIENCE).await?;
    ensure!(
        numbers(&arrivals) == (0..written).collect::<Vec<_>>(),
        "{written} written, {} arrived",
        arrivals.len()
    );
    let last = world.companion.list("/v1/events").await?;
    let sources: std::collections::BTreeSet<&str> =
        last.iter().filter_map(|event| event["source"].as_str()).collect();
    ensure!(sources.len() > 2, "the changes had no effect: {sources:?}");
    Ok(())
}

/// Writes until told otherwise; anything but success is an error.
async fn write(caller: Client, next: Arc<AtomicUsize>, over: Arc<AtomicBool>) -> Result<()> {
    while !over.load(Ordering::Relaxed) {
        create(&caller, next.fetch_add(1, Ordering::Relaxed)).await?;
    }
    Ok(())
}
