//! `/v1/session`, `/webhooks/session`: as whom a caller is known, for those who show a person what may be done.

use axum::Json;
use axum::extract::Extension;
use serde::Serialize;

use super::access::Caller;

/// As whom a caller is known.
#[derive(Debug, Serialize)]
pub(super) struct Session {
    /// `admin`, `read`, or `tenant`.
    scope: &'static str,
    tenant: Option<String>,
    /// When a link ends; `null` where somebody else knows.
    expires_at: Option<String>,
}

/// Says as whom the caller is known.
pub(super) async fn read(Extension(caller): Extension<Caller>) -> Json<Session> {
    Json(Session {
        scope: caller.word(),
        tenant: caller.tenant().map(str::to_owned),
        expires_at: caller.expires_at().map(|at| at.to_string()),
    })
}
