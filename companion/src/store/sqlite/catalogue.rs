//! The event catalogue in SQLite.
//!
//! A row holds what all events of a type and tenant have come to; a round adds to it. Whether a round's place is still the
//! place is asked in the transaction that moves it.

use async_trait::async_trait;
use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, Row, named_params};

use super::writer::Durability;
use super::{SqliteStore, audit, erase, events, micros, time};
use crate::store::{
    AcceptedEvent, Ahead, Catalogue, EventType, FollowedPlace, Learnt, MOST_COUNTED, Note, Passed, Round,
    StoreError, TypeKey, TypePatch, TypeQuery,
};

#[async_trait]
impl Catalogue for SqliteStore {
    async fn passed(&self, limit: usize) -> Result<Ahead, StoreError> {
        self.readers.read(move |connection| passed(connection, limit)).await
    }

    async fn events_at(&self, seqs: Vec<i64>) -> Result<Vec<AcceptedEvent>, StoreError> {
        self.readers.read(move |connection| events::at(connection, &seqs)).await
    }

    async fn states(&self, keys: Vec<TypeKey>) -> Result<Vec<(TypeKey, String)>, StoreError> {
        self.readers.read(move |connection| states(connection, keys)).await
    }

    async fn learn(&self, round: Round, note: Note, now: Timestamp) -> Result<(), StoreError> {
        // News that was delivered must not be told of again after a crash of the machine; counts are learnt anew.
        let durability = if note.news.is_empty() { Durability::Written } else { Durability::Synced };
        let learn = move |connection: &Connection| {
            learn(connection, &round)?;
            audit::note(connection, &note, now)
        };
        self.writer.write(durability, learn).await
    }

    async fn event_types(&self, query: TypeQuery) -> Result<Vec<EventType>, StoreError> {
        self.readers.read(move |connection| page(connection, &query)).await
    }

    async fn describe_type(
        &self,
        event_type: String,
        patch: TypePatch,
        note: Note,
    ) -> Result<(), StoreError> {
        let describe = move |connection: &Connection| {
            describe(connection, &event_type, &patch)?;
            audit::note(connection, &note, audit::at(&note))
        };
        self.writer.write(Durability::Synced, describe).await
    }

    async fn forget_type(&self, event_type: String, note: Note) -> Result<(), StoreError> {
        let forget = move |connection: &Connection| {
            let learnt = forget(connection, "type", &event_type)?;
            let said = connection.execute("DELETE FROM event_type_notes WHERE type = ?1", [&event_type])?;
            if learnt + said == 0 {
                return Err(StoreError::NotFound);
            }
            audit::note(connection, &note, audit::at(&note))
        };
        self.writer.write(Durability::Synced, forget).await
    }
}

fn passed(connection: &Connection, limit: usize) -> Result<Ahead, StoreError> {
    let place = connection
        .prepare_cached("SELECT position, turn FROM followers WHERE name = 'catalogue'")?
        .query_row([], |row| Ok(FollowedPlace { position: row.get(0)?, turn: row.get(1)? }))?;
    let sql = "SELECT seq, tenant, type, accepted_at, length(data) FROM events WHERE seq > ?1 ORDER BY seq LIMIT ?2";
    let mut statement = connection.prepare_cached(sql)?;
    let rows = statement.query_map((place.position, i64::try_from(limit).unwrap_or(i64::MAX)), |row| {
        Ok(Passed {
            seq: row.get(0)?,
            tenant: row.get(1)?,
            event_type: row.get(2)?,
            accepted_at: time(row.get(3)?),
            size: row.get::<_, Option<i64>>(4)?.and_then(|size| usize::try_from(size).ok()),
        })
    })?;
    let passed = rows.collect::<Result<_, _>>()?;
    Ok(Ahead { place, newest: events::newest(connection)?, passed })
}

fn states(connection: &Connection, keys: Vec<TypeKey>) -> Result<Vec<(TypeKey, String)>, StoreError> {
    let sql = "SELECT state FROM event_types WHERE tenant = ?1 AND type = ?2 AND state IS NOT NULL";
    let mut statement = connection.prepare_cached(sql)?;
    let mut states = Vec::with_capacity(keys.len());
    for key in keys {
        let tenant = key.tenant.as_deref().unwrap_or_default();
        let state: Option<String> =
            statement.query_row((tenant, &key.event_type), |row| row.get(0)).optional()?;
        states.extend(state.map(|state| (key, state)));
    }
    Ok(states)
}

