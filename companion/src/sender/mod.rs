//! One POST to a receiver, bounded in every way: time, redirects (none), addresses, size and headers of the answer.
//!
//! It does not know deliveries or retries. How the request ended is an [`Outcome`], never an error. Beside the request
//! itself it does what a receiver may ask for first: a TLS handshake with a certificate of ours, an access token.

mod oauth2;
mod pool;
mod tls;

use std::error::Error;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::header::{
    AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER, USER_AGENT,
};
use hyper::{Request, Response, StatusCode, Uri};
use jiff::Timestamp;
use rustls::pki_types::CertificateDer;
use tokio::time::{Instant, timeout_at};

use crate::credentials::{Auth, ClientCertificate, Credentials};
use crate::limits;
use crate::model::{Instruction, Outcome, SubscriptionId};
use crate::payload::Body;
use crate::retry;
use crate::target::{Blocked, Guard};
use oauth2::Tokens;
use pool::{Client, Identity, Pool};
pub use tls::roots_in;

/// Who calls, where the subscription does not say otherwise.
pub const AGENT: HeaderValue = HeaderValue::from_static(concat!("Gatehook/", env!("CARGO_PKG_VERSION")));

/// Sends deliveries; clones share their connections.
#[derive(Clone)]
pub struct Sender {
    operators: Side,
    /// Apart, for what operators may call is not open to tenants, nor are the connections to it.
    tenants: Side,
}

/// Connections, and where they may go.
#[derive(Clone)]
struct Side {
    pool: Arc<Pool>,
    guard: Guard,
}

/// What makes the POST of an attempt: a [`Sender`], and behind it the network.
#[async_trait]
pub trait Transport: Send + Sync {
    /// Sends one parcel; returns how it ended and the first bytes of the answer's body. `now` is when it is sent.
    async fn send(&self, parcel: Parcel, now: Timestamp) -> (Outcome, Bytes);
}

#[async_trait]
impl Transport for Sender {
    async fn send(&self, parcel: Parcel, now: Timestamp) -> (Outcome, Bytes) {
        Self::send(self, parcel, now).await
    }
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
    /// The body.
    pub body: Body,
    /// Headers beside these; one of the same name takes the place of ours.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// What must be done to be let in, where headers do not suffice.
    pub access: Option<Arc<Access>>,
    /// Whether it is a tenant's, which may call less.
    pub of_tenant: bool,
}

/// How the deliveries of one subscription, of one revision, are let in by its receiver: a token that has to be fetched,
/// a certificate that is shown. Made once per revision and shared by its parcels, for it keeps the token.
pub struct Access {
    subscription: SubscriptionId,
    revision: i64,
    tokens: Option<Tokens>,
    certificate: Option<ClientCertificate>,
}

impl Access {
    /// What `credentials` ask for beyond [`Credentials::headers`]; mostly nothing.
    pub fn of(subscription: &SubscriptionId, revision: i64, credentials: &Credentials) -> Option<Arc<Self>> {
        let tokens = match &credentials.auth {
            Some(Auth::OAuth2(client)) => Some(Tokens::new(client.clone())),
            _ => None,
        };
        let certificate = credentials.client_certificate.clone();
        let needed = tokens.is_some() || certificate.is_some();
        needed.then(|| Arc::new(Self { subscription: subscription.clone(), revision, tokens, certificate }))
    }

    /// Whether it puts a token that it fetches into `authorization`.
    pub fn fetches_token(&self) -> bool {
        self.tokens.is_some()
    }
}

impl std::fmt::Debug for Access {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Access({}, revision {})", self.subscription, self.revision)
    }
}

#[cfg(test)]
impl Parcel {
    /// A parcel of nothing but a target and a body.
    pub(crate) fn bare(target: Uri, body: &'static str) -> Self {
        let body = Body {
            media_type: Some(HeaderValue::from_static("application/json")),
            bytes: Bytes::from_static(body.as_bytes()),
        };
        let (id, signature) = ("dlv_1".into(), "v1,x".into());
        Self {
            target,
            id,
            timestamp_s: 0,
            signature,
            traceparent: None,
            body,
            headers: Vec::new(),
            access: None,
            of_tenant: false,
        }
    }
}

impl Sender {
    /// A sender that resolves names through `guard` and trusts the certificates that the system trusts.
    ///
    /// # Errors
    /// Where TLS cannot be set up.
    pub fn new(guard: Guard) -> anyhow::Result<Self> {
        Self::trusting(guard, &[])
    }

