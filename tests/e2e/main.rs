//! End to end: stories of the whole road, with the real Envoy, the real filter and the real companion.
//!
//! Each story starts what it needs, on ports of its own, and decides by causes rather than by the clock: an event
//! that must not come is followed by one that must, and what waits is held by a gate or a frozen process.

mod attack;
mod crash;
mod endings;
mod fetch;
mod foreign;
mod fuzz;
mod gateways;
mod hold;
mod hostcalls;
mod identity;
mod latency;
mod memory;
mod mesh;
mod names;
mod oldest;
mod outage;
mod portal;
mod reconfigure;
mod refusal;
mod replicas;
mod schemathesis;
mod self_service;
mod servers;
mod shapes;
mod silence;
mod traps;
mod unmatched;
mod world;
