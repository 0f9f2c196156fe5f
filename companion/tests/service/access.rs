//! Tokens and their scopes, the audit log, and changes that others must not overwrite.

use serde_json::json;

use crate::client::{Answer, Companion, Receiver};

async fn send(companion: &Companion, token: &str, method: &str, path: &str, body: &str) -> Answer {
    let token = format!("Bearer {token}");
    let headers = [("authorization", token.as_str()), ("content-type", "application/json")];
    companion.send(method, path, &headers, body.to_owned()).await
}

/// Makes a token and returns its id and itself.
async fn token(companion: &Companion, body: &str) -> (String, String) {
    let made = companion.admin("POST", "/v1/tokens", body).await;
    assert_eq!(made.status, 201, "{}", made.json);
    let text = |name: &str| made.json[name].as_str().unwrap().to_owned();
    (text("id"), text("token"))
}

#[tokio::test]
async fn each_scope_allows_its_own_and_no_more() {
    let companion = Companion::start().await;
    for (scope, looks, changes, hands_over) in
        [("admin", 200, 422, 403), ("read", 200, 403, 403), ("ingest", 403, 403, 415)]
    {
        let (id, token) = token(&companion, &json!({"scope": scope, "description": "d"}).to_string()).await;
        let status =
            async |method: &str, path: &str| send(&companion, &token, method, path, "{}").await.status;
        assert_eq!(status("GET", "/v1/subscriptions").await, looks, "{scope}");
        assert_eq!(status("GET", "/v1/tokens").await, looks, "{scope}");
        assert_eq!(status("POST", "/v1/subscriptions").await, changes, "{scope}");
        assert_eq!(status("POST", "/v1/events").await, hands_over, "{scope}");
        let list = companion.admin("GET", "/v1/tokens", "").await.json;
        assert!(!list.to_string().contains(&token), "a token is shown once");
        assert_eq!(companion.admin("DELETE", &format!("/v1/tokens/{id}"), "").await.status, 204);
        assert_eq!(status("GET", "/v1/subscriptions").await, 401, "{scope} after it was taken back");
        assert_eq!(companion.admin("DELETE", &format!("/v1/tokens/{id}"), "").await.status, 404);
    }
}

#[tokio::test]
async fn a_token_outlives_a_restart_but_not_its_end() {
    let companion = Companion::start().await;
    let expires_at = "2999-01-01T00:00:00Z";
    let (_, lasting) =
        token(&companion, &json!({"scope": "read", "expires_at": expires_at}).to_string()).await;
    let tomorrow = companion.tomorrow();
    let (_, short) = token(&companion, &json!({"scope": "read", "expires_at": tomorrow}).to_string()).await;
    let companion = companion.restart().await;
    for token in [&lasting, &short] {
        assert_eq!(send(&companion, token, "GET", "/v1/events", "").await.status, 200);
    }
    let companion = companion.restart_days_later(2).await;
    assert_eq!(send(&companion, &lasting, "GET", "/v1/events", "").await.status, 200);
    assert_eq!(send(&companion, &short, "GET", "/v1/events", "").await.status, 401);
}

#[tokio::test]
async fn a_token_that_cannot_be_is_refused_with_its_place() {
    let companion = Companion::start().await;
    for (body, places) in [
        ("{}", vec!["/scope"]),
        (
            r#"{"scope":"root","expires_at":"2001-01-01T00:00:00Z","x":1}"#,
            vec!["/scope", "/expires_at", "/x"],
        ),
    ] {
        let answer = companion.admin("POST", "/v1/tokens", body).await;
        assert_eq!((answer.status, answer.faults()), (422, places), "{body}");
    }
}

