//! Mode `hold`: an answer waits until the companion has its event, and never becomes an error by it.

use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use harness::companion::Settings;
use harness::gateway::Builder;
use harness::http::{Client, Response};
use harness::upstream::Seen;
use harness::workspace::RunDirectory;
use harness::{Answer, Companion, Gate, Gateway, Recorder, Upstream, wait};
use hyper::Method;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::world::tell;

/// The largest piece in which Envoy reads from the API here.
const PIECE: u32 = 16 * 1024;

/// A configuration that holds for long, with what a story adds.
fn holding(rest: &Value) -> Value {
    let hold =
        json!({"allow_on_headers_stop_iteration": true, "max_body_bytes": 100_000, "read_bytes": PIECE});
    let mut configuration = json!({"mode": "hold", "hold_timeout": "60s", "hold": hold});
    for (name, value) in rest.as_object().into_iter().flatten() {
        configuration[name] = value.clone();
    }
    configuration
}

fn hold(gateway: Builder, rest: &Value) -> Builder {
    gateway.filter(&holding(rest)).change(|sample| {
        sample.allow_stop_iteration()?;
        sample.read_in_pieces("api", PIECE)
    })
}

/// Answers that are held, by the request that asks for them.
fn answers() -> Vec<(Method, &'static str, Answer)> {
    let chunks = || Answer::chunked(200).chunk(r#"{"id":"#).chunk("7").chunk("}");
    vec![
        (Method::PUT, "/things/length", Answer::json(200, r#"{"id":7}"#)),
        (Method::PUT, "/things/chunks", chunks()),
        (Method::PUT, "/things/trailers", chunks().trailer("x-checksum", "7")),
        (Method::PUT, "/things/none", Answer::empty(204)),
        (Method::PUT, "/things/zero", Answer::empty(200)),
        (Method::DELETE, "/things/body", Answer::json(200, r#"{"id":7}"#)),
        (Method::DELETE, "/things/chunks", chunks()),
        (Method::PUT, "/things/large", Answer::json(200, &format!("\"{}\"", "x".repeat(90_000)))),
    ]
}

fn api(seen: &Seen) -> Answer {
    let mut all = answers().into_iter();
    let found = all.find(|(method, path, _)| method.as_str() == seen.method && *path == seen.path);
    found.map_or(Answer::empty(404), |(_, _, answer)| answer)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_of_answer_waits_for_its_event_on_http1() {
    tell(async |run| waits_for_its_event(run, false).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_of_answer_waits_for_its_event_on_http2() {
    tell(async |run| waits_for_its_event(run, true).await).await;
}

async fn waits_for_its_event(run: &Arc<RunDirectory>, http2: bool) -> Result<()> {
    let upstream = Upstream::start(api).await?;
    let companion = Companion::start(run, Settings::default()).await?;
    let resources = json!({"resources": [{"path": "/things/{id}", "noun": "thing"}]});
    let mut gateway = hold(Gateway::before(upstream.address(), companion.address()), &resources);
    if http2 {
        gateway = gateway.http2_upstream();
    }
    let gateway = gateway.start(run).await?;
    companion.freeze()?;
    let mut calls: Vec<(&str, JoinHandle<Result<Response>>)> = Vec::new();
    for (method, path, _) in answers() {
        let caller = if http2 { Client::http2(gateway.address()) } else { gateway.caller() };
        calls.push((path, tokio::spawn(caller.call(method, path).body("{}").send())));
    }
    // Envoy has all the answers, and the companion, which does not run, has acknowledged none of their events.
    let all = u64::try_from(calls.len())?;
    gateway.metric_becomes("gatehook_observed", all).await?;
    ensure!(calls.iter().all(|(_, call)| !call.is_finished()), "an answer did not wait");
    companion.thaw()?;
    for (path, call) in calls {
        let answer = call.await?.with_context(|| format!("{path} failed"))?;
        ensure!((200..300).contains(&answer.status), "{path} was answered {}", answer.status);
        let body = String::from_utf8_lossy(&answer.body);
        let expected = match path {
            "/things/none" | "/things/zero" => String::new(),
            "/things/large" => format!("\"{}\"", "x".repeat(90_000)),
            _ => r#"{"id":7}"#.to_owned(),
        };
        ensure!(body == expected, "{path} came changed: {body}");
    }
    ensure!(companion.list("/v1/events").await?.len() == answers().len(), "an answer went before its event");
    gateway.metric_becomes("gatehook_held", all).await?;
    ensure!(gateway.metric("gatehook_hold_timed_out").await? == 0, "an answer went by time");
    gateway.metric_becomes("gatehook_hold_skipped", 0).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_goes_on_when_its_time_is_over_and_its_event_goes_on_trying() {
    tell(goes_by_time).await;
}

async fn goes_by_time(run: &Arc<RunDirectory>) -> Result<()> {
    let upstream = Upstream::start(|seen: &Seen| match seen.method.as_str() {
        "PUT" => Answer::json(200, r#"{"id":7}"#),
        "PATCH" => Answer::json(409, "{}"),
        _ => Answer::json(202, "{}"),
    })
    .await?;
    let companion = Companion::start(run, Settings::default()).await?;
    let gateway = Gateway::before(upstream.address(), companion.address());
    let gateway = hold(gateway, &json!({"hold_timeout": "300ms"})).start(run).await?;
    companion.freeze()?;
    // What leaves no event has nothing to wait for.
    gateway.caller().call(Method::PATCH, "/things/7").body("{}").send().await?.expect(409)?;
    gateway.caller().call(Method::DELETE, "/things/7").send().await?.expect(202)?;
    for _ in 0..3 {
        gateway.caller().call(Method::PUT, "/things/7").body("{}").send().await?.expect(200)?;
    }
    gateway.metric_becomes("gatehook_hold_timed_out", 3).await?;
    companion.thaw()?;
    gateway.metric_becomes("gatehook_handed_over", 3).await?;
    ensure!(companion.list("/v1/events").await?.len() == 3, "an event was lost");
    gateway.metric_becomes("gatehook_held", 0).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_could_outgrow_envoys_buffer_is_not_held() {
    tell(large_ones_pass).await;
}

async fn large_ones_pass(run: &Arc<RunDirectory>) -> Result<()> {
    let upstream = Upstream::start(|seen: &Seen| match seen.path.as_str() {
        "/things/1" => Answer::json(200, &format!("\"{}\"", "x".repeat(3_000_000))),
        "/things/2" => (0..40)
            .fold(Answer::chunked(200), |answer, _| answer.chunk(vec![b' '; 50_000]))
            .chunk("{\"id\":2}"),
        "/things/3" => Answer::empty(204),
        _ => Answer::json(200, "{\"id\":4}"),
    })
    .await?;
    let recorder = Recorder::start().await?;
    let resources = json!([{"path": "/read/{id}", "noun": "read", "representation": "fetch"}]);
    let rest = json!({"max_body_bytes": 8_000_000, "resources": resources});
    let gateway = hold(Gateway::before(upstream.address(), recorder.address()), &rest).start(run).await?;
    let put = async |path: &str| gateway.caller().call(Method::PUT, path).body("{}").send().await;
    ensure!(put("/things/1").await?.expect(200)?.body.len() == 3_000_002, "a body came short");
    ensure!(put("/things/2").await?.expect(200)?.body.len() == 2_000_008, "a body came short");
    ensure!(put("/read/4").await?.status == 200, "an event that has to be read first is not waited for");
    put("/things/3").await?.expect(204)?;
    let events = recorder.accepted_at_least(4, wait::PATIENCE).await?;
    ensure!(events.iter().any(|event| event["data"] == json!({"id": 2})), "a whole body is an event's data");
    gateway.metric_becomes("gatehook_hold_skipped", 3).await?;
    gateway.metric_becomes("gatehook_held", 1).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_that_leaves_while_held_loses_no_event() {
    tell(leaves_while_held).await;
}

async fn leaves_while_held(run: &Arc<RunDirectory>) -> Result<()> {
    let upstream = Upstream::start(|_| Answer::json(200, r#"{"id":7}"#)).await?;
    let companion = Companion::start(run, Settings::default()).await?;
    let gateway = Gateway::before(upstream.address(), companion.address());
    let gateway = hold(gateway, &json!({})).start(run).await?;
    companion.freeze()?;
    let calls =
        (0..10).map(|_| tokio::spawn(gateway.caller().call(Method::PUT, "/things/7").body("{}").send()));
    let calls: Vec<_> = calls.collect();
    gateway.metric_becomes("gatehook_observed", 10).await?;
    for call in &calls[..5] {
        call.abort();
    }
    // Five that stay, and this question itself.
    gateway.metric_becomes("envoy_http_downstream_rq_active", 6).await?;
    companion.thaw()?;
    for call in calls.into_iter().skip(5) {
        call.await??.expect(200)?;
    }
    gateway.metric_becomes("gatehook_handed_over", 10).await?;
    gateway.metric_becomes("gatehook_held", 5).await?;
    gateway.metric_becomes("gatehook_failed", 0).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_waits_for_what_was_there_keeps_its_body_in_mode_hold() {
    tell(keeps_its_body).await;
}

async fn keeps_its_body(run: &Arc<RunDirectory>) -> Result<()> {
    let gate = Gate::closed();
    let held = gate.clone();
    let upstream = Upstream::start(move |seen: &Seen| match seen.method.as_str() {
        "GET" => Answer::chunked(200).chunk(r#"{"id":7"#).wait(&held).chunk("}"),
        _ => Answer::json(200, r#"{"id":7,"n":1}"#),
    })
    .await?;
    let recorder = Recorder::start().await?;
    let rest = json!({"previous": "fetch", "previous_timeout": "30s"});
    let gateway = hold(Gateway::before(upstream.address(), recorder.address()), &rest).start(run).await?;
    let small = "x".repeat(50_000);
    let call = tokio::spawn(gateway.caller().call(Method::PUT, "/things/7").body(small.clone()).send());
    let reading = async || (upstream.seen().len() == 1).then_some(());
    wait::until("the read", wait::PATIENCE, reading).await?;
    // Envoy might refuse this one if it had to keep it, so it passes without waiting.
    let large = "x".repeat(3_000_000);
    gateway.caller().call(Method::PUT, "/things/8").body(large.clone()).send().await?.expect(200)?;
    gate.open();
    call.await??.expect(200)?;
    let body = |path: &str| {
        let seen = upstream.seen().into_iter().find(|seen| seen.method == "PUT" && seen.path == path);
        seen.map(|seen| seen.body.len())
    };
    ensure!(
        body("/things/7") == Some(small.len()) && body("/things/8") == Some(large.len()),
        "a body came short"
    );
    let events = recorder.accepted_at_least(2, wait::PATIENCE).await?;
    let with_previous = events.iter().filter(|event| event.get("previous").is_some()).count();
    ensure!(with_previous == 1, "{events:?}");
    Ok(())
}
