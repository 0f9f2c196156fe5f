//! One exchange played through the filter's own code, outside of Envoy.
//!
//! This is the only module of the companion that knows how the filter is driven: which callbacks an exchange gets, and
//! what comes out at its end. Nothing of the rules is repeated here.

use std::time::Duration;

use gatehook_filter::conclusion::{self, Conclude, Conclusion};
use gatehook_filter::config::Config;
use gatehook_filter::event::Thin;
use gatehook_filter::exchange::{Exchange, Observation, OnRequest};
use gatehook_filter::explain::{self, Silence};
use gatehook_filter::headers::Headers;
use gatehook_filter::ids::Ids;
use gatehook_filter::rules::Source;

/// A request and the upstream's answer to it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Call<'a> {
    /// The method, as it is on the wire.
    pub(crate) method: &'a str,
    /// The request's target: a path, perhaps with a query.
    pub(crate) target: &'a str,
    /// The request's `:authority`.
    pub(crate) authority: &'a str,
    /// The request's headers, names in lower case.
    pub(crate) request_headers: &'a [(String, String)],
    /// The request's body; empty if there is none.
    pub(crate) request_body: &'a [u8],
    /// The answer's status.
    pub(crate) status: u16,
    /// The answer's headers, names in lower case.
    pub(crate) headers: &'a [(String, String)],
    /// The answer's body; empty if there is none.
    pub(crate) body: &'a [u8],
}

/// What the filter makes of a call.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// An event.
    Event {
        /// Its type.
        event_type: String,
        /// The rule that made it.
        rule: Option<Source>,
        /// The event as it would be handed over, a JSON object; `None` if its representation has to be read first.
        json: Option<Vec<u8>>,
        /// The resource's path.
        subject: String,
        /// Why it bears no data, if it does not.
        thin: Option<&'static str>,
        /// The path that would be read by GET for the representation.
        reads: Option<String>,
        /// How many events come of the same answer besides this one.
        further: usize,
    },
    /// An event that is not sent because its tenant is missing.
    Untold(Option<Source>),
    /// No event, for this reason; where a header of the answer is the reason, its name stands first.
    Silence(Option<String>, Silence),
}

/// Plays the call through; `now` is the event's time since the Unix epoch.
pub(crate) fn rehearse(config: &Config, call: &Call<'_>, now: Duration) -> Outcome {
    let conclusion = observe(config, call).and_then(|observation| {
        let rule = observation.asked.candidate.as_ref().map(|candidate| candidate.source);
        let mut with = Conclude {
            config,
            now,
            ids: &mut Ids::new([&b"rehearsal"[..]]),
            property: &|path| (path == ["xds", "cluster_name"]).then(|| b"upstream".to_vec()),
            waits: &|_| false,
        };
        match observation.conclude(&mut with) {
            Conclusion::Events(outcomes) => first(outcomes, rule),
            Conclusion::Unmatched { .. } => None,
        }
    });
    conclusion.unwrap_or_else(|| {
        let silence = explain::why_not(&config.rules, call.method.as_bytes(), call.target, call.status);
        Outcome::Silence(silencing_header(config, call), silence)
    })
}

/// The first of the events that come of an answer; `None` for an answer in bulk that holds nothing.
fn first(outcomes: Vec<conclusion::Outcome>, rule: Option<Source>) -> Option<Outcome> {
    let further = outcomes.len().saturating_sub(1);
    Some(match outcomes.into_iter().next()? {
        conclusion::Outcome::Ready(ready) => {
            let event: Subject = serde_json::from_slice(ready.event.json()).ok()?;
            Outcome::Event {
                event_type: ready.event_type,
                rule,
                json: Some(ready.event.json().to_vec()),
                subject: event.subject,
                thin: ready.thin.map(Thin::name),
                reads: None,
                further,
            }
        }
        conclusion::Outcome::Fetch(draft, target) => Outcome::Event {
            event_type: draft.event_type,
            rule,
            json: None,
            subject: draft.subject.into_owned(),
            thin: None,
            reads: Some(target.path),
            further,
        },
        conclusion::Outcome::Untold => Outcome::Untold(rule),
        // Nothing waits here, so nothing stays behind anything.
        conclusion::Outcome::Behind(..) => return None,
    })
}

