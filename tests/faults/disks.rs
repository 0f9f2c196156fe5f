//! The disk: nearly full, full, and cut off from power.
//!
//! A small file system is mounted where the companion's process alone sees it, in a mount namespace of its own, so that it is
//! gone with the process. For a power cut it lies in an image file: what the kernel had not written to that file by the
//! time of the cut is lost, as it would be with the machine.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use harness::companion::{Companion, Settings};
use harness::wait;
use serde_json::json;
use tokio::time::sleep;

use crate::kills::doubt;
use crate::ledger::Break;
use crate::load::{BUSY, CALM, Load};
use crate::moment::{Moment, up_to};
use crate::world::{Plan, World};
use crate::{Fault, Findings, not_here};

/// Megabytes of a disk: room for a write-ahead log at its longest, 32, for events, and the 64 that are left to deliveries.
const DISK: usize = 192;

/// Megabytes of something else that fills it nearly.
const BALLAST: usize = 150;

/// How long it stays full.
const LONG_FULL: Duration = Duration::from_secs(5);

/// Until it is full, and after there is room again.
const FILLING: Duration = Duration::from_secs(60);

/// When the power is cut, after the companion was started.
const LIFE: Duration = Duration::from_millis(800);

/// The disk of a machine whose power is cut.
const IMAGE: &str = "disk.img";

pub(crate) fn faults() -> Vec<Fault> {
    vec![
        Fault {
            name: "disk nearly full",
            promise: "Events are refused with 503 while less than 64 MiB are free; what was accepted is delivered meanwhile; \
                      nothing is lost or sent twice.",
            tries: (1, 10),
            waits: true,
            run: |plan| Box::pin(nearly_full(plan)),
        },
        Fault {
            name: "disk full to the last byte",
            promise: "A request is refused whole; nothing is lost. What arrived while it could not be recorded is sent again \
                      when its lease ends, after a minute.",
            tries: (1, 3),
            waits: true,
            run: |plan| Box::pin(full(plan)),
        },
        Fault {
            name: "power cut",
            promise: "Nothing is lost that was answered 202: it was on disk before. What was under way or recorded last is sent \
                      again.",
            tries: (3, 25),
            waits: false,
            run: |plan| Box::pin(power_cut(plan)),
        },
    ]
}

/// A command that mounts `what` at `folder` in a namespace of its own and goes on with what is appended to it.
fn mounting(options: &str, what: &str, folder: &Path) -> Vec<String> {
    let mut wrapper = vec!["unshare".to_owned(), "--mount".to_owned()];
    if !rustix::process::geteuid().is_root() {
        wrapper.push("--map-root-user".to_owned());
    }
    let script = format!("mount {options} \"$0\" \"$1\" && shift && exec \"$@\"");
    wrapper.extend(["sh".to_owned(), "-c".to_owned(), script, what.to_owned(), folder.display().to_string()]);
    wrapper
}

/// Settings of a companion on a disk of its own; an error where this machine does not let us have one.
fn on_a_disk(plan: &Plan, options: &str, what: &str, least_free: &str) -> Result<Settings> {
    let folder = plan.run.join("disk");
    std::fs::create_dir_all(&folder)?;
    let wrapper = mounting(options, what, &folder);
    let (program, arguments) = wrapper.split_first().context("a command has a name")?;
    let tried = Command::new(program).args(arguments).arg("true").output();
    let tried = tried.map_err(|error| not_here(&format!("no {program}: {error}")))?;
    if !tried.status.success() {
        return Err(not_here(&format!("no mount: {}", String::from_utf8_lossy(&tried.stderr).trim())));
    }
    let arguments = vec!["--min-free-disk".to_owned(), least_free.to_owned()];
    Ok(Settings { arguments, folder: Some(folder), wrapper, ..plan.settings() })
}

async fn on_tmpfs(plan: &Plan, least_free: &str) -> Result<World> {
    let settings = on_a_disk(plan, &format!("-t tmpfs -o size={DISK}m"), "tmpfs", least_free)?;
    let mut world = World::empty(plan, settings).await?;
    let receiver = world.receiver.address();
    world.subscribe("/every", receiver, &json!({})).await?;
    Ok(world)
}

/// Fills the disk with a file, so many megabytes or until not even a page more fits.
fn fill(ballast: &Path, megabytes: usize) -> Result<()> {
    let mut ballast = File::options().create(true).append(true).open(ballast)?;
    let _full = (0..megabytes << 8).try_for_each(|_| ballast.write_all(&[1; 4 << 10]));
    Ok(())
}

