//! Unmatched writes in PostgreSQL: counted by shape, the least recently seen shape making room for a new one.

use std::collections::BTreeMap;

use deadpool_postgres::{GenericClient, Transaction};
use jiff::Timestamp;
use sha2::{Digest, Sha256};
use tokio_postgres::types::ToSql;

use super::transaction::{execute, rows};
use super::{micros, rows_of, time};
use crate::model::Shape;
use crate::store::{MOST_COUNTED, StoreError, Unmatched, UnmatchedPlace};

pub(super) async fn count(
    transaction: &Transaction<'_>,
    source: &str,
    shapes: &[Shape],
    keep: usize,
    now: Timestamp,
) -> Result<(), StoreError> {
    // One at a time: two reports that name the same shapes would wait for each other in a circle, and make too much room.
    execute(transaction, "LOCK TABLE unmatched IN SHARE ROW EXCLUSIVE MODE", &[]).await?;
    let (mut sums, mut order) = (BTreeMap::<_, (i64, &Shape)>::new(), Vec::new());
    for shape in shapes {
        let count = i64::try_from(shape.count).unwrap_or(MOST_COUNTED).min(MOST_COUNTED);
        let key = (shape.method.as_str(), shape.path.as_str());
        let sum = sums.entry(key).or_insert_with(|| {
            order.push(key);
            (0, shape)
        });
        *sum = ((sum.0 + count).min(MOST_COUNTED), shape);
    }
    let sums: Vec<(i64, &Shape)> = order.iter().filter_map(|key| sums.get(key).copied()).collect();
    let upsert = "INSERT INTO unmatched (identity, source, method, path, count, status, first_at, last_at) \
                  SELECT identity, $2, method, path, count, status, $7, $7 \
                  FROM unnest($1::bytea[], $3::text[], $4::text[], $5::bigint[], $6::bigint[]) WITH ORDINALITY \
                    AS n (identity, method, path, count, status, place) ORDER BY place \
                  ON CONFLICT (identity) DO UPDATE SET count = LEAST(unmatched.count + excluded.count, $8), \
                    status = excluded.status, last_at = excluded.last_at";
    let identity = |shape: &Shape| identity(source, &shape.method, &shape.path);
    let values: [&(dyn ToSql + Sync); 8] = [
        &sums.iter().map(|(_, shape)| identity(shape)).collect::<Vec<_>>(),
        &source,
        &sums.iter().map(|(_, shape)| shape.method.as_str()).collect::<Vec<_>>(),
        &sums.iter().map(|(_, shape)| shape.path.as_str()).collect::<Vec<_>>(),
        &sums.iter().map(|(count, _)| *count).collect::<Vec<_>>(),
        &sums.iter().map(|(_, shape)| i64::from(shape.status)).collect::<Vec<_>>(),
        &micros(now),
        &MOST_COUNTED,
    ];
    execute(transaction, upsert, &values).await?;
    let make_room = "DELETE FROM unmatched WHERE seq IN \
                     (SELECT seq FROM unmatched ORDER BY last_at DESC, seq DESC OFFSET $1)";
    execute(transaction, make_room, &[&rows_of(keep)]).await?;
    Ok(())
}

pub(super) async fn page(
    client: &impl GenericClient,
    after: Option<UnmatchedPlace>,
    limit: usize,
) -> Result<Vec<Unmatched>, StoreError> {
    let sql = "SELECT seq, source, method, path, count, status, first_at, last_at FROM unmatched \
               WHERE count < $1 OR (count = $1 AND seq > $2) ORDER BY count DESC, seq LIMIT $3";
    let place = after.unwrap_or(UnmatchedPlace { count: i64::MAX, seq: 0 });
    let found = rows(client, sql, &[&place.count, &place.seq, &rows_of(limit)]).await?;
    let read = |row: &tokio_postgres::Row| Unmatched {
        place: UnmatchedPlace { seq: row.get("seq"), count: row.get("count") },
        source: row.get("source"),
        method: row.get("method"),
        path: row.get("path"),
        status: u16::try_from(row.get::<_, i64>("status")).unwrap_or_default(),
        first_at: time(row.get("first_at")),
        last_at: time(row.get("last_at")),
    };
    Ok(found.iter().map(read).collect())
}

/// What tells a shape from others, short enough for an index.
pub(in crate::store) fn identity(source: &str, method: &str, path: &str) -> Vec<u8> {
    let parts = [source, "\0", method, "\0", path];
    parts.iter().fold(Sha256::new(), Digest::chain_update).finalize().to_vec()
}
