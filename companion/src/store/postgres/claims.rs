//! Claiming deliveries in PostgreSQL, and giving claims back.
//!
//! Rows that another claim has its hands on are passed over (`SKIP LOCKED`): nobody waits, and no delivery is claimed twice.

use deadpool_postgres::Transaction;
use jiff::Timestamp;
use tokio_postgres::Row;

use super::order::WAITING;
use super::transaction::{execute, row, rows};
use super::{count, events, micros, pacing, rows_of, time};
use crate::clock::random_token;
use crate::limits::CLAIM_BYTES;
use crate::model::{DeliveryId, SubscriptionId};
use crate::retry::later;
use crate::store::{Claimed, Claims, DUE_SOON, Named, StoreError};

/// What a claim needs of a delivery, after [`events::COLUMNS`]; `d` is the table's name in the query.
const CLAIMED: &str = "d.id, d.attempt_count, d.step, COALESCE(d.round_at, d.created_at) AS began_at, \
                       CASE WHEN d.lane IS NOT NULL THEN d.event_seq END AS sequence, d.subscription_id";

/// What is asked for by a claim.
#[derive(Clone, Copy)]
pub(super) struct Wanted<'a> {
    pub(super) subscription: &'a SubscriptionId,
    pub(super) limit: usize,
    pub(super) now: Timestamp,
    pub(super) lease_until: Timestamp,
}

pub(super) async fn claim(transaction: &Transaction<'_>, wanted: Wanted<'_>) -> Result<Claims, StoreError> {
    let token = random_token();
    let (claimed, more) = lease(transaction, wanted, token, false).await?;
    let state = state(transaction, wanted.subscription, token).await?;
    match state.options.clone() {
        Some(options) => pacing::claim(transaction, wanted, &options, state.into()).await,
        None => Ok(Claims { claimed, more, ..state.into() }),
    }
}

/// Leases due deliveries; says whether there are more. Those of a subscription with a rate or a cap only where `is_paced`.
pub(super) async fn lease(
    transaction: &Transaction<'_>,
    wanted: Wanted<'_>,
    token: i64,
    is_paced: bool,
) -> Result<(Vec<Claimed>, bool), StoreError> {
    // One row more than asked for tells whether to come back.
    let sql = format!(
        "WITH due AS MATERIALIZED (SELECT key, event_seq, due_at FROM deliveries \
           WHERE subscription_id = $1 AND status = 'pending' AND due_at <= $2 \
           AND ($6 OR NOT EXISTS (SELECT 1 FROM subscriptions WHERE id = $1 AND is_paced)) \
           ORDER BY due_at LIMIT $3::bigint + 1 FOR UPDATE SKIP LOCKED), \
         sized AS (SELECT due.key, due.due_at, row_number() OVER w AS number, \
           sum(COALESCE(octet_length(e.data), 0) + COALESCE(octet_length(e.extensions), 0)) OVER w \
             - COALESCE(octet_length(e.data), 0) - COALESCE(octet_length(e.extensions), 0) AS before \
           FROM due JOIN events e ON e.seq = due.event_seq WINDOW w AS (ORDER BY due.due_at, due.key)), \
         leased AS (UPDATE deliveries d SET claim = $4, due_at = $5 FROM sized \
           WHERE d.key = sized.key AND sized.number <= $3::bigint AND sized.before < {CLAIM_BYTES} \
           RETURNING d.*, sized.number) \
         SELECT {}, {CLAIMED}, (SELECT count(*) FROM due) AS due FROM leased d JOIN events e ON e.seq = d.event_seq \
         ORDER BY d.number",
        events::COLUMNS
    );
    let Wanted { subscription, limit, now, lease_until } = wanted;
    let values: super::transaction::Values<'_> =
        &[&subscription.as_str(), &micros(now), &rows_of(limit), &token, &micros(lease_until), &is_paced];
    let found = rows(transaction, &sql, values).await?;
    let claimed = found.iter().map(|row| read(row, token)).collect::<Result<Vec<_>, _>>()?;
    let due = found.first().map_or(0, |row| count(row.get("due")));
    let more = due > claimed.len();
    Ok((claimed, more))
}

/// What a claim says beside what it claims.
pub(super) struct State {
    next_due_at: Option<Timestamp>,
    failing_since: Option<Timestamp>,
    /// Of a subscription with a rate or a cap.
    options: Option<String>,
}

