//! Both seams are standards, so libraries in other languages have to agree: they post events, and verify deliveries.

use std::process::{Command, Stdio};
use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use harness::companion::{INGEST_TOKEN, Settings};
use harness::workspace::RunDirectory;
use harness::{Arrival, Companion, Receiver, node, python, wait};
use serde_json::{Value, json};

use crate::world::tell;

/// Posts three events with the official CloudEvents SDK, one in each content mode it can write.
const POST_EVENTS: &str = include_str!("foreign/post_events.py");
/// Reads a delivery from standard input and verifies it; anything but success is an exception.
const VERIFY_PYTHON: &str = include_str!("foreign/verify.py");
const VERIFY_JAVASCRIPT: &str = include_str!("foreign/verify.js");

#[tokio::test(flavor = "multi_thread")]
async fn events_of_pythons_cloudevents_sdk_are_accepted_and_delivered() {
    tell(posts_events).await;
}

async fn posts_events(run: &Arc<RunDirectory>) -> Result<()> {
    let environment = python::environment(&["cloudevents==2.2.0"])?;
    let (companion, receiver) = subscribed(run).await?;
    let mut command = environment.python();
    let posted =
        command.args(["-c", POST_EVENTS, &format!("http://{}/v1/events", companion.address()), INGEST_TOKEN]);
    let output = posted.stdin(Stdio::null()).output()?;
    ensure!(output.status.success(), "the SDK failed: {}", String::from_utf8_lossy(&output.stderr));
    let arrivals = receiver.wait_for(4, wait::PATIENCE).await?;
    let mut seen: Vec<(String, Value)> =
        arrivals.iter().map(|arrival| (arrival.event_type(), arrival.json()["data"].clone())).collect();
    seen.sort_by_key(|(event_type, _)| event_type.clone());
    let expected = ["batch.one", "batch.two", "binary.one", "structured.one"];
    let expected: Vec<_> =
        expected.map(|name| (name.to_owned(), json!({"id": name, "city": "Zürich"}))).into();
    ensure!(seen == expected, "arrived: {seen:?}");
    ensure!(arrivals.iter().all(|arrival| arrival.verified.is_ok()), "a delivery does not verify");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delivery_verifies_with_the_library_for_python() {
    tell(async |run| {
        let environment = python::environment(&["standardwebhooks==1.1.0"])?;
        verifies(run, || {
            let mut command = environment.python();
            command.args(["-c", VERIFY_PYTHON]);
            command
        })
        .await
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delivery_verifies_with_the_library_for_javascript() {
    tell(async |run| {
        let environment = node::environment(&["standardwebhooks@1.1.1"])?;
        verifies(run, || {
            let mut command = environment.node();
            command.args(["-e", VERIFY_JAVASCRIPT]);
            command
        })
        .await
    })
    .await;
}

/// The library takes a genuine delivery for genuine, and a changed one not.
async fn verifies(run: &Arc<RunDirectory>, verifier: impl Fn() -> Command) -> Result<()> {
    let (companion, receiver) = subscribed(run).await?;
    let event =
        json!({"specversion": "1.0", "id": "1", "source": "e2e", "type": "a.b", "data": {"name": "Zoë"}});
    let call = companion.ingest().post("/v1/events").header("content-type", "application/cloudevents+json");
    call.body(event.to_string()).send().await?.expect(202)?;
    let arrivals = receiver.wait_for(1, wait::PATIENCE).await?;
    let genuine = delivery(&receiver, &arrivals[0]);
    let output = ask(verifier(), &genuine)?;
    ensure!(output.status.success(), "refused: {}", String::from_utf8_lossy(&output.stderr));
    let mut forged = genuine.clone();
    forged["body"] = genuine["body"].as_str().context("a body")?.replace("Zoë", "Zoe").into();
    let output = ask(verifier(), &forged)?;
    let reason = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(
        !output.status.success() && reason.contains("WebhookVerificationError"),
        "not refused, but: {reason}"
    );
    Ok(())
}

/// All that a verifier needs to know.
fn delivery(receiver: &Receiver, arrival: &Arrival) -> Value {
    let names = ["webhook-id", "webhook-timestamp", "webhook-signature"];
    let headers: serde_json::Map<_, _> =
        names.iter().map(|name| ((*name).to_owned(), arrival.header(name).into())).collect();
    json!({"secret": receiver.secret(), "headers": headers, "body": String::from_utf8_lossy(&arrival.body)})
}

fn ask(mut command: Command, delivery: &Value) -> Result<std::process::Output> {
    use std::io::Write as _;
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    child.stdin.take().context("standard input")?.write_all(delivery.to_string().as_bytes())?;
    Ok(child.wait_with_output()?)
}

async fn subscribed(run: &Arc<RunDirectory>) -> Result<(Companion, Receiver)> {
    let companion = Companion::start(run, Settings::default()).await?;
    let receiver = Receiver::start().await?;
    companion.subscribe(&receiver, &["*"]).await?;
    Ok((companion, receiver))
}
