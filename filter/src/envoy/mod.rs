//! The adapter to Envoy: proxy-wasm callbacks in, host calls out, no policy of its own.
//!
//! Nothing outside this folder names proxy_wasm. Events are sent from root callbacks alone, because the SDK loses the
//! answer to a call that a stream made and did not outlive. A stream only puts its event into the outbox and starts its
//! root's tick. The outbox belongs to the VM, so a change of configuration with the same code finds it as it was.

mod abi;
mod before;
mod host;
mod metrics;
mod observed;
mod root;
mod stream;
mod vm;

proxy_wasm::main! {{
    proxy_wasm::set_root_context(|id| Box::new(root::Root::new(id)));
}}
