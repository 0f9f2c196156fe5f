//! How a subscription's deliveries authenticate to its receiver, beside their signature.
//!
//! Pure types: what an owner may say, and what is shown of it again. Headers and simple `auth` come out as headers; what
//! needs the network (an access token, a TLS handshake) is the sender's. Serialized as JSON, credentials hold their
//! secrets in clear and are to be sealed; their `Debug` and [`Credentials::shown`] hold none.

mod certificate;
mod headers;

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hyper::header::{AUTHORIZATION, HeaderName, HeaderValue};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

pub use certificate::ClientCertificate;
pub use headers::CustomHeaders;

use crate::limits;
use crate::members::Fault;

/// What stands for a secret wherever credentials are shown, and for "as it was" where they are written.
const HIDDEN: &str = "***";

/// Where the secrets are, beside the values of the headers.
const SECRETS: [&str; 4] =
    ["/auth/password", "/auth/token", "/auth/client_secret", "/client_certificate/private_key"];

/// A text that prints as `***`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SecretText(String);

impl SecretText {
    /// The text itself.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(HIDDEN)
    }
}

/// All that a subscription says about how to authenticate.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Credentials {
    /// Headers of its own.
    #[serde(default)]
    pub headers: CustomHeaders,
    /// What goes into `authorization`.
    #[serde(default)]
    pub auth: Option<Auth>,
    /// What is shown in the TLS handshake.
    #[serde(default)]
    pub client_certificate: Option<ClientCertificate>,
}

/// Where the `authorization` header comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase", deny_unknown_fields)]
pub enum Auth {
    /// `Basic` (RFC 7617), in UTF-8.
    Basic {
        /// Without a colon.
        username: String,
        /// May be empty.
        password: SecretText,
    },
    /// `Bearer` with a token that does not change (RFC 6750).
    Bearer {
        /// A token68.
        token: SecretText,
    },
    /// `Bearer` with a token fetched when it is needed.
    OAuth2(OAuth2),
}

/// A client of the client credentials grant (RFC 6749 §4.4).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OAuth2 {
    /// The token endpoint. A target like any other: whoever takes credentials in has it vetted by the guard.
    pub token_url: String,
    /// Who we are.
    pub client_id: String,
    /// How we prove it.
    pub client_secret: SecretText,
    /// What is asked for: words apart by one space.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<String>,
    /// Whom the token is for; no standard parameter of this grant, but asked for by many servers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audience: Option<String>,
    /// How id and secret are sent.
    #[serde(default)]
    pub client_authentication: ClientAuthentication,
}

/// How a client authenticates to its token endpoint (RFC 6749 §2.3.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ClientAuthentication {
    /// In an `authorization: Basic` header, which every server must understand.
    #[default]
    Basic,
    /// In the form, which some insist on.
    Body,
}

impl Credentials {
    /// The names of the fields that [`Credentials::parse`] reads.
    pub const FIELDS: [&str; 3] = ["headers", "auth", "client_certificate"];

