//! Whose turn is it? One lane per subscription with something to do, served round robin.
//!
//! Pure: the worker reports what happened and asks what to claim next. Each lane has its own width, the attempts it may
//! have under way: it opens while the receiver answers and closes to a single probing attempt when it fails, so a dead
//! receiver holds one attempt, not the worker.

use std::collections::{BTreeSet, HashMap, VecDeque};

use jiff::Timestamp;

use crate::limits;
use crate::model::SubscriptionId;

/// Width of a lane of which nothing is known yet.
const FIRST_WIDTH: usize = 4;

/// The lanes of one worker.
#[derive(Debug, Default)]
pub(crate) struct Lanes {
    lanes: HashMap<SubscriptionId, Lane>,
    ready: VecDeque<SubscriptionId>,
    timers: BTreeSet<(Timestamp, SubscriptionId)>,
    in_flight: usize,
}

#[derive(Debug)]
struct Lane {
    in_flight: usize,
    width: usize,
    claiming: bool,
    due: bool,
    queued: bool,
    wake_at: Option<Timestamp>,
}

impl Lanes {
    /// The subscription may have something due now.
    pub(crate) fn wake(&mut self, id: &SubscriptionId) {
        self.lane(id).due = true;
        self.enqueue(id);
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

    /// The next lane to serve and how many deliveries to claim for it; [`Lanes::claimed`] must follow.
    pub(crate) fn next(&mut self) -> Option<(SubscriptionId, usize)> {
        while self.in_flight < limits::ATTEMPTS {
            let id = self.ready.pop_front()?;
            let room = limits::ATTEMPTS - self.in_flight;
            let lane = self.lane(&id);
            lane.queued = false;
            if lane.claiming || !lane.due || lane.in_flight >= lane.width {
                continue;
            }
            lane.claiming = true;
            lane.due = false;
            let limit = (lane.width - lane.in_flight).min(room);
            return Some((id, limit));
        }
        None
    }

    /// A claim has come back with `count` deliveries, now under way.
    pub(crate) fn claimed(
        &mut self,
        id: &SubscriptionId,
        count: usize,
        more: bool,
        next_due_at: Option<Timestamp>,
    ) {
        self.in_flight += count;
        let lane = self.lane(id);
        lane.claiming = false;
        lane.in_flight += count;
        lane.due |= more;
        if let Some(at) = next_due_at {
            self.wake_at(id, at);
        }
        self.settle(id);
    }

    /// An attempt has ended; `healthy` where the receiver took it.
    pub(crate) fn finished(&mut self, id: &SubscriptionId, healthy: bool, retry_at: Option<Timestamp>) {
        self.in_flight = self.in_flight.saturating_sub(1);
        let lane = self.lane(id);
        lane.in_flight = lane.in_flight.saturating_sub(1);
        lane.width = if healthy { (lane.width * 2).min(limits::IN_FLIGHT) } else { 1 };
        if let Some(at) = retry_at {
            self.wake_at(id, at);
        }
        self.settle(id);
    }

    /// Attempts under way.
    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// Queues a lane that has work and room, and forgets one that has neither work nor a timer.
    fn settle(&mut self, id: &SubscriptionId) {
        let lane = self.lane(id);
        if lane.due {
            self.enqueue(id);
        } else if lane.in_flight == 0 && !lane.claiming && !lane.queued && lane.wake_at.is_none() {
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

    fn lane(&mut self, id: &SubscriptionId) -> &mut Lane {
        self.lanes.entry(id.clone()).or_insert(Lane {
            in_flight: 0,
            width: FIRST_WIDTH,
            claiming: false,
            due: false,
            queued: false,
            wake_at: None,
        })
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

    #[test]
    fn lanes_take_turns() {
        let mut lanes = Lanes::default();
        lanes.wake(&id("a"));
        lanes.wake(&id("b"));
        lanes.wake(&id("a"));
        assert_eq!(lanes.next(), Some((id("a"), FIRST_WIDTH)));
        assert_eq!(lanes.next(), Some((id("b"), FIRST_WIDTH)));
        assert_eq!(lanes.next(), None);
        lanes.claimed(&id("a"), 2, true, None);
        lanes.wake(&id("b"));
        assert_eq!(lanes.next(), Some((id("a"), FIRST_WIDTH - 2)));
        lanes.claimed(&id("b"), 0, false, None);
        assert_eq!(lanes.next(), Some((id("b"), FIRST_WIDTH)), "a wake during a claim is not lost");
    }

    #[test]
    fn a_failing_receiver_is_probed_with_one_attempt_and_a_healthy_one_gets_more() {
        let mut lanes = Lanes::default();
        lanes.wake(&id("a"));
        lanes.next();
        lanes.claimed(&id("a"), 4, true, None);
        lanes.finished(&id("a"), false, Some(at(5)));
        assert_eq!(lanes.next(), None, "three are still under way");
        for _ in 0..3 {
            lanes.finished(&id("a"), false, None);
        }
        assert_eq!(lanes.next(), Some((id("a"), 1)));
        lanes.claimed(&id("a"), 1, true, None);
        lanes.finished(&id("a"), true, None);
        assert_eq!(lanes.next(), Some((id("a"), 2)));
    }

    #[test]
    fn timers_wake_at_their_time_and_the_earliest_wins() {
        let mut lanes = Lanes::default();
        lanes.wake_at(&id("a"), at(10));
        lanes.wake_at(&id("a"), at(5));
        lanes.wake_at(&id("a"), at(20));
        assert_eq!(lanes.tick(at(4)), Some(at(5)));
        assert_eq!(lanes.next(), None);
        assert_eq!(lanes.tick(at(5)), None);
        assert_eq!(lanes.next(), Some((id("a"), FIRST_WIDTH)));
        lanes.claimed(&id("a"), 0, false, None);
        assert!(lanes.lanes.is_empty(), "an idle lane is forgotten");
    }

    #[derive(Clone, Debug)]
    enum Step {
        Wake(u8),
        WakeAt(u8, i64),
        Serve { backlog: usize },
        Finish(u8, bool, bool),
        Pass(i64),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            (0..4u8).prop_map(Step::Wake),
            (0..4u8, 0..50i64).prop_map(|(lane, at)| Step::WakeAt(lane, at)),
            (0..80usize).prop_map(|backlog| Step::Serve { backlog }),
            (0..4u8, any::<bool>(), any::<bool>())
                .prop_map(|(lane, ok, retry)| Step::Finish(lane, ok, retry)),
            (0..20i64).prop_map(Step::Pass),
        ]
    }

    proptest! {
        /// Whatever happens, a lane never exceeds its cap, the sums agree, and a lane that was woken is served in the end.
        #[test]
        fn no_wake_is_lost_and_no_cap_exceeded(steps in prop::collection::vec(step(), 0..200)) {
            let (mut lanes, mut now) = (Lanes::default(), 0);
            let mut under_way = [0usize; 4];
            let mut owed = [false; 4];
            let name = |lane: u8| id(&lane.to_string());
            for step in steps {
                match step {
                    Step::Wake(lane) => { lanes.wake(&name(lane)); owed[lane as usize] = true; }
                    Step::WakeAt(lane, after) => { lanes.wake_at(&name(lane), at(now + after)); owed[lane as usize] = true; }
                    Step::Pass(seconds) => now += seconds,
                    Step::Serve { backlog } => {
                        lanes.tick(at(now));
                        if let Some((served, limit)) = lanes.next() {
                            let lane: usize = served.as_str().parse().unwrap();
                            let count = backlog.min(limit);
                            prop_assert!(limit >= 1 && under_way[lane] + limit <= limits::IN_FLIGHT);
                            under_way[lane] += count;
                            owed[lane] = backlog > limit || lanes.lanes[&served].wake_at.is_some();
                            lanes.claimed(&served, count, backlog > limit, None);
                        }
                    }
                    Step::Finish(lane, healthy, retry) if under_way[lane as usize] > 0 => {
                        under_way[lane as usize] -= 1;
                        lanes.finished(&name(lane), healthy, retry.then(|| at(now + 1)));
                        owed[lane as usize] |= retry;
                    }
                    Step::Finish(..) => {}
                }
                prop_assert_eq!(lanes.in_flight(), under_way.iter().sum::<usize>());
            }
            for lane in 0..4u8 {
                while under_way[lane as usize] > 0 {
                    under_way[lane as usize] -= 1;
                    lanes.finished(&name(lane), true, None);
                }
            }
            lanes.tick(at(now + 1_000));
            while let Some((served, _)) = lanes.next() {
                owed[served.as_str().parse::<usize>().unwrap()] = false;
                lanes.claimed(&served, 0, false, None);
            }
            prop_assert_eq!(owed, [false; 4]);
            prop_assert!(lanes.lanes.is_empty() && lanes.timers.is_empty());
        }
    }
}
