//! `/v1/erase`: everything of a subject or of a tenant is forgotten, as data protection asks.
//!
//! In chunks, so that nobody else notices, and to its end even where the caller leaves: half an erasure helps nobody.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::{Extension, State};
use axum::http::{HeaderMap, StatusCode};
use serde::Serialize;
use sha2::{Digest, Sha256};

use super::Api;
use super::access::Caller;
use super::error::Problem;
use super::request::{object, read_body};
use crate::limits;
use crate::members::{Fault, Members};
use crate::store::{Erasure, Note, StoreError, SubscriptionQuery};

/// What was erased.
#[derive(Debug, Default, Serialize)]
pub(super) struct Counts {
    events: usize,
    deliveries: usize,
    attempts: usize,
    subscriptions: usize,
    /// Whether it is overwritten on disk, too; false where somebody was reading the database all the while, who may
    /// have seen it: asking again tries again.
    overwritten: bool,
}

/// `POST /v1/erase`: removes what was accepted up to now of a subject and what is below it, or of a tenant.
pub(super) async fn erase(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Counts>, Problem> {
    let body = read_body(&headers, body, limits::API_BODY).await?;
    let what = asked(Members::new("", object(&body)?))?;
    let (action, name) = match &what {
        Erasure::Subject(name) => ("erase.subject", name),
        Erasure::Tenant(name) => ("erase.tenant", name),
    };
    // The log must not keep what is to be forgotten; who knows the name can still find the line.
    let digest: String = Sha256::digest(name.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect();
    let audit = caller.audit(action, &format!("sha256:{digest}"), None, api.clock.now());
    let note = Note { audit: Some(audit), ..Note::default() };
    let work = tokio::spawn(async move { carry_out(&api, what, note).await });
    let ended = |_| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "the erasure ended badly; ask again");
    Ok(Json(work.await.map_err(ended)??))
}

/// What a body asks for: one of `subject` and `tenant`.
fn asked(mut members: Members) -> Result<Erasure, Vec<Fault>> {
    let either = "exactly one of `subject` and `tenant` is needed";
    let both = members.has("subject") && members.has("tenant");
    let subject = members.read("subject", |text| match text {
        "" => Err("must not be empty".to_owned()),
        _ if text.len() > limits::EVENT_URI => Err(format!("must be at most {} bytes", limits::EVENT_URI)),
        _ if text.ends_with('/') => Err("must not end with /; what is below it is erased too".to_owned()),
        _ => Ok(Erasure::Subject(text.to_owned())),
    });
    let tenant = members.text("tenant", limits::SHORT_TEXT).map(Erasure::Tenant);
    let what = subject.or(tenant);
    if both {
        members.fault("tenant", either);
    }
    members.finish("an erasure")?;
    what.ok_or_else(|| vec![Fault::new("", either)])
}

async fn carry_out(api: &Api, what: Erasure, note: Note) -> Result<Counts, StoreError> {
    let mut counts = Counts::default();
    let until = api.store.begin_erasure(what.clone(), note).await?;
    if let Erasure::Tenant(tenant) = &what {
        erase_subscriptions(api, tenant, &mut counts).await?;
    }
    let mut next = Some(0);
    while let Some(after) = next {
        let now = api.clock.now();
        let erased = api.store.erase(what.clone(), (after, until), limits::ERASE_CHUNK, now).await?;
        counts.events += erased.events;
        counts.deliveries += erased.deliveries;
        counts.attempts += erased.attempts;
        api.board.wake(erased.released);
        next = erased.next;
    }
    counts.overwritten = api.store.finish_erasure().await?;
    let Counts { events, deliveries, attempts, subscriptions, overwritten } = counts;
    tracing::info!(events, deliveries, attempts, subscriptions, overwritten, "erased what was asked for");
    Ok(counts)
}

async fn erase_subscriptions(api: &Api, tenant: &str, counts: &mut Counts) -> Result<(), StoreError> {
    loop {
        let query =
            SubscriptionQuery { tenant: Some(tenant.to_owned()), limit: 1, ..SubscriptionQuery::default() };
        let Some(subscription) = api.store.subscriptions(query).await?.pop() else {
            return Ok(());
        };
        let mut next = Some(0);
        while next.is_some() {
            let change = api.directory.change(&subscription.id).await;
            let erased = api.store.erase_subscription(subscription.id.clone(), limits::ERASE_CHUNK).await?;
            counts.deliveries += erased.deliveries;
            counts.attempts += erased.attempts;
            next = erased.next;
            match next {
                Some(_) => change.give_up(),
                None => change.remove(),
            }
        }
        counts.subscriptions += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn check(body: &Value, expected: Result<Erasure, &str>) {
        let found = asked(Members::new("", body.as_object().unwrap().clone()));
        let found = found.map_err(|faults| faults[0].pointer.clone());
        assert_eq!(found, expected.map_err(str::to_owned), "{body}");
    }

    #[test]
    fn exactly_one_of_subject_and_tenant_is_asked_for() {
        check(&json!({"subject": "/contacts/7"}), Ok(Erasure::Subject("/contacts/7".into())));
        check(&json!({"tenant": "acme"}), Ok(Erasure::Tenant("acme".into())));
        check(&json!({}), Err(""));
        check(&json!({"subject": null}), Err(""));
        check(&json!({"subject": "/contacts/7", "tenant": "acme"}), Err("/tenant"));
        for subject in ["", "/", "/contacts/"] {
            check(&json!({ "subject": subject }), Err("/subject"));
        }
        check(&json!({"tenant": ""}), Err("/tenant"));
        check(&json!({"subjects": "/contacts/7"}), Err("/subjects"));
    }
}
