//! `cargo bench-filter`: what the filter adds to Envoy's CPU time per write and per read, and to a write's latency.
//!
//! One Envoy, one worker, one listener for each variant, so that all share the machine's mood: no filter, a wasm filter
//! that does nothing (put in as the sample puts in ours, and for every request), and ours with the sample configuration
//! and the real companion behind it, hand-over included. Rounds are interleaved; every figure is a median with its range.

mod report;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::Parser;
use harness::companion::{Companion, Profile, Settings};
use harness::gateway::filter_configuration;
use harness::load::{self, Load, Sink};
use harness::ports::ReservedPort;
use harness::sample::Sample;
use harness::workspace::RunDirectory;
use harness::{Gateway, wasm};
use report::{Series, machine, percentile_ms};
use serde_json::{Value, json};

/// Bytes of an answer.
const ANSWER: usize = 1_024;

/// What a caller's client commonly sends besides its business.
const HEADERS: &str = "accept: application/json\r\naccept-encoding: gzip, deflate, br\r\nuser-agent: bench/1.0\r\n\
                       authorization: Bearer 0123456789abcdef0123456789abcdef\r\n\
                       traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\n";

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
    /// Only sends writes to this variant, so many times over, for a profiler; prints Envoy's process id
    #[arg(long)]
    profile: Option<usize>,
}

/// The variants; ours is the sample's own listener.
const NAMES: [&str; 4] = [
    "no filter",
    "empty wasm filter, as the sample",
    "empty wasm filter, in the chain",
    "Gatehook, the sample",
];
/// Variants in which a caller waits for something, of which the latency alone is of interest.
const WAITING: [&str; 2] = ["Gatehook, previous: fetch", "Gatehook, mode: hold"];
const EMPTY: usize = 1;
const OURS: usize = 3;

#[tokio::main]
async fn main() -> Result<()> {
    let options = Options::parse();
    println!("{}", machine());
    println!(
        "{} rounds of {} requests, answers of {ANSWER} bytes; median (range)\n",
        options.rounds, options.requests
    );
    let run = RunDirectory::create()?;
    // What the processes have logged is worth more than a clean folder when something went wrong.
    measure(&options, &run).await.inspect_err(|_| run.keep())
}

async fn measure(options: &Options, run: &Arc<RunDirectory>) -> Result<()> {
    let api = Sink::answering(answer).await?;
    let settings = Settings { profile: Profile::Release, ..Settings::default() };
    let companion = Companion::start(run, settings).await?;
    let ports = [(); 5].map(|()| ReservedPort::any());
    let ports = ports.into_iter().collect::<Result<Vec<_>>>()?;
    let others: Vec<SocketAddr> = ports.iter().map(ReservedPort::address).collect();
    let waiting = [others[3], others[4]];
    let empty = wasm::example("empty")?;
    let gateway = Gateway::before(api.address, companion.address())
        .change({
            let others = others.clone();
            move |sample| {
                add_variants(sample, &others, &empty)?;
                add_waiting(sample, waiting)
            }
        })
        .start(run)
        .await?;
    let listeners = [others[0], others[1], others[2], gateway.address()];
    let bench = Bench { envoy: gateway.id(), listeners, waiting };

    if let Some(variant) = options.profile {
        println!("Envoy is process {}", bench.envoy);
        for _ in 0..options.rounds {
            bench.cpu(listeners[variant.min(OURS)], options.requests, true).await?;
        }
        return Ok(());
    }
    for write in [true, false] {
        for listener in listeners {
            bench.cpu(listener, options.requests.div_ceil(4), write).await?;
        }
        let mut cpu: [Series; 4] = Default::default();
        for round in 0..options.rounds {
            for turn in 0..NAMES.len() {
                // Another one begins each round, so that none is always behind the same.
                let variant = (turn + round) % NAMES.len();
                let taken = bench.cpu(listeners[variant], options.requests, write).await?;
                cpu[variant].0.push(taken.as_secs_f64() * 1e6 / options.requests as f64);
            }
        }
        print_cpu(if write { "write (POST, 201)" } else { "read (GET, 200)" }, &cpu);
    }
    bench.print_latencies(options.rounds).await?;
    let writes = options.requests.div_ceil(4) + options.rounds * (options.requests + 3 * PACED);
    gateway.metric_becomes("gatehook_handed_over", u64::try_from(writes)?).await?;
    println!("\n{writes} writes behind the sample, each of them handed over as an event");
    Ok(())
}

