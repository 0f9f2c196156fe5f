//! What is measured: a companion of its own with subscriptions and receivers, and events that go on where the last ones
//! ended.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use harness::companion::{ADMIN_TOKEN, Companion, INGEST_TOKEN, Profile, Settings};
use harness::load::{self, Load, NUMBER, Sink};
use harness::ports::ReservedPort;
use harness::workspace::RunDirectory;
use serde_json::{Value, json};

/// Bytes of an event's data.
pub(crate) const DATA: usize = 1_024;
/// Events in a batch.
pub(crate) const BATCH: usize = 100;
/// The schedule of retries that a companion has by itself (the harness has a shorter one).
const SCHEDULE: &str = "0s,5s,5m,30m,2h,5h,10h,14h,20h,24h";
/// Subscriptions that share what is pending for receivers that are down.
const DOWN: usize = 100;

/// How events find their subscriptions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum By {
    Type,
    Condition,
}

/// Who subscribes to what.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Setup {
    /// Subscriptions, each with a receiver of its own, that want every event.
    pub(crate) fan_out: usize,
    /// Instead, where there is more than one: subscriptions that each want events of one kind.
    pub(crate) kinds: usize,
    /// How the kinds are told apart.
    pub(crate) by: By,
    /// Of the kinds, how many have a receiver that never answers.
    pub(crate) hanging: usize,
    /// Deliveries that are pending beforehand, for receivers that are down.
    pub(crate) pending: usize,
    /// When attempts are made.
    pub(crate) schedule: &'static str,
}

impl Default for Setup {
    fn default() -> Self {
        Self { fan_out: 1, kinds: 1, by: By::Type, hanging: 0, pending: 0, schedule: SCHEDULE }
    }
}

/// What one measurement took.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Taken {
    pub(crate) elapsed: Duration,
    /// Of the companion, its database included.
    pub(crate) cpu: Duration,
    /// Of every process: load generator and receivers, too.
    pub(crate) all_cpu: Duration,
    /// Deliveries made.
    pub(crate) deliveries: usize,
}

/// When events were sent, accepted and received.
#[derive(Debug, Default)]
pub(crate) struct Latencies {
    pub(crate) accepted: Vec<Duration>,
    pub(crate) arrived: Vec<Duration>,
}

pub(crate) struct World {
    pub(crate) companion: Companion,
    setup: Setup,
    sinks: Vec<Sink>,
    hanging: Sink,
    down: ReservedPort,
    /// Events offered so far, so that no id comes twice.
    offered: usize,
}

impl World {
    pub(crate) async fn start(setup: Setup) -> Result<Self> {
        let mut receivers = Vec::new();
        for _ in 0..setup.fan_out {
            receivers.push(Sink::start().await?);
        }
        let mut world = Self::before(receivers, setup).await?;
        world.fill().await?;
        Ok(world)
    }

    /// Starts one with these receivers.
    pub(crate) async fn before(sinks: Vec<Sink>, setup: Setup) -> Result<Self> {
        let (profile, retry_schedule) = (Profile::Release, setup.schedule.into());
        let settings = Settings { profile, retry_schedule, ..Settings::default() };
        let companion = Companion::start(&RunDirectory::create()?, settings).await?;
        let (hanging, down) = (Sink::answering(|_| Vec::new()).await?, ReservedPort::any()?);
        let world = Self { companion, setup, sinks, hanging, down, offered: 0 };
        world.subscribe().await?;
        Ok(world)
    }

