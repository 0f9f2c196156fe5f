//! CloudEvents in their three content modes: against `serde_json`, and there and back through every format of a delivery.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, bail, ensure};
use bytes::Bytes;
use companion::cloudevents::{self, Refusal};
use companion::model::{Event, Format};
use companion::payload::{self, Shape, Wanted};
use hyper::HeaderMap;
use hyper::header::{HeaderName, HeaderValue};
use serde_json::value::RawValue;

use super::{NOW, Reading, Target, lines, parts};

pub(super) const STRUCTURED: Target = Target {
    name: "cloudevents-structured",
    percent: 12,
    words: &WORDS,
    play: structured,
    bytes: 256 << 10,
    per_byte: 64,
};

pub(super) const BATCH: Target =
    Target { name: "cloudevents-batch", percent: 6, words: &WORDS, play: batch, ..STRUCTURED };

pub(super) const BINARY: Target =
    Target { name: "cloudevents-binary", percent: 8, words: &WORDS, play: binary, ..STRUCTURED };

const WORDS: [&str; 26] = [
    "specversion",
    "1.0",
    "id",
    "source",
    "type",
    "gatehook.subscription.off",
    "subject",
    "time",
    "2026-01-02T03:04:05.000006Z",
    "-009999-01-02T01:59:59Z",
    "9999-12-30T22:00:00.999999999Z",
    "2016-12-31T23:59:60Z",
    "datacontenttype",
    "application/json",
    "text/plain",
    "application/cloudevents+json; charset=\"ü\"",
    "dataschema",
    "data",
    "data_base64",
    "/w==",
    "e30=",
    "tenant",
    "previous",
    "changed",
    "[\"/a~1b\"]",
    "ce-",
];

/// The hook of every delivery here.
const HOOK: &str = r#"{"id":"sub_1"}"#;

/// The members of an object as `serde_json` has them: of a name that stands twice, the last.
type Reference<'a> = BTreeMap<String, &'a RawValue>;

fn structured(input: &[u8]) -> Result<Reading> {
    let body = Bytes::copy_from_slice(input);
    let reference = serde_json::from_slice::<Reference>(input).ok();
    match cloudevents::structured(&body, NOW) {
        Ok(event) => {
            same(&event, &reference.context("no JSON: an event was taken from it")?)?;
            delivered(&event)?;
            Ok(Reading::taken(&traits(&event)))
        }
        Err(refusal) => refused(&refusal, "", reference.is_some()),
    }
}

fn batch(input: &[u8]) -> Result<Reading> {
    let body = Bytes::copy_from_slice(input);
    let reference = serde_json::from_slice::<Vec<&RawValue>>(input);
    let (results, elements) = match (cloudevents::batch(&body, NOW), reference) {
        (Ok(results), Ok(elements)) => (results, elements),
        (Err(refusal), Err(_)) => return refused(&refusal, "", false),
        (results, _) => bail!("a batch is a JSON array: {:?}", results.err()),
    };
    ensure!(results.len() == elements.len(), "each element has a result: {}", results.len());
    let mut all = String::new();
    for (index, (result, element)) in results.iter().zip(elements).enumerate().take(100) {
        let alone = cloudevents::structured(&Bytes::copy_from_slice(element.get().as_bytes()), NOW);
        match (result, alone) {
            (Ok(event), Ok(alone)) => {
                equal(event, &alone).context("an element is read as if it came alone")?;
                all.push_str(&traits(event));
            }
            (Err(refusal), Err(alone)) => {
                let at = format!("/{index}");
                ensure!(refusal.path == format!("{at}{}", alone.path), "a place in a batch: {refusal:?}");
                refused(refusal, &at, false)?;
                all.push_str(&refusal.reason);
            }
            _ => bail!("an element stands alone: {index} does not"),
        }
    }
    Ok(Reading::taken(&all))
}

fn binary(input: &[u8]) -> Result<Reading> {
    let [head, body] = parts(input);
    let mut headers = HeaderMap::new();
    for (name, value) in lines(head).take(200) {
        if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name), HeaderValue::from_bytes(value)) {
            headers.append(name, value);
        }
    }
    match cloudevents::binary(&headers, Bytes::copy_from_slice(body), NOW) {
        Ok(event) => {
            ensure!(event.data.as_deref().unwrap_or_default() == body, "data is the body: {event:?}");
            delivered(&event)?;
            Ok(Reading::taken(&traits(&event)))
        }
        Err(refusal) => {
            let named = refusal.path == "body" || refusal.path.starts_with("ce-");
            ensure!(named, "a refusal names a header or the body: {refusal:?}");
            Ok(Reading::refused(&refusal.reason))
        }
    }
}

/// A refusal names the attribute, but where the whole is no object of which one could be named.
fn refused(refusal: &Refusal, at: &str, is_object: bool) -> Result<Reading> {
    let below =
        refusal.path.strip_prefix(at).with_context(|| format!("a place in its element: {refusal:?}"))?;
    super::place(below, &refusal.reason)?;
    ensure!(!is_object || !below.is_empty(), "a refusal names the attribute: {refusal:?}");
    Ok(Reading::refused(&refusal.reason))
}

