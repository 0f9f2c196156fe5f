//! Access tokens by the client credentials grant (RFC 6749 §4.4): fetched when needed, kept while they are good.
//!
//! One request of a form and one small answer, over the sender's own connections, for the guard and the bounds must hold
//! here too; a library would bring its types and leave that to us. Neither the secret nor a token is ever part of what
//! is said about a failure.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue, USER_AGENT};
use hyper::{Request, StatusCode};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::time::timeout;
use url::form_urlencoded;

use super::AGENT;
use super::pool::Pool;
use crate::credentials::{self, ClientAuthentication, OAuth2};
use crate::limits;
use crate::retry::later;
use crate::target::Guard;

/// What a token endpoint may say of a failure (RFC 6749 §5.2); anything else it says is not repeated.
const ERRORS: [&str; 6] = [
    "invalid_request",
    "invalid_client",
    "invalid_grant",
    "unauthorized_client",
    "unsupported_grant_type",
    "invalid_scope",
];

/// The token of one subscription.
pub(super) struct Tokens {
    client: OAuth2,
    // Held over a fetch, so that there is one at a time and the others find what it brought.
    latest: Mutex<Option<Latest>>,
}

/// What the last fetch brought.
#[derive(Clone)]
struct Latest {
    token: Result<HeaderValue, String>,
    until: Timestamp,
    /// Whether it was fetched because the receiver refused the one before.
    replacement: bool,
    refused: bool,
}

impl Tokens {
    pub(super) fn new(client: OAuth2) -> Self {
        Self { client, latest: Mutex::default() }
    }

    /// The `authorization` header to send at `now`; fetches a token where none is good.
    ///
    /// # Errors
    /// Why there is none, in words for the subscription's owner.
    pub(super) async fn authorization(
        &self,
        pool: &Pool,
        guard: &Guard,
        now: Timestamp,
    ) -> Result<HeaderValue, String> {
        let mut latest = self.latest.lock().await;
        if let Some(good) = latest.as_ref().filter(|latest| now < latest.until && !latest.refused) {
            return good.token.clone();
        }
        let replacement = latest.as_ref().is_some_and(|latest| latest.refused);
        let fetched = timeout(limits::TOKEN_FETCH, fetch(&self.client, pool, guard)).await;
        let granted = fetched.unwrap_or_else(|_| Err("no answer in time".into()));
        let (token, life) = match granted {
            Ok((token, life)) => (Ok(token), life),
            Err(why) => (Err(why), limits::TOKEN_PAUSE),
        };
        *latest = Some(Latest { token: token.clone(), until: later(now, life), replacement, refused: false });
        token
    }

    /// The receiver answered 401 to this token: it is dropped, unless it was itself fetched for that reason. A receiver
    /// that refuses everything must not make us fetch a token with each attempt.
    pub(super) async fn refused(&self, token: &HeaderValue) {
        if let Some(latest) = self.latest.lock().await.as_mut()
            && latest.token.as_ref() == Ok(token)
            && !latest.replacement
        {
            latest.refused = true;
        }
    }
}

async fn fetch(client: &OAuth2, pool: &Pool, guard: &Guard) -> Result<(HeaderValue, Duration), String> {
    let url = guard.parse(&client.token_url).map_err(|blocked| blocked.to_string())?;
    let request = request(client, url.as_str()).map_err(|_| "token_url cannot be called".to_owned())?;
    let response = pool.anonymous().request(request).await.map_err(|error| super::cause(&error))?;
    let status = response.status();
    let body = Limited::new(response.into_body(), limits::TOKEN_ANSWER).collect().await;
    let body =
        body.map_err(|_| "the token endpoint's answer broke off or is too long".to_owned())?.to_bytes();
    if status == StatusCode::OK { granted(&body) } else { Err(refusal(status, &body)) }
}

fn request(client: &OAuth2, url: &str) -> Result<Request<Full<Bytes>>, hyper::http::Error> {
    let (id, secret) = (client.client_id.as_str(), client.client_secret.reveal());
    let mut form = form_urlencoded::Serializer::new(String::new());
    form.append_pair("grant_type", "client_credentials");
    let given = [("scope", &client.scope), ("audience", &client.audience)];
    form.extend_pairs(given.into_iter().filter_map(|(name, value)| Some((name, value.as_ref()?))));
    let mut request = Request::post(url)
        .header(ACCEPT, "application/json")
        .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
        .header(USER_AGENT, AGENT);
    match client.client_authentication {
        ClientAuthentication::Basic => {
            let encoded = |text: &str| form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
            let pair = format!("Basic {}", STANDARD.encode(format!("{}:{}", encoded(id), encoded(secret))));
            if let Some(value) = credentials::sensitive(&pair) {
                request = request.header(AUTHORIZATION, value);
            }
        }
        ClientAuthentication::Body => {
            form.append_pair("client_id", id).append_pair("client_secret", secret);
        }
    }
    request.body(Full::new(form.finish().into()))
}

