//! PostgreSQL: the store for several processes, which share one schema and know nothing of each other.
//!
//! Every use case is one transaction with a constant number of statements, or nearly; see [`transaction`] for the order in
//! which they take locks, [`acceptor`] for group commit and [`order`] for deliveries that follow each other. Prepared
//! statements, `LISTEN` and session settings need a connection of one's own: a pooler between has to pool sessions.

use std::sync::Arc;

use anyhow::{Context, bail};
use async_trait::async_trait;
use bytes::Bytes;
use deadpool_postgres::{Object, Pool, Transaction};
use jiff::Timestamp;

use super::migration::MOVING_FROM;
use super::{
    Acceptance, AcceptedEvent, AuditLine, Claims, DeliveryQuery, Ended, EventQuery, Named, NewDelivery,
    NewEvent, Note, Pruned, Recorded, ReplayQuery, Store, StoreError, SubscriptionQuery, Unmatched,
    UnmatchedPlace, sealing,
};
use crate::model::{
    Attempt, Delivery, DeliveryId, Replay, ReplayId, Shape, Subscription, SubscriptionId, Token,
};
use crate::retry::Verdict;
use crate::vault::Vault;
use acceptor::Acceptor;
use connection::Server;
use leader::Leader;
use signals::Ear;
use transaction::{Durability, execute, row, write};

mod acceptor;
mod audit;
mod catalogue;
mod claims;
mod connection;
mod deliveries;
mod erase;
mod events;
mod housekeeping;
pub(super) mod integrity;
mod leader;
mod migrations;
mod nul;
mod order;
mod outcomes;
mod pacing;
mod prune;
mod replays;
#[cfg(test)]
pub(super) mod scratch;
mod signals;
mod statistics;
mod subscriptions;
mod tokens;
mod transaction;
mod unmatched;

pub(super) use nul::escaped;
pub(super) use order::lane;
pub(super) use unmatched::identity as shape_identity;

pub(super) struct PostgresStore {
    database: Database,
    acceptor: Acceptor,
    ear: Ear,
    leader: Leader,
}

/// Connections, and the key of what is sealed.
#[derive(Clone)]
struct Database {
    pool: Pool,
    vault: Vault,
}

impl Database {
    /// A connection for reading.
    async fn get(&self) -> Result<Object, StoreError> {
        Ok(self.pool.get().await?)
    }
}

impl PostgresStore {
    /// Connects, and brings the schema up to date.
    pub(super) async fn connect(url: &str, vault: Vault) -> anyhow::Result<Self> {
        let shown = || format!("cannot use {}", super::redacted(url));
        let server = Server::find(url).await.with_context(shown)?;
        let pool = server.pool()?;
        let mut connection = pool.get().await.with_context(shown)?;
        migrations::migrate(&mut connection).await.with_context(shown)?;
        let moving = connection.query_opt("SELECT value FROM meta WHERE name = $1", &[&MOVING_FROM]).await?;
        if let Some(row) = moving {
            let from = String::from_utf8_lossy(row.get(0)).into_owned();
            bail!("a move of {from} into it has not ended; run gatehook migrate-store again");
        }
        drop(connection);
        let ear = Ear::open(server).await.with_context(shown)?;
        let database = Database { pool, vault };
        Ok(Self { acceptor: Acceptor::start(database.clone()), database, ear, leader: Leader::new() })
    }
}

/// A connection to a schema that is up to date, for whoever is not a companion.
pub(super) async fn connection(url: &str) -> anyhow::Result<Object> {
    let mut connection = Server::find(url).await?.pool()?.get().await?;
    migrations::migrate(&mut connection).await?;
    Ok(connection)
}

#[async_trait]
impl Store for PostgresStore {
    async fn create_subscription_within(
        &self,
        most: usize,
        subscription: Subscription,
        note: Note,
    ) -> Result<(), StoreError> {
        let sealed = sealing::seal(&self.database.vault, &subscription)?;
        write!(self.database, Durability::Synced, |transaction| {
            prepare(transaction, &note).await?;
            subscriptions::check_room(transaction, &subscription, most).await?;
            subscriptions::create(transaction, &subscription, &sealed).await?;
            audit::note(transaction, &note, subscription.created_at).await
        })
    }

