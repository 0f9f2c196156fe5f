//! Whose turn is it? One lane per subscription with something to do, served round robin.
//!
//! Pure: the worker reports what happened and asks what to claim next. Each lane has its own width, the attempts it may
//! have under way: it opens while the receiver answers and closes to a single probing attempt when it fails. After a
//! few failures in a row its breaker opens: nothing is claimed until a pause has passed, then one attempt probes. So a dead
//! receiver holds one attempt at times, not the worker. The pauses are short beside a retry policy's, and kept in memory alone.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::limits;
use crate::model::SubscriptionId;
use crate::rate::{Bucket, Rate};
use crate::retry::later;

/// Width of a lane of which nothing is known yet.
const FIRST_WIDTH: usize = 4;
/// Failures in a row that open a breaker.
const FAILURES: u32 = 5;
/// The first pause of a breaker; each further failure doubles it.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// Its longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// The lanes of one worker.
#[derive(Debug, Default)]
pub(crate) struct Lanes {
    lanes: HashMap<SubscriptionId, Lane>,
    /// Of subscriptions with a rate, also while their lane has nothing to do.
    buckets: HashMap<SubscriptionId, (Rate, Bucket)>,
    ready: VecDeque<SubscriptionId>,
    timers: BTreeSet<(Timestamp, SubscriptionId)>,
    ticked_at: Option<Timestamp>,
    in_flight: usize,
    bytes: usize,
    claims: usize,
    open_breakers: usize,
}

#[derive(Debug)]
struct Lane {
    in_flight: usize,
    /// Attempts that have ended and are not recorded: what follows of them is not known yet.
    unrecorded: usize,
    width: usize,
    claiming: bool,
    due: bool,
    /// Deliveries that the worker holds for it, claimed ahead.
    held: usize,
    /// Whether the last turn was theirs.
    held_last: bool,
    queued: bool,
    wake_at: Option<Timestamp>,
    /// Tokens taken for the claim under way.
    reserved: usize,
    /// Failures since the receiver last answered as it should; those of attempts under way together count as one.
    failures: u32,
    /// Attempts that were under way at the last failure that counted: should they fail too, they tell of the same.
    echoes: usize,
    /// Nothing is claimed before then.
    paused_until: Option<Timestamp>,
}

/// A lane's turn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Turn {
    pub(crate) id: SubscriptionId,
    /// Deliveries at most.
    pub(crate) limit: usize,
    pub(crate) source: Source,
}

/// Where a turn's deliveries come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// They are to be claimed.
    Store,
    /// The worker holds them.
    Held,
}

/// What a subscription says of its lane.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Terms {
    /// Attempts under way at most.
    pub(crate) max_in_flight: usize,
    /// Attempts in a time at most.
    pub(crate) rate: Option<Rate>,
}

/// What an attempt says of its receiver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// It took the delivery.
    Taken,
    /// It is there, and did not take this one.
    Refused,
    /// It failed, or was not there.
    Failed,
}

impl Default for Terms {
    fn default() -> Self {
        Self { max_in_flight: limits::IN_FLIGHT, rate: None }
    }
}

impl Lanes {
    /// The subscription may have something due now.
    pub(crate) fn wake(&mut self, id: &SubscriptionId) {
        self.lane(id).due = true;
        self.enqueue(id);
    }

    /// The worker holds `count` more deliveries for the subscription.
    pub(crate) fn hold(&mut self, id: &SubscriptionId, count: usize) {
        self.lane(id).held += count;
        self.enqueue(id);
    }

    /// The worker holds none for the subscription any more.
    pub(crate) fn hold_none(&mut self, id: &SubscriptionId) {
        self.lane(id).held = 0;
        self.settle(id);
    }

    /// Whether nothing is due of what the store has, and the receiver answers.
    pub(crate) fn is_well(&self, id: &SubscriptionId) -> bool {
        self.lanes.get(id).is_none_or(|lane| !lane.due && lane.failures == 0 && lane.paused_until.is_none())
    }

