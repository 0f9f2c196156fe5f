//! `cargo bench-replicas`: every store with every queue, with one process and with several, beside SQLite in one process.
//!
//! Variants are interleaved, and every figure is a ratio within one run, as a median over rounds with its range. Servers,
//! replicas, load generator and receiver share one machine: what several replicas gain on several machines does not show
//! here, what they cost does.

mod variants;

use anyhow::Result;
use clap::Parser;
use harness::report::{Report, Series, Table};
use harness::workspace::RunDirectory;
use variants::{Servers, Taken, Variant};

/// Measures stores and queues.
#[derive(Parser)]
struct Options {
    /// Rounds; each measures every variant once
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Events per variant and round
    #[arg(long, default_value_t = 5_000)]
    events: usize,
    /// Writes the report into tests/BENCHMARKS.md
    #[arg(long)]
    write: bool,
}

/// The figures of one variant.
#[derive(Default)]
struct Figures {
    rate: Series,
    companions: Series,
    database: Series,
    queue: Series,
}

impl Figures {
    fn take(&mut self, taken: &Taken) {
        let thousands = taken.deliveries as f64 / 1e3;
        self.rate.push(taken.deliveries as f64 / taken.elapsed.as_secs_f64());
        self.companions.push(taken.companions.as_secs_f64() / thousands);
        self.database.push(taken.database.as_secs_f64() / thousands);
        self.queue.push(taken.queue.as_secs_f64() / thousands);
    }
}

#[tokio::main]
async fn main() -> Result<()> {
    let options = Options::parse();
    let what = format!(
        "stores and queues, {} rounds of {} events with 1024 bytes of data to one receiver; servers, replicas, load generator \
         and receiver on the same machine. `api + 2 workers` are three processes with roles, so that every delivery goes by \
         the queue; elsewhere a process delivers most of what it takes by itself. SQS is played by moto, a server in Python made \
         for tests: its CPU and its pace are its own, not Amazon's.",
        options.rounds, options.events
    );
    let mut report = Report::begin("bench-replicas", &what);
    let run = RunDirectory::create()?;
    let servers = Servers::start(&run).await?;
    for missing in &servers.missing {
        report.say(format!("Left out: {missing}."));
    }
    let mut variants = Variant::all(&servers).await?;
    // The first round opens connections and lanes.
    for variant in &mut variants {
        variant.ingest(500, 1).await?;
    }
    for (name, batch) in [("one event a request", 1), ("batches of 100", 100)] {
        let mut figures: Vec<Figures> = variants.iter().map(|_| Figures::default()).collect();
        for _ in 0..options.rounds {
            for (variant, figures) in variants.iter_mut().zip(&mut figures) {
                figures.take(&variant.ingest(options.events, batch).await?);
            }
        }
        report.say(table(name, &variants, &figures));
    }
    report.finish(options.write)
}

fn table(name: &str, variants: &[Variant], figures: &[Figures]) -> Table {
    let mut table = Table::new(&[
        name,
        "deliveries a second",
        "of SQLite",
        "companions, CPU s / 1,000",
        "PostgreSQL",
        "queue",
    ]);
    for (variant, own) in variants.iter().zip(figures) {
        let nothing = |series: &Series| series.median() == 0.0;
        let shown = |series: &Series| if nothing(series) { "–".into() } else { series.shown(3) };
        let ratio = own.rate.of(&figures[0].rate).shown(2);
        let cpu = [shown(&own.companions), shown(&own.database), shown(&own.queue)];
        table.row(&variant.name, [own.rate.shown(0), ratio].into_iter().chain(cpu));
    }
    table
}
