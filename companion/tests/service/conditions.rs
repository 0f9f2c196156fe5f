//! `match`: what a subscription wants beyond the type.

use serde_json::{Value, json};

use crate::client::{Companion, Receiver};

/// Makes a subscription that wants what `condition` says.
async fn subscribe(companion: &Companion, url: &str, condition: &Value) -> Value {
    let body = json!({"target_url": url, "events": ["*"], "match": condition});
    let made = companion.admin("POST", "/v1/subscriptions", &body.to_string()).await;
    assert_eq!(made.status, 201, "{}", made.json);
    assert_eq!(made.json["match"], *condition);
    made.json
}

#[tokio::test]
async fn an_event_reaches_those_whose_conditions_hold_and_a_replay_too() {
    let companion = Companion::start().await;
    let receiver = Receiver::start(&[200]).await;
    let conditions = [
        json!({"exact": {"/status": "paid"}}),
        json!([{"prefix": {"subject": "/orders/"}}, {"not": {"exact": {"/total": 5}}}]),
        json!({"cel": "has(data.total) && data.total > 100"}),
        json!({"any": [{"exact": {"tenant": "nobody"}}, {"suffix": {"type": ".delete"}}]}),
    ];
    let mut subscriptions = Vec::new();
    for condition in &conditions {
        subscriptions.push(subscribe(&companion, &receiver.url, condition).await["id"].clone());
    }
    for (id, event_type, subject, data, expected) in [
        ("1", "order.update", "/orders/1", json!({"status": "paid", "total": 120}), vec![0, 1, 2]),
        ("2", "order.update", "/orders/2", json!({"status": "open", "total": 5.0}), vec![]),
        ("3", "contact.delete", "/contacts/1", json!({}), vec![3]),
    ] {
        let event = json!({"specversion": "1.0", "id": id, "source": "/t", "type": event_type, "subject": subject, "data": data});
        assert_eq!(companion.ingest("application/cloudevents+json", &event.to_string()).await.status, 202);
        let page = companion.admin("GET", &format!("/v1/deliveries?event={id}"), "").await.json;
        let mut found: Vec<_> =
            page["data"].as_array().unwrap().iter().map(|found| &found["subscription"]).collect();
        found.sort_by_key(|id| id.as_str());
        assert_eq!(found, expected.iter().map(|at: &usize| &subscriptions[*at]).collect::<Vec<_>>(), "{id}");
    }
    let late = subscribe(&companion, &receiver.url, &conditions[0]).await;
    let path = format!("/v1/subscriptions/{}/replay", late["id"].as_str().unwrap());
    let replay = companion.admin("POST", &path, "").await;
    let location = replay.headers["location"].to_str().unwrap();
    let made = loop {
        let replay = companion.admin("GET", location, "").await.json;
        if replay["state"] == "done" {
            break replay["progress"]["made"].clone();
        }
        tokio::task::yield_now().await;
    };
    assert_eq!(made, 1);
}

#[tokio::test]
async fn a_condition_that_cannot_be_is_refused_with_every_place() {
    let companion = Companion::start().await;
    let condition = json!([{"exact": {"/a": []}}, {"cel": "data.all(x, x)"}, {"sql": "x"}]);
    let body = json!({"target_url": "https://example.com/", "events": ["*"], "match": condition}).to_string();
    let refused = companion.admin("POST", "/v1/subscriptions", &body).await;
    assert_eq!(
        (refused.status, refused.faults()),
        (422, vec!["/match/0/exact/~1a", "/match/1/cel", "/match/2/sql"])
    );
}
