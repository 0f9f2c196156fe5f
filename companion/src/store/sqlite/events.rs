//! Events in SQLite: accepting them with their deliveries, and reading them.

use std::collections::BTreeMap;

use bytes::Bytes;
use jiff::Timestamp;
use rusqlite::{Connection, Row, Rows, named_params};
use serde_json::value::RawValue;

use super::{deliveries, micros, time};
use crate::limits;
use crate::model::Event;
use crate::store::{Acceptance, AcceptedEvent, EventQuery, NewEvent, StoreError};

/// Columns of [`read`], in its order; `e` is the table's name in the query.
pub(super) const COLUMNS: &str =
    "e.id, e.source, e.type, e.subject, e.time, e.datacontenttype, e.data, e.tenant, e.extensions";

pub(super) fn accept(
    connection: &Connection,
    events: &[NewEvent],
    now: Timestamp,
) -> Result<Vec<Acceptance>, StoreError> {
    let mut insert_event = connection.prepare_cached(
        "INSERT INTO events (id, source, type, subject, time, datacontenttype, data, tenant, extensions, accepted_at, \
         seq) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11) ON CONFLICT DO NOTHING",
    )?;
    if events.is_empty() {
        return Ok(Vec::new());
    }
    let mut newest = newest(connection)?;
    let mut acceptances = Vec::with_capacity(events.len());
    for NewEvent { event, deliveries: wanted } in events {
        let extensions = match event.extensions.is_empty() {
            true => None,
            false => Some(
                serde_json::to_string(&event.extensions)
                    .map_err(|error| StoreError::Unavailable(error.into()))?,
            ),
        };
        let inserted = insert_event.execute((
            &event.id,
            &event.source,
            &event.event_type,
            &event.subject,
            micros(event.time),
            &event.datacontenttype,
            event.data.as_deref(),
            &event.tenant,
            extensions,
            micros(now),
            newest + 1,
        ))?;
        if inserted == 0 {
            acceptances.push(Acceptance::Repeated);
            continue;
        }
        newest += 1;
        for delivery in wanted {
            deliveries::create(connection, delivery, newest, now)?;
        }
        acceptances.push(Acceptance::Accepted);
    }
    Ok(acceptances)
}

/// The last place that was given; the trigger `events_last` keeps it where its event is forgotten.
pub(super) fn newest(connection: &Connection) -> Result<i64, StoreError> {
    let sql = "SELECT MAX(IFNULL((SELECT MAX(seq) FROM events), 0), \
               IFNULL((SELECT value FROM meta WHERE name = 'last_event'), 0))";
    Ok(connection.prepare_cached(sql)?.query_row([], |row| row.get(0))?)
}

pub(super) fn page(connection: &Connection, query: &EventQuery) -> Result<Vec<AcceptedEvent>, StoreError> {
    // By id there is an index; the planner does not see through `:id IS NULL OR …`, so that case has its own text.
    let identity = if query.id.is_some() { "e.id = :id" } else { ":id IS NULL" };
    let (place, order) = match query.oldest_first {
        true => ("e.seq > :cursor", "ASC"),
        false => ("e.seq < :cursor", "DESC"),
    };
    let sql = format!(
        "SELECT {COLUMNS}, e.seq, e.accepted_at FROM events e WHERE {identity} AND {place} ORDER BY e.seq {order} LIMIT :limit"
    );
    let mut statement = connection.prepare_cached(&sql)?;
    let cursor = query.cursor.unwrap_or(if query.oldest_first { 0 } else { i64::MAX });
    bounded(statement.query(named_params! {
        ":id": query.id,
        ":cursor": cursor,
        ":limit": i64::try_from(query.limit).unwrap_or(i64::MAX),
    })?)
}

/// Events accepted after the place `after`, up to `last`, oldest first.
pub(super) fn after(
    connection: &Connection,
    after: i64,
    last: i64,
    limit: usize,
) -> Result<Vec<AcceptedEvent>, StoreError> {
    let sql = format!(
        "SELECT {COLUMNS}, e.seq, e.accepted_at FROM events e WHERE e.seq > ?1 AND e.seq <= ?2 ORDER BY e.seq LIMIT ?3"
    );
    let mut statement = connection.prepare_cached(&sql)?;
    bounded(statement.query((after, last, i64::try_from(limit).unwrap_or(i64::MAX)))?)
}

/// The events at these places that are still there, oldest first.
pub(super) fn at(connection: &Connection, seqs: &[i64]) -> Result<Vec<AcceptedEvent>, StoreError> {
    let sql = format!(
        "SELECT {COLUMNS}, e.seq, e.accepted_at FROM events e WHERE e.seq IN (SELECT value FROM json_each(?1)) ORDER BY e.seq"
    );
    let seqs = serde_json::to_string(seqs).map_err(|error| StoreError::Unavailable(error.into()))?;
    bounded(connection.prepare_cached(&sql)?.query([seqs])?)
}

/// Reads events until their bytes pass [`limits::EVENT_PAGE`].
fn bounded(mut rows: Rows<'_>) -> Result<Vec<AcceptedEvent>, StoreError> {
    let (mut found, mut bytes) = (Vec::new(), 0);
    while bytes < limits::EVENT_PAGE
        && let Some(row) = rows.next()?
    {
        let event = read(row)?;
        bytes += event.size();
        found.push(AcceptedEvent { event, seq: row.get(9)?, accepted_at: time(row.get(10)?) });
    }
    Ok(found)
}

/// Reads [`COLUMNS`], which must stand first.
pub(super) fn read(row: &Row<'_>) -> Result<Event, StoreError> {
    let extensions: BTreeMap<String, Box<RawValue>> = match row.get_ref(8)?.as_str_or_null() {
        Ok(Some(json)) => {
            serde_json::from_str(json).map_err(|error| StoreError::Unavailable(error.into()))?
        }
        _ => BTreeMap::new(),
    };
    Ok(Event {
        id: row.get(0)?,
        source: row.get(1)?,
        event_type: row.get(2)?,
        subject: row.get(3)?,
        time: time(row.get(4)?),
        datacontenttype: row.get(5)?,
        data: row.get::<_, Option<Vec<u8>>>(6)?.map(Bytes::from),
        tenant: row.get(7)?,
        extensions,
    })
}
