//! Envoy: its configuration changed, stopped, drained and stopped, crashed; in mode `async` and in mode `hold`.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result};
use harness::gateway::Builder;
use harness::{Answer, Gateway, Upstream, wait};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::sleep;

use crate::ledger::Break;
use crate::load::{Accepted, BUSY, Load};
use crate::moment::{Moment, shown, up_to};
use crate::world::{Plan, World};
use crate::{Fault, Findings};

/// An Envoy is ended at a moment within this after its callers have come.
const LIFE: Duration = Duration::from_millis(500);

/// What "a few milliseconds' worth" must not exceed, on a machine with more to do than it can.
const WORTH: Duration = Duration::from_secs(1);

pub(crate) fn faults() -> Vec<Fault> {
    vec![
        Fault {
            name: "Envoy's configuration changed",
            promise: "Nothing is lost and nothing is sent twice: the outbox lives in the VM, which stays.",
            tries: (3, 10),
            waits: false,
            run: |plan| Box::pin(reconfigured(plan)),
        },
        Fault {
            name: "Envoy drained, then SIGTERM",
            promise: "Nothing is lost: a second after the listeners are drained the outbox is empty.",
            tries: (2, 5),
            waits: false,
            run: |plan| Box::pin(ended(plan, End::Drained)),
        },
        Fault {
            name: "Envoy SIGTERM, mode async",
            promise: "What is in the outbox, a few milliseconds' worth, may be lost, and nothing that is older.",
            tries: (3, 10),
            waits: false,
            run: |plan| Box::pin(ended(plan, End::Stopped)),
        },
        Fault {
            name: "Envoy kill -9, mode async",
            promise: "What is in the outbox, a few milliseconds' worth, may be lost, and nothing that is older.",
            tries: (3, 10),
            waits: false,
            run: |plan| Box::pin(ended(plan, End::Crashed)),
        },
        Fault {
            name: "Envoy kill -9, mode hold",
            promise: "Nothing is lost whose caller was answered (accepted: answered writes).",
            tries: (3, 10),
            waits: false,
            run: |plan| Box::pin(ended(plan, End::CrashedHolding)),
        },
    ]
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Drained,
    Stopped,
    Crashed,
    CrashedHolding,
}

/// An API that stores contacts, and knows when it stored which.
pub(crate) struct Api {
    upstream: Upstream,
    committed: Arc<Mutex<Accepted>>,
}

impl Api {
    pub(crate) async fn start() -> Result<Self> {
        let committed: Arc<Mutex<Accepted>> = Arc::default();
        let stored = Arc::clone(&committed);
        let upstream = Upstream::start(move |seen| {
            let body: Value = serde_json::from_slice(&seen.body).unwrap_or_default();
            if let Some(number) = body["id"].as_str().and_then(|id| id.parse().ok()) {
                stored.lock().unwrap_or_else(PoisonError::into_inner).insert(number, Moment::now());
            }
            Answer::json(201, &body.to_string())
        })
        .await?;
        Ok(Self { upstream, committed })
    }

    /// An Envoy before it, with two workers.
    pub(crate) fn gateway(&self, companion: SocketAddr) -> Builder {
        Gateway::before(self.upstream.address(), companion).concurrency(2)
    }