    /// As [`Sender::new`], and trusts these certificates too: see [`roots_in`].
    ///
    /// # Errors
    /// Where TLS cannot be set up.
    pub fn trusting(guard: Guard, roots: &[CertificateDer<'static>]) -> anyhow::Result<Self> {
        let roots = tls::roots(roots);
        let side = |guard: Guard| {
            let pool = Pool::new(guard.clone(), roots.clone(), limits::KEPT_CONNECTIONS / 2)?;
            anyhow::Ok(Side { pool: Arc::new(pool), guard })
        };
        let tenants = side(guard.of(true))?;
        Ok(Self { operators: side(guard)?, tenants })
    }

    fn side(&self, of_tenant: bool) -> &Side {
        if of_tenant { &self.tenants } else { &self.operators }
    }

    /// See [`Transport::send`].
    pub async fn send(&self, parcel: Parcel, now: Timestamp) -> (Outcome, Bytes) {
        let deadline = Instant::now() + limits::ATTEMPT;
        let (access, side) = (parcel.access.clone(), self.side(parcel.of_tenant));
        let request = match request(parcel) {
            Ok(request) => request,
            Err(error) => {
                return (Outcome::Blocked(format!("cannot be written as a request: {error}")), Bytes::new());
            }
        };
        match side.exchange(request, access.as_deref(), now, deadline).await {
            Err(outcome) => (outcome, Bytes::new()),
            Ok(response) => (answered(&response, now), first_bytes(response, deadline).await),
        }
    }

    /// Asks a receiver something that is not a delivery, under the same bounds; returns status and headers of its answer.
    ///
    /// # Errors
    /// How it ended where there was no answer.
    pub async fn ask(
        &self,
        request: Request<Full<Bytes>>,
        access: Option<&Access>,
        of_tenant: bool,
        now: Timestamp,
    ) -> Result<(StatusCode, HeaderMap), Outcome> {
        let deadline = Instant::now() + limits::ATTEMPT;
        let response = self.side(of_tenant).exchange(request, access, now, deadline).await?;
        let (status, headers) = (response.status(), response.headers().clone());
        first_bytes(response, deadline).await;
        Ok((status, headers))
    }
}

impl Side {
    async fn exchange(
        &self,
        request: Request<Full<Bytes>>,
        access: Option<&Access>,
        now: Timestamp,
        deadline: Instant,
    ) -> Result<Response<Incoming>, Outcome> {
        match access {
            None => exchange(self.pool.anonymous(), request, deadline).await,
            // Rare and large: boxed, so that it adds nothing to the others.
            Some(access) => Box::pin(self.exchange_as(access, request, now, deadline)).await,
        }
    }

    /// Gets a token where one is needed, and shows a certificate where there is one.
    async fn exchange_as(
        &self,
        access: &Access,
        mut request: Request<Full<Bytes>>,
        now: Timestamp,
        deadline: Instant,
    ) -> Result<Response<Incoming>, Outcome> {
        let client = match &access.certificate {
            None => self.pool.anonymous(),
            Some(certificate) => {
                let (subscription, revision) = (&access.subscription, access.revision);
                let client = self.pool.certified(&Identity { subscription, revision, certificate });
                client
                    .map_err(|fault| Outcome::Unreachable(format!("client certificate: {}", fault.detail)))?
            }
        };
        let Some(tokens) = &access.tokens else { return exchange(client, request, deadline).await };
        let token = timeout_at(deadline, tokens.authorization(&self.pool, &self.guard, now)).await;
        let token = token
            .unwrap_or_else(|_| Err("no answer in time".into()))
            .map_err(|why| Outcome::Unreachable(format!("no access token: {why}")))?;
        request.headers_mut().insert(AUTHORIZATION, token.clone());
        let response = exchange(client, request, deadline).await?;
        if response.status() == StatusCode::UNAUTHORIZED {
            tokens.refused(&token).await;
        }
        Ok(response)
    }
}

async fn exchange(
    client: Client,
    request: Request<Full<Bytes>>,
    deadline: Instant,
) -> Result<Response<Incoming>, Outcome> {
    match timeout_at(deadline, client.request(request)).await {
        Err(_) => Err(Outcome::TimedOut),
        Ok(Err(error)) => Err(failed(&error)),
        Ok(Ok(response)) => Ok(response),
    }
}

/// The request of a parcel, but for a token that has to be fetched and what belongs to the connection.
///
/// # Errors
/// Where a part of it is none of a request.
pub fn request(parcel: Parcel) -> Result<Request<Full<Bytes>>, hyper::http::Error> {
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
    let mut request = request.body(Full::new(parcel.body.bytes))?;
    for (name, value) in parcel.headers {
        request.headers_mut().insert(name, value);
    }
    Ok(request)
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
fn failed(error: &(dyn Error + 'static)) -> Outcome {
    for cause in causes(error) {
        if let Some(blocked) = cause.downcast_ref::<Blocked>() {
            return Outcome::Blocked(blocked.to_string());
        }
        if let Some(io) = cause.downcast_ref::<std::io::Error>()
            && io.kind() == std::io::ErrorKind::TimedOut
        {
            return Outcome::TimedOut;
        }
    }
    Outcome::Unreachable(cause(error))
}

/// What is at the bottom of an error, in a bounded number of words.
fn cause(error: &(dyn Error + 'static)) -> String {
    let last = causes(error).last().map(ToString::to_string).unwrap_or_default();
    last.chars().take(200).collect()
}

fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |cause: &&'a (dyn Error + 'static)| (*cause).source())
}
