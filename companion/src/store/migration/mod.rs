//! Moving a store from SQLite to PostgreSQL.
//!
//! Both are walked in the order of their keys, and what differs is made equal. So the same walk copies, catches up with
//! what has changed meanwhile, and checks row by row that nothing is left to do. The companion may go on while most is
//! copied; for what is left it has to be stopped, and gateways keep their events that long. While a move is not at its
//! end, no companion starts on the new store; afterwards none starts on the old one.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, ensure};

use super::{offline, redacted, sqlite};
use source::Source;
use tables::TABLES;
use target::Target;

mod source;
mod tables;
mod target;

/// What keeps the old store from being used again: the new one's URL, beside the data.
pub(super) const MOVED_TO: &str = "moved_to";
/// What keeps the new store from being used before its time: the old one's path, beside the data.
pub(super) const MOVING_FROM: &str = "moving_from";

/// How often to look whether the companion has been stopped.
const LOOK_AGAIN: Duration = Duration::from_millis(200);

/// What a move tells while it goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// A table is being walked: its name, rows of the old store so far, and how many of them differed.
    Table {
        /// Its name.
        name: &'static str,
        /// Rows of the old store so far.
        rows: u64,
        /// Of these, and of what only the new one had, how many were made equal.
        changed: u64,
    },
    /// All that there was is copied; the companion has to be stopped for the rest.
    Stop,
    /// The companion is stopped; what has changed is copied.
    Stopped,
    /// Each row of both is compared once more.
    Check,
}

/// Rows of the old store, by table, all of which the new one has now.
pub type Moved = Vec<(&'static str, u64)>;

/// Moves the store of `from` (`sqlite:PATH`) to `to` (`postgres://…`), an empty one or one where a move from there has begun.
/// Waits for the companion to be stopped when only that is left.
///
/// # Errors
/// One sentence: a store that cannot be read or written, a new one that is not empty, rows that differ in the end. The old
/// store is as it was, and the move may be begun again: also where it broke off at its very end, with the old store closed and
/// the new one not yet open.
pub async fn move_store(from: &str, to: &str, tell: &mut dyn FnMut(Progress)) -> anyhow::Result<Moved> {
    let path = from.strip_prefix("sqlite:").filter(|path| !path.is_empty());
    let path = Path::new(path.with_context(|| format!("--from: `{}` is not sqlite:PATH", redacted(from)))?);
    ensure!(offline::is_postgres(to), "--to: `{}` is not postgres://…", redacted(to));
    let source = Source::open(path, &redacted(to)).context("--from")?;
    let target = Target::open(to, path, source.is_closed()).await.context("--to")?;
    let mut lock = sqlite::lock(path).ok();
    if lock.is_none() {
        walk(&source, &target, tell).await?;
        tell(Progress::Stop);
        while lock.is_none() {
            tokio::time::sleep(LOOK_AGAIN).await;
            lock = sqlite::lock(path).ok();
        }
        tell(Progress::Stopped);
    }
    // Another move may have come to its end meanwhile.
    source.is_unchanged().context("--from")?;
    target.is_marked().await.context("--to")?;
    if !source.is_closed() {
        walk(&source, &target, tell).await?;
        target.finish(source.last_place()?).await?;
    }
    tell(Progress::Check);
    let checked = walk(&source, &target, tell).await?;
    let differing: u64 = checked.iter().map(|(_, _, changed)| changed).sum();
    ensure!(differing == 0, "{differing} rows differed after all was copied; begin again");
    // The old one first: between the two nobody may use either, and the move may be begun again.
    source.close(&redacted(to))?;
    target.release().await?;
    Ok(checked.into_iter().map(|(name, rows, _)| (name, rows)).collect())
}

/// Makes the new store equal to the old one; of each table its rows, and how many differed.
async fn walk(
    source: &Source,
    target: &Target,
    tell: &mut dyn FnMut(Progress),
) -> anyhow::Result<Vec<(&'static str, u64, u64)>> {
    let mut walked = Vec::with_capacity(TABLES.len());
    for table in &TABLES {
        let (mut after, mut rows, mut changed) = (None, 0, 0);
        loop {
            let chunk = source.chunk(table, after.as_ref()).with_context(|| table.name)?;
            rows += chunk.rows.len() as u64;
            let until = chunk.rows.last().map(|row| table.key_of(row)).filter(|_| chunk.more);
            let range = (after.as_ref(), until.as_ref());
            changed += target.equal(table, range, chunk.rows).await.with_context(|| table.name)?;
            tell(Progress::Table { name: table.name, rows, changed });
            match until {
                Some(until) => after = Some(until),
                None => break,
            }
        }
        walked.push((table.name, rows, changed));
    }
    Ok(walked)
}

#[cfg(test)]
mod tests;
