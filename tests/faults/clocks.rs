//! A wall clock that is set while the companion works.
//!
//! The machine's own clock is everybody's, so it stays as it is: `libfaketime`, loaded into the real companion and the real
//! receivers, answers them with a clock that is ours to set. The clock that nobody sets goes on as it is.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::Result;
use harness::cable::{Cable, Condition};
use harness::companion::Settings;
use harness::{python, wait, workspace};
use serde_json::json;
use tokio::time::sleep;

use crate::ledger::Break;
use crate::load::{CALM, Load};
use crate::moment::{Moment, shown};
use crate::world::{Plan, World};
use crate::{Fault, Findings, not_here};

const PACKAGE: &str = "libfaketime==3.0.1";

/// Where the library lies in its package.
const LIBRARY: &str = "libfaketime/vendor/libfaketime/src/libfaketime.so.1";

/// How far the clock is set.
const HOUR: i64 = 3_600;

/// The companion looks at its clock every second; what ends before it has seen that it was set may come again.
const NOTICED: Duration = Duration::from_secs(3);

/// How long after the clock was set something may come that was due: the sweep, and what a busy machine adds.
const SOON: Duration = Duration::from_secs(60);

pub(crate) fn faults() -> Vec<Fault> {
    vec![
        Fault {
            name: "clock set forward an hour",
            promise: "Nothing is lost; what was due in an hour is due now, and noticed within half a minute. What was under way \
                      may be sent again.",
            tries: (1, 5),
            waits: true,
            run: |plan| Box::pin(set(plan, HOUR, "1h")),
        },
        Fault {
            name: "clock set back an hour",
            promise: "Nothing is lost, and nothing waits for the hour to pass again. What was under way may be sent again.",
            tries: (1, 5),
            waits: true,
            run: |plan| Box::pin(set(plan, -HOUR, "2s")),
        },
    ]
}

/// A clock that processes have in place of the machine's.
struct Clock {
    file: PathBuf,
    ahead_s: i64,
}

impl Clock {
    /// One that goes right, and the variables that give it to a process.
    fn new(plan: &Plan) -> Result<(Self, Vec<(String, String)>)> {
        let directory = workspace::filled_once("libfaketime-3.0.1", |directory| {
            harness::progress::report("libfaketime: fetching from PyPI");
            python::unpack_wheel(PACKAGE, directory)
        })?;
        let mut clock = Self { file: plan.run.join("clock"), ahead_s: 0 };
        let environment = [
            ("LD_PRELOAD", directory.join(LIBRARY).display().to_string()),
            ("FAKETIME_TIMESTAMP_FILE", clock.file.display().to_string()),
            ("FAKETIME_NO_CACHE", "1".to_owned()),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
        ];
        let environment = environment.map(|(name, value)| (name.to_owned(), value)).to_vec();
        clock.set_by(-100 * HOUR)?;
        if year_day(&environment)? == year_day(&[])? {
            return Err(not_here("in simulation only: libfaketime does not run here"));
        }
        clock.set_by(100 * HOUR)?;
        Ok((clock, environment))
    }

    /// Sets it forward or back.
    fn set_by(&mut self, seconds: i64) -> Result<()> {
        self.ahead_s += seconds;
        let draft = self.file.with_extension("draft");
        std::fs::write(&draft, format!("{:+}\n", self.ahead_s))?;
        Ok(std::fs::rename(draft, &self.file)?)
    }
}

/// Which day it is to a process with these variables.
fn year_day(environment: &[(String, String)]) -> Result<Vec<u8>> {
    let mut date = Command::new("date");
    date.arg("+%F").envs(environment.iter().map(|(name, value)| (name, value)));
    Ok(date.output()?.stdout)
}

/// Sets the clock while deliveries wait for `delay` after they failed, and their receiver is only probed.
async fn set(plan: Plan, seconds: i64, delay: &'static str) -> Result<Findings> {
    let (mut clock, environment) = Clock::new(&plan)?;
    let mut world = World::empty(&plan, Settings { environment, ..plan.settings() }).await?;
    let cable = Cable::to(world.receiver.address()).await?;
    let retry = json!({"policy": "fixed", "delay": delay, "attempts": 50});
    world.subscribe("/failed", cable.address(), &json!({"retry": retry})).await?;
    let direct = world.receiver.address();
    world.subscribe("/every", direct, &json!({})).await?;
    let load = Load::of_events(world.companion.address(), CALM);
    for _ in 0..plan.tries {
        load.progress(20).await?;
        cable.becomes(Condition::Cut);
        let probed =
            async || (world.companion.metric("gatehook_breakers_open", "").await.ok()? > 0).then_some(());
        wait::until("the receiver to be only probed", 2 * wait::PATIENCE, probed).await?;
        let from = Moment::now();
        clock.set_by(seconds)?;
        cable.becomes(Condition::Whole);
        sleep(NOTICED).await;
        world.breaks.push(Break::over_since(from));
        let caught_up = async || (world.count("pending").await.ok()? < 50).then_some(());
        wait::until("what had failed to be delivered", 2 * SOON, caught_up).await?;
    }
    load.progress(20).await?;
    let accepted = load.stop().await?;
    // What was under way when the clock was set may have been refused for its old timestamp, and wait for an hour now.
    let nothing_under_way =
        async || (world.companion.metric("gatehook_attempts_in_flight", "").await.ok()? == 0).then_some(());
    wait::until("nothing to be under way", wait::PATIENCE, nothing_under_way).await?;
    clock.set_by(seconds.max(0))?;
    let (tally, mut findings) = world.settle(&accepted).await?;
    findings.check(tally.latest < SOON, || format!("something waited {}", shown(tally.latest)));
    Ok(findings.nothing_lost())
}
