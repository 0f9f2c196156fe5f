//! An issuer of tokens (JWT, RFC 7519) like the one that an API's callers have theirs from.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ed25519_dalek::{Signer as _, SigningKey};
use serde_json::{Value, json};

/// The year 2100: no test lasts that long.
const LATER: i64 = 4_102_444_800;

/// An issuer with one Ed25519 key (RFC 8037).
#[derive(Debug)]
pub struct Issuer(SigningKey);

impl Issuer {
    /// An issuer whose key is made of this number.
    pub fn new(seed: u8) -> Self {
        Self(SigningKey::from_bytes(&[seed; 32]))
    }

    /// Its public keys, a JWK set (RFC 7517).
    pub fn keys(&self) -> Value {
        let x = URL_SAFE_NO_PAD.encode(self.0.verifying_key().as_bytes());
        json!({"keys": [{"kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "kid": "1", "x": x}]})
    }

    /// A tenant's token, with the claims that the sample with self-service asks for.
    pub fn token(&self, tenant: &str) -> String {
        self.token_with(tenant, &json!({}))
    }

    /// As [`Self::token`], with these claims instead or besides.
    pub fn token_with(&self, tenant: &str, changes: &Value) -> String {
        let mut claims = json!({
            "iss": "https://issuer.example.com", "aud": "https://api.example.com",
            "sub": "user-7", "tenant": tenant, "exp": LATER,
        });
        for (name, value) in changes.as_object().into_iter().flatten() {
            claims[name] = value.clone();
        }
        let signed = unsigned("EdDSA", &claims);
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(self.0.sign(signed.as_bytes()).to_bytes()))
    }
}

/// Header and claims of a token, which lacks its signature.
pub fn unsigned(algorithm: &str, claims: &Value) -> String {
    let part = |json: &Value| URL_SAFE_NO_PAD.encode(json.to_string());
    format!("{}.{}", part(&json!({"alg": algorithm, "typ": "JWT", "kid": "1"})), part(claims))
}
