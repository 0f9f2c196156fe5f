//! The network with the receivers behind it: slow, dead, busy or lying ones; and what must never reach them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use jiff::Timestamp;

use super::plan::{CALM, Crash, Mood};
use super::world::World;
use crate::limits;
use crate::model::{Instruction, Outcome};
use crate::sender::{Parcel, Transport};

/// What the receivers have seen.
#[derive(Default)]
pub(super) struct Seen {
    /// By number of the event and of the receiver: attempts.
    pub(super) attempts: BTreeMap<(u64, usize), usize>,
    /// By `webhook-id`: when its first attempt began.
    pub(super) first_at: BTreeMap<String, u64>,
    /// By `webhook-id`: how often the receiver has it.
    pub(super) received: BTreeMap<String, usize>,
    /// By receiver and resource: sequence numbers in the order of first arrival.
    pub(super) sequences: BTreeMap<(usize, String), Vec<i64>>,
    /// Deliveries whose receiver did not say whether it took them.
    pub(super) in_doubt: BTreeSet<String>,
    /// Receiver and resource of what is under way.
    under_way: BTreeMap<String, (usize, String)>,
    /// When attempts of this life began, by receiver.
    began: BTreeMap<usize, Vec<u64>>,
    /// When a receiver asked for patience with a delivery, and until when.
    patience: BTreeMap<String, (u64, u64)>,
}

impl Seen {
    /// A new life knows what is on the disk: of what came in the last second before a kill nobody can tell, after a power
    /// failure of nothing.
    pub(super) fn end(&mut self, now_ms: u64, crash: Option<&Crash>) {
        self.under_way.clear();
        self.began.clear();
        let is_recorded = |asked_ms: u64| crash.is_none_or(|crash| !crash.power && asked_ms + 1_000 < now_ms);
        self.patience.retain(|_, (asked_ms, _)| is_recorded(*asked_ms));
    }
}

/// What is sent.
struct Sent {
    id: String,
    receiver: usize,
    number: u64,
    subject: String,
    sequence: Option<i64>,
}

/// Where deliveries go.
pub(super) struct Receivers(pub(super) Arc<World>);

#[async_trait]
impl Transport for Receivers {
    async fn send(&self, parcel: Parcel, _: Timestamp) -> (Outcome, Bytes) {
        let (world, sent) = (&self.0, Sent::of(&parcel));
        let mood = world.mood(sent.receiver);
        world.note(|| format!("{} to {}, {mood:?}", sent.id, sent.receiver));
        world.begins(&sent);
        let outcome = attempt(world, &sent, mood).await;
        world.note(|| format!("{}: {} {:?}", sent.id, outcome.word(), outcome.status()));
        let now_ms = world.now_ms();
        let seen = &mut world.state().seen;
        seen.under_way.remove(&sent.id);
        match &outcome {
            Outcome::Answered { retry_after_s: Some(seconds), .. } => {
                seen.patience.insert(sent.id, (now_ms, now_ms + 1_000 * seconds));
            }
            Outcome::Answered { .. } => {}
            _ => drop(seen.in_doubt.insert(sent.id)),
        }
        (outcome, Bytes::new())
    }
}

impl Sent {
    fn of(parcel: &Parcel) -> Self {
        let data: serde_json::Value = serde_json::from_slice(&parcel.body.bytes).unwrap();
        let sequence = parcel.headers.iter().find(|(name, _)| name == "webhook-sequence");
        Self {
            id: parcel.id.clone(),
            receiver: parcel.target.path().trim_start_matches('/').parse().unwrap(),
            number: data["number"].as_u64().unwrap(),
            subject: data["subject"].as_str().unwrap().to_owned(),
            sequence: sequence.map(|(_, value)| value.to_str().unwrap().parse().unwrap()),
        }
    }
}

impl World {
    fn mood(&self, receiver: usize) -> Mood {
        let now_ms = self.now_ms();
        let mut moods = self.plan.subscriptions[receiver].moods.iter();
        let mood = moods.find(|(until, _)| now_ms < *until).filter(|_| now_ms < CALM);
        mood.map_or(Mood::Well(3), |(_, mood)| mood.clone())
    }

