//! `gatehook integrity`: whether a companion's database holds together.

use std::io::Write;
use std::process::ExitCode;

use clap::Args;
use serde_json::json;

use super::exit_code;
use crate::store::{offline, redacted};

/// Arguments of `gatehook integrity`.
#[derive(Args, Debug)]
pub struct Integrity {
    /// The store to check: sqlite:PATH or postgres://…
    #[arg(long, env = "GATEHOOK_STORE", hide_env_values = true, default_value = "sqlite:gatehook.db")]
    store: String,

    /// Print one JSON object, for scripts
    #[arg(long)]
    json: bool,
}

impl Integrity {
    /// Checks the store and prints each flaw on a line, `kind: place`.
    ///
    /// # Errors
    /// See [`offline::integrity`].
    pub fn run(&self, out: &mut impl Write) -> anyhow::Result<ExitCode> {
        let flaws = offline::integrity(&self.store)?;
        if self.json {
            writeln!(out, "{}", json!({"valid": flaws.is_empty(), "flaws": flaws}))?;
        } else {
            for flaw in &flaws {
                writeln!(out, "{}: {}", flaw.flaw, flaw.at)?;
            }
            if flaws.is_empty() {
                writeln!(out, "{} holds together", redacted(&self.store))?;
            }
        }
        Ok(exit_code(flaws.is_empty()))
    }
}
