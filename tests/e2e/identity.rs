//! Whose write it was: from claims that the real jwt_authn has verified, and from nothing that a caller could make up.

use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use harness::workspace::RunDirectory;
use harness::{Answer, Gateway, Recorder, Upstream, wait};
use hmac::{Hmac, KeyInit as _, Mac as _};
use hyper::Method;
use serde_json::{Value, json};
use sha2::Sha256;

use crate::world::tell;

const KEY: &[u8] = b"a key of thirty-two bytes, really";

/// A token with these claims (RFC 7519), signed with HS256.
pub(crate) fn token(claims: &Value) -> Result<String> {
    let part = |json: &Value| URL_SAFE_NO_PAD.encode(json.to_string());
    let signed = format!("{}.{}", part(&json!({"alg": "HS256", "typ": "JWT", "kid": "k"})), part(claims));
    let mut mac = Hmac::<Sha256>::new_from_slice(KEY).context("a key of any length will do")?;
    mac.update(signed.as_bytes());
    Ok(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes())))
}

/// The key of those tokens, as a JWK set.
pub(crate) fn keys() -> Value {
    json!({"keys": [{"kty": "oct", "alg": "HS256", "kid": "k", "k": URL_SAFE_NO_PAD.encode(KEY)}]})
}

/// Envoy's jwt_authn, which lets requests without a token pass and leaves the claims under this key.
fn jwt_authn(payload: &str) -> Value {
    let provider = json!({
        "issuer": "issuer", "payload_in_metadata": payload,
        "local_jwks": {"inline_string": keys().to_string()},
    });
    let any = json!({"requirements": [{"provider_name": "own"}, {"allow_missing": {}}]});
    json!({
        "name": "envoy.filters.http.jwt_authn",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.jwt_authn.v3.JwtAuthentication",
            "providers": {"own": provider},
            "rules": [{"match": {"prefix": "/"}, "requires": {"requires_any": any}}],
        },
    })
}

/// Writes once with these request headers, under this configuration, and gives the event, if there is one.
async fn event_of(
    run: &Arc<RunDirectory>,
    payload: &str,
    configuration: &Value,
    headers: &[(&str, &str)],
) -> Result<Option<Value>> {
    let upstream = Upstream::start(|_| Answer::json(200, r#"{"id":"7","org":"from the answer"}"#)).await?;
    let recorder = Recorder::start().await?;
    let authn = jwt_authn(payload);
    let gateway = Gateway::before(upstream.address(), recorder.address())
        .filter(configuration)
        .change(move |sample| sample.first_http_filter(&authn))
        .start(run)
        .await?;
    let mut call = gateway.caller().call(Method::PUT, "/contacts/7").body("{}");
    for (name, value) in headers {
        call = call.header(name, value);
    }
    call.send().await?.expect(200)?;
    let tally = async || {
        let events = recorder.accepted();
        let missing = gateway.metric("gatehook_tenant_missing").await.ok()?;
        (!events.is_empty() || missing > 0).then(|| events.first().cloned())
    };
    let event = wait::until("the event, or word that there is none", wait::PATIENCE, tally).await?;
    let missing = u64::from(event.as_ref().is_none_or(|event| event.get("tenant").is_none()));
    gateway.metric_becomes("gatehook_tenant_missing", missing).await?;
    Ok(event)
}

#[tokio::test(flavor = "multi_thread")]
async fn tenant_and_actor_come_from_claims_that_envoy_has_verified() {
    tell(async |run| {
        let claims = json!({"iss": "issuer", "sub": "user-7", "org": {"id": "acme"}, "number": 42});
        let bearer = format!("Bearer {}", token(&claims)?);
        let nested = json!({"tenant": {"jwt": "/org/id"}, "actor": {"jwt": "sub"}});
        // Envoy's documentation and Istio leave the claims under different keys.
        for payload in ["jwt_payload", "payload"] {
            let event = event_of(run, payload, &nested, &[("authorization", &bearer)]).await?;
            let event = event.context("no event")?;
            ensure!(event["tenant"] == "acme" && event["actor"] == "user-7", "{payload}: {event}");
        }
        let own = json!({"tenant": {"jwt": "number", "payload": "own_key"}});
        let event = event_of(run, "own_key", &own, &[("authorization", &bearer)]).await?;
        ensure!(event.context("no event")?["tenant"] == "42", "a number is a name, too");
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_caller_makes_up_names_no_tenant() {
    tell(async |run| {
        let nested = json!({"tenant": {"jwt": "/org/id"}});
        let forged =
            [("x-tenant", "acme"), ("tenant", "acme"), ("x-jwt-payload", r#"{"org":{"id":"acme"}}"#)];
        let event = event_of(run, "jwt_payload", &nested, &forged).await?.context("no event")?;
        // Without a tenant the event is the operator's alone.
        ensure!(event.get("tenant").is_none() && event["data"]["id"] == "7", "{event}");
        let header = json!({"tenant": {"header": "x-tenant"}});
        let event = event_of(run, "jwt_payload", &header, &forged).await?.context("no event")?;
        ensure!(event["tenant"] == "acme", "a header counts where it is configured: {event}");
        let field = json!({"tenant": {"field": "/org"}, "redact": ["/org"]});
        let event = event_of(run, "jwt_payload", &field, &[]).await?.context("no event")?;
        ensure!(event["tenant"] == "from the answer" && event["data"] == json!({"id": "7"}), "{event}");
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_without_its_tenant_goes_as_far_as_configured() {
    tell(async |run| {
        let with = |missing: &str| json!({"tenant": {"header": "x-tenant"}, "missing_tenant": missing});
        let thin = event_of(run, "jwt_payload", &with("thin"), &[]).await?.context("no event")?;
        ensure!(thin["thin"] == "no_tenant" && thin.get("data").is_none(), "{thin}");
        let whole = event_of(run, "jwt_payload", &with("operator-only"), &[]).await?.context("no event")?;
        ensure!(whole["data"]["id"] == "7", "{whole}");
        let refused = event_of(run, "jwt_payload", &with("refuse"), &[]).await?;
        ensure!(refused.is_none(), "{refused:?}");
        Ok(())
    })
    .await;
}
