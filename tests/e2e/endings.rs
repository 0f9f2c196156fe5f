//! Each way in which an answer can end leaves exactly one event, with HTTP/1.1 and with HTTP/2.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use harness::http::{Client, read_until, write_raw};
use harness::upstream::Seen;
use harness::workspace::RunDirectory;
use harness::{Answer, Gate, Gateway, Recorder, Upstream};
use hyper::Method;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;

use crate::world::tell;

/// The answer that whole bodies carry; oddly written, because it has to arrive byte for byte.
const BODY: &str = "{\"id\":  \"7\",\"amount\":1.10,\"name\":\"Zo\\u00eb\"}";

/// What the event has to look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expected {
    Whole,
    Thin(&'static str),
}

struct Ending {
    name: &'static str,
    answer: Answer,
    expected: Expected,
}

fn endings(break_off: &Gate) -> Vec<Ending> {
    let whole = |name, answer| Ending { name, answer, expected: Expected::Whole };
    let thin = |name, answer, reason| Ending { name, answer, expected: Expected::Thin(reason) };
    let (start, rest) = BODY.split_at(9);
    let halves = || Answer::chunked(200).chunk(start).chunk(rest);
    vec![
        whole("with-a-length", Answer::json(200, BODY)),
        whole("in-chunks", halves()),
        whole("with-trailers", halves().trailer("x-checksum", "7")),
        whole("created", Answer::json(201, BODY)),
        whole("after-early-hints", Answer::json(200, BODY).after_interim(103)),
        whole("after-100-continue", Answer::json(200, BODY)),
        whole("with-odd-headers", Answer::json(200, BODY).header("x-note", b"a\xff\xfeb")),
        thin("without-a-body", Answer::empty(204), "empty"),
        thin("with-length-0", Answer::empty(200), "empty"),
        thin("empty-in-chunks", Answer::chunked(200), "empty"),
        thin("plain-text", Answer::sized(200, "done").header("content-type", "text/plain"), "not_json"),
        thin("half-json", Answer::json(200, start), "not_json"),
        thin("gzip", Answer::json(200, BODY).header("content-encoding", "gzip"), "encoded"),
        thin("too-large", Answer::json(200, &format!("\"{}\"", "x".repeat(70_000))), "too_large"),
        thin(
            "too-large-in-chunks",
            Answer::chunked(200).chunk("[1").chunk(vec![b' '; 70_000]).chunk("]"),
            "too_large",
        ),
        thin("broken-off", Answer::chunked(200).chunk(start).wait(break_off).then_reset(), "incomplete"),
        thin("caller-gone", Answer::chunked(200).chunk(start).wait(&Gate::closed()), "incomplete"),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn each_ending_leaves_one_event_on_http1() {
    tell(async |run| leaves_one_event_each(run, false).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_ending_leaves_one_event_on_http2() {
    tell(async |run| leaves_one_event_each(run, true).await).await;
}

async fn leaves_one_event_each(run: &Arc<RunDirectory>, http2: bool) -> Result<()> {
    let break_off = Gate::closed();
    let endings = endings(&break_off);
    let answers: BTreeMap<String, Answer> =
        endings.iter().map(|ending| (format!("/things/{}", ending.name), ending.answer.clone())).collect();
    let script =
        move |seen: &Seen| answers.get(&seen.path).cloned().unwrap_or_else(|| Answer::json(200, BODY));
    let upstream = Upstream::start(script).await?;
    let recorder = Recorder::start().await?;
    let mut gateway = Gateway::before(upstream.address(), recorder.address()).filter(&json!({
        "resources": [{"path": "/things/{id}", "noun": "thing"}],
        "max_body_bytes": 65_536,
    }));
    if http2 {
        gateway = gateway.http2_upstream();
    }
    let gateway = gateway.start(run).await?;
    let caller = if http2 { Client::http2(gateway.address()) } else { gateway.caller() };
    for ending in &endings {
        exchange(&gateway, &caller, ending, &break_off).await.with_context(|| ending.name)?;
    }
    // The outbox keeps the order, so once the last has arrived nothing is still on its way.
    caller.call(Method::DELETE, "/things/last").send().await?.expect(200)?;
    recorder.accepted_until("thing.delete").await?;
    check_all(&recorder, &endings)?;
    // One more for the marker, which is whole.
    let all = u64::try_from(endings.len())? + 1;
    let thin = endings.iter().filter(|ending| matches!(ending.expected, Expected::Thin(_))).count();
    gateway.metric_becomes("gatehook_observed", all).await?;
    gateway.metric_becomes("gatehook_handed_over", all).await?;
    gateway.metric_becomes("gatehook_thin", u64::try_from(thin)?).await
}

fn check_all(recorder: &Recorder, endings: &[Ending]) -> Result<()> {
    let batches = recorder.batches();
    for ending in endings {
        let subject = format!("/things/{}", ending.name);
        let events: Vec<Value> =
            recorder.accepted().into_iter().filter(|event| event["subject"] == subject.as_str()).collect();
        ensure!(events.len() == 1, "{}: {} events instead of one: {events:?}", ending.name, events.len());
        check_one(&events[0], ending).with_context(|| format!("{}: {}", ending.name, events[0]))?;
    }
    let raw: Vec<String> =
        batches.iter().map(|batch| String::from_utf8_lossy(&batch.body).into_owned()).collect();
    let verbatim: usize = raw.iter().map(|body| body.matches(BODY).count()).sum();
    let whole = endings.iter().filter(|ending| ending.expected == Expected::Whole).count();
    // The marker of the end carries the path's parameters, so only the whole answers carry the body.
    ensure!(verbatim == whole, "{verbatim} of {whole} representations came byte for byte: {raw:?}");
    Ok(())
}

async fn exchange(gateway: &Gateway, caller: &Client, ending: &Ending, break_off: &Gate) -> Result<()> {
    let path = format!("/things/{}", ending.name);
    let call = caller.call(Method::PUT, &path).body("{}");
    match ending.name {
        "caller-gone" | "broken-off" => {
            // Once the caller has read the start of the body, Envoy and the filter have seen it too.
            let mut answer = call.start().await?;
            ensure!(answer.next().await?.is_some(), "the body did not start");
            if ending.name == "broken-off" {
                break_off.open();
                // What the caller sees of it is Envoy's affair: 1.36 ends an HTTP/2 stream as if it were whole.
                while let Ok(Some(_)) = answer.next().await {}
            }
        }
        "after-100-continue" => {
            let head = format!(
                "PUT {path} HTTP/1.1\r\nhost: api\r\ncontent-length: 2\r\nexpect: 100-continue\r\n\r\n"
            );
            let mut caller = write_raw(gateway.address(), head.as_bytes()).await?;
            read_until(&mut caller, "100 Continue\r\n\r\n").await?;
            caller.write_all(b"{}").await?;
            read_until(&mut caller, BODY).await?;
        }
        "with-odd-headers" => {
            // Bytes that are no text: legal in HTTP, and the end of a filter that takes headers for strings.
            let answer = call.header("x-note", b"a\xff\xfeb").send().await?.expect(200)?;
            ensure!(answer.headers["x-note"].as_bytes() == b"a\xff\xfeb", "the header was changed");
        }
        _ => {
            let answer = call.send().await?;
            ensure!((200..300).contains(&answer.status), "the caller got {}", answer.status);
        }
    }
    Ok(())
}

fn check_one(event: &Value, ending: &Ending) -> Result<()> {
    let verb = if ending.name == "created" { "create" } else { "update" };
    ensure!(event["type"] == format!("thing.{verb}"), "the type is {}", event["type"]);
    ensure!(event["specversion"] == "1.0" && event["source"] == "gatehook", "no CloudEvent of ours");
    match ending.expected {
        Expected::Whole => {
            let body: Value = serde_json::from_str(BODY)?;
            ensure!(event["data"] == body && event.get("thin").is_none(), "the representation is not whole");
        }
        Expected::Thin(reason) => {
            ensure!(event.get("data").is_none(), "a thin event has no data");
            ensure!(event["thin"] == reason, "thin because {} instead of {reason}", event["thin"]);
        }
    }
    Ok(())
}
