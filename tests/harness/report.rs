//! What a benchmark says: medians with their spread, which machine it was, how figures stand to their aims.
//!
//! A report is printed while it grows. With `--write` it also becomes its command's own section of
//! `tests/BENCHMARKS.md`, so that the page never shows a figure that no command printed.

use std::fmt;
use std::time::Duration;

use anyhow::{Context as _, Result};

pub use crate::machine::line as machine;
use crate::workspace;

/// Values of one quantity over the rounds of a run.
#[derive(Debug, Default, Clone)]
pub struct Series(pub Vec<f64>);

impl Series {
    /// Adds a round's value.
    pub fn push(&mut self, value: f64) {
        self.0.push(value);
    }

    /// The middle value.
    pub fn median(&self) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        let middle = sorted.len() / 2;
        match sorted.len() {
            0 => f64::NAN,
            odd if odd % 2 == 1 => sorted[middle],
            _ => f64::midpoint(sorted[middle - 1], sorted[middle]),
        }
    }

    /// Round by round as shares of another series, whose rounds ran beside these.
    pub fn of(&self, other: &Self) -> Self {
        Self(self.0.iter().zip(&other.0).map(|(own, other)| own / other).collect())
    }

    /// Median and range: `12.3 (11.0–14.1)`.
    pub fn shown(&self, digits: usize) -> String {
        let low = self.0.iter().copied().fold(f64::INFINITY, f64::min);
        let high = self.0.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        format!("{:.digits$} ({low:.digits$}–{high:.digits$})", self.median())
    }
}

/// A percentile of durations, in milliseconds.
pub fn percentile_ms(durations: &mut [Duration], percent: usize) -> f64 {
    durations.sort_unstable();
    let at = (durations.len() * percent / 100).min(durations.len().saturating_sub(1));
    durations.get(at).map_or(f64::NAN, |duration| duration.as_secs_f64() * 1e3)
}

/// How many threads of other programs wanted a core on average in the last minute; what disturbs a run.
fn load_average() -> String {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().unwrap_or("?").to_owned()
}

/// Rows under a head, as Markdown that can be read as it stands.
#[derive(Debug, Clone)]
pub struct Table(Vec<Vec<String>>);

impl Table {
    /// A table with these columns.
    pub fn new(columns: &[&str]) -> Self {
        Self(vec![columns.iter().map(|&column| column.to_owned()).collect()])
    }

    /// Adds a row: its name and its figures.
    pub fn row(&mut self, name: &str, figures: impl IntoIterator<Item = String>) {
        self.0.push([name.to_owned()].into_iter().chain(figures).collect());
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let columns = self.0.iter().map(Vec::len).max().unwrap_or_default();
        let width = |column: usize| {
            self.0.iter().filter_map(|row| Some(row.get(column)?.chars().count())).max().unwrap_or_default()
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        for (index, row) in self.0.iter().enumerate() {
            for (column, width) in widths.iter().enumerate() {
                let cell = row.get(column).map_or("", String::as_str);
                match column {
                    0 => write!(f, "| {cell:<width$} |")?,
                    _ => write!(f, " {cell:>width$} |")?,
                }
            }
            writeln!(f)?;
            if index == 0 {
                for (column, width) in widths.iter().enumerate() {
                    let (start, end) = if column == 0 { ("|", "") } else { ("", ":") };
                    write!(f, "{start}{}{end}|", "-".repeat(width + 2 - end.len()))?;
                }
                writeln!(f)?;
            }
        }
        Ok(())
    }
}

/// What a figure is to be.
#[derive(Debug, Clone, Copy)]
pub enum Aim {
    /// This or less.
    AtMost(f64),
    /// This or more.
    AtLeast(f64),
}

impl Aim {
    fn is_met(self, figure: f64) -> bool {
        match self {
            Self::AtMost(most) => figure <= most,
            Self::AtLeast(least) => figure >= least,
        }
    }
}

impl fmt::Display for Aim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AtMost(most) => write!(f, "≤ {most}"),
            Self::AtLeast(least) => write!(f, "≥ {least}"),
        }
    }
}

/// A report in the making.
#[derive(Debug)]
pub struct Report {
    command: &'static str,
    text: String,
    aims: Table,
}

impl Report {
    /// Begins the report of a command with a sentence on what was done.
    pub fn begin(command: &'static str, what: &str) -> Self {
        let aims = Table::new(&["aim", "is to be", "is", ""]);
        let mut report = Self { command, text: String::new(), aims };
        report
            .say(format!("`cargo {command}`: {what} Medians over the rounds of one run, with their range."));
        report.say(format!("On {}; load average {} before the start.", machine(), load_average()));
        report
    }

    /// Adds a paragraph, or a table.
    pub fn say(&mut self, paragraph: impl fmt::Display) {
        let paragraph = format!("{}\n\n", paragraph.to_string().trim_end());
        print!("{paragraph}");
        self.text.push_str(&paragraph);
    }

    /// Sets a figure beside its aim.
    pub fn aim(&mut self, what: &str, aim: Aim, figure: f64) {
        let verdict = if aim.is_met(figure) { "met" } else { "**missed**" };
        self.aims.row(what, [aim.to_string(), format!("{figure:.3}"), verdict.to_owned()]);
    }

    /// Ends with the aims; where asked, writes all of it into the command's section of `tests/BENCHMARKS.md`.
    pub fn finish(mut self, write: bool) -> Result<()> {
        if self.aims.0.len() > 1 {
            let aims = self.aims.clone();
            self.say(aims);
        }
        if !write {
            return Ok(());
        }
        let path = workspace::root().join("tests/BENCHMARKS.md");
        let page = std::fs::read_to_string(&path).context("cannot read tests/BENCHMARKS.md")?;
        let page = replaced(&page, self.command, &self.text)
            .with_context(|| format!("no section of {}", self.command))?;
        std::fs::write(&path, page).context("cannot write tests/BENCHMARKS.md")
    }
}

/// The page with another text between a command's markers.
fn replaced(page: &str, command: &str, text: &str) -> Option<String> {
    let (before, rest) = page.split_once(&format!("<!-- {command} begins -->\n"))?;
    let end = format!("<!-- {command} ends -->");
    let (_, after) = rest.split_once(&end)?;
    Some(format!("{before}<!-- {command} begins -->\n\n{text}{end}{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_replaces_its_own_section_and_no_other() {
        let page = "# A\n<!-- one begins -->\nold\n<!-- one ends -->\n<!-- two begins -->\nkept\n<!-- two ends -->\n";
        let expected = "# A\n<!-- one begins -->\n\nnew\n\n<!-- one ends -->\n<!-- two begins -->\nkept\n<!-- two ends -->\n";
        assert_eq!(replaced(page, "one", "new\n\n").as_deref(), Some(expected));
        assert_eq!(replaced(expected, "one", "new\n\n").as_deref(), Some(expected));
        assert_eq!(replaced(page, "three", "new"), None);
    }

    #[test]
    fn a_table_is_readable_as_text() {
        let mut table = Table::new(&["", "µs"]);
        table.row("none", ["12.5".to_owned()]);
        assert_eq!(table.to_string(), "|      |   µs |\n|------|-----:|\n| none | 12.5 |\n");
    }

    #[test]
    fn an_aim_holds_at_its_bound() {
        assert!(Aim::AtMost(0.1).is_met(0.1) && !Aim::AtMost(0.1).is_met(0.11));
        assert!(Aim::AtLeast(0.9).is_met(0.9) && !Aim::AtLeast(0.9).is_met(f64::NAN));
    }
}
