//! Metrics (Prometheus, OpenMetrics text) and the log.
//!
//! Logged never: secrets, tokens, bodies, whole target URLs. Metric labels come from fixed sets of words, so the number
//! of series does not grow with use.

use std::sync::atomic::AtomicI64;

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

/// One label with one of a few words.
type Words = Family<[(&'static str, &'static str); 1], Counter>;

/// What the companion counts.
pub struct Metrics {
    registry: Registry,
    /// `gatehook_events_total{result}`: accepted, repeated, refused.
    pub events: Words,
    /// `gatehook_unmatched_total`: writes that filters reported as fitting no rule.
    pub unmatched: Counter,
    /// `gatehook_deliveries_total{status}`: made, and how they ended.
    pub deliveries: Words,
    /// `gatehook_attempts_total{outcome}`.
    pub attempts: Words,
    /// `gatehook_attempt_duration_seconds`.
    pub attempt_duration: Histogram,
    /// `gatehook_attempts_in_flight`.
    pub attempts_in_flight: Gauge<i64, AtomicI64>,
    /// `gatehook_streams`: readers of `/v1/events/stream`.
    pub streams: Gauge<i64, AtomicI64>,
    /// `gatehook_breakers_open`: receivers that are only probed.
    pub breakers_open: Gauge<i64, AtomicI64>,
    /// `gatehook_subscriptions`.
    pub subscriptions: Gauge<i64, AtomicI64>,
    /// `gatehook_queue_up`: whether the queue between processes is there; 0 where there is none.
    pub queue_up: Gauge<i64, AtomicI64>,
    /// `gatehook_queue_forgotten`: deliveries that a queue was not told of since the start, and the sweep finds.
    pub queue_forgotten: Gauge<i64, AtomicI64>,
    /// `gatehook_catalogue_behind`: events accepted that the catalogue has not learnt from yet, as of its last round.
    pub catalogue_behind: Gauge<i64, AtomicI64>,
    /// `gatehook_pruned_total{kind}`: events and deliveries forgotten by age.
    pub pruned: Words,
    /// `gatehook_disk_refusals_total`: requests with events that were refused because the disk was nearly full.
    pub disk_refusals: Counter,
    /// `gatehook_store_errors_total`: what the store did not do.
    pub store_errors: Counter,
}

impl Default for Metrics {
    fn default() -> Self {
        let bounds = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 15.0];
        let mut metrics = Self {
            registry: Registry::with_prefix("gatehook"),
            events: Words::default(),
            unmatched: Counter::default(),
            deliveries: Words::default(),
            attempts: Words::default(),
            attempt_duration: Histogram::new(bounds),
            attempts_in_flight: Gauge::default(),
            streams: Gauge::default(),
            breakers_open: Gauge::default(),
            subscriptions: Gauge::default(),
            queue_up: Gauge::default(),
            queue_forgotten: Gauge::default(),
            catalogue_behind: Gauge::default(),
            pruned: Words::default(),
            disk_refusals: Counter::default(),
            store_errors: Counter::default(),
        };
        let registry = &mut metrics.registry;
        registry.register("events", "Events offered, by result", metrics.events.clone());
        registry.register("unmatched", "Writes that fitted no rule of a filter", metrics.unmatched.clone());
        registry.register("deliveries", "Deliveries made and ended, by status", metrics.deliveries.clone());
        registry.register("attempts", "Attempts, by outcome", metrics.attempts.clone());
        registry.register(
            "attempt_duration_seconds",
            "Duration of attempts",
            metrics.attempt_duration.clone(),
        );
        registry.register("attempts_in_flight", "Attempts under way", metrics.attempts_in_flight.clone());
        registry.register("streams", "Event streams open", metrics.streams.clone());
        registry.register(
            "breakers_open",
            "Subscriptions whose receiver is only probed",
            metrics.breakers_open.clone(),
        );
        registry.register("subscriptions", "Subscriptions, on and off", metrics.subscriptions.clone());
        registry.register("queue_up", "Whether the queue is there", metrics.queue_up.clone());
        registry.register(
            "queue_forgotten",
            "Deliveries that the queue was not told of",
            metrics.queue_forgotten.clone(),
        );
        registry.register(
            "catalogue_behind",
            "Events that the catalogue has yet to learn from",
            metrics.catalogue_behind.clone(),
        );
        registry.register("pruned", "Events and deliveries forgotten by age", metrics.pruned.clone());
        registry.register(
            "disk_refusals",
            "Requests with events refused because the disk was nearly full",
            metrics.disk_refusals.clone(),
        );
        registry.register(
            "store_errors",
            "Operations that the store did not do",
            metrics.store_errors.clone(),
        );
        metrics
    }
}

impl Metrics {
    /// Counts one of a family's words.
    pub fn count(family: &Words, label: &'static str, word: &'static str, by: u64) {
        if by > 0 {
            family.get_or_create(&[(label, word)]).inc_by(by);
        }
    }

    /// The exposition in OpenMetrics text.
    pub fn text(&self) -> String {
        let mut text = String::new();
        // Writing into a string cannot fail.
        let _ = encode(&mut text, &self.registry);
        text
    }
}

/// What is logged unless `RUST_LOG` says otherwise. What goes wrong with a queue is told once, in a sentence of ours; its
/// client libraries would tell it a few times more, in their own words.
const LOGGED: &str = "info,aws_config=error,lapin=off";

/// Starts the log: JSON lines on standard error, plain where that is a terminal. `RUST_LOG` filters it.
pub fn start_log() {
    use std::io::IsTerminal;
    let filter = tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| LOGGED.into());
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    if std::io::stderr().is_terminal() {
        log.init();
    } else {
        log.json().flatten_event(true).init();
    }
}
