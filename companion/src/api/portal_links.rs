//! `POST /v1/portal-links`: a link by which a tenant's people get into the portal, without a token of the API.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::extract::{Extension, State};
use axum::http::HeaderMap;
use serde::Serialize;

use super::Api;
use super::access::Caller;
use super::error::Problem;
use super::request::{object, read_body};
use crate::limits;
use crate::links::Link;
use crate::members::Members;
use crate::retry::{duration, later};
use crate::store::Note;

/// A link as the API shows it, this once.
#[derive(Debug, Serialize)]
pub(super) struct Representation {
    /// Where the portal is, with the link in the part that browsers send to nobody.
    url: String,
    tenant: String,
    expires_at: String,
}

/// Makes a link for a tenant; nothing of it is kept but a line of the audit log.
pub(super) async fn create(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Representation>, Problem> {
    let body = read_body(&headers, body, limits::API_BODY).await?;
    let mut members = Members::new("", object(&body)?);
    let tenant = members.text("tenant", limits::SHORT_TEXT).unwrap_or_default();
    if tenant.is_empty() {
        members.fault("tenant", "is missing");
    }
    let expires_in = members.read("expires_in", lifetime).unwrap_or(limits::LINK);
    members.finish("a portal link")?;
    let now = api.clock.now();
    let mut nonce = [0; 24];
    getrandom::fill(&mut nonce).map_err(|_| Problem::busy("no link can be made at the moment"))?;
    let link = Link { tenant, expires_at: later(now, expires_in) };
    let detail = serde_json::to_string(&link.tenant).ok();
    let note =
        Note { audit: Some(caller.audit("portal-link.create", "portal", detail, now)), ..Note::default() };
    api.store.write_note(note).await?;
    let base = api.base_url.as_deref().unwrap_or_default();
    let url = format!("{base}/webhooks/portal#link={}", api.tenants.links.seal(&link, nonce));
    let made = Representation { url, tenant: link.tenant, expires_at: link.expires_at.to_string() };
    Ok(Json(made))
}

fn lifetime(text: &str) -> Result<Duration, String> {
    let asked = duration(text, 1)?;
    match (limits::LINK_LEAST..=limits::LINK_MOST).contains(&asked) {
        true => Ok(asked),
        false => Err("must be 1m to 24h".to_owned()),
    }
}