/// The one attribute of an event that is shown apart.
#[derive(serde::Deserialize)]
struct Subject {
    subject: String,
}

/// The header of the answer without which there would be something to conclude from.
fn silencing_header(config: &Config, call: &Call<'_>) -> Option<String> {
    observe(config, &Call { headers: &[], ..*call })?;
    let alone = |header: &&(String, String)| {
        observe(config, &Call { headers: std::slice::from_ref(header), ..*call }).is_none()
    };
    call.headers.iter().find(alone).map(|(name, _)| name.clone())
}

/// The callbacks of one stream, in Envoy's order.
fn observe(config: &Config, call: &Call<'_>) -> Option<Box<Observation>> {
    let with = |first: &[(&str, &str)], more: &[(String, String)]| -> Headers {
        let more = more.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        first.iter().copied().chain(more).collect()
    };
    let first = [(":method", call.method), (":path", call.target), (":authority", call.authority)];
    let request = with(&first, call.request_headers);
    let mut exchange = Exchange::default();
    if exchange.on_request(config, request, |_| false) == OnRequest::Leave {
        return None;
    }
    if exchange.wants_request(call.request_body.len()) {
        exchange.on_request_body(Some(call.request_body.to_vec()));
    }
    let response = with(&[(":status", &call.status.to_string())], call.headers);
    // The caller says what the API itself answered, so there is no doubt about where it came from.
    if let Some(observation) = exchange.on_response(config, &response, call.body.is_empty(), |_| false) {
        return Some(observation);
    }
    if exchange.wants_response(config, call.body.len()) {
        exchange.on_response_body(Some(call.body.to_vec()));
    }
    exchange.on_end()
}

#[cfg(test)]
mod tests {
    use super::*;

    const CALL: Call<'_> = Call {
        method: "POST",
        target: "/v1/orders",
        authority: "api.example",
        request_headers: &[],
        request_body: b"",
        status: 201,
        headers: &[],
        body: b"",
    };

    fn event(call: &Call<'_>) -> Option<(String, Option<&'static str>)> {
        match rehearse(&Config::parse(b"").unwrap(), call, Duration::from_secs(1)) {
            Outcome::Event { event_type, thin, .. } => Some((event_type, thin)),
            Outcome::Silence(..) | Outcome::Untold(_) => None,
        }
    }

    #[test]
    fn an_answer_with_and_without_a_body_is_played_to_its_end() {
        assert_eq!(event(&CALL), Some(("order.create".to_owned(), Some("empty"))));
        assert_eq!(event(&Call { body: b"{\"id\": 7}", ..CALL }), Some(("order.create".to_owned(), None)));
        let taken = Call { status: 200, body: b"{\"id\": 7}", ..CALL };
        assert_eq!(event(&taken), Some(("order.create".to_owned(), None)));
        assert_eq!(event(&Call { request_body: b"{\"id\": 7}", ..taken }), None);
    }

    #[test]
    fn a_header_that_silences_is_named() {
        let headers =
            [("etag".to_owned(), "1".to_owned()), ("content-type".to_owned(), "application/grpc".to_owned())];
        let config = Config::parse(b"").unwrap();
        let silence = |call: &Call<'_>| match rehearse(&config, call, Duration::ZERO) {
            Outcome::Silence(header, _) => header,
            other => panic!("{other:?}"),
        };
        assert_eq!(silence(&Call { headers: &headers, ..CALL }).as_deref(), Some("content-type"));
        assert_eq!(silence(&Call { status: 404, headers: &headers, ..CALL }), None);
    }
}
