//! The caller never waits for us: neither for a companion that has stopped, nor for the end of a body.

use std::sync::Arc;

use anyhow::{Result, ensure};
use harness::companion::Settings;
use harness::workspace::RunDirectory;
use harness::{Answer, Companion, Gate, Gateway, Receiver, Upstream, wait};

use crate::world::{World, create, numbers, tell};

#[tokio::test(flavor = "multi_thread")]
async fn callers_have_their_answers_while_the_companion_is_frozen() {
    tell(async |run| {
        let world = World::start(run, |gateway| gateway).await?;
        let caller = world.gateway.caller();
        // One event on its way first, so that the connection to the companion is open when it freezes.
        create(&caller, 0).await?;
        world.receiver.wait_for(1, wait::PATIENCE).await?;
        world.companion.freeze()?;
        for number in 1..=20 {
            create(&caller, number).await?;
        }
        // Every caller has its answer, and the companion cannot have given one: it has not run since.
        ensure!(world.receiver.arrivals().len() == 1, "a frozen companion delivered");
        world.companion.thaw()?;
        let arrivals = world.receiver.wait_for(21, wait::PATIENCE).await?;
        ensure!(numbers(&arrivals) == (0..=20).collect::<Vec<_>>(), "arrived: {:?}", numbers(&arrivals));
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_flows_to_the_caller_as_the_api_writes_it() {
    tell(flows).await;
}

async fn flows(run: &Arc<RunDirectory>) -> Result<()> {
    let gate = Gate::closed();
    let answer = Answer::chunked(201).chunk("{\"id\": ").wait(&gate).chunk("\"1\"}");
    let upstream = Upstream::start(move |_| answer.clone()).await?;
    let companion = Companion::start(run, Settings::default()).await?;
    let receiver = Receiver::start().await?;
    companion.subscribe(&receiver, &["contact.create"]).await?;
    let gateway = Gateway::before(upstream.address(), companion.address()).start(run).await?;
    let mut answer = gateway.caller().post("/v1/contacts").body("{}").start().await?;
    // The API has not written the rest, and will not before the gate opens, yet its first words are here.
    ensure!(
        answer.status == 201 && answer.next().await?.is_some_and(|chunk| chunk == "{\"id\": "),
        "held back"
    );
    ensure!(receiver.arrivals().is_empty(), "there was an event before the answer had ended");
    gate.open();
    ensure!(answer.next().await?.is_some_and(|chunk| chunk == "\"1\"}"), "the rest is missing");
    let arrivals = receiver.wait_for(1, wait::PATIENCE).await?;
    ensure!(numbers(&arrivals) == [1], "arrived: {}", arrivals[0].json());
    Ok(())
}
