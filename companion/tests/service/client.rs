//! A companion to test, a receiver for it, and a small HTTP client.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::http::{HeaderMap, StatusCode};
use bytes::Bytes;
use clap::Parser;
use companion::clock::{Clock, SystemClock};
use companion::config::Settings;
use companion::{Listeners, Running};
use http_body_util::{BodyExt, Full};
use hyper::Request;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::sync::watch;

/// A companion on a free port with its database in a folder of its own.
pub(crate) struct Companion {
    running: Running,
    client: Client<HttpConnector, Full<Bytes>>,
    folder: PathBuf,
}

/// Long enough for a loaded machine; a test that needs it all is a test that fails.
const PATIENCE: Duration = Duration::from_secs(30);

fn is_held(error: &anyhow::Error) -> bool {
    format!("{error:#}").contains("in use by another process")
}

struct DaysAhead(i64);

impl Clock for DaysAhead {
    fn now(&self) -> Timestamp {
        SystemClock.now() + SignedDuration::from_hours(24 * self.0)
    }
}

/// What came back.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) json: Value,
}

#[derive(Parser)]
struct Program {
    #[command(flatten)]
    settings: Settings,
}

impl Companion {
    pub(crate) async fn start() -> Self {
        Self::start_in(Self::new_folder(), SystemClock).await
    }

    /// As [`Companion::start`], with more flags.
    pub(crate) async fn start_with_flags(flags: &[&str]) -> Self {
        Self::start_with(Self::new_folder(), SystemClock, flags).await
    }

    fn new_folder() -> PathBuf {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let name =
            format!("gatehook-service-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let folder = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&folder).unwrap();
        folder
    }

    async fn start_in(folder: PathBuf, clock: impl Clock + 'static) -> Self {
        Self::start_with(folder, clock, &[]).await
    }

    async fn start_with(folder: PathBuf, clock: impl Clock + 'static, last: &[&str]) -> Self {
        Self::try_start(folder, clock, last).await.unwrap_or_else(|error| panic!("{error}"))
    }

    async fn try_start(folder: PathBuf, clock: impl Clock + 'static, last: &[&str]) -> Result<Self, String> {
        let store = format!("sqlite:{}", folder.join("service.db").display());
        let flags = ["gatehook", "--store", &store, "--admin-token", "admin", "--ingest-token", "ingest"];
        let more = ["--allow-targets", "127.0.0.0/8", "--retry-schedule", "0s,10ms,10ms"];
        let is_said = last.contains(&"--tenant-allow-targets");
        let of_tenants: &[&str] = if is_said { &[] } else { &["--tenant-allow-targets", "127.0.0.0/8"] };
        let settings =
            Program::parse_from(flags.into_iter().chain(more).chain(of_tenants.iter().chain(last).copied()))
                .settings;
        let (clock, since): (Arc<dyn Clock>, _) = (Arc::new(clock), Instant::now());
        let running = loop {
            let operators = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let tenants = TcpListener::bind("127.0.0.1:0").await.ok();
            let listeners = Listeners { operators, tenants };
            match companion::start(&settings, listeners, clock.clone()).await {
                Ok(running) => break running,
                // One that stopped in this very process may still hold the file for as long as a thread takes to end.
                Err(error) if is_held(&error) && since.elapsed() < PATIENCE => tokio::task::yield_now().await,
                Err(error) => return Err(format!("{error:#}")),
            }
        };
        Ok(Self { running, client: Client::builder(TokioExecutor::new()).build_http(), folder })
    }

    /// Stops gracefully and starts again on the same database.
    pub(crate) async fn restart(self) -> Self {
        self.running.stop().await;
        Self::start_in(self.folder, SystemClock).await
    }

    /// As [`Companion::restart`], with more flags; says why it does not start.
    pub(crate) async fn restart_with(self, flags: &[&str]) -> Result<Self, String> {
        self.running.stop().await;
        Self::try_start(self.folder, SystemClock, flags).await
    }

    /// As [`Companion::restart`], but its clock runs so many days ahead.
    pub(crate) async fn restart_days_later(self, days: i64) -> Self {
        self.running.stop().await;
        Self::start_in(self.folder, DaysAhead(days)).await
    }

    /// A route's URL.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.running.address)
    }