struct Bench {
    envoy: u32,
    listeners: [SocketAddr; 4],
    waiting: [SocketAddr; 2],
}

impl Bench {
    /// Envoy's CPU time for so many requests to a listener, until nothing of them is left to do.
    async fn cpu(&self, listener: SocketAddr, requests: usize, write: bool) -> Result<Duration> {
        let before = load::thread_time(self.envoy)?;
        let load = Load { requests, connections: 16, every: None };
        load::drive(listener, load, Arc::new(move |number| request(number, write))).await?;
        tokio::time::sleep(SETTLE).await;
        Ok(load::thread_time(self.envoy)? - before)
    }

    /// Latency of writes at 500 a second, which leaves the worker idle between them.
    async fn print_latencies(&self, rounds: usize) -> Result<()> {
        let mut all: [Vec<Duration>; 6] = Default::default();
        for _ in 0..rounds {
            for (listener, latencies) in self.listeners.iter().chain(&self.waiting).zip(&mut all) {
                let load = Load { requests: PACED, connections: 4, every: Some(Duration::from_millis(2)) };
                let times = load::drive(*listener, load, Arc::new(update)).await?;
                latencies.extend(times.iter().map(|(sent, answered)| *answered - *sent));
            }
        }
        println!("{:<34} {:>8} {:>8}", "latency of a write at 500/s, ms", "p50", "p99");
        for (name, latencies) in NAMES.iter().chain(&WAITING).zip(&mut all) {
            println!(
                "{name:<34} {:>8.3} {:>8.3}",
                percentile_ms(latencies, 50),
                percentile_ms(latencies, 99)
            );
        }
        Ok(())
    }
}

fn print_cpu(what: &str, cpu: &[Series; 4]) {
    println!("{what:<34} {:>22} {:>20} {:>20}", "Envoy CPU, µs", "of no filter", "of what empty adds");
    // Ratios are taken within a round, whose variants ran one after another.
    let each = |ratio: &dyn Fn(usize) -> f64| Series((0..cpu[0].0.len()).map(ratio).collect());
    for (variant, name) in NAMES.iter().enumerate() {
        let of_none = each(&|round| cpu[variant].0[round] / cpu[0].0[round]);
        let added = |variant: usize, round: usize| cpu[variant].0[round] - cpu[0].0[round];
        let of_empty = each(&|round| added(variant, round) / added(EMPTY, round));
        let of_empty = if variant == OURS { of_empty.shown(2) } else { "–".to_owned() };
        println!("{name:<34} {:>22} {:>20} {of_empty:>20}", cpu[variant].shown(1), of_none.shown(3));
    }
    println!();
}

/// The sample's listener twice more with the empty filter, and once without any.
fn add_variants(sample: &mut Sample, addresses: &[SocketAddr], empty: &Path) -> Result<()> {
    let empty_wasm = json!({
        "name": "empty", "root_id": "empty", "fail_open": true,
        "vm_config": {"vm_id": "empty", "runtime": "envoy.wasm.runtime.v8",
                      "code": {"local": {"filename": empty}}},
        "configuration": {"@type": "type.googleapis.com/google.protobuf.StringValue", "value": ""},
    });
    sample.copy_listener("none", addresses[0], |listener| {
        http_filters(listener)?.remove(0);
        Ok(())
    })?;
    let in_sample = empty_wasm.clone();
    sample.copy_listener("empty-as-sample", addresses[1], |listener| {
        change_wasm(listener, &|config| *config = in_sample.clone());
        Ok(())
    })?;
    sample.copy_listener("empty-in-chain", addresses[2], |listener| {
        let typed = json!({
            "@type": "type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm", "config": empty_wasm,
        });
        http_filters(listener)?[0] = json!({"name": "empty", "typed_config": typed});
        Ok(())
    })
}

