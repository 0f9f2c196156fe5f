//! Transactions on a connection of the pool, and statements that are prepared once per connection.
//!
//! Nothing but SQL happens while one is open. Whoever takes locks takes them in this order, so that nobody waits in a
//! circle: the row of `places`, where events are accepted or the version grows; rows of replays and events; lanes, sorted;
//! deliveries that are there; the row of `followers`. Where two wait so all the same, PostgreSQL gives one of them up, and it is run again.
//!
//! Where a connection breaks during a commit nobody knows whether it took place, and [`StoreError::Unavailable`] is all there
//! is to say: an event that is offered again is a repeat then, an attempt recorded again is stale.

use deadpool_postgres::{GenericClient, Transaction};
use futures_util::future::try_join;
use tokio_postgres::Row;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::ToSql;

use super::connection::code;
use crate::limits;
use crate::store::StoreError;

/// How often a transaction is run again that was given up for another.
const TRIES: usize = 5;

/// Whether a caller was promised that what it wrote survives the machine's failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Durability {
    /// Synced to disk before the answer.
    Synced,
    /// Survives this process at once and the server's machine soon; losing it repeats work and loses none.
    Written,
}

/// Values of a statement.
pub(super) type Values<'a> = &'a [&'a (dyn ToSql + Sync)];

/// Runs a transaction on a [`super::Database`]; where `work` fails it has no effect. It may run several times, all but the
/// last without effect. A macro, because the compiler cannot see that what an `AsyncFn` of a borrowed transaction makes may
/// move between threads.
macro_rules! write {
    ($database:expr, $durability:expr, |$transaction:ident| $work:expr) => {{
        let mut tries = 1;
        loop {
            let result = async {
                let mut connection = $database.get().await?;
                let transaction =
                    $crate::store::postgres::transaction::in_time(connection.transaction()).await?;
                let $transaction = &transaction;
                let work = async {
                    let result: Result<_, $crate::store::StoreError> = { $work };
                    result
                };
                let done = $crate::store::postgres::transaction::run($transaction, $durability, work).await?;
                $crate::store::postgres::transaction::in_time(transaction.commit()).await?;
                Ok(done)
            };
            match result.await {
                Err(error) if $crate::store::postgres::transaction::is_worth_another(&error, tries) => {
                    tries += 1
                }
                result => break result,
            }
        }
    }};
}
pub(super) use write;

/// Runs what stands in a transaction, at its beginning.
pub(super) async fn run<T>(
    transaction: &Transaction<'_>,
    durability: Durability,
    work: impl Future<Output = Result<T, StoreError>>,
) -> Result<T, StoreError> {
    if durability == Durability::Synced {
        return work.await;
    }
    let ask = async {
        let ask = "SET LOCAL synchronous_commit TO off";
        transaction.batch_execute(ask).await.map_err(StoreError::from)
    };
    // Sent together: the setting needs no answer before the first statement.
    Ok(try_join(ask, work).await?.1)
}

/// Whether PostgreSQL gave a transaction up for the sake of another, so that it may be run again.
pub(super) fn is_worth_another(error: &StoreError, tries: usize) -> bool {
    let given_up = [SqlState::T_R_DEADLOCK_DETECTED, SqlState::T_R_SERIALIZATION_FAILURE];
    tries < TRIES && code(error).is_some_and(|code| given_up.contains(code))
}

/// All rows of a query.
pub(super) async fn rows(
    client: &impl GenericClient,
    sql: &str,
    values: Values<'_>,
) -> Result<Vec<Row>, StoreError> {
    in_time(async {
        let statement = client.prepare_cached(sql).await?;
        client.query(&statement, values).await
    })
    .await
}

/// The first row of a query.
pub(super) async fn row(
    client: &impl GenericClient,
    sql: &str,
    values: Values<'_>,
) -> Result<Option<Row>, StoreError> {
    Ok(rows(client, sql, values).await?.into_iter().next())
}

/// Runs a statement; returns how many rows it wrote.
pub(super) async fn execute(
    client: &impl GenericClient,
    sql: &str,
    values: Values<'_>,
) -> Result<usize, StoreError> {
    let count = in_time(async {
        let statement = client.prepare_cached(sql).await?;
        client.execute(&statement, values).await
    });
    Ok(usize::try_from(count.await?).unwrap_or(usize::MAX))
}

/// Waits for an answer of the server as long as one may take. A server that is there and says nothing would keep us for ever.
pub(super) async fn in_time<T>(
    answer: impl Future<Output = Result<T, tokio_postgres::Error>>,
) -> Result<T, StoreError> {
    match tokio::time::timeout(limits::POSTGRES_ANSWER, answer).await {
        Ok(answer) => Ok(answer?),
        Err(_) => Err(StoreError::Unavailable(anyhow::anyhow!("PostgreSQL does not answer"))),
    }
}