/// The event says what `serde_json` reads, and its data are the very bytes.
fn same(event: &Event, reference: &Reference<'_>) -> Result<()> {
    let text =
        |name: &str| reference.get(name).and_then(|raw| serde_json::from_str::<String>(raw.get()).ok());
    let read = [
        ("id", Some(&event.id)),
        ("source", Some(&event.source)),
        ("type", Some(&event.event_type)),
        ("subject", event.subject.as_ref()),
        ("datacontenttype", event.datacontenttype.as_ref()),
        ("tenant", event.tenant.as_ref()),
    ];
    for (name, value) in read {
        // Null is as good as absent, also behind a value.
        let null = reference.get(name).is_some_and(|raw| raw.get() == "null");
        ensure!(null || text(name).as_ref() == value, "an attribute is as it came: {name} is {value:?}");
    }
    for (name, json) in &event.extensions {
        let own = reference.get(name).context("an extension: nobody sent it")?;
        let value = |json: &RawValue| serde_json::from_str::<serde_json::Value>(json.get());
        // Numbers beyond a double are no `Value`; they have to be the very text.
        let same = matches!((value(json), value(own)), (Ok(one), Ok(other)) if one == other);
        let alike = json.get() == own.get() || own.get() == "null" || same;
        ensure!(alike, "an extension is as it came: {name} is {json}");
    }
    let sent = reference.get("data").map(|raw| raw.get()).filter(|text| *text != "null");
    if let Some(sent) = sent.filter(|text| event.is_json() || !text.starts_with('"')) {
        ensure!(event.data.as_deref() == Some(sent.as_bytes()), "data keeps its bytes: {:?}", event.data);
    }
    ensure!(
        event.data.is_none() || sent.is_some() || reference.contains_key("data_base64"),
        "data: from nowhere"
    );
    Ok(())
}

/// Every format sends what it should, and the two of CloudEvents come back as the same event.
fn delivered(event: &Event) -> Result<()> {
    let data = event.data.as_deref().unwrap_or(b"null");
    let send = |format: Format| {
        let wanted = Wanted { format, base_url: Some("https://api.example"), ..Wanted::default() };
        let shape = Shape::new(&wanted).expect("no format but a template has faults");
        payload::body(&shape, event, HOOK).map_err(|error| anyhow::anyhow!("an event can be sent: {error}"))
    };
    let raw = send(Format::Raw)?.body.bytes;
    ensure!(raw == data, "raw is the data, byte for byte: {raw:?}");
    let standard = send(Format::Standard)?.body.bytes;
    let members: Reference = serde_json::from_slice(&standard).context("standard is JSON")?;
    if event.is_json() && std::str::from_utf8(data).is_ok() {
        let sent = members.get("data").map(|raw| raw.get().as_bytes());
        ensure!(sent == Some(data.trim_ascii()), "standard has the data, byte for byte: {standard:?}");
    }
    for format in [Format::Thin, Format::Slack] {
        let body = send(format)?.body.bytes;
        serde_json::from_slice::<serde_json::Value>(&body).context("a body of ours is JSON")?;
    }
    let structured = send(Format::Cloudevents)?.body.bytes;
    let back = cloudevents::structured(&structured, NOW);
    let back =
        back.map_err(|refusal| anyhow::anyhow!("we take what we send: {refusal:?} of {structured:?}"))?;
    equal(&bare(event), &back).context("structured mode, there and back")?;
    binary_and_back(event, send(Format::CloudeventsBinary)?)
}

/// The event without what an envelope of JSON leaves out: white space around its data.
fn bare(event: &Event) -> Event {
    let trimmed = |data: &bytes::Bytes| data.slice_ref(data.trim_ascii());
    let data = event.data.as_ref().map(|data| if event.is_json() { trimmed(data) } else { data.clone() });
    Event { data, ..event.clone() }
}

fn binary_and_back(event: &Event, sent: payload::Payload) -> Result<()> {
    let mut headers: HeaderMap = sent.headers.into_iter().collect();
    let kept = headers.len() - 4
        == event.extensions.len()
            + 1
            + usize::from(event.subject.is_some())
            + usize::from(event.tenant.is_some());
    if let Some(media_type) = sent.body.media_type.filter(|_| event.datacontenttype.is_some()) {
        headers.insert("content-type", media_type);
    }
    let mut back = cloudevents::binary(&headers, sent.body.bytes, NOW)
        .map_err(|refusal| anyhow::anyhow!("we take what we send: {refusal:?} of {headers:?}"))?;
    if !kept || event.data.as_ref().is_none_or(bytes::Bytes::is_empty) {
        // Attributes that are too long for a header stay behind, and so does the media type of nothing. An empty body says
        // nothing of whether there were data.
        return Ok(());
    }
    // In a header, 7 and "7" are the same.
    for (name, json) in &event.extensions {
        if let Some(own) = back.extensions.get_mut(name)
            && serde_json::from_str(own.get()).is_ok_and(|text: String| text == json.get())
        {
            own.clone_from(json);
        }
    }
    equal(event, &back).context("binary mode, there and back")
}

fn equal(one: &Event, other: &Event) -> Result<()> {
    let json = |event: &Event| -> Vec<(String, serde_json::Value)> {
        let value = |json: &RawValue| serde_json::from_str(json.get()).unwrap_or_else(|_| json.get().into());
        event.extensions.iter().map(|(name, json)| (name.clone(), value(json))).collect()
    };
    let all = |event: &Event| {
        let Event { id, source, event_type, subject, time, datacontenttype, data, tenant, .. } =
            event.clone();
        (id, source, event_type, subject, time, datacontenttype, data, tenant)
    };
    ensure!(all(one) == all(other) && json(one) == json(other), "the same event: {one:?} and {other:?}");
    Ok(())
}

/// What tells events apart that were taken.
fn traits(event: &Event) -> String {
    let data = event.data.as_deref().map(|data| data.first().copied().unwrap_or_default() as char);
    format!(
        "{:?} {} {} {} {} {:?}",
        data,
        event.is_json(),
        event.datacontenttype.is_some(),
        event.subject.is_some(),
        event.tenant.is_some(),
        event
            .extensions
            .iter()
            .map(|(name, json)| (name.len(), json.get().as_bytes()[0]))
            .collect::<Vec<_>>(),
    )
}
