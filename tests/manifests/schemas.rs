//! Custom resources against their real definitions, and the few whose definition is not at hand against what we use of them.
//!
//! A Kubernetes API server drops fields that a definition does not know, which makes a misspelt one the worst kind of
//! fault. So every schema is closed first. Rules in CEL (`x-kubernetes-validations`) are not evaluated.

use std::collections::BTreeMap;
use std::fs;

use anyhow::{Context as _, Result, ensure};
use harness::{mesh, skip, workspace};
use jsonschema::Validator;
use serde_json::{Value, json};

use crate::{resource, resources};

/// Where the definitions are, in the repository's neighbourhood; they are no part of it.
const DEFINITIONS: &str = "../shared/data";

/// What we use of kinds whose definitions are not there, each closed.
const OWN: &str = include_str!("../fixtures/kinds.json");

type Schemas = BTreeMap<(String, String), Validator>;

/// The definitions by `apiVersion` and kind, or nothing where they are not at hand.
fn definitions() -> Result<Option<Schemas>> {
    let folder = workspace::root().join(DEFINITIONS);
    if !folder.exists() {
        skip::announce(format!("{DEFINITIONS} is not there, so no custom resource was looked at"));
        return Ok(None);
    }
    let mut all = Schemas::new();
    for file in ["istio-crds.yaml", "envoy-gateway-envoyextensionpolicies.yaml"] {
        let text = fs::read_to_string(folder.join(file)).context(file)?;
        for definition in mesh::documents(&text)? {
            let (group, kind) = (&definition["spec"]["group"], &definition["spec"]["names"]["kind"]);
            for version in definition["spec"]["versions"].as_array().context("no versions")? {
                let name = |value: &Value| value.as_str().unwrap_or_default().to_owned();
                let key = (format!("{}/{}", name(group), name(&version["name"])), name(kind));
                let mut schema = closed(&version["schema"]["openAPIV3Schema"]);
                for field in ["apiVersion", "kind", "metadata"] {
                    schema["properties"][field] = json!({});
                }
                all.insert(key, jsonschema::validator_for(&schema)?);
            }
        }
    }
    Ok(Some(all))
}

/// The schema without room for fields that it does not name.
fn closed(schema: &Value) -> Value {
    let Value::Object(fields) = schema else { return schema.clone() };
    let mut own = fields.clone();
    own.retain(|name, _| !name.starts_with("x-"));
    if let Some(Value::Object(properties)) = fields.get("properties") {
        let inner = properties.iter().map(|(name, property)| (name.clone(), closed(property)));
        own.insert("properties".into(), Value::Object(inner.collect()));
        let open = fields.get("x-kubernetes-preserve-unknown-fields") == Some(&true.into());
        if !open && !fields.contains_key("additionalProperties") {
            own.insert("additionalProperties".into(), false.into());
        }
    }
    for name in ["items", "additionalProperties"] {
        if let Some(inner) = fields.get(name) {
            own.insert(name.into(), closed(inner));
        }
    }
    Value::Object(own)
}

/// What a schema finds wrong, each with its place.
fn faults(schema: &Validator, resource: &Value) -> Vec<String> {
    let errors = schema.iter_errors(resource);
    errors.map(|error| format!("{}: {error}", error.instance_path())).collect()
}

fn key(resource: &Value) -> (String, String) {
    let text = |field: &str| resource[field].as_str().unwrap_or_default().to_owned();
    (text("apiVersion"), text("kind"))
}

#[test]
fn custom_resources_fit_their_definitions() {
    custom_resources().expect("valid manifests");
}

fn custom_resources() -> Result<()> {
    let Some(definitions) = definitions()? else { return Ok(()) };
    let mut seen = 0;
    for (file, resource) in resources()? {
        if let Some(schema) = definitions.get(&key(&resource)) {
            let faults = faults(schema, &resource);
            ensure!(faults.is_empty(), "{file}: {}", faults.join("\n"));
            seen += 1;
        }
    }
    ensure!(seen >= 11, "only {seen} resources were looked at");
    Ok(())
}

#[test]
fn a_field_that_nobody_knows_is_found() {
    unknown_fields().expect("faults that are found");
}

fn unknown_fields() -> Result<()> {
    let Some(definitions) = definitions()? else { return Ok(()) };
    for (file, kind, at) in [
        ("istio/wasmplugin.yaml", "WasmPlugin", "/spec"),
        ("istio/trafficextension.yaml", "TrafficExtension", "/spec/wasm"),
        ("istio/envoyfilter.yaml", "EnvoyFilter", "/spec/configPatches/0/patch"),
        ("istio/companion.yaml", "DestinationRule", "/spec/trafficPolicy/connectionPool/tcp"),
        ("gateway/extension.yaml", "EnvoyExtensionPolicy", "/spec/wasm/0"),
    ] {
        let mut changed = resource(file, kind)?;
        let schema = definitions.get(&key(&changed)).with_context(|| format!("{kind} is unknown"))?;
        let place = changed.pointer_mut(at).with_context(|| format!("{file} has no {at}"))?;
        place["failStrategie"] = "FAIL_OPEN".into();
        let found = faults(schema, &changed).concat();
        ensure!(found.contains("failStrategie"), "{file}: {found}");
    }
    Ok(())
}

#[test]
fn other_resources_use_what_we_know_of_their_kinds() {
    let own: Value = serde_json::from_str(OWN).expect("a fixture that is JSON");
    let mut seen = 0;
    for (file, resource) in resources().expect("readable manifests") {
        let (version, kind) = key(&resource);
        if let Some(schema) = own.get(format!("{version} {kind}")) {
            let schema = jsonschema::validator_for(schema).expect("a fixture that is a schema");
            let faults = faults(&schema, &resource);
            assert!(faults.is_empty(), "{file}: {}", faults.join("\n"));
            seen += 1;
        }
    }
    assert_eq!(seen, 8, "routes, a monitor and kustomizations");
}
