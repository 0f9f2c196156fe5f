//! Counts for charts in PostgreSQL: each row is added to, and summed up with others when it is read.

use async_trait::async_trait;
use deadpool_postgres::{GenericClient, Transaction};
use jiff::Timestamp;
use tokio_postgres::types::ToSql;

use super::transaction::{Durability, execute, row, rows, write};
use super::{PostgresStore, micros, nul, rows_of};
use crate::model::SubscriptionId;
use crate::statistics::{Counts, HOUR_S, MINUTE_S, Row};
use crate::store::statistics::COUNTS;
use crate::store::{Chart, ChartQuery, Charts, Group, StoreError};

#[async_trait]
impl Charts for PostgresStore {
    async fn add_statistics(&self, rows: Vec<Row>) -> Result<(), StoreError> {
        write!(self.database, Durability::Written, |transaction| add(transaction, &rows).await)
    }

    async fn statistics(&self, query: ChartQuery) -> Result<Option<Chart>, StoreError> {
        chart(&self.database.get().await?, &query).await
    }

    async fn prune_statistics(
        &self,
        minutes_before: Timestamp,
        hours_before: Timestamp,
        limit: usize,
    ) -> Result<usize, StoreError> {
        write!(self.database, Durability::Written, |transaction| {
            let minutes = prune(transaction, MINUTE_S, minutes_before, limit).await?;
            Ok(minutes + prune(transaction, HOUR_S, hours_before, limit).await?)
        })
    }
}

async fn add(transaction: &Transaction<'_>, added: &[Row]) -> Result<(), StoreError> {
    let subscriptions: Vec<&str> = added.iter().map(|row| row.key.subscription.as_str()).collect();
    // Until the end of this transaction none of them goes, so that an erasure leaves no counts.
    let held = "SELECT id FROM subscriptions WHERE id = ANY($1) ORDER BY id FOR KEY SHARE";
    let held = rows(transaction, held, &[&subscriptions]).await?;
    let held: Vec<&str> = held.iter().map(|row| row.get(0)).collect();
    let of =
        |row: &Row| row.key.subscription.is_empty() || held.binary_search(&&*row.key.subscription).is_ok();
    let kept: Vec<&Row> = added.iter().filter(|row| of(row)).collect();
    let numbers: Vec<_> = kept.iter().map(|row| row.counts.numbers()).collect();
    let column = |index: usize| -> Vec<i64> {
        numbers.iter().filter_map(|numbers| numbers.get(index).copied()).collect()
    };
    let columns: Vec<Vec<i64>> = (0..COUNTS.len()).map(column).collect();
    let arrays: Vec<String> = (0..COUNTS.len()).map(|index| format!("${}::bigint[]", index + 6)).collect();
    let sums = COUNTS.map(|column| format!("{column} = statistics.{column} + excluded.{column}")).join(", ");
    let sql = format!(
        "INSERT INTO statistics (resolution_s, at, subscription_id, type, owner, {}) \
         SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::text[], $4::text[], $5::bigint[], {}) \
         ON CONFLICT (subscription_id, resolution_s, at, type, owner) DO UPDATE SET {sums}",
        COUNTS.join(", "),
        arrays.join(", ")
    );
    let resolutions: Vec<i64> = kept.iter().map(|row| row.key.resolution_s).collect();
    let times: Vec<i64> = kept.iter().map(|row| micros(row.key.at)).collect();
    let subscriptions: Vec<&str> = kept.iter().map(|row| row.key.subscription.as_str()).collect();
    let types: Vec<&str> = kept.iter().map(|row| row.key.event_type.as_str()).collect();
    let owners: Vec<i64> = kept.iter().map(|row| row.key.owner).collect();
    let key: [&(dyn ToSql + Sync); 5] = [&resolutions, &times, &subscriptions, &types, &owners];
    let counts = columns.iter().map(|column| column as &(dyn ToSql + Sync));
    let values: Vec<_> = key.into_iter().chain(counts).collect();
    execute(transaction, &sql, &values).await?;
    Ok(())
}

/// Values of [`MATCHING`].
type Scope<'a> = [&'a (dyn ToSql + Sync); 6];

