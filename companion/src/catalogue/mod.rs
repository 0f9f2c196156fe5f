//! The event catalogue: which event types there are, what their data look like, and when that changes.
//!
//! Learnt from the events that were accepted, by a [`follower`] beside their way, never on it. All but that one is pure: what
//! was observed of a type is a state of bounded size, from which its JSON Schema and a masked sample are made. No value of
//! anybody's data is kept: strings are masked, and words are kept in clear only where they are sure to be one of a few.

use serde::{Deserialize, Serialize};

pub mod asyncapi;
pub mod follower;
pub mod lesson;
pub mod observed;
pub mod openapi;
pub mod rule;
pub mod sample;
pub mod schema;

mod texts;
mod webhook;
mod words;

pub use observed::Observed;
pub use webhook::Described;

/// Which shape a kept state has; one of another is forgotten, and learnt anew.
const VERSION: u32 = 1;

/// A state as it is kept.
#[derive(Deserialize, Serialize)]
struct Kept<T> {
    v: u32,
    o: T,
}

/// A state as it is kept with its row, JSON.
pub fn write(observed: &Observed) -> String {
    // Numbers and strings always serialize.
    serde_json::to_string(&Kept { v: VERSION, o: observed }).unwrap_or_default()
}

/// A state that was kept; the empty one where it is damaged, or of another version.
pub fn read(kept: &str) -> Observed {
    let kept: Option<Kept<Observed>> = serde_json::from_str(kept).ok();
    kept.filter(|kept| kept.v == VERSION).map(|kept| kept.o).unwrap_or_default()
}
