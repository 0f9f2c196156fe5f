//! The root context: configuration, the tick that sends, the answers, and the way out.
//!
//! Envoy makes a root on its main thread too, so nothing starts here by itself: the first event of a stream starts the
//! tick. A root that goes hands the outbox to one that stays; the last of them sends what it can, and asks for time until
//! the answers are in. Envoy grants that time on a change of configuration, but not at its own end.

use std::rc::Rc;
use std::time::Duration;

use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::{ContextType, LogLevel};

use super::stream::Stream;
use super::{host, vm};
use crate::config::Config;
use crate::headers::Headers;

/// How long the last root of a destination goes on trying after its configuration is gone.
const LAST_TRY: Duration = Duration::from_secs(60);

/// The root context of one plugin configuration.
pub(super) struct Root {
    id: u32,
    config: Option<Rc<Config>>,
    /// Set when Envoy is done with this root but the root is not: until when it tries.
    until: Option<Duration>,
}

impl Root {
    pub(super) fn new(id: u32) -> Self {
        Self { id, config: None, until: None }
    }

    /// Once Envoy is done with this root: tells it when the root is, too.
    fn finish_if_done(&mut self, config: &Config) {
        let Some(until) = self.until else { return };
        let id = self.id;
        let finished = vm::with(|vm| {
            let Some(hub) = vm.hubs.get(&config.companion) else { return true };
            if !hub.roots.is_empty() {
                // A root that stays has the outbox; only this root's own answers are waited for.
                return !hub.awaits_answer(id);
            }
            let over = hub.is_empty() || host::now() > until;
            if over {
                vm.abandon(&config.companion);
            }
            over
        });
        if finished == Some(true) {
            self.until = None;
            host::done();
        }
    }
}

impl Context for Root {
    fn on_http_call_response(&mut self, token: u32, headers: usize, body_size: usize, _trailers: usize) {
        let Some(config) = self.config.clone() else { return };
        let headers = if headers > 0 { host::call_headers() } else { Headers::new() };
        vm::with(|vm| vm.answer(&config, self.id, token, &headers, body_size));
        self.finish_if_done(&config);
    }

    fn on_done(&mut self) -> bool {
        let Some(config) = self.config.clone() else { return true };
        let id = self.id;
        let finished = vm::with(|vm| {
            let Some(hub) = vm.hubs.get_mut(&config.companion) else { return true };
            hub.roots.retain(|root| *root != id);
            if let Some(successor) = hub.roots.last().copied() {
                hub.hand_over_tick(id, successor);
                return !hub.awaits_answer(id);
            }
            if hub.is_empty() {
                vm.abandon(&config.companion);
                return true;
            }
            // There may be no later: a failure is not waited out any more.
            hub.outbox.stop_waiting();
            vm.tick(&config, id);
            false
        });
        let finished = finished.unwrap_or(true);
        self.until = (!finished).then(|| host::now() + LAST_TRY);
        finished
    }
}

impl RootContext for Root {
    fn on_configure(&mut self, _size: usize) -> bool {
        let json = host::plugin_configuration().unwrap_or_default();
        match Config::parse(&json) {
            Ok(config) => {
                vm::with(|vm| vm.join(&config, self.id));
                self.config = Some(Rc::new(config));
                true
            }
            Err(faults) => {
                for fault in faults.to_string().lines() {
                    host::log(LogLevel::Error, &format!("the configuration is refused: {fault}"));
                }
                false
            }
        }
    }

    fn on_tick(&mut self) {
        let Some(config) = self.config.clone() else { return };
        vm::with(|vm| vm.tick(&config, self.id));
        self.finish_if_done(&config);
    }

    fn create_http_context(&self, id: u32) -> Option<Box<dyn HttpContext>> {
        Some(Box::new(Stream::new(self.config.clone(), self.id, id)))
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }
}
