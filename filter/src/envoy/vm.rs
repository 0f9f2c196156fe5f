//! What the roots and streams of one VM share: the outboxes, the ids, the counts.
//!
//! A VM serves one worker and runs one callback at a time. Its memory outlives a change of configuration as long as code
//! and `vm_id` stay the same, and so do the events in it.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use proxy_wasm::types::{LogLevel, Status};

use super::host;
use super::metrics::{Counter, Metrics};
use crate::config::{Companion, Config, Token};
use crate::exchange::Observation;
use crate::fetch::{FetchNumber, Fetches};
use crate::headers::Headers;
use crate::ids::Ids;
use crate::outbox::{Answer, BatchNumber, Outbox, Sending};
use crate::unmatched::Unmatched;

/// Batches under way in normal operation. One is enough: while it is, the next one gathers.
const IN_FLIGHT: usize = 1;

/// Batches under way when no root will be left to send the rest later.
const LAST_IN_FLIGHT: usize = 8;

/// A complaint of one kind is logged at most this often.
const COMPLAINT_EVERY: Duration = Duration::from_secs(60);

/// How much longer than its timeout an answer may take before the batch counts as lost.
const GRACE: Duration = Duration::from_secs(10);

/// The longest sleep between two looks at an outbox that waits out a failure.
const LONGEST_TICK: Duration = Duration::from_millis(250);

/// The media type of a batch (CloudEvents JSON format, 4).
const BATCH: &str = "application/cloudevents-batch+json";

/// The tick while an answer is held.
pub(super) const SHORTEST_TICK: Duration = Duration::from_millis(1);

thread_local! {
    static VM: RefCell<Vm> = RefCell::new(Vm {
        hubs: BTreeMap::new(),
        metrics: Metrics::default(),
        ids: None,
        complaints: BTreeMap::new(),
        sees_reads: false,
        held_bytes: 0,
        looking_before: 0,
        marked: BTreeSet::new(),
        last_mark: 0,
        held: BTreeMap::new(),
        worker: None,
    });
}

/// Does something with the VM's state; `None` (which nothing here can bring about) if that is in use further up the stack.
pub(super) fn with<R>(action: impl FnOnce(&mut Vm) -> R) -> Option<R> {
    VM.with(|vm| vm.try_borrow_mut().ok().map(|mut vm| action(&mut vm)))
}

/// The state of one VM.
pub(super) struct Vm {
    /// One outbox for each destination.
    pub(super) hubs: BTreeMap<Companion, Hub>,
    /// All counts.
    pub(super) metrics: Metrics,
    /// Whether reads reach this VM, so that asking for the method alone saves work.
    pub(super) sees_reads: bool,
    /// Bytes of bodies that exchanges under way hold.
    pub(super) held_bytes: usize,
    /// GETs under way for the sake of `previous`, each with a caller that waits.
    pub(super) looking_before: usize,
    /// Streams whose answers are held, each with the time at which it is let go in any case.
    pub(super) held: BTreeMap<u32, Duration>,
    /// Where ids come from, once there was an exchange to seed them with.
    pub(super) ids: Option<Ids>,
    /// The marks of streams that are not over yet.
    marked: BTreeSet<u64>,
    last_mark: u64,
    worker: Option<(String, u64)>,
    complaints: BTreeMap<&'static str, Duration>,
}

/// An outbox with the roots that serve it.
pub(super) struct Hub {
    /// The events.
    pub(super) outbox: Outbox,
    /// Events that wait for their representation.
    pub(super) fetches: Fetches,
    /// Writes that fit no rule, to be reported.
    pub(super) unmatched: Unmatched,
    /// The roots configured for this destination, the newest last.
    pub(super) roots: Vec<u32>,
    /// Calls under way.
    pub(super) calls: Vec<Call>,
    tick: Option<Tick>,
}

/// One call under way.
#[derive(Debug, Clone, Copy)]
pub(super) struct Call {
    /// The host's name for it.
    pub(super) token: u32,
    /// What it is for.
    pub(super) errand: Errand,
    /// The root that made the call and gets the answer.
    pub(super) root: u32,
}

/// What a call is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Errand {
    /// To hand a batch over.
    Batch(BatchNumber),
    /// To read a representation.
    Fetch(FetchNumber),
    /// To report what fits no rule.
    Report,
}

/// The running tick: whose, and how often.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Tick {
    root: u32,
    period: Duration,
}

