//! Several companions on one PostgreSQL, of which one is killed or paused at a time, while the server restarts, or while
//! the queue that wakes them is out of reach.

use std::time::Duration;

use anyhow::Result;
use harness::cable::{Cable, Condition};
use harness::{Postgres, amqp};
use serde_json::json;
use tokio::time::sleep;

use crate::kills::doubt;
use crate::ledger::{Break, ORDERED};
use crate::load::{BUSY, CALM, Load};
use crate::moment::{Moment, chance, up_to};
use crate::world::{Plan, World};
use crate::{Fault, Findings};

const REPLICAS: usize = 3;

/// A replica is killed at a moment within this after the one before was started.
const LIFE: Duration = Duration::from_millis(700);

/// Longer than a lease, so that others have claimed what the paused one held.
const PAUSE: Duration = Duration::from_secs(65);

/// How long the queue is out of reach.
const AWAY: Duration = Duration::from_secs(60);

/// What is under way when a record cannot be written comes again at the end of its lease, and the sweep behind it.
const LEASE: Duration = Duration::from_secs(95);

pub(crate) fn faults() -> Vec<Fault> {
    vec![
        Fault {
            name: "kill -9 of one of three replicas",
            promise: "Nothing is lost. What the killed one had under way, and nothing else, is sent again by another one when \
                      its lease has ended; where order was asked for it holds.",
            tries: (6, 200),
            waits: true,
            run: |plan| Box::pin(kill(plan)),
        },
        Fault {
            name: "PostgreSQL restarted under three replicas",
            promise: "Nothing is lost, no replica ends, and all go on by themselves. What was under way may be sent again.",
            tries: (2, 20),
            waits: true,
            run: |plan| Box::pin(restart(plan)),
        },
        Fault {
            name: "a replica paused past its lease",
            promise: "Nothing is lost; the others deliver what it held. Sent again is only what it had under way.",
            tries: (1, 5),
            waits: true,
            run: |plan| Box::pin(pause(plan)),
        },
        Fault {
            name: "RabbitMQ out of reach for a minute",
            promise: "Events are taken all the while; the sweep takes over. Nothing is lost or sent twice.",
            tries: (1, 3),
            waits: true,
            run: |plan| Box::pin(away(plan)),
        },
    ]
}

/// Replicas of all roles' work on a server of their own, with further arguments.
async fn start(plan: &Plan, arguments: &[String]) -> Result<(Postgres, World)> {
    let postgres = Postgres::start(&plan.run).await?;
    let mut settings = plan.settings();
    settings.store = Some(postgres.url());
    settings.arguments.extend_from_slice(arguments);
    let mut world = World::empty(plan, settings.clone()).await?;
    for _ in 1..REPLICAS {
        world.join(plan, settings.clone()).await?;
    }
    let receiver = world.receiver.address();
    world.subscribe("/every", receiver, &json!({})).await?;
    world.subscribe(ORDERED, receiver, &json!({"ordering": "resource"})).await?;
    Ok((postgres, world))
}

async fn kill(plan: Plan) -> Result<Findings> {
    let (_postgres, mut world) = start(&plan, &[]).await?;
    let load = Load::of_events_to(&world.addresses(), BUSY);
    for _ in 0..plan.tries {
        sleep(up_to(LIFE)).await;
        let from = Moment::now();
        let replica = world.replica((chance() * REPLICAS as f64) as usize);
        replica.kill()?;
        replica.launch()?;
        replica.ready().await?;
        world.breaks.push(Break::over_since(from).echoing(LIFE));
    }
    load.progress(50).await?;
    let accepted = load.stop().await?;
    let (tally, findings) = world.settle(&accepted).await?;
    Ok(findings.nothing_lost().remark(doubt(&tally)))
}

async fn restart(plan: Plan) -> Result<Findings> {
    let (mut postgres, mut world) = start(&plan, &[]).await?;
    let load = Load::of_events_to(&world.addresses(), BUSY);
    for number in 0..plan.tries {
        load.progress(100).await?;
        sleep(up_to(LIFE)).await;
        let from = Moment::now();
        // Politely, and as a power cut of its machine would.
        if number % 2 == 0 {
            postgres.stop()?
        } else {
            postgres.kill()?
        }
        sleep(up_to(LIFE)).await;
        postgres.restart().await?;
        load.progress(50).await?;
        world.breaks.push(Break::over_since(from));
    }
    let refusals = load.refusals();
    let accepted = load.stop().await?;
    let (tally, mut findings) = world.settle(&accepted).await?;
    for number in 0..REPLICAS {
        let replica = world.replica(number);
        let alive = replica.read("/v1/tokens").await.is_ok();
        findings.check(alive, || format!("replica {number} ended, or serves no more"));
    }
    Ok(findings
        .nothing_lost()
        .remark(doubt(&tally))
        .remark(format!("{refusals} requests were told to come back")))
}

async fn pause(plan: Plan) -> Result<Findings> {
    let (_postgres, mut world) = start(&plan, &[]).await?;
    let load = Load::of_events_to(&world.addresses(), CALM);
    for _ in 0..plan.tries {
        load.progress(20).await?;
        let from = Moment::now();
        let paused = (chance() * REPLICAS as f64) as usize;
        world.replica(paused).freeze()?;
        sleep(PAUSE).await;
        world.replica(paused).thaw()?;
        sleep(up_to(LIFE)).await;
        world.breaks.push(Break::over_since(from).echoing(LIFE));
    }
    load.progress(20).await?;
    let accepted = load.stop().await?;
    let (tally, findings) = world.settle(&accepted).await?;
    Ok(findings.nothing_lost().remark(doubt(&tally)))
}

async fn away(plan: Plan) -> Result<Findings> {
    let broker = amqp::Broker::find().await?;
    let cable = Cable::to(broker.address()).await?;
    let queue = broker.queue_by(cable.address());
    let (_postgres, mut world) = start(&plan, &["--queue".into(), queue.url().into()]).await?;
    let load = Load::of_events_to(&world.addresses(), CALM);
    for _ in 0..plan.tries {
        load.progress(50).await?;
        let from = Moment::now();
        cable.becomes(Condition::Cut);
        sleep(AWAY / 2).await;
        load.progress(50).await?;
        sleep(AWAY / 2).await;
        cable.becomes(Condition::Whole);
        load.progress(50).await?;
        world.breaks.push(Break::over_since(from));
    }
    let accepted = load.stop().await?;
    let (_, mut findings) = world.settle(&accepted).await?;
    let twice = findings.twice;
    findings.check(twice == 0, || format!("{twice} were sent twice"));
    let latest = findings.latest.unwrap_or_default();
    findings.check(latest < LEASE, || "the sweep came too late".into());
    Ok(findings.nothing_lost())
}
