//! The plugin configuration: parsed strictly, compiled into types that cannot be wrong.
//!
//! Unknown fields are refused, and every fault names its place as a JSON pointer (RFC 6901), so that an operator sees at
//! once what to mend. Wrong JSON, types and fields are reported one at a time, as the parser meets them; faults of meaning
//! are reported all together. The empty text is the empty object: the automatic rule, with defaults for everything.

mod compile;
mod raw;
#[cfg(test)]
mod samples;
mod shape;

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use serde_path_to_error::Segment;
use sha2::{Digest as _, Sha256};

use crate::hold::Hold;
use crate::outbox::Limits;
use crate::rules::{Rules, Source};
use crate::shape::Shape;

/// A valid configuration.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where events go.
    pub companion: Companion,
    /// The CloudEvents `source`.
    pub source: String,
    /// From exchange to event type.
    pub rules: Rules,
    /// How answers are read that no resource says more about.
    pub shape: Shape,
    /// What becomes of an event whose tenant is configured but missing.
    pub missing_tenant: MissingTenant,
    /// The mark by which a second Gatehook knows that a first one watches; `None` if there is to be none.
    pub via: Option<String>,
    /// How representations are read by GET.
    pub fetch: Fetch,
    /// Mode `hold`: answers wait for their events; `None` in mode `async`.
    pub hold: Option<Hold>,
    /// The largest answer that is kept as a representation, in bytes.
    pub max_body_bytes: usize,
    /// Whether observed writes go upstream with `accept-encoding: identity`.
    pub identity_encoding: bool,
    /// Bounds of outbox and batches.
    pub limits: Limits,
}

/// Where and how events are handed over. Two configurations with an equal companion share one outbox.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Companion {
    /// The Envoy cluster.
    pub cluster: String,
    /// The `:authority` of the hand-over.
    pub authority: String,
    /// The `:path` of the hand-over.
    pub path: String,
    /// The bearer token, if the companion asks for one.
    pub token: Option<Token>,
    /// How long the companion may take for one batch.
    pub timeout: Duration,
}

/// What becomes of an event whose tenant is configured but missing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MissingTenant {
    /// It goes whole, without a tenant: the companion shows it to no tenant, to the operator alone.
    #[default]
    OperatorOnly,
    /// The same without data.
    Thin,
    /// It is not sent.
    Refuse,
}

/// How representations are read by GET.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetch {
    /// The Envoy cluster; `None` for the one that the exchange itself went to.
    pub cluster: Option<String>,
    /// The headers of the caller's request that go with it, in lower case.
    pub headers: BTreeSet<String>,
    /// How long one may take.
    pub timeout: Duration,
    /// How long a write waits for the representation before it.
    pub previous_timeout: Duration,
    /// Most GETs under way at once, for each worker and destination.
    pub max_concurrent: usize,
    /// Most events that wait for a GET.
    pub max_waiting: usize,
}

impl Companion {
    /// Where writes are reported that fit no rule: beside the hand-over; `None` if that has a path of someone's own.
    pub fn unmatched_path(&self) -> Option<String> {
        self.path.strip_suffix("/events").map(|base| format!("{base}/unmatched"))
    }
}

/// A bearer token; it never shows in a log.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Token(String);

impl Token {
    /// The value of the `authorization` header.
    pub fn authorization(&self) -> String {
        format!("Bearer {}", self.0)
    }

    /// What two filters that hand over with the same token know each other by, and nobody else can forge.
    pub(crate) fn mark(&self) -> String {
        let digest = Sha256::new().chain_update(b"gatehook-via\0").chain_update(&self.0).finalize();
        digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect()
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("***")
    }
}

/// One thing that is wrong, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// A JSON pointer into the configuration; empty for the whole.
    pub path: String,
    /// What is wrong, and what would be right.
    pub message: String,
}

/// All that is wrong with a configuration; at least one fault. Prints one line for each: `/resources/0/path: …`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Faults(pub Vec<Fault>);

