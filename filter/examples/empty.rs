//! A proxy-wasm filter that does nothing: the measure for what ours costs (`cargo bench-filter`).
//!
//! It is what any filter pays for being one: the VM, a context for each stream, and the callbacks of the SDK.

#[cfg(target_arch = "wasm32")]
mod empty {
    use proxy_wasm::traits::{Context, HttpContext, RootContext};
    use proxy_wasm::types::ContextType;

    proxy_wasm::main! {{
        proxy_wasm::set_root_context(|_| Box::new(Nothing));
    }}

    struct Nothing;

    impl Context for Nothing {}
    impl HttpContext for Nothing {}

    impl RootContext for Nothing {
        fn create_http_context(&self, _id: u32) -> Option<Box<dyn HttpContext>> {
            Some(Box::new(Nothing))
        }

        fn get_type(&self) -> Option<ContextType> {
            Some(ContextType::HttpContext)
        }
    }
}
