//! An event as CloudEvents 1.0, the way it came in and without additions of ours.
//!
//! Pure; the way back of [`crate::cloudevents`]. `previous` and `changed` are JSON values here as they are there.

use std::borrow::Cow;

use hyper::header::{HeaderName, HeaderValue};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};

use super::{Body, Object};
use crate::limits;
use crate::model::Event;

/// What a header's value has percent-encoded beside all that is not ASCII (CloudEvents HTTP binding §3.1.3.2).
const ENCODED: &AsciiSet = &CONTROLS.add(b' ').add(b'"').add(b'%');

/// Structured mode: the whole event as one JSON object.
pub(super) fn structured(event: &Event) -> Body {
    let mut body = Object::with_capacity(event.size() + 512);
    body.text("specversion", "1.0");
    body.text("id", &event.id);
    body.text("source", &event.source);
    body.text("type", &event.event_type);
    body.text("time", &event.time.to_string());
    for (name, value) in optional(event) {
        body.text(name, value);
    }
    for (name, json) in &event.extensions {
        body.json(name, json.get());
    }
    if let Some(media_type) = &event.datacontenttype {
        body.text("datacontenttype", media_type);
    }
    body.data(event);
    Body { media_type: Some(HeaderValue::from_static("application/cloudevents+json")), bytes: body.finish() }
}

/// The attributes as `ce-…` headers. What CloudEvents requires is always there; of the rest an attribute above
/// [`limits::CE_HEADER`] is left out, and so is what would take all of them above [`limits::CE_HEADERS`].
pub(super) fn headers(event: &Event) -> Vec<(HeaderName, HeaderValue)> {
    let mut headers = Vec::with_capacity(8 + event.extensions.len());
    let required =
        [("specversion", "1.0"), ("id", &event.id), ("source", &event.source), ("type", &event.event_type)];
    for (name, value) in required {
        headers.extend(header(name, value));
    }
    let time = event.time.to_string();
    let known = [("time", time.as_str())].into_iter().chain(optional(event));
    let known = known.map(|(name, value)| (name, Cow::Borrowed(value)));
    // A number, a boolean and JSON stand in a header as they are written; a string without its quotes.
    let extensions = event.extensions.iter().map(|(name, json)| {
        let is_json = matches!(name.as_str(), "previous" | "changed");
        let text = (!is_json).then(|| serde_json::from_str(json.get()).ok()).flatten();
        (name.as_str(), text.map_or(Cow::Borrowed(json.get()), Cow::Owned))
    });
    let mut room = limits::CE_HEADERS;
    // Encoding only makes a value longer: this spares that of a whole representation.
    let short = known.chain(extensions).filter(|(_, value)| value.len() <= limits::CE_HEADER);
    for (name, value) in short.filter_map(|(name, value)| header(name, &value)) {
        let size = name.as_str().len() + value.len();
        if size <= room.min(limits::CE_HEADER) {
            room -= size;
            headers.push((name, value));
        }
    }
    headers
}

fn optional(event: &Event) -> impl Iterator<Item = (&'static str, &str)> {
    let attributes = [("subject", &event.subject), ("tenant", &event.tenant)];
    attributes.into_iter().filter_map(|(name, value)| Some((name, value.as_deref()?)))
}

