//! Replays and recoveries in SQLite.
//!
//! Both walk the events in the order of acceptance, a chunk in a transaction, which moves the position and makes the
//! deliveries: a crash between two chunks repeats nothing and leaves nothing out.

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, Row, named_params};

use super::{deliveries, events, micros, time};
use crate::model::{
    DeliveryId, DeliveryStatus, Replay, ReplayId, ReplayKind, ReplayRange, ReplayStatus, SubscriptionId,
};
use crate::store::{AcceptedEvent, NewDelivery, ReplayQuery, StoreError};

const COLUMNS: &str =
    "id, kind, subscription_id, range, status, first, position, last, made, created_at, ended_at";

pub(super) fn create(connection: &Connection, mut replay: Replay) -> Result<Replay, StoreError> {
    let end = events::newest(connection)? + 1;
    let first = replay.range.since.map_or(Ok(1), |since| first_since(connection, since, end))?;
    replay.last = replay.range.until.map_or(Ok(end), |until| first_since(connection, until, end))? - 1;
    replay.first = first;
    replay.position = first - 1;
    if replay.position >= replay.last {
        replay.status = ReplayStatus::Done;
        replay.ended_at = Some(replay.created_at);
    }
    let insert = "INSERT INTO replays (id, kind, subscription_id, range, status, first, position, last, made, created_at, \
                  ended_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, 0, ?9, ?10)";
    let range =
        serde_json::to_string(&replay.range).map_err(|error| StoreError::Unavailable(error.into()))?;
    connection.prepare_cached(insert)?.execute((
        replay.id.as_str(),
        replay.kind.word(),
        replay.subscription.as_ref().map(SubscriptionId::as_str),
        range,
        replay.status.word(),
        replay.first,
        replay.position,
        replay.last,
        micros(replay.created_at),
        replay.ended_at.map(micros),
    ))?;
    Ok(replay)
}

/// Place of the first event accepted at `since` or later, `end` where there is none. Events are in the order of their
/// acceptance, so a binary search does without an index that every event would have to pay for.
fn first_since(connection: &Connection, since: Timestamp, end: i64) -> Result<i64, StoreError> {
    let mut look = connection
        .prepare_cached("SELECT seq, accepted_at FROM events WHERE seq >= ?1 ORDER BY seq LIMIT 1")?;
    let (mut low, mut high) = (1, end);
    while low < high {
        let middle = low + (high - low) / 2;
        let found: Option<(i64, i64)> =
            look.query_row([middle], |row| Ok((row.get(0)?, row.get(1)?))).optional()?;
        match found {
            Some((seq, accepted_at)) if seq < high && accepted_at < micros(since) => low = seq + 1,
            _ => high = middle,
        }
    }
    Ok(low)
}

pub(super) fn one(connection: &Connection, id: &ReplayId) -> Result<Replay, StoreError> {
    let sql = format!("SELECT {COLUMNS} FROM replays WHERE id = ?1");
    let mut statement = connection.prepare_cached(&sql)?;
    let mut rows = statement.query([id.as_str()])?;
    read(rows.next()?.ok_or(StoreError::NotFound)?)
}

pub(super) fn page(connection: &Connection, query: &ReplayQuery) -> Result<Vec<Replay>, StoreError> {
    let sql = format!(
        "SELECT {COLUMNS} FROM replays WHERE (:subscription IS NULL OR subscription_id = :subscription) \
         AND (:status IS NULL OR status = :status) AND (:before IS NULL OR id < :before) AND (:tenant IS NULL OR subscription_id IN \
         (SELECT id FROM subscriptions WHERE tenant = :tenant)) ORDER BY id DESC LIMIT :limit"
    );
    let mut statement = connection.prepare_cached(&sql)?;
    let mut rows = statement.query(named_params! {
        ":subscription": query.subscription,
        ":status": query.status.map(ReplayStatus::word),
        ":before": query.before,
        ":tenant": query.tenant,
        ":limit": i64::try_from(query.limit).unwrap_or(i64::MAX),
    })?;
    let mut page = Vec::new();
    while let Some(row) = rows.next()? {
        page.push(read(row)?);
    }
    Ok(page)
}

pub(super) fn ahead(
    connection: &Connection,
    id: &ReplayId,
    limit: usize,
    most_pending: usize,
) -> Result<(Vec<AcceptedEvent>, usize), StoreError> {
    let replay = one(connection, id)?;
    let events = events::after(connection, replay.position, replay.last, limit)?;
    let pending = "SELECT COUNT(*) FROM (SELECT 1 FROM deliveries WHERE status = 'pending' AND subscription_id = ?1 LIMIT ?2)";
    let pending: i64 = match &replay.subscription {
        None => 0,
        Some(subscription) => connection
            .prepare_cached(pending)?
            .query_row((subscription.as_str(), i64::try_from(most_pending).unwrap_or(i64::MAX)), |row| {
                row.get(0)
            })?,
    };
    Ok((events, usize::try_from(pending).unwrap_or(usize::MAX)))
}

