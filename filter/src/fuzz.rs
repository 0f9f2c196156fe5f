//! Anything at all through the pure core: no panic, at most what the rules allow, and nothing that privacy holds back.
//!
//! `PROPTEST_CASES=100000 cargo test -p filter fuzz` goes on for longer.

use std::time::Duration;

use proptest::prelude::*;

use crate::conclusion::{Conclude, Conclusion, Outcome};
use crate::config::Config;
use crate::exchange::{Exchange, OnRequest};
use crate::fetch::read_head;
use crate::headers::Headers;
use crate::ids::Ids;

/// A value that no event may bear once it is redacted.
const SECRET: &str = "s3cr3t-marker";

const CONFIGURATIONS: [&str; 8] = [
    "{}",
    r#"{"automatic": false, "ignore": ["/**"]}"#,
    r#"{"redact": ["/secret", "/*/secret", "/data/secret", "/items/*/secret"], "via": true, "companion": {"token": "t"}}"#,
    r#"{"unwrap": "/data", "redact": ["/secret"], "tenant": {"field": "/id"}, "missing_tenant": "thin"}"#,
    r#"{"resources": [{"path": "/a/{id}", "noun": "a", "explode": "/items", "subject": "/b/{id}"}], "nested": true}"#,
    r#"{"representation": "fetch", "previous": "fetch", "actor": {"header": "x-a"}, "redact": ["/secret", "/data/secret"]}"#,
    r#"{"only": ["/id", "/items/*/id"], "namespace": "x.y", "tense": "past", "max_body_bytes": 40}"#,
    r#"{"data": "none", "tenant": {"jwt": "/a/b"}, "missing_tenant": "refuse", "mode": "hold",
        "hold": {"allow_on_headers_stop_iteration": true}}"#,
];

/// One callback of a stream.
#[derive(Debug, Clone)]
enum Step {
    Request(Headers),
    RequestBody(Vec<u8>),
    Previous(Vec<u8>),
    Response(Headers, bool),
    ResponseBody(Vec<u8>),
    End,
    Log,
}

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..60),
        "[ -~]{0,40}".prop_map(String::into_bytes),
        Just(Vec::new()),
    ]
}

fn path() -> impl Strategy<Value = Vec<u8>> {
    let segment = prop_oneof![
        "[a-z]{1,8}s?",
        "[0-9]{1,4}",
        "v[0-9]",
        Just("api".to_owned()),
        "[a-z]{3}_[A-Za-z0-9]{6}",
        "[!-~]{0,6}",
        Just("a".to_owned()),
        Just("%zz".to_owned()),
        "[0-9]{1,3}:[a-z]{1,5}",
    ];
    let parts = proptest::collection::vec(segment, 0..6)
        .prop_map(|parts| format!("/{}", parts.join("/")).into_bytes());
    prop_oneof![8 => parts, 1 => bytes()]
}

fn json() -> impl Strategy<Value = Vec<u8>> {
    let secret = format!(
        r#"{{"id": 7, "secret": "{SECRET}", "data": {{"id": 8, "secret": "{SECRET}"}},
        "items": [{{"id": 1, "secret": "{SECRET}"}}, 2]}}"#
    );
    let leaf = prop_oneof![
        Just("null".to_owned()),
        "-?[0-9]{1,20}",
        "\"[a-zäß\\\\u0041]{0,8}\"",
        Just("1e400".to_owned())
    ];
    let tree = leaf.prop_recursive(4, 20, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(|all| format!("[{}]", all.join(" , "))),
            proptest::collection::vec(("(id|_id|data|items|a)", inner), 0..4).prop_map(|members| {
                let members: Vec<_> =
                    members.iter().map(|(key, value)| format!("\"{key}\": {value}")).collect();
                format!("{{{}}}", members.join(","))
            }),
        ]
    });
    prop_oneof![3 => Just(secret.into_bytes()), 4 => tree.prop_map(String::into_bytes), 2 => bytes()]
}

type Fields = Vec<(String, Vec<u8>)>;

fn extra() -> impl Strategy<Value = Fields> {
    let name = prop_oneof![
        Just("content-type"),
        Just("content-encoding"),
        Just("content-length"),
        Just("location"),
        Just("etag"),
        Just("accept-encoding"),
        Just("x-request-id"),
        Just("traceparent"),
        Just("gatehook-via"),
        Just("x-a"),
        Just("gatehook-ack"),
        Just("x-envoy-upstream-service-time"),
        Just(":status"),
        Just(":method"),
    ];
    let value = prop_oneof![
        bytes(),
        Just(b"application/json".to_vec()),
        Just(b"application/vnd.api+json".to_vec()),
        Just(b"application/hal+json".to_vec()),
        Just(b"/a/9".to_vec()),
        Just(b"https://api/a/9?x#y".to_vec()),
        Just(b"gzip".to_vec()),
        Just(b"3".to_vec()),
    ];
    proptest::collection::vec((name.prop_map(str::to_owned), value), 0..5)
}

fn headers(first: Vec<(&str, Vec<u8>)>, more: Fields) -> Headers {
    first.into_iter().map(|(name, value)| (name.to_owned(), value)).chain(more).collect()
}

fn request() -> impl Strategy<Value = Step> {
    let method = proptest::sample::select(vec!["POST", "POST", "PUT", "PUT", "PATCH", "DELETE", "GET"]);
    (method, path(), extra()).prop_map(|(method, path, more)| {
        let first = vec![(":method", method.into()), (":path", path), (":authority", b"api".to_vec())];
        Step::Request(headers(first, more))
    })
}

