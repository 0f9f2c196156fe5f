//! `gatehook explain`: which event an exchange would be, by which rule, and if none, why not.
//!
//! The exchange is played through the filter's own code ([`rehearsal`](super::rehearsal)); here are only the question as
//! a person asks it and the answer in words. No request is sent anywhere.

use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Args;
use gatehook_filter::config::{Config, Faults};
use gatehook_filter::explain::Silence;
use gatehook_filter::rules::Source;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::configurations::Search;
use super::input;
use super::rehearsal::{Call, Outcome, rehearse};

/// Arguments of `gatehook explain`.
#[derive(Args, Debug)]
pub struct Explain {
    /// The request's method
    method: String,

    /// The request's path, with its query if it has one; a whole URL will do
    path: String,

    /// The status that the API answered
    #[arg(value_parser = clap::value_parser!(u16).range(100..=599))]
    status: u16,

    /// The filter's configuration: JSON, or an Envoy or Istio file with one inside; the automatic rule without it
    #[arg(long, value_name = "FILE")]
    config: Option<String>,

    /// What the API answered; shows the whole event
    #[arg(long, value_name = "FILE")]
    body: Option<String>,

    /// What the caller sent: an id that stands there already is none that the API gave
    #[arg(long, value_name = "FILE")]
    request_body: Option<String>,

    /// A header of the request, as often as needed
    #[arg(long = "request-header", value_name = "NAME: VALUE", value_parser = header)]
    request_headers: Vec<(String, String)>,

    /// A header of the answer, as often as needed
    #[arg(long = "header", value_name = "NAME: VALUE", value_parser = header)]
    headers: Vec<(String, String)>,

    /// Print one JSON object, for scripts: type (null where there is no event), rule, reason, subject, thin, event
    #[arg(long)]
    json: bool,
}

/// What comes of an exchange.
#[derive(Debug, Default, Serialize)]
struct Answer {
    #[serde(rename = "type")]
    event_type: Option<String>,
    /// The rule that decided, for or against.
    rule: Option<String>,
    /// Why there is no event.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    /// The type it would have if the answer, which was not given, bears a new id.
    #[serde(skip_serializing_if = "Option::is_none")]
    with_new_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    subject: Option<String>,
    /// Why the event bears no data.
    #[serde(skip_serializing_if = "Option::is_none")]
    thin: Option<String>,
    /// What is read by GET for the representation, before the event goes.
    #[serde(skip_serializing_if = "Option::is_none")]
    reads: Option<String>,
    /// How many events come of the same answer besides this one.
    #[serde(skip_serializing_if = "Option::is_none")]
    further: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    event: Option<Box<RawValue>>,
}

