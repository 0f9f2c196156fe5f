//! `cargo bench-filter`: what the filter adds to Envoy's CPU time per write and per read, and to a write's latency.
//!
//! One Envoy, one worker, one listener for each variant, so that all share the machine's mood: no filter, a wasm filter
//! that does nothing, ours with the real companion behind it, hand-over included, and what people do otherwise. Requests
//! are counted, rounds interleaved, CPU time is what the scheduler has booked to Envoy's threads; every figure is a median
//! with its range.

mod ext_proc;
mod traffic;
mod variants;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, ensure};
use clap::Parser;
use harness::companion::{Companion, Profile, Settings};
use harness::load::{self, Load, Sink};
use harness::report::{Aim, Report, Series, Table, percentile_ms};
use harness::workspace::RunDirectory;
use harness::{Gateway, wasm};
use traffic::{ANSWER, Traffic};
use variants::{Listeners, Modules, Variant};

/// Writes per variant and round of which the latency is taken.
const PACED: usize = 500;

/// How long what a variant left behind may take: lingering events, and the answers to their batches.
const SETTLE: Duration = Duration::from_millis(100);

/// Measures the filter.
#[derive(Parser)]
struct Options {
    /// Rounds; each measures every variant once
    #[arg(long, default_value_t = 7)]
    rounds: usize,
    /// Requests per variant and round
    #[arg(long, default_value_t = 10_000)]
    requests: usize,
    /// Only sends writes through this variant, so many times over, for a profiler; prints Envoy's process id
    #[arg(long)]
    profile: Option<Variant>,
    /// Writes the report into tests/BENCHMARKS.md
    #[arg(long)]
    write: bool,
}

/// What is sent through which variants, the reference first.
const TABLES: [(&str, Traffic, &[Variant]); 4] = [
    (
        "write (POST, 201)",
        Traffic::Create,
        &[
            Variant::None,
            Variant::EmptyAsSample,
            Variant::EmptyInChain,
            Variant::Floor,
            Variant::Sample,
            Variant::Hold,
            Variant::Lua,
            Variant::ExtProc,
        ],
    ),
    (
        "read (GET, 200)",
        Traffic::Read,
        &[Variant::None, Variant::EmptyAsSample, Variant::EmptyInChain, Variant::Sample, Variant::Lua],
    ),
    (
        "write without an answer (PUT, 204)",
        Traffic::Silent,
        &[Variant::None, Variant::Sample, Variant::Fetch],
    ),
    ("update (PUT, 200)", Traffic::Update, &[Variant::None, Variant::Sample, Variant::Previous]),
];

#[tokio::main]
async fn main() -> Result<()> {
    let options = Options::parse();
    let run = RunDirectory::create()?;
    // What the processes have logged is worth more than a clean folder when something went wrong.
    measure(&options, &run).await.inspect_err(|_| run.keep())
}

async fn measure(options: &Options, run: &Arc<RunDirectory>) -> Result<()> {
    let (rounds, requests) = (options.rounds, options.requests);
    let what = format!(
        "Envoy with one worker, {rounds} rounds of {requests} requests, answers of {ANSWER} bytes, each event handed over to \
         the companion."
    );
    let mut report = Report::begin("bench-filter", &what);
    let api = Sink::answering(traffic::answer).await?;
    let companion =
        Companion::start(run, Settings { profile: Profile::Release, ..Settings::default() }).await?;
    let observer = ext_proc::Observer::start().await?;
    let listeners = Listeners::reserve()?;
    let modules = Modules { empty: wasm::example("empty")?, floor: wasm::example("floor")? };
    let places = listeners.places(modules, companion.address(), observer.address());
    let gateway = Gateway::before(api.address, companion.address())
        .change(move |sample| places.add_to(sample))
        .start(run)
        .await?;
    let mut bench = Bench {
        envoy: gateway.id(),
        listeners,
        sample: gateway.address(),
        observed: 0,
        posted: 0,
        processed: 0,
    };

    if let Some(variant) = options.profile {
        println!("Envoy is process {}", bench.envoy);
        for _ in 0..rounds {
            bench.cpu(variant, requests, Traffic::Create).await?;
        }
        return Ok(());
    }
    for (name, traffic, variants) in TABLES {
        for variant in variants {
            bench.cpu(*variant, requests.div_ceil(4), traffic).await?;
        }
        let mut cpu = vec![Series::default(); variants.len()];
        for round in 0..rounds {
            for turn in 0..variants.len() {
                // Another one begins each round, so that none is always behind the same.
                let own = (turn + round) % variants.len();
                let taken = bench.cpu(variants[own], requests, traffic).await?;
                cpu[own].push(taken.as_secs_f64() * 1e6 / requests as f64);
            }
        }
        say_cpu(&mut report, (name, traffic), variants, &cpu);
    }
    bench.say_latencies(&mut report, rounds).await?;
    gateway.metric_becomes("gatehook_handed_over", bench.observed).await?;
    observer.saw(bench.processed).await?;
    let accepted = companion.metric("gatehook_events_total", "result=\"accepted\"").await?;
    let all = bench.observed + bench.posted;
    ensure!(accepted == all, "the companion accepted {accepted} events of {all}");
    ensure!(gateway.metric("gatehook_dropped").await.unwrap_or_default() == 0, "events were dropped");
    report.say(format!(
        "{} writes behind the filter, each of them handed over as an event. The server behind ext_proc only counts the \
         answers that it is shown, {} in all; its own CPU time, and posting them, would come on top.",
        bench.observed, bench.processed
    ));
    report.finish(options.write)
}

