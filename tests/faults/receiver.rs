//! A receiver that can be killed: a process of its own, which writes down what arrives before it answers.
//!
//! It is this program again, under the command `receive`. One line per arrival, so that what it has said yes to is known
//! however it ends; a restart takes the same port and goes on in the same journal.

use std::convert::Infallible;
use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use clap::Args;
use harness::ports::ReservedPort;
use harness::process::Process;
use harness::receiver::verify;
use harness::server::Server;
use harness::wait;
use harness::workspace::RunDirectory;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::{Request, Response, StatusCode};
use serde_json::Value;
use tokio::net::TcpSocket;

use crate::moment::Moment;

/// What signs for every subscription, so that a new process knows it.
pub(crate) const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// Receives webhooks; what `cargo faults` starts to have someone to kill.
#[derive(Args)]
pub(crate) struct Receive {
    #[arg(long)]
    listen: SocketAddr,
    #[arg(long)]
    journal: PathBuf,
}

impl Receive {
    pub(crate) async fn run(self) -> Result<Infallible> {
        let journal = Arc::new(File::options().create(true).append(true).open(&self.journal)?);
        let socket = TcpSocket::new_v4()?;
        socket.set_reuseaddr(true)?;
        socket.set_reuseport(true)?;
        socket.bind(self.listen)?;
        let _server =
            Server::http_on(socket.listen(1_024)?, move |request| take(request, Arc::clone(&journal)))?;
        std::future::pending().await
    }
}

async fn take(request: Request<Incoming>, journal: Arc<File>) -> Response<Full<Bytes>> {
    let (head, body) = request.into_parts();
    let answer = |status| {
        let mut response = Response::new(Full::default());
        *response.status_mut() = status;
        response
    };
    let Ok(body) = body.collect().await else { return answer(StatusCode::BAD_REQUEST) };
    let at = Moment::now();
    let body = body.to_bytes();
    if verify(SECRET, &body, &head.headers).is_err() {
        // Never arrived, as far as anyone can tell from the journal.
        return answer(StatusCode::BAD_REQUEST);
    }
    let json: Value = serde_json::from_slice(&body).unwrap_or_default();
    let number = json["data"]["id"].as_str().unwrap_or("-");
    let subject = json["subject"].as_str().unwrap_or("-");
    let id = head.headers.get("webhook-id").and_then(|id| id.to_str().ok()).unwrap_or("-");
    let line = format!("{at} {} {id} {number} {subject}\n", head.uri.path());
    // In one call, which no signal tears; what is in the file is there whatever becomes of this process.
    match journal.as_ref().write_all(line.as_bytes()) {
        Ok(()) => answer(StatusCode::OK),
        Err(_) => answer(StatusCode::INTERNAL_SERVER_ERROR),
    }
}

/// A delivery that a receiver got.
#[derive(Debug)]
pub(crate) struct Arrival {
    pub(crate) at: Moment,
    /// The path of the subscription's target.
    pub(crate) hook: String,
    pub(crate) id: String,
    /// The event's number.
    pub(crate) number: usize,
    pub(crate) subject: String,
}

/// The process, from outside.
pub(crate) struct Receiver {
    run: Arc<RunDirectory>,
    port: ReservedPort,
    journal: PathBuf,
    environment: Vec<(String, String)>,
    process: Option<Process>,
    /// Bytes of the journal that were read.
    read: u64,
    arrivals: Vec<Arrival>,
}

impl Receiver {
    pub(crate) async fn start(run: &Arc<RunDirectory>, environment: Vec<(String, String)>) -> Result<Self> {
        let (port, journal) = (ReservedPort::any()?, run.numbered("arrivals"));
        let (run, process, read, arrivals) = (Arc::clone(run), None, 0, Vec::new());
        let mut receiver = Self { run, port, journal, environment, process, read, arrivals };
        receiver.restart().await?;
        Ok(receiver)
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.port.address()
    }

    pub(crate) fn kill(&mut self) -> Result<()> {
        self.process.take().context("the receiver does not run")?.kill()
    }

    /// Starts it and waits until it takes connections.
    pub(crate) async fn restart(&mut self) -> Result<()> {
        let address = self.address();
        // Not by its path: whoever builds the companion builds this program anew, and the path is the new one's.
        let mut command = Command::new("/proc/self/exe");
        command.args(["receive", "--listen", &address.to_string(), "--journal"]).arg(&self.journal);
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        let mut process = Process::start(&self.run, "receiver", &mut command)?;
        let connects = async || tokio::net::TcpStream::connect(address).await.ok();
        process.ready(wait::PATIENCE, connects).await?;
        self.process = Some(process);
        Ok(())
    }

    /// All that has arrived so far.
    pub(crate) fn arrivals(&mut self) -> Result<&[Arrival]> {
        let Ok(mut journal) = File::open(&self.journal) else { return Ok(&self.arrivals) };
        journal.seek(SeekFrom::Start(self.read))?;
        let mut text = String::new();
        journal.read_to_string(&mut text)?;
        for line in text.split_inclusive('\n').filter(|line| line.ends_with('\n')) {
            self.read += u64::try_from(line.len())?;
            self.arrivals.push(parse(line.trim_end())?);
        }
        Ok(&self.arrivals)
    }
}

fn parse(line: &str) -> Result<Arrival> {
    let fields: Vec<&str> = line.split(' ').collect();
    let [at, hook, id, number, subject] = fields[..] else { bail!("a torn arrival: {line}") };
    let [hook, id, subject] = [hook, id, subject].map(str::to_owned);
    Ok(Arrival { at: Moment(at.parse()?), hook, id, number: number.parse()?, subject })
}
