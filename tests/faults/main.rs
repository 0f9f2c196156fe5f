//! `cargo faults`: breaks what can break, while real processes work, and counts what became of what was accepted.
//!
//! Each fault says first what is to be expected of it, as `ARCHITECTURE.md` promises under "What can be lost". The table
//! tells the tries, what was accepted, delivered, lost and sent twice, and the exit code is 1 where a promise was broken.
//! `--quick` makes a few tries of each, `--write` makes `tests/FAULTS.md` of a run.

mod cables;
mod clocks;
mod disks;
mod gateways;
mod kills;
mod ledger;
mod load;
mod moment;
mod receiver;
mod replicas;
mod table;
mod world;

use std::pin::Pin;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::{Parser, Subcommand};
use harness::companion::{self, Profile};
use harness::skip::Unavailable;
use harness::workspace::RunDirectory;
use harness::{progress, wasm};

use receiver::Receive;
use table::Row;
use world::Plan;

/// Breaks what can break, and counts what was lost.
#[derive(Parser)]
struct Options {
    #[command(subcommand)]
    command: Option<Command>,
    /// A few tries of each, with the companion as tests build it
    #[arg(long)]
    quick: bool,
    /// Write the table to tests/FAULTS.md
    #[arg(long)]
    write: bool,
    /// Only faults whose name contains this
    #[arg(long)]
    only: Option<String>,
    /// As many tries of each
    #[arg(long)]
    tries: Option<usize>,
}

#[derive(Subcommand)]
enum Command {
    #[command(hide = true)]
    Receive(Receive),
}

/// Something that breaks.
struct Fault {
    name: &'static str,
    /// What is to be expected.
    promise: &'static str,
    /// Tries of a quick run, and of a full one.
    tries: (usize, usize),
    /// Whether it mostly waits, so that others may run beside it.
    waits: bool,
    run: fn(Plan) -> Telling,
}

type Telling = Pin<Box<dyn Future<Output = Result<Findings>>>>;

/// What was counted.
#[derive(Debug, Default)]
struct Findings {
    accepted: usize,
    delivered: usize,
    lost: usize,
    twice: usize,
    /// How long after the end of a break something came that was owed when it began, at most.
    latest: Option<Duration>,
    /// What else was measured.
    remarks: Vec<String>,
    /// How the promise was broken.
    broken: Vec<String>,
}

impl Findings {
    /// Notes a broken promise where it does not hold.
    fn check(&mut self, holds: bool, otherwise: impl FnOnce() -> String) {
        if !holds {
            self.broken.push(otherwise());
        }
    }

    /// Nothing that was accepted may be lost.
    fn nothing_lost(mut self) -> Self {
        let lost = self.lost;
        self.check(lost == 0, || format!("{lost} events were accepted and never arrived"));
        self
    }

    fn remark(mut self, remark: String) -> Self {
        self.remarks.push(remark);
        self
    }
}

fn faults() -> Vec<Fault> {
    let mut all = Vec::new();
    all.extend(kills::faults());
    all.extend(gateways::faults());
    all.extend(cables::faults());
    all.extend(disks::faults());
    all.extend(clocks::faults());
    all.extend(replicas::faults());
    all
}

fn main() -> Result<ExitCode> {
    let options = Options::parse();
    if let Some(Command::Receive(receive)) = options.command {
        return runtime()?.block_on(receive.run()).map(|never| match never {});
    }
    let profile = if options.quick { Profile::Tests } else { Profile::Release };
    // What is built here once would be waited for in the middle of a fault.
    companion::program(profile)?;
    wasm::module()?;
    let wanted = |fault: &Fault| options.only.as_ref().is_none_or(|part| fault.name.contains(part.as_str()));
    let faults: Vec<Fault> = faults().into_iter().filter(wanted).collect();
    let tries =
        |fault: &Fault| options.tries.unwrap_or(if options.quick { fault.tries.0 } else { fault.tries.1 });
    let rows: Vec<Row> = std::thread::scope(|scope| {
        let all = &faults;
        let beside: Vec<_> = all
            .iter()
            .filter(|fault| fault.waits)
            .map(|fault| scope.spawn(move || row(fault, tries(fault), profile)))
            .collect();
        let mut alone: Vec<Row> =
            all.iter().filter(|fault| !fault.waits).map(|fault| row(fault, tries(fault), profile)).collect();
        alone.extend(beside.into_iter().map(|row| row.join().expect("no fault panics")));
        let place = |row: &Row| all.iter().position(|fault| fault.name == row.name);
        alone.sort_by_key(place);
        alone
    });
    println!("{}", table::terminal(&rows));
    if options.write {
        table::write(&rows)?;
    }
    let broken = rows.iter().filter(|row| row.is_broken()).count();
    Ok(if broken == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn runtime() -> Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().context("no runtime")
}

/// Lets a fault happen; its files stay where a promise was broken.
fn row(fault: &Fault, tries: usize, profile: Profile) -> Row {
    let found = (|| {
        let run = RunDirectory::create()?;
        let plan = Plan { run: run.clone(), tries, profile };
        let found = runtime()?.block_on((fault.run)(plan));
        if !matches!(&found, Ok(findings) if findings.broken.is_empty()) {
            run.keep();
            progress::report(&format!("{}: its files are in {}", fault.name, run.path().display()));
        }
        found
    })();
    let row = Row { name: fault.name, promise: fault.promise, tries, found: table::Found::of(found) };
    progress::report(&row.line());
    row
}

/// Why a fault cannot happen on this machine.
fn not_here(reason: &str) -> anyhow::Error {
    Unavailable::new(reason).into()
}