/// How a subscription stands, but for what a claim's token holds.
pub(super) async fn state(
    transaction: &Transaction<'_>,
    subscription: &SubscriptionId,
    token: i64,
) -> Result<State, StoreError> {
    let sql = "SELECT next.due_at, s.failing_since, CASE WHEN s.is_paced THEN s.options END FROM (SELECT) AS one \
               LEFT JOIN LATERAL (SELECT due_at FROM deliveries WHERE subscription_id = $1 AND status = 'pending' \
                 AND claim IS DISTINCT FROM $2 ORDER BY due_at LIMIT 1) next ON TRUE \
               LEFT JOIN subscriptions s ON s.id = $1";
    let found =
        row(transaction, sql, &[&subscription.as_str(), &token]).await?.ok_or(StoreError::NotFound)?;
    Ok(State {
        next_due_at: found.get::<_, Option<i64>>(0).filter(|at| *at != WAITING).map(time),
        failing_since: found.get::<_, Option<i64>>(1).map(time),
        options: found.get(2),
    })
}

pub(super) async fn claim_named(
    transaction: &Transaction<'_>,
    ids: &[DeliveryId],
    now: Timestamp,
    lease_until: Timestamp,
) -> Result<Named, StoreError> {
    const OPEN: &str = "COALESCE(s.status = 'on' AND s.failing_since IS NULL AND NOT s.is_paced, FALSE)";
    let leased = format!(
        "WITH due AS MATERIALIZED (SELECT d.key, d.event_seq FROM deliveries d \
           LEFT JOIN subscriptions s ON s.id = d.subscription_id \
           WHERE d.id = ANY($1) AND d.status = 'pending' AND d.due_at <= $2 AND {OPEN} FOR UPDATE OF d SKIP LOCKED), \
         sized AS (SELECT key, sum(size) OVER (ORDER BY key) - size AS before FROM (SELECT due.key, \
           COALESCE(octet_length(e.data), 0) + COALESCE(octet_length(e.extensions), 0) AS size \
           FROM due JOIN events e ON e.seq = due.event_seq) AS of_event), \
         leased AS (UPDATE deliveries d SET claim = $3, due_at = $4 FROM sized \
           WHERE d.key = sized.key AND sized.before < {CLAIM_BYTES} RETURNING d.*) \
         SELECT {}, {CLAIMED} FROM leased d JOIN events e ON e.seq = d.event_seq ORDER BY d.key",
        events::COLUMNS
    );
    let others = "SELECT DISTINCT subscription_id FROM deliveries WHERE id = ANY($1) AND status = 'pending' \
                  AND claim IS DISTINCT FROM $4 AND (due_at <= $2 OR claim IS NULL AND due_at <= $3) ORDER BY 1";
    let token = random_token();
    let ids: Vec<&str> = ids.iter().map(DeliveryId::as_str).filter(|id| !id.contains('\0')).collect();
    let claimed = rows(transaction, &leased, &[&ids, &micros(now), &token, &micros(lease_until)]).await?;
    let claimed =
        claimed.iter().map(|row| Ok((SubscriptionId(row.try_get("subscription_id")?), read(row, token)?)));
    let claimed = claimed.collect::<Result<Vec<_>, StoreError>>()?;
    let soon = micros(later(now, DUE_SOON));
    let others = rows(transaction, others, &[&ids, &micros(now), &soon, &token]).await?;
    Ok(Named { claimed, due: others.iter().map(|row| SubscriptionId(row.get(0))).collect() })
}

/// Reads [`events::COLUMNS`] and [`CLAIMED`].
fn read(row: &Row, token: i64) -> Result<Claimed, StoreError> {
    let number = |name: &str| -> Result<u32, StoreError> {
        Ok(u32::try_from(row.try_get::<_, i64>(name)?).unwrap_or(u32::MAX))
    };
    Ok(Claimed {
        id: DeliveryId(row.try_get("id")?),
        claim: token,
        attempt_count: number("attempt_count")?,
        step: number("step")?,
        began_at: time(row.try_get("began_at")?),
        sequence: row.try_get("sequence")?,
        event: events::read(row)?.into(),
    })
}

/// Ends claims, and gives back what they took of a rate.
pub(super) async fn release(
    transaction: &Transaction<'_>,
    claims: &[(DeliveryId, i64)],
    now: Timestamp,
) -> Result<(), StoreError> {
    let ids: Vec<&str> = claims.iter().map(|(id, _)| id.as_str()).collect();
    let tokens: Vec<i64> = claims.iter().map(|(_, claim)| *claim).collect();
    let sql = "WITH released AS (UPDATE deliveries d SET claim = NULL, due_at = $3 \
                 FROM unnest($1::text[], $2::bigint[]) AS c (id, claim) \
                 WHERE d.id = c.id AND d.claim = c.claim AND d.status = 'pending' RETURNING d.subscription_id), \
               counted AS (SELECT subscription_id, count(*) AS count FROM released GROUP BY subscription_id) \
               UPDATE buckets b SET tokens = b.tokens + counted.count FROM counted \
               WHERE b.subscription_id = counted.subscription_id";
    execute(transaction, sql, &[&ids, &tokens, &micros(now)]).await?;
    Ok(())
}

impl From<State> for Claims {
    fn from(state: State) -> Self {
        Self { next_due_at: state.next_due_at, failing_since: state.failing_since, ..Self::default() }
    }
}
