//! `/v1/audit`: who changed what.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::Api;
use super::error::Problem;
use super::request::{Params, cut, page_limit, place};
use crate::store::AuditLine;

/// Parameters of the list.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ListParams {
    limit: Option<usize>,
    cursor: Option<u64>,
}

/// A page of the list.
#[derive(Debug, Serialize)]
pub(super) struct Page {
    data: Vec<Line>,
    next_cursor: Option<String>,
}

/// One change.
#[derive(Debug, Serialize)]
struct Line {
    at: String,
    actor: String,
    action: String,
    resource: String,
    detail: Option<Box<RawValue>>,
}

/// A page of the audit log, newest first.
pub(super) async fn list(
    State(api): State<Arc<Api>>,
    Params(params): Params<ListParams>,
) -> Result<Json<Page>, Problem> {
    let limit = page_limit(params.limit)?;
    let mut lines = api.store.audit(params.cursor.map(place), limit + 1).await?;
    let next_cursor = cut(&mut lines, limit, |line| line.seq.to_string());
    Ok(Json(Page { data: lines.into_iter().map(line).collect(), next_cursor }))
}

fn line(AuditLine { entry, .. }: AuditLine) -> Line {
    Line {
        at: entry.at.to_string(),
        actor: entry.actor,
        action: entry.action,
        resource: entry.resource,
        // We wrote it as JSON; what is not would only be missing here.
        detail: entry.detail.and_then(|json| RawValue::from_string(json).ok()),
    }
}
