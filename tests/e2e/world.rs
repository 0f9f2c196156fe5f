//! What the stories share: how one is told, and the usual cast.

use std::sync::Arc;

use anyhow::Result;
use harness::companion::Settings;
use harness::http::Client;
use harness::upstream::Seen;
use harness::workspace::RunDirectory;
use harness::{Answer, Companion, Gateway, Receiver, Upstream, skip};
use serde_json::json;

/// Tells a story in a directory of its own. Its logs are shown when it fails; a server that cannot be had skips it.
pub(crate) async fn tell(story: impl AsyncFnOnce(&Arc<RunDirectory>) -> Result<()>) {
    let run = RunDirectory::create().expect("a directory for the run");
    let _ = skip::or_skip(story(&run).await);
}

/// An API that stores whatever it is given, as far as anyone can tell from its answers.
///
/// POST answers 201 with the body it was given, PUT and PATCH 200 likewise, DELETE 204.
pub(crate) fn store(seen: &Seen) -> Answer {
    let body = String::from_utf8_lossy(&seen.body);
    match seen.method.as_str() {
        "POST" => Answer::json(201, &body),
        "PUT" | "PATCH" => Answer::json(200, &body),
        "DELETE" => Answer::empty(204),
        _ => Answer::json(200, r#"{"read": true}"#),
    }
}

/// The whole road: an API that stores, Envoy, the companion, and a receiver that is subscribed to everything.
pub(crate) struct World {
    pub(crate) gateway: Gateway,
    pub(crate) companion: Companion,
    pub(crate) receiver: Receiver,
    pub(crate) _upstream: Upstream,
}

impl World {
    /// Starts it, with a gateway changed as the story needs.
    pub(crate) async fn start(
        run: &Arc<RunDirectory>,
        change: impl FnOnce(harness::gateway::Builder) -> harness::gateway::Builder,
    ) -> Result<Self> {
        let upstream = Upstream::start(store).await?;
        let companion = Companion::start(run, Settings::default()).await?;
        let receiver = Receiver::start().await?;
        companion.subscribe(&receiver, &["*"]).await?;
        let gateway = change(Gateway::before(upstream.address(), companion.address())).start(run).await?;
        Ok(Self { gateway, companion, receiver, _upstream: upstream })
    }
}

/// Creates a contact with this number.
pub(crate) async fn create(caller: &Client, number: usize) -> Result<()> {
    let contact = json!({"id": number.to_string(), "name": "Ada"});
    caller.post("/v1/contacts").json(&contact).send().await?.expect(201)?;
    Ok(())
}

/// The numbers of the contacts that a receiver has taken, sorted, with their repetitions.
pub(crate) fn numbers(arrivals: &[Arc<harness::Arrival>]) -> Vec<usize> {
    let taken = arrivals.iter().filter(|arrival| arrival.was_taken());
    let ids = taken.filter_map(|arrival| arrival.json()["data"]["id"].as_str()?.parse().ok());
    let mut numbers: Vec<usize> = ids.collect();
    numbers.sort_unstable();
    numbers
}
