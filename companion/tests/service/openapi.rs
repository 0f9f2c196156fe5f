//! `/openapi.json` says what the service does: its operations, its fields, its examples, and what it answers.

use std::collections::BTreeSet;

use jsonschema::Validator;
use serde_json::{Value, json};

use crate::client::{Answer, Companion, Receiver};

struct Description(Value);

impl Description {
    async fn read(companion: &Companion) -> Self {
        let answer = companion.send("GET", "/openapi.json", &[], "").await;
        assert_eq!((answer.status, &answer.json["openapi"]), (200, &json!("3.1.0")));
        Self(answer.json)
    }

    /// A validator of one schema, which may refer to the others.
    fn validator(&self, name: &str) -> Validator {
        let schema =
            json!({"$ref": format!("#/components/schemas/{name}"), "components": self.0["components"]});
        jsonschema::options().should_validate_formats(true).build(&schema).unwrap()
    }

    /// Whether an answer is one that the operation describes, with its headers.
    fn holds(&self, path: &str, method: &str, answer: &Answer) {
        let described = &self.0["paths"][path][method]["responses"][answer.status.to_string()];
        assert!(
            described.is_object(),
            "{method} {path} does not describe {}: {}",
            answer.status,
            answer.json
        );
        for name in described["headers"].as_object().into_iter().flat_map(|headers| headers.keys()) {
            assert!(answer.headers.contains_key(name), "{method} {path} {}: no {name}", answer.status);
        }
        let Some(content) = described["content"].as_object() else { return };
        let (media_type, content) = content.iter().next().unwrap();
        assert_eq!(answer.headers["content-type"], media_type.as_str(), "{method} {path}");
        if let Some(name) = content["schema"]["$ref"].as_str().and_then(|place| place.rsplit('/').next()) {
            let faults: Vec<_> =
                self.validator(name).iter_errors(&answer.json).map(|fault| fault.to_string()).collect();
            assert!(faults.is_empty(), "{method} {path} {}: {faults:?}\n{}", answer.status, answer.json);
        }
    }
}

#[tokio::test]
async fn the_fields_of_a_subscription_are_those_that_are_shown_and_read() {
    let companion = Companion::start().await;
    let description = Description::read(&companion).await;
    let receiver = Receiver::start(&[200]).await;
    let made = companion.subscribe(&receiver.url).await;
    let names = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<BTreeSet<_>>();
    let properties = |name: &str| names(&description.0["components"]["schemas"][name]["properties"]);
    let ours = ["id", "off_reason", "failing_since", "created_at", "updated_at"].map(str::to_owned);
    let mut shown = properties("SubscriptionFields");
    shown.extend(ours);
    assert_eq!(names(&made), shown);
    assert_eq!(properties("SubscriptionPatch"), properties("SubscriptionFields"));
    let words = &description.0["components"]["schemas"]["SubscriptionFields"]["properties"];
    for field in ["status", "format", "ordering", "signing", "handshake"] {
        let refused = companion
            .admin(
                "POST",
                "/v1/subscriptions",
                &json!({"target_url": receiver.url, "events": ["*"], field: "?"}).to_string(),
            )
            .await;
        let allowed = refused.json["errors"][0]["detail"].as_str().unwrap();
        let listed = words[field]["enum"].as_array().unwrap().iter().map(|word| word.as_str().unwrap());
        assert_eq!(allowed, format!("must be one of {}", listed.collect::<Vec<_>>().join(", ")), "{field}");
    }
}