    /// Whether its receiver has failed and has not answered since.
    pub(crate) fn is_failing(&self, id: &SubscriptionId) -> bool {
        self.lanes.get(id).is_some_and(|lane| lane.failures > 0 || lane.paused_until.is_some())
    }

    /// The subscription will have something due then.
    pub(crate) fn wake_at(&mut self, id: &SubscriptionId, at: Timestamp) {
        let lane = self.lane(id);
        if lane.wake_at.is_some_and(|earlier| earlier <= at) {
            return;
        }
        if let Some(later) = lane.wake_at.replace(at) {
            self.timers.remove(&(later, id.clone()));
        }
        self.timers.insert((at, id.clone()));
    }

    /// Wakes what is due at `now`; returns when to call again.
    pub(crate) fn tick(&mut self, now: Timestamp) -> Option<Timestamp> {
        if let Some(before) = self.ticked_at.replace(now).filter(|before| *before > now) {
            self.bring_back(before.duration_since(now));
        }
        while let Some((at, id)) = self.timers.first().cloned() {
            if at > now {
                return Some(at);
            }
            self.timers.pop_first();
            self.lane(&id).wake_at = None;
            self.wake(&id);
        }
        None
    }

    /// Brings pauses back with a clock that was set back; what is due, the store brings back.
    fn bring_back(&mut self, by: SignedDuration) {
        let mut paused = Vec::new();
        for (id, lane) in &mut self.lanes {
            lane.paused_until =
                lane.paused_until.map(|until| until.checked_sub(by).unwrap_or(Timestamp::MIN));
            paused.extend(lane.paused_until.map(|until| (id.clone(), until)));
        }
        paused.iter().for_each(|(id, until)| self.wake_at(id, *until));
    }

    /// The next lane to serve at `now`, with how many deliveries; [`Lanes::claimed`] must follow, whatever their source.
    /// What is held and what is due take turns, so neither waits for the end of the other. `terms` are those of a lane.
    pub(crate) fn next(&mut self, now: Timestamp, terms: impl Fn(&SubscriptionId) -> Terms) -> Option<Turn> {
        while self.in_flight < limits::ATTEMPTS
            && self.bytes < limits::BYTES_IN_FLIGHT
            && self.claims < limits::CLAIMS
        {
            let id = self.ready.pop_front()?;
            let (terms, room) = (terms(&id), limits::ATTEMPTS - self.in_flight);
            let lane = self.lane(&id);
            lane.queued = false;
            let width = lane.width.min(terms.max_in_flight);
            if lane.claiming || !lane.has_work() || lane.in_flight >= width {
                continue;
            }
            if let Some(until) = lane.paused_until.filter(|until| *until > now) {
                self.wake_at(&id, until);
                continue;
            }
            let mut limit = (width - lane.in_flight).min(room);
            let source =
                if lane.held > 0 && !(lane.due && lane.held_last) { Source::Held } else { Source::Store };
            if source == Source::Held {
                limit = limit.min(lane.held);
            }
            if let Some(rate) = terms.rate {
                match self.bucket(&id, rate, now).take(limit, rate, now) {
                    Ok(taken) => limit = taken,
                    Err(next) => {
                        self.wake_at(&id, next);
                        continue;
                    }
                }
            }
            self.claims += 1;
            let lane = self.lane(&id);
            lane.reserved = if terms.rate.is_some() { limit } else { 0 };
            lane.claiming = true;
            lane.held_last = source == Source::Held;
            match source {
                Source::Held => lane.held -= limit,
                Source::Store => lane.due = false,
            }
            return Some(Turn { id, limit, source });
        }
        None
    }

    /// A claim has come back with `count` deliveries of `bytes` in all, now under way.
    pub(crate) fn claimed(
        &mut self,
        id: &SubscriptionId,
        (count, bytes): (usize, usize),
        more: bool,
        next_due_at: Option<Timestamp>,
    ) {
        self.claims = self.claims.saturating_sub(1);
        self.in_flight += count;
        self.bytes += bytes;
        let lane = self.lane(id);
        lane.claiming = false;
        lane.in_flight += count;
        lane.due |= more;
        let unused = std::mem::take(&mut lane.reserved).saturating_sub(count);
        if let Some((_, bucket)) = self.buckets.get_mut(id) {
            bucket.give_back(unused);
        }
        if let Some(at) = next_due_at {
            self.wake_at(id, at);
        }
        self.settle(id);
    }

