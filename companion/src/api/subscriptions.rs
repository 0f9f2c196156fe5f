//! `/v1/subscriptions`: the REST Hooks resource.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::{Extension, State};
use axum::http::header::{CONTENT_TYPE, ETAG, LOCATION};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Api;
use super::access::Caller;
use super::deliveries::attempt;
use super::error::Problem;
use super::request::{Id, Params, check_match, cut, etag, idempotency, page_limit, read_body, word};
use super::subscription::{self, Fields, Representation, representation, rotated, with_secret};
use crate::clock::random_id_bytes;
use crate::handshake::{self, Question};
use crate::limits;
use crate::members::Fault;
use crate::model::{
    Attempt, DeliveryId, Event, Handshake, Outcome, Subscription, SubscriptionId, SubscriptionStatus,
};
use crate::parcel::parcel;
use crate::rate::Rate;
use crate::retry::{Planned, later};
use crate::sender::Access;
use crate::store::{Note, StoreError, SubscriptionQuery};

/// Bytes of a signing key that we make (Standard Webhooks: 24 to 64).
const KEY_BYTES: usize = 32;

/// Makes a subscription; the answer alone bears its secret.
pub(super) async fn create(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let body = read_body(&headers, body, limits::API_BODY).await?;
    let now = api.clock.now();
    let fields = subscription::read(&body, now)?.of(&caller)?;
    vet(&api, &caller, &fields).await?;
    let mut subscription = fields.create(SubscriptionId::new(now, random_id_bytes()), new_key()?, now);
    shake_hands(&api, &caller, &mut subscription).await?;
    let id = subscription.id.as_str();
    let note = Note {
        audit: Some(caller.audit("subscription.create", id, None, now)),
        idempotency: idempotency(&headers, &caller, "/v1/subscriptions", &body, id, now)?,
        news: Vec::new(),
    };
    let change = api.directory.change(&subscription.id).await;
    let most = caller.tenant().map_or(usize::MAX, |_| api.tenants.subscriptions);
    match api.store.create_subscription_within(most, subscription.clone(), note).await {
        Err(StoreError::Repeated { resource, same: true }) => {
            // Nobody may have heard of the first time, so that it is not known here yet.
            let known = find(&api, &caller, resource).await?;
            api.directory.put(known.clone());
            change.give_up();
            return Ok(made(&caller, &known));
        }
        Err(StoreError::Full) => {
            let detail = format!("there are {most} subscriptions already, which is all that are allowed");
            return Err(Problem::new(StatusCode::CONFLICT, detail));
        }
        other => other?,
    }
    let answer = made(&caller, &subscription);
    change.put(subscription);
    Ok(answer)
}

fn made(caller: &Caller, subscription: &Subscription) -> Response {
    let location = format!("{}/subscriptions/{}", caller.base(), subscription.id);
    let headers = [(LOCATION, location), (ETAG, etag(subscription.revision))];
    (StatusCode::CREATED, headers, Json(with_secret(subscription))).into_response()
}

/// A subscription with its entity tag.
fn shown(subscription: &Subscription) -> Response {
    ([(ETAG, etag(subscription.revision))], Json(representation(subscription))).into_response()
}

/// Parameters of the list.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ListParams {
    tenant: Option<String>,
    status: Option<String>,
    limit: Option<usize>,
    cursor: Option<String>,
}

/// A page of the list.
#[derive(Debug, Serialize)]
struct Page<'a> {
    data: Vec<Representation<'a>>,
    next_cursor: Option<String>,
}

