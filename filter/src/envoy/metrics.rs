//! Counters, gathered in the VM and given to Envoy on the tick.
//!
//! A host call costs more than a microsecond, so an exchange counts in memory alone. Envoy adds the workers up. The gauge
//! moves by differences, because all workers share it and the last to write an absolute value would win.

use std::collections::BTreeMap;

use proxy_wasm::types::MetricType;

use super::host;

/// What is counted; each name is one in `/stats/prometheus`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Counter {
    Observed,
    HandedOver,
    Repeated,
    Refused,
    Retried,
    Dropped,
    Thin,
    Unmatched,
    TenantMissing,
    Fetched,
    FetchFailed,
    Held,
    HoldTimedOut,
    HoldSkipped,
    Failed,
}

impl Counter {
    const ALL: [Self; 15] = [
        Self::Observed,
        Self::HandedOver,
        Self::Repeated,
        Self::Refused,
        Self::Retried,
        Self::Dropped,
        Self::Thin,
        Self::Unmatched,
        Self::TenantMissing,
        Self::Fetched,
        Self::FetchFailed,
        Self::Held,
        Self::HoldTimedOut,
        Self::HoldSkipped,
        Self::Failed,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Observed => "gatehook_observed",
            Self::HandedOver => "gatehook_handed_over",
            Self::Repeated => "gatehook_repeated",
            Self::Refused => "gatehook_refused",
            Self::Retried => "gatehook_retried",
            Self::Dropped => "gatehook_dropped",
            Self::Thin => "gatehook_thin",
            Self::Unmatched => "gatehook_unmatched",
            Self::TenantMissing => "gatehook_tenant_missing",
            Self::Fetched => "gatehook_fetched",
            Self::FetchFailed => "gatehook_fetch_failed",
            Self::Held => "gatehook_held",
            Self::HoldTimedOut => "gatehook_hold_timed_out",
            Self::HoldSkipped => "gatehook_hold_skipped",
            Self::Failed => "gatehook_failed",
        }
    }
}

/// Envoy never frees a metric, so only so many event types have their own; the rest share one.
const MOST_TYPES: usize = 100;

/// All counts of one VM.
#[derive(Debug, Default)]
pub(super) struct Metrics {
    /// In the order of [`Counter::ALL`].
    counters: [Tally; Counter::ALL.len()],
    types: BTreeMap<String, Tally>,
    outbox: Tally,
    dirty: bool,
}

/// One metric: what is not yet told, and the host's name for it.
#[derive(Debug, Default)]
struct Tally {
    pending: i64,
    id: Option<u32>,
}

impl Metrics {
    /// Counts.
    pub(super) fn add(&mut self, counter: Counter, count: usize) {
        if let Some(tally) = self.counters.get_mut(counter as usize).filter(|_| count > 0) {
            tally.add(count);
            self.dirty = true;
        }
    }

    /// Counts an observed event under its type.
    pub(super) fn add_type(&mut self, event_type: &str) {
        self.add(Counter::Observed, 1);
        if let Some(tally) = self.types.get_mut(event_type) {
            return tally.add(1);
        }
        let name = if self.types.len() < MOST_TYPES { event_type } else { "other" };
        self.types.entry(name.to_owned()).or_default().add(1);
    }

    /// Moves the size of the outbox.
    pub(super) fn move_outbox(&mut self, before: usize, after: usize) {
        let size = |events: usize| i64::try_from(events).unwrap_or(i64::MAX);
        self.outbox.pending += size(after) - size(before);
        self.dirty |= before != after;
    }

    /// Whether something is not yet told.
    pub(super) fn is_dirty(&self) -> bool {
        self.dirty
    }

    /// Tells Envoy.
    pub(super) fn flush(&mut self) {
        if !std::mem::take(&mut self.dirty) {
            return;
        }
        let mut told = self.outbox.tell(MetricType::Gauge, "gatehook_outbox_events");
        for (event_type, tally) in &mut self.types {
            if tally.pending > 0 {
                told &= tally.tell(MetricType::Counter, &format!("gatehook_observed_by_type.{event_type}"));
            }
        }
        if !told {
            self.add(Counter::Failed, 1);
            self.dirty = false;
        }
        // All are told from the first time on, also at zero, so that a rate can be taken from the first event on.
        for (counter, tally) in Counter::ALL.into_iter().zip(&mut self.counters) {
            // A counter that cannot be told keeps its count for the next time.
            tally.tell(MetricType::Counter, counter.name());
        }
    }
}

impl Tally {
    fn add(&mut self, count: usize) {
        self.pending = self.pending.saturating_add(i64::try_from(count).unwrap_or(i64::MAX));
    }

    fn tell(&mut self, kind: MetricType, name: &str) -> bool {
        if self.pending == 0 && self.id.is_some() {
            return true;
        }
        // Envoy refuses to add nothing to a counter, but by then the counter is defined and shows as zero.
        let told = host::add(&mut self.id, kind, name, self.pending);
        let nothing = self.pending == 0;
        if told {
            self.pending = 0;
        }
        told || nothing
    }
}
