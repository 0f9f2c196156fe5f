//! Exchanges of strangers through the filter's core, and what comes of them into the companion.
//!
//! Headers, paths and bodies as they may come, in Envoy's order of callbacks. Every event is one that the companion takes,
//! with the representation byte for byte, and without what privacy holds back.

use std::time::Duration;

use anyhow::{Result, ensure};
use bytes::Bytes;
use companion::cloudevents;
use companion::model::Event;
use gatehook_filter::conclusion::{Conclude, Conclusion, Outcome};
use gatehook_filter::config::Config;
use gatehook_filter::event::Thin;
use gatehook_filter::exchange::{Exchange, Observation, OnRequest};
use gatehook_filter::headers::Headers;
use gatehook_filter::ids::Ids;
use gatehook_filter::json::Json;

use super::{NOW, Reading, Target, lines, parts};

pub(super) const TARGET: Target = Target {
    name: "exchanges",
    percent: 14,
    words: &[
        ":method: POST",
        ":method: PUT",
        ":method: DELETE",
        ":path: /v1/contacts",
        ":path: /a/7",
        ":status: 201",
        ":status: 200",
        ":status: 204",
        "content-type: application/json",
        "content-type: application/hal+json",
        "content-type: application/vnd.api+json",
        "content-type: application/grpc",
        "content-encoding: gzip",
        "content-length: 3",
        "location: /a/9",
        "location: https://api/a/9?x#y",
        "etag: \"1\"",
        "x-request-id: r",
        "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "gatehook-via: ",
        "x-a: ada",
        "\n--\n",
        "\n",
        "/",
        "..",
        "%2f",
        "%00",
        "%zz",
        "v1",
        "api",
        "cus_9s6X",
        "{id}",
        ":cancel",
        "?id=7",
        "#",
        "\"id\"",
        "\"_id\"",
        "\"data\"",
        "\"items\"",
        "\"_links\":{\"self\":{\"href\":\"/a/9\"}}",
        "\"secret\"",
    ],
    play,
    bytes: 256 << 10,
    per_byte: 256,
};

/// A value that no event may bear where it is redacted.
const SECRET: &str = "s3cr3t-marker";

/// The first letter of an input chooses.
const CONFIGURATIONS: [&str; 8] = [
    "{}",
    r#"{"automatic": false, "ignore": ["/**"]}"#,
    r#"{"redact": ["/secret", "/*/secret", "/*/*/secret"], "via": true, "companion": {"token": "t"}}"#,
    r#"{"unwrap": "/data", "redact": ["/secret"], "tenant": {"field": "/id"}, "missing_tenant": "thin"}"#,
    r#"{"resources": [{"path": "/a/{id}", "noun": "a", "explode": "/items", "subject": "/b/{id}"}], "nested": true}"#,
    r#"{"representation": "fetch", "previous": "fetch", "actor": {"header": "x-a"}, "redact": ["/secret"]}"#,
    r#"{"only": ["/id", "/items/*/id"], "namespace": "x.y", "tense": "past", "max_body_bytes": 400}"#,
    r#"{"data": "none", "tenant": {"jwt": "/a/b"}, "missing_tenant": "refuse", "mode": "hold",
        "hold": {"allow_on_headers_stop_iteration": true}}"#,
];

thread_local! {
    /// Compiled once: a configuration belongs to one thread, as it does in Envoy.
    static CONFIGS: Vec<Config> = CONFIGURATIONS
        .iter()
        .map(|json| Config::parse(json.as_bytes()).expect("a configuration of ours holds"))
        .collect();
}

/// An exchange as an input writes it.
struct Script<'a> {
    /// Letters: `h` the answer ends with its head, `l` it breaks off, `w` earlier events wait for a GET.
    manner: &'a [u8],
    request: &'a [u8],
    sent: &'a [u8],
    response: &'a [u8],
    answered: &'a [u8],
    /// What a GET before the write answers, and one behind it.
    read: &'a [u8],
}

fn play(input: &[u8]) -> Result<Reading> {
    CONFIGS.with(|configs| play_with(configs, input))
}

fn play_with(configs: &[Config], input: &[u8]) -> Result<Reading> {
    let [manner, request, sent, response, answered, read] = parts(input);
    let script = Script { manner, request, sent, response, answered, read };
    let which = usize::from(manner.first().copied().unwrap_or_default()) % configs.len();
    let config = &configs[which];
    let mut traits = format!("{which}");
    for json in events(config, &script) {
        let event = taken(&json)?;
        if let (0, Some(data)) = (which, &event.data) {
            whole(&script, data)?;
        }
        // Only a body may be told of an event, so elsewhere the marker is no representation's.
        let elsewhere = [request, sent, response].concat();
        let hidden =
            which == 2 && Json::parse(answered).is_some() && !contains(&elsewhere, SECRET.as_bytes());
        if hidden && only_as_secret(answered) {
            ensure!(!contains(&json, SECRET.as_bytes()), "a redacted value stays: {event:?}");
        }
        traits.push_str(&trait_of(&event));
    }
    Ok(if traits.len() > 1 { Reading::taken(&traits) } else { Reading::refused(&traits) })
}

/// Whether a configuration makes events of a usual exchange that the companion takes.
pub(super) fn usual(config: &Config) -> Result<usize> {
    let response = b":status: 201\ncontent-type: application/json\nlocation: /v1/orders/7";
    let mut count = 0;
    for (method, path) in [("POST", "/v1/orders"), ("PUT", "/a/7"), ("DELETE", "/users/42/orders/7?x")] {
        let request = format!(":method: {method}\n:path: {path}\n:authority: api\nx-a: ada\nx-tenant: t");
        let body = br#"{"id":7,"data":{"id":8},"items":[{"id":1}]}"#;
        let request = request.as_bytes();
        let script = Script { manner: b"", request, sent: b"{}", response, answered: body, read: body };
        for json in events(config, &script) {
            taken(&json)?;
            count += 1;
        }
    }
    Ok(count)
}

