//! What is malformed is refused with an error that names the place.

use anyhow::{Result, ensure};
use harness::companion::Settings;
use harness::{Companion, Gateway, Upstream};
use serde_json::{Value, json};

use crate::world::{store, tell};

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_filter_configuration_does_not_load_and_names_the_path() {
    tell(async |run| {
        let upstream = Upstream::start(store).await?;
        let bad =
            json!({"resources": [{"path": "/v1/contacts/{id}", "noun": "contact", "statuses": ["soon"]}]});
        let gateway = Gateway::before(upstream.address(), upstream.address()).filter(&bad);
        let log = gateway.refused(run).await?;
        ensure!(log.contains("/resources/0/statuses/0"), "the log does not name the place:\n{log}");
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_malformed_subscription_or_event_names_its_field() {
    tell(async |run| {
        let companion = Companion::start(run, Settings::default()).await?;
        let subscriptions = [
            (json!({"events": ["*"]}), "target_url"),
            (json!({"target_url": "ftp://127.0.0.1/x", "events": ["*"]}), "target_url"),
            (json!({"target_url": "http://10.0.0.1/x", "events": ["*"]}), "target_url"),
            (json!({"target_url": "http://127.0.0.1:1/x", "events": ["contact.*.*"]}), "events"),
            (json!({"target_url": "http://127.0.0.1:1/x", "events": ["*"], "format": "xml"}), "format"),
        ];
        for (wanted, field) in subscriptions {
            let answer = companion.admin().post("/v1/subscriptions").json(&wanted).send().await?;
            names_field(&answer, field, &wanted)?;
        }
        let whole = json!({"specversion": "1.0", "id": "1", "source": "e2e", "type": "a.b"});
        for (field, value) in
            [("specversion", json!("0.3")), ("id", json!("")), ("source", json!(1)), ("type", Value::Null)]
        {
            let mut event = whole.clone();
            event[field] = value;
            let call =
                companion.ingest().post("/v1/events").header("content-type", "application/cloudevents+json");
            names_field(&call.body(event.to_string()).send().await?, field, &event)?;
        }
        Ok(())
    })
    .await;
}

fn names_field(answer: &harness::http::Response, field: &str, wanted: &Value) -> Result<()> {
    let body = String::from_utf8_lossy(&answer.body);
    ensure!((400..500).contains(&answer.status), "{wanted} was answered {}: {body}", answer.status);
    ensure!(body.contains(field), "the answer to {wanted} does not name {field}: {body}");
    ensure!(!body.contains("internal"), "the answer to {wanted} speaks of internals: {body}");
    Ok(())
}
