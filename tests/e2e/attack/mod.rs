//! Hostile peers of the companion, on both sides of it: whatever they do, an honest event is answered and delivered, memory
//! and descriptors stay bounded, and nothing is left of them afterwards.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context as _, Result, ensure};
use harness::companion::{INGEST_TOKEN, Settings};
use harness::http::Client;
use harness::workspace::RunDirectory;
use harness::{Companion, Receiver, load, wait};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

mod bodies;
mod connections;
mod heads;
mod receivers;

/// A gibibyte of zeros, packed twice: a few kilobytes.
const BOMB: &[u8] = include_bytes!("../../fixtures/bomb.gz.gz");

/// The companion, and a receiver whose deliveries must go on.
struct Stage {
    companion: Companion,
    receiver: Receiver,
    sent: AtomicUsize,
}

impl Stage {
    async fn start(run: &Arc<RunDirectory>) -> Result<Self> {
        let companion = Companion::start(run, Settings::default()).await?;
        let receiver = Receiver::start().await?;
        companion.subscribe(&receiver, &["honest.*"]).await?;
        let stage = Self { companion, receiver, sent: AtomicUsize::new(0) };
        stage.honest().await?;
        Ok(stage)
    }

    fn address(&self) -> SocketAddr {
        self.companion.address()
    }

    /// An honest event, from a caller that was not there before, is answered and delivered.
    async fn honest(&self) -> Result<()> {
        let caller = Client::http1(self.address()).bearer(INGEST_TOKEN);
        let number = self.sent.fetch_add(1, Ordering::Relaxed);
        self.deliver(&caller, "honest.create", &json!({ "number": number }).to_string()).await
    }

    /// An event with these data is answered, and delivered as it is.
    async fn deliver(&self, caller: &Client, event_type: &str, data: &str) -> Result<()> {
        let number = self.receiver.arrivals().len();
        let event = event(&format!("{event_type}-{number}"), event_type, data);
        ingest(caller, &event).await?.expect(202)?;
        let arrivals = self.receiver.wait_for(number + 1, wait::PATIENCE).await?;
        let arrival = &arrivals[number];
        ensure!(arrival.verified.is_ok(), "not genuine: {:?}", arrival.verified);
        let body = std::str::from_utf8(&arrival.body)?;
        ensure!(body.contains(&format!("\"data\":{data}")), "the data are not as they were sent");
        Ok(())
    }

    /// What the companion's process holds now; more memory than this is too much.
    fn holds(&self, when: &str, most_mib: u64) -> Result<usize> {
        let (mib, descriptors) = (load::memory(self.companion.id())? >> 20, self.descriptors()?);
        println!("{when}: {mib} MiB of memory, {descriptors} descriptors");
        ensure!(mib <= most_mib, "{when}: {mib} MiB of memory, at most {most_mib} are expected");
        Ok(descriptors)
    }

    fn descriptors(&self) -> Result<usize> {
        Ok(std::fs::read_dir(format!("/proc/{}/fd", self.companion.id()))?.count())
    }

    /// Waits until the process holds no more descriptors than this.
    async fn down_to(&self, descriptors: usize) -> Result<()> {
        let held = async || self.descriptors().ok().filter(|held| *held <= descriptors);
        wait::until("descriptors to be given back", wait::PATIENCE, held).await.map(drop)
    }

    /// Subscribes a hostile receiver.
    async fn subscribe(&self, target: SocketAddr, events: &str) -> Result<String> {
        let wanted = json!({"target_url": format!("http://{target}/hook"), "events": [events]});
        let made = self.companion.admin().post("/v1/subscriptions").json(&wanted).send().await?;
        Ok(made.expect(201)?.json()?["id"].as_str().context("an id")?.to_owned())
    }
}

/// An event as CloudEvents writes it, with its data as they are.
fn event(id: &str, event_type: &str, data: &str) -> String {
    format!(r#"{{"specversion":"1.0","id":"{id}","source":"/attack","type":"{event_type}","data":{data}}}"#)
}

async fn ingest(caller: &Client, event: &str) -> Result<harness::http::Response> {
    let call = caller.post("/v1/events").header("content-type", "application/cloudevents+json");
    call.body(event.to_owned()).send().await
}

/// So many connections, each of which has written these bytes; `None` stands for one that was closed meanwhile.
async fn crowd(
    address: SocketAddr,
    count: usize,
    bytes: impl Fn(usize) -> Vec<u8>,
) -> Result<Vec<Option<TcpStream>>> {
    let mut all = Vec::with_capacity(count);
    let mut opening = JoinSet::new();
    for number in 0..count {
        let bytes = bytes(number);
        opening.spawn(async move {
            let mut stream = TcpStream::connect(address).await?;
            Ok::<_, std::io::Error>(stream.write_all(&bytes).await.is_ok().then_some(stream))
        });
        // The kernel's queue of those that were not accepted yet is bounded, too.
        if opening.len() >= 500 {
            all.push(opening.join_next().await.context("one is under way")???);
        }
    }
    while let Some(opened) = opening.join_next().await {
        all.push(opened??);
    }
    Ok(all)
}

/// Waits until the other side has closed a connection.
async fn closed(stream: &TcpStream) -> Result<()> {
    let ended = async {
        let mut scrap = [0; 4096];
        loop {
            stream.readable().await?;
            match stream.try_read(&mut scrap) {
                Ok(0) => return Ok(()),
                Ok(_) => {}
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                // A reset is an end as well.
                Err(_) => return Ok(()),
            }
        }
    };
    tokio::time::timeout(wait::PATIENCE, ended).await.context("a connection stays open")?
}

/// The state of the newest delivery of a subscription, once it fits.
async fn delivery(stage: &Stage, subscription: &str, fits: impl Fn(&Value) -> bool) -> Result<Value> {
    let path = format!("/v1/deliveries?subscription={subscription}");
    stage.companion.read_until(&path, |page| fits(&page["data"][0])).await
}
