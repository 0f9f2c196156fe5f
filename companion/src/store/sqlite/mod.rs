//! SQLite in WAL mode: the default store, one process, one file.
//!
//! All writes go through [`Writer`], reads through a few read-only connections. An advisory lock on a file beside the
//! database keeps a second process out: its start would release the leases of the first.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, bail};
use async_trait::async_trait;
use bytes::Bytes;
use jiff::Timestamp;
use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags, OptionalExtension};

use super::{
    Acceptance, AcceptedEvent, AuditLine, Claims, DeliveryQuery, Ended, EventQuery, Named, NewDelivery,
    NewEvent, Note, Pruned, Recorded, ReplayQuery, Sharing, Store, StoreError, SubscriptionQuery, Unmatched,
    UnmatchedPlace, sealing,
};
use crate::model::{
    Attempt, Delivery, DeliveryId, Replay, ReplayId, Shape, Subscription, SubscriptionId, Token,
};
use crate::retry::Verdict;
use crate::vault::Vault;
use writer::{Durability, Writer};

mod audit;
pub(super) mod backup;
mod catalogue;
mod deliveries;
mod erase;
mod events;
mod housekeeping;
pub(super) mod integrity;
mod outcomes;
mod prune;
mod replays;
pub(super) mod schema;
mod statistics;
mod subscriptions;
mod syncer;
mod tokens;
mod unmatched;
mod writer;

/// Prepared statements kept per connection; more than there are.
const STATEMENTS: usize = 128;

pub(super) struct SqliteStore {
    writer: Writer,
    readers: Readers,
    vault: Vault,
    _lock: File,
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        match error {
            rusqlite::Error::QueryReturnedNoRows => Self::NotFound,
            other => Self::Unavailable(other.into()),
        }
    }
}

impl SqliteStore {
    /// Opens or makes the database.
    pub(super) fn open(path: &Path, vault: Vault) -> anyhow::Result<Self> {
        let lock = lock(path)?;
        let mut connection =
            Connection::open(path).with_context(|| format!("cannot open {}", path.display()))?;
        let shown = || format!("cannot use {}", path.display());
        configure(&connection).with_context(shown)?;
        schema::migrate(&mut connection).with_context(shown)?;
        if let Some(moved_to) = schema::moved_to(&connection)? {
            bail!("{} was moved to {moved_to}; start with that as --store", path.display());
        }
        let readers = Readers { path: path.to_owned(), idle: Arc::default() };
        Ok(Self { writer: Writer::start(connection)?, readers, vault, _lock: lock })
    }
}

/// Keeps other processes from the database, for as long as the file is held.
pub(super) fn lock(database: &Path) -> anyhow::Result<File> {
    let mut path = database.as_os_str().to_owned();
    path.push(".lock");
    let file = File::create(&path).with_context(|| format!("cannot write beside {}", database.display()))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => bail!("{} is in use by another process", database.display()),
        Err(TryLockError::Error(error)) => {
            Err(error).with_context(|| format!("cannot lock {}", database.display()))
        }
    }
}

fn configure(connection: &Connection) -> anyhow::Result<()> {
    connection.busy_timeout(Duration::from_secs(5))?;
    prepare_for_many(connection)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    // Checkpoints sync and run inside a commit; fewer, larger ones cost less in all.
    connection.pragma_update(None, "wal_autocheckpoint", 8_000)?;
    // SQLite walks through its whole cache at most commits that have split a page, so a large one costs more than it
    // saves; the system caches the file too.
    connection.pragma_update(None, "cache_size", -8_192)?;
    // Zeros over what is deleted or moved, where the page is written anyway; erasing asks for more.
    connection.pragma_update(None, "secure_delete", "FAST")?;
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    Ok(())
}

/// Keeps statements, and keeps them as they were planned: else each one with a `LIMIT ?` is planned anew for each value.
fn prepare_for_many(connection: &Connection) -> rusqlite::Result<()> {
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true).map(drop)
}

/// Read-only connections, made when needed and used again.
#[derive(Clone)]
struct Readers {
    path: PathBuf,
    idle: Arc<Mutex<Vec<Connection>>>,
}

impl Readers {
    /// Connections kept when nobody reads.
    const IDLE: usize = 4;

    async fn read<T: Send + 'static>(
        &self,
        query: impl FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let readers = self.clone();
        let work = tokio::task::spawn_blocking(move || {
            let connection = readers.take()?;
            let result = query(&connection);
            readers.put_back(connection);
            result
        });
        work.await.map_err(|error| StoreError::Unavailable(error.into()))?
    }

    fn take(&self) -> Result<Connection, StoreError> {
        let idle = self.idle.lock().unwrap_or_else(std::sync::PoisonError::into_inner).pop();
        if let Some(connection) = idle {
            return Ok(connection);
        }
        let connection = Connection::open_with_flags(&self.path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        connection.busy_timeout(Duration::from_secs(5))?;
        prepare_for_many(&connection)?;
        Ok(connection)
    }

    fn put_back(&self, connection: Connection) {
        let mut idle = self.idle.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if idle.len() < Self::IDLE {
            idle.push(connection);
        }
    }
}

