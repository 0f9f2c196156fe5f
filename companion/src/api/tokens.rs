//! `/v1/tokens`: bearer tokens with a scope, beside those of the settings.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::{Extension, State};
use axum::http::header::LOCATION;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use serde::Serialize;

use super::Api;
use super::access::{Caller, TokenHash};
use super::error::Problem;
use super::request::{Id, idempotency, object, read_body};
use crate::clock::random_id_bytes;
use crate::limits;
use crate::members::Members;
use crate::model::{Scope, Token};
use crate::store::{Note, StoreError};

/// A token as the API shows it.
#[derive(Debug, Serialize)]
pub(super) struct Representation {
    id: String,
    scope: Scope,
    description: Option<String>,
    expires_at: Option<String>,
    created_at: String,
    /// The token itself, in the answer to its making alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<String>,
}

/// All tokens.
#[derive(Debug, Serialize)]
pub(super) struct List {
    data: Vec<Representation>,
}

/// All tokens that were made here, oldest first; never the tokens themselves.
pub(super) async fn list(State(api): State<Arc<Api>>) -> Result<Json<List>, Problem> {
    let tokens = api.store.tokens().await?;
    Ok(Json(List { data: tokens.into_iter().map(|token| representation(token, None)).collect() }))
}

/// Makes a token; the answer alone bears it.
pub(super) async fn create(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let body = read_body(&headers, body, limits::API_BODY).await?;
    let now = api.clock.now();
    let (scope, description, expires_at) = read(&body, now)?;
    if api.access.count() >= limits::TOKENS {
        let detail = format!("there are {} tokens already; delete those not in use", limits::TOKENS);
        return Err(Problem::new(StatusCode::CONFLICT, detail));
    }
    let mut bytes = [0; 24];
    getrandom::fill(&mut bytes).map_err(|_| Problem::busy("no token can be made at the moment"))?;
    let text = format!("gatehook_{}_{}", scope.word(), URL_SAFE_NO_PAD.encode(bytes));
    let id = id(now);
    let token = Token { hash: TokenHash::of(&text).0, scope, description, expires_at, created_at: now, id };
    let note = Note {
        audit: Some(caller.audit("token.create", &token.id, Some(format!("\"{}\"", scope.word())), now)),
        idempotency: idempotency(&headers, &caller, "/v1/tokens", &body, &token.id, now)?,
        news: Vec::new(),
    };
    api.store.create_token(token.clone(), note).await?;
    api.access.put(token.clone());
    let location = format!("/v1/tokens/{}", token.id);
    Ok((StatusCode::CREATED, [(LOCATION, location)], Json(representation(token, Some(text)))).into_response())
}

/// Takes a token back: it is refused from then on.
pub(super) async fn delete(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Caller>,
    Id(id): Id,
) -> Result<StatusCode, Problem> {
    let audit = Some(caller.audit("token.delete", &id, None, api.clock.now()));
    let deleted = api.store.delete_token(id.clone(), Note { audit, ..Note::default() }).await;
    api.access.remove(&id);
    deleted.map_err(|error| match error {
        StoreError::NotFound => Problem::not_found("token"),
        other => other.into(),
    })?;
    Ok(StatusCode::NO_CONTENT)
}

fn id(now: Timestamp) -> String {
    let millis = u64::try_from(now.as_millisecond()).unwrap_or(0);
    format!(
        "tok_{}",
        uuid::Builder::from_unix_timestamp_millis(millis, &random_id_bytes()).into_uuid().simple()
    )
}

fn read(body: &[u8], now: Timestamp) -> Result<(Scope, Option<String>, Option<Timestamp>), Problem> {
    let mut members = Members::new("", object(body)?);
    if !members.has("scope") {
        members.fault("scope", format!("is missing; one of {}", Scope::WORDS.join(", ")));
    }
    let scope = members.word("scope", Scope::Read, Scope::of, Scope::WORDS);
    let description = members.text("description", limits::SHORT_TEXT);
    let expires_at = members.read("expires_at", |text| time_to_come(text, now));
    members.finish("a token")?;
    Ok((scope, description, expires_at))
}

/// Reads a time that has not passed.
pub(super) fn time_to_come(text: &str, now: Timestamp) -> Result<Timestamp, &'static str> {
    match text.parse::<Timestamp>() {
        Ok(time) if time > now => Ok(time),
        Ok(_) => Err("lies in the past"),
        Err(_) => Err("must be an RFC 3339 timestamp, such as 2030-01-31T12:00:00Z"),
    }
}

fn representation(token: Token, text: Option<String>) -> Representation {
    Representation {
        id: token.id,
        scope: token.scope,
        description: token.description,
        expires_at: token.expires_at.map(|at| at.to_string()),
        created_at: token.created_at.to_string(),
        token: text,
    }
}