pub(super) fn advance(
    connection: &Connection,
    id: &ReplayId,
    position: i64,
    wanted: &[(i64, NewDelivery)],
    now: Timestamp,
) -> Result<Replay, StoreError> {
    if one(connection, id)?.status != ReplayStatus::Running {
        return one(connection, id);
    }
    let mut made = 0;
    let known = "SELECT 1 FROM deliveries WHERE event_seq = ?1 AND subscription_id = ?2";
    let kept = "SELECT 1 FROM events WHERE seq = ?1";
    for (seq, delivery) in wanted {
        let is_known = connection.prepare_cached(known)?.exists((seq, delivery.subscription.as_str()))?;
        // Pruned or erased since it was read: there is nothing left to deliver.
        if !is_known && connection.prepare_cached(kept)?.exists([seq])? {
            deliveries::create(connection, delivery, *seq, now)?;
            made += 1;
        }
    }
    moved(connection, id, position, made, now)
}

pub(super) fn advance_recovery(
    connection: &Connection,
    id: &ReplayId,
    position: i64,
    wanted: &[i64],
    now: Timestamp,
) -> Result<(Replay, Vec<SubscriptionId>), StoreError> {
    let replay = one(connection, id)?;
    if replay.status != ReplayStatus::Running {
        return Ok((replay, Vec::new()));
    }
    let sql = "SELECT d.id FROM deliveries d JOIN subscriptions s ON s.id = d.subscription_id AND s.status = 'on' \
               WHERE d.event_seq = ?1 AND (?2 IS NULL OR d.subscription_id = ?2) \
               AND d.status IN ('exhausted', 'cancelled') AND (?3 IS NULL OR d.status = ?3) ORDER BY d.id";
    let (subscription, status) = (
        replay.subscription.as_ref().map(SubscriptionId::as_str),
        replay.range.status.map(DeliveryStatus::word),
    );
    let (mut woken, mut made) = (Vec::new(), 0);
    for seq in wanted {
        let mut select = connection.prepare_cached(sql)?;
        let ids = select.query_map((seq, subscription, status), |row| row.get(0))?;
        for id in ids.collect::<Result<Vec<String>, _>>()? {
            woken.push(deliveries::redeliver(connection, &DeliveryId(id), now)?);
            made += 1;
        }
    }
    woken.sort();
    woken.dedup();
    Ok((moved(connection, id, position, made, now)?, woken))
}

fn moved(
    connection: &Connection,
    id: &ReplayId,
    position: i64,
    made: u64,
    now: Timestamp,
) -> Result<Replay, StoreError> {
    let sql = "UPDATE replays SET position = MIN(?2, last), made = made + ?3, \
               status = CASE WHEN ?2 >= last THEN 'done' ELSE status END, \
               ended_at = CASE WHEN ?2 >= last THEN ?4 END WHERE id = ?1";
    connection.prepare_cached(sql)?.execute((
        id.as_str(),
        position,
        i64::try_from(made).unwrap_or(i64::MAX),
        micros(now),
    ))?;
    one(connection, id)
}

pub(super) fn cancel(connection: &Connection, id: &ReplayId, now: Timestamp) -> Result<Replay, StoreError> {
    let sql = "UPDATE replays SET status = 'cancelled', ended_at = ?2 WHERE id = ?1 AND status = 'running'";
    connection.prepare_cached(sql)?.execute((id.as_str(), micros(now)))?;
    one(connection, id)
}

fn read(row: &Row<'_>) -> Result<Replay, StoreError> {
    let id = ReplayId(row.get(0)?);
    let damaged = |what: &str| StoreError::Unavailable(anyhow::anyhow!("replay {id} has a damaged {what}"));
    let range: String = row.get(3)?;
    let range: ReplayRange = serde_json::from_str(&range).map_err(|_| damaged("range"))?;
    Ok(Replay {
        kind: ReplayKind::of(&row.get::<_, String>(1)?).ok_or_else(|| damaged("kind"))?,
        subscription: row.get::<_, Option<String>>(2)?.map(SubscriptionId),
        range,
        status: ReplayStatus::of(&row.get::<_, String>(4)?).ok_or_else(|| damaged("status"))?,
        first: row.get(5)?,
        position: row.get(6)?,
        last: row.get(7)?,
        made: row.get::<_, i64>(8)?.unsigned_abs(),
        created_at: time(row.get(9)?),
        ended_at: row.get::<_, Option<i64>>(10)?.map(time),
        id,
    })
}