impl Vm {
    /// The outbox for a configuration's destination, with that configuration's bounds.
    pub(super) fn join(&mut self, config: &Config, root: u32) {
        let hub = self.hubs.entry(config.companion.clone()).or_insert_with(|| Hub {
            outbox: Outbox::new(config.limits),
            fetches: Fetches::default(),
            unmatched: Unmatched::default(),
            roots: Vec::new(),
            calls: Vec::new(),
            tick: None,
        });
        hub.outbox.set_limits(config.limits);
        hub.roots.push(root);
    }

    /// What all marks begin with by which this VM marks the requests that it watches.
    pub(super) fn mark_prefix(&mut self, via: &str) -> Vec<u8> {
        let (nonce, number) = self.worker.get_or_insert_with(|| host::worker_number(host::now()));
        format!("{via}-{nonce}-{number}-").into_bytes()
    }

    /// A number for the mark of one more stream.
    pub(super) fn begin_mark(&mut self) -> u64 {
        self.last_mark += 1;
        self.marked.insert(self.last_mark);
        self.last_mark
    }

    /// The stream with this mark is over.
    pub(super) fn end_mark(&mut self, number: u64) {
        self.marked.remove(&number);
    }

    /// Whether a mark of this VM is one that Envoy took along from a stream which it ended to redirect it internally. While
    /// its stream goes on, it is another listener before this one that watches.
    pub(super) fn is_redirected(&self, number: &[u8]) -> bool {
        let number = std::str::from_utf8(number).ok().and_then(|number| number.parse().ok());
        number.is_some_and(|number: u64| number <= self.last_mark && !self.marked.contains(&number))
    }

    /// Sends what is due, tells the counts, and keeps the tick running as long as there is a reason for it.
    pub(super) fn tick(&mut self, config: &Config, root: u32) {
        let now = host::now();
        self.sweep(config, root, now);
        self.release_late(root, now);
        self.fetch(config, root, now);
        self.send(config, root, now);
        self.report(config, root, now);
        self.metrics.flush();
        let Some(hub) = self.hubs.get_mut(&config.companion) else { return };
        let linger = config.limits.linger;
        let period = match hub.outbox.wait_left(now) {
            _ if hub.outbox.is_empty() && hub.fetches.is_empty() => None,
            _ if hub.outbox.is_empty() && !hub.fetches.has_waiting() => Some(LONGEST_TICK),
            Some(left) => Some(left.clamp(linger, LONGEST_TICK.max(linger))),
            None => Some(linger),
        };
        let period = earlier(period, hub.unmatched.wait_left(now).map(|left| left.max(linger)));
        // Answers that are held want their batch sent at once, and their time limit kept.
        let held_until = self.held.values().min().map(|until| until.saturating_sub(now).max(SHORTEST_TICK));
        let period = earlier(period, held_until);
        // A root whose successor has taken over the tick must not start its own again.
        let served_by = hub.tick.map_or(root, |tick| tick.root);
        if served_by == root {
            hub.set_tick(period.map(|period| Tick { root, period }));
        }
    }

    /// The companion has answered, or a resource was read.
    pub(super) fn answer(
        &mut self,
        config: &Config,
        root: u32,
        token: u32,
        headers: &Headers,
        body_size: usize,
    ) {
        let now = host::now();
        let Some(hub) = self.hubs.get_mut(&config.companion) else { return };
        let Some(at) = hub.calls.iter().position(|call| call.token == token) else { return };
        match hub.calls.swap_remove(at).errand {
            Errand::Batch(number) => self.settle(config, root, number, Answer::read(headers), now),
            Errand::Fetch(number) => self.fetched(config, number, headers, body_size),
            Errand::Report => {
                hub.unmatched.settle(matches!(Answer::read(headers), Answer::Acknowledged { .. }), now);
            }
        }
        self.fetch(config, root, now);
        // What does not fill a batch waits for the tick, and for company.
        let hub = self.hubs.get(&config.companion);
        if hub.is_some_and(|hub| hub.outbox.has_full_batch() || hub.roots.is_empty()) {
            self.send(config, root, now);
        }
        // The counts are told on the tick, which runs as long as they are not.
        if let Some(hub) = self.hubs.get_mut(&config.companion)
            && hub.tick.is_none()
            && (self.metrics.is_dirty() || !hub.outbox.is_empty() || hub.unmatched.wait_left(now).is_some())
        {
            hub.set_tick(Some(Tick { root, period: config.limits.linger }));
        }
    }

