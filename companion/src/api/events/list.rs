//! `GET /v1/events`: a page at a time, the newest first to look at, the oldest first to poll.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};

use super::super::Api;
use super::super::error::Problem;
use super::super::request::{Id, Params, page_limit, place};
use super::{Representation, Wanted, representation};
use crate::limits;
use crate::store::{AcceptedEvent, EventQuery};

/// Parameters of the list.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::api) struct ListParams {
    #[serde(rename = "type")]
    event_type: Option<String>,
    subject: Option<String>,
    tenant: Option<String>,
    order: Option<Order>,
    limit: Option<usize>,
    cursor: Option<u64>,
}

/// The order of a list.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Order {
    #[default]
    Newest,
    Oldest,
}

/// A page of the list.
#[derive(Debug, Serialize)]
pub(in crate::api) struct Page {
    data: Vec<Representation>,
    /// Newest first: `null` where there is no more. Oldest first: always there, good for the next poll.
    next_cursor: Option<String>,
}

/// A page of events that fit, of at most `limit`; a page of large events, or of few among many, may have fewer.
pub(in crate::api) async fn list(
    State(api): State<Arc<Api>>,
    Params(params): Params<ListParams>,
) -> Result<Json<Page>, Problem> {
    let limit = page_limit(params.limit)?;
    let oldest_first = matches!(params.order.unwrap_or_default(), Order::Oldest);
    let wanted = Wanted::read(params.event_type.as_deref(), params.subject, params.tenant)?;
    let mut cursor = params.cursor.map(place);
    let (mut found, mut more) = (Vec::new(), true);
    for _ in 0..limits::EVENT_PAGES {
        let query = EventQuery { cursor, oldest_first, limit: limits::PAGE_MAX, ..EventQuery::default() };
        let page = api.store.events(query).await?;
        more = !page.is_empty();
        for accepted in page {
            if found.len() == limit {
                break;
            }
            cursor = Some(accepted.seq);
            if wanted.includes(&accepted.event) {
                found.push(accepted);
            }
        }
        let bytes: usize = found.iter().map(|accepted: &AcceptedEvent| accepted.event.size()).sum();
        if !more || found.len() == limit || bytes >= limits::EVENT_PAGE {
            break;
        }
    }
    let data = found.iter().map(representation).collect::<Result<Vec<_>, _>>()?;
    let next_cursor = match oldest_first {
        true => Some(cursor.unwrap_or(0)),
        false => cursor.filter(|_| more),
    };
    Ok(Json(Page { data, next_cursor: next_cursor.map(|seq| seq.to_string()) }))
}

/// Parameters of one event.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::api) struct ReadParams {
    source: Option<String>,
}

/// One event by its id; `source` tells apart events of several sources with the same id.
pub(in crate::api) async fn read(
    State(api): State<Arc<Api>>,
    Id(id): Id,
    Params(params): Params<ReadParams>,
) -> Result<Json<Representation>, Problem> {
    let query = EventQuery { id: Some(id), limit: limits::PAGE_MAX, ..EventQuery::default() };
    let mut events = api.store.events(query).await?;
    events.retain(|found| params.source.as_ref().is_none_or(|source| found.event.source == *source));
    match events.as_slice() {
        [] => Err(Problem::not_found("event")),
        [one] => Ok(Json(representation(one)?)),
        _ => Err(Problem::new(StatusCode::CONFLICT, "several sources have an event with this id")
            .with("source", "name the source to choose one")),
    }
}
