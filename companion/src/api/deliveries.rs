//! `/v1/deliveries`: what was sent to whom, how it went, and once more.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Extension, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Value, json};

use super::Api;
use super::access::Caller;
use super::error::Problem;
use super::request::{Id, Params, cut, page_limit, word};
use super::subscriptions;
use crate::model::{Attempt, Delivery, DeliveryId, DeliveryStatus, SubscriptionStatus};
use crate::store::{DeliveryQuery, Note, StoreError};

/// Parameters of the list.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ListParams {
    subscription: Option<String>,
    status: Option<String>,
    event: Option<String>,
    limit: Option<usize>,
    cursor: Option<String>,
}

/// A page of deliveries, newest first.
pub(super) async fn list(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Caller>,
    Params(params): Params<ListParams>,
) -> Result<Json<Value>, Problem> {
    let limit = page_limit(params.limit)?;
    let query = DeliveryQuery {
        subscription: params.subscription,
        status: word("status", params.status.as_deref(), DeliveryStatus::of, DeliveryStatus::WORDS)?,
        event: params.event,
        tenant: caller.tenant().map(str::to_owned),
        before: params.cursor,
        limit: limit + 1,
    };
    let mut deliveries = api.store.deliveries(query).await?;
    let next_cursor = cut(&mut deliveries, limit, |delivery| delivery.id.0.clone());
    let data: Vec<Value> = deliveries.iter().map(representation).collect();
    Ok(Json(json!({ "data": data, "next_cursor": next_cursor })))
}

/// One delivery with its attempts.
pub(super) async fn read(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Caller>,
    Id(id): Id,
) -> Result<Json<Value>, Problem> {
    let (delivery, attempts) = find(&api, &caller, &DeliveryId(id)).await?;
    Ok(Json(whole(&delivery, &attempts)))
}

/// A delivery that the caller may see: of its own subscription, and of its own event, for the subscription may have been
/// another tenant's before.
pub(super) async fn find(
    api: &Api,
    caller: &Caller,
    id: &DeliveryId,
) -> Result<(Delivery, Vec<Attempt>), Problem> {
    let none = || Problem::not_found("delivery");
    let found = api.store.delivery(id).await.map_err(|error| match error {
        StoreError::NotFound => none(),
        other => other.into(),
    })?;
    if caller.tenant().is_some() {
        let of = found.0.subscription.0.clone();
        subscriptions::find(api, caller, of).await.map_err(|_| none())?;
        if !caller.sees(found.0.event.tenant.as_deref()) {
            return Err(none());
        }
    }
    Ok(found)
}

/// Begins a new round of attempts, whatever the delivery's status; it keeps its id.
pub(super) async fn redeliver(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Caller>,
    Id(id): Id,
) -> Result<Response, Problem> {
    let id = DeliveryId(id);
    let (delivery, _) = find(&api, &caller, &id).await?;
    let entry = api.known(&delivery.subscription).await?;
    if entry.is_none_or(|entry| entry.subscription.status == SubscriptionStatus::Off) {
        let problem = Problem::new(StatusCode::CONFLICT, "its subscription is off or was deleted");
        return Err(problem.with("/subscription", format!("turn {} on first", delivery.subscription)));
    }
    let now = api.clock.now();
    let note =
        Note { audit: Some(caller.audit("delivery.redeliver", id.as_str(), None, now)), ..Note::default() };
    let subscription = api.store.redeliver(id.clone(), note, now).await?;
    match &api.queue {
        Some(queue) => queue.publish(vec![id.clone()]),
        None => api.board.wake([subscription]),
    }
    let (delivery, attempts) = api.store.delivery(&id).await?;
    Ok((StatusCode::ACCEPTED, Json(whole(&delivery, &attempts))).into_response())
}

fn whole(delivery: &Delivery, attempts: &[Attempt]) -> Value {
    let mut value = representation(delivery);
    value["attempts"] = attempts.iter().map(attempt).collect();
    value
}

fn representation(delivery: &Delivery) -> Value {
    json!({
        "id": delivery.id,
        "subscription": delivery.subscription,
        "event": delivery.event,
        "status": delivery.status,
        "reason": delivery.reason,
        "attempt_count": delivery.attempt_count,
        "due_at": delivery.due_at.map(|at| at.to_string()),
        "created_at": delivery.created_at.to_string(),
        "ended_at": delivery.ended_at.map(|at| at.to_string()),
    })
}

/// An attempt as the API shows it; the answer's bytes as text, with U+FFFD for what is not UTF-8.
pub(super) fn attempt(attempt: &Attempt) -> Value {
    json!({
        "number": attempt.number,
        "started_at": attempt.started_at.to_string(),
        "duration_ms": attempt.duration_ms,
        "outcome": attempt.outcome.word(),
        "status": attempt.outcome.status(),
        "error": attempt.outcome.error(),
        "answer": String::from_utf8_lossy(&attempt.answer),
    })
}
