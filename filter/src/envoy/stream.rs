//! One stream: hands its callbacks to the exchange and copies what the exchange asks for.
//!
//! Every callback lets the traffic pass. An exchange that is left costs one host call at most.

use std::rc::Rc;

use proxy_wasm::traits::{Context, HttpContext};
use proxy_wasm::types::Action;

use super::metrics::Counter;
use super::{host, vm};
use crate::config::Config;
use crate::exchange::{Doubts, Exchange, Headers, Observation, OnRequest};
use crate::fetch::read_head;
use crate::rules::Method;

/// The context of one HTTP stream.
pub(super) struct Stream {
    config: Option<Rc<Config>>,
    root: u32,
    exchange: Exchange,
    /// What may need a GET waits for the log callback, where Envoy tells how it has rewritten the request.
    late: Option<Observation>,
    /// The GET that the request waits for.
    before: Option<u32>,
    /// What this stream has in the VM's account of held bytes.
    held_bytes: usize,
}

impl Stream {
    pub(super) fn new(config: Option<Rc<Config>>, root: u32) -> Self {
        Self { config, root, exchange: Exchange::default(), late: None, before: None, held_bytes: 0 }
    }

    fn conclude(&mut self, config: &Rc<Config>, observation: Option<Observation>) {
        if let Some(observation) = observation {
            if observation.asked.may_fetch(config) {
                self.late = Some(observation);
                return;
            }
            vm::with(|vm| vm.conclude(config, self.root, &observation));
            self.account();
        }
    }

    /// Answers under way may hold as much memory as the outbox; beyond that, bodies are let go.
    fn has_room(&mut self, config: &Config, size: usize) -> bool {
        let held = vm::with(|vm| vm.held_bytes).unwrap_or(usize::MAX);
        let room = size <= config.limits.outbox_bytes.saturating_sub(held);
        if !room {
            self.exchange.give_up_body();
            self.account();
        }
        room
    }

    fn account(&mut self) {
        let held = self.exchange.held_bytes();
        if held != self.held_bytes {
            vm::with(|vm| vm.held_bytes = (vm.held_bytes + held).saturating_sub(self.held_bytes));
            self.held_bytes = held;
        }
    }
}

impl Stream {
    /// Reads the representation before the request goes on; false if that cannot be, and the request is not to wait.
    fn look_before(&mut self, config: &Config) -> bool {
        let busy = vm::with(|vm| vm.looking_before).unwrap_or(usize::MAX) >= config.fetch.max_concurrent;
        let target = self
            .exchange
            .asked()
            .filter(|_| !busy)
            .and_then(|asked| asked.target_before(config, &host::property));
        let called = target.and_then(|target| host::get(&target, config.fetch.previous_timeout).ok());
        self.before = called;
        vm::with(|vm| match called {
            Some(_) => vm.looking_before += 1,
            None => vm.metrics.add(Counter::FetchFailed, 1),
        });
        called.is_some()
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        if self.before.is_some() {
            vm::with(|vm| vm.looking_before = vm.looking_before.saturating_sub(1));
        }
        if self.held_bytes > 0 {
            vm::with(|vm| vm.held_bytes = vm.held_bytes.saturating_sub(self.held_bytes));
        }
    }
}

impl Context for Stream {
    /// The resource as it was; whatever came of it, the request goes on.
    fn on_http_call_response(&mut self, token: u32, headers: usize, body_size: usize, _trailers: usize) {
        if self.before != Some(token) {
            return;
        }
        self.before = None;
        let headers = if headers > 0 { host::call_headers() } else { Headers::new() };
        let config = self.config.clone();
        let room = config.as_ref().is_some_and(|config| self.has_room(config, body_size));
        let most = config.map_or(0, |config| config.max_body_bytes);
        let body = read_head(&headers, body_size, most).ok().filter(|()| room);
        let body = body.and_then(|()| host::call_body(body_size));
        vm::with(|vm| {
            vm.looking_before = vm.looking_before.saturating_sub(1);
            vm.metrics.add(if body.is_some() { Counter::Fetched } else { Counter::FetchFailed }, 1);
        });
        if let Some(body) = body {
            self.exchange.on_previous(body);
            self.account();
        }
        host::resume_request();
    }
}

impl HttpContext for Stream {
    fn on_http_request_headers(&mut self, _count: usize, _ends: bool) -> Action {
        let Some(config) = self.config.clone() else { return Action::Continue };
        let is_write = |method: &[u8]| Method::parse(method).is_some();
        // Where reads never reach the VM, as in the sample configuration, the whole map is the only call. Where they do,
        // the method alone is cheaper for them, and one call more for writes.
        let sees_reads = vm::with(|vm| vm.sees_reads).unwrap_or(true);
        if sees_reads && !host::request_method().is_some_and(|method| is_write(&method)) {
            return Action::Continue;
        }
        let headers = host::request_headers();
        if !headers.iter().any(|(name, value)| name == ":method" && is_write(value)) {
            vm::with(|vm| vm.sees_reads = true);
            return Action::Continue;
        }
        let own = config.via.as_deref().and_then(|via| vm::with(|vm| vm.mark(via)));
        let is_own = |value: &[u8]| own.as_deref() == Some(value);
        let watch = self.exchange.on_request(&config, headers, is_own);
        let OnRequest::Watch { identity, mark, previous } = watch else { return Action::Continue };
        if identity {
            host::ask_for_identity();
        }
        if let Some(own) = own.filter(|_| mark) {
            host::mark_request(&own);
        }
        if previous && self.look_before(&config) { Action::Pause } else { Action::Continue }
    }

    fn on_http_request_body(&mut self, size: usize, _ends: bool) -> Action {
        if let Some(config) = self.config.clone()
            && self.exchange.wants_request(size)
            && self.has_room(&config, size)
        {
            self.exchange.on_request_body(host::request_body(size));
            self.account();
        }
        Action::Continue
    }

    fn on_http_response_headers(&mut self, _count: usize, ends: bool) -> Action {
        if let Some(config) = self.config.clone()
            && self.exchange.awaits_response()
        {
            let is_foreign = |doubts: Doubts| {
                let details = || host::property(&["response", "code_details"]);
                let cluster = || host::property(&["xds", "cluster_name"]);
                (doubts.local && details().as_deref() != Some(b"via_upstream"))
                    || (doubts.companion && cluster().as_deref() == Some(config.companion.cluster.as_bytes()))
            };
            let observation = self.exchange.on_response(&config, host::response_headers(), ends, is_foreign);
            self.account();
            self.conclude(&config, observation);
        }
        Action::Continue
    }

    fn on_http_response_body(&mut self, size: usize, ends: bool) -> Action {
        if let Some(config) = self.config.clone()
            && self.exchange.awaits_end()
        {
            if self.exchange.wants_response(&config, size) && self.has_room(&config, size) {
                self.exchange.on_response_body(host::response_body(size));
                self.account();
            }
            if ends {
                let observation = self.exchange.on_end();
                self.conclude(&config, observation);
            }
        }
        Action::Continue
    }

    fn on_http_response_trailers(&mut self, _count: usize) -> Action {
        if let Some(config) = self.config.clone() {
            let observation = self.exchange.on_end();
            self.conclude(&config, observation);
        }
        Action::Continue
    }

    fn on_log(&mut self) {
        if let Some(config) = self.config.clone() {
            let observation = self.late.take().or_else(|| self.exchange.on_log());
            self.account();
            if let Some(observation) = observation {
                vm::with(|vm| vm.conclude(&config, self.root, &observation));
            }
        }
    }
}
