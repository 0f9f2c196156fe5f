//! Several companions on one PostgreSQL: what one of them is told the others know.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, ensure};
use harness::companion::{INGEST_TOKEN, Settings};
use harness::http::Client;
use harness::skip::Unavailable;
use harness::workspace::RunDirectory;
use harness::{Companion, Gateway, Postgres, Receiver, Sqs, Upstream, amqp, wait};
use hyper::Method;
use serde_json::{Value, json};

use crate::world::{create, numbers, store, tell};

/// Far more than it takes, and less than the sweep that would find what nobody was woken for.
const SOON: Duration = Duration::from_secs(20);

async fn companion(run: &Arc<RunDirectory>, postgres: &Postgres) -> Result<Companion> {
    role("all", run, postgres, &Settings::default()).await
}

async fn role(
    role: &str,
    run: &Arc<RunDirectory>,
    postgres: &Postgres,
    common: &Settings,
) -> Result<Companion> {
    let mut settings = Settings { store: Some(postgres.url()), ..common.clone() };
    settings.arguments.extend(["--role".into(), role.into()]);
    Companion::start(run, settings).await
}

/// Settings of processes that a queue wakes.
fn by(queue: &str) -> Settings {
    Settings { arguments: vec!["--queue".into(), queue.into()], ..Settings::default() }
}

async fn offer(companion: &Companion, id: &str, token: &str) -> Result<u16> {
    let event = json!({"specversion": "1.0", "id": id, "source": "/test", "type": "contact.create"});
    let call = Client::http1(companion.address()).bearer(token).post("/v1/events");
    let call = call.header("content-type", "application/cloudevents+json").body(event.to_string());
    Ok(call.send().await?.status)
}

/// A write through Envoy, taken by a process that only takes events and delivered by one that only delivers.
async fn one_takes_and_the_other_delivers(run: &Arc<RunDirectory>, common: &Settings) -> Result<()> {
    let postgres = Postgres::start(run).await?;
    let api = role("api", run, &postgres, common).await?;
    let worker = role("worker", run, &postgres, common).await?;
    let upstream = Upstream::start(store).await?;
    let gateway = Gateway::before(upstream.address(), api.address()).start(run).await?;
    let receiver = Receiver::start().await?;
    api.subscribe(&receiver, &["*"]).await?;
    let caller = gateway.caller();
    for number in 0..20 {
        create(&caller, number).await?;
    }
    let arrivals = receiver.wait_for(20, SOON).await?;
    assert_eq!(numbers(&arrivals), (0..20).collect::<Vec<_>>());
    assert_eq!(api.metric("gatehook_attempts_total", "").await?, 0, "the api delivers nothing");
    // A receiver has an attempt before the worker has its answer.
    let counted = async || (worker.metric("gatehook_attempts_total", "").await.ok()? == 20).then_some(());
    wait::until("every attempt to be counted", SOON, counted).await?;
    let answer = worker.admin().get("/v1/subscriptions").send().await?;
    assert_eq!(answer.status, 404, "a worker has no API");
    let delivery = &api.list("/v1/deliveries?status=delivered").await?[0];
    let path = format!("/v1/deliveries/{}/redeliver", delivery["id"].as_str().unwrap_or_default());
    api.admin().post(&path).send().await?.expect(202)?;
    assert_eq!(receiver.wait_for(21, SOON).await?.len(), 21);
    api.integrity()
}

#[tokio::test]
async fn one_process_takes_events_and_another_delivers_them() {
    tell(async |run| one_takes_and_the_other_delivers(run, &Settings::default()).await).await;
}

#[tokio::test]
async fn a_queue_of_rabbitmq_wakes_the_process_that_delivers() {
    tell(async |run| {
        let queue = amqp::Broker::find().await?.queue();
        one_takes_and_the_other_delivers(run, &by(queue.url())).await
    })
    .await;
}

#[tokio::test]
async fn a_queue_of_sqs_wakes_the_process_that_delivers() {
    tell(async |run| {
        let sqs = Sqs::start(run).await?;
        let common = Settings { environment: sqs.environment(), ..by(&sqs.queue().await?) };
        one_takes_and_the_other_delivers(run, &common).await
    })
    .await;
}

#[tokio::test]
async fn no_event_misses_a_subscription_that_another_process_has_just_made() {
    tell(async |run| {
        let postgres = Postgres::start(run).await?;
        let (one, other) = (companion(run, &postgres).await?, companion(run, &postgres).await?);
        let receiver = Receiver::start().await?;
        for number in 0..20 {
            let subscription = one.subscribe(&receiver, &["contact.create"]).await?;
            assert_eq!(offer(&other, &format!("a{number}"), INGEST_TOKEN).await?, 202);
            receiver.wait_for(2 * number + 1, SOON).await?;
            let path = format!("/v1/subscriptions/{}", subscription["id"].as_str().unwrap_or_default());
            one.admin().call(Method::DELETE, &path).send().await?.expect(204)?;
            assert_eq!(offer(&other, &format!("b{number}"), INGEST_TOKEN).await?, 202, "nobody wants it");
            let kept = one.subscribe(&receiver, &["contact.*"]).await?;
            assert_eq!(offer(&other, &format!("c{number}"), INGEST_TOKEN).await?, 202);
            receiver.wait_for(2 * number + 2, SOON).await?;
            let path = format!("/v1/subscriptions/{}", kept["id"].as_str().unwrap_or_default());
            other.admin().call(Method::DELETE, &path).send().await?.expect(204)?;
        }
        assert_eq!(other.list("/v1/deliveries").await?.len(), 40);
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn tokens_and_keys_that_one_process_makes_are_those_of_all() {
    tell(async |run| {
        let postgres = Postgres::start(run).await?;
        let (one, other) = (companion(run, &postgres).await?, companion(run, &postgres).await?);
        let made = one.admin().post("/v1/tokens").json(&json!({"scope": "ingest"})).send().await?;
        let made: Value = made.expect(201)?.json()?;
        let token = made["token"].as_str().unwrap_or_default().to_owned();
        let becomes = async |status: u16| {
            let answers = async || (offer(&other, "1", &token).await.ok()? == status).then_some(());
            wait::until("the other process to know", Duration::from_secs(10), answers).await
        };
        becomes(202).await?;
        let path = format!("/v1/tokens/{}", made["id"].as_str().unwrap_or_default());
        one.admin().call(Method::DELETE, &path).send().await?.expect(204)?;
        becomes(401).await?;
        one.admin().post("/v1/signing-keys/rotate").send().await?.expect(200)?;
        let keys = one.read("/v1/signing-keys").await?;
        other.read_until("/v1/signing-keys", |known| *known == keys).await?;
        Ok(())
    })
    .await;
}

/// What `cargo faults` says of the faults whose name contains this, each tried a few times.
async fn faults(part: &str) -> Result<()> {
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_faults"));
    let output = command.args(["--quick", "--only", part]).output().await?;
    let said = String::from_utf8_lossy(&output.stdout);
    println!("{said}");
    if let Some((_, reason)) = said.split_once("not on this machine: ") {
        return Err(Unavailable::new(reason.lines().next().unwrap_or_default()).into());
    }
    ensure!(output.status.success(), "a promise was broken:\n{said}");
    ensure!(said.contains(part), "there is no fault called {part}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_where_a_replica_is_killed_or_paused_or_its_server_restarts() {
    tell(async |_| faults("replica").await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_where_the_queue_is_out_of_reach() {
    tell(async |_| faults("RabbitMQ").await).await;
}
