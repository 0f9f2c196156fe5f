//! What the filter reads by GET: after the answer for the representation, before the request for what was there.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use anyhow::{Result, ensure};
use harness::upstream::Seen;
use harness::workspace::RunDirectory;
use harness::{Answer, Gate, Gateway, Recorder, Upstream, wait};
use hyper::Method;
use serde_json::{Value, json};

use crate::world::tell;

const SECRET: &str = "Bearer hush-hush-0123456789";

#[tokio::test(flavor = "multi_thread")]
async fn a_resource_is_read_with_the_callers_credentials_and_they_stay_in_envoy() {
    tell(credentials_stay).await;
}

async fn credentials_stay(run: &Arc<RunDirectory>) -> Result<()> {
    let upstream = Upstream::start(|seen: &Seen| match seen.method.as_str() {
        "GET" if seen.header("authorization") == Some(SECRET.as_bytes()) => Answer::json(200, r#"{"id":7}"#),
        "GET" => Answer::empty(401),
        _ => Answer::empty(204),
    })
    .await?;
    let recorder = Recorder::start().await?;
    let gateway = Gateway::before(upstream.address(), recorder.address())
        .filter(&json!({
            "representation": "fetch", "previous": "fetch",
            "fetch": {"headers": ["authorization", "x-locale"]},
        }))
        .start(run)
        .await?;
    let caller = gateway.caller();
    let call = caller.call(Method::PUT, "/contacts/7?expand=1").header("authorization", SECRET);
    call.header("x-locale", "fr").header("cookie", "session=1").body("{}").send().await?.expect(204)?;
    let events = recorder.accepted_at_least(1, wait::PATIENCE).await?;
    ensure!(events[0]["data"] == json!({"id": 7}) && events[0]["changed"] == json!([]), "{}", events[0]);

    let reads: Vec<Seen> = upstream.seen().into_iter().filter(|seen| seen.method == "GET").collect();
    ensure!(reads.len() == 2, "one read before and one after, not {reads:?}");
    for read in &reads {
        ensure!(read.path == "/contacts/7?expand=1", "read {}", read.path);
        ensure!(read.header("x-locale") == Some(b"fr"), "a configured header goes along");
        ensure!(read.header("cookie").is_none(), "no other does");
        ensure!(read.header("accept-encoding") == Some(b"identity"), "the answer has to come plain");
    }
    let batches = recorder.batches();
    let told = |text: &str| batches.iter().any(|batch| String::from_utf8_lossy(&batch.body).contains(text));
    ensure!(!told("hush-hush") && !told("session="), "a credential reached the companion");
    ensure!(!gateway.log().contains("hush-hush"), "a credential is in the log");
    let stats = gateway.admin().get("/stats/prometheus").send().await?.expect(200)?;
    ensure!(!String::from_utf8_lossy(&stats.body).contains("hush-hush"), "a credential is in a metric");
    gateway.metric_becomes("gatehook_fetched", 2).await
}

#[tokio::test(flavor = "multi_thread")]
async fn writes_that_wait_share_one_read_and_leave_in_order() {
    tell(share_one_read).await;
}

async fn share_one_read(run: &Arc<RunDirectory>) -> Result<()> {
    let (reads, gate) = (Arc::new(AtomicUsize::new(0)), Gate::closed());
    let (count, held) = (Arc::clone(&reads), gate.clone());
    let upstream = Upstream::start(move |seen: &Seen| {
        if seen.method != "GET" {
            return Answer::empty(204);
        }
        let number = count.fetch_add(1, Ordering::SeqCst);
        Answer::chunked(200).chunk(format!(r#"{{"id":7,"read":{number}"#)).wait(&held).chunk("}")
    })
    .await?;
    let recorder = Recorder::start().await?;
    let gateway = Gateway::before(upstream.address(), recorder.address())
        .filter(&json!({"representation": "fetch", "fetch": {"timeout": "30s"}}))
        .start(run)
        .await?;
    let caller = gateway.caller();
    caller.call(Method::PUT, "/contacts/7").body("{}").send().await?.expect(204)?;
    let begun = async || (reads.load(Ordering::SeqCst) == 1).then_some(());
    wait::until("the first read", wait::PATIENCE, begun).await?;
    // These come too late for the read that is under way, and none of the callers waits for any of it.
    for _ in 0..20 {
        caller.call(Method::PATCH, "/contacts/7").body("{}").send().await?.expect(204)?;
    }
    caller.call(Method::DELETE, "/contacts/7").send().await?.expect(204)?;
    ensure!(recorder.accepted().is_empty(), "an event overtook the one that waits");
    gate.open();
    let events = recorder.accepted_until("contact.delete").await?;
    ensure!(events.len() == 22, "{} events instead of 22", events.len());
    ensure!(reads.load(Ordering::SeqCst) == 2, "{} reads instead of 2", reads.load(Ordering::SeqCst));
    let read: Vec<&Value> = events.iter().take(21).map(|event| &event["data"]["read"]).collect();
    ensure!(*read[0] == 0 && read[1..].iter().all(|read| **read == 1), "{read:?}");
    let sequence = |event: &Value| event["sequence"].as_str().map(str::to_owned);
    ensure!(events.is_sorted_by_key(sequence) && events[21]["type"] == "contact.delete", "the order is lost");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rewritten_path_is_read_where_the_upstream_has_it() {
    tell(follows_the_rewrite).await;
}

async fn follows_the_rewrite(run: &Arc<RunDirectory>) -> Result<()> {
    let upstream = Upstream::start(|seen: &Seen| match (seen.method.as_str(), seen.path.as_str()) {
        ("GET", "/internal/contacts/7") => Answer::json(200, r#"{"id":7}"#),
        ("GET", _) => Answer::json(404, "{}"),
        _ => Answer::empty(204),
    })
    .await?;
    let recorder = Recorder::start().await?;
    let route = json!({
        "match": {"prefix": "/crm/"},
        "route": {"cluster": "api", "prefix_rewrite": "/internal/", "host_rewrite_literal": "inner.example"},
    });
    let gateway = Gateway::before(upstream.address(), recorder.address())
        .filter(&json!({"representation": "fetch"}))
        .change(move |sample| sample.first_route(&route))
        .start(run)
        .await?;
    gateway.caller().call(Method::PUT, "/crm/contacts/7").body("{}").send().await?.expect(204)?;
    let events = recorder.accepted_at_least(1, wait::PATIENCE).await?;
    ensure!(
        events[0]["data"] == json!({"id": 7}) && events[0]["subject"] == "/crm/contacts/7",
        "{}",
        events[0]
    );
    let read = upstream.seen().into_iter().find(|seen| seen.method == "GET");
    ensure!(
        read.is_some_and(|read| read.header("host") == Some(b"inner.example")),
        "the host is rewritten too"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_waits_for_what_was_there_no_longer_than_it_may() {
    tell(waits_no_longer).await;
}

async fn waits_no_longer(run: &Arc<RunDirectory>) -> Result<()> {
    let (never, frozen) = (Gate::closed(), Arc::new(AtomicBool::new(true)));
    let (gate, is_frozen) = (never.clone(), Arc::clone(&frozen));
    let upstream = Upstream::start(move |seen: &Seen| match seen.method.as_str() {
        "GET" if is_frozen.load(Ordering::SeqCst) => Answer::chunked(200).wait(&gate),
        "GET" => Answer::json(200, r#"{"id":7,"n":1}"#),
        _ => Answer::json(200, r#"{"id":7,"n":2}"#),
    })
    .await?;
    let recorder = Recorder::start().await?;
    let gateway = Gateway::before(upstream.address(), recorder.address())
        .filter(&json!({"previous": "fetch", "previous_timeout": "50ms"}))
        .start(run)
        .await?;
    let caller = gateway.caller();
    let long = "x".repeat(300_000);
    // The API never answers the read, and the write passes all the same, its large body whole.
    caller.call(Method::PUT, "/contacts/7").body(long.clone()).send().await?.expect(200)?;
    let passed = upstream.seen().into_iter().find(|seen| seen.method == "PUT");
    ensure!(passed.is_some_and(|seen| seen.body.len() == long.len()), "the body is not whole");
    let events = recorder.accepted_at_least(1, wait::PATIENCE).await?;
    ensure!(events[0].get("previous").is_none() && events[0]["data"]["n"] == 2, "{}", events[0]);
    gateway.metric_becomes("gatehook_fetch_failed", 1).await?;
    frozen.store(false, Ordering::SeqCst);
    caller.call(Method::PATCH, "/contacts/7").body("{}").send().await?.expect(200)?;
    let events = recorder.accepted_at_least(2, wait::PATIENCE).await?;
    ensure!(events[1]["previous"]["n"] == 1 && events[1]["changed"] == json!(["/n"]), "{}", events[1]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_that_leaves_during_the_read_takes_nothing_else_with_it() {
    tell(caller_leaves).await;
}

async fn caller_leaves(run: &Arc<RunDirectory>) -> Result<()> {
    let gate = Gate::closed();
    let held = gate.clone();
    let upstream = Upstream::start(move |seen: &Seen| match seen.method.as_str() {
        "GET" => Answer::chunked(200).chunk("{").wait(&held).chunk("}"),
        "DELETE" => Answer::empty(204),
        _ => Answer::json(200, r#"{"id":7}"#),
    })
    .await?;
    let recorder = Recorder::start().await?;
    let resources = json!([{"path": "/slow/{id}", "noun": "slow", "previous": "fetch"}]);
    let gateway = Gateway::before(upstream.address(), recorder.address())
        .filter(&json!({"resources": resources, "previous_timeout": "30s"}))
        .start(run)
        .await?;
    for _ in 0..10 {
        let call = gateway.caller().call(Method::PUT, "/slow/7").body("{}");
        let task = tokio::spawn(call.send());
        let seen = upstream.seen().len();
        let reading = async || (upstream.seen().len() > seen).then_some(());
        wait::until("the read", wait::PATIENCE, reading).await?;
        task.abort();
    }
    // The one request that is left is this question itself.
    gateway.metric_becomes("envoy_http_downstream_rq_active", 1).await?;
    gate.open();
    gateway.caller().call(Method::DELETE, "/contacts/7").send().await?.expect(204)?;
    let events = recorder.accepted_until("contact.delete").await?;
    // The write itself never reached the API.
    ensure!(events.len() == 1 && upstream.seen().iter().all(|seen| seen.method != "PUT"), "{events:?}");
    ensure!(!gateway.log().contains("panic"), "the VM broke");
    Ok(())
}
