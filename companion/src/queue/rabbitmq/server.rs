//! The server: its URL, and how to connect to it.
//!
//! `amqp://user:password@host:5672/vhost?queue=NAME`, or `amqps://` with TLS. Other parameters are refused rather than passed over.

use std::fmt;
use std::io::ErrorKind::TimedOut;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, bail, ensure};
use lapin::options::QueueDeclareOptions;
use lapin::protocol::{AMQPErrorKind, AMQPHardError, AMQPSoftError};
use lapin::tcp::{AMQPUriTcpExt as _, OwnedTLSConfig};
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::uri::{AMQPScheme, AMQPUri};
use lapin::{Channel, Connection, ConnectionProperties};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::limits;
use crate::store::redacted;

/// The queue where the URL names none.
const QUEUE: &str = "gatehook.deliveries";

/// What a client of AMQP 0-9-1 says first.
const GREETING: &[u8] = b"AMQP\x00\x00\x09\x01";

/// Where the server is, and the queue on it.
pub(super) struct Server {
    uri: AMQPUri,
    queue: String,
    /// Whether it was silent the last time.
    silent: AtomicBool,
}

/// A connection with one channel, and the queue known to be there.
pub(super) struct Session {
    /// The connection; it ends when this is dropped.
    pub(super) connection: Connection,
    /// Its channel.
    pub(super) channel: Channel,
}

impl Session {
    /// Ends it as the protocol wants, so that what was sent before has arrived.
    pub(super) async fn end(&self) {
        // Where it broke meanwhile, there is nothing left to end.
        let _ = timeout(limits::QUEUE_CLOSE, self.connection.close(200, "OK".into())).await;
    }
}

impl Server {
    /// Reads a URL.
    ///
    /// # Errors
    /// One sentence that says what is wrong with it.
    pub(super) fn parse(url: &str) -> anyhow::Result<Self> {
        let shown = || format!("`{}` is no URL of a RabbitMQ server", redacted(url));
        let parsed = url::Url::parse(url).with_context(shown)?;
        let mut queue = QUEUE.to_owned();
        for (name, value) in parsed.query_pairs() {
            ensure!(name == "queue", "{}: the only parameter is queue, not {name}", shown());
            queue = value.into_owned();
        }
        let is_name = !queue.is_empty() && queue.len() <= limits::QUEUE_NAME;
        ensure!(is_name, "{}: the queue's name has 1 to {} characters", shown(), limits::QUEUE_NAME);
        let host = parsed.host_str().filter(|host| !host.is_empty());
        let host = host.with_context(|| format!("{}: it names no host", shown()))?;
        // The error may quote the URL, so it is not passed on.
        let Ok(mut uri) = url.parse::<AMQPUri>() else { bail!(shown()) };
        uri.authority.host = host.trim_matches(['[', ']']).to_owned();
        uri.query.heartbeat = Some(limits::QUEUE_HEARTBEAT);
        if uri.vhost.is_empty() {
            "/".clone_into(&mut uri.vhost);
        }
        ensure!(uri.vhost.len() <= limits::QUEUE_NAME, "{}: the virtual host's name is too long", shown());
        Ok(Self { uri, queue, silent: AtomicBool::new(false) })
    }

    /// The queue's name.
    pub(super) fn queue(&self) -> ShortString {
        self.queue.as_str().into()
    }

    /// Connects, opens a channel and makes the queue if it is not there.
    ///
    /// # Errors
    /// One sentence.
    pub(super) async fn connect(&self) -> anyhow::Result<Session> {
        // A client that waits for a silent server keeps a thread until it hears something, so a second one does not begin.
        if self.silent.load(Ordering::Relaxed) {
            let heard = timeout(limits::QUEUE_CONNECT, self.greet()).await;
            heard.map_err(|_| self.silence())?.with_context(|| format!("cannot reach {self}"))?;
        }
        let session = timeout(limits::QUEUE_CONNECT, self.open()).await;
        self.silent.store(session.is_err(), Ordering::Relaxed);
        session.map_err(|_| self.silence())?
    }

