//! A server that speaks SQS: the one that `TEST_SQS_URL` names (`http://host:port`), or moto, started on a free port.
//!
//! SQS takes credentials from the environment of a process, which a test cannot set for itself. So what goes by the queue
//! are processes that are started with [`Sqs::environment`].

use std::hash::{BuildHasher as _, RandomState};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use aws_sdk_sqs::Client;
use aws_sdk_sqs::config::{BehaviorVersion, Credentials, Region};
use aws_smithy_http_client::Builder;
use tokio::net::TcpStream;
use url::Url;

use crate::ports::ReservedPort;
use crate::process::Process;
use crate::skip::Unavailable;
use crate::workspace::RunDirectory;
use crate::{http, load, python, wait};

/// Tells where a server is.
pub const SERVER: &str = "TEST_SQS_URL";

/// The variable of the key's name, which says whether there are credentials at all.
pub const KEY: &str = "AWS_ACCESS_KEY_ID";

/// The variable of the key.
pub const SECRET: &str = "AWS_SECRET_ACCESS_KEY";

/// The region of every queue; it stands in their URLs.
const REGION: &str = "us-east-1";

/// The server that is started, with what it needs for SQS.
const MOTO: &str = "moto[server]==5.1.22";

/// A server.
#[derive(Debug)]
pub struct Sqs {
    url: String,
    address: SocketAddr,
    credentials: [String; 2],
    process: Option<Process>,
}

impl Sqs {
    /// The one of `TEST_SQS_URL`, with the credentials of this process, or one of the run's own.
    pub async fn start(run: &Arc<RunDirectory>) -> Result<Self> {
        match std::env::var(SERVER) {
            Ok(url) => Self::find(url).await,
            Err(_) => Self::start_moto(run).await,
        }
    }

    async fn find(url: String) -> Result<Self> {
        let parsed = Url::parse(&url).context(SERVER)?;
        let host = parsed.host_str().with_context(|| format!("{SERVER} names no host"))?;
        let place =
            (host, parsed.port_or_known_default().with_context(|| format!("{SERVER} names no port"))?);
        let address = tokio::net::lookup_host(place).await?.next().context("no address")?;
        let answers = tokio::time::timeout(Duration::from_secs(2), TcpStream::connect(address)).await;
        if !matches!(answers, Ok(Ok(_))) {
            return Err(Unavailable::new(format!("no SQS at {address}, which {SERVER} names")).into());
        }
        let own = |name: &str| std::env::var(name).with_context(|| format!("{SERVER} needs {name}"));
        Ok(Self { url, address, credentials: [own(KEY)?, own(SECRET)?], process: None })
    }

    async fn start_moto(run: &Arc<RunDirectory>) -> Result<Self> {
        let environment = python::environment(&[MOTO])?;
        let address = ReservedPort::any()?.release();
        let mut command = environment.script("moto_server");
        command.args(["--host", &address.ip().to_string(), "--port", &address.port().to_string()]);
        let mut process = Process::start(run, "moto", &mut command)?;
        let client = http::Client::http1(address);
        let ready = async || client.get("/moto-api/data.json").send().await.ok().map(drop);
        process.ready(wait::PATIENCE, ready).await?;
        let url = format!("http://{address}");
        Ok(Self { url, address, credentials: ["test", "test"].map(str::to_owned), process: Some(process) })
    }

    /// `http://host:port`.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its process, where that runs on this machine.
    pub fn id(&self) -> Option<u32> {
        self.process.as_ref().map(Process::id).or_else(|| load::listener(self.address.port()))
    }

    /// What a process needs in its environment to use a queue.
    pub fn environment(&self) -> Vec<(String, String)> {
        [KEY, SECRET].map(str::to_owned).into_iter().zip(self.credentials.clone()).collect()
    }

    /// A client that reaches it directly.
    pub fn client(&self) -> Client {
        let [key, secret] = self.credentials.clone();
        let config = aws_sdk_sqs::Config::builder()
            .behavior_version(BehaviorVersion::v2026_01_12())
            .http_client(Builder::new().build_http())
            .endpoint_url(&self.url)
            .region(Region::new(REGION))
            .credentials_provider(Credentials::new(key, secret, None, None, "test"));
        Client::from_conf(config.build())
    }

    /// A new queue of a random name, as `--queue` takes it.
    pub async fn queue(&self) -> Result<String> {
        // A server may be shared with other runs, on other machines too.
        let name = format!("gatehook-test-{:016x}", RandomState::new().hash_one(std::process::id()));
        Ok(self.queue_by(&self.make(&name).await?, self.address))
    }

    /// Makes a queue, and gives the path of its URL.
    pub async fn make(&self, name: &str) -> Result<String> {
        let made = self.client().create_queue().queue_name(name).send().await?;
        let url: Url = made.queue_url().context("a queue has a URL")?.parse()?;
        Ok(url.path().to_owned())
    }

    /// A queue as `--queue` takes it, reached by way of an address that leads here.
    pub fn queue_by(&self, path: &str, by: SocketAddr) -> String {
        format!("sqs://{}{path}?endpoint=http://{by}&region={REGION}", self.address)
    }
}
