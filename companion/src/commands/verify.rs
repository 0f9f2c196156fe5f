//! `gatehook verify`: whether a delivery that somebody has at hand is genuine, and if not, exactly why not.
//!
//! For those who write a receiver and see its library say no. It verifies as Standard Webhooks 1.0 has it, then looks for
//! what mostly happens to a body on its way into a verifier.

use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use clap::Args;
use hmac::{Hmac, KeyInit, Mac};
use jiff::Timestamp;
use ring::signature::{ED25519, UnparsedPublicKey};
use serde::Serialize;
use sha2::Sha256;

use super::explain::header;
use super::{exit_code, input};
use crate::retry;
use crate::signature::parse_secret;

/// What a public key begins with (Standard Webhooks 1.0).
const PUBLIC_PREFIX: &str = "whpk_";

/// Longest tolerance, in days.
const TOLERANCE_MOST_DAYS: u64 = 3_650;

/// Arguments of `gatehook verify`.
#[derive(Args, Debug)]
pub struct Verify {
    /// The body as it came, byte for byte
    #[arg(default_value = "-")]
    file: String,

    /// A header of the delivery, as often as needed: webhook-id, webhook-timestamp, webhook-signature
    #[arg(long = "header", value_name = "NAME: VALUE", value_parser = header)]
    headers: Vec<(String, String)>,

    /// The subscription's secret, whsec_…, or the companion's public key, whpk_…
    #[arg(long, env = "WEBHOOK_SECRET", hide_env_values = true, value_parser = key)]
    secret: Key,

    /// How far the timestamp may be from now
    #[arg(long, default_value = "5m", value_parser = tolerance)]
    tolerance: Duration,

    /// When it came, RFC 3339, where that is not now
    #[arg(long)]
    at: Option<Timestamp>,

    /// Print one JSON object, for scripts: valid, and reason or id and timestamp
    #[arg(long)]
    json: bool,
}

/// What verifies. It prints as `***`.
#[derive(Clone)]
enum Key {
    /// HMAC-SHA256, `v1`.
    Secret(Vec<u8>),
    /// Ed25519, `v1a`.
    Public(Vec<u8>),
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

fn key(text: &str) -> Result<Key, String> {
    let Some(public) = text.strip_prefix(PUBLIC_PREFIX) else { return parse_secret(text).map(Key::Secret) };
    match STANDARD.decode(public) {
        Ok(key) if key.len() == 32 => Ok(Key::Public(key)),
        _ => Err("what follows `whpk_` must be the base64 of 32 bytes".to_owned()),
    }
}

fn tolerance(text: &str) -> Result<Duration, String> {
    retry::duration(text, TOLERANCE_MOST_DAYS)
}

/// What is said of a delivery.
#[derive(Debug, Serialize)]
struct Answer<'a> {
    valid: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    timestamp: Option<String>,
}

impl Verify {
    /// Verifies; success is a genuine delivery.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn run(&self, now: Timestamp, out: &mut impl Write) -> anyhow::Result<ExitCode> {
        let body = input::read(&self.file)?;
        let judged = self.judge(&body, self.at.unwrap_or(now));
        let answer = match &judged {
            Ok((id, sent)) => {
                Answer { valid: true, reason: None, id: Some(id), timestamp: Some(sent.to_string()) }
            }
            Err(reason) => Answer { valid: false, reason: Some(reason.clone()), id: None, timestamp: None },
        };
        match (self.json, &judged) {
            (true, _) => writeln!(out, "{}", serde_json::to_string(&answer)?)?,
            (false, Ok((id, sent))) => writeln!(out, "valid: {id}, sent {sent}")?,
            (false, Err(reason)) => writeln!(out, "not valid: {reason}")?,
        }
        Ok(exit_code(answer.valid))
    }

    /// The delivery's id and time, or why it is not genuine.
    fn judge(&self, body: &[u8], now: Timestamp) -> Result<(&str, Timestamp), String> {
        let id = self.the("webhook-id")?;
        let seconds = self.the("webhook-timestamp")?;
        let sent = seconds.parse().ok().and_then(|seconds| Timestamp::from_second(seconds).ok());
        let sent = sent.ok_or_else(|| format!("webhook-timestamp is `{seconds}`, not seconds since 1970"))?;
        let signatures = self.the("webhook-signature")?;
        let (version, name) = match self.secret {
            Key::Secret(_) => ("v1", "secret"),
            Key::Public(_) => ("v1a", "public key"),
        };
        let mut of_version = signatures.split(' ').filter_map(|text| text.split_once(',')).peekable();
        let of_version: Vec<_> =
            of_version.by_ref().filter(|(own, _)| *own == version).map(|(_, text)| text).collect();
        if of_version.is_empty() {
            return Err(format!(
                "webhook-signature has no `{version},…`, which a {name} verifies: {signatures}"
            ));
        }
        let decoded: Vec<Vec<u8>> = of_version.iter().filter_map(|text| STANDARD.decode(text).ok()).collect();
        if decoded.is_empty() {
            return Err(format!("what follows `{version},` in webhook-signature is no base64"));
        }
        let fits =
            |body: &[u8]| decoded.iter().any(|signature| self.secret.verifies(id, seconds, body, signature));
        if !fits(body) {
            let hint = altered(body).into_iter().find(|(_, original)| fits(original)).map(|(what, _)| what);
            return Err(match hint {
                Some(what) => format!("the body was changed before it was verified: {what}"),
                None => format!(
                    "the signature is not this {name}'s over this id, timestamp and body ({} bytes)",
                    body.len()
                ),
            });
        }
        let apart = sent.duration_since(now).unsigned_abs();
        if apart > self.tolerance {
            let when = if sent < now { "before" } else { "after" };
            return Err(format!(
                "the signature holds, but it was sent {} s {when} {now}; {} s are allowed: it may be a replay",
                apart.as_secs(),
                self.tolerance.as_secs()
            ));
        }
        Ok((id, sent))
    }

    /// The one value of a header.
    fn the(&self, name: &str) -> Result<&str, String> {
        let mut values = self.headers.iter().filter(|(own, _)| own.eq_ignore_ascii_case(name));
        match (values.next(), values.next()) {
            (Some((_, value)), None) => Ok(value.trim()),
            (None, _) => Err(format!("there is no header {name}")),
            (Some(_), Some(_)) => Err(format!("there are two headers {name}")),
        }
    }
}

