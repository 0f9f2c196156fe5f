//! As fast as it goes: one event a request and batches, to one receiver and to ten.

use anyhow::Result;
use harness::load;
use harness::report::{Aim, Report, Series, Table};

use crate::Options;
use crate::world::{BATCH, Setup, Taken, World};

const NAMES: [&str; 5] = [
    "straight to the receiver",
    "one event a request",
    "batches of 100",
    "one event a request, 10 receivers",
    "batches of 100, 10 receivers",
];

/// The figures of one variant.
#[derive(Default)]
struct Figures {
    rate: Series,
    cpu: Series,
    all_cpu: Series,
}

impl Figures {
    fn take(&mut self, taken: &Taken) {
        let thousands = taken.deliveries as f64 / 1e3;
        self.rate.push(taken.deliveries as f64 / taken.elapsed.as_secs_f64());
        self.cpu.push(taken.cpu.as_secs_f64() / thousands);
        self.all_cpu.push(taken.all_cpu.as_secs_f64() / thousands);
    }
}

pub(crate) async fn measure(report: &mut Report, options: &Options) -> Result<()> {
    let mut one = World::start(Setup::default()).await?;
    let mut ten = World::start(Setup { fan_out: 10, ..Setup::default() }).await?;
    let events = options.events;
    let mut figures: [Figures; 5] = Default::default();
    // The first round opens connections and the receivers' lanes.
    one.paced(200, 200).await?;
    ten.paced(200, 200).await?;
    for _ in 0..options.rounds {
        let taken = [
            one.straight(events, None).await?.1,
            one.ingest(events, 1).await?,
            one.ingest(events, BATCH).await?,
            ten.ingest(events.div_ceil(5), 1).await?,
            ten.ingest(events.div_ceil(5), BATCH).await?,
        ];
        taken.iter().zip(&mut figures).for_each(|(taken, figures)| figures.take(taken));
    }
    let mut table = Table::new(&[
        "as fast as it goes",
        "deliveries a second",
        "of straight",
        "companion CPU s / 1,000",
        "every process, s / 1,000",
    ]);
    let [straight, single, batches, fan_single, fan_batches] = &figures;
    for (name, own) in NAMES.iter().zip(&figures) {
        let cpu = if own.rate.0 == straight.rate.0 { "–".into() } else { own.cpu.shown(3) };
        let ratio = own.rate.of(&straight.rate).shown(3);
        table.row(name, [own.rate.shown(0), ratio, cpu, own.all_cpu.shown(3)]);
    }
    report.say(table);
    for (world, name) in [(&one, "one receiver"), (&ten, "ten")] {
        let peak = load::peak_memory(world.companion.id())? >> 20;
        report.say(format!("Peak memory of the companion with {name}: {peak} MiB."));
    }
    let ratio = |figures: &Figures| figures.rate.of(&straight.rate).median();
    report.aim("one event a request, of straight", Aim::AtLeast(0.1), ratio(single));
    report.aim("batches, of straight", Aim::AtLeast(0.2), ratio(batches));
    for (name, own) in [("one event a request", single), ("batches", batches)] {
        report.aim(&format!("CPU s per 1,000 deliveries, {name}"), Aim::AtMost(0.1), own.cpu.median());
    }
    for (name, own) in [("one event a request", fan_single), ("batches", fan_batches)] {
        let name = format!("CPU s per 1,000 deliveries, {name}, 10 receivers");
        report.aim(&name, Aim::AtMost(0.1), own.cpu.median());
    }
    Ok(())
}
