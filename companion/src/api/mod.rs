//! The HTTP API: its routes.
//!
//! Handlers parse, ask rules and store, and answer; they decide nothing. What a gateway POSTs, events and unmatched
//! writes, has its own token, so that a gateway which may hand over events cannot read or change subscriptions.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::{CONTENT_TYPE, HeaderName};
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, patch, post};
use tokio::sync::{Notify, Semaphore};

use crate::board::Board;
use crate::clock::Clock;
use crate::directory::{Directory, Entry};
use crate::disk::Disk;
use crate::feed::Feed;
use crate::keys::SigningKeys;
use crate::limits;
use crate::model::SubscriptionId;
use crate::queue::Queue;
use crate::replica::Replica;
use crate::sender::Sender;
use crate::store::{Store, StoreError};
use crate::telemetry::Metrics;
use access::{Caller, require_admin, require_ingest};
use error::Problem;
use tenants::{require_gateway, require_tenant};

pub use access::{Access, TokenHash};
pub use subscription::rehearse as rehearse_subscription;
pub use tenants::Tenants;

mod access;
mod audit;
mod deliveries;
mod delivery_request;
mod erase;
mod error;
mod event_types;
mod events;
mod keys;
mod openapi;
mod portal;
mod portal_links;
mod replays;
mod request;
mod session;
mod statistics;
mod subscription;
mod subscriptions;
mod tenants;
mod tokens;
mod unmatched;

/// Marks an acknowledgement as ours: a 2xx of a proxy in between does not bear it.
const ACK: HeaderName = HeaderName::from_static("gatehook-ack");

/// What the handlers share.
pub struct Api {
    /// The truth.
    pub store: Arc<dyn Store>,
    /// The subscriptions.
    pub directory: Arc<Directory>,
    /// What wakes the worker.
    pub board: Arc<Board>,
    /// For pings.
    pub sender: Sender,
    /// On whose behalf receivers are asked, a DNS name.
    pub origin: String,
    /// The API's public base URL, without a slash at its end.
    pub base_url: Option<String>,
    /// Who comes through the API's own gateway, and how much of it.
    pub tenants: Tenants,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// What signs for subscriptions that want no shared secret.
    pub keys: Arc<SigningKeys>,
    /// Who may do what.
    pub access: Arc<Access>,
    /// What wakes the workers of other processes, where something does.
    pub queue: Option<Arc<dyn Queue>>,
    /// Keeps this process's copies as the store has them.
    pub replica: Arc<Replica>,
    /// What those watch who follow events.
    pub feed: Feed,
    /// Told when a replay was asked for.
    pub replays: Arc<Notify>,
    /// Room for ingest bodies in memory, in KiB.
    pub ingest_room: Arc<Semaphore>,
    /// Whether there is room for more events on disk.
    pub disk: Disk,
    /// Whose pages may show the portal in a frame.
    pub embed_origins: Vec<String>,
}

impl Api {
    /// A subscription as the store has it by now, whichever process has changed it, that the caller may see.
    async fn entry(&self, caller: &Caller, id: &SubscriptionId) -> Result<Arc<Entry>, Problem> {
        let own = |entry: &Arc<Entry>| caller.sees(entry.subscription.tenant.as_deref());
        self.known(id).await?.filter(own).ok_or_else(|| Problem::not_found("subscription"))
    }

    /// As [`Api::entry`], whoever may see it.
    async fn known(&self, id: &SubscriptionId) -> Result<Option<Arc<Entry>>, Problem> {
        self.replica.catch_up().await.map_err(StoreError::Unavailable)?;
        Ok(self.directory.get(id))
    }
}

/// A semaphore for [`Api::ingest_room`].
pub fn ingest_room() -> Arc<Semaphore> {
    Arc::new(Semaphore::new(limits::INGEST_IN_FLIGHT >> 10))
}

/// All routes.
pub fn router(api: Arc<Api>) -> Router {
    let admin = Router::new()
        .nest("/v1", of_everybody())
        .route("/v1/events", get(events::list))
        .route("/v1/events/stream", get(events::stream))
        .route("/v1/events/{id}", get(events::read))
        .route("/v1/event-types/{id}", patch(event_types::patch).delete(event_types::delete))
        .route("/v1/deliveries/redeliver", post(replays::recover_many))
        .route("/v1/portal-links", post(portal_links::create))
        .route("/v1/unmatched", get(unmatched::list).delete(unmatched::forget))
        .route("/v1/signing-keys", get(keys::list))
        .route("/v1/signing-keys/rotate", post(keys::rotate))
        .route("/v1/tokens", get(tokens::list).post(tokens::create))
        .route("/v1/tokens/{id}", delete(tokens::delete))
        .route("/v1/erase", post(erase::erase))
        .route("/v1/audit", get(audit::list))
        .layer(from_fn_with_state(api.clone(), require_admin));
    let ingest = Router::new()
        .route("/v1/events", post(events::ingest))
        .route("/v1/unmatched", post(unmatched::report))
        .layer(from_fn_with_state(api.clone(), require_ingest));
    let router = operators()
        .route("/.well-known/jwks.json", get(keys::jwks))
        .route("/openapi.json", get(openapi::openapi))
        .merge(portal::router("/portal", &api.embed_origins))
        .merge(admin)
        .merge(ingest);
    refusing(router).with_state(api)
}

