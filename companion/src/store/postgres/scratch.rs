//! A schema of a test's own, on the server that `TEST_POSTGRES_URL` names or on the one of this machine.

use std::sync::atomic::{AtomicU64, Ordering};

use super::connection::Server;

/// Where a server is looked for that nobody named.
const HERE: &str = "postgres://postgres@127.0.0.1:5432/postgres";

/// A schema, gone when dropped with all who use it.
pub(in crate::store) struct Schema {
    server: String,
    name: String,
}

impl Schema {
    /// Makes one. `None` where there is no server, which is an error where `CI` is set and said elsewhere.
    pub(in crate::store) fn new() -> Option<Self> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let server = std::env::var("TEST_POSTGRES_URL").unwrap_or_else(|_| HERE.to_owned());
        let name =
            format!("gatehook_{:x}_{}", crate::clock::random_token(), COUNT.fetch_add(1, Ordering::Relaxed));
        match run(&server, &format!("CREATE SCHEMA {name}")) {
            Ok(()) => Some(Self { server, name }),
            Err(error) if std::env::var("CI").is_ok_and(|ci| ci == "true") => {
                panic!("no PostgreSQL: {error:#}")
            }
            Err(error) => {
                println!("SKIPPED: no PostgreSQL: {error:#}");
                None
            }
        }
    }

    /// Names the schema as a store does.
    pub(in crate::store) fn url(&self) -> String {
        let (server, name) = (&self.server, &self.name);
        let and = if server.contains('?') { '&' } else { '?' };
        format!("{server}{and}options=-csearch_path%3D{name}&application_name={name}")
    }

    /// Runs statements in it.
    pub(in crate::store) fn run(&self, sql: &str) {
        run(&self.url(), sql).unwrap();
    }

    /// Ends all connections to it but the one that does so.
    pub(in crate::store) fn cut(&self) {
        let cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name =";
        run(&self.server, &format!("{cut} '{}'", self.name)).unwrap();
    }
}

impl Drop for Schema {
    fn drop(&mut self) {
        // A test that failed may have left a transaction open.
        self.cut();
        run(&self.server, &format!("DROP SCHEMA {} CASCADE", self.name)).unwrap();
    }
}

/// Runs statements on a connection of their own, in a runtime of their own: also where a value is dropped.
fn run(url: &str, sql: &str) -> anyhow::Result<()> {
    let run = || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let (client, connection) = Server::find(url).await?.connect().await?;
            tokio::pin!(connection);
            tokio::select! {
                done = client.batch_execute(sql) => Ok(done?),
                closed = &mut connection => anyhow::bail!("the connection was closed: {closed:?}"),
            }
        })
    };
    std::thread::scope(|scope| scope.spawn(run).join().unwrap())
}
