//! `cargo bench-road`: from the API's answer at the caller to the verified arrival at the receiver.
//!
//! The real Envoy with the sample configuration and one worker, the real filter, the real companion; the receiver checks
//! each signature with the Standard Webhooks library before an event counts. Callers, API and receiver are one process, so
//! that all times are of one clock.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use clap::Parser;
use harness::companion::{Companion, Profile, Settings};
use harness::load::{self, Load, Sink};
use harness::ports::ReservedPort;
use harness::report::{Aim, Report, Series, Table, percentile_ms};
use harness::workspace::RunDirectory;
use harness::{Gateway, receiver};
use hyper::HeaderMap;
use hyper::header::{HeaderName, HeaderValue};
use serde_json::{Value, json};

/// Bytes of an answer.
const ANSWER: usize = 1_024;
/// Writes a second in the paced part.
const RATE: u32 = 200;
/// Writes of a paced round: five seconds.
const PACED: usize = 1_000;

/// Measures the whole road.
#[derive(Parser)]
struct Options {
    /// Rounds; each measures every variant once
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Writes of a round as fast as it goes
    #[arg(long, default_value_t = 10_000)]
    writes: usize,
    /// Writes the report into tests/BENCHMARKS.md
    #[arg(long)]
    write: bool,
}

#[tokio::main]
async fn main() -> Result<()> {
    let options = Options::parse();
    let run = RunDirectory::create()?;
    measure(&options, &run).await.inspect_err(|_| run.keep())
}

async fn measure(options: &Options, run: &Arc<RunDirectory>) -> Result<()> {
    let what = format!(
        "a write through Envoy (one worker, the sample configuration, answers of {ANSWER} bytes), filter and companion to a \
         receiver that verifies; {} rounds of {PACED} paced writes and {} as fast as it goes.",
        options.rounds, options.writes
    );
    let mut report = Report::begin("bench-road", &what);
    let mut road = Road::start(run).await?;
    road.paced(200).await?;
    let mut times: [[Series; 2]; 2] = Default::default();
    let mut rates: [Series; 3] = Default::default();
    let mut cpu: [Series; 3] = Default::default();
    for _ in 0..options.rounds {
        for (mut durations, series) in road.paced(PACED).await?.into_iter().zip(&mut times) {
            for (percent, series) in [50, 99].into_iter().zip(series) {
                series.push(percentile_ms(&mut durations, percent));
            }
        }
        rates[0].push(road.alone(options.writes).await?);
        let (answered, verified, taken) = road.saturated(options.writes).await?;
        rates[1].push(answered);
        rates[2].push(verified);
        for (series, taken) in cpu.iter_mut().zip(taken) {
            series.push(taken.as_secs_f64() / options.writes as f64 * 1e3);
        }
    }
    print(&mut report, &times, &rates, &cpu);
    report.aim(
        "from the answer to the verified arrival at 200/s, p99, ms",
        Aim::AtMost(10.0),
        times[1][1].median(),
    );
    report.finish(options.write)
}

fn print(report: &mut Report, times: &[[Series; 2]; 2], rates: &[Series; 3], cpu: &[Series; 3]) {
    let mut table = Table::new(&["at 200 writes a second", "p50, ms", "p99, ms"]);
    for (name, [p50, p99]) in
        ["from the request to its answer", "from the answer to the verified arrival"].iter().zip(times)
    {
        table.row(name, [p50.shown(2), p99.shown(2)]);
    }
    report.say(table);
    let mut table = Table::new(&["as fast as it goes", "writes a second", "of Envoy alone"]);
    let names =
        ["answered, without the filter", "answered, with it", "answered and verified at the receiver"];
    for (name, rate) in names.iter().zip(rates) {
        table.row(name, [rate.shown(0), rate.of(&rates[0]).shown(2)]);
    }
    report.say(table);
    let [envoy, companion, own] = cpu;
    report.say(format!(
        "CPU s per 1,000 writes: Envoy {}, companion {}, callers, API and receiver {}.",
        envoy.shown(3),
        companion.shown(3),
        own.shown(3)
    ));
}

/// Events that arrived and were genuine.
type Verified = Arc<Mutex<Vec<(usize, Instant)>>>;

struct Road {
    gateway: Gateway,
    companion: Companion,
    receiver: Sink,
    verified: Verified,
    _api: Sink,
    /// A listener without the filter.
    none: ReservedPort,
    written: usize,
}

impl Road {
    async fn start(run: &Arc<RunDirectory>) -> Result<Self> {
        let api = Sink::answering(created).await?;
        let companion =
            Companion::start(run, Settings { profile: Profile::Release, ..Settings::default() }).await?;
        let (verified, secret) = (Verified::default(), Arc::new(OnceLock::new()));
        let (arrived, trusted) = (verified.clone(), secret.clone());
        let receiver = Sink::answering(move |request| {
            let number = trusted.get().and_then(|secret: &String| verify(request, secret));
            let Some(number) = number else {
                return b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n".to_vec();
            };
            arrived.lock().unwrap_or_else(PoisonError::into_inner).push((number, Instant::now()));
            b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n".to_vec()
        });
        let receiver = receiver.await?;
        let wanted =
            json!({"target_url": format!("http://{}/", receiver.address), "events": ["contact.create"]});
        let made =
            companion.admin().post("/v1/subscriptions").json(&wanted).send().await?.expect(201)?.json()?;
        let shown = made["secret"].as_str().context("a new subscription shows its secret")?;
        ensure!(secret.set(shown.to_owned()).is_ok(), "the secret is set once");
        let none = ReservedPort::any()?;
        let address = none.address();
        let gateway = Gateway::before(api.address, companion.address())
            .change(move |sample| sample.copy_listener("none", address, without_filter))
            .start(run)
            .await?;
        Ok(Self { gateway, companion, receiver, verified, _api: api, none, written: 0 })
    }

