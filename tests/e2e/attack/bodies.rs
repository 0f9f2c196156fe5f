//! Bodies that do not come, that nest too deep, that are more than they look.

use std::sync::Arc;

use anyhow::{Result, ensure};
use harness::companion::INGEST_TOKEN;
use harness::http::Client;
use harness::ports::ReservedPort;
use harness::workspace::RunDirectory;
use hyper::Method;
use serde_json::json;

use super::{BOMB, Stage, closed, crowd, event, ingest};
use crate::world::tell;

#[tokio::test(flavor = "multi_thread")]
async fn bodies_that_are_announced_and_never_sent_hold_nobody_up() {
    tell(announced).await;
}

async fn announced(run: &Arc<RunDirectory>) -> Result<()> {
    let stage = Stage::start(run).await?;
    let head = |token: &str, length: usize| {
        format!(
            "POST /v1/events HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {token}\r\ncontent-length: {length}\r\n\
             content-type: application/cloudevents+json\r\n\r\n{{"
        )
        .into_bytes()
    };
    // Strangers take no room, however much they announce; the gateway's own token has room for some that hang.
    let strangers = crowd(stage.address(), 1_000, |_| head("wrong", 4 << 20)).await?;
    let trusted = crowd(stage.address(), 12, |_| head(INGEST_TOKEN, 4 << 20)).await?;
    stage.honest().await?;
    for stranger in strangers.iter().flatten() {
        closed(stranger).await?;
    }
    // Whoever is told 503 comes back; here all the room is taken.
    let greedy = crowd(stage.address(), 8, |_| head(INGEST_TOKEN, 4 << 20)).await?;
    let caller = Client::http1(stage.address()).bearer(INGEST_TOKEN);
    let answer = ingest(&caller, &event("1", "other.create", "1")).await?;
    ensure!(matches!(answer.status, 202 | 503), "{}", answer.status);
    stage.holds("bodies of 80 MiB announced", 300)?;
    drop((trusted, greedy));
    harness::wait::until("room again", harness::wait::PATIENCE, async || {
        ingest(&caller, &event("2", "other.create", "2")).await.ok().filter(|answer| answer.status == 202)
    })
    .await?;
    stage.honest().await
}

#[tokio::test(flavor = "multi_thread")]
async fn json_nested_a_hundred_thousand_deep_is_taken_or_refused_and_nothing_more() {
    tell(deep).await;
}

async fn deep(run: &Arc<RunDirectory>) -> Result<()> {
    let stage = Stage::start(run).await?;
    let deep = |open: &str, inner: &str, close: &str| {
        format!("{}{inner}{}", open.repeat(100_000), close.repeat(100_000))
    };
    let arrays = deep("[", "", "]");
    let objects = deep("{\"a\":", "1", "}");
    let caller = Client::http1(stage.address()).bearer(INGEST_TOKEN);
    // As data it is nobody's business here how deep it is: it goes as it came, past those who look into it.
    let nobody = ReservedPort::any()?;
    for looks in [
        json!({"match": {"exact": {"/a/a/a": 1}}}),
        json!({"match": {"not": {"cel": "size(data) == 7"}}}),
        json!({"format": "template", "template": "[{{ data }}, {{ data|tojson }}]"}),
    ] {
        let mut wanted = looks;
        wanted["target_url"] = format!("http://{}/", nobody.address()).into();
        wanted["events"] = json!(["honest.*"]);
        stage.companion.admin().post("/v1/subscriptions").json(&wanted).send().await?.expect(201)?;
    }
    stage.deliver(&caller, "honest.arrays", &arrays).await?;
    stage.deliver(&caller, "honest.objects", &objects).await?;
    for id in ["honest.arrays-1", "honest.objects-2"] {
        stage.companion.admin().get(&format!("/v1/events/{id}")).send().await?.expect(200)?;
    }
    // Anywhere else it is refused.
    for body in [arrays.as_str(), &objects, "[[[[", &"[".repeat(60_000)] {
        let short = &body[..body.len().min(60_000)];
        for (method, path) in
            [(Method::POST, "/v1/subscriptions"), (Method::POST, "/v1/erase"), (Method::POST, "/v1/tokens")]
        {
            let answer = stage.companion.admin().call(method, path).body(short.to_owned()).send().await?;
            ensure!(matches!(answer.status, 400 | 422), "{path}: {}", answer.status);
        }
        let answer = ingest(&caller, body).await?;
        ensure!(answer.status == 400, "an event that is no object: {}", answer.status);
    }
    for attribute in ["id", "previous", "changed", "flag"] {
        let odd = event("7", "honest.create", "1").replacen('{', &format!("{{\"{attribute}\":{arrays},"), 1);
        let answer = ingest(&caller, &odd).await?;
        ensure!(
            answer.status == if attribute == "previous" { 202 } else { 400 },
            "{attribute}: {}",
            answer.status
        );
    }
    stage.holds("JSON 100,000 deep", 300)?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_decompression_bomb_is_not_unpacked() {
    tell(bomb).await;
}

async fn bomb(run: &Arc<RunDirectory>) -> Result<()> {
    let stage = Stage::start(run).await?;
    let ingest = Client::http1(stage.address()).bearer(INGEST_TOKEN);
    for coding in ["gzip", "gzip, gzip", "x-gzip", "deflate", "br", "zstd"] {
        for (client, path) in [(&ingest, "/v1/events"), (&stage.companion.admin(), "/v1/subscriptions")] {
            let call = client.post(path).header("content-encoding", coding);
            let call = call.header("content-type", "application/cloudevents+json").body(BOMB);
            let answer = call.send().await?.expect(415)?;
            ensure!(answer.json()?["errors"][0]["field"] == "content-encoding", "{:?}", answer.body);
        }
    }
    stage.holds("decompression bombs", 200)?;
    stage.honest().await
}
