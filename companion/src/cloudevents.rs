//! CloudEvents 1.0 in its three HTTP content modes: batched, structured and binary.
//!
//! Pure: bytes and headers go in, [`Event`]s come out, or a [`Refusal`] that names the attribute. Follows the
//! CloudEvents specification 1.0.2, its JSON format and its HTTP binding, but for two extension attributes that hold
//! JSON. `data` keeps its bytes, and so do they.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use hyper::HeaderMap;
use jiff::Timestamp;
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::limits;
use crate::model::{Event, is_json_media_type};
use crate::news;

/// Why one event was not accepted.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Refusal {
    /// The event's `id`, where it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// JSON pointer (RFC 6901) within the request, or the header in binary mode.
    pub path: String,
    /// What is wrong there.
    pub reason: String,
}

/// The two extension attributes that hold JSON, where CloudEvents knows simple types only: the representation as it stood
/// before, and which parts of it changed. As strings they would arrive as JSON within JSON, no longer byte for byte.
const JSON_EXTENSIONS: [&str; 2] = ["previous", "changed"];

/// Reads a JSON batch (`application/cloudevents-batch+json`). Each element stands or falls alone.
///
/// # Errors
/// The whole is refused where it is not a JSON array.
pub fn batch(body: &Bytes, now: Timestamp) -> Result<Vec<Result<Event, Refusal>>, Refusal> {
    let elements: Vec<&RawValue> = serde_json::from_slice(body).map_err(|error| not_json("", &error))?;
    Ok(elements
        .iter()
        .enumerate()
        .map(|(index, raw)| one(raw.get(), body, &format!("/{index}"), now))
        .collect())
}

/// Reads one event in JSON (`application/cloudevents+json`).
///
/// # Errors
/// Names the attribute.
pub fn structured(body: &Bytes, now: Timestamp) -> Result<Event, Refusal> {
    let raw: &RawValue = serde_json::from_slice(body).map_err(|error| not_json("", &error))?;
    one(raw.get(), body, "", now)
}

/// Reads one event whose attributes are `ce-…` headers and whose data is the body.
///
/// # Errors
/// Names the header.
pub fn binary(headers: &HeaderMap, body: Bytes, now: Timestamp) -> Result<Event, Refusal> {
    let mut draft = Draft::new("");
    draft.header_mode = true;
    for (name, value) in headers {
        let Some(name) = name.as_str().strip_prefix("ce-") else {
            continue;
        };
        let Ok(value) = value.to_str() else {
            return Err(draft.refuse(name, "must be ASCII, percent-encoded".into()));
        };
        if name == "data" {
            let reason = "no attribute has this name (CloudEvents 1.0 §3); the body is the data";
            return Err(Refusal { path: "ce-data".to_owned(), ..draft.refuse(name, reason.into()) });
        }
        match percent_decoded(value) {
            text if JSON_EXTENSIONS.contains(&name) => draft.json_text(name, &text)?,
            text => draft.attribute(name, text)?,
        }
    }
    if let Some(value) = headers.get("content-type") {
        // An attribute is never empty, such a header says as much as none; nor has it a tab, which is white space here (RFC
        // 9110 §5.6.3).
        let text = value.to_str().ok().filter(|text| !text.is_empty());
        draft.datacontenttype = text.map(|text| text.replace('\t', " "));
    }
    if !body.is_empty() {
        if draft.data_is_json() {
            serde_json::from_slice::<IgnoredAny>(&body)
                .map_err(|error| draft.refuse("data", format!("is not JSON: {error}")))?;
        }
        draft.data = Some(body);
    }
    draft.finish(now)
}

fn not_json(path: &str, error: &serde_json::Error) -> Refusal {
    Refusal { id: None, path: path.to_owned(), reason: format!("is not the expected JSON: {error}") }
}

/// The attributes of one JSON event, values still raw.
struct Attributes<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'de> Deserialize<'de> for Attributes<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Collect;
        impl<'de> Visitor<'de> for Collect {
            type Value = Attributes<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object with the attributes of a CloudEvent")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut attributes = Vec::with_capacity(12);
                while let Some(entry) = map.next_entry()? {
                    attributes.push(entry);
                }
                Ok(Attributes(attributes))
            }
        }
        deserializer.deserialize_map(Collect)
    }
}