/// A page of subscriptions, oldest first.
pub(super) async fn list(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Caller>,
    Params(params): Params<ListParams>,
) -> Result<Response, Problem> {
    let limit = page_limit(params.limit)?;
    if params.tenant.as_deref().is_some_and(|tenant| !caller.sees(Some(tenant))) {
        return Err(Problem::malformed("tenant", "must be your own, or absent"));
    }
    let query = SubscriptionQuery {
        tenant: caller.tenant().map(str::to_owned).or(params.tenant),
        status: word("status", params.status.as_deref(), SubscriptionStatus::of, SubscriptionStatus::WORDS)?,
        after: params.cursor,
        limit: limit + 1,
    };
    let mut subscriptions = api.store.subscriptions(query).await?;
    let next_cursor = cut(&mut subscriptions, limit, |last| last.id.0.clone());
    let data = subscriptions.iter().map(representation).collect();
    Ok(Json(Page { data, next_cursor }).into_response())
}

/// One subscription.
pub(super) async fn read(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Caller>,
    Id(id): Id,
) -> Result<Response, Problem> {
    Ok(shown(&find(&api, &caller, id).await?))
}

/// Replaces what is the caller's to write; the secret stays where none is given.
pub(super) async fn replace(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Caller>,
    Id(id): Id,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let body = read_body(&headers, body, limits::API_BODY).await?;
    let current = find(&api, &caller, id).await?;
    let fields = subscription::replaced(&current, &body, api.clock.now())?.of(&caller)?;
    check_match(&headers, current.revision)?;
    change(&api, &caller, &current, fields).await
}

/// Changes what a merge patch names.
pub(super) async fn patch(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Caller>,
    Id(id): Id,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let media_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if !matches!(
        media_type.split(';').next().map(str::trim),
        Some("application/merge-patch+json" | "application/json")
    ) {
        return Err(Problem::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "a subscription is changed by a JSON merge patch",
        )
        .with("content-type", "must be application/merge-patch+json or application/json"));
    }
    let patch = read_body(&headers, body, limits::API_BODY).await?;
    let current = find(&api, &caller, id).await?;
    let fields = subscription::patched(&current, &patch, api.clock.now())?.of(&caller)?;
    check_match(&headers, current.revision)?;
    change(&api, &caller, &current, fields).await
}

/// Removes a subscription; its pending deliveries are cancelled, its past ones stay.
pub(super) async fn delete(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Caller>,
    Id(id): Id,
    headers: HeaderMap,
) -> Result<StatusCode, Problem> {
    let audit = Some(caller.audit("subscription.delete", &id, None, api.clock.now()));
    let id = SubscriptionId(id);
    let change = api.directory.change(&id).await;
    check_match(&headers, find(&api, &caller, id.0.clone()).await?.revision)?;
    let note = Note { audit, ..Note::default() };
    api.store.delete_subscription(id.clone(), note).await.map_err(named)?;
    change.remove();
    api.board.wake([id]);
    Ok(StatusCode::NO_CONTENT)
}

/// Makes a new secret; the old one signs too until its overlap ends.
pub(super) async fn rotate_secret(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Caller>,
    Id(id): Id,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let body = read_body(&headers, body, limits::API_BODY).await?;
    let (key, overlap) = subscription::rotation(&body)?;
    let current = find(&api, &caller, id).await?;
    check_match(&headers, current.revision)?;
    let now = api.clock.now();
    let key = key.map_or_else(new_key, Ok)?;
    let overlap_ends_at = later(now, overlap);
    let next = rotated(&current, key, now, overlap_ends_at);
    let audit = Some(caller.audit("subscription.rotate-secret", next.id.as_str(), None, now));
    write(&api, next.clone(), Note { audit, ..Note::default() }).await?;
    let mut answer = with_secret(&next);
    answer.previous_secret_expires_at = Some(overlap_ends_at).filter(|at| *at > now);
    Ok(([(ETAG, etag(next.revision))], Json(answer)).into_response())
}

/// Parameters of the preview.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PreviewParams {
    status: Option<u16>,
    retry_after: Option<u64>,
}

/// When the attempts of a delivery made now would run.
#[derive(Debug, Serialize)]
pub(super) struct Preview {
    attempts: Vec<Planned>,
}