    /// Reads `headers`, `auth` and `client_certificate`; what is absent or null is not used. A secret given as `***` is
    /// taken from `previous`, so that what was shown can be sent back; the secret of an OAuth2 client is not, where
    /// `token_url` changes, for then it would go to whom it was not meant for. `now` is for the certificate's expiry.
    ///
    /// # Errors
    /// Every fault, each with its pointer, such as `/auth/token_url`.
    pub fn parse(
        fields: &Map<String, Value>,
        previous: Option<&Self>,
        now: Timestamp,
    ) -> Result<Self, Vec<Fault>> {
        let mut faults = Vec::new();
        let restored = restored(fields.clone(), previous, &mut faults);
        let mut reader = Reader { map: restored, at: "", faults: &mut faults };
        let headers = reader.object("headers", "must be an object of names and values");
        let auth = reader.object("auth", "must be an object with a type: basic, bearer or oauth2");
        let certificate =
            reader.object("client_certificate", "must be an object of certificate and private_key");
        reader.end();
        let headers = headers.unwrap_or_default();
        let set = headers.keys().find(|name| name.eq_ignore_ascii_case("authorization")).cloned();
        let headers = CustomHeaders::parse(&headers).unwrap_or_else(|wrong| {
            faults.extend(wrong.into_iter().map(|fault| under("/headers", fault)));
            CustomHeaders::default()
        });
        let auth = auth.and_then(|map| read_auth(Reader { map, at: "/auth", faults: &mut faults }));
        let client_certificate = certificate.and_then(|map| {
            read_certificate(Reader { map, at: "/client_certificate", faults: &mut faults }, now)
        });
        if let Some(name) = set.filter(|_| auth.is_some()) {
            faults.push(Fault::new(format!("/headers/{name}"), "cannot be set beside auth, which sets it"));
        }
        // A secret that could not be restored is also no token or key; once is enough to say so.
        faults.sort_by(|a, b| a.pointer.cmp(&b.pointer));
        faults.dedup_by(|a, b| a.pointer == b.pointer);
        if faults.is_empty() { Ok(Self { headers, auth, client_certificate }) } else { Err(faults) }
    }

    /// What the API shows: the same shape, with `***` for each secret. Names, usernames, `token_url`, `client_id` and
    /// the certificate, which is public, are in clear.
    pub fn shown(&self) -> Value {
        let mut shown = self.revealed();
        for pointer in SECRETS {
            if let Some(secret) = shown.pointer_mut(pointer) {
                *secret = HIDDEN.into();
            }
        }
        if let Some(Value::Object(headers)) = shown.get_mut("headers") {
            headers.values_mut().for_each(|value| *value = HIDDEN.into());
        }
        shown
    }

    /// The headers that every delivery carries: those of the subscription, and `authorization` where it is known.
    pub fn headers(&self) -> Vec<(HeaderName, HeaderValue)> {
        let authorization = match &self.auth {
            Some(Auth::Basic { username, password }) => {
                Some(format!("Basic {}", STANDARD.encode(format!("{username}:{}", password.reveal()))))
            }
            Some(Auth::Bearer { token }) => Some(format!("Bearer {}", token.reveal())),
            Some(Auth::OAuth2(_)) | None => None,
        };
        let authorization =
            authorization.and_then(|text| sensitive(&text)).map(|value| (AUTHORIZATION, value));
        self.headers.iter().cloned().chain(authorization).collect()
    }

    /// The token endpoint, which is to be vetted like a `target_url`; its faults belong to `/auth/token_url`.
    pub fn token_url(&self) -> Option<&str> {
        match &self.auth {
            Some(Auth::OAuth2(oauth2)) => Some(&oauth2.token_url),
            _ => None,
        }
    }

    /// Whether the subscription says nothing about it.
    pub fn is_empty(&self) -> bool {
        self.headers.is_empty() && self.auth.is_none() && self.client_certificate.is_none()
    }

    fn revealed(&self) -> Value {
        // Fails only for maps whose keys are no strings, and there are none.
        serde_json::to_value(self).unwrap_or_default()
    }
}

