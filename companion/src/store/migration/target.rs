//! The new store: a PostgreSQL schema that nobody uses yet.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, bail, ensure};
use deadpool_postgres::Object;
use tokio_postgres::types::ToSql;

use super::tables::{Kind, Row, TABLES, Table, Value};
use super::{LOOK_AGAIN, MOVING_FROM, redacted};
use crate::store::postgres;

/// Tries to be the only move into a schema: the connection of one that has just ended may not be gone yet.
const TRIES: usize = 5;

pub(super) struct Target {
    /// Holds a lock while it is connected, so that no other move writes into the schema.
    client: Object,
    /// The old store's path, by which it is marked.
    from: String,
}

/// Values of a column, one for each row.
type Column = Box<dyn ToSql + Sync + Send>;

impl Target {
    /// Connects, brings the schema up to date, and marks it as the target of a move from that path; it has to be marked
    /// already where that one is closed.
    pub(super) async fn open(url: &str, from: &Path, is_closed: bool) -> anyhow::Result<Self> {
        let shown = || format!("cannot use {}", redacted(url));
        let client = postgres::connection(url).await.with_context(shown)?;
        let from = from.canonicalize()?.to_string_lossy().into_owned();
        lock(&client).await?;
        match mark(&client).await? {
            Some(other) => ensure!(other == from, "a move of {other} into it has begun and not ended"),
            None if is_closed => bail!("{from} was moved to it before"),
            None => {
                let used = "SELECT EXISTS (SELECT FROM events) OR EXISTS (SELECT FROM subscriptions) \
                            OR EXISTS (SELECT FROM meta)";
                let is_used: bool = client.query_one(used, &[]).await?.get(0);
                ensure!(!is_used, "{} is in use already; a move needs an empty one", redacted(url));
                let mark = "INSERT INTO meta (name, value) VALUES ($1, $2)";
                client.execute(mark, &[&MOVING_FROM, &from.as_bytes()]).await?;
            }
        }
        Ok(Self { client, from })
    }

    /// Makes sure that it is still the target of this move.
    pub(super) async fn is_marked(&self) -> anyhow::Result<()> {
        let marked = mark(&self.client).await?;
        ensure!(marked.as_ref() == Some(&self.from), "it is not what {} is moved to any more", self.from);
        Ok(())
    }

    /// Makes the rows of a table whose keys are after the first and up to the second bound the given ones; returns how many
    /// differed.
    pub(super) async fn equal(
        &self,
        table: &Table,
        range: (Option<&Row>, Option<&Row>),
        rows: Vec<Row>,
    ) -> anyhow::Result<u64> {
        let mut known = self.rows(table, range).await?;
        let mut changed = Vec::new();
        for row in rows {
            if known.remove(&table.key_of(&row)).as_ref() != Some(&row) {
                changed.push(row);
            }
        }
        let count = known.len() + changed.len();
        // What only the new one has goes first: what was forgotten may have come again under another key.
        let gone: Vec<Row> = known.into_keys().collect();
        self.delete(table, &gone).await?;
        self.write(table, &changed).await?;
        Ok(count as u64)
    }

    async fn rows(
        &self,
        table: &Table,
        (after, until): (Option<&Row>, Option<&Row>),
    ) -> anyhow::Result<BTreeMap<Row, Row>> {
        let key = key(table);
        let (mut bounds, mut values): (String, Vec<&(dyn ToSql + Sync)>) = Default::default();
        for (bound, comparison) in [(after, ">"), (until, "<=")] {
            let Some(bound) = bound.filter(|_| table.is_numbered()) else { continue };
            let first = values.len() + 1;
            let marks: Vec<String> = (first..first + bound.len()).map(|mark| format!("${mark}")).collect();
            bounds.push_str(&format!(" AND ({key}) {comparison} ({})", marks.join(", ")));
            values.extend(bound.iter().filter_map(number));
        }
        let columns: Vec<&str> = table.all_columns().map(|(name, _)| *name).collect();
        let sql =
            format!("SELECT {} FROM {} WHERE NOT ({}){bounds}", columns.join(", "), table.name, table.except);
        let found = self.client.query(&sql, &values).await?;
        let rows = found.iter().map(|row| read(table, row)).collect::<anyhow::Result<Vec<_>>>()?;
        Ok(rows.into_iter().map(|row| (table.key_of(&row), row)).collect())
    }

    async fn delete(&self, table: &Table, keys: &[Row]) -> anyhow::Result<()> {
        if keys.is_empty() {
            return Ok(());
        }
        let columns: Vec<Column> = columns(table.columns.iter().take(table.key), keys);
        let arrays = arrays(table.columns.iter().take(table.key));
        let sql =
            format!("DELETE FROM {} WHERE ({}) IN (SELECT * FROM unnest({arrays}))", table.name, key(table));
        self.client.execute(&sql, &borrowed(&columns)).await?;
        Ok(())
    }

    async fn write(&self, table: &Table, rows: &[Row]) -> anyhow::Result<()> {
        if rows.is_empty() {
            return Ok(());
        }
        let names: Vec<&str> = table.all_columns().map(|(name, _)| *name).collect();
        let rest = names.iter().skip(table.key);
        let overwrite: Vec<String> = rest.map(|name| format!("{name} = excluded.{name}")).collect();
        let sql = format!(
            "INSERT INTO {} ({}) OVERRIDING SYSTEM VALUE SELECT * FROM unnest({}) ON CONFLICT ({}) DO UPDATE SET {}",
            table.name,
            names.join(", "),
            arrays(table.all_columns()),
            key(table),
            overwrite.join(", ")
        );
        let columns = columns(table.all_columns(), rows);
        self.client.execute(&sql, &borrowed(&columns)).await?;
        Ok(())
    }

