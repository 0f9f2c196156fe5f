//! Whether the disk has room for more events.
//!
//! A delivery writes too: its lease, its attempts, how it ended. Were the disk filled with events to the last byte, none
//! of them could be delivered and recorded. So the last of it is left to deliveries: below a least free space events are
//! not taken, and what was taken goes out. Asked for at most every [`limits::DISK_EVERY`].

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytesize::ByteSize;

use crate::limits;

/// The file system of the database.
#[derive(Debug)]
pub struct Disk {
    database: Option<PathBuf>,
    least: u64,
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    /// When it was last asked, as [`crate::clock::Clock::elapsed`].
    at: Option<Duration>,
    is_nearly_full: bool,
}

impl Disk {
    /// The disk of the store that a URL names, and the least free space in bytes. A store that is no file of this machine
    /// always has room.
    pub fn of(store: &str, least: u64) -> Self {
        let database = store.strip_prefix("sqlite:").map(PathBuf::from);
        Self { database, least, seen: Mutex::default() }
    }

    /// Whether less is free than must be, as of the last [`limits::DISK_EVERY`]; `elapsed` is that of
    /// [`crate::clock::Clock`]. Logs each change.
    pub fn is_nearly_full(&self, elapsed: Duration) -> bool {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.at.is_none_or(|at| elapsed.saturating_sub(at) >= limits::DISK_EVERY) {
            seen.at = Some(elapsed);
            // Where it cannot be known, the write itself will tell.
            if let Some(free) = self.free() {
                seen.take_in(free, self.least);
            }
        }
        seen.is_nearly_full
    }

    /// Bytes that this process may still write.
    fn free(&self) -> Option<u64> {
        let system = rustix::fs::statvfs(self.database.as_ref()?).ok()?;
        Some(system.f_bavail.saturating_mul(system.f_frsize))
    }
}

impl Seen {
    fn take_in(&mut self, free: u64, least: u64) {
        let is_nearly_full = free < least;
        if is_nearly_full != self.is_nearly_full {
            let (free, least) = (ByteSize(free), ByteSize(least));
            match is_nearly_full {
                true => tracing::error!(%free, %least, "the disk is nearly full; no events are taken"),
                false => tracing::info!(%free, %least, "the disk has room again; events are taken"),
            }
        }
        self.is_nearly_full = is_nearly_full;
    }
}

/// A size with its unit, in bytes: `64MiB`, `1.5GB`, `0B`. A number without a unit is an error.
pub fn size(text: &str) -> Result<u64, String> {
    let allowed = || format!("`{text}` is not a size with a unit, such as 64MiB or 1GB");
    if !text.ends_with(|last: char| last.is_ascii_alphabetic()) {
        return Err(allowed());
    }
    text.parse::<ByteSize>().map(|size| size.as_u64()).map_err(|_| allowed())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_refused_while_less_is_free_than_must_be() {
        let mut seen = Seen::default();
        for (free, expected) in [(100, false), (64, false), (63, true), (0, true), (63, true), (64, false)] {
            seen.take_in(free, 64);
            assert_eq!(seen.is_nearly_full, expected, "{free} free");
        }
    }

    #[test]
    fn it_is_asked_at_most_once_a_second() {
        let folder = crate::testing::Folder::new();
        let file = folder.path("test.db");
        let disk = Disk::of(&format!("sqlite:{}", file.display()), u64::MAX);
        let at = Duration::from_millis;
        assert!(!disk.is_nearly_full(at(0)), "what is not there cannot be asked");
        std::fs::write(&file, "").unwrap();
        assert!(!disk.is_nearly_full(at(999)));
        assert!(disk.is_nearly_full(at(1_000)));
        std::fs::remove_file(&file).unwrap();
        assert!(disk.is_nearly_full(at(5_000)), "the last answer stands");
        assert!(!Disk::of("postgres://db", u64::MAX).is_nearly_full(at(0)));
    }

    #[test]
    fn a_size_needs_a_unit() {
        for (text, expected) in [
            ("64MiB", Ok(64 << 20)),
            ("1GB", Ok(1_000_000_000)),
            ("0B", Ok(0)),
            ("1.5 KiB", Ok(1_536)),
            ("64", Err(())),
            ("", Err(())),
            ("-1MiB", Err(())),
            ("manyMiB", Err(())),
        ] {
            assert_eq!(size(text).map_err(|_| ()), expected, "{text}");
        }
    }
}
