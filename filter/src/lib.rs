#![doc = include_str!("../README.md")]
#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing,
        clippy::string_slice,
        clippy::unreachable
    )
)]

// What the operator says.
pub mod config;
pub mod identifier;
pub mod path;
pub mod rules;
pub mod shape;
pub mod singular;

// What an exchange becomes.
pub mod conclusion;
pub mod draft;
pub mod event;
pub mod exchange;
pub mod headers;
pub mod ids;
pub mod json;
pub mod timestamp;

// What of it is told, and of whom.
pub mod changed;
pub mod identity;
pub mod privacy;

// Why an exchange leaves no event, for people who ask.
pub mod explain;

// How representations come, and events leave.
pub mod fetch;
pub mod hold;
pub mod outbox;
pub mod unmatched;

#[cfg(target_arch = "wasm32")]
mod envoy;

#[cfg(test)]
mod fuzz;