/// What operators do with everybody's subscriptions and deliveries, and each tenant with its own.
fn of_everybody() -> Router<Arc<Api>> {
    Router::new()
        .route("/session", get(session::read))
        .route("/subscriptions", get(subscriptions::list).post(subscriptions::create))
        .route(
            "/subscriptions/{id}",
            get(subscriptions::read)
                .put(subscriptions::replace)
                .patch(subscriptions::patch)
                .delete(subscriptions::delete),
        )
        .route("/subscriptions/{id}/rotate-secret", post(subscriptions::rotate_secret))
        .route("/subscriptions/{id}/ping", post(subscriptions::ping))
        .route("/subscriptions/{id}/retry-preview", get(subscriptions::retry_preview))
        .route("/subscriptions/{id}/recover", post(replays::recover_one))
        .route("/subscriptions/{id}/replay", post(replays::replay))
        .route("/replays", get(replays::list))
        .route("/replays/{id}", get(replays::read).delete(replays::cancel))
        .route("/deliveries", get(deliveries::list))
        .route("/deliveries/{id}", get(deliveries::read))
        .route("/deliveries/{id}/request", get(delivery_request::read))
        .route("/deliveries/{id}/redeliver", post(deliveries::redeliver))
        .route("/event-types", get(event_types::list))
        .route("/event-types/{id}", get(event_types::read))
        .route("/catalogue/openapi.json", get(event_types::as_openapi))
        .route("/catalogue/asyncapi.json", get(event_types::as_asyncapi))
        .route("/statistics", get(statistics::chart))
}

/// All routes of the listener behind the API's own gateway.
pub fn of_tenants(api: Arc<Api>) -> Router {
    let own = of_everybody().layer(from_fn_with_state(api.clone(), require_tenant));
    let open = Router::new()
        .route("/.well-known/jwks.json", get(keys::jwks))
        .route("/openapi.json", get(openapi::of_tenants));
    let portal = portal::router("/webhooks/portal", &api.embed_origins);
    let router = Router::new().nest("/webhooks", own.merge(open)).merge(portal);
    refusing(router).layer(from_fn_with_state(api.clone(), require_gateway)).with_state(api)
}

/// What a process serves that only delivers.
pub fn of_worker(api: Arc<Api>) -> Router {
    refusing(operators()).with_state(api)
}

fn operators() -> Router<Arc<Api>> {
    Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
}

/// Answers what is no route, or no method of it.
fn refusing(router: Router<Arc<Api>>) -> Router<Arc<Api>> {
    router.fallback(|| async { Problem::not_found("route") }).method_not_allowed_fallback(|| async {
        Problem::new(StatusCode::METHOD_NOT_ALLOWED, "not a method of this route")
    })
}

async fn ready(State(api): State<Arc<Api>>) -> Result<&'static str, Problem> {
    let answer = tokio::time::timeout(Duration::from_secs(2), api.store.ping()).await;
    answer.map_err(|_| Problem::busy("the store does not answer"))??;
    Ok(match api.disk.is_nearly_full(api.clock.elapsed()) {
        false => "ready\n",
        // What is pending still goes out, and a restart would make no room.
        true => "ready, but no events are taken: the disk is nearly full\n",
    })
}

async fn metrics(State(api): State<Arc<Api>>) -> Response {
    api.metrics.streams.set(i64::try_from(api.feed.streams()).unwrap_or(i64::MAX));
    if let Some(queue) = &api.queue {
        api.metrics.queue_up.set(queue.is_up().into());
        api.metrics.queue_forgotten.set(i64::try_from(queue.forgotten()).unwrap_or(i64::MAX));
    }
    api.metrics.subscriptions.set(i64::try_from(api.directory.count()).unwrap_or(i64::MAX));
    let media_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(CONTENT_TYPE, media_type)], api.metrics.text()).into_response()
}
