//! Whose events a subscription sees, and what the filter tells of them beside the data.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::client::{Companion, Receiver};

const BATCH: &str = "application/cloudevents-batch+json";

/// Makes a subscription to everything and returns its id.
async fn subscribe(companion: &Companion, body: Value) -> String {
    let made = companion.admin("POST", "/v1/subscriptions", &body.to_string()).await;
    assert_eq!(made.status, 201, "{}", made.json);
    made.json["id"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_tenants_subscription_gets_its_own_events_and_never_one_without_a_tenant() {
    let companion = Companion::start().await;
    let receiver = Receiver::start(&[200]).await;
    let mut subscriptions = Vec::new();
    for tenant in [json!(null), json!("blue"), json!("red")] {
        let body = json!({"target_url": receiver.url, "events": ["*"], "tenant": tenant});
        subscriptions.push(subscribe(&companion, body).await);
    }
    let event = |id: &str, tenant: &str| {
        format!(r#"{{"specversion":"1.0","id":"{id}","source":"/t","type":"a.b"{tenant}}}"#)
    };
    let batch = [
        event("blue", r#","tenant":"blue""#),
        event("green", r#","tenant":"green""#),
        event("none", ""),
        event("null", r#","tenant":null"#),
    ];
    let answer = companion.ingest(BATCH, &format!("[{}]", batch.join(","))).await;
    assert_eq!(answer.headers["gatehook-ack"], "accepted=4;repeated=0;refused=0");
    let headers = [
        ("authorization", "Bearer ingest"),
        ("ce-specversion", "1.0"),
        ("ce-id", "binary"),
        ("ce-source", "/t"),
        ("ce-type", "a.b"),
    ];
    assert_eq!(companion.send("POST", "/v1/events", &headers, "").await.status, 202);

    // Deliveries are made together with their event, so what is not listed now will never be sent.
    let (operators, operators_and_blues) = (&subscriptions[..1], &subscriptions[..2]);
    for (id, expected) in [
        ("blue", operators_and_blues),
        ("green", operators),
        ("none", operators),
        ("null", operators),
        ("binary", operators),
    ] {
        let page = companion.admin("GET", &format!("/v1/deliveries?event={id}"), "").await.json;
        let found = page["data"].as_array().unwrap().iter();
        let found: BTreeSet<_> = found.map(|delivery| delivery["subscription"].as_str().unwrap()).collect();
        assert_eq!(found, expected.iter().map(String::as_str).collect(), "{id}");
    }
    let empty = companion.ingest(BATCH, &format!("[{}]", event("empty", r#","tenant":"""#))).await;
    assert_eq!(empty.json["refused"][0]["path"], "/0/tenant");
}

#[tokio::test]
async fn what_the_filter_tells_beside_the_data_is_delivered_byte_for_byte() {
    let companion = Companion::start().await;
    let (standard, raw) = (Receiver::start(&[200]).await, Receiver::start(&[200]).await);
    subscribe(&companion, json!({"target_url": standard.url, "events": ["*"]})).await;
    subscribe(&companion, json!({"target_url": raw.url, "events": ["*"], "format": "raw"})).await;
    let deep = format!("{}1.00{}", "[".repeat(5_000), "]".repeat(5_000));
    let previous = format!(r#"{{"name" : "\u0041da",  "balance":10.50,"deep":{deep}}}"#);
    let changed = r#"["/name", "/a~1b", "/tags/0"]"#;
    let batch = format!(
        r#"[{{"specversion":"1.0","id":"1","source":"/t","type":"contact.update","actor":"ada","thin":"pointer",
             "sequence":17,"worker":"3","previous":{previous},"changed":{changed},"data":{{"name":"Ada"}}}}]"#
    );
    let answer = companion.ingest(BATCH, &batch).await;
    assert_eq!(answer.headers["gatehook-ack"], "accepted=1;repeated=0;refused=0", "{}", answer.json);

    let (_, body) = standard.received(1).await.remove(0);
    let body = std::str::from_utf8(&body).unwrap();
    let expected = format!(
        r#""actor":"ada","data":{{"name":"Ada"}},"thin":"pointer","previous":{previous},"changed":{changed},"hook""#
    );
    assert!(body.contains(&expected), "{body:.400}");
    let (_, body) = raw.received(1).await.remove(0);
    assert_eq!(body, r#"{"name":"Ada"}"#);
    assert_eq!(companion.admin("GET", "/v1/events/1", "").await.status, 200);
}

#[tokio::test]
async fn only_previous_and_changed_may_be_structured_and_a_fault_names_its_attribute() {
    let companion = Companion::start().await;
    for (attribute, place) in [
        (r#""changed":"/name""#, "/0/changed"),
        (r#""changed":["name"]"#, "/0/changed"),
        (r#""actor":{"id":7}"#, "/0/actor"),
        (r#""actor":7"#, "/0/actor"),
        (r#""worker":[1]"#, "/0/worker"),
        (r#""Previous":{}"#, "/0/Previous"),
    ] {
        let batch = format!(r#"[{{"specversion":"1.0","id":"1","source":"/t","type":"a.b",{attribute}}}]"#);
        let answer = companion.ingest(BATCH, &batch).await;
        assert_eq!((answer.status, &answer.json["refused"][0]["path"]), (202, &json!(place)));
    }
    let large = format!(
        r#"[{{"specversion":"1.0","id":"1","source":"/t","type":"a.b","previous":"{}"}}]"#,
        "a".repeat(4 << 20)
    );
    assert_eq!(companion.ingest(BATCH, &large).await.status, 413);
    assert_eq!(companion.admin("GET", "/v1/events", "").await.json["data"], json!([]));
}
