//! Keys of the companion's own: those that sign, published for whoever verifies, and those that seal what is at rest.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ed25519_dalek::{Signature, Verifier, VerifyingKey};
use serde_json::{Value, json};

use crate::client::{Companion, Receiver};

/// The published keys, read as any client would, without a token.
async fn published(companion: &Companion) -> Vec<VerifyingKey> {
    let set = companion.send("GET", "/.well-known/jwks.json", &[], "").await;
    assert_eq!(set.status, 200);
    let keys = set.json["keys"].as_array().unwrap().iter();
    keys.map(|key| {
        assert_eq!(
            (&key["kty"], &key["crv"], &key["alg"]),
            (&json!("OKP"), &json!("Ed25519"), &json!("EdDSA"))
        );
        let public = URL_SAFE_NO_PAD.decode(key["x"].as_str().unwrap()).unwrap();
        assert_eq!(key["whpk"], format!("whpk_{}", STANDARD.encode(&public)));
        VerifyingKey::from_bytes(&public.try_into().unwrap()).unwrap()
    })
    .collect()
}

/// Which of the keys verify a delivery, by the order of its signatures.
fn verified(keys: &[VerifyingKey], headers: &axum::http::HeaderMap, body: &[u8]) -> Vec<usize> {
    let text = |name: &str| headers[name].to_str().unwrap();
    let message =
        [format!("{}.{}.", text("webhook-id"), text("webhook-timestamp")).as_bytes(), body].concat();
    let signatures = text("webhook-signature").split(' ').map(|part| {
        let bytes = STANDARD.decode(part.strip_prefix("v1a,").unwrap()).unwrap();
        Signature::from_slice(&bytes).unwrap()
    });
    let by = |signature: Signature| keys.iter().position(|key| key.verify(&message, &signature).is_ok());
    signatures.filter_map(by).collect()
}

#[tokio::test]
async fn an_ed25519_delivery_verifies_with_the_published_keys_through_a_rotation_and_a_restart() {
    let companion = Companion::start().await;
    let receiver = Receiver::start(&[200]).await;
    let body = json!({"target_url": receiver.url, "events": ["*"], "signing": "ed25519"});
    let made = companion.admin("POST", "/v1/subscriptions", &body.to_string()).await;
    assert_eq!(made.json["signing"], "ed25519");
    companion.contact_created("1").await;
    let (headers, body) = receiver.received(1).await.remove(0);
    let first = published(&companion).await;
    assert_eq!(verified(&first, &headers, &body), [0]);
    assert!(verified(&first, &headers, &body[1..]).is_empty());

    let rotated = companion.admin("POST", "/v1/signing-keys/rotate", "").await;
    assert_eq!(rotated.json["data"].as_array().unwrap().len(), 2);
    let companion = companion.restart().await;
    assert_eq!(companion.admin("GET", "/v1/signing-keys", "").await.json, rotated.json);
    let both = published(&companion).await;
    assert_eq!(both[1], first[0]);
    companion.contact_created("2").await;
    let (headers, body) = receiver.received(2).await.remove(1);
    assert_eq!(
        verified(&both, &headers, &body),
        [0, 1],
        "the new key first, the old one through its overlap"
    );
    let companion = companion.restart_days_later(2).await;
    assert_eq!(published(&companion).await, both[..1]);
    companion.contact_created("3").await;
    let (headers, body) = receiver.received(3).await.remove(2);
    assert_eq!(verified(&both, &headers, &body), [0]);
    assert_eq!(companion.send("POST", "/v1/signing-keys/rotate", &[], "").await.status, 401);
}

#[tokio::test]
async fn a_leaked_signing_key_is_ended_at_once_by_an_overlap_of_nothing() {
    let companion = Companion::start().await;
    companion.admin("POST", "/v1/signing-keys/rotate", r#"{"overlap": "7d"}"#).await;
    assert_eq!(published(&companion).await.len(), 2);
    let refused = companion.admin("POST", "/v1/signing-keys/rotate", r#"{"overlap": "8d", "all": 1}"#).await;
    assert_eq!(refused.status, 422, "{}", refused.json);
    let errors = refused.json["errors"].to_string();
    assert!(errors.contains("/overlap") && errors.contains("/all"), "{errors}");
    let rotated = companion.admin("POST", "/v1/signing-keys/rotate", r#"{"overlap": "0s"}"#).await;
    assert_eq!(rotated.json["data"].as_array().unwrap().len(), 1, "{}", rotated.json);
    let companion = companion.restart().await;
    assert_eq!(published(&companion).await.len(), 1);
}

#[tokio::test]
async fn the_key_that_seals_is_changed_by_putting_a_new_one_in_front() {
    let [old, new] = [[1u8; 32], [2; 32]].map(|key| STANDARD.encode(key));
    let companion = Companion::start_with_flags(&["--secret-key", &old]).await;
    let receiver = Receiver::start(&[200]).await;
    let made = companion.subscribe(&receiver.url).await;
    let public = companion.send("GET", "/.well-known/jwks.json", &[], "").await.json;
    let both = format!("{new}, {old}");
    let companion = companion.restart_with(&["--secret-key", &both]).await.unwrap();
    let companion = companion.restart_with(&["--secret-key", &new]).await.unwrap();
    companion.contact_created("1").await;
    let (headers, body) = receiver.received(1).await.remove(0);
    let webhook = standardwebhooks::Webhook::new(made["secret"].as_str().unwrap()).unwrap();
    webhook.verify(&body, &headers).unwrap();
    assert_eq!(companion.send("GET", "/.well-known/jwks.json", &[], "").await.json, public);
    let error = companion.restart_with(&["--secret-key", &old]).await.err().unwrap();
    assert!(error.contains("--secret-key is not the one this store was made with"), "{error}");
}

#[tokio::test]
async fn a_rotation_may_bring_its_secret_and_say_how_long_the_old_one_signs() {
    let companion = Companion::start().await;
    let receiver = Receiver::start(&[200]).await;
    let made = companion.subscribe(&receiver.url).await;
    let path = format!("/v1/subscriptions/{}/rotate-secret", made["id"].as_str().unwrap());
    let own = format!("whsec_{}", STANDARD.encode([9; 32]));
    let body = json!({"secret": own, "overlap": "0s"}).to_string();
    let rotated = companion.admin("POST", &path, &body).await;
    assert_eq!(
        (&rotated.json["secret"], &rotated.json["previous_secret_expires_at"]),
        (&json!(own), &Value::Null)
    );
    companion.contact_created("1").await;
    let (headers, _) = receiver.received(1).await.remove(0);
    assert_eq!(
        headers["webhook-signature"].to_str().unwrap().matches("v1,").count(),
        1,
        "the old one is over"
    );
    for (body, place) in [
        (r#"{"overlap": "8d"}"#, "/overlap"),
        (r#"{"secret": "x"}"#, "/secret"),
        (r#"{"key": 1}"#, "/key"),
        ("[]", ""),
    ] {
        assert_eq!(companion.admin("POST", &path, body).await.faults(), [place], "{body}");
    }
}