fn response() -> impl Strategy<Value = Step> {
    let known = proptest::sample::select(vec!["200", "200", "201", "201", "204", "202"]);
    let status = prop_oneof![10 => known.prop_map(str::to_owned), 1 => "[0-9x]{0,4}"];
    (status, extra(), any::<bool>()).prop_map(|(status, more, ends)| {
        Step::Response(headers(vec![(":status", status.into_bytes())], more), ends)
    })
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => request(),
        2 => json().prop_map(Step::RequestBody),
        2 => json().prop_map(Step::Previous),
        8 => response(),
        8 => json().prop_map(Step::ResponseBody),
        4 => Just(Step::End),
        3 => Just(Step::Log),
    ]
}

/// Plays the steps as one stream and checks everything that comes of them.
fn play(config: &Config, steps: &[Step], guarded: bool) {
    let (mut exchange, mut found) = (Exchange::default(), Vec::new());
    for step in steps {
        match step.clone() {
            Step::Request(headers) => {
                if exchange.on_request(config, headers, |_| false) == OnRequest::Leave {
                    assert!(!exchange.awaits_response());
                }
            }
            Step::RequestBody(piece) => {
                if exchange.wants_request(piece.len()) {
                    exchange.on_request_body(Some(piece));
                }
            }
            Step::Previous(body) => exchange.on_previous(body),
            Step::Response(headers, ends) => {
                let _ = read_head(&headers, 5, 10);
                found.extend(exchange.on_response(config, &headers, ends, |_| false));
            }
            Step::ResponseBody(piece) => {
                if exchange.wants_response(config, piece.len()) {
                    exchange.on_response_body(Some(piece));
                }
            }
            Step::End => found.extend(exchange.on_end()),
            Step::Log => found.extend(exchange.on_log()),
        }
    }
    let mut ids = Ids::new([&b"fuzz"[..]]);
    for observation in found {
        let mut with = Conclude {
            config,
            now: Duration::from_secs(1),
            ids: &mut ids,
            property: &|path| (path.len() == 2).then(|| b"/a/\xff".to_vec()),
            waits: &|subject| subject.len() % 7 == 3,
        };
        let Conclusion::Events(outcomes) = observation.conclude(&mut with) else { continue };
        for outcome in outcomes {
            let ready = match outcome {
                Outcome::Ready(ready) => ready,
                Outcome::Untold => continue,
                Outcome::Fetch(draft, _) => {
                    let Some(ready) = draft.finish(config, Err(crate::event::Thin::FetchFailed), &mut ids)
                    else {
                        continue;
                    };
                    ready
                }
                Outcome::Behind(draft, data) => {
                    let data = data.as_ref().map_err(|reason| *reason);
                    let data = data
                        .and_then(|bytes| crate::json::Json::parse(bytes).ok_or(crate::event::Thin::NotJson));
                    let Some(ready) = draft.finish(config, data, &mut ids) else { continue };
                    ready
                }
            };
            check(ready.event.json(), guarded);
        }
    }
}

/// A CloudEvent as the companion wants it.
fn check(event: &[u8], guarded: bool) {
    let text = std::str::from_utf8(event).expect("an event is text");
    let value: serde_json::Value = match serde_json::from_slice(event) {
        Ok(value) => value,
        // A number beyond a double is valid JSON all the same; only this parser has no place for it.
        Err(_) if text.contains("1e400") => return,
        Err(error) => panic!("{error}: {text}"),
    };
    for name in ["id", "source", "type", "subject", "time", "worker", "sequence"] {
        assert!(value[name].as_str().is_some_and(|text| !text.is_empty()), "{name} is missing: {text}");
    }
    assert!(value.get("data").is_some() == value.get("thin").is_none(), "data or a reason: {text}");
    assert!(!guarded || !text.contains(SECRET), "a redacted value left: {text}");
}

proptest! {
    #[test]
    fn anything_at_all_makes_valid_events_and_no_panic(
        which in 0..CONFIGURATIONS.len(),
        steps in proptest::collection::vec(step(), 0..8),
    ) {
        let config = Config::parse(CONFIGURATIONS[which].as_bytes()).unwrap();
        play(&config, &steps, false);
    }

    #[test]
    fn a_stream_in_order_tells_no_redacted_value(
        request in request(),
        response in response(),
        body in json(),
        previous in json(),
    ) {
        let config = Config::parse(
            br#"{"redact": ["/secret", "/data/secret", "/items/*/secret"], "previous": "fetch"}"#,
        ).unwrap();
        // The marker stands in bodies alone, and bytes that only look like them are no representation.
        let steps = [request, Step::Previous(previous), response, Step::ResponseBody(body), Step::End, Step::Log];
        play(&config, &steps, true);
    }

    #[test]
    fn any_configuration_is_taken_or_refused_with_its_place(text in "[ -~]{0,60}", which in 0..CONFIGURATIONS.len(), at in any::<prop::sample::Index>()) {
        let mut bytes = CONFIGURATIONS[which].as_bytes().to_vec();
        let at = at.index(bytes.len());
        bytes.splice(at..=at, text.bytes());
        if let Err(faults) = Config::parse(&bytes) {
            assert!(!faults.0.is_empty() && !faults.to_string().is_empty());
        }
    }
}
