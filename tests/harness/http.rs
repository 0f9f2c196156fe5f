//! A small HTTP client for tests: JSON, bearer tokens, HTTP/1.1 and HTTP/2 without TLS, and raw bytes.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HeaderName, HeaderValue};
use hyper::{HeaderMap, Method, Request};
use hyper_util::client::legacy::Client as Pool;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// No call of a test may take longer; one that waits for this is one that fails.
const TIMEOUT: Duration = Duration::from_secs(30);

/// A client with its connections, all to one base address.
#[derive(Debug, Clone)]
pub struct Client {
    pool: Pool<HttpConnector, Full<Bytes>>,
    base: String,
    bearer: Option<String>,
}

impl Client {
    /// Speaks HTTP/1.1 with connections kept alive.
    pub fn http1(address: SocketAddr) -> Self {
        Self::new(address, false)
    }

    /// Speaks HTTP/2 from the first byte, without TLS.
    pub fn http2(address: SocketAddr) -> Self {
        Self::new(address, true)
    }

    fn new(address: SocketAddr, http2_only: bool) -> Self {
        let pool = Pool::builder(TokioExecutor::new()).http2_only(http2_only).build_http();
        Self { pool, base: format!("http://{address}"), bearer: None }
    }

    /// The same client with a bearer token on every call.
    pub fn bearer(mut self, token: &str) -> Self {
        self.bearer = Some(token.to_owned());
        self
    }

    /// A call to be filled and sent.
    pub fn call(&self, method: Method, path: &str) -> Call {
        let call = Call {
            pool: self.pool.clone(),
            method,
            url: format!("{}{path}", self.base),
            headers: HeaderMap::new(),
            body: Bytes::new(),
        };
        match &self.bearer {
            Some(token) => call.header(AUTHORIZATION.as_str(), format!("Bearer {token}")),
            None => call,
        }
    }

    /// A GET.
    pub fn get(&self, path: &str) -> Call {
        self.call(Method::GET, path)
    }

    /// A POST.
    pub fn post(&self, path: &str) -> Call {
        self.call(Method::POST, path)
    }
}

/// One request in the making.
#[derive(Debug)]
pub struct Call {
    pool: Pool<HttpConnector, Full<Bytes>>,
    method: Method,
    url: String,
    headers: HeaderMap,
    body: Bytes,
}

impl Call {
    /// Adds a header; its value may be any bytes that HTTP allows, text or not.
    ///
    /// # Panics
    /// On a name or value that cannot be written, which is a mistake in the test.
    pub fn header(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        let name = HeaderName::from_bytes(name.as_bytes()).expect("a header name");
        self.headers.append(name, HeaderValue::from_bytes(value.as_ref()).expect("a header value"));
        self
    }

    /// Sets the body.
    pub fn body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self
    }

    /// Sets a JSON body and its content type.
    pub fn json(self, body: &Value) -> Self {
        self.header(CONTENT_TYPE.as_str(), "application/json").body(body.to_string())
    }

    /// Sends it and reads the whole answer.
    pub async fn send(self) -> Result<Response> {
        let what = format!("{} {}", self.method, self.url);
        let exchange = async {
            let ongoing = self.start().await?;
            let body = ongoing.body.collect().await?;
            let trailers = body.trailers().cloned();
            anyhow::Ok(Response {
                status: ongoing.status,
                headers: ongoing.headers,
                body: body.to_bytes(),
                trailers,
            })
        };
        let answer = tokio::time::timeout(TIMEOUT, exchange).await.context("no whole answer in time");
        answer.and_then(|answer| answer).with_context(|| what)
    }

    /// Sends it and waits for the head of the answer alone.
    pub async fn start(self) -> Result<Ongoing> {
        let mut request = Request::new(Full::new(self.body));
        *request.method_mut() = self.method;
        *request.uri_mut() = self.url.parse()?;
        *request.headers_mut() = self.headers;
        let response = tokio::time::timeout(TIMEOUT, self.pool.request(request))
            .await
            .context("no answer in time")??;
        let (head, body) = response.into_parts();
        Ok(Ongoing { status: head.status.as_u16(), headers: head.headers, body })
    }
}

/// An answer whose body is still on its way; dropping it is leaving before the end.
#[derive(Debug)]
pub struct Ongoing {
    /// The status code.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    body: Incoming,
}

impl Ongoing {
    /// The next piece of the body, `None` at its end, an error where it broke off.
    pub async fn next(&mut self) -> Result<Option<Bytes>> {
        let frame = tokio::time::timeout(TIMEOUT, self.body.frame()).await.context("nothing more came")?;
        Ok(frame.transpose()?.map(|frame| frame.into_data().unwrap_or_default()))
    }
}

/// A whole answer.
#[derive(Debug, Clone)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The body, all of it.
    pub body: Bytes,
    /// The trailers, if there were any.
    pub trailers: Option<HeaderMap>,
}

impl Response {
    /// The body as JSON.
    pub fn json(&self) -> Result<Value> {
        serde_json::from_slice(&self.body)
            .with_context(|| format!("no JSON: {}", String::from_utf8_lossy(&self.body)))
    }

    /// The answer if it has this status; otherwise an error that shows what came instead.
    pub fn expect(self, status: u16) -> Result<Self> {
        let body = String::from_utf8_lossy(&self.body);
        ensure!(self.status == status, "expected {status}, got {}: {body}", self.status);
        Ok(self)
    }

    /// A header as text, empty if absent.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }
}

/// Writes these very bytes and leaves the connection to the test.
pub async fn write_raw(address: SocketAddr, bytes: &[u8]) -> io::Result<TcpStream> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(bytes).await?;
    Ok(stream)
}

/// Reads until the connection ends.
pub async fn read_to_end(stream: &mut TcpStream) -> Result<String> {
    let mut read = Vec::new();
    tokio::time::timeout(TIMEOUT, stream.read_to_end(&mut read))
        .await
        .context("the connection did not end")??;
    Ok(String::from_utf8_lossy(&read).into_owned())
}

/// Reads until the text has arrived, and gives all that was read until then.
pub async fn read_until(stream: &mut TcpStream, text: &str) -> Result<String> {
    let mut read = Vec::new();
    let reading = async {
        while !String::from_utf8_lossy(&read).contains(text) {
            ensure!(stream.read_buf(&mut read).await? > 0, "the connection ended");
        }
        Ok(())
    };
    let outcome =
        tokio::time::timeout(TIMEOUT, reading).await.context("nothing more came").and_then(|outcome| outcome);
    let read = String::from_utf8_lossy(&read).into_owned();
    outcome.with_context(|| format!("looked for {text:?} in {read:?}"))?;
    Ok(read)
}