/// The sample's listener twice more, with settings by which a caller waits.
fn add_waiting(sample: &mut Sample, addresses: [SocketAddr; 2]) -> Result<()> {
    let own = filter_configuration(&json!({}));
    let with = |more: Value| {
        let mut configuration = own.clone();
        for (name, value) in more.as_object().into_iter().flatten() {
            configuration[name] = value.clone();
        }
        json!({"@type": "type.googleapis.com/google.protobuf.StringValue", "value": configuration.to_string()})
    };
    let previous = with(json!({"previous": "fetch"}));
    let hold = json!({"allow_on_headers_stop_iteration": true});
    let hold = with(json!({"mode": "hold", "hold": hold}));
    for (name, address, configuration) in [("previous", addresses[0], previous), ("hold", addresses[1], hold)]
    {
        sample.copy_listener(name, address, |listener| {
            change_wasm(listener, &|config| {
                config["configuration"] = configuration.clone();
                config["allow_on_headers_stop_iteration"] = (name == "hold").into();
            });
            Ok(())
        })?;
    }
    Ok(())
}

fn http_filters(listener: &mut Value) -> Result<&mut Vec<Value>> {
    let manager = &mut listener["filter_chains"][0]["filters"][0]["typed_config"];
    manager["http_filters"].as_array_mut().context("the sample has no http_filters")
}

fn change_wasm(value: &mut Value, change: &impl Fn(&mut Value)) {
    match value {
        Value::Object(object) => {
            let kind = object.get("@type").and_then(Value::as_str).unwrap_or_default();
            if kind.ends_with("filters.http.wasm.v3.Wasm")
                && let Some(config) = object.get_mut("config")
            {
                change(config);
            }
            object.values_mut().for_each(|inner| change_wasm(inner, change));
        }
        Value::Array(items) => items.iter_mut().for_each(|inner| change_wasm(inner, change)),
        _ => {}
    }
}

/// A write to an item, which every variant sees alike.
fn update(number: usize) -> Vec<u8> {
    let headers = format!("{HEADERS}content-type: application/json\r\n");
    let body = format!(r#"{{"name":"Ada Lovelace","number":{number}}}"#);
    let text = load::post("/v1/contacts/7", &headers, &body);
    [b"PUT".as_slice(), text.get(4..).unwrap_or_default()].concat()
}

fn request(number: usize, write: bool) -> Vec<u8> {
    if write {
        let headers = format!("{HEADERS}content-type: application/json\r\n");
        return load::post(
            "/v1/contacts",
            &headers,
            &format!(r#"{{"name":"Ada Lovelace","number":{number}}}"#),
        );
    }
    load::get("/v1/contacts/7", HEADERS)
}

/// What an API answers: 201 to a write, 200 to a read, with a representation.
fn answer(request: &[u8]) -> Vec<u8> {
    let status = if request.starts_with(b"POST") { "201 Created" } else { "200 OK" };
    let start = r#"{"id":"cus_9s6XKzkNRiz8i3","name":"Ada Lovelace","email":"ada@example.com","tags":["new"],"note":""#;
    let note = "x".repeat(ANSWER - start.len() - 2);
    format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/json; charset=utf-8\r\ndate: Mon, 23 Nov 2026 12:00:00 GMT\r\n\
         etag: \"33a64df5\"\r\ncache-control: no-store\r\nserver: bench\r\ncontent-length: {ANSWER}\r\n\r\n{start}{note}\"}}"
    )
    .into_bytes()
}
