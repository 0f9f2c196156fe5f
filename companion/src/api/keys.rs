//! `/v1/signing-keys` and `/.well-known/jwks.json`: the companion's own public keys.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::extract::{Extension, State};
use axum::http::HeaderMap;
use axum::http::header::CACHE_CONTROL;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::Value;

use super::Api;
use super::access::Caller;
use super::error::Problem;
use super::request::{object, read_body};
use super::subscription;
use crate::keys::KeyPair;
use crate::limits;
use crate::members::Members;
use crate::store::Note;

/// A key as the API shows it: its public half.
#[derive(Debug, Serialize)]
pub(super) struct Representation {
    id: String,
    public_key: String,
    created_at: String,
    /// `null`: the current one.
    expires_at: Option<String>,
}

/// All keys that sign.
#[derive(Debug, Serialize)]
pub(super) struct List {
    data: Vec<Representation>,
}

/// The keys that sign, the current one first.
pub(super) async fn list(State(api): State<Arc<Api>>) -> Json<List> {
    Json(listed(&api))
}

/// Makes a new current key; the older ones sign too until their overlap ends.
pub(super) async fn rotate(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<List>, Problem> {
    let overlap = overlap(&read_body(&headers, body, limits::API_BODY).await?)?;
    let now = api.clock.now();
    let audit = Some(caller.audit("signing-keys.rotate", "signing_keys", None, now));
    api.keys.rotate(&*api.store, overlap, Note { audit, ..Note::default() }, now).await?;
    Ok(Json(listed(&api)))
}

fn overlap(body: &[u8]) -> Result<Duration, Problem> {
    if body.is_empty() {
        return Ok(limits::SECRET_OVERLAP);
    }
    let mut members = Members::new("", object(body)?);
    let overlap = subscription::overlap(&mut members);
    members.finish("a rotation of the signing keys")?;
    Ok(overlap)
}

/// The public keys as a JWK set (RFC 7517 §5); nobody needs a token to verify.
pub(super) async fn jwks(State(api): State<Arc<Api>>) -> Response {
    let now = api.clock.now();
    let keys: Vec<Value> = api.keys.all().iter().filter(|key| key.is_active(now)).map(KeyPair::jwk).collect();
    // Short, so that a new key is known well within the overlap.
    ([(CACHE_CONTROL, "public, max-age=300")], Json(serde_json::json!({ "keys": keys }))).into_response()
}

fn listed(api: &Api) -> List {
    let now = api.clock.now();
    let keys = api.keys.all();
    let data = keys.iter().filter(|key| key.is_active(now)).map(|key| Representation {
        id: key.id(),
        public_key: key.public_text(),
        created_at: key.created_at().to_string(),
        expires_at: key.expires_at().map(|at| at.to_string()),
    });
    List { data: data.collect() }
}
