//! Connections that want nothing but to be there.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use harness::process;
use harness::workspace::RunDirectory;
use rustix::process::{Pid, Resource, Rlimit, prlimit};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::{Stage, closed, crowd};
use crate::world::tell;

#[tokio::test(flavor = "multi_thread")]
async fn heads_that_never_end_hold_nobody_up_and_are_closed() {
    tell(slow_heads).await;
}

/// Slow-loris: a byte a second, in the head of a request or in what opens HTTP/2, or no byte at all.
async fn slow_heads(run: &Arc<RunDirectory>) -> Result<()> {
    let stage = Stage::start(run).await?;
    let before = stage.descriptors()?;
    let starts = [&b"GET /healthz HTTP/1.1\r\nhost: a\r\nx-slow: "[..], b"P", b"PRI * HTTP/2.0\r\n", b""];
    let slow = crowd(stage.address(), 800, |number| starts[number % starts.len()].to_vec()).await?;
    let mut slow: Vec<TcpStream> = slow.into_iter().flatten().collect();
    ensure!(slow.len() == 800, "{} of 800 were let in", slow.len());
    let mut second = tokio::time::interval(Duration::from_secs(1));
    for number in 0..3 {
        second.tick().await;
        for stream in &mut slow {
            // Where the preface is known to be wrong, the end has come already.
            let _ = stream.write_all(b"a").await;
        }
        stage.honest().await.with_context(|| format!("after {number} seconds"))?;
    }
    stage.holds("800 slow heads", 300)?;
    let mut ends = JoinSet::new();
    for stream in slow {
        ends.spawn(async move { closed(&stream).await });
    }
    while let Some(ended) = ends.join_next().await {
        ended??;
    }
    stage.honest().await?;
    stage.down_to(before + 8).await
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_idle_connections_keep_nobody_out() {
    tell(ten_thousand).await;
}

async fn ten_thousand(run: &Arc<RunDirectory>) -> Result<()> {
    process::descriptors(12_000)?;
    let stage = Stage::start(run).await?;
    let before = stage.descriptors()?;
    let kept = harness::http::Client::http1(stage.address());
    // A third says nothing, a third has its answer and stays, a third asks a lot and reads nothing.
    let asks = "GET /openapi.json HTTP/1.1\r\nhost: a\r\n\r\n".repeat(8);
    let idle = crowd(stage.address(), 10_000, |number| match number % 3 {
        0 => Vec::new(),
        1 => b"GET /healthz HTTP/1.1\r\nhost: a\r\n\r\n".to_vec(),
        _ => asks.clone().into_bytes(),
    })
    .await?;
    for _ in 0..5 {
        stage.honest().await?;
        kept.get("/healthz").send().await?.expect(200)?;
    }
    let descriptors = stage.holds("10,000 idle connections", 1_500)?;
    ensure!(descriptors <= 4_096 + 200, "{descriptors} descriptors");
    drop(idle);
    stage.honest().await?;
    stage.down_to(before + 8).await?;
    stage.holds("when they are gone", 1_500)?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_that_nobody_reads_are_not_made() {
    tell(unread).await;
}

/// Pipelining: a thousand small questions in one packet, each with an answer a thousand times as large.
async fn unread(run: &Arc<RunDirectory>) -> Result<()> {
    let stage = Stage::start(run).await?;
    let asks = "GET /openapi.json HTTP/1.1\r\nhost: a\r\n\r\n".repeat(1_000);
    let greedy = crowd(stage.address(), 30, |_| asks.clone().into_bytes()).await?;
    stage.honest().await?;
    // What is not read is felt by whoever asks: its own questions are not taken either.
    for stream in greedy.iter().flatten() {
        stream.readable().await?;
    }
    stage.honest().await?;
    stage.holds("30,000 answers that nobody reads", 200)?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listener_without_descriptors_goes_on() {
    tell(few_descriptors).await;
}

async fn few_descriptors(run: &Arc<RunDirectory>) -> Result<()> {
    let stage = Stage::start(run).await?;
    let before = stage.descriptors()?;
    // Taken away behind its back, so that no bound of its own is reached first.
    let few = Some(before as u64 + 100);
    let id = Pid::from_raw(i32::try_from(stage.companion.id())?).context("a process id")?;
    prlimit(Some(id), Resource::Nofile, Rlimit { current: few, maximum: few })?;
    let idle = crowd(stage.address(), 1_000, |_| Vec::new()).await?;
    stage.honest().await?;
    stage.honest().await?;
    ensure!(stage.companion.log().contains("could not be accepted"), "descriptors never were too few");
    drop(idle);
    stage.honest().await?;
    stage.down_to(before + 8).await
}
