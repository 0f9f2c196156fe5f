//! Heads that are far too large.

use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use harness::http::Client;
use harness::wait;
use harness::workspace::RunDirectory;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::Stage;
use crate::world::tell;

/// Each of these at once, and so often.
const TIMES: usize = 50;

#[tokio::test(flavor = "multi_thread")]
async fn heads_far_too_large_are_refused() {
    tell(large_heads).await;
}

async fn large_heads(run: &Arc<RunDirectory>) -> Result<()> {
    let stage = Stage::start(run).await?;
    let before = stage.descriptors()?;
    let many: String = (0..10_000).map(|number| format!("x-{number}: a\r\n")).collect();
    let heads = [
        format!("GET /healthz HTTP/1.1\r\nhost: a\r\nx-large: {}\r\n\r\n", "a".repeat(1 << 20)),
        format!("GET /healthz HTTP/1.1\r\nhost: a\r\n{many}\r\n"),
        format!("GET /{} HTTP/1.1\r\nhost: a\r\n\r\n", "a".repeat(1 << 20)),
        format!("GET /healthz HTTP/1.1\r\n{}: a\r\n\r\n", "a".repeat(1 << 20)),
        format!(
            "POST /v1/events HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n1;{}",
            "a".repeat(1 << 20)
        ),
        format!("POST /v1/events HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n0\r\n{many}\r\n"),
    ];
    for _ in 0..TIMES {
        for head in &heads {
            let status = refusal(stage.address(), head).await?;
            let refused = status.is_none_or(|status| matches!(status, 400 | 401 | 414 | 431));
            ensure!(refused, "{status:?} for {} bytes: {}", head.len(), &head[..60]);
        }
    }
    let client = Client::http2(stage.address());
    for _ in 0..TIMES {
        let mut call = client.get("/healthz");
        for number in 0..10_000 {
            call = call.header(&format!("x-{number}"), "a");
        }
        let answer = call.send().await;
        ensure!(answer.as_ref().map_or(true, |answer| answer.status == 431), "HTTP/2: {answer:?}");
    }
    stage.honest().await?;
    stage.holds("heads of a mebibyte", 300)?;
    stage.down_to(before + 8).await
}

/// The status of the answer; none where the connection ended without one.
async fn refusal(address: std::net::SocketAddr, head: &str) -> Result<Option<u16>> {
    let (mut reading, mut writing) = TcpStream::connect(address).await?.into_split();
    let mut answer = [0; 12];
    let exchange = async {
        // Whoever is refused may not get to the end.
        let (_, read) = tokio::join!(writing.write_all(head.as_bytes()), reading.read_exact(&mut answer));
        read.is_ok()
    };
    let answered = tokio::time::timeout(wait::PATIENCE, exchange).await.context("neither answer nor end")?;
    let status =
        std::str::from_utf8(&answer).ok().and_then(|line| line.strip_prefix("HTTP/1.1 ")?.parse().ok());
    Ok(status.filter(|_| answered))
}
