//! `cargo demo`: writes to an API that knows nothing of webhooks arrive as verified webhooks, before your eyes.
//!
//! The API is Kinto, an off-the-shelf server; Envoy, the filter and the companion are the real ones. Every line with a
//! mark was checked, not only printed: with `--once` the exit code says whether all of them held.

mod live;
mod parts;
mod screen;
mod story;

use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Result;
use clap::Parser;
use harness::workspace::RunDirectory;

use crate::parts::{Backend, Parts};
use crate::screen::{Screen, Tone};

/// Real writes to a real API become verified webhooks.
#[derive(Debug, Parser)]
#[command(name = "cargo demo")]
struct Arguments {
    /// End after the story instead of staying up to be played with.
    #[arg(long)]
    once: bool,
    /// Keep everything in this PostgreSQL, with one process that takes events and another one that delivers
    #[arg(long, value_name = "postgres://…")]
    store: Option<String>,
    /// Wake the one that delivers by this queue
    #[arg(long, value_name = "amqp://… or sqs://…", requires = "store")]
    queue: Option<String>,
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let screen = Screen::new();
    match run(&screen, &arguments).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            screen.line(&format!("\n  {} {error:#}", screen.paint(Tone::Bad, "✗")));
            ExitCode::FAILURE
        }
    }
}

async fn run(screen: &Screen, arguments: &Arguments) -> Result<()> {
    screen.line(&screen.paint(Tone::Strong, "Gatehook: an API that knows nothing of webhooks gets them"));
    screen.line("\n  caller → Envoy [filter] → API");
    screen.line("                 └─ events → companion → signed webhooks → receivers");
    let run = RunDirectory::create()?;
    let outcome = tell(screen, arguments, &run).await;
    if outcome.is_err() {
        run.keep();
        screen.line(&format!("\n{}", run.log_tails(15)));
    }
    outcome
}

async fn tell(screen: &Screen, arguments: &Arguments, run: &Arc<RunDirectory>) -> Result<()> {
    let backend = Backend { store: arguments.store.clone(), queue: arguments.queue.clone() };
    let parts = Parts::start(screen, run, backend).await?;
    story::tell(screen, &parts).await?;
    if !arguments.once {
        live::stay_up(screen, &parts, run).await?;
    }
    parts.leave_nothing_behind().await
}
