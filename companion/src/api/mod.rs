//! The HTTP API: routes, tokens, and reading requests.
//!
//! Handlers parse, ask rules and store, and answer; they decide nothing. What a gateway POSTs, events and unmatched
//! writes, has its own token, so that a gateway which may hand over events cannot read or change subscriptions.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{FromRequestParts, Query, Request, State};
use axum::http::header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, HeaderName};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use bytes::Bytes;
use http_body_util::{BodyExt, Limited};
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::clock::Clock;
use crate::directory::Directory;
use crate::limits;
use crate::queue::Queue;
use crate::retry::Schedule;
use crate::sender::Sender;
use crate::store::Store;
use crate::telemetry::Metrics;
use error::Problem;

mod deliveries;
mod error;
mod events;
mod subscription;
mod subscriptions;
mod unmatched;

/// Marks an acknowledgement as ours: a 2xx of a proxy in between does not bear it.
const ACK: HeaderName = HeaderName::from_static("gatehook-ack");

/// SHA-256 of a bearer token; the token itself is kept nowhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TokenHash(pub [u8; 32]);

impl TokenHash {
    /// The hash of a token.
    pub fn of(token: &str) -> Self {
        Self(Sha256::digest(token.as_bytes()).into())
    }
}

/// What the handlers share.
pub struct Api {
    /// The truth.
    pub store: Arc<dyn Store>,
    /// The subscriptions.
    pub directory: Arc<Directory>,
    /// What wakes the worker.
    pub queue: Arc<Queue>,
    /// For pings.
    pub sender: Sender,
    /// When a new delivery is first due.
    pub schedule: Schedule,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// Admin API's token.
    pub admin_token: TokenHash,
    /// Ingest's token.
    pub ingest_token: TokenHash,
    /// Room for ingest bodies in memory, in KiB.
    pub ingest_room: Arc<Semaphore>,
}

/// A semaphore for [`Api::ingest_room`].
pub fn ingest_room() -> Arc<Semaphore> {
    Arc::new(Semaphore::new(limits::INGEST_IN_FLIGHT >> 10))
}

/// All routes.
pub fn router(api: Arc<Api>) -> Router {
    let admin = Router::new()
        .route("/v1/subscriptions", get(subscriptions::list).post(subscriptions::create))
        .route(
            "/v1/subscriptions/{id}",
            get(subscriptions::read)
                .put(subscriptions::replace)
                .patch(subscriptions::patch)
                .delete(subscriptions::delete),
        )
        .route("/v1/subscriptions/{id}/rotate-secret", post(subscriptions::rotate_secret))
        .route("/v1/subscriptions/{id}/ping", post(subscriptions::ping))
        .route("/v1/events", get(events::list))
        .route("/v1/events/{id}", get(events::read))
        .route("/v1/deliveries", get(deliveries::list))
        .route("/v1/deliveries/{id}", get(deliveries::read))
        .route("/v1/deliveries/{id}/redeliver", post(deliveries::redeliver))
        .route("/v1/unmatched", get(unmatched::list).delete(unmatched::forget))
        .layer(from_fn_with_state(api.clone(), require_admin));
    let ingest = Router::new()
        .route("/v1/events", post(events::ingest))
        .route("/v1/unmatched", post(unmatched::report))
        .layer(from_fn_with_state(api.clone(), require_ingest));
    Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .merge(admin)
        .merge(ingest)
        .fallback(|| async { Problem::not_found("route") })
        .method_not_allowed_fallback(|| async {
            Problem::new(StatusCode::METHOD_NOT_ALLOWED, "not a method of this route")
        })
        .with_state(api)
}

async fn require_admin(State(api): State<Arc<Api>>, request: Request, next: Next) -> Response {
    guarded(api.admin_token, request, next).await
}

async fn require_ingest(State(api): State<Arc<Api>>, request: Request, next: Next) -> Response {
    guarded(api.ingest_token, request, next).await
}

async fn guarded(expected: TokenHash, request: Request, next: Next) -> Response {
    match bearer(request.headers()) {
        // Hashes are compared, in constant time, so the comparison tells nothing of the token.
        Some(token) if bool::from(TokenHash::of(token).0.ct_eq(&expected.0)) => next.run(request).await,
        _ => Problem::unauthorized().into_response(),
    }
}

/// The token of `authorization: Bearer …` (RFC 6750).
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
}

async fn ready(State(api): State<Arc<Api>>) -> Result<&'static str, Problem> {
    let answer = tokio::time::timeout(Duration::from_secs(2), api.store.ping()).await;
    answer.map_err(|_| Problem::busy("the store does not answer"))??;
    Ok("ready\n")
}

async fn metrics(State(api): State<Arc<Api>>) -> Response {
    api.metrics.subscriptions.set(i64::try_from(api.directory.count()).unwrap_or(i64::MAX));
    let media_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(CONTENT_TYPE, media_type)], api.metrics.text()).into_response()
}

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

/// Reads a body of at most `limit` bytes, within [`limits::REQUEST_BODY`].
pub(crate) async fn read_body(headers: &HeaderMap, body: Body, limit: usize) -> Result<Bytes, Problem> {
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
