//! Bearer tokens in SQLite: their hashes alone.

use rusqlite::Connection;

use super::{micros, time};
use crate::model::{Scope, Token};
use crate::store::StoreError;

pub(super) fn create(connection: &Connection, token: &Token) -> Result<(), StoreError> {
    let insert = "INSERT INTO tokens (id, hash, scope, description, expires_at, created_at) \
                  VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
    connection.prepare_cached(insert)?.execute((
        &token.id,
        token.hash,
        token.scope.word(),
        &token.description,
        token.expires_at.map(micros),
        micros(token.created_at),
    ))?;
    Ok(())
}

pub(super) fn all(connection: &Connection) -> Result<Vec<Token>, StoreError> {
    let sql = "SELECT id, hash, scope, description, expires_at, created_at FROM tokens ORDER BY id";
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query([])?;
    let mut tokens = Vec::new();
    while let Some(row) = rows.next()? {
        let id: String = row.get(0)?;
        let damaged = || StoreError::Unavailable(anyhow::anyhow!("token {id} is damaged"));
        tokens.push(Token {
            hash: row.get(1)?,
            scope: Scope::of(&row.get::<_, String>(2)?).ok_or_else(damaged)?,
            description: row.get(3)?,
            expires_at: row.get::<_, Option<i64>>(4)?.map(time),
            created_at: time(row.get(5)?),
            id,
        });
    }
    Ok(tokens)
}

pub(super) fn delete(connection: &Connection, id: &str) -> Result<(), StoreError> {
    match connection.prepare_cached("DELETE FROM tokens WHERE id = ?1")?.execute([id])? {
        0 => Err(StoreError::NotFound),
        _ => Ok(()),
    }
}
