//! Charts: what was delivered, what failed and how long it took.

use serde_json::{Value, json};

use crate::client::{Companion, Receiver};

/// Waits until all deliveries have ended, and stops and starts the companion, which writes what it has counted.
async fn counted(companion: Companion) -> Companion {
    let pending = "/v1/deliveries?status=pending";
    while companion.admin("GET", pending, "").await.json["data"] != json!([]) {
        tokio::task::yield_now().await;
    }
    companion.restart().await
}

fn sum(chart: &Value, field: &str) -> i64 {
    chart["data"].as_array().unwrap().iter().map(|step| step[field].as_i64().unwrap()).sum()
}

#[tokio::test]
async fn what_was_delivered_and_what_failed_is_in_the_chart_after_a_stop() {
    let companion = Companion::start().await;
    let (good, bad) = (Receiver::start(&[200]).await, Receiver::start(&[500]).await);
    let good = companion.subscribe(&good.url).await["id"].as_str().unwrap().to_owned();
    let bad = companion.subscribe(&bad.url).await["id"].as_str().unwrap().to_owned();
    companion.contact_created("1").await;
    companion.contact_created("2").await;
    let companion = counted(companion).await;
    let chart = companion.admin("GET", "/v1/statistics?group=subscription", "").await;
    assert_eq!((chart.status, &chart.json["step_s"]), (200, &json!(900)), "{}", chart.json);
    let chart = chart.json;
    assert!((96..=97).contains(&chart["data"].as_array().unwrap().len()), "every step is there");
    assert_eq!(
        ["attempts", "delivered", "failed", "exhausted"].map(|field| sum(&chart, field)),
        [8, 2, 6, 2]
    );
    let empty = &chart["data"][0];
    assert_eq!(
        (&empty["at"], &empty["attempts"], &empty["duration_ms"]),
        (&chart["from"], &json!(0), &json!(null))
    );
    let keys: Vec<_> = chart["groups"].as_array().unwrap().iter().map(|group| &group["key"]).collect();
    assert_eq!(keys, [&json!(bad), &json!(good)]);
    assert!(chart["groups"][1]["duration_ms"]["p99"].is_i64());
    let of = async |query: &str| {
        let chart = companion.admin("GET", &format!("/v1/statistics?{query}"), "").await.json;
        assert_eq!(chart.get("groups"), None);
        sum(&chart, "attempts")
    };
    assert_eq!(of(&format!("subscription={good}")).await, 2);
    assert_eq!(of(&format!("subscription={good}&type=contact.delete")).await, 0);
    assert_eq!(of("type=contact.create&step=1h").await, 8);
    assert_eq!(of("subscription=sub_nobody&step=1m").await, 0);
    assert_eq!(of("from=2990-01-01T00:00:00Z&to=2999-01-01T00:00:00Z").await, 0);
    let by_type = companion.admin("GET", "/v1/statistics?group=type&step=1h", "").await.json;
    assert_eq!(by_type["groups"][0]["key"], "contact.create");
}

#[tokio::test]
async fn every_fault_of_a_chart_is_named() {
    let companion = Companion::start().await;
    let wrong = companion.admin("GET", "/v1/statistics?from=x&to=y&step=1&group=tenant", "").await;
    assert_eq!((wrong.status, wrong.faults()), (400, vec!["to", "from", "step", "group"]));
    assert_eq!(companion.admin("GET", "/v1/statistics?step=30s", "").await.faults(), ["step"]);
    assert_eq!(companion.admin("GET", "/v1/statistics?bucket=1m", "").await.faults(), ["query"]);
}

#[tokio::test]
async fn an_erased_tenant_leaves_no_counts_of_its_subscriptions() {
    let companion = Companion::start().await;
    let receiver = Receiver::start(&[200]).await;
    let body = json!({"target_url": receiver.url, "events": ["*"], "tenant": "acme"}).to_string();
    companion.admin("POST", "/v1/subscriptions", &body).await;
    let event = r#"{"specversion":"1.0","id":"1","source":"/t","type":"a.b","tenant":"acme"}"#;
    companion.ingest("application/cloudevents+json", event).await;
    receiver.received(1).await;
    let companion = counted(companion).await;
    let groups = async || {
        let chart = companion.admin("GET", "/v1/statistics?group=subscription", "").await;
        chart.json["groups"].as_array().unwrap().len()
    };
    assert_eq!(groups().await, 1);
    assert_eq!(companion.admin("POST", "/v1/erase", r#"{"tenant":"acme"}"#).await.status, 200);
    assert_eq!(groups().await, 0);
}
