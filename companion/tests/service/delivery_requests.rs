//! What an attempt of a delivery would send now.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use standardwebhooks::Webhook;

use crate::client::{Answer, Companion, Receiver};

/// Makes a subscription, and a delivery of an event to it; returns its id and its delivery's.
async fn delivered(companion: &Companion, receiver: &Receiver, body: Value, data: &str) -> (Value, String) {
    let mut fields = json!({"target_url": receiver.url, "events": ["*"]});
    fields.as_object_mut().unwrap().extend(body.as_object().unwrap().clone());
    let made = companion.admin("POST", "/v1/subscriptions", &fields.to_string()).await;
    assert_eq!(made.status, 201, "{}", made.json);
    let event = format!(
        r#"{{"specversion":"1.0","id":"1","source":"/t","type":"contact.create","subject":"/contacts/1",{data}}}"#
    );
    assert_eq!(companion.ingest("application/cloudevents+json", &event).await.status, 202);
    receiver.received(1).await;
    let page = companion.admin("GET", "/v1/deliveries?event=1", "").await.json;
    (made.json, page["data"][0]["id"].as_str().unwrap().to_owned())
}

async fn request(companion: &Companion, delivery: &str) -> Answer {
    companion.admin("GET", &format!("/v1/deliveries/{delivery}/request"), "").await
}

#[tokio::test]
async fn the_request_of_a_delivery_is_the_one_that_is_sent_without_its_secrets() {
    let companion = Companion::start().await;
    let receiver = Receiver::start(&[200]).await;
    let fields = json!({
        "headers": {"x-api-key": "hush-header"},
        "auth": {"type": "basic", "username": "ada", "password": "hush-password"},
        "ordering": "resource",
    });
    let (made, delivery) = delivered(&companion, &receiver, fields, r#""data":{"name" : "Ada"}"#).await;
    let answer = request(&companion, &delivery).await;
    assert_eq!((answer.status, &answer.json["method"]), (200, &json!("POST")), "{}", answer.json);
    assert_eq!(answer.json["url"], json!(receiver.url));
    let text = answer.json.to_string();
    assert!(
        !text.contains("hush")
            && !text.contains("Basic")
            && !text.contains(&STANDARD.encode("ada:hush-password"))
    );
    let (sent, body) = receiver.received(1).await.remove(0);
    assert_eq!(answer.json["body"].as_str().unwrap().as_bytes(), body);
    let mut shown = axum::http::HeaderMap::new();
    for header in answer.json["headers"].as_array().unwrap() {
        let name: axum::http::HeaderName = header["name"].as_str().unwrap().parse().unwrap();
        shown.insert(name, header["value"].as_str().unwrap().parse().unwrap());
    }
    Webhook::new(made["secret"].as_str().unwrap()).unwrap().verify(&body, &shown).unwrap();
    for (name, value) in &sent {
        match name.as_str() {
            "host" | "content-length" => assert!(!shown.contains_key(name)),
            "authorization" | "x-api-key" => assert_eq!(shown[name], "***"),
            "webhook-timestamp" | "webhook-signature" => assert!(shown.contains_key(name)),
            _ => assert_eq!(shown[name], value, "{name}"),
        }
    }
    assert!(sent.contains_key("webhook-sequence"));
    let read = companion.admin("POST", "/v1/tokens", r#"{"scope":"read"}"#).await;
    let token = format!("Bearer {}", read.json["token"].as_str().unwrap());
    let path = format!("/v1/deliveries/{delivery}/request");
    assert_eq!(companion.send("GET", &path, &[("authorization", &token)], "").await.status, 200);
}

#[tokio::test]
async fn a_request_that_is_not_text_is_shown_in_base64_and_a_token_that_is_fetched_is_not_shown() {
    let companion = Companion::start().await;
    let receiver = Receiver::start(&[200]).await;
    let auth =
        json!({"type": "oauth2", "token_url": receiver.url, "client_id": "me", "client_secret": "hush"});
    let data = r#""datacontenttype":"image/png","data_base64":"/wA=""#;
    let (_, delivery) = delivered(&companion, &receiver, json!({"format": "raw", "auth": auth}), data).await;
    let answer = request(&companion, &delivery).await;
    assert_eq!((answer.status, &answer.json["body_base64"]), (200, &json!("/wA=")), "{}", answer.json);
    assert_eq!(answer.json.get("body"), None);
    let headers = answer.json["headers"].as_array().unwrap();
    assert!(headers.contains(&json!({"name": "authorization", "value": "***"})), "{headers:?}");
    assert!(headers.contains(&json!({"name": "content-type", "value": "image/png"})));
}

#[tokio::test]
async fn what_cannot_be_sent_any_more_says_why() {
    let companion = Companion::start().await;
    let receiver = Receiver::start(&[200]).await;
    let (made, delivery) = delivered(&companion, &receiver, json!({}), r#""tenant":"blue","data":1"#).await;
    assert_eq!(request(&companion, "dlv_none").await.status, 404);
    let path = format!("/v1/subscriptions/{}", made["id"].as_str().unwrap());
    companion.admin("PATCH", &path, r#"{"tenant":"red"}"#).await;
    let foreign = request(&companion, &delivery).await;
    assert_eq!(foreign.status, 409);
    assert!(foreign.json["detail"].as_str().unwrap().contains("not one of the subscription's tenant"));
    companion.admin("DELETE", &path, "").await;
    let gone = request(&companion, &delivery).await;
    assert_eq!(
        (gone.status, &gone.json["detail"]),
        (409, &json!("nothing can be sent: its subscription was deleted"))
    );
    companion.admin("POST", "/v1/erase", r#"{"subject":"/contacts/1"}"#).await;
    assert_eq!(request(&companion, &delivery).await.status, 404);
}
