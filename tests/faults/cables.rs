//! Cables: between the companion and a receiver, and between Envoy and the companion. Cut and mended, slow, silent, and
//! answers that come a byte a second.

use std::time::Duration;

use anyhow::Result;
use harness::cable::{Cable, Condition};
use harness::gateway::Builder;
use harness::wait;
use serde_json::json;
use tokio::sync::watch;
use tokio::time::sleep;

use crate::gateways::{Api, outbox_is_empty};
use crate::kills::doubt;
use crate::ledger::Break;
use crate::load::{BUSY, CALM, Load, Pace};
use crate::moment::{Moment, shown, up_to};
use crate::world::{Plan, World};
use crate::{Fault, Findings};

/// Both halves of a cut: how long until it comes, and how long it lasts.
const CUT: Duration = Duration::from_millis(300);

/// What latency adds in each direction.
const LATE: Duration = Duration::from_millis(200);

/// The companion's time for one attempt, 15 s, and what a busy machine adds.
const ATTEMPT: Duration = Duration::from_secs(60);

/// How late a busy receiver may read what came through before the trouble, whose answer has no way back any more.
const READS_LATE: Duration = Duration::from_secs(1);

/// The receiver behind a cable, and another that is reached directly.
const BEHIND: &str = "/behind";
const BESIDE: &str = "/beside";

/// How long another receiver may wait for a delivery while one is in trouble; it is far less, but the machine is busy.
const BESIDE_MOST: Duration = Duration::from_secs(5);

pub(crate) fn faults() -> Vec<Fault> {
    vec![
        Fault {
            name: "cable cut, companion to receiver",
            promise: "Nothing is lost; sent again is only what was cut off before its answer. Others wait for nothing.",
            tries: (4, 25),
            waits: false,
            run: |plan| {
                Box::pin(to_receiver(
                    plan,
                    Trouble { condition: Condition::Cut, pace: BUSY, sign: "unreachable" },
                ))
            },
        },
        Fault {
            name: "latency of 200 ms, companion to receiver",
            promise: "Nothing is lost and nothing is sent twice.",
            tries: (1, 10),
            waits: false,
            run: |plan| Box::pin(late(plan)),
        },
        Fault {
            name: "half-open, companion to receiver",
            promise: "An attempt ends after 15 s; nothing is lost; sent again is only what had arrived unanswered. Others wait \
                      for nothing.",
            tries: (1, 3),
            waits: true,
            run: |plan| {
                Box::pin(to_receiver(
                    plan,
                    Trouble { condition: Condition::Silent, pace: CALM, sign: "timed_out" },
                ))
            },
        },
        Fault {
            name: "answers a byte a second, receiver",
            promise: "An attempt ends after 15 s although bytes come; nothing is lost; what had arrived is sent again. Others \
                      wait for nothing.",
            tries: (1, 3),
            waits: true,
            run: |plan| {
                Box::pin(to_receiver(
                    plan,
                    Trouble { condition: Condition::Trickling, pace: CALM, sign: "timed_out" },
                ))
            },
        },
        Fault {
            name: "cable cut, Envoy to companion",
            promise: "Nothing is lost, callers notice nothing, and what was handed over twice is delivered once.",
            tries: (4, 25),
            waits: false,
            run: |plan| Box::pin(to_companion(plan, Condition::Cut, BUSY)),
        },
        Fault {
            name: "half-open, Envoy to companion",
            promise: "A batch ends after 5 s and is handed over again; callers notice nothing, nothing is lost or sent twice.",
            tries: (1, 3),
            waits: true,
            run: |plan| Box::pin(to_companion(plan, Condition::Silent, CALM)),
        },
        Fault {
            name: "answers a byte a second, companion",
            promise: "As half-open; the companion knows the batches that come again, and delivers them once.",
            tries: (1, 3),
            waits: true,
            run: |plan| Box::pin(to_companion(plan, Condition::Trickling, CALM)),
        },
    ]
}

/// What happens to a cable.
#[derive(Clone, Copy)]
struct Trouble {
    condition: Condition,
    pace: Pace,
    /// The outcome of attempts that shows it.
    sign: &'static str,
}

