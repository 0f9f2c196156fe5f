//! Keeping the database in order: what is more than is kept, and times that a clock has made wrong.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use jiff::Timestamp;
use rusqlite::Connection;

use super::deliveries::WAITING;
use super::writer::Durability;
use super::{SqliteStore, audit, erase, micros, subscriptions};
use crate::limits;
use crate::model::SubscriptionId;
use crate::retry::later;
use crate::store::{Erased, Erasure, Housekeeping, Note, StoreError};

#[async_trait]
impl Housekeeping for SqliteStore {
    async fn first_kept(&self, keep: u64) -> Result<i64, StoreError> {
        self.readers.read(move |connection| first_kept(connection, keep)).await
    }

    async fn prune_log(&self, keep: u64, limit: usize, before: Timestamp) -> Result<usize, StoreError> {
        let prune = move |connection: &Connection| prune_log(connection, keep, limit, before);
        self.writer.write(Durability::Written, prune).await
    }

    async fn reseal(&self, limit: usize) -> Result<usize, StoreError> {
        let vault = self.vault.clone();
        let reseal = move |connection: &Connection| subscriptions::reseal(connection, &vault, limit);
        self.writer.write(Durability::Synced, reseal).await
    }

    async fn write_note(&self, note: Note) -> Result<(), StoreError> {
        let write = move |connection: &Connection| audit::note(connection, &note, audit::at(&note));
        self.writer.write(Durability::Synced, write).await
    }

    async fn replace_meta(
        &self,
        name: &'static str,
        expected: Bytes,
        value: Bytes,
        note: Note,
    ) -> Result<(), StoreError> {
        let replace = move |connection: &Connection| {
            let update = "UPDATE meta SET value = ?3 WHERE name = ?1 AND value = ?2";
            if connection.prepare_cached(update)?.execute((name, &*expected, &*value))? == 0 {
                return Err(StoreError::Conflict);
            }
            audit::note(connection, &note, audit::at(&note))
        };
        self.writer.write(Durability::Synced, replace).await
    }

    async fn begin_erasure(&self, what: Erasure, note: Note) -> Result<i64, StoreError> {
        let begin = move |connection: &Connection| erase::begin(connection, &what, &note);
        self.writer.write(Durability::Synced, begin).await
    }

    async fn erase(
        &self,
        what: Erasure,
        (after, until): (i64, i64),
        limit: usize,
        now: Timestamp,
    ) -> Result<Erased, StoreError> {
        let sought = what.clone();
        let look = move |connection: &Connection| erase::look(connection, &sought, (after, until), limit);
        let window = self.readers.read(look).await?;
        let erase =
            move |connection: &Connection| erase::erase(connection, &what, until, &window, limit, now);
        self.writer.write(Durability::Written, erase).await
    }

    async fn erase_subscription(&self, id: SubscriptionId, limit: usize) -> Result<Erased, StoreError> {
        let erase = move |connection: &Connection| erase::subscription(connection, &id, limit);
        self.writer.write(Durability::Written, erase).await
    }

    async fn finish_erasure(&self) -> Result<bool, StoreError> {
        let path = self.readers.path.clone();
        let truncate = tokio::task::spawn_blocking(move || erase::truncate_log(&path));
        truncate.await.map_err(|error| StoreError::Unavailable(error.into()))?
    }

    async fn shift_due(&self, by: Duration, now: Timestamp) -> Result<usize, StoreError> {
        let by = i64::try_from(by.as_micros()).unwrap_or(i64::MAX);
        let (mut place, mut count) = (Place::default(), 0);
        loop {
            let after = place.clone();
            let found = self.readers.read(move |connection| due_after(connection, &after, now)).await?;
            let Some(last) = found.last() else {
                return Ok(count);
            };
            place = last.clone();
            let shift = move |connection: &Connection| shift(connection, &found, by);
            count += self.writer.write(Durability::Written, shift).await?;
        }
    }
}

fn first_kept(connection: &Connection, keep: u64) -> Result<i64, StoreError> {
    let count: i64 = connection.query_row("SELECT COUNT(*) FROM events", [], |row| row.get(0))?;
    let beyond = count.saturating_sub(i64::try_from(keep).unwrap_or(i64::MAX));
    if beyond <= 0 {
        return Ok(0);
    }
    // From the old end: what stands there is about to be pruned, and need not be passed again.
    let first = "SELECT seq FROM events ORDER BY seq LIMIT 1 OFFSET ?1";
    match connection.prepare_cached(first)?.query_row([beyond], |row| row.get(0)) {
        // None at all are kept.
        Err(rusqlite::Error::QueryReturnedNoRows) => Ok(i64::MAX),
        found => Ok(found?),
    }
}

fn prune_log(
    connection: &Connection,
    keep: u64,
    limit: usize,
    before: Timestamp,
) -> Result<usize, StoreError> {
    let (keep, limit) = (i64::try_from(keep).unwrap_or(i64::MAX), i64::try_from(limit).unwrap_or(i64::MAX));
    // Lines are only ever removed from the old end, so places have no gaps.
    let lines = "DELETE FROM audit WHERE seq IN \
                 (SELECT seq FROM audit WHERE seq <= (SELECT MAX(seq) FROM audit) - ?1 ORDER BY seq LIMIT ?2)";
    let lines = connection.prepare_cached(lines)?.execute((keep, limit))?;
    let replays = "DELETE FROM replays WHERE id IN \
                   (SELECT id FROM replays WHERE status <> 'running' AND ended_at < ?1 ORDER BY id LIMIT ?2)";
    let replays = connection.prepare_cached(replays)?.execute((micros(before), limit))?;
    Ok(lines + replays)
}

