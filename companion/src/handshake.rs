//! Does the receiver want deliveries? Asked before the first one, where the subscription says so.
//!
//! Two ways: `x-hook-secret`, which the receiver sends back (REST Hooks, identity confirmation), and the abuse protection
//! of CloudEvents (HTTP 1.1 Web Hooks for Event Delivery §4), whose asynchronous callback is left out.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, USER_AGENT};
use hyper::{Method, Request, Uri};
use jiff::Timestamp;

use crate::model::Handshake;
use crate::rate::Rate;
use crate::sender::{AGENT, Access, Sender};

const SECRET: &str = "x-hook-secret";

/// What is asked of a receiver.
#[derive(Debug)]
pub struct Question<'a> {
    /// How.
    pub handshake: Handshake,
    /// Where its deliveries will go.
    pub target: Uri,
    /// On whose behalf, a DNS name (`webhook-request-origin`).
    pub origin: &'a str,
    /// How fast deliveries will be made.
    pub rate: Option<Rate>,
    /// How its deliveries will be let in, and so this.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// See [`Question::headers`].
    pub access: Option<Arc<Access>>,
    /// Whether it is a tenant's.
    pub of_tenant: bool,
    /// Fresh randomness.
    pub random: [u8; 24],
}

/// Asks the receiver; returns the rate that it allows, where it names one.
///
/// # Errors
/// A sentence for the subscription's owner: what the receiver should have answered.
pub async fn shake(sender: &Sender, question: Question<'_>, now: Timestamp) -> Result<Option<Rate>, String> {
    let Question { handshake, target, origin, rate, headers, access, of_tenant, random } = question;
    let mut request = Request::builder().uri(target).header(USER_AGENT, AGENT);
    let secret = URL_SAFE_NO_PAD.encode(random);
    let request = match handshake {
        Handshake::None => return Ok(None),
        Handshake::XHookSecret => request
            .method(Method::POST)
            .header(SECRET, &secret)
            .header(CONTENT_TYPE, "application/json")
            .body(Full::new(Bytes::from_static(b"{}"))),
        Handshake::CloudEvents => {
            request = request.method(Method::OPTIONS).header("webhook-request-origin", origin);
            if let Some(rate) = rate {
                request = request.header("webhook-request-rate", per_minute(rate));
            }
            request.body(Full::default())
        }
    };
    let mut request = request.map_err(|error| format!("cannot be asked: {error}"))?;
    request.headers_mut().extend(headers);
    let (status, answer) =
        sender.ask(request, access.as_deref(), of_tenant, now).await.map_err(|outcome| {
            let why = outcome.error().map_or_else(|| outcome.word().replace('_', " "), str::to_owned);
            format!("did not answer the handshake: {why}")
        })?;
    if !status.is_success() {
        return Err(format!("answered the handshake with {}; 2xx was expected", status.as_u16()));
    }
    match handshake {
        Handshake::XHookSecret => echoed(&answer, &secret).map(|()| None),
        _ => granted(&answer, origin),
    }
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim)
}

fn echoed(answer: &HeaderMap, secret: &str) -> Result<(), String> {
    match text(answer, SECRET) {
        Some(echo) if echo == secret => Ok(()),
        Some(_) => Err(format!("answered the handshake with another {SECRET}; the one it got was expected")),
        None => Err(format!("answered the handshake without {SECRET}; the one it got was expected")),
    }
}

fn granted(answer: &HeaderMap, origin: &str) -> Result<Option<Rate>, String> {
    match text(answer, "webhook-allowed-origin") {
        Some("*") => {}
        Some(allowed) if allowed.eq_ignore_ascii_case(origin) => {}
        _ => {
            return Err(format!("answered the handshake without `webhook-allowed-origin: {origin}` or `*`"));
        }
    }
    match text(answer, "webhook-allowed-rate") {
        None | Some("*") => Ok(None),
        Some(rate) => match format!("{rate}/m").parse() {
            Ok(rate) => Ok(Some(rate)),
            Err(_) => Err("answered the handshake with a webhook-allowed-rate that is no number".to_owned()),
        },
    }
}

/// A rate as whole requests in a minute, at least one.
fn per_minute(rate: Rate) -> String {
    ((rate.per_second() * 60.0).floor().max(1.0) as u64).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    }

    #[test]
    fn only_the_same_secret_confirms() {
        let check = |value: &[(&'static str, &'static str)]| echoed(&headers(value), "s3").is_ok();
        assert!(check(&[("x-hook-secret", "s3")]));
        assert!(!check(&[("x-hook-secret", "S3")]));
        assert!(!check(&[]));
    }

    #[test]
    fn the_origin_must_be_allowed_and_the_rate_be_a_number() {
        let check = |value: &[(&'static str, &'static str)]| {
            granted(&headers(value), "api.example.com").map(|rate| rate.map(|rate| rate.to_string()))
        };
        assert_eq!(check(&[("webhook-allowed-origin", "*")]), Ok(None));
        assert_eq!(
            check(&[("webhook-allowed-origin", "API.example.com"), ("webhook-allowed-rate", "120")]),
            Ok(Some("120/m".into()))
        );
        assert_eq!(check(&[("webhook-allowed-origin", "*"), ("webhook-allowed-rate", "*")]), Ok(None));
        assert!(check(&[("webhook-allowed-origin", "example.com")]).is_err());
        assert!(check(&[]).is_err());
        assert!(check(&[("webhook-allowed-origin", "*"), ("webhook-allowed-rate", "fast")]).is_err());
    }
}
