//! What a seed has in store: subscriptions, events, what is done through the API, and all that goes wrong until it ends.
//!
//! Times are milliseconds of virtual time since the beginning.

use std::ops::Range;

use serde_json::{Value, json};

use crate::testing::Dice;

/// From here on nothing goes wrong any more.
pub(super) const CALM: u64 = 400_000;

/// When nothing is pending any more: the longest delay of a policy, of a lease and of a pause have passed, each a few times.
pub(super) const PATIENCE: u64 = CALM + 1_500_000;

/// The last moment at which somebody does something; then all that was turned off is turned on.
pub(super) const LAST_ACTION: u64 = CALM - 1_000;

/// What happens.
pub(super) struct Plan {
    pub(super) subscriptions: Vec<Planned>,
    /// When each batch of events is offered first, and of which resources they are.
    pub(super) batches: Vec<(u64, Vec<String>)>,
    pub(super) actions: Vec<(u64, Action)>,
    pub(super) crashes: Vec<Crash>,
    pub(super) disk: Vec<(Range<u64>, Disk)>,
    /// When the clock is set, and by how many milliseconds.
    pub(super) jumps: Vec<(u64, i64)>,
    /// Chance in percent that a wake-up is lost, that one is repeated, and that the answer to a batch is not heard.
    pub(super) lost: u64,
    pub(super) repeated: u64,
    pub(super) unheard: u64,
    /// How many events are kept.
    pub(super) keep_events: Option<u64>,
    pub(super) dice: Dice,
}

/// How a life ends.
#[derive(Clone, Debug)]
pub(super) struct Crash {
    /// After so many store operations.
    pub(super) after: u64,
    /// Whether the last one is still carried out.
    pub(super) carried_out: bool,
    /// Whether the machine loses power, and with it what was not synced.
    pub(super) power: bool,
    /// Until the next life.
    pub(super) down_ms: u64,
}

/// A subscription and its receiver.
pub(super) struct Planned {
    /// Body of the request that makes it, without `target_url`.
    pub(super) body: Value,
    /// Seconds before each attempt that its policy makes.
    pub(super) delays: Vec<u64>,
    pub(super) is_ordered: bool,
    /// Attempts in a second at most.
    pub(super) rate: Option<u64>,
    pub(super) max_in_flight: usize,
    /// How the receiver behaves until when; well after the last.
    pub(super) moods: Vec<(u64, Mood)>,
}

/// How a receiver behaves.
#[derive(Clone, Debug)]
pub(super) enum Mood {
    /// Takes everything after some milliseconds.
    Well(u64),
    /// Answers some status to so many of a hundred.
    Fails(u64, u16),
    /// Takes some and never answers.
    Hangs,
    /// Takes everything, and its answer is lost for so many of a hundred.
    Lies(u64),
    /// Asks for seconds of patience.
    Busy(u64),
    /// Is not there.
    Dead,
    /// Wants some deliveries no more.
    Aborts,
    /// Wants no more at all.
    Gone,
}

/// What the store does to an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Disk {
    /// Refuses it.
    Full,
    /// Refuses so many of a hundred.
    Flaky(u64),
    /// Carries it out and says no for so many of a hundred.
    Lies(u64),
    /// Takes up to so many milliseconds, before or after it has carried it out.
    Slow(u64),
}

/// What somebody does through the API; the number names a subscription or a delivery, modulo how many there are.
#[derive(Clone, Debug)]
pub(super) enum Action {
    Off(usize),
    On(usize),
    Delete(usize),
    Redeliver(usize),
    Recover(usize),
    Replay(usize),
    /// Stops politely and starts again.
    Restart,
}

impl Plan {
    pub(super) fn draw(seed: u64) -> Self {
        let mut dice = Dice::new(seed);
        let subscriptions: Vec<_> = (0..1 + dice.below(3)).map(|_| planned(&mut dice)).collect();
        let batches = batches(&mut dice);
        let mut actions: Vec<_> =
            (0..dice.below(6)).map(|_| (dice.below(CALM / 2), action(&mut dice))).collect();
        actions.extend((0..subscriptions.len()).map(|index| (LAST_ACTION, Action::On(index))));
        actions.sort_by_key(|(at, _)| *at);
        let crashes = (0..dice.below(5)).map(|_| crash(&mut dice)).collect();
        let disk = (0..dice.below(3)).map(|_| (window(&mut dice), disk(&mut dice))).collect();
        let jumps = *dice.pick(&[0, 0, 0, 1, 2]);
        let jumps = (0..jumps).map(|_| (dice.below(CALM / 2), jump(&mut dice))).collect();
        let (lost, repeated) = (*dice.pick(&[0, 0, 20, 100]), *dice.pick(&[0, 30]));
        let unheard = *dice.pick(&[0, 0, 20]);
        let keep_events = dice.percent(20).then(|| 1 + dice.below(10));
        Self {
            subscriptions,
            batches,
            actions,
            crashes,
            disk,
            jumps,
            lost,
            repeated,
            unheard,
            keep_events,
            dice,
        }
    }
}

