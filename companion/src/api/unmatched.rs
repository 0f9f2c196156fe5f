//! `/v1/unmatched`: writes that no rule of a filter named, counted by the shape of their path.
//!
//! A filter reports increments; a user reads the list, writes rules, and forgets it. A report is taken as a whole or not
//! at all. Members it does not know are ignored, so that filter and companion can be upgraded apart.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Value, json};

use super::error::Problem;
use super::request::{Params, ingest_permit, page_limit, read_body};
use super::{ACK, Api};
use crate::catalogue::rule::rule;
use crate::limits;
use crate::members::Fault;
use crate::model::{Shape, is_json_media_type};
use crate::store::{Unmatched, UnmatchedPlace};

/// Takes a filter's report; answers 202 once it is on disk.
pub(super) async fn report(
    State(api): State<Arc<Api>>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let content_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if !is_json_media_type(content_type) {
        return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "a report is JSON")
            .with("content-type", "must be application/json"));
    }
    let _permit = ingest_permit(&api, &headers, limits::UNMATCHED_BODY)?;
    let (source, shapes) = read_report(&read_body(&headers, body, limits::UNMATCHED_BODY).await?)?;
    let accepted = shapes.len();
    let writes = shapes.iter().map(|shape| shape.count).sum();
    if accepted > 0 {
        let now = api.clock.now();
        api.store.count_unmatched(source, shapes, limits::UNMATCHED_SHAPES, now).await?;
    }
    api.metrics.unmatched.inc_by(writes);
    let ack = format!("accepted={accepted};repeated=0;refused=0");
    Ok((StatusCode::ACCEPTED, [(ACK, ack)], Json(json!({ "accepted": accepted }))).into_response())
}

/// Parameters of the list.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ListParams {
    limit: Option<usize>,
    cursor: Option<String>,
}

/// A page of shapes, the most frequent first.
pub(super) async fn list(
    State(api): State<Arc<Api>>,
    Params(params): Params<ListParams>,
) -> Result<Json<Value>, Problem> {
    let limit = page_limit(params.limit)?;
    let after = params.cursor.as_deref().map(place).transpose()?;
    let mut shapes = api.store.unmatched(after, limit + 1).await?;
    let more = shapes.len() > limit;
    shapes.truncate(limit);
    let next_cursor = shapes.last().filter(|_| more).map(|last| cursor(last.place));
    let data: Vec<Value> = shapes.iter().map(representation).collect();
    Ok(Json(json!({ "data": data, "next_cursor": next_cursor })))
}

/// Forgets all shapes, for instance once rules were written for them.
pub(super) async fn forget(State(api): State<Arc<Api>>) -> Result<StatusCode, Problem> {
    api.store.forget_unmatched().await?;
    Ok(StatusCode::NO_CONTENT)
}

fn cursor(place: UnmatchedPlace) -> String {
    format!("{}-{}", place.count, place.seq)
}

fn place(cursor: &str) -> Result<UnmatchedPlace, Problem> {
    cursor
        .split_once('-')
        .and_then(|(count, seq)| Some(UnmatchedPlace { count: count.parse().ok()?, seq: seq.parse().ok()? }))
        .ok_or_else(|| Problem::malformed("cursor", "must be the next_cursor of another page"))
}

fn representation(unmatched: &Unmatched) -> Value {
    json!({
        "method": unmatched.method,
        "path": unmatched.path,
        "count": unmatched.place.count,
        "status": unmatched.status,
        "source": unmatched.source,
        "first_at": unmatched.first_at.to_string(),
        "last_at": unmatched.last_at.to_string(),
        "rule": rule(&unmatched.method, &unmatched.path, unmatched.status),
    })
}

/// Collects the faults of a report.
#[derive(Default)]
struct Faults(Vec<Fault>);

impl Faults {
    fn add(&mut self, field: &str, detail: impl Into<String>) {
        self.0.push(Fault::new(field, detail));
    }

