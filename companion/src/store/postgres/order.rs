//! Lanes: the deliveries of one resource to one subscription, where their order matters.
//!
//! Of a lane's pending deliveries one may be due or claimed, the others wait: their `due_at` is [`WAITING`]. Whoever adds a
//! delivery to a lane, or takes away the one that the others wait for, holds its lock until the commit; else one could be
//! added as waiting for another that ends at the same time, and nobody would ever wake it. Locks live in the server's
//! memory, so there are only [`STRIPES`] of them; lanes that share one wait for each other's commits, which is all.

use std::collections::BTreeSet;

use deadpool_postgres::Transaction;
use sha2::{Digest, Sha256};

use super::transaction::{execute, rows};
use crate::store::{NewDelivery, NewEvent, StoreError};

/// `due_at` of a delivery that waits for an earlier one of its lane.
pub(super) const WAITING: i64 = i64::MAX;

/// Locks of a store; those of all transactions together have to fit into the server's table (6,400 by default).
const STRIPES: i64 = 64;

/// A lane's number. Two that had the same one, which nobody will see, would wait for each other as one.
pub(in crate::store) fn lane(subscription: &str, resource: &str) -> i64 {
    let hash = Sha256::new().chain_update(subscription).chain_update([0]).chain_update(resource).finalize();
    let mut first = [0; 8];
    first.copy_from_slice(&hash[..8]);
    i64::from_be_bytes(first)
}

/// The lane of a delivery about to be made.
pub(super) fn lane_of(delivery: &NewDelivery) -> Option<i64> {
    let resource = delivery.resource.as_deref()?;
    Some(lane(delivery.subscription.as_str(), resource))
}

/// The lanes of deliveries about to be made.
pub(super) fn lanes_of<'a>(events: impl IntoIterator<Item = &'a NewEvent>) -> Vec<i64> {
    events.into_iter().flat_map(|event| &event.deliveries).filter_map(lane_of).collect()
}

/// Takes the locks of lanes until the transaction ends. What is to be decided under them takes a statement after this one.
pub(super) async fn lock(
    transaction: &Transaction<'_>,
    lanes: impl IntoIterator<Item = i64>,
) -> Result<(), StoreError> {
    let stripes: BTreeSet<i32> =
        lanes.into_iter().filter_map(|lane| i32::try_from(lane.rem_euclid(STRIPES)).ok()).collect();
    if stripes.is_empty() {
        return Ok(());
    }
    let stripes: Vec<i32> = stripes.into_iter().collect();
    // The array is in order, and is gone through in order.
    let sql = "SELECT pg_advisory_xact_lock(hashtext('gatehook lanes ' || current_schema()), stripe) FROM unnest($1::int[]) AS stripe";
    rows(transaction, sql, &[&stripes]).await?;
    Ok(())
}

/// Of these lanes, those that have pending deliveries.
pub(super) async fn busy(transaction: &Transaction<'_>, lanes: &[i64]) -> Result<BTreeSet<i64>, StoreError> {
    if lanes.is_empty() {
        return Ok(BTreeSet::new());
    }
    let sql = "SELECT wanted.lane FROM unnest($1::bigint[]) AS wanted (lane) \
               WHERE EXISTS (SELECT 1 FROM deliveries d WHERE d.lane = wanted.lane AND d.status = 'pending')";
    let found = rows(transaction, sql, &[&lanes]).await?;
    Ok(found.iter().map(|row| row.get(0)).collect())
}

/// Makes the next delivery of each lane due where all that is pending in it waits; returns those lanes. Under their locks.
pub(super) async fn wake(
    transaction: &Transaction<'_>,
    lanes: &BTreeSet<i64>,
    now: i64,
) -> Result<BTreeSet<i64>, StoreError> {
    if lanes.is_empty() {
        return Ok(BTreeSet::new());
    }
    let lanes: Vec<i64> = lanes.iter().copied().collect();
    let heads = rows(transaction, HEADS, &[&lanes, &WAITING]).await?;
    let keys: Vec<i64> = heads.iter().map(|row| row.get("key")).collect();
    if !keys.is_empty() {
        wake_these(transaction, &keys, now).await?;
    }
    Ok(heads.iter().map(|row| row.get("lane")).collect())
}

/// Makes deliveries due that waited.
pub(super) async fn wake_these(
    transaction: &Transaction<'_>,
    keys: &[i64],
    now: i64,
) -> Result<usize, StoreError> {
    let sql = "UPDATE deliveries SET due_at = $2 WHERE key = ANY($1) AND due_at = $3 AND status = 'pending'";
    execute(transaction, sql, &[&keys, &now, &WAITING]).await
}

/// The first pending delivery of each of the lanes `$1`, where it waits (`$2`) and so do all behind it.
pub(super) const HEADS: &str = "SELECT head.key, head.lane, head.event_seq, head.subscription_id FROM unnest($1::bigint[]) AS wanted (lane) \
     CROSS JOIN LATERAL (SELECT d.key, d.lane, d.event_seq, d.subscription_id, d.due_at FROM deliveries d \
       WHERE d.lane = wanted.lane AND d.status = 'pending' ORDER BY d.event_seq, d.key LIMIT 1) head \
     WHERE head.due_at = $2 AND NOT EXISTS (SELECT 1 FROM deliveries o \
       WHERE o.lane = wanted.lane AND o.status = 'pending' AND o.due_at < $2)";
