//! The companion goes away and comes back: nothing is lost below the outbox's bound, and above it all is counted.

use anyhow::ensure;
use harness::recorder::Verdict;
use harness::{Gateway, Recorder, Upstream, wait};
use serde_json::json;

use crate::world::{World, create, numbers, store, tell};

#[tokio::test(flavor = "multi_thread")]
async fn what_was_written_during_an_outage_arrives_after_it() {
    tell(async |run| {
        let mut world = World::start(run, |gateway| gateway).await?;
        let caller = world.gateway.caller();
        create(&caller, 0).await?;
        world.receiver.wait_for(1, wait::PATIENCE).await?;
        world.companion.stop()?;
        for number in 1..=100 {
            create(&caller, number).await?;
        }
        world.companion.restart().await?;
        let arrivals = world.receiver.wait_for(101, wait::PATIENCE).await?;
        ensure!(numbers(&arrivals) == (0..=100).collect::<Vec<_>>(), "arrived: {:?}", numbers(&arrivals));
        ensure!(world.gateway.metric("gatehook_dropped").await? == 0, "something was dropped");
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_outbox_cannot_hold_is_counted_to_the_last_event() {
    tell(async |run| {
        let mut world =
            World::start(run, |gateway| gateway.filter(&json!({"outbox": {"max_events": 10}}))).await?;
        let caller = world.gateway.caller();
        world.companion.stop()?;
        for number in 0..25 {
            create(&caller, number).await?;
        }
        world.gateway.metric_becomes("gatehook_dropped", 15).await?;
        world.companion.restart().await?;
        // The newest are dropped: those who came first keep their place.
        let arrivals = world.receiver.wait_for(10, wait::PATIENCE).await?;
        ensure!(numbers(&arrivals) == (0..10).collect::<Vec<_>>(), "arrived: {:?}", numbers(&arrivals));
        create(&caller, 99).await?;
        let arrivals = world.receiver.wait_for(11, wait::PATIENCE).await?;
        ensure!(numbers(&arrivals).last() == Some(&99), "the outbox has not recovered");
        ensure!(world.gateway.metric("gatehook_dropped").await? == 15, "more was dropped");
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_an_acknowledgement_ends_the_trying() {
    tell(async |run| {
        // 200 without our header is what a wrong address answers; 413 asks for less at a time; 400 refuses for good.
        let recorder = Recorder::scripted(|number, events| match number {
            0 => Verdict::Refuse(200),
            1 => Verdict::Refuse(401),
            2 => Verdict::Refuse(503),
            _ if events.len() > 1 => Verdict::Refuse(413),
            _ if events[0]["data"]["id"] == "3" => Verdict::Refuse(400),
            _ => Verdict::Accept,
        })
        .await?;
        let upstream = Upstream::start(store).await?;
        let gateway = Gateway::before(upstream.address(), recorder.address()).start(run).await?;
        for number in 0..8 {
            create(&gateway.caller(), number).await?;
        }
        let accepted = recorder.accepted_at_least(7, wait::PATIENCE).await?;
        let mut ids: Vec<&str> = accepted.iter().filter_map(|event| event["data"]["id"].as_str()).collect();
        ids.sort_unstable();
        ensure!(ids == ["0", "1", "2", "4", "5", "6", "7"], "accepted: {ids:?}");
        let batches = recorder.batches();
        let first = batches[0].events[0]["id"].clone();
        ensure!(batches[1].events[0]["id"] == first, "a repeat is known by its id, and this one has another");
        ensure!(batches[0].headers["content-type"] == "application/cloudevents-batch+json", "not a batch");
        Ok(())
    })
    .await;
}
