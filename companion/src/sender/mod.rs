//! One POST to a receiver, bounded in every way: time, redirects (none), addresses, size and headers of the answer.
//!
//! It does not know deliveries or retries. How the request ended is an [`Outcome`], never an error.

use std::error::Error;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt, Full};
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER, USER_AGENT};
use hyper::{Request, Response, StatusCode, Uri};
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use jiff::Timestamp;
use tokio::time::{Instant, timeout_at};

use crate::limits;
use crate::model::{Instruction, Outcome};
use crate::payload::Body;
use crate::retry;
use crate::target::{Blocked, Guard};

/// How long an idle connection to a receiver is kept.
const IDLE: Duration = Duration::from_secs(30);

/// Our `user-agent`.
pub const AGENT: HeaderValue = HeaderValue::from_static(concat!("Gatehook/", env!("CARGO_PKG_VERSION")));

/// Sends deliveries; clones share their connections.
#[derive(Clone)]
pub struct Sender {
    client: Client<HttpsConnector<HttpConnector<Guard>>, Full<Bytes>>,
}

/// What one request needs.
#[derive(Debug)]
pub struct Parcel {
    /// Where to; an address in it has been vetted, a name is vetted when it is resolved.
    pub target: Uri,
    /// `webhook-id`.
    pub id: String,
    /// `webhook-timestamp`, seconds since the epoch.
    pub timestamp_s: i64,
    /// `webhook-signature`.
    pub signature: String,
    /// `traceparent` of the API call, where known (W3C Trace Context).
    pub traceparent: Option<String>,
    /// More headers, such as `ce-…`.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// The body.
    pub body: Body,
}

#[cfg(test)]
impl Parcel {
    /// A parcel of nothing but a target and a body.
    pub(crate) fn bare(target: Uri, body: &'static str) -> Self {
        let body = Body { media_type: "application/json".into(), bytes: Bytes::from_static(body.as_bytes()) };
        let (id, signature) = ("dlv_1".into(), "v1,x".into());
        Self { target, id, timestamp_s: 0, signature, traceparent: None, body }
    }
}

impl Sender {
    /// A sender that resolves names through `guard` and trusts the certificates that the system trusts.
    ///
    /// # Errors
    /// Where TLS cannot be set up.
    pub fn new(guard: Guard) -> anyhow::Result<Self> {
        let mut http = HttpConnector::new_with_resolver(guard);
        http.enforce_http(false);
        http.set_connect_timeout(Some(limits::CONNECT));
        http.set_nodelay(true);
        let connector = hyper_rustls::HttpsConnectorBuilder::new()
            .with_tls_config(tls()?)
            .https_or_http()
            .enable_all_versions()
            .wrap_connector(http);
        let client = Client::builder(TokioExecutor::new())
            .pool_idle_timeout(IDLE)
            .pool_max_idle_per_host(limits::IN_FLIGHT)
            .pool_timer(TokioTimer::new())
            .http1_max_buf_size(limits::ANSWER_HEAD)
            .http1_max_headers(limits::ANSWER_HEADERS)
            .http2_max_header_list_size(u32::try_from(limits::ANSWER_HEAD).unwrap_or(u32::MAX))
            .build(connector);
        Ok(Self { client })
    }

    /// Sends one parcel; returns how it ended and the first bytes of the answer's body. `now` is when it is sent.
    pub async fn send(&self, parcel: Parcel, now: Timestamp) -> (Outcome, Bytes) {
        let deadline = Instant::now() + limits::ATTEMPT;
        let request = match request(parcel) {
            Ok(request) => request,
            Err(error) => {
                return (Outcome::Blocked(format!("cannot be written as a request: {error}")), Bytes::new());
            }
        };
        let response = match timeout_at(deadline, self.client.request(request)).await {
            Err(_) => return (Outcome::TimedOut, Bytes::new()),
            Ok(Err(error)) => return (failed(&error), Bytes::new()),
            Ok(Ok(response)) => response,
        };
        let outcome = answered(&response, now);
        (outcome, first_bytes(response, deadline).await)
    }

