//! RabbitMQ: the server that `TEST_AMQP_URL` names, or the one of this machine.

use std::net::{SocketAddr, ToSocketAddrs as _};

use anyhow::{Context as _, Result};
use harness::ports::ReservedPort;
use harness::skip::{Unavailable, or_skip};
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions, QueueDeleteOptions};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties};
use url::Url;

use crate::bench::Broker;
use crate::conformance;

#[tokio::test(flavor = "multi_thread")]
async fn rabbitmq_is_a_queue() {
    if let Some(server) = or_skip(RabbitMq::find().await) {
        conformance::holds(server).await;
    }
}

struct RabbitMq {
    url: Url,
    address: SocketAddr,
    connection: Connection,
}

impl RabbitMq {
    async fn find() -> Result<Self> {
        let named = std::env::var("TEST_AMQP_URL");
        let url: Url = named.as_deref().unwrap_or("amqp://guest:guest@127.0.0.1:5672").parse()?;
        let host = url.host_str().context("a URL with a host")?;
        let mut addresses = (host, url.port().unwrap_or(5672)).to_socket_addrs()?;
        let address = addresses.next().context("a host with an address")?;
        let connection = Connection::connect(url.as_str(), ConnectionProperties::default()).await;
        let connection = connection.map_err(|error| Unavailable::new(format!("no RabbitMQ: {error}")))?;
        Ok(Self { url, address, connection })
    }

    async fn channel(&self) -> Result<Channel> {
        Ok(self.connection.create_channel().await?)
    }

    /// The URL with another user.
    fn url_as(&self, user: &str, password: &str, by: SocketAddr) -> Result<Url> {
        let mut url = self.url.clone();
        let set = url.set_username(user).and_then(|()| url.set_password(Some(password)));
        set.and_then(|()| url.set_port(Some(by.port()))).ok().context("a URL with a user")?;
        url.set_host(Some(&by.ip().to_string()))?;
        Ok(url)
    }
}

impl Broker for RabbitMq {
    fn address(&self) -> SocketAddr {
        self.address
    }

    fn url(&self, queue: &str, by: SocketAddr) -> String {
        let (user, password) = (self.url.username(), self.url.password().unwrap_or_default());
        let mut url = self.url_as(user, password, by).expect("it was a URL with a user");
        url.query_pairs_mut().append_pair("queue", queue);
        url.into()
    }

    async fn make(&self, name: &str) -> Result<String> {
        Ok(name.to_owned())
    }

    async fn remove(&self, queue: &str) -> Result<()> {
        let channel = self.channel().await?;
        channel.queue_delete(queue.into(), QueueDeleteOptions::default()).await?;
        Ok(())
    }

    async fn post(&self, queue: &str, body: &str) -> Result<()> {
        let channel = self.channel().await?;
        channel.confirm_select(ConfirmSelectOptions::default()).await?;
        let (options, properties) = (BasicPublishOptions::default(), BasicProperties::default());
        channel.basic_publish("".into(), queue.into(), options, body.as_bytes(), properties).await?.await?;
        Ok(())
    }

    async fn depth(&self, queue: &str) -> Result<usize> {
        let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
        let queue = self.channel().await?.queue_declare(queue.into(), options, FieldTable::default()).await?;
        Ok(usize::try_from(queue.message_count())?)
    }

    async fn refusals(&self, queue: &str) -> Result<Vec<(String, &'static str)>> {
        let options = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
        self.channel().await?.queue_declare(queue.into(), options, FieldTable::default()).await?;
        let nobody = ReservedPort::any()?.release();
        let (user, password) = (self.url.username(), self.url.password().unwrap_or_default());
        let mut elsewhere = self.url_as(user, password, self.address)?;
        elsewhere.set_path("no-such-host");
        let mut plain = self.url_as(user, password, self.address)?;
        plain.set_scheme("amqps").ok().context("a URL with a scheme")?;
        Ok(vec![
            (plain.into(), "(TLS): "),
            ("amqp://u:hush@".into(), "is no URL of a RabbitMQ server"),
            ("amqp://u:hush@127.0.0.1?queue=a&durable=no".into(), "the only parameter is queue, not durable"),
            (self.url_as("nobody", "hush", self.address)?.into(), "refuses the user `nobody`"),
            (self.url_as("nobody", "hush", nobody)?.into(), "cannot reach RabbitMQ at 127.0.0.1"),
            (elsewhere.into(), "into the virtual host `no-such-host`"),
            (self.url(queue, self.address), "is no durable quorum queue"),
        ])
    }
}
