//! What must hold whatever happened.

use std::collections::BTreeMap;

use super::life;
use super::plan::{Mood, Planned};
use super::world::{EPOCH, World};
use crate::model::{Attempt, Delivery, DeliveryStatus};
use crate::store::offline::integrity;
use crate::store::{DeliveryQuery, EventQuery, Store};

/// Rows of one reading; more than any plan makes.
const ALL: usize = 100_000;

/// How soon an attempt begins that nothing hinders, in milliseconds.
const SOON: u64 = 1_000;

/// A world that has come to its end, and what the store then has.
struct Check<'a> {
    world: &'a World,
    subscriptions: Vec<String>,
    deliveries: Vec<(Delivery, Vec<Attempt>)>,
    faults: Vec<String>,
}

/// All that does not hold, in sentences, and how many deliveries there were.
pub(super) fn faults(world: &World) -> (Vec<String>, usize) {
    let database = world.database();
    let flaws = integrity(&format!("sqlite:{}", database.display())).unwrap();
    let store = life::open(&database);
    let (subscriptions, faults) = {
        let state = world.state();
        (state.subscriptions.clone(), state.faults.clone())
    };
    let mut check = Check { world, subscriptions, deliveries: read(&*store), faults };
    check.faults.extend(flaws.iter().map(|flaw| format!("{}: {}", flaw.flaw, flaw.at)));
    check.every_event_is_there_once(&*store);
    check.every_delivery_is_there_and_has_ended();
    check.what_was_sent_is_what_is_known();
    check.policies_were_kept();
    check.nothing_waited_without_need();
    check.order_was_kept();
    (check.faults, check.deliveries.len())
}

fn read(store: &dyn Store) -> Vec<(Delivery, Vec<Attempt>)> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let list = store.deliveries(DeliveryQuery { limit: ALL, ..Default::default() }).await.unwrap();
        let mut deliveries = Vec::with_capacity(list.len());
        for delivery in list {
            deliveries.push(store.delivery(&delivery.id).await.unwrap());
        }
        deliveries
    })
}