/// When the attempts of a delivery made now would run, were the receiver to answer each with `status` (500) and
/// `retry-after` (none).
pub(super) async fn retry_preview(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Caller>,
    Id(id): Id,
    Params(params): Params<PreviewParams>,
) -> Result<Json<Preview>, Problem> {
    let status = params.status.unwrap_or(500);
    if !(200..=599).contains(&status) {
        return Err(Problem::malformed("status", "must be an HTTP status from 200 to 599"));
    }
    let entry = api.entry(&caller, &SubscriptionId(id)).await?;
    let outcome = Outcome::Answered { status, retry_after_s: params.retry_after, instruction: None };
    Ok(Json(Preview { attempts: entry.retry.preview(&outcome, api.clock.now()) }))
}

/// Sends a `gatehook.ping` at once, whatever the status, and answers with how it went. Nothing is stored or retried.
pub(super) async fn ping(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Caller>,
    Id(id): Id,
) -> Result<Json<Value>, Problem> {
    find(&api, &caller, id.clone()).await?;
    let entry = api.entry(&caller, &SubscriptionId(id)).await?;
    let now = api.clock.now();
    api.tenants.admit_call(&caller, now)?;
    let id = DeliveryId::new(now, random_id_bytes());
    let event = ping_event(&id, now);
    let begun = tokio::time::Instant::now();
    let (outcome, answer) = match parcel(&entry, &event, &id, None, &api.keys.all(), now) {
        Err(blocked) => (Outcome::Blocked(blocked), Default::default()),
        Ok(parcel) => api.sender.send(parcel, now).await,
    };
    let duration_ms = i64::try_from(begun.elapsed().as_millis()).unwrap_or(i64::MAX);
    Ok(Json(attempt(&Attempt { number: 1, started_at: now, duration_ms, outcome, answer })))
}

fn ping_event(id: &DeliveryId, now: Timestamp) -> Event {
    Event {
        id: id.0.clone(),
        source: "gatehook".into(),
        event_type: "gatehook.ping".into(),
        subject: None,
        time: now,
        datacontenttype: None,
        data: Some(bytes::Bytes::from_static(b"{}")),
        tenant: None,
        extensions: Default::default(),
    }
}

/// A subscription that the caller may see; another one is none.
pub(super) async fn find(api: &Api, caller: &Caller, id: String) -> Result<Subscription, Problem> {
    let found = api.store.subscription(&SubscriptionId(id)).await.map_err(named)?;
    if caller.sees(found.tenant.as_deref()) { Ok(found) } else { Err(named(StoreError::NotFound)) }
}

/// Whether the caller may see what belongs to a subscription; where not, there is no such thing.
pub(super) async fn find_owner(
    api: &Api,
    caller: &Caller,
    id: SubscriptionId,
    what: &str,
) -> Result<(), Problem> {
    match api.store.subscription(&id).await {
        Ok(found) if caller.sees(found.tenant.as_deref()) => Ok(()),
        Ok(_) | Err(StoreError::NotFound) => Err(Problem::not_found(what)),
        Err(other) => Err(other.into()),
    }
}

fn named(error: StoreError) -> Problem {
    match error {
        StoreError::NotFound => Problem::not_found("subscription"),
        other => other.into(),
    }
}

/// Looks up where a subscription's requests would go; that too is a call that others have to answer.
async fn vet(api: &Api, caller: &Caller, fields: &Fields) -> Result<(), Problem> {
    api.tenants.admit_call(caller, api.clock.now())?;
    let guard = api.directory.guard().of(fields.is_of_tenant());
    let vetted = guard.vet(&fields.target_url).await;
    vetted.map_err(|blocked| Problem::fields(vec![Fault::new("/target_url", blocked.to_string())]))?;
    if let Some(token_url) = fields.credentials.token_url() {
        let vetted = guard.vet(token_url).await;
        vetted
            .map_err(|blocked| Problem::fields(vec![Fault::new("/auth/token_url", blocked.to_string())]))?;
    }
    Ok(())
}