    /// From each request to its answer, and from the answer to the verified arrival.
    async fn paced(&mut self, writes: usize) -> Result<[Vec<Duration>; 2]> {
        let first = self.written;
        let load = Load { requests: writes, connections: 8, every: Some(Duration::from_secs(1) / RATE) };
        let times =
            load::drive(self.gateway.address(), load, Arc::new(move |number| create(first + number))).await?;
        self.written += writes;
        let arrivals = self.arrivals(writes).await?;
        let answered = times.iter().map(|(sent, answered)| *answered - *sent).collect();
        // An event may be there before the caller has read its answer.
        let arrived =
            arrivals.iter().map(|(number, at)| at.saturating_duration_since(times[number - first].1));
        Ok([answered, arrived.collect()])
    }

    /// Writes a second through a listener without the filter.
    async fn alone(&self, writes: usize) -> Result<f64> {
        let begun = Instant::now();
        self.drive(self.none.address(), writes, 0).await?;
        Ok(writes as f64 / begun.elapsed().as_secs_f64())
    }

    /// Writes a second until all are answered, and until all have arrived; CPU time of Envoy, companion and ourselves.
    async fn saturated(&mut self, writes: usize) -> Result<(f64, f64, [Duration; 3])> {
        let processes = [self.gateway.id(), self.companion.id(), std::process::id()];
        let cpu = || processes.map(load::cpu_time).into_iter().collect::<Result<Vec<_>>>();
        let (before, begun) = (cpu()?, Instant::now());
        self.drive(self.gateway.address(), writes, self.written).await?;
        let answered = begun.elapsed();
        self.written += writes;
        let arrivals = self.arrivals(writes).await?;
        let last = arrivals.iter().map(|(_, at)| *at).max().context("nothing arrived")?;
        let after = cpu()?;
        let taken = std::array::from_fn(|index| after[index] - before[index]);
        let a_second = |elapsed: Duration| writes as f64 / elapsed.as_secs_f64();
        Ok((a_second(answered), a_second(last - begun), taken))
    }

    async fn drive(&self, address: SocketAddr, writes: usize, first: usize) -> Result<()> {
        let load = Load { requests: writes, connections: 16, every: None };
        load::drive(address, load, Arc::new(move |number| create(first + number))).await.map(drop)
    }

    /// Waits until each of the writes has arrived once; none may be lost.
    async fn arrivals(&self, writes: usize) -> Result<Vec<(usize, Instant)>> {
        let dropped = self.gateway.metric("gatehook_dropped").await.unwrap_or_default();
        ensure!(dropped == 0, "the filter dropped {dropped} events");
        self.receiver.take(writes).await?;
        let arrivals = std::mem::take(&mut *self.verified.lock().unwrap_or_else(PoisonError::into_inner));
        ensure!(arrivals.len() == writes, "{} of {writes} events were genuine", arrivals.len());
        Ok(arrivals)
    }
}

fn without_filter(listener: &mut Value) -> Result<()> {
    let manager = &mut listener["filter_chains"][0]["filters"][0]["typed_config"];
    let filters = manager["http_filters"].as_array_mut().context("the sample has no http_filters")?;
    filters.retain(|filter| filter["name"] != "gatehook");
    Ok(())
}

/// A write; its number comes back in the answer, and so becomes part of the event.
fn create(number: usize) -> Vec<u8> {
    let headers = "accept: application/json\r\nuser-agent: bench/1.0\r\ncontent-type: application/json\r\n";
    load::post("/v1/contacts", headers, &format!(r#"{{{}{number}}}"#, load::NUMBER))
}

/// What the API answers: the representation, with the number of the write.
fn created(request: &[u8]) -> Vec<u8> {
    let number = load::number(request).unwrap_or_default();
    let start = format!(r#"{{"id":"{number}",{}{number},"email":"ada@example.com","note":""#, load::NUMBER);
    let note = "x".repeat(ANSWER - start.len() - 2);
    format!(
        "HTTP/1.1 201 Created\r\ncontent-type: application/json\r\ncontent-length: {ANSWER}\r\n\r\n{start}{note}\"}}"
    )
    .into_bytes()
}

/// The number of a delivery, where its signature is good.
fn verify(request: &[u8], secret: &str) -> Option<usize> {
    let (head, body) = load::parts(request)?;
    let mut headers = HeaderMap::new();
    for line in std::str::from_utf8(head).ok()?.lines().skip(1) {
        let (name, value) = line.split_once(": ")?;
        headers.insert(name.parse::<HeaderName>().ok()?, HeaderValue::from_str(value).ok()?);
    }
    receiver::verify(secret, body, &headers).ok()?;
    load::number(body)
}