    /// Has numbers go on where those of the old store ended.
    pub(super) async fn finish(&self, last_place: i64) -> anyhow::Result<()> {
        self.client.execute("UPDATE places SET last_event = $1", &[&last_place]).await?;
        for (table, column) in [
            ("deliveries", "key"),
            ("audit", "seq"),
            ("unmatched", "seq"),
            ("statistics", "seq"),
            ("event_types", "seq"),
        ] {
            let sql = format!(
                "SELECT setval(pg_get_serial_sequence('{table}', '{column}'), COALESCE(MAX({column}), 0) + 1, FALSE) FROM {table}"
            );
            self.client.query_one(&sql, &[]).await?;
        }
        for table in &TABLES {
            self.client.batch_execute(&format!("ANALYZE {}", table.name)).await?;
        }
        Ok(())
    }

    /// Lets companions start on it.
    pub(super) async fn release(self) -> anyhow::Result<()> {
        let release = "DELETE FROM meta WHERE name = $1";
        self.client.execute(release, &[&MOVING_FROM]).await.context("the new store was not released")?;
        Ok(())
    }
}

/// Takes the lock that a move holds on its target.
async fn lock(client: &Object) -> anyhow::Result<()> {
    let take = "SELECT pg_try_advisory_lock(hashtextextended('gatehook move ' || current_schema(), 0))";
    for tries in 0..TRIES {
        if tries > 0 {
            tokio::time::sleep(LOOK_AGAIN).await;
        }
        if client.query_one(take, &[]).await?.get(0) {
            return Ok(());
        }
    }
    bail!("another move into it is under way")
}

/// The path that a schema is marked with as the target of a move.
async fn mark(client: &Object) -> anyhow::Result<Option<String>> {
    let marked = client.query_opt("SELECT value FROM meta WHERE name = $1", &[&MOVING_FROM]).await?;
    Ok(marked.map(|row| String::from_utf8_lossy(row.get(0)).into_owned()))
}

fn key(table: &Table) -> String {
    table.columns.iter().take(table.key).map(|(name, _)| *name).collect::<Vec<_>>().join(", ")
}

fn number(value: &Value) -> Option<&(dyn ToSql + Sync)> {
    match value {
        Value::Number(number) => Some(number),
        _ => None,
    }
}

/// `$1::bigint[], $2::text[]`
fn arrays<'a>(columns: impl Iterator<Item = &'a (&'static str, Kind)>) -> String {
    let array = |(index, (_, kind)): (usize, &(&str, Kind))| {
        let of = match kind {
            Kind::Number => "bigint",
            Kind::Text | Kind::Free => "text",
            Kind::Bytes => "bytea",
            Kind::Truth => "boolean",
        };
        format!("${}::{of}[]", index + 1)
    };
    columns.enumerate().map(array).collect::<Vec<_>>().join(", ")
}

/// The values of each column, in the order of the rows.
fn columns<'a>(columns: impl Iterator<Item = &'a (&'static str, Kind)>, rows: &[Row]) -> Vec<Column> {
    let column = |(index, (_, kind)): (usize, &(&str, Kind))| -> Column {
        let values = rows.iter().map(move |row| row.get(index));
        match kind {
            Kind::Number => Box::new(values.map(as_number).collect::<Vec<_>>()),
            Kind::Text | Kind::Free => Box::new(values.map(as_text).collect::<Vec<_>>()),
            Kind::Bytes => Box::new(values.map(as_bytes).collect::<Vec<_>>()),
            Kind::Truth => {
                Box::new(values.map(|value| value == Some(&Value::Truth(true))).collect::<Vec<_>>())
            }
        }
    };
    columns.enumerate().map(column).collect()
}

fn as_number(value: Option<&Value>) -> Option<i64> {
    match value {
        Some(Value::Number(number)) => Some(*number),
        _ => None,
    }
}

fn as_text(value: Option<&Value>) -> Option<String> {
    match value {
        Some(Value::Text(text)) => Some(text.clone()),
        _ => None,
    }
}

fn as_bytes(value: Option<&Value>) -> Option<Vec<u8>> {
    match value {
        Some(Value::Bytes(bytes)) => Some(bytes.clone()),
        _ => None,
    }
}

fn borrowed(columns: &[Column]) -> Vec<&(dyn ToSql + Sync)> {
    columns.iter().map(|column| &**column as &(dyn ToSql + Sync)).collect()
}

fn read(table: &Table, row: &tokio_postgres::Row) -> anyhow::Result<Row> {
    let value = |(index, (_, kind)): (usize, &(&str, Kind))| -> anyhow::Result<Value> {
        Ok(match kind {
            Kind::Number => row.try_get::<_, Option<i64>>(index)?.map_or(Value::Null, Value::Number),
            Kind::Text | Kind::Free => {
                row.try_get::<_, Option<String>>(index)?.map_or(Value::Null, Value::Text)
            }
            Kind::Bytes => row.try_get::<_, Option<Vec<u8>>>(index)?.map_or(Value::Null, Value::Bytes),
            Kind::Truth => Value::Truth(row.try_get(index)?),
        })
    };
    table.all_columns().enumerate().map(value).collect()
}