struct Bench {
    envoy: u32,
    listeners: Listeners,
    /// The sample's own listener.
    sample: SocketAddr,
    /// Writes that our filter has seen.
    observed: u64,
    /// Writes that Lua was to post.
    posted: u64,
    /// Writes that ext_proc was told of.
    processed: u64,
}

impl Bench {
    fn listener(&mut self, variant: Variant, writes: usize) -> SocketAddr {
        match variant {
            _ if variant.is_ours() => self.observed += writes as u64,
            Variant::Lua => self.posted += writes as u64,
            Variant::ExtProc => self.processed += writes as u64,
            _ => {}
        }
        self.listeners.address(variant).unwrap_or(self.sample)
    }

    /// Envoy's CPU time for so many requests to a variant, until nothing of them is left to do.
    async fn cpu(&mut self, variant: Variant, requests: usize, traffic: Traffic) -> Result<Duration> {
        let listener = self.listener(variant, if traffic == Traffic::Read { 0 } else { requests });
        let before = load::thread_time(self.envoy)?;
        let load = Load { requests, connections: 16, every: None };
        load::drive(listener, load, Arc::new(move |number| traffic.request(number))).await?;
        tokio::time::sleep(SETTLE).await;
        Ok(load::thread_time(self.envoy)? - before)
    }

    /// Latency of writes at 500 a second, which leaves the worker idle between them.
    async fn say_latencies(&mut self, report: &mut Report, rounds: usize) -> Result<()> {
        let variants = Variant::ALL.map(|variant| (variant, <[Series; 2]>::default()));
        let mut all = variants;
        for _ in 0..rounds {
            for (variant, series) in &mut all {
                let listener = self.listener(*variant, PACED);
                let load = Load { requests: PACED, connections: 4, every: Some(Duration::from_millis(2)) };
                let request = |number| Traffic::Update.request(number);
                let times = load::drive(listener, load, Arc::new(request)).await?;
                let mut latencies: Vec<Duration> =
                    times.iter().map(|(sent, answered)| *answered - *sent).collect();
                for (percent, series) in [50, 99].into_iter().zip(series) {
                    series.push(percentile_ms(&mut latencies, percent));
                }
            }
        }
        let mut table =
            Table::new(&["update at 500/s", "p50, ms", "p99, ms", "p50 added, ms", "p99 added, ms"]);
        let none = all[0].1.clone();
        let added = |own: &Series, none: &Series| {
            Series(own.0.iter().zip(&none.0).map(|(own, none)| own - none).collect())
        };
        for (variant, [p50, p99]) in &all {
            let more = [added(p50, &none[0]).shown(3), added(p99, &none[1]).shown(3)];
            table.row(variant.name(), [p50.shown(3), p99.shown(3)].into_iter().chain(more));
            if *variant == Variant::Sample {
                report.aim("added to a write, p99, ms", Aim::AtMost(0.1), added(p99, &none[1]).median());
            }
        }
        report.say(table);
        Ok(())
    }
}

fn say_cpu(report: &mut Report, (name, traffic): (&str, Traffic), variants: &[Variant], cpu: &[Series]) {
    // A read adds about nothing, and nothing is no measure.
    let empty = variants.iter().position(|own| *own == Variant::EmptyAsSample && traffic == Traffic::Create);
    let columns = [name, "Envoy CPU, µs", "of no filter", "of what empty adds"];
    let mut table = Table::new(&columns[..if empty.is_some() { 4 } else { 3 }]);
    // Ratios are taken within a round, whose variants ran one after another.
    let added = |own: &Series| Series(own.0.iter().zip(&cpu[0].0).map(|(own, none)| own - none).collect());
    for (variant, own) in variants.iter().zip(cpu) {
        let of_none = own.of(&cpu[0]);
        let of_empty = empty.map(|empty| added(own).of(&added(&cpu[empty])));
        if *variant == Variant::Sample && traffic == Traffic::Read {
            let what = "Envoy CPU per read, of Envoy without the filter";
            report.aim(what, Aim::AtMost(1.05), of_none.median());
        } else if *variant == Variant::Sample
            && let Some(of_empty) = &of_empty
        {
            let what = "Envoy CPU added per write, of what an empty wasm filter adds";
            report.aim(what, Aim::AtMost(2.0), of_empty.median());
        }
        let of_empty = of_empty.map(|of_empty| match variant.is_something() {
            true => of_empty.shown(2),
            false => "–".to_owned(),
        });
        table.row(variant.name(), [own.shown(1), of_none.shown(3)].into_iter().chain(of_empty));
    }
    report.say(table);
}
