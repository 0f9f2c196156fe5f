//! What the tests of several modules share.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use bytes::Bytes;
use jiff::Timestamp;
use tokio::sync::watch;

use crate::clock::Clock;

/// A folder of its own, gone when dropped.
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new() -> Self {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let name = format!("gatehook-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What cannot be removed is the system's to clean.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A clock that moves when told.
#[derive(Debug)]
pub(crate) struct ManualClock(Mutex<Timestamp>);

impl ManualClock {
    pub(crate) fn at(now: Timestamp) -> Self {
        Self(Mutex::new(now))
    }

    pub(crate) fn set(&self, now: Timestamp) {
        *self.0.lock().unwrap() = now;
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        *self.0.lock().unwrap()
    }
}

type Answers = dyn Fn(usize) -> Option<Response> + Send + Sync;

/// An HTTP server on the loopback that answers as a test says and keeps what it got.
pub(crate) struct Receiver {
    pub(crate) url: String,
    script: Arc<Script>,
}

struct Script {
    answers: Box<Answers>,
    received: Mutex<Vec<(HeaderMap, Bytes)>>,
    count: watch::Sender<usize>,
}

impl Receiver {
    /// `answers` gets the number of the request, from 1; where it says `None` there is never an answer.
    pub(crate) async fn start(answers: impl Fn(usize) -> Option<Response> + Send + Sync + 'static) -> Self {
        let (count, _) = watch::channel(0);
        let script = Arc::new(Script { answers: Box::new(answers), received: Mutex::default(), count });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/hook", listener.local_addr().unwrap());
        let router = Router::new().fallback(answer).with_state(script.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { url, script }
    }

    /// Waits until so many requests have come, and returns them.
    pub(crate) async fn received(&self, count: usize) -> Vec<(HeaderMap, Bytes)> {
        self.script.count.subscribe().wait_for(|seen| *seen >= count).await.unwrap();
        self.script.received.lock().unwrap().clone()
    }
}

async fn answer(State(script): State<Arc<Script>>, headers: HeaderMap, body: Bytes) -> Response {
    let number = {
        let mut received = script.received.lock().unwrap();
        received.push((headers, body));
        received.len()
    };
    script.count.send_replace(number);
    match (script.answers)(number) {
        Some(response) => response,
        None => std::future::pending().await,
    }
}
