//! `gatehook`: reads the command line, starts, waits for a signal.

use std::process::ExitCode;
use std::sync::Arc;

use clap::{Parser, Subcommand};
use companion::Listeners;
use companion::clock::{Clock, SystemClock};
use companion::commands::{Backup, Check, Explain, Integrity, MigrateStore, Openapi, Verify};
use companion::config::Settings;
use companion::telemetry;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::signal::unix::{SignalKind, signal};

/// Events are made by one thread and dropped by another, which the system's allocator settles with locks.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Webhooks for REST APIs that have none.
#[derive(Parser)]
#[command(name = "gatehook", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Take events and deliver them to their subscriptions
    Serve(Box<Settings>),
    /// Check a configuration of the filter, and name the place of every fault
    Check(Check),
    /// Say which event an exchange would be, by which rule, and if none, why not
    Explain(Explain),
    /// Make a configuration of the filter, to review, from an API's OpenAPI description
    Openapi(Openapi),
    /// Say whether a delivery is genuine, and if not, exactly why not
    Verify(Verify),
    /// Copy the database of a companion, running or not, into a new file
    Backup(Backup),
    /// Check whether the database of a companion, running or not, holds together
    Integrity(Integrity),
    /// Move a companion's store from SQLite to PostgreSQL, most of it while the companion runs
    MigrateStore(MigrateStore),
}

#[tokio::main]
async fn main() -> ExitCode {
    let (mut out, mut err) = (std::io::stdout(), std::io::stderr());
    let result = match Cli::parse().command {
        Command::Serve(settings) => serve(&settings).await,
        Command::Check(check) => check.run(&mut out),
        Command::Explain(explain) => explain.run(SystemClock.now(), &mut out),
        Command::Openapi(openapi) => openapi.run(&mut out, &mut err),
        Command::Verify(verify) => verify.run(SystemClock.now(), &mut out),
        Command::Backup(backup) => backup.run(&mut out),
        Command::Integrity(integrity) => integrity.run(&mut out),
        Command::MigrateStore(migrate) => migrate.run(&mut out).await,
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            eprintln!("gatehook: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn serve(settings: &Settings) -> anyhow::Result<ExitCode> {
    telemetry::start_log();
    raise_descriptors();
    let listeners = Listeners::bind(settings).await?;
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let running = companion::start(settings, listeners, Arc::new(SystemClock)).await?;
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    tracing::info!("stopping");
    running.stop().await;
    Ok(ExitCode::SUCCESS)
}

/// Takes as many file descriptors as the system allows: shells and supervisors give 1,024 for the sake of old programs.
fn raise_descriptors() {
    let limit = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }) {
        tracing::warn!(%error, "the limit of file descriptors could not be raised");
    }
}
