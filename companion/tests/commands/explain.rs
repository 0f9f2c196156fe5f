//! `gatehook explain`.

use serde_json::Value;

use crate::{Printed, file, gatehook};

fn json(printed: &Printed) -> Value {
    assert!(printed.success, "{}", printed.err);
    serde_json::from_str(&printed.out).unwrap()
}

#[test]
fn a_script_gets_type_and_rule() {
    let printed = gatehook(&["explain", "POST", "/v1/orders/7/cancel", "200", "--json"], "");
    assert_eq!(printed.out, "{\"type\":\"order.cancel\",\"rule\":\"automatic\"}\n");
    let none = json(&gatehook(&["explain", "POST", "/v1/orders", "404", "--json"], ""));
    assert_eq!((&none["type"], &none["rule"]), (&Value::Null, &Value::Null));
    assert_eq!(none["reason"], "answered 404: only 2xx leaves an event");
}

#[test]
fn a_person_gets_words_and_the_event() {
    let config = file(
        "rules.json",
        r#"{"resources": [{"path": "/v1/orders/{id}", "noun": "sale", "unwrap": "/data"}]}"#,
    );
    let body = file("answer.json", r#"{"data": {"id": 7}}"#);
    let arguments = ["explain", "POST", "https://api.example/v1/orders", "201", "--config", &config];
    let printed = gatehook(&[&arguments[..], &["--body", &body, "--header", "ETag: \"x\""]].concat(), "");
    assert!(
        printed.out.starts_with("sale.create\n  by       /resources/0 (/v1/orders/{id})\n"),
        "{}",
        printed.out
    );
    assert!(
        printed.out.contains(r#""subject":"/v1/orders/7""#) && printed.out.contains(r#""data":{"id": 7}"#)
    );
    assert!(printed.out.contains(r#""etag":"\"x\"""#), "{}", printed.out);
    let printed = gatehook(&[&arguments[..], &["--body", "-"]].concat(), "<html>");
    assert!(printed.out.contains("thin     not_json: the answer is no JSON"), "{}", printed.out);
}

#[test]
fn an_id_that_the_caller_sent_is_not_new() {
    let sent = file("sent.json", r#"{"id": 7}"#);
    let arguments = ["explain", "post", "/contacts", "200", "--json", "--body", "-"];
    assert_eq!(json(&gatehook(&arguments, r#"{"id": 7}"#))["type"], "contact.create");
    let arguments = [&arguments[..], &["--request-body", &sent]].concat();
    assert_eq!(json(&gatehook(&arguments, r#"{"id": 7}"#))["type"], Value::Null);
}

#[test]
fn grpc_is_never_looked_at() {
    let arguments = ["explain", "POST", "/contacts", "201", "--header", "content-type: application/grpc"];
    let printed = gatehook(&arguments, "");
    assert_eq!(printed.out, "no event: the answer is gRPC, which is never looked at\n");
}

#[test]
fn a_configuration_that_would_not_load_is_refused_with_its_place() {
    let printed = gatehook(&["explain", "POST", "/a", "201", "--config", "-"], "{\"mode\": \"never\"}");
    assert!(!printed.success && printed.err.starts_with("gatehook: stdin: /mode: "), "{}", printed.err);
}
