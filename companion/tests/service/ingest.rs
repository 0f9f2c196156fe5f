//! `POST /v1/events` and reading events.

use serde_json::{Value, json};

use crate::client::{Companion, Receiver};

const BATCH: &str = "application/cloudevents-batch+json";
const ONE: &str = "application/cloudevents+json";

#[tokio::test]
async fn a_batch_says_what_became_of_each_event() {
    let companion = Companion::start().await;
    companion.contact_created("1").await;
    let batch = r#"[{"specversion":"1.0","id":"1","source":"/t","type":"contact.create"},
                    {"specversion":"1.0","id":"2","source":"/t","type":"contact.create"},
                    {"specversion":"1.0","id":"3","source":"/t"}]"#;
    let answer = companion.ingest(BATCH, batch).await;
    assert_eq!(answer.status, 202);
    assert_eq!(answer.headers["gatehook-ack"], "accepted=1;repeated=1;refused=1");
    let refused = json!([{"id": "3", "path": "/2/type", "reason": "is missing"}]);
    assert_eq!(answer.json, json!({"accepted": ["2"], "repeated": ["1"], "refused": refused}));
}

#[tokio::test]
async fn all_three_content_modes_are_taken() {
    let companion = Companion::start().await;
    let event = r#"{"specversion":"1.0","id":"s","source":"/t","type":"a.b"}"#;
    assert_eq!(companion.ingest(ONE, event).await.status, 202);
    assert_eq!(companion.ingest("application/cloudevents-batch+json; charset=utf-8", "[]").await.status, 202);
    let headers = [
        ("authorization", "Bearer ingest"),
        ("content-type", "text/plain"),
        ("ce-specversion", "1.0"),
        ("ce-id", "b"),
        ("ce-source", "/t"),
        ("ce-type", "a.b"),
    ];
    assert_eq!(companion.send("POST", "/v1/events", &headers, "hello").await.status, 202);
    let read = companion.admin("GET", "/v1/events/b", "").await;
    assert_eq!((read.status, &read.json["data"]), (200, &json!("hello")));
}

