//! `/v1/replays`: past events delivered to a late joiner, and failed deliveries tried again; with progress.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::{Extension, State};
use axum::http::header::LOCATION;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Api;
use super::access::Caller;
use super::error::Problem;
use super::request::{Id, Params, cut, idempotency, object, page_limit, read_body, timestamp, word};
use super::subscription::patterns;
use super::subscriptions;
use crate::clock::random_id_bytes;
use crate::limits;
use crate::members::{Fault, Members};
use crate::model::{
    DeliveryStatus, Replay, ReplayId, ReplayKind, ReplayRange, ReplayStatus, SubscriptionId,
    SubscriptionStatus,
};
use crate::store::{Note, ReplayQuery, StoreError};

/// A replay as the API shows it.
#[derive(Debug, Serialize)]
pub(super) struct Representation {
    id: ReplayId,
    kind: ReplayKind,
    /// `null`: of every subscription.
    subscription: Option<SubscriptionId>,
    #[serde(flatten)]
    range: ReplayRange,
    state: ReplayStatus,
    progress: Progress,
    created_at: String,
    ended_at: Option<String>,
}

/// How far a replay has come.
#[derive(Debug, Serialize)]
struct Progress {
    /// Events looked at; for a tenant, hundredths of the way.
    looked_at: i64,
    /// Events to look at in all.
    total: i64,
    /// Deliveries made, or begun anew.
    made: u64,
}

/// `POST /v1/subscriptions/{id}/replay`: delivers past events that the subscription wants and has not had.
pub(super) async fn replay(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Caller>,
    Id(id): Id,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    for_one(&api, &caller, id, &headers, body, ReplayKind::Replay).await
}

/// `POST /v1/subscriptions/{id}/recover`: tries the subscription's failed deliveries again.
pub(super) async fn recover_one(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Caller>,
    Id(id): Id,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    for_one(&api, &caller, id, &headers, body, ReplayKind::Recover).await
}

async fn for_one(
    api: &Api,
    caller: &Caller,
    id: String,
    headers: &HeaderMap,
    body: Body,
    kind: ReplayKind,
) -> Result<Response, Problem> {
    let body = read_body(headers, body, limits::API_BODY).await?;
    let members = Members::new("", whole(&body)?);
    let subscription = wanted(api, caller, id).await?;
    create(api, caller, headers, &body, (kind, Some(subscription)), members).await
}

/// `POST /v1/deliveries/redeliver`: tries all failed deliveries again that fit the query.
pub(super) async fn recover_many(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let body = read_body(&headers, body, limits::API_BODY).await?;
    let mut members = Members::new("", whole(&body)?);
    let subscription = members.text("subscription", limits::SHORT_TEXT).map(SubscriptionId);
    create(&api, &caller, &headers, &body, (ReplayKind::Recover, subscription), members).await
}

/// A body that may be empty, which asks for all.
fn whole(body: &Bytes) -> Result<serde_json::Map<String, Value>, Problem> {
    if body.is_empty() { Ok(serde_json::Map::new()) } else { object(body) }
}

/// The subscription of this id, which must be there and on.
async fn wanted(api: &Api, caller: &Caller, id: String) -> Result<SubscriptionId, Problem> {
    let id = SubscriptionId(id);
    let entry = api.entry(caller, &id).await?;
    if caller.tenant().is_some() {
        let (tenant, status) = (caller.tenant().map(str::to_owned), Some(ReplayStatus::Running));
        let limit = limits::TENANT_REPLAYS;
        let query = ReplayQuery { tenant, status, limit, ..ReplayQuery::default() };
        if api.store.replays(query).await?.len() == limit {
            let detail = format!("{limit} replays are running already, which is all that are allowed");
            return Err(Problem::new(StatusCode::CONFLICT, detail));
        }
    }
    match entry.subscription.status {
        SubscriptionStatus::On => Ok(id),
        SubscriptionStatus::Off => {
            Err(Problem::new(StatusCode::CONFLICT, "the subscription is off; turn it on first"))
        }
    }
}

async fn create(
    api: &Api,
    caller: &Caller,
    headers: &HeaderMap,
    body: &Bytes,
    (kind, subscription): (ReplayKind, Option<SubscriptionId>),
    members: Members,
) -> Result<Response, Problem> {
    let range = range(kind, members)?;
    let now = api.clock.now();
    let id = ReplayId::new(now, random_id_bytes());
    let route = subscription.as_ref().map_or("/v1/deliveries", SubscriptionId::as_str);
    let note = Note {
        audit: Some(caller.audit(
            &format!("{}.create", kind.word()),
            id.as_str(),
            Some(format!("\"{route}\"")),
            now,
        )),
        idempotency: idempotency(
            headers,
            caller,
            &format!("{route} {}", kind.word()),
            body,
            id.as_str(),
            now,
        )?,
        news: Vec::new(),
    };
    let replay = Replay {
        id,
        kind,
        subscription,
        range,
        status: ReplayStatus::Running,
        first: 0,
        position: 0,
        last: 0,
        made: 0,
        created_at: now,
        ended_at: None,
    };
    let replay = match api.store.create_replay(replay, note).await {
        Err(StoreError::Repeated { resource, same: true }) => api.store.replay(&ReplayId(resource)).await?,
        other => other?,
    };
    api.replays.notify_one();
    let location = format!("{}/replays/{}", caller.base(), replay.id);
    Ok((StatusCode::ACCEPTED, [(LOCATION, location)], Json(representation(caller, replay))).into_response())
}

