//! What commands do with a store's database without being the companion: copy it, check it.
//!
//! Both only read, so the companion may be running; they take none of its locks.

use std::path::Path;

use super::{redacted, sqlite};

/// A copy that was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Copied {
    /// Bytes of the copy.
    pub size: u64,
    /// What is in it, and how many rows of it.
    pub rows: Vec<(&'static str, u64)>,
}

/// A row that contradicts another, or the database's own structure.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Flaw {
    /// What is wrong, such as `delivery without event`.
    pub flaw: &'static str,
    /// Where: an id, or what the database says of itself.
    pub at: String,
}

/// Copies the store that a URL names into a new file: consistent, as of one moment, on disk (fsync) when it returns. The
/// key that seals its secrets is not part of it.
///
/// # Errors
/// One sentence: a file that is there already, a database that cannot be read, a disk that is full; the file is not there
/// then.
pub fn backup(url: &str, file: &Path) -> anyhow::Result<Copied> {
    sqlite::backup::backup(path(url)?, file)
}

/// Checks the store that a URL names, as of one moment, and returns what is wrong: of each kind no more than
/// [`crate::limits::FAULTS`].
///
/// # Errors
/// One sentence: a database that cannot be read, or whose schema is not this program's.
pub fn integrity(url: &str) -> anyhow::Result<Vec<Flaw>> {
    sqlite::integrity::flaws(path(url)?)
}

fn path(url: &str) -> anyhow::Result<&Path> {
    match url.split_once(':') {
        Some(("sqlite", path)) if !path.is_empty() => Ok(Path::new(path)),
        _ => anyhow::bail!("--store: `{}` is not a file; use sqlite:PATH", redacted(url)),
    }
}
