//! The one writer of an SQLite database, and group commit.
//!
//! A thread owns the writing connection. It takes whatever operations have gathered while it was busy, runs them in one
//! transaction and commits once. Where one of them fails, all are taken back and run again, each in a savepoint of its own,
//! so that the failing one leaves the others: a savepoint for every operation would cost more than many an operation does.
//! A commit writes the log without waiting for the disk; [`Syncer`] does that, and answers those who were promised as
//! much. So the next transaction runs while the disk is busy with this one.

use std::thread;

use anyhow::Context;
use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot};

use super::syncer::Syncer;
use crate::limits;
use crate::store::StoreError;

/// Whether an operation's caller was promised that it survives the machine's failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Durability {
    /// Synced to disk before the answer.
    Synced,
    /// Survives the process at once and the machine soon; losing it repeats work and loses none.
    Written,
}

struct Job {
    durability: Durability,
    operation: Box<dyn Operation>,
}

/// What is to be written, and who waits for it.
pub(super) trait Operation: Send {
    /// Runs it and keeps its result; runs it anew where it ran before. Says whether it did what it should.
    fn run(&mut self, connection: &Connection) -> bool;
    /// Gives the result to whoever waits, unless nothing was committed.
    fn answer(self: Box<Self>, committed: Result<(), StoreError>);
}

/// An operation, what came of it, and who waits for that.
struct Task<T, F> {
    operation: F,
    result: Option<Result<T, StoreError>>,
    caller: oneshot::Sender<Result<T, StoreError>>,
}

impl<T: Send, F: Fn(&Connection) -> Result<T, StoreError> + Send> Operation for Task<T, F> {
    fn run(&mut self, connection: &Connection) -> bool {
        self.result.insert((self.operation)(connection)).is_ok()
    }

    fn answer(self: Box<Self>, committed: Result<(), StoreError>) {
        // A caller that went away does not need its answer.
        let _ = self.caller.send(committed.and(self.result.unwrap_or_else(|| Err(gone()))));
    }
}

/// A handle to the writing thread; the thread ends when the last handle is gone.
#[derive(Clone)]
pub(super) struct Writer {
    jobs: mpsc::Sender<Job>,
}

impl Writer {
    /// Starts the thread; the database has a write-ahead log.
    pub(super) fn start(connection: Connection) -> anyhow::Result<Self> {
        // The log is synced before it is copied into the database; after a commit, by the syncer.
        connection.pragma_update(None, "synchronous", "NORMAL")?;
        let syncer = Syncer::start(connection.path().context("the database has no file")?)?;
        let (jobs, queue) = mpsc::channel(limits::WRITER_QUEUE);
        thread::Builder::new()
            .name("store-writer".into())
            .spawn(move || run(&connection, &syncer, queue))
            .context("cannot start the store's writer")?;
        Ok(Self { jobs })
    }

    /// Runs an operation and waits for its commit; waits for a place in the queue too. The operation may run twice, the
    /// first time without effect.
    pub(super) async fn write<T: Send + 'static>(
        &self,
        durability: Durability,
        operation: impl Fn(&Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (job, answer) = job(durability, operation);
        self.jobs.send(job).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }

    /// As [`Writer::write`], but [`StoreError::Busy`] at once where the queue is full.
    pub(super) async fn try_write<T: Send + 'static>(
        &self,
        durability: Durability,
        operation: impl Fn(&Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (job, answer) = job(durability, operation);
        self.jobs.try_send(job).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => StoreError::Busy,
            mpsc::error::TrySendError::Closed(_) => gone(),
        })?;
        answer.await.map_err(|_| gone())?
    }
}

fn gone() -> StoreError {
    StoreError::Unavailable(anyhow::anyhow!("the store's writer did not come to it"))
}

fn job<T: Send + 'static>(
    durability: Durability,
    operation: impl Fn(&Connection) -> Result<T, StoreError> + Send + 'static,
) -> (Job, oneshot::Receiver<Result<T, StoreError>>) {
    let (caller, answer) = oneshot::channel();
    let operation = Box::new(Task { operation, result: None, caller });
    (Job { durability, operation }, answer)
}

fn execute(connection: &Connection, sql: &str) -> Result<(), StoreError> {
    connection.prepare_cached(sql)?.execute([])?;
    Ok(())
}

fn run(connection: &Connection, syncer: &Syncer, mut queue: mpsc::Receiver<Job>) {
    let mut group = Vec::with_capacity(limits::COMMIT_GROUP);
    while let Some(first) = queue.blocking_recv() {
        group.push(first);
        while group.len() < limits::COMMIT_GROUP
            && let Ok(job) = queue.try_recv()
        {
            group.push(job);
        }
        commit(connection, syncer, &mut group);
    }
}

/// Runs a group in one transaction and answers everybody, or has them answered once it is synced.
fn commit(connection: &Connection, syncer: &Syncer, group: &mut Vec<Job>) {
    let result = (|| -> Result<(), StoreError> {
        syncer.check()?;
        execute(connection, "BEGIN IMMEDIATE")?;
        if !group.iter_mut().all(|job| job.operation.run(connection) && !connection.is_autocommit()) {
            roll_back(connection);
            execute(connection, "BEGIN IMMEDIATE")?;
            group.iter_mut().try_for_each(|job| in_savepoint(connection, &mut *job.operation))?;
        }
        execute(connection, "COMMIT")
    })();
    if let Err(error) = &result {
        tracing::error!(error = format!("{error:#?}"), "a transaction was not committed");
        roll_back(connection);
    }
    let error = result.err();
    for Job { durability, operation } in group.drain(..) {
        match (&error, durability) {
            (None, Durability::Synced) => syncer.answer_when_synced(operation),
            (None, Durability::Written) => operation.answer(Ok(())),
            (Some(error), _) => operation.answer(Err(not_committed(error))),
        }
    }
}

