//! A receiver of webhooks as a stranger would write it: it verifies with the `standardwebhooks` crate and answers.
//!
//! What to answer is the test's script. Every arrival is recorded before its answer leaves, and waiting for arrivals
//! is waiting for a notification.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::header::RETRY_AFTER;
use hyper::{HeaderMap, Request, Response, StatusCode};
use serde_json::Value;
use standardwebhooks::Webhook;
use tokio::sync::watch;

use crate::server::Server;

/// What the receiver answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reply {
    /// This status at once.
    Status(u16),
    /// This status and `Retry-After` in seconds.
    RetryAfter(u16, u32),
    /// Nothing, ever.
    Hang,
}

/// One request that arrived.
#[derive(Debug, Clone)]
pub struct Arrival {
    /// When it was there as a whole.
    pub at: Instant,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body, byte for byte.
    pub body: Bytes,
    /// What the Standard Webhooks library said of it.
    pub verified: Result<(), String>,
    /// What was answered.
    pub reply: Reply,
}

impl Arrival {
    /// The body as JSON, null if it is none.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// The `type` of the body, empty if there is none.
    pub fn event_type(&self) -> String {
        self.json()["type"].as_str().unwrap_or_default().to_owned()
    }

    /// A header as text, empty if absent.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// The id under which the sender sends, and repeats, this message.
    pub fn webhook_id(&self) -> &str {
        self.header("webhook-id")
    }

    /// Whether the receiver said 2xx.
    pub fn was_taken(&self) -> bool {
        matches!(self.reply, Reply::Status(200..=299))
    }
}

type Script = dyn Fn(usize) -> Reply + Send + Sync;

/// The receiver.
#[derive(Debug)]
pub struct Receiver {
    server: Server,
    secret: Arc<watch::Sender<String>>,
    arrivals: watch::Receiver<Vec<Arc<Arrival>>>,
}

impl Receiver {
    /// Takes whatever comes.
    pub async fn start() -> Result<Self> {
        Self::scripted(|_| Reply::Status(200)).await
    }

    /// Answers by the number of the arrival, which counts from 0.
    pub async fn scripted(script: impl Fn(usize) -> Reply + Send + Sync + 'static) -> Result<Self> {
        let script: Arc<Script> = Arc::new(script);
        let secret = Arc::new(watch::Sender::new(String::new()));
        let (record, arrivals) = watch::channel(Vec::new());
        let record = Arc::new(record);
        let known = Arc::clone(&secret);
        let server = Server::http(move |request| {
            receive(request, Arc::clone(&script), Arc::clone(&known), Arc::clone(&record))
        })
        .await?;
        Ok(Self { server, secret, arrivals })
    }

    /// The URL to subscribe with.
    pub fn url(&self) -> String {
        format!("http://{}/hook", self.server.address())
    }

    /// Verifies with this secret from now on.
    pub fn trust(&self, secret: &str) {
        self.secret.send_replace(secret.to_owned());
    }

    /// The secret that it trusts.
    pub fn secret(&self) -> String {
        self.secret.borrow().clone()
    }

    /// Everything that has arrived so far.
    pub fn arrivals(&self) -> Vec<Arc<Arrival>> {
        self.arrivals.borrow().clone()
    }

    /// Waits for at least this many arrivals and gives all there are.
    pub async fn wait_for(&self, count: usize, deadline: Duration) -> Result<Vec<Arc<Arrival>>> {
        self.wait_until(deadline, |arrivals| (arrivals.len() >= count).then(|| arrivals.to_vec()))
            .await
            .map_err(|error| error.context(format!("waited for {count} arrivals")))
    }

    /// Waits until the arrivals satisfy the test.
    pub async fn wait_until<T>(
        &self,
        deadline: Duration,
        mut found: impl FnMut(&[Arc<Arrival>]) -> Option<T>,
    ) -> Result<T> {
        let mut arrivals = self.arrivals.clone();
        let waiting = async {
            loop {
                if let Some(found) = found(&arrivals.borrow_and_update()) {
                    return Ok(found);
                }
                arrivals.changed().await?;
            }
        };
        match tokio::time::timeout(deadline, waiting).await {
            Ok(outcome) => outcome,
            Err(_) => Err(anyhow!("waited {deadline:?} in vain; arrived: {}", summary(&self.arrivals()))),
        }
    }
}

fn summary(arrivals: &[Arc<Arrival>]) -> String {
    let shown: Vec<String> = arrivals
        .iter()
        .rev()
        .take(10)
        .map(|arrival| format!("{} ({:?}, {:?})", arrival.event_type(), arrival.verified, arrival.reply))
        .collect();
    format!("{} in all, the newest first: {}", arrivals.len(), shown.join(", "))
}

async fn receive(
    request: Request<Incoming>,
    script: Arc<Script>,
    secret: Arc<watch::Sender<String>>,
    record: Arc<watch::Sender<Vec<Arc<Arrival>>>>,
) -> Response<Full<Bytes>> {
    let (head, body) = request.into_parts();
    let Ok(body) = body.collect().await else {
        return answer(StatusCode::BAD_REQUEST);
    };
    let body = body.to_bytes();
    let verified = verify(&secret.borrow(), &body, &head.headers);
    let mut reply = Reply::Status(500);
    record.send_modify(|arrivals| {
        reply = script(arrivals.len());
        let (at, headers) = (Instant::now(), head.headers);
        arrivals.push(Arc::new(Arrival { at, headers, body, verified, reply }));
    });
    match reply {
        Reply::Status(status) => answer(StatusCode::from_u16(status).expect("a status code")),
        Reply::RetryAfter(status, seconds) => {
            let mut response = answer(StatusCode::from_u16(status).expect("a status code"));
            response.headers_mut().insert(RETRY_AFTER, seconds.into());
            response
        }
        Reply::Hang => std::future::pending().await,
    }
}

fn answer(status: StatusCode) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(status.canonical_reason().unwrap_or_default())));
    *response.status_mut() = status;
    response
}

/// Asks the Standard Webhooks library whether the message is genuine.
pub fn verify(secret: &str, body: &[u8], headers: &HeaderMap) -> Result<(), String> {
    let webhook = Webhook::new(secret).map_err(|error| error.to_string())?;
    webhook.verify(body, headers).map_err(|error| error.to_string())
}
