//! Every configuration that is shown to people loads.

use super::Config;

const README: &str = include_str!("../../README.md");
const SAMPLE: &str = include_str!("../../../envoy/envoy.yaml");

#[test]
fn every_json_sample_of_the_readme_loads() {
    let samples: Vec<&str> =
        README.split("```json\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
    assert!(!samples.is_empty());
    for sample in samples {
        Config::parse(sample.as_bytes()).unwrap_or_else(|faults| panic!("{sample}\n{faults}"));
    }
}

#[test]
fn the_configuration_in_the_sample_for_envoy_loads() {
    let (_, rest) = SAMPLE.split_once("# gatehook: configuration begins\n").unwrap();
    let (block, _) = rest.split_once("# gatehook: configuration ends").unwrap();
    let (_, json) = block.split_once("value: |\n").unwrap();
    let config = Config::parse(json.as_bytes()).unwrap();
    assert_eq!(config.companion.token.unwrap().authorization(), "Bearer replace-me");
}
