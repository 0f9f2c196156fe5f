//! A scripted REST API: a test chooses how each of its answers looks and ends.
//!
//! It speaks HTTP/1.1 by hand, because no library lets a server break its own promises (a reset in the middle of a
//! body, a length that is never reached), and HTTP/2 through hyper, where a broken body becomes a stream reset.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Either, Empty, channel};
use hyper::body::{Frame, Incoming};
use hyper::header::{HeaderName, HeaderValue};
use hyper::service::service_fn;
use hyper::{HeaderMap, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::sync::watch;

use crate::server::Server;

/// What opens every HTTP/2 connection, long enough to tell it from HTTP/1.1.
const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0";

/// Holds an answer back until the test opens it, so that the order of things is the test's and not the clock's.
#[derive(Debug, Clone)]
pub struct Gate(Arc<watch::Sender<bool>>);

impl Gate {
    /// A closed gate.
    pub fn closed() -> Self {
        Self(Arc::new(watch::Sender::new(false)))
    }

    /// Lets everything through from now on.
    pub fn open(&self) {
        self.0.send_replace(true);
    }

    async fn passed(&self) {
        // The sender is part of self, so the wait can only end by an open gate.
        let _ = self.0.subscribe().wait_for(|open| *open).await;
    }
}

/// A request as the API saw it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// The method.
    pub method: String,
    /// Path and query.
    pub path: String,
    /// Headers, names in lower case.
    pub headers: Vec<(String, Vec<u8>)>,
    /// The body.
    pub body: Vec<u8>,
}

impl Seen {
    /// A header's bytes.
    pub fn header(&self, name: &str) -> Option<&[u8]> {
        self.headers.iter().find(|(own, _)| own == name).map(|(_, value)| value.as_slice())
    }
}

#[derive(Debug, Clone)]
enum Step {
    Chunk(Bytes),
    Wait(Gate),
    Reset,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Framing {
    None,
    Length(usize),
    Chunked,
}

/// One answer: a head, then steps.
#[derive(Debug, Clone)]
pub struct Answer {
    status: u16,
    headers: Vec<(String, Vec<u8>)>,
    interim: Option<u16>,
    framing: Framing,
    steps: Vec<Step>,
    trailers: Vec<(String, Vec<u8>)>,
    headless: bool,
}

impl Answer {
    /// A status without a body (and without a length where the status has none, as 204).
    pub fn empty(status: u16) -> Self {
        let framing = if status == 204 || status < 200 { Framing::None } else { Framing::Length(0) };
        let (headers, steps, trailers) = Default::default();
        Self { status, headers, interim: None, framing, steps, trailers, headless: false }
    }

    /// JSON with a content length.
    pub fn json(status: u16, body: &str) -> Self {
        Self::sized(status, body.as_bytes().to_vec()).header("content-type", "application/json")
    }

    /// Any body with a content length and no content type.
    pub fn sized(status: u16, body: impl Into<Bytes>) -> Self {
        let body = body.into();
        let framing = Framing::Length(body.len());
        Self { framing, steps: vec![Step::Chunk(body)], ..Self::empty(status) }
    }

    /// JSON in chunks, to be added with [`Self::chunk`].
    pub fn chunked(status: u16) -> Self {
        let answer = Self { framing: Framing::Chunked, ..Self::empty(status) };
        answer.header("content-type", "application/json")
    }

    /// Any body in chunks, with no content type, to be added with [`Self::chunk`].
    pub fn pieces(status: u16) -> Self {
        Self { framing: Framing::Chunked, ..Self::empty(status) }
    }

    /// The connection or stream is reset before any head.
    pub fn reset() -> Self {
        Self { headless: true, ..Self::empty(200) }
    }

    /// Whether the head says how long the body is.
    pub fn declares_length(&self) -> bool {
        matches!(self.framing, Framing::Length(_))
    }

    /// Adds a header; its value may be any bytes, text or not.
    pub fn header(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.headers.push((name.to_owned(), value.as_ref().to_vec()));
        self
    }

    /// Adds a chunk.
    pub fn chunk(mut self, bytes: impl Into<Bytes>) -> Self {
        self.steps.push(Step::Chunk(bytes.into()));
        self
    }

    /// Waits here until the gate opens.
    pub fn wait(mut self, gate: &Gate) -> Self {
        self.steps.push(Step::Wait(gate.clone()));
        self
    }

    /// Resets the connection (HTTP/1.1) or stream (HTTP/2) here.
    pub fn then_reset(mut self) -> Self {
        self.steps.push(Step::Reset);
        self
    }

