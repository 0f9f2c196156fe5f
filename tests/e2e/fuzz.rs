//! Odd exchanges, many of them, through the real Envoy: every caller gets the API's own answer byte for byte, the VM lives
//! through all of it, and the events are those that the filter's core makes of the same exchanges outside of Envoy.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use gatehook_filter::conclusion::{Conclude, Conclusion, Outcome};
use gatehook_filter::config::Config;
use gatehook_filter::exchange::{Exchange, OnRequest};
use gatehook_filter::headers::Headers;
use gatehook_filter::ids::Ids;
use harness::dice::Dice;
use harness::gateway::filter_configuration;
use harness::http::write_raw;
use harness::upstream::Seen;
use harness::workspace::RunDirectory;
use harness::{Answer, Gateway, Recorder, Upstream, wait};
use hyper::Method;
use serde_json::{Value, json};
use tokio::io::AsyncReadExt as _;

use crate::world::tell;

/// The corpus is drawn from this; another number is another corpus.
const SEED: u64 = 20_261_123;
const CASES: usize = 600;

const METHODS: [&str; 8] = ["POST", "POST", "POST", "PUT", "PATCH", "DELETE", "GET", "PUT"];
const PATHS: [&str; 20] = [
    "/v1/contacts",
    "/v1/contacts/7",
    "/api/v2/users/42/orders",
    "/users/42/orders/7",
    "/orders/7/cancel",
    "/orders/7:cancel",
    "/",
    "//",
    "/a//7/",
    "/%zz/7",
    "/contacts/%00",
    "/things/7?id=7&x=%ff",
    "/x/..;/y/7",
    "/7",
    "/search",
    "/graphql",
    "/wares/red-shoe",
    "/wares",
    "/bulk",
    "/contacts/7#fragment",
];
const REQUEST_HEADERS: [&[u8]; 8] = [
    b"x-odd: a\xff\xfeb\r\n",
    b"traceparent: \xf0\x9f\xa6\x80\r\n",
    b"accept-encoding: gzip, br\r\n",
    b"x-empty:\r\n",
    b"content-type: application/x-www-form-urlencoded\r\n",
    b"gatehook-via: 00000000000000000000000000000000-1\r\n",
    b"x-request-id: one\r\nx-request-id: two\r\n",
    b"",
];
const STATUSES: [u16; 9] = [200, 200, 200, 201, 201, 204, 202, 404, 500];
const ANSWER_HEADERS: [(&str, &[u8]); 10] = [
    ("content-type", b"application/json"),
    ("content-type", b"application/vnd.api+json"),
    ("content-type", b"text/html"),
    ("content-type", b"\xff\xfe"),
    ("content-encoding", b"gzip"),
    ("etag", b"\"\xc3\x28\""),
    ("location", b"/contacts/9"),
    ("location", b"http://\xff/"),
    ("x-secret", b"\x80"),
    ("cache-control", b"no-store"),
];
const BODIES: [&[u8]; 16] = [
    br#"{"id":7,"name":"Ada"}"#,
    br#"{"id":"a b/c"}"#,
    br#"{"data":{"id":1}}"#,
    br#"[{"id":1},{"id":2},3]"#,
    b"{",
    b"\xff\xfe\xfd",
    br#"{"id":{"id":[]}}"#,
    b"null",
    b"7",
    b" \n ",
    b"\xef\xbb\xbf{}",
    br#"{"id":10.50,"a":"\u0000"}"#,
    br#"{"id":7,"id":8}"#,
    b"[[[[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]]]]",
    b"<html></html>",
    b"",
];

struct Case {
    method: &'static str,
    path: &'static str,
    request: Vec<u8>,
    status: u16,
    headers: Vec<(&'static str, &'static [u8])>,
    body: &'static [u8],
    ends_with_head: bool,
    answer: Answer,
}

