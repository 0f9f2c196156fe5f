//! The connections to receivers: one pool for all, one apart for each client certificate, and one bound over them.
//!
//! The library bounds idle connections per host and by age, not in all. So connections are counted while they are open,
//! and when there are too many, all pools are left for new, empty ones: what is idle in them closes once the last attempt
//! that came from them has ended. Between two such changes lie as many dials as the bound says, so the price is small.
//! Where slow attempts keep old pools alive until twice as many are open, connections are not kept at all for a while.

use std::collections::HashMap;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError, RwLock, Weak};
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body_util::Full;
use hyper::Uri;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder, MaybeHttpsStream};
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::{Connected, Connection, HttpConnector};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tower_service::Service;

use super::tls;
use crate::credentials::ClientCertificate;
use crate::limits;
use crate::members::Fault;
use crate::model::SubscriptionId;
use crate::target::Guard;

/// A client of the HTTP library with its pool.
pub(super) type Client = legacy::Client<Counting, Full<Bytes>>;

/// All connections to receivers.
pub(super) struct Pool {
    http: HttpConnector<Guard>,
    roots: Arc<RootCertStore>,
    anonymous: ClientConfig,
    most: usize,
    current: RwLock<Arc<Generation>>,
    /// Keeps no connection.
    forgetful: Client,
    /// Each open connection holds one.
    open: Arc<()>,
}

/// The pools that are left together.
struct Generation {
    anonymous: Client,
    certified: Mutex<HashMap<SubscriptionId, (i64, Client)>>,
    /// Each open connection of these pools holds one.
    open: Arc<()>,
}

/// Whose certificate is shown: one subscription's, of one revision.
pub(super) struct Identity<'a> {
    pub(super) subscription: &'a SubscriptionId,
    pub(super) revision: i64,
    pub(super) certificate: &'a ClientCertificate,
}

impl Pool {
    /// Empty pools, left once `most` connections are open.
    ///
    /// # Errors
    /// Where TLS cannot be set up.
    pub(super) fn new(guard: Guard, roots: Arc<RootCertStore>, most: usize) -> Result<Self, rustls::Error> {
        let mut http = HttpConnector::new_with_resolver(guard);
        http.enforce_http(false);
        http.set_connect_timeout(Some(limits::CONNECT));
        http.set_nodelay(true);
        let anonymous = tls::anonymous(roots.clone())?;
        let open = Arc::new(());
        let current = RwLock::new(Arc::new(Generation::new(&http, &anonymous, &open)));
        let forgetful = client(&http, anonymous.clone(), [&open, &open], 0);
        Ok(Self { http, roots, anonymous, most, current, forgetful, open })
    }

    /// The client for whoever needs no certificate.
    pub(super) fn anonymous(&self) -> Client {
        if self.is_full() { self.forgetful.clone() } else { self.generation().anonymous.clone() }
    }

    /// The client whose connections show this certificate, and that nobody else gets.
    ///
    /// # Errors
    /// Where the certificate cannot be used.
    pub(super) fn certified(&self, identity: &Identity) -> Result<Client, Fault> {
        let generation = self.generation();
        let mut certified = generation.certified.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((revision, client)) = certified.get(identity.subscription)
            && *revision == identity.revision
            && !self.is_full()
        {
            return Ok(client.clone());
        }
        let ours = identity.certificate.certified_key()?;
        let unusable =
            |error: rustls::Error| Fault { pointer: "/certificate".into(), detail: error.to_string() };
        let config = tls::certified(self.roots.clone(), ours).map_err(unusable)?;
        let kept = if self.is_full() { 0 } else { limits::IN_FLIGHT };
        let client = client(&self.http, config, [&self.open, &generation.open], kept);
        if kept == 0 {
            return Ok(client);
        }
        if certified.len() >= limits::CLIENT_CERTIFICATES {
            certified.clear();
        }
        certified.insert(identity.subscription.clone(), (identity.revision, client.clone()));
        Ok(client)
    }

    fn is_full(&self) -> bool {
        count(&self.open) >= 2 * self.most
    }

    fn generation(&self) -> Arc<Generation> {
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner).clone();
        if count(&current.open) < self.most {
            return current;
        }
        let mut newest = self.current.write().unwrap_or_else(PoisonError::into_inner);
        // Another may have been here first.
        if count(&newest.open) >= self.most {
            *newest = Arc::new(Generation::new(&self.http, &self.anonymous, &self.open));
        }
        newest.clone()
    }
}

impl Generation {
    fn new(http: &HttpConnector<Guard>, anonymous: &ClientConfig, all: &Arc<()>) -> Self {
        let open = Arc::new(());
        let anonymous = client(http, anonymous.clone(), [all, &open], limits::KEPT_PER_HOST);
        Self { anonymous, certified: Mutex::default(), open }
    }
}

/// How many connections hold one.
fn count(open: &Arc<()>) -> usize {
    Arc::strong_count(open) - 1
}

fn client(http: &HttpConnector<Guard>, config: ClientConfig, open: [&Arc<()>; 2], kept: usize) -> Client {
    let https = HttpsConnectorBuilder::new()
        .with_tls_config(config)
        .https_or_http()
        .enable_all_versions()
        .wrap_connector(http.clone());
    legacy::Client::builder(TokioExecutor::new())
        .pool_idle_timeout(limits::KEPT_IDLE)
        .pool_max_idle_per_host(kept)
        .pool_timer(TokioTimer::new())
        .http1_max_buf_size(limits::ANSWER_HEAD)
        .http1_max_headers(limits::ANSWER_HEADERS)
        .http2_max_header_list_size(u32::try_from(limits::ANSWER_HEAD).unwrap_or(u32::MAX))
        .build(Counting { https, open: open.map(Arc::downgrade) })
}

