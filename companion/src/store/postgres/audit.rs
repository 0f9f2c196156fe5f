//! The audit log in PostgreSQL, and events of our own: both stand in the transaction of the change that they tell of.

use deadpool_postgres::{GenericClient, Transaction};
use jiff::Timestamp;

use super::transaction::{execute, row, rows};
use super::{events, micros, nul, rows_of, time};
use crate::limits;
use crate::store::{AuditEntry, AuditLine, Idempotency, Note, StoreError};

/// Writes what is told of a change. Where there is news, [`events::prepare`] has stood at the transaction's beginning.
pub(super) async fn note(
    transaction: &Transaction<'_>,
    note: &Note,
    now: Timestamp,
) -> Result<(), StoreError> {
    if let Some(asked) = &note.idempotency {
        once(transaction, asked).await?;
    }
    if let Some(entry) = &note.audit {
        let insert = "INSERT INTO audit (at, actor, action, resource, detail) VALUES ($1, $2, $3, $4, $5)";
        let AuditEntry { at, actor, action, resource, detail } = entry;
        let (actor, resource) = (nul::escaped(actor), nul::escaped(resource));
        let detail = nul::escaped_option(detail.as_deref());
        execute(transaction, insert, &[&micros(*at), &actor, action, &resource, &detail]).await?;
    }
    let news: Vec<_> = note.news.iter().map(|event| (event, now)).collect();
    events::accept(transaction, &news).await?;
    Ok(())
}

/// When a change was made that has no time of its own.
pub(super) fn at(note: &Note) -> Timestamp {
    note.audit.as_ref().map_or(Timestamp::UNIX_EPOCH, |entry| entry.at)
}

/// Refuses a key that was used within the last [`limits::IDEMPOTENCY`], and forgets older ones. Of two that come at once the
/// second waits for the first's commit.
async fn once(transaction: &Transaction<'_>, asked: &Idempotency) -> Result<(), StoreError> {
    let old = limits::IDEMPOTENCY.as_micros();
    let old = micros(asked.at).saturating_sub(i64::try_from(old).unwrap_or(i64::MAX));
    execute(transaction, "DELETE FROM idempotency WHERE created_at < $1", &[&old]).await?;
    let insert = "INSERT INTO idempotency (key, request, resource, created_at) VALUES ($1, $2, $3, $4) \
                  ON CONFLICT DO NOTHING";
    let key = nul::escaped(&asked.key);
    let values: super::transaction::Values<'_> =
        &[&key, &&asked.request[..], &asked.resource, &micros(asked.at)];
    if execute(transaction, insert, values).await? == 1 {
        return Ok(());
    }
    let known = row(transaction, "SELECT request, resource FROM idempotency WHERE key = $1", &[&key]).await?;
    let known = known.ok_or(StoreError::Conflict)?;
    Err(StoreError::Repeated { resource: known.get(1), same: known.get::<_, &[u8]>(0) == asked.request })
}

pub(super) async fn page(
    client: &impl GenericClient,
    before: Option<i64>,
    limit: usize,
) -> Result<Vec<AuditLine>, StoreError> {
    let sql = "SELECT seq, at, actor, action, resource, detail FROM audit WHERE seq < $1 ORDER BY seq DESC LIMIT $2";
    let found = rows(client, sql, &[&before.unwrap_or(i64::MAX), &rows_of(limit)]).await?;
    let line = |row: &tokio_postgres::Row| AuditLine {
        seq: row.get("seq"),
        entry: AuditEntry {
            at: time(row.get("at")),
            actor: nul::unescaped(row.get("actor")),
            action: row.get("action"),
            resource: nul::unescaped(row.get("resource")),
            detail: row.get::<_, Option<&str>>("detail").map(nul::unescaped),
        },
    };
    Ok(found.iter().map(line).collect())
}
