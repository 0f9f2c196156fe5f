//! The filter's configuration: whatever is taken works, and whatever is refused names its place.

use anyhow::{Result, ensure};
use gatehook_filter::config::Config;
use serde_json::Value;

use super::{Reading, Target, exchanges};

pub(super) const TARGET: Target = Target {
    name: "configuration",
    percent: 6,
    words: &[
        "resources",
        "path",
        "\"/v1/orders/{id}\"",
        "/orders/{id}",
        "/**",
        "/*/x",
        "noun",
        "verbs",
        "POST",
        "PUT",
        "DELETE",
        "cancel",
        "null",
        "actions",
        "statuses",
        "202",
        "ignore",
        "automatic",
        "nested",
        "prefixes",
        "singulars",
        "unwrap",
        "/data",
        "explode",
        "subject",
        "/b/{id}",
        "representation",
        "fetch",
        "previous",
        "redact",
        "/*/secret",
        "only",
        "data",
        "none",
        "tenant",
        "actor",
        "header",
        "x-a",
        "jwt",
        "/a/b",
        "parameter",
        "field",
        "missing_tenant",
        "refuse",
        "thin",
        "namespace",
        "tense",
        "past",
        "source",
        "via",
        "companion",
        "cluster",
        "authority",
        "token",
        "timeout",
        "5s",
        "mode",
        "hold",
        "allow_on_headers_stop_iteration",
        "max_body_bytes",
        "outbox",
        "max_events",
        "max_bytes",
        "batch",
        "linger",
        "5ms",
        "encoding",
        "id",
        "headers",
        "max_concurrent",
        "max_waiting",
    ],
    play,
    bytes: 512 << 10,
    per_byte: 256,
};

fn play(input: &[u8]) -> Result<Reading> {
    let faults = match Config::parse(input) {
        Ok(config) => {
            let events = exchanges::usual(&config)?;
            let kinds = (
                config.rules.resources.len().min(3),
                config.hold.is_some(),
                config.kept_headers.len().min(9),
            );
            return Ok(Reading::taken(&format!("{events} {kinds:?}")));
        }
        Err(faults) => faults.0,
    };
    ensure!(!faults.is_empty(), "refused without a fault: nothing is named");
    let value = serde_json::from_slice::<Value>(input).ok();
    for fault in &faults {
        super::place(&fault.path, &fault.message)?;
        // What is missing has no place yet, but what it is missing from has.
        let above = fault.path.rsplit_once('/').map_or("", |(above, _)| above);
        let there = value.as_ref().is_none_or(|value| value.pointer(above).is_some());
        ensure!(there, "a fault is somewhere in the configuration: {} in {value:?}", fault.path);
    }
    Ok(Reading::refused(&faults[0].message))
}