    /// Takes note of an attempt that begins, and of all that forbids it.
    fn begins(&self, sent: &Sent) {
        let now_ms = self.now_ms();
        let planned = &self.plan.subscriptions[sent.receiver];
        let mut faults = Vec::new();
        let mut state = self.state();
        let asked_again = state.asked_again.contains(&state.subscriptions[sent.receiver]);
        let seen = &mut state.seen;
        *seen.attempts.entry((sent.number, sent.receiver)).or_default() += 1;
        seen.first_at.entry(sent.id.clone()).or_insert(now_ms);
        let resource = (sent.receiver, sent.subject.clone());
        if seen.under_way.contains_key(&sent.id) {
            faults.push(format!("{} has two attempts at once", sent.id));
        } else if planned.is_ordered && seen.under_way.values().any(|other| *other == resource) {
            faults.push(format!("{} is sent beside another one of its resource", sent.id));
        }
        seen.under_way.insert(sent.id.clone(), resource);
        if seen.under_way.values().filter(|(receiver, _)| *receiver == sent.receiver).count()
            > planned.max_in_flight
        {
            faults.push(format!("{} is sent although its subscription has enough under way", sent.id));
        }
        let began = seen.began.entry(sent.receiver).or_default();
        began.push(now_ms);
        let recent = began.iter().rev().take_while(|began| now_ms - **began < 10_000).count();
        if planned.rate.is_some_and(|rate| recent as u64 > 11 * rate + 1) {
            faults.push(format!("{} is sent beyond the rate of its subscription", sent.id));
        }
        let is_early = seen.patience.remove(&sent.id).is_some_and(|(_, then)| now_ms + 1 < then);
        if is_early && !asked_again && self.plan.disk.is_empty() {
            faults.push(format!("{} is sent before its receiver wants it again", sent.id));
        }
        drop(state);
        // A clock that is set moves leases, and times that are due.
        if self.plan.jumps.is_empty() {
            faults.into_iter().for_each(|fault| self.fault(fault));
        }
    }

    /// Takes a delivery in, as a receiver does.
    fn take(&self, sent: &Sent) {
        let seen = &mut self.state().seen;
        let count = seen.received.entry(sent.id.clone()).or_default();
        *count += 1;
        if let (1, Some(sequence)) = (*count, sent.sequence) {
            seen.sequences.entry((sent.receiver, sent.subject.clone())).or_default().push(sequence);
        }
    }
}

async fn attempt(world: &World, sent: &Sent, mood: Mood) -> Outcome {
    let answered = |status| Outcome::Answered { status, retry_after_s: None, instruction: None };
    let drawn = world.state().dice.below(100);
    let pause = match &mood {
        Mood::Well(latency) => Duration::from_millis(*latency),
        Mood::Hangs => limits::ATTEMPT,
        _ => Duration::from_millis(1 + drawn),
    };
    tokio::time::sleep(pause.min(limits::ATTEMPT)).await;
    match mood {
        Mood::Well(_) if pause < limits::ATTEMPT => {
            world.take(sent);
            answered(200)
        }
        Mood::Fails(chance, _) if drawn >= chance => {
            world.take(sent);
            answered(200)
        }
        Mood::Fails(_, status) => {
            world.count("attempts failed");
            answered(status)
        }
        Mood::Well(_) | Mood::Hangs => {
            world.count("attempts timed out");
            if drawn < 50 {
                world.take(sent);
            }
            Outcome::TimedOut
        }
        Mood::Lies(chance) => {
            world.take(sent);
            if drawn >= chance {
                return answered(204);
            }
            world.count("answers cut off");
            Outcome::Unreachable("cut".into())
        }
        Mood::Busy(seconds) => {
            world.count("told to wait");
            Outcome::Answered { status: 429, retry_after_s: Some(seconds), instruction: None }
        }
        Mood::Dead => {
            world.count("connections refused");
            Outcome::Unreachable("refused".into())
        }
        Mood::Aborts => {
            world.count("told to stop");
            let instruction = (drawn < 50).then_some(Instruction::AbortMessage);
            Outcome::Answered { status: 400, retry_after_s: None, instruction }
        }
        Mood::Gone => {
            world.count("told to stop");
            answered(410)
        }
    }
}
