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

/// The library takes a genuine delivery for genuine with the secret, and after a rotation with the old one and with the new
/// one; and a changed body or another secret not.
async fn verifies(run: &Arc<RunDirectory>, verifier: impl Fn() -> Command) -> Result<()> {
    let companion = Companion::start(run, Settings::default()).await?;
    let receiver = Receiver::start().await?;
    let subscription = companion.subscribe(&receiver, &["*"]).await?;
    accept(&companion, "1").await?;
    let old = delivery(&receiver, &receiver.wait_for(1, wait::PATIENCE).await?[0]);
    takes(verifier(), &old)?;
    let path = format!("/v1/subscriptions/{}/rotate-secret", subscription["id"].as_str().context("an id")?);
    let rotated = companion.admin().post(&path).send().await?.expect(200)?.json()?;
    accept(&companion, "2").await?;
    let mut both = delivery(&receiver, &receiver.wait_for(2, wait::PATIENCE).await?[1]);
    takes(verifier(), &both)?;
    both["secret"] = rotated["secret"].clone();
    takes(verifier(), &both)?;
    refuses(verifier(), &changed(&both)?)?;
    let stranger = json!("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
    both["secret"] = stranger;
    refuses(verifier(), &both)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ed25519_delivery_verifies_in_python_with_the_published_keys() {
    tell(async |run| {
        let environment = python::environment(&["PyNaCl==1.6.1"])?;
        verifies_with_published_keys(run, || {
            let mut command = environment.python();
            command.args(["-c", include_str!("foreign/verify_ed25519.py")]);
            command
        })
        .await
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ed25519_delivery_verifies_in_javascript_with_the_published_keys() {
    tell(async |run| {
        let environment = node::environment(&["standardwebhooks@1.1.1"])?;
        verifies_with_published_keys(run, || {
            let mut command = environment.node();
            command.args(["-e", include_str!("foreign/verify_ed25519.js")]);
            command
        })
        .await
    })
    .await;
}

async fn verifies_with_published_keys(run: &Arc<RunDirectory>, verifier: impl Fn() -> Command) -> Result<()> {
    let companion = Companion::start(run, Settings::default()).await?;
    let receiver = Receiver::start().await?;
    let wanted = json!({"target_url": receiver.url(), "events": ["*"], "signing": "ed25519"});
    companion.admin().post("/v1/subscriptions").json(&wanted).send().await?.expect(201)?;
    accept(&companion, "1").await?;
    let mut delivery = delivery(&receiver, &receiver.wait_for(1, wait::PATIENCE).await?[0]);
    delivery["jwks"] = companion.read("/.well-known/jwks.json").await?;
    takes(verifier(), &delivery)?;
    refuses(verifier(), &changed(&delivery)?)?;
    // The keys of another companion verify nothing.
    let stranger = RunDirectory::create()?;
    let stranger = Companion::start(&stranger, Settings::default()).await?;
    delivery["jwks"] = stranger.read("/.well-known/jwks.json").await?;
    refuses(verifier(), &delivery)
}

async fn accept(companion: &Companion, id: &str) -> Result<()> {
    let event =
        json!({"specversion": "1.0", "id": id, "source": "e2e", "type": "a.b", "data": {"name": "Zoë"}});
    let call = companion.ingest().post("/v1/events").header("content-type", "application/cloudevents+json");
    call.body(event.to_string()).send().await?.expect(202)?;
    Ok(())
}

fn changed(delivery: &Value) -> Result<Value> {
    let mut forged = delivery.clone();
    forged["body"] = delivery["body"].as_str().context("a body")?.replace("Zoë", "Zoe").into();
    Ok(forged)
}

fn takes(verifier: Command, delivery: &Value) -> Result<()> {
    let output = ask(verifier, delivery)?;
    ensure!(output.status.success(), "refused: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

fn refuses(verifier: Command, delivery: &Value) -> Result<()> {
    let output = ask(verifier, delivery)?;
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
