//! Keeping the database in order: what is more than is kept, and times that a clock has made wrong.

use std::collections::BTreeSet;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use deadpool_postgres::{GenericClient, Transaction};
use jiff::Timestamp;

use super::order::{self, WAITING};
use super::transaction::{Durability, execute, row, rows, write};
use super::{PostgresStore, audit, erase, events, micros, rows_of, subscriptions};
use crate::limits;
use crate::model::SubscriptionId;
use crate::retry::later;
use crate::store::{Erased, Erasure, Housekeeping, Note, Sharing, StoreError};

#[async_trait]
impl Housekeeping for PostgresStore {
    async fn first_kept(&self, keep: u64) -> Result<i64, StoreError> {
        first_kept(&self.database.get().await?, keep).await
    }

    async fn prune_log(&self, keep: u64, limit: usize, before: Timestamp) -> Result<usize, StoreError> {
        write!(self.database, Durability::Written, |transaction| prune_log(transaction, keep, limit, before)
            .await)
    }

    async fn reseal(&self, limit: usize) -> Result<usize, StoreError> {
        let vault = &self.database.vault;
        write!(self.database, Durability::Synced, |transaction| subscriptions::reseal(
            transaction,
            vault,
            limit
        )
        .await)
    }

    async fn write_note(&self, note: Note) -> Result<(), StoreError> {
        write!(self.database, Durability::Synced, |transaction| {
            events::lock_places(transaction).await?;
            audit::note(transaction, &note, audit::at(&note)).await
        })
    }

    async fn replace_meta(
        &self,
        name: &'static str,
        expected: Bytes,
        value: Bytes,
        note: Note,
    ) -> Result<(), StoreError> {
        write!(self.database, Durability::Synced, |transaction| {
            events::lock_places(transaction).await?;
            let update = "UPDATE meta SET value = $3 WHERE name = $1 AND value = $2";
            if execute(transaction, update, &[&name, &&expected[..], &&value[..]]).await? == 0 {
                return Err(StoreError::Conflict);
            }
            audit::note(transaction, &note, audit::at(&note)).await
        })
    }

    async fn begin_erasure(&self, what: Erasure, note: Note) -> Result<i64, StoreError> {
        write!(self.database, Durability::Synced, |transaction| erase::begin(transaction, &what, &note).await)
    }

    async fn erase(
        &self,
        what: Erasure,
        (after, until): (i64, i64),
        limit: usize,
        now: Timestamp,
    ) -> Result<Erased, StoreError> {
        let window = erase::look(&self.database.get().await?, &what, (after, until), limit).await?;
        write!(self.database, Durability::Written, |transaction| {
            erase::erase(transaction, &what, until, &window, limit, now).await
        })
    }

    async fn erase_subscription(&self, id: SubscriptionId, limit: usize) -> Result<Erased, StoreError> {
        write!(self.database, Durability::Written, |transaction| erase::subscription(transaction, &id, limit)
            .await)
    }

    /// Always false: see [`erase`] for what is left, and where.
    async fn finish_erasure(&self) -> Result<bool, StoreError> {
        let connection = self.database.get().await?;
        erase::vacuum(&connection).await?;
        Ok(false)
    }

    /// Nothing: every process would do it again, and they all go by the server's clock.
    async fn shift_due(&self, _by: Duration, _now: Timestamp) -> Result<usize, StoreError> {
        Ok(0)
    }
}

impl PostgresStore {
    /// As [`put_right`], while companions run, by the server's clock. Beside pruning, which one process does now and then.
    pub(super) async fn put_right(&self) -> Result<(), StoreError> {
        let Some(now) = self.clock().await? else { return Ok(()) };
        let due =
            write!(self.database, Durability::Written, |transaction| put_right(transaction, now).await)?;
        if due > 0 {
            tracing::warn!(deliveries = due, "made due what waited too long or for nobody");
        }
        Ok(())
    }
}

async fn first_kept(client: &impl GenericClient, keep: u64) -> Result<i64, StoreError> {
    let events: i64 = row(client, "SELECT count(*) FROM events", &[]).await?.map_or(0, |row| row.get(0));
    let beyond = events.saturating_sub(i64::try_from(keep).unwrap_or(i64::MAX));
    if beyond <= 0 {
        return Ok(0);
    }
    // From the old end: what stands there is about to be pruned, and need not be passed again.
    let first = row(client, "SELECT seq FROM events ORDER BY seq OFFSET $1 LIMIT 1", &[&beyond]).await?;
    // None at all are kept.
    Ok(first.map_or(i64::MAX, |row| row.get(0)))
}

async fn prune_log(
    transaction: &Transaction<'_>,
    keep: u64,
    limit: usize,
    before: Timestamp,
) -> Result<usize, StoreError> {
    let keep = i64::try_from(keep).unwrap_or(i64::MAX);
    // Places have gaps where a change was given up, so lines are counted.
    let lines = "DELETE FROM audit WHERE seq IN (SELECT seq FROM audit \
                 WHERE seq <= (SELECT seq FROM audit ORDER BY seq DESC OFFSET $1 LIMIT 1) ORDER BY seq LIMIT $2)";
    let lines = execute(transaction, lines, &[&keep, &rows_of(limit)]).await?;
    let replays = "DELETE FROM replays WHERE id IN \
                   (SELECT id FROM replays WHERE status <> 'running' AND ended_at < $1 ORDER BY id LIMIT $2)";
    let replays = execute(transaction, replays, &[&micros(before), &rows_of(limit)]).await?;
    Ok(lines + replays)
}

/// Puts right what can only be wrong: a delivery that is due later than any policy says, because a clock was
/// ahead; and one that waits for its turn where nobody is before it. Returns how many are due now. Others may be at work.
pub(super) async fn put_right(transaction: &Transaction<'_>, now: Timestamp) -> Result<usize, StoreError> {
    let farthest = micros(later(now, limits::DUE_FARTHEST));
    let lost = "SELECT DISTINCT lane FROM deliveries d WHERE status = 'pending' AND due_at = $1 AND lane IS NOT NULL \
                AND NOT EXISTS (SELECT 1 FROM deliveries o WHERE o.lane = d.lane AND o.status = 'pending' AND o.due_at < $1)";
    let lost = rows(transaction, lost, &[&WAITING]).await?;
    let lost: BTreeSet<i64> = lost.iter().map(|row| row.get(0)).collect();
    order::lock(transaction, lost.iter().copied()).await?;
    let woken = order::wake(transaction, &lost, micros(now)).await?.len();
    let late = "UPDATE deliveries SET due_at = $1 WHERE status = 'pending' AND \
                (due_at > $2 AND due_at < $3 OR due_at = $3 AND lane IS NULL)";
    let late = execute(transaction, late, &[&micros(now), &farthest, &WAITING]).await?;
    Ok(woken + late)
}
