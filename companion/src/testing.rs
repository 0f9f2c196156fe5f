//! What the tests of several modules share.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
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
        Self::below(&std::env::temp_dir())
    }

    /// In memory, where the system has a place for that: nothing in it outlives the machine.
    pub(crate) fn in_memory() -> Self {
        let shared = Path::new("/dev/shm");
        if shared.is_dir() { Self::below(shared) } else { Self::new() }
    }

    fn below(folder: &Path) -> Self {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let name = format!("gatehook-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let path = folder.join(name);
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

/// Draws from a seed (xorshift64*), the same everywhere.
#[derive(Clone, Debug)]
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        let mut dice = Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        // Neighbouring seeds differ in few bits at first.
        for _ in 0..8 {
            dice.next();
        }
        dice
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub(crate) fn below(&mut self, most: u64) -> u64 {
        (self.next() >> 16) % most
    }

    pub(crate) fn percent(&mut self, chance: u64) -> bool {
        self.below(100) < chance
    }

    pub(crate) fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len() as u64) as usize]
    }
}

thread_local! {
    /// What this thread draws from instead of the system's randomness.
    static SEEDED: RefCell<Option<Dice>> = const { RefCell::new(None) };
}

/// From now on this thread draws from a seed.
pub(crate) fn seed(dice: Dice) {
    SEEDED.set(Some(dice));
}

/// Fills with what this thread draws from its seed, where it has one.
pub(crate) fn drew(bytes: &mut [u8]) -> bool {
    SEEDED.with_borrow_mut(|dice| {
        let Some(dice) = dice else { return false };
        bytes
            .chunks_mut(8)
            .for_each(|chunk| chunk.copy_from_slice(&dice.next().to_le_bytes()[..chunk.len()]));
        true
    })
}

/// How much of each write-ahead log its syncer has synced.
static SYNCED: Mutex<BTreeMap<PathBuf, u64>> = Mutex::new(BTreeMap::new());

/// Notes how much of a log is on disk.
pub(crate) fn note_synced(log: &Path, length: u64) {
    SYNCED.lock().unwrap().insert(log.to_owned(), length);
}

/// How much of a log is on disk.
pub(crate) fn synced_length(log: &Path) -> u64 {
    SYNCED.lock().unwrap().get(log).copied().unwrap_or(0)
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
