//! Conformance of queues: one suite, run against each backend with its real server.
//!
//! A backend passes all of it or is not a backend. The cases run side by side, each on a queue of its own.

mod bench;
mod conformance;
mod rabbitmq;
mod sqs;
