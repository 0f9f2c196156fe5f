//! Deliveries and attempts in SQLite.
//!
//! A pending delivery has one time, `due_at`: its next attempt, or the end of its lease while a worker holds it. A lease
//! that runs out is therefore due again by itself. One that waits for an earlier delivery of its resource has [`WAITING`]
//! there, and becomes due when that one ends: however many wait behind a failing one, no claim looks at them.

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, Row, named_params};

use super::{events, micros, subscriptions, time};
use crate::clock::random_token;
use crate::limits;
use crate::model::{Attempt, Delivery, DeliveryId, DeliveryStatus, EventHead, Outcome, SubscriptionId};
use crate::retry::later;
use crate::store::{Claimed, Claims, DUE_SOON, DeliveryQuery, Named, NewDelivery, StoreError};

/// `due_at` of a delivery that waits for an earlier one of its resource.
pub(super) const WAITING: i64 = i64::MAX;

const COLUMNS: &str = "d.id, d.subscription_id, d.status, d.reason, d.attempt_count, d.due_at, d.created_at, d.ended_at, \
                       e.id, e.source, e.type, e.subject, e.tenant, d.key, d.resource IS NOT NULL";

/// What a claim needs of a delivery, after [`events::COLUMNS`]; `d` is the table's name in the query.
const CLAIMED: &str = "d.id, d.attempt_count, d.step, COALESCE(d.round_at, d.created_at), \
                       IIF(d.resource IS NULL, NULL, d.event_seq), d.key";

/// Adds a delivery of the event `seq`.
pub(super) fn create(
    connection: &Connection,
    delivery: &NewDelivery,
    seq: i64,
    now: Timestamp,
) -> Result<(), StoreError> {
    let NewDelivery { id, subscription, due_at, resource, lease } = delivery;
    let waits = match resource {
        None => false,
        Some(resource) => connection
            .prepare_cached(
                "SELECT 1 FROM deliveries WHERE subscription_id = ?1 AND resource = ?2 AND status = 'pending' LIMIT 1",
            )?
            .exists((subscription.as_str(), resource))?,
    };
    let lease = lease.as_ref().filter(|_| !waits);
    let due_at = if waits { WAITING } else { micros(lease.map_or(*due_at, |lease| lease.until)) };
    let claim = lease.map(|lease| lease.claim);
    let insert = "INSERT INTO deliveries (id, event_seq, subscription_id, status, due_at, created_at, resource, claim) \
                  VALUES (?1, ?2, ?3, 'pending', ?4, ?5, ?6, ?7)";
    let values = (id.as_str(), seq, subscription.as_str(), due_at, micros(now), resource, claim);
    connection.prepare_cached(insert)?.execute(values)?;
    Ok(())
}

pub(super) fn claim(
    connection: &Connection,
    subscription: &SubscriptionId,
    limit: usize,
    now: Timestamp,
    lease_until: Timestamp,
) -> Result<Claims, StoreError> {
    let sql = format!(
        "SELECT {}, {CLAIMED} FROM deliveries d JOIN events e ON e.seq = d.event_seq \
         WHERE d.subscription_id = ?1 AND d.status = 'pending' AND d.due_at <= ?2 ORDER BY d.due_at LIMIT ?3",
        events::COLUMNS
    );
    let token = random_token();
    let (mut claimed, mut keys) = (Vec::with_capacity(limit), Vec::with_capacity(limit));
    let (mut bytes, mut more) = (0, false);
    {
        let mut select = connection.prepare_cached(&sql)?;
        // One row more than asked for tells whether to come back.
        let rows = i64::try_from(limit.saturating_add(1)).unwrap_or(i64::MAX);
        let mut rows = select.query((subscription.as_str(), micros(now), rows))?;
        while let Some(row) = rows.next()? {
            if claimed.len() == limit || bytes >= limits::CLAIM_BYTES {
                more = true;
                break;
            }
            let delivery = read_claimed(row, token)?;
            bytes += delivery.event.size();
            claimed.push(delivery);
            keys.push(row.get::<_, i64>(14)?);
        }
    }
    lease(connection, &keys, token, lease_until)?;
    let next = "SELECT due_at FROM deliveries WHERE subscription_id = ?1 AND status = 'pending' AND claim IS NOT ?2 \
                ORDER BY due_at LIMIT 1";
    let next = connection.prepare_cached(next)?.query_row((subscription.as_str(), token), |row| row.get(0));
    let next_due_at = next.optional()?.filter(|at| *at != WAITING).map(time);
    let failing_since = subscriptions::failing_since(connection, subscription)?;
    Ok(Claims { claimed, more, next_due_at, failing_since })
}

