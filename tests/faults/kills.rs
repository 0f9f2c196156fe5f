//! Processes that end with `kill -9`: the companion, alone and behind Envoy, and receivers.

use std::time::Duration;

use anyhow::Result;
use tokio::sync::watch;
use tokio::time::sleep;

use crate::gateways::{Api, outbox_is_empty};
use crate::ledger::{Break, Tally};
use crate::load::{BUSY, Load};
use crate::moment::{Moment, chance, shown, up_to};
use crate::world::{Plan, World};
use crate::{Fault, Findings};

/// A process is killed at a moment within this after the one before was started.
const LIFE: Duration = Duration::from_millis(450);

pub(crate) fn faults() -> Vec<Fault> {
    vec![
        Fault {
            name: "kill -9 of the companion",
            promise: "Nothing is lost. What was under way, and nothing else, is sent again, at once after the start, and \
                      where order was asked for it holds.",
            tries: (8, 200),
            waits: false,
            run: |plan| Box::pin(companion(plan)),
        },
        Fault {
            name: "kill -9 of the companion, behind Envoy",
            promise: "Nothing is lost: events wait in the outbox, and what was handed over twice is delivered once.",
            tries: (5, 200),
            waits: false,
            run: |plan| Box::pin(companion_behind_envoy(plan)),
        },
        Fault {
            name: "kill -9 of the receiver",
            promise: "Nothing is lost. Sent again is what it had not answered. It is tried again a second or two after its \
                      failures.",
            tries: (5, 100),
            waits: false,
            run: |plan| Box::pin(receiver(plan)),
        },
    ]
}

async fn companion(plan: Plan) -> Result<Findings> {
    let mut world = World::start(&plan).await?;
    let load = Load::of_events(world.companion.address(), BUSY);
    kill_companion(&mut world, plan.tries).await?;
    load.progress(50).await?;
    let accepted = load.stop().await?;
    let (tally, findings) = world.settle(&accepted).await?;
    Ok(findings.nothing_lost().remark(doubt(&tally)))
}

async fn companion_behind_envoy(plan: Plan) -> Result<Findings> {
    let mut world = World::start(&plan).await?;
    let api = Api::start().await?;
    let gateway = api.gateway(world.companion.address()).start(&plan.run).await?;
    let (_address, at) = watch::channel(gateway.address());
    let load = Load::of_writes(&at, BUSY);
    kill_companion(&mut world, plan.tries).await?;
    load.progress(50).await?;
    load.stop().await?;
    outbox_is_empty(&gateway).await?;
    let (tally, findings) = world.settle(&api.committed()).await?;
    Ok(findings.nothing_lost().remark(doubt(&tally)))
}

/// Kills it at random moments and starts it again; now and then in the middle of its start.
async fn kill_companion(world: &mut World, tries: usize) -> Result<()> {
    for _ in 0..tries {
        sleep(up_to(LIFE)).await;
        let from = Moment::now();
        world.companion.kill()?;
        world.companion.launch()?;
        // What the old one has sent the receiver may read only after the new one was launched, or even after its end.
        let mut over = Break::over_since(from).echoing(LIFE);
        if chance() < 0.8 {
            world.companion.ready().await?;
            over.echoes_until = Moment::now();
        }
        world.breaks.push(over);
    }
    world.companion.ready().await
}

async fn receiver(plan: Plan) -> Result<Findings> {
    let mut world = World::start(&plan).await?;
    let load = Load::of_events(world.companion.address(), BUSY);
    for _ in 0..plan.tries {
        sleep(up_to(LIFE)).await;
        let from = Moment::now();
        world.receiver.kill()?;
        world.receiver.restart().await?;
        world.breaks.push(Break::over_since(from));
    }
    load.progress(50).await?;
    let accepted = load.stop().await?;
    let (tally, findings) = world.settle(&accepted).await?;
    Ok(findings.nothing_lost().remark(doubt(&tally)))
}

/// How long before a break what came again had arrived.
pub(crate) fn doubt(tally: &Tally) -> String {
    format!("what came again had arrived at most {} before the break", shown(tally.oldest_doubt))
}
