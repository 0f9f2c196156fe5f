//! `/v1/event-types` and `/v1/catalogue`: the event types that are known, to read and to paste elsewhere.
//!
//! A tenant sees what its own events have taught, and what an operator has published. What is said of a type is the operator's
//! to write; the rest is learnt.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::{Extension, State};
use axum::http::{HeaderMap, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Api;
use super::access::Caller;
use super::error::Problem;
use super::request::{Id, Params, cut, object, page_limit, read_body};
use crate::catalogue::{self, Described, asyncapi, openapi, schema};
use crate::limits;
use crate::members::{Fault, Members};
use crate::store::{EventType, Note, TypePatch, TypeQuery};

/// An event type as the API shows it.
#[derive(Debug, Serialize)]
pub(super) struct Representation {
    #[serde(rename = "type")]
    event_type: String,
    count: i64,
    first_at: Option<String>,
    last_at: Option<String>,
    description: Option<String>,
    published: bool,
    sample: Option<Value>,
    schema: Option<Value>,
}

/// Parameters of the list.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ListParams {
    limit: Option<usize>,
    cursor: Option<String>,
}

/// A page of the list.
#[derive(Debug, Serialize)]
pub(super) struct Page {
    data: Vec<Representation>,
    next_cursor: Option<String>,
}

/// A page of event types, by name; no longer than [`limits::CATALOGUE_ROWS`], whatever was asked for.
pub(super) async fn list(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Caller>,
    Params(params): Params<ListParams>,
) -> Result<Json<Page>, Problem> {
    let limit = page_limit(params.limit)?.min(limits::CATALOGUE_ROWS);
    let mut types = api.store.event_types(query(&caller, None, params.cursor, limit + 1)).await?;
    let next_cursor = cut(&mut types, limit, |last| last.event_type.clone());
    Ok(Json(Page { data: types.into_iter().map(representation).collect(), next_cursor }))
}

/// One event type.
pub(super) async fn read(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Caller>,
    Id(event_type): Id,
) -> Result<Json<Representation>, Problem> {
    let found = api.store.event_types(query(&caller, Some(event_type), None, 1)).await?.pop();
    found.map(representation).map(Json).ok_or_else(|| Problem::not_found("event type"))
}

/// Changes what is said of an event type (merge patch, RFC 7396).
pub(super) async fn patch(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Caller>,
    Id(event_type): Id,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Representation>, Problem> {
    let body = read_body(&headers, body, limits::API_BODY).await?;
    let patch = asked(Members::new("", object(&body)?))?;
    let note = note(&api, &caller, "event-type.update", &event_type);
    api.store.describe_type(event_type.clone(), patch, note).await?;
    read(State(api), Extension(caller), Id(event_type)).await
}

/// Forgets an event type; where it comes again it is learnt anew.
pub(super) async fn delete(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Caller>,
    Id(event_type): Id,
) -> Result<StatusCode, Problem> {
    let note = note(&api, &caller, "event-type.delete", &event_type);
    api.store.forget_type(event_type, note).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// The catalogue as OpenAPI 3.1.
pub(super) async fn as_openapi(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Caller>,
) -> Result<Json<Value>, Problem> {
    Ok(Json(openapi::document(&all(&api, &caller).await?)))
}

/// The catalogue as AsyncAPI 3.0.
pub(super) async fn as_asyncapi(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Caller>,
) -> Result<Json<Value>, Problem> {
    Ok(Json(asyncapi::document(&all(&api, &caller).await?)))
}

/// All that a caller may see, up to [`limits::CATALOGUE_TYPES`].
async fn all(api: &Api, caller: &Caller) -> Result<Vec<Described>, Problem> {
    let mut described: Vec<Described> = Vec::new();
    while described.len() < limits::CATALOGUE_TYPES {
        let after = described.last().map(|last| last.event_type.clone());
        let page = api.store.event_types(query(caller, None, after, limits::CATALOGUE_ROWS)).await?;
        if page.is_empty() {
            break;
        }
        described.extend(page.into_iter().map(|found| Described {
            observed: found.state.as_deref().map(catalogue::read).unwrap_or_default(),
            sample: sample(&found),
            event_type: found.event_type,
            description: found.description,
        }));
    }
    Ok(described)
}

fn query(caller: &Caller, event_type: Option<String>, after: Option<String>, limit: usize) -> TypeQuery {
    TypeQuery { tenant: caller.tenant().map(str::to_owned), event_type, after, limit }
}

fn note(api: &Api, caller: &Caller, action: &str, event_type: &str) -> Note {
    let audit = Some(caller.audit(action, event_type, None, api.clock.now()));
    Note { audit, ..Note::default() }
}

/// What a patch asks for. Null takes the description away.
fn asked(mut members: Members) -> Result<TypePatch, Vec<Fault>> {
    let (has_description, has_published) = (members.has("description"), members.has("published"));
    let description = members.text("description", limits::SHORT_TEXT);
    let published = members.switch("published");
    members.finish("an event type that can be changed")?;
    Ok(TypePatch {
        description: has_description.then_some(description),
        published: has_published.then_some(published),
    })
}

/// We wrote it as JSON; what is not would only be missing here.
fn sample(found: &EventType) -> Option<Value> {
    found.sample.as_deref().and_then(|json| serde_json::from_str(json).ok())
}

fn representation(found: EventType) -> Representation {
    Representation {
        sample: sample(&found),
        schema: found.state.as_deref().and_then(|state| schema::document(&catalogue::read(state))),
        event_type: found.event_type,
        count: found.count,
        first_at: found.first_at.map(|at| at.to_string()),
        last_at: found.last_at.map(|at| at.to_string()),
        description: found.description,
        published: found.published,
    }
}
