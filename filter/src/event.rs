//! The event and its JSON form: CloudEvents 1.0, JSON event format, one object.
//!
//! The object is written once, when the exchange ends, with the data at its very end. So an event that turns out too large
//! for the companion is cut down to a thin one in place, and a batch is nothing but objects with commas between them.

use std::borrow::Cow;

use crate::json::push_string;
use crate::timestamp::twelve_digits;

/// Why an event bears no data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Thin {
    /// The answer had no body.
    Empty,
    /// The answer broke off after the write was committed.
    Incomplete,
    /// The answer, or the event made of it, was too large.
    TooLarge,
    /// The answer had a content coding.
    Encoded,
    /// The answer was not JSON, or nested too deep.
    NotJson,
    /// The configured pointer leads nowhere in the answer.
    Pointer,
    /// The configuration lets no data pass.
    Withheld,
    /// No tenant was found, and the configuration then lets no data pass.
    NoTenant,
    /// The representation was to be read by GET, and no answer came in time.
    FetchFailed,
    /// The representation was to be read by GET, and the API answered otherwise than 200.
    FetchRefused,
    /// The representation was to be read by GET, and too many events waited for theirs.
    FetchBusy,
}

impl Thin {
    /// The value of the extension attribute `thin`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Empty => "empty",
            Self::Incomplete => "incomplete",
            Self::TooLarge => "too_large",
            Self::Encoded => "encoded",
            Self::NotJson => "not_json",
            Self::Pointer => "pointer",
            Self::Withheld => "withheld",
            Self::NoTenant => "no_tenant",
            Self::FetchFailed => "fetch_failed",
            Self::FetchRefused => "fetch_refused",
            Self::FetchBusy => "fetch_busy",
        }
    }
}

/// The context attributes of an event; extensions that are `None` are left out.
#[derive(Debug, Clone, Copy)]
pub struct Attributes<'a> {
    /// Unique over all workers, restarts and replicas.
    pub id: &'a str,
    /// The configured `source`.
    pub source: &'a str,
    /// `noun.verb`, with the namespace in front if there is one.
    pub event_type: &'a str,
    /// The resource's path.
    pub subject: &'a str,
    /// RFC 3339, UTC.
    pub time: &'a str,
    /// Extension `requestid`: `x-request-id` of the exchange.
    pub request_id: Option<&'a str>,
    /// Extension `traceparent` (W3C Trace Context).
    pub traceparent: Option<&'a str>,
    /// Extension `etag`: the answer's entity tag (RFC 9110), quotes included.
    pub etag: Option<&'a str>,
    /// Extension `tenant`: on whose behalf the exchange ran.
    pub tenant: Option<&'a str>,
    /// Extension `actor`: who wrote, within the tenant.
    pub actor: Option<&'a str>,
    /// Extension `worker`: names the VM that saw the exchange.
    pub worker: &'a str,
    /// Extension `sequence`: counts the events of that VM from 1 on, so that a gap shows.
    pub sequence: u64,
}

/// What an event bears of the resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Payload<'a> {
    /// The representation as JSON, or why there is none.
    pub data: Result<Cow<'a, str>, Thin>,
    /// The representation as it stood before, as JSON.
    pub previous: Option<Cow<'a, str>>,
    /// JSON pointers (RFC 6901) of what differs between the two, as a JSON array.
    pub changed: Option<String>,
}

/// An event as it goes over the wire.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    json: Vec<u8>,
    /// How much of `json` stands before the data: an object without its closing brace.
    head: usize,
}

impl Event {
    /// Writes an event with its payload, or thin.
    pub fn new(attributes: &Attributes<'_>, payload: &Payload<'_>) -> Self {
        let Attributes { id, source, event_type, subject, time, worker, .. } = *attributes;
        let before = payload.previous.as_ref().map_or(0, |text| text.len());
        let room = subject.len() + payload.data.as_ref().map_or(0, |text| text.len()) + before + 640;
        let mut json = Vec::with_capacity(room);
        json.extend_from_slice(b"{\"specversion\":\"1.0\"");
        let required =
            [("id", id), ("source", source), ("type", event_type), ("subject", subject), ("time", time)];
        let optional = [
            ("tenant", attributes.tenant),
            ("actor", attributes.actor),
            ("requestid", attributes.request_id),
            ("traceparent", attributes.traceparent),
            ("etag", attributes.etag),
            ("worker", Some(worker)),
        ];
        let known = optional.into_iter().filter_map(|(name, value)| Some((name, value?)));
        for (name, value) in required.into_iter().chain(known) {
            push_attribute(&mut json, name, value);
        }
        // Text of one length, so that it sorts as it counts (CloudEvents extension `sequence`).
        json.extend_from_slice(b",\"sequence\":\"");
        json.extend_from_slice(&twelve_digits(attributes.sequence));
        json.push(b'"');
        let mut event = Self { head: json.len(), json };
        match &payload.data {
            Ok(data) => {
                push_attribute(&mut event.json, "datacontenttype", "application/json");
                push_json(&mut event.json, "data", data);
                for (name, text) in
                    [("previous", payload.previous.as_deref()), ("changed", payload.changed.as_deref())]
                {
                    if let Some(text) = text {
                        push_json(&mut event.json, name, text);
                    }
                }
                event.json.push(b'}');
            }
            Err(reason) => event.make_thin(*reason),
        }
        event
    }

