//! The body of a delivery, by the subscription's `format`.
//!
//! Pure. The event's data goes out byte for byte as it came in: it is copied, never parsed and written again; only
//! `template` reads it. A format is one function from an event to bytes.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use hyper::header::{HeaderName, HeaderValue};
use serde_json::{Value, json};

use crate::members::Fault;
use crate::model::{Event, Format, Options, Subscription};

mod cloudevents;
mod slack;
mod template;
mod values;

pub use template::Template;

/// What a subscription says of the shape of its deliveries.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wanted<'a> {
    /// Which body.
    pub format: Format,
    /// The source of the template, for [`Format::Template`] alone.
    pub template: Option<&'a str>,
    /// Media type of what the template makes; `None` means `application/json`.
    pub content_type: Option<&'a str>,
    /// Whether the event's attributes go along as `ce-…` headers.
    pub ce_headers: bool,
    /// Where the API is, without a slash at its end, such as `https://api.example.com`; `thin` adds the subject to it.
    pub base_url: Option<&'a str>,
}

impl<'a> Wanted<'a> {
    /// What the options of a subscription say; `base_url` is the same for all.
    pub fn of(format: Format, options: &'a Options, base_url: Option<&'a str>) -> Self {
        Self {
            format,
            template: options.template.as_deref(),
            content_type: options.content_type.as_deref(),
            ce_headers: options.ce_headers,
            base_url,
        }
    }
}

/// The shape of a subscription's deliveries, worked out once.
#[derive(Clone, Debug)]
pub struct Shape {
    form: Form,
    ce_headers: bool,
    base_url: Option<String>,
}

/// A [`Format`] with what it needs.
#[derive(Clone, Debug)]
enum Form {
    Standard,
    Raw,
    Thin,
    Cloudevents,
    CloudeventsBinary,
    // Shared, so that a shape is cheap to clone, and not as large as its largest form.
    Template(Arc<Template>),
    Slack,
}

impl Shape {
    /// Works out a shape.
    ///
    /// # Errors
    /// Names the field at fault.
    pub fn new(wanted: &Wanted<'_>) -> Result<Self, Fault> {
        let form = match wanted.format {
            Format::Standard => Form::Standard,
            Format::Raw => Form::Raw,
            Format::Thin => Form::Thin,
            Format::Cloudevents => Form::Cloudevents,
            Format::CloudeventsBinary => Form::CloudeventsBinary,
            Format::Template => Form::Template(Arc::new(template(wanted)?)),
            Format::Slack => Form::Slack,
        };
        if wanted.format != Format::Template {
            for (field, given) in [("/template", wanted.template), ("/content_type", wanted.content_type)] {
                if given.is_some() {
                    return Err(Fault::new(field, "is for the format `template` alone"));
                }
            }
        }
        Ok(Self { form, ce_headers: wanted.ce_headers, base_url: wanted.base_url.map(str::to_owned) })
    }
}

fn template(wanted: &Wanted<'_>) -> Result<Template, Fault> {
    let source = wanted.template.ok_or_else(|| Fault::new("/template", "is missing"))?;
    let content_type = wanted.content_type.unwrap_or("application/json");
    let essence = content_type.split(';').next().unwrap_or_default().trim();
    let is_token = |part: &str| !part.is_empty() && HeaderName::try_from(part).is_ok();
    let is_media_type =
        essence.split_once('/').is_some_and(|(kind, subtype)| is_token(kind) && is_token(subtype));
    if !is_media_type || HeaderValue::try_from(content_type).is_err() {
        return Err(Fault::new(
            "/content_type",
            "must be a media type, such as application/json or text/plain",
        ));
    }
    Template::parse(source, content_type).map_err(|detail| Fault::new("/template", detail))
}

/// What one delivery sends.
#[derive(Clone, Debug)]
pub struct Payload {
    /// What is signed.
    pub body: Body,
    /// Headers beside those that every delivery has.
    pub headers: Vec<(HeaderName, HeaderValue)>,
}

