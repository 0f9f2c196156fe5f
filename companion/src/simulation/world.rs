//! The world around the companion: time, what is on the disk, and what is known of both after a crash.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::image;
use super::plan::{CALM, Crash, Disk, Plan};
use super::receivers::Seen;
use crate::clock::Clock;
use crate::testing::{Dice, Folder};

/// Lines of a trace that are kept.
const TRACE: usize = 4_000;

/// What goes wrong, or is done at an inconvenient time.
const KINDS: [&str; 21] = [
    "answers cut off",
    "answers unheard",
    "asked again",
    "attempts failed",
    "attempts timed out",
    "clock set",
    "connections refused",
    "deleted",
    "killed",
    "power lost",
    "requests given up",
    "slow writes",
    "stopped",
    "told to stop",
    "told to wait",
    "turned off",
    "wake-ups lost",
    "wake-ups repeated",
    "writes denied",
    "writes refused",
    "deliveries",
];

/// The wall clock when a world begins, in seconds.
pub(super) const EPOCH: i64 = 1_700_000_000;

/// All that outlives a crash of the companion.
pub(super) struct World {
    pub(super) plan: Plan,
    folder: Folder,
    /// Ends the life under way.
    pub(super) crashed: Notify,
    /// Asks for a polite stop.
    pub(super) stopped: Notify,
    state: Mutex<State>,
}

/// What changes.
pub(super) struct State {
    /// Virtual time before this life.
    before: Duration,
    /// When this life began, on its own clock.
    began: Option<Instant>,
    pub(super) dice: Dice,
    /// Store operations of this life.
    operations: u64,
    crashes_left: Vec<Crash>,
    /// Images of the disk that were taken.
    images: usize,
    /// From when until when there was a companion that was not told to stop.
    pub(super) lives: Vec<(u64, u64)>,
    /// Events that were answered 202.
    pub(super) accepted: BTreeSet<usize>,
    /// Actions done.
    pub(super) actions_done: usize,
    /// Ids of the subscriptions, in the plan's order.
    pub(super) subscriptions: Vec<String>,
    /// Subscriptions that were off at some time.
    pub(super) were_off: BTreeSet<String>,
    /// Subscriptions of which something was asked for once more.
    pub(super) asked_again: BTreeSet<String>,
    /// What the API last said of a subscription's status; `None`: that it is deleted.
    pub(super) promised: BTreeMap<String, Option<&'static str>>,
    pub(super) seen: Seen,
    /// Whether the store or the process failed, so that a delivery may lawfully be sent twice.
    pub(super) in_doubt: bool,
    pub(super) faults: Vec<String>,
    /// What went wrong as planned, and how often.
    pub(super) tally: BTreeMap<&'static str, u64>,
    trace: Vec<String>,
}

