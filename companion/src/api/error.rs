//! What a caller is told when something is wrong: `application/problem+json` (RFC 9457).
//!
//! The only place that maps our errors to status codes. Their fault names the field and what is allowed; ours says no
//! internals, those are in the log.

use axum::http::header::{ACCEPT_ENCODING, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use serde::Serialize;

use crate::links::LinkError;
use crate::members::Fault;
use crate::store::StoreError;

/// Seconds after which a caller who was told 503 may come back.
const COME_BACK_S: u64 = 1;

/// An error on its way to the caller.
#[derive(Debug)]
pub(crate) struct Problem {
    status: StatusCode,
    detail: String,
    errors: Vec<Fault>,
    hint: Option<Hint>,
}

/// A header that tells the caller what to do.
#[derive(Clone, Copy, Debug)]
enum Hint {
    /// `www-authenticate: Bearer`
    Authenticate,
    /// `retry-after`, in seconds
    ComeBack(u64),
    /// `accept-encoding: identity` (RFC 9110 §15.5.16)
    Plain,
}

#[derive(Serialize)]
struct Body<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    title: &'a str,
    status: u16,
    detail: &'a str,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    errors: &'a [Fault],
}

impl Problem {
    /// A problem with a status and a sentence.
    pub(crate) fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        Self { status, detail: detail.into(), errors: Vec::new(), hint: None }
    }

    /// 400: what was sent cannot be read; names the place.
    pub(crate) fn malformed(field: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "the request cannot be read").with(field, detail)
    }

    /// 422: what was sent can be read, and says something that is not allowed.
    pub(crate) fn fields(errors: Vec<Fault>) -> Self {
        Self { errors, ..Self::new(StatusCode::UNPROCESSABLE_ENTITY, "some fields are not allowed") }
    }

    /// 404.
    pub(crate) fn not_found(what: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, format!("there is no such {what}"))
    }

    /// 401.
    pub(crate) fn unauthorized() -> Self {
        let problem =
            Self::new(StatusCode::UNAUTHORIZED, "a valid bearer token is needed: `authorization: Bearer …`");
        Self { hint: Some(Hint::Authenticate), ..problem }
    }

    /// 403.
    pub(crate) fn forbidden(scope: &str) -> Self {
        Self::new(StatusCode::FORBIDDEN, format!("a token of scope `{scope}` does not allow this"))
    }

    /// 413.
    pub(crate) fn too_large(limit: usize) -> Self {
        Self::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            format!("the body has more than the {limit} bytes allowed here"),
        )
    }

    /// 415: a body with a content coding.
    pub(crate) fn encoded() -> Self {
        let problem = Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "an encoded body is not read");
        Self { hint: Some(Hint::Plain), ..problem }.with("content-encoding", "must be absent or identity")
    }

    /// 503, to be tried again soon.
    pub(crate) fn busy(detail: &str) -> Self {
        let problem = Self::new(StatusCode::SERVICE_UNAVAILABLE, detail);
        Self { hint: Some(Hint::ComeBack(COME_BACK_S)), ..problem }
    }

    /// 429, to be tried again at a time.
    pub(crate) fn too_many(detail: &str, now: Timestamp, at: Timestamp) -> Self {
        let wait_ms = u64::try_from(at.duration_since(now).as_millis()).unwrap_or(0);
        let problem = Self::new(StatusCode::TOO_MANY_REQUESTS, detail);
        Self { hint: Some(Hint::ComeBack(wait_ms.div_ceil(1_000).max(1))), ..problem }
    }

    /// 401: neither the gateway nor a link says who this is.
    pub(crate) fn no_tenant() -> Self {
        let detail =
            "the gateway names no tenant for this request: call with the credentials of the API itself";
        Self { hint: Some(Hint::Authenticate), ..Self::new(StatusCode::UNAUTHORIZED, detail) }
    }

    /// 401: a link that is not good.
    pub(crate) fn link(error: LinkError) -> Self {
        Self { hint: Some(Hint::Authenticate), ..Self::new(StatusCode::UNAUTHORIZED, error.to_string()) }
    }

    /// 403: who came around the gateway.
    pub(crate) fn not_the_gateway() -> Self {
        Self::new(StatusCode::FORBIDDEN, "only the API's gateway may call here")
    }

    /// Its status.
    #[cfg(test)]
    pub(super) fn status(&self) -> StatusCode {
        self.status
    }

    /// What is wrong, and where.
    pub(crate) fn into_faults(self) -> Vec<Fault> {
        self.errors
    }

    /// Adds the place of the fault.
    pub(crate) fn with(mut self, field: impl Into<String>, detail: impl Into<String>) -> Self {
        self.errors.push(Fault::new(field, detail));
        self
    }
}

impl From<Vec<Fault>> for Problem {
    fn from(faults: Vec<Fault>) -> Self {
        Self::fields(faults)
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::NotFound => Self::new(StatusCode::NOT_FOUND, "there is no such resource"),
            StoreError::Conflict => Self::new(
                StatusCode::CONFLICT,
                "somebody else changed this resource at the same time; read it again",
            ),
            StoreError::Repeated { resource, same: true } => Self::new(
                StatusCode::CONFLICT,
                format!("this Idempotency-Key was used before; it made {resource}"),
            ),
            StoreError::Repeated { same: false, .. } => Self::new(
                StatusCode::UNPROCESSABLE_ENTITY,
                "this Idempotency-Key was used before, for another request",
            )
            .with("idempotency-key", "must be new for each request"),
            StoreError::Full => Self::new(StatusCode::CONFLICT, "there are as many as are allowed"),
            StoreError::Outdated => Self::busy("the subscriptions are changing; try again"),
            StoreError::Busy => Self::busy("more is being written than the disk takes; try again"),
            StoreError::Unavailable(source) => {
                tracing::error!(error = format!("{source:#}"), "the store did not answer a request");
                Self::busy("the store does not answer at the moment; try again")
            }
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let body = Body {
            kind: "about:blank",
            title: self.status.canonical_reason().unwrap_or("Error"),
            status: self.status.as_u16(),
            detail: &self.detail,
            errors: &self.errors,
        };
        // Strings and numbers always serialize.
        let json = serde_json::to_vec(&body).unwrap_or_default();
        let mut response = (self.status, [(CONTENT_TYPE, "application/problem+json")], json).into_response();
        let headers = response.headers_mut();
        match self.hint {
            None => None,
            Some(Hint::Authenticate) => headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer")),
            Some(Hint::ComeBack(seconds)) => headers.insert(RETRY_AFTER, HeaderValue::from(seconds)),
            Some(Hint::Plain) => headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity")),
        };
        response
    }
}