/// Asks the receiver of a subscription that is on whether it wants deliveries; takes over the rate that it allows where that
/// is less than the subscription's own.
async fn shake_hands(api: &Api, caller: &Caller, subscription: &mut Subscription) -> Result<(), Problem> {
    let options = &subscription.options;
    if subscription.status == SubscriptionStatus::Off || options.handshake == Handshake::None {
        return Ok(());
    }
    api.tenants.admit_call(caller, api.clock.now())?;
    let fault = |detail: String| Problem::fields(vec![Fault::new("/target_url", detail)]);
    let mut random = [0; 24];
    getrandom::fill(&mut random).map_err(|_| Problem::busy("no secret can be made at the moment"))?;
    let rate = options.rate_limit.as_deref().and_then(|rate| rate.parse::<Rate>().ok());
    let question = Question {
        handshake: options.handshake,
        target: api.directory.target(subscription).map_err(|blocked| fault(blocked.to_string()))?,
        origin: &api.origin,
        rate,
        headers: subscription.credentials.headers(),
        access: Access::of(&subscription.id, subscription.revision, &subscription.credentials),
        of_tenant: subscription.tenant.is_some(),
        random,
    };
    let granted = handshake::shake(&api.sender, question, api.clock.now()).await.map_err(fault)?;
    let is_less = |granted: &Rate| rate.is_none_or(|own| granted.per_second() < own.per_second());
    if let Some(granted) = granted.filter(is_less) {
        subscription.options.rate_limit = Some(granted.to_string());
    }
    Ok(())
}

async fn change(
    api: &Api,
    caller: &Caller,
    current: &Subscription,
    fields: Fields,
) -> Result<Response, Problem> {
    let is_moved = fields.is_of_tenant() && current.tenant.is_none();
    if is_moved || fields.target_url != current.target_url || fields.credentials != current.credentials {
        vet(api, caller, &fields).await?;
    }
    let now = api.clock.now();
    let mut next = fields.change(current, now);
    let asked_before = next.target_url == current.target_url
        && next.options.handshake == current.options.handshake
        && next.status == current.status;
    if !asked_before {
        shake_hands(api, caller, &mut next).await?;
    }
    let audit = caller.audit("subscription.update", next.id.as_str(), changed(current, &next), now);
    let news = match next.status == current.status {
        true => Vec::new(),
        false => api.directory.news(&next, now),
    };
    let answer = shown(&next);
    write(api, next, Note { audit: Some(audit), news, idempotency: None }).await?;
    Ok(answer)
}

/// The names of the fields that differ, as JSON; their values may be secret.
fn changed(current: &Subscription, next: &Subscription) -> Option<String> {
    let value = |subscription| serde_json::to_value(representation(subscription)).unwrap_or_default();
    let (old, new) = (value(current), value(next));
    let names = new.as_object()?.iter().filter(|(name, value)| old.get(*name) != Some(value));
    let mut names: Vec<_> =
        names.map(|(name, _)| name.as_str()).filter(|name| *name != "updated_at").collect();
    if current.secrets != next.secrets {
        names.push("secret");
    }
    if current.credentials != next.credentials {
        names.push("credentials");
    }
    Some(Value::from(names).to_string())
}

/// Writes a new revision to the store, then to the directory, and has the worker look at it.
async fn write(api: &Api, next: Subscription, note: Note) -> Result<(), Problem> {
    let change = api.directory.change(&next.id).await;
    let wanted_by = note.wanted_by();
    api.store.update_subscription(next.clone(), note).await.map_err(named)?;
    let id = next.id.clone();
    change.put(next);
    api.board.wake(wanted_by.into_iter().chain([id]));
    Ok(())
}

fn new_key() -> Result<Vec<u8>, Problem> {
    let mut key = vec![0; KEY_BYTES];
    getrandom::fill(&mut key).map_err(|error| {
        tracing::error!(%error, "no randomness for a secret");
        Problem::busy("no secret can be made at the moment")
    })?;
    Ok(key)
}
