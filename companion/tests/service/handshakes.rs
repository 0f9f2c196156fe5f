//! Receivers that are asked first, and the life of a REST hook as Zapier has it.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::http::{HeaderMap, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::client::{Answer, Companion, Receiver};

type Asked = Arc<Mutex<Vec<(Method, HeaderMap)>>>;

/// A receiver that answers each request as `answer` says; returns its URL and what it was asked.
async fn receiver(answer: fn(&Method, &HeaderMap) -> Response) -> (String, Asked) {
    let asked = Asked::default();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/hook", listener.local_addr().unwrap());
    let keep = asked.clone();
    let handle = async move |method: Method, headers: HeaderMap| {
        let response = answer(&method, &headers);
        keep.lock().unwrap().push((method, headers));
        response
    };
    tokio::spawn(async move { axum::serve(listener, Router::new().fallback(handle)).await });
    (url, asked)
}

async fn create(companion: &Companion, target_url: &str, fields: Value) -> Answer {
    let mut body = json!({"target_url": target_url, "events": ["*"]});
    body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    companion.admin("POST", "/v1/subscriptions", &body.to_string()).await
}

fn echo(_: &Method, headers: &HeaderMap) -> Response {
    match headers.get("x-hook-secret") {
        Some(secret) => (StatusCode::OK, [("x-hook-secret", secret.clone())]).into_response(),
        None => StatusCode::OK.into_response(),
    }
}

#[tokio::test]
async fn a_receiver_that_sends_the_secret_back_gets_deliveries() {
    let companion = Companion::start().await;
    let (url, asked) = receiver(echo).await;
    let made = create(&companion, &url, json!({"handshake": "x-hook-secret"})).await;
    assert_eq!((made.status, &made.json["handshake"]), (201, &json!("x-hook-secret")));
    let (method, headers) = asked.lock().unwrap().remove(0);
    assert!(method == Method::POST && headers["x-hook-secret"].len() >= 32);
    let path = made.headers["location"].to_str().unwrap();
    assert_eq!(companion.admin("PATCH", path, r#"{"description": "d"}"#).await.status, 200);
    assert!(asked.lock().unwrap().is_empty(), "nobody is asked where nothing of it changed");
    let (other, _) = receiver(|_, _| StatusCode::OK.into_response()).await;
    let moved = companion.admin("PATCH", path, &json!({"target_url": other}).to_string()).await;
    assert_eq!((moved.status, moved.faults()), (422, vec!["/target_url"]));
    assert_eq!(
        companion.admin("GET", path, "").await.json["target_url"],
        json!(url),
        "and nothing was changed"
    );
}

#[tokio::test]
async fn a_receiver_that_does_not_confirm_is_refused_with_the_reason() {
    let companion = Companion::start().await;
    let check = async |answer: fn(&Method, &HeaderMap) -> Response, handshake: &str, expected: &str| {
        let (url, _) = receiver(answer).await;
        let refused = create(&companion, &url, json!({"handshake": handshake})).await;
        assert_eq!((refused.status, refused.faults()), (422, vec!["/target_url"]));
        let detail = refused.json["errors"][0]["detail"].as_str().unwrap();
        assert!(detail.contains(expected), "{detail}");
    };
    check(|_, _| StatusCode::OK.into_response(), "x-hook-secret", "without x-hook-secret").await;
    check(|_, _| [("x-hook-secret", "guess")].into_response(), "x-hook-secret", "another x-hook-secret")
        .await;
    check(|_, _| StatusCode::NOT_FOUND.into_response(), "x-hook-secret", "404").await;
    check(|_, _| StatusCode::OK.into_response(), "cloudevents", "webhook-allowed-origin").await;
    check(|_, _| [("webhook-allowed-origin", "other.example")].into_response(), "cloudevents", "gatehook")
        .await;
    let nobody = create(&companion, "http://127.0.0.1:1/", json!({"handshake": "x-hook-secret"})).await;
    assert_eq!((nobody.status, nobody.faults()), (422, vec!["/target_url"]));
    assert_eq!(companion.admin("GET", "/v1/subscriptions", "").await.json["data"], json!([]));
}

#[tokio::test]
async fn a_cloudevents_receiver_allows_the_origin_and_may_set_the_rate() {
    let companion = Companion::start().await;
    let allow = |method: &Method, headers: &HeaderMap| match *method {
        Method::OPTIONS if headers["webhook-request-origin"] == "gatehook" => {
            [("webhook-allowed-origin", "gatehook"), ("webhook-allowed-rate", "120")].into_response()
        }
        _ => StatusCode::OK.into_response(),
    };
    let (url, asked) = receiver(allow).await;
    let fields = json!({"handshake": "cloudevents", "format": "cloudevents", "rate_limit": "10/s"});
    let made = create(&companion, &url, fields).await;
    assert_eq!((made.status, &made.json["rate_limit"]), (201, &json!("120/m")), "{}", made.json);
    assert_eq!(asked.lock().unwrap()[0].1["webhook-request-rate"], "600");
    let (any, _) = receiver(|_, _| [("webhook-allowed-origin", "*")].into_response()).await;
    let made = create(&companion, &any, json!({"handshake": "cloudevents"})).await;
    assert_eq!((made.status, &made.json["rate_limit"]), (201, &Value::Null));
}

/// Zapier's REST hooks: subscribe with `hookUrl` in a target_url of ours, a sample to show, deliveries, unsubscribe by the id
/// that subscribing returned; after that the hook answers 410, which ends what is left.
#[tokio::test]
async fn the_life_of_a_rest_hook_as_zapier_has_it() {
    let companion = Companion::start().await;
    companion.contact_created("sample").await;
    let zap = Receiver::start(&[200, 200, 410]).await;
    let made = create(&companion, &zap.url, json!({"format": "raw", "events": ["contact.create"]})).await;
    let path = format!("/v1/subscriptions/{}", made.json["id"].as_str().unwrap());
    let sample = companion.admin("GET", "/v1/events?type=contact.create&limit=3", "").await;
    assert_eq!(sample.json["data"][0]["data"], json!({"id": 1}), "a list of samples, newest first");
    companion.contact_created("1").await;
    let (_, body) = zap.received(1).await.remove(0);
    assert_eq!(serde_json::from_slice::<Value>(&body).unwrap(), json!({"id": 1}));
    assert_eq!(companion.admin("DELETE", &path, "").await.status, 204);
    assert_eq!(companion.admin("DELETE", &path, "").await.status, 404);
    let kept = create(&companion, &zap.url, json!({"format": "raw"})).await;
    let path = format!("/v1/subscriptions/{}", kept.json["id"].as_str().unwrap());
    companion.contact_created("2").await;
    zap.received(2).await;
    companion.contact_created("3").await;
    zap.received(3).await;
    while companion.admin("GET", &path, "").await.json["status"] == "on" {
        tokio::task::yield_now().await;
    }
    assert_eq!(companion.admin("GET", &path, "").await.json["off_reason"], "the receiver answered 410 Gone");
}