impl Key {
    fn verifies(&self, id: &str, seconds: &str, body: &[u8], signature: &[u8]) -> bool {
        let head = format!("{id}.{seconds}.");
        match self {
            Self::Secret(key) => Hmac::<Sha256>::new_from_slice(key)
                .is_ok_and(|mac| mac.chain_update(head).chain_update(body).verify_slice(signature).is_ok()),
            Self::Public(key) => {
                let message = [head.as_bytes(), body].concat();
                UnparsedPublicKey::new(&ED25519, key).verify(&message, signature).is_ok()
            }
        }
    }
}

/// What the body may have been before something happened to it that often does.
fn altered(body: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
    let mut found = Vec::new();
    if let Some(shorter) = body.strip_suffix(b"\n") {
        found.push(("a line break was added at its end", shorter.to_vec()));
        if let Some(shorter) = shorter.strip_suffix(b"\r") {
            found.push(("a line break was added at its end", shorter.to_vec()));
        }
    }
    found.push(("the line break at its end was taken away", [body, b"\n"].concat()));
    if let Some(text) = body.strip_prefix(b"\xef\xbb\xbf") {
        found.push(("a byte order mark was put in front", text.to_vec()));
    }
    if let Ok(value) = serde_json::from_slice::<serde_json::Value>(body) {
        // Ours are written without blanks, which is what a parser that writes them again with blanks takes away.
        let compact = serde_json::to_vec(&value).unwrap_or_default();
        found.push(("it was parsed and written again, with other blanks", compact));
    }
    if let Ok(text) = std::str::from_utf8(body)
        && let Ok(inner) = serde_json::from_str::<String>(text)
    {
        found.push(("it was made a JSON string", inner.into_bytes()));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    const SIGNATURE: &str = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";
    const BODY: &str = r#"{"test": 2432232314}"#;

    /// The example of the specification, with these headers instead.
    fn judge(body: &str, headers: &[(&str, &str)], later_s: i64) -> Result<String, String> {
        let mut all = vec![
            ("webhook-id", "msg_p5jXN8AQM9LWM0D4loKWxJek"),
            ("webhook-timestamp", "1614265330"),
            ("webhook-signature", SIGNATURE),
        ];
        all.retain(|(name, _)| headers.iter().all(|(other, _)| name != other));
        all.extend(headers.iter().filter(|(_, value)| !value.is_empty()));
        let verify = Verify {
            file: "-".into(),
            headers: all.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
            secret: key(SECRET).unwrap(),
            tolerance: Duration::from_secs(300),
            at: None,
            json: false,
        };
        let now = Timestamp::from_second(1_614_265_330 + later_s).unwrap();
        verify.judge(body.as_bytes(), now).map(|(id, _)| id.to_owned())
    }

    #[test]
    fn the_example_of_the_specification_is_valid() {
        assert_eq!(judge(BODY, &[], 0).unwrap(), "msg_p5jXN8AQM9LWM0D4loKWxJek");
        let two = format!("v1,AAAA v1a,BBBB {SIGNATURE}");
        assert!(judge(BODY, &[("webhook-signature", &two)], 299).is_ok(), "one that fits is enough");
    }

    #[test]
    fn what_is_not_valid_says_why() {
        let check = |body: &str, headers: &[(&str, &str)], later_s, part: &str| {
            let why = judge(body, headers, later_s).unwrap_err();
            assert!(why.contains(part), "{why}");
        };
        check(BODY, &[("webhook-id", "")], 0, "no header webhook-id");
        check(BODY, &[("webhook-timestamp", "soon")], 0, "`soon`, not seconds");
        check(BODY, &[("webhook-signature", "v1a,AAAA")], 0, "no `v1,…`");
        check(BODY, &[("webhook-signature", "v1,%%%")], 0, "no base64");
        check(BODY, &[("webhook-id", "another")], 0, "not this secret's");
        check(r#"{"test": 1}"#, &[], 0, "not this secret's");
        check(BODY, &[], 301, "sent 301 s before");
        check(BODY, &[], -301, "sent 301 s after");
        check(&format!("{BODY}\n"), &[], 0, "a line break was added");
        check(&format!("\u{feff}{BODY}"), &[], 0, "byte order mark");
        check(&serde_json::to_string(BODY).unwrap(), &[], 0, "made a JSON string");
    }

    #[test]
    fn a_key_that_is_none_is_refused_and_not_repeated() {
        for wrong in ["", "secret", "whsec_c2hvcnQ=", "whpk_c2hvcnQ=", "whpk_%"] {
            assert!(key(wrong).is_err(), "{wrong}");
        }
        assert_eq!(format!("{:?}", key(SECRET).unwrap()), "***");
    }
}
