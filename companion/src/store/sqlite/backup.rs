//! A copy of a database that is in use: `VACUUM INTO`, in one read transaction.
//!
//! Chosen over the backup API, which begins anew whenever somebody writes, and copies free pages too: here none of what was
//! erased goes along. The write-ahead log grows while the copy is made.

use std::fs::{self, File, OpenOptions};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use rusqlite::{Connection, OpenFlags};

use crate::store::offline::Copied;

/// What is counted, by its name in the output.
const ROWS: [(&str, &str); 5] = [
    ("subscriptions", "SELECT COUNT(*) FROM subscriptions"),
    ("events", "SELECT COUNT(*) FROM events"),
    ("deliveries", "SELECT COUNT(*) FROM deliveries"),
    ("deliveries pending", "SELECT COUNT(*) FROM deliveries WHERE status = 'pending'"),
    ("attempts", "SELECT COUNT(*) FROM attempts"),
];

/// See [`crate::store::offline::backup`].
pub(in crate::store) fn backup(database: &Path, file: &Path) -> anyhow::Result<Copied> {
    let source = open(database)?;
    let reserved = match new(file) {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            bail!("{} is there already; a backup overwrites nothing", file.display())
        }
        reserved => reserved.with_context(|| format!("cannot make {}", file.display()))?,
    };
    drop(reserved);
    let part = part(file);
    let copied = copy(&source, &part, file);
    if copied.is_err() {
        for unfinished in [&part, file] {
            // What cannot be removed is empty or has a name that says it is not whole.
            let _ = fs::remove_file(unfinished);
        }
    }
    copied.with_context(|| format!("cannot copy {} to {}", database.display(), file.display()))
}

/// A read-only connection to a database that must be there.
pub(in crate::store) fn open(database: &Path) -> anyhow::Result<Connection> {
    let shown = || format!("--store: cannot read {}", database.display());
    let connection =
        Connection::open_with_flags(database, OpenFlags::SQLITE_OPEN_READ_ONLY).with_context(shown)?;
    connection.busy_timeout(Duration::from_secs(5))?;
    // Opening alone does not look at the file.
    connection.query_row("PRAGMA schema_version", [], |_| Ok(())).with_context(shown)?;
    Ok(connection)
}

/// A new file that only its owner may read: events are nobody else's business.
fn new(file: &Path) -> std::io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(file)
}

fn part(file: &Path) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(".part");
    PathBuf::from(name)
}

/// Copies under another name, syncs, and only then gives the copy its own: a file of that name is whole or empty.
fn copy(source: &Connection, part: &Path, file: &Path) -> anyhow::Result<Copied> {
    let name = part.to_str().context("the file's name is not UTF-8")?;
    drop(new(part).with_context(|| format!("cannot make {}", part.display()))?);
    source.execute("VACUUM INTO ?1", [name])?;
    File::open(part)?.sync_all()?;
    let copy = Connection::open_with_flags(part, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    let count = |(name, sql)| Ok((name, copy.query_row(sql, [], |row| row.get::<_, i64>(0))?.unsigned_abs()));
    let rows = ROWS.into_iter().map(count).collect::<Result<_, rusqlite::Error>>()?;
    let size = fs::metadata(part)?.len();
    fs::rename(part, file)?;
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()?;
    Ok(Copied { size, rows })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{DeliveryId, Event, SubscriptionId};
    use crate::store::{self, EventQuery, NewDelivery, NewEvent, Store};
    use crate::testing::Folder;
    use crate::vault::Vault;
    use jiff::Timestamp;

    async fn accept(store: &dyn Store, id: usize) {
        let now = Timestamp::from_second(1_700_000_000).unwrap();
        let event = Event {
            id: id.to_string(),
            source: "/test".into(),
            event_type: "contact.create".into(),
            subject: None,
            time: now,
            datacontenttype: None,
            data: None,
            tenant: None,
            extensions: Default::default(),
        };
        let delivery = NewDelivery {
            id: DeliveryId(format!("dlv_{id}")),
            subscription: SubscriptionId("sub_1".into()),
            due_at: now,
            resource: None,
            lease: None,
        };
        store.accept(vec![NewEvent { event: event.into(), deliveries: vec![delivery] }], now).await.unwrap();
    }

    fn count(copied: &Copied, what: &str) -> u64 {
        copied.rows.iter().find(|(name, _)| *name == what).unwrap().1
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_copy_made_under_load_is_a_store_of_one_moment() {
        let folder = Folder::new();
        let path = folder.path("test.db");
        let url = format!("sqlite:{}", path.display());
        let live = store::embedded(&url, Vault::new(&[1; 32])).unwrap();
        accept(&*live, 0).await;
        let (stop, stopped) = tokio::sync::watch::channel(false);
        let busy = live.clone();
        let load = tokio::spawn(async move {
            let mut id = 1;
            while !*stopped.borrow() {
                accept(&*busy, id).await;
                id += 1;
            }
            id
        });
        let file = folder.path("copy.db");
        let to = file.clone();
        let copied = tokio::task::spawn_blocking(move || backup(&path, &to)).await.unwrap().unwrap();
        stop.send(true).unwrap();
        let accepted = load.await.unwrap() as u64;

        let events = count(&copied, "events");
        assert!((1..=accepted).contains(&events), "{events} of {accepted}");
        assert_eq!(count(&copied, "deliveries"), events, "an event and its deliveries go together");
        assert_eq!(count(&copied, "deliveries pending"), events);
        assert_eq!(copied.size, fs::metadata(&file).unwrap().len());
        let url = format!("sqlite:{}", file.display());
        assert_eq!(store::offline::integrity(&url).unwrap(), []);
        let restored = store::embedded(&url, Vault::new(&[1; 32])).unwrap();
        let found =
            restored.events(EventQuery { limit: usize::MAX >> 1, ..Default::default() }).await.unwrap();
        assert_eq!(found.len() as u64, events);
    }

    #[tokio::test]
    async fn nothing_is_overwritten_and_nothing_left_behind_by_a_copy_that_fails() {
        let folder = Folder::new();
        let (database, file) = (folder.path("test.db"), folder.path("copy.db"));
        let error = |result: anyhow::Result<Copied>| format!("{:#}", result.unwrap_err());
        assert!(error(backup(&database, &file)).contains("cannot read"));
        fs::write(&database, "no database at all, but long enough to be read as one").unwrap();
        assert!(error(backup(&database, &file)).contains("cannot read"));
        assert!(!file.exists());
        fs::remove_file(&database).unwrap();
        let url = format!("sqlite:{}", database.display());
        drop(store::embedded(&url, Vault::new(&[1; 32])).unwrap());
        fs::write(&file, "mine").unwrap();
        assert!(error(backup(&database, &file)).contains("overwrites nothing"));
        assert_eq!(fs::read_to_string(&file).unwrap(), "mine");
        let other = folder.path("other.db");
        fs::write(part(&other), "somebody's").unwrap();
        assert!(error(backup(&database, &other)).contains("cannot make"));
        assert!(!other.exists());
    }
}
