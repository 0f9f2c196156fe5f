//! Subscriptions in PostgreSQL.

use deadpool_postgres::{GenericClient, Transaction};
use jiff::Timestamp;
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

use super::transaction::{execute, row, rows};
use super::{json, micros, nul, rows_of, time};
use crate::credentials::Credentials;
use crate::model::{Format, Subscription, SubscriptionId, SubscriptionStatus};
use crate::store::sealing::{self, Sealed};
use crate::store::{Health, StoreError, SubscriptionQuery};
use crate::vault::Vault;

const COLUMNS: &str = "id, revision, tenant, target_url, events, status, off_reason, description, format, metadata, \
                       options, credentials, secrets, expires_at, failing_since, created_at, updated_at";

/// Seals again what is not sealed under the vault's first key.
pub(super) async fn reseal(
    transaction: &Transaction<'_>,
    vault: &Vault,
    limit: usize,
) -> Result<usize, StoreError> {
    let stale = "SELECT id, secrets, credentials FROM subscriptions \
                 WHERE substr(secrets, 1, length($1::bytea)) <> $1 OR substr(credentials, 1, length($1)) <> $1 \
                 ORDER BY id LIMIT $2 FOR NO KEY UPDATE";
    let found = rows(transaction, stale, &[&&vault.prefix()[..], &rows_of(limit)]).await?;
    for row in &found {
        let id: &str = row.get(0);
        let secrets = sealing::again(vault, id, row.get(1))?;
        let credentials = row.get::<_, Option<&[u8]>>(2);
        let credentials =
            credentials.map(|sealed| sealing::again(vault, &sealing::credentials_of(id), sealed));
        let update = "UPDATE subscriptions SET secrets = $2, credentials = $3 WHERE id = $1";
        execute(transaction, update, &[&id, &secrets, &credentials.transpose()?]).await?;
    }
    Ok(found.len())
}

pub(super) async fn create(
    transaction: &Transaction<'_>,
    subscription: &Subscription,
    sealed: &Sealed,
) -> Result<(), StoreError> {
    let sql = "INSERT INTO subscriptions (id, revision, tenant, target_url, events, status, off_reason, description, format, \
               metadata, options, is_paced, credentials, secrets, expires_at, created_at, updated_at) \
               VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $16)";
    write(transaction, sql, subscription, sealed).await?;
    Ok(())
}

/// Refuses where a tenant has `most` subscriptions already, and lets nobody else make one for it until the transaction ends.
pub(super) async fn check_room(
    transaction: &Transaction<'_>,
    wanted: &Subscription,
    most: usize,
) -> Result<(), StoreError> {
    let Some(tenant) = nul::escaped_option(wanted.tenant.as_deref()) else { return Ok(()) };
    if most == usize::MAX {
        return Ok(());
    }
    let lock = "SELECT pg_advisory_xact_lock(hashtextextended('gatehook tenant ' || current_schema() || ' ' || $1::text, 0))";
    execute(transaction, lock, &[&tenant]).await?;
    // One more than there may be before is enough to know.
    let counted = "SELECT COUNT(*) FROM (SELECT 1 FROM subscriptions WHERE tenant = $1 LIMIT $2) AS known";
    let count = row(transaction, counted, &[&tenant, &rows_of(most)]).await?;
    match count.is_some_and(|row| row.get::<_, i64>(0) >= rows_of(most)) {
        true => Err(StoreError::Full),
        false => Ok(()),
    }
}

pub(super) async fn update(
    transaction: &Transaction<'_>,
    subscription: &Subscription,
    sealed: &Sealed,
) -> Result<(), StoreError> {
    // Who turns it on again gives it new time to answer.
    let sql = "UPDATE subscriptions SET revision = $2, tenant = $3, target_url = $4, events = $5, \
               failing_since = CASE WHEN status = $6 THEN failing_since END, \
               status = $6, off_reason = $7, description = $8, format = $9, metadata = $10, options = $11, is_paced = $12, \
               credentials = $13, secrets = $14, expires_at = $15, updated_at = $16 WHERE id = $1 AND revision = $2::bigint - 1";
    if write(transaction, sql, subscription, sealed).await? == 1 {
        return Ok(());
    }
    let exists = "SELECT 1 FROM subscriptions WHERE id = $1";
    match row(transaction, exists, &[&subscription.id.as_str()]).await? {
        Some(_) => Err(StoreError::Conflict),
        None => Err(StoreError::NotFound),
    }
}

/// Runs a statement with all that a caller may write.
async fn write(
    transaction: &Transaction<'_>,
    sql: &str,
    subscription: &Subscription,
    sealed: &Sealed,
) -> Result<usize, StoreError> {
    let options = &subscription.options;
    let values: [&(dyn ToSql + Sync); 16] = [
        &subscription.id.as_str(),
        &subscription.revision,
        &nul::escaped_option(subscription.tenant.as_deref()),
        &subscription.target_url.as_str(),
        &json(&subscription.events)?,
        &subscription.status.word(),
        &nul::escaped_option(subscription.off_reason.as_deref()),
        &nul::escaped_option(subscription.description.as_deref()),
        &subscription.format.word(),
        &json(&subscription.metadata)?,
        &json(options)?,
        &(options.rate_limit.is_some() || options.max_in_flight.is_some()),
        &sealed.credentials,
        &sealed.secrets,
        &subscription.expires_at.map(micros),
        &micros(subscription.updated_at),
    ];
    execute(transaction, sql, &values).await
}