/// A body with its media type.
#[derive(Clone, Debug)]
pub struct Body {
    /// `content-type` of the delivery; none where there is no body either.
    pub media_type: Option<HeaderValue>,
    /// The bytes that are signed and sent.
    pub bytes: Bytes,
}

impl Body {
    fn json(bytes: Bytes) -> Self {
        Self { media_type: Some(HeaderValue::from_static("application/json")), bytes }
    }

    /// The data alone, if there is any.
    fn data(event: &Event) -> Result<Option<Self>, String> {
        let Some(data) = event.data.clone() else { return Ok(None) };
        let Some(media_type) = &event.datacontenttype else { return Ok(Some(Self::json(data))) };
        let media_type = HeaderValue::from_str(media_type)
            .map_err(|_| "the event's datacontenttype is no value for a header")?;
        Ok(Some(Self { media_type: Some(media_type), bytes: data }))
    }
}

/// The subscription as a delivery shows it (`hook`, as REST Hooks combines it), written once per subscription.
pub fn hook(subscription: &Subscription) -> String {
    let mut hook = json!({
        "id": subscription.id,
        "events": subscription.events,
        "target_url": subscription.target_url,
    });
    if !subscription.metadata.is_empty() {
        hook["metadata"] = Value::Object(subscription.metadata.clone());
    }
    hook.to_string()
}

/// The payload for one event; `hook` is [`hook`] of the subscription.
///
/// # Errors
/// A sentence that says why this event cannot be sent in this shape.
pub fn body(shape: &Shape, event: &Event, hook: &str) -> Result<Payload, String> {
    let body = match &shape.form {
        Form::Standard => Body::json(standard(event, hook)),
        Form::Raw => Body::data(event)?.unwrap_or_else(|| Body::json(Bytes::from_static(b"null"))),
        Form::Thin => Body::json(thin(event, shape.base_url.as_deref(), hook)),
        Form::Cloudevents => cloudevents::structured(event),
        Form::CloudeventsBinary => {
            Body::data(event)?.unwrap_or(Body { media_type: None, bytes: Bytes::new() })
        }
        Form::Template(template) => template.render(event, hook)?,
        Form::Slack => Body::json(slack::message(event)),
    };
    let headers = match shape.ce_headers || matches!(shape.form, Form::CloudeventsBinary) {
        true => cloudevents::headers(event),
        false => Vec::new(),
    };
    Ok(Payload { body, headers })
}

/// `{"type","timestamp","subject","actor","data","thin","previous","changed","hook"}`; all but type, timestamp, data and
/// hook only where known.
fn standard(event: &Event, hook: &str) -> Bytes {
    let mut body = Object::with_capacity(event.size() + hook.len() + 192);
    body.text("type", &event.event_type);
    body.text("timestamp", &event.time.to_string());
    if let Some(subject) = &event.subject {
        body.text("subject", subject);
    }
    body.extension("actor", event);
    if event.data.is_none() {
        body.json("data", "null");
    }
    body.data(event);
    body.extension("thin", event);
    body.extension("previous", event);
    body.extension("changed", event);
    body.json("hook", hook);
    body.finish()
}

/// `{"type","timestamp","subject","url","actor","changed","hook"}`; `url` where `base_url` is known and the subject is a
/// path.
fn thin(event: &Event, base_url: Option<&str>, hook: &str) -> Bytes {
    let mut body = Object::with_capacity(hook.len() + 256);
    body.text("type", &event.event_type);
    body.text("timestamp", &event.time.to_string());
    if let Some(subject) = &event.subject {
        body.text("subject", subject);
        if let Some(base_url) = base_url.filter(|_| subject.starts_with('/')) {
            body.text("url", &format!("{base_url}{subject}"));
        }
    }
    body.extension("actor", event);
    body.extension("changed", event);
    body.json("hook", hook);
    body.finish()
}

