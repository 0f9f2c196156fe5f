//! What passes the filter does not stay there: an answer of a gigabyte leaves Envoy's memory as it was.

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use harness::upstream::Seen;
use harness::{Answer, Gateway, Recorder, Upstream, load, wait};
use hyper::Method;

use crate::world::tell;

const PIECE: usize = 1 << 20;

/// Growth that is none: what the allocator and the connections' buffers may take.
const SLACK: u64 = 16 << 20;

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_of_a_gigabyte_passes_without_a_trace_in_memory() {
    tell(async |run| {
        let upstream = Upstream::start(|seen: &Seen| {
            let pieces = if seen.path.ends_with("/1") { 32 } else { 1_024 };
            // All pieces are the same bytes, so the API's own memory stays small as well.
            let piece = Bytes::from(vec![b' '; PIECE]);
            (0..pieces).fold(Answer::chunked(200), |answer, _| answer.chunk(piece.clone())).chunk("{}")
        })
        .await?;
        let recorder = Recorder::start().await?;
        let gateway = Gateway::before(upstream.address(), recorder.address()).start(run).await?;
        let read = async |path: &str| -> Result<usize> {
            let mut answer = gateway.caller().call(Method::PUT, path).body("{}").start().await?;
            let mut size = 0;
            while let Some(piece) = answer.next().await.context("the answer broke off")? {
                size += piece.len();
            }
            Ok(size)
        };
        ensure!(read("/files/1").await? == 32 * PIECE + 2, "an answer came short");
        let before = load::memory(gateway.id())?;
        ensure!(read("/files/2").await? == 1_024 * PIECE + 2, "an answer came short");
        let after = load::memory(gateway.id())?;
        println!("{} MiB before, {} MiB after", before >> 20, after >> 20);
        ensure!(after <= before + SLACK, "memory grew from {before} to {after} bytes");
        let events = recorder.accepted_at_least(2, wait::PATIENCE).await?;
        ensure!(events.iter().all(|event| event["thin"] == "too_large"), "{events:?}");
        Ok(())
    })
    .await;
}