#[tokio::test]
async fn what_cannot_be_read_is_refused_with_its_place() {
    let companion = Companion::start().await;
    let check = async |media_type: &str, body: &str, status: u16, place: &[&str]| {
        let answer = companion.ingest(media_type, body).await;
        assert_eq!((answer.status, answer.faults()), (status, place.to_vec()), "{body}: {}", answer.json);
        assert!(!answer.headers.contains_key("gatehook-ack"));
    };
    check(BATCH, "{}", 400, &[""]).await;
    check(BATCH, "[", 400, &[""]).await;
    check(ONE, r#"{"specversion":"1.0","id":"1","source":"/t"}"#, 400, &["/type"]).await;
    check("application/json", "{}", 415, &["content-type"]).await;
    check(BATCH, &format!("[{}]", vec!["{}"; 1001].join(",")), 413, &[]).await;
    check(BATCH, &" ".repeat((4 << 20) + 1), 413, &[]).await;
}

#[tokio::test]
async fn an_encoded_body_is_refused_and_never_an_events_data() {
    let companion = Companion::start().await;
    let [admin, ingest] = ["Bearer admin", "Bearer ingest"].map(|token| ("authorization", token));
    let event = [("ce-specversion", "1.0"), ("ce-id", "b"), ("ce-source", "/t"), ("ce-type", "a.b")];
    let check = async |path: &str, token: (&str, &str), coding: &str, status: u16| {
        let mut headers = vec![token, ("content-type", "text/plain"), ("content-encoding", coding)];
        headers.extend(event);
        let answer = companion.send("POST", path, &headers, "\u{1f}\u{8b}").await;
        assert_eq!(answer.status, status, "{path} {coding}: {}", answer.json);
        if status == 415 {
            assert_eq!(answer.faults(), ["content-encoding"]);
            assert_eq!(answer.headers["accept-encoding"], "identity");
        }
    };
    check("/v1/events", ingest, "gzip", 415).await;
    check("/v1/events", ingest, "identity, br", 415).await;
    check("/v1/events", ingest, "Identity", 202).await;
    check("/v1/subscriptions", admin, "deflate", 415).await;
}

#[tokio::test]
async fn each_token_opens_its_own_door_only() {
    let companion = Companion::start().await;
    for (method, path, token, status) in [
        ("POST", "/v1/events", "Bearer admin", 403),
        ("POST", "/v1/events", "Bearer ", 401),
        ("POST", "/v1/events", "ingest", 401),
        ("GET", "/v1/events", "Bearer ingest", 403),
        ("GET", "/v1/subscriptions", "Basic admin", 401),
        ("DELETE", "/v1/subscriptions/x", "Bearer adminn", 401),
    ] {
        let answer = companion.send(method, path, &[("authorization", token)], "").await;
        assert_eq!((answer.status, answer.faults()), (status, vec![]), "{method} {path} {token}");
        assert_eq!(answer.headers.contains_key("www-authenticate"), status == 401);
    }
    assert_eq!(companion.send("GET", "/v1/deliveries", &[], "").await.status, 401);
}

#[tokio::test]
async fn events_are_listed_newest_first_and_found_by_type() {
    let companion = Companion::start().await;
    for id in ["1", "2", "3"] {
        companion.contact_created(id).await;
    }
    let first = companion.admin("GET", "/v1/events?limit=2", "").await.json;
    let ids = |page: &serde_json::Value| {
        let data = page["data"].as_array().unwrap();
        data.iter().map(|event| event["id"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(ids(&first), ["3", "2"]);
    let cursor = first["next_cursor"].as_str().unwrap();
    let second = companion.admin("GET", &format!("/v1/events?limit=2&cursor={cursor}"), "").await.json;
    assert_eq!((ids(&second), &second["next_cursor"]), (vec!["1".to_owned()], &json!(null)));
    assert!(ids(&companion.admin("GET", "/v1/events?type=order.create", "").await.json).is_empty());
    assert_eq!(companion.admin("GET", "/v1/events/none", "").await.status, 404);
    assert_eq!(companion.admin("GET", "/v1/events?limit=0", "").await.faults(), ["limit"]);
    assert_eq!(companion.admin("GET", "/v1/events?colour=red", "").await.faults(), ["query"]);
}

#[tokio::test]
async fn data_of_any_depth_is_taken_shown_and_delivered_as_it_came() {
    let companion = Companion::start().await;
    let receiver = Receiver::start(&[200]).await;
    companion.subscribe(&receiver.url).await;
    let data = format!("{}1.00{}", "[".repeat(5_000), "]".repeat(5_000));
    let event = format!(r#"{{"specversion":"1.0","id":"1","source":"/t","type":"a.b","data":{data}}}"#);
    assert_eq!(companion.ingest(ONE, &event).await.status, 202);
    let (_, body) = receiver.received(1).await.remove(0);
    assert!(std::str::from_utf8(&body).unwrap().contains(&data));
    assert_eq!(companion.admin("GET", "/v1/events/1", "").await.status, 200);
}

#[tokio::test]
async fn the_operators_routes_need_no_token_and_others_say_404() {
    let companion = Companion::start().await;
    companion.contact_created("1").await;
    for (path, expected) in
        [("/healthz", "ok"), ("/readyz", "ready"), ("/metrics", r#"events_total{result="accepted"} 1"#)]
    {
        let answer = companion.send("GET", path, &[], "").await;
        assert!(
            answer.status == 200 && answer.json.to_string().contains(&expected.replace('"', "\\\"")),
            "{path}"
        );
    }
    assert_eq!(companion.admin("GET", "/v1/nothing", "").await.status, 404);
    assert_eq!(companion.admin("DELETE", "/v1/deliveries", "").await.status, 405);
}
#[tokio::test]
async fn a_single_event_takes_the_requests_traceparent_where_it_has_none_of_its_own() {
    const REQUEST: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    const OWN: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00";
    let companion = Companion::start().await;
    let own = format!(r#","traceparent":"{OWN}""#);
    for (id, media_type, more, header, expected) in [
        ("1", ONE, "", REQUEST, json!(REQUEST)),
        ("2", ONE, own.as_str(), REQUEST, json!(OWN)),
        ("3", ONE, "", "nonsense", Value::Null),
        ("4", BATCH, "", REQUEST, Value::Null),
    ] {
        let event = format!(r#"{{"specversion":"1.0","id":"{id}","source":"/t","type":"a.b"{more}}}"#);
        let body = if media_type == BATCH { format!("[{event}]") } else { event };
        let headers =
            [("authorization", "Bearer ingest"), ("content-type", media_type), ("traceparent", header)];
        assert_eq!(companion.send("POST", "/v1/events", &headers, body).await.status, 202);
        let event = companion.admin("GET", &format!("/v1/events/{id}"), "").await.json;
        assert_eq!(event["traceparent"], expected, "{id}");
    }
    let headers = [
        ("authorization", "Bearer ingest"),
        ("ce-specversion", "1.0"),
        ("ce-id", "5"),
        ("ce-source", "/t"),
        ("ce-type", "a.b"),
        ("traceparent", REQUEST),
    ];
    assert_eq!(companion.send("POST", "/v1/events", &headers, "").await.status, 202);
    assert_eq!(companion.admin("GET", "/v1/events/5", "").await.json["traceparent"], REQUEST);
}