pub(super) fn claim_named(
    connection: &Connection,
    ids: &[DeliveryId],
    now: Timestamp,
    lease_until: Timestamp,
) -> Result<Named, StoreError> {
    let sql = format!(
        "SELECT {}, {CLAIMED}, d.subscription_id, IIF(s.status = 'on' AND s.failing_since IS NULL \
           AND s.options ->> 'rate_limit' IS NULL AND s.options ->> 'max_in_flight' IS NULL AND d.due_at <= ?2, TRUE, FALSE) \
         FROM deliveries d JOIN events e ON e.seq = d.event_seq LEFT JOIN subscriptions s ON s.id = d.subscription_id \
         WHERE d.id = ?1 AND d.status = 'pending' AND (d.due_at <= ?2 OR d.claim IS NULL AND d.due_at <= ?3)",
        events::COLUMNS
    );
    let token = random_token();
    let mut select = connection.prepare_cached(&sql)?;
    let (mut named, mut bytes) = (Named::default(), 0);
    for id in ids {
        let mut rows = select.query((id.as_str(), micros(now), micros(later(now, DUE_SOON))))?;
        let Some(row) = rows.next()? else { continue };
        let subscription = SubscriptionId(row.get(15)?);
        if !row.get::<_, bool>(16)? || bytes >= limits::CLAIM_BYTES {
            named.due.push(subscription);
            continue;
        }
        let claimed = read_claimed(row, token)?;
        bytes += claimed.event.size();
        named.claimed.push((subscription, claimed));
        lease(connection, &[row.get(14)?], token, lease_until)?;
    }
    named.due.sort();
    named.due.dedup();
    Ok(named)
}

/// Reads [`events::COLUMNS`] and [`CLAIMED`].
fn read_claimed(row: &Row<'_>, token: i64) -> Result<Claimed, StoreError> {
    Ok(Claimed {
        id: DeliveryId(row.get(9)?),
        claim: token,
        attempt_count: row.get(10)?,
        step: row.get(11)?,
        began_at: time(row.get(12)?),
        sequence: row.get(13)?,
        event: events::read(row)?.into(),
    })
}

fn lease(connection: &Connection, keys: &[i64], token: i64, until: Timestamp) -> Result<(), StoreError> {
    let mut lease =
        connection.prepare_cached("UPDATE deliveries SET claim = ?2, due_at = ?3 WHERE key = ?1")?;
    for key in keys {
        lease.execute((key, token, micros(until)))?;
    }
    Ok(())
}

pub(super) fn subscription_of(
    connection: &Connection,
    id: &DeliveryId,
) -> Result<SubscriptionId, StoreError> {
    let sql = "SELECT subscription_id FROM deliveries WHERE id = ?1";
    Ok(SubscriptionId(connection.prepare_cached(sql)?.query_row([id.as_str()], |row| row.get(0))?))
}

pub(super) fn release(
    connection: &Connection,
    claims: &[(DeliveryId, i64)],
    now: Timestamp,
) -> Result<(), StoreError> {
    let sql =
        "UPDATE deliveries SET claim = NULL, due_at = ?3 WHERE id = ?1 AND claim = ?2 AND status = 'pending'";
    let mut update = connection.prepare_cached(sql)?;
    for (id, claim) in claims {
        update.execute((id.as_str(), claim, micros(now)))?;
    }
    Ok(())
}

pub(super) fn release_all(connection: &Connection, now: Timestamp) -> Result<usize, StoreError> {
    let sql =
        "UPDATE deliveries SET claim = NULL, due_at = ?1 WHERE status = 'pending' AND claim IS NOT NULL";
    Ok(connection.prepare_cached(sql)?.execute([micros(now)])?)
}

