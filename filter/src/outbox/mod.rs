//! Events that wait for the companion: bounded, batched, sent again until they are acknowledged.
//!
//! Pure: the clock is passed in (time since the Unix epoch, which may jump either way), jitter too, and sending is the
//! adapter's. Order is kept. Full, it takes no more: the newest is dropped and counted, because the older ones are what a
//! receiver has been waiting for. An event leaves by an acknowledgement, or counted as dropped; nothing else loses it.

mod answer;
#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::time::Duration;

use crate::event::{Event, Thin};

pub use answer::Answer;

/// The first wait after a failure; it doubles with every failure in a row.
const FIRST_BACKOFF: Duration = Duration::from_millis(50);

/// The longest wait, so that a companion that is back is found within seconds.
const LONGEST_BACKOFF: Duration = Duration::from_secs(10);

/// The longest wait that a companion may ask for with Retry-After.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(60);

/// Bounds of the outbox and its batches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Most events that wait or are under way.
    pub outbox_events: usize,
    /// Most bytes of events that wait or are under way.
    pub outbox_bytes: usize,
    /// Most events of a batch.
    pub batch_events: usize,
    /// Most bytes of a batch; a single larger event goes alone.
    pub batch_bytes: usize,
    /// How long an event waits for others to share its batch.
    pub linger: Duration,
}

/// Names one attempt to send one batch.
pub type BatchNumber = u64;

/// The outbox of one destination.
#[derive(Debug)]
pub struct Outbox {
    limits: Limits,
    waiting: VecDeque<Queued>,
    in_flight: Vec<Batch>,
    bytes: usize,
    next_sequence: u64,
    next_batch: BatchNumber,
    /// Batches hold at most this many events; halved by refusals of size or form, doubled by success.
    ceiling: usize,
    failures: u32,
    pause: Option<Pause>,
    dropping: bool,
    released: Vec<u32>,
}

#[derive(Debug)]
struct Queued {
    sequence: u64,
    tried: bool,
    event: Event,
    /// Whoever waits for the end of this event here, by a number of its own.
    waiter: Option<u32>,
}

#[derive(Debug)]
struct Batch {
    number: BatchNumber,
    events: Vec<Queued>,
    sent_at: Duration,
}

#[derive(Debug, Clone, Copy)]
struct Pause {
    since: Duration,
    length: Duration,
}

/// A batch to be sent.
#[derive(Debug, PartialEq, Eq)]
pub struct Sending {
    /// Comes back with the answer.
    pub number: BatchNumber,
    /// A JSON array of events.
    pub body: Vec<u8>,
    /// How many of its events were sent before.
    pub retried: usize,
}

/// What became of an event that was offered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pushed {
    /// It waits.
    Queued,
    /// It is lost; `first` marks the beginning of a burst, the time to log.
    Dropped {
        /// Whether the outbox has just become full.
        first: bool,
    },
}

/// What an answer did to a batch's events.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Settled {
    /// The companion has them.
    pub accepted: usize,
    /// The companion had them already.
    pub repeated: usize,
    /// The companion refused them one by one.
    pub refused: usize,
    /// Given up here.
    pub dropped: usize,
    /// Cut down to thin ones, to be sent again.
    pub thinned: usize,
}

impl Outbox {
    /// An empty outbox.
    pub fn new(limits: Limits) -> Self {
        Self {
            ceiling: limits.batch_events,
            limits,
            waiting: VecDeque::new(),
            in_flight: Vec::new(),
            bytes: 0,
            next_sequence: 0,
            next_batch: 0,
            failures: 0,
            pause: None,
            dropping: false,
            released: Vec::new(),
        }
    }

    /// Takes new bounds; what is inside stays, even if it is more than they allow.
    pub fn set_limits(&mut self, limits: Limits) {
        self.ceiling = limits.batch_events;
        self.limits = limits;
    }

