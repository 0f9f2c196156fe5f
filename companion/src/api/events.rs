//! `/v1/events`: taking events in, and looking at them.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::error::Problem;
use super::request::{Params, cut, ingest_permit, page_limit, read_body};
use super::{ACK, Api};
use crate::cloudevents::{self, Refusal};
use crate::limits;
use crate::model::Event;
use crate::store::{Acceptance, AcceptedEvent, EventQuery, NewEvent};
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
pub(super) async fn ingest(
    State(api): State<Arc<Api>>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let _permit = ingest_permit(&api, &headers, limits::INGEST_BODY)?;
    let body = read_body(&headers, body, limits::INGEST_BODY).await?;
    let now = api.clock.now();
    let (mut receipt, events) = read_events(&headers, body, now)?;
    let ids: Vec<String> = events.iter().map(|event| event.id.clone()).collect();
    let acceptances = accept(&api, events, now).await?;
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

/// Reads the events of a request by its content mode (CloudEvents HTTP binding §3).
fn read_events(headers: &HeaderMap, body: Bytes, now: Timestamp) -> Result<(Receipt, Vec<Event>), Problem> {
    let content_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let media_type = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let refuse = |refusal: Refusal| Problem::malformed(refusal.path, refusal.reason);
    let results = match media_type.as_str() {
        "application/cloudevents-batch+json" => cloudevents::batch(&body, now).map_err(refuse)?,
        "application/cloudevents+json" => vec![Ok(cloudevents::structured(&body, now).map_err(refuse)?)],
        _ if headers.contains_key("ce-specversion") => {
            vec![Ok(cloudevents::binary(headers, body, now).map_err(refuse)?)]
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

async fn accept(api: &Api, events: Vec<Event>, now: Timestamp) -> Result<Vec<Acceptance>, Problem> {
    if events.is_empty() {
        return Ok(Vec::new());
    }
    let events: Vec<NewEvent> = events.into_iter().map(|event| api.directory.address(event, now)).collect();
    let wanted_by: Vec<Vec<_>> = events
        .iter()
        .map(|event| event.deliveries.iter().map(|delivery| delivery.subscription.clone()).collect())
        .collect();
    let acceptances = api.store.accept(events, now).await?;
    let accepted =
        acceptances.iter().zip(wanted_by).filter(|(acceptance, _)| **acceptance == Acceptance::Accepted);
    let woken: Vec<_> = accepted.flat_map(|(_, ids)| ids).collect();
    Metrics::count(&api.metrics.deliveries, "status", "pending", woken.len() as u64);
    api.queue.publish(woken);
    Ok(acceptances)
}

/// Parameters of the list.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ListParams {
    #[serde(rename = "type")]
    event_type: Option<String>,
    subject: Option<String>,
    tenant: Option<String>,
    limit: Option<usize>,
    cursor: Option<i64>,
}

/// A page of the list.
#[derive(Debug, Serialize)]
pub(super) struct Page {
    data: Vec<Representation>,
    next_cursor: Option<String>,
}

/// A page of events, newest first.
pub(super) async fn list(
    State(api): State<Arc<Api>>,
    Params(params): Params<ListParams>,
) -> Result<Json<Page>, Problem> {
    let limit = page_limit(params.limit)?;
    let query = EventQuery {
        event_type: params.event_type,
        subject: params.subject,
        tenant: params.tenant,
        id: None,
        before: params.cursor,
        limit: limit + 1,
    };
    let mut events = api.store.events(query).await?;
    let next_cursor = cut(&mut events, limit, |event| event.seq.to_string());
    let data = events.iter().map(representation).collect::<Result<Vec<_>, _>>()?;
    Ok(Json(Page { data, next_cursor }))
}

/// Parameters of one event.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ReadParams {
    source: Option<String>,
}

/// One event by its id; `source` tells apart events of several sources with the same id.
pub(super) async fn read(
    State(api): State<Arc<Api>>,
    Path(id): Path<String>,
    Params(params): Params<ReadParams>,
) -> Result<Json<Representation>, Problem> {
    let query = EventQuery { id: Some(id), limit: limits::PAGE_MAX, ..Default::default() };
    let mut events = api.store.events(query).await?;
    events.retain(|found| params.source.as_ref().is_none_or(|source| found.event.source == *source));
    match events.as_slice() {
        [] => Err(Problem::not_found("event")),
        [one] => Ok(Json(representation(one)?)),
        _ => Err(Problem::new(StatusCode::CONFLICT, "several sources have an event with this id")
            .with("source", "name the source to choose one")),
    }
}

/// An event as the API shows it: the CloudEvents JSON format, data and extensions verbatim, and when it was accepted.
type Representation = BTreeMap<String, Box<RawValue>>;

fn representation(accepted: &AcceptedEvent) -> Result<Representation, Problem> {
    let event = &accepted.event;
    let mut attributes = event.extensions.clone();
    let mut put = |name: &str, value: Option<&str>| {
        let Some(value) = value else { return };
        // A string always serializes.
        if let Ok(json) = serde_json::value::to_raw_value(value) {
            attributes.insert(name.to_owned(), json);
        }
    };
    put("specversion", Some("1.0"));
    put("id", Some(&event.id));
    put("source", Some(&event.source));
    put("type", Some(&event.event_type));
    put("subject", event.subject.as_deref());
    put("time", Some(&event.time.to_string()));
    put("datacontenttype", event.datacontenttype.as_deref());
    put("tenant", event.tenant.as_deref());
    put("accepted_at", Some(&accepted.accepted_at.to_string()));
    match event.data.as_deref().map(|data| (std::str::from_utf8(data), event.is_json())) {
        None => {}
        Some((Ok(json), true)) => {
            let damaged = |_| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "this event's data is damaged");
            attributes.insert("data".into(), RawValue::from_string(json.to_owned()).map_err(damaged)?);
        }
        Some((Ok(text), false)) => put("data", Some(text)),
        Some((Err(_), _)) => {
            put("data_base64", event.data.as_deref().map(|data| STANDARD.encode(data)).as_deref())
        }
    }
    Ok(attributes)
}