    /// Gives up all that waits for a destination that nobody serves any more.
    pub(super) fn abandon(&mut self, companion: &Companion) {
        if let Some(mut hub) = self.hubs.remove(companion) {
            let lost = hub.outbox.len();
            // Their streams are let go by the time limit, at the latest.
            hub.outbox.clear();
            hub.set_tick(None);
            // What still waited for its representation was not counted as observed yet.
            let untold = hub.fetches.clear();
            self.metrics.add(Counter::Observed, untold);
            self.metrics.add(Counter::Dropped, lost + untold);
            self.metrics.move_outbox(lost, 0);
        }
        self.metrics.flush();
    }

    /// Lets answers go whose events are settled, or whose time is over.
    fn release(&mut self, root: u32, streams: &[u32], counter: Counter) {
        for stream in streams {
            // A stream that has ended meanwhile is no longer among them, and none is let go twice.
            if self.held.remove(stream).is_some() {
                self.metrics.add(counter, 1);
                if !host::resume_response_of(*stream, root) {
                    self.metrics.add(Counter::Failed, 1);
                }
            }
        }
    }

    fn release_late(&mut self, root: u32, now: Duration) {
        let late = self.held.iter().filter(|(_, until)| now >= **until).map(|(stream, _)| *stream);
        let late: Vec<u32> = late.collect();
        self.release(root, &late, Counter::HoldTimedOut);
    }

    fn sweep(&mut self, config: &Config, root: u32, now: Duration) {
        let Some(hub) = self.hubs.get_mut(&config.companion) else { return };
        for number in hub.outbox.overdue(now, config.companion.timeout + GRACE) {
            self.forget_call(config, Errand::Batch(number));
            self.settle(config, root, number, Answer::Unavailable { retry_after: None }, now);
        }
        let Some(hub) = self.hubs.get_mut(&config.companion) else { return };
        for number in hub.fetches.overdue(now, GRACE) {
            self.forget_call(config, Errand::Fetch(number));
            self.fetched(config, number, &Headers::new(), 0);
        }
    }

    /// Gives up a call whose answer will not come any more.
    fn forget_call(&mut self, config: &Config, errand: Errand) {
        self.metrics.add(Counter::Failed, 1);
        if let Some(hub) = self.hubs.get_mut(&config.companion) {
            hub.calls.retain(|call| call.errand != errand);
        }
    }

    fn send(&mut self, config: &Config, root: u32, now: Duration) {
        let companion = &config.companion;
        let most_in_flight = self.hubs.get(companion).map_or(0, |hub| hub.most_in_flight(root));
        // Bounded by the batches that may be under way: each round sends one, or fails and begins a wait.
        for _ in 0..most_in_flight {
            let Some(hub) = self.hubs.get_mut(companion) else { return };
            let Some(Sending { number, body, retried }) = hub.outbox.take(now, most_in_flight) else {
                return;
            };
            self.metrics.add(Counter::Retried, retried);
            match post(companion, &companion.path, BATCH, &body) {
                Ok(token) => hub.calls.push(Call { token, errand: Errand::Batch(number), root }),
                Err(status) => {
                    self.metrics.add(Counter::Failed, 1);
                    let reason = match status {
                        Status::BadArgument => "Envoy knows no such cluster",
                        _ => "the cluster has no healthy host, or its circuit breaker is open",
                    };
                    self.complain("send", now, || format!("cannot call {}: {reason}", companion.cluster));
                    self.settle(config, root, number, Answer::Unavailable { retry_after: None }, now);
                }
            }
        }
    }

    /// Makes the generator of ids at the first exchange, whose properties are part of its seed.
    pub(super) fn seed(&mut self, now: Duration, first: &Observation) {
        if self.ids.is_none() {
            let worker = self.worker.get_or_insert_with(|| host::worker_number(now));
            self.ids = Some(seed(now, worker, first));
        }
    }

    fn settle(&mut self, config: &Config, root: u32, number: BatchNumber, answer: Answer, now: Duration) {
        let Some(hub) = self.hubs.get_mut(&config.companion) else { return };
        let jitter = self.ids.as_mut().map_or(0.5, Ids::fraction);
        let before = hub.outbox.len();
        let settled = hub.outbox.settle(number, answer, now, jitter);
        let released = hub.outbox.released();
        self.metrics.move_outbox(before, hub.outbox.len());
        self.metrics.add(Counter::HandedOver, settled.accepted);
        self.metrics.add(Counter::Repeated, settled.repeated);
        self.metrics.add(Counter::Refused, settled.refused);
        self.metrics.add(Counter::Dropped, settled.dropped);
        self.metrics.add(Counter::Thin, settled.thinned);
        self.release(root, &released, Counter::Held);
        let cluster = &config.companion.cluster;
        match answer {
            Answer::Unavailable { .. } => {
                self.complain("unavailable", now, || {
                    format!("{cluster} did not acknowledge a batch; it will be sent again")
                });
            }
            Answer::Malformed if settled.dropped > 0 => {
                self.complain("malformed", now, || {
                    format!("{cluster} calls an event malformed; it is dropped")
                });
            }
            Answer::TooLarge if settled.dropped > 0 => {
                self.complain("too large", now, || {
                    format!("{cluster} calls an event without data too large; it is dropped")
                });
            }
            _ => {}
        }
    }