#[tokio::test]
async fn every_example_fits_its_schema_and_is_taken() {
    let companion = Companion::start().await;
    let description = Description::read(&companion).await;
    let receiver = Receiver::start(&[200]).await;
    let schemas = description.0["components"]["schemas"].as_object().unwrap().clone();
    let mut count = 0;
    for (name, schema) in &schemas {
        for example in schema["examples"].as_array().into_iter().flatten() {
            let faults: Vec<_> =
                description.validator(name).iter_errors(example).map(|fault| fault.to_string()).collect();
            assert!(faults.is_empty(), "{name}: {faults:?}");
            count += 1;
        }
    }
    assert!(count > 15, "{count} examples");
    let examples = |name: &str| schemas[name]["examples"].as_array().unwrap().clone();
    let target = |mut example: Value| {
        example["target_url"] = json!(receiver.url);
        example.to_string()
    };
    let made = companion.subscribe(&receiver.url).await;
    companion.contact_created("1").await;
    companion.learnt("contact.create").await;
    let path = format!("/v1/subscriptions/{}", made["id"].as_str().unwrap());
    let mut asked: Vec<(&str, String, String, u16)> = Vec::new();
    for (method, path, schema, status) in [
        ("POST", "/v1/subscriptions".to_owned(), "SubscriptionFields", 201),
        ("PUT", path.clone(), "SubscriptionFields", 200),
        ("POST", format!("{path}/rotate-secret"), "Rotation", 200),
        ("POST", format!("{path}/replay"), "ReplayFields", 202),
        ("POST", format!("{path}/recover"), "RecoveryFields", 202),
        ("PATCH", path, "SubscriptionPatch", 200),
        ("POST", "/v1/deliveries/redeliver".to_owned(), "RecoveryQuery", 202),
        ("PATCH", "/v1/event-types/contact.create".to_owned(), "EventTypePatch", 200),
        ("POST", "/v1/tokens".to_owned(), "TokenFields", 201),
        ("POST", "/v1/erase".to_owned(), "Erasure", 200),
    ] {
        let own = schema == "SubscriptionFields";
        let bodies = examples(schema)
            .into_iter()
            .map(|example| if own { target(example) } else { example.to_string() });
        asked.extend(bodies.map(|body| (method, path.clone(), body, status)));
    }
    let wrapped = [("match", "Filter"), ("auth", "Auth"), ("retry", "RetryPolicy")];
    for (field, schema) in wrapped {
        for example in examples(schema) {
            let body = target(json!({"events": ["*"], field: example}));
            asked.push(("POST", "/v1/subscriptions".to_owned(), body, 201));
        }
    }
    for (method, path, body, status) in asked {
        let answer = companion.admin(method, &path, &body).await;
        assert_eq!(answer.status, status, "{method} {path} {body}: {}", answer.json);
    }
    let event = examples("CloudEvent")[0].to_string();
    assert_eq!(companion.ingest("application/cloudevents+json", &event).await.json["refused"], json!([]));
}