pub(super) fn cancel(
    connection: &Connection,
    subscription: &SubscriptionId,
    reason: &str,
    limit: usize,
    now: Timestamp,
) -> Result<usize, StoreError> {
    // What is under way ends by its own verdict. Those that wait for their turn go first: whom they wait for must not go
    // before them, or nobody would wake those that another chunk was to cancel.
    let sql = "UPDATE deliveries SET status = 'cancelled', reason = ?2, claim = NULL, ended_at = ?3 WHERE key IN \
               (SELECT key FROM deliveries WHERE subscription_id = ?1 AND status = 'pending' \
                AND (claim IS NULL OR due_at <= ?3) ORDER BY due_at DESC LIMIT ?4)";
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    Ok(connection.prepare_cached(sql)?.execute((subscription.as_str(), reason, micros(now), limit))?)
}

pub(super) fn due(connection: &Connection) -> Result<Vec<(SubscriptionId, Timestamp)>, StoreError> {
    // A loose index scan: one step per subscription, however many deliveries each has.
    let sql = "WITH RECURSIVE lane (id) AS ( \
                 SELECT MIN(subscription_id) FROM deliveries WHERE status = 'pending' \
                 UNION ALL \
                 SELECT (SELECT MIN(subscription_id) FROM deliveries WHERE status = 'pending' AND subscription_id > lane.id) \
                 FROM lane WHERE lane.id IS NOT NULL) \
               SELECT id, (SELECT MIN(due_at) FROM deliveries WHERE status = 'pending' AND subscription_id = lane.id) \
               FROM lane WHERE id IS NOT NULL";
    let mut statement = connection.prepare_cached(sql)?;
    let rows = statement.query_map([], |row| Ok((SubscriptionId(row.get(0)?), time(row.get(1)?))))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Begins a new round of a delivery. Where order matters it takes its turn among what is pending of its resource, by its
/// place in the order of acceptance.
pub(super) fn redeliver(
    connection: &Connection,
    id: &DeliveryId,
    now: Timestamp,
) -> Result<SubscriptionId, StoreError> {
    // While an attempt is under way its claim stays: taking it would have two attempts at once. One that is pending and does
    // not wait is the one that others wait for.
    let sql = "UPDATE deliveries SET reason = NULL, step = 0, round_at = ?2, ended_at = NULL, status = 'pending', \
               due_at = CASE WHEN claim IS NOT NULL OR (status = 'pending' AND due_at = ?3) THEN due_at \
                 WHEN status <> 'pending' AND EXISTS (SELECT 1 FROM deliveries other \
                   WHERE other.subscription_id = deliveries.subscription_id AND other.resource = deliveries.resource \
                   AND other.status = 'pending') THEN ?3 \
                 ELSE ?2 END WHERE id = ?1";
    connection.prepare_cached(sql)?.execute((id.as_str(), micros(now), WAITING))?;
    subscription_of(connection, id)
}

pub(super) fn one(connection: &Connection, id: &DeliveryId) -> Result<(Delivery, Vec<Attempt>), StoreError> {
    let sql =
        format!("SELECT {COLUMNS} FROM deliveries d JOIN events e ON e.seq = d.event_seq WHERE d.id = ?1");
    let mut statement = connection.prepare_cached(&sql)?;
    let mut rows = statement.query([id.as_str()])?;
    let delivery = read(rows.next()?.ok_or(StoreError::NotFound)?)?;
    let sql = "SELECT number, started_at, duration_ms, outcome, status, error, answer FROM attempts \
               WHERE delivery_key = (SELECT key FROM deliveries WHERE id = ?1) ORDER BY number";
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query([id.as_str()])?;
    let mut attempts = Vec::new();
    while let Some(row) = rows.next()? {
        attempts.push(Attempt {
            number: row.get(0)?,
            started_at: time(row.get(1)?),
            duration_ms: row.get(2)?,
            outcome: outcome(&row.get::<_, String>(3)?, row.get(4)?, row.get(5)?),
            answer: row.get::<_, Option<Vec<u8>>>(6)?.unwrap_or_default().into(),
        });
    }
    Ok((delivery, attempts))
}

fn outcome(word: &str, status: Option<u16>, error: Option<String>) -> Outcome {
    match (word, status) {
        (_, Some(status)) => Outcome::Answered { status, retry_after_s: None, instruction: None },
        ("timed_out", _) => Outcome::TimedOut,
        ("blocked", _) => Outcome::Blocked(error.unwrap_or_default()),
        _ => Outcome::Unreachable(error.unwrap_or_default()),
    }
}

/// A page of deliveries. A tenant's is put together of a page of each of its subscriptions: among the deliveries of all
/// tenants its own may be far apart.
pub(super) fn page(connection: &Connection, query: &DeliveryQuery) -> Result<Vec<Delivery>, StoreError> {
    let mut found = Vec::new();
    match &query.tenant {
        None => found = keyed(connection, query)?,
        Some(tenant) => {
            for id in subscriptions::ids_of_tenant(connection, tenant, query.subscription.as_deref())? {
                found.extend(keyed(connection, &DeliveryQuery { subscription: Some(id), ..query.clone() })?);
                found.sort_by_key(|(key, _)| std::cmp::Reverse(*key));
                found.truncate(query.limit);
            }
        }
    }
    Ok(found.into_iter().map(|(_, delivery)| delivery).collect())
}

/// A page of deliveries with their keys.
fn keyed(connection: &Connection, query: &DeliveryQuery) -> Result<Vec<(i64, Delivery)>, StoreError> {
    // Texts differ by what is asked for, so that each is answered from its index.
    let by_subscription = if query.subscription.is_some() {
        "d.subscription_id = :subscription"
    } else {
        ":subscription IS NULL"
    };
    let by_event = match query.event {
        Some(_) => "d.event_seq IN (SELECT seq FROM events WHERE id = :event)",
        None => ":event IS NULL",
    };
    let by_status = match query.status {
        None => ":status IS NULL",
        // The index of those that failed has to be named to be used.
        Some(DeliveryStatus::Exhausted | DeliveryStatus::Cancelled) => {
            "d.status = :status AND d.status IN ('exhausted', 'cancelled')"
        }
        Some(_) => "d.status = :status",
    };
    // The one that the page before ended with may have been forgotten meanwhile; ids tell about as much as the order.
    let by_age = match query.before {
        Some(_) => {
            "d.key < COALESCE((SELECT key FROM deliveries WHERE id = :before), \
             (SELECT key + 1 FROM deliveries WHERE id < :before ORDER BY id DESC LIMIT 1))"
        }
        None => ":before IS NULL",
    };
    let sql = format!(
        "SELECT {COLUMNS} FROM deliveries d JOIN events e ON e.seq = d.event_seq WHERE {by_subscription} AND {by_event} \
         AND {by_age} AND {by_status} AND (:tenant IS NULL OR e.tenant = :tenant) ORDER BY d.key DESC LIMIT :limit"
    );
    let mut statement = connection.prepare_cached(&sql)?;
    let mut rows = statement.query(named_params! {
        ":subscription": query.subscription,
        ":event": query.event,
        ":before": query.before,
        ":status": query.status.map(DeliveryStatus::word),
        ":tenant": query.tenant,
        ":limit": i64::try_from(query.limit).unwrap_or(i64::MAX),
    })?;
    let mut page = Vec::new();
    while let Some(row) = rows.next()? {
        page.push((row.get(13)?, read(row)?));
    }
    Ok(page)
}

/// Reads [`COLUMNS`].
fn read(row: &Row<'_>) -> Result<Delivery, StoreError> {
    let word: String = row.get(2)?;
    let damaged = || StoreError::Unavailable(anyhow::anyhow!("a delivery has the unknown status `{word}`"));
    let status = DeliveryStatus::of(&word).ok_or_else(damaged)?;
    Ok(Delivery {
        id: DeliveryId(row.get(0)?),
        subscription: SubscriptionId(row.get(1)?),
        status,
        reason: row.get(3)?,
        attempt_count: row.get(4)?,
        due_at: Some(row.get(5)?).filter(|at| status == DeliveryStatus::Pending && *at != WAITING).map(time),
        created_at: time(row.get(6)?),
        ended_at: row.get::<_, Option<i64>>(7)?.map(time),
        event: EventHead {
            id: row.get(8)?,
            source: row.get(9)?,
            event_type: row.get(10)?,
            subject: row.get(11)?,
            tenant: row.get(12)?,
        },
        is_ordered: row.get(14)?,
    })
}
