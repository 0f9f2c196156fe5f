//! `gatehook backup`: a copy of a companion's database, made while it runs.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use bytesize::ByteSize;
use clap::Args;

use super::exit_code;
use crate::store::offline;

/// Arguments of `gatehook backup`.
#[derive(Args, Debug)]
pub struct Backup {
    /// The file to make; one that is there already is not overwritten
    file: PathBuf,

    /// The store to copy: sqlite:PATH
    #[arg(long, env = "GATEHOOK_STORE", hide_env_values = true, default_value = "sqlite:gatehook.db")]
    store: String,
}

impl Backup {
    /// Makes the copy and prints what is in it.
    ///
    /// # Errors
    /// See [`offline::backup`].
    pub fn run(&self, out: &mut impl Write) -> anyhow::Result<ExitCode> {
        let copied = offline::backup(&self.store, &self.file)?;
        let rows: Vec<_> = copied.rows.iter().map(|(what, count)| format!("{count} {what}")).collect();
        writeln!(out, "{}: {}", self.file.display(), ByteSize(copied.size))?;
        writeln!(out, "  {}", rows.join(", "))?;
        writeln!(
            out,
            "  without the secret key: keep a copy of that apart, nothing else opens the secrets in it"
        )?;
        Ok(exit_code(true))
    }
}
