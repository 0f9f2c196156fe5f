//! The outbox next to a model of it: any order of events, answers, clock jumps and changes of configuration.
//!
//! The model is a plain list of ids and what became of each. After every step: nothing is lost that was taken in, nothing
//! is sent twice without a failure in between, order is kept, no more batches are under way than allowed, and the counts
//! are exact.

use std::collections::BTreeSet;
use std::time::Duration;

use proptest::prelude::*;

use super::{Answer, BatchNumber, Limits, Outbox, Pushed};
use crate::event::Event;
use crate::event::tests::sample;

#[derive(Debug, Clone)]
enum Step {
    Push { size: usize },
    Take { most_in_flight: usize },
    Settle { which: usize, answer: Answer, jitter: f64 },
    Wait { milliseconds: u64 },
    SetClockBack { milliseconds: u64 },
    Configure { events: usize, bytes: usize, batch: usize },
    Sweep,
}

fn step() -> impl Strategy<Value = Step> {
    let answer = prop_oneof![
        6 => Just(Answer::Acknowledged { accepted: 0, repeated: 0, refused: 0 }),
        2 => proptest::option::of(0_u64..90).prop_map(|s| Answer::Unavailable { retry_after: s.map(Duration::from_secs) }),
        1 => Just(Answer::TooLarge),
        1 => Just(Answer::Malformed),
    ];
    prop_oneof![
        8 => (0_usize..3_000).prop_map(|size| Step::Push { size }),
        6 => (1_usize..4).prop_map(|most_in_flight| Step::Take { most_in_flight }),
        6 => (0_usize..4, answer, 0.0..1.0).prop_map(|(which, answer, jitter)| Step::Settle { which, answer, jitter }),
        3 => (0_u64..20_000).prop_map(|milliseconds| Step::Wait { milliseconds }),
        1 => (0_u64..100_000).prop_map(|milliseconds| Step::SetClockBack { milliseconds }),
        1 => (1_usize..20, 500_usize..30_000, 1_usize..8)
            .prop_map(|(events, bytes, batch)| Step::Configure { events, bytes, batch }),
        1 => Just(Step::Sweep),
    ]
}

/// What is known of every event that was taken in.
#[derive(Default)]
struct Model {
    /// Taken in, in order, not yet settled for good.
    held: BTreeSet<u64>,
    /// Under way, by batch.
    under_way: Vec<(BatchNumber, Vec<u64>)>,
    /// Under way once before.
    tried: BTreeSet<u64>,
}

struct Run {
    outbox: Outbox,
    model: Model,
    limits: Limits,
    now: Duration,
    next: u64,
}

fn event(id: u64, size: usize) -> Event {
    sample(&id.to_string(), &format!("\"{}\"", "x".repeat(size)))
}

impl Run {
    fn apply(&mut self, step: &Step) {
        match *step {
            Step::Push { size } => self.push(size),
            Step::Take { most_in_flight } => self.take(most_in_flight),
            Step::Settle { which, answer, jitter } => self.settle(which, answer, jitter),
            Step::Wait { milliseconds } => self.now += Duration::from_millis(milliseconds),
            Step::SetClockBack { milliseconds } => {
                self.now = self.now.saturating_sub(Duration::from_millis(milliseconds));
            }
            Step::Configure { events, bytes, batch } => {
                let linger = Duration::from_millis(5);
                let (outbox_events, outbox_bytes, batch_events) = (events, bytes, batch);
                self.limits =
                    Limits { outbox_events, outbox_bytes, batch_events, batch_bytes: bytes / 2, linger };
                self.outbox.set_limits(self.limits);
            }
            Step::Sweep => {
                for number in self.outbox.overdue(self.now, Duration::from_secs(15)) {
                    self.settle_batch(number, Answer::Unavailable { retry_after: None }, 0.5);
                }
            }
        }
        assert_eq!(self.outbox.len(), self.model.held.len(), "nothing is lost and nothing is made up");
        assert_eq!(self.outbox.batches_in_flight(), self.model.under_way.len());
    }

    fn push(&mut self, size: usize) {
        let id = self.next;
        self.next += 1;
        let event = event(id, size);
        let fits = self.outbox.bytes + event.json().len() <= self.limits.outbox_bytes;
        let room = self.model.held.len() < self.limits.outbox_events;
        match self.outbox.push(event, u32::try_from(id).ok()) {
            Pushed::Queued => {
                assert!(room, "the bound on events holds");
                assert!(self.outbox.bytes <= self.limits.outbox_bytes, "the bound on bytes holds");
                self.model.held.insert(id);
            }
            Pushed::Dropped { .. } => assert!(!room || !fits, "nothing is dropped below the bounds"),
        }
    }

