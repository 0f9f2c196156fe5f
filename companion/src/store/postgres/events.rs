//! Events in PostgreSQL: accepting them with their deliveries, and reading them.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use bytes::Bytes;
use deadpool_postgres::{GenericClient, Transaction};
use jiff::Timestamp;
use serde_json::value::RawValue;
use tokio_postgres::Row;

use super::transaction::{execute, row, rows};
use super::{damaged, deliveries, micros, nul, order, rows_of, time};
use crate::limits;
use crate::model::Event;
use crate::store::{Acceptance, AcceptedEvent, EventQuery, NewDelivery, NewEvent, StoreError};

/// Columns of [`read`]; `e` is the table's name in the query.
pub(super) const COLUMNS: &str = "e.id AS event_id, e.source, e.type, e.subject, e.time, e.datacontenttype, e.data, e.tenant, \
                                  e.extensions";

/// The row of `places`.
pub(super) struct Places {
    /// The last place that was given.
    pub(super) last_event: i64,
    /// See [`crate::store::Sharing::version`].
    pub(super) version: i64,
}

/// Takes the row of `places` until the transaction ends: nobody else accepts events meanwhile, or changes the version.
pub(super) async fn lock_places(transaction: &Transaction<'_>) -> Result<Places, StoreError> {
    let sql = "SELECT last_event, version FROM places FOR NO KEY UPDATE";
    let row = row(transaction, sql, &[]).await?.ok_or_else(|| damaged("places have no row".into()))?;
    Ok(Places { last_event: row.get(0), version: row.get(1) })
}

/// Accepts events, each with the time of its acceptance, in this order. The number of statements is the same however many
/// there are.
pub(super) async fn accept(
    transaction: &Transaction<'_>,
    events: &[(&NewEvent, Timestamp)],
) -> Result<Vec<Acceptance>, StoreError> {
    if events.is_empty() {
        return Ok(Vec::new());
    }
    let mut last = lock_places(transaction).await?.last_event;
    let mut known = known(transaction, events).await?;
    let (mut acceptances, mut fresh) = (Vec::with_capacity(events.len()), Vec::with_capacity(events.len()));
    for (new, now) in events {
        if known.insert((new.event.id.clone(), new.event.source.clone())) {
            last += 1;
            fresh.push((last, *new, *now));
            acceptances.push(Acceptance::Accepted);
        } else {
            acceptances.push(Acceptance::Repeated);
        }
    }
    if !fresh.is_empty() {
        insert(transaction, &fresh, last).await?;
        let wanted: Vec<(i64, &NewDelivery, Timestamp)> = fresh
            .iter()
            .flat_map(|(seq, new, now)| new.deliveries.iter().map(|delivery| (*seq, delivery, *now)))
            .collect();
        deliveries::create(transaction, &wanted).await?;
    }
    Ok(acceptances)
}

/// Those of the events that were accepted before, by id and source.
async fn known(
    transaction: &Transaction<'_>,
    events: &[(&NewEvent, Timestamp)],
) -> Result<HashSet<(String, String)>, StoreError> {
    let ids: Vec<&str> = events.iter().map(|(new, _)| new.event.id.as_str()).collect();
    let sources: Vec<&str> = events.iter().map(|(new, _)| new.event.source.as_str()).collect();
    let sql = "SELECT e.id, e.source FROM unnest($1::text[], $2::text[]) AS n (id, source) \
               JOIN events e ON e.id = n.id AND e.source = n.source";
    let known = rows(transaction, sql, &[&ids, &sources]).await?;
    Ok(known.iter().map(|row| (row.get(0), row.get(1))).collect())
}

/// Writes events at their places, the last of which is `last`.
async fn insert(
    transaction: &Transaction<'_>,
    events: &[(i64, &NewEvent, Timestamp)],
    last: i64,
) -> Result<(), StoreError> {
    let extensions: Vec<Option<String>> =
        events.iter().map(|(_, new, _)| extensions(&new.event)).collect::<Result<_, _>>()?;
    let texts = |text: fn(&Event) -> Option<&str>| -> Vec<Option<&str>> {
        events.iter().map(|(_, new, _)| text(&new.event)).collect()
    };
    let sql = "WITH moved AS (UPDATE places SET last_event = $12) \
               INSERT INTO events (seq, id, source, type, subject, time, datacontenttype, data, tenant, extensions, accepted_at) \
               SELECT * FROM unnest($1::bigint[], $2::text[], $3::text[], $4::text[], $5::text[], $6::bigint[], $7::text[], \
                 $8::bytea[], $9::text[], $10::text[], $11::bigint[])";
    let values: [&(dyn tokio_postgres::types::ToSql + Sync); 12] = [
        &events.iter().map(|(seq, ..)| *seq).collect::<Vec<_>>(),
        &texts(|event| Some(&event.id)),
        &texts(|event| Some(&event.source)),
        &texts(|event| Some(&event.event_type)),
        &texts(|event| event.subject.as_deref()),
        &events.iter().map(|(_, new, _)| micros(new.event.time)).collect::<Vec<_>>(),
        &texts(|event| event.datacontenttype.as_deref()),
        &events.iter().map(|(_, new, _)| new.event.data.as_deref()).collect::<Vec<_>>(),
        &texts(|event| event.tenant.as_deref()),
        &extensions,
        &events.iter().map(|(.., now)| micros(*now)).collect::<Vec<_>>(),
        &last,
    ];
    execute(transaction, sql, &values).await?;
    Ok(())
}