    async fn update_subscription(&self, subscription: Subscription, note: Note) -> Result<(), StoreError> {
        let sealed = sealing::seal(&self.database.vault, &subscription)?;
        write!(self.database, Durability::Synced, |transaction| {
            prepare(transaction, &note).await?;
            subscriptions::update(transaction, &subscription, &sealed).await?;
            audit::note(transaction, &note, subscription.updated_at).await
        })
    }

    async fn turn_off(
        &self,
        id: SubscriptionId,
        reason: &'static str,
        note: Note,
        now: Timestamp,
    ) -> Result<Option<Subscription>, StoreError> {
        write!(self.database, Durability::Synced, |transaction| {
            prepare(transaction, &note).await?;
            if !subscriptions::turn_off(transaction, &id, reason, now).await? {
                return Ok(None);
            }
            audit::note(transaction, &note, now).await?;
            subscriptions::one(transaction, &self.database.vault, &id).await.map(Some)
        })
    }

    async fn delete_subscription(&self, id: SubscriptionId, note: Note) -> Result<(), StoreError> {
        write!(self.database, Durability::Synced, |transaction| {
            prepare(transaction, &note).await?;
            if !subscriptions::delete(transaction, &id).await? {
                return Err(StoreError::NotFound);
            }
            audit::note(transaction, &note, audit::at(&note)).await
        })
    }

    async fn subscription(&self, id: &SubscriptionId) -> Result<Subscription, StoreError> {
        subscriptions::one(&self.database.get().await?, &self.database.vault, id).await
    }

    async fn subscriptions(&self, query: SubscriptionQuery) -> Result<Vec<Subscription>, StoreError> {
        subscriptions::page(&self.database.get().await?, &self.database.vault, &query).await
    }

    async fn accept(&self, events: Vec<NewEvent>, now: Timestamp) -> Result<Vec<Acceptance>, StoreError> {
        self.acceptor.accept(events, None, now).await
    }

    async fn accept_as_of(
        &self,
        version: i64,
        events: Vec<NewEvent>,
        now: Timestamp,
    ) -> Result<Vec<Acceptance>, StoreError> {
        self.acceptor.accept(events, Some(version), now).await
    }

    async fn claim(
        &self,
        subscription: SubscriptionId,
        limit: usize,
        now: Timestamp,
        lease_until: Timestamp,
    ) -> Result<Claims, StoreError> {
        let wanted = claims::Wanted { subscription: &subscription, limit, now, lease_until };
        write!(self.database, Durability::Written, |transaction| claims::claim(transaction, wanted).await)
    }

    async fn claim_named(
        &self,
        ids: Vec<DeliveryId>,
        now: Timestamp,
        lease_until: Timestamp,
    ) -> Result<Named, StoreError> {
        write!(self.database, Durability::Written, |transaction| {
            claims::claim_named(transaction, &ids, now, lease_until).await
        })
    }

    async fn record(&self, ended: Arc<Vec<Ended>>, now: Timestamp) -> Result<Vec<Recorded>, StoreError> {
        // A receiver that said stop is not asked again after a crash of the machine, nor is what was given up, which others of
        // its resource have overtaken; anything else may be.
        let says_stop =
            ended.iter().any(|ended| !matches!(ended.verdict, Verdict::Delivered | Verdict::Retry(_)));
        let durability = if says_stop { Durability::Synced } else { Durability::Written };
        write!(self.database, durability, |transaction| {
            outcomes::record(transaction, &self.database.vault, &ended, now).await
        })
    }

    async fn release(&self, claims: Vec<(DeliveryId, i64)>, now: Timestamp) -> Result<(), StoreError> {
        write!(self.database, Durability::Written, |transaction| claims::release(transaction, &claims, now)
            .await)
    }