    fn take(&mut self, most_in_flight: usize) {
        let under_way = self.model.under_way.len();
        let Some(sending) = self.outbox.take(self.now, most_in_flight) else { return };
        assert!(under_way < most_in_flight, "never more under way than allowed");
        let events: Vec<serde_json::Value> = serde_json::from_slice(&sending.body).unwrap();
        let ids: Vec<u64> =
            events.iter().map(|event| event["id"].as_str().unwrap().parse().unwrap()).collect();
        assert!(ids.len() <= self.limits.batch_events && !ids.is_empty());
        assert!(
            ids.len() == 1 || sending.body.len() <= self.limits.batch_bytes + 2,
            "the bound of a batch holds"
        );
        let elsewhere: BTreeSet<u64> = self.model.under_way.iter().flat_map(|(_, ids)| ids.clone()).collect();
        let expected: Vec<u64> =
            self.model.held.iter().copied().filter(|id| !elsewhere.contains(id)).take(ids.len()).collect();
        assert_eq!(ids, expected, "the oldest go first, in order, each with the id it always had");
        let retried = ids.iter().filter(|id| self.model.tried.contains(id)).count();
        assert_eq!(sending.retried, retried);
        self.model.tried.extend(&ids);
        self.model.under_way.push((sending.number, ids));
    }

    fn settle(&mut self, which: usize, answer: Answer, jitter: f64) {
        if let Some((number, ids)) = self.model.under_way.get(which) {
            let answer = match answer {
                Answer::Acknowledged { .. } => {
                    Answer::Acknowledged { accepted: ids.len(), repeated: 0, refused: 0 }
                }
                other => other,
            };
            self.settle_batch(*number, answer, jitter);
        } else {
            let unknown = self.outbox.settle(BatchNumber::MAX, answer, self.now, jitter);
            assert_eq!(unknown, super::Settled::default());
        }
    }

    fn settle_batch(&mut self, number: BatchNumber, answer: Answer, jitter: f64) {
        let at = self.model.under_way.iter().position(|(under_way, _)| *under_way == number).unwrap();
        let (_, ids) = self.model.under_way.remove(at);
        let settled = self.outbox.settle(number, answer, self.now, jitter);
        let gone = settled.accepted + settled.dropped;
        assert!(gone == 0 || gone == ids.len());
        let released: Vec<u64> = self.outbox.released().into_iter().map(u64::from).collect();
        if gone > 0 {
            self.model.held.retain(|id| !ids.contains(id));
            assert_eq!(released, ids, "who waits for an event is released when it is settled");
        } else {
            assert!(released.is_empty(), "and not before");
        }
        match answer {
            Answer::Acknowledged { .. } => assert_eq!((settled.accepted, settled.dropped), (ids.len(), 0)),
            Answer::Unavailable { .. } => {
                assert_eq!(settled, super::Settled::default(), "a failure loses nothing");
                assert!(self.outbox.wait_left(self.now).is_some());
            }
            Answer::TooLarge | Answer::Malformed => {
                assert!(ids.len() == 1 || gone == 0, "only a lone event is given up")
            }
        }
    }

    /// From any state, a companion that takes everything empties the outbox.
    fn drain(mut self) {
        for number in self.model.under_way.iter().map(|(number, _)| *number).collect::<Vec<_>>() {
            self.settle_batch(number, Answer::Unavailable { retry_after: None }, 0.5);
        }
        for _ in 0..1_000 {
            self.now += Duration::from_secs(61);
            self.take(1);
            self.settle(0, Answer::Acknowledged { accepted: 0, repeated: 0, refused: 0 }, 0.5);
        }
        assert!(self.outbox.is_empty() && self.model.held.is_empty());
        assert_eq!(self.outbox.bytes, 0, "every byte is accounted for");
    }
}

proptest! {
    #[test]
    fn the_outbox_agrees_with_its_model(steps in proptest::collection::vec(step(), 1..200)) {
        let limits = Limits {
            outbox_events: 10,
            outbox_bytes: 20_000,
            batch_events: 5,
            batch_bytes: 6_000,
            linger: Duration::from_millis(5),
        };
        let now = Duration::from_secs(1_000_000);
        let mut run = Run { outbox: Outbox::new(limits), model: Model::default(), limits, now, next: 0 };
        for step in &steps {
            run.apply(step);
        }
        run.drain();
    }
}
