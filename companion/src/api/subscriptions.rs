//! `/v1/subscriptions`: the REST Hooks resource.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::header::{CONTENT_TYPE, LOCATION};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Value, json};

use super::deliveries::attempt;
use super::error::{FieldError, Problem};
use super::subscription::{Fields, patched, read as read_fields, representation, rotated, with_secret};
use super::{Api, Params, page_limit, read_body, word};
use crate::clock::random_id_bytes;
use crate::limits;
use crate::model::{Attempt, DeliveryId, Event, Outcome, Subscription, SubscriptionId, SubscriptionStatus};
use crate::payload;
use crate::retry::later;
use crate::sender::Parcel;
use crate::signature;
use crate::store::{StoreError, SubscriptionQuery};

/// Bytes of a signing key that we make (Standard Webhooks: 24 to 64).
const KEY_BYTES: usize = 32;

/// Makes a subscription; the answer alone bears its secret.
pub(super) async fn create(
    State(api): State<Arc<Api>>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let fields = read_fields(&read_body(&headers, body, limits::API_BODY).await?)?;
    vet(&api, &fields).await?;
    let now = api.clock.now();
    let subscription = fields.create(SubscriptionId::new(now, random_id_bytes()), new_key()?, now);
    let _change = api.directory.change().await;
    api.store.create_subscription(subscription.clone()).await?;
    let location = format!("/v1/subscriptions/{}", subscription.id);
    let answer = with_secret(&subscription);
    api.directory.put(subscription);
    Ok((StatusCode::CREATED, [(LOCATION, location)], Json(answer)).into_response())
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

/// A page of subscriptions, oldest first.
pub(super) async fn list(
    State(api): State<Arc<Api>>,
    Params(params): Params<ListParams>,
) -> Result<Json<Value>, Problem> {
    let limit = page_limit(params.limit)?;
    let query = SubscriptionQuery {
        tenant: params.tenant,
        status: word("status", params.status.as_deref(), SubscriptionStatus::of, SubscriptionStatus::WORDS)?,
        after: params.cursor,
        limit: limit + 1,
    };
    let mut subscriptions = api.store.subscriptions(query).await?;
    let more = subscriptions.len() > limit;
    subscriptions.truncate(limit);
    let next_cursor = subscriptions.last().filter(|_| more).map(|last| last.id.clone());
    let data: Vec<Value> = subscriptions.iter().map(representation).collect();
    Ok(Json(json!({ "data": data, "next_cursor": next_cursor })))
}

/// One subscription.
pub(super) async fn read(
    State(api): State<Arc<Api>>,
    Path(id): Path<String>,
) -> Result<Json<Value>, Problem> {
    Ok(Json(representation(&find(&api, id).await?)))
}

/// Replaces what is the caller's to write; the secret stays where none is given.
pub(super) async fn replace(
    State(api): State<Arc<Api>>,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Value>, Problem> {
    let fields = read_fields(&read_body(&headers, body, limits::API_BODY).await?)?;
    let current = find(&api, id).await?;
    change(&api, &current, fields).await
}

/// Changes what a merge patch names.
pub(super) async fn patch(
    State(api): State<Arc<Api>>,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Value>, Problem> {
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
    let current = find(&api, id).await?;
    let fields = patched(&current, &patch)?;
    change(&api, &current, fields).await
}

/// Removes a subscription; its pending deliveries are cancelled, its past ones stay.
pub(super) async fn delete(
    State(api): State<Arc<Api>>,
    Path(id): Path<String>,
) -> Result<StatusCode, Problem> {
    let id = SubscriptionId(id);
    let _change = api.directory.change().await;
    api.store.delete_subscription(id.clone()).await.map_err(named)?;
    api.directory.remove(&id);
    api.queue.publish([id]);
    Ok(StatusCode::NO_CONTENT)
}

/// Makes a new secret; the old one signs too until its overlap ends.
pub(super) async fn rotate_secret(
    State(api): State<Arc<Api>>,
    Path(id): Path<String>,
) -> Result<Json<Value>, Problem> {
    let current = find(&api, id).await?;
    let now = api.clock.now();
    let overlap_ends_at = later(now, limits::SECRET_OVERLAP);
    let next = rotated(&current, new_key()?, now, overlap_ends_at);
    let mut answer = with_secret(&next);
    answer["previous_secret_expires_at"] = overlap_ends_at.to_string().into();
    write(&api, next).await?;
    Ok(Json(answer))
}

/// Sends a `gatehook.ping` at once, whatever the status, and answers with how it went. Nothing is stored or retried.
pub(super) async fn ping(
    State(api): State<Arc<Api>>,
    Path(id): Path<String>,
) -> Result<Json<Value>, Problem> {
    find(&api, id.clone()).await?;
    let entry = api.directory.get(&SubscriptionId(id)).ok_or_else(|| Problem::not_found("subscription"))?;
    let now = api.clock.now();
    let id = DeliveryId::new(now, random_id_bytes());
    let event = ping_event(&id, now);
    let begun = tokio::time::Instant::now();
    let (outcome, answer) = match entry.target.clone() {
        Err(blocked) => (Outcome::Blocked(blocked.to_string()), Default::default()),
        Ok(target) => {
            let body = payload::body(entry.subscription.format, &event, &entry.hook);
            let secrets = &entry.subscription.secrets;
            let signature = signature::sign(secrets, id.as_str(), now.as_second(), &body.bytes, now);
            let timestamp_s = now.as_second();
            api.sender
                .send(
                    Parcel { target, id: id.0.clone(), timestamp_s, signature, traceparent: None, body },
                    now,
                )
                .await
        }
    };
    let duration_ms = i64::try_from(begun.elapsed().as_millis()).unwrap_or(i64::MAX);
    Ok(Json(attempt(&Attempt { number: 1, started_at: now, duration_ms, outcome, answer })))
}

fn ping_event(id: &DeliveryId, now: jiff::Timestamp) -> Event {
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

async fn find(api: &Api, id: String) -> Result<Subscription, Problem> {
    api.store.subscription(&SubscriptionId(id)).await.map_err(named)
}

fn named(error: StoreError) -> Problem {
    match error {
        StoreError::NotFound => Problem::not_found("subscription"),
        other => other.into(),
    }
}

async fn vet(api: &Api, fields: &Fields) -> Result<(), Problem> {
    let fault = |blocked: crate::target::Blocked| FieldError {
        field: "/target_url".into(),
        detail: blocked.to_string(),
    };
    api.directory
        .guard()
        .vet(&fields.target_url)
        .await
        .map_err(|blocked| Problem::fields(vec![fault(blocked)]))?;
    Ok(())
}

async fn change(api: &Api, current: &Subscription, fields: Fields) -> Result<Json<Value>, Problem> {
    if fields.target_url != current.target_url {
        vet(api, &fields).await?;
    }
    let next = fields.change(current, api.clock.now());
    let answer = representation(&next);
    write(api, next).await?;
    Ok(Json(answer))
}

/// Writes a new revision to the store, then to the directory, and has the worker look at it.
async fn write(api: &Api, next: Subscription) -> Result<(), Problem> {
    let _change = api.directory.change().await;
    api.store.update_subscription(next.clone()).await.map_err(named)?;
    let id = next.id.clone();
    api.directory.put(next);
    api.queue.publish([id]);
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
