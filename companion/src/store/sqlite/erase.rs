//! Erasing what belongs to a subject or a tenant, in SQLite.
//!
//! Neither has an index: every event would pay for what is asked once in a while. So an erasure walks the events in the
//! order of acceptance: looks at a window through a reader, and removes what it found through the writer.
//!
//! SQLite only marks deleted rows as free. `secure_delete` has it write zeros over them; the pages as they were before stand
//! in the write-ahead log until a checkpoint truncates it.

use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;
use rusqlite::{Connection, OpenFlags};

use super::deliveries::WAITING;
use super::{audit, catalogue, micros, statistics};
use crate::limits;
use crate::model::SubscriptionId;
use crate::store::{Erased, Erasure, Note, StoreError, Traces};

/// How long one try of the checkpoint waits for readers, during which the writer waits too.
const CHECKPOINT_WAIT: Duration = Duration::from_millis(100);
/// Pause between two tries, for the writer.
const CHECKPOINT_PAUSE: Duration = Duration::from_millis(50);
/// Tries: some seconds, more than any reader of ours takes.
const CHECKPOINT_TRIES: usize = 40;

/// Matching events that a window has, and where to look next.
#[derive(Debug, Default)]
pub(super) struct Window {
    events: Vec<i64>,
    next: Option<i64>,
}

/// SQL for whether the event `e` is to be erased; the subject or tenant is parameter 1. An event of ours that tells of an
/// exhausted delivery repeats the subject of what was to be delivered.
fn matches(what: &Erasure) -> &'static str {
    match what {
        Erasure::Tenant(_) => "e.tenant IS ?1",
        // With a slash behind both, a subject is itself or below where it begins with the other.
        Erasure::Subject(_) => {
            "substr(e.subject || '/', 1, length(?1) + 1) IS ?1 || '/' OR (e.type = 'gatehook.delivery.exhausted' \
             AND json_valid(CAST(e.data AS TEXT)) AND substr(json_extract(CAST(e.data AS TEXT), '$.event.subject') || '/', 1, length(?1) + 1) IS ?1 || '/')"
        }
    }
}

fn wanted(what: &Erasure) -> &str {
    match what {
        Erasure::Subject(text) | Erasure::Tenant(text) => text,
    }
}

pub(super) fn begin(connection: &Connection, what: &Erasure, note: &Note) -> Result<i64, StoreError> {
    if let Erasure::Subject(subject) = what {
        let replays = "DELETE FROM replays WHERE substr(json_extract(range, '$.subject') || '/', 1, length(?1) + 1) = ?1 || '/'";
        overwriting(connection, || Ok(connection.execute(replays, [subject])?))?;
    }
    forget_learnt(connection, what)?;
    if let Erasure::Tenant(tenant) = what {
        overwriting(connection, || forget_traces(connection, tenant))?;
    }
    audit::note(connection, note, audit::at(note))?;
    Ok(connection.query_row("SELECT COALESCE(MAX(seq), 0) FROM events", [], |row| row.get(0))?)
}

/// Looks at the next events, up to [`limits::ERASE_WINDOW`], until `limit` of them or [`limits::ERASE_BYTES`] match.
pub(super) fn look(
    connection: &Connection,
    what: &Erasure,
    (after, until): (i64, i64),
    limit: usize,
) -> Result<Window, StoreError> {
    let sql = format!(
        "SELECT e.seq, {}, COALESCE(length(e.data), 0) + COALESCE(length(e.extensions), 0) FROM events e \
         WHERE e.seq > ?2 AND e.seq <= ?3 ORDER BY e.seq LIMIT ?4",
        matches(what)
    );
    let mut statement = connection.prepare_cached(&sql)?;
    let most = i64::try_from(limits::ERASE_WINDOW).unwrap_or(i64::MAX);
    let mut rows = statement.query((wanted(what), after, until, most))?;
    let (mut window, mut looked, mut bytes) = (Window::default(), 0, 0);
    while let Some(row) = rows.next()? {
        let seq = row.get(0)?;
        looked += 1;
        if row.get::<_, Option<bool>>(1)? == Some(true) {
            window.events.push(seq);
            bytes += row.get::<_, i64>(2)?.unsigned_abs();
        }
        if looked == limits::ERASE_WINDOW || window.events.len() == limit || bytes >= limits::ERASE_BYTES {
            window.next = Some(seq);
            break;
        }
    }
    Ok(window)
}

/// Removes the events of a window with their deliveries, of these no more than `limit`.
pub(super) fn erase(
    connection: &Connection,
    what: &Erasure,
    until: i64,
    window: &Window,
    limit: usize,
    now: Timestamp,
) -> Result<Erased, StoreError> {
    let limit = limit.max(1);
    let mut erased = Erased { next: window.next, ..Erased::default() };
    let erased = overwriting(connection, || {
        for seq in &window.events {
            let room = limit - erased.deliveries;
            let pending = remove(connection, "event_seq", seq, room, &mut erased)?;
            for (subscription, resource) in pending {
                if release(connection, what, until, (&subscription, &resource), now)? {
                    erased.released.push(SubscriptionId(subscription));
                }
            }
            if erased.deliveries == limit {
                // There may be more of this event; the next chunk begins with it.
                erased.next = Some(*seq - 1);
                break;
            }
            erased.events +=
                connection.prepare_cached("DELETE FROM events WHERE seq = ?1")?.execute([seq])?;
        }
        erased.released.sort();
        erased.released.dedup();
        Ok(erased)
    })?;
    // What was learnt since the beginning rests on events that were still there.
    if erased.next.is_none() {
        forget_learnt(connection, what)?;
    }
    Ok(erased)
}

