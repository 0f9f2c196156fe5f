//! A companion that only records: it takes batches, acknowledges them as the contract says, and keeps the events.
//!
//! For the few stories in which the companion has to do what the real one never does, such as answering 200 without
//! the acknowledgement. Everything else runs against the real one.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::{HeaderMap, Request, Response, StatusCode};
use serde_json::Value;
use tokio::sync::watch;

use crate::server::Server;
use crate::wait;

/// How it answers a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// 202 with the acknowledgement.
    Accept,
    /// This status, and no acknowledgement.
    Refuse(u16),
}

/// A batch as it came.
#[derive(Debug, Clone)]
pub struct Batch {
    /// The request's headers.
    pub headers: HeaderMap,
    /// The body, byte for byte.
    pub body: Bytes,
    /// The events in it.
    pub events: Vec<Value>,
    /// What was answered.
    pub verdict: Verdict,
}

/// The recorder.
#[derive(Debug)]
pub struct Recorder {
    server: Server,
    batches: watch::Receiver<Vec<Batch>>,
}

impl Recorder {
    /// Accepts everything.
    pub async fn start() -> Result<Self> {
        Self::scripted(|_, _| Verdict::Accept).await
    }

    /// Answers by the number of the batch, which counts from 0, and by its events.
    pub async fn scripted(
        script: impl Fn(usize, &[Value]) -> Verdict + Send + Sync + 'static,
    ) -> Result<Self> {
        let script = Arc::new(script);
        let (record, batches) = watch::channel(Vec::new());
        let record = Arc::new(record);
        let server = Server::http(move |request| {
            let (script, record) = (Arc::clone(&script), Arc::clone(&record));
            async move { take(request, script.as_ref(), &record).await }
        })
        .await?;
        Ok(Self { server, batches })
    }

    /// Where Envoy finds it.
    pub fn address(&self) -> std::net::SocketAddr {
        self.server.address()
    }

    /// Every batch so far, whatever was answered.
    pub fn batches(&self) -> Vec<Batch> {
        self.batches.borrow().clone()
    }

    /// The events it accepted so far, in order.
    pub fn accepted(&self) -> Vec<Value> {
        accepted(&self.batches.borrow())
    }

    /// Waits until it has accepted an event of this type and gives all it accepted.
    pub async fn accepted_until(&self, event_type: &str) -> Result<Vec<Value>> {
        let mut batches = self.batches.clone();
        let waiting =
            batches.wait_for(|batches| accepted(batches).iter().any(|event| event["type"] == event_type));
        match tokio::time::timeout(wait::PATIENCE, waiting).await {
            Ok(batches) => Ok(accepted(&batches?)),
            Err(_) => anyhow::bail!("no {event_type} came; accepted: {:?}", self.accepted()),
        }
    }

    /// Waits for a number of accepted events.
    pub async fn accepted_at_least(&self, count: usize, deadline: Duration) -> Result<Vec<Value>> {
        let mut batches = self.batches.clone();
        let waiting = batches.wait_for(|batches| accepted(batches).len() >= count);
        match tokio::time::timeout(deadline, waiting).await {
            Ok(batches) => Ok(accepted(&batches?)),
            Err(_) => anyhow::bail!("expected {count} events, accepted {}", self.accepted().len()),
        }
    }
}

fn accepted(batches: &[Batch]) -> Vec<Value> {
    let taken = batches.iter().filter(|batch| batch.verdict == Verdict::Accept);
    taken.flat_map(|batch| batch.events.clone()).collect()
}

async fn take(
    request: Request<Incoming>,
    script: &(impl Fn(usize, &[Value]) -> Verdict + Sync),
    record: &watch::Sender<Vec<Batch>>,
) -> Response<Full<Bytes>> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    // The filter also reports what fits no rule; that is taken and forgotten here.
    let is_batch = head.uri.path().ends_with("/events");
    let events: Vec<Value> = match serde_json::from_slice(&body) {
        Ok(events) => events,
        // Valid JSON that this parser has no place for (a number beyond a double) must not pass for an empty batch.
        Err(error) if is_batch => panic!("{error}: {}", String::from_utf8_lossy(&body)),
        Err(_) => Vec::new(),
    };
    let count = events.len();
    let mut verdict = Verdict::Accept;
    if is_batch {
        record.send_modify(|batches| {
            verdict = script(batches.len(), &events);
            batches.push(Batch { headers: head.headers, body: body.clone(), events, verdict });
        });
    }
    let mut response = Response::new(Full::new(Bytes::new()));
    match verdict {
        Verdict::Accept => {
            *response.status_mut() = StatusCode::ACCEPTED;
            let acknowledgement = format!("accepted={count};repeated=0;refused=0");
            response.headers_mut().insert("gatehook-ack", acknowledgement.parse().expect("plain text"));
        }
        Verdict::Refuse(status) => {
            *response.status_mut() = StatusCode::from_u16(status).expect("a status code");
        }
    }
    response
}
