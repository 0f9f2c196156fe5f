//! Reaching a PostgreSQL server: its URL, TLS, and a pool of connections.
//!
//! A connection that breaks fails what was under way on it; the pool makes a new one for what comes next. `sslmode` means:
//! `disable` none; `prefer` (the default) TLS where the server has it with a certificate that the system trusts, else none,
//! which keeps out nobody who can change packets; `require`, `verify-ca` and `verify-full` TLS with such a certificate for
//! that name, or no connection.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use deadpool_postgres::{Hook, HookError, Manager, ManagerConfig, Pool, RecyclingMethod, Runtime};
use rustls::{ClientConfig, RootCertStore};
use tokio_postgres::config::SslMode;
use tokio_postgres::error::SqlState;
use tokio_postgres::tls::MakeTlsConnect;
use tokio_postgres::{Client, Config, Connection, Socket};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::limits;
use crate::store::StoreError;

/// What every connection is told first. No transaction of ours waits for anything but the server, so one that is idle is that of
/// a process that is gone, and others wait for its locks. A server whose commits do not wait for the disk is asked to do so all the same; one
/// that waits for replicas goes on doing so.
const SETUP: &str = "SELECT set_config('statement_timeout', '30s', FALSE), \
                     set_config('idle_in_transaction_session_timeout', '10s', FALSE), \
                     set_config('synchronous_commit', CASE current_setting('synchronous_commit') \
                       WHEN 'off' THEN 'on' ELSE current_setting('synchronous_commit') END, FALSE)";

/// What TLS makes of a socket.
type TlsStream = <MakeRustlsConnect as MakeTlsConnect<Socket>>::Stream;

/// How to reach a server.
#[derive(Clone)]
pub(super) struct Server {
    config: Config,
    tls: MakeRustlsConnect,
}

impl Server {
    /// Reads a URL and makes sure that there is a server behind it.
    pub(super) async fn find(url: &str) -> anyhow::Result<Self> {
        let mut config = configuration(url)?;
        let tls = tls()?;
        let mut found = try_once(&config, &tls).await?;
        if let Err(error) = &found
            && config.get_ssl_mode() == SslMode::Prefer
            && error.as_db_error().is_none()
        {
            config.ssl_mode(SslMode::Disable);
            found = try_once(&config, &tls).await?;
        }
        found.map_err(|error| told(&error))?;
        Ok(Self { config, tls })
    }

    /// A pool of connections to it.
    pub(super) fn pool(&self) -> anyhow::Result<Pool> {
        let recycling = ManagerConfig { recycling_method: RecyclingMethod::Fast };
        let manager = Manager::from_config(self.config.clone(), self.tls.clone(), recycling);
        let setup = Hook::async_fn(|client, _| {
            Box::pin(async move { client.batch_execute(SETUP).await.map_err(HookError::Backend) })
        });
        Pool::builder(manager)
            .max_size(limits::POSTGRES_CONNECTIONS)
            .runtime(Runtime::Tokio1)
            .wait_timeout(Some(limits::POSTGRES_WAIT))
            .create_timeout(Some(limits::POSTGRES_WAIT))
            .recycle_timeout(Some(limits::POSTGRES_WAIT))
            .post_create(setup)
            .build()
            .context("cannot make a pool of connections")
    }

    /// A connection outside the pool, with what has to be polled for it to do anything.
    pub(super) async fn connect(
        &self,
    ) -> Result<(Client, Connection<Socket, TlsStream>), tokio_postgres::Error> {
        self.config.connect(self.tls.clone()).await
    }
}

/// Connects once, and ends the connection; fails where nobody answers.
async fn try_once(
    config: &Config,
    tls: &MakeRustlsConnect,
) -> anyhow::Result<Result<(), tokio_postgres::Error>> {
    let connected = tokio::time::timeout(limits::POSTGRES_WAIT, config.connect(tls.clone())).await;
    Ok(connected.context("the server did not answer")?.map(drop))
}

fn configuration(url: &str) -> anyhow::Result<Config> {
    // The client knows neither by name, and checks certificates wherever it requires TLS.
    let url =
        url.replace("sslmode=verify-full", "sslmode=require").replace("sslmode=verify-ca", "sslmode=require");
    let mut config: Config = url.parse().map_err(|error| told(&error))?;
    if config.get_application_name().is_none() {
        config.application_name("gatehook");
    }
    if config.get_connect_timeout().is_none() {
        config.connect_timeout(limits::POSTGRES_WAIT);
    }
    config.keepalives_idle(Duration::from_secs(30)).keepalives_interval(Duration::from_secs(10));
    config.keepalives_retries(3).tcp_user_timeout(Duration::from_secs(60));
    Ok(config)
}

fn tls() -> anyhow::Result<MakeRustlsConnect> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(MakeRustlsConnect::new(config))
}

/// An error of the client's in one sentence: what the server said, or what is behind it.
pub(super) fn told(error: &tokio_postgres::Error) -> anyhow::Error {
    match (error.as_db_error(), std::error::Error::source(error)) {
        (Some(told), _) => anyhow::anyhow!("{}", told.message()),
        (None, Some(source)) => anyhow::anyhow!("{error}: {source}"),
        (None, None) => anyhow::anyhow!("{error}"),
    }
}

impl From<tokio_postgres::Error> for StoreError {
    fn from(error: tokio_postgres::Error) -> Self {
        match error.code() {
            // A text with a zero byte: no text in the database has one, so nothing is found by it.
            Some(&SqlState::CHARACTER_NOT_IN_REPERTOIRE) => Self::NotFound,
            _ => Self::Unavailable(error.into()),
        }
    }
}

impl From<deadpool_postgres::PoolError> for StoreError {
    fn from(error: deadpool_postgres::PoolError) -> Self {
        Self::Unavailable(error.into())
    }
}

/// What the server said of an error, by its code; `None` where it said nothing.
pub(super) fn code(error: &StoreError) -> Option<&SqlState> {
    match error {
        StoreError::Unavailable(error) => error.downcast_ref::<tokio_postgres::Error>()?.code(),
        _ => None,
    }
}
