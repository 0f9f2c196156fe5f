//! A RabbitMQ that runs on this machine, and queues of a test's own in it.

use std::hash::{BuildHasher as _, RandomState};
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, Result};
use tokio::net::TcpStream;
use url::Url;

use crate::skip::Unavailable;

/// Where it is looked for unless `TEST_AMQP_URL` says otherwise.
const USUAL: &str = "amqp://guest:guest@127.0.0.1:5672";

/// A server.
#[derive(Debug)]
pub struct Broker {
    url: Url,
    address: SocketAddr,
}

/// A queue that nobody else uses.
#[derive(Debug)]
pub struct Queue {
    url: String,
}

impl Broker {
    /// The one of `TEST_AMQP_URL`, or the one in the usual place.
    pub async fn find() -> Result<Self> {
        let given = std::env::var("TEST_AMQP_URL").ok();
        let url = Url::parse(given.as_deref().unwrap_or(USUAL)).context("TEST_AMQP_URL")?;
        let host = url.host_str().context("TEST_AMQP_URL names no host")?;
        let place = format!("{host}:{}", url.port().unwrap_or(5672));
        let address = tokio::net::lookup_host(&place).await?.next().context("no address")?;
        let answers = tokio::time::timeout(Duration::from_secs(2), TcpStream::connect(address)).await;
        match answers {
            Ok(Ok(_)) => Ok(Self { url, address }),
            _ => Err(Unavailable::new(format!("no RabbitMQ at {place}; TEST_AMQP_URL names one")).into()),
        }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// A new queue, reached directly.
    pub fn queue(&self) -> Queue {
        self.queue_by(self.address)
    }

    /// A new queue, reached by way of an address that leads here.
    pub fn queue_by(&self, address: SocketAddr) -> Queue {
        let mut url = self.url.clone();
        // A URL with a host takes another one.
        let _ = url.set_ip_host(address.ip());
        let _ = url.set_port(Some(address.port()));
        let name = format!("gatehook.test.{:x}", RandomState::new().hash_one(std::process::id()));
        url.query_pairs_mut().clear().append_pair("queue", &name);
        Queue { url: url.into() }
    }
}

impl Queue {
    /// Its URL, as `--queue` takes it.
    pub fn url(&self) -> &str {
        &self.url
    }
}
