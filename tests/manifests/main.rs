//! The manifests of `envoy/`: what can be known of them without a cluster.
//!
//! Schemas tell of wrong fields, the filter and the companion of wrong values, and these tests of what has to agree between files.

mod agreement;
mod containers;
mod kubernetes;
mod schemas;
mod values;

use std::path::Path;

use anyhow::{Context as _, Result};
use harness::{mesh, workspace};
use serde_json::Value;

/// Every YAML file under `envoy/`: its path from there, and its documents.
fn files() -> Result<Vec<(String, Vec<Value>)>> {
    let root = workspace::root().join("envoy");
    let mut found = Vec::new();
    collect(&root, &root, &mut found)?;
    found.sort_by(|one, other| one.0.cmp(&other.0));
    Ok(found)
}

fn collect(root: &Path, folder: &Path, found: &mut Vec<(String, Vec<Value>)>) -> Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            collect(root, &path, found)?;
        } else if path.extension().is_some_and(|extension| extension == "yaml") {
            let name = path.strip_prefix(root)?.display().to_string();
            let text = std::fs::read_to_string(&path)?;
            let documents = mesh::documents(&text).with_context(|| format!("{name} is no YAML"))?;
            found.push((name, documents));
        }
    }
    Ok(())
}

/// Every resource, with the path of its file.
fn resources() -> Result<Vec<(String, Value)>> {
    let all = files()?
        .into_iter()
        .flat_map(|(name, documents)| documents.into_iter().map(move |document| (name.clone(), document)));
    Ok(all.filter(|(_, document)| document.get("apiVersion").is_some()).collect())
}

/// The one resource of this kind in this file.
fn resource(file: &str, kind: &str) -> Result<Value> {
    let mut own = resources()?.into_iter().filter(|(name, own)| name == file && own["kind"] == kind);
    Ok(own.next().with_context(|| format!("{file} has no {kind}"))?.1)
}

#[test]
fn every_file_says_what_it_is_for() {
    for (name, documents) in files().expect("readable manifests") {
        let text = std::fs::read_to_string(workspace::root().join("envoy").join(&name)).unwrap_or_default();
        assert!(text.starts_with("# ") && !documents.is_empty(), "{name} has no head");
        let head: String = text.lines().take_while(|line| line.starts_with('#')).collect();
        let says = ["Change", "change", "Replace", "replace", "include it"];
        assert!(says.iter().any(|word| head.contains(word)), "{name} does not say what to change");
    }
}