    /// The JSON object.
    pub fn json(&self) -> &[u8] {
        &self.json
    }

    /// Takes the data out of the event, for this reason.
    pub fn make_thin(&mut self, reason: Thin) {
        self.json.truncate(self.head);
        push_attribute(&mut self.json, "thin", reason.name());
        self.json.push(b'}');
        self.json.shrink_to_fit();
    }

    /// Whether the event bears data that [`make_thin`](Self::make_thin) would take out.
    pub fn has_data(&self) -> bool {
        self.json.get(self.head..).is_some_and(|rest| rest.starts_with(b",\"datacontenttype\""))
    }
}

fn push_json(json: &mut Vec<u8>, name: &str, text: &str) {
    json.extend_from_slice(b",\"");
    json.extend_from_slice(name.as_bytes());
    json.extend_from_slice(b"\":");
    json.extend_from_slice(text.as_bytes());
}

fn push_attribute(json: &mut Vec<u8>, name: &str, value: &str) {
    json.extend_from_slice(b",\"");
    json.extend_from_slice(name.as_bytes());
    json.extend_from_slice(b"\":");
    push_string(json, value);
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A small event for the tests of what carries events.
    pub(crate) fn sample(id: &str, data: &str) -> Event {
        let (request_id, traceparent, etag, tenant, actor) = (None, None, None, None, None);
        let attributes = Attributes {
            source: "s",
            event_type: "t",
            subject: "/",
            time: "",
            worker: "w",
            sequence: 1,
            ..Attributes { id, request_id, traceparent, etag, tenant, actor, ..attributes() }
        };
        Event::new(&attributes, &Payload { data: Ok(Cow::Borrowed(data)), previous: None, changed: None })
    }

    const FIXTURE: &str = include_str!("../../tests/fixtures/event.json");

    fn attributes() -> Attributes<'static> {
        Attributes {
            id: "019c0f3e-5a80-7000-9d2c-3f1b8a6e7c45",
            source: "gatehook",
            event_type: "contact.update",
            subject: "/v1/contacts/42",
            time: "2026-01-30T12:34:56.000789Z",
            request_id: Some("8f14e45f-ceea-467f-a8b5-3c2d1e0f9a7b"),
            traceparent: Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
            etag: Some("\"33a64df5\""),
            tenant: Some("acme"),
            actor: Some("user-7"),
            worker: "9d2c3f1b8a6e7c45",
            sequence: 17,
        }
    }

    fn payload(data: Result<&'static str, Thin>) -> Payload<'static> {
        Payload { data: data.map(Cow::Borrowed), previous: None, changed: None }
    }

    #[test]
    fn the_fixture_is_what_the_filter_writes() {
        let data = r#"{"id":42,"name":"Ada Lovelace","tags":["new"],"balance":10.50}"#;
        let previous = Some(Cow::Borrowed(r#"{"id":42,"name":"Ada Byron","tags":["new"],"balance":10.50}"#));
        let changed = Some(r#"["/name"]"#.to_owned());
        let event = Event::new(&attributes(), &Payload { previous, changed, ..payload(Ok(data)) });
        assert_eq!(std::str::from_utf8(event.json()).unwrap(), FIXTURE.trim_end());
    }

    #[test]
    fn a_thin_event_says_why_and_has_no_content_type() {
        let previous = Some(Cow::Borrowed("{}"));
        let written = Event::new(&attributes(), &Payload { previous, ..payload(Err(Thin::Incomplete)) });
        let text = std::str::from_utf8(written.json()).unwrap();
        let value: serde_json::Value = serde_json::from_str(text).unwrap();
        assert_eq!(value["thin"], "incomplete");
        for name in ["data", "datacontenttype", "previous"] {
            assert!(value.get(name).is_none(), "{name}");
        }
        assert!(!written.has_data());
    }

    #[test]
    fn an_event_made_thin_keeps_its_attributes() {
        let whole = Payload { previous: Some(Cow::Borrowed("{}")), ..payload(Ok("{}")) };
        let mut event = Event::new(&attributes(), &whole);
        assert!(event.has_data());
        event.make_thin(Thin::TooLarge);
        assert_eq!(event, Event::new(&attributes(), &payload(Err(Thin::TooLarge))));
    }

    #[test]
    fn unknown_extensions_are_left_out() {
        let (tenant, actor) = (None, None);
        let bare =
            Attributes { request_id: None, traceparent: None, etag: None, tenant, actor, ..attributes() };
        let event = Event::new(&bare, &payload(Err(Thin::Empty)));
        let text = std::str::from_utf8(event.json()).unwrap();
        for name in ["requestid", "traceparent", "etag", "tenant", "actor"] {
            assert!(!text.contains(name), "{text}");
        }
    }
}