async fn to_receiver(plan: Plan, Trouble { condition, pace, sign }: Trouble) -> Result<Findings> {
    let mut world = World::empty(&plan, plan.settings()).await?;
    let cable = Cable::to(world.receiver.address()).await?;
    world.subscribe(BEHIND, cable.address(), &json!({})).await?;
    let direct = world.receiver.address();
    world.subscribe(BESIDE, direct, &json!({})).await?;
    let load = Load::of_events(world.companion.address(), pace);
    let mut signs = 0;
    for _ in 0..plan.tries {
        load.progress(10).await?;
        sleep(up_to(CUT)).await;
        let from = Moment::now();
        cable.becomes(condition);
        sleep(up_to(CUT)).await;
        let seen = async || {
            let count = world.companion.metric("gatehook_attempts_total", sign).await.ok()?;
            (count > signs).then_some(())
        };
        wait::until("an attempt to fail by it", ATTEMPT, seen).await?;
        cable.becomes(Condition::Whole);
        world.breaks.push(Break::over_since(from).echoing(READS_LATE));
        // Until it is trusted again the next trouble would meet nothing but pauses, each longer than the one before.
        let trusted =
            async || (world.companion.metric("gatehook_breakers_open", "").await.ok()? == 0).then_some(());
        wait::until("the receiver to be trusted again", ATTEMPT, trusted).await?;
        signs = world.companion.metric("gatehook_attempts_total", sign).await?;
    }
    load.progress(20).await?;
    let accepted = load.stop().await?;
    let (tally, mut findings) = world.settle(&accepted).await?;
    let arrivals = world.receiver.arrivals()?.iter().filter(|arrival| arrival.hook == BESIDE);
    let waited =
        arrivals.map(|arrival| arrival.at.since(accepted[&arrival.number])).max().unwrap_or_default();
    findings.check(waited < BESIDE_MOST, || format!("another receiver waited {}", shown(waited)));
    Ok(findings
        .nothing_lost()
        .remark(doubt(&tally))
        .remark(format!("another receiver waited {} at most", shown(waited))))
}

async fn late(plan: Plan) -> Result<Findings> {
    let mut world = World::empty(&plan, plan.settings()).await?;
    let cable = Cable::to(world.receiver.address()).await?;
    world.subscribe(BEHIND, cable.address(), &json!({})).await?;
    let load = Load::of_events(world.companion.address(), CALM);
    for _ in 0..plan.tries {
        for condition in [Condition::Late(LATE), Condition::Whole] {
            cable.becomes(condition);
            load.progress(50).await?;
        }
    }
    cable.becomes(Condition::Late(LATE));
    load.progress(50).await?;
    let accepted = load.stop().await?;
    let (_, mut findings) = world.settle(&accepted).await?;
    let newest = accepted.last_key_value().map(|(number, _)| *number).unwrap_or_default();
    let arrivals = world.receiver.arrivals()?;
    let waited = arrivals.iter().filter(|arrival| arrival.number == newest);
    let waited = waited.map(|arrival| arrival.at.since(accepted[&newest])).max().unwrap_or_default();
    findings.check(waited >= LATE / 2, || format!("the cable was not slow: {}", shown(waited)));
    let twice = findings.twice;
    findings.check(twice == 0, || format!("{twice} were sent twice"));
    Ok(findings.nothing_lost())
}

async fn to_companion(plan: Plan, condition: Condition, pace: Pace) -> Result<Findings> {
    let mut world = World::start(&plan).await?;
    let cable = Cable::to(world.companion.address()).await?;
    let api = Api::start().await?;
    let builder: Builder = api.gateway(cable.address());
    let gateway = builder.start(&plan.run).await?;
    let (_address, at) = watch::channel(gateway.address());
    let load = Load::of_writes(&at, pace);
    for _ in 0..plan.tries {
        load.progress(10).await?;
        sleep(up_to(CUT)).await;
        let before = gateway.metric("gatehook_retried").await.unwrap_or_default();
        let from = Moment::now();
        cable.becomes(condition);
        sleep(up_to(CUT)).await;
        let seen = async || (gateway.metric("gatehook_retried").await.ok()? > before).then_some(());
        wait::until("a batch to be handed over again", ATTEMPT, seen).await?;
        cable.becomes(Condition::Whole);
        world.breaks.push(Break::over_since(from));
    }
    load.progress(20).await?;
    let answered = load.stop().await?;
    outbox_is_empty(&gateway).await?;
    let (_, mut findings) = world.settle(&api.committed()).await?;
    findings.check(answered.len() == findings.accepted, || "a caller was told of a failure".into());
    let dropped = gateway.metric("gatehook_dropped").await.unwrap_or_default();
    findings.check(dropped == 0, || format!("{dropped} were dropped"));
    let repeated = world.companion.metric("gatehook_events_total", "repeated").await?;
    let twice = findings.twice;
    findings.check(twice == 0, || format!("{twice} were sent twice"));
    Ok(findings.nothing_lost().remark(format!("{repeated} events were handed over again")))
}
