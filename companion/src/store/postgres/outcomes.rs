//! How attempts ended, in PostgreSQL: the attempts, what follows for their deliveries, resources and subscriptions.

use std::collections::{BTreeSet, HashMap};

use deadpool_postgres::Transaction;
use jiff::Timestamp;
use tokio_postgres::types::ToSql;

use super::transaction::{execute, rows};
use super::{audit, events, micros, nul, order, subscriptions};
use crate::model::{DeliveryStatus, SubscriptionId};
use crate::retry::Verdict;
use crate::store::{Ended, Health, PASSED, Recorded, StoreError};
use crate::vault::Vault;

/// A delivery whose claim was still held.
struct Held {
    key: i64,
    subscription: SubscriptionId,
    lane: Option<i64>,
}

/// Records attempts; the number of statements is the same however many there are, but for those that end a subscription,
/// change its health, or are the last of a delivery that failed.
pub(super) async fn record(
    transaction: &Transaction<'_>,
    vault: &Vault,
    batch: &[Ended],
    now: Timestamp,
) -> Result<Vec<Recorded>, StoreError> {
    prepare(transaction, batch).await?;
    let held = end(transaction, batch, now).await?;
    write_attempts(transaction, batch, &held).await?;
    let ended: BTreeSet<i64> = held
        .iter()
        .zip(batch)
        .filter(|(_, ended)| status(&ended.verdict) != DeliveryStatus::Pending)
        .filter_map(|(held, _)| held.as_ref()?.lane)
        .collect();
    let mut woken = order::wake(transaction, &ended, micros(now)).await?;
    let mut recorded = Vec::with_capacity(batch.len());
    for (held, ended) in held.iter().zip(batch) {
        let Some(held) = held else {
            recorded.push(Recorded::Stale);
            continue;
        };
        let released = held.lane.is_some_and(|lane| woken.remove(&lane));
        recorded.push(follow(transaction, vault, ended, held, released, now).await?);
    }
    Ok(recorded)
}

/// Takes locks in their order: the row of `places` where a subscription may end or there is news, then lanes.
async fn prepare(transaction: &Transaction<'_>, batch: &[Ended]) -> Result<(), StoreError> {
    let tells = |ended: &&Ended| match ended.verdict {
        Verdict::Off(_) => true,
        Verdict::Exhausted => !ended.note.news.is_empty(),
        _ => false,
    };
    let telling: Vec<&Ended> = batch.iter().filter(tells).collect();
    if !telling.is_empty() {
        events::lock_places(transaction).await?;
    }
    let ids: Vec<&str> = batch.iter().map(|ended| ended.id.as_str()).collect();
    let own = "SELECT lane FROM deliveries WHERE id = ANY($1) AND lane IS NOT NULL";
    let own = rows(transaction, own, &[&ids]).await?;
    let news = order::lanes_of(telling.iter().flat_map(|ended| &ended.note.news));
    order::lock(transaction, own.iter().map(|row| row.get(0)).chain(news)).await
}

fn status(verdict: &Verdict) -> DeliveryStatus {
    match verdict {
        Verdict::Delivered => DeliveryStatus::Delivered,
        Verdict::Retry(_) => DeliveryStatus::Pending,
        Verdict::Exhausted => DeliveryStatus::Exhausted,
        Verdict::Cancelled(_) | Verdict::Off(_) => DeliveryStatus::Cancelled,
    }
}

