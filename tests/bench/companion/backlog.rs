//! A receiver that comes back: how fast it gets what was accepted while it failed.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use harness::load::{self, Sink};
use harness::report::{Report, Series, Table};

use crate::Options;
use crate::world::{BATCH, Setup, World};

/// Events that gather.
const BACKLOG: usize = 50_000;
/// Short, so that those that were tried in vain are due again before the rest has been sent.
const SCHEDULE: &str = "0s,1s,1s,1s,1s,1s,1s,1s,1s,1s";

pub(crate) async fn measure(report: &mut Report, options: &Options) -> Result<()> {
    let mut drained = Series::default();
    let mut cpu = Series::default();
    for _ in 0..options.rounds.min(3) {
        let (rate, seconds) = drain().await?;
        drained.push(rate);
        cpu.push(seconds);
    }
    let mut table =
        Table::new(&["a receiver that was down", "deliveries a second", "companion CPU s / 1,000"]);
    table.row("50,000 that had gathered", [drained.shown(0), cpu.shown(3)]);
    report.say(table);
    Ok(())
}

/// Deliveries a second from the first that the receiver takes until the last is recorded, and CPU seconds per 1,000.
async fn drain() -> Result<(f64, f64)> {
    let (is_up, first) = (Arc::new(AtomicBool::new(false)), Arc::new(OnceLock::new()));
    let (up, taken) = (is_up.clone(), first.clone());
    let sink = Sink::answering(move |_| {
        let status = if up.load(Ordering::Relaxed) { "200 OK" } else { "500 Down" };
        if status.starts_with('2') {
            taken.get_or_init(Instant::now);
        }
        format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n").into_bytes()
    });
    let mut world =
        World::before(vec![sink.await?], Setup { schedule: SCHEDULE, ..Setup::default() }).await?;
    world.offer(BACKLOG, BATCH).await?;
    let cpu = load::cpu_time(world.companion.id())?;
    is_up.store(true, Ordering::Relaxed);
    while world.delivered().await? < BACKLOG {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let elapsed = first.get().context("nothing was taken")?.elapsed();
    let cpu = load::cpu_time(world.companion.id())? - cpu;
    Ok((BACKLOG as f64 / elapsed.as_secs_f64(), cpu.as_secs_f64() / BACKLOG as f64 * 1e3))
}
