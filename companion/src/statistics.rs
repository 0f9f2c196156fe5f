//! Counts attempts for charts: per subscription and event type, by the minute and by the hour.
//!
//! Pure. A [`Collector`] takes in each attempt that was recorded, at the cost of two look-ups; what it has gathered is added to
//! what the store has every few seconds, by the [`crate::bookkeeper`], so that several processes add up. Charts are no truth:
//! what a process had not written yet when it was killed is missing from them, and from nothing else.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::limits;
use crate::model::{Attempt, Outcome, SubscriptionId};
use crate::retry::Verdict;

/// Seconds of the finer and of the coarser resolution.
pub const MINUTE_S: i64 = 60;
/// See [`MINUTE_S`].
pub const HOUR_S: i64 = 3_600;

/// Buckets that durations are counted in.
pub const BUCKETS: usize = 20;

/// Where each bucket ends and the next begins, in milliseconds: about 1.7 times as far each time. The last one ends where an
/// attempt does.
const ENDS_MS: [i64; BUCKETS] =
    [1, 2, 3, 5, 8, 13, 20, 35, 60, 100, 170, 300, 500, 850, 1_500, 2_500, 4_300, 7_500, 13_000, 15_000];

/// Numbers that make up [`Counts`].
pub const NUMBERS: usize = 4 + BUCKETS;

/// What is counted of some attempts; two counts add up to that of both.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// All of them.
    pub attempts: i64,
    /// Those that were answered 2xx.
    pub delivered: i64,
    /// All others.
    pub failed: i64,
    /// Those that were the last of their delivery, and failed.
    pub exhausted: i64,
    /// How long they took, but for those of which nothing was sent: how many by bucket.
    pub durations: [i64; BUCKETS],
}

/// Durations that half, 95 and 99 of 100 attempts did not exceed, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Percentiles {
    /// Of half of them.
    pub p50: i64,
    /// Of 95 of 100.
    pub p95: i64,
    /// Of 99 of 100.
    pub p99: i64,
}

impl Counts {
    /// Takes in an attempt.
    fn count(&mut self, attempt: &Attempt, verdict: &Verdict) {
        let is_delivered = matches!(attempt.outcome, Outcome::Answered { status: 200..=299, .. });
        self.attempts += 1;
        self.delivered += i64::from(is_delivered);
        self.failed += i64::from(!is_delivered);
        self.exhausted += i64::from(*verdict == Verdict::Exhausted);
        if !matches!(attempt.outcome, Outcome::Blocked(_)) {
            let bucket = ENDS_MS.partition_point(|end| *end <= attempt.duration_ms).min(BUCKETS - 1);
            self.durations.iter_mut().skip(bucket).take(1).for_each(|count| *count += 1);
        }
    }

    /// Adds those of other attempts.
    pub fn add(&mut self, other: &Self) {
        let pairs = self.numbers().into_iter().zip(other.numbers());
        *self = Self::of(pairs.map(|(one, other)| one.saturating_add(other)));
    }

    /// All numbers, in the order of the fields.
    pub fn numbers(&self) -> [i64; NUMBERS] {
        let mut numbers = [0; NUMBERS];
        let all = [self.attempts, self.delivered, self.failed, self.exhausted];
        numbers.iter_mut().zip(all.into_iter().chain(self.durations)).for_each(|(to, from)| *to = from);
        numbers
    }

    /// The reverse of [`Counts::numbers`]; what is missing is 0.
    pub fn of(numbers: impl IntoIterator<Item = i64>) -> Self {
        let mut numbers = numbers.into_iter();
        let mut next = || numbers.next().unwrap_or(0);
        Self {
            attempts: next(),
            delivered: next(),
            failed: next(),
            exhausted: next(),
            durations: std::array::from_fn(|_| next()),
        }
    }