fn one(json: &str, body: &Bytes, path: &str, now: Timestamp) -> Result<Event, Refusal> {
    let Attributes(attributes) = serde_json::from_str(json).map_err(|error| not_json(path, &error))?;
    let mut draft = Draft::new(path);
    let (mut data, mut data_base64) = (None, None);
    for (name, raw) in &attributes {
        match &**name {
            _ if raw.get() == "null" && name != "data" => {}
            "data" => data = Some(raw.get()),
            "data_base64" => data_base64 = Some(draft.text(name, raw)?),
            name if JSON_EXTENSIONS.contains(&name) => draft.json(name, raw)?,
            _ if raw.get().starts_with('"') => {
                let text = draft.text(name, raw)?;
                draft.attribute(name, text)?;
            }
            _ => draft.scalar(name, raw)?,
        }
    }
    draft.data = match (data, data_base64) {
        (Some(_), Some(_)) => {
            return Err(draft.refuse("data_base64", "an event has either data or data_base64".into()));
        }
        (Some("null") | None, None) => None,
        (Some(json), None) if json.starts_with('"') && !draft.data_is_json() => {
            let text: String = serde_json::from_str(json)
                .map_err(|error| draft.refuse("data", format!("is not Unicode text: {error}")))?;
            Some(text.into())
        }
        (Some(json), None) => Some(body.slice_ref(json.as_bytes())),
        (None, Some(text)) => {
            let bytes =
                STANDARD.decode(&*text).map_err(|_| draft.refuse("data_base64", "is not base64".into()))?;
            if draft.data_is_json() {
                let parsed = serde_json::from_slice::<IgnoredAny>(&bytes);
                parsed.map_err(|error| draft.refuse("data_base64", format!("is not JSON: {error}")))?;
            }
            Some(bytes.into())
        }
    };
    draft.finish(now)
}

/// An event while its attributes are being read.
#[derive(Default)]
struct Draft {
    path: String,
    header_mode: bool,
    specversion: Option<String>,
    id: Option<String>,
    source: Option<String>,
    event_type: Option<String>,
    subject: Option<String>,
    time: Option<Timestamp>,
    datacontenttype: Option<String>,
    data: Option<Bytes>,
    tenant: Option<String>,
    extensions: BTreeMap<String, Box<RawValue>>,
}

impl Draft {
    fn new(path: &str) -> Self {
        Self { path: path.to_owned(), ..Self::default() }
    }

    fn refuse(&self, name: &str, reason: String) -> Refusal {
        let path = match self.header_mode {
            true if name == "data" => "body".to_owned(),
            true => format!("ce-{name}"),
            false => format!("{}/{}", self.path, name.replace('~', "~0").replace('/', "~1")),
        };
        Refusal { id: self.id.clone(), path, reason }
    }

    fn data_is_json(&self) -> bool {
        self.datacontenttype.as_deref().is_none_or(is_json_media_type)
    }

