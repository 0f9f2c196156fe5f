//! Once more: replays for late joiners, recoveries of what failed, with progress, and each of them idempotent.

use serde_json::{Value, json};

use crate::client::{Answer, Companion, Receiver};

/// Waits until a replay has ended, and returns it.
async fn ended(companion: &Companion, made: &Answer) -> Value {
    assert_eq!(made.status, 202, "{}", made.json);
    let location = made.headers["location"].to_str().unwrap().to_owned();
    loop {
        let replay = companion.admin("GET", &location, "").await.json;
        if replay["state"] != "running" {
            return replay;
        }
        tokio::task::yield_now().await;
    }
}

fn path(subscription: &Value, rest: &str) -> String {
    format!("/v1/subscriptions/{}/{rest}", subscription["id"].as_str().unwrap())
}

#[tokio::test]
async fn a_late_joiner_gets_past_events_once_however_often_they_are_replayed() {
    let companion = Companion::start().await;
    for id in ["1", "2", "3"] {
        companion.contact_created(id).await;
    }
    let receiver = Receiver::start(&[200]).await;
    let subscription = companion.subscribe(&receiver.url).await;
    let all = companion.admin("POST", &path(&subscription, "replay"), "").await;
    let replay = ended(&companion, &all).await;
    assert_eq!(replay["state"], "done");
    assert_eq!(replay["progress"], json!({"looked_at": 3, "total": 3, "made": 3}));
    receiver.received(3).await;
    let again = companion.admin("POST", &path(&subscription, "replay"), r#"{"rate": "1000/s"}"#).await;
    assert_eq!(ended(&companion, &again).await["progress"]["made"], 0);
    let other = companion.admin("POST", &path(&subscription, "replay"), r#"{"events": ["order.*"]}"#).await;
    assert_eq!(ended(&companion, &other).await["progress"], json!({"looked_at": 3, "total": 3, "made": 0}));
    let list = companion.admin("GET", "/v1/replays?state=done&limit=2", "").await.json;
    assert_eq!(list["data"].as_array().unwrap().len(), 2);
    let older = format!("/v1/replays?cursor={}", list["next_cursor"].as_str().unwrap());
    assert_eq!(companion.admin("GET", &older, "").await.json["data"][0]["id"], replay["id"]);
}

#[tokio::test]
async fn what_failed_since_a_time_is_recovered_and_what_arrived_is_not() {
    let companion = Companion::start().await;
    // Three attempts of the first delivery fail, then the receiver is well again.
    let receiver = Receiver::start(&[500, 500, 500, 200]).await;
    let subscription = companion.subscribe(&receiver.url).await;
    companion.contact_created("failed").await;
    receiver.received(3).await;
    let status = async |id: &str| {
        companion.admin("GET", &format!("/v1/deliveries?event={id}"), "").await.json["data"][0]["status"]
            .clone()
    };
    while status("failed").await != "exhausted" {
        tokio::task::yield_now().await;
    }
    companion.contact_created("arrived").await;
    receiver.received(4).await;
    let recovery = companion
        .admin("POST", &path(&subscription, "recover"), r#"{"since": "2020-01-01T00:00:00Z"}"#)
        .await;
    assert_eq!(ended(&companion, &recovery).await["progress"]["made"], 1);
    receiver.received(5).await;
    while status("failed").await != "delivered" {
        tokio::task::yield_now().await;
    }
    let everywhere = companion.admin("POST", "/v1/deliveries/redeliver", r#"{"status": "exhausted"}"#).await;
    assert_eq!(ended(&companion, &everywhere).await["progress"]["made"], 0);
}

#[tokio::test]
async fn a_replay_with_an_idempotency_key_is_asked_for_once() {
    let companion = Companion::start().await;
    companion.contact_created("1").await;
    let receiver = Receiver::start(&[200]).await;
    let subscription = companion.subscribe(&receiver.url).await;
    let headers = [("authorization", "Bearer admin"), ("idempotency-key", "k")];
    let first = companion.send("POST", &path(&subscription, "replay"), &headers, "{}").await;
    let second = companion.send("POST", &path(&subscription, "replay"), &headers, "{}").await;
    assert_eq!((first.status, &first.json["id"]), (202, &second.json["id"]));
    let other = companion.send("POST", &path(&subscription, "replay"), &headers, r#"{"events":["*"]}"#).await;
    assert_eq!((other.status, other.faults()), (422, vec!["idempotency-key"]));
}

#[tokio::test]
async fn a_slow_replay_can_be_ended() {
    let companion = Companion::start().await;
    companion.contact_created("1").await;
    let receiver = Receiver::start(&[200]).await;
    let subscription = companion.subscribe(&receiver.url).await;
    let slow = companion.admin("POST", &path(&subscription, "replay"), r#"{"rate": "1/h"}"#).await;
    let location = slow.headers["location"].to_str().unwrap();
    assert_eq!(companion.admin("DELETE", location, "").await.json["state"], "cancelled");
    assert_eq!(companion.admin("GET", location, "").await.json["progress"]["made"], 0);
}

#[tokio::test]
async fn a_replay_that_cannot_be_is_refused_with_its_place() {
    let companion = Companion::start().await;
    let receiver = Receiver::start(&[200]).await;
    let subscription = companion.subscribe(&receiver.url).await;
    let check = async |rest: &str, body: &str, status: u16, places: &[&str]| {
        let answer = companion.admin("POST", &path(&subscription, rest), body).await;
        assert_eq!((answer.status, answer.faults()), (status, places.to_vec()), "{body}: {}", answer.json);
    };
    check("replay", "[]", 400, &[""]).await;
    check(
        "replay",
        r#"{"since": "yesterday", "rate": "fast", "status": "exhausted"}"#,
        422,
        &["/since", "/rate", "/status"],
    )
    .await;
    check(
        "replay",
        r#"{"since": "2026-01-02T00:00:00Z", "until": "2026-01-01T00:00:00Z"}"#,
        422,
        &["/until"],
    )
    .await;
    check("recover", r#"{"status": "delivered", "events": []}"#, 422, &["/events", "/status"]).await;
    assert_eq!(companion.admin("POST", "/v1/subscriptions/sub_none/replay", "").await.status, 404);
    assert_eq!(companion.admin("GET", "/v1/replays/rpl_none", "").await.status, 404);
    companion.admin("PATCH", path(&subscription, "").trim_end_matches('/'), r#"{"status": "off"}"#).await;
    check("replay", "{}", 409, &[]).await;
}
