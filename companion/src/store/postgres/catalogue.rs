//! The event catalogue in PostgreSQL.
//!
//! A row holds what all events of a type and tenant have come to; a round adds to it. Whoever writes or removes rows takes
//! the one of `followers` first, so rounds and removals follow each other, and a round whose place has passed writes nothing.

use std::collections::BTreeMap;

use async_trait::async_trait;
use deadpool_postgres::{GenericClient, Transaction};
use jiff::Timestamp;
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

use super::transaction::{Durability, execute, row, rows, write};
use super::{PostgresStore, audit, damaged, events, micros, nul, rows_of, time};
use crate::store::{
    AcceptedEvent, Ahead, Catalogue, EventType, FollowedPlace, Learnt, MOST_COUNTED, Note, Passed, Round,
    StoreError, TypeKey, TypePatch, TypeQuery,
};

#[async_trait]
impl Catalogue for PostgresStore {
    async fn passed(&self, limit: usize) -> Result<Ahead, StoreError> {
        passed(&self.database.get().await?, limit).await
    }

    async fn events_at(&self, seqs: Vec<i64>) -> Result<Vec<AcceptedEvent>, StoreError> {
        events::at(&self.database.get().await?, &seqs).await
    }

    async fn states(&self, keys: Vec<TypeKey>) -> Result<Vec<(TypeKey, String)>, StoreError> {
        states(&self.database.get().await?, &keys).await
    }

    async fn learn(&self, round: Round, note: Note, now: Timestamp) -> Result<(), StoreError> {
        // News that was delivered must not be told of again after a crash of the machine; counts are learnt anew.
        let durability = if note.news.is_empty() { Durability::Written } else { Durability::Synced };
        write!(self.database, durability, |transaction| {
            events::prepare(transaction, &note.news).await?;
            learn(transaction, &round).await?;
            audit::note(transaction, &note, now).await
        })
    }

    async fn event_types(&self, query: TypeQuery) -> Result<Vec<EventType>, StoreError> {
        page(&self.database.get().await?, &query).await
    }

    async fn describe_type(
        &self,
        event_type: String,
        patch: TypePatch,
        note: Note,
    ) -> Result<(), StoreError> {
        write!(self.database, Durability::Synced, |transaction| {
            events::prepare(transaction, &note.news).await?;
            describe(transaction, &event_type, &patch).await?;
            audit::note(transaction, &note, audit::at(&note)).await
        })
    }

    async fn forget_type(&self, event_type: String, note: Note) -> Result<(), StoreError> {
        if event_type.contains('\0') {
            return Err(StoreError::NotFound);
        }
        write!(self.database, Durability::Synced, |transaction| {
            events::prepare(transaction, &note.news).await?;
            let learnt = forget(transaction, "type", &event_type).await?;
            let said = "DELETE FROM event_type_notes WHERE type = $1";
            if learnt + execute(transaction, said, &[&event_type]).await? == 0 {
                return Err(StoreError::NotFound);
            }
            audit::note(transaction, &note, audit::at(&note)).await
        })
    }
}

async fn passed(client: &impl GenericClient, limit: usize) -> Result<Ahead, StoreError> {
    let sql = "SELECT f.position, f.turn, p.last_event FROM followers f, places p WHERE f.name = 'catalogue'";
    let found = row(client, sql, &[]).await?.ok_or_else(|| damaged("nobody follows the events".into()))?;
    let place = FollowedPlace { position: found.get(0), turn: found.get(1) };
    let sql = "SELECT seq, tenant, type, accepted_at, octet_length(data) AS size FROM events WHERE seq > $1 \
               ORDER BY seq LIMIT $2";
    let passed = rows(client, sql, &[&place.position, &rows_of(limit)]).await?;
    let read = |row: &Row| Passed {
        seq: row.get("seq"),
        tenant: row.get("tenant"),
        event_type: row.get("type"),
        accepted_at: time(row.get("accepted_at")),
        size: row.get::<_, Option<i32>>("size").and_then(|size| usize::try_from(size).ok()),
    };
    Ok(Ahead { place, newest: found.get(2), passed: passed.iter().map(read).collect() })
}

/// The two columns that keys stand in.
fn columns<'a>(keys: impl Iterator<Item = &'a TypeKey>) -> (Vec<&'a str>, Vec<&'a str>) {
    keys.map(|key| (key.tenant.as_deref().unwrap_or_default(), key.event_type.as_str())).unzip()
}

async fn states(client: &impl GenericClient, keys: &[TypeKey]) -> Result<Vec<(TypeKey, String)>, StoreError> {
    let (tenants, types) = columns(keys.iter());
    let sql = "SELECT t.tenant, t.type, t.state FROM unnest($1::text[], $2::text[]) AS n (tenant, type) \
               JOIN event_types t ON t.tenant = n.tenant AND t.type = n.type WHERE t.state IS NOT NULL";
    let found = rows(client, sql, &[&tenants, &types]).await?;
    let read = |row: &Row| {
        let tenant = Some(row.get::<_, String>("tenant")).filter(|tenant| !tenant.is_empty());
        (TypeKey { tenant, event_type: row.get("type") }, row.get("state"))
    };
    Ok(found.iter().map(read).collect())
}