impl Explain {
    /// Explains the exchange.
    ///
    /// # Errors
    /// A file that cannot be read, or a configuration that would not load.
    pub fn run(&self, now: Timestamp, out: &mut impl Write) -> anyhow::Result<ExitCode> {
        let read = |file: &Option<String>| file.as_deref().map(input::read).transpose();
        let (body, request_body) = (read(&self.body)?, read(&self.request_body)?.unwrap_or_default());
        let loaded = Loaded::read(self.config.as_deref())?;
        let (authority, target) = split_url(&self.path);
        let call = Call {
            method: &self.method.to_ascii_uppercase(),
            target,
            authority,
            request_headers: &self.request_headers,
            request_body: &request_body,
            status: self.status,
            headers: &self.headers,
            body: body.as_deref().unwrap_or_default(),
        };
        let since_epoch = Duration::from_micros(u64::try_from(now.as_microsecond()).unwrap_or_default());
        let answer = loaded.explain(&call, body.is_some(), since_epoch)?;
        if self.json {
            writeln!(out, "{}", serde_json::to_string(&answer)?)?;
        } else {
            answer.print(out, &loaded.config)?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl Answer {
    fn print(&self, out: &mut impl Write, config: &Config) -> std::io::Result<()> {
        match (&self.event_type, &self.reason) {
            (Some(event_type), _) => writeln!(out, "{event_type}")?,
            (None, reason) => writeln!(out, "no event: {}", reason.as_deref().unwrap_or("no rule fits"))?,
        }
        if let Some(rule) = &self.rule {
            writeln!(out, "  by       {rule}")?;
        }
        if let Some(subject) = &self.subject {
            writeln!(out, "  subject  {subject}")?;
        }
        if let Some(thin) = &self.thin {
            writeln!(out, "  thin     {thin}: {}", thin_in_words(thin, config))?;
        }
        if let Some(reads) = &self.reads {
            writeln!(out, "  reads    GET {reads}")?;
        }
        if let Some(event) = &self.event {
            writeln!(out, "  event    {event}")?;
        }
        if let Some(further) = self.further {
            writeln!(out, "  and      {further} more of the same answer")?;
        }
        Ok(())
    }
}

/// A configuration, and its text for naming the parts of it.
struct Loaded {
    config: Config,
    raw: Value,
}

impl Loaded {
    fn read(file: Option<&str>) -> anyhow::Result<Self> {
        match file {
            Some(file) => Self::of(input::shown(file), &input::read(file)?),
            None => Self::of("", b""),
        }
    }

    fn of(file: &str, bytes: &[u8]) -> anyhow::Result<Self> {
        let mut search = Search::of(bytes);
        if let Some((at, message)) = search.faults.first() {
            bail!("{file}: {}: {message}", if at.is_empty() { "/" } else { at });
        }
        if search.found.len() > 1 {
            let places: Vec<_> = search.found.iter().map(|found| found.at.as_str()).collect();
            bail!(
                "{file}: holds {} configurations; give one of them alone: {}",
                places.len(),
                places.join(", ")
            );
        }
        let found = search.found.pop().with_context(|| format!("{file}: /: holds no configuration"))?;
        let in_place = |Faults(faults): Faults| {
            let line = |path: &str, message: &str| {
                format!("{file}: {}{}: {message}", found.at, if path.is_empty() { "/" } else { path })
            };
            let lines: Vec<_> = faults.iter().map(|fault| line(&fault.path, &fault.message)).collect();
            anyhow::anyhow!("{}", lines.join("\n"))
        };
        let config = Config::parse(&found.json).map_err(in_place)?;
        Ok(Self { config, raw: serde_json::from_slice(&found.json).unwrap_or_default() })
    }

    fn explain(&self, call: &Call<'_>, has_body: bool, now: Duration) -> anyhow::Result<Answer> {
        Ok(match rehearse(&self.config, call, now) {
            Outcome::Event { event_type, rule, json, subject, thin, reads, further } => {
                let event: Option<Box<RawValue>> =
                    json.map(|json| serde_json::from_slice(&json)).transpose().context("the event is no JSON")?;
                // Without the answer nothing is known of its data, nor of the id that a new resource's path ends in.
                let known = has_body || matches!(call.status, 204 | 205) || call.method == "DELETE";
                let located = call.headers.iter().any(|(name, _)| name == "location");
                Answer {
                    event_type: Some(event_type),
                    rule: rule.map(|rule| self.name(rule)),
                    reason: None,
                    with_new_id: None,
                    subject: Some(subject).filter(|_| known || located || call.method != "POST"),
                    thin: thin.filter(|_| known).map(str::to_owned),
                    reads,
                    further: Some(further).filter(|further| *further > 0),
                    event: event.filter(|_| known),
                }
            }
            Outcome::Untold(rule) => Answer {
                rule: rule.map(|rule| self.name(rule)),
                reason: Some(
                    "the request bears no tenant, and missing_tenant is refuse; give it with --request-header".to_owned(),
                ),
                ..Answer::default()
            },
            Outcome::Silence(header, silence) => {
                let with_new_id = self.with_new_id(call, has_body, silence, now);
                let reason = match (header, &with_new_id) {
                    (Some(header), _) => silenced_by(&header),
                    (None, Some(event_type)) => format!(
                        "it is {event_type} only if the answer bears an id that the request did not: give it with --body"
                    ),
                    (None, None) => self.in_words(silence, call),
                };
                let rule = self.silencer(silence);
                Answer { rule, reason: Some(reason), with_new_id, ..Answer::default() }
            }
        })
    }

    /// The type that the exchange would have with an answer that bears a new id, if the answer is not known.
    fn with_new_id(
        &self,
        call: &Call<'_>,
        has_body: bool,
        silence: Silence,
        now: Duration,
    ) -> Option<String> {
        if has_body || silence != Silence::NoNewId || matches!(call.status, 204 | 205) {
            return None;
        }
        match rehearse(&self.config, &Call { body: b"{\"id\":\"an id that is new\"}", ..*call }, now) {
            Outcome::Event { event_type, .. } => Some(event_type),
            Outcome::Silence(..) | Outcome::Untold(_) => None,
        }
    }

    /// A rule as an operator finds it: `/resources/0 (/v1/orders/{id})`.
    fn name(&self, rule: Source) -> String {
        match rule {
            Source::Resource(index) => self.place(&format!("/resources/{index}"), "/path"),
            Source::Automatic => "automatic".to_owned(),
        }
    }

    fn place(&self, at: &str, below: &str) -> String {
        match self.raw.pointer(&format!("{at}{below}")).and_then(Value::as_str) {
            Some(text) => format!("{at} ({text})"),
            None => at.to_owned(),
        }
    }

    fn silencer(&self, silence: Silence) -> Option<String> {
        match silence {
            Silence::Ignored(index) => Some(self.place(&format!("/ignore/{index}"), "")),
            Silence::SwitchedOff(index) => Some(self.name(Source::Resource(index))),
            Silence::NotCounted(rule) | Silence::Meaningless(rule) => Some(self.name(rule)),
            _ => None,
        }
    }

    fn in_words(&self, silence: Silence, call: &Call<'_>) -> String {
        let Call { method, target, status, .. } = *call;
        match silence {
            Silence::Read => format!("{method} is a read: only POST, PUT, PATCH and DELETE are watched"),
            Silence::NoPath => format!("{target} is no path: one begins with / and has at most 64 segments"),
            Silence::NoSuccess => format!("answered {status}: only 2xx leaves an event"),
            Silence::Ignored(index) => format!("ignored by {}", self.place(&format!("/ignore/{index}"), "")),
            Silence::SwitchedOff(index) => {
                format!("resource {} has {method} switched off", self.name(Source::Resource(index)))
            }
            Silence::NotCounted(rule) => self.not_counted(rule, status),
            Silence::Meaningless(Source::Automatic) => format!(
                "no rule fits: {method} {target} is a {method} on an item, which creates if answered 201 and else says \
                 nothing; name a resource with a verb for {method}"
            ),
            Silence::Meaningless(rule) => format!(
                "resource {} takes the path, but {method} answered {status} means nothing there: its verbs do not say",
                self.name(rule)
            ),
            Silence::NoNewId => format!(
                "no rule fits: {method} {target} answered {status} whose answer has no new id; name a resource"
            ),
            Silence::AutomaticOff => {
                format!("no rule fits: no resource has the path {target}, and the automatic rule is off")
            }
            Silence::NoRule => format!(
                "no rule fits: the automatic rule sees no id at the end of {target}, so {method} is not said of any \
                 item; name a resource"
            ),
        }
    }

    fn not_counted(&self, rule: Source, status: u16) -> String {
        let name = self.name(rule);
        let statuses = match rule {
            Source::Resource(index) => {
                self.config.rules.resources.get(index).and_then(|one| one.statuses.as_ref())
            }
            Source::Automatic => None,
        };
        match (statuses, rule) {
            (Some(statuses), _) => {
                let statuses: Vec<_> = statuses.iter().map(u16::to_string).collect();
                format!("answered {status}, but resource {name} counts only {}", statuses.join(", "))
            }
            (None, Source::Automatic) => {
                format!("{status} counts only where statuses names it; name a resource with its statuses")
            }
            (None, _) => {
                format!("{status} counts only where statuses names it; resource {name} has no statuses")
            }
        }
    }
}

fn silenced_by(header: &str) -> String {
    match header {
        "content-type" => "the answer is gRPC, which is never looked at".to_owned(),
        "gatehook-ack" => "the answer is the companion's own".to_owned(),
        other => format!("the answer's header {other} excludes it"),
    }
}

fn thin_in_words(thin: &str, config: &Config) -> String {
    match thin {
        "empty" => "the answer has no body".to_owned(),
        "too_large" => format!("the answer is larger than max_body_bytes, {}", config.max_body_bytes),
        "encoded" => "the answer has a content-encoding".to_owned(),
        "not_json" => "the answer is no JSON, by its content-type or by its text".to_owned(),
        "pointer" => "unwrap or explode leads nowhere in the answer".to_owned(),
        "withheld" => "data is none, or only names nothing that the answer has".to_owned(),
        "no_tenant" => "the request bears no tenant, and missing_tenant is thin".to_owned(),
        _ => "the event bears no data".to_owned(),
    }
}

/// Authority and target of a URL; a path alone has no authority.
fn split_url(url: &str) -> (&str, &str) {
    let rest = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"));
    let Some(rest) = rest else { return ("", url) };
    match rest.find('/').and_then(|at| rest.split_at_checked(at)) {
        Some(parts) => parts,
        None => (rest, "/"),
    }
}

pub(super) fn header(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once(':').ok_or("a header is NAME: VALUE")?;
    Ok((name.trim().to_ascii_lowercase(), value.trim().to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: &str = r#"{
        "ignore": ["/healthz", "/internal/**"],
        "resources": [
            {"path": "/v1/orders/{id}", "noun": "order", "actions": {"cancel": "cancel"}, "unwrap": "/data"},
            {"path": "/v1/carts/{id}", "noun": "cart", "verbs": {"DELETE": null}, "statuses": [200, 202]}
        ]
    }"#;

    const CALL: Call<'_> = Call {
        method: "",
        target: "",
        authority: "",
        request_headers: &[],
        request_body: b"",
        status: 0,
        headers: &[],
        body: b"",
    };

    fn explain(request: &str, status: u16, body: Option<&str>) -> Answer {
        let (method, target) = request.split_once(' ').unwrap();
        let body_bytes = body.unwrap_or_default().as_bytes();
        let loaded = Loaded::of("rules.json", CONFIG.as_bytes()).unwrap();
        let call = Call { method, target, status, body: body_bytes, ..CALL };
        loaded.explain(&call, body.is_some(), Duration::from_secs(1)).unwrap()
    }

    #[test]
    fn an_event_has_its_type_and_its_rule() {
        for (request, status, event_type, rule) in [
            ("POST /v1/orders/7/cancel", 200, "order.cancel", "/resources/0 (/v1/orders/{id})"),
            ("PUT /v1/carts/7", 202, "cart.update", "/resources/1 (/v1/carts/{id})"),
            ("POST /users/42/contacts", 201, "contact.create", "automatic"),
        ] {
            let answer = explain(request, status, None);
            assert_eq!(
                (answer.event_type.as_deref(), answer.rule.as_deref()),
                (Some(event_type), Some(rule))
            );
            assert!(answer.event.is_none() && answer.thin.is_none() && answer.reason.is_none(), "{answer:?}");
        }
    }

    #[test]
    fn each_silence_has_its_words() {
        for (request, status, words) in [
            ("GET /v1/orders", 200, "GET is a read"),
            ("POST *", 200, "is no path"),
            ("POST /v1/orders", 404, "answered 404: only 2xx leaves an event"),
            ("POST /internal/a", 200, "ignored by /ignore/1 (/internal/**)"),
            ("DELETE /v1/carts/7", 200, "resource /resources/1 (/v1/carts/{id}) has DELETE switched off"),
            ("POST /v1/carts", 201, "/resources/1 (/v1/carts/{id}) counts only 200, 202"),
            ("POST /v1/orders", 202, "202 counts only where statuses names it; resource /resources/0"),
            ("POST /contacts", 202, "202 counts only where statuses names it; name a resource"),
            ("PUT /v1/orders", 200, "resource /resources/0 (/v1/orders/{id}) takes the path"),
            ("POST /contacts/7", 200, "no rule fits: POST /contacts/7 is a POST on an item"),
            ("PUT /settings", 200, "no rule fits: the automatic rule sees no id"),
            ("POST /search", 204, "POST /search answered 204 whose answer has no new id; name a resource"),
        ] {
            let answer = explain(request, status, None);
            let reason = answer.reason.unwrap();
            assert!(answer.event_type.is_none() && reason.contains(words), "{request} {status}: {reason}");
        }
    }

    #[test]
    fn what_the_answer_decides_is_said_or_decided() {
        let unknown = explain("POST /contacts", 200, None);
        assert_eq!((unknown.event_type, unknown.with_new_id.as_deref()), (None, Some("contact.create")));
        assert!(unknown.reason.unwrap().contains("--body"));
        let none = explain("POST /search", 200, Some("{\"hits\": []}"));
        assert_eq!((none.event_type, none.with_new_id), (None, None));
        assert!(none.reason.unwrap().contains("POST /search answered 200 whose answer has no new id"));
        let new = explain("POST /contacts", 200, Some("{\"id\": 7}"));
        assert_eq!(
            (new.event_type.as_deref(), new.subject.as_deref()),
            (Some("contact.create"), Some("/contacts/7"))
        );
    }

    #[test]
    fn a_body_shows_the_event_and_why_it_would_be_thin() {
        let whole = explain("POST /v1/orders", 201, Some("{\"data\": {\"id\": 7}}"));
        assert_eq!(whole.thin, None);
        let event: Value = serde_json::from_str(whole.event.unwrap().get()).unwrap();
        assert_eq!((&event["data"]["id"], &event["subject"]), (&7.into(), &"/v1/orders/7".into()));
        assert_eq!(explain("POST /v1/orders", 201, Some("{}")).thin.as_deref(), Some("pointer"));
        assert_eq!(explain("POST /v1/orders", 201, Some("<html>")).thin.as_deref(), Some("not_json"));
        assert_eq!(explain("PUT /v1/orders/7", 204, None).thin.as_deref(), Some("empty"));
    }

    #[test]
    fn a_faulty_configuration_is_named_with_file_and_place() {
        let fault = Loaded::of("rules.json", b"{\"tense\": \"future\"}").err().unwrap().to_string();
        assert!(fault.starts_with("rules.json: /tense: "), "{fault}");
    }

    #[test]
    fn what_is_read_and_what_comes_besides_is_said() {
        let config = r#"{"resources": [
            {"path": "/notes/{id}", "noun": "note", "representation": "fetch"},
            {"path": "/bulk", "noun": "user", "explode": "", "subject": "/users/{id}"}
        ]}"#;
        let loaded = Loaded::of("rules.json", config.as_bytes()).unwrap();
        let explain = |call: &Call<'_>| loaded.explain(call, true, Duration::from_secs(1)).unwrap();
        let read = explain(&Call { method: "PUT", target: "/notes/7?x=1", status: 204, ..CALL });
        assert_eq!(read.reads.as_deref(), Some("/notes/7?x=1"));
        assert_eq!((read.event_type.as_deref(), read.event.is_none()), (Some("note.update"), true));
        let body = br#"[{"id": 1}, {"id": 2}, {"id": 3}]"#;
        let bulk = explain(&Call { method: "POST", target: "/bulk", status: 200, body, ..CALL });
        assert_eq!((bulk.subject.as_deref(), bulk.further), (Some("/users/1"), Some(2)));
    }

    #[test]
    fn a_missing_tenant_is_said() {
        let config = r#"{"tenant": {"header": "x-tenant"}, "missing_tenant": "refuse"}"#;
        let loaded = Loaded::of("rules.json", config.as_bytes()).unwrap();
        let given = [("x-tenant".to_owned(), "acme".to_owned())];
        let call = Call { method: "PUT", target: "/notes/7", status: 204, ..CALL };
        let explain = |call: &Call<'_>| loaded.explain(call, true, Duration::from_secs(1)).unwrap();
        assert!(explain(&call).reason.unwrap().contains("missing_tenant"));
        let told = explain(&Call { request_headers: &given, ..call });
        let event: Value = serde_json::from_str(told.event.unwrap().get()).unwrap();
        assert_eq!(event["tenant"], "acme");
    }

    #[test]
    fn a_url_is_taken_apart() {
        assert_eq!(split_url("https://api.example/v1/a?b"), ("api.example", "/v1/a?b"));
        assert_eq!(split_url("http://api.example"), ("api.example", "/"));
        assert_eq!(split_url("/v1/a"), ("", "/v1/a"));
    }
}
