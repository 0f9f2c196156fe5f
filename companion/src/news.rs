//! Events of our own: what becomes of subscriptions and deliveries, told like any other event.
//!
//! Pure. Their types begin with `gatehook.`, which nobody else may use, and which the pattern `*` does not cover: who
//! wants them names them. An event of our own is accepted in the transaction of the change that it tells of.

use bytes::Bytes;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::catalogue::observed::Change;
use crate::model::{Event, Outcome, Subscription, SubscriptionStatus};
use crate::store::Claimed;

/// What the types of our own events begin with.
pub const PREFIX: &str = "gatehook.";

/// Their `source`.
const SOURCE: &str = "gatehook";

/// Tells that a subscription went on or off: `gatehook.subscription.on`, `gatehook.subscription.off`.
pub fn subscription(subscription: &Subscription, random: [u8; 10], now: Timestamp) -> Event {
    let verb = match subscription.status {
        SubscriptionStatus::On => "on",
        SubscriptionStatus::Off => "off",
    };
    let data = json!({
        "id": subscription.id,
        "tenant": subscription.tenant,
        "description": subscription.description,
        "events": subscription.events,
        "status": subscription.status,
        "off_reason": subscription.off_reason,
        "metadata": subscription.metadata,
    });
    let subject = format!("/v1/subscriptions/{}", subscription.id);
    event(&format!("subscription.{verb}"), subject, subscription.tenant.clone(), &data, random, now)
}

/// Tells that a delivery is exhausted: `gatehook.delivery.exhausted`. `None` where it was to deliver an event of our own:
/// telling of that could go on for ever.
pub fn exhausted(
    claimed: &Claimed,
    subscription: &Subscription,
    outcome: &Outcome,
    random: [u8; 10],
    now: Timestamp,
) -> Option<Event> {
    if claimed.event.event_type.starts_with(PREFIX) {
        return None;
    }
    let data = json!({
        "id": claimed.id,
        "subscription": subscription.id,
        "event": {
            "id": claimed.event.id,
            "source": claimed.event.source,
            "type": claimed.event.event_type,
            "subject": claimed.event.subject,
        },
        "attempt_count": claimed.attempt_count + 1,
        "outcome": outcome.word(),
        "status": outcome.status(),
    });
    let subject = format!("/v1/deliveries/{}", claimed.id);
    Some(event("delivery.exhausted", subject, subscription.tenant.clone(), &data, random, now))
}

/// Tells that the data of an event type are not what they always were: `gatehook.schema.changed`. It has no tenant: what it
/// tells of are all events of the type.
pub fn schema_changed(event_type: &str, changes: &[Change], random: [u8; 10], now: Timestamp) -> Event {
    let data = json!({"type": event_type, "changes": changes});
    let subject = format!("/v1/event-types/{event_type}");
    event("schema.changed", subject, None, &data, random, now)
}

fn event(
    what: &str,
    subject: String,
    tenant: Option<String>,
    data: &Value,
    random: [u8; 10],
    now: Timestamp,
) -> Event {
    let millis = u64::try_from(now.as_millisecond()).unwrap_or(0);
    Event {
        id: uuid::Builder::from_unix_timestamp_millis(millis, &random).into_uuid().to_string(),
        source: SOURCE.to_owned(),
        event_type: format!("{PREFIX}{what}"),
        subject: Some(subject),
        time: now,
        datacontenttype: Some("application/json".to_owned()),
        data: Some(Bytes::from(data.to_string())),
        tenant,
        extensions: Default::default(),
    }
}