    /// An attempt has ended at `now`; the receiver asks for none before `not_before`. Its place in the lane is free, so a
    /// receiver that answers at once does not wait for the store to write that down.
    pub(crate) fn answered(
        &mut self,
        id: &SubscriptionId,
        answer: Answer,
        not_before: Option<Timestamp>,
        now: Timestamp,
    ) {
        let lane = self.lane(id);
        lane.in_flight = lane.in_flight.saturating_sub(1);
        lane.unrecorded += 1;
        let was_open = lane.breaker_is_open();
        lane.answered(answer, now);
        let is_open = lane.breaker_is_open();
        // Another delivery to the same receiver would be told the same.
        lane.paused_until = lane.paused_until.max(not_before);
        self.open_breakers =
            (self.open_breakers + usize::from(is_open)).saturating_sub(usize::from(was_open));
        self.settle(id);
    }

    /// An attempt of `bytes` that has ended is recorded; its lane is to be looked at again at `retry_at`.
    pub(crate) fn recorded(&mut self, id: &SubscriptionId, bytes: usize, retry_at: Option<Timestamp>) {
        self.in_flight = self.in_flight.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(bytes);
        let lane = self.lane(id);
        lane.unrecorded = lane.unrecorded.saturating_sub(1);
        if let Some(at) = retry_at {
            self.wake_at(id, at);
        }
        self.settle(id);
    }

    /// Forgets what says no more than a lane or a bucket made anew.
    pub(crate) fn tidy(&mut self, now: Timestamp) {
        self.buckets.retain(|_, (rate, bucket)| !bucket.is_full(*rate, now));
        let idle: Vec<_> =
            self.lanes.iter().filter(|(_, lane)| !lane.is_paused(now)).map(|(id, _)| id.clone()).collect();
        idle.iter().for_each(|id| {
            self.lane(id).paused_until = None;
            self.settle(id);
        });
    }

    /// Lanes whose breaker is open.
    pub(crate) fn open_breakers(&self) -> usize {
        self.open_breakers
    }

    /// Attempts under way, or not recorded yet.
    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// Whether claims or attempts are under way.
    pub(crate) fn is_busy(&self) -> bool {
        self.in_flight + self.claims > 0
    }

    /// Queues a lane that has work and room, and forgets one that has neither work nor a timer, nor anything to remember.
    fn settle(&mut self, id: &SubscriptionId) {
        let lane = self.lane(id);
        if lane.has_work() {
            self.enqueue(id);
        } else if lane.in_flight + lane.unrecorded == 0
            && !lane.claiming
            && !lane.queued
            && lane.wake_at.is_none()
            && lane.paused_until.is_none()
        {
            let was_open = lane.breaker_is_open();
            self.open_breakers = self.open_breakers.saturating_sub(usize::from(was_open));
            self.lanes.remove(id);
        }
    }

    fn enqueue(&mut self, id: &SubscriptionId) {
        let lane = self.lane(id);
        if !lane.queued && !lane.claiming && lane.in_flight < lane.width {
            lane.queued = true;
            self.ready.push_back(id.clone());
        }
    }

    fn bucket(&mut self, id: &SubscriptionId, rate: Rate, now: Timestamp) -> &mut Bucket {
        let entry = self.buckets.entry(id.clone()).or_insert_with(|| (rate, Bucket::full(rate, now)));
        if entry.0 != rate {
            *entry = (rate, Bucket::full(rate, now));
        }
        &mut entry.1
    }

