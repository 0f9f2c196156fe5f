//! The state machine of one exchange: callbacks in, decisions out.
//!
//! An answer ends in one of five ways: with its headers, with a last piece of data, with an empty last piece, with
//! trailers, or only with the log callback (the caller left, or the upstream broke off). Whichever comes first yields the
//! [`Observation`], and the machine is finished: one exchange, at most one event. What to copy across the boundary to the
//! host is asked for here and done by the adapter; nothing here knows a host.

mod head;

use std::borrow::Cow;

use crate::config::Config;
use crate::event::Thin;
use crate::headers::Headers;
use crate::path;
use crate::rules::{Candidate, Method, Verdict};

pub use head::{Media, ResponseHead, VIA};
use head::{Request, attribute};

/// A request's own body is looked at only for an id, so a little of it is enough.
const MAX_REQUEST_BODY: usize = 64 * 1024;

/// One request and its response, as the filter sees it.
#[derive(Debug, Default)]
pub struct Exchange {
    state: State,
}

#[derive(Debug, Default)]
enum State {
    /// No request headers yet; it stays so where another filter answered before us.
    #[default]
    Unseen,
    Asked(Box<Asked>),
    Answered(Box<Observation>),
    Finished,
}

/// What is kept of the request.
#[derive(Debug)]
pub struct Asked {
    /// The request's method.
    pub method: Method,
    /// The request's target, printable, with its query.
    pub target: String,
    /// The request's headers.
    pub headers: Headers,
    /// `None` where no rule fits.
    pub candidate: Option<Candidate>,
    /// The API's answer to a GET before the write, if there was to be one and it came in time.
    pub previous: Option<Vec<u8>>,
    /// The request's body, as far as an id is looked for in it.
    pub body: Body,
}

/// A body as far as it was kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Body {
    /// The bytes so far, or all of them once the exchange has ended.
    Kept(Vec<u8>),
    /// Not kept, for this reason.
    Lost(Thin),
}

/// What the headers leave open about where an answer came from, each a call to the host to find out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Doubts {
    /// Envoy may have made the answer itself.
    pub local: bool,
    /// The companion may have made it.
    pub companion: bool,
}

/// Every path of the companion that takes writes has one of these segments, wherever it is mounted.
const COMPANION_SEGMENTS: [&str; 5] = ["subscriptions", "deliveries", "events", "webhooks", "unmatched"];

/// How the request goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnRequest {
    /// Nothing more will be asked for.
    Leave,
    /// The exchange is watched.
    Watch {
        /// Whether to ask for `accept-encoding: identity` on its way upstream.
        identity: bool,
        /// Whether to mark the request, so that a second Gatehook behind this one stays silent.
        mark: bool,
        /// Whether the representation is to be read before the request goes on.
        previous: bool,
    },
}

/// An exchange that is a committed write, and once it has ended, all of it.
#[derive(Debug)]
pub struct Observation {
    /// The request.
    pub asked: Box<Asked>,
    /// The response's status and headers.
    pub head: ResponseHead,
    /// The response's body, as far as it is there.
    pub body: Body,
}

impl Exchange {
    /// Request headers came. `is_own` says whether a mark is one that this very Envoy has set, before a redirect of its own.
    pub fn on_request(
        &mut self,
        config: &Config,
        headers: Headers,
        is_own: impl FnOnce(&[u8]) -> bool,
    ) -> OnRequest {
        let Some(request) = Request::read(&headers) else { return self.leave() };
        let target = path::printable(request.path);
        let candidate = match config.rules.consider(request.method, path::without_query(&target)) {
            Verdict::Ignored => return self.leave(),
            Verdict::Unmatched => None,
            Verdict::Watch(candidate) => Some(candidate),
        };
        let marked = |via: &str| request.via.is_some_and(|value| value.starts_with(via.as_bytes()));
        if config.via.as_deref().is_some_and(marked) && !request.via.is_some_and(is_own) {
            return self.leave();
        }
        let shape = candidate.as_ref().map(|candidate| config.shape(candidate.source));
        let previous = shape.is_some_and(|shape| shape.previous)
            && candidate.as_ref().is_some_and(|candidate| candidate.on_item);
        let wants_body = candidate.as_ref().is_some_and(Candidate::may_ask_for_new_id);
        let method = request.method;
        let encodes = request.accept_encoding.is_some_and(|value| value != b"identity");
        let identity = config.identity_encoding && candidate.is_some() && encodes;
        let mark = config.via.is_some() && candidate.is_some();
        self.state = State::Asked(Box::new(Asked {
            method,
            target,
            headers,
            candidate,
            previous: None,
            body: if wants_body { Body::Kept(Vec::new()) } else { Body::Lost(Thin::Empty) },
        }));
        OnRequest::Watch { identity, mark, previous }
    }

