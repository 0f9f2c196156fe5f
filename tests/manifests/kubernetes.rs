//! Kubernetes' own kinds against the schemas of Kubernetes' releases, unknown fields refused.
//!
//! The schemas come with the Python package `kubernetes-validate`, which carries those of each release.

use std::io::Write as _;
use std::process::Stdio;

use anyhow::{Context as _, Result, ensure};
use harness::{python, skip};
use serde_json::Value;

use crate::resources;

const PACKAGE: &str = "kubernetes-validate==1.37.0";

/// The release that the heads name as the oldest, and the newest that the package knows.
const RELEASES: [&str; 2] = ["1.30", "1.37"];

/// Since when an image may be a volume.
const WITH_IMAGE_VOLUMES: &str = "1.33";

const SCRIPT: &str = "
import json, sys, kubernetes_validate
for release, name, resource in json.load(sys.stdin):
    try:
        kubernetes_validate.validate(resource, release, strict=True)
    except Exception as fault:
        print(release, name, list(getattr(fault, 'path', [])), getattr(fault, 'message', fault))
";

/// The groups of Kubernetes itself.
fn is_own(resource: &Value) -> bool {
    let version = resource["apiVersion"].as_str().unwrap_or_default();
    ["v1", "apps/v1", "policy/v1", "networking.k8s.io/v1"].contains(&version)
}

/// What is wrong with these resources, each under a release.
fn faults(resources: &Value) -> Result<String> {
    let mut python = python::environment(&[PACKAGE])?.python();
    python.args(["-c", SCRIPT]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut running = python.spawn()?;
    running.stdin.take().context("no standard input")?.write_all(resources.to_string().as_bytes())?;
    let output = running.wait_with_output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?)
}

#[test]
fn resources_fit_the_oldest_and_the_newest_release() {
    let _ = skip::or_skip(all());
}

fn all() -> Result<()> {
    let own: Vec<_> = resources()?.into_iter().filter(|(_, resource)| is_own(resource)).collect();
    ensure!(own.len() >= 10, "only {} resources were looked at", own.len());
    let mut cases = Vec::new();
    for (file, resource) in &own {
        let [oldest, newest] = RELEASES;
        // Its head names a release of its own.
        let oldest = if file == "kubernetes/envoy.yaml" { WITH_IMAGE_VOLUMES } else { oldest };
        cases.extend([oldest, newest].map(|release| serde_json::json!([release, file, resource])));
    }
    let faults = faults(&cases.into())?;
    ensure!(faults.is_empty(), "{faults}");
    Ok(())
}

#[test]
fn a_field_that_kubernetes_does_not_know_is_found() {
    let _ = skip::or_skip(unknown());
}

fn unknown() -> Result<()> {
    let mut changed = crate::resource("kubernetes/postgresql/deployment.yaml", "Deployment")?;
    changed["spec"]["template"]["spec"]["containers"][0]["readynessProbe"] = serde_json::json!({});
    let faults = faults(&serde_json::json!([[RELEASES[1], "changed", changed]]))?;
    ensure!(faults.contains("readynessProbe"), "{faults}");
    Ok(())
}
