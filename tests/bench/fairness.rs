//! `cargo bench-fairness`: what the receivers that answer notice of others that hang.
//!
//! Two companions with a thousand subscriptions each, every one with an event type of its own. At one of them three hundred
//! receivers accept the connection and never answer. Both get the same paced events in turn; latencies are those of the
//! seven hundred others, from ingest to arrival. Ratios within a round, medians with their range.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use clap::Parser;
use harness::companion::{Companion, INGEST_TOKEN, Profile, Settings};
use harness::load::{self, Load, NUMBER, Sink};
use harness::report::{Series, machine, percentile_ms};
use harness::workspace::RunDirectory;
use serde_json::json;

/// Measures fairness.
#[derive(Parser)]
struct Options {
    /// Rounds; each gives both companions the same events once
    #[arg(long, default_value_t = 7)]
    rounds: usize,
    /// Events per companion and round
    #[arg(long, default_value_t = 2_000)]
    events: usize,
    /// Events a second
    #[arg(long, default_value_t = 200)]
    rate: u32,
    /// Subscriptions
    #[arg(long, default_value_t = 1_000)]
    subscriptions: usize,
    /// Of these, how many have a receiver that hangs
    #[arg(long, default_value_t = 300)]
    hanging: usize,
}

/// A companion, and the receiver whose latencies count.
struct World {
    companion: Companion,
    healthy: Sink,
    _others: Sink,
    offered: usize,
}

#[tokio::main]
async fn main() -> Result<()> {
    let options = Options::parse();
    ensure!(options.hanging < options.subscriptions, "some receiver must answer");
    println!("{}", machine());
    println!(
        "{} subscriptions, {} of them hang at one companion; {} events at {} a second, {} rounds; median (range)\n",
        options.subscriptions, options.hanging, options.events, options.rate, options.rounds
    );
    let (one, other) = (RunDirectory::create()?, RunDirectory::create()?);
    let answers: fn(&[u8]) -> Vec<u8> = |_| b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n".to_vec();
    let mut well = World::start(&one, Sink::answering(answers).await?, &options).await?;
    let mut hanging = World::start(&other, Sink::answering(|_| Vec::new()).await?, &options).await?;
    let mut series: [Series; 6] = Default::default();
    // The first round opens connections, and shows the breakers who hangs.
    for round in 0..=options.rounds {
        let mut without = well.round(&options).await?;
        let mut with = hanging.round(&options).await?;
        if round == 0 {
            continue;
        }
        let figures =
            [50, 99].map(|percent| (percentile_ms(&mut without, percent), percentile_ms(&mut with, percent)));
        for (index, (without, with)) in figures.into_iter().enumerate() {
            for (offset, value) in [without, with, with / without].into_iter().enumerate() {
                series[index * 3 + offset].0.push(value);
            }
        }
    }
    println!("{:<6} {:>24} {:>24} {:>20}", "", "all answer, ms", "some hang, ms", "ratio");
    for (index, name) in ["p50", "p99"].into_iter().enumerate() {
        let [without, with, ratio] = [0, 1, 2].map(|offset| series[index * 3 + offset].shown(2));
        println!("{name:<6} {without:>24} {with:>24} {ratio:>20}");
    }
    Ok(())
}

impl World {
    /// Starts a companion; the last subscriptions go to `others`.
    async fn start(run: &Arc<RunDirectory>, others: Sink, options: &Options) -> Result<Self> {
        let settings = Settings { profile: Profile::Release, ..Settings::default() };
        let companion = Companion::start(run, settings).await?;
        let healthy = Sink::start().await?;
        for number in 0..options.subscriptions {
            let hangs = number >= options.subscriptions - options.hanging;
            let address = if hangs { others.address } else { healthy.address };
            let wanted = json!({
                "target_url": format!("http://{address}/{number}"),
                "events": [format!("bench.t{number}")],
                // Many attempts of each, so that who hangs goes on hanging.
                "retry": {"policy": "fixed", "delay": "1s", "attempts": 50},
            });
            companion.admin().post("/v1/subscriptions").json(&wanted).send().await?.expect(201)?;
        }
        Ok(Self { companion, healthy, _others: others, offered: 0 })
    }

    /// Gives every subscription its share of the events; how long those of the healthy ones took.
    async fn round(&mut self, options: &Options) -> Result<Vec<Duration>> {
        let (first, subscriptions) = (self.offered, options.subscriptions);
        let healthy = subscriptions - options.hanging;
        let every = Some(Duration::from_secs(1) / options.rate);
        let load = Load { requests: options.events, connections: 8, every };
        let headers =
            format!("authorization: Bearer {INGEST_TOKEN}\r\ncontent-type: application/cloudevents+json\r\n");
        let request = move |index: usize| {
            let number = first + index;
            let event = format!(
                r#"{{"specversion":"1.0","id":"{number}","source":"/bench","type":"bench.t{}","data":{{{NUMBER}{number},"padding":"{}"}}}}"#,
                spread(number, subscriptions),
                "x".repeat(1_000)
            );
            load::post("/v1/events", &headers, &event)
        };
        let times: Vec<(Instant, Instant)> =
            load::drive(self.companion.address(), load, Arc::new(request)).await?;
        self.offered += options.events;
        let expected =
            (first..self.offered).filter(|number| spread(*number, subscriptions) < healthy).count();
        let arrivals = self.healthy.take(expected).await?;
        Ok(arrivals.iter().map(|(number, at)| *at - times[number - first].0).collect())
    }
}

/// Which subscription an event is for: each in turn, healthy and hanging mixed.
fn spread(number: usize, subscriptions: usize) -> usize {
    // A step that shares no factor with a round number of subscriptions reaches all of them.
    number * 7_919 % subscriptions
}