impl Sharing for SqliteStore {}

#[async_trait]
impl Store for SqliteStore {
    async fn create_subscription_within(
        &self,
        most: usize,
        subscription: Subscription,
        note: Note,
    ) -> Result<(), StoreError> {
        let sealed = sealing::seal(&self.vault, &subscription)?;
        let insert = move |connection: &Connection| {
            subscriptions::create(connection, &subscription, &sealed)?;
            subscriptions::check_room(connection, &subscription, most)?;
            audit::note(connection, &note, subscription.created_at)
        };
        self.writer.write(Durability::Synced, insert).await
    }

    async fn update_subscription(&self, subscription: Subscription, note: Note) -> Result<(), StoreError> {
        let sealed = sealing::seal(&self.vault, &subscription)?;
        let update = move |connection: &Connection| {
            subscriptions::update(connection, &subscription, &sealed)?;
            audit::note(connection, &note, subscription.updated_at)
        };
        self.writer.write(Durability::Synced, update).await
    }

    async fn turn_off(
        &self,
        id: SubscriptionId,
        reason: &'static str,
        note: Note,
        now: Timestamp,
    ) -> Result<Option<Subscription>, StoreError> {
        let vault = self.vault.clone();
        let turn_off = move |connection: &Connection| {
            if !subscriptions::turn_off(connection, &id, reason, now)? {
                return Ok(None);
            }
            audit::note(connection, &note, now)?;
            subscriptions::one(connection, &vault, &id).map(Some)
        };
        self.writer.write(Durability::Synced, turn_off).await
    }

    async fn delete_subscription(&self, id: SubscriptionId, note: Note) -> Result<(), StoreError> {
        let delete = move |connection: &Connection| {
            subscriptions::delete(connection, &id)?;
            audit::note(connection, &note, audit::at(&note))
        };
        self.writer.write(Durability::Synced, delete).await
    }

    async fn subscription(&self, id: &SubscriptionId) -> Result<Subscription, StoreError> {
        let (id, vault) = (id.clone(), self.vault.clone());
        self.readers.read(move |connection| subscriptions::one(connection, &vault, &id)).await
    }

    async fn subscriptions(&self, query: SubscriptionQuery) -> Result<Vec<Subscription>, StoreError> {
        let vault = self.vault.clone();
        self.readers.read(move |connection| subscriptions::page(connection, &vault, &query)).await
    }

    async fn accept(&self, events: Vec<NewEvent>, now: Timestamp) -> Result<Vec<Acceptance>, StoreError> {
        let insert = move |connection: &Connection| events::accept(connection, &events, now);
        self.writer.try_write(Durability::Synced, insert).await
    }

    async fn claim(
        &self,
        subscription: SubscriptionId,
        limit: usize,
        now: Timestamp,
        lease_until: Timestamp,
    ) -> Result<Claims, StoreError> {
        let claim = move |connection: &Connection| {
            deliveries::claim(connection, &subscription, limit, now, lease_until)
        };
        self.writer.write(Durability::Written, claim).await
    }

    async fn claim_named(
        &self,
        ids: Vec<DeliveryId>,
        now: Timestamp,
        lease_until: Timestamp,
    ) -> Result<Named, StoreError> {
        let claim =
            move |connection: &Connection| deliveries::claim_named(connection, &ids, now, lease_until);
        self.writer.write(Durability::Written, claim).await
    }

    async fn record(&self, ended: Arc<Vec<Ended>>, now: Timestamp) -> Result<Vec<Recorded>, StoreError> {
        let vault = self.vault.clone();
        // A receiver that said stop is not asked again after a crash of the machine, nor is what was given up, which others of
        // its resource have overtaken; anything else may be.
        let says_stop =
            ended.iter().any(|ended| !matches!(ended.verdict, Verdict::Delivered | Verdict::Retry(_)));
        let durability = if says_stop { Durability::Synced } else { Durability::Written };
        let record = move |connection: &Connection| {
            ended.iter().map(|ended| outcomes::record(connection, &vault, ended, now)).collect()
        };
        self.writer.write(durability, record).await
    }

    async fn release(&self, claims: Vec<(DeliveryId, i64)>, now: Timestamp) -> Result<(), StoreError> {
        let release = move |connection: &Connection| deliveries::release(connection, &claims, now);
        self.writer.write(Durability::Written, release).await
    }

