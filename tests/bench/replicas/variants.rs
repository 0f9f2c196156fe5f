//! What is compared: companions with a store and a queue, and what a number of events costs each process.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;
use harness::companion::{Companion, INGEST_TOKEN, Profile, Settings};
use harness::load::{self, Load, NUMBER, Sink};
use harness::skip::Unavailable;
use harness::workspace::RunDirectory;
use harness::{Postgres, Sqs, amqp};
use serde_json::json;

/// Bytes of an event's data.
const DATA: usize = 1_024;

/// The servers, one of each for all variants.
pub(crate) struct Servers {
    run: Arc<RunDirectory>,
    postgres: Option<Postgres>,
    broker: Option<amqp::Broker>,
    sqs: Option<Sqs>,
    /// What is not on this machine, and why.
    pub(crate) missing: Vec<String>,
}

impl Servers {
    pub(crate) async fn start(run: &Arc<RunDirectory>) -> Result<Self> {
        let mut missing = Vec::new();
        let postgres = here(Postgres::start(run).await, &mut missing)?;
        let broker = here(amqp::Broker::find().await, &mut missing)?;
        let sqs = here(Sqs::start(run).await, &mut missing)?;
        Ok(Self { run: Arc::clone(run), postgres, broker, sqs, missing })
    }

    /// The kinds of queues that can be had, by name; none at all is one of them.
    fn kinds(&self) -> Vec<(&'static str, Kind<'_>)> {
        let mut kinds = vec![("", Kind::None)];
        kinds.extend(self.broker.as_ref().map(|broker| (", RabbitMQ", Kind::RabbitMq(broker))));
        kinds.extend(self.sqs.as_ref().map(|sqs| (", SQS (moto)", Kind::Sqs(sqs))));
        kinds
    }
}

/// What wakes a process that delivers.
#[derive(Clone, Copy)]
enum Kind<'a> {
    None,
    RabbitMq(&'a amqp::Broker),
    Sqs(&'a Sqs),
}

/// A queue of one variant's own.
#[derive(Default)]
struct Queue {
    /// As `--queue` takes it.
    url: Option<String>,
    /// What the companions need in their environment for it.
    environment: Vec<(String, String)>,
    /// The server's process.
    server: Option<u32>,
}

impl Kind<'_> {
    async fn queue(self) -> Result<Queue> {
        Ok(match self {
            Self::None => Queue::default(),
            Self::RabbitMq(broker) => Queue {
                url: Some(broker.queue().url().to_owned()),
                environment: Vec::new(),
                server: load::listener(broker.address().port()),
            },
            Self::Sqs(sqs) => {
                Queue { url: Some(sqs.queue().await?), environment: sqs.environment(), server: sqs.id() }
            }
        })
    }
}