fn not_committed(error: &StoreError) -> StoreError {
    StoreError::Unavailable(anyhow::anyhow!("not committed: {error:?}"))
}

/// Runs an operation so that it has no effect where it fails.
fn in_savepoint(connection: &Connection, operation: &mut dyn Operation) -> Result<(), StoreError> {
    execute(connection, "SAVEPOINT operation")?;
    let done = operation.run(connection);
    // A full disk or one that fails ends the whole transaction, and the next operation would stand in none.
    if connection.is_autocommit() {
        return Err(StoreError::Unavailable(anyhow::anyhow!("the transaction was given up")));
    }
    if !done {
        execute(connection, "ROLLBACK TO operation")?;
    }
    execute(connection, "RELEASE operation")
}

/// Takes back what was not committed; SQLite has done so itself where the disk failed.
fn roll_back(connection: &Connection) {
    if !connection.is_autocommit() {
        // Where not even that is possible, the next transaction says so.
        let _ = execute(connection, "ROLLBACK");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Barrier};

    fn open(folder: &crate::testing::Folder) -> Connection {
        let connection = Connection::open(folder.path("writer.db")).unwrap();
        connection.execute_batch("PRAGMA journal_mode = WAL; CREATE TABLE t (x)").unwrap();
        connection
    }

    fn count(connection: &Connection) -> Result<i64, StoreError> {
        Ok(connection.query_row("SELECT COUNT(*) FROM t", [], |row| row.get(0))?)
    }

    fn insert(connection: &Connection) -> Result<(), StoreError> {
        connection.execute("INSERT INTO t DEFAULT VALUES", [])?;
        Ok(())
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn operations_that_gathered_share_one_commit_and_a_failing_one_leaves_the_others() {
        let folder = crate::testing::Folder::new();
        let path = folder.path("writer.db");
        let writer = Writer::start(open(&folder)).unwrap();

        let busy = Arc::new(Barrier::new(2));
        let hold = busy.clone();
        let (first, _) = job(Durability::Synced, move |_| {
            hold.wait();
            hold.wait();
            Ok(())
        });
        writer.jobs.send(first).await.unwrap();
        busy.wait();
        // The writer is busy now, so these three gather behind it.
        let (one, one_done) = job(Durability::Synced, insert);
        let (two, two_done) = job(Durability::Synced, |connection| {
            insert(connection)?;
            Err::<(), _>(StoreError::Conflict)
        });
        let (three, three_done) = job(Durability::Synced, move |connection| {
            let outside = Connection::open(&path)?;
            Ok((count(connection)?, count(&outside)?))
        });
        for job in [one, two, three] {
            writer.jobs.send(job).await.unwrap();
        }
        busy.wait();
        assert!(one_done.await.unwrap().is_ok());
        assert!(matches!(two_done.await.unwrap(), Err(StoreError::Conflict)));
        assert_eq!(
            three_done.await.unwrap().unwrap(),
            (1, 0),
            "the first insert was committed before the third ran"
        );
    }

    #[tokio::test]
    async fn nobody_is_told_yes_where_the_commit_failed() {
        let folder = crate::testing::Folder::new();
        let writer = Writer::start(open(&folder)).unwrap();
        let broken = |connection: &Connection| {
            // Ends the transaction under the writer's feet, as SQLite itself does when the disk is full.
            connection.execute_batch("ROLLBACK")?;
            Ok(())
        };
        assert!(writer.write(Durability::Synced, broken).await.is_err());
        assert!(writer.write(Durability::Synced, |_| Ok(())).await.is_ok(), "the writer goes on");
    }

    #[tokio::test]
    async fn a_full_disk_fails_the_whole_group_and_nothing_after_there_is_room() {
        let folder = crate::testing::Folder::new();
        let connection = open(&folder);
        let syncer = Syncer::start(connection.path().unwrap()).unwrap();
        connection.execute_batch("PRAGMA max_page_count = 20").unwrap();
        let large = |connection: &Connection| {
            connection.execute("INSERT INTO t VALUES (zeroblob(1000000))", [])?;
            Ok(())
        };
        let mut group = Vec::new();
        let mut answers = Vec::new();
        let mut put = |(job, answer)| {
            group.push(job);
            answers.push(answer);
        };
        put(job(Durability::Synced, insert));
        put(job(Durability::Synced, large));
        put(job(Durability::Synced, insert));
        commit(&connection, &syncer, &mut group);
        for answer in answers {
            assert!(matches!(answer.await.unwrap(), Err(StoreError::Unavailable(_))));
        }
        assert_eq!(count(&connection).unwrap(), 0, "somebody was told no of what was written");
        let writer = Writer::start(connection).unwrap();
        writer.write(Durability::Synced, insert).await.unwrap();
        assert!(matches!(writer.write(Durability::Synced, large).await, Err(StoreError::Unavailable(_))));
        let more = |connection: &Connection| Ok(connection.execute_batch("PRAGMA max_page_count = 2000")?);
        writer.write(Durability::Synced, more).await.unwrap();
        writer.write(Durability::Synced, large).await.unwrap();
        assert_eq!(writer.write(Durability::Synced, count).await.unwrap(), 2);
    }
}