    async fn release_all(&self, now: Timestamp) -> Result<usize, StoreError> {
        write!(self.database, Durability::Written, |transaction| housekeeping::put_right(transaction, now)
            .await)
    }

    async fn cancel_pending(
        &self,
        subscription: SubscriptionId,
        reason: String,
        limit: usize,
        now: Timestamp,
    ) -> Result<usize, StoreError> {
        write!(self.database, Durability::Written, |transaction| {
            deliveries::cancel(transaction, &subscription, &reason, limit, now).await
        })
    }

    async fn due(&self) -> Result<Vec<(SubscriptionId, Timestamp)>, StoreError> {
        deliveries::due(&self.database.get().await?).await
    }

    async fn redeliver(
        &self,
        id: DeliveryId,
        note: Note,
        now: Timestamp,
    ) -> Result<SubscriptionId, StoreError> {
        write!(self.database, Durability::Synced, |transaction| {
            events::prepare(transaction, &note.news).await?;
            let subscription = deliveries::redeliver(transaction, &[id.as_str()], now).await?.pop();
            let subscription = subscription.ok_or(StoreError::NotFound)?;
            audit::note(transaction, &note, now).await?;
            Ok(subscription)
        })
    }

    async fn prune(
        &self,
        after: i64,
        limit: usize,
        before: Timestamp,
        first_kept: i64,
    ) -> Result<Pruned, StoreError> {
        if after == 0 {
            // Pruning does not fail because of it.
            if let Err(error) = self.put_right().await {
                tracing::warn!(error = format!("{error:#?}"), "it was not looked for what waits for nobody");
            }
        }
        write!(self.database, Durability::Written, |transaction| {
            prune::prune(transaction, after, limit, before, first_kept).await
        })
    }

    async fn delivery(&self, id: &DeliveryId) -> Result<(Delivery, Vec<Attempt>), StoreError> {
        deliveries::one(&self.database.get().await?, id).await
    }

    async fn deliveries(&self, query: DeliveryQuery) -> Result<Vec<Delivery>, StoreError> {
        deliveries::page(&self.database.get().await?, &query).await
    }

    async fn events(&self, query: EventQuery) -> Result<Vec<AcceptedEvent>, StoreError> {
        events::page(&self.database.get().await?, &query).await
    }

    async fn count_unmatched(
        &self,
        source: String,
        shapes: Vec<Shape>,
        keep: usize,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        write!(self.database, Durability::Synced, |transaction| {
            unmatched::count(transaction, &source, &shapes, keep, now).await
        })
    }

    async fn unmatched(
        &self,
        after: Option<UnmatchedPlace>,
        limit: usize,
    ) -> Result<Vec<Unmatched>, StoreError> {
        unmatched::page(&self.database.get().await?, after, limit).await
    }

    async fn forget_unmatched(&self) -> Result<(), StoreError> {
        execute(&self.database.get().await?, "DELETE FROM unmatched", &[]).await?;
        Ok(())
    }

    async fn create_replay(&self, replay: Replay, note: Note) -> Result<Replay, StoreError> {
        write!(self.database, Durability::Synced, |transaction| {
            events::prepare(transaction, &note.news).await?;
            let replay = replays::create(transaction, replay.clone()).await?;
            audit::note(transaction, &note, replay.created_at).await?;
            Ok(replay)
        })
    }

    async fn replay(&self, id: &ReplayId) -> Result<Replay, StoreError> {
        replays::one(&self.database.get().await?, id).await
    }

    async fn replays(&self, query: ReplayQuery) -> Result<Vec<Replay>, StoreError> {
        replays::page(&self.database.get().await?, &query).await
    }

    async fn replay_ahead(
        &self,
        id: &ReplayId,
        limit: usize,
        most_pending: usize,
    ) -> Result<(Vec<AcceptedEvent>, usize), StoreError> {
        replays::ahead(&self.database.get().await?, id, limit, most_pending).await
    }

