//! SQS: the server that `TEST_SQS_URL` names (`http://host:port`), or one that is started here (moto).
//!
//! Credentials come from the environment, which a test cannot set for itself. So the suite runs in a process of its own,
//! started with them; with a server of somebody's own they are his.

use std::net::{SocketAddr, ToSocketAddrs as _};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use aws_sdk_sqs::Client;
use aws_sdk_sqs::config::{BehaviorVersion, Credentials, Region};
use aws_sdk_sqs::types::QueueAttributeName::{
    ApproximateNumberOfMessages, ApproximateNumberOfMessagesNotVisible,
};
use aws_smithy_http_client::Builder;
use harness::ports::ReservedPort;
use harness::process::Process;
use harness::skip::or_skip;
use harness::workspace::RunDirectory;
use harness::{http, python, wait};
use url::Url;

use crate::bench::Broker;
use crate::conformance;

/// The server, with what it needs for SQS.
const MOTO: &str = "moto[server]==5.1.22";

/// Tells where the server is.
const SERVER: &str = "TEST_SQS_URL";
const KEY: &str = "AWS_ACCESS_KEY_ID";
const SECRET: &str = "AWS_SECRET_ACCESS_KEY";
const REGION: &str = "us-east-1";

#[tokio::test(flavor = "multi_thread")]
async fn sqs_is_a_queue() {
    if let Ok(url) = std::env::var(SERVER) {
        return conformance::holds(Sqs::at(&url).expect("TEST_SQS_URL and credentials")).await;
    }
    let Some((_moto, address)) = or_skip(start().await) else { return };
    let mut suite = again("sqs_is_a_queue");
    suite.env(SERVER, format!("http://{address}")).env(KEY, "test").env(SECRET, "test");
    assert!(suite.status().expect("this program starts").success(), "what went wrong stands above");
}

#[tokio::test(flavor = "multi_thread")]
async fn sqs_does_not_start_without_credentials() {
    const OFF: &str = "AWS_EC2_METADATA_DISABLED";
    if std::env::var_os(OFF).is_none() {
        let mut without = again("sqs_does_not_start_without_credentials");
        without.env(OFF, "true").env_remove(KEY).env_remove(SECRET).env_remove("AWS_PROFILE");
        without.env("AWS_CONFIG_FILE", "/dev/null").env("AWS_SHARED_CREDENTIALS_FILE", "/dev/null");
        assert!(without.status().expect("this program starts").success(), "what went wrong stands above");
        return;
    }
    let refused = companion::queue::connect("sqs://sqs.eu-west-1.amazonaws.com/123456789012/gatehook").await;
    let error = format!("{:#}", refused.err().expect("no start without credentials"));
    assert!(error.starts_with("there are no AWS credentials"), "{error}");
}

/// A test of this program, in another process.
fn again(test: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("this program lies somewhere"));
    command.args(["--exact", &format!("sqs::{test}"), "--nocapture"]);
    command
}

async fn start() -> Result<(Process, SocketAddr)> {
    let environment = python::environment(&[MOTO])?;
    let run = RunDirectory::create()?;
    let address = ReservedPort::any()?.release();
    let mut command = environment.script("moto_server");
    command.args(["--host", &address.ip().to_string(), "--port", &address.port().to_string()]);
    let mut moto = Process::start(&run, "moto", &mut command)?;
    let client = http::Client::http1(address);
    let ready = async || client.get("/moto-api/data.json").send().await.ok().map(drop);
    moto.ready(wait::PATIENCE, ready).await?;
    Ok((moto, address))
}

struct Sqs {
    client: Client,
    address: SocketAddr,
}

impl Sqs {
    fn at(url: &str) -> Result<Self> {
        let parsed: Url = url.parse()?;
        let host = parsed.host_str().context("a host")?;
        let mut addresses = (host, parsed.port_or_known_default().context("a port")?).to_socket_addrs()?;
        let address = addresses.next().context("a host with an address")?;
        let keys = Credentials::new(std::env::var(KEY)?, std::env::var(SECRET)?, None, None, "test");
        let config = aws_sdk_sqs::Config::builder()
            .behavior_version(BehaviorVersion::v2026_01_12())
            .http_client(Builder::new().build_http())
            .endpoint_url(url)
            .region(Region::new(REGION))
            .credentials_provider(keys);
        Ok(Self { client: Client::from_conf(config.build()), address })
    }

    fn queue_url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }
}

/// A queue goes by the path of its URL.
impl Broker for Sqs {
    fn address(&self) -> SocketAddr {
        self.address
    }

    fn url(&self, queue: &str, by: SocketAddr) -> String {
        format!("sqs://{}{queue}?endpoint=http://{by}&region={REGION}", self.address)
    }

    async fn make(&self, name: &str) -> Result<String> {
        let made = self.client.create_queue().queue_name(name).send().await?;
        let url: Url = made.queue_url().context("a queue has a URL")?.parse()?;
        Ok(url.path().to_owned())
    }

    async fn remove(&self, queue: &str) -> Result<()> {
        self.client.delete_queue().queue_url(self.queue_url(queue)).send().await?;
        Ok(())
    }

    async fn post(&self, queue: &str, body: &str) -> Result<()> {
        self.client.send_message().queue_url(self.queue_url(queue)).message_body(body).send().await?;
        Ok(())
    }

    async fn depth(&self, queue: &str) -> Result<usize> {
        let asked = self.client.get_queue_attributes().queue_url(self.queue_url(queue));
        let asked = asked.attribute_names(ApproximateNumberOfMessages);
        let told = asked.attribute_names(ApproximateNumberOfMessagesNotVisible).send().await?;
        let counts = told.attributes().context("a queue has attributes")?.values();
        let counts = counts.map(|count| count.parse::<usize>()).collect::<Result<Vec<_>, _>>()?;
        ensure!(counts.len() == 2, "both counts");
        Ok(counts.iter().sum())
    }

    async fn refusals(&self, queue: &str) -> Result<Vec<(String, &'static str)>> {
        let nobody = ReservedPort::any()?.release();
        Ok(vec![
            (self.url(queue, self.address).replace("=http:", "=https:"), "cannot reach SQS at https://"),
            ("sqs://key:hush@127.0.0.1/1/g".into(), "credentials come from the environment"),
            (format!("sqs://{}?endpoint=http://{}", self.address, self.address), "it names no queue"),
            (self.url(&format!("{queue}.fifo"), self.address), "is a FIFO queue"),
            (self.url(&format!("{queue}-none"), self.address), "there is no queue"),
            (self.url(queue, nobody), "cannot reach SQS at http://127.0.0.1"),
            (format!("sqs://{0}{queue}?endpoint=http://{0}", self.address), "no AWS region is known"),
        ])
    }
}