    /// Logs a complaint, unless one of its kind was logged lately.
    pub(super) fn complain(&mut self, kind: &'static str, now: Duration, message: impl FnOnce() -> String) {
        let last = self.complaints.get(kind);
        if last.is_none_or(|last| now.abs_diff(*last) >= COMPLAINT_EVERY) {
            host::log(LogLevel::Warn, &message());
            self.complaints.insert(kind, now);
        }
    }
}

impl Hub {
    /// Whether nothing waits for anything.
    pub(super) fn is_empty(&self) -> bool {
        self.outbox.is_empty() && self.fetches.is_empty()
    }

    /// Whether a root still awaits an answer.
    pub(super) fn awaits_answer(&self, root: u32) -> bool {
        self.calls.iter().any(|call| call.root == root)
    }

    /// A root that is going leaves the sending to one that stays; the last one hurries.
    fn most_in_flight(&self, root: u32) -> usize {
        match self.roots.as_slice() {
            [] => LAST_IN_FLIGHT,
            roots if roots.contains(&root) => IN_FLIGHT,
            _ => 0,
        }
    }

    /// Hands the tick of a root that is going to one that stays.
    pub(super) fn hand_over_tick(&mut self, from: u32, to: u32) {
        if let Some(tick) = self.tick.filter(|tick| tick.root == from) {
            host::set_tick(Duration::ZERO);
            let handed = host::set_tick_of(to, from, tick.period);
            // If that root is gone too, the next stream starts the tick of its own.
            self.tick = handed.then_some(Tick { root: to, period: tick.period });
        }
    }

    /// Whether a root may send: one that is configured for this, or the last one, on its way out.
    pub(super) fn serves(&self, root: u32) -> bool {
        self.most_in_flight(root) > 0
    }

    /// Starts the tick if it does not run, or not as often.
    pub(super) fn start_tick(&mut self, root: u32, period: Duration) {
        match self.tick {
            None => self.set_tick(Some(Tick { root, period })),
            Some(tick) if tick.root == root && tick.period > period => {
                self.set_tick(Some(Tick { root, period }))
            }
            Some(_) => {}
        }
    }

    /// Calls the host only if something changes.
    fn set_tick(&mut self, tick: Option<Tick>) {
        if self.tick != tick {
            host::set_tick(tick.map_or(Duration::ZERO, |tick| tick.period));
            self.tick = tick;
        }
    }
}

/// The earlier of two times, if there are any.
fn earlier(one: Option<Duration>, other: Option<Duration>) -> Option<Duration> {
    one.into_iter().chain(other).min()
}

/// Sends something to the companion and gives the call's token.
pub(super) fn post(companion: &Companion, path: &str, media_type: &str, body: &[u8]) -> Result<u32, Status> {
    let authorization = companion.token.as_ref().map(Token::authorization);
    let mut headers = vec![
        (":method", "POST"),
        (":path", path),
        (":authority", companion.authority.as_str()),
        ("content-type", media_type),
    ];
    headers.extend(authorization.as_deref().map(|value| ("authorization", value)));
    host::post(&companion.cluster, &headers, body, companion.timeout)
}

/// Everything that sets this VM apart from any other, on this host or elsewhere, now or later.
fn seed(now: Duration, (nonce, number): &(String, u64), first: &Observation) -> Ids {
    let clock = now.as_nanos().to_le_bytes();
    let worker = format!("{nonce}:{number}");
    let read = |path: &[&str]| host::property(path).unwrap_or_default();
    let properties = [
        read(&["xds", "node", "id"]),
        read(&["request", "id"]),
        read(&["request", "time"]),
        read(&["connection", "id"]),
        read(&["source", "address"]),
        read(&["destination", "address"]),
        read(&["upstream", "address"]),
    ];
    let own = [clock.as_slice(), worker.as_bytes(), first.asked.target.as_bytes()];
    Ids::new(own.into_iter().chain(properties.iter().map(Vec::as_slice)))
}
