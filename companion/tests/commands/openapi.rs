//! `gatehook openapi`.

use serde_json::Value;

use crate::{file, gatehook};

const API: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/api.yaml");
const RULES: &str = include_str!("../fixtures/api.rules.json");

#[test]
fn a_description_becomes_a_configuration_that_holds() {
    let printed = gatehook(&["openapi", API], "");
    assert!(printed.success, "{}", printed.err);
    assert_eq!(printed.out, RULES);
    assert!(printed.err.ends_with("placed: 23 of 33 writes, 69.7 %\n"), "{}", printed.err);
    assert!(printed.err.contains("/paths/~1contacts~1search/post"), "{}", printed.err);
    assert!(gatehook(&["check", "-"], RULES).success);
}

#[test]
fn the_configuration_says_what_the_description_means() {
    let rules = file("openapi-rules.json", RULES);
    for (request, expected) in [
        ("PATCH /v1/repos/octocat/hello-world 200", "repo.update"),
        ("DELETE /v1/repos/octocat/hello-world/branches/main 204", "branch.delete"),
        ("POST /v1/repos/octocat/hello-world/transfer 202", "repo.transfer"),
        ("POST /v1/customers 200", "customer.create"),
        ("POST /v1/customers/cheese-shop 200", "customer.update"),
        ("PUT /v1/contacts/7/status 200", "contact_status.update"),
        ("POST /v1/contacts/7/archive 200", "contact.archive"),
    ] {
        let arguments: Vec<_> = ["explain"].into_iter().chain(request.split(' ')).collect();
        let printed = gatehook(&[&arguments[..], &["--config", &rules, "--json"]].concat(), "");
        let json: Value = serde_json::from_str(&printed.out).unwrap();
        assert_eq!(json["type"], expected, "{request}: {json}");
    }
}

#[test]
fn a_script_gets_every_kind_with_its_operations() {
    let out = file("made.json", "");
    let printed = gatehook(&["openapi", API, "--json", "--out", &out], "");
    assert_eq!((std::fs::read_to_string(out).unwrap().as_str(), printed.out.as_str()), (RULES, ""));
    let report: Value = serde_json::from_str(&printed.err).unwrap();
    let kinds: Vec<_> =
        report["unplaced"].as_array().unwrap().iter().map(|kind| kind["kind"].as_str().unwrap()).collect();
    let all =
        ["reads", "whole_collection", "post_on_item", "post_to_plural", "no_resource", "part_of_segment"];
    assert_eq!(kinds[..6], all);
    assert_eq!(kinds[6..], ["no_word", "no_noun", "no_success", "conflict"]);
    assert_eq!((&report["writes"], &report["placed"]), (&33.into(), &23.into()));
}

#[test]
fn what_is_no_openapi_3_is_refused_with_its_place() {
    for (text, start) in [
        ("{\"swagger\": \"2.0\"}", "gatehook: stdin: /swagger: "),
        ("openapi: 3.0.0", "gatehook: stdin: /paths: "),
        ("a: [", "gatehook: stdin: /: "),
    ] {
        let printed = gatehook(&["openapi", "-"], text);
        assert!(!printed.success && printed.err.starts_with(start), "{}", printed.err);
    }
}