/// A header's value that nothing prints; `None` where a character may not stand in one.
pub(crate) fn sensitive(text: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

fn under(at: &str, fault: Fault) -> Fault {
    Fault { pointer: format!("{at}{}", fault.pointer), ..fault }
}

/// Puts the previous secrets where `***` stands.
fn restored(
    fields: Map<String, Value>,
    previous: Option<&Credentials>,
    faults: &mut Vec<Fault>,
) -> Map<String, Value> {
    let missing = "*** stands for the value that is kept, and here is none: give the value";
    let kept = previous.map(Credentials::revealed).unwrap_or_default();
    let mut given = Value::Object(fields);
    let elsewhere = given.pointer("/auth/token_url") != kept.pointer("/auth/token_url");
    for pointer in SECRETS {
        let Some(secret) = given.pointer_mut(pointer).filter(|secret| **secret == HIDDEN) else { continue };
        match kept.pointer(pointer) {
            Some(_) if elsewhere && pointer == "/auth/client_secret" => {
                faults.push(Fault::new(pointer, "must be given again where token_url changes"));
            }
            Some(kept) => *secret = kept.clone(),
            None => faults.push(Fault::new(pointer, missing)),
        }
    }
    if let Some(Value::Object(headers)) = given.get_mut("headers") {
        for (name, value) in headers.iter_mut().filter(|(_, value)| **value == HIDDEN) {
            match kept["headers"].get(name.to_ascii_lowercase()) {
                Some(kept) => *value = kept.clone(),
                None => faults.push(Fault::new(format!("/headers/{name}"), missing)),
            }
        }
    }
    match given {
        Value::Object(fields) => fields,
        _ => Map::new(),
    }
}

/// What a text may be.
struct Rule {
    bytes: std::ops::RangeInclusive<usize>,
    fits: fn(char) -> bool,
    allowed: &'static str,
}

const USERNAME: Rule = Rule {
    bytes: 0..=limits::CREDENTIAL,
    fits: |c| !c.is_control() && c != ':',
    allowed: "without colons and control characters",
};
const PASSWORD: Rule =
    Rule { bytes: 0..=limits::CREDENTIAL, fits: |c| !c.is_control(), allowed: "without control characters" };
const TOKEN: Rule = Rule {
    bytes: 1..=limits::BEARER_TOKEN,
    fits: |c| c.is_ascii_alphanumeric() || "-._~+/=".contains(c),
    allowed: "letters, digits or any of -._~+/, and = at the end only",
};
const CLIENT: Rule = Rule {
    bytes: 1..=limits::CREDENTIAL,
    fits: |c| matches!(c, ' '..='~'),
    allowed: "visible ASCII characters",
};
const SCOPE: Rule = Rule {
    bytes: 1..=limits::CREDENTIAL,
    fits: |c| matches!(c, ' '..='~') && !"\"\\".contains(c),
    allowed: "visible ASCII characters but \" and \\, words apart by one space",
};
const TEXT: Rule =
    Rule { bytes: 1..=limits::TARGET_URL, fits: |c| !c.is_control(), allowed: "without control characters" };
const PEM: Rule = Rule { bytes: 1..=limits::PEM, fits: |c| c.is_ascii(), allowed: "PEM" };

/// Takes fields out of an object and notes what is wrong with them.
struct Reader<'a> {
    map: Map<String, Value>,
    at: &'static str,
    faults: &'a mut Vec<Fault>,
}

impl Reader<'_> {
    fn fault(&mut self, name: &str, detail: impl Into<String>) {
        self.faults.push(Fault::new(format!("{}/{name}", self.at), detail));
    }

    fn object(&mut self, name: &str, allowed: &str) -> Option<Map<String, Value>> {
        match self.map.remove(name) {
            None | Some(Value::Null) => None,
            Some(Value::Object(map)) => Some(map),
            Some(_) => {
                self.fault(name, allowed);
                None
            }
        }
    }

    /// A text that may be absent.
    fn text(&mut self, name: &str, rule: &Rule) -> Option<String> {
        match self.map.remove(name) {
            None | Some(Value::Null) => None,
            Some(Value::String(text)) if rule.bytes.contains(&text.len()) && text.chars().all(rule.fits) => {
                Some(text)
            }
            Some(_) => {
                let (least, most) = (rule.bytes.start(), rule.bytes.end());
                self.fault(name, format!("must be a string of {least} to {most} bytes: {}", rule.allowed));
                None
            }
        }
    }

    /// A text that must be there; empty where it is not, and then noted.
    fn needed(&mut self, name: &str, rule: &Rule) -> String {
        if self.map.get(name).is_none_or(Value::is_null) {
            self.fault(name, "is required");
        }
        self.text(name, rule).unwrap_or_default()
    }

    fn secret(&mut self, name: &str, rule: &Rule) -> SecretText {
        SecretText(self.needed(name, rule))
    }

    /// Notes what nobody took.
    fn end(mut self) {
        for name in std::mem::take(&mut self.map).into_iter().map(|(name, _)| name) {
            self.fault(&name.replace('~', "~0").replace('/', "~1"), "is not a field");
        }
    }
}