    async fn release_all(&self, now: Timestamp) -> Result<usize, StoreError> {
        let release = move |connection: &Connection| {
            Ok(deliveries::release_all(connection, now)? + housekeeping::put_right(connection, now)?)
        };
        self.writer.write(Durability::Written, release).await
    }

    async fn cancel_pending(
        &self,
        subscription: SubscriptionId,
        reason: String,
        limit: usize,
        now: Timestamp,
    ) -> Result<usize, StoreError> {
        let cancel =
            move |connection: &Connection| deliveries::cancel(connection, &subscription, &reason, limit, now);
        self.writer.write(Durability::Written, cancel).await
    }

    async fn due(&self) -> Result<Vec<(SubscriptionId, Timestamp)>, StoreError> {
        self.readers.read(deliveries::due).await
    }

    async fn redeliver(
        &self,
        id: DeliveryId,
        note: Note,
        now: Timestamp,
    ) -> Result<SubscriptionId, StoreError> {
        let redeliver = move |connection: &Connection| {
            let subscription = deliveries::redeliver(connection, &id, now)?;
            audit::note(connection, &note, now)?;
            Ok(subscription)
        };
        self.writer.write(Durability::Synced, redeliver).await
    }

    async fn prune(
        &self,
        after: i64,
        limit: usize,
        before: Timestamp,
        first_kept: i64,
    ) -> Result<Pruned, StoreError> {
        let prune = move |connection: &Connection| {
            erase::overwriting(connection, || prune::prune(connection, after, limit, before, first_kept))
        };
        self.writer.write(Durability::Written, prune).await
    }

    async fn delivery(&self, id: &DeliveryId) -> Result<(Delivery, Vec<Attempt>), StoreError> {
        let id = id.clone();
        self.readers.read(move |connection| deliveries::one(connection, &id)).await
    }

    async fn deliveries(&self, query: DeliveryQuery) -> Result<Vec<Delivery>, StoreError> {
        self.readers.read(move |connection| deliveries::page(connection, &query)).await
    }

    async fn events(&self, query: EventQuery) -> Result<Vec<AcceptedEvent>, StoreError> {
        self.readers.read(move |connection| events::page(connection, &query)).await
    }

    async fn count_unmatched(
        &self,
        source: String,
        shapes: Vec<Shape>,
        keep: usize,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let count = move |connection: &Connection| unmatched::count(connection, &source, &shapes, keep, now);
        self.writer.try_write(Durability::Synced, count).await
    }

    async fn unmatched(
        &self,
        after: Option<UnmatchedPlace>,
        limit: usize,
    ) -> Result<Vec<Unmatched>, StoreError> {
        self.readers.read(move |connection| unmatched::page(connection, after, limit)).await
    }

    async fn forget_unmatched(&self) -> Result<(), StoreError> {
        self.writer.write(Durability::Synced, unmatched::forget).await
    }

    async fn create_replay(&self, replay: Replay, note: Note) -> Result<Replay, StoreError> {
        let create = move |connection: &Connection| {
            let replay = replays::create(connection, replay.clone())?;
            audit::note(connection, &note, replay.created_at)?;
            Ok(replay)
        };
        self.writer.write(Durability::Synced, create).await
    }

    async fn replay(&self, id: &ReplayId) -> Result<Replay, StoreError> {
        let id = id.clone();
        self.readers.read(move |connection| replays::one(connection, &id)).await
    }

    async fn replays(&self, query: ReplayQuery) -> Result<Vec<Replay>, StoreError> {
        self.readers.read(move |connection| replays::page(connection, &query)).await
    }

    async fn replay_ahead(
        &self,
        id: &ReplayId,
        limit: usize,
        most_pending: usize,
    ) -> Result<(Vec<AcceptedEvent>, usize), StoreError> {
        let id = id.clone();
        self.readers.read(move |connection| replays::ahead(connection, &id, limit, most_pending)).await
    }

    async fn advance_replay(
        &self,
        id: ReplayId,
        position: i64,
        deliveries: Vec<(i64, NewDelivery)>,
        now: Timestamp,
    ) -> Result<Replay, StoreError> {
        let advance =
            move |connection: &Connection| replays::advance(connection, &id, position, &deliveries, now);
        self.writer.write(Durability::Written, advance).await
    }

    async fn advance_recovery(
        &self,
        id: ReplayId,
        position: i64,
        events: Vec<i64>,
        now: Timestamp,
    ) -> Result<(Replay, Vec<SubscriptionId>), StoreError> {
        let advance =
            move |connection: &Connection| replays::advance_recovery(connection, &id, position, &events, now);
        self.writer.write(Durability::Written, advance).await
    }

