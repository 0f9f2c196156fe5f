//! `gatehook check`.

use serde_json::Value;

use crate::{file, gatehook};

const SAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../envoy/envoy.yaml");

#[test]
fn a_configuration_that_holds_is_summed_up() {
    let printed = gatehook(&["check", "-"], r#"{"companion": {"token": "hush-hush"}}"#);
    assert!(printed.success, "{}{}", printed.out, printed.err);
    assert!(printed.out.contains("automatic rule on") && !printed.out.contains("hush"), "{}", printed.out);
}

#[test]
fn every_fault_has_file_path_and_message() {
    let name =
        file("faulty.json", r#"{"resources": [{"path": "/a/{id}", "noun": "A", "verbs": {"GET": "read"}}]}"#);
    let printed = gatehook(&["check", &name], "");
    let places: Vec<_> =
        printed.out.lines().map(|line| line.split(": ").take(2).collect::<Vec<_>>()).collect();
    assert_eq!(places, [[name.as_str(), "/resources/0/noun"], [&name, "/resources/0/verbs/GET"]]);
    assert!(!printed.success);
}

#[test]
fn the_sample_for_envoy_is_looked_into() {
    let printed = gatehook(&["check", SAMPLE, "--json"], "");
    let json: Value = serde_json::from_str(&printed.out).unwrap();
    assert_eq!((printed.success, &json["valid"]), (true, &true.into()));
    let found = &json["configurations"][0];
    assert_eq!((&found["bearer"], &found["token"]), (&"wasm filter gatehook".into(), &true.into()));
}

#[test]
fn a_fault_in_an_envoy_file_has_the_whole_path() {
    let broken = std::fs::read_to_string(SAMPLE).unwrap().replace("\"ignore\"", "\"ignored\"");
    let printed = gatehook(&["check", "-", "--json"], &broken);
    let json: Value = serde_json::from_str(&printed.out).unwrap();
    let path = json["faults"][0]["path"].as_str().unwrap();
    assert!(!printed.success);
    assert!(
        path.starts_with("/static_resources/") && path.ends_with("/configuration/value/ignored"),
        "{path}"
    );
}