/// A successful answer (RFC 6749 §5.1).
#[derive(Deserialize)]
struct Granted {
    access_token: String,
    token_type: Option<String>,
    expires_in: Option<Value>,
}

/// The header to send, and for how long.
fn granted(body: &[u8]) -> Result<(HeaderValue, Duration), String> {
    let granted: Granted = serde_json::from_slice(body)
        .map_err(|_| "the token endpoint's answer has no access_token, or is not JSON".to_owned())?;
    if granted.token_type.is_some_and(|kind| !kind.eq_ignore_ascii_case("bearer")) {
        return Err("the token endpoint's token_type is not Bearer".into());
    }
    let fits = (1..=limits::ACCESS_TOKEN).contains(&granted.access_token.len())
        && granted.access_token.bytes().all(|byte| byte.is_ascii_graphic());
    let header = fits.then(|| credentials::sensitive(&format!("Bearer {}", granted.access_token))).flatten();
    let header = header.ok_or("the token endpoint's access_token cannot be a header's value")?;
    // Some servers write the number as a string.
    let seconds = granted.expires_in.and_then(|value| {
        value
            .as_u64()
            .or_else(|| value.as_f64().map(|s| s as u64))
            .or_else(|| value.as_str()?.trim().parse().ok())
    });
    let life = seconds.map_or(limits::TOKEN_LIFE, Duration::from_secs);
    let kept = life.saturating_sub(limits::TOKEN_MARGIN).max(life.min(2 * limits::TOKEN_MARGIN) / 2);
    Ok((header, kept.min(limits::TOKEN_LIFE_MOST)))
}

fn refusal(status: StatusCode, body: &[u8]) -> String {
    let said: Option<Value> = serde_json::from_slice(body).ok();
    let said = said.as_ref().and_then(|json| json["error"].as_str());
    let error = ERRORS.into_iter().find(|known| said == Some(known));
    let error = error.map(|known| format!(" {known}")).unwrap_or_default();
    format!("the token endpoint answered {}{error}", status.as_u16())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(body: &str, expected: Result<(&str, u64), &str>) {
        match (granted(body.as_bytes()), expected) {
            (Ok((header, kept)), Ok((token, seconds))) => {
                assert_eq!((header.to_str().unwrap(), kept.as_secs()), (token, seconds), "{body}");
                assert!(header.is_sensitive());
            }
            (Err(why), Err(part)) => assert!(why.contains(part), "{why}"),
            (found, _) => panic!("{found:?} of {body}"),
        }
    }

    #[test]
    fn a_token_is_kept_until_a_minute_before_its_end() {
        for (expires_in, kept) in [
            ("3600", 3540),
            ("121", 61),
            ("120", 60),
            ("60", 30),
            ("1", 0),
            ("0", 0),
            ("\"3600\"", 3540),
            ("3600.5", 3540),
            ("-5", 0),
            ("null", 240),
            ("\"soon\"", 240),
            ("1e30", 86_400),
        ] {
            let body = format!(r#"{{"access_token":"a.b","token_type":"bearer","expires_in":{expires_in}}}"#);
            check(&body, Ok(("Bearer a.b", kept)));
        }
        check(r#"{"access_token":"x"}"#, Ok(("Bearer x", 240)));
    }

    #[test]
    fn what_is_no_bearer_token_is_not_sent() {
        check("", Err("not JSON"));
        check("{}", Err("no access_token"));
        check(r#"{"access_token":"x","token_type":"mac"}"#, Err("token_type"));
        for token in ["", "a b", "a\\r\\nhost: b", "\\u0000", "\\u00e9", &"x".repeat(9000)] {
            check(&format!(r#"{{"access_token":"{token}"}}"#), Err("cannot be a header"));
        }
    }

    #[test]
    fn only_words_of_the_standard_are_repeated() {
        let refused = |body: &str| refusal(StatusCode::BAD_REQUEST, body.as_bytes());
        let plain = "the token endpoint answered 400";
        assert_eq!(refused(r#"{"error":"invalid_scope"}"#), format!("{plain} invalid_scope"));
        for body in ["", "hush", r#"{"error":"hush"}"#, r#"{"error_description":"hush"}"#, "[]"] {
            assert_eq!(refused(body), plain);
        }
    }
}
