//! `cargo bench-outbox`: Envoy's memory while the outbox is full and writes go on, with no companion in reach.
//!
//! The memory of a wasm VM never shrinks, so what matters is that it stops growing once the outbox is full. Fails if it
//! has grown by more than a tenth since then.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use clap::Parser;
use harness::Gateway;
use harness::load::{self, Load, Sink};
use harness::ports::ReservedPort;
use harness::workspace::RunDirectory;

/// Watches Envoy's memory with a full outbox.
#[derive(Parser)]
struct Options {
    /// How long to go on once the outbox is full
    #[arg(long, default_value_t = 600)]
    seconds: u64,
}

#[tokio::main]
async fn main() -> Result<()> {
    let options = Options::parse();
    let run = RunDirectory::create()?;
    watch(&options, &run).await.inspect_err(|_| run.keep())
}

async fn watch(options: &Options, run: &Arc<RunDirectory>) -> Result<()> {
    let answer = format!(r#"{{"id":"7","note":"{}"}}"#, "x".repeat(1_000));
    let head = "HTTP/1.1 201 Created\r\ncontent-type: application/json\r\n";
    let answer = format!("{head}content-length: {}\r\n\r\n{answer}", answer.len()).into_bytes();
    let api = Sink::answering(move |_| answer.clone()).await?;
    let nobody = ReservedPort::any()?;
    let gateway = Gateway::before(api.address, nobody.address()).concurrency(2).start(run).await?;
    let before = load::memory(gateway.id())?;
    // Envoy knows the metric once a worker has told it.
    while gateway.metric("gatehook_dropped").await.unwrap_or_default() == 0 {
        write(&gateway).await?;
    }
    // Both workers' outboxes, and what the first drops themselves allocate.
    for _ in 0..5 {
        write(&gateway).await?;
    }
    let full = load::memory(gateway.id())?;
    println!("{:>8} {:>12} {:>12} {:>12}", "second", "memory MiB", "observed", "dropped");
    let (begun, step) = (Instant::now(), Duration::from_secs(options.seconds) / 20);
    let mut most = full;
    for line in 0..=20_u32 {
        while begun.elapsed() < step * line {
            write(&gateway).await?;
        }
        let memory = load::memory(gateway.id())?;
        most = most.max(memory);
        let (observed, dropped) =
            (gateway.metric("gatehook_observed").await?, gateway.metric("gatehook_dropped").await?);
        println!("{:>8} {:>12} {observed:>12} {dropped:>12}", begun.elapsed().as_secs(), memory >> 20);
    }
    println!(
        "\n{} MiB before the first write, {} when the outbox was full, {} at most since",
        before >> 20,
        full >> 20,
        most >> 20
    );
    ensure!(most <= full + full / 10, "memory grew with a full outbox");
    Ok(())
}

/// A bounded round of writes.
async fn write(gateway: &Gateway) -> Result<()> {
    let load = Load { requests: 5_000, connections: 16, every: None };
    let request = |_| load::post("/v1/contacts", "content-type: application/json\r\n", r#"{"name":"Ada"}"#);
    load::drive(gateway.address(), load, Arc::new(request)).await?;
    Ok(())
}
