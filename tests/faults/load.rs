//! A load that goes on until it is told to stop, and knows of everything it wrote when it was answered.
//!
//! Producers of events offer each one until they have an answer, with the same id, as a good producer does. Callers of the API
//! are people: they write something, and where that failed they write something else.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use harness::companion::INGEST_TOKEN;
use harness::http::{Client, Response};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::moment::Moment;

/// What was said yes to, and when, by its number.
pub(crate) type Accepted = BTreeMap<usize, Moment>;

/// Resources that one producer writes to in turn; each is written by one producer alone, so their order is known.
const RESOURCES: usize = 4;

/// Events in the request of a producer of batches.
const BATCH: usize = 5;

/// How many work at it, and how long each pauses after an answer.
#[derive(Clone, Copy)]
pub(crate) struct Pace {
    pub(crate) workers: usize,
    pub(crate) pause: Duration,
}

/// Enough that there is always something under way.
pub(crate) const BUSY: Pace = Pace { workers: 6, pause: Duration::from_millis(20) };

/// Enough to notice what happens, and little enough that what gathers in a minute is gone in a moment.
pub(crate) const CALM: Pace = Pace { workers: 2, pause: Duration::from_millis(200) };

/// A load under way.
pub(crate) struct Load {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<Result<()>>>,
}

#[derive(Default)]
struct Shared {
    next: AtomicUsize,
    over: AtomicBool,
    accepted: Mutex<Accepted>,
    /// Requests that were answered 5xx.
    refusals: AtomicUsize,
}

impl Shared {
    fn goes_on(&self) -> bool {
        !self.over.load(Ordering::Relaxed)
    }

    fn numbers(&self, count: usize) -> Vec<usize> {
        let first = self.next.fetch_add(count, Ordering::Relaxed);
        (first..first + count).collect()
    }

    fn accept(&self, numbers: &[usize]) {
        let now = Moment::now();
        let mut accepted = self.accepted.lock().unwrap_or_else(PoisonError::into_inner);
        accepted.extend(numbers.iter().map(|number| (*number, now)));
    }
}

impl Load {
    /// Offers events to a companion, one by one and in batches.
    pub(crate) fn of_events(companion: SocketAddr, pace: Pace) -> Self {
        Self::of_events_to(&[companion], pace)
    }

    /// The same to several, each producer to one of them.
    pub(crate) fn of_events_to(companions: &[SocketAddr], pace: Pace) -> Self {
        Self::new(pace, |worker, shared| {
            let companion = companions[worker % companions.len()];
            tokio::spawn(produce(Client::http1(companion).bearer(INGEST_TOKEN), worker, pace, shared))
        })
    }

    /// Creates contacts through an Envoy, wherever it is at the time.
    pub(crate) fn of_writes(gateway: &watch::Receiver<SocketAddr>, pace: Pace) -> Self {
        Self::new(pace, |_, shared| tokio::spawn(write(gateway.clone(), pace, shared)))
    }

    fn new(pace: Pace, start: impl Fn(usize, Arc<Shared>) -> JoinHandle<Result<()>>) -> Self {
        let shared = Arc::new(Shared::default());
        let workers = (0..pace.workers).map(|worker| start(worker, Arc::clone(&shared))).collect();
        Self { shared, workers }
    }

    /// How much was accepted so far.
    pub(crate) fn count(&self) -> usize {
        self.shared.accepted.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Requests that were told to come back, so far.
    pub(crate) fn refusals(&self) -> usize {
        self.shared.refusals.load(Ordering::Relaxed)
    }

    /// Waits until so much more was accepted.
    pub(crate) async fn progress(&self, more: usize) -> Result<()> {
        let wanted = self.count() + more;
        let reached = async || (self.count() >= wanted).then_some(());
        harness::wait::until("the load to go on", Duration::from_secs(60), reached).await
    }

    /// Ends it; what was accepted.
    pub(crate) async fn stop(self) -> Result<Accepted> {
        self.shared.over.store(true, Ordering::Relaxed);
        for worker in self.workers {
            worker.await??;
        }
        let mut accepted = self.shared.accepted.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(std::mem::take(&mut accepted))
    }
}

/// Offers events until told otherwise; every other producer does so in batches.
async fn produce(companion: Client, worker: usize, pace: Pace, shared: Arc<Shared>) -> Result<()> {
    while shared.goes_on() {
        let numbers = shared.numbers(if worker.is_multiple_of(2) { 1 } else { BATCH });
        let event = |number: &usize| {
            let subject = format!("/contacts/{worker}.{}", number % RESOURCES);
            json!({
                "specversion": "1.0", "id": number.to_string(), "source": "/faults", "type": "contact.update",
                "subject": subject, "data": {"id": number.to_string()},
            })
        };
        let events: Vec<Value> = numbers.iter().map(event).collect();
        // Until there is an answer, or nobody waits for one any more.
        while !offer(&companion, &events, &shared.refusals).await? {
            if !shared.goes_on() {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        shared.accept(&numbers);
        tokio::time::sleep(pace.pause).await;
    }
    Ok(())
}

/// Offers events once; whether all are accepted now, for the first time or again.
async fn offer(companion: &Client, events: &[Value], refusals: &AtomicUsize) -> Result<bool> {
    let call = companion.post("/v1/events").header("content-type", "application/cloudevents-batch+json");
    let Ok(answer) = call.body(Value::from(events).to_string()).send().await else { return Ok(false) };
    match answer.status {
        202 => every_one_taken(&answer, events.len()).map(|()| true),
        500..=599 => {
            refusals.fetch_add(1, Ordering::Relaxed);
            Ok(false)
        }
        status => bail!("the companion answered {status}"),
    }
}

fn every_one_taken(answer: &Response, count: usize) -> Result<()> {
    let receipt = answer.json()?;
    let taken = ["accepted", "repeated"].map(|list| receipt[list].as_array().map_or(0, Vec::len));
    let refused = &receipt["refused"];
    anyhow::ensure!(taken.iter().sum::<usize>() == count, "the companion refused {refused}");
    Ok(())
}

async fn write(mut gateway: watch::Receiver<SocketAddr>, pace: Pace, shared: Arc<Shared>) -> Result<()> {
    let mut caller = Client::http1(*gateway.borrow_and_update());
    while shared.goes_on() {
        if gateway.has_changed().context("no gateway any more")? {
            caller = Client::http1(*gateway.borrow_and_update());
        }
        let numbers = shared.numbers(1);
        let contact = json!({"id": numbers[0].to_string(), "name": "Ada"});
        match caller.post("/v1/contacts").json(&contact).send().await {
            Ok(answer) if answer.status == 201 => shared.accept(&numbers),
            // An Envoy that is gone, or goes.
            Ok(_) | Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
        }
        tokio::time::sleep(pace.pause).await;
    }
    Ok(())
}
