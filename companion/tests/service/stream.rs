//! Events as they come: followed, resumed, and polled by those who must.

use std::time::Duration;

use http_body_util::{BodyExt, Empty};
use hyper::body::{Bytes, Incoming};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use serde_json::Value;

use crate::client::Companion;

/// One stream, read message by message.
struct Stream {
    body: Incoming,
    text: String,
}

/// A message: its id, its event, its data as JSON.
type Message = (i64, String, Value);

impl Stream {
    async fn open(companion: &Companion, query: &str, last: Option<i64>) -> Self {
        let client = Client::builder(TokioExecutor::new()).build_http::<Empty<Bytes>>();
        let mut request = hyper::Request::get(companion.url(&format!("/v1/events/stream{query}")))
            .header("authorization", "Bearer admin");
        if let Some(last) = last {
            request = request.header("last-event-id", last);
        }
        let response = client.request(request.body(Empty::new()).unwrap()).await.unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Self { body: response.into_body(), text: String::new() }
    }

    /// The next message; `None` where the stream has ended.
    async fn next(&mut self) -> Option<Message> {
        loop {
            if let Some((message, rest)) = self.text.split_once("\n\n") {
                let (message, rest) = (message.to_owned(), rest.to_owned());
                self.text = rest;
                let field = |name: &str| {
                    let lines =
                        message.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
                    lines.collect::<Vec<_>>().join("\n")
                };
                if !field("data").is_empty() {
                    let data = serde_json::from_str(&field("data")).unwrap();
                    return Some((field("id").parse().unwrap(), field("event"), data));
                }
                continue;
            }
            let frame =
                tokio::time::timeout(Duration::from_secs(20), self.body.frame()).await.unwrap()?.ok()?;
            self.text.push_str(std::str::from_utf8(frame.data_ref()?).unwrap());
        }
    }

    async fn ids(&mut self, count: usize) -> Vec<String> {
        let mut ids = Vec::new();
        for _ in 0..count {
            ids.push(self.next().await.unwrap().2["id"].as_str().unwrap().to_owned());
        }
        ids
    }
}

