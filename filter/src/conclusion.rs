//! From an observed exchange to its event.
//!
//! This is where rules, representation and event meet: the type is decided, the representation validated and taken out of
//! its envelope, the subject found. Time and id come from outside. What fits no rule comes back as its path's shape.

use std::time::Duration;

use crate::config::Config;
use crate::event::{Attributes, Event, Thin};
use crate::exchange::{Asked, Body, Observation};
use crate::ids::Ids;
use crate::json::{Json, push_string};
use crate::path;
use crate::rules::{self, Match, Method, Source};
use crate::timestamp::timestamp;

/// What came of a committed write.
#[derive(Debug)]
pub enum Conclusion {
    /// An event for the outbox.
    Event {
        /// The event.
        event: Event,
        /// Its type, for the metrics.
        event_type: String,
        /// Why it bears no data, if it does not.
        thin: Option<Thin>,
    },
    /// No rule fits.
    Unmatched {
        /// Method and path with every id replaced by `{id}`.
        shape: String,
    },
}

impl Observation {
    /// Makes the event of this observation, at this time since the Unix epoch.
    pub fn conclude(self, config: &Config, now: Duration, ids: &mut Ids) -> Conclusion {
        let Self { asked, head, .. } = &self;
        let data = self.representation(config);
        let id = data.ok().and_then(Json::id);
        let decided = asked.candidate.as_ref().and_then(|candidate| {
            let new_id = || id.as_deref().is_some_and(|id| !bears_id(asked, id));
            candidate.decide(&config.rules, head.status, new_id)
        });
        let Some(found) = decided else {
            let shape = rules::shape(path::without_query(&asked.target));
            return Conclusion::Unmatched { shape: format!("{} {shape}", asked.method.name()) };
        };
        let parameters = parameters_as_json(asked);
        let data = match asked.method {
            Method::Delete => Json::parse(&parameters).ok_or(Thin::Empty),
            _ => data,
        };
        let event = Event::new(
            &Attributes {
                id: &ids.next(now),
                source: &config.source,
                event_type: &found.event_type,
                subject: &self.subject(&found, id.as_deref()),
                time: &timestamp(now),
                request_id: asked.request_id.as_deref(),
                traceparent: asked.traceparent.as_deref(),
                etag: head.etag.as_deref(),
            },
            data,
        );
        Conclusion::Event { event, event_type: found.event_type, thin: data.err() }
    }

    fn representation(&self, config: &Config) -> Result<Json<'_>, Thin> {
        let bytes = match &self.body {
            Body::Kept(bytes) => bytes,
            Body::Lost(reason) => return Err(*reason),
        };
        if bytes.trim_ascii().is_empty() {
            return Err(Thin::Empty);
        }
        let json = Json::parse(bytes)
            .filter(|json| self.says_json() || json.is_structured())
            .ok_or(Thin::NotJson)?;
        let pointer = match self.asked.candidate.as_ref().map(|candidate| candidate.source) {
            Some(Source::Resource(index)) => {
                config.rules.resources.get(index).map(|resource| &resource.unwrap)
            }
            _ => None,
        };
        pointer.map_or(Some(json), |pointer| json.at(pointer)).ok_or(Thin::Pointer)
    }

    /// The resource's path: where a 201 says it is, else below the collection by its id, else where the request went.
    fn subject(&self, found: &Match, id: Option<&str>) -> String {
        let path = path::without_query(&self.asked.target);
        let location = self.head.location.as_deref().filter(|_| self.head.status == 201);
        let located = location.and_then(|location| path::location_path(location, &self.asked.authority));
        match (located, id) {
            (Some(located), _) => located,
            (None, Some(id)) if found.below => {
                format!("{}/{}", path.trim_end_matches('/'), path::encode_segment(id))
            }
            _ => path.to_owned(),
        }
    }
}

