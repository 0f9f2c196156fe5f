//! What is on the disk: when the companion is killed, all that it has written; when the machine loses power, what was synced
//! and maybe some of the rest.
//!
//! The database is in memory, so nothing is really synced; the store's syncer notes how long its log was when it did.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use crate::store::{self, offline};
use crate::testing::{Folder, note_synced, synced_length};
use crate::vault::Vault;

/// Makes an empty database that is up to date, by copying one.
pub(super) fn make(to: &Path) {
    static EMPTY: LazyLock<Vec<u8>> = LazyLock::new(|| {
        let folder = Folder::in_memory();
        let (made, copy) = (format!("sqlite:{}", folder.path("made.db").display()), folder.path("copy.db"));
        let store = store::embedded(&made, Vault::new(&[7; 32])).unwrap();
        offline::backup(&made, &copy).unwrap();
        drop(store);
        fs::read(copy).unwrap()
    });
    fs::write(to, &*EMPTY).unwrap();
}

/// Copies a database that is in use. Of its log remains as much as `kept` says, which gets what was synced of it and what was
/// written.
pub(super) fn take(from: &Path, to: &Path, kept: impl FnOnce(u64, u64) -> u64) {
    fs::copy(from, to).unwrap();
    let Ok(bytes) = fs::read(log(from)) else { return };
    let synced = synced_length(&log(from));
    let kept = kept(synced, bytes.len() as u64);
    fs::write(log(to), &bytes[..kept as usize]).unwrap();
    // The next life writes on behind it, and may lose power before it has synced anything.
    note_synced(&log(to), synced);
}

fn log(database: &Path) -> PathBuf {
    database.with_extension("db-wal")
}
