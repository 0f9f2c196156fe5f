//! Bearer tokens in PostgreSQL: their hashes alone.

use deadpool_postgres::{GenericClient, Transaction};

use super::transaction::{execute, rows};
use super::{micros, nul, time};
use crate::model::{Scope, Token};
use crate::store::StoreError;

pub(super) async fn create(transaction: &Transaction<'_>, token: &Token) -> Result<(), StoreError> {
    let insert = "INSERT INTO tokens (id, hash, scope, description, expires_at, created_at) \
                  VALUES ($1, $2, $3, $4, $5, $6)";
    let values: super::transaction::Values<'_> = &[
        &token.id,
        &&token.hash[..],
        &token.scope.word(),
        &nul::escaped_option(token.description.as_deref()),
        &token.expires_at.map(micros),
        &micros(token.created_at),
    ];
    execute(transaction, insert, values).await?;
    Ok(())
}

pub(super) async fn all(client: &impl GenericClient) -> Result<Vec<Token>, StoreError> {
    let sql = "SELECT id, hash, scope, description, expires_at, created_at FROM tokens ORDER BY id";
    let read = |row: &tokio_postgres::Row| {
        let id: String = row.get(0);
        let damaged = || super::damaged(format!("token {id} is damaged"));
        Ok(Token {
            hash: row.get::<_, &[u8]>(1).try_into().map_err(|_| damaged())?,
            scope: Scope::of(row.get(2)).ok_or_else(damaged)?,
            description: row.get::<_, Option<&str>>(3).map(nul::unescaped),
            expires_at: row.get::<_, Option<i64>>(4).map(time),
            created_at: time(row.get(5)),
            id,
        })
    };
    rows(client, sql, &[]).await?.iter().map(read).collect()
}

pub(super) async fn delete(transaction: &Transaction<'_>, id: &str) -> Result<(), StoreError> {
    match execute(transaction, "DELETE FROM tokens WHERE id = $1", &[&id]).await? {
        0 => Err(StoreError::NotFound),
        _ => Ok(()),
    }
}
