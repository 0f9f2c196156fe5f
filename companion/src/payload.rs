//! The body of a delivery, by the subscription's `format`.
//!
//! Pure. The event's data goes out byte for byte as it came in: it is copied, never parsed and written again.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde_json::{Value, json};

use crate::model::{Event, Format, Subscription};

/// A body with its media type.
#[derive(Clone, Debug)]
pub struct Body {
    /// `content-type` of the delivery.
    pub media_type: String,
    /// The bytes that are signed and sent.
    pub bytes: Bytes,
}

const JSON: &str = "application/json";

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

/// The body for one event; `hook` is [`hook`] of the subscription.
pub fn body(format: Format, event: &Event, hook: &str) -> Body {
    match format {
        Format::Standard => Body { media_type: JSON.into(), bytes: standard(event, hook) },
        Format::Raw => match &event.data {
            Some(data) => Body {
                media_type: event.datacontenttype.clone().unwrap_or_else(|| JSON.into()),
                bytes: data.clone(),
            },
            None => Body { media_type: JSON.into(), bytes: Bytes::from_static(b"null") },
        },
    }
}

/// `{"type","timestamp","subject","actor","data","thin","previous","changed","hook"}`; all but type, timestamp, data and
/// hook only where known.
fn standard(event: &Event, hook: &str) -> Bytes {
    let mut body = String::with_capacity(event.size() + hook.len() + 192);
    let mut field = |name: &str, value: &str| {
        body.push(if body.is_empty() { '{' } else { ',' });
        body.push_str(name);
        body.push_str(value);
    };
    field("\"type\":", &quoted(&event.event_type));
    field("\"timestamp\":", &quoted(&event.time.to_string()));
    if let Some(subject) = &event.subject {
        field("\"subject\":", &quoted(subject));
    }
    let known = |name: &str| event.extensions.get(name).map(|json| json.get());
    if let Some(actor) = known("actor") {
        field("\"actor\":", actor);
    }
    match event.data.as_deref().map(|data| (std::str::from_utf8(data), event.is_json())) {
        None => field("\"data\":", "null"),
        Some((Ok(json), true)) => field("\"data\":", json),
        Some((Ok(text), false)) => field("\"data\":", &quoted(text)),
        Some((Err(_), _)) => {
            field("\"data_base64\":", &quoted(&STANDARD.encode(event.data.as_deref().unwrap_or_default())));
        }
    }
    for (name, quoted_name) in
        [("thin", "\"thin\":"), ("previous", "\"previous\":"), ("changed", "\"changed\":")]
    {
        if let Some(json) = known(name) {
            field(quoted_name, json);
        }
    }
    field("\"hook\":", hook);
    body.push('}');
    body.into()
}

fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(data: Option<&[u8]>, media_type: Option<&str>) -> Event {
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

    fn check(format: Format, event: &Event, media_type: &str, expected: &[u8]) {
        let body = body(format, event, r#"{"id":"sub_1"}"#);
        assert_eq!(
            (body.media_type.as_str(), String::from_utf8_lossy(&body.bytes)),
            (media_type, String::from_utf8_lossy(expected))
        );
    }

    #[test]
    fn standard_copies_the_data_byte_for_byte() {
        let mut event = event(Some(br#"{"b" : 1.00,  "a":"\u00e9"}"#), None);
        for (name, json) in [
            ("previous", r#"{"b" : 0.0,  "a":"\u00e8"}"#),
            ("changed", r#"["/b", "/a"]"#),
            ("actor", r#""ada""#),
            ("thin", r#""incomplete""#),
            ("requestid", r#""r""#),
        ] {
            event.extensions.insert(name.into(), serde_json::from_str(json).unwrap());
        }
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
}