    /// A string that keeps to its bound and rule; else a fault, and the empty string.
    fn text(
        &mut self,
        value: Option<&Value>,
        field: &str,
        good: impl Fn(&str) -> bool,
        rule: &str,
    ) -> String {
        match value.and_then(Value::as_str) {
            Some(text) if good(text) => return text.to_owned(),
            None if value.is_none() => self.add(field, "is missing"),
            _ => self.add(field, format!("must be {rule}")),
        }
        String::new()
    }

    /// A whole number between bounds; else a fault, and `least`.
    fn number(&mut self, value: Option<&Value>, field: &str, least: u64, most: u64) -> u64 {
        let number = value.and_then(Value::as_u64);
        match number.filter(|number| (least..=most).contains(number)) {
            Some(number) => return number,
            None if value.is_none() => self.add(field, "is missing"),
            None => self.add(field, format!("must be a whole number from {least} to {most}")),
        }
        least
    }

    fn shape(&mut self, value: &Value, at: &str) -> Option<Shape> {
        if !value.is_object() {
            self.add(at, "must be an object with method, path, count and status");
            return None;
        }
        let method_rule = format!("an HTTP method of 1 to {} characters", limits::UNMATCHED_METHOD);
        let path_rule = format!(
            "a path that begins with / and has at most {} bytes, no query and no white space",
            limits::UNMATCHED_PATH
        );
        let method = self.text(value.get("method"), &format!("{at}/method"), is_method, &method_rule);
        let path = self.text(value.get("path"), &format!("{at}/path"), is_path, &path_rule);
        let count = self.number(value.get("count"), &format!("{at}/count"), 1, limits::UNMATCHED_COUNT);
        let status = self.number(value.get("status"), &format!("{at}/status"), 100, 599);
        Some(Shape { method, path, count, status: u16::try_from(status).ok()? })
    }
}

/// Reads a report; all faults at once.
fn read_report(body: &[u8]) -> Result<(String, Vec<Shape>), Problem> {
    let report: Value = serde_json::from_slice(body)
        .map_err(|error| Problem::malformed("", format!("is not JSON: {error}")))?;
    if !report.is_object() {
        return Err(Problem::malformed("", "must be a JSON object with source and shapes"));
    }
    let mut faults = Faults::default();
    let source_rule = format!("a URI reference of 1 to {} bytes", limits::EVENT_URI);
    let source = faults.text(report.get("source"), "/source", is_source, &source_rule);
    let shapes = match report.get("shapes") {
        Some(Value::Array(shapes)) if shapes.len() <= limits::UNMATCHED_REPORT => {
            let shapes = shapes.iter().enumerate();
            shapes.filter_map(|(index, value)| faults.shape(value, &format!("/shapes/{index}"))).collect()
        }
        Some(_) => {
            faults.add("/shapes", format!("must be a list of at most {} shapes", limits::UNMATCHED_REPORT));
            Vec::new()
        }
        None => {
            faults.add("/shapes", "is missing");
            Vec::new()
        }
    };
    match faults.0.as_slice() {
        [] => Ok((source, shapes)),
        _ => Err(Problem::fields(faults.0)),
    }
}

fn is_source(text: &str) -> bool {
    (1..=limits::EVENT_URI).contains(&text.len()) && !text.chars().any(char::is_control)
}

/// A token (RFC 9110 §5.6.2).
fn is_method(text: &str) -> bool {
    let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    (1..=limits::UNMATCHED_METHOD).contains(&text.len()) && text.bytes().all(token)
}

/// A query may hold what must not be kept, so a path with one is refused.
fn is_path(text: &str) -> bool {
    let strange = |c: char| c.is_control() || c.is_whitespace() || c == '?' || c == '#';
    text.starts_with('/') && text.len() <= limits::UNMATCHED_PATH && !text.contains(strange)
}
