//! Whole exchanges, played callback by callback, and the events they leave.

use super::*;
use crate::exchange::{Exchange, OnRequest};

fn headers(pairs: &[(&str, &str)]) -> Headers {
    pairs.iter().copied().collect()
}

/// How a response ends.
#[derive(Debug, Clone, Copy, PartialEq)]
enum End {
    Headers,
    Data,
    EmptyData,
    Trailers,
    OnlyLog,
}

struct Play {
    config: &'static str,
    request: &'static str,
    sends: &'static str,
    status: &'static str,
    response: Vec<(&'static str, &'static str)>,
    answers: &'static str,
    end: End,
    foreign: bool,
    asks: Vec<(&'static str, &'static str)>,
    previous: Option<&'static str>,
}

impl Default for Play {
    fn default() -> Self {
        Self {
            config: "{}",
            request: "POST /v1/contacts",
            sends: "",
            status: "201",
            response: vec![("content-type", "application/json; charset=utf-8")],
            answers: r#"{"id": 7}"#,
            end: End::EmptyData,
            foreign: false,
            asks: Vec::new(),
            previous: None,
        }
    }
}

impl Play {
    /// Runs one exchange through all its callbacks and gives every event, as JSON.
    fn events(&self) -> Vec<serde_json::Value> {
        let config = Config::parse(self.config.as_bytes()).unwrap();
        let mut ids = Ids::new([&b"test"[..]]);
        let mut exchange = Exchange::default();
        let (method, path) = self.request.split_once(' ').unwrap();
        let first = [(":method", method), (":path", path), (":authority", "api.example")];
        let request: Headers = first.iter().chain(&self.asks).copied().collect();
        if exchange.on_request(&config, request, |_| false) == OnRequest::Leave {
            return Vec::new();
        }
        if let Some(previous) = self.previous {
            exchange.on_previous(previous.as_bytes().to_vec());
        }
        if exchange.wants_request(self.sends.len()) {
            exchange.on_request_body(Some(self.sends.as_bytes().to_vec()));
        }
        let mut pairs = vec![(":status", self.status)];
        pairs.extend(&self.response);
        let mut found = Vec::new();
        found.extend(
            exchange.on_response(&config, &headers(&pairs), self.end == End::Headers, |_| self.foreign),
        );
        if self.end != End::Headers {
            let middle = self.answers.len() / 2;
            for piece in [&self.answers[..middle], &self.answers[middle..]] {
                if exchange.wants_response(&config, piece.len()) {
                    exchange.on_response_body(Some(piece.as_bytes().to_vec()));
                }
            }
            assert!(!exchange.wants_response(&config, 0), "an empty piece is not copied");
        }
        if !matches!(self.end, End::Headers | End::OnlyLog) {
            found.extend(exchange.on_end());
        }
        // Envoy calls log whatever came before.
        found.extend(exchange.on_log());
        found.extend(exchange.on_log());
        let mut with = Conclude {
            config: &config,
            now: Duration::from_secs(1),
            ids: &mut ids,
            property: &|_| None,
            waits: &|_| false,
        };
        let outcomes = found.iter().flat_map(|one| match one.conclude(&mut with) {
            Conclusion::Events(outcomes) => outcomes,
            Conclusion::Unmatched { .. } => Vec::new(),
        });
        let ready = outcomes.filter_map(|outcome| match outcome {
            Outcome::Ready(ready) => Some(ready.event),
            _ => None,
        });
        ready.map(|event| serde_json::from_slice(event.json()).unwrap()).collect()
    }

    /// Type, subject and the reason for being thin of the one event, or nothing.
    #[track_caller]
    fn check(&self, expected: Option<(&str, &str, Option<&str>)>) {
        let events = self.events();
        let found: Vec<_> = events
            .iter()
            .map(|event| {
                let text = |name: &str| event.get(name).and_then(|value| value.as_str());
                assert_eq!(event.get("data").is_some(), event.get("thin").is_none(), "data or a reason");
                (text("type").unwrap(), text("subject").unwrap(), text("thin"))
            })
            .collect();
        assert_eq!(found, expected.into_iter().collect::<Vec<_>>());
    }
}

