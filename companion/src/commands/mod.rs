//! The commands beside `serve`: what can be known of a configuration before any traffic meets it, and a database copied
//! and checked.
//!
//! Those of the first kind run the filter's own code, compiled in: its parser, its rules, its exchange. Only [`rehearsal`] knows how an
//! exchange is played through, so a change of the filter's interface is felt in one place.

use std::process::ExitCode;

pub mod backup;
pub mod check;
mod configurations;
pub mod explain;
mod input;
pub mod integrity;
pub mod migrate_store;
pub mod openapi;
pub(crate) mod rehearsal;
pub mod verify;

pub use backup::Backup;
pub use check::Check;
pub use explain::Explain;
pub use integrity::Integrity;
pub use migrate_store::MigrateStore;
pub use openapi::Openapi;
pub use verify::Verify;

/// What a shell is told of a command that did its work: success if what it looked at holds.
fn exit_code(holds: bool) -> ExitCode {
    if holds { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
