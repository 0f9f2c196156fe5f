//! Serves a router on a listener: bounded connections, bounded heads, a graceful end.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::http::{Request, Response};
use bytes::Bytes;
use hyper::body::{Frame, Incoming, SizeHint};
use hyper::service::Service;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use rustix::process::{Resource, getrlimit};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use crate::connections::{Connection, Connections, UnderWay};
use crate::limits;

/// Pause after a failed accept, which is mostly for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Connections that make room then: what is too few for one is too few for deliveries as well.
const ROOM: usize = 64;

/// How often connections are looked for that have been silent for too long.
const SWEEP_EVERY: Duration = Duration::from_secs(1);

/// Serves until `stop` turns true, then lets requests under way end, at most [`limits::DRAIN`]. It is one of so many
/// listeners, which have the same share of the connections.
pub async fn run(listener: TcpListener, router: Router, listeners: usize, mut stop: watch::Receiver<bool>) {
    let (builder, most) = (Arc::new(builder()), (most_connections() / listeners.max(1)).max(1));
    let places = Arc::new(Semaphore::new(most));
    let connections = Arc::new(Connections::default());
    let sweeping = tokio::spawn(sweep(connections.clone()));
    let stopped = stop.clone();
    let ended = stop.wait_for(|stopped| *stopped);
    tokio::pin!(ended);
    loop {
        let accepted = tokio::select! {
            accepted = accept(&listener, &connections, &places) => accepted,
            _ = &mut ended => break,
        };
        let Some((stream, place)) = accepted else { continue };
        let connection = connections.open(Instant::now());
        tokio::spawn(serve(stream, builder.clone(), router.clone(), connection, stopped.clone(), place));
    }
    drop(listener);
    sweeping.abort();
    let all = places.acquire_many(u32::try_from(most).unwrap_or(u32::MAX));
    if tokio::time::timeout(limits::DRAIN, all).await.is_err() {
        tracing::warn!("some API connections were cut after the deadline");
    }
}

/// A quarter of the file descriptors at most, for all listeners: the others are for deliveries.
fn most_connections() -> usize {
    let descriptors = getrlimit(Resource::Nofile).current.and_then(|most| usize::try_from(most).ok());
    descriptors.map_or(limits::CONNECTIONS, |most| limits::CONNECTIONS.min(most / 4).max(1))
}

/// Tells those to leave that have been silent for too long.
async fn sweep(connections: Arc<Connections>) {
    let mut every = tokio::time::interval(SWEEP_EVERY);
    loop {
        every.tick().await;
        connections.sweep(Instant::now());
    }
}

fn builder() -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(limits::REQUEST_HEAD)
        // Without aggregation of pipelined answers: it buffers all of them, whether anybody reads them or not.
        .max_buf_size(limits::REQUEST_HEAD_BYTES);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(Some(Duration::from_secs(30)))
        .max_concurrent_streams(limits::STREAMS_PER_CONNECTION)
        .max_header_list_size(u32::try_from(limits::REQUEST_HEAD_BYTES).unwrap_or(u32::MAX));
    builder
}

/// The next connection and its place. Where all places are taken, whoever needs his the least makes room.
async fn accept(
    listener: &TcpListener,
    connections: &Connections,
    places: &Arc<Semaphore>,
) -> Option<(TcpStream, OwnedSemaphorePermit)> {
    let stream = match listener.accept().await {
        Ok((stream, _)) => stream,
        Err(error) => {
            let closed = (0..ROOM).take_while(|_| connections.make_room()).count();
            tracing::warn!(%error, closed, "a connection could not be accepted");
            tokio::time::sleep(ACCEPT_PAUSE).await;
            return None;
        }
    };
    // Answers are small and waited for; a failure here costs only speed.
    let _ = stream.set_nodelay(true);
    let place = places.clone().try_acquire_owned();
    match place {
        Ok(place) => Some((stream, place)),
        Err(_) => {
            connections.make_room();
            Some((stream, places.clone().acquire_owned().await.ok()?))
        }
    }
}

/// Serves one connection until it ends, or has to make room, or the process stops. Its place is free once all that it held is
/// let go, the store among it: who waits for all places may start again.
async fn serve(
    stream: TcpStream,
    builder: Arc<Builder<TokioExecutor>>,
    router: Router,
    connection: Arc<Connection>,
    mut stopped: watch::Receiver<bool>,
    _place: OwnedSemaphorePermit,
) {
    let service = Watched { router: TowerToHyperService::new(router), connection: connection.clone() };
    let mut serving = Box::pin(builder.serve_connection(TokioIo::new(stream), service));
    let stop = async { drop(stopped.wait_for(|stopped| *stopped).await) };
    let ended = tokio::select! {
        ended = &mut serving => ended,
        () = connection.told_to_leave() => return,
        () = stop => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended with an error");
    }
}

/// The router, with its requests counted while they are under way.
struct Watched {
    router: TowerToHyperService<Router>,
    connection: Arc<Connection>,
}

impl Service<Request<Incoming>> for Watched {
    type Response = Response<Answer>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let mut under_way = self.connection.begin(Instant::now());
        let answer = self.router.call(request);
        Box::pin(async move {
            let response = answer.await?;
            under_way.answer(Instant::now());
            Ok(response.map(|body| Answer { body, _under_way: under_way }))
        })
    }
}

/// An answer's body, which is under way until it is read.
struct Answer {
    body: Body,
    _under_way: UnderWay,
}

impl hyper::body::Body for Answer {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
