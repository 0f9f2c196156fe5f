//! The cast of a fault: a companion, receivers in a process of their own, and what is counted when it is over.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;
use harness::Companion;
use harness::companion::{Profile, Settings};
use harness::workspace::RunDirectory;
use serde_json::{Value, json};

use crate::Findings;
use crate::ledger::{self, Break, ORDERED, Tally};
use crate::load::Accepted;
use crate::receiver::{Receiver, SECRET};

/// A second apart at the end, and enough of them that nothing is given up while something is broken.
const RETRIES: &str = "0s,50ms,100ms,200ms,400ms,800ms";

/// How long may pass until the last of what was accepted has arrived: longer than a lease and the sweep behind it.
const SETTLED: Duration = Duration::from_secs(120);

/// How long to wait for what is missing while nothing is pending.
const LAST_HOPE: Duration = Duration::from_secs(5);

/// What a fault is given.
pub(crate) struct Plan {
    pub(crate) run: Arc<RunDirectory>,
    /// How often to break something.
    pub(crate) tries: usize,
    pub(crate) profile: Profile,
}

impl Plan {
    /// How the companion is started, where nothing is said beyond it.
    pub(crate) fn settings(&self) -> Settings {
        let retry_schedule = format!("{RETRIES}{}", ",1s".repeat(44));
        Settings { profile: self.profile, retry_schedule, ..Settings::default() }
    }
}

/// A companion, and a receiver with a subscription for each of its hooks.
pub(crate) struct World {
    pub(crate) companion: Companion,
    /// Further companions on its store.
    others: Vec<Companion>,
    pub(crate) receiver: Receiver,
    hooks: Vec<&'static str>,
    pub(crate) breaks: Vec<Break>,
}

impl World {
    /// The usual one: two subscriptions to everything, of which one asks for order.
    pub(crate) async fn start(plan: &Plan) -> Result<Self> {
        let mut world = Self::empty(plan, plan.settings()).await?;
        let receiver = world.receiver.address();
        world.subscribe("/every", receiver, &json!({})).await?;
        world.subscribe(ORDERED, receiver, &json!({"ordering": "resource"})).await?;
        Ok(world)
    }

    /// One without subscriptions.
    pub(crate) async fn empty(plan: &Plan, settings: Settings) -> Result<Self> {
        let receiver = Receiver::start(&plan.run, settings.environment.clone()).await?;
        let companion = Companion::start(&plan.run, settings).await?;
        Ok(Self { companion, others: Vec::new(), receiver, hooks: Vec::new(), breaks: Vec::new() })
    }

    /// Adds a companion, on the store that its settings name.
    pub(crate) async fn join(&mut self, plan: &Plan, settings: Settings) -> Result<()> {
        self.others.push(Companion::start(&plan.run, settings).await?);
        Ok(())
    }

    /// One of the companions by its number.
    pub(crate) fn replica(&mut self, number: usize) -> &mut Companion {
        match number.checked_sub(1) {
            None => &mut self.companion,
            Some(other) => &mut self.others[other],
        }
    }

    /// Where all companions listen.
    pub(crate) fn addresses(&self) -> Vec<SocketAddr> {
        std::iter::once(&self.companion).chain(&self.others).map(Companion::address).collect()
    }

    /// Subscribes a hook to everything, by an address that leads to the receiver.
    pub(crate) async fn subscribe(&mut self, hook: &'static str, by: SocketAddr, more: &Value) -> Result<()> {
        let mut wanted =
            json!({"target_url": format!("http://{by}{hook}"), "events": ["*"], "secret": SECRET});
        for (name, value) in more.as_object().into_iter().flatten() {
            wanted[name] = value.clone();
        }
        self.companion.admin().post("/v1/subscriptions").json(&wanted).send().await?.expect(201)?;
        self.hooks.push(hook);
        Ok(())
    }

    /// Waits until everything has arrived and nothing is pending, or for too long; what came of it. What does not hold in
    /// any fault is a broken promise already: a database with flaws, deliveries that end otherwise, ids that come twice.
    pub(crate) async fn settle(&mut self, accepted: &Accepted) -> Result<(Tally, Findings)> {
        let pending = self.come_to_rest(accepted).await?;
        let tally = ledger::tally(accepted, self.receiver.arrivals()?, &self.hooks, &self.breaks);
        let mut findings = Findings {
            accepted: accepted.len(),
            delivered: tally.delivered,
            lost: tally.lost.len(),
            twice: tally.twice,
            latest: (!self.breaks.is_empty()).then_some(tally.latest),
            ..Findings::default()
        };
        let flaws = self.companion.integrity().err();
        findings.check(flaws.is_none(), || {
            format!("the database has flaws: {:#}", flaws.unwrap_or_else(|| anyhow::anyhow!("none")))
        });
        findings.check(!pending, || "some deliveries were still pending in the end".into());
        for status in ["exhausted", "cancelled"] {
            let count = self.count(status).await?;
            findings.check(count == 0, || format!("{count} deliveries and more are {status}"));
        }
        let Tally { doubled, overtaken, unexplained, .. } = tally;
        findings.check(doubled == 0, || format!("{doubled} events came as two deliveries"));
        findings
            .check(overtaken == 0, || format!("{overtaken} events were overtaken where order was asked for"));
        findings.check(unexplained == 0, || format!("{unexplained} repeats that nothing explains"));
        Ok((tally, findings))
    }

    /// Waits until all is there and nothing is pending; says whether something still is.
    async fn come_to_rest(&mut self, accepted: &Accepted) -> Result<bool> {
        let end = Instant::now() + SETTLED;
        let mut nothing_pending_since = None;
        while Instant::now() < end {
            if self.count("pending").await? > 0 {
                nothing_pending_since = None;
            } else {
                let since = *nothing_pending_since.get_or_insert_with(Instant::now);
                let tally = ledger::tally(accepted, self.receiver.arrivals()?, &self.hooks, &self.breaks);
                if tally.lost.is_empty() || since.elapsed() > LAST_HOPE {
                    return Ok(false);
                }
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        Ok(nothing_pending_since.is_none())
    }

    /// Deliveries of a status; of many, the first.
    pub(crate) async fn count(&self, status: &str) -> Result<usize> {
        let page = self.companion.read(&format!("/v1/deliveries?status={status}&limit=200")).await?;
        Ok(page["data"].as_array().map_or(0, Vec::len))
    }
}