    /// Offers an event; one too large for the whole outbox goes thin rather than missing.
    ///
    /// A waiter is named by [`released`](Self::released) once the event is settled, whatever came of it.
    pub fn push(&mut self, mut event: Event, waiter: Option<u32>) -> Pushed {
        if event.json().len() > self.limits.outbox_bytes {
            event.make_thin(Thin::TooLarge);
        }
        let size = event.json().len();
        if self.len() >= self.limits.outbox_events
            || size > self.limits.outbox_bytes.saturating_sub(self.bytes)
        {
            let first = !std::mem::replace(&mut self.dropping, true);
            return Pushed::Dropped { first };
        }
        self.bytes += size;
        self.waiting.push_back(Queued { sequence: self.next_sequence, tried: false, event, waiter });
        self.next_sequence += 1;
        Pushed::Queued
    }

    /// The next batch, unless `most_in_flight` are under way or a failure is being waited out.
    pub fn take(&mut self, now: Duration, most_in_flight: usize) -> Option<Sending> {
        if self.in_flight.len() >= most_in_flight || self.waiting.is_empty() || self.wait_left(now).is_some()
        {
            return None;
        }
        let mut size = 0;
        let fitting = self.waiting.iter().take(self.ceiling).take_while(|queued| {
            size += queued.event.json().len() + 1;
            size <= self.limits.batch_bytes
        });
        let count = fitting.count().max(1);
        let mut events: Vec<Queued> = self.waiting.drain(..count.min(self.waiting.len())).collect();
        let retried = events.iter().filter(|queued| queued.tried).count();
        let mut body = Vec::with_capacity(size + 2);
        for queued in &mut events {
            queued.tried = true;
            body.push(if body.is_empty() { b'[' } else { b',' });
            body.extend_from_slice(queued.event.json());
        }
        body.push(b']');
        let number = self.next_batch;
        self.next_batch += 1;
        self.in_flight.push(Batch { number, events, sent_at: now });
        Some(Sending { number, body, retried })
    }

    /// An answer came for a batch; `jitter` lies in [0, 1). A batch that is not under way changes nothing.
    pub fn settle(&mut self, number: BatchNumber, answer: Answer, now: Duration, jitter: f64) -> Settled {
        let Some(at) = self.in_flight.iter().position(|batch| batch.number == number) else {
            return Settled::default();
        };
        let events = self.in_flight.swap_remove(at).events;
        let settled = match answer {
            Answer::Acknowledged { accepted, repeated, refused } => {
                self.forget(&events);
                self.recover();
                Settled { accepted, repeated, refused, ..Settled::default() }
            }
            Answer::Unavailable { retry_after } => {
                self.back_off(now, retry_after, jitter);
                self.put_back(events);
                Settled::default()
            }
            Answer::TooLarge | Answer::Malformed if events.len() > 1 => {
                // Halves lead to the one event that is at fault, so that its neighbours are not lost with it.
                self.ceiling = (events.len() / 2).min(self.limits.batch_events);
                self.put_back(events);
                Settled::default()
            }
            Answer::TooLarge => self.make_thin_or_drop(events),
            Answer::Malformed => {
                self.forget(&events);
                self.recover();
                Settled { dropped: events.len(), ..Settled::default() }
            }
        };
        // A burst of drops is over when there is room again in earnest, not with every single acknowledgement.
        if self.len() <= self.limits.outbox_events / 2 && self.bytes <= self.limits.outbox_bytes / 2 {
            self.dropping = false;
        }
        settled
    }

    /// Those whose events were settled since the last time this was asked.
    pub fn released(&mut self) -> Vec<u32> {
        std::mem::take(&mut self.released)
    }

