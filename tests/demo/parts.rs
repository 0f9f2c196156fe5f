//! Brings what the demo needs, starts it, and makes the subscriptions.

use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context as _, Result};
use harness::companion::{self, Profile, Settings};
use harness::workspace::RunDirectory;
use harness::{Companion, Gateway, Kinto, Receiver, Reply, envoy, wasm};
use hyper::Method;
use serde_json::{Value, json};
use tokio::task::{JoinHandle, spawn_blocking};

use crate::screen::Screen;

/// How often the flaky receiver fails before it recovers.
pub(crate) const FAILURES: usize = 2;

/// The collection that the demo writes to.
pub(crate) const COLLECTION: &str = "/v1/buckets/crm/collections/contacts/records";

/// Waits before each attempt: at once, then soon enough for someone who watches.
const RETRY_SCHEDULE: &str = "0s,250ms,500ms,1s,2s,4s";

/// Everything that runs. The order is the order of ending: traffic first, then what serves it.
pub(crate) struct Parts {
    pub(crate) gateway: Gateway,
    pub(crate) companion: Companion,
    pub(crate) steady: Subscriber,
    pub(crate) flaky: Subscriber,
    pub(crate) gone: Subscriber,
    /// What delivers, where the other one does not.
    _worker: Option<Companion>,
    _kinto: Kinto,
}

/// What the companion stands on, where that is not a file of its own.
pub(crate) struct Backend {
    pub(crate) store: Option<String>,
    pub(crate) queue: Option<String>,
}

impl Backend {
    /// The settings of a companion with a role; of one that does all, where it is alone.
    fn settings(&self, role: &str) -> Settings {
        let mut arguments = Vec::new();
        if self.store.is_some() {
            arguments.extend(["--role".into(), role.into()]);
        }
        if let Some(queue) = &self.queue {
            arguments.extend(["--queue".into(), queue.clone()]);
        }
        let (profile, retry_schedule) = (Profile::Dev, RETRY_SCHEDULE.into());
        Settings { profile, retry_schedule, store: self.store.clone(), arguments, ..Settings::default() }
    }

    /// What the companion does, in words.
    fn companion(&self) -> &'static str {
        match self.store {
            None => "events, subscriptions, deliveries in SQLite",
            Some(_) => "takes events (--role api), keeps them in PostgreSQL",
        }
    }

    /// What wakes the one that delivers, in words.
    fn waker(&self) -> &'static str {
        match self.queue.as_deref().and_then(|url| url.split(':').next()) {
            Some("amqp" | "amqps") => "RabbitMQ",
            Some("sqs") => "SQS",
            _ => "PostgreSQL",
        }
    }
}

/// A receiver with its subscription.
pub(crate) struct Subscriber {
    pub(crate) name: &'static str,
    pub(crate) receiver: Receiver,
    pub(crate) subscription: Value,
}

impl Subscriber {
    /// The id of its subscription.
    pub(crate) fn id(&self) -> &str {
        self.subscription["id"].as_str().unwrap_or_default()
    }
}

impl Parts {
    /// Starts them all, showing each.
    pub(crate) async fn start(screen: &Screen, run: &Arc<RunDirectory>, backend: Backend) -> Result<Self> {
        bring(screen).await?;
        screen.heading("Starting");
        let since = Instant::now();
        let kinto = screen.wait_for("API", since, start_kinto(run)).await?;
        let since = Instant::now();
        let companion = screen.wait_for("companion", since, start_companion(run, &backend)).await?;
        let worker = match &backend.store {
            Some(_) => Some(screen.wait_for("worker", Instant::now(), start_worker(run, &backend)).await?),
            None => None,
        };
        let since = Instant::now();
        let gateway = screen.wait_for("Envoy", since, start_gateway(run, &kinto, &companion)).await?;

        screen.heading("Subscribing, through the companion's REST API");
        let flaky = |number| {
            if number < FAILURES { Reply::Status(500) } else { Reply::Status(200) }
        };
        let steady =
            subscribe(screen, &companion, "steady", Receiver::start().await?, "takes whatever comes").await?;
        let manner = "answers 500 twice before it recovers";
        let flaky = subscribe(screen, &companion, "flaky", Receiver::scripted(flaky).await?, manner).await?;
        let gone = Receiver::scripted(|_| Reply::Status(410)).await?;
        let gone = subscribe(screen, &companion, "gone", gone, "answers 410, for it is no more").await?;
        Ok(Self { gateway, companion, steady, flaky, gone, _worker: worker, _kinto: kinto })
    }

