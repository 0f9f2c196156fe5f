//! The audit log in SQLite, and events of our own: both stand in the transaction of the change that they tell of.

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension};

use super::{events, micros, time};
use crate::limits;
use crate::store::{AuditEntry, AuditLine, Idempotency, Note, StoreError};

/// Writes what is told of a change.
pub(super) fn note(connection: &Connection, note: &Note, now: Timestamp) -> Result<(), StoreError> {
    if let Some(asked) = &note.idempotency {
        once(connection, asked)?;
    }
    if let Some(entry) = &note.audit {
        let insert = "INSERT INTO audit (at, actor, action, resource, detail) VALUES (?1, ?2, ?3, ?4, ?5)";
        let AuditEntry { at, actor, action, resource, detail } = entry;
        connection.prepare_cached(insert)?.execute((micros(*at), actor, action, resource, detail))?;
    }
    events::accept(connection, &note.news, now)?;
    Ok(())
}

/// When a change was made that has no time of its own.
pub(super) fn at(note: &Note) -> Timestamp {
    note.audit.as_ref().map_or(Timestamp::UNIX_EPOCH, |entry| entry.at)
}

/// Refuses a key that was used within the last [`limits::IDEMPOTENCY`], and forgets older ones.
fn once(connection: &Connection, asked: &Idempotency) -> Result<(), StoreError> {
    let old = limits::IDEMPOTENCY.as_micros();
    let old = micros(asked.at).saturating_sub(i64::try_from(old).unwrap_or(i64::MAX));
    connection.prepare_cached("DELETE FROM idempotency WHERE created_at < ?1")?.execute([old])?;
    let known = "SELECT request, resource FROM idempotency WHERE key = ?1";
    let known: Option<([u8; 32], String)> = connection
        .prepare_cached(known)?
        .query_row([&asked.key], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    if let Some((request, resource)) = known {
        return Err(StoreError::Repeated { resource, same: request == asked.request });
    }
    let insert = "INSERT INTO idempotency (key, request, resource, created_at) VALUES (?1, ?2, ?3, ?4)";
    connection.prepare_cached(insert)?.execute((
        &asked.key,
        asked.request,
        &asked.resource,
        micros(asked.at),
    ))?;
    Ok(())
}

pub(super) fn page(
    connection: &Connection,
    before: Option<i64>,
    limit: usize,
) -> Result<Vec<AuditLine>, StoreError> {
    let sql = "SELECT seq, at, actor, action, resource, detail FROM audit WHERE seq < ?1 ORDER BY seq DESC LIMIT ?2";
    let mut statement = connection.prepare_cached(sql)?;
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let rows = statement.query_map((before.unwrap_or(i64::MAX), limit), |row| {
        let entry = AuditEntry {
            at: time(row.get(1)?),
            actor: row.get(2)?,
            action: row.get(3)?,
            resource: row.get(4)?,
            detail: row.get(5)?,
        };
        Ok(AuditLine { seq: row.get(0)?, entry })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}
