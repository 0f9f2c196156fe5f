//! Forgetting what ended long ago, in SQLite.
//!
//! Walks the events in the order of acceptance, which is that of their age, so it needs no index by time and stops at the
//! first event that is young enough and among those kept. SQLite uses the room again; the file itself does not shrink.

use jiff::Timestamp;
use rusqlite::Connection;

use super::micros;
use crate::store::{Pruned, StoreError};

pub(super) fn prune(
    connection: &Connection,
    after: i64,
    limit: usize,
    before: Timestamp,
    first_kept: i64,
) -> Result<Pruned, StoreError> {
    let limit = limit.max(1);
    let mut pruned = Pruned::default();
    let oldest = "SELECT seq, accepted_at FROM events WHERE seq > ?1 ORDER BY seq LIMIT ?2";
    let mut oldest = connection.prepare_cached(oldest)?;
    let rows = oldest
        .query_map((after, i64::try_from(limit).unwrap_or(i64::MAX)), |row| Ok((row.get(0)?, row.get(1)?)))?;
    let oldest = rows.collect::<Result<Vec<(i64, i64)>, _>>()?;
    for (seq, accepted_at) in &oldest {
        let before = if *seq < first_kept { i64::MAX } else { micros(before) };
        if *accepted_at >= before {
            return Ok(pruned);
        }
        let room = limit - pruned.deliveries;
        let count = prune_deliveries(connection, *seq, room, before)?;
        pruned.deliveries += count;
        if count == room {
            // There may be more of this event; the next chunk begins with it.
            return Ok(Pruned { next: Some(*seq - 1), ..pruned });
        }
        let event = "DELETE FROM events WHERE seq = ?1 AND NOT EXISTS \
                     (SELECT 1 FROM deliveries WHERE event_seq = ?1)";
        pruned.events += connection.prepare_cached(event)?.execute([seq])?;
    }
    pruned.next = oldest.last().filter(|_| oldest.len() == limit).map(|(seq, _)| *seq);
    Ok(pruned)
}

/// Removes up to `room` finished deliveries of an event, with their attempts.
fn prune_deliveries(
    connection: &Connection,
    seq: i64,
    room: usize,
    before: i64,
) -> Result<usize, StoreError> {
    let ended = "SELECT key FROM deliveries \
                 WHERE event_seq = ?1 AND status <> 'pending' AND ended_at < ?2 LIMIT ?3";
    let mut ended = connection.prepare_cached(ended)?;
    let room = i64::try_from(room).unwrap_or(i64::MAX);
    let keys = ended.query_map((seq, before, room), |row| row.get(0))?;
    let keys = keys.collect::<Result<Vec<i64>, _>>()?;
    let mut attempts = connection.prepare_cached("DELETE FROM attempts WHERE delivery_key = ?1")?;
    let mut delivery = connection.prepare_cached("DELETE FROM deliveries WHERE key = ?1")?;
    for key in &keys {
        attempts.execute([key])?;
        delivery.execute([key])?;
    }
    Ok(keys.len())
}
