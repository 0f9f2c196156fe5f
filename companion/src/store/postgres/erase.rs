//! Erasing what belongs to a subject or a tenant, in PostgreSQL.
//!
//! Neither has an index: every event would pay for what is asked once in a while. So an erasure walks the events in the
//! order of acceptance: looks at a window, and removes what it found in a transaction.
//!
//! PostgreSQL only marks deleted rows as dead. `VACUUM`, which [`vacuum`] runs, takes them out of tables and indexes; the
//! bytes in a page's free room stay until others are written over them. The write-ahead log has the rows as they were
//! written until its segments are used again or removed, and so have archives of it, backups and replicas that lag: how
//! long those are kept is the operator's to settle.

use std::collections::BTreeSet;

use deadpool_postgres::{GenericClient, Object, Transaction};
use jiff::Timestamp;
use serde::Deserialize;

use super::order::{self, WAITING};
use super::transaction::{execute, rows};
use super::{audit, catalogue, events, micros, nul, prune, rows_of, statistics, subscriptions};
use crate::limits;
use crate::model::{ReplayRange, SubscriptionId};
use crate::store::{Erased, Erasure, Note, StoreError, Traces};

/// Columns that say whether an event is to be erased, for [`matches`]; `e` is the table's name in the query. Data of others
/// than our own events is not read.
const MATCHED: &str = "e.seq, e.tenant, e.subject, \
                       CASE WHEN e.type = 'gatehook.delivery.exhausted' THEN e.data END AS told";

/// Tables that what was erased stood in.
const TABLES: [&str; 7] =
    ["attempts", "deliveries", "event_types", "events", "replays", "statistics", "subscriptions"];

/// Matching events that a window has, and where to look next.
#[derive(Debug, Default)]
pub(super) struct Window {
    events: Vec<i64>,
    next: Option<i64>,
}

/// Whether an event is to be erased. One of ours that tells of an exhausted delivery repeats the subject of what was to be
/// delivered.
fn matches(what: &Erasure, row: &tokio_postgres::Row) -> bool {
    match what {
        Erasure::Tenant(tenant) => row.get::<_, Option<&str>>("tenant") == Some(tenant),
        Erasure::Subject(subject) => {
            let told = row.get::<_, Option<&[u8]>>("told").and_then(subject_told);
            row.get::<_, Option<&str>>("subject").is_some_and(|own| is_within(own, subject))
                || told.is_some_and(|told| is_within(&told, subject))
        }
    }
}

