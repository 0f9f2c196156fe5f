//! At 200 events a second: how long an event takes, and what a delivery costs when nothing gathers.

use anyhow::Result;
use harness::report::{Aim, Report, Series, Table, percentile_ms};

use crate::Options;
use crate::world::{Setup, World};

/// Events a second.
const RATE: u32 = 200;
/// Events of one round: five seconds.
const EVENTS: usize = 1_000;

pub(crate) async fn measure(report: &mut Report, options: &Options) -> Result<()> {
    let mut world = World::start(Setup::default()).await?;
    // Six series: p50 and p99 of straight, accepted, arrived.
    let mut times: [[Series; 2]; 3] = Default::default();
    let (mut cpu, mut all_cpu) = (Series::default(), Series::default());
    world.paced(200, RATE).await?;
    for _ in 0..options.rounds {
        let (straight, _) = world.straight(EVENTS, Some(RATE)).await?;
        let (taken, cost) = world.paced(EVENTS, RATE).await?;
        for (mut durations, series) in [straight, taken.accepted, taken.arrived].into_iter().zip(&mut times) {
            for (percent, series) in [50, 99].into_iter().zip(series) {
                series.push(percentile_ms(&mut durations, percent));
            }
        }
        cpu.push(cost.cpu.as_secs_f64() / EVENTS as f64 * 1e3);
        all_cpu.push(cost.all_cpu.as_secs_f64() / EVENTS as f64 * 1e3);
    }
    let mut table = Table::new(&["at 200 events a second", "p50, ms", "p99, ms"]);
    let names =
        ["straight to the receiver", "from the request to the 202", "from the request to the receiver"];
    for (name, [p50, p99]) in names.iter().zip(&times) {
        table.row(name, [p50.shown(2), p99.shown(2)]);
    }
    report.say(table);
    report.say(format!(
        "CPU per 1,000 deliveries at that pace: companion {} s, every process {} s.",
        cpu.shown(2),
        all_cpu.shown(2)
    ));
    let [_, _, [p50, p99]] = &times;
    report.aim("at 200/s, p50, ms", Aim::AtMost(1.0), p50.median());
    report.aim("at 200/s, p99, ms", Aim::AtMost(3.0), p99.median());
    Ok(())
}
