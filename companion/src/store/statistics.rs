//! What a store keeps for charts: counts of attempts that are added up, and read in steps.
//!
//! [`Charts`] is part of every [`super::Store`]; it stands apart because accepting and delivering need none of it.

use async_trait::async_trait;
use jiff::Timestamp;

use super::StoreError;
use crate::model::SubscriptionId;
use crate::statistics::{Counts, HOUR_S, MINUTE_S, NUMBERS, Row};

/// Columns of [`Counts::numbers`], in its order.
pub(super) const COUNTS: [&str; NUMBERS] = [
    "attempts",
    "delivered",
    "failed",
    "exhausted",
    "d0",
    "d1",
    "d2",
    "d3",
    "d4",
    "d5",
    "d6",
    "d7",
    "d8",
    "d9",
    "d10",
    "d11",
    "d12",
    "d13",
    "d14",
    "d15",
    "d16",
    "d17",
    "d18",
    "d19",
];

/// What a chart shows.
#[derive(Clone, Debug)]
pub struct ChartQuery {
    /// Its beginning, a whole number of steps since the epoch.
    pub from: Timestamp,
    /// Its end, likewise; not part of it.
    pub to: Timestamp,
    /// A whole number of minutes. Where it is one of hours, the counts of hours are read.
    pub step_s: i64,
    /// Of these subscriptions; `None`: of all.
    pub subscriptions: Option<Vec<SubscriptionId>>,
    /// While they belonged to this [`crate::statistics::owner`]; `None`: to anybody.
    pub owner: Option<i64>,
    /// Of this event type.
    pub event_type: Option<String>,
    /// By what the whole range is summed up besides.
    pub group: Option<Group>,
    /// Groups at most, those with most attempts.
    pub most_groups: usize,
    /// Rows to look at, at most.
    pub most_rows: usize,
}

impl ChartQuery {
    /// Of which resolution the rows are that it reads.
    pub(super) fn resolution_s(&self) -> i64 {
        if self.step_s % HOUR_S == 0 { HOUR_S } else { MINUTE_S }
    }

    /// Whether it has to read rows of single subscriptions for its groups.
    pub(super) fn groups_subscriptions(&self) -> bool {
        self.group == Some(Group::Subscription)
    }

    /// The beginning of one of its steps.
    pub(super) fn step(&self, number: i64) -> Timestamp {
        let second = self.from.as_second().saturating_add(number.saturating_mul(self.step_s));
        Timestamp::from_second(second).unwrap_or(self.to)
    }
}

/// By what counts are summed up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    /// Each subscription for itself.
    Subscription,
    /// Each event type for itself.
    EventType,
}

/// Answer to [`Charts::statistics`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Chart {
    /// By the beginning of their step, those alone that have any.
    pub steps: Vec<(Timestamp, Counts)>,
    /// By subscription or event type, most attempts first.
    pub groups: Vec<(String, Counts)>,
}

/// The use cases of keeping counts for charts.
#[async_trait]
pub trait Charts: Send + Sync {
    /// Adds counts to those that are kept; the rows are sorted, each key once. Those of subscriptions that are gone are passed
    /// over. Survives the process, and on an error nothing was added.
    async fn add_statistics(&self, rows: Vec<Row>) -> Result<(), StoreError>;
    /// Sums counts up; `None` where that takes looking at more rows than the query allows.
    async fn statistics(&self, query: ChartQuery) -> Result<Option<Chart>, StoreError>;
    /// Removes up to `limit` rows of minutes that began before one time, and up to `limit` of hours before the other; returns
    /// how many of both.
    async fn prune_statistics(
        &self,
        minutes_before: Timestamp,
        hours_before: Timestamp,
        limit: usize,
    ) -> Result<usize, StoreError>;
}