/// SQL for the rows that a query reads, those of single subscriptions or of all together; its values are `$1` to `$6`.
fn matching(query: &ChartQuery, singly: bool) -> String {
    let subscriptions = match query.subscriptions {
        // Texts differ by what is asked for, so that each is answered from its index.
        Some(_) => "subscription_id = ANY($4)",
        None if singly => "$4::text[] IS NULL AND subscription_id > ''",
        None => "$4::text[] IS NULL AND subscription_id = ''",
    };
    format!(
        "FROM statistics WHERE resolution_s = $1 AND at >= $2 AND at < $3 AND {subscriptions} \
         AND ($5::text IS NULL OR type = $5) AND ($6::bigint IS NULL OR owner = $6)"
    )
}

async fn chart(client: &impl GenericClient, query: &ChartQuery) -> Result<Option<Chart>, StoreError> {
    if nul::is_in([&query.event_type]) {
        return Ok(Some(Chart::default()));
    }
    let (resolution_s, from, to) = (query.resolution_s(), micros(query.from), micros(query.to));
    let ids = query.subscriptions.iter().flatten().map(SubscriptionId::as_str);
    let ids: Vec<&str> = ids.filter(|id| !id.contains('\0')).collect();
    let ids = query.subscriptions.as_ref().map(|_| ids);
    let scope: Scope<'_> = [&resolution_s, &from, &to, &ids, &query.event_type, &query.owner];
    let with = |value| scope.iter().copied().chain([value]).collect::<Vec<_>>();
    let singly = query.groups_subscriptions();
    let count = format!("SELECT count(*) FROM (SELECT 1 {} LIMIT $7) AS found", matching(query, singly));
    let most = rows_of(query.most_rows.saturating_add(1));
    let count = row(client, &count, &with(&most)).await?.map_or(0, |row| row.get(0));
    if super::count(count) > query.most_rows {
        return Ok(None);
    }
    let sums = COUNTS.map(|column| format!("sum({column})::bigint")).join(", ");
    let step = query.step_s.saturating_mul(1_000_000);
    let sql =
        format!("SELECT (at - $2) / $7::bigint, {sums} {} GROUP BY 1 ORDER BY 1", matching(query, false));
    let steps = rows(client, &sql, &with(&step)).await?;
    let steps = steps.iter().map(|row| (query.step(row.get(0)), read(row))).collect();
    let column = match query.group {
        None => return Ok(Some(Chart { steps, groups: Vec::new() })),
        Some(Group::Subscription) => "subscription_id",
        Some(Group::EventType) => "type",
    };
    let sql = format!(
        "SELECT {column}, {sums} {} GROUP BY {column} ORDER BY sum(attempts) DESC, {column} LIMIT $7",
        matching(query, singly)
    );
    let groups = rows(client, &sql, &with(&rows_of(query.most_groups))).await?;
    let groups = groups.iter().map(|row| (row.get(0), read(row))).collect();
    Ok(Some(Chart { steps, groups }))
}

/// Reads the counts that stand after the first column.
fn read(row: &tokio_postgres::Row) -> Counts {
    Counts::of((1..=COUNTS.len()).map(|column| row.get(column)))
}

async fn prune(
    transaction: &Transaction<'_>,
    resolution_s: i64,
    before: Timestamp,
    limit: usize,
) -> Result<usize, StoreError> {
    let sql = "DELETE FROM statistics WHERE seq IN \
               (SELECT seq FROM statistics WHERE resolution_s = $1 AND at < $2 ORDER BY at LIMIT $3)";
    execute(transaction, sql, &[&resolution_s, &micros(before), &rows_of(limit)]).await
}

/// Removes up to `limit` rows of a subscription; returns how many.
pub(super) async fn forget(
    transaction: &Transaction<'_>,
    id: &str,
    limit: usize,
) -> Result<usize, StoreError> {
    let sql = "DELETE FROM statistics WHERE seq IN \
               (SELECT seq FROM statistics WHERE subscription_id = $1 LIMIT $2)";
    execute(transaction, sql, &[&id, &rows_of(limit)]).await
}
