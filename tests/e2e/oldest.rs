//! The oldest Envoy that is supported runs the sample as it is, on every `cargo test`.
//!
//! `ENVOY_VERSION` tells every other story on it as well; this one is what must never break unnoticed.

use anyhow::{Result, ensure};
use harness::companion::INGEST_TOKEN;
use harness::envoy::OLDEST_VERSION;
use harness::sample::Sample;
use harness::{Receiver, wait};
use hyper::Method;
use serde_json::{Value, json};

use crate::reconfigure::DRAINING;
use crate::world::{World, create, tell};

#[tokio::test(flavor = "multi_thread")]
async fn the_sample_works_on_the_oldest_envoy() {
    tell(async |run| {
        let mut configuration = Sample::read("envoy.yaml")?.own_filter()?;
        configuration["companion"]["token"] = INGEST_TOKEN.into();
        let gateway = |builder: harness::gateway::Builder| {
            builder.version(OLDEST_VERSION).filter(&configuration).listeners_from_file()
        };
        let mut world = World::start(run, gateway).await?;
        let about = world.gateway.admin().get("/server_info").send().await?.expect(200)?.json()?;
        let version = about["version"].as_str().unwrap_or_default();
        ensure!(version.contains(&format!("/{OLDEST_VERSION}/")), "this Envoy is {version}");

        let caller = world.gateway.caller();
        let renamed = json!({"id": "0", "name": "Ada Lovelace"});
        create(&caller, 0).await?;
        caller.call(Method::PUT, "/v1/contacts/0").json(&renamed).send().await?.expect(200)?;
        caller.call(Method::DELETE, "/v1/contacts/0").send().await?.expect(204)?;
        let mut expected =
            vec![created(0), ("contact.update", renamed), ("contact.delete", json!({"id": "0"}))];
        brings(&world.receiver, &expected).await?;

        world.companion.stop()?;
        create(&caller, 1).await?;
        create(&caller, 2).await?;
        world.gateway.metric_becomes("gatehook_outbox_events", 2).await?;
        configuration["source"] = "changed".into();
        world.gateway.reconfigure(&configuration).await?;
        world.gateway.metric_becomes(DRAINING, 0).await?;
        create(&caller, 3).await?;
        world.companion.restart().await?;
        expected.extend([created(1), created(2), created(3)]);
        brings(&world.receiver, &expected).await?;
        let events = world.companion.list("/v1/events").await?;
        let changed: Vec<_> = events.iter().filter(|event| event["source"] == "changed").collect();
        ensure!(
            changed.len() == 1 && changed[0]["data"]["id"] == "3",
            "the change had no effect: {events:?}"
        );
        Ok(())
    })
    .await;
}

fn created(number: usize) -> (&'static str, Value) {
    ("contact.create", json!({"id": number.to_string(), "name": "Ada"}))
}

/// Waits until as many deliveries have been taken, and compares type and data of all, in whatever order they came.
async fn brings(receiver: &Receiver, expected: &[(&str, Value)]) -> Result<()> {
    let arrivals = receiver.wait_for(expected.len(), wait::PATIENCE).await?;
    ensure!(arrivals.iter().all(|arrival| arrival.verified.is_ok()), "a delivery does not verify");
    let mut arrived: Vec<_> = arrivals
        .iter()
        .map(|arrival| format!("{} {}", arrival.event_type(), arrival.json()["data"]))
        .collect();
    let mut expected: Vec<_> =
        expected.iter().map(|(event_type, data)| format!("{event_type} {data}")).collect();
    arrived.sort();
    expected.sort();
    ensure!(arrived == expected, "expected {expected:#?}, arrived {arrived:#?}");
    Ok(())
}