/// Whether the request itself named this id: in its query, in a form, or as the id of the JSON it sent.
fn bears_id(asked: &Asked, id: &str) -> bool {
    let named = |pairs: &str| {
        let mut pairs = pairs.split('&').filter_map(|pair| pair.split_once('='));
        pairs.any(|(name, value)| name == "id" && path::decode_segment(value) == id)
    };
    let query = asked.target.split_once('?').is_some_and(|(_, query)| named(query));
    let parameter = asked
        .candidate
        .as_ref()
        .is_some_and(|candidate| candidate.parameters.iter().any(|(_, value)| value == id));
    let body = match &asked.body {
        Body::Kept(bytes) => match Json::parse(bytes) {
            Some(json) => json.id().as_deref() == Some(id),
            None => std::str::from_utf8(bytes).is_ok_and(named),
        },
        // A body too large to be looked at may name any id, so nothing is claimed about it.
        Body::Lost(reason) => *reason != Thin::Empty,
    };
    query || parameter || body
}

/// `{"user_id":"42","id":"7"}`: what is known of a resource that is gone.
fn parameters_as_json(asked: &Asked) -> Vec<u8> {
    let mut json = vec![b'{'];
    for (name, value) in asked.candidate.iter().flat_map(|candidate| &candidate.parameters) {
        if json.len() > 1 {
            json.push(b',');
        }
        push_string(&mut json, name);
        json.push(b':');
        push_string(&mut json, value);
    }
    json.push(b'}');
    json
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exchange::{Exchange, Headers, OnRequest};

    fn headers(pairs: &[(&str, &str)]) -> Headers {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), value.as_bytes().to_vec())).collect()
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
            let request = headers(&[(":method", method), (":path", path), (":authority", "api.example")]);
            if exchange.on_request(&config, request) == OnRequest::Leave {
                return Vec::new();
            }
            if exchange.wants_request(self.sends.len()) {
                exchange.on_request_body(Some(self.sends.as_bytes().to_vec()));
            }
            let mut pairs = vec![(":status", self.status)];
            pairs.extend(&self.response);
            let mut found = Vec::new();
            found.extend(exchange.on_response(headers(&pairs), self.end == End::Headers, |_| self.foreign));
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
            let concluded =
                found.into_iter().map(|one| one.conclude(&config, Duration::from_secs(1), &mut ids));
            concluded
                .filter_map(|conclusion| match conclusion {
                    Conclusion::Event { event, .. } => Some(serde_json::from_slice(event.json()).unwrap()),
                    Conclusion::Unmatched { .. } => None,
                })
                .collect()
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
            exchange.on_request(&config, headers(&[(":method", "POST"), (":path", path)]));
            let mut found = None;
            exchange.on_response(headers(response), true, |doubts| {
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
        assert!(Exchange::default().on_response(headers(&[(":status", "201")]), true, |_| false).is_none());
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
            let mut request = headers(&[(":method", "PUT"), (":path", path)]);
            request.extend(encoding.map(|value| ("accept-encoding".to_owned(), value.as_bytes().to_vec())));
            Exchange::default().on_request(&config, request) == OnRequest::Watch { identity: true }
        };
        assert!(ask("{}", "/a/7", Some("gzip, br")));
        assert!(!ask("{}", "/a/7", Some("identity")));
        assert!(!ask("{}", "/a/7", None));
        assert!(!ask("{}", "/a", Some("gzip")));
        assert!(!ask(r#"{"identity_encoding": false}"#, "/a/7", Some("gzip")));
    }

    #[test]
    fn header_values_that_cannot_stand_in_an_event_are_left_out() {
        let mut response = headers(&[(":status", "201"), ("content-type", "application/json")]);
        response.push(("etag".to_owned(), b"\"\xff\"".to_vec()));
        let config = Config::parse(b"").unwrap();
        let mut exchange = Exchange::default();
        let mut request = headers(&[(":method", "POST"), (":path", "/a"), ("x-request-id", "r-1")]);
        request.push(("traceparent".to_owned(), vec![0xfe]));
        exchange.on_request(&config, request);
        let observation = exchange.on_response(response, true, |_| false).unwrap();
        assert_eq!((observation.head.etag, observation.asked.traceparent), (None, None));
        assert_eq!(observation.asked.request_id.as_deref(), Some("r-1"));
    }
}