/// One attribute; `None` where its name cannot be a header's, which an accepted event's always can.
fn header(name: &str, value: &str) -> Option<(HeaderName, HeaderValue)> {
    let value = utf8_percent_encode(value, ENCODED).to_string();
    Some((HeaderName::try_from(format!("ce-{name}")).ok()?, HeaderValue::try_from(value).ok()?))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use hyper::HeaderMap;
    use jiff::Timestamp;

    use super::*;
    use crate::cloudevents;
    use crate::model::Format;
    use crate::payload::Wanted;
    use crate::payload::tests::{check, event, extended, payload};

    /// All of an event, to compare it by.
    fn all(event: &Event) -> String {
        format!("{event:?}")
    }

    fn rich(data: Option<&[u8]>, media_type: Option<&str>) -> Event {
        let event = Event {
            id: "100% \"é\"".into(),
            tenant: Some("blue".into()),
            subject: Some("/contacts/zoë\u{1f980}".into()),
            ..event(data, media_type)
        };
        extended(
            event,
            &[
                ("actor", r#""ada""#),
                ("changed", r#"["/a b"]"#),
                ("previous", r#"{"a b" : 1.00}"#),
                ("sequence", "17"),
                ("flag", "true"),
                ("quoted", r#""17""#),
            ],
        )
    }

    #[test]
    fn structured_mode_is_the_event_as_it_came() {
        check(
            Format::Cloudevents,
            &rich(Some(br#"{"b" : 1.00}"#), None),
            "application/cloudevents+json",
            r#"{"specversion":"1.0","id":"100% \"é\"","source":"/test","type":"contact.create","time":"2026-01-02T03:04:05.000006Z","subject":"/contacts/zoë🦀","tenant":"blue","actor":"ada","changed":["/a b"],"flag":true,"previous":{"a b" : 1.00},"quoted":"17","sequence":17,"data":{"b" : 1.00}}"#
                .as_bytes(),
        );
    }

    #[test]
    fn what_goes_out_in_structured_mode_is_read_as_the_same_event() {
        for (data, media_type) in [
            (None, None),
            (None, Some("application/json")),
            (Some(&br#"{"b" : 1.00}"#[..]), None),
            (Some(b"say \"hi\""), Some("text/plain")),
            (Some(&[0xff, 0]), Some("image/png")),
        ] {
            let event = rich(data, media_type);
            let wanted = Wanted { format: Format::Cloudevents, ..Wanted::default() };
            let bytes = payload(&wanted, &event).body.bytes;
            let back = cloudevents::structured(&bytes, Timestamp::UNIX_EPOCH).unwrap();
            assert_eq!(all(&back), all(&event));
        }
    }

    fn binary(event: &Event) -> (HeaderMap, Bytes) {
        let wanted = Wanted { format: Format::CloudeventsBinary, ..Wanted::default() };
        let sent = payload(&wanted, event);
        let mut headers: HeaderMap = sent.headers.into_iter().collect();
        if let Some(media_type) = sent.body.media_type {
            headers.insert("content-type", media_type);
        }
        (headers, sent.body.bytes)
    }

    #[test]
    fn what_goes_out_in_binary_mode_is_read_as_the_same_event() {
        for (data, media_type) in [
            (&br#"{"b" : 1.00}"#[..], Some("application/json")),
            (b"say \"hi\"", Some("text/plain")),
            (&[0xff, 0], Some("image/png")),
        ] {
            // Headers know text alone, so a number and a boolean come back as text.
            let event = rich(Some(data), media_type);
            let event = extended(event, &[("sequence", r#""17""#), ("flag", r#""true""#)]);
            let (headers, body) = binary(&event);
            let back = cloudevents::binary(&headers, body, Timestamp::UNIX_EPOCH).unwrap();
            assert_eq!(all(&back), all(&event));
        }
    }

    #[test]
    fn values_of_headers_are_percent_encoded() {
        let (headers, _) = binary(&rich(None, None));
        for (name, value) in [
            ("ce-id", "100%25%20%22%C3%A9%22"),
            ("ce-subject", "/contacts/zo%C3%AB%F0%9F%A6%80"),
            ("ce-sequence", "17"),
            ("ce-previous", "{%22a%20b%22%20:%201.00}"),
        ] {
            assert_eq!(headers[name], value);
        }
    }

    #[test]
    fn without_data_there_is_no_body_and_no_content_type() {
        let (headers, body) = binary(&rich(None, Some("application/json")));
        assert_eq!((body.len(), headers.get("content-type")), (0, None));
        let (headers, _) = binary(&rich(Some(b"1"), None));
        assert_eq!(headers["content-type"], "application/json");
    }

    #[test]
    fn what_is_too_long_for_a_header_is_left_out_but_never_what_is_required() {
        let long = format!("\"{}\"", "x".repeat(limits::CE_HEADER));
        let event = extended(rich(None, None), &[("previous", &long), ("actor", &long)]);
        let event = Event { source: "é".repeat(1_000), ..event };
        let (headers, _) = binary(&event);
        assert_eq!((headers.get("ce-previous"), headers.get("ce-actor")), (None, None));
        assert_eq!((headers["ce-sequence"].len(), headers["ce-source"].len()), (2, 6_000));
    }

    #[test]
    fn all_headers_together_have_a_bound() {
        let mut event = event(None, None);
        for index in 0..limits::EVENT_EXTENSIONS {
            event = extended(event, &[(&format!("x{index}"), &format!("\"{}\"", "x".repeat(500)))]);
        }
        let (headers, _) = binary(&event);
        let size: usize = headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
        assert!((limits::CE_HEADERS - 600..limits::CE_HEADERS + 200).contains(&size), "{size}");
    }

    #[test]
    fn any_format_can_have_the_headers() {
        let wanted = Wanted { ce_headers: true, ..Wanted::default() };
        let sent = payload(&wanted, &rich(Some(b"{}"), None));
        let names: Vec<_> = sent.headers.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(
            names[..7],
            ["ce-specversion", "ce-id", "ce-source", "ce-type", "ce-time", "ce-subject", "ce-tenant"]
        );
        assert!(sent.body.bytes.starts_with(b"{\"type\":"));
    }
}