fn extensions(event: &Event) -> Result<Option<String>, StoreError> {
    match event.extensions.is_empty() {
        true => Ok(None),
        false => super::json(&event.extensions).map(Some),
    }
}

/// Takes what a transaction that accepts events takes first: the row of `places`, and the lanes of their deliveries.
pub(super) async fn prepare(transaction: &Transaction<'_>, events: &[NewEvent]) -> Result<(), StoreError> {
    if events.is_empty() {
        return Ok(());
    }
    lock_places(transaction).await?;
    order::lock(transaction, order::lanes_of(events)).await
}

pub(super) async fn page(
    client: &impl GenericClient,
    query: &EventQuery,
) -> Result<Vec<AcceptedEvent>, StoreError> {
    if nul::is_in([&query.id]) {
        return Ok(Vec::new());
    }
    // By id there is an index; the planner does not see through `$1 IS NULL OR …`, so that case has its own text.
    let identity = if query.id.is_some() { "e.id = $1" } else { "$1::text IS NULL" };
    let (place, order) = match query.oldest_first {
        true => ("e.seq > $2", "ASC"),
        false => ("e.seq < $2", "DESC"),
    };
    let sql = bounded(&format!("{identity} AND {place}"), order, "$3");
    let cursor = query.cursor.unwrap_or(if query.oldest_first { 0 } else { i64::MAX });
    let found = rows(client, &sql, &[&query.id, &cursor, &rows_of(query.limit)]).await?;
    found.iter().map(accepted).collect()
}

/// Events accepted after the place `after`, up to `last`, oldest first.
pub(super) async fn after(
    client: &impl GenericClient,
    after: i64,
    last: i64,
    limit: usize,
) -> Result<Vec<AcceptedEvent>, StoreError> {
    let sql = bounded("e.seq > $1 AND e.seq <= $2", "ASC", "$3");
    let found = rows(client, &sql, &[&after, &last, &rows_of(limit)]).await?;
    found.iter().map(accepted).collect()
}

/// The events at these places that are still there, oldest first.
pub(super) async fn at(client: &impl GenericClient, seqs: &[i64]) -> Result<Vec<AcceptedEvent>, StoreError> {
    let sql = bounded("e.seq = ANY($1)", "ASC", "$2");
    let found = rows(client, &sql, &[&seqs, &rows_of(seqs.len())]).await?;
    found.iter().map(accepted).collect()
}

/// SQL for events until their bytes pass [`limits::EVENT_PAGE`]. Sizes are known without the data being read.
fn bounded(condition: &str, order: &str, limit: &str) -> String {
    format!(
        "WITH page AS (SELECT e.seq, COALESCE(octet_length(e.data), 0) + COALESCE(octet_length(e.extensions), 0) AS size \
           FROM events e WHERE {condition} ORDER BY e.seq {order} LIMIT {limit}), \
         sized AS (SELECT seq, sum(size) OVER (ORDER BY seq {order}) - size AS before FROM page) \
         SELECT {COLUMNS}, e.seq, e.accepted_at FROM sized JOIN events e ON e.seq = sized.seq \
         WHERE sized.before < {} ORDER BY e.seq {order}",
        limits::EVENT_PAGE
    )
}

fn accepted(row: &Row) -> Result<AcceptedEvent, StoreError> {
    Ok(AcceptedEvent {
        event: read(row)?,
        seq: row.try_get("seq")?,
        accepted_at: time(row.try_get("accepted_at")?),
    })
}

/// Reads [`COLUMNS`].
pub(super) fn read(row: &Row) -> Result<Event, StoreError> {
    let extensions: BTreeMap<String, Box<RawValue>> = match row.try_get::<_, Option<&str>>("extensions")? {
        Some(json) => serde_json::from_str(json).map_err(|error| StoreError::Unavailable(error.into()))?,
        None => BTreeMap::new(),
    };
    Ok(Event {
        id: row.try_get("event_id")?,
        source: row.try_get("source")?,
        event_type: row.try_get("type")?,
        subject: row.try_get("subject")?,
        time: time(row.try_get("time")?),
        datacontenttype: row.try_get("datacontenttype")?,
        data: row.try_get::<_, Option<Vec<u8>>>("data")?.map(Bytes::from),
        tenant: row.try_get("tenant")?,
        extensions,
    })
}

/// Takes events out of the way of others until the transaction ends; returns those that are there. Who makes deliveries of
/// them shares them, who removes them has them alone.
pub(super) async fn hold(
    transaction: &Transaction<'_>,
    seqs: &[i64],
    alone: bool,
) -> Result<BTreeSet<i64>, StoreError> {
    let strength = if alone { "FOR UPDATE" } else { "FOR KEY SHARE" };
    let sql = format!("SELECT seq FROM events WHERE seq = ANY($1) ORDER BY seq {strength}");
    let held = rows(transaction, &sql, &[&seqs]).await?;
    Ok(held.iter().map(|row| row.get(0)).collect())
}
