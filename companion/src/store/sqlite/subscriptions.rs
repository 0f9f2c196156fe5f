//! Subscriptions in SQLite.

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, Row, named_params};

use super::{micros, time};
use crate::credentials::Credentials;
use crate::model::{Format, Subscription, SubscriptionId, SubscriptionStatus};
use crate::store::sealing::{self, Sealed};
use crate::store::{Health, StoreError, SubscriptionQuery};
use crate::vault::Vault;

const COLUMNS: &str = "id, revision, tenant, target_url, events, status, off_reason, description, format, metadata, \
                       options, credentials, secrets, expires_at, failing_since, created_at, updated_at";

/// Seals again what is not sealed under the vault's first key.
pub(super) fn reseal(connection: &Connection, vault: &Vault, limit: usize) -> Result<usize, StoreError> {
    let stale = "SELECT id, secrets, credentials FROM subscriptions \
                 WHERE substr(secrets, 1, ?1) <> ?2 OR substr(credentials, 1, ?1) <> ?2 LIMIT ?3";
    let prefix = vault.prefix();
    let values =
        (i64::try_from(prefix.len()).unwrap_or_default(), prefix, i64::try_from(limit).unwrap_or(i64::MAX));
    let mut select = connection.prepare_cached(stale)?;
    let rows = select.query_map(values, |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
    let rows = rows.collect::<Result<Vec<(String, Vec<u8>, Option<Vec<u8>>)>, _>>()?;
    let update = "UPDATE subscriptions SET secrets = ?2, credentials = ?3 WHERE id = ?1";
    for (id, secrets, credentials) in &rows {
        let credentials = credentials
            .as_ref()
            .map(|sealed| sealing::again(vault, &sealing::credentials_of(id), sealed))
            .transpose()?;
        connection.prepare_cached(update)?.execute((id, sealing::again(vault, id, secrets)?, credentials))?;
    }
    Ok(rows.len())
}

pub(super) fn create(
    connection: &Connection,
    subscription: &Subscription,
    sealed: &Sealed,
) -> Result<(), StoreError> {
    let sql = "INSERT INTO subscriptions (id, revision, tenant, target_url, events, status, off_reason, description, format, \
               metadata, options, credentials, secrets, expires_at, failing_since, created_at, updated_at) \
               VALUES (:id, :revision, :tenant, :target_url, :events, :status, :off_reason, :description, :format, \
               :metadata, :options, :credentials, :secrets, :expires_at, NULL, :updated_at, :updated_at)";
    write(connection, sql, subscription, sealed)?;
    Ok(())
}

/// Refuses where a tenant has more than `most` subscriptions.
pub(super) fn check_room(
    connection: &Connection,
    made: &Subscription,
    most: usize,
) -> Result<(), StoreError> {
    let most = i64::try_from(most).unwrap_or(i64::MAX);
    let counted = "SELECT COUNT(*) FROM (SELECT 1 FROM subscriptions WHERE tenant = ?1 LIMIT ?2)";
    // One more than allowed is enough to know.
    let values = (&made.tenant, most.saturating_add(1));
    let count: i64 = connection.prepare_cached(counted)?.query_row(values, |row| row.get(0))?;
    if count > most { Err(StoreError::Full) } else { Ok(()) }
}

/// Ids of a tenant's subscriptions; of one alone where it is named.
pub(super) fn ids_of_tenant(
    connection: &Connection,
    tenant: &str,
    only: Option<&str>,
) -> Result<Vec<String>, StoreError> {
    let sql = "SELECT id FROM subscriptions WHERE tenant = ?1 AND (?2 IS NULL OR id = ?2)";
    let mut statement = connection.prepare_cached(sql)?;
    let ids = statement.query_map((tenant, only), |row| row.get(0))?;
    Ok(ids.collect::<Result<_, _>>()?)
}

pub(super) fn update(
    connection: &Connection,
    subscription: &Subscription,
    sealed: &Sealed,
) -> Result<(), StoreError> {
    // Who turns it on again gives it new time to answer.
    let sql = "UPDATE subscriptions SET revision = :revision, tenant = :tenant, target_url = :target_url, events = :events, \
               failing_since = CASE WHEN status = :status THEN failing_since END, \
               status = :status, off_reason = :off_reason, description = :description, format = :format, \
               metadata = :metadata, options = :options, credentials = :credentials, secrets = :secrets, \
               expires_at = :expires_at, updated_at = :updated_at WHERE id = :id AND revision = :revision - 1";
    if write(connection, sql, subscription, sealed)? == 1 {
        return Ok(());
    }
    let exists = "SELECT 1 FROM subscriptions WHERE id = ?1";
    match connection.prepare_cached(exists)?.exists([subscription.id.as_str()])? {
        true => Err(StoreError::Conflict),
        false => Err(StoreError::NotFound),
    }
}

/// Runs a statement with all that a caller may write.
fn write(
    connection: &Connection,
    sql: &str,
    subscription: &Subscription,
    sealed: &Sealed,
) -> Result<usize, StoreError> {
    let count = connection.prepare_cached(sql)?.execute(named_params! {
        ":id": subscription.id.as_str(),
        ":revision": subscription.revision,
        ":tenant": subscription.tenant,
        ":target_url": subscription.target_url,
        ":events": json(&subscription.events)?,
        ":status": subscription.status.word(),
        ":off_reason": subscription.off_reason,
        ":description": subscription.description,
        ":format": subscription.format.word(),
        ":metadata": json(&subscription.metadata)?,
        ":options": json(&subscription.options)?,
        ":credentials": sealed.credentials,
        ":secrets": sealed.secrets,
        ":expires_at": subscription.expires_at.map(micros),
        ":updated_at": micros(subscription.updated_at),
    })?;
    Ok(count)
}

/// Since when every attempt of a subscription has failed.
pub(super) fn failing_since(
    connection: &Connection,
    id: &SubscriptionId,
) -> Result<Option<Timestamp>, StoreError> {
    let sql = "SELECT failing_since FROM subscriptions WHERE id = ?1";
    let found: Option<Option<i64>> =
        connection.prepare_cached(sql)?.query_row([id.as_str()], |row| row.get(0)).optional()?;
    Ok(found.flatten().map(time))
}

/// Writes what an attempt says of its subscription.
pub(super) fn set_health(
    connection: &Connection,
    id: &SubscriptionId,
    health: Health,
    now: Timestamp,
) -> Result<(), StoreError> {
    let since = match health {
        Health::Same => return Ok(()),
        Health::Failing => Some(micros(now)),
        Health::Well => None,
    };
    let sql = "UPDATE subscriptions SET failing_since = ?2 \
               WHERE id = ?1 AND (failing_since IS NULL) <> (?2 IS NULL)";
    connection.prepare_cached(sql)?.execute((id.as_str(), since))?;
    Ok(())
}

/// Turns a subscription off; `false` where it was off or gone.
pub(super) fn turn_off(
    connection: &Connection,
    id: &SubscriptionId,
    reason: &str,
    now: Timestamp,
) -> Result<bool, StoreError> {
    let sql = "UPDATE subscriptions SET status = 'off', off_reason = ?2, revision = revision + 1, updated_at = ?3 \
               WHERE id = ?1 AND status = 'on'";
    Ok(connection.prepare_cached(sql)?.execute((id.as_str(), reason, micros(now)))? == 1)
}

pub(super) fn delete(connection: &Connection, id: &SubscriptionId) -> Result<(), StoreError> {
    match connection.prepare_cached("DELETE FROM subscriptions WHERE id = ?1")?.execute([id.as_str()])? {
        0 => Err(StoreError::NotFound),
        _ => Ok(()),
    }
}

pub(super) fn one(
    connection: &Connection,
    vault: &Vault,
    id: &SubscriptionId,
) -> Result<Subscription, StoreError> {
    let sql = format!("SELECT {COLUMNS} FROM subscriptions WHERE id = ?1");
    let mut statement = connection.prepare_cached(&sql)?;
    let mut rows = statement.query([id.as_str()])?;
    read(rows.next()?.ok_or(StoreError::NotFound)?, vault)
}

pub(super) fn page(
    connection: &Connection,
    vault: &Vault,
    query: &SubscriptionQuery,
) -> Result<Vec<Subscription>, StoreError> {
    let sql = format!(
        "SELECT {COLUMNS} FROM subscriptions WHERE id > :after AND (:tenant IS NULL OR tenant = :tenant) \
         AND (:status IS NULL OR status = :status) ORDER BY id LIMIT :limit"
    );
    let mut statement = connection.prepare_cached(&sql)?;
    let mut rows = statement.query(named_params! {
        ":after": query.after.as_deref().unwrap_or_default(),
        ":tenant": query.tenant,
        ":status": query.status.map(SubscriptionStatus::word),
        ":limit": i64::try_from(query.limit).unwrap_or(i64::MAX),
    })?;
    let mut page = Vec::new();
    while let Some(row) = rows.next()? {
        page.push(read(row, vault)?);
    }
    Ok(page)
}

fn read(row: &Row<'_>, vault: &Vault) -> Result<Subscription, StoreError> {
    let id = SubscriptionId(row.get("id")?);
    let damaged =
        |what: &str| StoreError::Unavailable(anyhow::anyhow!("subscription {id} has a damaged {what}"));
    let sealed: Vec<u8> = row.get("secrets")?;
    Ok(Subscription {
        revision: row.get("revision")?,
        tenant: row.get("tenant")?,
        target_url: row.get("target_url")?,
        events: serde_json::from_str(row.get_ref("events")?.as_str().unwrap_or_default())
            .map_err(|_| damaged("events"))?,
        status: SubscriptionStatus::of(&row.get::<_, String>("status")?).ok_or_else(|| damaged("status"))?,
        off_reason: row.get("off_reason")?,
        description: row.get("description")?,
        format: Format::of(&row.get::<_, String>("format")?).ok_or_else(|| damaged("format"))?,
        metadata: serde_json::from_str(row.get_ref("metadata")?.as_str().unwrap_or_default())
            .map_err(|_| damaged("metadata"))?,
        options: serde_json::from_str(row.get_ref("options")?.as_str().unwrap_or_default())
            .map_err(|_| damaged("options"))?,
        expires_at: row.get::<_, Option<i64>>("expires_at")?.map(time),
        failing_since: row.get::<_, Option<i64>>("failing_since")?.map(time),
        credentials: credentials(row, vault, id.as_str())?,
        secrets: vault
            .open_secrets(id.as_str(), &sealed)
            .map_err(|error| StoreError::Unavailable(error.into()))?,
        created_at: time(row.get("created_at")?),
        updated_at: time(row.get("updated_at")?),
        id,
    })
}

fn credentials(row: &Row<'_>, vault: &Vault, id: &str) -> Result<Credentials, StoreError> {
    match row.get::<_, Option<Vec<u8>>>("credentials")? {
        Some(sealed) => sealing::open_credentials(vault, id, &sealed),
        None => Ok(Credentials::default()),
    }
}

fn json(value: &impl serde::Serialize) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(|error| StoreError::Unavailable(error.into()))
}
