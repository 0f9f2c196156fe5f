//! Bringing a schema up to date.

use anyhow::{Context, bail, ensure};
use deadpool_postgres::Object;

use super::connection::told;

/// Migrations in order; `gatehook_schema` counts those applied.
const MIGRATIONS: &[&str] = &[
    include_str!("../../../migrations/postgres/0001_initial.sql"),
    include_str!("../../../migrations/postgres/0002_unmatched.sql"),
    include_str!("../../../migrations/postgres/0003_delivery.sql"),
    include_str!("../../../migrations/postgres/0004_places.sql"),
    include_str!("../../../migrations/postgres/0005_keys.sql"),
    include_str!("../../../migrations/postgres/0006_tenants.sql"),
    include_str!("../../../migrations/postgres/0007_statistics.sql"),
    include_str!("../../../migrations/postgres/0008_catalogue.sql"),
];

/// How many migrations there are.
pub(super) const VERSION: i64 = MIGRATIONS.len() as i64;

/// Applies what is missing, in one transaction. Several processes may start at once: one of them does it.
pub(super) async fn migrate(connection: &mut Object) -> anyhow::Result<()> {
    let transaction = connection.transaction().await?;
    transaction.batch_execute("SET LOCAL statement_timeout TO 0").await?;
    let encoding = transaction.query_one("SELECT current_setting('server_encoding')", &[]).await?;
    let encoding: &str = encoding.get(0);
    ensure!(
        encoding == "UTF8",
        "the database keeps text as {encoding}; it has to be one with the encoding UTF8"
    );
    let schema = transaction.query_one("SELECT current_schema()", &[]).await?;
    schema
        .get::<_, Option<&str>>(0)
        .context("the search path names no schema that is there and that may be used")?;
    let lock =
        "SELECT pg_advisory_xact_lock(hashtextextended('gatehook migrations ' || current_schema(), 0))";
    transaction.execute(lock, &[]).await?;
    let applied = applied(&transaction).await?;
    if applied > VERSION {
        bail!("its schema has version {applied}, newer than this program's {VERSION}");
    }
    if applied == VERSION {
        return Ok(transaction.commit().await?);
    }
    let counted = "CREATE TABLE IF NOT EXISTS gatehook_schema (version bigint NOT NULL)";
    transaction.batch_execute(counted).await.map_err(|error| told(&error))?;
    let first = usize::try_from(applied)?;
    for (index, sql) in MIGRATIONS.iter().enumerate().skip(first) {
        transaction.batch_execute(sql).await.with_context(|| format!("migration {} failed", index + 1))?;
    }
    transaction.execute("DELETE FROM gatehook_schema", &[]).await?;
    transaction.execute("INSERT INTO gatehook_schema (version) VALUES ($1)", &[&VERSION]).await?;
    Ok(transaction.commit().await?)
}

/// How many migrations a schema has seen.
pub(super) async fn applied(client: &impl deadpool_postgres::GenericClient) -> anyhow::Result<i64> {
    let known = "SELECT to_regclass(quote_ident(current_schema()) || '.gatehook_schema') IS NOT NULL";
    if !client.query_one(known, &[]).await?.get::<_, bool>(0) {
        return Ok(0);
    }
    let version = client.query_opt("SELECT version FROM gatehook_schema", &[]).await?;
    Ok(version.map_or(0, |row| row.get(0)))
}
