//! What the headers of a request and of its response say, as far as it matters.
//!
//! Read once, when they come: later Envoy shows them no more. Values are bytes until they are known to be text.

use crate::headers::Headers;
use crate::rules::Method;

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

/// The request's headers, as far as they decide whether the exchange is watched.
pub(super) struct Request<'a> {
    pub(super) method: Method,
    pub(super) path: &'a [u8],
    pub(super) accept_encoding: Option<&'a [u8]>,
    pub(super) via: Option<&'a [u8]>,
}

impl<'a> Request<'a> {
    /// `None` for a request that no rule can make an event of: no write, or gRPC.
    pub(super) fn read(headers: &'a Headers) -> Option<Self> {
        let (mut method, mut path, mut accept_encoding, mut via) = (None, None, None, None);
        for (name, value) in headers.iter() {
            match name {
                b":method" => method = Some(Method::parse(value)?),
                b":path" => path = Some(value),
                b"content-type" if is_grpc(value) => return None,
                b"accept-encoding" => accept_encoding = Some(value),
                _ if name == VIA.as_bytes() => via = Some(value),
                _ => {}
            }
        }
        Some(Self { method: method?, path: path?, accept_encoding, via })
    }
}

impl ResponseHead {
    pub(super) fn read(headers: &Headers) -> Option<Self> {
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
        for (name, value) in headers.iter() {
            match name {
                b":status" => status = std::str::from_utf8(value).ok()?.parse().ok(),
                b"content-type" => {
                    head.never |= is_grpc(value);
                    head.media = Media::of(value);
                }
                b"content-encoding" => {
                    head.encoded = !value.is_empty() && !value.eq_ignore_ascii_case(b"identity")
                }
                b"content-length" => head.length = std::str::from_utf8(value).ok()?.parse().ok(),
                // Envoy's router sets this on what came from an upstream, and on nothing else.
                b"x-envoy-upstream-service-time" => head.timed = true,
                b"etag" => head.etag = attribute(value).map(str::to_owned),
                b"location" => head.location = std::str::from_utf8(value).ok().map(str::to_owned),
                // The companion's own answer to a hand-over that someone routed through this very filter.
                b"gatehook-ack" => head.never = true,
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
        let is = |name: &[u8]| essence.eq_ignore_ascii_case(name);
        let plus_json = || essence.last_chunk::<5>().is_some_and(|end| end.eq_ignore_ascii_case(b"+json"));
        match essence {
            _ if is(b"application/json") || is(b"text/json") => Self::Json,
            _ if is(b"application/vnd.api+json") => Self::JsonApi,
            _ if is(b"application/hal+json") => Self::Hal,
            _ if plus_json() => Self::Json,
            _ if is(b"") || is(b"text/plain") => Self::Unsaid,
            _ => Self::Other,
        }
    }
}

fn is_grpc(content_type: &[u8]) -> bool {
    content_type.get(..16).is_some_and(|start| start.eq_ignore_ascii_case(b"application/grpc"))
}

/// A header value as an event attribute: visible ASCII and spaces, at most 256 bytes; anything else is left out.
pub(super) fn attribute(value: &[u8]) -> Option<&str> {
    let fits = (1..=256).contains(&value.len()) && value.iter().all(|byte| matches!(byte, b' '..=b'~'));
    std::str::from_utf8(value).ok().filter(|_| fits)
}