    fn lane(&mut self, id: &SubscriptionId) -> &mut Lane {
        // While much is under way, a receiver of which nothing is known gets a single attempt to show itself.
        let width = if self.in_flight < limits::ATTEMPTS / 4 { FIRST_WIDTH } else { 1 };
        self.lanes.entry(id.clone()).or_insert(Lane {
            in_flight: 0,
            unrecorded: 0,
            width,
            claiming: false,
            due: false,
            held: 0,
            held_last: false,
            queued: false,
            wake_at: None,
            reserved: 0,
            failures: 0,
            echoes: 0,
            paused_until: None,
        })
    }
}

impl Lane {
    /// Opens or closes the lane by what its receiver answered.
    fn answered(&mut self, answer: Answer, now: Timestamp) {
        let is_echo = self.echoes > 0;
        self.echoes = self.echoes.saturating_sub(1);
        match answer {
            Answer::Taken => {
                self.width = (self.width * 2).min(limits::IN_FLIGHT);
                (self.failures, self.paused_until) = (0, None);
            }
            Answer::Refused => (self.failures, self.paused_until) = (0, None),
            // Else one restart of a busy receiver, with all that was under way to it, would cost it the longest pause.
            Answer::Failed if is_echo => {}
            Answer::Failed => {
                self.width = 1;
                self.echoes = self.in_flight;
                self.failures = self.failures.saturating_add(1);
                if let Some(doublings) = self.failures.checked_sub(FAILURES) {
                    let pause = FIRST_PAUSE.saturating_mul(1 << doublings.min(10)).min(LONGEST_PAUSE);
                    self.paused_until = Some(later(now, pause));
                }
            }
        }
    }

    fn breaker_is_open(&self) -> bool {
        self.failures >= FAILURES
    }

    fn has_work(&self) -> bool {
        self.due || self.held > 0
    }

