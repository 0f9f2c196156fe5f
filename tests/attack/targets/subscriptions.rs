//! Subscriptions as callers write them: made, shown, sent back, patched.

use anyhow::{Result, ensure};
use companion::api::rehearse_subscription as rehearse;
use companion::target::Guard;
use serde_json::Value;

use super::{NOW, Reading, Target, parts};

pub(super) const TARGET: Target = Target {
    name: "subscriptions",
    percent: 8,
    words: &[
        "target_url",
        "https://example.com/hook",
        "events",
        "contact.*",
        "*",
        "status",
        "off",
        "match",
        "{\"exact\":{\"/a\":1}}",
        "format",
        "cloudevents",
        "slack",
        "template",
        "{{ data }}",
        "content_type",
        "text/plain",
        "headers",
        "x-api-key",
        "***",
        "auth",
        "basic",
        "bearer",
        "oauth2",
        "token",
        "token_url",
        "client_id",
        "client_secret",
        "username",
        "password",
        "client_certificate",
        "certificate",
        "private_key",
        "-----BEGIN CERTIFICATE-----\\n",
        "retry",
        "schedule",
        "delays",
        "rate_limit",
        "100/s",
        "max_in_flight",
        "ordering",
        "resource",
        "signing",
        "ed25519",
        "handshake",
        "x-hook-secret",
        "secret",
        "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
        "expires_at",
        "2026-01-02T03:04:05Z",
        "metadata",
        "ce_headers",
        "tenant",
        "description",
    ],
    play,
    bytes: 2 << 20,
    per_byte: 256,
};

fn play(input: &[u8]) -> Result<Reading> {
    let [body, patch] = parts(input);
    let shown = match rehearse(body, &[], NOW) {
        Ok(shown) => shown,
        Err(faults) => return Reading::faulty(&faults),
    };
    let target_url = shown["target_url"].as_str().unwrap_or_default();
    if let Err(blocked) = Guard::default().parse(target_url) {
        // The API asks this next.
        return Ok(Reading::refused(&blocked.0));
    }
    ensure!(rehearse(body, &[b"{}"], NOW).as_ref() == Ok(&shown), "an empty patch changes nothing: {shown}");
    let back = shown.to_string();
    let again = rehearse(body, &[back.as_bytes()], NOW).map(said);
    ensure!(
        again.as_ref() == Ok(&said(shown.clone())),
        "what was read can be sent back: {shown} gives {again:?}"
    );
    if patch.is_empty() {
        return Ok(Reading::taken(&fields(&shown)));
    }
    match rehearse(body, &[patch], NOW) {
        Ok(patched) => {
            let twice = rehearse(body, &[patch, patch], NOW);
            ensure!(twice.as_ref() == Ok(&patched), "a patch applied twice changes nothing more: {twice:?}");
            Ok(Reading::taken(&format!("{} {}", fields(&shown), fields(&patched))))
        }
        Err(faults) => Reading::faulty(&faults),
    }
}

/// A value without nulls within objects: in a merge patch they are what is absent.
fn said(mut value: Value) -> Value {
    // A patch puts a list in the place of a list, as it is.
    if let Value::Object(all) = &mut value {
        all.retain(|_, value| !value.is_null());
        all.values_mut().for_each(|value| *value = said(value.take()));
    }
    value
}

/// Which fields are not as they are when nobody says anything.
fn fields(shown: &Value) -> String {
    let fields = shown.as_object().into_iter().flatten();
    let said = fields.filter(|(_, value)| !value.is_null() && value != &"none" && value != &false);
    said.map(|(name, value)| format!("{name}{} ", value.as_str().map_or(0, |text| text.len().min(3))))
        .collect()
}