fn range(kind: ReplayKind, mut members: Members) -> Result<ReplayRange, Vec<Fault>> {
    let range = ReplayRange {
        since: members.read("since", timestamp),
        until: members.read("until", timestamp),
        events: events(&mut members),
        subject: members.text("subject", limits::EVENT_URI),
        status: match kind {
            ReplayKind::Replay => None,
            ReplayKind::Recover => members.read("status", |text| match DeliveryStatus::of(text) {
                Some(status @ (DeliveryStatus::Exhausted | DeliveryStatus::Cancelled)) => Ok(status),
                _ => Err("must be one of exhausted, cancelled"),
            }),
        },
        rate: members.read("rate", |text| text.parse::<crate::rate::Rate>().map(|rate| rate.to_string())),
    };
    if let (Some(since), Some(until)) = (range.since, range.until)
        && since >= until
    {
        members.fault("until", "must be later than `since`");
    }
    members.finish("a replay")?;
    Ok(range)
}

fn events(members: &mut Members) -> Vec<String> {
    match members.take("events") {
        None => Vec::new(),
        Some(Value::Array(entries)) => patterns(members, &entries),
        Some(_) => {
            members.fault("events", "must be a list of event types, such as [\"contact.*\"]");
            Vec::new()
        }
    }
}

/// Parameters of the list.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ListParams {
    subscription: Option<String>,
    state: Option<String>,
    limit: Option<usize>,
    cursor: Option<String>,
}

/// A page of the list.
#[derive(Debug, Serialize)]
pub(super) struct Page {
    data: Vec<Representation>,
    next_cursor: Option<String>,
}

/// A page of replays, newest first.
pub(super) async fn list(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Caller>,
    Params(params): Params<ListParams>,
) -> Result<Json<Page>, Problem> {
    let limit = page_limit(params.limit)?;
    let query = ReplayQuery {
        subscription: params.subscription,
        status: word("state", params.state.as_deref(), ReplayStatus::of, ReplayStatus::WORDS)?,
        tenant: caller.tenant().map(str::to_owned),
        before: params.cursor,
        limit: limit + 1,
    };
    let mut replays = api.store.replays(query).await?;
    let next_cursor = cut(&mut replays, limit, |replay| replay.id.0.clone());
    let data = replays.into_iter().map(|replay| representation(&caller, replay)).collect();
    Ok(Json(Page { data, next_cursor }))
}

/// One replay.
pub(super) async fn read(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Caller>,
    Id(id): Id,
) -> Result<Json<Representation>, Problem> {
    Ok(Json(representation(&caller, find(&api, &caller, id).await?)))
}

/// A replay that the caller may see: of one of its subscriptions.
async fn find(api: &Api, caller: &Caller, id: String) -> Result<Replay, Problem> {
    let replay = api.store.replay(&ReplayId(id)).await.map_err(named)?;
    if caller.tenant().is_some() {
        let of = replay.subscription.clone().ok_or_else(|| named(StoreError::NotFound))?;
        subscriptions::find_owner(api, caller, of, "replay").await?;
    }
    Ok(replay)
}

/// Ends a replay; the deliveries that it has made stay.
pub(super) async fn cancel(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Caller>,
    Id(id): Id,
) -> Result<Json<Representation>, Problem> {
    find(&api, &caller, id.clone()).await?;
    let now = api.clock.now();
    let note = Note { audit: Some(caller.audit("replay.cancel", &id, None, now)), ..Note::default() };
    let replay = api.store.cancel_replay(ReplayId(id), note, now).await.map_err(named)?;
    Ok(Json(representation(&caller, replay)))
}

fn named(error: StoreError) -> Problem {
    match error {
        StoreError::NotFound => Problem::not_found("replay"),
        other => other.into(),
    }
}

fn representation(caller: &Caller, replay: Replay) -> Representation {
    let looked_at = (replay.position - replay.first + 1).max(0);
    let total = (replay.last - replay.first + 1).max(0);
    // A tenant is not told how many events others have: hundredths of the way.
    let (looked_at, total) = match caller.tenant() {
        None => (looked_at, total),
        Some(_) => (looked_at.saturating_mul(100) / total.max(1), 100),
    };
    let progress = Progress { looked_at, total, made: replay.made };
    Representation {
        id: replay.id,
        kind: replay.kind,
        subscription: replay.subscription,
        range: replay.range,
        state: replay.status,
        progress,
        created_at: replay.created_at.to_string(),
        ended_at: replay.ended_at.map(|at| at.to_string()),
    }
}
