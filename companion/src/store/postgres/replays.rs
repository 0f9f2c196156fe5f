//! Replays and recoveries in PostgreSQL.
//!
//! Both walk the events in the order of acceptance, a chunk in a transaction, which moves the position and makes the
//! deliveries: a crash between two chunks repeats nothing and leaves nothing out. A chunk holds its replay's row, so two
//! processes at the same one follow each other.

use std::collections::HashSet;

use deadpool_postgres::{GenericClient, Transaction};
use jiff::Timestamp;
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

use super::transaction::{execute, row, rows};
use super::{count, deliveries, events, json, micros, nul, order, rows_of, time};
use crate::model::{DeliveryStatus, Replay, ReplayId, ReplayKind, ReplayRange, ReplayStatus, SubscriptionId};
use crate::store::{AcceptedEvent, NewDelivery, ReplayQuery, StoreError};

const COLUMNS: &str =
    "id, kind, subscription_id, range, status, first, position, last, made, created_at, ended_at";

pub(super) async fn create(transaction: &Transaction<'_>, mut replay: Replay) -> Result<Replay, StoreError> {
    let newest = row(transaction, "SELECT last_event FROM places", &[]).await?.ok_or(StoreError::NotFound)?;
    let end = newest.get::<_, i64>(0) + 1;
    let first = match replay.range.since {
        Some(since) => first_since(transaction, since, end).await?,
        None => 1,
    };
    replay.last = match replay.range.until {
        Some(until) => first_since(transaction, until, end).await? - 1,
        None => end - 1,
    };
    replay.first = first;
    replay.position = first - 1;
    if replay.position >= replay.last {
        replay.status = ReplayStatus::Done;
        replay.ended_at = Some(replay.created_at);
    }
    let insert = "INSERT INTO replays (id, kind, subscription_id, range, status, first, position, last, made, created_at, \
                  ended_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, 0, $9, $10)";
    let values: [&(dyn ToSql + Sync); 10] = [
        &replay.id.as_str(),
        &replay.kind.word(),
        &replay.subscription.as_ref().map(SubscriptionId::as_str),
        &json(&replay.range)?,
        &replay.status.word(),
        &replay.first,
        &replay.position,
        &replay.last,
        &micros(replay.created_at),
        &replay.ended_at.map(micros),
    ];
    execute(transaction, insert, &values).await?;
    Ok(replay)
}

/// Place of the first event accepted at `since` or later, `end` where there is none. Events are in the order of their
/// acceptance, so a binary search does without an index that every event would have to pay for.
async fn first_since(transaction: &Transaction<'_>, since: Timestamp, end: i64) -> Result<i64, StoreError> {
    let look = "SELECT seq, accepted_at FROM events WHERE seq >= $1 ORDER BY seq LIMIT 1";
    let (mut low, mut high) = (1, end);
    while low < high {
        let middle = low + (high - low) / 2;
        let found = row(transaction, look, &[&middle]).await?;
        match found.map(|row| (row.get::<_, i64>(0), row.get::<_, i64>(1))) {
            Some((seq, accepted_at)) if seq < high && accepted_at < micros(since) => low = seq + 1,
            _ => high = middle,
        }
    }
    Ok(low)
}

pub(super) async fn one(client: &impl GenericClient, id: &ReplayId) -> Result<Replay, StoreError> {
    let sql = format!("SELECT {COLUMNS} FROM replays WHERE id = $1");
    read(&row(client, &sql, &[&id.as_str()]).await?.ok_or(StoreError::NotFound)?)
}

/// As [`one`], and nobody else moves or ends it until the transaction ends.
async fn hold(transaction: &Transaction<'_>, id: &ReplayId) -> Result<Replay, StoreError> {
    let sql = format!("SELECT {COLUMNS} FROM replays WHERE id = $1 FOR UPDATE");
    read(&row(transaction, &sql, &[&id.as_str()]).await?.ok_or(StoreError::NotFound)?)
}

pub(super) async fn page(
    client: &impl GenericClient,
    query: &ReplayQuery,
) -> Result<Vec<Replay>, StoreError> {
    if nul::is_in([&query.subscription, &query.before]) {
        return Ok(Vec::new());
    }
    let sql = format!(
        "SELECT {COLUMNS} FROM replays WHERE ($1::text IS NULL OR subscription_id = $1) \
         AND ($2::text IS NULL OR status = $2) AND ($3::text IS NULL OR id < $3) AND ($5::text IS NULL OR subscription_id IN \
         (SELECT id FROM subscriptions WHERE tenant = $5)) ORDER BY id DESC LIMIT $4"
    );
    let status = query.status.map(ReplayStatus::word);
    let tenant = nul::escaped_option(query.tenant.as_deref());
    let values: [&(dyn ToSql + Sync); 5] =
        [&query.subscription, &status, &query.before, &rows_of(query.limit), &tenant];
    let found = rows(client, &sql, &values).await?;
    found.iter().map(read).collect()
}

