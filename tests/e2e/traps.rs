//! What callers see when a VM fails, by the policy that Envoy is given: why the sample says `fail_open: true`.
//!
//! The filter here is one that fails on demand, since ours is not to.

use std::sync::Arc;

use anyhow::{Result, ensure};
use harness::upstream::Seen;
use harness::workspace::RunDirectory;
use harness::{Answer, Gate, Gateway, Recorder, Upstream, wait, wasm};
use serde_json::{Value, json};

use crate::world::tell;

/// What three callers get: whose request makes the VM fail, who waited for the API meanwhile, and who comes next.
#[derive(Debug, PartialEq, Eq)]
struct Seen3 {
    failing: u16,
    /// Nothing if the answer, which had begun, was cut off.
    under_way: Option<u16>,
    next: u16,
    /// Whether the next one was seen by a filter.
    next_is_observed: bool,
}

async fn under(run: &Arc<RunDirectory>, policy: Value) -> Result<Seen3> {
    let gate = Gate::closed();
    let held = gate.clone();
    let upstream = Upstream::start(move |seen: &Seen| match seen.path.as_str() {
        "/slow" => Answer::chunked(200).wait(&held).chunk("{}"),
        _ => Answer::json(200, "{}"),
    })
    .await?;
    let recorder = Recorder::start().await?;
    let trap = wasm::example("trap")?;
    let gateway = Gateway::before(upstream.address(), recorder.address())
        .change(move |sample| {
            sample.module(&trap)?;
            sample.plugin(|plugin| {
                if let (Some(plugin), Some(policy)) = (plugin.as_object_mut(), policy.as_object()) {
                    plugin.remove("fail_open");
                    plugin.extend(policy.clone());
                }
            })
        })
        .start(run)
        .await?;
    let write = |path: &str| gateway.caller().post(path).body("{}");
    // A VM that fails within a second of its birth is reloaded later than others; this one is to be old.
    write("/first").send().await?.expect(200)?;
    let slow = tokio::spawn(write("/slow").send());
    let reached = async || upstream.seen().iter().any(|seen| seen.path == "/slow").then_some(());
    wait::until("the slow request to reach the API", wait::PATIENCE, reached).await?;
    let failing = write("/fails").header("trap", "1").send().await?.status;
    gate.open();
    let under_way = slow.await?.ok().map(|answer| answer.status);
    let before = gateway.metric("trap_seen").await?;
    let next = write("/next").send().await?.status;
    let next_is_observed = gateway.metric("trap_seen").await? > before;
    Ok(Seen3 { failing, under_way, next, next_is_observed })
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_samples_policy_lets_every_caller_have_the_apis_answer() {
    tell(async |run| {
        let all_pass = Seen3 { failing: 200, under_way: Some(200), next: 200, next_is_observed: false };
        let sample = under(run, json!({"fail_open": true})).await?;
        ensure!(sample == all_pass, "fail_open: true: {sample:?}");
        let open = under(run, json!({"failure_policy": "FAIL_OPEN"})).await?;
        ensure!(open == Seen3 { failing: 503, under_way: None, ..all_pass }, "FAIL_OPEN: {open:?}");
        let closed = under(run, json!({})).await?;
        let nobody = Seen3 { failing: 503, under_way: None, next: 503, next_is_observed: false };
        ensure!(closed == nobody, "the default: {closed:?}");
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_costs_the_requests_under_way_and_saves_later_events() {
    tell(async |run| {
        let reload =
            json!({"failure_policy": "FAIL_RELOAD", "reload_config": {"backoff": {"base_interval": "0.1s"}}});
        let seen = under(run, reload).await?;
        // The next caller comes so soon that the backoff may not be over yet; then it is answered 503.
        let soon = Seen3 { failing: 503, under_way: None, next: 503, next_is_observed: false };
        let later = Seen3 { next: 200, next_is_observed: true, ..soon };
        ensure!(seen == soon || seen == later, "FAIL_RELOAD: {seen:?}");
        Ok(())
    })
    .await;
}
