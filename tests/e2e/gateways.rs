//! Several gateways before one API: one event for each write, ids that never meet, and gaps that show.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context as _, Result, ensure};
use harness::http::Client;
use harness::ports::ReservedPort;
use harness::recorder::Verdict;
use harness::upstream::Seen;
use harness::workspace::RunDirectory;
use harness::{Answer, Gateway, Recorder, Upstream, wait};
use hyper::Method;
use serde_json::{Value, json};

use crate::world::tell;

fn api(seen: &Seen) -> Answer {
    match (seen.method.as_str(), seen.path.as_str()) {
        ("DELETE", "/old/contacts/7") => {
            let host = String::from_utf8_lossy(seen.header("host").unwrap_or_default()).into_owned();
            Answer::empty(302).header("location", format!("http://{host}/contacts/7"))
        }
        ("DELETE", _) => Answer::empty(204),
        _ => Answer::json(200, r#"{"id":"7"}"#),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_gateway_stays_silent_behind_the_first() {
    tell(stays_silent).await;
}

async fn stays_silent(run: &Arc<RunDirectory>) -> Result<()> {
    let upstream = Upstream::start(api).await?;
    let recorder = Recorder::start().await?;
    let inner = Gateway::before(upstream.address(), recorder.address());
    let inner = inner.filter(&json!({"source": "inner", "via": true})).start(run).await?;
    let outer = Gateway::before(inner.address(), recorder.address());
    let outer = outer.filter(&json!({"source": "outer", "via": true})).start(run).await?;
    let put = |path: &str| outer.caller().call(Method::PUT, path).body("{}");
    put("/contacts/1").send().await?.expect(200)?;
    // A caller can neither hide a write by a mark of its own making, nor one that came straight to the inner gateway.
    put("/contacts/2")
        .header("gatehook-via", "0123456789abcdef0123456789abcdef-1")
        .send()
        .await?
        .expect(200)?;
    let forged = inner.caller().call(Method::PUT, "/contacts/3").header("gatehook-via", "1").body("{}");
    forged.send().await?.expect(200)?;
    let events = recorder.accepted_at_least(3, wait::PATIENCE).await?;
    let told: BTreeSet<(&str, &str)> = events
        .iter()
        .filter_map(|event| Some((event["subject"].as_str()?, event["source"].as_str()?)))
        .collect();
    let expected = [("/contacts/1", "outer"), ("/contacts/2", "outer"), ("/contacts/3", "inner")];
    ensure!(told == BTreeSet::from(expected) && events.len() == 3, "{told:?}");
    inner.metric_becomes("gatehook_observed", 1).await?;
    let marked = upstream.seen().iter().filter(|seen| seen.header("gatehook-via").is_some()).count();
    ensure!(marked == 3, "{marked} of 3 requests bear a mark");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn two_listeners_of_one_envoy_in_a_row_tell_of_a_write_once() {
    tell(tell_once_in_one_process).await;
}

async fn tell_once_in_one_process(run: &Arc<RunDirectory>) -> Result<()> {
    let upstream = Upstream::start(crate::world::store).await?;
    let recorder = Recorder::start().await?;
    let (outer, inner) = (ReservedPort::any()?, ReservedPort::any()?);
    let (outer_address, inner_address) = (outer.address(), inner.address());
    let gateway = Gateway::before(upstream.address(), recorder.address())
        .concurrency(2)
        .filter(&json!({"via": true}))
        .change(move |sample| {
            sample.copy_cluster("inner", inner_address)?;
            sample.copy_listener("inner", inner_address, |_| Ok(()))?;
            sample.copy_listener("outer", outer_address, |listener| {
                let manager = &mut listener["filter_chains"][0]["filters"][0]["typed_config"];
                manager["route_config"]["virtual_hosts"][0]["routes"][0]["route"]["cluster"] = "inner".into();
                Ok(())
            })
        })
        .start(run)
        .await?;
    for number in 0..20 {
        let caller = Client::http1(outer_address);
        caller.post("/v1/contacts").body(format!(r#"{{"id":{number}}}"#)).send().await?.expect(201)?;
    }
    gateway.caller().call(Method::DELETE, "/v1/contacts/7").send().await?.expect(204)?;
    gateway.metric_becomes("gatehook_outbox_events", 0).await?;
    let events = recorder.accepted_until("contact.delete").await?;
    ensure!(events.len() == 21, "{} events instead of 21", events.len());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redirect_within_envoy_leaves_one_event() {
    tell(redirected).await;
}

async fn redirected(run: &Arc<RunDirectory>) -> Result<()> {
    let upstream = Upstream::start(api).await?;
    let recorder = Recorder::start().await?;
    let route = json!({
        "match": {"prefix": "/old/"},
        "route": {"cluster": "api", "internal_redirect_policy": {"redirect_response_codes": [302]}},
    });
    let gateway = Gateway::before(upstream.address(), recorder.address());
    let gateway = gateway.filter(&json!({"via": true}));
    let gateway = gateway.change(move |sample| sample.first_route(&route)).start(run).await?;
    let caller = gateway.caller();
    caller.call(Method::DELETE, "/old/contacts/7").send().await?.expect(204)?;
    caller.call(Method::PUT, "/contacts/8").body("{}").send().await?.expect(200)?;
    let events = recorder.accepted_until("contact.update").await?;
    ensure!(events.len() == 2 && events[0]["type"] == "contact.delete", "{events:?}");
    ensure!(events[0]["subject"] == "/contacts/7", "{}", events[0]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn no_two_events_share_an_id_over_workers_gateways_and_restarts() {
    tell(ids_never_meet).await;
}

async fn ids_never_meet(run: &Arc<RunDirectory>) -> Result<()> {
    const WRITES: usize = 40;
    let upstream = Upstream::start(api).await?;
    let recorder = Recorder::start().await?;
    let start = || Gateway::before(upstream.address(), recorder.address()).concurrency(2).start(run);
    for round in 1..=3 {
        // Each is a process of its own, and so is the same gateway after a restart.
        let gateway = start().await?;
        for number in 0..WRITES {
            // A connection each, so that both workers get some.
            let call = gateway.caller().call(Method::PUT, &format!("/contacts/{number}")).body("{}");
            call.send().await?.expect(200)?;
        }
        recorder.accepted_at_least(round * WRITES, wait::PATIENCE).await?;
    }
    let events = recorder.accepted();
    let texts =
        |name: &str| -> BTreeSet<&str> { events.iter().filter_map(|event| event[name].as_str()).collect() };
    ensure!(texts("id").len() == 3 * WRITES, "{} ids of {} events", texts("id").len(), 3 * WRITES);
    ensure!((3..=6).contains(&texts("worker").len()), "{:?}", texts("worker"));
    for (worker, numbers) in sequences(&events)? {
        let whole = numbers.iter().copied().eq(1..=numbers.len() as u64);
        ensure!(whole, "the sequence of {worker} has a gap or a repeat: {numbers:?}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gap_in_a_sequence_shows_what_was_dropped() {
    tell(gaps_show).await;
}

async fn gaps_show(run: &Arc<RunDirectory>) -> Result<()> {
    let down = Arc::new(AtomicBool::new(true));
    let is_down = Arc::clone(&down);
    let upstream = Upstream::start(api).await?;
    let recorder = Recorder::scripted(move |_, _| {
        if is_down.load(Ordering::SeqCst) { Verdict::Refuse(503) } else { Verdict::Accept }
    })
    .await?;
    let gateway = Gateway::before(upstream.address(), recorder.address());
    let gateway = gateway.filter(&json!({"outbox": {"max_events": 10}})).start(run).await?;
    let caller = gateway.caller();
    for number in 0..25 {
        caller.call(Method::PUT, &format!("/contacts/{number}")).body("{}").send().await?.expect(200)?;
    }
    gateway.metric_becomes("gatehook_dropped", 15).await?;
    down.store(false, Ordering::SeqCst);
    gateway.metric_becomes("gatehook_handed_over", 10).await?;
    caller.call(Method::DELETE, "/contacts/7").send().await?.expect(204)?;
    let events = recorder.accepted_until("contact.delete").await?;
    let sequences = sequences(&events)?;
    let (_, numbers) = sequences.first_key_value().context("no event")?;
    let missing = numbers.iter().max().context("no event")? - numbers.len() as u64;
    ensure!(missing == 15, "{missing} are missing instead of 15: {numbers:?}");
    Ok(())
}

/// The sequence numbers of each worker, in the order of arrival, without those that came again.
fn sequences(events: &[Value]) -> Result<BTreeMap<String, BTreeSet<u64>>> {
    let mut sequences: BTreeMap<String, BTreeSet<u64>> = BTreeMap::new();
    for event in events {
        let worker = event["worker"].as_str().context("no worker")?;
        let number = event["sequence"].as_str().context("no sequence")?.parse()?;
        sequences.entry(worker.to_owned()).or_default().insert(number);
    }
    Ok(sequences)
}