impl fmt::Display for Faults {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, Fault { path, message }) in self.0.iter().enumerate() {
            let newline = if index == 0 { "" } else { "\n" };
            let path = if path.is_empty() { "/" } else { path };
            write!(formatter, "{newline}{path}: {message}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Faults {}

impl Config {
    /// How answers are read that this rule took.
    pub fn shape(&self, source: Source) -> &Shape {
        match source {
            Source::Resource(index) => self.rules.resources.get(index).map_or(&self.shape, |own| &own.shape),
            Source::Automatic => &self.shape,
        }
    }

    /// Reads a configuration from JSON; the empty text is `{}`.
    pub fn parse(json: &[u8]) -> Result<Self, Faults> {
        let json = if json.trim_ascii().is_empty() { b"{}" } else { json };
        let mut parser = serde_json::Deserializer::from_slice(json);
        let raw: raw::Object<raw::RawConfig> =
            serde_path_to_error::deserialize(&mut parser).map_err(|error| {
                let path = pointer(error.path());
                Faults(vec![Fault { path, message: error.into_inner().to_string() }])
            })?;
        parser
            .end()
            .map_err(|error| Faults(vec![Fault { path: String::new(), message: error.to_string() }]))?;
        compile::compile(raw.0)
    }
}

/// The parser's path as a JSON pointer.
fn pointer(path: &serde_path_to_error::Path) -> String {
    let step = |segment: &Segment| match segment {
        Segment::Seq { index } => Some(format!("/{index}")),
        Segment::Map { key } => Some(format!("/{}", key.replace('~', "~0").replace('/', "~1"))),
        Segment::Enum { variant } => Some(format!("/{variant}")),
        Segment::Unknown => None,
    };
    path.iter().filter_map(step).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(json: &str) -> Vec<String> {
        Config::parse(json.as_bytes()).unwrap_err().0.into_iter().map(|fault| fault.path).collect()
    }

    #[test]
    fn nothing_at_all_is_the_automatic_rule_with_defaults() {
        for json in ["", " \n", "{}"] {
            let config = Config::parse(json.as_bytes()).unwrap();
            assert!(config.rules.automatic && config.identity_encoding);
            assert_eq!(config.companion.cluster, "gatehook");
            assert_eq!(config.companion.timeout, Duration::from_secs(5));
            assert_eq!(config.limits.linger, Duration::from_millis(5));
        }
    }

    #[test]
    fn every_fault_names_its_place() {
        for (json, path) in [
            ("{", ""),
            ("{} {}", ""),
            ("[]", ""),
            (r#"{"companion": []}"#, "/companion"),
            (r#"{"surprise": 1}"#, "/surprise"),
            (r#"{"resources": [{"path": "/a/{id}", "nuon": "a"}]}"#, "/resources/0/nuon"),
            (r#"{"resources": [{"path": "/a/{id}"}]}"#, "/resources/0"),
            (r#"{"resources": [{"path": 7, "noun": "a"}]}"#, "/resources/0/path"),
            (r#"{"companion": {"tokn": ""}}"#, "/companion/tokn"),
            (r#"{"companion": {"timeout": 5}}"#, "/companion/timeout"),
            (r#"{"companion": {"timeout": "5"}}"#, "/companion/timeout"),
            (r#"{"companion": {"timeout": "0s"}}"#, "/companion/timeout"),
            (r#"{"companion": {"path": "v1"}}"#, "/companion/path"),
            (r#"{"companion": {"cluster": ""}}"#, "/companion/cluster"),
            (r#"{"companion": {"authority": "a b"}}"#, "/companion/authority"),
            (r#"{"companion": {"token": "a\nb"}}"#, "/companion/token"),
            (r#"{"via": true}"#, "/via"),
            (r#"{"source": ""}"#, "/source"),
            (r#"{"namespace": "Acme"}"#, "/namespace"),
            (r#"{"namespace": "gatehook.acme"}"#, "/namespace"),
            (r#"{"tense": "future"}"#, "/tense"),
            (r#"{"mode": "hold"}"#, "/hold/allow_on_headers_stop_iteration"),
            (r#"{"hold": {"allow_on_headers_stop_iteration": true}}"#, "/hold"),
            (r#"{"hold": {"allow": true}}"#, "/hold/allow"),
            (
                r#"{"mode": "hold", "hold": {"allow_on_headers_stop_iteration": true, "max_body_bytes": 2000000}}"#,
                "/hold/max_body_bytes",
            ),
            (
                r#"{"mode": "hold", "hold_timeout": "0s", "hold": {"allow_on_headers_stop_iteration": true}}"#,
                "/hold_timeout",
            ),
            (r#"{"mode": "sync"}"#, "/mode"),
            (r#"{"ignore": ["/a", "b"]}"#, "/ignore/1"),
            (r#"{"verbs": {"update": "Change"}}"#, "/verbs/update"),
            (r#"{"singulars": {"a/b": "c"}}"#, "/singulars/a~1b"),
            (r#"{"max_body_bytes": 0}"#, "/max_body_bytes"),
            (r#"{"max_body_bytes": -1}"#, "/max_body_bytes"),
            (r#"{"outbox": {"max_events": 0}}"#, "/outbox/max_events"),
            (r#"{"outbox": {"max_bytes": 1}}"#, "/outbox/max_bytes"),
            (r#"{"batch": {"max_events": 1001}}"#, "/batch/max_events"),
            (r#"{"batch": {"max_bytes": 5000000}}"#, "/batch/max_bytes"),
            (r#"{"batch": {"linger": "1h"}}"#, "/batch/linger"),
            (r#"{"resources": [{"path": "/a/{id}", "noun": "A"}]}"#, "/resources/0/noun"),
            (
                r#"{"resources": [{"path": "/a/{id}", "noun": "a", "verbs": {"GET": "x"}}]}"#,
                "/resources/0/verbs/GET",
            ),
            (
                r#"{"resources": [{"path": "/a/{id}", "noun": "a", "verbs": {"PUT": "x.y"}}]}"#,
                "/resources/0/verbs/PUT",
            ),
            (
                r#"{"resources": [{"path": "/a/{id}", "noun": "a", "actions": {"x": ""}}]}"#,
                "/resources/0/actions/x",
            ),
            (
                r#"{"resources": [{"path": "/a/{id}", "noun": "a", "actions": {"x/y": "z"}}]}"#,
                "/resources/0/actions/x~1y",
            ),
            (
                r#"{"resources": [{"path": "/a/{id}", "noun": "a", "statuses": [200, 404]}]}"#,
                "/resources/0/statuses/1",
            ),
            (r#"{"resources": [{"path": "/a/{id}", "noun": "a", "statuses": []}]}"#, "/resources/0/statuses"),
            (r#"{"resources": [{"path": "/a/{id}", "noun": "a", "unwrap": "data"}]}"#, "/resources/0/unwrap"),
            (
                r#"{"resources": [{"path": "/a", "noun": "a", "collection": {"PUT": "x"}}]}"#,
                "/resources/0/collection",
            ),
            (
                r#"{"resources": [{"path": "/a/{id}", "noun": "a", "collection": {"GET": "x"}}]}"#,
                "/resources/0/collection/GET",
            ),
            (r#"{"unwrap": "a", "resources": [{"path": "/a/{id}", "noun": "a"}]}"#, "/unwrap"),
            (r#"{"explode": "~2"}"#, "/explode"),
            (r#"{"id": "id"}"#, "/id"),
            (r#"{"representation": "guess"}"#, "/representation"),
            (r#"{"previous": true}"#, "/previous"),
            (r#"{"data": "some"}"#, "/data"),
            (r#"{"only": []}"#, "/only"),
            (r#"{"only": ["/a", "b"]}"#, "/only/1"),
            (r#"{"redact": ["ssn"]}"#, "/redact/0"),
            (r#"{"tenant": {}}"#, "/tenant"),
            (r#"{"tenant": {"header": "x", "field": "/x"}}"#, "/tenant"),
            (r#"{"tenant": {"header": "X-Tenant"}}"#, "/tenant/header"),
            (r#"{"actor": {"jwt": "/a~"}}"#, "/actor/jwt"),
            (r#"{"actor": {"header": "x", "payload": "p"}}"#, "/actor/payload"),
            (r#"{"missing_tenant": "maybe"}"#, "/missing_tenant"),
            (r#"{"fetch": {"headers": ["authorization", ":path"]}}"#, "/fetch/headers/1"),
            (r#"{"fetch": {"max_concurrent": 0}}"#, "/fetch/max_concurrent"),
            (r#"{"fetch": {"timeout": "1h"}}"#, "/fetch/timeout"),
            (r#"{"fetch": {"cluster": ""}}"#, "/fetch/cluster"),
            (r#"{"previous_timeout": "0ms"}"#, "/previous_timeout"),
            (r#"{"resources": [{"path": "/a/{id}", "noun": "a..b"}]}"#, "/resources/0/noun"),
            (
                r#"{"resources": [{"path": "/a/bulk", "noun": "a", "subject": "/b/{c}"}]}"#,
                "/resources/0/subject",
            ),
            (
                r#"{"resources": [{"path": "/a/{id}", "noun": "a", "redact": ["x"]}]}"#,
                "/resources/0/redact/0",
            ),
            (
                r#"{"resources": [{"path": "/a/{id}", "noun": "a"}, {"path": "/a/{b}", "noun": "b"}]}"#,
                "/resources/1/path",
            ),
        ] {
            assert_eq!(faults(json), [path], "{json}");
        }
    }

    #[test]
    fn all_faults_of_meaning_come_together() {
        let json = r#"{"source": "", "resources": [{"path": "a", "noun": ""}], "mode": "hold"}"#;
        let allow = "/hold/allow_on_headers_stop_iteration";
        assert_eq!(faults(json), ["/source", "/resources/0/path", "/resources/0/noun", allow]);
        let text = Config::parse(json.as_bytes()).unwrap_err().to_string();
        assert!(text.lines().any(|line| line.starts_with("/resources/0/path: ")), "{text}");
    }

    #[test]
    fn a_resource_stands_before_the_whole_but_redactions_add_up() {
        let json = br#"{"unwrap": "/data", "redact": ["/ssn"], "representation": "fetch", "tenant": {"header": "x-t"},
            "resources": [{"path": "/a/{id}", "noun": "a", "unwrap": "", "redact": ["/name"], "data": "full"}]}"#;
        let config = Config::parse(json).unwrap();
        let own = config.shape(Source::Resource(0));
        assert!(own.unwrap.is_empty() && config.shape(Source::Automatic).unwrap == ["data"]);
        assert_eq!(own.representation, crate::shape::Representation::Fetch);
        let text = crate::json::Json::parse(br#"{"ssn":1,"name":2,"id":3}"#).unwrap();
        assert_eq!(own.privacy.apply(text).as_deref(), Some(r#"{"id":3}"#));
    }

    #[test]
    fn a_mark_needs_a_token_and_does_not_show_it() {
        let via = |json: &str| Config::parse(json.as_bytes()).unwrap().via;
        assert_eq!(via(r#"{"companion": {"token": "hush"}}"#), None);
        let mark = via(r#"{"via": true, "companion": {"token": "hush"}}"#).unwrap();
        assert!(mark.len() == 32 && !mark.contains("hush"));
        assert_ne!(Some(mark), via(r#"{"via": true, "companion": {"token": "other"}}"#));
    }

    #[test]
    fn a_token_never_shows() {
        let config = Config::parse(br#"{"companion": {"token": "hush-hush"}}"#).unwrap();
        assert!(!format!("{config:?}").contains("hush"));
        assert_eq!(config.companion.token.unwrap().authorization(), "Bearer hush-hush");
    }
}