async fn accept(companion: &Companion, id: &str, event_type: &str, rest: &str) {
    let event = format!(r#"{{"specversion":"1.0","id":"{id}","source":"/t","type":"{event_type}"{rest}}}"#);
    let answer = companion.ingest("application/cloudevents+json", &event).await;
    assert_eq!((answer.status, &answer.json["refused"]), (202, &serde_json::json!([])));
}

#[tokio::test]
async fn a_stream_brings_what_is_accepted_from_now_on_and_goes_on_where_it_broke_off() {
    let companion = Companion::start().await;
    accept(&companion, "before", "a.b", "").await;
    let mut stream = Stream::open(&companion, "", None).await;
    accept(&companion, "1", "a.b", ",\"data\":{\r\n \"x\" : \"\\r\"}").await;
    let (place, event, data) = stream.next().await.unwrap();
    assert_eq!((event.as_str(), &data["id"], &data["data"]["x"]), ("a.b", &"1".into(), &"\r".into()));
    drop(stream);
    for id in ["2", "3"] {
        accept(&companion, id, "a.b", "").await;
    }
    let mut stream = Stream::open(&companion, "", Some(place)).await;
    assert_eq!(stream.ids(2).await, ["2", "3"]);
    accept(&companion, "4", "a.b", "").await;
    assert_eq!(stream.ids(1).await, ["4"]);
    let mut all = Stream::open(&companion, "?after=0", None).await;
    assert_eq!(all.ids(5).await, ["before", "1", "2", "3", "4"]);
}

#[tokio::test]
async fn a_stop_ends_streams_and_a_restart_loses_nothing() {
    let companion = Companion::start().await;
    let mut stream = Stream::open(&companion, "", None).await;
    accept(&companion, "1", "a.b", "").await;
    let (place, ..) = stream.next().await.unwrap();
    accept(&companion, "2", "a.b", "").await;
    let companion = companion.restart().await;
    while stream.next().await.is_some() {}
    let mut stream = Stream::open(&companion, "", Some(place)).await;
    assert_eq!(stream.ids(1).await, ["2"]);
}

#[tokio::test]
async fn a_stream_brings_what_was_asked_for_and_news_of_our_own() {
    let companion = Companion::start().await;
    let mut stream = Stream::open(&companion, "?type=a.*,gatehook.subscription.off&tenant=blue", None).await;
    let mut news = Stream::open(&companion, "?type=gatehook.*", None).await;
    accept(&companion, "1", "a.b", r#","tenant":"red""#).await;
    accept(&companion, "2", "c.d", r#","tenant":"blue""#).await;
    accept(&companion, "3", "a.b", r#","tenant":"blue""#).await;
    assert_eq!(stream.ids(1).await, ["3"]);
    let made = companion.subscribe("http://127.0.0.1:9/").await;
    let path = format!("/v1/subscriptions/{}", made["id"].as_str().unwrap());
    companion.admin("PATCH", &path, r#"{"status":"off"}"#).await;
    assert_eq!(news.next().await.unwrap().1, "gatehook.subscription.off");
}

#[tokio::test]
async fn a_reader_who_does_not_read_holds_nothing_up() {
    let companion = Companion::start().await;
    let mut slow = Stream::open(&companion, "", None).await;
    let large = format!(r#","data":"{}""#, "x".repeat(500_000));
    for id in 0..40 {
        accept(&companion, &id.to_string(), "a.b", &large).await;
    }
    let expected: Vec<_> = (0..40).map(|id| id.to_string()).collect();
    assert_eq!(slow.ids(40).await, expected);
}

#[tokio::test]
async fn a_poller_goes_on_from_its_cursor_and_misses_nothing() {
    let companion = Companion::start().await;
    let poll = async |cursor: &str, rest: &str| {
        let page =
            companion.admin("GET", &format!("/v1/events?order=oldest&cursor={cursor}{rest}"), "").await.json;
        let ids: Vec<_> = page["data"]
            .as_array()
            .unwrap()
            .iter()
            .map(|event| event["id"].as_str().unwrap().to_owned())
            .collect();
        (ids, page["next_cursor"].as_str().unwrap().to_owned())
    };
    let (none, cursor) = poll("0", "").await;
    assert!(none.is_empty());
    for id in ["1", "2", "3"] {
        accept(&companion, id, "a.b", "").await;
    }
    let (first, cursor) = poll(&cursor, "&limit=2").await;
    let (second, cursor) = poll(&cursor, "&limit=2").await;
    let (third, cursor) = poll(&cursor, "").await;
    assert_eq!((first, second, third), (vec!["1".into(), "2".into()], vec!["3".into()], vec![]));
    accept(&companion, "4", "c.d", "").await;
    let (other, cursor) = poll(&cursor, "&type=a.*").await;
    assert!(other.is_empty() && poll(&cursor, "").await.0.is_empty(), "what did not fit was passed");
    let newest = companion.admin("GET", "/v1/events?type=a.*&limit=2", "").await.json;
    assert_eq!((&newest["data"][0]["id"], &newest["data"][1]["id"]), (&"3".into(), &"2".into()));
    let rest = format!("/v1/events?type=a.*&cursor={}", newest["next_cursor"].as_str().unwrap());
    let rest = companion.admin("GET", &rest, "").await.json;
    assert_eq!((rest["data"].as_array().unwrap().len(), &rest["next_cursor"]), (1, &Value::Null));
}

#[tokio::test]
async fn a_page_of_large_events_is_cut_and_goes_on() {
    let companion = Companion::start().await;
    let large = format!(r#","data":"{}""#, "x".repeat(1_500_000));
    for id in 0..5 {
        accept(&companion, &id.to_string(), "a.b", &large).await;
    }
    let (mut cursor, mut sizes) = (String::new(), Vec::new());
    loop {
        let page = companion.admin("GET", &format!("/v1/events?limit=500{cursor}"), "").await.json;
        sizes.push(page["data"].as_array().unwrap().len());
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    assert!(sizes[0] < 5 && sizes.iter().sum::<usize>() == 5, "{sizes:?}");
}

#[tokio::test]
async fn a_stream_that_cannot_be_is_refused_with_its_place() {
    let companion = Companion::start().await;
    let get = async |path: &str, token: &str, last: &str| {
        let headers = [("authorization", token), ("last-event-id", last)];
        let answer = companion.send("GET", path, &headers, "").await;
        (answer.status, answer.faults().into_iter().map(str::to_owned).collect::<Vec<_>>())
    };
    assert_eq!(get("/v1/events/stream", "Bearer admin", "x").await, (400, vec!["last-event-id".into()]));
    assert_eq!(get("/v1/events/stream?type=*x", "Bearer admin", "1").await, (400, vec!["type".into()]));
    assert_eq!(get("/v1/events/stream?after=x", "Bearer admin", "1").await, (400, vec!["query".into()]));
    assert_eq!(get("/v1/events/stream", "Bearer ingest", "1").await, (403, vec![]));
    assert_eq!(get("/v1/events?order=random", "Bearer admin", "1").await, (400, vec!["query".into()]));
}