/// Puts right at a start what can only be wrong: a delivery that is due later than any policy says, because the clock
/// was ahead; and one that waits for its turn where nobody is before it. Returns how many are due now.
pub(super) fn put_right(connection: &Connection, now: Timestamp) -> Result<usize, StoreError> {
    let farthest = micros(later(now, limits::DUE_FARTHEST));
    let late = "UPDATE deliveries SET due_at = ?1 WHERE status = 'pending' AND due_at > ?2 AND due_at < ?3";
    let late = connection.execute(late, (micros(now), farthest, WAITING))?;
    // The cheap question, whether it is the first of its resource, stands before the one that may look at all of them.
    let heads = "UPDATE deliveries SET due_at = ?1 WHERE status = 'pending' AND due_at = ?2 AND CASE \
                   WHEN resource IS NULL THEN TRUE \
                   WHEN key <> (SELECT first.key FROM deliveries first WHERE first.subscription_id = deliveries.subscription_id \
                     AND first.resource = deliveries.resource AND first.status = 'pending' ORDER BY first.event_seq LIMIT 1) \
                     THEN FALSE \
                   ELSE NOT EXISTS (SELECT 1 FROM deliveries other WHERE other.subscription_id = deliveries.subscription_id \
                     AND other.resource = deliveries.resource AND other.status = 'pending' AND other.due_at < ?2) END";
    let heads = connection.execute(heads, (micros(now), WAITING))?;
    Ok(late + heads)
}

/// A place in the index of what is due.
#[derive(Clone, Debug, Default)]
struct Place {
    subscription: String,
    due_at: i64,
    key: i64,
}

/// The next pending deliveries that are due after `now`, by subscription and time.
fn due_after(connection: &Connection, after: &Place, now: Timestamp) -> Result<Vec<Place>, StoreError> {
    let sql = "SELECT subscription_id, due_at, key FROM deliveries WHERE status = 'pending' AND due_at > ?4 AND due_at < ?5 \
               AND (subscription_id, due_at, key) > (?1, ?2, ?3) ORDER BY subscription_id, due_at, key LIMIT ?6";
    let chunk = i64::try_from(limits::SHIFT_CHUNK).unwrap_or(i64::MAX);
    let mut statement = connection.prepare_cached(sql)?;
    let Place { subscription, due_at, key } = after;
    let rows = statement.query_map((subscription, due_at, key, micros(now), WAITING, chunk), |row| {
        Ok(Place { subscription: row.get(0)?, due_at: row.get(1)?, key: row.get(2)? })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Brings back what has not changed since it was read; what has, was written by the clock as it now is.
fn shift(connection: &Connection, places: &[Place], by: i64) -> Result<usize, StoreError> {
    let sql = "UPDATE deliveries SET due_at = ?3 WHERE key = ?1 AND due_at = ?2 AND status = 'pending'";
    let mut update = connection.prepare_cached(sql)?;
    let mut count = 0;
    for Place { due_at, key, .. } in places {
        count += update.execute((key, due_at, due_at.saturating_sub(by)))?;
    }
    Ok(count)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{DeliveryId, Event};
    use crate::store::{EventQuery, NewDelivery, NewEvent, Store};
    use crate::testing::Folder;
    use crate::vault::Vault;

    fn event(id: usize, bytes: usize) -> NewEvent {
        let event = Event {
            id: id.to_string(),
            source: "/test".into(),
            event_type: "contact.create".into(),
            subject: None,
            time: Timestamp::UNIX_EPOCH,
            datacontenttype: None,
            data: Some(vec![b'1'; bytes].into()),
            tenant: None,
            extensions: Default::default(),
        };
        let deliveries = vec![NewDelivery {
            id: DeliveryId(format!("dlv_{id}")),
            subscription: SubscriptionId("sub_1".into()),
            due_at: Timestamp::UNIX_EPOCH,
            resource: None,
            lease: None,
        }];
        NewEvent { event: event.into(), deliveries }
    }

    #[tokio::test]
    async fn a_full_disk_refuses_events_whole_and_takes_them_again_once_there_is_room() {
        let folder = Folder::new();
        let path = folder.path("test.db");
        let store = SqliteStore::open(&path, Vault::new(&[1; 32])).unwrap();
        let pages = |most: u32| {
            let limit = format!("PRAGMA max_page_count = {most}");
            store.writer.write(Durability::Synced, move |connection| Ok(connection.execute_batch(&limit)?))
        };
        pages(100).await.unwrap();
        let mut accepted = 0;
        let refused = loop {
            // The second of a batch may be the one that does not fit; then the first is not there either.
            let batch = vec![event(accepted, 1), event(accepted + 1, 30_000)];
            match store.accept(batch, Timestamp::UNIX_EPOCH).await {
                Ok(_) => accepted += 2,
                Err(error) => break error,
            }
        };
        assert!(accepted > 0 && matches!(refused, StoreError::Unavailable(_)), "{refused:?}");
        let found = store.events(EventQuery { limit: 999, ..Default::default() }).await.unwrap();
        assert_eq!(found.len(), accepted);
        let now = Timestamp::UNIX_EPOCH;
        let claims = store.claim(SubscriptionId("sub_1".into()), 999, now, later(now, limits::LEASE)).await;
        assert_eq!(claims.unwrap().claimed.len(), accepted, "what was accepted is still delivered");
        pages(10_000).await.unwrap();
        store.accept(vec![event(accepted + 1, 30_000)], now).await.unwrap();
        assert_eq!(super::super::integrity::flaws(&path).unwrap(), []);
    }
}
