//! From an observed exchange into the outbox, by way of a GET where the answer was not the resource.
//!
//! The GET is sent from root callbacks, after the caller has its answer, and its outcome is an event in any case.

use std::rc::Rc;
use std::time::Duration;

use proxy_wasm::types::LogLevel;

use super::host;
use super::metrics::Counter;
use super::vm::{Call, Errand, SHORTEST_TICK, Vm, post};
use crate::conclusion::{Conclude, Conclusion, Outcome};
use crate::config::{Companion, Config};
use crate::draft::{Draft, Ready};
use crate::event::Thin;
use crate::exchange::Observation;
use crate::fetch::{FetchNumber, Waiting, read_head};
use crate::headers::Headers;
use crate::json::Json;
use crate::outbox::Pushed;

impl Vm {
    /// A stream of this root observed a committed write.
    ///
    /// A `waiter` is a stream whose answer is to be held; true if it is, because its event waits in the outbox.
    pub(super) fn conclude(
        &mut self,
        config: &Rc<Config>,
        root: u32,
        observation: &Observation,
        waiter: Option<u32>,
    ) -> bool {
        let now = host::now();
        self.seed(now, observation);
        let (Some(hub), Some(ids)) = (self.hubs.get(&config.companion), self.ids.as_mut()) else {
            self.metrics.add(Counter::Failed, 1);
            return false;
        };
        let mut held = false;
        let waits = |subject: &str| hub.fetches.holds(subject);
        let mut with = Conclude { config, now, ids, property: &host::property, waits: &waits };
        match observation.conclude(&mut with) {
            Conclusion::Events(outcomes) => {
                let last = outcomes.len().saturating_sub(1);
                for (index, outcome) in outcomes.into_iter().enumerate() {
                    // Batches keep the order, so whoever has the last of its events acknowledged has them all.
                    held = self.take_up(config, outcome, waiter.filter(|_| index == last));
                }
            }
            Conclusion::Unmatched { shape } => {
                self.metrics.add(Counter::Unmatched, 1);
                if let Some(hub) = self.hubs.get_mut(&config.companion) {
                    hub.unmatched.add(observation.asked.method, shape, observation.head.status, now);
                }
            }
        }
        let until = config.hold.as_ref().map(|hold| now + hold.timeout);
        if let (true, Some(stream), Some(until)) = (held, waiter, until) {
            self.held.insert(stream, until);
        }
        if let Some(hub) = self.hubs.get_mut(&config.companion) {
            hub.start_tick(root, if held { SHORTEST_TICK } else { config.limits.linger });
        }
        held
    }

    fn take_up(&mut self, config: &Rc<Config>, outcome: Outcome<'_>, waiter: Option<u32>) -> bool {
        let Some(hub) = self.hubs.get_mut(&config.companion) else { return false };
        let own = Rc::clone(config);
        match outcome {
            Outcome::Ready(ready) => return self.enqueue(&config.companion, Some(ready), waiter),
            Outcome::Untold => return self.enqueue(&config.companion, None, None),
            Outcome::Behind(draft, data) => {
                let waiting = Waiting { config: own, draft: draft.into_owned(), data: Some(data) };
                if let Err(waiting) = hub.fetches.push_behind(waiting) {
                    let Waiting { draft, data, .. } = *waiting;
                    self.finish(config, config, draft, &data.unwrap_or(Err(Thin::Empty)));
                }
            }
            Outcome::Fetch(draft, target) => {
                let waiting = Waiting { config: own, draft: draft.into_owned(), data: None };
                if let Err(waiting) = hub.fetches.push(waiting, target) {
                    self.metrics.add(Counter::FetchFailed, 1);
                    self.finish(config, config, waiting.draft, &Err(Thin::FetchBusy));
                }
            }
        }
        false
    }

    /// Reports the writes that fit no rule, if that is due.
    pub(super) fn report(&mut self, config: &Config, root: u32, now: Duration) {
        let Some(hub) = self.hubs.get_mut(&config.companion).filter(|hub| hub.serves(root)) else { return };
        let Some(path) = config.companion.unmatched_path() else { return };
        let Some(body) = hub.unmatched.take(&config.source, now) else { return };
        match post(&config.companion, &path, "application/json", &body) {
            Ok(token) => hub.calls.push(Call { token, errand: Errand::Report, root }),
            Err(_) => hub.unmatched.settle(false, now),
        }
    }

