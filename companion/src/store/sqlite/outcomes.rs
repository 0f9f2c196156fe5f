//! How attempts ended, in SQLite: the attempt, what follows for its delivery, its resource and its subscription.

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension};

use super::deliveries::{WAITING, subscription_of};
use super::{audit, micros, subscriptions};
use crate::model::DeliveryStatus;
use crate::retry::Verdict;
use crate::store::{Ended, Health, PASSED, Recorded, StoreError};
use crate::vault::Vault;

pub(super) fn record(
    connection: &Connection,
    vault: &Vault,
    ended: &Ended,
    now: Timestamp,
) -> Result<Recorded, StoreError> {
    let Some(released) = end(connection, ended, now)? else {
        return Ok(Recorded::Stale);
    };
    if ended.health == Health::Same && !matches!(ended.verdict, Verdict::Off(_) | Verdict::Exhausted) {
        return Ok(Recorded::Current { turned_off: None, released });
    }
    let subscription = subscription_of(connection, &ended.id)?;
    subscriptions::set_health(connection, &subscription, ended.health, now)?;
    let mut turned_off = None;
    if let Verdict::Off(reason) = ended.verdict
        && subscriptions::turn_off(connection, &subscription, reason, now)?
    {
        turned_off = Some(Box::new(subscriptions::one(connection, vault, &subscription)?));
    }
    if turned_off.is_some() || ended.verdict == Verdict::Exhausted {
        audit::note(connection, &ended.note, now)?;
    }
    Ok(Recorded::Current { turned_off, released })
}

/// Writes an attempt and its verdict; `None` where the claim is not held any more, else whether another delivery of the
/// same resource became due.
fn end(connection: &Connection, ended: &Ended, now: Timestamp) -> Result<Option<bool>, StoreError> {
    let Ended { id, claim, attempt, verdict, .. } = ended;
    let (status, reason, due_at) = match verdict {
        Verdict::Delivered => (DeliveryStatus::Delivered, None, now),
        Verdict::Retry(due_at) => (DeliveryStatus::Pending, None, *due_at),
        Verdict::Exhausted => (DeliveryStatus::Exhausted, None, now),
        Verdict::Cancelled(reason) | Verdict::Off(reason) => (DeliveryStatus::Cancelled, Some(*reason), now),
    };
    let ended_at = (status != DeliveryStatus::Pending).then(|| micros(now));
    let update = "UPDATE deliveries SET status = ?3, reason = ?4, due_at = ?5, ended_at = ?6, claim = NULL, \
                  attempt_count = attempt_count + 1, step = step + 1 \
                  WHERE id = ?1 AND claim = ?2 AND status = 'pending' \
                  RETURNING key, resource IS NOT NULL";
    let values = (id.as_str(), claim, status.word(), reason, micros(due_at), ended_at);
    let mut update = connection.prepare_cached(update)?;
    let found = update.query_row(values, |row| Ok((row.get(0)?, row.get(1)?))).optional()?;
    let Some((key, is_ordered)): Option<(i64, bool)> = found else { return Ok(None) };
    let insert = "INSERT INTO attempts (delivery_key, number, started_at, duration_ms, outcome, status, error, answer) \
                  VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";
    let answer = (!attempt.answer.is_empty()).then_some(&attempt.answer[..]);
    connection.prepare_cached(insert)?.execute((
        key,
        attempt.number,
        micros(attempt.started_at),
        attempt.duration_ms,
        attempt.outcome.word(),
        attempt.outcome.status(),
        attempt.outcome.error(),
        answer,
    ))?;
    match ended_at {
        Some(_) if is_ordered => release_next(connection, key, verdict == &Verdict::Exhausted, now).map(Some),
        _ => Ok(Some(false)),
    }
}

/// Makes the next delivery of an ended one's resource due; says whether there was one. A delivery that is exhausted and
/// so passed by says so.
fn release_next(
    connection: &Connection,
    key: i64,
    exhausted: bool,
    now: Timestamp,
) -> Result<bool, StoreError> {
    let own = "SELECT subscription_id, resource FROM deliveries WHERE key = ?1";
    let own = connection.prepare_cached(own)?.query_row([key], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let (subscription, resource): (String, String) = own;
    if exhausted {
        let mark = "UPDATE deliveries SET reason = ?2 WHERE key = ?1";
        connection.prepare_cached(mark)?.execute((key, PASSED))?;
    }
    let sql = "UPDATE deliveries SET due_at = ?3 WHERE due_at = ?4 AND key = \
               (SELECT key FROM deliveries WHERE subscription_id = ?1 AND resource = ?2 AND status = 'pending' \
                ORDER BY event_seq LIMIT 1)";
    let count = connection.prepare_cached(sql)?.execute((subscription, resource, micros(now), WAITING))?;
    Ok(count > 0)
}