    /// Batches that have been under way for longer than this, whose answer will not come any more.
    pub fn overdue(&mut self, now: Duration, longest: Duration) -> Vec<BatchNumber> {
        for batch in &mut self.in_flight {
            // The clock was set back: the wait starts anew rather than lasting as long as the jump.
            batch.sent_at = batch.sent_at.min(now);
        }
        let late = self.in_flight.iter().filter(|batch| now.saturating_sub(batch.sent_at) > longest);
        late.map(|batch| batch.number).collect()
    }

    /// Gives up what waits (not what is under way) and says how many events that were.
    pub fn clear(&mut self) -> usize {
        let lost: Vec<Queued> = self.waiting.drain(..).collect();
        self.forget(&lost);
        lost.len()
    }

    /// How long a failure is still to be waited out; `None` if something may be sent now.
    pub fn wait_left(&mut self, now: Duration) -> Option<Duration> {
        let pause = self.pause.as_mut()?;
        pause.since = pause.since.min(now);
        let left = pause.length.checked_sub(now.saturating_sub(pause.since)).filter(|left| !left.is_zero());
        if left.is_none() {
            self.pause = None;
        }
        left
    }

    /// Ends the wait after a failure, because there may be no later.
    pub fn stop_waiting(&mut self) {
        self.pause = None;
    }

    /// Whether enough waits that lingering would gain nothing.
    pub fn has_full_batch(&self) -> bool {
        let queued: usize = self.in_flight.iter().map(|batch| batch.events.len()).sum();
        self.waiting.len() >= self.ceiling || (queued == 0 && self.bytes >= self.limits.batch_bytes)
    }

    /// Events that wait or are under way.
    pub fn len(&self) -> usize {
        self.waiting.len() + self.in_flight.iter().map(|batch| batch.events.len()).sum::<usize>()
    }

    /// Whether nothing waits and nothing is under way.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.in_flight.is_empty()
    }

    /// Batches under way.
    pub fn batches_in_flight(&self) -> usize {
        self.in_flight.len()
    }

    fn make_thin_or_drop(&mut self, mut events: Vec<Queued>) -> Settled {
        let mut settled = Settled::default();
        self.bytes = self.bytes.saturating_sub(size_of(&events));
        for queued in &mut events {
            if queued.event.has_data() {
                queued.event.make_thin(Thin::TooLarge);
                settled.thinned += 1;
            } else {
                settled.dropped += 1;
            }
        }
        if settled.dropped == 0 {
            self.bytes += size_of(&events);
            self.put_back(events);
        } else {
            self.released.extend(events.iter().filter_map(|queued| queued.waiter));
        }
        self.recover();
        settled
    }

    fn put_back(&mut self, events: Vec<Queued>) {
        for queued in events.into_iter().rev() {
            self.waiting.push_front(queued);
        }
        // With several batches under way, they may come back in any order.
        self.waiting.make_contiguous().sort_by_key(|queued| queued.sequence);
    }

    fn forget(&mut self, events: &[Queued]) {
        self.released.extend(events.iter().filter_map(|queued| queued.waiter));
        self.bytes = self.bytes.saturating_sub(size_of(events));
    }

    fn recover(&mut self) {
        self.failures = 0;
        self.pause = None;
        self.ceiling = (self.ceiling.max(1) * 2).min(self.limits.batch_events);
    }

    /// Half of the doubled wait is certain, half is left to chance, so that workers do not come back in step.
    fn back_off(&mut self, now: Duration, retry_after: Option<Duration>, jitter: f64) {
        let doubled = FIRST_BACKOFF.saturating_mul(1 << self.failures.min(16)).min(LONGEST_BACKOFF);
        let length = doubled.mul_f64(0.5 + jitter.clamp(0.0, 1.0) / 2.0);
        self.failures = self.failures.saturating_add(1);
        let asked = retry_after.unwrap_or_default().min(LONGEST_RETRY_AFTER);
        self.pause = Some(Pause { since: now, length: length.max(asked) });
    }
}

fn size_of(events: &[Queued]) -> usize {
    events.iter().map(|queued| queued.event.json().len()).sum()
}
