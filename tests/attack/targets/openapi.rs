//! API descriptions, JSON or YAML: what `gatehook openapi` writes of one is a configuration that the filter loads.

use anyhow::{Result, ensure};
use companion::commands::openapi;
use gatehook_filter::config::Config;

use super::{Reading, Target};

pub(super) const TARGET: Target = Target {
    name: "openapi",
    percent: 4,
    words: &[
        "openapi",
        "3.0.0",
        "swagger",
        "paths",
        "\"/orders/{id}\"",
        "/{a}/{b}",
        "/{a}-{b}",
        "/orders/{id}/cancel",
        "get",
        "post",
        "put",
        "patch",
        "delete",
        "operationId",
        "cancel-order",
        "responses",
        "200",
        "201",
        "202",
        "204",
        "2XX",
        "default",
        "content",
        "application/json",
        "schema",
        "$ref",
        "#/components/schemas/Order",
        "#/paths/~1a~1%7Bid%7D",
        "allOf",
        "oneOf",
        "properties",
        "id",
        "data",
        "items",
        "array",
        "type",
        "parameters",
        "in",
        "path",
        "name",
        "format",
        "uuid",
        "enum",
        "servers",
        "url",
        "https://{host}/v1",
        "variables",
        "&a",
        "*a",
        "<<: *a",
        "- ",
        "---\n",
        "!!binary ",
        "? ",
        ": ",
        "|\n",
        "\n  ",
        "example",
    ],
    play,
    bytes: 4 << 20,
    // Aliases may say a part of the description again.
    per_byte: 16 << 10,
};

fn play(input: &[u8]) -> Result<Reading> {
    let configuration = match openapi::configuration(input) {
        Ok(configuration) => configuration,
        Err(error) => {
            let error = format!("{error:#}");
            ensure!(error.starts_with('/'), "a refusal names a place: {error}");
            return Ok(Reading::refused(&error));
        }
    };
    let config = Config::parse(configuration.as_bytes());
    let config =
        config.map_err(|faults| anyhow::anyhow!("the filter loads it: {faults} in {configuration}"))?;
    Ok(Reading::taken(&format!("{}", config.rules.resources.len().min(4))))
}