    /// Adds a trailer.
    pub fn trailer(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.trailers.push((name.to_owned(), value.as_ref().to_vec()));
        self
    }

    /// Sends this 1xx first (HTTP/1.1 alone).
    pub fn after_interim(mut self, status: u16) -> Self {
        self.interim = Some(status);
        self
    }
}

type Script = dyn Fn(&Seen) -> Answer + Send + Sync;

/// The API.
#[derive(Debug)]
pub struct Upstream {
    server: Server,
    seen: watch::Receiver<Vec<Seen>>,
}

impl Upstream {
    /// Answers by script.
    pub async fn start(script: impl Fn(&Seen) -> Answer + Send + Sync + 'static) -> Result<Self> {
        let script: Arc<Script> = Arc::new(script);
        let (record, seen) = watch::channel(Vec::new());
        let record = Arc::new(record);
        let server = Server::tcp(move |stream| {
            let (script, record) = (Arc::clone(&script), Arc::clone(&record));
            async move {
                // A caller that breaks off, or an answer that does, ends a connection and nothing else.
                let _ = serve(stream, script, record).await;
            }
        })
        .await?;
        Ok(Self { server, seen })
    }

    /// Where Envoy finds it.
    pub fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// Every request so far.
    pub fn seen(&self) -> Vec<Seen> {
        self.seen.borrow().clone()
    }
}

async fn serve(stream: TcpStream, script: Arc<Script>, record: Arc<watch::Sender<Vec<Seen>>>) -> Result<()> {
    let mut start = [0; HTTP2_PREFACE.len()];
    while stream.peek(&mut start).await? < start.len() {
        // Fewer bytes than a preface: either a very small write was split, or this is the end.
        stream.readable().await?;
        if stream.peek(&mut start).await? == 0 {
            return Ok(());
        }
        tokio::task::yield_now().await;
    }
    if start == HTTP2_PREFACE {
        serve_http2(stream, script, record).await
    } else {
        serve_http1(stream, script.as_ref(), &record).await
    }
}

async fn serve_http1(stream: TcpStream, script: &Script, record: &watch::Sender<Vec<Seen>>) -> Result<()> {
    let mut stream = BufReader::new(stream);
    while let Some(seen) = read_request(&mut stream).await? {
        let answer = script(&seen);
        record.send_modify(|all| all.push(seen.clone()));
        if !write_answer(stream.get_mut(), &answer, &seen.method).await? {
            // Lingering for no time turns the close into a reset.
            stream.get_ref().set_zero_linger()?;
            return Ok(());
        }
    }
    Ok(())
}

async fn read_request(stream: &mut BufReader<TcpStream>) -> Result<Option<Seen>> {
    let mut first = String::new();
    if stream.read_line(&mut first).await? == 0 {
        return Ok(None);
    }
    let mut words = first.split_whitespace().map(str::to_owned);
    let (Some(method), Some(path)) = (words.next(), words.next()) else { bail!("no request line: {first}") };
    let mut headers = Vec::new();
    loop {
        let mut line = Vec::new();
        stream.read_until(b'\n', &mut line).await?;
        let line = line.trim_ascii();
        if line.is_empty() {
            break;
        }
        let colon = line.iter().position(|byte| *byte == b':').context("a header without a colon")?;
        let (name, value) = line.split_at(colon);
        headers.push((String::from_utf8_lossy(name).to_lowercase(), value[1..].trim_ascii().to_vec()));
    }
    let mut seen = Seen { method, path, headers, body: Vec::new() };
    seen.body = read_body(stream, &seen).await?;
    Ok(Some(seen))
}

async fn read_body(stream: &mut BufReader<TcpStream>, seen: &Seen) -> Result<Vec<u8>> {
    if seen.header("transfer-encoding").is_some() {
        let mut body = Vec::new();
        loop {
            let mut line = String::new();
            stream.read_line(&mut line).await?;
            let mut chunk = vec![0; usize::from_str_radix(line.trim(), 16)? + 2];
            stream.read_exact(&mut chunk).await?;
            chunk.truncate(chunk.len() - 2);
            if chunk.is_empty() {
                return Ok(body);
            }
            body.append(&mut chunk);
        }
    }
    let length = seen.header("content-length").map_or("0".into(), String::from_utf8_lossy);
    let mut body = vec![0; length.parse()?];
    stream.read_exact(&mut body).await?;
    Ok(body)
}

/// Whether the connection may go on.
async fn write_answer(stream: &mut TcpStream, answer: &Answer, method: &str) -> Result<bool> {
    if answer.headless {
        return Ok(false);
    }
    if let Some(interim) = answer.interim {
        stream.write_all(format!("HTTP/1.1 {interim} Interim\r\nlink: </a.css>\r\n\r\n").as_bytes()).await?;
    }
    let framing = match answer.framing {
        Framing::None => String::new(),
        Framing::Length(length) => format!("content-length: {length}\r\n"),
        Framing::Chunked => "transfer-encoding: chunked\r\n".into(),
    };
    let status = format!("HTTP/1.1 {} Scripted\r\n{framing}", answer.status);
    stream.write_all(&[status.as_bytes(), &lines(&answer.headers), b"\r\n"].concat()).await?;
    let chunked = answer.framing == Framing::Chunked;
    let bodiless = method == "HEAD";
    for step in &answer.steps {
        match step {
            Step::Chunk(_) if bodiless => {}
            Step::Chunk(bytes) if chunked => {
                let framed = [format!("{:x}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat();
                stream.write_all(&framed).await?;
            }
            Step::Chunk(bytes) => stream.write_all(bytes).await?,
            Step::Wait(gate) => gate.passed().await,
            Step::Reset => return Ok(false),
        }
    }
    if chunked && !bodiless {
        stream.write_all(&[b"0\r\n", lines(&answer.trailers).as_slice(), b"\r\n"].concat()).await?;
    }
    Ok(answer.status != 101)
}

fn lines(headers: &[(String, Vec<u8>)]) -> Vec<u8> {
    headers.iter().flat_map(|(name, value)| [name.as_bytes(), b": ", value, b"\r\n"].concat()).collect()
}

async fn serve_http2(
    stream: TcpStream,
    script: Arc<Script>,
    record: Arc<watch::Sender<Vec<Seen>>>,
) -> Result<()> {
    let service = service_fn(move |request| {
        let (script, record) = (Arc::clone(&script), Arc::clone(&record));
        async move {
            let seen = see(request).await?;
            let answer = script(&seen);
            record.send_modify(|all| all.push(seen));
            respond(answer)
        }
    });
    let connection = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
    connection.serve_connection(TokioIo::new(stream), service).await.context("an HTTP/2 connection broke")
}

async fn see(request: hyper::Request<Incoming>) -> Result<Seen> {
    let (head, body) = request.into_parts();
    let headers =
        head.headers.iter().map(|(name, value)| (name.to_string(), value.as_bytes().to_vec())).collect();
    let path = head.uri.path_and_query().context("no path")?.to_string();
    let body = body.collect().await?.to_bytes().to_vec();
    Ok(Seen { method: head.method.to_string(), path, headers, body })
}

type StreamBody = Either<channel::Channel<Bytes, std::io::Error>, Empty<Bytes>>;

fn respond(answer: Answer) -> Result<Response<StreamBody>> {
    if answer.headless {
        bail!("reset by the script");
    }
    // Without steps the head ends the stream, which is an end of its own kind.
    let ends_with_head = answer.steps.is_empty() && answer.trailers.is_empty();
    let (sender, body) = channel::Channel::new(1);
    let body = if ends_with_head { Either::Right(Empty::new()) } else { Either::Left(body) };
    let mut response = Response::new(body);
    *response.status_mut() = StatusCode::from_u16(answer.status)?;
    *response.headers_mut() = header_map(&answer.headers)?;
    if let Framing::Length(length) = answer.framing {
        response.headers_mut().insert("content-length", length.into());
    }
    tokio::spawn(write_frames(sender, answer));
    Ok(response)
}

async fn write_frames(mut sender: channel::Sender<Bytes, std::io::Error>, answer: Answer) {
    for step in &answer.steps {
        match step {
            // A peer that has gone is no failure of the script.
            Step::Chunk(bytes) => drop(sender.send(Frame::data(bytes.clone())).await),
            Step::Wait(gate) => gate.passed().await,
            Step::Reset => return sender.abort(std::io::ErrorKind::ConnectionReset.into()),
        }
    }
    if let Ok(trailers) = header_map(&answer.trailers)
        && !trailers.is_empty()
    {
        let _ = sender.send_trailers(trailers).await;
    }
}

fn header_map(headers: &[(String, Vec<u8>)]) -> Result<HeaderMap> {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        map.append(HeaderName::from_bytes(name.as_bytes())?, HeaderValue::from_bytes(value)?);
    }
    Ok(map)
}
