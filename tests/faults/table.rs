//! The table: for a terminal, and as the page `tests/FAULTS.md`.

use std::fmt::Write as _;
use std::process::Command;

use anyhow::{Context as _, Result};
use harness::skip::Unavailable;
use harness::{envoy, machine, workspace};

use crate::Findings;
use crate::moment::shown;

/// A fault and what came of it.
pub(crate) struct Row {
    pub(crate) name: &'static str,
    pub(crate) promise: &'static str,
    pub(crate) tries: usize,
    pub(crate) found: Found,
}

pub(crate) enum Found {
    Counted(Findings),
    /// It cannot happen on this machine.
    NotHere(String),
    /// It could not be told to its end.
    Failed(String),
}

impl Found {
    pub(crate) fn of(result: Result<Findings>) -> Self {
        match result {
            Ok(findings) => Self::Counted(findings),
            Err(error) if error.downcast_ref::<Unavailable>().is_some() => {
                Self::NotHere(format!("{error:#}"))
            }
            Err(error) => Self::Failed(format!("{error:#}")),
        }
    }
}

impl Row {
    pub(crate) fn is_broken(&self) -> bool {
        match &self.found {
            Found::Counted(findings) => !findings.broken.is_empty(),
            Found::NotHere(_) => false,
            Found::Failed(_) => true,
        }
    }

    /// Its figures.
    pub(crate) fn line(&self) -> String {
        let [tries, accepted, delivered, lost, twice, latest] = self.figures();
        format!("{:<52} {tries:>5} {accepted:>9} {delivered:>9} {lost:>6} {twice:>6} {latest:>9}", self.name)
    }

    fn figures(&self) -> [String; 6] {
        let Found::Counted(findings) = &self.found else {
            return [self.tries.to_string(), "-".into(), "-".into(), "-".into(), "-".into(), "-".into()];
        };
        let Findings { accepted, delivered, lost, twice, latest, .. } = findings;
        let counts = [self.tries, *accepted, *delivered, *lost, *twice].map(|count| count.to_string());
        let [tries, accepted, delivered, lost, twice] = counts;
        [tries, accepted, delivered, lost, twice, latest.map_or("-".into(), shown)]
    }

    /// What was found beside the figures.
    fn remarks(&self) -> Vec<String> {
        match &self.found {
            Found::Counted(findings) => {
                let broken = findings.broken.iter().map(|how| format!("BROKEN: {how}"));
                findings.remarks.iter().cloned().chain(broken).collect()
            }
            Found::NotHere(reason) => vec![format!("not on this machine: {reason}")],
            Found::Failed(error) => vec![format!("BROKEN: {error}")],
        }
    }
}

/// As a person reads it at the end of a run.
pub(crate) fn terminal(rows: &[Row]) -> String {
    let mut text = format!(
        "\n{:<52} {:>5} {:>9} {:>9} {:>6} {:>6} {:>9}\n",
        "fault", "tries", "accepted", "delivered", "lost", "twice", "latest"
    );
    for row in rows {
        let _ = writeln!(text, "{}\n    why    {}", row.line(), row.promise);
        for remark in row.remarks() {
            let _ = writeln!(text, "           {remark}");
        }
    }
    let broken = rows.iter().filter(|row| row.is_broken()).count();
    let _ = write!(text, "\n{} promises held, {broken} did not", rows.len() - broken);
    text
}

/// Writes `tests/FAULTS.md`.
pub(crate) fn write(rows: &[Row]) -> Result<()> {
    let mut page = String::from(HEAD);
    let run = [
        machine::line(),
        format!("Envoy {}", envoy::program()?.origin),
        format!("Gatehook at {}", printed("git", &["describe", "--always", "--dirty", "--abbrev=10"])?),
        printed("date", &["-u", "+%Y-%m-%d"])?,
    ];
    let _ = writeln!(page, "{}.\n", run.join("; "));
    page.push_str("| fault | tries | accepted | delivered | lost | sent twice | latest | why |\n");
    page.push_str("|---|--:|--:|--:|--:|--:|--:|---|\n");
    for row in rows {
        let why = [vec![row.promise.to_owned()], row.remarks()].concat().join(" · ").replace('|', "\\|");
        let _ = writeln!(page, "| {} | {} | {why} |", row.name, row.figures().join(" | "));
    }
    std::fs::write(workspace::root().join("tests/FAULTS.md"), page).context("cannot write tests/FAULTS.md")
}

fn printed(program: &str, arguments: &[&str]) -> Result<String> {
    let output = Command::new(program).args(arguments).current_dir(workspace::root()).output()?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

const HEAD: &str = "# What breaks, and what is lost then

Written by `cargo faults -- --write`; do not edit. Real processes: Envoy with the filter, the companion, receivers that write
down what arrives before they answer, and a load that goes on all the while. Each *try* breaks something once.

- *accepted*: events that the companion answered 202 for; behind Envoy, writes that the API committed or, where the row says so,
  answered. *delivered*: of these, how many arrived at every subscription. *lost*: the others.
- *sent twice*: arrivals beyond the first with the same `webhook-id`. Each is one whose outcome nobody could know: it had arrived,
  and its answer or the record of it was lost in the break. Any other breaks the promise.
- *latest*: how long after the end of a break (a process started, a cable mended) something came that was owed when it began,
  at most; the start of the process is part of it.

";