fn case(number: usize, dice: &mut Dice) -> Case {
    let (method, path) = (dice.pick(&METHODS), dice.pick(&PATHS));
    let extra = dice.pick(&REQUEST_HEADERS);
    let sent: &[u8] = if method == "GET" { b"" } else { dice.pick(&BODIES) };
    let head = format!(
        "{method} {path} HTTP/1.1\r\nhost: api\r\nconnection: close\r\nx-case: {number}\r\ncontent-length: {}\r\n",
        sent.len()
    );
    let request = [head.as_bytes(), extra, b"\r\n", sent].concat();
    let status = STATUSES[dice.below(STATUSES.len())];
    let body = if status == 204 { b"" } else { dice.pick(&BODIES) };
    let mut headers: Vec<(&'static str, &'static [u8])> = Vec::new();
    for _ in 0..dice.below(4) {
        let header = ANSWER_HEADERS[dice.below(ANSWER_HEADERS.len())];
        if !headers.iter().any(|(name, _)| *name == header.0) {
            headers.push(header);
        }
    }
    // An empty chunk would be the end of the answer, and a single byte has no middle.
    let (start, rest) = body.split_at(body.len().div_ceil(2));
    let pieces = [start, rest].into_iter().filter(|piece| !piece.is_empty());
    let mut answer = match dice.below(3) {
        _ if status == 204 => Answer::empty(204),
        0 => Answer::sized(status, body),
        way => {
            let answer = pieces.fold(Answer::pieces(status), Answer::chunk);
            if way == 1 { answer } else { answer.trailer("x-sum", b"\xff") }
        }
    };
    let ends_with_head = status == 204 || (body.is_empty() && answer.declares_length());
    for (name, value) in &headers {
        answer = answer.header(name, value);
    }
    Case { method, path, request, status, headers, body, ends_with_head, answer }
}

/// Type, subject and data of the events that the core makes of a case, outside of Envoy.
fn expected(config: &Config, case: &Case, ids: &mut Ids) -> Vec<String> {
    let path = case.path.split('#').next().unwrap_or_default();
    let request = [(":method", case.method), (":path", path), (":authority", "api")].into_iter().collect();
    let mut exchange = Exchange::default();
    if exchange.on_request(config, request, |_| false) == OnRequest::Leave {
        return Vec::new();
    }
    let (_, sent) = split(&case.request);
    if exchange.wants_request(sent.len()) {
        exchange.on_request_body(Some(sent.to_vec()));
    }
    let status = case.status.to_string();
    let first = [(":status", status.as_bytes())];
    let head: Headers = first.into_iter().chain(case.headers.iter().copied()).collect();
    let mut found = exchange.on_response(config, &head, case.ends_with_head, |_| false);
    if exchange.wants_response(config, case.body.len()) {
        exchange.on_response_body(Some(case.body.to_vec()));
    }
    found = found.or_else(|| exchange.on_end());
    let mut with =
        Conclude { config, now: Duration::from_secs(1), ids, property: &|_| None, waits: &|_| false };
    let Some(Conclusion::Events(outcomes)) =
        found.as_ref().map(|observation| observation.conclude(&mut with))
    else {
        return Vec::new();
    };
    let events = outcomes.into_iter().filter_map(|outcome| match outcome {
        Outcome::Ready(ready) => serde_json::from_slice(ready.event.json()).ok(),
        _ => None,
    });
    events.map(|event: Value| gist(&event)).collect()
}

fn gist(event: &Value) -> String {
    let text = |name: &str| event.get(name).map_or("none".to_owned(), Value::to_string);
    ["type", "subject", "thin", "data"].map(text).join(" ")
}

fn split(message: &[u8]) -> (&[u8], &[u8]) {
    let end = message.windows(4).position(|window| window == b"\r\n\r\n").map_or(message.len(), |at| at + 4);
    message.split_at(end)
}

#[tokio::test(flavor = "multi_thread")]
async fn odd_exchanges_change_nothing_for_callers_and_leave_the_events_of_the_core() {
    tell(odd_exchanges).await;
}

