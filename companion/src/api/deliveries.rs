//! `/v1/deliveries`: what was sent to whom, how it went, and once more.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Extension, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};

use super::Api;
use super::access::Caller;
use super::error::Problem;
use super::request::{Id, Params, page_limit, time, word};
use super::subscriptions;
use crate::limits;
use crate::model::{Attempt, Delivery, DeliveryId, DeliveryStatus, SubscriptionStatus};
use crate::store::{DeliveryQuery, Note, StoreError};

/// Parameters of the list.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ListParams {
    subscription: Option<String>,
    status: Option<String>,
    event: Option<String>,
    #[serde(rename = "type")]
    event_type: Option<String>,
    from: Option<String>,
    to: Option<String>,
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
    let (from, to) = (time("from", params.from.as_deref())?, time("to", params.to.as_deref())?);
    let query = DeliveryQuery {
        subscription: params.subscription,
        status: word("status", params.status.as_deref(), DeliveryStatus::of, DeliveryStatus::WORDS)?,
        event: params.event,
        tenant: caller.tenant().map(str::to_owned),
        // Ids sort by age: none that was made at this time or later sorts before this one.
        before: params.cursor.or(to.map(|to| DeliveryId::new(to, [0; 10]).0)),
        // A tenant's reading is put together of one of each of its subscriptions.
        limit: match (&params.event_type, caller.tenant()) {
            (None, _) => limit + 1,
            (Some(_), None) => limits::PAGE_MAX,
            (Some(_), Some(_)) => limits::PAGE_DEFAULT,
        },
    };
    let (deliveries, next_cursor) = page(&api, query, (params.event_type.as_deref(), from), limit).await?;
    let data: Vec<Value> = deliveries.iter().map(representation).collect();
    Ok(Json(json!({ "data": data, "next_cursor": next_cursor })))
}

/// Up to `limit` deliveries of an event type, made at a time or later, and the cursor of the next page. Where few of many are
/// of the type, a page may have fewer: it looks at no more than [`limits::EVENT_PAGES`] readings of the store.
async fn page(
    api: &Api,
    mut query: DeliveryQuery,
    (event_type, from): (Option<&str>, Option<Timestamp>),
    limit: usize,
) -> Result<(Vec<Delivery>, Option<String>), Problem> {
    let mut found: Vec<Delivery> = Vec::new();
    for _ in 0..limits::EVENT_PAGES {
        let page = api.store.deliveries(query.clone()).await?;
        let is_last = page.len() < query.limit;
        for delivery in page {
            if from.is_some_and(|from| delivery.created_at < from) {
                return Ok((found, None));
            }
            if found.len() == limit {
                return Ok((found, query.before));
            }
            query.before = Some(delivery.id.0.clone());
            if event_type.is_none_or(|wanted| delivery.event.event_type == wanted) {
                found.push(delivery);
            }
        }
        if is_last {
            return Ok((found, None));
        }
    }
    Ok((found, query.before))
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
        let of = found.0.subscription.clone();
        subscriptions::find_owner(api, caller, of, "delivery").await?;
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
