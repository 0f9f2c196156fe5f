//! `gatehook`: reads the command line, starts, waits for a signal.

use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use clap::{Parser, Subcommand};
use companion::clock::SystemClock;
use companion::config::Settings;
use companion::telemetry;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

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
    Serve(Settings),
}

#[tokio::main]
async fn main() -> ExitCode {
    let Cli { command: Command::Serve(settings) } = Cli::parse();
    telemetry::start_log();
    match serve(&settings).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("gatehook: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn serve(settings: &Settings) -> anyhow::Result<()> {
    let listener = TcpListener::bind(settings.listen)
        .await
        .with_context(|| format!("--listen: cannot bind {}", settings.listen))?;
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let running = companion::start(settings, listener, Arc::new(SystemClock)).await?;
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    tracing::info!("stopping");
    running.stop().await;
    Ok(())
}
