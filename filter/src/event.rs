//! The event and its JSON form: CloudEvents 1.0, JSON event format, one object.
//!
//! The object is written once, when the exchange ends, with the data at its very end. So an event that turns out too large
//! for the companion is cut down to a thin one in place, and a batch is nothing but objects with commas between them.

use crate::json::{Json, push_string};

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
}

/// An event as it goes over the wire.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    json: Vec<u8>,
    /// How much of `json` stands before the data: an object without its closing brace.
    head: usize,
}

impl Event {
    /// Writes an event with the representation, or thin.
    pub fn new(attributes: &Attributes<'_>, data: Result<Json<'_>, Thin>) -> Self {
        let Attributes { id, source, event_type, subject, time, .. } = *attributes;
        let room = subject.len() + data.map_or(0, |json| json.text().len()) + 512;
        let mut json = Vec::with_capacity(room);
        json.extend_from_slice(b"{\"specversion\":\"1.0\"");
        let required =
            [("id", id), ("source", source), ("type", event_type), ("subject", subject), ("time", time)];
        let optional = [
            ("requestid", attributes.request_id),
            ("traceparent", attributes.traceparent),
            ("etag", attributes.etag),
        ];
        let known = optional.into_iter().filter_map(|(name, value)| Some((name, value?)));
        for (name, value) in required.into_iter().chain(known) {
            push_attribute(&mut json, name, value);
        }
        let mut event = Self { head: json.len(), json };
        match data {
            Ok(data) => {
                push_attribute(&mut event.json, "datacontenttype", "application/json");
                event.json.extend_from_slice(b",\"data\":");
                event.json.extend_from_slice(data.text().as_bytes());
                event.json.push(b'}');
            }
            Err(reason) => event.make_thin(reason),
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

fn push_attribute(json: &mut Vec<u8>, name: &str, value: &str) {
    json.extend_from_slice(b",\"");
    json.extend_from_slice(name.as_bytes());
    json.extend_from_slice(b"\":");
    push_string(json, value);
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIXTURE: &str = include_str!("../../tests/fixtures/event.json");

    fn attributes() -> Attributes<'static> {
        Attributes {
            id: "019c0f3e-5a80-7000-9d2c-3f1b8a6e7c45",
            source: "gatehook",
            event_type: "contact.create",
            subject: "/v1/contacts/42",
            time: "2026-01-30T12:34:56.000789Z",
            request_id: Some("8f14e45f-ceea-467f-a8b5-3c2d1e0f9a7b"),
            traceparent: Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
            etag: Some("\"33a64df5\""),
        }
    }

    #[test]
    fn the_fixture_is_what_the_filter_writes() {
        let data = Json::parse(br#"{"id":42,"name":"Ada Lovelace","tags":["new"],"balance":10.50}"#).unwrap();
        let event = Event::new(&attributes(), Ok(data));
        assert_eq!(std::str::from_utf8(event.json()).unwrap(), FIXTURE.trim_end());
    }

    #[test]
    fn a_thin_event_says_why_and_has_no_content_type() {
        let written = Event::new(&attributes(), Err(Thin::Incomplete));
        let text = std::str::from_utf8(written.json()).unwrap();
        let value: serde_json::Value = serde_json::from_str(text).unwrap();
        assert_eq!(value["thin"], "incomplete");
        assert!(value.get("data").is_none() && value.get("datacontenttype").is_none());
        assert!(!written.has_data());
    }

    #[test]
    fn an_event_made_thin_keeps_its_attributes() {
        let mut event = Event::new(&attributes(), Ok(Json::parse(b"{}").unwrap()));
        assert!(event.has_data());
        event.make_thin(Thin::TooLarge);
        assert_eq!(event, Event::new(&attributes(), Err(Thin::TooLarge)));
    }

    #[test]
    fn unknown_extensions_are_left_out() {
        let bare = Attributes { request_id: None, traceparent: None, etag: None, ..attributes() };
        let event = Event::new(&bare, Err(Thin::Empty));
        let text = std::str::from_utf8(event.json()).unwrap();
        assert!(
            !text.contains("requestid") && !text.contains("traceparent") && !text.contains("etag"),
            "{text}"
        );
    }
}
