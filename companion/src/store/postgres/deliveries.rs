//! Deliveries and attempts in PostgreSQL.
//!
//! A pending delivery has one time, `due_at`: its next attempt, or the end of its lease while a worker holds it. A lease
//! that runs out is therefore due again by itself. See [`super::order`] for those that wait for another.

use std::collections::BTreeSet;

use deadpool_postgres::{GenericClient, Transaction};
use jiff::Timestamp;
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

use super::order::{self, WAITING};
use super::transaction::{execute, row, rows};
use super::{micros, nul, rows_of, time};
use crate::model::{Attempt, Delivery, DeliveryId, DeliveryStatus, EventHead, Outcome, SubscriptionId};
use crate::store::{DeliveryQuery, NewDelivery, StoreError};

const COLUMNS: &str = "d.id, d.subscription_id, d.status, d.reason, d.attempt_count, d.due_at, d.created_at, d.ended_at, \
                       e.id AS event_id, e.source, e.type, e.subject, e.tenant, d.key, d.resource IS NOT NULL AS is_ordered";

/// Makes deliveries of events, by their places, in one statement. The locks of their lanes must be held.
pub(super) async fn create(
    transaction: &Transaction<'_>,
    wanted: &[(i64, &NewDelivery, Timestamp)],
) -> Result<(), StoreError> {
    if wanted.is_empty() {
        return Ok(());
    }
    let lanes: Vec<Option<i64>> = wanted.iter().map(|(_, delivery, _)| order::lane_of(delivery)).collect();
    let ordered: Vec<i64> = lanes.iter().flatten().copied().collect();
    let mut busy = order::busy(transaction, &ordered).await?;
    let (mut due, mut claims) = (Vec::with_capacity(wanted.len()), Vec::with_capacity(wanted.len()));
    for ((_, delivery, _), lane) in wanted.iter().zip(&lanes) {
        let waits = lane.is_some_and(|lane| !busy.insert(lane));
        let lease = delivery.lease.filter(|_| !waits);
        due.push(if waits { WAITING } else { micros(lease.map_or(delivery.due_at, |lease| lease.until)) });
        claims.push(lease.map(|lease| lease.claim));
    }
    let sql = "INSERT INTO deliveries (id, event_seq, subscription_id, status, due_at, created_at, resource, lane, claim) \
               SELECT id, event_seq, subscription_id, 'pending', due_at, created_at, resource, lane, claim \
               FROM unnest($1::text[], $2::bigint[], $3::text[], $4::bigint[], $5::bigint[], $6::text[], $7::bigint[], \
                 $8::bigint[]) WITH ORDINALITY \
                 AS n (id, event_seq, subscription_id, due_at, created_at, resource, lane, claim, place) ORDER BY place";
    let values: [&(dyn ToSql + Sync); 8] = [
        &wanted.iter().map(|(_, delivery, _)| delivery.id.as_str()).collect::<Vec<_>>(),
        &wanted.iter().map(|(seq, ..)| *seq).collect::<Vec<_>>(),
        &wanted.iter().map(|(_, delivery, _)| delivery.subscription.as_str()).collect::<Vec<_>>(),
        &due,
        &wanted.iter().map(|(.., now)| micros(*now)).collect::<Vec<_>>(),
        &wanted.iter().map(|(_, delivery, _)| delivery.resource.as_deref()).collect::<Vec<_>>(),
        &lanes,
        &claims,
    ];
    execute(transaction, sql, &values).await?;
    Ok(())
}

pub(super) async fn cancel(
    transaction: &Transaction<'_>,
    subscription: &SubscriptionId,
    reason: &str,
    limit: usize,
    now: Timestamp,
) -> Result<usize, StoreError> {
    // What is under way ends by its own verdict. Those that wait for their turn go first: whom they wait for must not go
    // before them, or each chunk would wake one that the next is to cancel.
    // Who asks may not know yet that the subscription was turned on again.
    let sought = "SELECT key, lane FROM deliveries WHERE subscription_id = $1 AND status = 'pending' \
                  AND (claim IS NULL OR due_at <= $2) \
                  AND NOT EXISTS (SELECT FROM subscriptions WHERE id = $1 AND status = 'on') \
                  ORDER BY due_at DESC LIMIT $3";
    let found = rows(transaction, sought, &[&subscription.as_str(), &micros(now), &rows_of(limit)]).await?;
    let mut keys: Vec<i64> = found.iter().map(|row| row.get(0)).collect();
    keys.sort_unstable();
    let lanes: BTreeSet<i64> = found.iter().filter_map(|row| row.get(1)).collect();
    order::lock(transaction, lanes.iter().copied()).await?;
    let cancel = "UPDATE deliveries SET status = 'cancelled', reason = $2, claim = NULL, ended_at = $3 \
                  WHERE key = ANY($1) AND status = 'pending' AND (claim IS NULL OR due_at <= $3)";
    execute(transaction, cancel, &[&keys, &nul::escaped(reason), &micros(now)]).await?;
    // Behind one that was cancelled another may have been accepted since they were looked for.
    order::wake(transaction, &lanes, micros(now)).await?;
    // Not how many it cancelled: what was claimed in between would look like the end of them.
    Ok(keys.len())
}

