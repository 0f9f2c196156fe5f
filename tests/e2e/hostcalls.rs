//! What an exchange costs in calls between Envoy and the filter, counted by Envoy's own trace of them.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};
use harness::upstream::Seen;
use harness::{Answer, Gateway, Recorder, Upstream, wait};
use hyper::Method;
use serde_json::json;

use crate::world::tell;

/// Calls from the filter to Envoy for one observed write, at most, without options.
const MOST: usize = 6;

#[tokio::test(flavor = "multi_thread")]
async fn a_write_takes_few_calls_to_the_host_and_a_read_takes_none() {
    tell(async |run| {
        let large = format!(r#"{{"id":"7","note":"{}"}}"#, "x".repeat(1_000));
        let upstream = Upstream::start(move |seen: &Seen| match seen.method.as_str() {
            "POST" => Answer::json(201, &large),
            "DELETE" => Answer::empty(204),
            _ => Answer::json(200, &large),
        })
        .await?;
        let recorder = Recorder::start().await?;
        let gateway = Gateway::before(upstream.address(), recorder.address())
            .filter(&json!({"batch": {"linger": "10s"}}))
            .trace_wasm()
            .start(run)
            .await?;
        let caller = gateway.caller();
        // The first exchange of a VM asks for what makes its ids its own, and starts the tick.
        caller.call(Method::PUT, "/v1/contacts/7").body("{}").send().await?.expect(200)?;
        settled(&gateway).await?;
        for (method, path, body, most) in [
            (Method::POST, "/v1/contacts", r#"{"name":"Ada"}"#, MOST),
            (Method::PUT, "/v1/contacts/7", r#"{"name":"Ada"}"#, MOST - 1),
            (Method::DELETE, "/v1/contacts/7", "", MOST - 2),
            (Method::GET, "/v1/contacts/7", "", 0),
        ] {
            let before = calls(&gateway.log());
            let call = caller.call(method.clone(), path).header("accept-encoding", "gzip").body(body);
            let answer = call.send().await.context(path)?;
            ensure!(answer.status < 300, "{method} was answered {}", answer.status);
            settled(&gateway).await?;
            let mut made = calls(&gateway.log());
            made.iter_mut().for_each(|(name, count)| *count -= before.get(name).copied().unwrap_or_default());
            made.retain(|_, count| *count > 0);
            let all: usize = made.values().sum();
            println!("{method}: {all} calls: {made:?}");
            ensure!(all <= most, "{method} takes {all} calls instead of {most}: {made:?}");
            ensure!((all > 0) == (most > 0), "the trace says nothing of {method}");
        }
        Ok(())
    })
    .await;
}

/// Waits until Envoy has nothing more to say of what has happened so far.
async fn settled(gateway: &Gateway) -> Result<()> {
    let mut last = usize::MAX;
    let quiet = async || {
        let length = gateway.log().len();
        let same = length == last;
        last = length;
        same.then_some(())
    };
    wait::until("Envoy to fall silent", wait::PATIENCE, quiet).await
}

/// Calls from the module to Envoy, by name.
fn calls(log: &str) -> BTreeMap<String, usize> {
    let mut calls = BTreeMap::new();
    for line in log.lines() {
        let Some((_, call)) = line.split_once("[vm->host] ") else { continue };
        let name = call.split('(').next().unwrap_or(call);
        *calls.entry(name.to_owned()).or_default() += 1;
    }
    calls
}
