//! Which of several processes does what only one should do.
//!
//! A row names it and says until when, by the server's clock. Whoever leads goes on doing so; one that ends or loses the
//! server is followed a few seconds later.

use std::sync::Mutex;
use std::sync::PoisonError;

use tokio::time::Instant;

use super::Database;
use super::transaction::row;
use crate::clock::random_token;
use crate::limits;
use crate::store::StoreError;

/// What this process knows of it.
pub(super) struct Leader {
    name: i64,
    /// Since when it surely leads, as of the last time it asked.
    asked: Mutex<Option<Instant>>,
}

impl Leader {
    /// One that has not asked yet.
    pub(super) fn new() -> Self {
        Self { name: random_token(), asked: Mutex::default() }
    }

    /// Whether this process leads; asks again when a third of its time is over.
    pub(super) async fn is_this(&self, database: &Database) -> Result<bool, StoreError> {
        let begun = Instant::now();
        let known = *self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        if known.is_some_and(|asked| asked.elapsed() < limits::LEADS / 3) {
            return Ok(true);
        }
        let sql = "UPDATE leader SET name = $1, until = clock_timestamp() + make_interval(secs => $2) \
                   WHERE name = $1 OR until < clock_timestamp() RETURNING name";
        let leads =
            row(&database.get().await?, sql, &[&self.name, &limits::LEADS.as_secs_f64()]).await?.is_some();
        *self.asked.lock().unwrap_or_else(PoisonError::into_inner) = leads.then_some(begun);
        Ok(leads)
    }
}
