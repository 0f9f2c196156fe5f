//! `gatehook check`: whether a configuration of the filter would load, and where it would not.
//!
//! What the filter itself would say in Envoy's log is said before Envoy is asked. Tokens are never shown.

use std::io::Write;
use std::process::ExitCode;

use clap::Args;
use gatehook_filter::config::Config;
use serde::Serialize;

use super::configurations::{Found, Search};
use super::{exit_code, input};

/// Arguments of `gatehook check`.
#[derive(Args, Debug)]
pub struct Check {
    /// A filter configuration (JSON), or an Envoy or Istio file (YAML or JSON) with some inside; - reads standard input
    file: String,

    /// Print one JSON object, for scripts
    #[arg(long)]
    json: bool,
}

/// What was found out about a file.
#[derive(Debug, Serialize)]
struct Report<'a> {
    file: &'a str,
    valid: bool,
    configurations: Vec<Summary>,
    /// Wasm filters of others, which were not checked.
    skipped: Vec<String>,
    faults: Vec<Fault>,
}

/// One configuration that was found, and what it says if it is valid.
#[derive(Debug, Serialize)]
struct Summary {
    at: String,
    bearer: String,
    valid: bool,
    /// More places of the file that say the very same.
    repeats: usize,
    #[serde(flatten)]
    content: Option<Content>,
}

#[derive(Debug, Serialize)]
struct Content {
    resources: usize,
    ignored: usize,
    automatic: bool,
    cluster: String,
    authority: String,
    path: String,
    /// Whether there is one; it is never shown.
    token: bool,
}

#[derive(Debug, Serialize)]
struct Fault {
    path: String,
    message: String,
}

impl Check {
    /// Checks the file and prints what was found.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn run(&self, out: &mut impl Write) -> anyhow::Result<ExitCode> {
        let report = Report::of(input::shown(&self.file), &input::read(&self.file)?);
        if self.json {
            writeln!(out, "{}", serde_json::to_string(&report)?)?;
        } else {
            report.print(out)?;
        }
        Ok(exit_code(report.valid))
    }
}

impl<'a> Report<'a> {
    fn of(file: &'a str, bytes: &[u8]) -> Self {
        let search = Search::of(bytes);
        let fault = |(path, message)| Fault { path, message };
        let mut faults: Vec<Fault> = search.faults.into_iter().map(fault).collect();
        let configurations = search.found.into_iter().map(|found| Summary::of(found, &mut faults)).collect();
        for fault in &mut faults {
            // The whole file is shown as /, as the filter itself does.
            if fault.path.is_empty() {
                fault.path.push('/');
            }
        }
        Self { file, valid: faults.is_empty(), configurations, skipped: search.foreign, faults }
    }

    fn print(&self, out: &mut impl Write) -> std::io::Result<()> {
        let file = self.file;
        for Fault { path, message } in &self.faults {
            writeln!(out, "{file}: {path}: {message}")?;
        }
        for Summary { at, bearer, content, repeats, .. } in &self.configurations {
            let Some(content) = content else { continue };
            let place = if at.is_empty() { String::new() } else { format!(" at {at}") };
            let again = if *repeats > 0 { format!(" (and {repeats} times more)") } else { String::new() };
            writeln!(out, "{file}: {bearer}{place}{again} holds")?;
            let Content { resources, ignored, automatic, cluster, authority, path, token } = content;
            let automatic = if *automatic { "on" } else { "off" };
            let token = if *token { "with a token" } else { "without a token" };
            writeln!(out, "  {resources} resources, {ignored} ignored paths, automatic rule {automatic}")?;
            writeln!(out, "  hands over to cluster {cluster}: POST {authority}{path}, {token}")?;
        }
        for skipped in &self.skipped {
            writeln!(out, "{file}: {skipped} is not ours and was not checked")?;
        }
        Ok(())
    }
}

impl Summary {
    fn of(found: Found, faults: &mut Vec<Fault>) -> Self {
        let Found { at, bearer, json, repeats } = found;
        let content = match Config::parse(&json) {
            Ok(config) => Some(Content::of(config)),
            Err(found) => {
                faults.extend(
                    found
                        .0
                        .into_iter()
                        .map(|fault| Fault { path: format!("{at}{}", fault.path), message: fault.message }),
                );
                None
            }
        };
        Self { at, bearer, valid: content.is_some(), repeats, content }
    }
}

impl Content {
    fn of(config: Config) -> Self {
        Self {
            resources: config.rules.resources.len(),
            ignored: config.rules.ignore.len(),
            automatic: config.rules.automatic,
            token: config.companion.token.is_some(),
            cluster: config.companion.cluster,
            authority: config.companion.authority,
            path: config.companion.path,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn printed(text: &str) -> String {
        let mut out = Vec::new();
        Report::of("a.json", text.as_bytes()).print(&mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn every_fault_is_printed_with_its_place() {
        let text = printed(r#"{"source": "a b", "resources": [{"path": "a", "noun": "A"}]}"#);
        let starts: Vec<_> = text.lines().map(|line| line.split(": ").nth(1).unwrap()).collect();
        assert_eq!(starts, ["/source", "/resources/0/path", "/resources/0/noun"]);
        assert!(printed("{").starts_with("a.json: /: "));
    }

    #[test]
    fn a_fault_inside_an_envoy_file_has_the_whole_path() {
        let text = r#"{"admin": {}, "config": {"name": "gatehook", "vm_config": {},
            "configuration": {"@type": "google.protobuf.Struct", "value": {"tense": "future"}}}}"#;
        assert!(
            printed(text).starts_with("a.json: /config/configuration/value/tense: "),
            "{}",
            printed(text)
        );
    }

    #[test]
    fn what_holds_is_summed_up_without_the_token() {
        let text = printed(r#"{"companion": {"token": "hush-hush"}, "ignore": ["/healthz"]}"#);
        assert!(text.contains("0 resources, 1 ignored paths, automatic rule on"), "{text}");
        assert!(text.contains("cluster gatehook: POST gatehook/v1/events, with a token"), "{text}");
        assert!(!text.contains("hush"), "{text}");
        let json =
            serde_json::to_string(&Report::of("-", br#"{"companion": {"token": "hush-hush"}}"#)).unwrap();
        assert!(json.contains(r#""token":true"#) && !json.contains("hush"), "{json}");
    }
}
