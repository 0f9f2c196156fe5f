//! Unmatched writes in SQLite: counted by shape, the least recently seen shape making room for a new one.

use jiff::Timestamp;
use rusqlite::Connection;

use super::{micros, time};
use crate::model::Shape;
use crate::store::{MOST_COUNTED, StoreError, Unmatched, UnmatchedPlace};

pub(super) fn count(
    connection: &Connection,
    source: &str,
    shapes: &[Shape],
    keep: usize,
    now: Timestamp,
) -> Result<(), StoreError> {
    let mut upsert = connection.prepare_cached(
        "INSERT INTO unmatched (source, method, path, count, status, first_at, last_at) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?6) ON CONFLICT (source, method, path) DO UPDATE SET \
         count = MIN(count + excluded.count, ?7), status = excluded.status, last_at = excluded.last_at",
    )?;
    for shape in shapes {
        let count = i64::try_from(shape.count).unwrap_or(MOST_COUNTED).min(MOST_COUNTED);
        upsert.execute((
            source,
            &shape.method,
            &shape.path,
            count,
            shape.status,
            micros(now),
            MOST_COUNTED,
        ))?;
    }
    let make_room = "DELETE FROM unmatched WHERE seq IN \
                     (SELECT seq FROM unmatched ORDER BY last_at DESC, seq DESC LIMIT -1 OFFSET ?1)";
    let keep = i64::try_from(keep).unwrap_or(i64::MAX);
    connection.prepare_cached(make_room)?.execute([keep])?;
    Ok(())
}

pub(super) fn page(
    connection: &Connection,
    after: Option<UnmatchedPlace>,
    limit: usize,
) -> Result<Vec<Unmatched>, StoreError> {
    let sql = "SELECT seq, source, method, path, count, status, first_at, last_at FROM unmatched \
               WHERE count < ?1 OR (count = ?1 AND seq > ?2) ORDER BY count DESC, seq LIMIT ?3";
    let place = after.unwrap_or(UnmatchedPlace { count: i64::MAX, seq: 0 });
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let mut statement = connection.prepare_cached(sql)?;
    let rows = statement.query_map((place.count, place.seq, limit), |row| {
        Ok(Unmatched {
            place: UnmatchedPlace { seq: row.get(0)?, count: row.get(4)? },
            source: row.get(1)?,
            method: row.get(2)?,
            path: row.get(3)?,
            status: row.get(5)?,
            first_at: time(row.get(6)?),
            last_at: time(row.get(7)?),
        })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

pub(super) fn forget(connection: &Connection) -> Result<(), StoreError> {
    connection.prepare_cached("DELETE FROM unmatched")?.execute([])?;
    Ok(())
}