    /// Estimates of how long attempts took; none where nothing was sent. An estimate lies in the same bucket as the true
    /// value: exact below 3 ms, and off by a factor of less than 1.8 above.
    pub fn percentiles(&self) -> Option<Percentiles> {
        let [p50, p95, p99] = [50, 95, 99].map(|percent| self.percentile(percent));
        Some(Percentiles { p50: p50?, p95: p95?, p99: p99? })
    }

    /// The attempts of a bucket are taken to lie evenly between its ends.
    fn percentile(&self, percent: i64) -> Option<i64> {
        let all: i64 = self.durations.iter().sum();
        // The place of the attempt that is looked for, from 1.
        let mut place = all.saturating_mul(percent).saturating_add(99) / 100;
        let mut begin = 0;
        for (count, end) in self.durations.iter().zip(ENDS_MS) {
            if place <= *count && place > 0 {
                let width = (end - 1 - begin) as f64;
                return Some(begin + (width * (place as f64 - 0.5) / *count as f64).round() as i64);
            }
            place -= count;
            begin = end;
        }
        None
    }
}

/// What counts stand for in the store.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    /// How long the time is that they cover: [`MINUTE_S`] or [`HOUR_S`].
    pub resolution_s: i64,
    /// When that begins.
    pub at: Timestamp,
    /// Whose they are; empty for those of all subscriptions together.
    pub subscription: String,
    /// The event type.
    pub event_type: String,
    /// [`owner`] of the tenant that the subscription had; 0 for all together.
    pub owner: i64,
}

/// Counts with what they stand for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// What they stand for.
    pub key: Key,
    /// The counts.
    pub counts: Counts,
}

/// A tenant as a number, which tells apart the times of a subscription that goes from one to another and names neither.
pub fn owner(tenant: Option<&str>) -> i64 {
    let Some(tenant) = tenant else { return 0 };
    let digest = Sha256::digest(tenant.as_bytes());
    digest.iter().take(8).fold(0, |number, byte| (number << 8) | i64::from(*byte))
}

/// The beginning of the step that a time lies in; steps are counted from the epoch.
pub fn beginning(time: Timestamp, step_s: i64) -> Timestamp {
    let second = time.as_second();
    Timestamp::from_second(second - second.rem_euclid(step_s.max(1))).unwrap_or(Timestamp::MIN)
}

/// By what an attempt is counted.
#[derive(Clone, Copy, Debug)]
pub struct Of<'a> {
    /// Its subscription.
    pub subscription: &'a SubscriptionId,
    /// [`owner`] of the subscription's tenant.
    pub owner: i64,
    /// The event's type.
    pub event_type: &'a str,
}

/// Counts what happens in this minute, and keeps what was not taken out yet of minutes before.
#[derive(Debug, Default)]
pub struct Collector {
    minute: Timestamp,
    series: HashMap<SubscriptionId, Series>,
    closed: Vec<Minute>,
    /// Event types over all series, closed ones too.
    pairs: usize,
    waiting: Vec<Row>,
    left_out: i64,
}

/// The counts of one subscription in a minute.
#[derive(Debug, Default)]
struct Series {
    owner: i64,
    types: HashMap<String, Counts>,
}

/// What was counted in a minute.
#[derive(Debug)]
struct Minute {
    at: Timestamp,
    series: HashMap<SubscriptionId, Series>,
}

impl Collector {
    /// Takes in an attempt that was recorded at `now`. Allocates nothing where the same was counted since anything was taken
    /// out.
    pub fn count(&mut self, of: Of<'_>, attempt: &Attempt, verdict: &Verdict, now: Timestamp) {
        // Most attempts are of the same minute as the one before: no division then.
        let since = now.as_second() - self.minute.as_second();
        if !(0..MINUTE_S).contains(&since) {
            self.close();
            self.minute = beginning(now, MINUTE_S);
        }
        if let Some(series) = self.series.get_mut(of.subscription) {
            if series.owner != of.owner {
                self.close();
            } else if let Some(counts) = series.types.get_mut(of.event_type) {
                return counts.count(attempt, verdict);
            }
        }
        self.begin(of, attempt, verdict);
    }

