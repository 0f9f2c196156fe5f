//! The filter's configuration: whatever is taken works, and whatever is refused names its place.

use anyhow::{Result, ensure};
use gatehook_filter::config::Config;

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
            let kinds = (config.rules.resources.len().min(3), config.hold.is_some(), config.via.is_some());
            return Ok(Reading::taken(&format!("{events} {kinds:?}")));
        }
        Err(faults) => faults.0,
    };
    ensure!(!faults.is_empty(), "refused without a fault: nothing is named");
    for fault in &faults {
        super::place(&fault.path, &fault.message)?;
    }
    Ok(Reading::refused(&faults[0].message))
}
