//! What commands do with a store's database without being the companion: copy it, check it.
//!
//! Both only read, so the companion may be running; they take none of its locks.

use std::path::Path;

use super::{postgres, redacted, sqlite};

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

/// Stands in [`CHECKS`] for what says that the deliveries `o` and `d` follow each other.
pub(super) const SAME_LANE: &str = "{same lane}";

/// A kind of flaw, and the query that finds the ids of rows that have it. `9223372036854775807` is the time of a delivery
/// that waits for its turn; [`SAME_LANE`] is to be replaced.
pub(super) const CHECKS: [(&str, &str); 11] = [
    (
        "delivery without event",
        "SELECT id FROM deliveries d WHERE NOT EXISTS (SELECT 1 FROM events WHERE seq = d.event_seq)",
    ),
    (
        "attempt without delivery",
        "SELECT DISTINCT 'delivery ' || delivery_key FROM attempts a \
         WHERE NOT EXISTS (SELECT 1 FROM deliveries WHERE key = a.delivery_key)",
    ),
    (
        "delivery whose attempts are not all there",
        "SELECT id FROM deliveries d WHERE attempt_count <> (SELECT COUNT(*) FROM attempts WHERE delivery_key = d.key)",
    ),
    (
        "pending delivery that waits for nobody",
        "SELECT id FROM deliveries d WHERE status = 'pending' AND due_at = 9223372036854775807 AND CASE \
         WHEN resource IS NULL THEN TRUE \
         WHEN key <> (SELECT o.key FROM deliveries o WHERE {same lane} AND o.status = 'pending' \
           ORDER BY o.event_seq LIMIT 1) THEN FALSE \
         ELSE NOT EXISTS (SELECT 1 FROM deliveries o WHERE {same lane} AND o.status = 'pending' AND o.due_at < 9223372036854775807) END",
    ),
    (
        "claim without lease",
        "SELECT id FROM deliveries WHERE claim IS NOT NULL AND (status <> 'pending' OR due_at = 9223372036854775807)",
    ),
    (
        "delivery that has ended and is pending, or neither",
        "SELECT id FROM deliveries WHERE (status = 'pending') = (ended_at IS NOT NULL)",
    ),
    (
        "event with damaged extensions",
        "SELECT id FROM events WHERE extensions IS NOT NULL AND NOT json_valid(extensions)",
    ),
    (
        "subscription with damaged fields",
        "SELECT id FROM subscriptions WHERE NOT (json_valid(events) AND json_valid(metadata) AND json_valid(options))",
    ),
    (
        "replay beyond its range",
        "SELECT id FROM replays WHERE position > last AND status = 'running' OR NOT json_valid(range)",
    ),
    (
        "statistics that do not add up",
        "SELECT 'statistics ' || seq FROM statistics WHERE attempts <> delivered + failed",
    ),
    (
        "event type with damaged fields",
        "SELECT type FROM event_types WHERE NOT (json_valid(COALESCE(state, '{}')) AND json_valid(COALESCE(sample, '{}')))",
    ),
];

/// Copies the store that a URL names into a new file: consistent, as of one moment, on disk (fsync) when it returns. The
/// key that seals its secrets is not part of it.
///
/// # Errors
/// One sentence: a file that is there already, a database that cannot be read, a disk that is full; the file is not there
/// then.
pub fn backup(url: &str, file: &Path) -> anyhow::Result<Copied> {
    if is_postgres(url) {
        anyhow::bail!("--store: {} is copied by PostgreSQL's own pg_dump, while it is in use", redacted(url));
    }
    sqlite::backup::backup(path(url)?, file)
}

/// Checks the store that a URL names, as of one moment, and returns what is wrong: of each kind no more than
/// [`crate::limits::FAULTS`].
///
/// # Errors
/// One sentence: a database that cannot be read, or whose schema is not this program's.
pub fn integrity(url: &str) -> anyhow::Result<Vec<Flaw>> {
    if is_postgres(url) {
        return postgres::integrity::flaws(url);
    }
    sqlite::integrity::flaws(path(url)?)
}

/// Whether a URL names a PostgreSQL database.
pub(super) fn is_postgres(url: &str) -> bool {
    ["postgres://", "postgresql://"].iter().any(|scheme| url.starts_with(scheme))
}

fn path(url: &str) -> anyhow::Result<&Path> {
    match url.split_once(':') {
        Some(("sqlite", path)) if !path.is_empty() => Ok(Path::new(path)),
        _ => anyhow::bail!("--store: `{}` names no store; use sqlite:PATH or postgres://…", redacted(url)),
    }
}