/// The companion takes what the filter writes.
fn taken(json: &[u8]) -> Result<Event> {
    let event = cloudevents::structured(&Bytes::copy_from_slice(json), NOW);
    event.map_err(|refusal| {
        anyhow::anyhow!("the companion takes it: {refusal:?} of {}", String::from_utf8_lossy(json))
    })
}

/// Where nothing is configured, the data are the answer, or the parameters of what is gone.
fn whole(script: &Script<'_>, data: &[u8]) -> Result<()> {
    let parameters = || serde_json::from_slice::<std::collections::BTreeMap<String, String>>(data);
    let is_answer = data == trimmed(script.answered);
    ensure!(is_answer || parameters().is_ok(), "the representation, byte for byte: {data:?}");
    Ok(())
}

fn trimmed(json: &[u8]) -> &[u8] {
    let blank = |byte: &u8| matches!(byte, b' ' | b'\t' | b'\n' | b'\r');
    let start = json.iter().position(|byte| !blank(byte)).unwrap_or(json.len());
    let end = json.iter().rposition(|byte| !blank(byte)).map_or(start, |at| at + 1);
    &json[start..end]
}

/// Whether the marker stands nowhere but in members that are redacted, as another parser has it.
fn only_as_secret(json: &[u8]) -> bool {
    fn without(value: &mut serde_json::Value, depth: usize) {
        if let Some(map) = value.as_object_mut() {
            map.remove("secret");
        }
        let below: Vec<&mut serde_json::Value> = match value {
            serde_json::Value::Array(all) => all.iter_mut().collect(),
            serde_json::Value::Object(all) => all.values_mut().collect(),
            _ => return,
        };
        if depth < 2 {
            below.into_iter().for_each(|value| without(value, depth + 1));
        }
    }
    let Ok(mut value) = serde_json::from_slice::<serde_json::Value>(json) else { return false };
    without(&mut value, 0);
    // Of a name that stands twice, this parser has seen the last one alone: then it is not known where the marker was.
    let twice = json.windows(SECRET.len()).filter(|window| *window == SECRET.as_bytes()).count() > 1;
    !twice && !value.to_string().contains(SECRET)
}

fn contains(bytes: &[u8], what: &[u8]) -> bool {
    bytes.windows(what.len()).any(|window| window == what)
}

fn trait_of(event: &Event) -> String {
    let thin = event.extensions.get("thin").map_or("whole", |json| json.get());
    let verb = event.event_type.rsplit('.').next().unwrap_or_default();
    let known: Vec<usize> = event.extensions.keys().map(String::len).collect();
    let depth = event.subject.as_deref().unwrap_or_default().matches('/').count().min(4);
    format!(" {thin} {} {known:?} {depth} {}", verb.len(), event.tenant.is_some())
}

/// The events of an exchange, as they are handed over.
fn events(config: &Config, script: &Script<'_>) -> Vec<Vec<u8>> {
    let Some(observation) = observe(config, script) else { return Vec::new() };
    let mut ids = Ids::new([&b"attack"[..]]);
    let waits = script.manner.contains(&b'w');
    let mut with = Conclude {
        config,
        now: Duration::from_secs(1),
        ids: &mut ids,
        property: &|path| (path.len() == 2).then(|| script.read.to_vec()),
        waits: &|_| waits,
    };
    let Conclusion::Events(outcomes) = observation.conclude(&mut with) else { return Vec::new() };
    let ready = outcomes.into_iter().filter_map(|outcome| match outcome {
        Outcome::Ready(ready) => Some(ready),
        Outcome::Untold => None,
        Outcome::Fetch(draft, _) => {
            draft.finish(config, Json::parse(script.read).ok_or(Thin::NotJson), &mut ids)
        }
        Outcome::Behind(draft, data) => {
            let data = data.as_deref().map_err(|reason| *reason);
            draft.finish(config, data.and_then(|bytes| Json::parse(bytes).ok_or(Thin::NotJson)), &mut ids)
        }
    });
    ready.map(|ready| ready.event.json().to_vec()).collect()
}

/// The callbacks of one stream, in Envoy's order.
fn observe(config: &Config, script: &Script<'_>) -> Option<Box<Observation>> {
    let mut exchange = Exchange::default();
    let OnRequest::Watch { previous, .. } = exchange.on_request(config, headers(script.request), |_| false)
    else {
        return None;
    };
    if previous {
        exchange.on_previous(script.read.to_vec());
    }
    if exchange.wants_request(script.sent.len()) {
        exchange.on_request_body(Some(script.sent.to_vec()));
    }
    let ends = script.manner.contains(&b'h');
    if let Some(found) = exchange.on_response(config, &headers(script.response), ends, |_| false) {
        return Some(found);
    }
    // In two pieces, as a large body comes.
    let (first, rest) = script.answered.split_at(script.answered.len() / 2);
    for piece in [first, rest] {
        if exchange.wants_response(config, piece.len()) {
            exchange.on_response_body(Some(piece.to_vec()));
        }
    }
    if script.manner.contains(&b'l') { exchange.on_log() } else { exchange.on_end() }
}

fn headers(head: &[u8]) -> Headers {
    let pairs = lines(head).take(100);
    pairs.map(|(name, value)| (String::from_utf8_lossy(name).to_ascii_lowercase(), value.to_vec())).collect()
}
