//! SQS: the server that `TEST_SQS_URL` names (`http://host:port`), or one that is started here (moto).
//!
//! Credentials come from the environment, which a test cannot set for itself. So the suite runs in a process of its own,
//! started with them; with a server of somebody's own they are his.

use std::net::SocketAddr;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use aws_sdk_sqs::types::QueueAttributeName::{
    ApproximateNumberOfMessages, ApproximateNumberOfMessagesNotVisible,
};
use harness::Sqs;
use harness::ports::ReservedPort;
use harness::skip::or_skip;
use harness::sqs::{KEY, SECRET, SERVER};
use harness::workspace::RunDirectory;

use crate::bench::Broker;
use crate::conformance;

#[tokio::test(flavor = "multi_thread")]
async fn sqs_is_a_queue() {
    let run = RunDirectory::create().expect("a directory");
    let Some(server) = or_skip(Sqs::start(&run).await) else { return };
    if std::env::var_os(SERVER).is_some() {
        return conformance::holds(server).await;
    }
    let mut suite = again("sqs_is_a_queue");
    suite.env(SERVER, server.url()).envs(server.environment());
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

fn url_of(server: &Sqs, queue: &str) -> String {
    format!("{}{queue}", server.url())
}

/// A queue goes by the path of its URL.
impl Broker for Sqs {
    fn address(&self) -> SocketAddr {
        self.address()
    }

    fn url(&self, queue: &str, by: SocketAddr) -> String {
        self.queue_by(queue, by)
    }

    async fn make(&self, name: &str) -> Result<String> {
        self.make(name).await
    }

    async fn remove(&self, queue: &str) -> Result<()> {
        self.client().delete_queue().queue_url(url_of(self, queue)).send().await?;
        Ok(())
    }

    async fn post(&self, queue: &str, body: &str) -> Result<()> {
        self.client().send_message().queue_url(url_of(self, queue)).message_body(body).send().await?;
        Ok(())
    }

    async fn depth(&self, queue: &str) -> Result<usize> {
        let asked = self.client().get_queue_attributes().queue_url(url_of(self, queue));
        let asked = asked.attribute_names(ApproximateNumberOfMessages);
        let told = asked.attribute_names(ApproximateNumberOfMessagesNotVisible).send().await?;
        let counts = told.attributes().context("a queue has attributes")?.values();
        let counts = counts.map(|count| count.parse::<usize>()).collect::<Result<Vec<_>, _>>()?;
        ensure!(counts.len() == 2, "both counts");
        Ok(counts.iter().sum())
    }

    async fn refusals(&self, queue: &str) -> Result<Vec<(String, &'static str)>> {
        let nobody = ReservedPort::any()?.release();
        let address = self.address();
        Ok(vec![
            (self.queue_by(queue, address).replace("=http:", "=https:"), "cannot reach SQS at https://"),
            ("sqs://key:hush@127.0.0.1/1/g".into(), "credentials come from the environment"),
            (format!("sqs://{address}?endpoint=http://{address}"), "it names no queue"),
            (self.queue_by(&format!("{queue}.fifo"), address), "is a FIFO queue"),
            (self.queue_by(&format!("{queue}-none"), address), "there is no queue"),
            (self.queue_by(queue, nobody), "cannot reach SQS at http://127.0.0.1"),
            (format!("sqs://{address}{queue}?endpoint=http://{address}"), "no AWS region is known"),
        ])
    }
}
