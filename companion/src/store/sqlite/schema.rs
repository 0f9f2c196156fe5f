//! The schema of a database: its version, and whether the database is to be used at all.

use anyhow::{Context, bail, ensure};
use rusqlite::{Connection, OptionalExtension};

use super::events;
use crate::store::migration::MOVED_TO;

/// Migrations in order; the database's `user_version` counts those applied.
pub(super) const MIGRATIONS: &[&str] = &[
    include_str!("../../../migrations/sqlite/0001_initial.sql"),
    include_str!("../../../migrations/sqlite/0002_unmatched.sql"),
    include_str!("../../../migrations/sqlite/0003_delivery.sql"),
    include_str!("../../../migrations/sqlite/0004_places.sql"),
    include_str!("../../../migrations/sqlite/0005_keys.sql"),
    include_str!("../../../migrations/sqlite/0006_tenants.sql"),
    include_str!("../../../migrations/sqlite/0007_statistics.sql"),
    include_str!("../../../migrations/sqlite/0008_catalogue.sql"),
];

/// Applies what is missing.
pub(super) fn migrate(connection: &mut Connection) -> anyhow::Result<()> {
    let applied: u32 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    let applied = applied as usize;
    if applied > MIGRATIONS.len() {
        bail!("its schema has version {applied}, newer than this program's {}", MIGRATIONS.len());
    }
    for (index, sql) in MIGRATIONS.iter().enumerate().skip(applied) {
        let transaction = connection.transaction()?;
        transaction.execute_batch(sql).with_context(|| format!("migration {} failed", index + 1))?;
        transaction.pragma_update(None, "user_version", u32::try_from(index + 1)?)?;
        transaction.commit()?;
    }
    Ok(())
}

/// Where the database was moved to, if it was.
pub(in crate::store) fn moved_to(connection: &Connection) -> anyhow::Result<Option<String>> {
    let sql = "SELECT CAST(value AS TEXT) FROM meta WHERE name = ?1";
    Ok(connection.query_row(sql, [MOVED_TO], |row| row.get(0)).optional()?)
}

/// The last place in the order of acceptance that was given.
pub(in crate::store) fn last_place(connection: &Connection) -> anyhow::Result<i64> {
    Ok(events::newest(connection)?)
}

/// Makes sure that a database has this program's schema.
pub(in crate::store) fn is_current(connection: &Connection) -> anyhow::Result<()> {
    let version: u32 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    let own = MIGRATIONS.len();
    ensure!(
        version as usize == own,
        "its schema has version {version}, this program's is {own}; start the companion once"
    );
    Ok(())
}
