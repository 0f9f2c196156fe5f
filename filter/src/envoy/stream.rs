//! One stream: hands its callbacks to the exchange and copies what the exchange asks for.
//!
//! Every callback lets the traffic pass, with two exceptions that the configuration has to ask for: a request that waits
//! for the representation before it (`before.rs`), and in mode `hold` an answer that waits for its event. An exchange that
//! is left costs one host call at most.

use std::rc::Rc;

use proxy_wasm::traits::HttpContext;
use proxy_wasm::types::Action;

use super::metrics::Counter;
use super::{host, vm};
use crate::config::Config;
use crate::exchange::{Doubts, Exchange, Observation, OnRequest};
use crate::headers::Headers;
use crate::rules::Method;

/// The context of one HTTP stream.
pub(super) struct Stream {
    pub(super) config: Option<Rc<Config>>,
    pub(super) exchange: Exchange,
    /// The GET that the request waits for.
    pub(super) before: Option<u32>,
    root: u32,
    id: u32,
    /// What may need a GET waits for the log callback, where Envoy tells how it has rewritten the request.
    late: Option<Box<Observation>>,
    holding: Holding,
    /// How much of the body that Envoy keeps for us was looked at; 0 while Envoy keeps nothing.
    seen: usize,
    /// What this stream has in the VM's account of held bytes.
    held_bytes: usize,
    /// The number of the mark that its request bears.
    mark: Option<u64>,
}

/// Whether the answer is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Holding {
    No,
    /// Its headers are, until the body is whole and the event can be made.
    Gathering {
        /// Whether the headers declare the length of the body.
        sized: bool,
    },
    /// All of it is, until the companion has the event or the time is over.
    Waiting {
        /// Whether the headers declare the length of the body.
        sized: bool,
    },
}

impl Stream {
    pub(super) fn new(config: Option<Rc<Config>>, root: u32, id: u32) -> Self {
        let (exchange, holding) = (Exchange::default(), Holding::No);
        let (before, late, mark) = (None, None, None);
        Self { config, exchange, before, root, id, late, holding, seen: 0, held_bytes: 0, mark }
    }

    /// Makes the events of what was observed; true if the answer is to be held until they are safe.
    fn conclude(&mut self, config: &Rc<Config>, observation: Box<Observation>, hold: bool) -> bool {
        if observation.asked.may_fetch(config) {
            self.late = Some(observation);
            return false;
        }
        let waiter = hold.then_some(self.id);
        let held = vm::with(|vm| vm.conclude(config, self.root, &observation, waiter));
        self.account();
        held == Some(true)
    }

    /// The headers are there; says whether they go on.
    fn begin(&mut self, config: &Rc<Config>, ends: bool, observation: Option<Box<Observation>>) -> Action {
        let length =
            observation.as_ref().map_or_else(|| self.exchange.declared_length(), |one| one.head.length);
        let may_fetch = self.exchange.may_fetch(config)
            || observation.as_ref().is_some_and(|one| one.asked.may_fetch(config));
        let counts = observation.as_ref().is_some_and(|one| one.asked.candidate.is_some())
            || self.exchange.awaits_end();
        // An event that has to be read first comes too late to be waited for.
        let holds = config.hold.as_ref().map(|hold| !may_fetch && hold.begins(ends, length));
        if holds == Some(false) && counts {
            vm::with(|vm| vm.metrics.add(Counter::HoldSkipped, 1));
        }
        let (holds, sized) = (holds == Some(true), ends || length.is_some());
        let concluded = observation.map(|observation| self.conclude(config, observation, holds));
        self.holding = match concluded {
            Some(true) => Holding::Waiting { sized },
            None if holds && self.exchange.awaits_end() => Holding::Gathering { sized },
            _ => Holding::No,
        };
        self.action()
    }

    /// The answer is whole; says whether its end goes on.
    fn end(&mut self, config: &Rc<Config>) -> Action {
        let gathered = matches!(self.holding, Holding::Gathering { .. });
        if let Some(observation) = self.exchange.on_end() {
            let held = self.conclude(config, observation, gathered);
            self.holding = if held { Holding::Waiting { sized: true } } else { Holding::No };
        }
        self.action()
    }

    /// A body of unknown length has grown; lets it go if the next piece might be too much for Envoy.
    fn let_go_if_large(&mut self, config: &Config, size: usize) {
        let unsized_body =
            matches!(self.holding, Holding::Gathering { sized: false } | Holding::Waiting { sized: false });
        if unsized_body && !config.hold.as_ref().is_some_and(|hold| hold.goes_on(size)) {
            self.forget_hold();
            vm::with(|vm| vm.metrics.add(Counter::HoldSkipped, 1));
        }
    }

    fn end_mark(&mut self) {
        if let Some(number) = self.mark.take() {
            vm::with(|vm| vm.end_mark(number));
        }
    }

    fn forget_hold(&mut self) {
        if let Holding::Waiting { .. } = self.holding {
            vm::with(|vm| vm.held.remove(&self.id));
        }
        (self.holding, self.seen) = (Holding::No, 0);
    }

    fn action(&self) -> Action {
        if self.holding == Holding::No { Action::Continue } else { Action::Pause }
    }

    /// What is new in a body callback: while Envoy keeps the body, `size` counts all of it, else the new piece alone.
    fn new_piece(&mut self, size: usize, keeps: bool) -> (usize, usize) {
        let from = std::mem::replace(&mut self.seen, if keeps { size } else { 0 });
        if keeps { (from, size.saturating_sub(from)) } else { (0, size) }
    }

