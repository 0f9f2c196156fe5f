//! Subscriptions in SQLite.

use jiff::Timestamp;
use rusqlite::{Connection, Row, named_params};

use super::{micros, time};
use crate::model::{Format, Subscription, SubscriptionId, SubscriptionStatus};
use crate::store::{StoreError, SubscriptionQuery};
use crate::vault::Vault;

const COLUMNS: &str = "id, revision, tenant, target_url, events, status, off_reason, description, format, metadata, \
                       secrets, created_at, updated_at";

/// The subscription's secrets as they stand on disk.
pub(super) fn seal(vault: &Vault, subscription: &Subscription) -> Result<Vec<u8>, StoreError> {
    let mut nonce = [0; 24];
    getrandom::fill(&mut nonce)
        .map_err(|error| StoreError::Unavailable(anyhow::anyhow!("no randomness: {error}")))?;
    Ok(vault.seal(subscription.id.as_str(), &subscription.secrets, nonce))
}

pub(super) fn create(
    connection: &Connection,
    subscription: &Subscription,
    sealed: &[u8],
) -> Result<(), StoreError> {
    let sql = "INSERT INTO subscriptions (id, revision, tenant, target_url, events, status, off_reason, description, format, \
               metadata, secrets, created_at, updated_at) VALUES (:id, :revision, :tenant, :target_url, :events, :status, \
               :off_reason, :description, :format, :metadata, :secrets, :created_at, :updated_at)";
    connection.prepare_cached(sql)?.execute(named_params! {
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
        ":secrets": sealed,
        ":created_at": micros(subscription.created_at),
        ":updated_at": micros(subscription.updated_at),
    })?;
    Ok(())
}

pub(super) fn update(
    connection: &Connection,
    subscription: &Subscription,
    sealed: &[u8],
) -> Result<(), StoreError> {
    let sql = "UPDATE subscriptions SET revision = :revision, tenant = :tenant, target_url = :target_url, events = :events, \
               status = :status, off_reason = :off_reason, description = :description, format = :format, \
               metadata = :metadata, secrets = :secrets, updated_at = :updated_at \
               WHERE id = :id AND revision = :revision - 1";
    let changed = connection.prepare_cached(sql)?.execute(named_params! {
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
        ":secrets": sealed,
        ":updated_at": micros(subscription.updated_at),
    })?;
    if changed == 1 {
        return Ok(());
    }
    let exists = "SELECT 1 FROM subscriptions WHERE id = ?1";
    match connection.prepare_cached(exists)?.exists([subscription.id.as_str()])? {
        true => Err(StoreError::Conflict),
        false => Err(StoreError::NotFound),
    }
}

pub(super) fn turn_off(
    connection: &Connection,
    id: &SubscriptionId,
    reason: &str,
    now: Timestamp,
) -> Result<(), StoreError> {
    let sql = "UPDATE subscriptions SET status = 'off', off_reason = ?2, revision = revision + 1, updated_at = ?3 \
               WHERE id = ?1 AND status = 'on'";
    connection.prepare_cached(sql)?.execute((id.as_str(), reason, micros(now)))?;
    Ok(())
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
        secrets: vault.open(id.as_str(), &sealed).map_err(|error| StoreError::Unavailable(error.into()))?,
        created_at: time(row.get("created_at")?),
        updated_at: time(row.get("updated_at")?),
        id,
    })
}

fn json(value: &impl serde::Serialize) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(|error| StoreError::Unavailable(error.into()))
}