fn here<T>(found: Result<T>, missing: &mut Vec<String>) -> Result<Option<T>> {
    match found {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.downcast_ref::<Unavailable>().is_some() => {
            missing.push(format!("{error:#}"));
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// What one measurement took; times are CPU times.
pub(crate) struct Taken {
    pub(crate) elapsed: Duration,
    pub(crate) companions: Duration,
    pub(crate) database: Duration,
    pub(crate) queue: Duration,
    pub(crate) deliveries: usize,
}

/// Processes that work together.
pub(crate) struct Variant {
    pub(crate) name: String,
    companions: Vec<Companion>,
    /// Where events are offered.
    takers: Vec<SocketAddr>,
    /// Processes of the servers that it uses.
    database: Option<u32>,
    queue: Option<u32>,
    sink: Sink,
    offered: usize,
}

/// How a variant's processes share the work.
#[derive(Clone, Copy)]
enum Layout {
    One,
    Three,
    Roles,
}

impl Variant {
    /// SQLite first, then all that the servers allow.
    pub(crate) async fn all(servers: &Servers) -> Result<Vec<Self>> {
        let mut all = vec![Self::start(servers, "SQLite, one process", None, Kind::None, Layout::One).await?];
        let Some(postgres) = &servers.postgres else { return Ok(all) };
        for (queue, kind) in servers.kinds() {
            for (layout, shown) in [
                (Layout::One, "one process"),
                (Layout::Three, "three processes"),
                (Layout::Roles, "api + 2 workers"),
            ] {
                let name = format!("PostgreSQL{queue}, {shown}");
                all.push(Self::start(servers, &name, Some((postgres, all.len())), kind, layout).await?);
            }
        }
        Ok(all)
    }

    async fn start(
        servers: &Servers,
        name: &str,
        postgres: Option<(&Postgres, usize)>,
        kind: Kind<'_>,
        layout: Layout,
    ) -> Result<Self> {
        let store = match postgres {
            None => None,
            Some((postgres, number)) => {
                postgres.query(&format!("CREATE DATABASE bench_{number}"))?;
                Some(postgres.url().replace("/postgres", &format!("/bench_{number}")))
            }
        };
        let queue = kind.queue().await?;
        let roles: &[&str] = match layout {
            Layout::One => &["all"],
            Layout::Three => &["all", "all", "all"],
            Layout::Roles => &["api", "worker", "worker"],
        };
        let mut companions = Vec::new();
        for role in roles {
            let mut arguments = vec!["--role".to_owned(), (*role).to_owned()];
            if let Some(url) = &queue.url {
                arguments.extend(["--queue".into(), url.clone()]);
            }
            let settings = Settings {
                profile: Profile::Release,
                arguments,
                store: store.clone(),
                environment: queue.environment.clone(),
                ..Settings::default()
            };
            companions.push(Companion::start(&servers.run, settings).await?);
        }
        let takes = |role: &str| role != "worker";
        let takers = roles.iter().zip(&companions).filter(|(role, _)| takes(role));
        let takers = takers.map(|(_, companion)| companion.address()).collect();
        let sink = Sink::start().await?;
        let wanted = json!({"target_url": format!("http://{}/", sink.address), "events": ["bench.*"]});
        companions[0].admin().post("/v1/subscriptions").json(&wanted).send().await?.expect(201)?;
        let database = postgres.map(|(postgres, _)| postgres.id());
        let (name, queue) = (name.to_owned(), queue.server);
        Ok(Self { name, companions, takers, database, queue, sink, offered: 0 })
    }

    /// From the first request until the last delivery is recorded.
    pub(crate) async fn ingest(&mut self, events: usize, batch: usize) -> Result<Taken> {
        let delivered = self.delivered().await?;
        let before = self.spent()?;
        let begun = Instant::now();
        let mut offers = Vec::new();
        for (index, taker) in self.takers.iter().enumerate() {
            let share = events / self.takers.len() + usize::from(index < events % self.takers.len());
            let connections = if batch == 1 { 64 } else { 6 } / self.takers.len();
            let load = Load { requests: share.div_ceil(batch), connections, every: None };
            offers.push(tokio::spawn(load::drive(*taker, load, requests(self.offered, share, batch))));
            self.offered += share;
        }
        for offer in offers {
            offer.await??;
        }
        self.sink.take(events).await?;
        while self.delivered().await? < delivered + events {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        let (elapsed, after) = (begun.elapsed(), self.spent()?);
        let [companions, database, queue] = [0, 1, 2].map(|index| after[index] - before[index]);
        Ok(Taken { elapsed, companions, database, queue, deliveries: events })
    }

    /// CPU time so far of the companions, the database and the queue.
    fn spent(&self) -> Result<[Duration; 3]> {
        let mut companions = Duration::ZERO;
        for companion in &self.companions {
            companions += load::cpu_time(companion.id())?;
        }
        let tree = |id: Option<u32>| id.map_or(Ok(Duration::ZERO), load::tree_time);
        Ok([companions, tree(self.database)?, tree(self.queue)?])
    }

    async fn delivered(&self) -> Result<usize> {
        let mut sum = 0;
        for companion in &self.companions {
            sum += companion.metric("gatehook_deliveries_total", "status=\"delivered\"").await?;
        }
        Ok(usize::try_from(sum)?)
    }
}

fn requests(first: usize, events: usize, batch: usize) -> Arc<dyn Fn(usize) -> Vec<u8> + Send + Sync> {
    let kind = if batch == 1 { "application/cloudevents+json" } else { "application/cloudevents-batch+json" };
    let headers = format!("authorization: Bearer {INGEST_TOKEN}\r\ncontent-type: {kind}\r\n");
    Arc::new(move |request| {
        if batch == 1 {
            return load::post("/v1/events", &headers, &event(first + request));
        }
        let numbers = (first + request * batch)..(first + ((request + 1) * batch).min(events));
        let events = numbers.map(event).collect::<Vec<_>>().join(",");
        load::post("/v1/events", &headers, &format!("[{events}]"))
    })
}

fn event(number: usize) -> String {
    let padding = "x".repeat(DATA.saturating_sub(NUMBER.len() + 30));
    format!(
        r#"{{"specversion":"1.0","id":"{number:012}","source":"/bench","type":"bench.t0","data":{{{NUMBER}{number},"padding":"{padding}"}}}}"#
    )
}
