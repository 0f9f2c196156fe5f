//! Rates and caps of subscriptions, kept over all processes.
//!
//! What is left of a rate stands in `buckets`, by the rule of [`Bucket`]; the attempts under way are the leases that have not
//! run out. Whoever claims holds the bucket's row until its commit, so nobody counts while another takes.

use deadpool_postgres::Transaction;
use jiff::Timestamp;

use super::claims::{Wanted, lease, state};
use super::transaction::{execute, row};
use super::{count, micros, rows_of, time};
use crate::clock::random_token;
use crate::limits;
use crate::model::{Options, SubscriptionId};
use crate::rate::{Bucket, Rate};
use crate::retry::later;
use crate::store::{Claims, StoreError};

/// Leases what rate and cap allow. `standing` is what a claim says that takes nothing.
pub(super) async fn claim(
    transaction: &Transaction<'_>,
    wanted: Wanted<'_>,
    options: &str,
    standing: Claims,
) -> Result<Claims, StoreError> {
    let Wanted { subscription, now, .. } = wanted;
    let options: Options =
        serde_json::from_str(options).map_err(|error| StoreError::Unavailable(error.into()))?;
    let rate: Option<Rate> = options.rate_limit.as_deref().and_then(|rate| rate.parse().ok());
    let kept = take_row(transaction, subscription).await?;
    let room = match options.max_in_flight {
        Some(cap) => cap.saturating_sub(under_way(transaction, subscription, now, cap).await?),
        None => usize::MAX,
    };
    if standing.next_due_at.is_none_or(|at| at > now) {
        return Ok(standing);
    }
    if room == 0 {
        return Ok(Claims { next_due_at: Some(later(now, limits::CAP_PAUSE)), ..standing });
    }
    let mut limit = wanted.limit.min(room);
    let mut bucket = rate.map(|rate| (rate, kept.unwrap_or_else(|| Bucket::full(rate, now))));
    if let Some((rate, bucket)) = &mut bucket {
        match bucket.take(limit, *rate, now) {
            Ok(taken) => limit = taken,
            Err(next) => return Ok(Claims { next_due_at: Some(next), ..standing }),
        }
    }
    let token = random_token();
    let (claimed, more) = lease(transaction, Wanted { limit, ..wanted }, token, true).await?;
    if let Some((_, bucket)) = &mut bucket {
        bucket.give_back(limit - claimed.len());
        let (tokens, filled_at) = bucket.state();
        let sql = "UPDATE buckets SET tokens = $2, filled_at = $3 WHERE subscription_id = $1";
        execute(transaction, sql, &[&subscription.as_str(), &tokens, &micros(filled_at)]).await?;
    }
    let state = state(transaction, subscription, token).await?;
    Ok(Claims { claimed, more, ..state.into() })
}

/// Takes a subscription's row of `buckets`, made where there was none; returns what it says.
async fn take_row(
    transaction: &Transaction<'_>,
    subscription: &SubscriptionId,
) -> Result<Option<Bucket>, StoreError> {
    let make = "INSERT INTO buckets (subscription_id) VALUES ($1) ON CONFLICT DO NOTHING";
    execute(transaction, make, &[&subscription.as_str()]).await?;
    let take = "SELECT tokens, filled_at FROM buckets WHERE subscription_id = $1 FOR UPDATE";
    let found = row(transaction, take, &[&subscription.as_str()]).await?;
    Ok(found
        .and_then(|row| Some(Bucket::of(row.get::<_, Option<f64>>(0)?, time(row.get::<_, Option<i64>>(1)?)))))
}

/// Attempts of a subscription that are under way, counted up to `most`.
async fn under_way(
    transaction: &Transaction<'_>,
    subscription: &SubscriptionId,
    now: Timestamp,
    most: usize,
) -> Result<usize, StoreError> {
    let sql = "SELECT count(*) FROM (SELECT FROM deliveries WHERE subscription_id = $1 AND status = 'pending' \
               AND claim IS NOT NULL AND due_at > $2 LIMIT $3) AS held";
    let found = row(transaction, sql, &[&subscription.as_str(), &micros(now), &rows_of(most)]).await?;
    Ok(found.map_or(0, |row| count(row.get(0))))
}
