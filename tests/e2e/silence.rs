//! What must leave no event: everything that is not a write which the API itself answered with success.

use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use harness::http::{read_until, write_raw};
use harness::upstream::Seen;
use harness::workspace::RunDirectory;
use harness::{Answer, Gateway, Recorder, Upstream};
use hyper::Method;
use serde_json::json;

use crate::world::tell;

/// Method, path, and what the caller gets: the answers themselves must not suffer either.
const CASES: [(Method, &str, u16); 15] = [
    (Method::GET, "/things/ok", 200),
    (Method::HEAD, "/things/ok", 200),
    (Method::OPTIONS, "/things/ok", 200),
    (Method::PUT, "/things/202", 202),
    (Method::PUT, "/things/302", 302),
    (Method::PUT, "/things/304", 304),
    (Method::PUT, "/things/400", 400),
    (Method::DELETE, "/things/404", 404),
    (Method::POST, "/things/409", 409),
    (Method::PATCH, "/things/500", 500),
    (Method::PUT, "/things/reset", 503),
    (Method::PUT, "/things/direct", 200),
    (Method::POST, "/things/grpc", 200),
    (Method::PUT, "/things/ignored/ok", 200),
    (Method::POST, "/", 200),
];

/// Answers with the status that the path names.
fn api(seen: &Seen) -> Answer {
    let last = seen.path.rsplit('/').next().unwrap_or_default();
    match last {
        "reset" => Answer::reset(),
        "upgrade" => Answer::empty(101).header("connection", "upgrade").header("upgrade", "websocket"),
        "grpc" => Answer::sized(200, vec![0; 5]).header("content-type", "application/grpc"),
        "ok" | "" => Answer::json(200, "{}"),
        status => Answer::json(status.parse().unwrap_or(500), "{}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_but_a_successful_write_of_the_api_leaves_an_event() {
    tell(leaves_no_event).await;
}

async fn leaves_no_event(run: &Arc<RunDirectory>) -> Result<()> {
    let upstream = Upstream::start(api).await?;
    let recorder = Recorder::start().await?;
    let direct = json!({
        "match": {"prefix": "/things/direct"},
        "direct_response": {"status": 200, "body": {"inline_string": "{}"}},
    });
    let gateway = Gateway::before(upstream.address(), recorder.address())
        .filter(&json!({
            "resources": [{"path": "/things/{id}", "noun": "thing"}],
            "ignore": ["/things/ignored/**"],
        }))
        .change(move |sample| {
            sample.allow_websockets()?;
            sample.first_route(&direct)
        })
        .start(run)
        .await?;
    let caller = gateway.caller();
    for (method, path, expected) in CASES {
        let call = caller.call(method.clone(), path).body("{}");
        let call =
            if path.ends_with("grpc") { call.header("content-type", "application/grpc") } else { call };
        let answer = call.send().await.with_context(|| format!("{method} {path}"))?;
        ensure!(answer.status == expected, "{method} {path} was answered {}", answer.status);
    }
    let upgrade =
        "GET /things/upgrade HTTP/1.1\r\nhost: api\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n";
    for request in [upgrade.to_owned(), upgrade.replacen("GET", "POST", 1)] {
        let mut caller = write_raw(gateway.address(), request.as_bytes()).await?;
        read_until(&mut caller, "HTTP/1.1 101").await?;
    }

    // The outbox keeps the order, so whatever came before the last write would have arrived before it.
    caller.call(Method::DELETE, "/things/ok").send().await?.expect(200)?;
    let events = recorder.accepted_until("thing.delete").await?;
    ensure!(events.len() == 1, "something else left an event: {events:#?}");
    ensure!(
        events[0]["subject"] == "/things/ok" && events[0]["data"] == json!({"id": "ok"}),
        "{}",
        events[0]
    );
    // A write that fits no rule leaves no event either, but it is counted, so that someone can write the rule.
    gateway.metric_becomes("gatehook_unmatched", 1).await
}
