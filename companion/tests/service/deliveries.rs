//! Deliveries: made, retried, ended, made again.

use serde_json::{Value, json};
use standardwebhooks::Webhook;

use crate::client::{Companion, Receiver};

/// Reads the one delivery of an event until it has this status.
async fn delivery(companion: &Companion, event: &str, status: &str) -> Value {
    loop {
        let page = companion.admin("GET", &format!("/v1/deliveries?event={event}"), "").await.json;
        let found = &page["data"][0];
        if found["status"] == status {
            let path = format!("/v1/deliveries/{}", found["id"].as_str().unwrap());
            return companion.admin("GET", &path, "").await.json;
        }
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_delivery_verifies_with_a_library_we_did_not_write_and_carries_the_hook() {
    let companion = Companion::start().await;
    let receiver = Receiver::start(&[200]).await;
    let made = companion.subscribe(&receiver.url).await;
    companion.contact_created("1").await;
    let (headers, body) = receiver.received(1).await.remove(0);
    let webhook = Webhook::new(made["secret"].as_str().unwrap()).unwrap();
    webhook.verify(&body, &headers).unwrap();
    assert!(webhook.verify(&body[1..], &headers).is_err());
    let body: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!((&body["type"], &body["data"]), (&json!("contact.create"), &json!({"id": 1})));
    assert_eq!((&body["hook"]["id"], &body["hook"]["target_url"]), (&made["id"], &json!(receiver.url)));
    let delivered = delivery(&companion, "1", "delivered").await;
    assert_eq!(headers["webhook-id"], delivered["id"].as_str().unwrap());
}

#[tokio::test]
async fn a_flaky_receiver_is_tried_again_and_each_attempt_is_kept() {
    let companion = Companion::start().await;
    let receiver = Receiver::start(&[500, 503, 200]).await;
    companion.subscribe(&receiver.url).await;
    companion.contact_created("1").await;
    let delivered = delivery(&companion, "1", "delivered").await;
    assert_eq!(delivered["attempt_count"], 3);
    let outcomes: Vec<_> =
        delivered["attempts"].as_array().unwrap().iter().map(|attempt| &attempt["status"]).collect();
    assert_eq!(outcomes, [500, 503, 200]);
    assert_eq!(delivered["attempts"][2]["answer"], "thanks");
}

#[tokio::test]
async fn a_410_turns_the_subscription_off_and_no_more_is_sent() {
    let companion = Companion::start().await;
    let receiver = Receiver::start(&[410]).await;
    let made = companion.subscribe(&receiver.url).await;
    companion.contact_created("1").await;
    let cancelled = delivery(&companion, "1", "cancelled").await;
    assert_eq!(cancelled["reason"], "the receiver answered 410 Gone");
    let path = format!("/v1/subscriptions/{}", made["id"].as_str().unwrap());
    let off = companion.admin("GET", &path, "").await.json;
    assert_eq!(
        (&off["status"], &off["off_reason"]),
        (&json!("off"), &json!("the receiver answered 410 Gone"))
    );
    companion.contact_created("2").await;
    // Ingest may match once more against what it knew before the answer; what comes of that is cancelled, never sent.
    let later = companion.admin("GET", "/v1/deliveries?event=2", "").await.json;
    if !later["data"].as_array().unwrap().is_empty() {
        assert_eq!(delivery(&companion, "2", "cancelled").await["attempt_count"], 0);
    }

    let redeliver = format!("/v1/deliveries/{}/redeliver", cancelled["id"].as_str().unwrap());
    assert_eq!(companion.admin("POST", &redeliver, "").await.faults(), ["/subscription"]);
    let on = companion.admin("PATCH", &path, r#"{"status":"on"}"#).await.json;
    assert_eq!((&on["status"], &on["off_reason"]), (&json!("on"), &json!(null)));
    assert_eq!(companion.admin("POST", &redeliver, "").await.status, 202);
    receiver.received(2).await;
}

#[tokio::test]
async fn an_exhausted_delivery_is_made_again_by_hand_with_the_same_id() {
    let companion = Companion::start().await;
    let receiver = Receiver::start(&[500, 500, 500, 200]).await;
    companion.subscribe(&receiver.url).await;
    companion.contact_created("1").await;
    let exhausted = delivery(&companion, "1", "exhausted").await;
    let path = format!("/v1/deliveries/{}/redeliver", exhausted["id"].as_str().unwrap());
    assert_eq!(companion.admin("POST", &path, "").await.status, 202);
    let delivered = delivery(&companion, "1", "delivered").await;
    assert_eq!((&delivered["attempt_count"], &delivered["id"]), (&json!(4), &exhausted["id"]));
    assert_eq!(companion.admin("POST", "/v1/deliveries/none/redeliver", "").await.status, 404);
    assert_eq!(companion.admin("GET", "/v1/deliveries/none", "").await.status, 404);
    assert_eq!(companion.admin("GET", "/v1/deliveries?status=lost", "").await.faults(), ["status"]);
}

#[tokio::test]
async fn turning_a_subscription_off_cancels_what_is_pending() {
    let companion = Companion::start().await;
    let made = companion.subscribe("http://127.0.0.1:9/").await;
    let path = format!("/v1/subscriptions/{}", made["id"].as_str().unwrap());
    companion.admin("PATCH", &path, r#"{"status":"off"}"#).await;
    companion.contact_created("1").await;
    assert_eq!(companion.admin("GET", "/v1/deliveries?event=1", "").await.json["data"], json!([]));
    companion.admin("PATCH", &path, r#"{"status":"on"}"#).await;
    companion.contact_created("2").await;
    companion.admin("DELETE", &path, "").await;
    let ended = loop {
        let page = companion.admin("GET", "/v1/deliveries?event=2", "").await.json;
        if page["data"][0]["status"] != "pending" {
            break page["data"][0]["status"].as_str().unwrap().to_owned();
        }
        tokio::task::yield_now().await;
    };
    assert!(ended == "cancelled" || ended == "exhausted", "{ended}");
}

#[tokio::test]
async fn a_restart_keeps_subscriptions_secrets_and_what_is_pending() {
    let companion = Companion::start().await;
    let receiver = Receiver::start(&[200]).await;
    let made = companion.subscribe(&receiver.url).await;
    companion.contact_created("1").await;
    delivery(&companion, "1", "delivered").await;
    let companion = companion.restart().await;
    companion.contact_created("2").await;
    let (headers, body) = receiver.received(2).await.remove(1);
    Webhook::new(made["secret"].as_str().unwrap()).unwrap().verify(&body, &headers).unwrap();
}

#[tokio::test]
async fn what_ended_longer_ago_than_the_retention_is_forgotten() {
    let companion = Companion::start().await;
    let receiver = Receiver::start(&[200]).await;
    companion.subscribe(&receiver.url).await;
    companion.contact_created("1").await;
    let delivered = delivery(&companion, "1", "delivered").await;
    let path = format!("/v1/deliveries/{}", delivered["id"].as_str().unwrap());
    let companion = companion.restart_days_later(29).await;
    companion.contact_created("2").await;
    delivery(&companion, "2", "delivered").await;
    let companion = companion.restart_days_later(31).await;
    while companion.admin("GET", "/v1/events/1", "").await.status == 200 {
        tokio::task::yield_now().await;
    }
    assert_eq!(companion.admin("GET", &path, "").await.status, 404);
    assert_eq!(companion.admin("GET", "/v1/events/2", "").await.status, 200);
}

#[tokio::test]
async fn deliveries_are_listed_by_event_type_and_by_when_they_were_made() {
    let companion = Companion::start().await;
    let receiver = Receiver::start(&[200]).await;
    companion.subscribe(&receiver.url).await;
    for number in 0..9 {
        let event_type = if number % 3 == 0 { "order.create" } else { "contact.create" };
        let event = format!(r#"{{"specversion":"1.0","id":"{number}","source":"/t","type":"{event_type}"}}"#);
        assert_eq!(companion.ingest("application/cloudevents+json", &event).await.status, 202);
    }
    let list = async |query: &str| {
        let page = companion.admin("GET", &format!("/v1/deliveries?{query}"), "").await.json;
        let ids = page["data"]
            .as_array()
            .unwrap()
            .iter()
            .map(|one| one["event"]["id"].as_str().unwrap().to_owned());
        (ids.collect::<Vec<_>>(), page["next_cursor"].as_str().map(str::to_owned))
    };
    let (first, cursor) = list("type=order.create&limit=2").await;
    assert_eq!(first, ["6", "3"]);
    let rest = list(&format!("type=order.create&limit=2&cursor={}", cursor.unwrap())).await;
    assert_eq!(rest, (vec!["0".to_owned()], None));
    assert_eq!(list("type=order.create&limit=3").await.0.len(), 3);
    assert_eq!(list("type=order").await, (Vec::new(), None));
    let whole = companion.admin("GET", "/v1/deliveries", "").await.json;
    let made_at = |index: usize| whole["data"][index]["created_at"].as_str().unwrap().to_owned();
    assert_eq!(list(&format!("from={}", made_at(8))).await.0.len(), 9);
    let since = list(&format!("from={}&type=contact.create", made_at(4))).await.0;
    assert!(since.starts_with(&["8".into(), "7".into(), "5".into()]), "{since:?}");
    assert_eq!(list(&format!("to={}", companion.tomorrow())).await.0.len(), 9);
    assert_eq!(list("to=2020-01-01T00:00:00Z").await.0.len(), 0);
    assert_eq!(list(&format!("from={}", companion.tomorrow())).await, (Vec::new(), None));
    for field in ["from", "to"] {
        let wrong = companion.admin("GET", &format!("/v1/deliveries?{field}=now"), "").await;
        assert_eq!(wrong.faults(), [field]);
    }
}