/// Writes what an attempt says of its subscription.
pub(super) async fn set_health(
    transaction: &Transaction<'_>,
    id: &SubscriptionId,
    health: Health,
    now: Timestamp,
) -> Result<(), StoreError> {
    let since = match health {
        Health::Same => return Ok(()),
        Health::Failing => Some(micros(now)),
        Health::Well => None,
    };
    let sql = "UPDATE subscriptions SET failing_since = $2 \
               WHERE id = $1 AND (failing_since IS NULL) <> ($2::bigint IS NULL)";
    execute(transaction, sql, &[&id.as_str(), &since]).await?;
    Ok(())
}

/// Turns a subscription off; `false` where it was off or gone.
pub(super) async fn turn_off(
    transaction: &Transaction<'_>,
    id: &SubscriptionId,
    reason: &str,
    now: Timestamp,
) -> Result<bool, StoreError> {
    let sql = "UPDATE subscriptions SET status = 'off', off_reason = $2, revision = revision + 1, updated_at = $3 \
               WHERE id = $1 AND status = 'on'";
    Ok(execute(transaction, sql, &[&id.as_str(), &nul::escaped(reason), &micros(now)]).await? == 1)
}

/// Removes a subscription and what is left of its rate; `false` where it was gone.
pub(super) async fn delete(transaction: &Transaction<'_>, id: &SubscriptionId) -> Result<bool, StoreError> {
    execute(transaction, "DELETE FROM buckets WHERE subscription_id = $1", &[&id.as_str()]).await?;
    Ok(execute(transaction, "DELETE FROM subscriptions WHERE id = $1", &[&id.as_str()]).await? > 0)
}

pub(super) async fn one(
    client: &impl GenericClient,
    vault: &Vault,
    id: &SubscriptionId,
) -> Result<Subscription, StoreError> {
    let sql = format!("SELECT {COLUMNS} FROM subscriptions WHERE id = $1");
    let found = row(client, &sql, &[&id.as_str()]).await?.ok_or(StoreError::NotFound)?;
    read(&found, vault)
}

pub(super) async fn page(
    client: &impl GenericClient,
    vault: &Vault,
    query: &SubscriptionQuery,
) -> Result<Vec<Subscription>, StoreError> {
    if nul::is_in([&query.after]) {
        return Ok(Vec::new());
    }
    let sql = format!(
        "SELECT {COLUMNS} FROM subscriptions WHERE ($1::text IS NULL OR tenant = $1) AND ($2::text IS NULL OR status = $2) \
         AND id > $3 ORDER BY id LIMIT $4"
    );
    let tenant = nul::escaped_option(query.tenant.as_deref());
    let status = query.status.map(SubscriptionStatus::word);
    let after = query.after.as_deref().unwrap_or_default();
    let found = rows(client, &sql, &[&tenant, &status, &after, &rows_of(query.limit)]).await?;
    found.iter().map(|row| read(row, vault)).collect()
}

/// Every subscription's revision.
pub(super) async fn revisions(client: &impl GenericClient) -> Result<Vec<(SubscriptionId, i64)>, StoreError> {
    let found = rows(client, "SELECT id, revision FROM subscriptions ORDER BY id", &[]).await?;
    Ok(found.iter().map(|row| (SubscriptionId(row.get(0)), row.get(1))).collect())
}

/// Reads [`COLUMNS`].
fn read(row: &Row, vault: &Vault) -> Result<Subscription, StoreError> {
    let id = SubscriptionId(row.try_get("id")?);
    let damaged = |what: &str| super::damaged(format!("subscription {id} has a damaged {what}"));
    let text = |name: &str| row.get::<_, Option<&str>>(name).map(nul::unescaped);
    Ok(Subscription {
        revision: row.try_get("revision")?,
        tenant: text("tenant"),
        target_url: row.try_get("target_url")?,
        events: serde_json::from_str(row.try_get("events")?).map_err(|_| damaged("events"))?,
        status: SubscriptionStatus::of(row.try_get("status")?).ok_or_else(|| damaged("status"))?,
        off_reason: text("off_reason"),
        description: text("description"),
        format: Format::of(row.try_get("format")?).ok_or_else(|| damaged("format"))?,
        metadata: serde_json::from_str(row.try_get("metadata")?).map_err(|_| damaged("metadata"))?,
        options: serde_json::from_str(row.try_get("options")?).map_err(|_| damaged("options"))?,
        expires_at: row.try_get::<_, Option<i64>>("expires_at")?.map(time),
        failing_since: row.try_get::<_, Option<i64>>("failing_since")?.map(time),
        credentials: match row.try_get::<_, Option<&[u8]>>("credentials")? {
            Some(sealed) => sealing::open_credentials(vault, id.as_str(), sealed)?,
            None => Credentials::default(),
        },
        secrets: vault
            .open_secrets(id.as_str(), row.try_get("secrets")?)
            .map_err(|error| StoreError::Unavailable(error.into()))?,
        created_at: time(row.try_get("created_at")?),
        updated_at: time(row.try_get("updated_at")?),
        id,
    })
}