    /// All that it has stored.
    pub(crate) fn committed(&self) -> Accepted {
        self.committed.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Waits until the filter has handed over all that it has.
pub(crate) async fn outbox_is_empty(gateway: &Gateway) -> Result<()> {
    let empty = async || (gateway.metric("gatehook_outbox_events").await.ok()? == 0).then_some(());
    wait::until("the outbox to be empty", 2 * wait::PATIENCE, empty).await.context("the filter keeps events")
}

async fn reconfigured(plan: Plan) -> Result<Findings> {
    let mut world = World::start(&plan).await?;
    let api = Api::start().await?;
    let builder = api.gateway(world.companion.address()).listeners_from_file();
    let mut gateway = builder.start(&plan.run).await?;
    let (_address, at) = watch::channel(gateway.address());
    let load = Load::of_writes(&at, BUSY);
    for change in 0..plan.tries {
        load.progress(20).await?;
        gateway.reconfigure(&json!({"source": format!("gateway-{change}")})).await?;
    }
    // The load goes on until the last of the old filter chains is gone, and with it the old root of every worker.
    gateway.metric_becomes("envoy_listener_manager_total_filter_chains_draining", 0).await?;
    let answered = load.stop().await?;
    outbox_is_empty(&gateway).await?;
    let (_, mut findings) = world.settle(&api.committed()).await?;
    findings.check(answered.len() == findings.accepted, || "a caller was told of a failure".into());
    let events = world.companion.list("/v1/events").await?;
    let sources: BTreeSet<&str> = events.iter().filter_map(|event| event["source"].as_str()).collect();
    findings.check(sources.len() > plan.tries / 2, || format!("the changes had no effect: {sources:?}"));
    let twice = findings.twice;
    findings.check(twice == 0, || format!("{twice} were sent twice"));
    Ok(findings.nothing_lost())
}

async fn ended(plan: Plan, end: End) -> Result<Findings> {
    let mut world = World::start(&plan).await?;
    let api = Api::start().await?;
    let start = async || {
        let builder = api.gateway(world.companion.address());
        let builder = if end == End::CrashedHolding { holding(builder) } else { builder };
        builder.start(&plan.run).await
    };
    let mut gateway = start().await?;
    let (address, at) = watch::channel(gateway.address());
    let load = Load::of_writes(&at, BUSY);
    let mut breaks = Vec::new();
    for _ in 0..plan.tries {
        load.progress(10).await?;
        sleep(up_to(LIFE)).await;
        if end == End::CrashedHolding {
            gateway.metric_becomes("gatehook_hold_timed_out", 0).await?;
        }
        let from = end_gateway(gateway, end).await?;
        gateway = start().await?;
        address.send_replace(gateway.address());
        breaks.push(Break::over_since(from));
    }
    load.progress(20).await?;
    let answered = load.stop().await?;
    outbox_is_empty(&gateway).await?;
    let committed = api.committed();
    let accepted = if end == End::CrashedHolding { &answered } else { &committed };
    let (tally, mut findings) = world.settle(accepted).await?;
    let unanswered = committed.len() - answered.len();
    let twice = findings.twice;
    findings.check(twice == 0, || format!("{twice} were sent twice"));
    let age = |number: &usize| {
        let at = accepted[number];
        breaks.iter().find(|it| it.until > at).map_or(Duration::MAX, |it| it.from.since(at))
    };
    let oldest = tally.lost.iter().map(age).max().unwrap_or_default();
    findings = findings.remark(format!("{unanswered} writes were committed and never answered"));
    if matches!(end, End::Drained | End::CrashedHolding) {
        return Ok(findings.nothing_lost());
    }
    findings.check(oldest < WORTH, || format!("what was lost was {} old", shown(oldest)));
    Ok(findings.remark(format!("what was lost had been committed at most {} before", shown(oldest))))
}

/// Ends it; when that began.
async fn end_gateway(gateway: Gateway, end: End) -> Result<Moment> {
    let from = Moment::now();
    match end {
        End::Crashed | End::CrashedHolding => gateway.kill()?,
        End::Stopped => gateway.stop()?,
        End::Drained => {
            gateway.admin().post("/drain_listeners").send().await?.expect(200)?;
            // What the documentation tells a pod's preStop to do.
            sleep(Duration::from_secs(1)).await;
            gateway.stop()?;
        }
    }
    Ok(from)
}

/// Holds each answer until its event is on disk, for as long as that takes.
fn holding(builder: Builder) -> Builder {
    let hold = json!({"allow_on_headers_stop_iteration": true});
    builder
        .filter(&json!({"mode": "hold", "hold_timeout": "60s", "hold": hold}))
        .change(harness::sample::Sample::allow_stop_iteration)
}