pub(super) async fn due(client: &impl GenericClient) -> Result<Vec<(SubscriptionId, Timestamp)>, StoreError> {
    // A loose index scan: one step per subscription, however many deliveries each has.
    let sql = "WITH RECURSIVE queue (id) AS ( \
                 (SELECT subscription_id FROM deliveries WHERE status = 'pending' ORDER BY subscription_id LIMIT 1) \
                 UNION ALL \
                 SELECT (SELECT subscription_id FROM deliveries WHERE status = 'pending' AND subscription_id > queue.id \
                   ORDER BY subscription_id LIMIT 1) \
                 FROM queue WHERE queue.id IS NOT NULL) \
               SELECT id, (SELECT due_at FROM deliveries WHERE status = 'pending' AND subscription_id = queue.id \
                 ORDER BY due_at LIMIT 1) FROM queue WHERE id IS NOT NULL";
    let found = rows(client, sql, &[]).await?;
    Ok(found.iter().map(|row| (SubscriptionId(row.get(0)), time(row.get(1)))).collect())
}

/// Begins new rounds of deliveries; returns their subscriptions. Where order matters each takes its turn among what is
/// pending of its resource, by its place in the order of acceptance.
pub(super) async fn redeliver(
    transaction: &Transaction<'_>,
    ids: &[&str],
    now: Timestamp,
) -> Result<Vec<SubscriptionId>, StoreError> {
    let known = "SELECT id, subscription_id, lane FROM deliveries WHERE id = ANY($1)";
    let known = rows(transaction, known, &[&ids]).await?;
    order::lock(transaction, known.iter().filter_map(|row| row.get::<_, Option<i64>>("lane"))).await?;
    // While an attempt is under way its claim stays: taking it would have two attempts at once. One that is pending and does
    // not wait is the one that others wait for.
    let sql = "UPDATE deliveries d SET reason = NULL, step = 0, round_at = $2, ended_at = NULL, status = 'pending', \
               due_at = CASE WHEN claim IS NOT NULL OR (status = 'pending' AND due_at = $3) THEN due_at \
                 WHEN status <> 'pending' AND EXISTS (SELECT 1 FROM deliveries o \
                   WHERE o.lane = d.lane AND o.status = 'pending') THEN $3 \
                 ELSE $2 END WHERE id = ANY($1)";
    let (ordered, others): (Vec<&Row>, Vec<&Row>) =
        known.iter().partition(|row| row.get::<_, Option<i64>>("lane").is_some());
    let id = |row: &&'_ Row| -> String { row.get("id") };
    // Two of one lane have to see each other, so those go one by one, in the order asked for.
    let mut groups: Vec<Vec<String>> = ordered.iter().map(|row| vec![id(row)]).collect();
    groups.sort_by_key(|group| ids.iter().position(|id| *id == group[0]));
    groups.push(others.iter().map(id).collect());
    for group in groups.iter().filter(|group| !group.is_empty()) {
        execute(transaction, sql, &[group, &micros(now), &WAITING]).await?;
    }
    Ok(known.iter().map(|row| SubscriptionId(row.get("subscription_id"))).collect())
}

pub(super) async fn one(
    client: &impl GenericClient,
    id: &DeliveryId,
) -> Result<(Delivery, Vec<Attempt>), StoreError> {
    let sql =
        format!("SELECT {COLUMNS} FROM deliveries d JOIN events e ON e.seq = d.event_seq WHERE d.id = $1");
    let found = row(client, &sql, &[&id.as_str()]).await?.ok_or(StoreError::NotFound)?;
    let sql = "SELECT number, started_at, duration_ms, outcome, status, error, answer FROM attempts \
               WHERE delivery_key = $1 ORDER BY number";
    let attempts = rows(client, sql, &[&found.get::<_, i64>("key")]).await?;
    Ok((read(&found)?, attempts.iter().map(attempt).collect()))
}

fn attempt(row: &Row) -> Attempt {
    Attempt {
        number: number(row.get("number")),
        started_at: time(row.get("started_at")),
        duration_ms: row.get("duration_ms"),
        outcome: outcome(row.get("outcome"), row.get("status"), row.get("error")),
        answer: row.get::<_, Option<Vec<u8>>>("answer").unwrap_or_default().into(),
    }
}