    async fn subscribe(&self) -> Result<()> {
        let Setup { kinds, by, hanging, pending, .. } = self.setup;
        let to = |address: SocketAddr, path: String| format!("http://{address}/{path}");
        let mut wanted: Vec<Value> = Vec::new();
        if kinds == 1 {
            let all = self.sinks.iter();
            wanted.extend(
                all.map(|sink| json!({"target_url": to(sink.address, String::new()), "events": ["bench.*"]})),
            );
        } else {
            wanted.extend((0..kinds).map(|kind| {
                let sink = if kind >= kinds - hanging { &self.hanging } else { &self.sinks[0] };
                let target = to(sink.address, format!("{kind}"));
                match by {
                    By::Type => json!({"target_url": target, "events": [format!("bench.t{kind}")]}),
                    By::Condition => {
                        let condition = json!({"exact": {"/customer": format!("c{kind}")}});
                        json!({"target_url": target, "events": ["bench.*"], "match": condition})
                    }
                }
            }));
        }
        if pending > 0 {
            let target = |number| to(self.down.address(), format!("{number}"));
            wanted.extend(
                (0..DOWN).map(
                    |number| json!({"target_url": target(number), "events": [format!("down.t{number}")]}),
                ),
            );
        }
        let headers = format!("authorization: Bearer {ADMIN_TOKEN}\r\ncontent-type: application/json\r\n");
        let load = Load { requests: wanted.len(), connections: wanted.len().min(16), every: None };
        let request =
            move |number: usize| load::post("/v1/subscriptions", &headers, &wanted[number].to_string());
        load::drive(self.companion.address(), load, Arc::new(request)).await?;
        Ok(())
    }

    /// Accepts events for the receivers that are down, one delivery each.
    async fn fill(&mut self) -> Result<()> {
        if self.setup.pending == 0 {
            return Ok(());
        }
        let name = |number: usize| format!("down.t{}", number % DOWN);
        let load = Load { requests: self.setup.pending.div_ceil(1_000), connections: 2, every: None };
        let request = batches(self.offered, self.setup.pending, 1_000, name);
        load::drive(self.companion.address(), load, request).await?;
        self.offered += self.setup.pending;
        Ok(())
    }

