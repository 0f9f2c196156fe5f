//! Reading requests: bodies, parameters, preconditions, idempotency keys; all of them bounded.

use axum::body::Body;
use axum::extract::{FromRequestParts, Path, Query};
use axum::http::header::{CONTENT_ENCODING, CONTENT_LENGTH, IF_MATCH};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode};
use bytes::Bytes;
use http_body_util::{BodyExt, Limited};
use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use tokio::sync::OwnedSemaphorePermit;

use super::Api;
use super::access::Caller;
use super::error::Problem;
use crate::limits;
use crate::store::{Idempotency, keys_of};

/// Query parameters; an unknown or malformed one is a problem that names it.
pub(crate) struct Params<T>(pub(crate) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Params<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        Query::try_from_uri(&parts.uri)
            .map(|Query(params)| Self(params))
            .map_err(|rejection| Problem::malformed("query", rejection.body_text()))
    }
}

/// The `{id}` of a path; one that cannot be read is a problem too.
pub(crate) struct Id(pub(crate) String);

impl<S: Send + Sync> FromRequestParts<S> for Id {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let path = Path::<String>::from_request_parts(parts, state).await;
        path.map(|Path(id)| Self(id)).map_err(|rejection| Problem::malformed("id", rejection.body_text()))
    }
}

/// Reads a body of at most `limit` bytes, within [`limits::REQUEST_BODY`]. An encoded one is refused: unpacked it may have
/// any size, and as data of an event it would reach receivers without the word that says how to read it.
pub(crate) async fn read_body(headers: &HeaderMap, body: Body, limit: usize) -> Result<Bytes, Problem> {
    let mut codings = headers.get_all(CONTENT_ENCODING).into_iter();
    if !codings.all(|coding| coding.as_bytes().eq_ignore_ascii_case(b"identity")) {
        return Err(Problem::encoded());
    }
    if declared_length(headers).is_some_and(|length| length > limit) {
        return Err(Problem::too_large(limit));
    }
    let collect = Limited::new(body, limit).collect();
    match tokio::time::timeout(limits::REQUEST_BODY, collect).await {
        Err(_) => Err(Problem::new(StatusCode::REQUEST_TIMEOUT, "the body did not arrive in time")),
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) if error.is::<http_body_util::LengthLimitError>() => Err(Problem::too_large(limit)),
        Ok(Err(_)) => Err(Problem::new(StatusCode::BAD_REQUEST, "the body broke off")),
    }
}

/// A body that must be a JSON object.
pub(crate) fn object(body: &[u8]) -> Result<Map<String, Value>, Problem> {
    match serde_json::from_slice(body) {
        Ok(Value::Object(map)) => Ok(map),
        Ok(_) => Err(Problem::malformed("", "must be a JSON object")),
        Err(error) => Err(Problem::malformed("", format!("is not JSON: {error}"))),
    }
}

/// Takes room for an ingest body of at most `limit` bytes, so that bodies in memory stay bounded however many requests
/// come. It is given back when the permit is dropped.
pub(crate) fn ingest_permit(
    api: &Api,
    headers: &HeaderMap,
    limit: usize,
) -> Result<OwnedSemaphorePermit, Problem> {
    let bytes = declared_length(headers).unwrap_or(limit);
    if bytes > limit {
        return Err(Problem::too_large(limit));
    }
    let kib = u32::try_from((bytes >> 10) + 1).unwrap_or(u32::MAX);
    let permit = api.ingest_room.clone().try_acquire_many_owned(kib);
    permit.map_err(|_| Problem::busy("more is arriving than fits in memory; try again"))
}

/// `content-length` as a number.
pub(crate) fn declared_length(headers: &HeaderMap) -> Option<usize> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// The page size that a caller asked for, within bounds.
pub(crate) fn page_limit(asked: Option<usize>) -> Result<usize, Problem> {
    match asked.unwrap_or(limits::PAGE_DEFAULT) {
        limit @ 1..=limits::PAGE_MAX => Ok(limit),
        _ => Err(Problem::malformed("limit", format!("must be 1 to {}", limits::PAGE_MAX))),
    }
}

/// Cuts a list to `limit` rows, of which one more was read; returns the cursor of the next page, if there is one.
pub(crate) fn cut<T>(rows: &mut Vec<T>, limit: usize, cursor: impl Fn(&T) -> String) -> Option<String> {
    let more = rows.len() > limit;
    rows.truncate(limit);
    rows.last().filter(|_| more).map(cursor)
}

/// A place in an order that begins at 1; one that is too large is behind everything.
pub(crate) fn place(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// Reads an optional word of a fixed set.
pub(crate) fn word<T>(
    field: &str,
    text: Option<&str>,
    of: impl Fn(&str) -> Option<T>,
    words: &[&str],
) -> Result<Option<T>, Problem> {
    match text.map(of) {
        None => Ok(None),
        Some(Some(value)) => Ok(Some(value)),
        Some(None) => Err(Problem::malformed(field, format!("must be one of {}", words.join(", ")))),
    }
}

/// Reads a time, or says what one looks like.
pub(crate) fn timestamp(text: &str) -> Result<Timestamp, &'static str> {
    text.parse().map_err(|_| "must be an RFC 3339 timestamp, such as 2026-01-31T12:00:00Z")
}

/// Reads an optional time.
pub(crate) fn time(field: &str, text: Option<&str>) -> Result<Option<Timestamp>, Problem> {
    text.map(|text| timestamp(text).map_err(|detail| Problem::malformed(field, detail))).transpose()
}

/// The entity tag of a revision (RFC 9110 §8.8.3).
pub(crate) fn etag(revision: i64) -> String {
    format!("\"{revision}\"")
}

/// Refuses a change whose `If-Match` names another revision (RFC 9110 §13.1.1).
pub(crate) fn check_match(headers: &HeaderMap, revision: i64) -> Result<(), Problem> {
    let Some(tags) = headers.get(IF_MATCH) else { return Ok(()) };
    let own = etag(revision);
    let tags = tags.to_str().unwrap_or_default();
    match tags.split(',').map(str::trim).any(|tag| tag == "*" || tag == own) {
        true => Ok(()),
        false => Err(Problem::new(
            StatusCode::PRECONDITION_FAILED,
            format!("the resource has changed: its etag is {own}; read it again"),
        )),
    }
}

/// The `Idempotency-Key` of a create (IETF draft-ietf-httpapi-idempotency-key-header), for one caller and route.
pub(crate) fn idempotency(
    headers: &HeaderMap,
    caller: &Caller,
    route: &str,
    body: &[u8],
    resource: &str,
    at: Timestamp,
) -> Result<Option<Idempotency>, Problem> {
    let Some(key) = headers.get("idempotency-key") else { return Ok(None) };
    let text = key.to_str().ok().filter(|key| (1..=limits::IDEMPOTENCY_KEY).contains(&key.len()));
    let Some(text) = text else {
        let allowed = format!("must have 1 to {} visible characters", limits::IDEMPOTENCY_KEY);
        return Err(Problem::malformed("idempotency-key", allowed));
    };
    Ok(Some(Idempotency {
        key: format!("{}{route} {text}", keys_of(&caller.name)),
        request: Sha256::digest(body).into(),
        resource: resource.to_owned(),
        at,
    }))
}