    async fn advance_replay(
        &self,
        id: ReplayId,
        position: i64,
        deliveries: Vec<(i64, NewDelivery)>,
        now: Timestamp,
    ) -> Result<Replay, StoreError> {
        write!(self.database, Durability::Written, |transaction| {
            replays::advance(transaction, &id, position, &deliveries, now).await
        })
    }

    async fn advance_recovery(
        &self,
        id: ReplayId,
        position: i64,
        events: Vec<i64>,
        now: Timestamp,
    ) -> Result<(Replay, Vec<SubscriptionId>), StoreError> {
        write!(self.database, Durability::Written, |transaction| {
            replays::advance_recovery(transaction, &id, position, &events, now).await
        })
    }

    async fn cancel_replay(&self, id: ReplayId, note: Note, now: Timestamp) -> Result<Replay, StoreError> {
        write!(self.database, Durability::Synced, |transaction| {
            events::prepare(transaction, &note.news).await?;
            let replay = replays::cancel(transaction, &id, now).await?;
            audit::note(transaction, &note, now).await?;
            Ok(replay)
        })
    }

    async fn create_token(&self, token: Token, note: Note) -> Result<(), StoreError> {
        write!(self.database, Durability::Synced, |transaction| {
            prepare(transaction, &note).await?;
            tokens::create(transaction, &token).await?;
            audit::note(transaction, &note, token.created_at).await
        })
    }

    async fn tokens(&self) -> Result<Vec<Token>, StoreError> {
        tokens::all(&self.database.get().await?).await
    }

    async fn delete_token(&self, id: String, note: Note) -> Result<(), StoreError> {
        write!(self.database, Durability::Synced, |transaction| {
            prepare(transaction, &note).await?;
            tokens::delete(transaction, &id).await?;
            audit::note(transaction, &note, audit::at(&note)).await
        })
    }

    async fn audit(&self, before: Option<i64>, limit: usize) -> Result<Vec<AuditLine>, StoreError> {
        audit::page(&self.database.get().await?, before, limit).await
    }

    async fn meta(&self, name: &'static str, value: Option<Bytes>) -> Result<Option<Bytes>, StoreError> {
        let connection = self.database.get().await?;
        if let Some(value) = value {
            let insert = "INSERT INTO meta (name, value) VALUES ($1, $2) ON CONFLICT DO NOTHING";
            execute(&connection, insert, &[&name, &&value[..]]).await?;
        }
        let found = row(&connection, "SELECT value FROM meta WHERE name = $1", &[&name]).await?;
        Ok(found.map(|row| row.get::<_, Vec<u8>>(0).into()))
    }

    async fn ping(&self) -> Result<(), StoreError> {
        // Changes of subscriptions hold this row until their commit, so the answer comes after all that were asked for.
        row(&self.database.get().await?, "SELECT FROM places FOR SHARE", &[]).await?;
        Ok(())
    }
}

/// Takes what a change of subscriptions or tokens takes first: the row of `places`, whose version grows, and the lanes of
/// what is told of it.
async fn prepare(transaction: &Transaction<'_>, note: &Note) -> Result<(), StoreError> {
    events::lock_places(transaction).await?;
    order::lock(transaction, order::lanes_of(&note.news)).await
}

fn damaged(what: String) -> StoreError {
    StoreError::Unavailable(anyhow::anyhow!(what))
}

fn json(value: &impl serde::Serialize) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(|error| StoreError::Unavailable(error.into()))
}

/// A number of rows as it stands in SQL.
fn rows_of(count: usize) -> i64 {
    // One less than the largest: claims ask for one more.
    i64::try_from(count).unwrap_or(i64::MAX).min(i64::MAX - 1)
}

/// A number of rows from SQL.
fn count(rows: i64) -> usize {
    usize::try_from(rows).unwrap_or_default()
}

/// A time as it stands in SQL.
fn micros(time: Timestamp) -> i64 {
    time.as_microsecond()
}

/// A time from SQL; one out of range, which we never write, reads as the epoch.
fn time(micros: i64) -> Timestamp {
    Timestamp::from_microsecond(micros).unwrap_or(Timestamp::UNIX_EPOCH)
}
