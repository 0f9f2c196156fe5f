//! Forgetting what ended long ago, in PostgreSQL.
//!
//! Walks the events in the order of acceptance, which is that of their age, so it needs no index by time and stops at the
//! first event that is young enough and among those kept. Autovacuum makes the room of what is gone usable again.

use deadpool_postgres::Transaction;
use jiff::Timestamp;

use super::transaction::{execute, rows};
use super::{events, micros, rows_of};
use crate::store::{Pruned, StoreError};

pub(super) async fn prune(
    transaction: &Transaction<'_>,
    after: i64,
    limit: usize,
    before: Timestamp,
    first_kept: i64,
) -> Result<Pruned, StoreError> {
    let limit = limit.max(1);
    let oldest = "SELECT seq, accepted_at FROM events WHERE seq > $1 ORDER BY seq LIMIT $2";
    let oldest = rows(transaction, oldest, &[&after, &rows_of(limit)]).await?;
    let is_old = |row: &&tokio_postgres::Row| {
        row.get::<_, i64>("seq") < first_kept || row.get::<_, i64>("accepted_at") < micros(before)
    };
    let mut seqs: Vec<i64> = oldest.iter().take_while(is_old).map(|row| row.get("seq")).collect();
    let mut next = seqs.last().copied().filter(|_| seqs.len() == limit);
    events::hold(transaction, &seqs, true).await?;
    let ended = "SELECT key, event_seq FROM deliveries WHERE event_seq = ANY($1) AND status <> 'pending' \
                 AND (event_seq < $2 OR ended_at < $3) ORDER BY event_seq, key LIMIT $4";
    let ended = rows(transaction, ended, &[&seqs, &first_kept, &micros(before), &rows_of(limit)]).await?;
    if ended.len() == limit
        && let Some(last) = ended.last()
    {
        // There may be more of this event; the next chunk begins with it.
        let last: i64 = last.get("event_seq");
        seqs.retain(|seq| *seq < last);
        next = Some(last - 1);
    }
    let keys: Vec<i64> = ended.iter().map(|row| row.get("key")).collect();
    let (deliveries, _) = remove(transaction, &keys, "status <> 'pending'").await?;
    let gone = "DELETE FROM events e WHERE seq = ANY($1) AND NOT EXISTS \
                (SELECT 1 FROM deliveries WHERE event_seq = e.seq)";
    let events = execute(transaction, gone, &[&seqs]).await?;
    Ok(Pruned { events, deliveries, next })
}

/// Removes deliveries that still fit a condition, with their attempts; returns how many of both.
pub(super) async fn remove(
    transaction: &Transaction<'_>,
    keys: &[i64],
    condition: &str,
) -> Result<(usize, usize), StoreError> {
    if keys.is_empty() {
        return Ok((0, 0));
    }
    let deliveries = format!("DELETE FROM deliveries WHERE key = ANY($1) AND {condition} RETURNING key");
    let gone = rows(transaction, &deliveries, &[&keys]).await?;
    let gone: Vec<i64> = gone.iter().map(|row| row.get(0)).collect();
    let attempts = "DELETE FROM attempts WHERE delivery_key = ANY($1)";
    Ok((gone.len(), execute(transaction, attempts, &[&gone]).await?))
}