#[test]
fn each_of_the_five_ends_gives_one_event() {
    for (end, subject, thin) in [
        (End::Headers, "/v1/contacts", Some("empty")),
        (End::Data, "/v1/contacts/7", None),
        (End::EmptyData, "/v1/contacts/7", None),
        (End::Trailers, "/v1/contacts/7", None),
        (End::OnlyLog, "/v1/contacts", Some("incomplete")),
    ] {
        Play { end, ..Play::default() }.check(Some(("contact.create", subject, thin)));
    }
}

#[test]
fn what_is_no_success_of_the_api_leaves_no_event() {
    for status in ["101", "202", "301", "304", "400", "404", "500", "", "x"] {
        Play { status, ..Play::default() }.check(None);
        Play { status, end: End::Headers, ..Play::default() }.check(None);
    }
    Play { foreign: true, ..Play::default() }.check(None);
    let timed = || vec![("content-type", "application/json"), ("x-envoy-upstream-service-time", "3")];
    Play { foreign: true, response: timed(), request: "POST /a/v1/subscriptions", ..Play::default() }
        .check(None);
    Play { response: vec![("content-type", "application/grpc+proto")], ..Play::default() }.check(None);
    Play { response: vec![("gatehook-ack", "accepted=1")], ..Play::default() }.check(None);
    Play { request: "GET /v1/contacts", ..Play::default() }.check(None);
    Play { request: "CONNECT /", ..Play::default() }.check(None);
    Play { config: r#"{"ignore": ["/v1/**"]}"#, ..Play::default() }.check(None);
    Play { config: r#"{"automatic": false}"#, ..Play::default() }.check(None);
}

#[test]
fn the_host_is_asked_only_where_the_headers_leave_a_doubt() {
    let doubts = |path: &str, response: &[(&str, &str)]| {
        let config = Config::parse(b"").unwrap();
        let mut exchange = Exchange::default();
        exchange.on_request(&config, headers(&[(":method", "POST"), (":path", path)]), |_| false);
        let mut found = None;
        exchange.on_response(&config, &headers(response), true, |doubts| {
            found = Some((doubts.local, doubts.companion));
            false
        });
        found
    };
    let upstream = [(":status", "201"), ("x-envoy-upstream-service-time", "3")];
    assert_eq!(doubts("/contacts", &upstream), None);
    assert_eq!(doubts("/contacts", &upstream[..1]), Some((true, false)));
    assert_eq!(doubts("/hooks/v1/subscriptions", &upstream), Some((false, true)));
    assert_eq!(doubts("/contacts", &[(":status", "404")]), None);
}

#[test]
fn a_stream_that_was_never_asked_leaves_nothing() {
    assert!(Exchange::default().on_log().is_none());
    let config = Config::parse(b"").unwrap();
    let answered = Exchange::default().on_response(&config, &headers(&[(":status", "201")]), true, |_| false);
    assert!(answered.is_none());
}

#[test]
fn a_body_that_is_no_representation_gives_a_thin_event() {
    let thin = |play: Play, reason| play.check(Some(("contact.create", "/v1/contacts", Some(reason))));
    let coded = vec![("content-type", "application/json"), ("content-encoding", "gzip")];
    thin(Play { answers: "", ..Play::default() }, "empty");
    thin(Play { answers: " \n", ..Play::default() }, "empty");
    thin(Play { answers: "{", ..Play::default() }, "not_json");
    thin(Play { answers: "7", response: Vec::new(), ..Play::default() }, "not_json");
    thin(Play { response: vec![("content-type", "text/html")], ..Play::default() }, "not_json");
    thin(Play { response: coded, ..Play::default() }, "encoded");
    thin(Play { config: r#"{"max_body_bytes": 8}"#, ..Play::default() }, "too_large");
}

#[test]
fn an_envelope_is_opened_and_its_absence_said() {
    let config = r#"{"resources": [{"path": "/v1/contacts/{id}", "noun": "person", "unwrap": "/data"}]}"#;
    let answers = r#"{"data": { "id":"a b" }}"#;
    let play = Play { config, answers, ..Play::default() };
    play.check(Some(("person.create", "/v1/contacts/a%20b", None)));
    assert_eq!(play.events()[0]["data"], serde_json::json!({"id": "a b"}));
    Play { config, ..Play::default() }.check(Some(("person.create", "/v1/contacts", Some("pointer"))));
}

#[test]
fn the_subject_is_the_location_of_a_201_on_the_same_authority() {
    for (status, location, subject) in [
        ("201", "/elsewhere/9?x", "/elsewhere/9"),
        ("201", "https://api.example/elsewhere/9", "/elsewhere/9"),
        ("201", "https://other.example/elsewhere/9", "/v1/contacts/7"),
        ("200", "/elsewhere/9", "/v1/contacts/7"),
    ] {
        let response = vec![("location", location), ("content-type", "application/json")];
        Play { status, response, ..Play::default() }.check(Some(("contact.create", subject, None)));
    }
    let update = Play { request: "PUT /v1/contacts/9?x=1", status: "200", ..Play::default() };
    update.check(Some(("contact.update", "/v1/contacts/9", None)));
}

#[test]
fn what_the_companion_would_refuse_for_its_length_is_told_otherwise_or_not_at_all() {
    let long: &'static str = "x".repeat(MAX_PATH).leak();
    let answers = format!(r#"{{"id": "{long}"}}"#).leak();
    let created = Some(("contact.create", "/v1/contacts", None));
    Play { answers, ..Play::default() }.check(created);
    let location = format!("/{long}").leak();
    let response = vec![("location", &*location), ("content-type", "application/json")];
    Play { response, answers: "{}", ..Play::default() }.check(created);
    let explicit =
        r#"{"resources": [{"path": "/v1/contacts/{id}", "noun": "contact", "subject": "/a/{id}"}]}"#;
    Play { config: explicit, answers, ..Play::default() }.check(created);
    let request = format!("PUT /v1/contacts/7/{long}/8").leak();
    Play { request, status: "200", ..Play::default() }.check(None);
    let nested = format!("PUT {}", "/wonderful-collections/7".repeat(20)).leak();
    Play { config: r#"{"nested": true}"#, request: nested, status: "200", ..Play::default() }.check(None);
}

#[test]
fn a_200_creates_only_with_an_id_that_the_request_did_not_bear() {
    let created = Some(("contact.create", "/v1/contacts/7", None));
    let ok = || Play { status: "200", ..Play::default() };
    ok().check(created);
    Play { sends: r#"{"id": 8}"#, ..ok() }.check(created);
    Play { sends: r#"{"id": 7}"#, ..ok() }.check(None);
    Play { sends: r#"{"id": "7"}"#, ..ok() }.check(None);
    Play { sends: "name=n&id=7", ..ok() }.check(None);
    Play { request: "POST /v1/contacts?id=7", ..ok() }.check(None);
    Play { answers: r#"{"ok": true}"#, ..ok() }.check(None);
    Play { end: End::OnlyLog, ..ok() }.check(None);
}

const BULK: &str = r#"{"resources": [{"path": "/v1/contacts/bulk", "noun": "contact", "explode": "/items",
    "subject": "/v1/contacts/{id}"}]}"#;

#[test]
fn an_answer_in_bulk_makes_an_event_of_each_element() {
    let answers = r#"{"items": [{"id": 1}, {"id": 2}, 3]}"#;
    let play = Play { config: BULK, request: "POST /v1/contacts/bulk", answers, ..Play::default() };
    let events = play.events();
    let subjects: Vec<_> = events.iter().map(|event| event["subject"].as_str().unwrap()).collect();
    assert_eq!(subjects, ["/v1/contacts/1", "/v1/contacts/2", "/v1/contacts/bulk"]);
    assert_eq!(events[1]["data"], serde_json::json!({"id": 2}));
    assert_eq!(events[1]["sequence"], "000000000002");
    let none = Play { answers: r#"{"items": []}"#, ..play };
    assert!(none.events().is_empty());
    for (answers, reason) in [("{}", "pointer"), (r#"{"items": 7}"#, "pointer"), ("", "empty")] {
        let play = Play { config: BULK, request: "POST /v1/contacts/bulk", answers, ..Play::default() };
        play.check(Some(("contact.create", "/v1/contacts/bulk", Some(reason))));
    }
    let deleted = Play {
        config: r#"{"resources": [{"path": "/a/{id}", "noun": "a", "explode": "", "verbs": {"DELETE": "delete"}}]}"#,
        request: "DELETE /a",
        status: "200",
        answers: r#"[{"id": 7}]"#,
        ..Play::default()
    };
    deleted.check(Some(("a.delete", "/a/7", None)));
}

#[test]
fn json_api_and_hal_say_which_resource_it_is() {
    let api = Play {
        status: "200",
        response: vec![("content-type", "application/vnd.api+json")],
        answers: r#"{"data":{"type":"contacts","id":"9","attributes":{}}}"#,
        ..Play::default()
    };
    api.check(Some(("contact.create", "/v1/contacts/9", None)));
    let hal = Play {
        response: vec![("content-type", "application/hal+json")],
        answers: r#"{"_links":{"self":{"href":"/v1/people/9"}},"name":"Ada"}"#,
        ..Play::default()
    };
    hal.check(Some(("contact.create", "/v1/people/9", None)));
}

#[test]
fn an_action_is_the_events_of_the_item_above_it() {
    let play = |request| Play { request, status: "200", ..Play::default() };
    play("POST /orders/7/cancel").check(Some(("order.cancel", "/orders/7", None)));
    play("POST /orders/7:cancel").check(Some(("order.cancel", "/orders/7", None)));
}

#[test]
fn what_the_configuration_holds_back_is_nowhere_in_the_event() {
    let answers = r#"{"id": 7, "ssn": "078-05-1120", "card": {"number": 4, "brand": "v"}}"#;
    let config = r#"{"redact": ["/ssn", "/card/number"], "previous": "fetch"}"#;
    let previous = Some(r#"{"id": 7, "ssn": "219-09-9999", "card": {"brand": "w"}}"#);
    let request = "PUT /v1/contacts/7";
    let play = Play { config, request, status: "200", answers, previous, ..Play::default() };
    let event = &play.events()[0];
    assert!(!event.to_string().contains("078-05") && !event.to_string().contains("219-09"), "{event}");
    assert_eq!(event["previous"], serde_json::json!({"id": 7, "card": {"brand": "w"}}));
    assert_eq!(event["changed"], serde_json::json!(["/card/brand"]));
    let none = Play { config: r#"{"data": "none"}"#, ..Play::default() };
    none.check(Some(("contact.create", "/v1/contacts/7", Some("withheld"))));
    let coded = vec![("content-type", "application/json"), ("content-encoding", "gzip")];
    let coded = Play { config, response: coded, ..Play::default() };
    coded.check(Some(("contact.create", "/v1/contacts", Some("encoded"))));
}

#[test]
fn a_delete_bears_what_stood_before_if_that_is_known() {
    let config = r#"{"previous": "fetch", "unwrap": "/data"}"#;
    let previous = Some(r#"{"data": {"id": 7, "name": "Ada"}}"#);
    let request = "DELETE /v1/contacts/7";
    let end = End::Headers;
    let play = Play { config, request, status: "204", end, previous, ..Play::default() };
    let event = &play.events()[0];
    assert_eq!(event["data"], serde_json::json!({"id": 7, "name": "Ada"}));
    assert!(event.get("previous").is_none() && event.get("changed").is_none());
    let unknown = Play { previous: None, ..play };
    assert_eq!(unknown.events()[0]["data"], serde_json::json!({"id": "7"}));
}

#[test]
fn a_missing_tenant_holds_back_as_much_as_configured() {
    let asks = || vec![("x-tenant", "acme"), ("x-user", "ada")];
    let config = r#"{"tenant": {"header": "x-tenant"}, "actor": {"header": "x-user"}}"#;
    let play = Play { config, asks: asks(), ..Play::default() };
    assert_eq!((&play.events()[0]["tenant"], &play.events()[0]["actor"]), (&"acme".into(), &"ada".into()));
    let missing = Play { config, ..Play::default() };
    missing.check(Some(("contact.create", "/v1/contacts/7", None)));
    assert!(missing.events()[0].get("tenant").is_none());
    let config = r#"{"tenant": {"header": "x-tenant"}, "missing_tenant": "thin"}"#;
    let thin = Play { config, ..Play::default() };
    thin.check(Some(("contact.create", "/v1/contacts/7", Some("no_tenant"))));
    let config = r#"{"tenant": {"field": "/org"}, "missing_tenant": "refuse"}"#;
    Play { config, ..Play::default() }.check(None);
    let play = Play { config, answers: r#"{"id": 7, "org": 3}"#, ..Play::default() };
    assert_eq!(play.events()[0]["tenant"], "3");
}

#[test]
fn a_second_gatehook_stays_silent_behind_the_first() {
    let config = Config::parse(br#"{"via": true, "companion": {"token": "t"}}"#).unwrap();
    let ask = |mark: Option<&str>, own: bool| {
        let first = [(":method", "PUT"), (":path", "/a/7")];
        let request = first.into_iter().chain(mark.map(|mark| ("gatehook-via", mark))).collect();
        Exchange::default().on_request(&config, request, |_| own) != OnRequest::Leave
    };
    let mark = format!("{}-1", config.via.clone().unwrap());
    assert!(ask(None, false) && !ask(Some(&mark), false));
    assert!(ask(Some(&mark), true), "a redirect within Envoy is no second Gatehook");
    assert!(ask(Some("forged"), false) && ask(Some(""), false));
}

#[test]
fn a_delete_bears_the_path_parameters_and_waits_for_no_body() {
    for (status, end) in [("204", End::Headers), ("200", End::EmptyData), ("200", End::OnlyLog)] {
        let play = Play { request: "DELETE /users/42/orders/7", status, end, ..Play::default() };
        play.check(Some(("order.delete", "/users/42/orders/7", None)));
        assert_eq!(play.events()[0]["data"], serde_json::json!({"user_id": "42", "id": "7"}));
    }
}

#[test]
fn identity_is_asked_for_only_where_an_event_may_come_of_it() {
    let ask = |config: &str, path: &str, encoding: Option<&str>| {
        let config = Config::parse(config.as_bytes()).unwrap();
        let first = [(":method", "PUT"), (":path", path)];
        let request = first.into_iter().chain(encoding.map(|value| ("accept-encoding", value))).collect();
        let seen = Exchange::default().on_request(&config, request, |_| false);
        matches!(seen, OnRequest::Watch { identity: true, .. })
    };
    assert!(ask("{}", "/a/7", Some("gzip, br")));
    assert!(!ask("{}", "/a/7", Some("identity")));
    assert!(!ask("{}", "/a/7", None));
    assert!(!ask("{}", "/a", Some("gzip")));
    assert!(!ask(r#"{"identity_encoding": false}"#, "/a/7", Some("gzip")));
}

#[test]
fn header_values_that_cannot_stand_in_an_event_are_left_out() {
    let response: Headers = [(":status", &b"201"[..]), ("etag", b"\"\xff\"")].into_iter().collect();
    let config = Config::parse(b"").unwrap();
    let mut exchange = Exchange::default();
    let fields =
        [(":method", &b"POST"[..]), (":path", b"/a"), ("x-request-id", b"r-1"), ("traceparent", b"\xfe")];
    exchange.on_request(&config, fields.into_iter().collect(), |_| false);
    let observation = exchange.on_response(&config, &response, true, |_| false).unwrap();
    assert_eq!((observation.head.etag.as_deref(), observation.asked.traceparent()), (None, None));
    assert_eq!(observation.asked.request_id(), Some("r-1"));
}
