//! The old store: an SQLite database that a companion may be using.

use std::path::Path;

use anyhow::{Context, bail, ensure};
use rusqlite::types::{ToSql, ToSqlOutput, ValueRef};
use rusqlite::{Connection, params_from_iter};

use super::MOVED_TO;
use super::tables::{Row, Table, Value};
use crate::limits;
use crate::store::sqlite;

/// Rows that were read together, by their key.
#[derive(Default)]
pub(super) struct Chunk {
    /// As the new store holds them.
    pub(super) rows: Vec<Row>,
    /// Whether others follow.
    pub(super) more: bool,
}

pub(super) struct Source {
    connection: Connection,
    /// Where it was moved to already.
    moved_to: Option<String>,
}

impl ToSql for Value {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(match self {
            Self::Null => ToSqlOutput::Borrowed(ValueRef::Null),
            Self::Number(number) => (*number).into(),
            Self::Text(text) => text.as_str().into(),
            Self::Bytes(bytes) => bytes.as_slice().into(),
            Self::Truth(truth) => (*truth).into(),
        })
    }
}

impl Source {
    /// Opens one that was moved nowhere yet, or to that URL: such a move may have broken off before the new store was open.
    pub(super) fn open(path: &Path, to: &str) -> anyhow::Result<Self> {
        let connection = sqlite::backup::open(path)?;
        sqlite::schema::is_current(&connection).with_context(|| format!("cannot move {}", path.display()))?;
        let moved_to = sqlite::schema::moved_to(&connection)?;
        if let Some(elsewhere) = moved_to.as_ref().filter(|moved_to| *moved_to != to) {
            bail!("{} was moved to {elsewhere} before", path.display());
        }
        Ok(Self { connection, moved_to })
    }

    /// Whether companions are kept from it already.
    pub(super) fn is_closed(&self) -> bool {
        self.moved_to.is_some()
    }

    /// Makes sure that no other move has closed it since it was opened.
    pub(super) fn is_unchanged(&self) -> anyhow::Result<()> {
        let moved_to = sqlite::schema::moved_to(&self.connection)?;
        ensure!(moved_to == self.moved_to, "it was moved to {} meanwhile", moved_to.unwrap_or_default());
        Ok(())
    }

    /// The rows of a table after a key, up to [`limits::MOVE_ROWS`] or [`limits::MOVE_BYTES`]; all of them where the table is
    /// not walked by number.
    pub(super) fn chunk(&self, table: &Table, after: Option<&Row>) -> anyhow::Result<Chunk> {
        let columns: Vec<&str> = table.columns.iter().map(|(name, _)| *name).collect();
        let key = columns.iter().take(table.key).copied().collect::<Vec<_>>().join(", ");
        let (most, after_it) = match (table.is_numbered(), after) {
            (true, Some(after)) => (limits::MOVE_ROWS, format!("AND ({key}) > ({})", marks(after.len()))),
            (true, None) => (limits::MOVE_ROWS, String::new()),
            (false, _) => (usize::MAX, String::new()),
        };
        let limit = i64::try_from(most).unwrap_or(i64::MAX);
        let sql = format!(
            "SELECT {} FROM {} WHERE NOT ({}) {after_it} ORDER BY {key} LIMIT {limit}",
            columns.join(", "),
            table.name,
            table.except
        );
        let mut statement = self.connection.prepare_cached(&sql)?;
        let mut rows = statement.query(params_from_iter(after.into_iter().flatten()))?;
        let (mut chunk, mut bytes) = (Chunk::default(), 0);
        while let Some(row) = rows.next()? {
            let values = (0..columns.len()).map(|column| Ok(value(row.get_ref(column)?)));
            let values = values.collect::<rusqlite::Result<Row>>()?;
            bytes += values.iter().map(size).sum::<usize>();
            chunk.rows.push(table.translated(values));
            if chunk.rows.len() == most || (table.is_numbered() && bytes >= limits::MOVE_BYTES) {
                chunk.more = true;
                break;
            }
        }
        Ok(chunk)
    }

    /// The last place in the order of acceptance that was given.
    pub(super) fn last_place(&self) -> anyhow::Result<i64> {
        sqlite::schema::last_place(&self.connection)
    }

    /// Keeps companions from starting on it again; whoever calls holds its lock.
    pub(super) fn close(self, moved_to: &str) -> anyhow::Result<()> {
        if self.is_closed() {
            return Ok(());
        }
        let path = self.connection.path().context("the database has no file")?.to_owned();
        drop(self.connection);
        let connection = Connection::open(&path)?;
        let write = "INSERT INTO meta (name, value) VALUES (?1, CAST(?2 AS BLOB))";
        connection.execute(write, [MOVED_TO, moved_to]).context("the old store was not closed")?;
        Ok(())
    }
}

/// `?, ?`
fn marks(count: usize) -> String {
    vec!["?"; count].join(", ")
}

fn value(value: ValueRef<'_>) -> Value {
    match value {
        ValueRef::Null => Value::Null,
        ValueRef::Integer(number) => Value::Number(number),
        // No column of ours holds one.
        ValueRef::Real(number) => Value::Text(number.to_string()),
        ValueRef::Text(text) => Value::Text(String::from_utf8_lossy(text).into_owned()),
        ValueRef::Blob(bytes) => Value::Bytes(bytes.to_vec()),
    }
}

fn size(value: &Value) -> usize {
    match value {
        Value::Text(text) => text.len(),
        Value::Bytes(bytes) => bytes.len(),
        Value::Null | Value::Number(_) | Value::Truth(_) => 8,
    }
}