/// Dials, and counts what it opened. It does not keep the count itself alive, only connections do.
#[derive(Clone)]
pub(super) struct Counting {
    https: HttpsConnector<HttpConnector<Guard>>,
    open: [Weak<()>; 2],
}

type Stream = MaybeHttpsStream<TokioIo<TcpStream>>;

impl Service<Uri> for Counting {
    type Response = Counted;
    type Error = Box<dyn std::error::Error + Send + Sync>;
    type Future = Pin<Box<dyn Future<Output = Result<Counted, Self::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.https.poll_ready(context)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let (dialled, open) = (self.https.call(uri), self.open.clone());
        Box::pin(
            async move { Ok(Counted { stream: dialled.await?, _open: open.map(|open| open.upgrade()) }) },
        )
    }
}

/// A connection that counts while it is open.
pub(super) struct Counted {
    stream: Stream,
    _open: [Option<Arc<()>>; 2],
}

impl Counted {
    fn stream(self: Pin<&mut Self>) -> Pin<&mut Stream> {
        Pin::new(&mut self.get_mut().stream)
    }
}

impl Connection for Counted {
    fn connected(&self) -> Connected {
        self.stream.connected()
    }
}

impl Read for Counted {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, to: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        self.stream().poll_read(cx, to)
    }
}

impl Write for Counted {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, from: &[u8]) -> Poll<io::Result<usize>> {
        self.stream().poll_write(cx, from)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream().poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream().poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        from: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.stream().poll_write_vectored(cx, from)
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;
    use hyper::Request;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;
    use tokio::sync::mpsc;

    use super::*;

    /// A receiver that answers every request of a connection, and tells when a connection ends.
    async fn receiver(ended: mpsc::UnboundedSender<()>) -> Uri {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let ended = ended.clone();
                tokio::spawn(async move {
                    let mut buffer = [0; 1024];
                    while stream.read(&mut buffer).await.is_ok_and(|count| count > 0) {
                        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.unwrap();
                    }
                    let _ = ended.send(());
                });
            }
        });
        url.parse().unwrap()
    }

    async fn call(pool: &Pool, target: &Uri) {
        let request = Request::post(target.clone()).body(Full::default()).unwrap();
        let response = pool.anonymous().request(request).await.unwrap();
        response.into_body().collect().await.unwrap();
    }

    #[tokio::test]
    async fn idle_connections_to_many_receivers_are_closed_when_they_are_too_many() {
        let guard = Guard::new(&["127.0.0.1/32".parse().unwrap()]);
        let pool = Pool::new(guard, Arc::new(RootCertStore::empty()), 4).unwrap();
        let (tell, mut ended) = mpsc::unbounded_channel();
        for _ in 0..3 {
            let target = receiver(tell.clone()).await;
            call(&pool, &target).await;
            call(&pool, &target).await;
        }
        assert_eq!(count(&pool.current.read().unwrap().open), 3, "a connection is used again");
        assert!(ended.try_recv().is_err());
        let last = receiver(tell).await;
        call(&pool, &last).await;
        call(&pool, &last).await;
        for _ in 0..4 {
            ended.recv().await.unwrap();
        }
        assert_eq!(count(&pool.current.read().unwrap().open), 1);
    }

    #[tokio::test]
    async fn subscriptions_that_share_a_host_use_their_connections_again() {
        let guard = Guard::new(&["127.0.0.1/32".parse().unwrap()]);
        let pool = Arc::new(Pool::new(guard, Arc::new(RootCertStore::empty()), 1_000).unwrap());
        let (tell, mut ended) = mpsc::unbounded_channel();
        let target = receiver(tell).await;
        // More than one subscription has under way.
        let at_once = 3 * limits::IN_FLIGHT;
        let mut calls = tokio::task::JoinSet::new();
        for _ in 0..at_once {
            let (pool, target) = (pool.clone(), target.clone());
            calls.spawn(async move { call(&pool, &target).await });
        }
        calls.join_all().await;
        for _ in 0..at_once {
            call(&pool, &target).await;
        }
        assert!(ended.try_recv().is_err(), "a connection was closed that was of use");
        assert!(count(&pool.open) > limits::IN_FLIGHT);
    }

    #[tokio::test]
    async fn none_is_kept_where_slow_attempts_keep_old_pools_alive() {
        let guard = Guard::new(&["127.0.0.1/32".parse().unwrap()]);
        let pool = Pool::new(guard, Arc::new(RootCertStore::empty()), 1).unwrap();
        let (tell, mut ended) = mpsc::unbounded_channel();
        let mut slow = Vec::new();
        for _ in 0..2 {
            slow.push(pool.anonymous());
            call(&pool, &receiver(tell.clone()).await).await;
        }
        assert_eq!(count(&pool.open), 2);
        assert!(ended.try_recv().is_err());
        call(&pool, &receiver(tell).await).await;
        ended.recv().await.unwrap();
        assert_eq!(count(&pool.open), 2);
        drop(slow);
        ended.recv().await.unwrap();
    }
}