    fn text<'a>(&self, name: &str, raw: &'a RawValue) -> Result<Cow<'a, str>, Refusal> {
        /// Borrows the string where it has no escapes; `Cow` itself never borrows in serde.
        #[derive(serde::Deserialize)]
        struct Text<'a>(#[serde(borrow)] Cow<'a, str>);
        serde_json::from_str(raw.get())
            .map(|Text(text)| text)
            .map_err(|_| self.refuse(name, "must be a string".into()))
    }

    /// An attribute given as text.
    fn attribute(&mut self, name: &str, value: Cow<'_, str>) -> Result<(), Refusal> {
        let most = match name {
            "id" => limits::EVENT_ID,
            "type" => limits::EVENT_TYPE,
            "source" | "subject" | "dataschema" => limits::EVENT_URI,
            "tenant" | "actor" | "thin" => limits::SHORT_TEXT,
            _ => limits::INGEST_BODY,
        };
        if value.is_empty() || value.len() > most || value.chars().any(char::is_control) {
            return Err(self.refuse(name, format!("must have 1 to {most} bytes and no control characters")));
        }
        if name == "datacontenttype" && !value.is_ascii() {
            return Err(self.refuse(name, "must be ASCII".into()));
        }
        let slot = match name {
            "time" => {
                let time =
                    value.parse().map_err(|_| self.refuse(name, "must be an RFC 3339 timestamp".into()))?;
                return set(&mut self.time, time).ok_or_else(|| self.refuse(name, "is given twice".into()));
            }
            "specversion" => &mut self.specversion,
            "id" => &mut self.id,
            "source" => &mut self.source,
            "type" => &mut self.event_type,
            "subject" => &mut self.subject,
            "datacontenttype" => &mut self.datacontenttype,
            "tenant" => &mut self.tenant,
            _ => {
                let json = serde_json::value::to_raw_value(&*value);
                return self.extension(name, json.map_err(|error| self.refuse(name, error.to_string()))?);
            }
        };
        set(slot, value.into_owned()).ok_or_else(|| self.refuse(name, "is given twice".into()))
    }

    /// An attribute given as JSON other than a string: numbers and booleans are good for extensions alone.
    fn scalar(&mut self, name: &str, raw: &RawValue) -> Result<(), Refusal> {
        let known = [
            "specversion",
            "id",
            "source",
            "type",
            "subject",
            "time",
            "datacontenttype",
            "dataschema",
            "tenant",
            "actor",
            "thin",
        ];
        if known.contains(&name) {
            return Err(self.refuse(name, "must be a string".into()));
        }
        if raw.get().starts_with(['{', '[']) {
            return Err(self.refuse(name, "an extension attribute is a string, a number or a boolean".into()));
        }
        self.extension(name, raw.to_owned())
    }

    /// One of [`JSON_EXTENSIONS`] as the text of a header.
    fn json_text(&mut self, name: &str, text: &str) -> Result<(), Refusal> {
        let raw: &RawValue =
            serde_json::from_str(text).map_err(|error| self.refuse(name, format!("is not JSON: {error}")))?;
        if raw.get() == "null" { Ok(()) } else { self.json(name, raw) }
    }

    /// One of [`JSON_EXTENSIONS`].
    fn json(&mut self, name: &str, raw: &RawValue) -> Result<(), Refusal> {
        let is_good = name != "changed"
            || serde_json::from_str::<Vec<Cow<'_, str>>>(raw.get())
                .is_ok_and(|pointers| pointers.iter().all(|pointer| is_pointer(pointer)));
        if !is_good {
            return Err(
                self.refuse(name, "must be a list of JSON pointers (RFC 6901), such as [\"/name\"]".into())
            );
        }
        self.extension(name, raw.to_owned())
    }

    fn extension(&mut self, name: &str, value: Box<RawValue>) -> Result<(), Refusal> {
        if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit()) {
            return Err(
                self.refuse(name, "an attribute's name has lower-case letters and digits only".into())
            );
        }
        if self.extensions.len() >= limits::EVENT_EXTENSIONS {
            return Err(
                self.refuse(name, format!("more than {} extension attributes", limits::EVENT_EXTENSIONS))
            );
        }
        match self.extensions.insert(name.to_owned(), value) {
            Some(_) => Err(self.refuse(name, "is given twice".into())),
            None => Ok(()),
        }
    }

    fn finish(mut self, now: Timestamp) -> Result<Event, Refusal> {
        match self.specversion.as_deref() {
            Some("1.0") => {}
            Some(other) => return Err(self.refuse("specversion", format!("is `{other}`; 1.0 is understood"))),
            None => return Err(self.refuse("specversion", "is missing".into())),
        }
        let missing = |draft: &Self, name| draft.refuse(name, "is missing".into());
        let Some(source) = self.source.take() else {
            return Err(missing(&self, "source"));
        };
        let Some(event_type) = self.event_type.take() else {
            return Err(missing(&self, "type"));
        };
        if event_type.starts_with(news::PREFIX) {
            return Err(
                self.refuse("type", format!("begins with `{}`, which is for our own events", news::PREFIX))
            );
        }
        let Some(id) = self.id.take() else {
            return Err(missing(&self, "id"));
        };
        Ok(Event {
            id,
            source,
            event_type,
            subject: self.subject,
            time: self.time.unwrap_or(now),
            datacontenttype: self.datacontenttype,
            data: self.data,
            tenant: self.tenant,
            extensions: self.extensions,
        })
    }
}

