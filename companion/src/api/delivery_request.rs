//! `GET /v1/deliveries/{id}/request`: what an attempt of a delivery would send now, put together by the code that sends it.
//!
//! Nothing is sent, and what lets a delivery in is not shown.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Extension, State};
use axum::http::StatusCode;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hyper::header::{AUTHORIZATION, HeaderValue};
use serde::Serialize;

use super::Api;
use super::access::Caller;
use super::deliveries;
use super::error::Problem;
use super::request::Id;
use crate::limits;
use crate::matcher::may_see;
use crate::model::{Delivery, DeliveryId};
use crate::parcel::parcel;
use crate::sender::{Parcel, request};
use crate::store::{AcceptedEvent, EventQuery};

/// What stands for a secret, as where subscriptions are shown.
const HIDDEN: &str = "***";

/// A request as the API shows it.
#[derive(Debug, Serialize)]
pub(super) struct Representation {
    method: String,
    url: String,
    headers: Vec<Header>,
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<String>,
    /// Where it is not UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    body_base64: Option<String>,
}

/// A header of a request.
#[derive(Debug, Serialize)]
struct Header {
    name: String,
    value: String,
}

/// The request that an attempt would make now; but for `host` and `content-length`, which are the connection's.
pub(super) async fn read(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Caller>,
    Id(id): Id,
) -> Result<Json<Representation>, Problem> {
    let (delivery, _) = deliveries::find(&api, &caller, &DeliveryId(id)).await?;
    let conflict =
        |detail: String| Problem::new(StatusCode::CONFLICT, format!("nothing can be sent: {detail}"));
    let entry = api.known(&delivery.subscription).await?;
    let entry = entry.ok_or_else(|| conflict("its subscription was deleted".to_owned()))?;
    let accepted = event(&api, &delivery).await?;
    if !may_see(entry.subscription.tenant.as_deref(), accepted.event.tenant.as_deref()) {
        return Err(conflict("the event is not one of the subscription's tenant".to_owned()));
    }
    let sequence = delivery.is_ordered.then_some(accepted.seq);
    let (keys, now) = (api.keys.all(), api.clock.now());
    let parcel = parcel(&entry, &accepted.event, &delivery.id, sequence, &keys, now).map_err(conflict)?;
    Ok(Json(representation(parcel).map_err(|error| conflict(error.to_string()))?))
}

/// The event of a delivery.
async fn event(api: &Api, delivery: &Delivery) -> Result<AcceptedEvent, Problem> {
    let query =
        EventQuery { id: Some(delivery.event.id.clone()), limit: limits::PAGE_MAX, ..EventQuery::default() };
    let found = api.store.events(query).await?;
    let event = found.into_iter().find(|found| found.event.source == delivery.event.source);
    event.ok_or_else(|| Problem::not_found("delivery"))
}

/// A parcel as the request that the sender makes of it.
fn representation(parcel: Parcel) -> Result<Representation, hyper::http::Error> {
    let (url, bytes) = (parcel.target.to_string(), parcel.body.bytes.clone());
    let fetches_token = parcel.access.as_ref().is_some_and(|access| access.fetches_token());
    let mut request = request(parcel)?;
    if fetches_token {
        // Which one, is known when it was fetched.
        let mut token = HeaderValue::from_static(HIDDEN);
        token.set_sensitive(true);
        request.headers_mut().insert(AUTHORIZATION, token);
    }
    let shown = |value: &HeaderValue| match value.is_sensitive() {
        true => HIDDEN.to_owned(),
        false => String::from_utf8_lossy(value.as_bytes()).into_owned(),
    };
    let headers = request.headers().iter();
    let headers = headers.map(|(name, value)| Header { name: name.to_string(), value: shown(value) });
    let (body, body_base64) = match String::from_utf8(bytes.to_vec()) {
        Ok(text) => (Some(text), None),
        Err(_) => (None, Some(STANDARD.encode(&bytes))),
    };
    Ok(Representation {
        method: request.method().to_string(),
        url,
        headers: headers.collect(),
        body,
        body_base64,
    })
}