    async fn open(&self) -> anyhow::Result<Session> {
        let name = format!("gatehook {}", env!("CARGO_PKG_VERSION"));
        let properties = ConnectionProperties::default().with_connection_name(name.into());
        let runtime = lapin::runtime::default_runtime()?;
        let dial = async move |uri: AMQPUri, runtime| {
            let tls = OwnedTLSConfig::default();
            let dialled =
                timeout(limits::CONNECT, uri.connect_with_config_async(tls.as_ref(), &runtime)).await;
            Ok(dialled.unwrap_or_else(|_| Err(TimedOut.into()))?)
        };
        let connection = Connection::connector(self.uri.clone(), runtime, dial, properties).await;
        let connection = connection.map_err(|error| self.refusal(&error))?;
        let channel = connection.create_channel().await?;
        self.declare(&channel).await?;
        Ok(Session { connection, channel })
    }

    /// Makes the queue, or sees that it is there and of our type.
    ///
    /// # Errors
    /// One sentence.
    pub(super) async fn declare(&self, channel: &Channel) -> anyhow::Result<()> {
        let options = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
        let mut arguments = FieldTable::default();
        arguments.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
        let declared = channel.queue_declare(self.queue(), options, arguments).await;
        declared.map(drop).map_err(|error| self.refusal(&error))
    }

    /// Says a client's first word and waits until the server does anything, be it to hang up.
    async fn greet(&self) -> std::io::Result<()> {
        let authority = &self.uri.authority;
        let mut stream = TcpStream::connect((authority.host.as_str(), authority.port)).await?;
        stream.write_all(GREETING).await?;
        let _ = stream.read(&mut [0; 8]).await;
        Ok(())
    }

    fn silence(&self) -> anyhow::Error {
        anyhow::anyhow!("{self} does not answer")
    }

    /// One sentence for what the server or the way to it said.
    fn refusal(&self, error: &lapin::Error) -> anyhow::Error {
        let user = &self.uri.authority.userinfo.username;
        let refused = match error.kind() {
            lapin::ErrorKind::ProtocolError(refused) => refused,
            lapin::ErrorKind::IOError(error) => return anyhow::anyhow!("cannot reach {self}: {error}"),
            _ => return anyhow::anyhow!("cannot reach {self}: {error}"),
        };
        let said = refused.get_message();
        let sentence = match refused.kind() {
            AMQPErrorKind::Soft(AMQPSoftError::PRECONDITIONFAILED) => format!(
                "the queue `{}` of {self} is there already and is no durable quorum queue; name another one with \
                 ?queue=NAME ({said})",
                self.queue
            ),
            AMQPErrorKind::Soft(AMQPSoftError::ACCESSREFUSED) => {
                format!("{self} refuses the user `{user}`, or what it asks for ({said})")
            }
            AMQPErrorKind::Hard(AMQPHardError::NOTALLOWED) => {
                format!(
                    "{self} does not let the user `{user}` into the virtual host `{}` ({said})",
                    self.uri.vhost
                )
            }
            _ => format!("{self} refuses ({said})"),
        };
        anyhow::anyhow!(sentence)
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let authority = &self.uri.authority;
        let tls = if self.uri.scheme == AMQPScheme::AMQPS { " (TLS)" } else { "" };
        write!(f, "RabbitMQ at {}:{}{tls}", authority.host, authority.port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_names_server_virtual_host_and_queue() {
        let check = |url: &str, host: &str, port: u16, vhost: &str, queue: &str| {
            let server = Server::parse(url).unwrap();
            let authority = &server.uri.authority;
            let found = (&*authority.host, authority.port, &*server.uri.vhost, &*server.queue);
            assert_eq!(found, (host, port, vhost, queue), "{url}");
        };
        check("amqp://mq", "mq", 5672, "/", QUEUE);
        check("amqp://u:p@10.0.0.1:1/", "10.0.0.1", 1, "/", QUEUE);
        check("amqps://u:p@mq/acme?queue=mine", "mq", 5671, "acme", "mine");
        check("amqp://[::1]/%2f", "::1", 5672, "/", QUEUE);
    }

    #[test]
    fn a_wrong_url_is_told_without_its_password() {
        let long = format!("amqp://u:hush@mq?queue={}", "q".repeat(300));
        let wrong =
            ["amqp:", "amqp://u:hush@/x", "amqp://u:hush@mq?heartbeat=1", "amqp://u:hush@mq?queue=", &long];
        for url in wrong {
            let error = format!("{:#}", Server::parse(url).err().unwrap());
            assert!(error.contains("is no URL of a RabbitMQ server") && !error.contains("hush"), "{error}");
        }
    }
}