#[tokio::test]
async fn what_is_answered_is_what_is_described() {
    let companion = Companion::start().await;
    let description = Description::read(&companion).await;
    let receiver = Receiver::start(&[500, 200]).await;
    let hold = |path: &str, method: &str, answer: &Answer| description.holds(path, method, answer);
    let body = json!({"target_url": receiver.url, "events": ["*"], "expires_at": "2999-01-01T00:00:00Z"})
        .to_string();
    let made = companion.admin("POST", "/v1/subscriptions", &body).await;
    hold("/v1/subscriptions", "post", &made);
    companion.contact_created("1").await;
    receiver.received(2).await;
    companion.learnt("contact.create").await;
    let delivery = companion.admin("GET", "/v1/deliveries", "").await;
    let (subscription, delivery_id) =
        (id(&made), delivery.json["data"][0]["id"].as_str().unwrap().to_owned());
    hold("/v1/deliveries", "get", &delivery);
    let token = companion.admin("POST", "/v1/tokens", r#"{"scope": "read"}"#).await;
    hold("/v1/tokens", "post", &token);
    let replay = companion
        .admin("POST", &format!("/v1/subscriptions/{subscription}/replay"), r#"{"events": ["*"]}"#)
        .await;
    hold("/v1/subscriptions/{id}/replay", "post", &replay);
    let within = |path: &str, id: &str| path.replace("{id}", id);
    for (path, id) in [
        ("/v1/subscriptions", ""),
        ("/v1/subscriptions/{id}", subscription.as_str()),
        ("/v1/subscriptions/{id}/retry-preview", &subscription),
        ("/v1/deliveries/{id}", &delivery_id),
        ("/v1/deliveries/{id}/request", &delivery_id),
        ("/v1/statistics", ""),
        ("/v1/replays", ""),
        ("/v1/replays/{id}", &id(&replay)),
        ("/v1/events", ""),
        ("/v1/events/{id}", "1"),
        ("/v1/event-types", ""),
        ("/v1/event-types/{id}", "contact.create"),
        ("/v1/catalogue/openapi.json", ""),
        ("/v1/catalogue/asyncapi.json", ""),
        ("/v1/unmatched", ""),
        ("/v1/tokens", ""),
        ("/v1/audit", ""),
        ("/v1/signing-keys", ""),
        ("/.well-known/jwks.json", ""),
        ("/healthz", ""),
        ("/readyz", ""),
        ("/metrics", ""),
    ] {
        hold(path, "get", &companion.admin("GET", &within(path, id), "").await);
        if path.contains("{id}") {
            hold(path, "get", &companion.admin("GET", &within(path, "nobody"), "").await);
        }
        if path.starts_with("/v1/") {
            hold(path, "get", &companion.send("GET", &within(path, id), &[], "").await);
            let headers = [("authorization", "Bearer ingest")];
            hold(path, "get", &companion.send("GET", &within(path, id), &headers, "").await);
        }
    }
}

#[tokio::test]
async fn what_is_answered_to_a_change_is_what_is_described() {
    let companion = Companion::start().await;
    let description = Description::read(&companion).await;
    let receiver = Receiver::start(&[200]).await;
    let hold = |path: &str, method: &str, answer: &Answer| description.holds(path, method, answer);
    let subscription = companion.subscribe(&receiver.url).await["id"].as_str().unwrap().to_owned();
    companion.contact_created("1").await;
    receiver.received(1).await;
    companion.learnt("contact.create").await;
    let delivery = companion.admin("GET", "/v1/deliveries", "").await;
    let delivery_id = delivery.json["data"][0]["id"].as_str().unwrap().to_owned();
    let token = companion.admin("POST", "/v1/tokens", r#"{"scope": "read"}"#).await;
    let replay = companion.admin("POST", &format!("/v1/subscriptions/{subscription}/replay"), "").await;
    for (path, method, id, body) in [
        ("/v1/subscriptions/{id}", "patch", subscription.as_str(), r#"{"status": "off"}"#),
        ("/v1/subscriptions/{id}", "patch", &subscription, r#"{"status": "of"}"#),
        ("/v1/subscriptions/{id}", "put", &subscription, "{"),
        ("/v1/subscriptions/{id}/ping", "post", &subscription, ""),
        ("/v1/subscriptions/{id}/rotate-secret", "post", &subscription, ""),
        ("/v1/subscriptions/{id}/replay", "post", &subscription, ""),
        ("/v1/deliveries/{id}/redeliver", "post", &delivery_id, ""),
        ("/v1/deliveries/redeliver", "post", "", ""),
        ("/v1/signing-keys/rotate", "post", "", ""),
        ("/v1/replays/{id}", "delete", &id(&replay), ""),
        ("/v1/tokens/{id}", "delete", &id(&token), ""),
        ("/v1/event-types/{id}", "patch", "contact.create", r#"{"published": true}"#),
        ("/v1/event-types/{id}", "patch", "contact.create", r#"{"count": 1}"#),
        ("/v1/event-types/{id}", "delete", "contact.create", ""),
        ("/v1/event-types/{id}", "delete", "nobody", ""),
        ("/v1/erase", "post", "", r#"{"subject": "/x"}"#),
        ("/v1/erase", "post", "", "{}"),
        ("/v1/unmatched", "delete", "", ""),
        ("/v1/subscriptions/{id}", "delete", &subscription, ""),
        ("/v1/subscriptions/{id}", "delete", &subscription, ""),
    ] {
        let answer = companion.admin(&method.to_uppercase(), &path.replace("{id}", id), body).await;
        hold(path, method, &answer);
    }
    hold("/v1/events", "post", &companion.ingest("application/cloudevents-batch+json", "[{}]").await);
    hold("/v1/events", "post", &companion.ingest("text/plain", "").await);
}

fn id(answer: &Answer) -> String {
    answer.json["id"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn every_operation_is_a_route_and_every_route_is_an_operation() {
    let companion = Companion::start().await;
    let description = Description::read(&companion).await;
    for (path, operations) in description.0["paths"].as_object().unwrap() {
        if path == "/v1/events/stream" {
            continue;
        }
        for method in ["get", "put", "post", "delete", "patch"] {
            let is_described = operations[method].is_object();
            let answer = companion.send(&method.to_uppercase(), &path.replace("{id}", "x"), &[], "").await;
            assert_eq!(answer.status != 405, is_described, "{method} {path}: {}", answer.status);
            if is_described && operations[method]["security"] != json!([]) {
                assert_eq!(answer.status, 401, "{method} {path}");
            }
        }
    }
}