/// `None` only where a fault was noted.
fn read_auth(mut reader: Reader) -> Option<Auth> {
    let auth = match reader.map.remove("type").as_ref().and_then(Value::as_str) {
        Some("basic") => Auth::Basic {
            username: reader.needed("username", &USERNAME),
            password: reader.secret("password", &PASSWORD),
        },
        Some("bearer") => {
            let token = reader.secret("token", &TOKEN);
            if token.reveal().trim_end_matches('=').contains('=') || token.reveal().starts_with('=') {
                reader.fault("token", TOKEN.allowed);
            }
            Auth::Bearer { token }
        }
        Some("oauth2") => Auth::OAuth2(read_oauth2(&mut reader)),
        _ => {
            reader.fault("type", "must be basic, bearer or oauth2");
            return None;
        }
    };
    reader.end();
    Some(auth)
}

fn read_oauth2(reader: &mut Reader) -> OAuth2 {
    let oauth2 = OAuth2 {
        token_url: reader.needed("token_url", &TEXT),
        client_id: reader.needed("client_id", &CLIENT),
        client_secret: reader.secret("client_secret", &CLIENT),
        scope: reader.text("scope", &SCOPE),
        audience: reader.text("audience", &TEXT),
        client_authentication: match reader.map.remove("client_authentication") {
            None | Some(Value::Null) => ClientAuthentication::default(),
            Some(value) => serde_json::from_value(value).unwrap_or_else(|_| {
                reader.fault("client_authentication", "must be basic or body");
                ClientAuthentication::default()
            }),
        },
    };
    if oauth2.token_url.contains('#') {
        reader.fault("token_url", "must have no fragment");
    }
    if oauth2.scope.as_ref().is_some_and(|scope| scope.split(' ').any(str::is_empty)) {
        reader.fault("scope", SCOPE.allowed);
    }
    oauth2
}