impl Check<'_> {
    fn planned(&self, delivery: &Delivery) -> (usize, &Planned) {
        let index = self.subscriptions.iter().position(|id| id == delivery.subscription.as_str()).unwrap();
        (index, &self.world.plan.subscriptions[index])
    }

    /// Whether a subscription was on all the time.
    fn was_on(&self, index: usize) -> bool {
        let is_wanted =
            !self.world.plan.subscriptions[index].moods.iter().any(|(_, mood)| matches!(mood, Mood::Gone));
        is_wanted && !self.world.state().were_off.contains(&self.subscriptions[index])
    }

    fn was_asked_again(&self, index: usize) -> bool {
        self.world.state().asked_again.contains(&self.subscriptions[index])
    }

    fn every_event_is_there_once(&mut self, store: &dyn Store) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let query = EventQuery { limit: ALL, ..Default::default() };
        let events = runtime.block_on(store.events(query)).unwrap();
        let least = usize::from(self.world.plan.keep_events.is_none());
        for number in &self.world.state().accepted {
            let count = events.iter().filter(|event| event.event.id == number.to_string()).count();
            if !(least..=1).contains(&count) {
                self.faults.push(format!("event {number} was accepted and is there {count} times"));
            }
        }
    }

    fn every_delivery_is_there_and_has_ended(&mut self) {
        let mut found: BTreeMap<(&str, &str), Vec<&Delivery>> = BTreeMap::new();
        for (delivery, _) in &self.deliveries {
            found.entry((&delivery.event.id, delivery.subscription.as_str())).or_default().push(delivery);
            if delivery.status == DeliveryStatus::Pending {
                self.faults.push(format!("{} is still pending", delivery.id));
            }
        }
        let accepted = self.world.state().accepted.clone();
        for (number, index) in
            accepted.iter().flat_map(|one| (0..self.subscriptions.len()).map(move |i| (one, i)))
        {
            let (name, subscription) = (number.to_string(), &self.subscriptions[index]);
            let of = found.get(&(name.as_str(), subscription.as_str())).map_or(&[][..], |found| found);
            // One that was sent and has ended may have been forgotten since.
            let was_sent = self.world.state().seen.attempts.contains_key(&(*number as u64, index));
            let may_be_gone = !self.was_on(index) || (self.world.plan.keep_events.is_some() && was_sent);
            if of.len() > 1 || (of.is_empty() && !may_be_gone) {
                self.faults.push(format!("event {number} has {} deliveries to {subscription}", of.len()));
            }
            let moods = &self.world.plan.subscriptions[index].moods;
            let may_be_cancelled = moods.iter().any(|(_, mood)| matches!(mood, Mood::Aborts));
            let is_cancelled = of.iter().any(|delivery| delivery.status == DeliveryStatus::Cancelled);
            if is_cancelled && self.was_on(index) && !may_be_cancelled {
                self.faults.push(format!("event {number} was not delivered to {subscription}, always on"));
            }
        }
    }

    fn what_was_sent_is_what_is_known(&mut self) {
        let state = self.world.state();
        for (delivery, _) in &self.deliveries {
            let id = delivery.id.as_str();
            let received = state.seen.received.get(id).copied().unwrap_or(0);
            if delivery.status == DeliveryStatus::Delivered && received == 0 {
                self.faults.push(format!("{id} is said to be delivered and was not"));
            }
            let is_certain = !state.in_doubt && !state.seen.in_doubt.contains(id);
            let asked_again = state.asked_again.contains(delivery.subscription.as_str());
            if received > 1 && is_certain && !asked_again && self.world.plan.jumps.is_empty() {
                self.faults.push(format!("{id} was sent {received} times though nothing was in doubt"));
            }
        }
        let known = |id: &String| self.deliveries.iter().any(|(delivery, _)| delivery.id.as_str() == id);
        if self.world.plan.keep_events.is_none() {
            let unknown = state.seen.received.keys().filter(|id| !known(id));
            self.faults.extend(unknown.map(|id| format!("{id} came from nowhere")));
        }
    }

    fn policies_were_kept(&mut self) {
        let mut faults = Vec::new();
        for (delivery, attempts) in &self.deliveries {
            let (index, planned) = self.planned(delivery);
            if self.was_asked_again(index) || !self.world.plan.jumps.is_empty() {
                continue;
            }
            let (count, most) = (attempts.len(), planned.delays.len());
            if count > most || (delivery.status == DeliveryStatus::Exhausted && count < most) {
                faults.push(format!("{} has {count} attempts of {most}", delivery.id));
            }
            if let Some(number) = first_early(planned, attempts) {
                faults.push(format!("attempt {number} of {} was early", delivery.id));
            }
        }
        self.faults.extend(faults);
    }

    /// Where the receiver is always well and the store too, the first attempt comes at once while there is a companion: nobody
    /// waits for the sweep, or for the lease of a life before.
    fn nothing_waited_without_need(&mut self) {
        let plan = &self.world.plan;
        let (lives, first_at) = {
            let state = self.world.state();
            (state.lives.clone(), state.seen.first_at.clone())
        };
        let mut faults = Vec::new();
        for (delivery, _) in &self.deliveries {
            let (index, planned) = self.planned(delivery);
            let is_hindered =
                !planned.moods.is_empty() || planned.rate.is_some() || !self.was_on(index) || plan.lost > 0;
            if is_hindered || !plan.jumps.is_empty() {
                continue;
            }
            let created = delivery.created_at.as_millisecond().abs_diff(1_000 * EPOCH);
            let began = first_at.get(delivery.id.as_str()).copied().unwrap_or(u64::MAX);
            let waited =
                lives.iter().map(|(from, until)| began.min(*until).saturating_sub(created.max(*from))).max();
            let unwell = created.saturating_sub(75_000)..began;
            let was_slow =
                plan.disk.iter().any(|(window, _)| window.start < unwell.end && unwell.start < window.end);
            if !was_slow && waited.is_some_and(|waited| waited > SOON) {
                faults.push(format!("{} of {created} ms waited until {began}", delivery.id));
            }
        }
        self.faults.extend(faults);
    }

    /// Where order matters, events of a resource arrive first in the order of their acceptance.
    fn order_was_kept(&mut self) {
        let sequences = self.world.state().seen.sequences.clone();
        for ((receiver, resource), sequences) in &sequences {
            if self.world.plan.subscriptions[*receiver].is_ordered
                && !self.was_asked_again(*receiver)
                && !sequences.is_sorted()
            {
                self.faults.push(format!("{resource} arrived at {receiver} in the order {sequences:?}"));
            }
        }
    }
}

/// The first attempt that came before its delay had passed, the jitter of a fifth taken off.
fn first_early(planned: &Planned, attempts: &[Attempt]) -> Option<u32> {
    let early = attempts.windows(2).zip(&planned.delays[1..]).find(|(pair, delay)| {
        let ended = pair[0].started_at.as_millisecond() + pair[0].duration_ms;
        pair[1].started_at.as_millisecond() - ended < (**delay * 800) as i64 - 1
    });
    early.map(|(pair, _)| pair[1].number)
}