fn outcome(word: &str, status: Option<i64>, error: Option<&str>) -> Outcome {
    let error = || error.map(nul::unescaped).unwrap_or_default();
    match (word, status.and_then(|status| u16::try_from(status).ok())) {
        (_, Some(status)) => Outcome::Answered { status, retry_after_s: None, instruction: None },
        ("timed_out", _) => Outcome::TimedOut,
        ("blocked", _) => Outcome::Blocked(error()),
        _ => Outcome::Unreachable(error()),
    }
}

/// A count as the model has it.
fn number(value: i64) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}

pub(super) async fn page(
    client: &impl GenericClient,
    query: &DeliveryQuery,
) -> Result<Vec<Delivery>, StoreError> {
    if nul::is_in([&query.subscription, &query.event, &query.before, &query.tenant]) {
        return Ok(Vec::new());
    }
    // Texts differ by what is asked for, so that each is answered from its index.
    let by_subscription = match (&query.tenant, &query.subscription) {
        (Some(_), _) => "d.subscription_id = s.id AND e.tenant = $7",
        (None, Some(_)) => "d.subscription_id = $1",
        (None, None) => "$1::text IS NULL",
    };
    let by_event = match query.event {
        Some(_) => "d.event_seq IN (SELECT seq FROM events WHERE id = $2)",
        None => "$2::text IS NULL",
    };
    let by_status = match query.status {
        None => "$4::text IS NULL",
        // The index of those that failed has to be named to be used.
        Some(DeliveryStatus::Exhausted | DeliveryStatus::Cancelled) => {
            "d.status = $4 AND d.status IN ('exhausted', 'cancelled')"
        }
        Some(_) => "d.status = $4",
    };
    // The one that the page before ended with may have been forgotten meanwhile; ids tell about as much as the order.
    let by_age = match query.before {
        Some(_) => {
            "d.key < COALESCE((SELECT key FROM deliveries WHERE id = $3), \
             (SELECT key + 1 FROM deliveries WHERE id < $3 ORDER BY id DESC LIMIT 1))"
        }
        None => "$3::text IS NULL",
    };
    let sql = format!(
        "SELECT {COLUMNS} FROM deliveries d JOIN events e ON e.seq = d.event_seq WHERE {by_subscription} AND {by_event} \
         AND {by_age} AND {by_status} ORDER BY d.key DESC LIMIT $5"
    );
    // A tenant's page is put together of a page of each of its subscriptions: among the deliveries of all tenants its own may
    // be far apart.
    let sql = match &query.tenant {
        None => sql,
        Some(_) => format!(
            "SELECT own.* FROM subscriptions s CROSS JOIN LATERAL ({sql}) AS own \
             WHERE s.tenant = $6 AND ($1::text IS NULL OR s.id = $1) ORDER BY own.key DESC LIMIT $5"
        ),
    };
    let status = query.status.map(DeliveryStatus::word);
    let (limit, tenant) = (rows_of(query.limit), nul::escaped_option(query.tenant.as_deref()));
    let mut values: Vec<&(dyn ToSql + Sync)> =
        vec![&query.subscription, &query.event, &query.before, &status, &limit];
    if tenant.is_some() {
        values.extend([&tenant as &(dyn ToSql + Sync), &query.tenant]);
    }
    rows(client, &sql, &values).await?.iter().map(read).collect()
}

/// Reads [`COLUMNS`].
fn read(row: &Row) -> Result<Delivery, StoreError> {
    let word: &str = row.try_get("status")?;
    let status = DeliveryStatus::of(word)
        .ok_or_else(|| super::damaged(format!("a delivery has the unknown status `{word}`")))?;
    let due_at = Some(row.try_get::<_, i64>("due_at")?);
    Ok(Delivery {
        id: DeliveryId(row.try_get("id")?),
        subscription: SubscriptionId(row.try_get("subscription_id")?),
        status,
        reason: row.try_get::<_, Option<&str>>("reason")?.map(nul::unescaped),
        attempt_count: number(row.try_get("attempt_count")?),
        due_at: due_at.filter(|at| status == DeliveryStatus::Pending && *at != WAITING).map(time),
        created_at: time(row.try_get("created_at")?),
        ended_at: row.try_get::<_, Option<i64>>("ended_at")?.map(time),
        event: EventHead {
            id: row.try_get("event_id")?,
            source: row.try_get("source")?,
            event_type: row.try_get("type")?,
            subject: row.try_get("subject")?,
            tenant: row.try_get("tenant")?,
        },
        is_ordered: row.try_get("is_ordered")?,
    })
}