    /// Counts the first attempt of its kind, where there is room for it.
    fn begin(&mut self, of: Of<'_>, attempt: &Attempt, verdict: &Verdict) {
        if self.pairs >= limits::STATISTICS_PAIRS {
            self.left_out += 1;
            return;
        }
        self.pairs += 1;
        let series = self.series.entry(of.subscription.clone()).or_default();
        series.owner = of.owner;
        series.types.entry(of.event_type.to_owned()).or_default().count(attempt, verdict);
    }

    fn close(&mut self) {
        if !self.series.is_empty() {
            let next = HashMap::with_capacity(self.series.len());
            self.closed.push(Minute { at: self.minute, series: std::mem::replace(&mut self.series, next) });
        }
    }

    /// How many pairs of subscription and event type there are to take out, minute by minute.
    pub fn pairs(&self) -> usize {
        self.pairs
    }

    /// Takes out all that was counted. What is left to do with it can be done while others count.
    pub fn take(&mut self) -> Taken {
        self.close();
        self.pairs = 0;
        Taken { minutes: std::mem::take(&mut self.closed), rows: std::mem::take(&mut self.waiting) }
    }

    /// Takes rows back that could not be written, where there is room for them.
    pub fn give_back(&mut self, mut rows: Vec<Row>) {
        let room = limits::STATISTICS_WAITING.saturating_sub(self.waiting.len());
        for Row { key, counts } in rows.drain(rows.len().min(room)..) {
            // Each attempt is in four rows; that of its subscription's hour, which is among the last, tells of it.
            let is_told = key.resolution_s == HOUR_S && !key.subscription.is_empty();
            self.left_out += if is_told { counts.attempts } else { 0 };
        }
        self.waiting.append(&mut rows);
    }

    /// How many attempts found no room since this was last asked.
    pub fn left_out(&mut self) -> i64 {
        std::mem::take(&mut self.left_out)
    }
}

/// What was taken out of a [`Collector`].
#[derive(Debug)]
pub struct Taken {
    minutes: Vec<Minute>,
    rows: Vec<Row>,
}

impl Taken {
    /// Rows of minutes and of hours, each key once, in an order that is the same for every process.
    pub fn rows(self) -> Vec<Row> {
        let mut rows = self.rows;
        let mut push = |at, subscription: &str, event_type: &str, owner, counts: &Counts| {
            for resolution_s in [MINUTE_S, HOUR_S] {
                let (subscription, event_type) = (subscription.to_owned(), event_type.to_owned());
                let at = beginning(at, resolution_s);
                let key = Key { resolution_s, at, subscription, event_type, owner };
                rows.push(Row { key, counts: counts.clone() });
            }
        };
        for Minute { at, series } in self.minutes {
            let mut totals = HashMap::<&str, Counts>::new();
            for (subscription, Series { owner, types }) in &series {
                for (event_type, counts) in types {
                    push(at, subscription.as_str(), event_type, *owner, counts);
                    totals.entry(event_type).or_default().add(counts);
                }
            }
            totals.iter().for_each(|(event_type, counts)| push(at, "", event_type, 0, counts));
        }
        rows.sort_unstable_by(|one, other| one.key.cmp(&other.key));
        rows.dedup_by(|next, kept| {
            let is_same = next.key == kept.key;
            if is_same {
                kept.counts.add(&next.counts);
            }
            is_same
        });
        rows
    }
}

/// The collector of a process.
#[derive(Debug, Default)]
pub struct Statistics(Mutex<Collector>);