    /// Sends the GETs that may go.
    pub(super) fn fetch(&mut self, config: &Config, root: u32, now: Duration) {
        let most = config.fetch.max_concurrent;
        // Each round takes one, and no more than this may be under way.
        for _ in 0..most {
            let Some(hub) = self.hubs.get_mut(&config.companion) else { return };
            if !hub.serves(root) {
                return;
            }
            let Some((number, target, timeout)) = hub.fetches.take(now, most) else { return };
            match host::get(&target, timeout) {
                Ok(token) => hub.calls.push(Call { token, errand: Errand::Fetch(number), root }),
                Err(_) => {
                    self.complain("fetch", now, || {
                        format!("cannot read from the cluster {}", target.cluster)
                    });
                    self.fetched(config, number, &Headers::new(), 0);
                }
            }
        }
    }

    /// A GET has ended, with an answer or without.
    pub(super) fn fetched(&mut self, config: &Config, number: FetchNumber, headers: &Headers, size: usize) {
        let Some(hub) = self.hubs.get_mut(&config.companion) else { return };
        let waiting = hub.fetches.settle(number);
        let most = waiting.first().map_or(0, |first| first.config.max_body_bytes);
        let body =
            read_head(headers, size, most).and_then(|()| host::call_body(size).ok_or(Thin::FetchFailed));
        self.metrics.add(if body.is_ok() { Counter::Fetched } else { Counter::FetchFailed }, 1);
        for Waiting { config: own, draft, data } in waiting {
            let is_fetched = data.is_none();
            let data = data.unwrap_or_else(|| body.clone());
            let data = if is_fetched { unwrapped(&own, &draft, data) } else { data };
            self.finish(config, &own, draft, &data);
        }
    }

    /// Writes an event under the configuration it was observed with, and puts it into the outbox of the present one.
    fn finish(&mut self, config: &Config, own: &Config, draft: Draft<'_>, data: &Result<Vec<u8>, Thin>) {
        let Some(ids) = self.ids.as_mut() else { return };
        let json = match data {
            Ok(bytes) => Json::parse(bytes).ok_or(Thin::NotJson),
            Err(reason) => Err(*reason),
        };
        let ready = draft.finish(own, json, ids);
        self.enqueue(&config.companion, ready, None);
    }

    /// Puts an event into the outbox; `None` is one that may not go without a tenant. True if it waits there.
    fn enqueue(&mut self, companion: &Companion, ready: Option<Ready>, waiter: Option<u32>) -> bool {
        let Some(hub) = self.hubs.get_mut(companion) else { return false };
        let Some(Ready { event, event_type, thin, tenant_missing }) = ready else {
            self.metrics.add(Counter::TenantMissing, 1);
            return false;
        };
        self.metrics.add_type(&event_type);
        self.metrics.add(Counter::Thin, usize::from(thin.is_some()));
        self.metrics.add(Counter::TenantMissing, usize::from(tenant_missing));
        let before = hub.outbox.len();
        let pushed = hub.outbox.push(event, waiter);
        self.metrics.move_outbox(before, hub.outbox.len());
        if let Pushed::Dropped { first } = pushed {
            self.metrics.add(Counter::Dropped, 1);
            if first {
                let message = "the outbox is full: new events are dropped until the companion takes some";
                host::log(LogLevel::Warn, message);
            }
        }
        pushed == Pushed::Queued && waiter.is_some()
    }
}

/// The representation within what a GET brought.
fn unwrapped(config: &Config, draft: &Draft<'_>, body: Result<Vec<u8>, Thin>) -> Result<Vec<u8>, Thin> {
    let body = body?;
    let unwrap = &config.shape(draft.source).unwrap;
    if unwrap.is_empty() {
        return Ok(body);
    }
    let json = Json::parse(&body).ok_or(Thin::NotJson)?;
    json.at(unwrap).map(|json| json.text().as_bytes().to_vec()).ok_or(Thin::Pointer)
}
