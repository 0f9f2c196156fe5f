//! `/v1/subscriptions`.

use serde_json::json;
use standardwebhooks::Webhook;

use crate::client::{Companion, Receiver};

#[tokio::test]
async fn two_fields_make_a_subscription_and_its_secret_is_shown_once() {
    let companion = Companion::start().await;
    let body = r#"{"target_url":"http://127.0.0.1:9/","events":["contact.*"]}"#;
    let made = companion.admin("POST", "/v1/subscriptions", body).await;
    assert_eq!(made.status, 201);
    let path = made.headers["location"].to_str().unwrap().to_owned();
    assert!(made.json["secret"].as_str().unwrap().starts_with("whsec_"));
    assert_eq!((&made.json["status"], &made.json["format"]), (&json!("on"), &json!("standard")));
    let read = companion.admin("GET", &path, "").await;
    assert_eq!((read.status, &read.json["id"], &read.json["secret"]), (200, &made.json["id"], &json!(null)));
}

#[tokio::test]
async fn a_wrong_subscription_is_refused_with_every_fault_named() {
    let companion = Companion::start().await;
    let check = async |body: &str, status: u16, faults: &[&str]| {
        let answer = companion.admin("POST", "/v1/subscriptions", body).await;
        assert_eq!((answer.status, answer.faults()), (status, faults.to_vec()), "{body}: {}", answer.json);
    };
    check("{", 400, &[""]).await;
    check("{}", 422, &["/target_url", "/events"]).await;
    check(r#"{"target_url":"http://10.0.0.1/","events":["*"]}"#, 422, &["/target_url"]).await;
    check(r#"{"target_url":"http://no-such-host.invalid/","events":["*"]}"#, 422, &["/target_url"]).await;
    check(r#"{"target_url":"ftp://127.0.0.1/","events":["*"]}"#, 422, &["/target_url"]).await;
    check(r#"{"target_url":"http://127.0.0.1/","events":["a*"],"nuon":1}"#, 422, &["/events/0", "/nuon"])
        .await;
    check(&format!(r#"{{"description":"{}"}}"#, "x".repeat(65 << 10)), 413, &[]).await;
    assert_eq!(companion.admin("GET", "/v1/subscriptions", "").await.json["data"], json!([]));
}

#[tokio::test]
async fn put_replaces_patch_merges_and_delete_removes() {
    let companion = Companion::start().await;
    let made = companion.subscribe("http://127.0.0.1:9/").await;
    let path = format!("/v1/subscriptions/{}", made["id"].as_str().unwrap());

    let patched = companion.admin("PATCH", &path, r#"{"description":"mine","metadata":{"a":1}}"#).await.json;
    assert_eq!((&patched["description"], &patched["events"]), (&json!("mine"), &json!(["*"])));
    let replaced =
        companion.admin("PUT", &path, r#"{"target_url":"http://127.0.0.1:8/","events":["a.b"]}"#).await.json;
    assert_eq!((&replaced["description"], &replaced["metadata"]), (&json!(null), &json!({})));

    assert_eq!(companion.admin("PUT", &path, r#"{"events":["a.b"]}"#).await.faults(), ["/target_url"]);
    assert_eq!(
        companion.admin("PATCH", &path, r#"{"target_url":"http://10.0.0.1/"}"#).await.faults(),
        ["/target_url"]
    );
    let text = [("authorization", "Bearer admin"), ("content-type", "text/plain")];
    assert_eq!(companion.send("PATCH", &path, &text, "{}").await.faults(), ["content-type"]);

    assert_eq!(companion.admin("DELETE", &path, "").await.status, 204);
    for method in ["GET", "PUT", "PATCH", "DELETE"] {
        let body = r#"{"target_url":"http://127.0.0.1:8/","events":["a.b"]}"#;
        assert_eq!(companion.admin(method, &path, body).await.status, 404, "{method}");
    }
}

#[tokio::test]
async fn lists_page_by_cursor_and_filter() {
    let companion = Companion::start().await;
    for tenant in ["blue", "red", "blue"] {
        let body = format!(r#"{{"target_url":"http://127.0.0.1:9/","events":["*"],"tenant":"{tenant}"}}"#);
        assert_eq!(companion.admin("POST", "/v1/subscriptions", &body).await.status, 201);
    }
    let first = companion.admin("GET", "/v1/subscriptions?limit=2", "").await.json;
    let cursor = first["next_cursor"].as_str().unwrap();
    let second = companion.admin("GET", &format!("/v1/subscriptions?limit=2&cursor={cursor}"), "").await.json;
    assert_eq!((second["data"].as_array().unwrap().len(), &second["next_cursor"]), (1, &json!(null)));
    let blue = companion.admin("GET", "/v1/subscriptions?tenant=blue", "").await.json;
    assert_eq!(blue["data"].as_array().unwrap().len(), 2);
    assert_eq!(companion.admin("GET", "/v1/subscriptions?status=paused", "").await.faults(), ["status"]);
}

#[tokio::test]
async fn after_a_rotation_both_secrets_verify() {
    let companion = Companion::start().await;
    let receiver = Receiver::start(&[200]).await;
    let made = companion.subscribe(&receiver.url).await;
    let path = format!("/v1/subscriptions/{}/rotate-secret", made["id"].as_str().unwrap());
    let rotated = companion.admin("POST", &path, "").await.json;
    assert!(rotated["previous_secret_expires_at"].is_string());
    companion.contact_created("1").await;
    let (headers, body) = receiver.received(1).await.remove(0);
    for secret in [&made["secret"], &rotated["secret"]] {
        Webhook::new(secret.as_str().unwrap()).unwrap().verify(&body, &headers).unwrap();
    }
    assert_ne!(made["secret"], rotated["secret"]);
    assert_eq!(companion.admin("POST", "/v1/subscriptions/none/rotate-secret", "").await.status, 404);
}

#[tokio::test]
async fn a_ping_is_signed_and_says_how_it_went() {
    let companion = Companion::start().await;
    let receiver = Receiver::start(&[200, 500]).await;
    let made = companion.subscribe(&receiver.url).await;
    let path = format!("/v1/subscriptions/{}/ping", made["id"].as_str().unwrap());
    let good = companion.admin("POST", &path, "").await.json;
    assert_eq!(
        (&good["outcome"], &good["status"], &good["answer"]),
        (&json!("delivered"), &json!(200), &json!("thanks"))
    );
    assert_eq!(companion.admin("POST", &path, "").await.json["outcome"], json!("refused"));
    let (headers, body) = receiver.received(1).await.remove(0);
    Webhook::new(made["secret"].as_str().unwrap()).unwrap().verify(&body, &headers).unwrap();
    assert!(body.starts_with(br#"{"type":"gatehook.ping""#));
    assert_eq!(companion.admin("POST", "/v1/subscriptions/none/ping", "").await.status, 404);
}