async fn odd_exchanges(run: &Arc<RunDirectory>) -> Result<()> {
    let mut dice = Dice::new(SEED);
    let cases: Arc<Vec<Case>> = Arc::new((0..CASES).map(|number| case(number, &mut dice)).collect());
    let script = Arc::clone(&cases);
    let upstream = Upstream::start(move |seen: &Seen| {
        let number =
            seen.header("x-case").and_then(|value| std::str::from_utf8(value).ok()?.parse::<usize>().ok());
        number.and_then(|number| script.get(number)).map_or(Answer::empty(204), |case| case.answer.clone())
    })
    .await?;
    let recorder = Recorder::start().await?;
    let own = json!({
        "resources": [
            {"path": "/wares/{sku}", "noun": "ware", "redact": ["/name"]},
            {"path": "/bulk", "noun": "user", "explode": "", "subject": "/users/{id}", "statuses": [200, 201, 202]},
        ],
        "actor": {"header": "x-odd"},
    });
    let config = Config::parse(filter_configuration(&own).to_string().as_bytes())?;
    let gateway = Gateway::before(upstream.address(), recorder.address()).filter(&own).start(run).await?;
    let (mut wanted, mut ids) = (Vec::new(), Ids::new([&b"fuzz"[..]]));
    for (number, case) in cases.iter().enumerate() {
        let seen = upstream.seen().len();
        let through = exchange(gateway.address(), case).await?;
        if upstream.seen().len() == seen {
            // Envoy itself refuses some of this, before the filter or behind it.
            ensure!(through.0 == 400, "case {number}: nobody answered {}", through.0);
            continue;
        }
        let straight = exchange(upstream.address(), case).await?;
        ensure!(through == straight, "case {number}: the caller got {through:?} instead of {straight:?}");
        wanted.extend(expected(&config, case, &mut ids));
    }
    gateway.caller().call(Method::DELETE, "/markers/7").send().await?.expect(204)?;
    let events: Vec<Value> = recorder.accepted_until("marker.delete").await?;
    ensure!(!gateway.log().contains("Uncaught") && !gateway.log().contains("panicked"), "the VM broke");
    let made: Vec<String> = events[..events.len() - 1].iter().map(gist).collect();
    for (made, wanted) in made.iter().zip(&wanted) {
        ensure!(made == wanted, "an event is {made} instead of {wanted}");
    }
    ensure!(made.len() == wanted.len(), "{} events instead of {}", made.len(), wanted.len());
    ensure!(wanted.len() > CASES / 8, "the corpus makes too few events: {}", wanted.len());
    Ok(())
}

/// Status and body of an answer, framing aside.
async fn exchange(address: std::net::SocketAddr, case: &Case) -> Result<(u16, Vec<u8>)> {
    let mut stream = write_raw(address, &case.request).await?;
    let mut answer = Vec::new();
    let reading = async {
        let mut piece = [0; 16 * 1024];
        loop {
            let size = stream.read(&mut piece).await?;
            answer.extend_from_slice(&piece[..size]);
            if size == 0 || is_whole(&answer, case.status) {
                return anyhow::Ok(());
            }
        }
    };
    tokio::time::timeout(wait::PATIENCE, reading).await.context("no end of the answer")??;
    let (head, body) = split(&answer);
    let status = std::str::from_utf8(head.get(9..12).unwrap_or_default())?.parse()?;
    let chunked = String::from_utf8_lossy(head).to_lowercase().contains("transfer-encoding: chunked");
    Ok((status, if chunked { unchunked(body) } else { body.to_vec() }))
}

/// Whether an answer on a connection that stays open is complete.
fn is_whole(answer: &[u8], status: u16) -> bool {
    let (head, body) = split(answer);
    if !head.ends_with(b"\r\n\r\n") {
        return false;
    }
    let head = String::from_utf8_lossy(head).to_lowercase();
    let length =
        head.split("content-length: ").nth(1).and_then(|rest| rest.split('\r').next()?.parse::<usize>().ok());
    match length {
        Some(length) => body.len() >= length,
        None if head.contains("transfer-encoding: chunked") => {
            // Trailers may stand between the last chunk and the end.
            let last = body.starts_with(b"0\r\n") || body.windows(5).any(|end| end == b"\r\n0\r\n");
            last && body.ends_with(b"\r\n\r\n")
        }
        None => status == 204,
    }
}

fn unchunked(mut body: &[u8]) -> Vec<u8> {
    let mut whole = Vec::new();
    while let Some(line) = body.windows(2).position(|window| window == b"\r\n") {
        let size =
            std::str::from_utf8(&body[..line]).ok().and_then(|text| usize::from_str_radix(text, 16).ok());
        let Some(size) = size.filter(|size| *size > 0 && body.len() >= line + 2 + size) else { break };
        whole.extend_from_slice(&body[line + 2..line + 2 + size]);
        body = body.get(line + 4 + size..).unwrap_or_default();
    }
    whole
}
