//! What one attempt sends: payload, signature and headers of a delivery, put together.
//!
//! Pure. The worker's attempts and a ping are made of the same parts, so a ping that works says that deliveries will.

use hyper::header::{HeaderName, HeaderValue};
use jiff::Timestamp;

use crate::directory::Entry;
use crate::keys::KeyPair;
use crate::model::{DeliveryId, Event, Signing};
use crate::payload::{self, Payload};
use crate::sender::Parcel;
use crate::signature::{self, Signed};

/// Place of the event in the order of acceptance, for receivers that want events in order.
const SEQUENCE: HeaderName = HeaderName::from_static("webhook-sequence");

/// The request for one attempt at `now`; `keys` are the companion's own, `sequence` is the event's place where order matters.
///
/// # Errors
/// A sentence that says why there may be none.
pub fn parcel(
    entry: &Entry,
    event: &Event,
    id: &DeliveryId,
    sequence: Option<i64>,
    keys: &[KeyPair],
    now: Timestamp,
) -> Result<Parcel, String> {
    let target = entry.target.clone().map_err(|blocked| blocked.to_string())?;
    let shape = entry.shape.as_ref().map_err(String::clone)?;
    let Payload { body, mut headers } = payload::body(shape, event, &entry.hook)?;
    headers.extend_from_slice(&entry.headers);
    if let Some(sequence) = sequence {
        headers.push((SEQUENCE, HeaderValue::from(sequence)));
    }
    let timestamp_s = now.as_second();
    let signed = Signed { id: id.as_str(), timestamp_s, body: &body.bytes };
    let signature = match entry.subscription.options.signing {
        Signing::Hmac => signature::sign(&entry.subscription.secrets, signed, now),
        Signing::Ed25519 => signature::sign_with_keys(keys, signed, now),
    };
    let traceparent = event.extensions.get("traceparent");
    let traceparent = traceparent.and_then(|json| serde_json::from_str::<String>(json.get()).ok());
    let traceparent = traceparent.filter(|value| HeaderValue::from_str(value).is_ok());
    Ok(Parcel {
        target,
        id: id.0.clone(),
        timestamp_s,
        signature,
        traceparent,
        headers,
        access: entry.access.clone(),
        of_tenant: entry.subscription.tenant.is_some(),
        body,
    })
}
