//! `gatehook openapi`: from an API's OpenAPI description to a configuration of the filter, to review.
//!
//! [`intention`] reads what each operation means, [`resources`] and [`plan`] find the fewest resources with which the
//! filter says the same, and the filter's own rules are the judge of it. What the description gives no ground for, or
//! the configuration no words, is listed and left alone.

use std::io::Write;
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::Args;

use super::{exit_code, input};

mod api;
mod declared;
mod document;
mod intention;
mod plan;
mod report;
mod resources;
mod sample;
mod schema;
mod words;

use api::Api;
use document::Document;
use plan::Plan;
use report::Report;

/// Arguments of `gatehook openapi`.
#[derive(Args, Debug)]
pub struct Openapi {
    /// An OpenAPI 3.0 or 3.1 description, JSON or YAML; - reads standard input
    file: String,

    /// Write the configuration to this file instead of standard output
    #[arg(long, value_name = "FILE")]
    out: Option<String>,

    /// Report on standard error as one JSON object, for scripts
    #[arg(long)]
    json: bool,
}

impl Openapi {
    /// Writes the configuration, and a report of what it does not place to `err`.
    ///
    /// # Errors
    /// A file that cannot be read or written, or that is no OpenAPI 3 description.
    pub fn run(&self, out: &mut impl Write, err: &mut impl Write) -> anyhow::Result<ExitCode> {
        let file = input::shown(&self.file);
        let document = parse(&input::read(&self.file)?).with_context(|| file.to_owned())?;
        let api = Api::of(&document);
        let plan = Plan::of(&api).with_context(|| file.to_owned())?;
        match &self.out {
            Some(path) => {
                std::fs::write(path, &plan.json).with_context(|| format!("{path}: cannot be written"))?
            }
            None => out.write_all(plan.json.as_bytes())?,
        }
        let report = Report::of(file, &api, &plan);
        if self.json {
            writeln!(err, "{}", serde_json::to_string(&report)?)?;
        } else {
            report.print(err)?;
        }
        Ok(exit_code(true))
    }
}

/// The configuration for a description, as the command writes it.
///
/// # Errors
/// The place in the description and what is wrong there.
pub fn configuration(description: &[u8]) -> anyhow::Result<String> {
    Ok(Plan::of(&Api::of(&parse(description)?))?.json)
}

fn parse(description: &[u8]) -> anyhow::Result<Document> {
    match Document::parse(description) {
        Ok(document) => Ok(document),
        Err((at, message)) => bail!("{}: {message}", if at.is_empty() { "/" } else { &at }),
    }
}
