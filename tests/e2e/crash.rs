//! The companion is killed in the middle of its work, again and again; what it had accepted arrives all the same.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use anyhow::{Context as _, Result, ensure};
use harness::companion::Settings;
use harness::http::Client;
use harness::workspace::RunDirectory;
use harness::{Companion, Receiver, Reply, wait};
use serde_json::json;

use crate::world::{World, create, numbers, tell};

#[tokio::test(flavor = "multi_thread")]
async fn every_write_arrives_although_the_companion_is_killed_again_and_again() {
    tell(killed_behind_envoy).await;
}

async fn killed_behind_envoy(run: &Arc<RunDirectory>) -> Result<()> {
    let mut world = World::start(run, |gateway| gateway.concurrency(2)).await?;
    let (next, over) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
    let (count, end, caller) = (Arc::clone(&next), Arc::clone(&over), world.gateway.caller());
    let writing = tokio::spawn(async move {
        while !end.load(Ordering::Relaxed) {
            create(&caller, count.fetch_add(1, Ordering::Relaxed)).await?;
        }
        anyhow::Ok(())
    });
    for round in 1..=3 {
        // In the middle of a run: deliveries are arriving, so there are others behind them.
        world.receiver.wait_for(round * 50, wait::PATIENCE).await?;
        world.companion.kill()?;
        world.companion.restart().await?;
    }
    over.store(true, Ordering::Relaxed);
    writing.await??;
    let written = next.load(Ordering::Relaxed);
    let all = |arrivals: &[_]| {
        let distinct: BTreeSet<usize> = numbers(arrivals).into_iter().collect();
        (distinct.len() == written).then_some(())
    };
    let outcome = world.receiver.wait_until(wait::PATIENCE, all).await;
    outcome.with_context(|| format!("{written} were written"))
}

#[tokio::test(flavor = "multi_thread")]
async fn an_accepted_event_survives_a_kill_before_its_first_delivery() {
    tell(killed_before_delivery).await;
}

async fn killed_before_delivery(run: &Arc<RunDirectory>) -> Result<()> {
    let mut companion = Companion::start(run, Settings::default()).await?;
    // The receiver fails until the companion was killed, so everything accepted is still to be delivered then.
    let recovered = Arc::new(AtomicBool::new(false));
    let well = Arc::clone(&recovered);
    let script = move |_| Reply::Status(if well.load(Ordering::Relaxed) { 200 } else { 503 });
    let receiver = Receiver::scripted(script).await?;
    companion.subscribe(&receiver, &["contact.*"]).await?;
    let mut accepted = BTreeSet::new();
    for number in 0..200 {
        accept(&companion.ingest(), number).await?;
        accepted.insert(number);
    }
    companion.kill()?;
    recovered.store(true, Ordering::Relaxed);
    companion.restart().await?;
    let all = |arrivals: &[_]| {
        let arrived: BTreeSet<usize> = numbers(arrivals).into_iter().collect();
        (arrived == accepted).then_some(())
    };
    receiver.wait_until(wait::PATIENCE, all).await
}

/// Hands one event over as an application would that knows CloudEvents, and insists on the acknowledgement.
async fn accept(ingest: &Client, number: usize) -> Result<()> {
    let event = json!({
        "specversion": "1.0",
        "id": format!("event-{number}"),
        "source": "e2e",
        "type": "contact.create",
        "data": {"id": number.to_string()},
    });
    let call = ingest.post("/v1/events").header("content-type", "application/cloudevents+json");
    let answer = call.body(event.to_string()).send().await?.expect(202)?;
    ensure!(
        answer.header("gatehook-ack") == "accepted=1;repeated=0;refused=0",
        "{}",
        answer.header("gatehook-ack")
    );
    Ok(())
}
