//! `/v1/event-types` and `/v1/catalogue`: learnt from what was accepted, described by an operator, told of when it changes.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Value, json};

use crate::client::{Companion, Receiver};

const BATCH: &str = "application/cloudevents-batch+json";

/// Accepts as many events of a type.
async fn accept(
    companion: &Companion,
    event_type: &str,
    tenant: Option<&str>,
    data: &Value,
    ids: std::ops::Range<u32>,
) {
    let event = |id: u32| {
        let event = json!({"specversion": "1.0", "id": format!("{event_type}{id}"), "source": "/t", "type": event_type, "data": data});
        let mut event = event.as_object().unwrap().clone();
        event.extend(tenant.map(|tenant| ("tenant".to_owned(), json!(tenant))));
        Value::Object(event)
    };
    let batch: Vec<Value> = ids.map(event).collect();
    let answer = companion.ingest(BATCH, &Value::from(batch).to_string()).await;
    assert_eq!(answer.json["refused"], json!([]), "{}", answer.json);
}

/// The event type once it was counted so often.
async fn counted(companion: &Companion, event_type: &str, count: u32) -> Value {
    loop {
        let answer = companion.admin("GET", &format!("/v1/event-types/{event_type}"), "").await;
        if answer.status == 200 && answer.json["count"] == count {
            return answer.json;
        }
        assert!(
            answer.status == 404 || answer.json["count"].as_u64() <= Some(count.into()),
            "{}",
            answer.json
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn event_types_are_learnt_from_what_passed_and_none_of_it_is_shown() {
    let companion = Companion::start().await;
    let data = json!({"id": 7, "name": "Ada Lovelace", "at": "2026-01-30T12:34:56Z", "tags": ["x"]});
    accept(&companion, "contact.create", None, &data, 0..3).await;
    accept(&companion, "contact.create", Some("blue"), &json!({"id": 8, "at": "2026-01-30T12:34:56Z"}), 3..5)
        .await;
    accept(&companion, "order.create", None, &json!({"total": 1.5}), 0..1).await;
    counted(&companion, "order.create", 1).await;
    let contact = counted(&companion, "contact.create", 5).await;
    let schema = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "properties": {
            "at": {"type": "string", "format": "date-time"},
            "id": {"type": "integer"},
            "name": {"type": "string"},
            "tags": {"type": "array", "items": {"type": "string"}},
        },
        "required": ["at", "id"],
    });
    assert_eq!(contact["schema"], schema);
    assert_eq!(contact["sample"], json!({"at": "2000-01-01T00:00:00Z", "id": 0}));
    assert_eq!((&contact["description"], &contact["published"]), (&json!(null), &json!(false)));
    let companion = companion.restart().await;
    accept(&companion, "contact.create", None, &data, 2..6).await;
    let contact = counted(&companion, "contact.create", 6).await;
    assert_eq!(contact["sample"]["name"], "xxx xxxxxxxx");
    assert!(contact["first_at"].as_str() < contact["last_at"].as_str(), "{contact}");
    let metrics = companion.send("GET", "/metrics", &[], "").await.json;
    assert!(metrics.as_str().unwrap().contains("gatehook_catalogue_behind 0\n"), "{metrics}");
}

#[tokio::test]
async fn an_operator_describes_publishes_and_forgets_types() {
    let companion = Companion::start().await;
    for event_type in ["a.b", "c.d", "https://example.com/x"] {
        accept(&companion, event_type, None, &json!({}), 0..1).await;
    }
    counted(&companion, "https%3A%2F%2Fexample.com%2Fx", 1).await;
    let page = companion.admin("GET", "/v1/event-types?limit=2", "").await.json;
    let names = |page: &Value| -> Vec<Value> {
        page["data"].as_array().unwrap().iter().map(|found| found["type"].clone()).collect()
    };
    assert_eq!(names(&page), ["a.b", "c.d"]);
    let next = page["next_cursor"].as_str().unwrap();
    let page = companion.admin("GET", &format!("/v1/event-types?limit=2&cursor={next}"), "").await.json;
    assert_eq!((names(&page), &page["next_cursor"]), (vec![json!("https://example.com/x")], &json!(null)));

    let said =
        companion.admin("PATCH", "/v1/event-types/a.b", r#"{"description":"An a.","published":true}"#).await;
    assert_eq!(
        (said.status, &said.json["description"], &said.json["published"]),
        (200, &json!("An a."), &json!(true))
    );
    let less = companion.admin("PATCH", "/v1/event-types/a.b", r#"{"description":null}"#).await;
    assert_eq!((&less.json["description"], &less.json["published"]), (&json!(null), &json!(true)));
    for (body, status, faults) in [
        ("{", 400, vec![""]),
        (r#"{"count":1}"#, 422, vec!["/count"]),
        (r#"{"description":"","published":1}"#, 422, vec!["/description", "/published"]),
    ] {
        let refused = companion.admin("PATCH", "/v1/event-types/a.b", body).await;
        assert_eq!((refused.status, refused.faults()), (status, faults), "{body}");
    }
    assert_eq!(companion.admin("PATCH", "/v1/event-types/nobody", "{}").await.status, 404);
    assert_eq!(companion.admin("DELETE", "/v1/event-types/a.b", "").await.status, 204);
    for method in ["GET", "DELETE"] {
        assert_eq!(companion.admin(method, "/v1/event-types/a.b", "").await.status, 404, "{method}");
    }
    let audit = companion.admin("GET", "/v1/audit", "").await.json;
    let lines: Vec<_> =
        audit["data"].as_array().unwrap().iter().map(|line| line["action"].as_str().unwrap()).collect();
    assert_eq!(lines, ["event-type.delete", "event-type.update", "event-type.update"]);
}

#[tokio::test]
async fn a_change_of_the_data_is_delivered_to_whoever_names_it() {
    let companion = Companion::start().await;
    let receiver = Receiver::start(&[200]).await;
    let body = json!({"target_url": receiver.url, "events": ["gatehook.schema.changed"]});
    assert_eq!(companion.admin("POST", "/v1/subscriptions", &body.to_string()).await.status, 201);
    for round in 0..5 {
        accept(&companion, "a.b", Some("blue"), &json!({"id": 1}), round * 10..round * 10 + 10).await;
        counted(&companion, "a.b", round * 10 + 10).await;
    }
    accept(&companion, "a.b", Some("blue"), &json!({"id": "1"}), 50..51).await;
    let (_, delivered) = receiver.received(1).await.remove(0);
    let delivered: Value = serde_json::from_slice(&delivered).unwrap();
    let change = json!({"kind": "type_changed", "path": "/id", "before": ["integer"], "after": ["string"]});
    assert_eq!(delivered["type"], "gatehook.schema.changed");
    assert_eq!(delivered["subject"], "/v1/event-types/a.b");
    assert_eq!(delivered["data"], json!({"type": "a.b", "changes": [change]}));
    let listed = companion.admin("GET", "/v1/event-types", "").await.json;
    assert_eq!(listed["data"].as_array().unwrap().len(), 1, "our own events are no event types: {listed}");
}

#[tokio::test]
async fn the_catalogue_is_exported_with_what_was_learnt_and_said() {
    let companion = Companion::start().await;
    accept(&companion, "a.b", None, &json!({"id": 1, "name": "Ada"}), 0..1).await;
    accept(&companion, "c.d", None, &json!(["x"]), 0..1).await;
    counted(&companion, "c.d", 1).await;
    companion.admin("PATCH", "/v1/event-types/a.b", r#"{"description":"An a."}"#).await;
    let openapi = companion.admin("GET", "/v1/catalogue/openapi.json", "").await.json;
    let asyncapi = companion.admin("GET", "/v1/catalogue/asyncapi.json", "").await.json;
    let keys = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<BTreeSet<_>>();
    let both = BTreeSet::from(["a.b".to_owned(), "c.d".to_owned()]);
    let messages = &asyncapi["channels"]["webhooks"]["messages"];
    assert_eq!((keys(&openapi["webhooks"]), keys(messages)), (both.clone(), both));
    let webhook = &openapi["webhooks"]["a.b"]["post"];
    let content = &webhook["requestBody"]["content"]["application/json"];
    assert_eq!(
        (&webhook["description"], &messages["a.b"]["description"]),
        (&json!("An a."), &json!("An a."))
    );
    assert_eq!(content["example"]["data"], json!({"id": 0, "name": "xxx"}));
    assert_eq!(content["schema"], messages["a.b"]["payload"]);
    assert_eq!(content["schema"]["properties"]["data"]["required"], json!(["id", "name"]));
}

#[tokio::test]
async fn what_is_exported_is_what_is_delivered() {
    let companion = Companion::start().await;
    let receiver = Receiver::start(&[200]).await;
    companion.subscribe(&receiver.url).await;
    accept(&companion, "a.b", None, &json!({"id": 1}), 0..1).await;
    counted(&companion, "a.b", 1).await;
    let (headers, delivered) = receiver.received(1).await.remove(0);
    let openapi = companion.admin("GET", "/v1/catalogue/openapi.json", "").await.json;
    let content = &openapi["webhooks"]["a.b"]["post"]["requestBody"]["content"]["application/json"];
    let validator = jsonschema::options().should_validate_formats(true).build(&content["schema"]).unwrap();
    let delivered: Value = serde_json::from_slice(&delivered).unwrap();
    let faults: Vec<_> = validator.iter_errors(&delivered).map(|fault| fault.to_string()).collect();
    assert!(faults.is_empty(), "{faults:?}");
    for name in openapi["components"]["parameters"].as_object().unwrap().keys() {
        assert!(headers.contains_key(name), "{name}");
    }
}
