//! What the same work costs beside other work: much pending, many subscriptions, receivers that hang.

use std::time::Instant;

use anyhow::Result;
use harness::load;
use harness::progress;
use harness::report::{Aim, Report, Series, Table};

use crate::Options;
use crate::world::{BATCH, By, Setup, World};

/// The variants that have an aim: most pending, and many subscriptions.
const WITH_AIM: [usize; 3] = [3, 4, 5];
/// The first whose events are of ten kinds.
const TEN_KINDS: usize = 6;

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
    for (batch, kind) in ["one event a request", "batches of 100"].iter().enumerate() {
        let own = format!("{kind}, beside");
        let columns = [
            own.as_str(),
            "deliveries a second",
            "of nothing else",
            "companion CPU s / 1,000",
            "of nothing else",
        ];
        let mut table = Table::new(&columns);
        for (index, variant) in variants.iter().enumerate() {
            // Events of ten kinds are compared with events of ten kinds.
            let reference = &variants[if index < TEN_KINDS { 0 } else { TEN_KINDS }];
            let (rate, cpu) = (&variant.rates[batch], &variant.cpu[batch]);
            let (of_rate, of_cpu) = (rate.of(&reference.rates[batch]), cpu.of(&reference.cpu[batch]));
            table.row(&variant.name, [rate.shown(0), of_rate.shown(2), cpu.shown(3), of_cpu.shown(2)]);
            if WITH_AIM.contains(&index) {
                let what = format!("{}, {kind}, of nothing else", variant.name);
                report.aim(&what, Aim::AtLeast(0.9), of_rate.median());
            }
        }
        report.say(table);
    }
    let mut table = Table::new(&["beside", "peak memory of the companion, MiB"]);
    for (index, variant) in variants.iter().enumerate() {
        let peak = load::peak_memory(variant.world.companion.id())? as f64 / f64::from(1 << 20);
        table.row(&variant.name, [format!("{peak:.0}")]);
        if WITH_AIM.contains(&index) {
            report.aim(&format!("{}, peak memory, MiB", variant.name), Aim::AtMost(256.0), peak);
        }
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
