//! `cargo bench-companion`: events accepted durably, delivered and recorded, next to the same client posting straight to
//! the same receiver.
//!
//! Variants are interleaved and every figure is a ratio within one run, as a median over rounds with its range.

mod report;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use clap::Parser;
use harness::companion::{Companion, INGEST_TOKEN, Profile, Settings};
use harness::http::Client;
use harness::load::{self, Load, NUMBER, Sink};
use harness::workspace::RunDirectory;
use report::{Series, machine, percentile_ms};
use serde_json::json;

/// Events in a batch.
const BATCH: usize = 100;
/// Bytes of an event's data.
const DATA: usize = 1_024;

/// Measures the companion.
#[derive(Parser)]
struct Options {
    /// Rounds; each measures every variant once
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Events per variant and round
    #[arg(long, default_value_t = 20_000)]
    events: usize,
}

/// What one variant took.
struct Taken {
    elapsed: Duration,
    cpu: Duration,
}

#[tokio::main]
async fn main() -> Result<()> {
    let options = Options::parse();
    println!("{}", machine());
    println!(
        "{} rounds of {} events with {DATA} bytes of data; median (range)\n",
        options.rounds, options.events
    );
    let run = RunDirectory::create()?;
    let sink = Sink::start().await?;
    let settings = Settings { profile: Profile::Release, ..Settings::default() };
    let companion = Companion::start(&run, settings).await?;
    let wanted = json!({"target_url": format!("http://{}/", sink.address), "events": ["*"]});
    companion.admin().post("/v1/subscriptions").json(&wanted).send().await?.expect(201)?;
    let mut bench = Bench { companion, sink, offered: 0 };

    let names = ["straight to the receiver", "one event a request", "batches of 100"];
    let mut rates: [Series; 3] = Default::default();
    let mut ratios: [Series; 3] = Default::default();
    let mut cpu: [Series; 3] = Default::default();
    bench.paced(200).await?;
    for _ in 0..options.rounds {
        let straight = bench.straight(options.events).await?;
        let single = bench.ingest(options.events, 1).await?;
        let batches = bench.ingest(options.events, BATCH).await?;
        let thousands = options.events as f64 / 1e3;
        for (index, taken) in [straight, single, batches].into_iter().enumerate() {
            rates[index].0.push(options.events as f64 / taken.elapsed.as_secs_f64());
            cpu[index].0.push(taken.cpu.as_secs_f64() / thousands);
            let ratio = rates[index].0.last().copied().unwrap_or(f64::NAN)
                / rates[0].0.last().copied().unwrap_or(f64::NAN);
            ratios[index].0.push(ratio);
        }
    }
    println!("{:<26} {:>28} {:>20} {:>26}", "", "events a second", "of straight", "companion CPU s / 1,000");
    for (index, name) in names.iter().enumerate() {
        let (rate, ratio, cpu) = (rates[index].shown(0), ratios[index].shown(3), cpu[index].shown(3));
        println!("{name:<26} {rate:>28} {ratio:>20} {:>26}", if index == 0 { "–".to_owned() } else { cpu });
    }
    let (mut accepted, mut arrived) = bench.paced(2_000).await?;
    println!("\nat 200 a second      p50      p99  (ms)");
    for (name, times) in [("ingest to 202", &mut accepted), ("ingest to receiver", &mut arrived)] {
        println!("{name:<18} {:>6.2} {:>8.2}", percentile_ms(times, 50), percentile_ms(times, 99));
    }
    println!("\npeak memory of the companion: {} MiB", load::peak_memory(bench.companion.id())? >> 20);
    Ok(())
}

struct Bench {
    companion: Companion,
    sink: Sink,
    /// Events offered so far, so that no id comes twice.
    offered: usize,
}

impl Bench {
    /// The reference: the same client, the same bodies, no companion.
    async fn straight(&self, events: usize) -> Result<Taken> {
        let load = Load { requests: events, connections: 64, every: None };
        let begun = Instant::now();
        load::drive(self.sink.address, load, Arc::new(|number| load::post("/", "", &event(number)))).await?;
        self.sink.take(events).await?;
        Ok(Taken { elapsed: begun.elapsed(), cpu: Duration::ZERO })
    }

    /// From the first request until the last delivery is recorded.
    async fn ingest(&mut self, events: usize, batch: usize) -> Result<Taken> {
        let before = (delivered(self.companion.address()).await?, load::cpu_time(self.companion.id())?);
        let begun = Instant::now();
        let connections = if batch == 1 { 64 } else { 4 };
        let load = Load { requests: events.div_ceil(batch), connections, every: None };
        load::drive(self.companion.address(), load, requests(self.offered, events, batch)).await?;
        self.offered += events;
        self.sink.take(events).await?;
        while delivered(self.companion.address()).await? < before.0 + events {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        Ok(Taken { elapsed: begun.elapsed(), cpu: load::cpu_time(self.companion.id())? - before.1 })
    }

    /// Latencies at 200 events a second: until the 202, and until the receiver has it.
    async fn paced(&mut self, events: usize) -> Result<(Vec<Duration>, Vec<Duration>)> {
        let load = Load { requests: events, connections: 8, every: Some(Duration::from_millis(5)) };
        let first = self.offered;
        let times = load::drive(self.companion.address(), load, requests(first, events, 1)).await?;
        self.offered += events;
        let arrivals = self.sink.take(events).await?;
        ensure!(arrivals.len() == events, "{} of {events} numbered events arrived", arrivals.len());
        let accepted = times.iter().map(|(sent, answered)| *answered - *sent).collect();
        let arrived = arrivals.iter().map(|(number, at)| *at - times[number - first].0).collect();
        Ok((accepted, arrived))
    }
}

fn event(number: usize) -> String {
    let padding = "x".repeat(DATA.saturating_sub(NUMBER.len() + 40));
    format!(
        r#"{{"specversion":"1.0","id":"{number}","source":"/bench","type":"contact.create","data":{{{NUMBER}{number},"padding":"{padding}"}}}}"#
    )
}

/// Requests with `batch` events each, numbered from `first`.
fn requests(first: usize, events: usize, batch: usize) -> Arc<dyn Fn(usize) -> Vec<u8> + Send + Sync> {
    let media_type = if batch == 1 { "cloudevents+json" } else { "cloudevents-batch+json" };
    let headers =
        format!("authorization: Bearer {INGEST_TOKEN}\r\ncontent-type: application/{media_type}\r\n");
    Arc::new(move |request| {
        if batch == 1 {
            return load::post("/v1/events", &headers, &event(first + request));
        }
        let numbers = (request * batch)..((request + 1) * batch).min(events);
        let batch: Vec<String> = numbers.map(|number| event(first + number)).collect();
        load::post("/v1/events", &headers, &format!("[{}]", batch.join(",")))
    })
}

/// Deliveries that the companion has recorded as delivered.
async fn delivered(address: SocketAddr) -> Result<usize> {
    let metrics = Client::http1(address).get("/metrics").send().await?.expect(200)?;
    let text = std::str::from_utf8(&metrics.body)?;
    let line =
        text.lines().find_map(|line| line.strip_prefix(r#"gatehook_deliveries_total{status="delivered"} "#));
    line.map_or(Ok(0), |count| count.trim().parse().context("a metric is a number"))
}