fn read_certificate(mut reader: Reader, now: Timestamp) -> Option<ClientCertificate> {
    let read = ClientCertificate {
        certificate: reader.needed("certificate", &PEM),
        private_key: reader.secret("private_key", &PEM),
    };
    if !read.certificate.is_empty()
        && !read.private_key.reveal().is_empty()
        && let Err(fault) = read.check(now)
    {
        reader.faults.push(under(reader.at, fault));
    }
    reader.end();
    Some(read)
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ED25519, date_time_ymd};
    use serde_json::json;

    use super::*;

    fn now() -> Timestamp {
        "2026-01-01T00:00:00Z".parse().unwrap()
    }

    fn parse(fields: &Value, previous: Option<&Credentials>) -> Result<Credentials, Vec<Fault>> {
        Credentials::parse(fields.as_object().unwrap(), previous, now())
    }

    fn check(fields: &Value, expected: &[&str]) {
        let faults = parse(fields, None).err().unwrap_or_default();
        let pointers: Vec<_> = faults.iter().map(|fault| fault.pointer.as_str()).collect();
        assert_eq!(pointers, expected, "{fields}");
    }

    fn certificate(key: &KeyPair, last_year: i32) -> String {
        let mut params = CertificateParams::new(["gatehook".to_owned()]).unwrap();
        params.not_after = date_time_ymd(last_year, 12, 31);
        params.self_signed(key).unwrap().pem()
    }

    fn key() -> KeyPair {
        KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap()
    }

    /// Everything at once, each secret a word of its own.
    fn full() -> Value {
        let key = key();
        json!({
            "headers": {"x-api-key": "hush-header"},
            "auth": {
                "type": "oauth2", "token_url": "https://id.example/token", "client_id": "me",
                "client_secret": "hush-client", "scope": "a b", "audience": "https://api.example/",
                "client_authentication": "body",
            },
            "client_certificate": {"certificate": certificate(&key, 2040), "private_key": key.serialize_pem()},
        })
    }

    #[test]
    fn every_way_to_authenticate_is_read() {
        check(&json!({}), &[]);
        check(&json!({"headers": null, "auth": null, "client_certificate": null}), &[]);
        check(&json!({"headers": {}, "auth": {"type": "basic", "username": "", "password": ""}}), &[]);
        check(&json!({"auth": {"type": "basic", "username": "Jürgen", "password": "a:b"}}), &[]);
        check(&json!({"auth": {"type": "bearer", "token": "aZ09-._~+/=="}}), &[]);
        check(
            &json!({"auth": {"type": "oauth2", "token_url": "https://x/", "client_id": "a", "client_secret": "b"}}),
            &[],
        );
        check(&full(), &[]);
    }

    #[test]
    fn every_fault_is_named_at_once() {
        check(
            &json!({"headers": [], "auth": "x", "client_certificate": 1, "other": 1}),
            &["/auth", "/client_certificate", "/headers", "/other"],
        );
        check(&json!({"auth": {}}), &["/auth/type"]);
        check(&json!({"auth": {"type": "digest", "username": "u"}}), &["/auth/type"]);
        check(
            &json!({"auth": {"type": "basic", "username": "a:b", "password": "a\nb", "token": "x"}}),
            &["/auth/password", "/auth/token", "/auth/username"],
        );
        check(&json!({"auth": {"type": "basic"}}), &["/auth/password", "/auth/username"]);
        for token in ["", "a b", "=", "a=b", "a\r\nhost: b", "\u{e9}", &"x".repeat(4097)] {
            check(&json!({"auth": {"type": "bearer", "token": token}}), &["/auth/token"]);
        }
        check(
            &json!({"auth": {
                "type": "oauth2", "token_url": "https://x/#f", "client_id": "\n", "client_secret": 1, "scope": "a  b",
                "audience": "\u{0}", "client_authentication": "jwt", "resource": "x",
            }}),
            &[
                "/auth/audience",
                "/auth/client_authentication",
                "/auth/client_id",
                "/auth/client_secret",
                "/auth/resource",
                "/auth/scope",
                "/auth/token_url",
            ],
        );
        check(
            &json!({"auth": {"type": "bearer", "token": "t"}, "headers": {"Authorization": "x", "host": "x"}}),
            &["/headers/Authorization", "/headers/host"],
        );
        check(&json!({"headers": {"authorization": "x"}}), &[]);
    }

    #[test]
    fn a_certificate_must_be_good_and_its_key_its_own() {
        let (ours, other, ed25519) = (key(), key(), KeyPair::generate_for(&PKCS_ED25519).unwrap());
        let pem = |label: &str, der: &[u8]| {
            format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", STANDARD.encode(der))
        };
        // An EC key as PKCS#8 ends in the same key as SEC1, which for P-256 has 109 bytes.
        let pkcs8 = ours.serialize_der();
        let sec1 = pem("EC PRIVATE KEY", &pkcs8[pkcs8.len() - 109..]);
        let (good, key) = (certificate(&ours, 2040), ours.serialize_pem());
        let chain = format!("{good}{}", certificate(&other, 2040));
        let (at_chain, at_key) =
            (&["/client_certificate/certificate"][..], &["/client_certificate/private_key"][..]);
        for (certificate, private_key, expected) in [
            (&good, &key, &[][..]),
            (&good, &sec1, &[]),
            (&chain, &key, &[]),
            (&certificate(&ed25519, 2040), &ed25519.serialize_pem(), &[]),
            (&good, &other.serialize_pem(), at_key),
            (&good, &ed25519.serialize_pem(), at_key),
            (&good, &pem("ENCRYPTED PRIVATE KEY", b"x"), at_key),
            (&good, &pem("PRIVATE KEY", b"x"), at_key),
            (&good, &good, at_key),
            (&certificate(&ours, 2025), &key, at_chain),
            (&format!("{good}{}", certificate(&other, 2025)), &key, at_chain),
            (&good.repeat(11), &key, at_chain),
            (&pem("CERTIFICATE", b"x"), &key, at_chain),
            (&"x".to_owned(), &key, at_chain),
            (&"x".repeat(20_000), &key, at_chain),
        ] {
            check(
                &json!({"client_certificate": {"certificate": certificate, "private_key": private_key}}),
                expected,
            );
        }
        check(&json!({"client_certificate": {"x": 1}}), &[at_chain[0], at_key[0], "/client_certificate/x"]);
    }

    #[test]
    fn nothing_secret_is_shown_or_printed() {
        let (given, key) = (full(), "PRIVATE KEY");
        let credentials = parse(&given, None).unwrap();
        let shown = credentials.shown();
        for text in [format!("{credentials:?}"), shown.to_string()] {
            assert!(!text.contains("hush") && !text.contains(key), "{text}");
        }
        assert_eq!(shown["headers"], json!({"x-api-key": "***"}));
        assert_eq!(shown["auth"]["client_secret"], "***");
        assert_eq!((&shown["auth"]["client_id"], &shown["auth"]["type"]), (&json!("me"), &json!("oauth2")));
        assert_eq!(shown["client_certificate"]["certificate"], given["client_certificate"]["certificate"]);
        for (auth, expected) in [
            (json!({"type": "basic", "username": "u", "password": "hush"}), "Basic dTpodXNo"),
            (json!({"type": "bearer", "token": "hush"}), "Bearer hush"),
        ] {
            let credentials = parse(&json!({"auth": auth}), None).unwrap();
            assert!(!credentials.shown().to_string().contains("hush"));
            let headers = credentials.headers();
            assert_eq!(headers[0].1, expected);
            assert!(!format!("{credentials:?} {headers:?}").contains("hush"));
        }
    }

    #[test]
    fn what_was_shown_can_be_sent_back() {
        let credentials = parse(&full(), None).unwrap();
        assert_eq!(parse(&credentials.shown(), Some(&credentials)).unwrap(), credentials);
        let sealed = serde_json::to_vec(&credentials).unwrap();
        assert_eq!(serde_json::from_slice::<Credentials>(&sealed).unwrap(), credentials);
        let empty = Credentials::default();
        assert_eq!(parse(&empty.shown(), Some(&empty)).unwrap(), empty);
        assert!(empty.is_empty() && empty.headers().is_empty());
    }

    #[test]
    fn stars_stand_only_for_what_is_there_and_goes_where_it_went() {
        let previous = parse(&full(), None).unwrap();
        let pointers = |fields: &Value, previous| {
            let faults = parse(fields, previous).unwrap_err();
            faults.into_iter().map(|fault| fault.pointer).collect::<Vec<_>>()
        };
        let shown = previous.shown();
        assert_eq!(
            pointers(&shown, None),
            ["/auth/client_secret", "/client_certificate/private_key", "/headers/x-api-key",]
        );
        let mut moved = shown.clone();
        moved["auth"]["token_url"] = "https://evil.example/".into();
        assert_eq!(pointers(&moved, Some(&previous)), ["/auth/client_secret"]);
        let other = json!({"auth": {"type": "bearer", "token": "***"}, "headers": {"x-other": "***"}});
        assert_eq!(pointers(&other, Some(&previous)), ["/auth/token", "/headers/x-other"]);
        let upper = json!({"headers": {"X-API-Key": "***", "x-b": "2"}});
        assert_eq!(parse(&upper, Some(&previous)).unwrap().headers()[0].1, "hush-header");
        let mut other_key = shown;
        other_key["client_certificate"]["certificate"] = certificate(&key(), 2040).into();
        assert_eq!(pointers(&other_key, Some(&previous)), ["/client_certificate/private_key"]);
    }
}
