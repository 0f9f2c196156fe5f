//! `previous: fetch`: a request waits at its headers until the representation before it is read, or the time is over.
//!
//! The GET belongs to the stream: if the caller leaves, nobody needs the answer any more.

use proxy_wasm::traits::Context;

use super::metrics::Counter;
use super::stream::Stream;
use super::{host, vm};
use crate::config::Config;
use crate::fetch::read_head;
use crate::headers::Headers;

impl Stream {
    /// Reads the representation before the request goes on; false if that cannot be, and the request is not to wait.
    pub(super) fn look_before(&mut self, config: &Config, may_stop: bool) -> bool {
        let busy = vm::with(|vm| vm.looking_before).unwrap_or(usize::MAX) >= config.fetch.max_concurrent;
        let asked = self.exchange.asked().filter(|_| may_stop && !busy);
        let target = asked.and_then(|asked| asked.target_before(config, &host::property));
        self.before = target.and_then(|target| host::get(&target, config.fetch.previous_timeout).ok());
        let waits = self.before.is_some();
        vm::with(|vm| {
            vm.looking_before += usize::from(waits);
            vm.metrics.add(Counter::FetchFailed, usize::from(!waits));
        });
        waits
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
        let readable = read_head(&headers, body_size, most).is_ok() && room;
        let body = readable.then(|| host::call_body(body_size)).flatten();
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
