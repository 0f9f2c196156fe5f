//! What the same work costs beside other work: much pending, many subscriptions, receivers that hang.

use std::time::Instant;

use anyhow::Result;
use harness::load;
use harness::progress;
use harness::report::{Aim, Report, Series, Table};

use crate::Options;
use crate::world::{BATCH, By, Setup, World};

/// One variant and its figures.
struct Variant {
    name: String,
    world: World,
    /// Deliveries a second: one event a request, batches.
    rates: [Series; 2],
    /// CPU seconds per 1,000 deliveries of each.
    cpu: [Series; 2],
}

pub(crate) async fn measure(report: &mut Report, options: &Options) -> Result<()> {
    let plain = Setup::default();
    let spread = Setup { kinds: 10, ..plain };
    let setups = [
        ("nothing else", plain),
        ("10 pending", Setup { pending: 10, ..plain }),
        ("10,000 pending", Setup { pending: 10_000, ..plain }),
        ("most pending", Setup { pending: options.pending, ..plain }),
        ("10,000 subscriptions, by type", Setup { kinds: 10_000, ..plain }),
        ("10,000 subscriptions, by condition", Setup { kinds: 10_000, by: By::Condition, ..plain }),
        ("10 receivers in turn", spread),
        ("the same, 3 of them hang", Setup { hanging: 3, ..spread }),
    ];
    let mut variants = Vec::new();
    for (name, setup) in setups {
        let name = name.replace("most", &grouped(options.pending));
        let begun = Instant::now();
        progress::report(&format!("{name}: preparing"));
        let world = World::start(setup).await?;
        if setup.pending == options.pending {
            report.say(format!(
                "{} events accepted for receivers that are down in {:.0} s.",
                grouped(setup.pending),
                begun.elapsed().as_secs_f64()
            ));
        }
        variants.push(Variant { name, world, rates: Default::default(), cpu: Default::default() });
    }
    // The first round opens connections, and shows the breakers who hangs.
    for round in 0..=options.rounds {
        for variant in &mut variants {
            variant.round(options.events, round > 0).await?;
        }
    }
    print(report, &variants)
}

impl Variant {
    async fn round(&mut self, events: usize, counts: bool) -> Result<()> {
        for (index, batch) in [1, BATCH].into_iter().enumerate() {
            let taken = self.world.ingest(events, batch).await?;
            if counts {
                self.rates[index].push(taken.deliveries as f64 / taken.elapsed.as_secs_f64());
                self.cpu[index].push(taken.cpu.as_secs_f64() / taken.deliveries as f64 * 1e3);
            }
        }
        Ok(())
    }
}

fn print(report: &mut Report, variants: &[Variant]) -> Result<()> {
    let mut table = Table::new(&[
        "beside",
        "one event a request, /s",
        "of its reference",
        "CPU s / 1,000",
        "batches, /s",
        "of its reference",
        "CPU s / 1,000",
        "peak MiB",
    ]);
    for (index, variant) in variants.iter().enumerate() {
        // Events of ten kinds are compared with events of ten kinds.
        let reference = &variants[if index < 6 { 0 } else { 6 }];
        let mut figures = Vec::new();
        for (batch, kind) in ["one event a request", "batches"].iter().enumerate() {
            let ratio = variant.rates[batch].of(&reference.rates[batch]);
            figures.extend([variant.rates[batch].shown(0), ratio.shown(2), variant.cpu[batch].shown(3)]);
            if matches!(index, 3..=5) {
                report.aim(
                    &format!("{}, {kind}, of nothing else", variant.name),
                    Aim::AtLeast(0.9),
                    ratio.median(),
                );
            }
        }
        let peak = load::peak_memory(variant.world.companion.id())? as f64 / f64::from(1 << 20);
        if matches!(index, 3..=5) {
            report.aim(&format!("{}, peak memory, MiB", variant.name), Aim::AtMost(256.0), peak);
        }
        figures.push(format!("{peak:.0}"));
        table.row(&variant.name, figures);
    }
    report.say(table);
    Ok(())
}

/// `1,000,000`
fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let groups = digits.as_bytes().rchunks(3).rev().map(|group| String::from_utf8_lossy(group).into_owned());
    groups.collect::<Vec<_>>().join(",")
}