    fn is_paused(&self, now: Timestamp) -> bool {
        self.paused_until.is_some_and(|until| until > now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn id(name: &str) -> SubscriptionId {
        SubscriptionId(name.to_owned())
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    /// Asks for the next lane at a second, all lanes having the same terms.
    fn next(lanes: &mut Lanes, second: i64, terms: Terms) -> Option<(String, usize)> {
        lanes.tick(at(second));
        lanes.next(at(second), |_| terms).map(|turn| (turn.id.0, turn.limit))
    }

    fn finish(lanes: &mut Lanes, name: &str, answer: Answer, second: i64) {
        lanes.answered(&id(name), answer, None, at(second));
        lanes.recorded(&id(name), 10, None);
    }

    fn some(name: &str, limit: usize) -> Option<(String, usize)> {
        Some((name.to_owned(), limit))
    }

    #[test]
    fn lanes_take_turns() {
        let (mut lanes, terms) = (Lanes::default(), Terms::default());
        for name in ["a", "b", "a"] {
            lanes.wake(&id(name));
        }
        assert_eq!(next(&mut lanes, 0, terms), some("a", FIRST_WIDTH));
        assert_eq!(next(&mut lanes, 0, terms), some("b", FIRST_WIDTH));
        assert_eq!(next(&mut lanes, 0, terms), None);
        lanes.claimed(&id("a"), (2, 20), true, None);
        lanes.wake(&id("b"));
        assert_eq!(next(&mut lanes, 0, terms), some("a", FIRST_WIDTH - 2));
        lanes.claimed(&id("b"), (0, 0), false, None);
        assert_eq!(next(&mut lanes, 0, terms), some("b", FIRST_WIDTH), "a wake during a claim is not lost");
    }

    #[test]
    fn a_failing_receiver_is_probed_with_one_attempt_and_a_healthy_one_gets_more() {
        let (mut lanes, terms) = (Lanes::default(), Terms::default());
        lanes.wake(&id("a"));
        next(&mut lanes, 0, terms);
        lanes.claimed(&id("a"), (4, 40), true, None);
        finish(&mut lanes, "a", Answer::Failed, 0);
        assert_eq!(next(&mut lanes, 0, terms), None, "three are still under way");
        for _ in 0..3 {
            finish(&mut lanes, "a", Answer::Failed, 0);
        }
        assert_eq!(next(&mut lanes, 0, terms), some("a", 1));
        lanes.claimed(&id("a"), (1, 10), true, None);
        finish(&mut lanes, "a", Answer::Taken, 0);
        assert_eq!(next(&mut lanes, 0, terms), some("a", 2));
    }

    #[test]
    fn a_pause_goes_back_with_the_clock() {
        let (mut lanes, terms) = (Lanes::default(), Terms::default());
        lanes.wake(&id("a"));
        next(&mut lanes, 10_000, terms);
        lanes.claimed(&id("a"), (1, 10), true, None);
        lanes.answered(&id("a"), Answer::Failed, Some(at(10_060)), at(10_000));
        lanes.recorded(&id("a"), 10, None);
        assert_eq!(next(&mut lanes, 10_000, terms), None);
        // An hour back.
        assert_eq!(next(&mut lanes, 6_400, terms), None);
        assert_eq!(next(&mut lanes, 6_459, terms), None);
        assert_eq!(next(&mut lanes, 6_460, terms), some("a", 1));
    }

    #[test]
    fn a_breaker_opens_after_failures_in_a_row_and_probes_after_its_pause() {
        let (mut lanes, terms) = (Lanes::default(), Terms::default());
        let mut now = 0;
        lanes.wake(&id("a"));
        let mut probe = |lanes: &mut Lanes, answer: Answer, expected_pause: i64| {
            let limit = next(lanes, now, terms).unwrap().1;
            lanes.claimed(&id("a"), (1, 10), true, None);
            finish(lanes, "a", answer, now);
            for second in now..now + expected_pause {
                assert_eq!(next(lanes, second, terms), None, "{second} is within the pause");
            }
            now += expected_pause;
            limit
        };
        for pause in [0, 0, 0, 0, 1, 2, 4, 8, 16, 32, 60, 60] {
            probe(&mut lanes, Answer::Failed, pause);
        }
        assert_eq!(lanes.open_breakers(), 1);
        assert_eq!(probe(&mut lanes, Answer::Refused, 0), 1, "one attempt probes");
        assert_eq!(lanes.open_breakers(), 0, "a receiver that refuses is there");
        for pause in [0, 0, 0, 0, 1] {
            probe(&mut lanes, Answer::Failed, pause);
        }
    }

    #[test]
    fn attempts_that_were_under_way_together_fail_as_one() {
        let (mut lanes, terms) = (Lanes::default(), Terms::default());
        lanes.wake(&id("a"));
        for (width, answer) in [(FIRST_WIDTH, Answer::Taken), (limits::IN_FLIGHT, Answer::Failed)] {
            assert_eq!(next(&mut lanes, 0, terms), some("a", width));
            lanes.claimed(&id("a"), (width, width * 10), true, None);
            (0..width).for_each(|_| finish(&mut lanes, "a", answer, 0));
        }
        for _ in 1..FAILURES {
            assert_eq!(next(&mut lanes, 0, terms), some("a", 1), "the breaker is closed yet");
            lanes.claimed(&id("a"), (1, 10), true, None);
            finish(&mut lanes, "a", Answer::Failed, 0);
        }
        assert_eq!(next(&mut lanes, 0, terms), None);
        assert_eq!(next(&mut lanes, 1, terms), some("a", 1), "the first pause is the shortest");
    }

    #[test]
    fn what_a_receiver_asks_for_holds_for_its_whole_lane() {
        let (mut lanes, terms) = (Lanes::default(), Terms::default());
        lanes.wake(&id("a"));
        next(&mut lanes, 0, terms);
        lanes.claimed(&id("a"), (1, 10), true, None);
        lanes.answered(&id("a"), Answer::Refused, Some(at(30)), at(0));
        lanes.recorded(&id("a"), 10, Some(at(30)));
        assert_eq!(next(&mut lanes, 29, terms), None);
        assert_eq!(next(&mut lanes, 30, terms), some("a", FIRST_WIDTH));
    }

    #[test]
    fn a_rate_and_a_cap_hold_and_what_a_claim_did_not_need_is_given_back() {
        let mut lanes = Lanes::default();
        let terms = Terms { max_in_flight: 3, rate: Some("2/s".parse().unwrap()) };
        lanes.wake(&id("a"));
        assert_eq!(next(&mut lanes, 0, terms), some("a", 2));
        lanes.claimed(&id("a"), (1, 10), true, None);
        assert_eq!(next(&mut lanes, 0, terms), some("a", 1), "one was given back");
        lanes.claimed(&id("a"), (1, 10), true, None);
        assert_eq!(next(&mut lanes, 0, terms), None);
        assert_eq!(next(&mut lanes, 1, terms), some("a", 1), "two are under way of three");
        lanes.claimed(&id("a"), (1, 10), true, None);
        assert_eq!(next(&mut lanes, 9, terms), None);
        for _ in 0..3 {
            finish(&mut lanes, "a", Answer::Taken, 9);
        }
        assert_eq!(next(&mut lanes, 9, terms), some("a", 2));
        lanes.claimed(&id("a"), (0, 0), false, None);
        assert!(lanes.lanes.is_empty() && lanes.buckets.len() == 1, "an idle lane's bucket is remembered");
        lanes.tidy(at(99));
        assert!(lanes.buckets.is_empty());
    }

    #[test]
    fn bytes_and_claims_under_way_are_bounded() {
        let (mut lanes, terms) = (Lanes::default(), Terms::default());
        for name in 0..100 {
            lanes.wake(&id(&name.to_string()));
        }
        let mut claimed = Vec::new();
        while let Some((name, _)) = next(&mut lanes, 0, terms) {
            claimed.push(name);
        }
        assert_eq!(claimed.len(), limits::CLAIMS);
        lanes.claimed(&id(&claimed[0]), (1, limits::BYTES_IN_FLIGHT), false, None);
        lanes.claimed(&id(&claimed[1]), (0, 0), false, None);
        assert_eq!(next(&mut lanes, 0, terms), None, "the bytes are used up");
        lanes.answered(&id(&claimed[0]), Answer::Taken, None, at(0));
        assert_eq!(next(&mut lanes, 0, terms), None, "they are until they are recorded");
        lanes.recorded(&id(&claimed[0]), limits::BYTES_IN_FLIGHT, None);
        assert!(next(&mut lanes, 0, terms).is_some());
    }

    #[test]
    fn timers_wake_at_their_time_and_the_earliest_wins() {
        let (mut lanes, terms) = (Lanes::default(), Terms::default());
        lanes.wake_at(&id("a"), at(10));
        lanes.wake_at(&id("a"), at(5));
        lanes.wake_at(&id("a"), at(20));
        assert_eq!(lanes.tick(at(4)), Some(at(5)));
        assert_eq!(next(&mut lanes, 4, terms), None);
        assert_eq!(next(&mut lanes, 5, terms), some("a", FIRST_WIDTH));
        lanes.claimed(&id("a"), (0, 0), false, None);
        assert!(lanes.lanes.is_empty(), "an idle lane is forgotten");
    }

    #[derive(Clone, Debug)]
    enum Step {
        Wake(u8),
        WakeAt(u8, i64),
        Serve { backlog: usize },
        Answer(u8, u8),
        Record(u8, bool),
        Pass(i64),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            (0..4u8).prop_map(Step::Wake),
            (0..4u8, 0..50i64).prop_map(|(lane, at)| Step::WakeAt(lane, at)),
            (0..80usize).prop_map(|backlog| Step::Serve { backlog }),
            (0..4u8, 0..3u8).prop_map(|(lane, answer)| Step::Answer(lane, answer)),
            (0..4u8, any::<bool>()).prop_map(|(lane, retry)| Step::Record(lane, retry)),
            (0..20i64).prop_map(Step::Pass),
        ]
    }

    /// Lane 0 has no bounds of its own, the others a rate or a cap.
    fn terms(lane: usize) -> Terms {
        let rate = |text: &str| Some(text.parse().unwrap());
        match lane {
            0 => Terms::default(),
            1 => Terms { max_in_flight: 2, rate: None },
            2 => Terms { max_in_flight: limits::IN_FLIGHT, rate: rate("3/s") },
            _ => Terms { max_in_flight: 5, rate: rate("30/m") },
        }
    }

    proptest! {
        /// Whatever happens, a lane never exceeds its cap nor its rate, the sums agree, and a lane that was woken is served in
        /// the end.
        #[test]
        fn no_wake_is_lost_and_no_cap_exceeded(steps in prop::collection::vec(step(), 0..200)) {
            let (mut lanes, mut now) = (Lanes::default(), 0);
            let mut under_way = [0usize; 4];
            let mut unrecorded = [0usize; 4];
            let mut claimed = [0usize; 4];
            let mut owed = [false; 4];
            let name = |lane: u8| id(&lane.to_string());
            let number = |id: &SubscriptionId| id.as_str().parse::<usize>().unwrap();
            for step in steps {
                match step {
                    Step::Wake(lane) => { lanes.wake(&name(lane)); owed[lane as usize] = true; }
                    Step::WakeAt(lane, after) => { lanes.wake_at(&name(lane), at(now + after)); owed[lane as usize] = true; }
                    Step::Pass(seconds) => { now += seconds; lanes.tidy(at(now)); }
                    Step::Serve { backlog } => {
                        lanes.tick(at(now));
                        if let Some(Turn { id: served, limit, .. }) = lanes.next(at(now), |id| terms(number(id))) {
                            let lane = number(&served);
                            let count = backlog.min(limit);
                            prop_assert!(limit >= 1 && under_way[lane] + limit <= terms(lane).max_in_flight);
                            under_way[lane] += count;
                            claimed[lane] += count;
                            owed[lane] = backlog > limit || lanes.lanes[&served].wake_at.is_some();
                            lanes.claimed(&served, (count, count), backlog > limit, None);
                        }
                    }
                    Step::Answer(lane, answer) if under_way[lane as usize] > 0 => {
                        under_way[lane as usize] -= 1;
                        unrecorded[lane as usize] += 1;
                        let answer = [Answer::Taken, Answer::Refused, Answer::Failed][answer as usize];
                        lanes.answered(&name(lane), answer, None, at(now));
                    }
                    Step::Record(lane, retry) if unrecorded[lane as usize] > 0 => {
                        unrecorded[lane as usize] -= 1;
                        lanes.recorded(&name(lane), 1, retry.then(|| at(now + 1)));
                        owed[lane as usize] |= retry;
                    }
                    Step::Answer(..) | Step::Record(..) => {}
                }
                prop_assert_eq!(lanes.in_flight(), under_way.iter().chain(&unrecorded).sum::<usize>());
                prop_assert_eq!(lanes.bytes, lanes.in_flight());
                let open = lanes.lanes.values().filter(|lane| lane.breaker_is_open()).count();
                prop_assert_eq!(lanes.open_breakers(), open);
                for lane in [2, 3] {
                    let per_second = terms(lane).rate.unwrap().per_second();
                    let most = per_second.max(1.0) + per_second * now as f64;
                    prop_assert!(claimed[lane] as f64 <= most + 1e-6, "{} of {}", claimed[lane], most);
                }
            }
            for lane in 0..4u8 {
                for _ in 0..under_way[lane as usize] {
                    lanes.answered(&name(lane), Answer::Taken, None, at(now));
                }
                for _ in 0..under_way[lane as usize] + unrecorded[lane as usize] {
                    lanes.recorded(&name(lane), 1, None);
                }
            }
            lanes.tick(at(now + 1_000));
            while let Some(Turn { id: served, .. }) = lanes.next(at(now + 1_000), |id| terms(number(id))) {
                owed[number(&served)] = false;
                lanes.claimed(&served, (0, 0), false, None);
            }
            lanes.tidy(at(now + 9_000));
            prop_assert_eq!(owed, [false; 4]);
            prop_assert!(lanes.lanes.is_empty() && lanes.timers.is_empty() && lanes.buckets.is_empty());
        }
    }
}
