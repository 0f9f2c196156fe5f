//! A server for Envoy's external processing that observes: it counts the writes whose answer it was shown to the end.
//!
//! The messages are those of `envoy/service/ext_proc/v3`, cut to the fields that are read; the rest is skipped, as Protocol
//! Buffers allow. gRPC is HTTP/2 with a prefix of five bytes before each message, which hyper speaks as it is; what
//! observes answers no message.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use bytes::{Buf as _, Bytes, BytesMut};
use harness::server::Server;
use harness::wait;
use http_body_util::{BodyExt as _, channel};
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::service::service_fn;
use hyper::{HeaderMap, Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use prost::Message;
use tokio::sync::watch;

/// Larger than what Envoy sends at once.
const MESSAGE: usize = 4 << 20;
/// Streams that one connection may have, above what a round has under way.
const STREAMS: u32 = 1_024;

#[derive(Clone, PartialEq, Message)]
struct ProcessingRequest {
    #[prost(message, optional, tag = "5")]
    response_body: Option<HttpBody>,
}

#[derive(Clone, PartialEq, Message)]
struct HttpBody {
    #[prost(bytes = "bytes", tag = "1")]
    body: Bytes,
    #[prost(bool, tag = "2")]
    end_of_stream: bool,
}

/// The server.
pub(crate) struct Observer {
    server: Server,
    seen: watch::Receiver<u64>,
}

impl Observer {
    pub(crate) async fn start() -> Result<Self> {
        let (count, seen) = watch::channel(0);
        let count = Arc::new(count);
        let server = Server::tcp(move |stream| {
            let count = count.clone();
            async move {
                let service = service_fn(|request| answer(request, count.clone()));
                let mut connection = auto::Builder::new(TokioExecutor::new());
                connection.http2().max_concurrent_streams(STREAMS);
                // A stream that Envoy gives up is Envoy's business.
                let _ = connection.serve_connection(TokioIo::new(stream), service).await;
            }
        });
        Ok(Self { server: server.await?, seen })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// Waits until it was shown so many answers to the end.
    pub(crate) async fn saw(&self, count: u64) -> Result<()> {
        let mut seen = self.seen.clone();
        let waiting = tokio::time::timeout(wait::PATIENCE, seen.wait_for(|seen| *seen >= count)).await;
        if waiting.is_err() {
            bail!("ext_proc was shown {} answers of {count}", *self.seen.borrow());
        }
        Ok(())
    }
}

/// Accepts a stream at once, and ends it with its last message.
async fn answer(
    request: Request<Incoming>,
    count: Arc<watch::Sender<u64>>,
) -> Result<Response<channel::Channel<Bytes>>, Infallible> {
    let (mut sender, body) = channel::Channel::new(1);
    tokio::spawn(async move {
        // What Envoy breaks off is not counted; the command's end says so.
        if observe(request.into_body()).await.is_ok() {
            count.send_modify(|seen| *seen += 1);
        }
        let status = HeaderMap::from_iter([("grpc-status".parse().expect("a name"), HeaderValue::from(0))]);
        let _ = sender.send_trailers(status).await;
    });
    let mut response = Response::new(body);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    Ok(response)
}

/// Reads the messages of one exchange until the end of the answer's body.
async fn observe(mut body: Incoming) -> Result<()> {
    let mut buffer = BytesMut::new();
    loop {
        while let Some(message) = next(&mut buffer)? {
            let request = ProcessingRequest::decode(message)?;
            if request.response_body.is_some_and(|body| body.end_of_stream) {
                return Ok(());
            }
        }
        let frame = body.frame().await.context("the stream ended before the answer did")??;
        buffer.extend_from_slice(&frame.into_data().unwrap_or_default());
    }
}

/// Takes a whole message off the buffer.
fn next(buffer: &mut BytesMut) -> Result<Option<Bytes>> {
    let Some((prefix, rest)) = buffer.split_at_checked(5) else { return Ok(None) };
    let length = u32::from_be_bytes([prefix[1], prefix[2], prefix[3], prefix[4]]) as usize;
    if prefix[0] != 0 || length > MESSAGE {
        bail!("not a message that was asked for");
    }
    if rest.len() < length {
        return Ok(None);
    }
    buffer.advance(5);
    Ok(Some(buffer.split_to(length).freeze()))
}
