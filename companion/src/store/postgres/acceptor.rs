//! The one task of a process that accepts events, and group commit.
//!
//! Calls that come while it is busy gather and share the next transaction. That one takes the row of `places` first, so one
//! group of all processes is at work at a time, and its commit waits for the disk once for all of them. Where it fails
//! because of one of them, each is run again on its own.

use jiff::Timestamp;
use tokio::sync::{mpsc, oneshot};

use super::Database;
use super::connection::code;
use super::transaction::{Durability, write};
use super::{events, order};
use crate::limits;
use crate::store::{Acceptance, NewEvent, StoreError};

/// Bytes of events that a group takes up before it goes off; a statement and its answer have to fit into memory.
const GROUP_BYTES: usize = 16 << 20;

/// Bytes of an event or a delivery beside the event's data, about.
const ROW_BYTES: usize = 256;

/// Events to accept, and who waits for it.
struct Job {
    events: Vec<NewEvent>,
    version: Option<i64>,
    now: Timestamp,
    caller: oneshot::Sender<Result<Vec<Acceptance>, StoreError>>,
}

impl Job {
    /// Bytes that it has in a statement, about.
    fn size(&self) -> usize {
        let rows: usize = self.events.iter().map(|new| 1 + new.deliveries.len()).sum();
        rows * ROW_BYTES + self.events.iter().map(|new| new.event.size()).sum::<usize>()
    }
}

/// A handle to the task; it ends when the last handle is gone.
pub(super) struct Acceptor {
    jobs: mpsc::Sender<Job>,
}

impl Acceptor {
    /// Starts the task.
    pub(super) fn start(database: Database) -> Self {
        let (jobs, queue) = mpsc::channel(limits::WRITER_QUEUE);
        tokio::spawn(run(database, queue));
        Self { jobs }
    }

    /// Accepts events; [`StoreError::Busy`] at once where too many calls wait already.
    pub(super) async fn accept(
        &self,
        events: Vec<NewEvent>,
        version: Option<i64>,
        now: Timestamp,
    ) -> Result<Vec<Acceptance>, StoreError> {
        let (caller, answer) = oneshot::channel();
        self.jobs.try_send(Job { events, version, now, caller }).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => StoreError::Busy,
            mpsc::error::TrySendError::Closed(_) => gone(),
        })?;
        answer.await.map_err(|_| gone())?
    }
}

fn gone() -> StoreError {
    StoreError::Unavailable(anyhow::anyhow!("the store's acceptor did not come to it"))
}

async fn run(database: Database, mut queue: mpsc::Receiver<Job>) {
    while let Some(first) = queue.recv().await {
        let mut bytes = first.size();
        let mut group = vec![first];
        while group.len() < limits::COMMIT_GROUP
            && bytes < GROUP_BYTES
            && let Ok(job) = queue.try_recv()
        {
            bytes += job.size();
            group.push(job);
        }
        commit(&database, group).await;
    }
}

/// Accepts a group in one transaction and answers everybody.
async fn commit(database: &Database, group: Vec<Job>) {
    match accept(database, &group).await {
        Ok(answers) => answer(group, answers),
        Err(error) if group.len() > 1 && is_of_one(&error) => {
            for job in group {
                let alone = [job];
                let answers = accept(database, &alone).await.unwrap_or_else(|error| vec![Err(error)]);
                answer(alone, answers);
            }
        }
        Err(error) => {
            tracing::error!(error = format!("{error:#?}"), "events were not accepted");
            let reason = format!("not committed: {error:?}");
            for job in group {
                // A caller that went away does not need its answer.
                let _ = job.caller.send(Err(StoreError::Unavailable(anyhow::anyhow!(reason.clone()))));
            }
        }
    }
}

/// Whether an error may be about one call of a group, and not about the server.
fn is_of_one(error: &StoreError) -> bool {
    match error {
        // Of SQLSTATE's classes: connections, resources, an operator's intervention, the system itself.
        StoreError::Unavailable(_) => code(error).is_some_and(|code| {
            !["08", "53", "57", "58", "XX"].iter().any(|class| code.code().starts_with(class))
        }),
        _ => true,
    }
}

fn answer(group: impl IntoIterator<Item = Job>, answers: Vec<Result<Vec<Acceptance>, StoreError>>) {
    for (job, answer) in group.into_iter().zip(answers) {
        // See above.
        let _ = job.caller.send(answer);
    }
}

/// Accepts what a group brings, but for calls whose version has passed; answers in its order.
async fn accept(
    database: &Database,
    group: &[Job],
) -> Result<Vec<Result<Vec<Acceptance>, StoreError>>, StoreError> {
    write!(database, Durability::Synced, |transaction| {
        let version = events::lock_places(transaction).await?.version;
        let is_current = |job: &Job| job.version.is_none_or(|asked| asked == version);
        let current = || group.iter().filter(|job| is_current(job));
        order::lock(transaction, order::lanes_of(current().flat_map(|job| &job.events))).await?;
        let offered: Vec<(&NewEvent, Timestamp)> =
            current().flat_map(|job| job.events.iter().map(|event| (event, job.now))).collect();
        let mut accepted = events::accept(transaction, &offered).await?.into_iter();
        let of_job = |job: &Job| match is_current(job) {
            true => Ok(accepted.by_ref().take(job.events.len()).collect()),
            false => Err(StoreError::Outdated),
        };
        Ok(group.iter().map(of_job).collect())
    })
}
