//! A proxy-wasm filter that makes the calls of an observed write and does nothing with what they bring: what no filter that
//! sees the answer and hands it over can stay below (`cargo bench-filter`).
//!
//! It reads both header maps and both bodies and the time, asks for a plain answer, and posts the bytes of the answers on the
//! tick, in batches as ours are. No rule, no event, no bound, no retry.

#[cfg(target_arch = "wasm32")]
#[path = "../src/envoy/abi.rs"]
mod abi;

#[cfg(target_arch = "wasm32")]
mod floor {
    use std::cell::RefCell;
    use std::time::Duration;

    use proxy_wasm::hostcalls;
    use proxy_wasm::traits::{Context, HttpContext, RootContext};
    use proxy_wasm::types::{Action, BufferType, ContextType, MapType};

    use super::abi::header_map;

    /// Bytes that an event bears besides the answer.
    const ATTRIBUTES: usize = 512;

    thread_local! {
        static WAITING: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
    }

    proxy_wasm::main! {{
        proxy_wasm::set_root_context(|_| Box::new(Floor));
    }}

    struct Floor;

    impl Context for Floor {}

    impl RootContext for Floor {
        fn on_tick(&mut self) {
            let batch = WAITING.take();
            let headers = [
                (":method", "POST"),
                (":path", "/v1/events"),
                (":authority", "gatehook"),
                ("content-type", "text/plain"),
            ];
            let timeout = Duration::from_secs(5);
            let _ = hostcalls::dispatch_http_call(
                "gatehook",
                headers.to_vec(),
                Some(&batch),
                Vec::new(),
                timeout,
            );
            let _ = hostcalls::set_tick_period(Duration::ZERO);
        }

        fn create_http_context(&self, _id: u32) -> Option<Box<dyn HttpContext>> {
            Some(Box::new(Floor))
        }

        fn get_type(&self) -> Option<ContextType> {
            Some(ContextType::HttpContext)
        }
    }

    impl HttpContext for Floor {
        fn on_http_request_headers(&mut self, _count: usize, _ends: bool) -> Action {
            drop(header_map(MapType::HttpRequestHeaders));
            let _ =
                hostcalls::set_map_value(MapType::HttpRequestHeaders, "accept-encoding", Some("identity"));
            Action::Continue
        }

        fn on_http_request_body(&mut self, size: usize, _ends: bool) -> Action {
            if size > 0 {
                drop(hostcalls::get_buffer(BufferType::HttpRequestBody, 0, size));
            }
            Action::Continue
        }

        fn on_http_response_headers(&mut self, _count: usize, _ends: bool) -> Action {
            drop(header_map(MapType::HttpResponseHeaders));
            Action::Continue
        }

        fn on_http_response_body(&mut self, size: usize, _ends: bool) -> Action {
            if size > 0
                && let Ok(Some(body)) = hostcalls::get_buffer(BufferType::HttpResponseBody, 0, size)
            {
                let _ = hostcalls::get_current_time();
                let was_empty = WAITING.with_borrow_mut(|waiting| {
                    let was_empty = waiting.is_empty();
                    waiting.extend_from_slice(&body);
                    waiting.extend_from_slice(&[b' '; ATTRIBUTES]);
                    was_empty
                });
                if was_empty {
                    let _ = hostcalls::set_tick_period(Duration::from_millis(5));
                }
            }
            Action::Continue
        }
    }
}
