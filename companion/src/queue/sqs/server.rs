//! The requests to SQS, and what goes wrong with them in a sentence.

use std::error::Error;
use std::time::Duration;

use anyhow::{Context, anyhow};
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region};
use aws_sdk_sqs::Client;
use aws_sdk_sqs::config::ProvideCredentials as _;
use aws_sdk_sqs::config::retry::RetryConfig;
use aws_sdk_sqs::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_sqs::operation::get_queue_attributes::GetQueueAttributesError;
use aws_sdk_sqs::types::{
    ChangeMessageVisibilityBatchRequestEntry, DeleteMessageBatchRequestEntry, Message, QueueAttributeName,
    SendMessageBatchRequestEntry,
};
use aws_smithy_http_client::Builder;
use aws_smithy_http_client::tls::Provider;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use tokio::time::timeout;

use super::url::Place;
use crate::limits;

/// A queue in SQS.
pub(super) struct Server {
    client: Client,
    queue: String,
    endpoint: String,
}

impl Server {
    /// Finds credentials, and asks for the queue.
    ///
    /// # Errors
    /// One sentence.
    pub(super) async fn connect(place: Place) -> anyhow::Result<Self> {
        let Place { queue, endpoint, region } = place;
        let http = Builder::new().tls_provider(Provider::Rustls(CryptoMode::Ring)).build_https();
        let timeouts =
            TimeoutConfig::builder().connect_timeout(limits::CONNECT).operation_timeout(limits::QUEUE_ANSWER);
        // Trying again is the tasks' own business.
        let mut config = aws_config::defaults(BehaviorVersion::v2026_01_12())
            .http_client(http)
            .timeout_config(timeouts.build())
            .retry_config(RetryConfig::disabled());
        if let Some(region) = region {
            config = config.region(Region::new(region));
        }
        let config = config.load().await;
        config.region().with_context(|| format!("no AWS region is known for {queue}: add ?region=…"))?;
        let credentials = config.credentials_provider().context("there are no AWS credentials")?;
        let found = timeout(limits::QUEUE_CONNECT, credentials.provide_credentials()).await;
        found.context("there are no AWS credentials: none came in time")?.map_err(|error| {
            anyhow!("there are no AWS credentials in the environment or elsewhere: {}", root(&error))
        })?;
        // Credentials may come from other services, which have their own endpoints.
        let ours = aws_sdk_sqs::config::Builder::from(&config).endpoint_url(&endpoint).build();
        let server = Self { client: Client::from_conf(ours), queue, endpoint };
        timeout(limits::QUEUE_CONNECT, server.look())
            .await
            .map_err(|_| anyhow!("SQS at {} does not answer", server.endpoint))??;
        Ok(server)
    }

    /// Whether the queue is there, and is what it has to be.
    async fn look(&self) -> anyhow::Result<()> {
        let asked = self.client.get_queue_attributes().queue_url(&self.queue);
        let Err(error) = asked.attribute_names(QueueAttributeName::QueueArn).send().await else {
            return Ok(());
        };
        // Some servers have the code of the older protocol.
        let is_missing = error.code().is_some_and(|code| code.ends_with("NonExistentQueue"))
            || error.as_service_error().is_some_and(GetQueueAttributesError::is_queue_does_not_exist);
        if is_missing {
            anyhow::bail!("there is no queue {}: make a standard queue of that name", self.queue);
        }
        Err(self.failure(&error))
    }

    /// Sends messages; the numbers of those that SQS did not take.
    pub(super) async fn send(&self, bodies: &[String]) -> anyhow::Result<Vec<usize>> {
        let entry = |(number, body): (usize, &String)| {
            SendMessageBatchRequestEntry::builder().id(number.to_string()).message_body(body).build()
        };
        let entries = bodies.iter().enumerate().map(entry).collect::<Result<_, _>>()?;
        let sent = self.client.send_message_batch().queue_url(&self.queue).set_entries(Some(entries));
        let sent = sent.send().await.map_err(|error| self.failure(&error))?;
        Ok(sent.failed().iter().filter_map(|failed| failed.id().parse().ok()).collect())
    }

    /// Waits for messages, at most so many, and hides them from others for a lease.
    pub(super) async fn receive(&self, most: usize) -> anyhow::Result<Vec<Message>> {
        let asked = self.client.receive_message().queue_url(&self.queue);
        let asked = asked
            .max_number_of_messages(i32::try_from(most.min(limits::SQS_BATCH))?)
            .wait_time_seconds(seconds(limits::SQS_POLL))
            .visibility_timeout(seconds(limits::LEASE));
        let received = asked.send().await.map_err(|error| self.failure(&error))?;
        Ok(received.messages.unwrap_or_default())
    }

    /// Deletes messages by their receipts, a batch of them. One that is not deleted comes again, which is harmless.
    pub(super) async fn delete(&self, receipts: &[String]) -> anyhow::Result<()> {
        let entry = |(number, receipt): (usize, &String)| {
            DeleteMessageBatchRequestEntry::builder().id(number.to_string()).receipt_handle(receipt).build()
        };
        let entries = receipts.iter().enumerate().map(entry).collect::<Result<_, _>>()?;
        let deleted = self.client.delete_message_batch().queue_url(&self.queue).set_entries(Some(entries));
        deleted.send().await.map(drop).map_err(|error| self.failure(&error))
    }

    /// Hides messages from others for so long from now, a batch of them; the numbers of those that are ours no more.
    pub(super) async fn hide(&self, receipts: &[String], time: Duration) -> anyhow::Result<Vec<usize>> {
        let entry = |(number, receipt): (usize, &String)| {
            ChangeMessageVisibilityBatchRequestEntry::builder()
                .id(number.to_string())
                .receipt_handle(receipt)
                .visibility_timeout(seconds(time))
                .build()
        };
        let entries = receipts.iter().enumerate().map(entry).collect::<Result<_, _>>()?;
        let changed = self.client.change_message_visibility_batch().queue_url(&self.queue);
        let changed =
            changed.set_entries(Some(entries)).send().await.map_err(|error| self.failure(&error))?;
        let lost = changed.failed().iter().filter(|failed| failed.sender_fault());
        Ok(lost.filter_map(|failed| failed.id().parse().ok()).collect())
    }

    /// What SQS or the way to it said.
    fn failure<E>(&self, error: &SdkError<E>) -> anyhow::Error
    where
        E: ProvideErrorMetadata + Error + 'static,
    {
        let Some(refused) = error.as_service_error() else {
            return anyhow!("cannot reach SQS at {}: {}", self.endpoint, root(error));
        };
        let Some(code) = refused.code() else {
            let status = error.raw_response().map_or(0, |answer| answer.status().as_u16());
            return anyhow!("{} does not answer as SQS does: status {status}", self.endpoint);
        };
        anyhow!("SQS at {} refuses: {code} {}", self.endpoint, refused.message().unwrap_or_default())
    }
}

/// What is at the bottom of an error; what is above it only says that something failed.
fn root(error: &(dyn Error + 'static)) -> String {
    let mut root = error;
    while let Some(source) = root.source() {
        root = source;
    }
    root.to_string()
}

fn seconds(time: Duration) -> i32 {
    i32::try_from(time.as_secs()).unwrap_or(i32::MAX)
}
