//! Waits for the disk on behalf of the writer.
//!
//! A thread of its own syncs the write-ahead log and then answers whoever was promised that what was written survives the
//! machine's failure; those who come while it waits share the next sync. It is the same that SQLite does after a commit
//! with `synchronous = FULL`, where the writer would have to wait for it.
//!
//! Where a sync fails, nobody knows what of the log is on disk, and a second attempt may say yes without having written
//! anything (`fsync` reports an error once). So nothing is written any more until the process has started again and has
//! read the log anew.

use std::ffi::OsString;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;

use anyhow::Context;

use super::writer::Operation;
use crate::store::StoreError;

/// A handle to the syncing thread; the thread ends when the handle is gone.
pub(super) struct Syncer {
    waiting: mpsc::Sender<Box<dyn Operation>>,
    failed: Arc<AtomicBool>,
}

impl Syncer {
    /// Starts the thread for the log of a database.
    pub(super) fn start(database: impl AsRef<Path>) -> anyhow::Result<Self> {
        let mut log = OsString::from(database.as_ref());
        log.push("-wal");
        let (waiting, queue) = mpsc::channel();
        let failed = Arc::new(AtomicBool::new(false));
        let said = failed.clone();
        thread::Builder::new()
            .name("store-syncer".into())
            .spawn(move || run(&log.into(), &queue, &said))
            .context("cannot start the store's syncer")?;
        Ok(Self { waiting, failed })
    }

    /// Answers an operation that was committed, once its commit is on disk.
    pub(super) fn answer_when_synced(&self, operation: Box<dyn Operation>) {
        // Without the thread it is dropped, which its caller takes as a failure of the store.
        let _ = self.waiting.send(operation);
    }

    /// Whether anything may be written.
    ///
    /// # Errors
    /// Where a sync has failed.
    pub(super) fn check(&self) -> Result<(), StoreError> {
        match self.failed.load(Ordering::Acquire) {
            true => Err(StoreError::Unavailable(anyhow::anyhow!(
                "the disk failed to sync; nothing is written until the companion is started again"
            ))),
            false => Ok(()),
        }
    }
}

fn run(log: &PathBuf, queue: &mpsc::Receiver<Box<dyn Operation>>, failed: &AtomicBool) {
    let mut file = None;
    while let Ok(first) = queue.recv() {
        let mut group = vec![first];
        group.extend(queue.try_iter());
        let result = match failed.load(Ordering::Acquire) {
            true => Err("an earlier sync failed".to_owned()),
            false => sync(log, &mut file).map_err(|error| error.to_string()),
        };
        if let Err(error) = &result {
            failed.store(true, Ordering::Release);
            tracing::error!(error, "the disk failed to sync; nothing is written until a new start");
        }
        #[cfg(test)]
        if result.is_ok() {
            crate::testing::note_synced(log, std::fs::metadata(log).map_or(0, |log| log.len()));
        }
        for operation in group {
            operation.answer(match &result {
                Ok(()) => Ok(()),
                Err(error) => Err(StoreError::Unavailable(anyhow::anyhow!("not synced: {error}"))),
            });
        }
    }
}

/// Syncs the log, and the first time its name too. SQLite keeps the file while the database is open.
fn sync(log: &PathBuf, file: &mut Option<File>) -> std::io::Result<()> {
    if let Some(file) = file {
        return file.sync_data();
    }
    let opened = file.insert(File::open(log)?);
    opened.sync_data()?;
    File::open(log.parent().filter(|folder| *folder != Path::new("")).unwrap_or(Path::new(".")))?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Waits(mpsc::Sender<Result<(), StoreError>>);

    impl Operation for Waits {
        fn run(&mut self, _: &rusqlite::Connection) -> bool {
            true
        }

        fn answer(self: Box<Self>, committed: Result<(), StoreError>) {
            self.0.send(committed).unwrap();
        }
    }

    #[test]
    fn after_a_sync_that_failed_nobody_is_told_yes_any_more() {
        let folder = crate::testing::Folder::new();
        let database = folder.path("test.db");
        let syncer = Syncer::start(&database).unwrap();
        let (answers, answer) = mpsc::channel();
        // There is no log, so it cannot be synced.
        syncer.answer_when_synced(Box::new(Waits(answers.clone())));
        assert!(matches!(answer.recv().unwrap(), Err(StoreError::Unavailable(_))));
        assert!(syncer.check().is_err());
        std::fs::write(folder.path("test.db-wal"), "").unwrap();
        syncer.answer_when_synced(Box::new(Waits(answers.clone())));
        assert!(answer.recv().unwrap().is_err(), "what was written before may be lost");
        let started_again = Syncer::start(&database).unwrap();
        started_again.answer_when_synced(Box::new(Waits(answers)));
        assert!(answer.recv().unwrap().is_ok() && started_again.check().is_ok());
    }
}