async fn nearly_full(plan: Plan) -> Result<Findings> {
    let mut world = on_tmpfs(&plan, "64MiB").await?;
    let load = Load::of_events(world.companion.address(), CALM);
    let mut refusals = 0;
    for _ in 0..plan.tries {
        load.progress(20).await?;
        let ballast = world.companion.file("ballast");
        fill(&ballast, BALLAST)?;
        let refused = async || {
            let count = world.companion.metric("gatehook_disk_refusals_total", "").await.ok()?;
            (count > refusals).then_some(count)
        };
        wait::until("events to be refused", FILLING, refused).await?;
        let pending = async || (world.count("pending").await.ok()? == 0).then_some(());
        wait::until("what was accepted to be delivered meanwhile", FILLING, pending).await?;
        refusals = world.companion.metric("gatehook_disk_refusals_total", "").await?;
        std::fs::remove_file(ballast)?;
    }
    load.progress(20).await?;
    let accepted = load.stop().await?;
    let (_, mut findings) = world.settle(&accepted).await?;
    let twice = findings.twice;
    findings.check(twice == 0, || format!("{twice} were sent twice"));
    Ok(findings.nothing_lost().remark(format!("{refusals} requests were refused")))
}

async fn full(plan: Plan) -> Result<Findings> {
    let mut world = on_tmpfs(&plan, "0B").await?;
    let load = Load::of_events(world.companion.address(), CALM);
    for _ in 0..plan.tries {
        load.progress(20).await?;
        let refusals = load.refusals();
        let (from, ballast) = (Moment::now(), world.companion.file("ballast"));
        let failed = async || {
            // Again and again: what the companion itself gives back is filled too.
            fill(&ballast, DISK).ok()?;
            (load.refusals() > refusals).then_some(())
        };
        wait::until("the store to refuse", FILLING, failed).await?;
        sleep(up_to(LONG_FULL)).await;
        std::fs::remove_file(&ballast)?;
        world.breaks.push(Break::over_since(from));
    }
    load.progress(20).await?;
    let accepted = load.stop().await?;
    let (_, findings) = world.settle(&accepted).await?;
    Ok(findings.nothing_lost())
}

async fn power_cut(plan: Plan) -> Result<Findings> {
    let image = plan.run.join(IMAGE);
    make_file_system(&image)?;
    // The kernel would write by itself after some seconds, which a power cut does not wait for.
    let what = image.display().to_string();
    let settings = on_a_disk(&plan, "-o loop,commit=3000", &what, "0B")?;
    let mut world = World::empty(&plan, settings).await?;
    let receiver = world.receiver.address();
    world.subscribe("/every", receiver, &json!({})).await?;
    let load = Load::of_events(world.companion.address(), BUSY);
    for _ in 0..plan.tries {
        load.progress(10).await?;
        sleep(up_to(LIFE)).await;
        let from = Moment::now();
        cut_power(&mut world.companion, &image).await?;
        world.companion.restart().await?;
        world.breaks.push(Break::over_since(from));
    }
    load.progress(20).await?;
    let accepted = load.stop().await?;
    let (tally, findings) = world.settle(&accepted).await?;
    Ok(findings.nothing_lost().remark(doubt(&tally)))
}

fn make_file_system(image: &Path) -> Result<()> {
    File::create(image)?.set_len(u64::try_from(DISK << 20)?)?;
    let mut make = Command::new("mkfs.ext4");
    // Whole at once, so that the kernel does not finish it in the background.
    make.args(["-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0"]).arg(image);
    let made = make.output().map_err(|error| not_here(&format!("no mkfs.ext4: {error}")))?;
    ensure!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    Ok(())
}

/// Stops the machine, as far as the companion can tell: what the image file holds at that moment is what the disk held.
async fn cut_power(companion: &mut Companion, image: &Path) -> Result<()> {
    companion.freeze()?;
    let id = companion.id();
    wait::until("every thread to stand still", wait::PATIENCE, async || stands_still(id).then_some(()))
        .await?;
    let held = image.with_extension("held");
    let copied = Command::new("cp").arg("--sparse=always").args([image, &held]).output()?;
    ensure!(copied.status.success(), "{}", String::from_utf8_lossy(&copied.stderr));
    companion.kill()?;
    Ok(std::fs::rename(held, image)?)
}

fn stands_still(process: u32) -> bool {
    let Ok(threads) = std::fs::read_dir(format!("/proc/{process}/task")) else { return false };
    threads.flatten().all(|thread| {
        let status = std::fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
        status.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('T'))
    })
}
