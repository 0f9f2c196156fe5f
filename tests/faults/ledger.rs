//! Compares what was accepted with what arrived: pure.
//!
//! A delivery that arrives twice bears the same `webhook-id` twice. That is allowed where nobody could know how the first
//! attempt had ended, because something broke between the two; anywhere else it is a fault, and so is an event that
//! arrives as two deliveries, or out of the order that was asked for.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use crate::load::Accepted;
use crate::moment::Moment;
use crate::receiver::Arrival;

/// The hook whose subscription asks for the order of each resource.
pub(crate) const ORDERED: &str = "/ordered";

/// A time in which something was broken: until its end, what was answered may not be known to who asked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Break {
    pub(crate) from: Moment,
    pub(crate) until: Moment,
    /// Until then something may arrive that was sent before the end: a receiver reads it when it comes to it.
    pub(crate) echoes_until: Moment,
}

impl Break {
    /// One that began then and is over.
    pub(crate) fn over_since(from: Moment) -> Self {
        let now = Moment::now();
        Self { from, until: now, echoes_until: now }
    }

    /// The same, with such an echo.
    pub(crate) fn echoing(self, by: Duration) -> Self {
        Self { echoes_until: Moment(self.until.0 + u64::try_from(by.as_nanos()).unwrap_or_default()), ..self }
    }
}

/// What became of what was accepted.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) delivered: usize,
    /// Accepted, and at one subscription at least it never arrived.
    pub(crate) lost: BTreeSet<usize>,
    /// Arrivals beyond the first of a delivery.
    pub(crate) twice: usize,
    /// Of these, such that nothing had broken since the arrival before.
    pub(crate) unexplained: usize,
    /// How long before a break a delivery had arrived that came again after it, at most.
    pub(crate) oldest_doubt: Duration,
    /// How long after the last break something came that was owed when it began, at most.
    pub(crate) latest: Duration,
    /// Events that one subscription got as two deliveries.
    pub(crate) doubled: usize,
    /// Events that arrived after a later one of their resource where order was asked for.
    pub(crate) overtaken: usize,
}

/// Counts for these hooks, all of which want every event.
pub(crate) fn tally(accepted: &Accepted, arrivals: &[Arrival], hooks: &[&str], breaks: &[Break]) -> Tally {
    let mut tally = Tally::default();
    for hook in hooks {
        let own: Vec<&Arrival> = arrivals.iter().filter(|arrival| arrival.hook == *hook).collect();
        let mut deliveries: HashMap<&str, Vec<Moment>> = HashMap::new();
        let mut first: BTreeMap<usize, (&str, Moment)> = BTreeMap::new();
        let mut newest: HashMap<&str, usize> = HashMap::new();
        for arrival in own {
            deliveries.entry(&arrival.id).or_default().push(arrival.at);
            let (id, _) = *first.entry(arrival.number).or_insert((&arrival.id, arrival.at));
            tally.doubled += usize::from(id != arrival.id);
            let is_first = deliveries[arrival.id.as_str()].len() == 1;
            let newest = newest.entry(&arrival.subject).or_default();
            tally.overtaken += usize::from(*hook == ORDERED && is_first && arrival.number < *newest);
            *newest = arrival.number.max(*newest);
        }
        tally.lost.extend(accepted.keys().filter(|number| !first.contains_key(number)));
        for (number, accepted_at) in accepted {
            if let Some((_, at)) = first.get(number) {
                tally.owed(*accepted_at, *at, breaks);
            }
        }
        for times in deliveries.values() {
            for pair in times.windows(2) {
                tally.repeated(pair[0], pair[1], breaks);
            }
        }
    }
    tally.delivered = accepted.len() - tally.lost.len();
    tally
}

impl Tally {
    /// Takes in when something accepted arrived first.
    fn owed(&mut self, accepted_at: Moment, at: Moment, breaks: &[Break]) {
        if let Some(last) = last_before(at, breaks)
            && accepted_at < last.from
        {
            self.latest = self.latest.max(at.since(last.until));
        }
    }

    /// Takes in that a delivery arrived once more.
    fn repeated(&mut self, before: Moment, again: Moment, breaks: &[Break]) {
        self.twice += 1;
        let between = breaks.iter().filter(|it| before <= it.echoes_until && it.from <= again);
        match between.map(|it| it.from.since(before)).min() {
            None => self.unexplained += 1,
            Some(doubt) => self.oldest_doubt = self.oldest_doubt.max(doubt),
        }
        if let Some(last) = last_before(again, breaks) {
            self.latest = self.latest.max(again.since(last.until));
        }
    }
}

/// The last break that was over at a time.
fn last_before(at: Moment, breaks: &[Break]) -> Option<Break> {
    let over = breaks.partition_point(|it| it.until <= at);
    breaks.get(over.checked_sub(1)?).copied()
}
