//! The harness: everything the demo, the end-to-end tests and the benchmarks start, as builders.
//!
//! It brings what a machine with Rust and Python lacks (Envoy, the API server, the wasm target) into
//! `target/harness/`, starts real processes on ports the kernel chose, and stops each of them by its id. Nothing
//! here knows what Gatehook should do: expectations belong to the tests, so this crate only starts, asks and records.

// What everything else stands on.
pub mod dice;
pub mod machine;
pub mod progress;
pub mod skip;
pub mod wait;
pub mod workspace;

// Processes, and what they need before they can start.
pub mod amqp;
pub mod browser;
pub mod node;
pub mod ports;
pub mod postgres;
pub mod process;
pub mod python;
pub mod sqs;

// HTTP, spoken and served.
pub mod cable;
pub mod http;
pub mod receiver;
pub mod server;
pub mod upstream;

// The parts of a running system.
pub mod apis;
pub mod companion;
pub mod envoy;
pub mod gateway;
pub mod issuer;
pub mod kinto;
pub mod load;
pub mod mesh;
pub mod recorder;
pub mod report;
pub mod sample;
pub mod wasm;

pub use browser::Browser;
pub use cable::Cable;
pub use companion::Companion;
pub use gateway::Gateway;
pub use kinto::Kinto;
pub use postgres::Postgres;
pub use receiver::{Arrival, Receiver, Reply};
pub use recorder::Recorder;
pub use sqs::Sqs;
pub use upstream::{Answer, Gate, Upstream};
