//! The event catalogue: what the API tells, and what it leaves out.

pub mod rule;
