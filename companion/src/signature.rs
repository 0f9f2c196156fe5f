//! Standard Webhooks 1.0: the three headers that let a receiver trust a delivery.
//!
//! Pure. The signature is HMAC-SHA256 (RFC 2104) over `id.timestamp.body`; every active secret signs, so that a
//! receiver keeps working while a secret is rotated.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use jiff::Timestamp;
use sha2::Sha256;

use crate::keys::KeyPair;
use crate::model::Secret;

/// Prefix of a symmetric secret in text.
const PREFIX: &str = "whsec_";
/// Key sizes in bytes that Standard Webhooks allows.
const KEY_BYTES: std::ops::RangeInclusive<usize> = 24..=64;

/// What a signature is over.
#[derive(Clone, Copy, Debug)]
pub struct Signed<'a> {
    /// `webhook-id`; it must not contain a dot, and ours never do.
    pub id: &'a str,
    /// `webhook-timestamp`.
    pub timestamp_s: i64,
    /// The body as it is sent.
    pub body: &'a [u8],
}

/// The value of `webhook-signature`: one `v1a,<base64>` per key pair active at `now`, separated by blanks.
pub fn sign_with_keys(keys: &[KeyPair], signed: Signed<'_>, now: Timestamp) -> String {
    let mut message = format!("{}.{}.", signed.id, signed.timestamp_s).into_bytes();
    message.extend_from_slice(signed.body);
    let active = keys.iter().filter(|key| key.is_active(now));
    let values = active.map(|key| format!("v1a,{}", STANDARD.encode(key.sign(&message))));
    values.collect::<Vec<_>>().join(" ")
}

/// The value of `webhook-signature`: one `v1,<base64>` per secret active at `now`, separated by blanks.
pub fn sign(secrets: &[Secret], signed: Signed<'_>, now: Timestamp) -> String {
    let Signed { id, timestamp_s, body } = signed;
    let mut value = String::with_capacity(48 * secrets.len());
    for secret in active(secrets, now) {
        // HMAC takes keys of any length, so this arm is never taken; a delivery without signature would be refused.
        let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(&secret.key) else {
            continue;
        };
        mac.update(format!("{id}.{timestamp_s}.").as_bytes());
        mac.update(body);
        if !value.is_empty() {
            value.push(' ');
        }
        value.push_str("v1,");
        STANDARD.encode_string(mac.finalize().into_bytes(), &mut value);
    }
    value
}

/// The secrets that sign at `now`, newest first.
pub fn active(secrets: &[Secret], now: Timestamp) -> impl Iterator<Item = &Secret> {
    secrets.iter().filter(move |secret| secret.expires_at.is_none_or(|expires_at| now < expires_at))
}

/// A secret as its owner sees it: `whsec_` and the key in base64.
pub fn secret_text(key: &[u8]) -> String {
    format!("{PREFIX}{}", STANDARD.encode(key))
}

/// Reads a secret.
///
/// # Errors
/// A sentence that says what is allowed; it never repeats the secret.
pub fn parse_secret(text: &str) -> Result<Vec<u8>, String> {
    let encoded = text.strip_prefix(PREFIX).ok_or("a secret begins with `whsec_`")?;
    let key = STANDARD.decode(encoded).map_err(|_| "what follows `whsec_` must be base64")?;
    if !KEY_BYTES.contains(&key.len()) {
        return Err(format!("the key has {} bytes; 24 to 64 are allowed", key.len()));
    }
    Ok(key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn secret(key: &[u8], expires_at: Option<i64>) -> Secret {
        Secret { key: key.to_vec(), expires_at: expires_at.map(|at| Timestamp::from_second(at).unwrap()) }
    }

    #[test]
    fn the_example_of_the_specification_is_signed_as_printed() {
        let key = parse_secret("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let body = br#"{"test": 2432232314}"#;
        let signed = Signed { id: "msg_p5jXN8AQM9LWM0D4loKWxJek", timestamp_s: 1614265330, body };
        let value = sign(&[secret(&key, None)], signed, Timestamp::UNIX_EPOCH);
        assert_eq!(value, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn the_old_secret_signs_until_its_overlap_ends() {
        let secrets = [secret(&[1; 24], None), secret(&[2; 24], Some(100))];
        let signed = Signed { id: "id", timestamp_s: 0, body: b"" };
        let at = |seconds| sign(&secrets, signed, Timestamp::from_second(seconds).unwrap());
        assert_eq!(at(99).matches("v1,").count(), 2);
        assert_eq!(at(100).matches("v1,").count(), 1);
    }

    #[test]
    fn a_wrong_secret_is_refused_without_being_repeated() {
        for wrong in
            ["", "secret", "whsec_", "whsec_c2hvcnQ=", "whsec_%%%", "whpk_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"]
        {
            let error = parse_secret(wrong).unwrap_err();
            assert!(wrong.len() < 7 || !error.contains(&wrong[6..]), "{error}");
        }
    }

    proptest! {
        #[test]
        fn a_library_we_did_not_write_verifies_every_signature(
            key in prop::collection::vec(any::<u8>(), 24..=64),
            other in prop::collection::vec(any::<u8>(), 24..=64),
            body in "\\PC{0,200}",
        ) {
            // The library checks the timestamp against its own clock, so this one test reads it.
            #[expect(clippy::disallowed_methods, reason = "the verifying library compares with the system clock")]
            let now = Timestamp::now();
            let seconds = now.as_second();
            let value = sign(
                &[secret(&key, None), secret(&other, None)],
                Signed { id: "dlv_1", timestamp_s: seconds, body: body.as_bytes() },
                now,
            );
            let mut headers = hyper::HeaderMap::new();
            headers.insert("webhook-id", "dlv_1".parse().unwrap());
            headers.insert("webhook-timestamp", seconds.into());
            headers.insert("webhook-signature", value.parse().unwrap());
            let tampered = format!("{body}!");
            for key in [&key, &other] {
                let webhook = standardwebhooks::Webhook::from_bytes(key.clone()).unwrap();
                prop_assert!(webhook.verify(body.as_bytes(), &headers).is_ok());
                prop_assert!(webhook.verify(tampered.as_bytes(), &headers).is_err());
            }
        }
    }
}
