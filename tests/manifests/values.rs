//! What the filter and the companion say of the values that manifests give them.

use anyhow::{Context as _, Result, ensure};
use clap::{CommandFactory as _, Parser};
use companion::config::Settings;
use gatehook_filter::config::Config;
use serde_json::Value;

use crate::{files, resource, resources};

#[derive(Parser)]
struct Program {
    #[command(flatten)]
    settings: Settings,
}

/// The forms of the companion on Kubernetes.
const FORMS: [(&str, &str); 2] = [
    ("kubernetes/postgresql/deployment.yaml", "Deployment"),
    ("kubernetes/sqlite/statefulset.yaml", "StatefulSet"),
];

/// The configurations of the filter in a document, as the filter would get them.
pub(crate) fn configurations(document: &Value) -> Vec<String> {
    let spec = &document["spec"];
    match document["kind"].as_str() {
        Some("WasmPlugin") => vec![spec["pluginConfig"].to_string()],
        Some("TrafficExtension") => vec![spec["wasm"]["pluginConfig"].to_string()],
        Some("EnvoyExtensionPolicy") => vec![spec["wasm"][0]["config"].to_string()],
        _ => {
            let mut found = Vec::new();
            collect(document, &mut found);
            found
        }
    }
}

fn collect(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            let wasm = fields.contains_key("vm_config");
            if let Some(text) = value["configuration"]["value"].as_str().filter(|_| wasm) {
                found.push(text.to_owned());
            }
            fields.values().for_each(|inner| collect(inner, found));
        }
        Value::Array(items) => items.iter().for_each(|inner| collect(inner, found)),
        _ => {}
    }
}

#[test]
fn the_filter_takes_every_configuration() {
    let mut seen = Vec::new();
    for (file, documents) in files().expect("readable manifests") {
        for configuration in documents.iter().flat_map(configurations) {
            if let Err(faults) = Config::parse(configuration.as_bytes()) {
                panic!("{file}: {faults}");
            }
            seen.push(file.clone());
        }
    }
    seen.dedup();
    assert_eq!(seen.len(), 7, "{seen:?}");
}

#[test]
fn the_companion_takes_every_setting() {
    for (file, kind) in FORMS {
        settings(file, kind).unwrap_or_else(|error| panic!("{file}: {error:#}"));
    }
}

fn settings(file: &str, kind: &str) -> Result<()> {
    let workload = resource(file, kind)?;
    let container = &workload["spec"]["template"]["spec"]["containers"][0];
    ensure!(container["args"] == serde_json::json!(["serve"]), "it has another command");
    let known = Program::command();
    let mut flags = vec!["gatehook".to_owned()];
    for variable in container["env"].as_array().context("no environment")? {
        let name = variable["name"].as_str().unwrap_or_default();
        let argument = known.get_arguments().find(|own| own.get_env().is_some_and(|env| env == name));
        let long =
            argument.and_then(|own| own.get_long()).with_context(|| format!("{name} is no setting"))?;
        let secret = &variable["valueFrom"]["secretKeyRef"];
        let value = match secret["key"].as_str() {
            None => variable["value"].as_str().with_context(|| format!("{name} has no value"))?,
            Some("store") => "postgres://gatehook:PASSWORD@HOST/gatehook?sslmode=verify-full",
            Some("secret-key") => "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
            Some(_) => "a-token",
        };
        flags.push(format!("--{long}={value}"));
    }
    let settings = Program::try_parse_from(flags)?.settings;
    settings.fit()?;
    settings.vault()?;
    ensure!(!settings.listen.ip().is_loopback(), "no gateway reaches it");
    Ok(())
}

#[test]
fn no_secret_stands_in_a_file() {
    for (file, resource) in resources().expect("readable manifests") {
        assert_ne!(resource["kind"], "Secret", "{file}");
        let containers = resource["spec"]["template"]["spec"]["containers"].as_array();
        for variable in
            containers.into_iter().flatten().flat_map(|own| own["env"].as_array().into_iter().flatten())
        {
            let name = variable["name"].as_str().unwrap_or_default();
            let secret = name.ends_with("_TOKEN") || name.ends_with("_KEY");
            assert!(!secret || variable.get("value").is_none(), "{file}: {name} stands there");
        }
        // What cannot be a reference is a word that nobody takes for a token.
        for configuration in configurations(&resource) {
            let configuration: Value = serde_json::from_str(&configuration).expect("JSON");
            assert_eq!(configuration["companion"]["token"], "replace-me", "{file}");
        }
    }
}
