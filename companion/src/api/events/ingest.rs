//! `POST /v1/events`: taking events in.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use jiff::Timestamp;
use serde::Serialize;

use super::super::error::Problem;
use super::super::request::{ingest_permit, read_body};
use super::super::{ACK, Api};
use crate::ahead::Ready;
use crate::clock::random_token;
use crate::cloudevents::{self, Refusal};
use crate::limits;
use crate::model::{DeliveryId, Event, SubscriptionId};
use crate::retry::later;
use crate::store::{Acceptance, Lease, NewEvent, StoreError};
use crate::telemetry::Metrics;

/// What became of each event of a request.
#[derive(Debug, Default, Serialize)]
struct Receipt {
    /// Ids of events now on disk.
    accepted: Vec<String>,
    /// Ids of events accepted before.
    repeated: Vec<String>,
    /// Events not taken, and why.
    refused: Vec<Refusal>,
}

/// Takes events in any CloudEvents content mode; answers 202 once they and their deliveries are on disk.
pub(in crate::api) async fn ingest(
    State(api): State<Arc<Api>>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    refuse_where_disk_is_nearly_full(&api)?;
    let _permit = ingest_permit(&api, &headers, limits::INGEST_BODY)?;
    let body = read_body(&headers, body, limits::INGEST_BODY).await?;
    let now = api.clock.now();
    let (mut receipt, events) = read_events(&headers, body, now)?;
    let ids: Vec<String> = events.iter().map(|event| event.id.clone()).collect();
    // On its own, because a caller that hangs up now must not keep from the worker what is about to be on disk.
    let accepting = tokio::spawn(accept(api.clone(), events, now));
    let acceptances = accepting.await.map_err(|error| StoreError::Unavailable(error.into()))??;
    for (id, acceptance) in ids.into_iter().zip(acceptances) {
        match acceptance {
            Acceptance::Accepted => receipt.accepted.push(id),
            Acceptance::Repeated => receipt.repeated.push(id),
        }
    }
    let counts = [
        ("accepted", receipt.accepted.len()),
        ("repeated", receipt.repeated.len()),
        ("refused", receipt.refused.len()),
    ];
    for (word, count) in counts {
        Metrics::count(&api.metrics.events, "result", word, count as u64);
    }
    let ack = counts.map(|(word, count)| format!("{word}={count}")).join(";");
    Ok((StatusCode::ACCEPTED, [(ACK, ack)], Json(receipt)).into_response())
}

/// Leaves the rest of the disk to the deliveries of what was accepted: their attempts and leases are written too.
fn refuse_where_disk_is_nearly_full(api: &Api) -> Result<(), Problem> {
    if api.disk.is_nearly_full(api.clock.elapsed()) {
        api.metrics.disk_refusals.inc();
        return Err(Problem::busy(
            "the disk is nearly full, so no events are taken; make room and try again",
        ));
    }
    Ok(())
}

/// Reads the events of a request by its content mode (CloudEvents HTTP binding §3).
fn read_events(headers: &HeaderMap, body: Bytes, now: Timestamp) -> Result<(Receipt, Vec<Event>), Problem> {
    let content_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let media_type = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let refuse = |refusal: Refusal| Problem::malformed(refusal.path, refusal.reason);
    let results = match media_type.as_str() {
        "application/cloudevents-batch+json" => cloudevents::batch(&body, now).map_err(refuse)?,
        "application/cloudevents+json" => {
            vec![Ok(traced(cloudevents::structured(&body, now).map_err(refuse)?, headers))]
        }
        _ if headers.contains_key("ce-specversion") => {
            vec![Ok(traced(cloudevents::binary(headers, body, now).map_err(refuse)?, headers))]
        }
        _ => {
            let expected = "must be application/cloudevents-batch+json or application/cloudevents+json, or there must \
                            be ce-… headers";
            return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "not a CloudEvents request")
                .with("content-type", expected));
        }
    };
    if results.len() > limits::BATCH_EVENTS {
        return Err(Problem::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            format!("the batch has {} events; {} are allowed", results.len(), limits::BATCH_EVENTS),
        ));
    }
    let (mut receipt, mut events) = (Receipt::default(), Vec::with_capacity(results.len()));
    for result in results {
        match result {
            Ok(event) => events.push(event),
            Err(refusal) => receipt.refused.push(refusal),
        }
    }
    Ok((receipt, events))
}

/// An event that came alone, and names no trace of its own, belongs to the request's (W3C Trace Context §3.2). A header
/// that cannot be read is no reason to refuse an event.
fn traced(mut event: Event, headers: &HeaderMap) -> Event {
    let header = headers.get("traceparent").and_then(|value| value.to_str().ok());
    if let Some(Ok(json)) = header.filter(|text| is_traceparent(text)).map(serde_json::value::to_raw_value) {
        event.extensions.entry("traceparent".to_owned()).or_insert(json);
    }
    event
}