async fn learn(transaction: &Transaction<'_>, round: &Round) -> Result<(), StoreError> {
    let moved = "UPDATE followers SET position = $1 WHERE name = 'catalogue' AND position = $2 AND turn = $3";
    let FollowedPlace { position, turn } = round.place;
    if execute(transaction, moved, &[&round.position, &position, &turn]).await? == 0 {
        return Err(StoreError::Conflict);
    }
    // In the order of keys, and each once.
    let learnt: BTreeMap<&TypeKey, &Learnt> =
        round.learnt.iter().map(|learnt| (&learnt.key, learnt)).collect();
    let (tenants, types) = columns(learnt.keys().copied());
    let each = || learnt.values();
    let state = |learnt: &&Learnt| learnt.state.as_ref().map(|(state, _)| state.clone());
    let sample = |learnt: &&Learnt| learnt.state.as_ref().and_then(|(_, sample)| sample.clone());
    let sql = "INSERT INTO event_types (tenant, type, count, first_at, last_at, state, sample) \
               SELECT * FROM unnest($1::text[], $2::text[], $3::bigint[], $4::bigint[], $5::bigint[], $6::text[], $7::text[]) \
               ON CONFLICT (tenant, type) DO UPDATE SET count = LEAST(event_types.count + excluded.count, $8), \
               first_at = LEAST(event_types.first_at, excluded.first_at), \
               last_at = GREATEST(event_types.last_at, excluded.last_at), \
               sample = CASE WHEN excluded.state IS NULL THEN event_types.sample ELSE excluded.sample END, \
               state = COALESCE(excluded.state, event_types.state)";
    let values: [&(dyn ToSql + Sync); 8] = [
        &tenants,
        &types,
        &each().map(|learnt| i64::try_from(learnt.count).unwrap_or(MOST_COUNTED)).collect::<Vec<_>>(),
        &each().map(|learnt| micros(learnt.first_at)).collect::<Vec<_>>(),
        &each().map(|learnt| micros(learnt.last_at)).collect::<Vec<_>>(),
        &each().map(state).collect::<Vec<_>>(),
        &each().map(sample).collect::<Vec<_>>(),
        &MOST_COUNTED,
    ];
    execute(transaction, sql, &values).await?;
    let (all, of_tenants) = round.keep;
    for (whose, keep) in [("tenant = ''", all), ("tenant <> ''", of_tenants)] {
        let make_room = format!(
            "DELETE FROM event_types WHERE seq IN (SELECT seq FROM event_types WHERE {whose} \
             ORDER BY last_at DESC, seq DESC OFFSET $1)"
        );
        execute(transaction, &make_room, &[&rows_of(keep)]).await?;
    }
    Ok(())
}

/// Forgets what was learnt of a type or for a tenant, and what is being learnt at this moment; returns how many rows.
pub(super) async fn forget(
    transaction: &Transaction<'_>,
    column: &'static str,
    value: &str,
) -> Result<usize, StoreError> {
    let turn = "UPDATE followers SET turn = turn + 1 WHERE name = 'catalogue'";
    execute(transaction, turn, &[]).await?;
    execute(transaction, &format!("DELETE FROM event_types WHERE {column} = $1"), &[&value]).await
}

async fn page(client: &impl GenericClient, query: &TypeQuery) -> Result<Vec<EventType>, StoreError> {
    if nul::is_in([&query.event_type, &query.after, &query.tenant]) {
        return Ok(Vec::new());
    }
    let sql = "SELECT t.type, t.count, t.first_at, t.last_at, t.state, t.sample, n.description, \
                 COALESCE(n.published, 0) AS published \
                 FROM event_types t LEFT JOIN event_type_notes n ON n.type = t.type \
                 WHERE t.tenant = $1 AND t.type > $2 AND ($3::text IS NULL OR t.type = $3) \
               UNION ALL SELECT n.type, 0, NULL, NULL, NULL, NULL, n.description, n.published FROM event_type_notes n \
                 WHERE n.type > $2 AND ($3::text IS NULL OR n.type = $3) AND ($1 = '' OR n.published = 1) \
                 AND NOT EXISTS (SELECT FROM event_types t WHERE t.tenant = $1 AND t.type = n.type) \
               ORDER BY 1 LIMIT $4";
    let (tenant, after) =
        (query.tenant.as_deref().unwrap_or_default(), query.after.as_deref().unwrap_or_default());
    let found = rows(client, sql, &[&tenant, &after, &query.event_type, &rows_of(query.limit)]).await?;
    Ok(found.iter().map(read).collect())
}

fn read(row: &Row) -> EventType {
    EventType {
        event_type: row.get("type"),
        count: row.get("count"),
        first_at: row.get::<_, Option<i64>>("first_at").map(time),
        last_at: row.get::<_, Option<i64>>("last_at").map(time),
        state: row.get("state"),
        sample: row.get("sample"),
        description: row.get::<_, Option<&str>>("description").map(nul::unescaped),
        published: row.get::<_, i64>("published") == 1,
    }
}

async fn describe(
    transaction: &Transaction<'_>,
    event_type: &str,
    patch: &TypePatch,
) -> Result<(), StoreError> {
    // Of two at once the second sees what the first has written.
    execute(transaction, "LOCK TABLE event_type_notes IN SHARE ROW EXCLUSIVE MODE", &[]).await?;
    let query = TypeQuery { event_type: Some(event_type.to_owned()), limit: 1, ..TypeQuery::default() };
    let known = page(transaction, &query).await?.pop().ok_or(StoreError::NotFound)?;
    let description = patch.description.clone().unwrap_or(known.description);
    let description = nul::escaped_option(description.as_deref());
    let published = i64::from(patch.published.unwrap_or(known.published));
    let upsert = "INSERT INTO event_type_notes (type, description, published) VALUES ($1, $2, $3) \
                  ON CONFLICT (type) DO UPDATE SET description = excluded.description, published = excluded.published";
    execute(transaction, upsert, &[&event_type, &description, &published]).await?;
    let nothing_said = "DELETE FROM event_type_notes WHERE type = $1 AND description IS NULL AND published = 0 \
                        AND EXISTS (SELECT FROM event_types WHERE tenant = '' AND type = $1)";
    execute(transaction, nothing_said, &[&event_type]).await?;
    Ok(())
}
