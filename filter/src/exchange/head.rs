//! What the headers of a request and of its response say, as far as it matters.
//!
//! Read once, when they come: later Envoy shows them no more. Values are bytes until they are known to be text.

use crate::config::Config;
use crate::rules::Method;

/// Header names (lower case, as HTTP/2 has them) and values as the host gives them.
pub type Headers = Vec<(String, Vec<u8>)>;

/// The request header by which one Gatehook tells the next that it watches.
pub const VIA: &str = "gatehook-via";

/// What the response's headers say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResponseHead {
    /// The status code.
    pub status: u16,
    /// The entity tag, if it can stand in an event.
    pub etag: Option<String>,
    /// The `Location`.
    pub location: Option<String>,
    /// What the answer's content type promises.
    pub media: Media,
    /// How long the body is, if the headers say so.
    pub length: Option<usize>,
    pub(super) encoded: bool,
    pub(super) never: bool,
    pub(super) timed: bool,
}

/// What `content-type` promises.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Media {
    /// A JSON media type: any JSON value is a representation.
    Json,
    /// JSON:API, whose resources stand in `data`.
    JsonApi,
    /// HAL, whose resources say where they are in `_links`.
    Hal,
    /// None, or plain text: an object or an array is a representation.
    Unsaid,
    /// Something that is no JSON.
    Other,
}

/// The request's headers, as far as they matter.
pub(super) struct Request {
    pub(super) method: Method,
    pub(super) path: Vec<u8>,
    pub(super) authority: Vec<u8>,
    pub(super) accept_encoding: Option<Vec<u8>>,
    pub(super) request_id: Option<String>,
    pub(super) traceparent: Option<String>,
    pub(super) via: Option<Vec<u8>>,
    pub(super) kept: Headers,
}

impl Request {
    /// `None` for a request that no rule can make an event of: no write, or gRPC.
    pub(super) fn read(config: &Config, headers: Headers) -> Option<Self> {
        let (mut method, mut path, mut authority) = (None, None, Vec::new());
        let (mut accept_encoding, mut request_id, mut traceparent, mut via) = (None, None, None, None);
        let mut kept = Headers::new();
        for (name, value) in headers {
            if config.kept_headers.contains(&name) {
                kept.push((name.clone(), value.clone()));
            }
            match name.as_str() {
                ":method" => method = Some(Method::parse(&value)?),
                ":path" => path = Some(value),
                ":authority" => authority = value,
                "content-type" if is_grpc(&value) => return None,
                "accept-encoding" => accept_encoding = Some(value),
                "x-request-id" => request_id = attribute(value),
                "traceparent" => traceparent = attribute(value),
                VIA => via = Some(value),
                _ => {}
            }
        }
        let (method, path) = (method?, path?);
        Some(Self { method, path, authority, accept_encoding, request_id, traceparent, via, kept })
    }
}

impl ResponseHead {
    pub(super) fn read(headers: Headers) -> Option<Self> {
        let mut status = None;
        let mut head = Self {
            status: 0,
            etag: None,
            location: None,
            media: Media::Unsaid,
            length: None,
            encoded: false,
            never: false,
            timed: false,
        };
        for (name, value) in headers {
            match name.as_str() {
                ":status" => status = std::str::from_utf8(&value).ok()?.parse().ok(),
                "content-type" => {
                    head.never |= is_grpc(&value);
                    head.media = Media::of(&value);
                }
                "content-encoding" => {
                    head.encoded = !value.is_empty() && !value.eq_ignore_ascii_case(b"identity")
                }
                "content-length" => head.length = std::str::from_utf8(&value).ok()?.parse().ok(),
                // Envoy's router sets this on what came from an upstream, and on nothing else.
                "x-envoy-upstream-service-time" => head.timed = true,
                "etag" => head.etag = attribute(value),
                "location" => head.location = String::from_utf8(value).ok(),
                // The companion's own answer to a hand-over that someone routed through this very filter.
                "gatehook-ack" => head.never = true,
                _ => {}
            }
        }
        status.map(|status| Self { status, ..head })
    }
}

impl Media {
    /// The media type of a `content-type` header (RFC 9110, 8.3); parameters say nothing here.
    pub fn of(content_type: &[u8]) -> Self {
        let essence = content_type.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
        let essence = essence.to_ascii_lowercase();
        match essence.as_slice() {
            b"application/json" | b"text/json" => Self::Json,
            b"application/vnd.api+json" => Self::JsonApi,
            b"application/hal+json" => Self::Hal,
            essence if essence.ends_with(b"+json") => Self::Json,
            b"" | b"text/plain" => Self::Unsaid,
            _ => Self::Other,
        }
    }
}

fn is_grpc(content_type: &[u8]) -> bool {
    content_type.get(..16).is_some_and(|start| start.eq_ignore_ascii_case(b"application/grpc"))
}

/// A header value as an event attribute: visible ASCII and spaces, at most 256 bytes; anything else is left out.
fn attribute(value: Vec<u8>) -> Option<String> {
    let fits =
        !value.is_empty() && value.len() <= 256 && value.iter().all(|byte| matches!(byte, b' '..=b'~'));
    String::from_utf8(value).ok().filter(|_| fits)
}