fn batches(dice: &mut Dice) -> Vec<(u64, Vec<String>)> {
    let (resources, largest) = (1 + dice.below(6), *dice.pick(&[1, 1, 4]));
    let mut left = 3 + dice.below(25);
    // Now and then all at once, so that much is under way together.
    let at_once = dice.percent(30);
    let mut batches = Vec::new();
    while left > 0 {
        let count = (1 + dice.below(largest)).min(left);
        left -= count;
        let at = if at_once { 1_000 } else { dice.below(CALM / 3) };
        let subjects = (0..count).map(|_| format!("/contacts/{}", dice.below(resources)));
        batches.push((at, subjects.collect()));
    }
    batches.sort();
    batches
}

fn planned(dice: &mut Dice) -> Planned {
    let attempts = 2 + dice.below(7) as usize;
    let delays: Vec<u64> =
        (0..attempts).map(|index| if index == 0 { 0 } else { *dice.pick(&[1, 5, 30, 90]) }).collect();
    let words: Vec<String> = delays.iter().map(|delay| format!("{delay}s")).collect();
    let is_ordered = dice.percent(30);
    let mut body = json!({
        "events": ["contact.*"],
        "format": "raw",
        "retry": {"policy": "schedule", "delays": words},
    });
    if is_ordered {
        body["ordering"] = "resource".into();
    }
    let rate = dice.percent(20).then(|| *dice.pick(&[1, 5]));
    if let Some(rate) = rate {
        body["rate_limit"] = format!("{rate}/s").into();
    }
    let max_in_flight = if dice.percent(20) { 1 + dice.below(3) as usize } else { crate::limits::IN_FLIGHT };
    body["max_in_flight"] = max_in_flight.into();
    let mut moods: Vec<_> = (0..dice.below(4)).map(|_| (dice.below(CALM), mood(dice))).collect();
    moods.sort_by_key(|(until, _)| *until);
    Planned { body, delays, is_ordered, rate, max_in_flight, moods }
}

fn mood(dice: &mut Dice) -> Mood {
    match dice.below(12) {
        0..3 => Mood::Well(dice.below(20_000)),
        3..6 => Mood::Fails(*dice.pick(&[10, 50, 100]), *dice.pick(&[500, 503, 404, 408])),
        6 => Mood::Hangs,
        7..9 => Mood::Lies(*dice.pick(&[20, 100])),
        9 => Mood::Busy(1 + dice.below(100)),
        10 => Mood::Dead,
        _ => dice.pick(&[Mood::Gone, Mood::Aborts, Mood::Dead]).clone(),
    }
}

fn crash(dice: &mut Dice) -> Crash {
    Crash {
        after: 1 + dice.below(120),
        carried_out: dice.percent(70),
        power: dice.percent(40),
        down_ms: *dice.pick(&[0, 500, 5_000, 70_000]),
    }
}

fn window(dice: &mut Dice) -> Range<u64> {
    let from = dice.below(CALM / 2);
    from..from + 1_000 + dice.below(60_000)
}

fn disk(dice: &mut Dice) -> Disk {
    match dice.below(4) {
        0 => Disk::Full,
        1 => Disk::Flaky(*dice.pick(&[10, 50])),
        2 => Disk::Lies(*dice.pick(&[10, 50])),
        _ => Disk::Slow(*dice.pick(&[100, 5_000, 70_000])),
    }
}

fn jump(dice: &mut Dice) -> i64 {
    *dice.pick(&[3_600_000, -3_600_000, 90_000, -90_000, -500])
}

fn action(dice: &mut Dice) -> Action {
    let number = dice.below(100) as usize;
    match dice.below(7) {
        0 => Action::Off(number),
        1 => Action::On(number),
        2 if dice.percent(50) => Action::Delete(number),
        2 | 3 => Action::Redeliver(number),
        4 => Action::Recover(number),
        5 => Action::Replay(number),
        _ => Action::Restart,
    }
}