/// Whether this is `version-trace-parent-flags` in lower-case hexadecimal digits.
fn is_traceparent(text: &str) -> bool {
    let parts: Vec<&str> = text.split('-').collect();
    let is_hex = |part: &str| part.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    let is_id = |part: &str| part.bytes().any(|byte| byte != b'0');
    parts.iter().map(|part| part.len()).eq([2, 32, 16, 2])
        && parts.iter().all(|part| is_hex(part))
        && parts[0] != "ff"
        && parts[1..3].iter().all(|part| is_id(part))
}

/// Writes events and their deliveries, and hands these to the worker. They are matched anew where the subscriptions have
/// changed in the store meanwhile.
async fn accept(api: Arc<Api>, events: Vec<Event>, now: Timestamp) -> Result<Vec<Acceptance>, StoreError> {
    if events.is_empty() {
        return Ok(Vec::new());
    }
    let events: Vec<Arc<Event>> = events.into_iter().map(Arc::new).collect();
    for _ in 0..limits::MATCHINGS {
        match accept_once(&api, &events, now).await {
            Err(StoreError::Outdated) => api.replica.catch_up().await.map_err(StoreError::Unavailable)?,
            done => return done,
        }
    }
    Err(StoreError::Outdated)
}

async fn accept_once(
    api: &Api,
    events: &[Arc<Event>],
    now: Timestamp,
) -> Result<Vec<Acceptance>, StoreError> {
    let version = api.directory.version();
    let lease = Lease { claim: random_token(), until: later(now, limits::LEASE) };
    let addressed = events.iter().map(|event| api.directory.address_ahead(event.clone(), lease, now));
    let (events, ahead): (Vec<NewEvent>, Vec<Vec<Ready>>) = addressed.unzip();
    let others: Vec<Vec<Due>> = events.iter().map(|event| not_claimed(event, now)).collect();
    let acceptances = api.store.accept_as_of(version, events, now).await?;
    api.feed.wake();
    let (mut ready, mut due) = (Vec::with_capacity(ahead.len()), Vec::new());
    let accepted = acceptances.iter().map(|acceptance| *acceptance == Acceptance::Accepted);
    for ((_, ahead), others) in accepted.zip(ahead).zip(others).filter(|((accepted, _), _)| *accepted) {
        ready.extend(ahead);
        due.extend(others);
    }
    let count = ready.len() + due.len();
    Metrics::count(&api.metrics.deliveries, "status", "pending", count as u64);
    wake(api, ready, due);
    Ok(acceptances)
}

/// A delivery that was not claimed as it was accepted.
struct Due {
    delivery: DeliveryId,
    subscription: SubscriptionId,
    is_now: bool,
}

fn not_claimed(event: &NewEvent, now: Timestamp) -> Vec<Due> {
    let due = event.deliveries.iter().filter(|delivery| delivery.lease.is_none());
    let due = due.map(|delivery| Due {
        delivery: delivery.id.clone(),
        subscription: delivery.subscription.clone(),
        is_now: delivery.due_at <= now,
    });
    due.collect()
}

/// Has all this delivered: by the queue where there is one, else by the worker of this process, or whom it tells.
fn wake(api: &Api, ready: Vec<Ready>, due: Vec<Due>) {
    let (named, own): (Vec<Due>, Vec<Due>) =
        due.into_iter().partition(|due| api.queue.is_some() && due.is_now);
    if let Some(queue) = api.queue.as_ref().filter(|_| !named.is_empty()) {
        queue.publish(named.into_iter().map(|due| due.delivery).collect());
    }
    api.board.hand_over(ready, own.into_iter().map(|due| due.subscription));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_traceparent_is_told_from_nonsense() {
        let (trace, parent) = ("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331");
        let check = |text: String, expected: bool| assert_eq!(is_traceparent(&text), expected, "{text}");
        check(format!("00-{trace}-{parent}-01"), true);
        check(format!("ff-{trace}-{parent}-01"), false);
        check(format!("00-{trace}-{parent}"), false);
        check(format!("00-{trace}-{parent}-01-02"), false);
        check(format!("00-{}-{parent}-01", "0".repeat(32)), false);
        check(format!("00-{trace}-{}-01", "0".repeat(16)), false);
        check(format!("00-{}-{parent}-01", trace.to_uppercase()), false);
        check(format!("00-{}é-{parent}-01", &trace[2..]), false);
        check(String::new(), false);
    }
}
