//! Counts for charts in SQLite: each row is added to, and summed up with others when it is read.

use async_trait::async_trait;
use jiff::Timestamp;
use rusqlite::types::{ToSql, Value};
use rusqlite::{Connection, Row as SqlRow, params_from_iter};

use super::writer::Durability;
use super::{SqliteStore, micros};
use crate::statistics::{Counts, HOUR_S, Key, MINUTE_S, Row};
use crate::store::statistics::COUNTS;
use crate::store::{Chart, ChartQuery, Charts, Group, StoreError};

#[async_trait]
impl Charts for SqliteStore {
    async fn add_statistics(&self, rows: Vec<Row>) -> Result<(), StoreError> {
        self.writer.write(Durability::Written, move |connection| add(connection, &rows)).await
    }

    async fn statistics(&self, query: ChartQuery) -> Result<Option<Chart>, StoreError> {
        self.readers.read(move |connection| chart(connection, &query)).await
    }

    async fn prune_statistics(
        &self,
        minutes_before: Timestamp,
        hours_before: Timestamp,
        limit: usize,
    ) -> Result<usize, StoreError> {
        let prune = move |connection: &Connection| {
            let minutes = prune(connection, MINUTE_S, minutes_before, limit)?;
            Ok(minutes + prune(connection, HOUR_S, hours_before, limit)?)
        };
        self.writer.write(Durability::Written, prune).await
    }
}

fn add(connection: &Connection, rows: &[Row]) -> Result<(), StoreError> {
    let marks = vec!["?"; COUNTS.len()].join(", ");
    let sums = COUNTS.map(|column| format!("{column} = {column} + excluded.{column}")).join(", ");
    let sql = format!(
        "INSERT INTO statistics (resolution_s, at, subscription_id, type, owner, {}) SELECT ?1, ?2, ?3, ?4, ?5, {marks} \
         WHERE ?3 = '' OR EXISTS (SELECT 1 FROM subscriptions WHERE id = ?3) \
         ON CONFLICT (subscription_id, resolution_s, at, type, owner) DO UPDATE SET {sums}",
        COUNTS.join(", ")
    );
    let mut upsert = connection.prepare_cached(&sql)?;
    for Row { key: Key { resolution_s, at, subscription, event_type, owner }, counts } in rows {
        let (at, numbers) = (micros(*at), counts.numbers());
        let key: [&dyn ToSql; 5] = [resolution_s, &at, subscription, event_type, owner];
        let values = key.into_iter().chain(numbers.iter().map(|number| number as &dyn ToSql));
        upsert.execute(params_from_iter(values))?;
    }
    Ok(())
}

/// SQL for the rows that a query reads, those of single subscriptions or of all together, with the values in it.
fn matching(query: &ChartQuery, singly: bool) -> Result<(String, Vec<Value>), StoreError> {
    let mut values: Vec<Value> =
        vec![query.resolution_s().into(), micros(query.from).into(), micros(query.to).into()];
    let mut sql = "FROM statistics WHERE resolution_s = ?1 AND at >= ?2 AND at < ?3".to_owned();
    // Texts differ by what is asked for, so that each is answered from its index.
    let mut and = |before: &str, value: Value, after: &str| {
        values.push(value);
        sql.push_str(&format!(" AND {before} ?{}{after}", values.len()));
    };
    match &query.subscriptions {
        None if singly => and("subscription_id >", String::new().into(), ""),
        None => and("subscription_id =", String::new().into(), ""),
        Some(ids) => {
            let ids = serde_json::to_string(ids).map_err(|error| StoreError::Unavailable(error.into()))?;
            and("subscription_id IN (SELECT value FROM json_each(", ids.into(), "))");
        }
    }
    if let Some(event_type) = &query.event_type {
        and("type =", event_type.clone().into(), "");
    }
    if let Some(owner) = query.owner {
        and("owner =", owner.into(), "");
    }
    Ok((sql, values))
}

fn chart(connection: &Connection, query: &ChartQuery) -> Result<Option<Chart>, StoreError> {
    let singly = query.groups_subscriptions();
    let (rows, mut values) = matching(query, singly)?;
    values.push(i64::try_from(query.most_rows.saturating_add(1)).unwrap_or(i64::MAX).into());
    let count = format!("SELECT COUNT(*) FROM (SELECT 1 {rows} LIMIT ?{})", values.len());
    let count: i64 =
        connection.prepare_cached(&count)?.query_row(params_from_iter(&values), |row| row.get(0))?;
    if usize::try_from(count).is_ok_and(|count| count > query.most_rows) {
        return Ok(None);
    }
    let sums = COUNTS.map(|column| format!("SUM({column})")).join(", ");
    let (rows, mut values) = matching(query, false)?;
    values.push(query.step_s.saturating_mul(1_000_000).into());
    let sql = format!("SELECT (at - ?2) / ?{}, {sums} {rows} GROUP BY 1 ORDER BY 1", values.len());
    let mut statement = connection.prepare_cached(&sql)?;
    let steps = statement
        .query_map(params_from_iter(&values), |row| Ok((query.step(row.get(0)?), read(row)?)))?
        .collect::<Result<_, _>>()?;
    let column = match query.group {
        None => return Ok(Some(Chart { steps, groups: Vec::new() })),
        Some(Group::Subscription) => "subscription_id",
        Some(Group::EventType) => "type",
    };
    let (rows, mut values) = matching(query, singly)?;
    values.push(i64::try_from(query.most_groups).unwrap_or(i64::MAX).into());
    let sql = format!(
        "SELECT {column}, {sums} {rows} GROUP BY {column} ORDER BY SUM(attempts) DESC, {column} LIMIT ?{}",
        values.len()
    );
    let mut statement = connection.prepare_cached(&sql)?;
    let groups = statement
        .query_map(params_from_iter(&values), |row| Ok((row.get(0)?, read(row)?)))?
        .collect::<Result<_, _>>()?;
    Ok(Some(Chart { steps, groups }))
}

/// Reads the counts that stand after the first column.
fn read(row: &SqlRow<'_>) -> rusqlite::Result<Counts> {
    let numbers = (1..=COUNTS.len()).map(|column| row.get(column));
    Ok(Counts::of(numbers.collect::<rusqlite::Result<Vec<i64>>>()?))
}

fn prune(
    connection: &Connection,
    resolution_s: i64,
    before: Timestamp,
    limit: usize,
) -> Result<usize, StoreError> {
    let sql = "DELETE FROM statistics WHERE seq IN \
               (SELECT seq FROM statistics WHERE resolution_s = ?1 AND at < ?2 ORDER BY at LIMIT ?3)";
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    Ok(connection.prepare_cached(sql)?.execute((resolution_s, micros(before), limit))?)
}

/// Removes up to `limit` rows of a subscription; returns how many.
pub(super) fn forget(connection: &Connection, id: &str, limit: usize) -> Result<usize, StoreError> {
    let sql = "DELETE FROM statistics WHERE seq IN \
               (SELECT seq FROM statistics WHERE subscription_id = ?1 LIMIT ?2)";
    Ok(connection.prepare_cached(sql)?.execute((id, i64::try_from(limit).unwrap_or(i64::MAX)))?)
}