    /// Answers under way may hold as much memory as the outbox; beyond that, bodies are let go.
    pub(super) fn has_room(&mut self, config: &Config, size: usize) -> bool {
        let held = vm::with(|vm| vm.held_bytes).unwrap_or(usize::MAX);
        let room = size <= config.limits.outbox_bytes.saturating_sub(held);
        if !room {
            self.exchange.give_up_body();
            self.account();
        }
        room
    }

    /// Brings the VM's account of held bytes up to date.
    pub(super) fn account(&mut self) {
        let held = self.exchange.held_bytes();
        if held != self.held_bytes {
            vm::with(|vm| vm.held_bytes = (vm.held_bytes + held).saturating_sub(self.held_bytes));
            self.held_bytes = held;
        }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.end_mark();
        self.forget_hold();
        if self.before.is_some() {
            vm::with(|vm| vm.looking_before = vm.looking_before.saturating_sub(1));
        }
        if self.held_bytes > 0 {
            vm::with(|vm| vm.held_bytes = vm.held_bytes.saturating_sub(self.held_bytes));
        }
    }
}

impl HttpContext for Stream {
    fn on_http_request_headers(&mut self, _count: usize, ends: bool) -> Action {
        let Some(config) = self.config.clone() else { return Action::Continue };
        let is_write = |method: &[u8]| Method::parse(method).is_some();
        // Where reads never reach the VM, as in the sample configuration, the whole map is the only call. Where they do,
        // the method alone is cheaper for them, and one call more for writes.
        let sees_reads = vm::with(|vm| vm.sees_reads).unwrap_or(true);
        if sees_reads && !host::request_method().is_some_and(|method| is_write(&method)) {
            return Action::Continue;
        }
        let headers = host::request_headers();
        if !headers.get(":method").is_some_and(is_write) {
            vm::with(|vm| vm.sees_reads = true);
            return Action::Continue;
        }
        let may_stop = may_stop(&config, &headers, ends);
        let own = config.via.as_deref().and_then(|via| vm::with(|vm| vm.mark_prefix(via)));
        let is_own = |value: &[u8]| {
            let number = own.as_deref().and_then(|own| value.strip_prefix(own));
            number.is_some_and(|number| vm::with(|vm| vm.is_redirected(number)).unwrap_or(false))
        };
        let watch = self.exchange.on_request(&config, headers, is_own);
        self.account();
        let OnRequest::Watch { identity, mark, previous } = watch else { return Action::Continue };
        if identity {
            host::ask_for_identity();
        }
        if let Some(own) = own.filter(|_| mark) {
            self.mark = vm::with(vm::Vm::begin_mark);
            let number = self.mark.unwrap_or_default().to_string();
            host::mark_request(&[own.as_slice(), number.as_bytes()].concat());
        }
        if previous && self.look_before(&config, may_stop) { Action::Pause } else { Action::Continue }
    }

    fn on_http_request_body(&mut self, size: usize, _ends: bool) -> Action {
        let waits = self.before.is_some();
        let (from, new) = self.new_piece(size, waits);
        if let Some(config) = self.config.clone()
            && self.exchange.wants_request(new)
            && self.has_room(&config, new)
        {
            self.exchange.on_request_body(host::request_body(from, new));
            self.account();
        }
        if waits { Action::Pause } else { Action::Continue }
    }

    fn on_http_response_headers(&mut self, _count: usize, ends: bool) -> Action {
        self.seen = 0;
        let Some(config) = self.config.clone().filter(|_| self.exchange.awaits_response()) else {
            return Action::Continue;
        };
        let is_foreign = |doubts: Doubts| {
            let details = || host::property(&["response", "code_details"]);
            let cluster = || host::property(&["xds", "cluster_name"]);
            (doubts.local && details().as_deref() != Some(b"via_upstream"))
                || (doubts.companion && cluster().as_deref() == Some(config.companion.cluster.as_bytes()))
        };
        let observation = self.exchange.on_response(&config, &host::response_headers(), ends, is_foreign);
        self.account();
        self.begin(&config, ends, observation)
    }

    fn on_http_response_body(&mut self, size: usize, ends: bool) -> Action {
        let Some(config) = self.config.clone() else { return Action::Continue };
        let (from, new) = self.new_piece(size, self.holding != Holding::No);
        if self.exchange.awaits_end() {
            if self.exchange.wants_response(&config, new) && self.has_room(&config, new) {
                self.exchange.on_response_body(host::response_body(from, new));
                self.account();
            }
            if ends {
                return self.end(&config);
            }
        }
        self.let_go_if_large(&config, size);
        self.action()
    }

    fn on_http_response_trailers(&mut self, _count: usize) -> Action {
        match self.config.clone() {
            Some(config) => self.end(&config),
            None => Action::Continue,
        }
    }

    fn on_log(&mut self) {
        // A redirect of Envoy's own takes the mark along, and begins only now.
        self.end_mark();
        self.forget_hold();
        if let Some(config) = self.config.clone() {
            let observation = self.late.take().or_else(|| self.exchange.on_log());
            self.account();
            if let Some(observation) = observation {
                vm::with(|vm| vm.conclude(&config, self.root, &observation, None));
            }
        }
    }
}

/// Whether a request may be stopped without becoming an error.
///
/// As long as Envoy stops all that follows the headers, it always may. Where the configuration has confirmed that Envoy
/// hands us the body meanwhile (mode `hold`), Envoy would refuse a body that outgrows its buffer.
fn may_stop(config: &Config, headers: &Headers, ends: bool) -> bool {
    let Some(hold) = &config.hold else { return true };
    let length = headers.text("content-length").and_then(|length| length.parse().ok());
    ends || (length.is_some() && hold.begins(false, length))
}