    /// A request at the listener for tenants, with these headers and nothing else.
    pub(crate) async fn public(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Answer {
        let url = format!("http://{}{path}", self.running.public_address.unwrap());
        self.send_to(method, &url, headers, body).await
    }

    /// A request that the gateway passes on for a tenant.
    pub(crate) async fn tenant(&self, tenant: &str, method: &str, path: &str, body: &str) -> Answer {
        let headers = [("x-gatehook-tenant", tenant), ("content-type", "application/json")];
        self.public(method, path, &headers, body.to_owned()).await
    }

    /// This time tomorrow, RFC 3339.
    pub(crate) fn tomorrow(&self) -> String {
        DaysAhead(1).now().to_string()
    }

    /// As [`Companion::restart_days_later`], with more flags.
    pub(crate) async fn restart_days_later_with(self, days: i64, flags: &[&str]) -> Self {
        self.running.stop().await;
        Self::start_with(self.folder, DaysAhead(days), flags).await
    }

    /// How often a text stands in any file beside the database, itself included.
    pub(crate) fn traces(&self, text: &str) -> usize {
        let files = std::fs::read_dir(&self.folder).unwrap().map(|entry| entry.unwrap().path());
        let count = |bytes: Vec<u8>| bytes.windows(text.len()).filter(|at| *at == text.as_bytes()).count();
        files.map(|path| count(std::fs::read(path).unwrap())).sum()
    }

    pub(crate) async fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Answer {
        self.send_to(method, &self.url(path), headers, body).await
    }

    async fn send_to(
        &self,
        method: &str,
        url: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Answer {
        let mut request = Request::builder().method(method).uri(url);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = self.client.request(request.body(Full::new(body.into())).unwrap()).await.unwrap();
        let (head, body) = response.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        let json = serde_json::from_slice(&bytes).unwrap_or_else(|_| String::from_utf8_lossy(&bytes).into());
        Answer { status: head.status.as_u16(), headers: head.headers, json }
    }

    /// A request with the admin token.
    pub(crate) async fn admin(&self, method: &str, path: &str, body: &str) -> Answer {
        let headers = [("authorization", "Bearer admin"), ("content-type", "application/json")];
        self.send(method, path, &headers, body.to_owned()).await
    }

    /// `POST /v1/events` with the ingest token.
    pub(crate) async fn ingest(&self, media_type: &str, body: &str) -> Answer {
        let headers = [("authorization", "Bearer ingest"), ("content-type", media_type)];
        self.send("POST", "/v1/events", &headers, body.to_owned()).await
    }

    /// Accepts one `contact.create` with this id.
    pub(crate) async fn contact_created(&self, id: &str) {
        let event = format!(
            r#"{{"specversion":"1.0","id":"{id}","source":"/t","type":"contact.create","data":{{"id":1}}}}"#
        );
        assert_eq!(self.ingest("application/cloudevents+json", &event).await.status, 202);
    }

    /// Waits until the catalogue knows an event type.
    pub(crate) async fn learnt(&self, event_type: &str) {
        while self.admin("GET", &format!("/v1/event-types/{event_type}"), "").await.status == 404 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Makes a subscription to everything; returns it with its secret.
    pub(crate) async fn subscribe(&self, target_url: &str) -> Value {
        let body = format!(r#"{{"target_url":"{target_url}","events":["*"]}}"#);
        let answer = self.admin("POST", "/v1/subscriptions", &body).await;
        assert_eq!(answer.status, 201, "{}", answer.json);
        answer.json
    }
}

impl Answer {
    /// The fields that a problem names.
    pub(crate) fn faults(&self) -> Vec<&str> {
        assert_eq!(self.headers["content-type"], "application/problem+json");
        assert_eq!(self.json["status"], self.status);
        let errors = self.json["errors"].as_array().map(Vec::as_slice).unwrap_or_default();
        errors.iter().map(|error| error["field"].as_str().unwrap()).collect()
    }
}

/// A receiver that answers each request with the next status, the last one for ever.
pub(crate) struct Receiver {
    pub(crate) url: String,
    received: Arc<Mutex<Vec<(HeaderMap, Bytes)>>>,
    count: watch::Sender<usize>,
}

impl Receiver {
    pub(crate) async fn start(statuses: &'static [u16]) -> Self {
        let received = Arc::new(Mutex::new(Vec::new()));
        let (count, _) = watch::channel(0);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/hook", listener.local_addr().unwrap());
        let (keep, tell) = (received.clone(), count.clone());
        let answer = move |headers: HeaderMap, body: Bytes| async move {
            let number = {
                let mut received = keep.lock().unwrap();
                received.push((headers, body));
                received.len()
            };
            tell.send_replace(number);
            (StatusCode::from_u16(statuses[(number - 1).min(statuses.len() - 1)]).unwrap(), "thanks")
        };
        tokio::spawn(async move { axum::serve(listener, Router::new().fallback(answer)).await });
        Self { url, received, count }
    }

    /// Waits until so many requests have come, and returns them.
    pub(crate) async fn received(&self, count: usize) -> Vec<(HeaderMap, Bytes)> {
        self.count.subscribe().wait_for(|seen| *seen >= count).await.unwrap();
        self.received.lock().unwrap().clone()
    }
}
