//! Receivers that answer without an end.

use std::sync::Arc;

use anyhow::{Result, ensure};
use harness::companion::INGEST_TOKEN;
use harness::http::Client;
use harness::load;
use harness::server::Server;
use harness::workspace::RunDirectory;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::watch;

use super::{BOMB, Stage, delivery, event, ingest};
use crate::world::tell;

#[tokio::test(flavor = "multi_thread")]
async fn answers_without_an_end_are_bounded() {
    tell(endless).await;
}

async fn endless(run: &Arc<RunDirectory>) -> Result<()> {
    let stage = Stage::start(run).await?;
    let before = stage.descriptors()?;
    let caller = Client::http1(stage.address()).bearer(INGEST_TOKEN);
    let mut all = Vec::new();
    for (name, taken, first, then) in answers() {
        let receiver = Hostile::start(first, then).await?;
        let subscription = stage.subscribe(receiver.server.address(), &format!("{name}.*")).await?;
        ingest(&caller, &event(name, &format!("{name}.create"), "1")).await?.expect(202)?;
        all.push((name, taken, receiver, subscription));
    }
    stage.honest().await?;
    for (name, taken, receiver, subscription) in &all {
        // A status that was read says how the attempt ended, whatever follows it.
        let ended = delivery(&stage, subscription, |delivery| match taken {
            true => delivery["status"] == "delivered",
            false => delivery["attempt_count"].as_u64().is_some_and(|count| count >= 1),
        });
        let ended = ended.await.map_err(|error| error.context(*name))?;
        ensure!(*taken || ended["status"] != "delivered", "{name}: {ended}");
        let sent = receiver.ended().await?;
        println!("{name}: broken off after {} KiB", sent >> 10);
        stage.honest().await?;
    }
    stage.holds("ten hostile receivers", 300)?;
    ensure!(load::peak_memory(stage.companion.id())? < 400 << 20, "it held more meanwhile");
    drop(all);
    stage.honest().await?;
    stage.down_to(before + 24).await
}

/// A name, whether it is an answer, how it begins, and what follows again and again.
fn answers() -> [(&'static str, bool, Vec<u8>, Vec<u8>); 10] {
    let ok = |rest: &str| format!("HTTP/1.1 200 OK\r\n{rest}").into_bytes();
    let packed = format!("content-encoding: gzip, gzip\r\ncontent-length: {}\r\n\r\n", BOMB.len());
    let chunked = |rest: &str| ok(&format!("transfer-encoding: chunked\r\n\r\n{rest}"));
    let (letters, headers) = (vec![b'a'; 1 << 16], b"x-more: and more\r\n".repeat(99));
    [
        ("bomb", true, [&ok(&packed), BOMB].concat(), Vec::new()),
        ("body", true, chunked(""), chunk()),
        ("length", true, ok("content-length: 99999999999\r\n\r\n"), letters.clone()),
        ("close", true, ok("\r\n"), letters.clone()),
        ("headers", false, ok(""), headers.clone()),
        ("header", false, ok("x-large: "), letters.clone()),
        ("line", false, b"HTTP/1.1 200 ".to_vec(), letters.clone()),
        ("extension", true, chunked("1;"), letters),
        ("trailers", true, chunked("0\r\n"), headers),
        ("noise", false, Vec::new(), vec![0; 1 << 16]),
    ]
}

fn chunk() -> Vec<u8> {
    [b"10000\r\n".as_slice(), &[b'a'; 1 << 16], b"\r\n"].concat()
}

/// Reads a little of a request, then writes a beginning, and something else again and again until nobody listens.
struct Hostile {
    server: Server,
    written: watch::Receiver<Option<usize>>,
}

impl Hostile {
    async fn start(first: Vec<u8>, then: Vec<u8>) -> Result<Self> {
        let (tell, written) = watch::channel(None);
        let (first, then, tell) = (Arc::new(first), Arc::new(then), Arc::new(tell));
        let server = Server::tcp(move |stream| {
            let (first, then, tell) = (Arc::clone(&first), Arc::clone(&then), Arc::clone(&tell));
            async move {
                let written = write(stream, &first, &then).await;
                tell.send_replace(Some(written));
            }
        });
        Ok(Self { server: server.await?, written })
    }

    /// How much was written until nobody listened any more.
    async fn ended(&self) -> Result<usize> {
        let mut written = self.written.clone();
        let written =
            tokio::time::timeout(harness::wait::PATIENCE, written.wait_for(Option::is_some)).await??;
        Ok(written.unwrap_or_default())
    }
}

async fn write(mut stream: TcpStream, first: &[u8], then: &[u8]) -> usize {
    let mut request = [0; 4096];
    let mut written = 0;
    if stream.read(&mut request).await.is_err() || stream.write_all(first).await.is_err() || then.is_empty() {
        return first.len();
    }
    while stream.write_all(then).await.is_ok() {
        written += then.len();
    }
    written
}
