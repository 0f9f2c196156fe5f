//! Whether a database holds together: what rows promise each other. Its own structure is PostgreSQL's to check (`amcheck`).

use anyhow::{Context, ensure};

use super::connection::Server;
use super::migrations;
use crate::limits;
use crate::store::offline::{CHECKS, Flaw, SAME_LANE};

/// See [`crate::store::offline::integrity`].
pub(in crate::store) fn flaws(url: &str) -> anyhow::Result<Vec<Flaw>> {
    // Commands run in no runtime, tests in one.
    let check = || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(check(url))
    };
    std::thread::scope(|scope| {
        scope.spawn(check).join().unwrap_or_else(|_| anyhow::bail!("the check panicked"))
    })
}

async fn check(url: &str) -> anyhow::Result<Vec<Flaw>> {
    let shown = || format!("--store: cannot read {}", crate::store::redacted(url));
    let pool = Server::find(url).await.with_context(shown)?.pool()?;
    let mut connection = pool.get().await.with_context(shown)?;
    let version = migrations::applied(&connection).await.with_context(shown)?;
    ensure!(
        version == migrations::VERSION,
        "{} has schema version {version}, this program's is {}; use the program that serves it",
        crate::store::redacted(url),
        migrations::VERSION
    );
    // One snapshot: rows that are written meanwhile are not half seen.
    let snapshot =
        connection.build_transaction().isolation_level(tokio_postgres::IsolationLevel::RepeatableRead);
    let snapshot = snapshot.read_only(true).start().await?;
    snapshot.batch_execute("SET LOCAL statement_timeout TO 0").await?;
    let mut found = Vec::new();
    for (flaw, sql) in CHECKS {
        let sql = format!("{} LIMIT {}", sql.replace(SAME_LANE, "o.lane = d.lane"), limits::FAULTS);
        let rows = snapshot.query(&sql, &[]).await.with_context(|| format!("cannot look for a {flaw}"))?;
        found.extend(rows.iter().map(|row| Flaw { flaw, at: row.get(0) }));
    }
    Ok(found)
}
