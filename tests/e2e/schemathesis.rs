//! An outside tool reads our OpenAPI description and tries every operation with what fits it and what does not.
//!
//! Two runs, for tokens have scopes. The ids of things that are there come from a configuration; what would delete them
//! runs with ids that are not.

use std::process::Stdio;
use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use harness::companion::{ADMIN_TOKEN, INGEST_TOKEN, Settings};
use harness::workspace::RunDirectory;
use harness::{Companion, python};
use serde_json::{Value, json};

use crate::world::tell;

/// A schema does not say all: which names resolve, which templates compile, which conditions parse. So what fits the schema
/// may still be refused; all else is checked.
const EXCLUDED: &str = "positive_data_acceptance";

#[tokio::test(flavor = "multi_thread")]
async fn schemathesis_finds_no_server_error_and_no_answer_that_is_not_described() {
    tell(runs).await;
}

async fn runs(run: &Arc<RunDirectory>) -> Result<()> {
    let environment = python::environment(&["schemathesis==4.32.5"])?;
    let companion = Companion::start(run, Settings::default()).await?;
    let admin = companion.admin();
    let subscription: Value = admin
        .post("/v1/subscriptions")
        .json(&json!({"target_url": "http://127.0.0.1:9/", "events": ["*"]}))
        .send()
        .await?
        .expect(201)?
        .json()?;
    let event =
        json!({"specversion": "1.0", "id": "known", "source": "e2e", "type": "a.b", "data": {"a": 1}});
    let call = companion.ingest().post("/v1/events").header("content-type", "application/cloudevents+json");
    call.body(event.to_string()).send().await?.expect(202)?;
    let deliveries: Value = admin.get("/v1/deliveries").send().await?.expect(200)?.json()?;
    let replay = format!("/v1/subscriptions/{}/replay", text(&subscription["id"])?);
    let replay: Value = admin.post(&replay).json(&json!({})).send().await?.expect(202)?.json()?;
    let configuration = configuration(&[
        ("^/v1/subscriptions/", text(&subscription["id"])?),
        ("^/v1/deliveries/", text(&deliveries["data"][0]["id"])?),
        ("^/v1/replays/", text(&replay["id"])?),
        ("^/v1/events/", "known"),
    ]);
    let file = run.join("schemathesis.toml");
    std::fs::write(&file, configuration)?;
    for (token, operations) in [
        (ADMIN_TOKEN, ["--exclude-operation-id-regex", "^(accept_events|report_unmatched|stream_events)$"]),
        (INGEST_TOKEN, ["--include-operation-id-regex", "^(accept_events|report_unmatched)$"]),
    ] {
        let mut command = environment.script("st");
        // It keeps what it found beside it.
        command.current_dir(run.path());
        command.arg("--config-file").arg(&file).args([
            "run",
            "--checks",
            "all",
            "--exclude-checks",
            EXCLUDED,
        ]);
        command.args(["--phases", "examples,coverage,fuzzing", "--max-examples", "5", "--seed", "1"]);
        command.args(["--continue-on-failure", "--warnings", "off", "--no-color"]);
        command.args(operations).arg("--header").arg(format!("Authorization: Bearer {token}"));
        command.arg(format!("http://{}/openapi.json", companion.address()));
        let output = tokio::task::spawn_blocking(move || {
            command.stdin(Stdio::null()).output().context("cannot run schemathesis")
        });
        let output = output.await??;
        let printed = String::from_utf8_lossy(&output.stdout).into_owned();
        ensure!(output.status.success(), "{printed}{}", String::from_utf8_lossy(&output.stderr));
        ensure!(printed.contains("generated"), "it tried nothing:\n{printed}");
    }
    Ok(())
}

fn text(value: &Value) -> Result<&str> {
    value.as_str().with_context(|| format!("no id: {value}"))
}

/// Ids of what is there, by path; what deletes gets one that is not.
fn configuration(ids: &[(&str, &str)]) -> String {
    let operation = |filter: &str, id: &str| {
        format!("[[operations]]\n{filter}\nparameters = {{ \"path.id\" = \"{id}\" }}\n\n")
    };
    let mut text = operation("include-method = \"DELETE\"", "nobody");
    for (path, id) in ids {
        text.push_str(&operation(
            &format!("include-path-regex = \"{path}\"\nexclude-method = \"DELETE\""),
            id,
        ));
    }
    text
}