/// Takes a tenant's name out of what it leaves beside its events: the audit log, keys of its requests, counts of charts.
fn forget_traces(connection: &Connection, tenant: &str) -> Result<(), StoreError> {
    let Traces { actor, detail, keys, owner } = Traces::of(tenant);
    connection.execute("UPDATE audit SET actor = 'tenant' WHERE actor = ?1", [actor])?;
    connection.execute(
        "UPDATE audit SET detail = NULL WHERE action = 'portal-link.create' AND detail = ?1",
        [detail],
    )?;
    connection.execute("DELETE FROM idempotency WHERE substr(key, 1, length(?1)) = ?1", [keys])?;
    connection.execute("DELETE FROM statistics WHERE owner = ?1", [owner])?;
    Ok(())
}

/// Forgets what the catalogue has learnt of a tenant's events. Of a subject it keeps nothing.
fn forget_learnt(connection: &Connection, what: &Erasure) -> Result<(), StoreError> {
    if let Erasure::Tenant(tenant) = what {
        catalogue::forget(connection, "tenant", tenant)?;
    }
    Ok(())
}

/// Removes up to `limit` deliveries of a subscription, and itself after the last.
pub(super) fn subscription(
    connection: &Connection,
    id: &SubscriptionId,
    limit: usize,
) -> Result<Erased, StoreError> {
    overwriting(connection, || {
        let mut erased = Erased::default();
        remove(connection, "subscription_id", id.as_str(), limit, &mut erased)?;
        if erased.deliveries >= limit {
            return Ok(Erased { next: Some(0), ..erased });
        }
        if statistics::forget(connection, id.as_str(), limit)? >= limit {
            return Ok(Erased { next: Some(0), ..erased });
        }
        connection.execute("DELETE FROM replays WHERE subscription_id = ?1", [id.as_str()])?;
        connection.execute("DELETE FROM subscriptions WHERE id = ?1", [id.as_str()])?;
        Ok(erased)
    })
}

/// Removes up to `limit` deliveries by one of their columns, with their attempts; returns subscription and resource of
/// those that others may have waited for.
fn remove(
    connection: &Connection,
    column: &'static str,
    value: impl rusqlite::ToSql,
    limit: usize,
    erased: &mut Erased,
) -> Result<Vec<(String, String)>, StoreError> {
    let sql = format!(
        "SELECT key, subscription_id, CASE WHEN status = 'pending' THEN resource END FROM deliveries WHERE {column} = ?1 LIMIT ?2"
    );
    let mut select = connection.prepare_cached(&sql)?;
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let found = select.query_map((value, limit), |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
    let found = found.collect::<Result<Vec<(i64, String, Option<String>)>, _>>()?;
    let mut attempts = connection.prepare_cached("DELETE FROM attempts WHERE delivery_key = ?1")?;
    let mut delivery = connection.prepare_cached("DELETE FROM deliveries WHERE key = ?1")?;
    let mut pending = Vec::new();
    for (key, subscription, resource) in found {
        erased.attempts += attempts.execute([key])?;
        erased.deliveries += delivery.execute([key])?;
        pending.extend(resource.map(|resource| (subscription, resource)));
    }
    Ok(pending)
}

/// Makes the next delivery of a resource due where nothing of it is under way or due any more, unless it is about to be
/// erased itself; says whether it did.
fn release(
    connection: &Connection,
    what: &Erasure,
    until: i64,
    (subscription, resource): (&str, &str),
    now: Timestamp,
) -> Result<bool, StoreError> {
    let sql = format!(
        "UPDATE deliveries SET due_at = ?2 WHERE due_at = ?3 AND key = \
           (SELECT key FROM deliveries WHERE subscription_id = ?4 AND resource = ?5 AND status = 'pending' \
            ORDER BY event_seq LIMIT 1) \
         AND NOT EXISTS (SELECT 1 FROM deliveries WHERE subscription_id = ?4 AND resource = ?5 AND status = 'pending' \
            AND due_at < ?3) \
         AND NOT EXISTS (SELECT 1 FROM events e WHERE e.seq = deliveries.event_seq AND e.seq <= ?6 AND ({}))",
        matches(what)
    );
    let values = (wanted(what), micros(now), WAITING, subscription, resource, until);
    Ok(connection.prepare_cached(&sql)?.execute(values)? > 0)
}

/// Has what `work` deletes overwritten with zeros, whole pages that become free too.
pub(super) fn overwriting<T>(
    connection: &Connection,
    work: impl FnOnce() -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    connection.pragma_update(None, "secure_delete", "ON")?;
    let result = work();
    connection.pragma_update(None, "secure_delete", "FAST")?;
    result
}

/// Empties the write-ahead log, where the pages still stand as they were; false where a reader needed it all the while.
/// Blocks, for seconds at worst; the writer waits for a try of it, not for all of them.
pub(super) fn truncate_log(path: &Path) -> Result<bool, StoreError> {
    let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    connection.busy_timeout(CHECKPOINT_WAIT)?;
    for _ in 0..CHECKPOINT_TRIES {
        // Copies and syncs without holding anybody up, so that little is left for what does.
        connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()))?;
        let busy: bool = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0))?;
        if !busy {
            return Ok(true);
        }
        std::thread::sleep(CHECKPOINT_PAUSE);
    }
    Ok(false)
}