    /// The representation as it stood before the write; nothing changes if the exchange is over already.
    pub fn on_previous(&mut self, body: Vec<u8>) {
        if let State::Asked(asked) = &mut self.state {
            asked.previous = Some(body);
        }
    }

    /// What was asked, as long as the response's headers are awaited.
    pub fn asked(&self) -> Option<&Asked> {
        match &self.state {
            State::Asked(asked) => Some(asked),
            _ => None,
        }
    }

    /// A piece of the request's body of this size is there; says whether it is to be copied.
    pub fn wants_request(&mut self, size: usize) -> bool {
        match &mut self.state {
            State::Asked(asked) => asked.body.wants(size, MAX_REQUEST_BODY),
            _ => false,
        }
    }

    /// The piece that [`wants_request`](Self::wants_request) asked for; `None` if the host would not give it.
    pub fn on_request_body(&mut self, piece: Option<Vec<u8>>) {
        if let State::Asked(asked) = &mut self.state {
            asked.body.push(piece);
        }
    }

    /// Response headers came, and with them perhaps the end.
    ///
    /// `is_foreign` says whether the answer is none of the API's own; it is asked only of answers that would count, and only
    /// if there is a doubt.
    pub fn on_response(
        &mut self,
        config: &Config,
        headers: &Headers,
        ends: bool,
        is_foreign: impl FnOnce(Doubts) -> bool,
    ) -> Option<Box<Observation>> {
        let State::Asked(asked) = std::mem::replace(&mut self.state, State::Finished) else { return None };
        let head = ResponseHead::read(headers).filter(|head| !head.never)?;
        let counts = match &asked.candidate {
            Some(candidate) => candidate.accepts(head.status),
            None => (200..300).contains(&head.status) && head.status != 202,
        };
        let doubts = Doubts { local: !head.timed, companion: asked.may_be_companions() };
        if !counts || ((doubts.local || doubts.companion) && is_foreign(doubts)) {
            return None;
        }
        // The data of a DELETE are the path's parameters, unless it answers in bulk, and what fits no rule has none:
        // neither waits for a body.
        let explodes = |candidate: &Candidate| config.shape(candidate.source).explode.is_some();
        let needs_body = asked
            .candidate
            .as_ref()
            .is_some_and(|candidate| asked.method != Method::Delete || explodes(candidate));
        let body = match &head {
            _ if ends || !needs_body => Body::Lost(Thin::Empty),
            ResponseHead { encoded: true, .. } => Body::Lost(Thin::Encoded),
            ResponseHead { media: Media::Other, .. } => Body::Lost(Thin::NotJson),
            _ => Body::Kept(Vec::new()),
        };
        let settled = ends || !needs_body;
        self.state = State::Answered(Box::new(Observation { asked, head, body }));
        if settled { self.finish() } else { None }
    }

    /// A piece of the response's body of this size is there; says whether it is to be copied.
    pub fn wants_response(&mut self, config: &Config, size: usize) -> bool {
        match &mut self.state {
            State::Answered(answered) => answered.body.wants(size, config.max_body_bytes),
            _ => false,
        }
    }

    /// The piece that [`wants_response`](Self::wants_response) asked for; `None` if the host would not give it.
    pub fn on_response_body(&mut self, piece: Option<Vec<u8>>) {
        if let State::Answered(answered) = &mut self.state {
            answered.body.push(piece);
        }
    }

    /// The memory for exchanges under way is used up: this one goes on without its body.
    pub fn give_up_body(&mut self) {
        match &mut self.state {
            State::Asked(asked) => asked.body = Body::Lost(Thin::TooLarge),
            State::Answered(answered) => answered.body = Body::Lost(Thin::TooLarge),
            State::Unseen | State::Finished => {}
        }
    }