    /// Asks a receiver something that is not a delivery, under the same bounds; returns status and headers of its answer.
    ///
    /// # Errors
    /// How it ended where there was no answer.
    pub async fn ask(&self, request: Request<Full<Bytes>>) -> Result<(StatusCode, HeaderMap), Outcome> {
        let deadline = Instant::now() + limits::ATTEMPT;
        let response = match timeout_at(deadline, self.client.request(request)).await {
            Err(_) => return Err(Outcome::TimedOut),
            Ok(Err(error)) => return Err(failed(&error)),
            Ok(Ok(response)) => response,
        };
        let (status, headers) = (response.status(), response.headers().clone());
        first_bytes(response, deadline).await;
        Ok((status, headers))
    }
}

fn tls() -> anyhow::Result<rustls::ClientConfig> {
    let mut roots = rustls::RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    let (usable, _) = roots.add_parsable_certificates(found.certs);
    if usable == 0 {
        tracing::warn!("no trusted certificates on this system: deliveries to https targets will fail");
    }
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    let config =
        rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    Ok(config.with_root_certificates(roots).with_no_client_auth())
}

fn request(parcel: Parcel) -> Result<Request<Full<Bytes>>, hyper::http::Error> {
    let mut request = Request::post(parcel.target)
        .header(USER_AGENT, AGENT)
        .header("webhook-id", parcel.id)
        .header("webhook-timestamp", parcel.timestamp_s)
        .header("webhook-signature", parcel.signature);
    if let Some(traceparent) = parcel.traceparent {
        request = request.header("traceparent", traceparent);
    }
    if let Some(media_type) = parcel.body.media_type {
        request = request.header(CONTENT_TYPE, media_type);
    }
    for (name, value) in parcel.headers {
        request = request.header(name, value);
    }
    request.body(Full::new(parcel.body.bytes))
}

fn answered<B>(response: &Response<B>, now: Timestamp) -> Outcome {
    let text = |name: &str, headers: &HeaderMap| {
        headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned)
    };
    let headers = response.headers();
    Outcome::Answered {
        status: response.status().as_u16(),
        retry_after_s: text(RETRY_AFTER.as_str(), headers)
            .and_then(|value| retry::retry_after_s(&value, now)),
        instruction: match text("webhook-delivery", headers).as_deref().map(str::trim) {
            Some("disable") => Some(Instruction::Disable),
            Some("abort-message") => Some(Instruction::AbortMessage),
            _ => None,
        },
    }
}

/// Reads an answer's body as far as is needed to use the connection again, and keeps its beginning. Whatever goes wrong
/// here changes nothing: the status has already said how the attempt ended.
async fn first_bytes<B>(response: Response<B>, deadline: Instant) -> Bytes
where
    B: hyper::body::Body<Data = Bytes> + Unpin,
{
    let (mut body, mut kept, mut read) = (response.into_body(), BytesMut::new(), 0);
    while let Ok(Some(Ok(frame))) = timeout_at(deadline, body.frame()).await {
        let Some(data) = frame.data_ref() else { continue };
        read += data.len();
        let room = limits::ANSWER_KEPT - kept.len();
        kept.extend_from_slice(&data[..data.len().min(room)]);
        if read > limits::ANSWER_READ {
            break;
        }
    }
    kept.freeze()
}

/// The outcome of a request that got no answer.
fn failed(error: &hyper_util::client::legacy::Error) -> Outcome {
    let mut source: Option<&(dyn Error + 'static)> = Some(error);
    let mut last = error.to_string();
    while let Some(cause) = source {
        if let Some(blocked) = cause.downcast_ref::<Blocked>() {
            return Outcome::Blocked(blocked.to_string());
        }
        if let Some(io) = cause.downcast_ref::<std::io::Error>()
            && io.kind() == std::io::ErrorKind::TimedOut
        {
            return Outcome::TimedOut;
        }
        last = cause.to_string();
        source = cause.source();
    }
    Outcome::Unreachable(last.chars().take(200).collect())
}