impl World {
    pub(super) fn new(plan: Plan) -> Self {
        let state = State {
            before: Duration::ZERO,
            began: None,
            dice: plan.dice.clone(),
            operations: 0,
            crashes_left: plan.crashes.clone(),
            images: 0,
            lives: Vec::new(),
            accepted: BTreeSet::new(),
            actions_done: 0,
            subscriptions: Vec::new(),
            were_off: BTreeSet::new(),
            asked_again: BTreeSet::new(),
            promised: BTreeMap::new(),
            seen: Seen::default(),
            in_doubt: false,
            faults: Vec::new(),
            tally: KINDS.into_iter().map(|kind| (kind, 0)).collect(),
            trace: Vec::new(),
        };
        let folder = Folder::in_memory();
        let world =
            Self { plan, folder, crashed: Notify::new(), stopped: Notify::new(), state: Mutex::new(state) };
        image::make(&world.database());
        world.add("clock set", world.plan.jumps.len());
        world
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The database as the disk has it.
    pub(super) fn database(&self) -> PathBuf {
        self.folder.path(&format!("{}.db", self.state().images))
    }

    /// Begins a life on a clock that starts anew.
    pub(super) fn begin(&self) {
        let mut state = self.state();
        (state.began, state.operations) = (Some(Instant::now()), 0);
        let now_ms = state.now_ms();
        state.lives.push((now_ms, u64::MAX));
    }

    /// The life under way is told to stop, or ends.
    pub(super) fn stop(&self) {
        let mut state = self.state();
        let now_ms = state.now_ms();
        let (_, end) = state.lives.last_mut().expect("a life has begun");
        *end = now_ms.min(*end);
    }

    /// Ends it; the time that it took has passed.
    pub(super) fn end(&self, crashed: bool) {
        self.stop();
        let mut state = self.state();
        state.before = state.elapsed();
        state.began = None;
        let now_ms = state.now_ms();
        let crash = if crashed { state.crashes_left.pop() } else { None };
        state.seen.end(now_ms, crash.as_ref());
        state.in_doubt |= crashed;
        state.before += Duration::from_millis(crash.map_or(0, |crash| crash.down_ms));
    }

    /// Keeps of the disk what the crash under way leaves.
    pub(super) fn crash(&self) {
        let from = self.database();
        let mut state = self.state();
        let has_power = !state.crashes_left.last().is_some_and(|crash| crash.power);
        state.images += 1;
        let drawn = state.dice.next();
        drop(state);
        self.count(if has_power { "killed" } else { "power lost" });
        image::take(&from, &self.database(), |synced, written| match has_power {
            true => written,
            // What was not synced may be there in part.
            false => synced + drawn % (written.saturating_sub(synced) + 1),
        });
        self.crashed.notify_one();
    }

    /// Milliseconds since the beginning.
    pub(super) fn now_ms(&self) -> u64 {
        self.state().now_ms()
    }

    pub(super) fn is_calm(&self) -> bool {
        self.now_ms() >= CALM
    }

    /// Sleeps until so many milliseconds since the beginning.
    pub(super) async fn until(&self, ms: u64) {
        let left = Duration::from_millis(ms).saturating_sub(self.state().elapsed());
        tokio::time::sleep(left).await;
    }

    /// Notes what happened.
    pub(super) fn note(&self, line: impl FnOnce() -> String) {
        let mut state = self.state();
        if state.trace.len() < TRACE {
            let at = state.elapsed();
            state.trace.push(format!("{at:?} {}", line()));
        }
    }

    /// Counts something that went wrong as planned.
    pub(super) fn count(&self, kind: &'static str) {
        self.add(kind, 1);
    }

    pub(super) fn add(&self, kind: &'static str, count: usize) {
        *self.state().tally.get_mut(kind).expect("a kind that is known") += count as u64;
    }

    /// Somebody changes the status of a subscription: until that is answered nothing is promised. Returns what was.
    pub(super) fn begin_change(&self, id: &str, ends_it: bool) -> Option<Option<&'static str>> {
        let mut state = self.state();
        if ends_it {
            state.were_off.insert(id.to_owned());
            *state.tally.entry("turned off").or_default() += 1;
        }
        state.promised.remove(id)
    }

    /// Notes what must not be.
    pub(super) fn fault(&self, fault: String) {
        self.note(|| format!("FAULT {fault}"));
        self.state().faults.push(fault);
    }

    pub(super) fn trace(&self) -> Vec<String> {
        self.state().trace.clone()
    }

    /// What the store does to the next operation, and whether the life ends before it or after it.
    pub(super) fn next_operation(&self) -> (Option<Disk>, Option<bool>) {
        let now_ms = self.now_ms();
        let mut state = self.state();
        state.operations += 1;
        let crash =
            state.crashes_left.last().filter(|crash| crash.after == state.operations && now_ms < CALM);
        let disk = self.plan.disk.iter().find(|(window, _)| window.contains(&now_ms));
        (disk.map(|(_, disk)| *disk), crash.map(|crash| crash.carried_out))
    }
}

impl State {
    pub(super) fn elapsed(&self) -> Duration {
        self.before + self.began.map_or(Duration::ZERO, |began| began.elapsed())
    }

    fn now_ms(&self) -> u64 {
        self.elapsed().as_millis() as u64
    }
}

/// The wall clock of the world: it jumps as planned.
pub(super) struct WorldClock(pub(super) std::sync::Arc<World>);

impl Clock for WorldClock {
    fn now(&self) -> Timestamp {
        let elapsed = self.elapsed();
        let past = self.0.plan.jumps.iter().filter(|(at, _)| Duration::from_millis(*at) <= elapsed);
        let jumped: i64 = past.map(|(_, by)| by).sum();
        let since = elapsed.as_micros() as i64 + jumped * 1_000;
        Timestamp::from_second(EPOCH).unwrap() + SignedDuration::from_micros(since)
    }

    fn elapsed(&self) -> Duration {
        self.0.state().elapsed()
    }
}