    /// How many bytes of bodies this exchange holds.
    pub fn held_bytes(&self) -> usize {
        match &self.state {
            State::Asked(asked) => asked.held(),
            State::Answered(answered) => answered.body.held() + answered.asked.held(),
            State::Unseen | State::Finished => 0,
        }
    }

    /// Whether the response's headers are still awaited.
    pub fn awaits_response(&self) -> bool {
        matches!(self.state, State::Asked(_))
    }

    /// Whether the response's end is still awaited.
    pub fn awaits_end(&self) -> bool {
        matches!(self.state, State::Answered(_))
    }

    /// How long the awaited body is, if the response's headers say so.
    pub fn declared_length(&self) -> Option<usize> {
        match &self.state {
            State::Answered(answered) => answered.head.length,
            _ => None,
        }
    }

    /// Whether the representation may have to be read, so that the event cannot be there at once.
    pub fn may_fetch(&self, config: &Config) -> bool {
        matches!(&self.state, State::Answered(answered) if answered.asked.may_fetch(config))
    }

    /// The response ended as it should, with data or with trailers.
    pub fn on_end(&mut self) -> Option<Box<Observation>> {
        self.finish()
    }

    /// The exchange is over. If its response never ended, it broke off behind a success: the write is committed.
    pub fn on_log(&mut self) -> Option<Box<Observation>> {
        if let State::Answered(answered) = &mut self.state {
            answered.body = Body::Lost(Thin::Incomplete);
        }
        self.finish()
    }

    fn finish(&mut self) -> Option<Box<Observation>> {
        match std::mem::replace(&mut self.state, State::Finished) {
            State::Answered(mut answered) => {
                if matches!(&answered.body, Body::Kept(bytes) if bytes.is_empty()) {
                    answered.body = Body::Lost(Thin::Empty);
                }
                Some(answered)
            }
            State::Unseen | State::Asked(_) | State::Finished => None,
        }
    }

    fn leave(&mut self) -> OnRequest {
        self.state = State::Finished;
        OnRequest::Leave
    }
}

impl Body {
    /// Whether a piece of this size is to be copied; one too many loses the body.
    fn wants(&mut self, size: usize, limit: usize) -> bool {
        match self {
            Self::Kept(bytes) if size > limit.saturating_sub(bytes.len()) => {
                *self = Self::Lost(Thin::TooLarge);
                false
            }
            Self::Kept(_) => size > 0,
            Self::Lost(_) => false,
        }
    }

    fn push(&mut self, piece: Option<Vec<u8>>) {
        match (&mut *self, piece) {
            // Most bodies come in one piece, which then needs no copy.
            (Self::Kept(bytes), Some(piece)) if bytes.is_empty() => *bytes = piece,
            (Self::Kept(bytes), Some(piece)) => bytes.extend_from_slice(&piece),
            (Self::Kept(_), None) => *self = Self::Lost(Thin::Incomplete),
            (Self::Lost(_), _) => {}
        }
    }

    fn held(&self) -> usize {
        match self {
            Self::Kept(bytes) => bytes.len(),
            Self::Lost(_) => 0,
        }
    }
}

impl Asked {
    /// The request's `:authority`.
    pub fn authority(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(self.headers.get(":authority").unwrap_or_default())
    }

    /// `x-request-id`, if it can stand in an event.
    pub fn request_id(&self) -> Option<&str> {
        attribute(self.headers.get("x-request-id")?)
    }

    /// `traceparent`, if it can stand in an event.
    pub fn traceparent(&self) -> Option<&str> {
        attribute(self.headers.get("traceparent")?)
    }

    fn held(&self) -> usize {
        self.headers.size() + self.body.held() + self.previous.as_ref().map_or(0, Vec::len)
    }

    fn may_be_companions(&self) -> bool {
        let mut segments = path::without_query(&self.target).split('/');
        segments.any(|segment| COMPANION_SEGMENTS.contains(&segment))
    }
}

impl Observation {
    /// Whether a bare string or number would be a representation, because the API calls it JSON.
    pub fn says_json(&self) -> bool {
        matches!(self.head.media, Media::Json | Media::JsonApi | Media::Hal)
    }
}