pub(super) async fn ahead(
    client: &impl GenericClient,
    id: &ReplayId,
    limit: usize,
    most_pending: usize,
) -> Result<(Vec<AcceptedEvent>, usize), StoreError> {
    let replay = one(client, id).await?;
    let events = events::after(client, replay.position, replay.last, limit).await?;
    let Some(subscription) = &replay.subscription else {
        return Ok((events, 0));
    };
    let pending = "SELECT count(*) FROM (SELECT FROM deliveries WHERE status = 'pending' AND subscription_id = $1 LIMIT $2) \
                   AS pending";
    let pending = row(client, pending, &[&subscription.as_str(), &rows_of(most_pending)]).await?;
    Ok((events, pending.map_or(0, |row| count(row.get(0)))))
}

pub(super) async fn advance(
    transaction: &Transaction<'_>,
    id: &ReplayId,
    position: i64,
    wanted: &[(i64, NewDelivery)],
    now: Timestamp,
) -> Result<Replay, StoreError> {
    let replay = hold(transaction, id).await?;
    if replay.status != ReplayStatus::Running {
        return Ok(replay);
    }
    let seqs: Vec<i64> = wanted.iter().map(|(seq, _)| *seq).collect();
    // Pruned or erased since it was read: there is nothing left to deliver.
    let kept = events::hold(transaction, &seqs, false).await?;
    order::lock(transaction, wanted.iter().filter_map(|(_, delivery)| order::lane_of(delivery))).await?;
    let known = "SELECT event_seq, subscription_id FROM deliveries WHERE event_seq = ANY($1)";
    let known = rows(transaction, known, &[&seqs]).await?;
    let mut known: HashSet<(i64, String)> = known.iter().map(|row| (row.get(0), row.get(1))).collect();
    let is_new = |(seq, delivery): &&(i64, NewDelivery)| {
        kept.contains(seq) && known.insert((*seq, delivery.subscription.0.clone()))
    };
    let new: Vec<_> = wanted.iter().filter(is_new).map(|(seq, delivery)| (*seq, delivery, now)).collect();
    deliveries::create(transaction, &new).await?;
    moved(transaction, id, position, new.len(), now).await
}

pub(super) async fn advance_recovery(
    transaction: &Transaction<'_>,
    id: &ReplayId,
    position: i64,
    wanted: &[i64],
    now: Timestamp,
) -> Result<(Replay, Vec<SubscriptionId>), StoreError> {
    let replay = hold(transaction, id).await?;
    if replay.status != ReplayStatus::Running {
        return Ok((replay, Vec::new()));
    }
    let sql = "SELECT d.id FROM deliveries d JOIN subscriptions s ON s.id = d.subscription_id AND s.status = 'on' \
               WHERE d.event_seq = ANY($1) AND ($2::text IS NULL OR d.subscription_id = $2) \
               AND d.status IN ('exhausted', 'cancelled') AND ($3::text IS NULL OR d.status = $3) \
               ORDER BY d.event_seq, d.id";
    let subscription = replay.subscription.as_ref().map(SubscriptionId::as_str);
    let status = replay.range.status.map(DeliveryStatus::word);
    let found = rows(transaction, sql, &[&wanted, &subscription, &status]).await?;
    let ids: Vec<&str> = found.iter().map(|row| row.get(0)).collect();
    let mut woken = deliveries::redeliver(transaction, &ids, now).await?;
    woken.sort();
    woken.dedup();
    Ok((moved(transaction, id, position, ids.len(), now).await?, woken))
}

async fn moved(
    transaction: &Transaction<'_>,
    id: &ReplayId,
    position: i64,
    made: usize,
    now: Timestamp,
) -> Result<Replay, StoreError> {
    let sql = "UPDATE replays SET position = LEAST($2, last), made = made + $3, \
               status = CASE WHEN $2 >= last THEN 'done' ELSE status END, \
               ended_at = CASE WHEN $2 >= last THEN $4::bigint END WHERE id = $1";
    execute(transaction, sql, &[&id.as_str(), &position, &rows_of(made), &micros(now)]).await?;
    one(transaction, id).await
}

pub(super) async fn cancel(
    transaction: &Transaction<'_>,
    id: &ReplayId,
    now: Timestamp,
) -> Result<Replay, StoreError> {
    let sql = "UPDATE replays SET status = 'cancelled', ended_at = $2 WHERE id = $1 AND status = 'running'";
    execute(transaction, sql, &[&id.as_str(), &micros(now)]).await?;
    one(transaction, id).await
}

fn read(row: &Row) -> Result<Replay, StoreError> {
    let id = ReplayId(row.try_get("id")?);
    let damaged = |what: &str| super::damaged(format!("replay {id} has a damaged {what}"));
    let range: ReplayRange = serde_json::from_str(row.try_get("range")?).map_err(|_| damaged("range"))?;
    Ok(Replay {
        kind: ReplayKind::of(row.try_get("kind")?).ok_or_else(|| damaged("kind"))?,
        subscription: row.try_get::<_, Option<String>>("subscription_id")?.map(SubscriptionId),
        range,
        status: ReplayStatus::of(row.try_get("status")?).ok_or_else(|| damaged("status"))?,
        first: row.try_get("first")?,
        position: row.try_get("position")?,
        last: row.try_get("last")?,
        made: row.try_get::<_, i64>("made")?.unsigned_abs(),
        created_at: time(row.try_get("created_at")?),
        ended_at: row.try_get::<_, Option<i64>>("ended_at")?.map(time),
        id,
    })
}
