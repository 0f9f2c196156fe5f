//! `cargo bench-companion`: events accepted durably, delivered and recorded, next to the same client posting straight to
//! the same receiver.
//!
//! Variants are interleaved and every figure is a ratio within one run, as a median over rounds with its range. Where work
//! grows, each variant has a companion of its own, and what is compared is the round beside the one that has nothing to carry.

mod backlog;
mod growth;
mod pace;
mod speed;
mod world;

use anyhow::Result;
use clap::{Parser, ValueEnum};
use harness::report::Report;
use world::DATA;

/// Measures the companion.
#[derive(Parser)]
struct Options {
    /// Rounds; each measures every variant once
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Events per variant and round
    #[arg(long, default_value_t = 20_000)]
    events: usize,
    /// Deliveries pending in the largest variant
    #[arg(long, default_value_t = 1_000_000)]
    pending: usize,
    /// Only this part
    #[arg(long)]
    only: Option<Part>,
    /// Writes the report into tests/BENCHMARKS.md
    #[arg(long)]
    write: bool,
}

/// The parts of the report.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// As fast as it goes
    Speed,
    /// At 200 events a second
    Pace,
    /// With much pending, many subscriptions, receivers that hang
    Growth,
    /// A receiver that comes back
    Backlog,
}

#[tokio::main]
async fn main() -> Result<()> {
    let options = Options::parse();
    let what = format!(
        "the companion, {} rounds of {} events with {DATA} bytes of data; load generator and receivers are one process \
         on the same machine.",
        options.rounds, options.events
    );
    let mut report = Report::begin("bench-companion", &what);
    let wants = |part| options.only.is_none_or(|only| only == part);
    if wants(Part::Speed) {
        speed::measure(&mut report, &options).await?;
    }
    if wants(Part::Pace) {
        pace::measure(&mut report, &options).await?;
    }
    if wants(Part::Growth) {
        growth::measure(&mut report, &options).await?;
    }
    if wants(Part::Backlog) {
        backlog::measure(&mut report, &options).await?;
    }
    report.finish(options.write)
}