#[tokio::test]
async fn every_change_stands_in_the_audit_log_without_secrets() {
    let companion = Companion::start().await;
    let receiver = Receiver::start(&[410]).await;
    let (id, token) = token(&companion, r#"{"scope":"admin"}"#).await;
    let body = json!({"target_url": receiver.url, "events": ["*"]}).to_string();
    let made = send(&companion, &token, "POST", "/v1/subscriptions", &body).await.json;
    let path = format!("/v1/subscriptions/{}", made["id"].as_str().unwrap());
    send(&companion, &token, "PATCH", &path, r#"{"description":"new","metadata":{"a":1}}"#).await;
    let rotated = send(&companion, &token, "POST", &format!("{path}/rotate-secret"), "").await.json;
    companion.contact_created("1").await;
    let off = async || companion.admin("GET", &path, "").await.json["status"] == "off";
    while !off().await {
        tokio::task::yield_now().await;
    }
    send(&companion, &token, "DELETE", &path, "").await;
    let log = companion.admin("GET", "/v1/audit", "").await.json;
    let lines: Vec<_> = log["data"]
        .as_array()
        .unwrap()
        .iter()
        .rev()
        .map(|line| {
            (line["actor"].as_str().unwrap(), line["action"].as_str().unwrap(), line["detail"].clone())
        })
        .collect();
    assert_eq!(
        lines,
        [
            ("admin", "token.create", json!("admin")),
            (id.as_str(), "subscription.create", json!(null)),
            (&id, "subscription.update", json!(["description", "metadata"])),
            (&id, "subscription.rotate-secret", json!(null)),
            ("gatehook", "subscription.off", json!("the receiver answered 410 Gone")),
            (&id, "subscription.delete", json!(null)),
        ]
    );
    for secret in [&token, made["secret"].as_str().unwrap(), rotated["secret"].as_str().unwrap()] {
        assert!(!log.to_string().contains(secret));
    }
    let page = companion.admin("GET", "/v1/audit?limit=4", "").await.json;
    let rest = format!("/v1/audit?cursor={}", page["next_cursor"].as_str().unwrap());
    assert_eq!(companion.admin("GET", &rest, "").await.json["data"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn a_change_that_rests_on_an_old_revision_is_refused() {
    let companion = Companion::start().await;
    let receiver = Receiver::start(&[200]).await;
    let body = json!({"target_url": receiver.url, "events": ["*"]}).to_string();
    let made = companion.admin("POST", "/v1/subscriptions", &body).await;
    let path = made.headers["location"].to_str().unwrap().to_owned();
    let old = made.headers["etag"].to_str().unwrap().to_owned();
    let matching = async |method: &str, rest: &str, tag: &str, body: &str| {
        let headers =
            [("authorization", "Bearer admin"), ("content-type", "application/json"), ("if-match", tag)];
        companion.send(method, &format!("{path}{rest}"), &headers, body.to_owned()).await
    };
    let changed = matching("PATCH", "", &old, r#"{"description":"one"}"#).await;
    assert_eq!(changed.status, 200);
    for (method, rest, body) in [
        ("PATCH", "", r#"{"description":"two"}"#),
        ("PUT", "", &body),
        ("POST", "/rotate-secret", ""),
        ("DELETE", "", ""),
    ] {
        assert_eq!(matching(method, rest, &old, body).await.status, 412, "{method}{rest}");
    }
    let read = companion.admin("GET", &path, "").await;
    assert_eq!((&read.headers["etag"], &read.json["description"]), (&changed.headers["etag"], &json!("one")));
    assert_eq!(matching("DELETE", "", "*", "").await.status, 204);
}

#[tokio::test]
async fn a_create_with_an_idempotency_key_makes_one_subscription() {
    let companion = Companion::start().await;
    let receiver = Receiver::start(&[200]).await;
    let create = async |key: &str, event: &str| {
        let body = json!({"target_url": receiver.url, "events": [event]}).to_string();
        let headers = [("authorization", "Bearer admin"), ("idempotency-key", key)];
        companion.send("POST", "/v1/subscriptions", &headers, body).await
    };
    let (first, second) = (create("k", "a.b").await, create("k", "a.b").await);
    assert_eq!(
        (second.status, &second.json),
        (201, &first.json),
        "with the secret that the first may have lost"
    );
    let other = create("k", "c.d").await;
    assert_eq!((other.status, other.faults()), (422, vec!["idempotency-key"]));
    assert_eq!(create(&"k".repeat(256), "a.b").await.faults(), ["idempotency-key"]);
    let list = companion.admin("GET", "/v1/subscriptions", "").await.json;
    assert_eq!(list["data"].as_array().unwrap().len(), 1);
}