    async fn cancel_replay(&self, id: ReplayId, note: Note, now: Timestamp) -> Result<Replay, StoreError> {
        let cancel = move |connection: &Connection| {
            let replay = replays::cancel(connection, &id, now)?;
            audit::note(connection, &note, now)?;
            Ok(replay)
        };
        self.writer.write(Durability::Synced, cancel).await
    }

    async fn create_token(&self, token: Token, note: Note) -> Result<(), StoreError> {
        let create = move |connection: &Connection| {
            tokens::create(connection, &token)?;
            audit::note(connection, &note, token.created_at)
        };
        self.writer.write(Durability::Synced, create).await
    }

    async fn tokens(&self) -> Result<Vec<Token>, StoreError> {
        self.readers.read(tokens::all).await
    }

    async fn delete_token(&self, id: String, note: Note) -> Result<(), StoreError> {
        let delete = move |connection: &Connection| {
            tokens::delete(connection, &id)?;
            audit::note(connection, &note, audit::at(&note))
        };
        self.writer.write(Durability::Synced, delete).await
    }

    async fn audit(&self, before: Option<i64>, limit: usize) -> Result<Vec<AuditLine>, StoreError> {
        self.readers.read(move |connection| audit::page(connection, before, limit)).await
    }

    async fn meta(&self, name: &'static str, value: Option<Bytes>) -> Result<Option<Bytes>, StoreError> {
        let upsert = move |connection: &Connection| {
            if let Some(value) = &value {
                let insert = "INSERT INTO meta (name, value) VALUES (?1, ?2) ON CONFLICT DO NOTHING";
                connection.execute(insert, (name, &**value))?;
            }
            let select = "SELECT value FROM meta WHERE name = ?1";
            let found: Option<Vec<u8>> = connection.query_row(select, [name], |row| row.get(0)).optional()?;
            Ok(found.map(Bytes::from))
        };
        self.writer.write(Durability::Synced, upsert).await
    }

    async fn ping(&self) -> Result<(), StoreError> {
        self.writer.write(Durability::Written, |_| Ok(())).await
    }
}

/// A time as it stands in SQL.
fn micros(time: Timestamp) -> i64 {
    time.as_microsecond()
}

/// A time from SQL; one out of range, which we never write, reads as the epoch.
fn time(micros: i64) -> Timestamp {
    Timestamp::from_microsecond(micros).unwrap_or(Timestamp::UNIX_EPOCH)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Shape;
    use crate::testing::Folder;

    #[tokio::test]
    async fn a_database_of_the_first_version_is_brought_up_to_date_and_keeps_its_rows() {
        let folder = Folder::new();
        let path = folder.path("old.db");
        {
            let old = Connection::open(&path).unwrap();
            old.execute_batch(schema::MIGRATIONS[0]).unwrap();
            old.pragma_update(None, "user_version", 1).unwrap();
            old.execute_batch(
                "INSERT INTO meta (name, value) VALUES ('x', X'01');
                 INSERT INTO events (seq, id, source, type, time, accepted_at) VALUES (7, 'e', '/s', 'a.b', 0, 0);
                 INSERT INTO deliveries (id, event_seq, subscription_id, status, attempt_count, due_at, created_at, claim)
                   VALUES ('dlv_2', 7, 'sub', 'pending', 2, 5, 0, 9), ('dlv_1', 7, 'sub', 'pending', 0, 5, 0, NULL);
                 INSERT INTO attempts (delivery_id, number, started_at, duration_ms, outcome)
                   VALUES ('dlv_2', 1, 0, 1, 'timed_out'), ('dlv_2', 2, 0, 1, 'unreachable');",
            )
            .unwrap();
        }
        let store = SqliteStore::open(&path, Vault::new(&[1; 32])).unwrap();
        assert_eq!(store.meta("x", None).await.unwrap().as_deref(), Some(&[1][..]));
        let shape = Shape { method: "POST".into(), path: "/a".into(), count: 1, status: 200 };
        store.count_unmatched("one".into(), vec![shape], 9, Timestamp::UNIX_EPOCH).await.unwrap();
        assert_eq!(store.unmatched(None, 9).await.unwrap().len(), 1);
        let deliveries = store.deliveries(DeliveryQuery { limit: 9, ..Default::default() }).await.unwrap();
        let ids: Vec<_> = deliveries.iter().map(|delivery| delivery.id.as_str()).collect();
        assert_eq!(ids, ["dlv_2", "dlv_1"], "newest first");
        let (_, attempts) = store.delivery(&deliveries[0].id).await.unwrap();
        let outcomes: Vec<_> = attempts.iter().map(|attempt| attempt.outcome.word()).collect();
        assert_eq!(outcomes, ["timed_out", "unreachable"]);
        assert_eq!(store.release_all(Timestamp::UNIX_EPOCH).await.unwrap(), 1, "the claim is kept");
        assert_eq!(integrity::flaws(&path).unwrap(), []);
    }
}
