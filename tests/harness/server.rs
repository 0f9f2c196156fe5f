//! An HTTP server on loopback that ends, with all its connections, when it is dropped.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};

use anyhow::Result;
use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

/// The accept loop, with the connections it holds.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    accepting: JoinHandle<()>,
}

impl Server {
    /// Serves HTTP/1.1 and HTTP/2 without TLS.
    pub async fn http<F, A>(answer: F) -> Result<Self>
    where
        F: Fn(Request<Incoming>) -> A + Clone + Send + Sync + 'static,
        A: Future<Output = Response<Full<Bytes>>> + Send,
    {
        Self::http_on(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?, answer)
    }

    /// Serves as [`Self::http`] does, where this listener listens.
    pub fn http_on<F, A>(listener: TcpListener, answer: F) -> Result<Self>
    where
        F: Fn(Request<Incoming>) -> A + Clone + Send + Sync + 'static,
        A: Future<Output = Response<Full<Bytes>>> + Send,
    {
        Self::on(listener, move |stream| {
            let answer = answer.clone();
            async move {
                let service = service_fn(|request| {
                    let answer = answer.clone();
                    async move { Ok::<_, Infallible>(answer(request).await) }
                });
                // A peer that breaks off is the peer's business.
                let _ = auto::Builder::new(TokioExecutor::new())
                    .serve_connection(TokioIo::new(stream), service)
                    .await;
            }
        })
    }

    /// Hands each connection to the function as it is.
    pub async fn tcp<F, C>(handle: F) -> Result<Self>
    where
        F: Fn(TcpStream) -> C + Send + 'static,
        C: Future<Output = ()> + Send + 'static,
    {
        Self::on(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?, handle)
    }

    fn on<F, C>(listener: TcpListener, handle: F) -> Result<Self>
    where
        F: Fn(TcpStream) -> C + Send + 'static,
        C: Future<Output = ()> + Send + 'static,
    {
        let address = listener.local_addr()?;
        let accepting = tokio::spawn(async move {
            // Dropped with the task, the set ends every connection.
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let _ = stream.set_nodelay(true);
                connections.spawn(handle(stream));
                while connections.try_join_next().is_some() {}
            }
        });
        Ok(Self { address, accepting })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}
