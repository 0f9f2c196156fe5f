//! What has to agree between files that people apply apart.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use harness::workspace;
use serde_json::Value;

use crate::{files, resource, resources, values};

/// The cluster that a configuration of the filter names.
fn cluster(configuration: &str) -> Result<String> {
    let configuration: Value = serde_json::from_str(configuration)?;
    Ok(configuration["companion"]["cluster"].as_str().context("no cluster is named")?.to_owned())
}

#[test]
fn filters_name_the_cluster_that_their_control_plane_makes() {
    clusters().expect("clusters that are there");
}

fn clusters() -> Result<()> {
    let service = resource("kubernetes/common/service.yaml", "Service")?;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let host = format!(
        "{}.{}.svc.cluster.local",
        text(&service["metadata"]["name"]),
        text(&service["metadata"]["namespace"])
    );
    let port = &service["spec"]["ports"][0]["port"];
    let ingest = resources()?.into_iter().find(|(_, own)| own["metadata"]["name"] == "ingest");
    let (_, ingest) = ingest.context("no route to the companion")?;
    let backend = &ingest["spec"]["rules"][0]["backendRefs"][0];
    ensure!(backend["name"] == service["metadata"]["name"] && backend["port"] == *port);
    // `irRouteDestinationName` in Envoy Gateway's internal/gatewayapi/helpers.go.
    let of_route = format!("httproute/{}/ingest/rule/0", text(&ingest["metadata"]["namespace"]));
    let mut seen = 0;
    for (file, documents) in files()? {
        let expected = match file.split('/').next() {
            Some("istio") => format!("outbound|{port}||{host}"),
            Some("gateway") => of_route.clone(),
            _ => continue,
        };
        for configuration in documents.iter().flat_map(values::configurations) {
            ensure!(cluster(&configuration)? == expected, "{file} names another cluster than {expected}");
            seen += 1;
        }
    }
    let rule = resource("istio/companion.yaml", "DestinationRule")?;
    ensure!(seen == 5 && rule["spec"]["host"] == host.as_str());
    Ok(())
}

#[test]
fn both_envoy_filters_are_one_but_for_mode_hold() {
    one_but_for_hold().expect("the same filter twice");
}

fn one_but_for_hold() -> Result<()> {
    let plain = resource("istio/envoyfilter.yaml", "EnvoyFilter")?;
    let mut hold = resource("istio/envoyfilter-hold.yaml", "EnvoyFilter")?;
    let patches = hold["spec"]["configPatches"].as_array_mut().context("no patches")?;
    let listener = patches.pop().context("no patches")?;
    let buffer = &listener["patch"]["value"]["per_connection_buffer_limit_bytes"];
    ensure!(listener["applyTo"] == "LISTENER" && buffer.is_u64(), "the size of the buffer is not said");
    let config = &mut hold["spec"]["configPatches"][1]["patch"]["value"]["typed_config"]["config"];
    let config = config.as_object_mut().context("no plugin")?;
    ensure!(config.remove("allow_on_headers_stop_iteration") == Some(true.into()));
    let text = config["configuration"]["value"].as_str().context("no configuration")?;
    let mut configuration: Value = serde_json::from_str(text)?;
    let fields = configuration.as_object_mut().context("no object")?;
    ensure!(fields.remove("mode") == Some("hold".into()));
    ensure!(fields.remove("hold_timeout").is_some());
    ensure!(
        fields.remove("hold").is_some_and(|hold| hold["buffer_bytes"] == *buffer),
        "two sizes of one buffer"
    );
    let of_plain = values::configurations(&plain).concat();
    ensure!(configuration == serde_json::from_str::<Value>(&of_plain)?, "the configurations differ");
    config["configuration"]["value"] = of_plain.into();
    ensure!(plain == hold, "the filters differ");
    Ok(())
}

#[test]
fn a_plugin_and_its_successor_say_the_same() {
    let plugin = resource("istio/wasmplugin.yaml", "WasmPlugin").expect("a plugin")["spec"].clone();
    let mut successor =
        resource("istio/trafficextension.yaml", "TrafficExtension").expect("one")["spec"].clone();
    let wasm = successor["wasm"].take();
    let outer = successor.as_object_mut().expect("an object");
    outer.remove("wasm");
    outer.extend(wasm.as_object().expect("an object").clone());
    assert_eq!(plugin, successor);
}

#[test]
fn selectors_select_the_companion() {
    for (file, kind) in [
        ("kubernetes/postgresql/deployment.yaml", "Deployment"),
        ("kubernetes/sqlite/statefulset.yaml", "StatefulSet"),
    ] {
        let workload = resource(file, kind).expect("a workload");
        let template = &workload["spec"]["template"];
        let labels = template["metadata"]["labels"].clone();
        assert_eq!(workload["spec"]["selector"]["matchLabels"], labels, "{file}");
        let ports = &template["spec"]["containers"][0]["ports"];
        for (other, own) in resources().expect("readable manifests") {
            let selector = match own["kind"].as_str() {
                Some("Service") => &own["spec"]["selector"],
                Some("NetworkPolicy") => &own["spec"]["podSelector"]["matchLabels"],
                Some("PodDisruptionBudget" | "ServiceMonitor") => &own["spec"]["selector"]["matchLabels"],
                _ => continue,
            };
            if own["metadata"]["namespace"] == "gatehook" {
                assert_eq!(*selector, labels, "{other}");
            }
            for port in own["spec"]["ports"].as_array().into_iter().flatten() {
                let known =
                    ports.as_array().expect("ports").iter().any(|own| own["name"] == port["targetPort"]);
                assert!(known, "{other}: {port}");
            }
        }
    }
}

#[test]
fn kustomizations_name_files_that_are_there() {
    for (file, own) in resources().expect("readable manifests") {
        let folder = workspace::root().join("envoy").join(Path::new(&file).parent().expect("a folder"));
        for name in own["resources"].as_array().into_iter().flatten() {
            let path = folder.join(name.as_str().expect("a path"));
            assert!(path.is_file() || path.join("kustomization.yaml").is_file(), "{file}: {name}");
        }
    }
}