    /// Takes the subscriptions out of a store that stays.
    pub(crate) async fn leave_nothing_behind(&self) -> Result<()> {
        for subscriber in [&self.steady, &self.flaky, &self.gone] {
            let path = format!("/v1/subscriptions/{}", subscriber.id());
            self.companion.admin().call(Method::DELETE, &path).send().await?.expect(204)?;
        }
        Ok(())
    }
}

/// Builds and fetches, all at once; most of the time everything is there already.
async fn bring(screen: &Screen) -> Result<()> {
    screen.heading("Bringing the parts");
    let since = Instant::now();
    let filter: JoinHandle<Result<_>> = spawn_blocking(|| {
        let size = std::fs::metadata(wasm::module()?)?.len();
        Ok(((), format!("gatehook_filter.wasm, {} KB", size / 1024)))
    });
    let companion: JoinHandle<Result<_>> = spawn_blocking(|| {
        companion::program(Profile::Dev)?;
        Ok(((), "gatehook, built from this repository".to_owned()))
    });
    let envoy: JoinHandle<Result<_>> = spawn_blocking(|| Ok(((), envoy::program()?.origin)));
    let kinto: JoinHandle<Result<_>> = spawn_blocking(|| {
        Kinto::bring()?;
        Ok(((), format!("Kinto {}, from PyPI", harness::kinto::VERSION)))
    });
    for (name, task) in [("Envoy", envoy), ("API", kinto), ("filter", filter), ("companion", companion)] {
        screen.wait_for(name, since, async { task.await? }).await?;
    }
    Ok(())
}

async fn start_kinto(run: &Arc<RunDirectory>) -> Result<(Kinto, String)> {
    let kinto = Kinto::start(run).await?;
    kinto.create_collection("crm", "contacts").await?;
    let what = format!("{}   Kinto, holding contacts in memory", kinto.address());
    Ok((kinto, what))
}

async fn start_companion(run: &Arc<RunDirectory>, backend: &Backend) -> Result<(Companion, String)> {
    let companion = Companion::start(run, backend.settings("api")).await?;
    let what = format!("{}   {}", companion.address(), backend.companion());
    Ok((companion, what))
}

async fn start_worker(run: &Arc<RunDirectory>, backend: &Backend) -> Result<(Companion, String)> {
    let worker = Companion::start(run, backend.settings("worker")).await?;
    let what = format!("{}   delivers (--role worker), woken by {}", worker.address(), backend.waker());
    Ok((worker, what))
}

async fn start_gateway(
    run: &Arc<RunDirectory>,
    kinto: &Kinto,
    companion: &Companion,
) -> Result<(Gateway, String)> {
    // One rule gives the records their noun and takes them out of Kinto's envelope; all else is the automatic rule's.
    let filter = json!({"resources": [{
        "path": "/v1/buckets/{bucket}/collections/contacts/records/{id}",
        "noun": "contact",
        "unwrap": "/data",
    }]});
    let gateway = Gateway::before(kinto.address(), companion.address()).filter(&filter).concurrency(2);
    let gateway = gateway.start(run).await?;
    let what = format!("{}   envoy/envoy.yaml, with the filter in it", gateway.address());
    Ok((gateway, what))
}

async fn subscribe(
    screen: &Screen,
    companion: &Companion,
    name: &'static str,
    receiver: Receiver,
    manner: &str,
) -> Result<Subscriber> {
    let since = Instant::now();
    let subscription = companion
        .subscribe(&receiver, &["contact.*"])
        .await
        .with_context(|| format!("cannot subscribe {name}"))?;
    screen.done(name, &format!("contact.*         {manner}"), &crate::screen::milliseconds(since.elapsed()));
    Ok(Subscriber { name, receiver, subscription })
}
