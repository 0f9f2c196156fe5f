//! `gatehook migrate-store`: moves a companion's store from SQLite to PostgreSQL, most of it while the companion runs.

use std::io::{IsTerminal, Write};
use std::process::ExitCode;

use clap::Args;

use super::exit_code;
use crate::store::migration::{self, Progress};

/// Arguments of `gatehook migrate-store`.
#[derive(Args, Debug)]
pub struct MigrateStore {
    /// The store to move: sqlite:PATH
    #[arg(long, default_value = "sqlite:gatehook.db")]
    from: String,

    /// Where to: postgres://…, an empty database or schema
    #[arg(long, env = "GATEHOOK_STORE", hide_env_values = true)]
    to: String,
}

impl MigrateStore {
    /// Moves it, and says how far it is and what is to be done.
    ///
    /// # Errors
    /// See [`migration::move_store`].
    pub async fn run(&self, out: &mut impl Write) -> anyhow::Result<ExitCode> {
        let mut failed = None;
        // A line that grows on a terminal, one for each table elsewhere.
        let is_terminal = std::io::stdout().is_terminal();
        let mut last = "";
        let mut tell = |progress: Progress| {
            let line = match progress {
                Progress::Table { name, rows, changed } if is_terminal => {
                    let new_line = if name == last || last.is_empty() { "" } else { "\n" };
                    last = name;
                    format!("{new_line}\r  {name:<14} {rows:>12} rows, {changed} copied")
                }
                Progress::Table { .. } => return,
                Progress::Stop => "\nstop the companion now: only what has changed is left to copy, and gateways keep their \
                                   events until the new one takes them\n"
                    .to_owned(),
                Progress::Stopped => "it is stopped; copying what has changed\n".to_owned(),
                Progress::Check => "\ncomparing row by row\n".to_owned(),
            };
            let written = out.write_all(line.as_bytes()).and_then(|()| out.flush());
            failed = failed.take().or(written.err());
        };
        let moved = migration::move_store(&self.from, &self.to, &mut tell).await?;
        if let Some(error) = failed {
            return Err(error.into());
        }
        let rows: Vec<String> = moved.iter().map(|(name, rows)| format!("{rows} {name}")).collect();
        writeln!(out, "\nmoved, each row compared: {}", rows.join(", "))?;
        writeln!(
            out,
            "  start the companion with --store and the same --secret-key; the old store cannot be used any more"
        )?;
        Ok(exit_code(true))
    }
}
