//! A filter that panics on demand: what callers see of a VM that fails (`tests/e2e/traps.rs`).
//!
//! It fails on a request or a response that bears the header `trap`, and counts those it has seen as `trap_seen`.

#[cfg(target_arch = "wasm32")]
mod trap {
    use proxy_wasm::hostcalls;
    use proxy_wasm::traits::{Context, HttpContext, RootContext};
    use proxy_wasm::types::{Action, ContextType, MetricType};

    proxy_wasm::main! {{
        proxy_wasm::set_root_context(|_| Box::new(Trap));
    }}

    struct Trap;

    impl Context for Trap {}

    impl HttpContext for Trap {
        fn on_http_request_headers(&mut self, _count: usize, _ends: bool) -> Action {
            if let Ok(seen) = hostcalls::define_metric(MetricType::Counter, "trap_seen") {
                let _ = hostcalls::increment_metric(seen, 1);
            }
            assert!(self.get_http_request_header_bytes("trap").is_none(), "asked to fail");
            Action::Continue
        }
    }

    impl RootContext for Trap {
        fn create_http_context(&self, _id: u32) -> Option<Box<dyn HttpContext>> {
            Some(Box::new(Trap))
        }

        fn get_type(&self) -> Option<ContextType> {
            Some(ContextType::HttpContext)
        }
    }
}
