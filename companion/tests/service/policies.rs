//! How a subscription has its deliveries made: retries, order, an end; and what is told of it.

use std::time::Duration;

use serde_json::{Value, json};

use crate::client::{Companion, Receiver};

/// Makes a subscription with these fields beside its target and events.
async fn subscribe(companion: &Companion, target_url: &str, events: &[&str], fields: Value) -> Value {
    let mut body = json!({"target_url": target_url, "events": events});
    body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    let made = companion.admin("POST", "/v1/subscriptions", &body.to_string()).await;
    assert_eq!(made.status, 201, "{}", made.json);
    made.json
}

async fn event(companion: &Companion, id: &str, subject: &str) {
    let event =
        json!({"specversion": "1.0", "id": id, "source": "/t", "type": "contact.update", "subject": subject});
    let answer = companion.ingest("application/cloudevents+json", &event.to_string()).await;
    assert_eq!(answer.status, 202, "{}", answer.json);
}

fn path(subscription: &Value) -> String {
    format!("/v1/subscriptions/{}", subscription["id"].as_str().unwrap())
}

#[tokio::test]
async fn a_subscription_is_retried_by_its_own_policy_and_can_ask_when() {
    let companion = Companion::start().await;
    let receiver = Receiver::start(&[503, 404]).await;
    let retry = json!({"policy": "fixed", "delay": "1ms", "attempts": 5, "jitter": 0, "on": {"4xx": "none"}});
    let subscription = subscribe(&companion, &receiver.url, &["*"], json!({"retry": retry})).await;
    assert_eq!(subscription["retry"], retry);
    companion.contact_created("1").await;
    receiver.received(2).await;
    let delivery = async || companion.admin("GET", "/v1/deliveries", "").await.json["data"][0].clone();
    while delivery().await["status"] != "exhausted" {
        tokio::task::yield_now().await;
    }
    assert_eq!(delivery().await["attempt_count"], 2);
    let preview = async |query: &str| {
        let answer =
            companion.admin("GET", &format!("{}/retry-preview{query}", path(&subscription)), "").await;
        (answer.status, answer.json["attempts"].as_array().map_or(0, Vec::len))
    };
    assert_eq!(preview("").await, (200, 5));
    assert_eq!(preview("?status=404").await, (200, 1));
    assert_eq!(preview("?status=99").await, (400, 0));
    let wrong = json!({"retry": {"policy": "fixed", "delay": "5", "on": {"2xx": "none"}}}).to_string();
    let answer = companion.admin("PATCH", &path(&subscription), &wrong).await;
    assert_eq!((answer.status, answer.faults()), (422, vec!["/retry/delay", "/retry/on/2xx"]));
    let reset = companion.admin("PATCH", &path(&subscription), r#"{"retry": null}"#).await;
    assert_eq!((reset.status, &reset.json["retry"]), (200, &Value::Null));
    assert_eq!(preview("").await, (200, 3), "those of the companion's own schedule");
}

#[tokio::test]
async fn a_resources_events_arrive_in_order_although_the_first_must_be_retried() {
    let companion = Companion::start().await;
    let receiver = Receiver::start(&[500, 500, 200]).await;
    let fields = json!({"ordering": "resource", "format": "cloudevents",
                        "retry": {"policy": "fixed", "delay": "20ms", "attempts": 9}});
    subscribe(&companion, &receiver.url, &["*"], fields).await;
    for id in 1..=4 {
        event(&companion, &format!("x{id}"), "/x").await;
    }
    let received = receiver.received(6).await;
    let ids: Vec<_> = received
        .iter()
        .map(|(_, body)| serde_json::from_slice::<Value>(body).unwrap()["id"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(ids, ["x1", "x1", "x1", "x2", "x3", "x4"]);
    let places: Vec<i64> = received[2..]
        .iter()
        .map(|(headers, _)| headers["webhook-sequence"].to_str().unwrap().parse().unwrap())
        .collect();
    assert!(places.is_sorted_by(|one, next| one < next), "{places:?}");
}

#[tokio::test]
async fn a_subscription_that_goes_off_is_an_event_for_those_who_name_it() {
    let companion = Companion::start().await;
    let (watcher, star, gone) =
        (Receiver::start(&[200]).await, Receiver::start(&[200]).await, Receiver::start(&[410]).await);
    subscribe(&companion, &watcher.url, &["gatehook.subscription.*"], json!({})).await;
    subscribe(&companion, &star.url, &["*"], json!({})).await;
    let off = subscribe(&companion, &gone.url, &["contact.*"], json!({"description": "d"})).await;
    companion.contact_created("1").await;
    let (_, body) = watcher.received(1).await.remove(0);
    let body: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(body["type"], "gatehook.subscription.off");
    assert_eq!((&body["data"]["id"], &body["data"]["description"]), (&off["id"], &json!("d")));
    assert_eq!(body["data"]["off_reason"], "the receiver answered 410 Gone");
    companion.admin("PATCH", &path(&off), r#"{"status": "on"}"#).await;
    let (_, body) = watcher.received(2).await.remove(1);
    let body: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(body["type"], "gatehook.subscription.on");
    companion.contact_created("2").await;
    let types: Vec<_> = star
        .received(2)
        .await
        .iter()
        .map(|(_, body)| serde_json::from_slice::<Value>(body).unwrap()["type"].clone())
        .collect();
    assert_eq!(types, ["contact.create", "contact.create"], "a star is not asked for news of ours");
    let page = companion.admin("GET", "/v1/events", "").await.json;
    assert!(
        page["data"].as_array().unwrap().iter().any(|event| event["type"] == "gatehook.subscription.off")
    );
}

#[tokio::test]
async fn an_exhausted_delivery_is_an_event_and_its_own_news_are_not() {
    let companion = Companion::start().await;
    let (watcher, broken) = (Receiver::start(&[500]).await, Receiver::start(&[500]).await);
    subscribe(&companion, &watcher.url, &["gatehook.delivery.exhausted"], json!({"retry": "none"})).await;
    subscribe(&companion, &broken.url, &["contact.*"], json!({"retry": "none"})).await;
    companion.contact_created("1").await;
    let (_, body) = watcher.received(1).await.remove(0);
    let body: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(body["type"], "gatehook.delivery.exhausted");
    assert_eq!((&body["data"]["event"]["id"], &body["data"]["status"]), (&json!("1"), &json!(500)));
    // The watcher's own delivery is exhausted too; nothing is told of that, or it would go on for ever.
    let exhausted = async || {
        let page = companion.admin("GET", "/v1/deliveries?status=exhausted", "").await.json;
        page["data"].as_array().unwrap().len()
    };
    while exhausted().await < 2 {
        tokio::task::yield_now().await;
    }
    let page = companion.admin("GET", "/v1/events?type=gatehook.delivery.exhausted", "").await.json;
    assert_eq!(page["data"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_subscription_ends_at_its_time_unless_it_is_renewed() {
    let companion = Companion::start().await;
    let receiver = Receiver::start(&[200]).await;
    let tomorrow = companion.tomorrow();
    let ends = subscribe(&companion, &receiver.url, &["*"], json!({"expires_at": tomorrow})).await;
    let renewed = subscribe(&companion, &receiver.url, &["*"], json!({"expires_at": tomorrow})).await;
    let later = r#"{"expires_at": "2999-01-01T00:00:00Z"}"#;
    assert_eq!(companion.admin("PATCH", &path(&renewed), later).await.status, 200);
    let past = companion.admin("PATCH", &path(&renewed), r#"{"expires_at": "2001-01-01T00:00:00Z"}"#).await;
    assert_eq!((past.status, past.faults()), (422, vec!["/expires_at"]));
    let companion = companion.restart_days_later(2).await;
    companion.contact_created("1").await;
    receiver.received(1).await;
    let off = tokio::time::timeout(Duration::from_secs(20), async {
        loop {
            let read = companion.admin("GET", &path(&ends), "").await.json;
            if read["status"] == "off" {
                return read;
            }
            tokio::task::yield_now().await;
        }
    });
    assert_eq!(off.await.unwrap()["off_reason"], "its time is over (expires_at)");
    let page = companion.admin("GET", "/v1/deliveries?event=1", "").await.json;
    assert_eq!(
        page["data"].as_array().unwrap().len(),
        1,
        "nothing is made for a subscription whose time is over"
    );
    assert_eq!(companion.admin("GET", &path(&renewed), "").await.json["status"], "on");
}