    /// From the first request until the last delivery to a receiver that answers is recorded.
    pub(crate) async fn ingest(&mut self, events: usize, batch: usize) -> Result<Taken> {
        let (id, expected) = (self.companion.id(), self.expected(events));
        let before = (self.delivered().await?, load::cpu_time(id)?, load::cpu_time(std::process::id())?);
        let begun = Instant::now();
        self.offer(events, batch).await?;
        for sink in &self.sinks {
            sink.take(expected / self.sinks.len()).await?;
        }
        while self.delivered().await? < before.0 + expected {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let elapsed = begun.elapsed();
        let cpu = load::cpu_time(id)? - before.1;
        let all_cpu = cpu + load::cpu_time(std::process::id())? - before.2;
        Ok(Taken { elapsed, cpu, all_cpu, deliveries: expected })
    }

    /// Has events accepted, as fast as it goes.
    pub(crate) async fn offer(&mut self, events: usize, batch: usize) -> Result<()> {
        let connections = if batch == 1 { 64 } else { 4 };
        let load = Load { requests: events.div_ceil(batch), connections, every: None };
        load::drive(self.companion.address(), load, self.requests(events, batch)).await?;
        self.offered += events;
        Ok(())
    }

    /// Latencies at a pace: until the 202, and until the first receiver has it.
    pub(crate) async fn paced(&mut self, events: usize, rate: u32) -> Result<(Latencies, Taken)> {
        let (begun, id, expected) = (Instant::now(), self.companion.id(), self.expected(events));
        let before = (load::cpu_time(id)?, load::cpu_time(std::process::id())?);
        let load = Load { requests: events, connections: 8, every: Some(Duration::from_secs(1) / rate) };
        let times = load::drive(self.companion.address(), load, self.requests(events, 1)).await?;
        let first = self.offered;
        self.offered += events;
        let arrivals = self.sinks[0].take(expected / self.sinks.len()).await?;
        for sink in &self.sinks[1..] {
            sink.take(expected / self.sinks.len()).await?;
        }
        let cpu = load::cpu_time(id)? - before.0;
        let all_cpu = cpu + load::cpu_time(std::process::id())? - before.1;
        ensure!(
            arrivals.len() == expected / self.sinks.len(),
            "only {} numbered events arrived",
            arrivals.len()
        );
        let accepted = times.iter().map(|(sent, answered)| *answered - *sent).collect();
        let arrived = arrivals.iter().map(|(number, at)| *at - times[number - first].0).collect();
        let taken = Taken { elapsed: begun.elapsed(), cpu, all_cpu, deliveries: expected };
        Ok((Latencies { accepted, arrived }, taken))
    }

    /// The reference: the same client, the same bodies, straight to the receiver.
    pub(crate) async fn straight(&self, events: usize, pace: Option<u32>) -> Result<(Vec<Duration>, Taken)> {
        let before = load::cpu_time(std::process::id())?;
        let begun = Instant::now();
        let every = pace.map(|rate| Duration::from_secs(1) / rate);
        let load = Load { requests: events, connections: if pace.is_some() { 8 } else { 64 }, every };
        let request = |number| load::post("/", "", &event(number, "bench.t0", "c0"));
        let times = load::drive(self.sinks[0].address, load, Arc::new(request)).await?;
        let arrivals = self.sinks[0].take(events).await?;
        let elapsed = begun.elapsed();
        let all_cpu = load::cpu_time(std::process::id())? - before;
        let arrived = arrivals.iter().map(|(number, at)| *at - times[*number].0).collect();
        Ok((arrived, Taken { elapsed, cpu: Duration::ZERO, all_cpu, deliveries: events }))
    }

    /// Deliveries that the companion has recorded as delivered.
    pub(crate) async fn delivered(&self) -> Result<usize> {
        let count = self.companion.metric("gatehook_deliveries_total", "status=\"delivered\"").await?;
        Ok(usize::try_from(count)?)
    }

    /// Deliveries that the next events bring to receivers that answer.
    fn expected(&self, events: usize) -> usize {
        let Setup { fan_out, kinds, hanging, .. } = self.setup;
        let healthy = |number: &usize| spread(*number, kinds) < kinds - hanging;
        (self.offered..self.offered + events).filter(healthy).count() * fan_out
    }

    fn requests(&self, events: usize, batch: usize) -> Request {
        let (first, kinds) = (self.offered, self.setup.kinds);
        let name = move |number: usize| format!("bench.t{}", spread(number, kinds));
        if batch > 1 {
            return batches(first, events, batch, name);
        }
        let headers =
            format!("authorization: Bearer {INGEST_TOKEN}\r\ncontent-type: application/cloudevents+json\r\n");
        Arc::new(move |request| {
            let number = first + request;
            let customer = format!("c{}", spread(number, kinds));
            load::post("/v1/events", &headers, &event(number, &name(number), &customer))
        })
    }
}

type Request = Arc<dyn Fn(usize) -> Vec<u8> + Send + Sync>;

fn batches(
    first: usize,
    events: usize,
    batch: usize,
    name: impl Fn(usize) -> String + Send + Sync + 'static,
) -> Request {
    let headers = format!(
        "authorization: Bearer {INGEST_TOKEN}\r\ncontent-type: application/cloudevents-batch+json\r\n"
    );
    Arc::new(move |request| {
        let numbers = (first + request * batch)..(first + ((request + 1) * batch).min(events));
        let one = |number: usize| {
            let name = name(number);
            let customer = name.replace("bench.t", "c");
            event(number, &name, &customer)
        };
        load::post("/v1/events", &headers, &format!("[{}]", numbers.map(one).collect::<Vec<_>>().join(",")))
    })
}

/// Ids grow, as those of the filter do.
fn event(number: usize, name: &str, customer: &str) -> String {
    let padding = "x".repeat(DATA.saturating_sub(NUMBER.len() + 60));
    format!(
        r#"{{"specversion":"1.0","id":"{number:012}","source":"/bench","type":"{name}","data":{{{NUMBER}{number},"customer":"{customer}","padding":"{padding}"}}}}"#
    )
}

/// Which kind an event is of: each in turn, healthy and hanging mixed.
fn spread(number: usize, kinds: usize) -> usize {
    // A step that shares no factor with a round number reaches all of them.
    number * 7_919 % kinds
}