/// Whether a subject is this one, or below it.
fn is_within(own: &str, subject: &str) -> bool {
    own.strip_prefix(subject).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// The subject that an event of ours tells of.
fn subject_told(data: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Told {
        event: Event,
    }
    #[derive(Deserialize)]
    struct Event {
        subject: String,
    }
    serde_json::from_slice(data).ok().map(|told: Told| told.event.subject)
}

pub(super) async fn begin(
    transaction: &Transaction<'_>,
    what: &Erasure,
    note: &Note,
) -> Result<i64, StoreError> {
    events::lock_places(transaction).await?;
    order::lock(transaction, order::lanes_of(&note.news)).await?;
    if let Erasure::Subject(subject) = what {
        let named = |row: &&tokio_postgres::Row| {
            let range: Result<ReplayRange, _> = serde_json::from_str(row.get("range"));
            range.is_ok_and(|range| range.subject.is_some_and(|own| is_within(&own, subject)))
        };
        let replays = rows(transaction, "SELECT id, range FROM replays", &[]).await?;
        let ids: Vec<&str> = replays.iter().filter(named).map(|row| row.get("id")).collect();
        execute(transaction, "DELETE FROM replays WHERE id = ANY($1)", &[&ids]).await?;
    }
    forget_learnt(transaction, what).await?;
    if let Erasure::Tenant(tenant) = what {
        forget_traces(transaction, tenant).await?;
    }
    audit::note(transaction, note, audit::at(note)).await?;
    Ok(events::lock_places(transaction).await?.last_event)
}

/// Takes a tenant's name out of what it leaves beside its events: the audit log, keys of its requests, counts of charts.
async fn forget_traces(transaction: &Transaction<'_>, tenant: &str) -> Result<(), StoreError> {
    let Traces { actor, detail, keys, owner } = Traces::of(tenant);
    let (actor, detail, keys) = (nul::escaped(&actor), nul::escaped(&detail), nul::escaped(&keys));
    execute(transaction, "UPDATE audit SET actor = 'tenant' WHERE actor = $1", &[&actor]).await?;
    let links = "UPDATE audit SET detail = NULL WHERE action = 'portal-link.create' AND detail = $1";
    execute(transaction, links, &[&detail]).await?;
    execute(transaction, "DELETE FROM idempotency WHERE starts_with(key, $1)", &[&keys]).await?;
    execute(transaction, "DELETE FROM statistics WHERE owner = $1", &[&owner]).await?;
    Ok(())
}

/// Looks at the next events, up to [`limits::ERASE_WINDOW`], until `limit` of them or [`limits::ERASE_BYTES`] match.
pub(super) async fn look(
    client: &impl GenericClient,
    what: &Erasure,
    (after, until): (i64, i64),
    limit: usize,
) -> Result<Window, StoreError> {
    let sql = format!(
        "SELECT {MATCHED}, COALESCE(octet_length(e.data), 0)::bigint + COALESCE(octet_length(e.extensions), 0) AS size \
         FROM events e WHERE e.seq > $1 AND e.seq <= $2 ORDER BY e.seq LIMIT $3"
    );
    let found = rows(client, &sql, &[&after, &until, &rows_of(limits::ERASE_WINDOW)]).await?;
    let (mut window, mut bytes) = (Window::default(), 0);
    for (index, row) in found.iter().enumerate() {
        let seq = row.get("seq");
        if matches(what, row) {
            window.events.push(seq);
            bytes += row.get::<_, i64>("size").unsigned_abs();
        }
        let is_full = window.events.len() == limit || bytes >= limits::ERASE_BYTES;
        if is_full || index + 1 == limits::ERASE_WINDOW {
            window.next = Some(seq);
            break;
        }
    }
    Ok(window)
}

/// Removes the events of a window with their deliveries, of these no more than `limit`.
pub(super) async fn erase(
    transaction: &Transaction<'_>,
    what: &Erasure,
    until: i64,
    window: &Window,
    limit: usize,
    now: Timestamp,
) -> Result<Erased, StoreError> {
    let limit = limit.max(1);
    let (mut seqs, mut next) = (window.events.clone(), window.next);
    events::hold(transaction, &seqs, true).await?;
    // Of those that have ended too: until the lanes are locked a redelivery may make one pending.
    let sought = "SELECT key, event_seq, lane FROM deliveries WHERE event_seq = ANY($1) \
                  ORDER BY event_seq, key LIMIT $2";
    let found = rows(transaction, sought, &[&seqs, &rows_of(limit)]).await?;
    if found.len() == limit
        && let Some(last) = found.last()
    {
        // There may be more of this event; the next chunk begins with it.
        let last: i64 = last.get("event_seq");
        seqs.retain(|seq| *seq < last);
        next = Some(last - 1);
    }
    let lanes: BTreeSet<i64> = found.iter().filter_map(|row| row.get("lane")).collect();
    order::lock(transaction, lanes.iter().copied()).await?;
    let keys: Vec<i64> = found.iter().map(|row| row.get("key")).collect();
    let (deliveries, attempts) = prune::remove(transaction, &keys, "TRUE").await?;
    let events = execute(transaction, "DELETE FROM events WHERE seq = ANY($1)", &[&seqs]).await?;
    let released = release(transaction, what, until, &lanes, now).await?;
    // What was learnt since the beginning rests on events that were still there.
    if next.is_none() {
        forget_learnt(transaction, what).await?;
    }
    Ok(Erased { events, deliveries, attempts, released, next })
}

/// Forgets what the catalogue has learnt of a tenant's events. Of a subject it keeps nothing.
async fn forget_learnt(transaction: &Transaction<'_>, what: &Erasure) -> Result<(), StoreError> {
    if let Erasure::Tenant(tenant) = what {
        catalogue::forget(transaction, "tenant", tenant).await?;
    }
    Ok(())
}

/// Makes the next delivery of each lane due where nothing of it is under way or due any more, unless it is about to be
/// erased itself; returns whose they are.
async fn release(
    transaction: &Transaction<'_>,
    what: &Erasure,
    until: i64,
    lanes: &BTreeSet<i64>,
    now: Timestamp,
) -> Result<Vec<SubscriptionId>, StoreError> {
    if lanes.is_empty() {
        return Ok(Vec::new());
    }
    let lanes: Vec<i64> = lanes.iter().copied().collect();
    let sql = format!(
        "SELECT head.key, head.subscription_id, {MATCHED} FROM ({}) head JOIN events e ON e.seq = head.event_seq",
        order::HEADS
    );
    let heads = rows(transaction, &sql, &[&lanes, &WAITING]).await?;
    let stay = |row: &&tokio_postgres::Row| row.get::<_, i64>("seq") > until || !matches(what, row);
    let heads: Vec<_> = heads.iter().filter(stay).collect();
    let keys: Vec<i64> = heads.iter().map(|row| row.get("key")).collect();
    order::wake_these(transaction, &keys, micros(now)).await?;
    let released: BTreeSet<SubscriptionId> =
        heads.iter().map(|row| SubscriptionId(row.get("subscription_id"))).collect();
    Ok(released.into_iter().collect())
}

/// Removes up to `limit` deliveries of a subscription, and itself after the last.
pub(super) async fn subscription(
    transaction: &Transaction<'_>,
    id: &SubscriptionId,
    limit: usize,
) -> Result<Erased, StoreError> {
    // Nobody accepts a delivery for it between the last one's removal and its own.
    events::lock_places(transaction).await?;
    let sought = "SELECT key FROM deliveries WHERE subscription_id = $1 ORDER BY key LIMIT $2";
    let found = rows(transaction, sought, &[&id.as_str(), &rows_of(limit)]).await?;
    let keys: Vec<i64> = found.iter().map(|row| row.get(0)).collect();
    let (deliveries, attempts) = prune::remove(transaction, &keys, "TRUE").await?;
    let erased = Erased { deliveries, attempts, ..Erased::default() };
    if keys.len() >= limit {
        return Ok(Erased { next: Some(0), ..erased });
    }
    if statistics::forget(transaction, id.as_str(), limit).await? >= limit {
        return Ok(Erased { next: Some(0), ..erased });
    }
    execute(transaction, "DELETE FROM replays WHERE subscription_id = $1", &[&id.as_str()]).await?;
    subscriptions::delete(transaction, id).await?;
    // What was counted until it went; from now on nothing is.
    statistics::forget(transaction, id.as_str(), usize::MAX).await?;
    Ok(erased)
}

/// Takes dead rows out of the tables and their indexes. Runs beside readers and writers; one that began before the erasure
/// and still runs keeps dead rows, which autovacuum takes out later.
pub(super) async fn vacuum(connection: &Object) -> Result<(), StoreError> {
    connection.batch_execute("SET statement_timeout TO 0").await?;
    let mut result = Ok(());
    for table in TABLES {
        result = connection.batch_execute(&format!("VACUUM {table}")).await;
        if result.is_err() {
            break;
        }
    }
    connection.batch_execute("SET statement_timeout TO '30s'").await?;
    Ok(result?)
}