/// Writes what follows for the deliveries whose claims are still held; returns those, in the order of the batch.
async fn end(
    transaction: &Transaction<'_>,
    batch: &[Ended],
    now: Timestamp,
) -> Result<Vec<Option<Held>>, StoreError> {
    let reason = |ended: &Ended| match &ended.verdict {
        Verdict::Cancelled(reason) | Verdict::Off(reason) => Some(*reason),
        _ => None,
    };
    let due_at = |ended: &Ended| match ended.verdict {
        Verdict::Retry(due_at) => micros(due_at),
        _ => micros(now),
    };
    let sql = "UPDATE deliveries d SET status = n.status, due_at = n.due_at, claim = NULL, \
                 reason = CASE WHEN n.status = 'exhausted' AND d.lane IS NOT NULL THEN $6 ELSE n.reason END, \
                 ended_at = CASE WHEN n.status <> 'pending' THEN $7::bigint END, \
                 attempt_count = attempt_count + 1, step = step + 1 \
               FROM unnest($1::text[], $2::bigint[], $3::text[], $4::text[], $5::bigint[]) AS n (id, claim, status, reason, due_at) \
               WHERE d.id = n.id AND d.claim = n.claim AND d.status = 'pending' \
               RETURNING d.id, n.claim, d.key, d.subscription_id, d.lane";
    let values: [&(dyn ToSql + Sync); 7] = [
        &batch.iter().map(|ended| ended.id.as_str()).collect::<Vec<_>>(),
        &batch.iter().map(|ended| ended.claim).collect::<Vec<_>>(),
        &batch.iter().map(|ended| status(&ended.verdict).word()).collect::<Vec<_>>(),
        &batch.iter().map(reason).collect::<Vec<_>>(),
        &batch.iter().map(due_at).collect::<Vec<_>>(),
        &PASSED,
        &micros(now),
    ];
    let found = rows(transaction, sql, &values).await?;
    let mut held: HashMap<(&str, i64), Held> = found
        .iter()
        .map(|row| {
            let subscription = SubscriptionId(row.get("subscription_id"));
            (
                (row.get("id"), row.get("claim")),
                Held { key: row.get("key"), subscription, lane: row.get("lane") },
            )
        })
        .collect();
    Ok(batch.iter().map(|ended| held.remove(&(ended.id.as_str(), ended.claim))).collect())
}

async fn write_attempts(
    transaction: &Transaction<'_>,
    batch: &[Ended],
    held: &[Option<Held>],
) -> Result<(), StoreError> {
    let made: Vec<_> = batch
        .iter()
        .zip(held)
        .filter_map(|(ended, held)| Some((&ended.attempt, held.as_ref()?.key)))
        .collect();
    if made.is_empty() {
        return Ok(());
    }
    let error =
        |attempt: &crate::model::Attempt| attempt.outcome.error().map(|why| nul::escaped(why).into_owned());
    let sql = "INSERT INTO attempts (delivery_key, number, started_at, duration_ms, outcome, status, error, answer) \
               SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::text[], $6::bigint[], \
                 $7::text[], $8::bytea[])";
    let values: [&(dyn ToSql + Sync); 8] = [
        &made.iter().map(|(_, key)| *key).collect::<Vec<_>>(),
        &made.iter().map(|(attempt, _)| i64::from(attempt.number)).collect::<Vec<_>>(),
        &made.iter().map(|(attempt, _)| micros(attempt.started_at)).collect::<Vec<_>>(),
        &made.iter().map(|(attempt, _)| attempt.duration_ms).collect::<Vec<_>>(),
        &made.iter().map(|(attempt, _)| attempt.outcome.word()).collect::<Vec<_>>(),
        &made.iter().map(|(attempt, _)| attempt.outcome.status().map(i64::from)).collect::<Vec<_>>(),
        &made.iter().map(|(attempt, _)| error(attempt)).collect::<Vec<_>>(),
        &made
            .iter()
            .map(|(attempt, _)| Some(&attempt.answer[..]).filter(|answer| !answer.is_empty()))
            .collect::<Vec<_>>(),
    ];
    execute(transaction, sql, &values).await?;
    Ok(())
}

/// Writes what an attempt means for its subscription.
async fn follow(
    transaction: &Transaction<'_>,
    vault: &Vault,
    ended: &Ended,
    held: &Held,
    released: bool,
    now: Timestamp,
) -> Result<Recorded, StoreError> {
    if ended.health != Health::Same {
        subscriptions::set_health(transaction, &held.subscription, ended.health, now).await?;
    }
    let mut turned_off = None;
    if let Verdict::Off(reason) = ended.verdict
        && subscriptions::turn_off(transaction, &held.subscription, reason, now).await?
    {
        turned_off = Some(Box::new(subscriptions::one(transaction, vault, &held.subscription).await?));
    }
    if turned_off.is_some() || ended.verdict == Verdict::Exhausted {
        audit::note(transaction, &ended.note, now).await?;
    }
    Ok(Recorded::Current { turned_off, released })
}