impl Statistics {
    /// The collector, for one caller at a time and never for long.
    pub fn collector(&self) -> MutexGuard<'_, Collector> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_699_999_200 + second).unwrap()
    }

    fn attempt(outcome: Outcome, duration_ms: i64) -> Attempt {
        Attempt { number: 1, started_at: at(0), duration_ms, outcome, answer: Default::default() }
    }

    fn answered(status: u16) -> Outcome {
        Outcome::Answered { status, retry_after_s: None, instruction: None }
    }

    fn sub(name: &str) -> SubscriptionId {
        SubscriptionId(name.into())
    }

    /// Counts attempts that were delivered, each of a subscription, an owner and an event type, at a second.
    fn collected(attempts: &[(&str, i64, &str, i64)]) -> Collector {
        let mut collector = Collector::default();
        for (name, owner, event_type, second) in attempts {
            let of = Of { subscription: &sub(name), owner: *owner, event_type };
            collector.count(of, &attempt(answered(200), 3), &Verdict::Delivered, at(*second));
        }
        collector
    }

    type Shown<'a> = (char, i64, &'a str, &'a str, i64, i64);

    /// Minute or hour, second, subscription, type, owner and attempts of each row.
    fn shown(rows: &[Row]) -> Vec<Shown<'_>> {
        fn show(Row { key, counts }: &Row) -> Shown<'_> {
            let resolution = if key.resolution_s == MINUTE_S { 'm' } else { 'h' };
            let second = key.at.as_second() - at(0).as_second();
            (resolution, second, &key.subscription, &key.event_type, key.owner, counts.attempts)
        }
        rows.iter().map(show).collect()
    }

    #[test]
    fn each_minute_and_hour_has_its_own_counts_and_those_of_all() {
        let mut collector = collected(&[
            ("a", 7, "x", 0),
            ("a", 7, "x", 59),
            ("b", 0, "x", 59),
            ("a", 7, "y", 60),
            ("a", 7, "x", 3_600),
        ]);
        let rows = collector.take().rows();
        let minutes = [
            ('m', 0, "", "x", 0, 3),
            ('m', 0, "a", "x", 7, 2),
            ('m', 0, "b", "x", 0, 1),
            ('m', 60, "", "y", 0, 1),
            ('m', 60, "a", "y", 7, 1),
            ('m', 3_600, "", "x", 0, 1),
            ('m', 3_600, "a", "x", 7, 1),
        ];
        let hours = [
            ('h', 0, "", "x", 0, 3),
            ('h', 0, "", "y", 0, 1),
            ('h', 0, "a", "x", 7, 2),
            ('h', 0, "a", "y", 7, 1),
            ('h', 0, "b", "x", 0, 1),
            ('h', 3_600, "", "x", 0, 1),
            ('h', 3_600, "a", "x", 7, 1),
        ];
        assert_eq!(shown(&rows), [&minutes[..], &hours].concat());
        assert!(collector.take().rows().is_empty(), "it is taken once");
    }

    #[test]
    fn a_subscription_that_goes_to_another_tenant_begins_anew() {
        let rows = collected(&[("a", 1, "x", 0), ("a", 2, "x", 1), ("a", 2, "x", 2)]).take().rows();
        let minutes = [('m', 0, "", "x", 0, 3), ('m', 0, "a", "x", 1, 1), ('m', 0, "a", "x", 2, 2)];
        assert_eq!(shown(&rows)[..3], minutes);
        assert!(owner(Some("blue")) != owner(Some("red")) && owner(None) == 0);
    }

    #[test]
    fn what_could_not_be_written_is_taken_again_with_what_came_since() {
        let mut collector = collected(&[("a", 0, "x", 0)]);
        let rows = collector.take().rows();
        let of = Of { subscription: &sub("a"), owner: 0, event_type: "x" };
        collector.count(of, &attempt(answered(200), 3), &Verdict::Delivered, at(1));
        collector.give_back(rows);
        assert_eq!(shown(&collector.take().rows())[1], ('m', 0, "a", "x", 0, 2));
    }

    #[test]
    fn what_it_holds_is_bounded_and_what_finds_no_room_is_told() {
        let mut collector = Collector::default();
        let count = |collector: &mut Collector, number: usize, second| {
            let of = Of { subscription: &sub(&number.to_string()), owner: 0, event_type: "x" };
            collector.count(of, &attempt(answered(200), 3), &Verdict::Delivered, at(second));
        };
        (0..limits::STATISTICS_PAIRS + 5).for_each(|number| count(&mut collector, number, 0));
        count(&mut collector, 3, 0);
        assert_eq!((collector.left_out(), collector.left_out()), (5, 0));
        count(&mut collector, 3, 60);
        assert_eq!(collector.left_out(), 1, "what waits to be taken out counts too");
        let rows = collector.take().rows();
        assert_eq!(rows.len(), 2 * limits::STATISTICS_PAIRS + 2);
        let without_room = rows.len() - limits::STATISTICS_WAITING;
        collector.give_back(rows);
        assert_eq!(collector.waiting.len(), limits::STATISTICS_WAITING);
        assert_eq!(collector.left_out(), without_room as i64 + 1, "one of them was counted twice");
        assert_eq!(collector.take().rows().len(), limits::STATISTICS_WAITING);
        count(&mut collector, 3, 60);
        assert_eq!((collector.left_out(), collector.pairs), (0, 1));
    }

    #[test]
    fn each_outcome_is_counted_as_what_it_is() {
        let mut counts = Counts::default();
        for (outcome, verdict) in [
            (answered(204), Verdict::Delivered),
            (answered(500), Verdict::Retry(at(0))),
            (answered(410), Verdict::Off("gone")),
            (Outcome::TimedOut, Verdict::Exhausted),
            (Outcome::Blocked("private".into()), Verdict::Exhausted),
        ] {
            counts.count(&attempt(outcome, 4), &verdict);
        }
        let sent: i64 = counts.durations.iter().sum();
        let Counts { attempts, delivered, failed, exhausted, .. } = counts;
        assert_eq!((attempts, delivered, failed, exhausted, sent), (5, 1, 4, 2, 4));
    }

    fn taken(durations: &[i64]) -> Counts {
        let mut counts = Counts::default();
        durations.iter().for_each(|ms| counts.count(&attempt(answered(200), *ms), &Verdict::Delivered));
        counts
    }

    #[test]
    fn percentiles_of_short_attempts_are_exact_and_there_are_none_of_nothing() {
        assert_eq!(Counts::default().percentiles(), None);
        for ms in [0, 1, 2] {
            assert_eq!(taken(&[ms; 7]).percentiles(), Some(Percentiles { p50: ms, p95: ms, p99: ms }));
        }
        let mixed = [vec![0; 50], vec![1; 45], vec![2; 5]].concat();
        assert_eq!(taken(&mixed).percentiles(), Some(Percentiles { p50: 0, p95: 1, p99: 2 }));
        assert!(taken(&[15_020]).percentiles().is_some_and(|found| (13_000..15_000).contains(&found.p99)));
    }

    proptest! {
        #[test]
        fn an_estimate_is_off_by_less_than_the_docs_say(
            mut durations in proptest::collection::vec(0..15_000_i64, 1..200),
            percent in 1..=100_i64,
        ) {
            let estimate = taken(&durations).percentile(percent).unwrap();
            durations.sort_unstable();
            let place = (durations.len() as i64 * percent + 99) / 100;
            let exact = durations[place as usize - 1];
            let (less, more) = (estimate.min(exact), estimate.max(exact));
            prop_assert!(more == less || (more as f64) < less as f64 * 1.8, "{} for {}", estimate, exact);
        }

        #[test]
        fn counts_of_two_add_up_to_those_of_both(
            one in proptest::collection::vec(0..15_000_i64, 0..50),
            other in proptest::collection::vec(0..15_000_i64, 0..50),
        ) {
            let mut sum = taken(&one);
            sum.add(&taken(&other));
            prop_assert_eq!(&sum, &taken(&[one, other].concat()));
            prop_assert_eq!(Counts::of(sum.numbers()), sum);
        }
    }
}