fn learn(connection: &Connection, round: &Round) -> Result<(), StoreError> {
    let moved = "UPDATE followers SET position = ?1 WHERE name = 'catalogue' AND position = ?2 AND turn = ?3";
    let FollowedPlace { position, turn } = round.place;
    if connection.prepare_cached(moved)?.execute((round.position, position, turn))? == 0 {
        return Err(StoreError::Conflict);
    }
    let mut upsert = connection.prepare_cached(
        "INSERT INTO event_types (tenant, type, count, first_at, last_at, state, sample) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) \
         ON CONFLICT (tenant, type) DO UPDATE SET count = MIN(count + excluded.count, ?8), \
         first_at = MIN(first_at, excluded.first_at), last_at = MAX(last_at, excluded.last_at), \
         sample = CASE WHEN excluded.state IS NULL THEN sample ELSE excluded.sample END, \
         state = COALESCE(excluded.state, state)",
    )?;
    for Learnt { key, count, first_at, last_at, state } in &round.learnt {
        let (state, sample) =
            state.as_ref().map_or((None, None), |(state, sample)| (Some(state), sample.as_ref()));
        upsert.execute((
            key.tenant.as_deref().unwrap_or_default(),
            &key.event_type,
            i64::try_from(*count).unwrap_or(MOST_COUNTED),
            micros(*first_at),
            micros(*last_at),
            state,
            sample,
            MOST_COUNTED,
        ))?;
    }
    let (all, of_tenants) = round.keep;
    for (whose, keep) in [("tenant = ''", all), ("tenant <> ''", of_tenants)] {
        let make_room = format!(
            "DELETE FROM event_types WHERE seq IN (SELECT seq FROM event_types WHERE {whose} \
             ORDER BY last_at DESC, seq DESC LIMIT -1 OFFSET ?1)"
        );
        connection.prepare_cached(&make_room)?.execute([i64::try_from(keep).unwrap_or(i64::MAX)])?;
    }
    Ok(())
}

/// Forgets what was learnt of a type or for a tenant, and what is being learnt at this moment; returns how many rows.
pub(super) fn forget(
    connection: &Connection,
    column: &'static str,
    value: &str,
) -> Result<usize, StoreError> {
    connection.execute("UPDATE followers SET turn = turn + 1 WHERE name = 'catalogue'", [])?;
    let delete = format!("DELETE FROM event_types WHERE {column} = ?1");
    erase::overwriting(connection, || Ok(connection.execute(&delete, [value])?))
}

fn page(connection: &Connection, query: &TypeQuery) -> Result<Vec<EventType>, StoreError> {
    let sql = "SELECT t.type, t.count, t.first_at, t.last_at, t.state, t.sample, n.description, COALESCE(n.published, 0) \
                 FROM event_types t LEFT JOIN event_type_notes n ON n.type = t.type \
                 WHERE t.tenant = :tenant AND t.type > :after AND (:type IS NULL OR t.type = :type) \
               UNION ALL SELECT n.type, 0, NULL, NULL, NULL, NULL, n.description, n.published FROM event_type_notes n \
                 WHERE n.type > :after AND (:type IS NULL OR n.type = :type) AND (:tenant = '' OR n.published = 1) \
                 AND NOT EXISTS (SELECT 1 FROM event_types t WHERE t.tenant = :tenant AND t.type = n.type) \
               ORDER BY 1 LIMIT :limit";
    let mut statement = connection.prepare_cached(sql)?;
    let values = named_params! {
        ":tenant": query.tenant.as_deref().unwrap_or_default(),
        ":after": query.after.as_deref().unwrap_or_default(),
        ":type": query.event_type,
        ":limit": i64::try_from(query.limit).unwrap_or(i64::MAX),
    };
    let rows = statement.query_map(values, read)?;
    Ok(rows.collect::<Result<_, _>>()?)
}

fn read(row: &Row<'_>) -> rusqlite::Result<EventType> {
    Ok(EventType {
        event_type: row.get(0)?,
        count: row.get(1)?,
        first_at: row.get::<_, Option<i64>>(2)?.map(time),
        last_at: row.get::<_, Option<i64>>(3)?.map(time),
        state: row.get(4)?,
        sample: row.get(5)?,
        description: row.get(6)?,
        published: row.get(7)?,
    })
}

fn describe(connection: &Connection, event_type: &str, patch: &TypePatch) -> Result<(), StoreError> {
    let query = TypeQuery { event_type: Some(event_type.to_owned()), limit: 1, ..TypeQuery::default() };
    let known = page(connection, &query)?.pop().ok_or(StoreError::NotFound)?;
    let description = patch.description.clone().unwrap_or(known.description);
    let published = patch.published.unwrap_or(known.published);
    let upsert = "INSERT INTO event_type_notes (type, description, published) VALUES (?1, ?2, ?3) \
                  ON CONFLICT (type) DO UPDATE SET description = excluded.description, published = excluded.published";
    connection.prepare_cached(upsert)?.execute((event_type, description, published))?;
    let nothing_said = "DELETE FROM event_type_notes WHERE type = ?1 AND description IS NULL AND published = 0 \
                        AND EXISTS (SELECT 1 FROM event_types WHERE tenant = '' AND type = ?1)";
    connection.prepare_cached(nothing_said)?.execute([event_type])?;
    Ok(())
}