/// A JSON object being written; names are ours or an attribute's, so they need no escapes.
struct Object(String);

impl Object {
    fn with_capacity(bytes: usize) -> Self {
        Self(String::with_capacity(bytes))
    }

    /// A member that is JSON already, byte for byte.
    fn json(&mut self, name: &str, value: &str) {
        self.0.push_str(if self.0.is_empty() { "{\"" } else { ",\"" });
        self.0.push_str(name);
        self.0.push_str("\":");
        self.0.push_str(value);
    }

    fn text(&mut self, name: &str, value: &str) {
        self.json(name, &Value::from(value).to_string());
    }

    /// An extension attribute, where the event has it.
    fn extension(&mut self, name: &str, event: &Event) {
        if let Some(json) = event.extensions.get(name) {
            self.json(name, json.get());
        }
    }

    /// `data` as JSON or text, or `data_base64` where it is neither; nothing where there is none.
    fn data(&mut self, event: &Event) {
        let Some(data) = event.data.as_deref() else { return };
        match std::str::from_utf8(data) {
            Ok(json) if event.is_json() => self.json("data", json),
            Ok(text) => self.text("data", text),
            Err(_) => self.text("data_base64", &STANDARD.encode(data)),
        }
    }

    fn finish(mut self) -> Bytes {
        self.0.push('}');
        self.0.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn event(data: Option<&[u8]>, media_type: Option<&str>) -> Event {
        Event {
            id: "1".into(),
            source: "/test".into(),
            event_type: "contact.create".into(),
            subject: Some("/contacts/1".into()),
            time: "2026-01-02T03:04:05.000006Z".parse().unwrap(),
            datacontenttype: media_type.map(str::to_owned),
            data: data.map(Bytes::copy_from_slice),
            tenant: None,
            extensions: Default::default(),
        }
    }

    pub(super) fn extended(mut event: Event, extensions: &[(&str, &str)]) -> Event {
        for (name, json) in extensions {
            event.extensions.insert((*name).to_owned(), serde_json::from_str(json).unwrap());
        }
        event
    }

    pub(super) fn payload(wanted: &Wanted<'_>, event: &Event) -> Payload {
        body(&Shape::new(wanted).unwrap(), event, r#"{"id":"sub_1"}"#).unwrap()
    }

    pub(super) fn check(format: Format, event: &Event, media_type: &str, expected: &[u8]) {
        let Payload { body, headers } = payload(&Wanted { format, ..Wanted::default() }, event);
        assert_eq!(
            (body.media_type.unwrap().to_str().unwrap(), String::from_utf8_lossy(&body.bytes)),
            (media_type, String::from_utf8_lossy(expected))
        );
        assert_eq!(headers, []);
    }

    #[test]
    fn standard_copies_the_data_byte_for_byte() {
        let event = extended(
            event(Some(br#"{"b" : 1.00,  "a":"\u00e9"}"#), None),
            &[
                ("previous", r#"{"b" : 0.0,  "a":"\u00e8"}"#),
                ("changed", r#"["/b", "/a"]"#),
                ("actor", r#""ada""#),
                ("thin", r#""incomplete""#),
                ("requestid", r#""r""#),
            ],
        );
        check(
            Format::Standard,
            &event,
            "application/json",
            br#"{"type":"contact.create","timestamp":"2026-01-02T03:04:05.000006Z","subject":"/contacts/1","actor":"ada","data":{"b" : 1.00,  "a":"\u00e9"},"thin":"incomplete","previous":{"b" : 0.0,  "a":"\u00e8"},"changed":["/b", "/a"],"hook":{"id":"sub_1"}}"#,
        );
        check(Format::Raw, &event, "application/json", br#"{"b" : 1.00,  "a":"\u00e9"}"#);
    }

    #[test]
    fn standard_carries_what_is_not_json_too() {
        let head =
            r#"{"type":"contact.create","timestamp":"2026-01-02T03:04:05.000006Z","subject":"/contacts/1","#;
        let tail = r#","hook":{"id":"sub_1"}}"#;
        for (data, media_type, field) in [
            (None, None, r#""data":null"#),
            (Some(&b"say \"hi\""[..]), Some("text/plain"), r#""data":"say \"hi\"""#),
            (Some(&[0xff, 0]), Some("image/png"), r#""data_base64":"/wA=""#),
            (Some(&b"[1]"[..]), Some("application/hal+json; charset=utf-8"), r#""data":[1]"#),
        ] {
            check(
                Format::Standard,
                &event(data, media_type),
                "application/json",
                format!("{head}{field}{tail}").as_bytes(),
            );
        }
    }

    #[test]
    fn raw_is_the_data_alone() {
        check(Format::Raw, &event(Some(b"{ }"), None), "application/json", b"{ }");
        check(Format::Raw, &event(Some(&[0xff, 0]), Some("image/png")), "image/png", &[0xff, 0]);
        check(Format::Raw, &event(None, None), "application/json", b"null");
    }

    #[test]
    fn thin_names_the_resource_and_tells_nothing_of_it() {
        let event = extended(
            event(Some(br#"{"name":"Ada"}"#), None),
            &[("previous", r#"{"name":"A."}"#), ("changed", r#"["/name"]"#), ("actor", r#""ada""#)],
        );
        let head =
            r#"{"type":"contact.create","timestamp":"2026-01-02T03:04:05.000006Z","subject":"/contacts/1""#;
        let tail = r#","actor":"ada","changed":["/name"],"hook":{"id":"sub_1"}}"#;
        check(Format::Thin, &event, "application/json", format!("{head}{tail}").as_bytes());
        let wanted =
            Wanted { format: Format::Thin, base_url: Some("https://api.example.com"), ..Wanted::default() };
        let url = r#","url":"https://api.example.com/contacts/1""#;
        assert_eq!(payload(&wanted, &event).body.bytes, format!("{head}{url}{tail}"));
        let elsewhere = Event { subject: Some("urn:contact:1".into()), ..event };
        let bytes = payload(&wanted, &elsewhere).body.bytes;
        assert!(
            !String::from_utf8_lossy(&bytes).contains("url\":"),
            "a subject that is no path makes no URL"
        );
    }

    #[test]
    fn a_template_makes_the_body() {
        let template = Some(r#"{"text": "{{ type }} for {{ hook.id }}"}"#);
        let wanted = Wanted { format: Format::Template, template, ..Wanted::default() };
        let body = payload(&wanted, &event(None, None)).body;
        assert_eq!(body.media_type.unwrap(), "application/json");
        assert_eq!(body.bytes, r#"{"text": "contact.create for sub_1"}"#);
        let wanted = Wanted { content_type: Some("text/plain; charset=utf-8"), ..wanted };
        assert_eq!(
            payload(&wanted, &event(None, None)).body.media_type.unwrap(),
            "text/plain; charset=utf-8"
        );
    }

    #[test]
    fn a_shape_that_cannot_be_names_its_field() {
        let template = Wanted { format: Format::Template, template: Some("{}"), ..Wanted::default() };
        for (wanted, field) in [
            (Wanted { template: None, ..template }, "/template"),
            (Wanted { template: Some("{{"), ..template }, "/template"),
            (Wanted { content_type: Some("json"), ..template }, "/content_type"),
            (Wanted { content_type: Some("text/"), ..template }, "/content_type"),
            (Wanted { content_type: Some("text/plain\n"), ..template }, "/content_type"),
            (Wanted { format: Format::Standard, ..template }, "/template"),
            (Wanted { content_type: Some("text/plain"), ..Wanted::default() }, "/content_type"),
        ] {
            assert_eq!(Shape::new(&wanted).unwrap_err().pointer, field, "{wanted:?}");
        }
        assert!(Shape::new(&template).is_ok());
    }
}