/// Fills an empty slot; `None` where it was full.
fn set<T>(slot: &mut Option<T>, value: T) -> Option<()> {
    slot.is_none().then(|| *slot = Some(value))
}

/// A JSON pointer, RFC 6901 §3.
pub(crate) fn is_pointer(text: &str) -> bool {
    let escapes_are_whole = text.split('~').skip(1).all(|after| after.starts_with(['0', '1']));
    (text.is_empty() || text.starts_with('/')) && escapes_are_whole
}

/// A header value decoded as the HTTP binding §3.1.3.2 has it; what is no valid escape stays as it is.
fn percent_decoded(value: &str) -> Cow<'_, str> {
    let digit = |byte: Option<&u8>| byte.and_then(|byte| char::from(*byte).to_digit(16));
    let bytes = value.as_bytes();
    let (mut decoded, mut at) = (Vec::with_capacity(bytes.len()), 0);
    while let Some(&byte) = bytes.get(at) {
        match (byte, digit(bytes.get(at + 1)), digit(bytes.get(at + 2))) {
            (b'%', Some(high), Some(low)) => {
                decoded.push((high << 4 | low) as u8);
                at += 3;
            }
            _ => {
                decoded.push(byte);
                at += 1;
            }
        }
    }
    String::from_utf8(decoded).map_or(Cow::Borrowed(value), Cow::Owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::UNIX_EPOCH;

    fn refused(json: &str) -> String {
        let refusal = structured(&Bytes::copy_from_slice(json.as_bytes()), NOW).unwrap_err();
        format!("{} {}", refusal.path, refusal.reason)
    }

    fn accepted(json: &str) -> Event {
        structured(&Bytes::copy_from_slice(json.as_bytes()), NOW).unwrap()
    }

    #[test]
    fn an_empty_content_type_is_none() {
        let pairs = [("ce-specversion", "1.0"), ("ce-id", "1"), ("ce-source", "/s"), ("ce-type", "t")];
        let mut headers: HeaderMap =
            pairs.map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).into_iter().collect();
        headers.insert("content-type", "".parse().unwrap());
        assert_eq!(binary(&headers, Bytes::new(), NOW).unwrap().datacontenttype, None);
    }

    #[test]
    fn text_that_is_no_unicode_is_refused_with_its_place() {
        let head = r#""specversion":"1.0","id":"1","source":"/s","type":"t","datacontenttype":"text/plain""#;
        assert!(refused(&format!(r#"{{{head},"data":"\ud800"}}"#)).starts_with("/data is not Unicode"));
    }

    #[test]
    fn the_filters_own_event_is_read() {
        let event = accepted(include_str!("../../tests/fixtures/event.json"));
        assert_eq!((event.event_type.as_str(), event.tenant.as_deref()), ("contact.update", Some("acme")));
        for name in ["requestid", "traceparent", "etag", "actor", "worker", "sequence"] {
            assert!(event.extensions[name].get().starts_with('"'), "{name}");
        }
        assert!(event.extensions["previous"].get().contains("Ada Byron"));
        assert_eq!(event.extensions["changed"].get(), r#"["/name"]"#);
        assert!(event.data.is_some() && event.is_json());
    }

    #[test]
    fn data_keeps_its_bytes() {
        let head = r#"{"specversion":"1.0","id":"1","source":"/s","type":"t","#;
        let data = |rest: &str| accepted(&format!("{head}{rest}}}")).data.map(|data| data.to_vec());
        assert_eq!(data(r#""data": {"a" : 1.00} "#), Some(br#"{"a" : 1.00}"#.to_vec()));
        assert_eq!(data(r#""data":"text""#), Some(br#""text""#.to_vec()));
        assert_eq!(data(r#""datacontenttype":"text/plain","data":"te\u0078t""#), Some(b"text".to_vec()));
        assert_eq!(data(r#""data_base64":"eyJhIjoxfQ==""#), Some(br#"{"a":1}"#.to_vec()));
        assert_eq!(data(r#""datacontenttype":"image/png","data_base64":"/wA=""#), Some(vec![0xff, 0]));
        assert_eq!(data(r#""data":null"#), None);
        assert_eq!(data(r#""subject":null"#), None);
    }

    #[test]
    fn the_order_of_attributes_does_not_matter() {
        let event = accepted(
            r#"{"data":"x","datacontenttype":"text/plain","type":"t","source":"/s","id":"1","specversion":"1.0"}"#,
        );
        assert_eq!(event.data.as_deref(), Some(&b"x"[..]));
        assert_eq!(event.time, NOW);
    }

    #[test]
    fn each_fault_names_its_place() {
        let check = |json: &str, expected: &str| {
            assert!(refused(json).starts_with(expected), "{json}: {}", refused(json))
        };
        check("", " is not the expected JSON");
        check("[]", " is not the expected JSON");
        check("{}", "/specversion is missing");
        check(r#"{"specversion":"0.3"}"#, "/specversion is `0.3`");
        check(r#"{"specversion":"1.0","source":"/s","type":"t"}"#, "/id is missing");
        check(r#"{"specversion":"1.0","id":"","source":"/s"}"#, "/id must have");
        check(r#"{"specversion":"1.0","id":"1","source":"/s","type":"gatehook.ping"}"#, "/type begins with");
        check(r#"{"specversion":"1.0","id":7}"#, "/id must be a string");
        check(r#"{"specversion":"1.0","id":"1","id":"2"}"#, "/id is given twice");
        check(r#"{"specversion":"1.0","time":"yesterday"}"#, "/time must be an RFC 3339");
        check(r#"{"specversion":"1.0","Upper":"x"}"#, "/Upper an attribute's name");
        check(r#"{"specversion":"1.0","a/b":"x"}"#, "/a~1b an attribute's name");
        check(r#"{"specversion":"1.0","nested":{}}"#, "/nested an extension attribute");
        check(r#"{"specversion":"1.0","sequence":[1]}"#, "/sequence an extension attribute");
        check(r#"{"specversion":"1.0","actor":7}"#, "/actor must be a string");
        check(r#"{"specversion":"1.0","thin":true}"#, "/thin must be a string");
        check(r#"{"specversion":"1.0","previous":1,"previous":2}"#, "/previous is given twice");
        for changed in ["{}", "7", r#""/a""#, "[1]", "[null]", r#"["a"]"#, r#"["/a~2"]"#, r#"["/a~"]"#] {
            check(&format!(r#"{{"specversion":"1.0","changed":{changed}}}"#), "/changed must be a list of");
        }
        check(r#"{"specversion":"1.0","data":1,"data_base64":"AA=="}"#, "/data_base64 an event has either");
        check(r#"{"specversion":"1.0","data_base64":"%"}"#, "/data_base64 is not base64");
        check(r#"{"specversion":"1.0","data_base64":"/w=="}"#, "/data_base64 is not JSON");
    }

    #[test]
    fn previous_and_changed_are_json_and_keep_their_bytes() {
        let head = r#"{"specversion":"1.0","id":"1","source":"/s","type":"t""#;
        let extensions = |rest: &str| {
            let event = accepted(&format!("{head},{rest}}}"));
            event
                .extensions
                .iter()
                .map(|(name, json)| format!("{name} {json}"))
                .collect::<Vec<_>>()
                .join("; ")
        };
        let check = |rest: &str, expected: &str| assert_eq!(extensions(rest), expected);
        check(r#""previous": {"a" : 1.00, "b":"\u00e9"} "#, r#"previous {"a" : 1.00, "b":"\u00e9"}"#);
        check(r#""previous":[ ],"changed":[]"#, "changed []; previous [ ]");
        check(r#""previous":"text""#, r#"previous "text""#);
        check(r#""previous":null,"changed":null"#, "");
        check(
            r#""changed":["", "/a/0", "/b~0c~1d", "/\u00e9"]"#,
            r#"changed ["", "/a/0", "/b~0c~1d", "/\u00e9"]"#,
        );
        check(
            r#""actor":"ada","sequence":17,"worker":"w0","thin":"empty""#,
            r#"actor "ada"; sequence 17; thin "empty"; worker "w0""#,
        );
    }

    #[test]
    fn in_binary_mode_previous_and_changed_are_json_text() {
        let read = |name: &'static str, value: &str| {
            let mut headers = HeaderMap::new();
            for (name, value) in
                [("ce-specversion", "1.0"), ("ce-id", "1"), ("ce-source", "/s"), ("ce-type", "t")]
            {
                headers.insert(name, value.parse().unwrap());
            }
            headers.insert(name, value.parse().unwrap());
            binary(&headers, Bytes::new(), NOW)
        };
        let event = read("ce-previous", r#"{"name": "caf%C3%A9"}"#).unwrap();
        assert_eq!(event.extensions["previous"].get(), r#"{"name": "café"}"#);
        assert_eq!(read("ce-changed", r#"["/a"]"#).unwrap().extensions["changed"].get(), r#"["/a"]"#);
        assert!(read("ce-previous", "null").unwrap().extensions.is_empty());
        for (name, value) in [("ce-previous", "{"), ("ce-changed", "/a"), ("ce-changed", r#""/a""#)] {
            assert_eq!(read(name, value).unwrap_err().path, name);
        }
    }

    #[test]
    fn one_bad_event_of_a_batch_leaves_the_others() {
        let body =
            Bytes::from_static(br#"[{"specversion":"1.0","id":"1","source":"/s","type":"t"},{"id":"2"},7]"#);
        let events = batch(&body, NOW).unwrap();
        assert_eq!(events[0].as_ref().unwrap().id, "1");
        let refusal = events[1].as_ref().unwrap_err();
        assert_eq!((refusal.id.as_deref(), refusal.path.as_str()), (Some("2"), "/1/specversion"));
        assert_eq!(events[2].as_ref().unwrap_err().path, "/2");
        assert!(batch(&Bytes::from_static(b"{}"), NOW).is_err());
    }

    #[test]
    fn binary_mode_reads_headers_and_body() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("ce-specversion", "1.0"),
            ("ce-id", "1"),
            ("ce-source", "/s"),
            ("ce-type", "t"),
            ("ce-subject", "caf%C3%A9 100%"),
            ("ce-tenant", "blue"),
            ("ce-anything", "x"),
            ("content-type", "application/json"),
        ] {
            headers.insert(name, value.parse().unwrap());
        }
        let event = binary(&headers, Bytes::from_static(b"{\"a\":1}"), NOW).unwrap();
        assert_eq!((event.subject.as_deref(), event.tenant.as_deref()), (Some("café 100%"), Some("blue")));
        assert_eq!(event.extensions["anything"].get(), "\"x\"");
        headers.insert("content-type", "text/plain;\tcharset=utf-8".parse().unwrap());
        let event = binary(&headers, Bytes::new(), NOW).unwrap();
        assert_eq!(event.datacontenttype.as_deref(), Some("text/plain; charset=utf-8"));
        headers.insert("content-type", "application/json".parse().unwrap());
        let refusal = binary(&headers, Bytes::from_static(b"{"), NOW).unwrap_err();
        assert_eq!((refusal.path.as_str(), refusal.id.as_deref()), ("body", Some("1")));
        headers.remove("ce-type");
        assert_eq!(binary(&headers, Bytes::new(), NOW).unwrap_err().path, "ce-type");
        headers.insert("ce-data", "1".parse().unwrap());
        assert_eq!(binary(&headers, Bytes::new(), NOW).unwrap_err().path, "ce-data");
    }
}
