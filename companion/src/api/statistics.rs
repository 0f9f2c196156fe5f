//! `GET /v1/statistics`: deliveries, failures and latency over time, for charts.
//!
//! Steps begin at whole multiples of their length since the epoch, so that a chart which is drawn again shows the same bars.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{Extension, State};
use axum::http::StatusCode;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::Api;
use super::access::Caller;
use super::error::Problem;
use super::request::{Params, timestamp};
use crate::limits;
use crate::members::Fault;
use crate::model::SubscriptionId;
use crate::retry::duration;
use crate::statistics::{Counts, HOUR_S, MINUTE_S, Percentiles, beginning, owner};
use crate::store::{Chart, ChartQuery, Group, StoreError};

const DAY_S: i64 = 24 * HOUR_S;

/// Lengths of a step where the caller names none, in seconds; beyond the last, whole weeks.
const STEPS_S: [i64; 10] = [
    MINUTE_S,
    5 * MINUTE_S,
    15 * MINUTE_S,
    30 * MINUTE_S,
    HOUR_S,
    2 * HOUR_S,
    4 * HOUR_S,
    8 * HOUR_S,
    12 * HOUR_S,
    DAY_S,
];

/// Parameters of a chart.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ChartParams {
    subscription: Option<String>,
    #[serde(rename = "type")]
    event_type: Option<String>,
    from: Option<String>,
    to: Option<String>,
    step: Option<String>,
    group: Option<String>,
}

/// A chart as the API shows it.
#[derive(Debug, Serialize)]
pub(super) struct Representation {
    from: String,
    to: String,
    step_s: i64,
    data: Vec<Step>,
    #[serde(skip_serializing_if = "Option::is_none")]
    groups: Option<Vec<Sum>>,
}

/// One step of a chart.
#[derive(Debug, Serialize)]
struct Step {
    at: String,
    #[serde(flatten)]
    shown: Shown,
}

/// The whole range of one subscription or event type.
#[derive(Debug, Serialize)]
struct Sum {
    key: String,
    #[serde(flatten)]
    shown: Shown,
}

/// Counts as the API shows them.
#[derive(Debug, Serialize)]
struct Shown {
    attempts: i64,
    delivered: i64,
    failed: i64,
    exhausted: i64,
    duration_ms: Option<Percentiles>,
}

impl From<&Counts> for Shown {
    fn from(counts: &Counts) -> Self {
        let Counts { attempts, delivered, failed, exhausted, .. } = *counts;
        Self { attempts, delivered, failed, exhausted, duration_ms: counts.percentiles() }
    }
}

/// A chart of what the caller may see; every step of its range is there.
pub(super) async fn chart(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Caller>,
    Params(params): Params<ChartParams>,
) -> Result<Json<Representation>, Problem> {
    let mut frame = Frame::read(&params, api.clock.now()).map_err(unreadable)?;
    let mut chart = read(&api, &caller, &params, frame).await?;
    // Where there are too many minutes, hours are fewer rows of the same counts.
    if chart.is_none() && params.step.is_none() && frame.step_s < HOUR_S {
        frame = frame.in_hours();
        chart = read(&api, &caller, &params, frame).await?;
    }
    let chart = chart.ok_or_else(|| {
        let narrower =
            "more is counted there than a chart looks at: choose a later `from`, a subscription or a type";
        Problem::fields(vec![Fault::new("from", narrower)])
    })?;
    Ok(Json(representation(chart, frame)))
}

/// What was counted; `None` where that is more than a chart looks at.
async fn read(
    api: &Api,
    caller: &Caller,
    params: &ChartParams,
    Frame { from, to, step_s, group }: Frame,
) -> Result<Option<Chart>, Problem> {
    let query = ChartQuery {
        from,
        to,
        step_s,
        subscriptions: seen(api, caller.tenant(), params.subscription.clone()).await?,
        owner: caller.tenant().map(|tenant| owner(Some(tenant))),
        event_type: params.event_type.clone(),
        group,
        most_groups: limits::CHART_GROUPS,
        most_rows: limits::CHART_ROWS,
    };
    Ok(api.store.statistics(query).await?)
}

/// A chart with every step of its range.
fn representation(chart: Chart, Frame { from, to, step_s, group }: Frame) -> Representation {
    let mut counted = chart.steps.into_iter().peekable();
    let (mut data, mut at) = (Vec::new(), from);
    while at < to {
        let counts = counted.next_if(|(step, _)| *step == at).map(|(_, counts)| counts).unwrap_or_default();
        data.push(Step { at: at.to_string(), shown: (&counts).into() });
        let Ok(next) = Timestamp::from_second(at.as_second() + step_s) else { break };
        at = next;
    }
    let groups = chart.groups.into_iter().map(|(key, counts)| Sum { key, shown: (&counts).into() });
    let groups = group.map(|_| groups.collect());
    Representation { from: from.to_string(), to: to.to_string(), step_s, data, groups }
}

/// A problem that names all parameters at fault.
fn unreadable(faults: Vec<Fault>) -> Problem {
    let problem = Problem::new(StatusCode::BAD_REQUEST, "the request cannot be read");
    faults.into_iter().fold(problem, |problem, fault| problem.with(fault.pointer, fault.detail))
}

/// The subscriptions that are asked for and that the caller may see; `None`: all.
async fn seen(
    api: &Api,
    tenant: Option<&str>,
    asked: Option<String>,
) -> Result<Option<Vec<SubscriptionId>>, Problem> {
    let asked = asked.map(SubscriptionId);
    let Some(tenant) = tenant else { return Ok(asked.map(|id| vec![id])) };
    api.replica.catch_up().await.map_err(StoreError::Unavailable)?;
    let own = api.directory.of_tenant(tenant);
    match asked {
        None => Ok(Some(own)),
        Some(id) if own.contains(&id) => Ok(Some(vec![id])),
        Some(_) => Err(Problem::not_found("subscription")),
    }
}

/// What a chart covers, in whole steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Frame {
    from: Timestamp,
    to: Timestamp,
    step_s: i64,
    group: Option<Group>,
}

impl Frame {
    /// Reads the parameters; where they say nothing, the last day in steps of which a screen has room for all.
    fn read(params: &ChartParams, now: Timestamp) -> Result<Self, Vec<Fault>> {
        let mut faults = Vec::new();
        let to = time("to", params.to.as_deref(), &mut faults).unwrap_or(now);
        let from = time("from", params.from.as_deref(), &mut faults).unwrap_or_else(|| before(to, DAY_S));
        let step_s = params.step.as_deref().and_then(|text| match step(text) {
            Ok(step_s) => Some(step_s),
            Err(detail) => {
                faults.push(Fault::new("step", detail));
                None
            }
        });
        let group = match params.group.as_deref() {
            None => None,
            Some("subscription") => Some(Group::Subscription),
            Some("type") => Some(Group::EventType),
            Some(_) => {
                faults.push(Fault::new("group", "must be one of subscription, type"));
                None
            }
        };
        if faults.is_empty() && from >= to {
            let field = if params.from.is_some() { "from" } else { "to" };
            faults.push(Fault::new(field, "`from` must be earlier than `to`"));
        }
        if !faults.is_empty() {
            return Err(faults);
        }
        let oldest_minute =
            before(now, i64::try_from(limits::STATISTICS_MINUTES.as_secs()).unwrap_or(i64::MAX));
        let step_s = step_s.unwrap_or_else(|| fitting(from, to, oldest_minute));
        let frame = Self { from: beginning(from, step_s), to: end(to, step_s), step_s, group };
        frame.check(from < oldest_minute)?;
        Ok(frame)
    }

    /// The same range, or a little more, in steps of an hour.
    fn in_hours(self) -> Self {
        Self { from: beginning(self.from, HOUR_S), to: end(self.to, HOUR_S), step_s: HOUR_S, ..self }
    }

    fn check(&self, is_beyond_minutes: bool) -> Result<(), Vec<Fault>> {
        let most = limits::CHART_STEPS_MOST;
        if self.steps() > most {
            let detail = format!("must be longer for this range: a chart has at most {most} steps");
            return Err(vec![Fault::new("step", detail)]);
        }
        if is_beyond_minutes && self.step_s % HOUR_S != 0 {
            let hours = limits::STATISTICS_MINUTES.as_secs() / 3_600;
            let detail = format!("must be whole hours where `from` is more than {hours} hours ago");
            return Err(vec![Fault::new("step", detail)]);
        }
        Ok(())
    }

    fn steps(&self) -> i64 {
        (self.to.as_second() - self.from.as_second()) / self.step_s
    }
}

fn time(field: &str, text: Option<&str>, faults: &mut Vec<Fault>) -> Option<Timestamp> {
    let read = timestamp(text?);
    read.map_err(|detail| faults.push(Fault::new(field, detail))).ok()
}

/// A step in seconds.
fn step(text: &str) -> Result<i64, String> {
    let whole = |step: &Duration| !step.is_zero() && step.as_millis().is_multiple_of(60_000);
    let step = duration(text, limits::RETENTION_MOST_DAYS)?;
    match i64::try_from(step.as_secs()) {
        Ok(seconds) if whole(&step) => Ok(seconds),
        _ => Err("must be whole minutes, such as 1m, 15m or 1h".to_owned()),
    }
}

/// The shortest step of which there are no more than [`limits::CHART_STEPS`].
fn fitting(from: Timestamp, to: Timestamp, oldest_minute: Timestamp) -> i64 {
    let fits = |step_s: &i64| {
        let frame =
            Frame { from: beginning(from, *step_s), to: end(to, *step_s), step_s: *step_s, group: None };
        frame.steps() <= limits::CHART_STEPS && (*step_s % HOUR_S == 0 || from >= oldest_minute)
    };
    let weeks = (to.as_second() - from.as_second()) / (limits::CHART_STEPS - 1) / (7 * DAY_S) + 1;
    STEPS_S.into_iter().find(fits).unwrap_or(weeks * 7 * DAY_S)
}

/// The end of the step that a time lies in, or the time itself where one begins there.
fn end(time: Timestamp, step_s: i64) -> Timestamp {
    let begin = beginning(time, step_s);
    if begin == time {
        return time;
    }
    Timestamp::from_second(begin.as_second().saturating_add(step_s)).unwrap_or(begin)
}

/// A time less so many seconds, at least the beginning of time.
fn before(time: Timestamp, seconds: i64) -> Timestamp {
    Timestamp::from_second(time.as_second().saturating_sub(seconds)).unwrap_or(Timestamp::MIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Timestamp {
        "2026-03-04T12:34:56.7Z".parse().unwrap()
    }

    fn params(query: &[(&str, &str)]) -> ChartParams {
        let mut params = ChartParams::default();
        for (name, value) in query {
            let field = match *name {
                "from" => &mut params.from,
                "to" => &mut params.to,
                "step" => &mut params.step,
                _ => &mut params.group,
            };
            *field = Some((*value).to_owned());
        }
        params
    }

    #[track_caller]
    fn check(query: &[(&str, &str)], from: &str, to: &str, step_s: i64) {
        let frame = Frame::read(&params(query), now()).unwrap();
        let shown = (frame.from.to_string(), frame.to.to_string(), frame.step_s);
        assert_eq!(shown, (from.to_owned(), to.to_owned(), step_s), "{query:?}");
        assert!(query.iter().any(|(name, _)| *name == "step") || frame.steps() <= limits::CHART_STEPS);
    }

    #[test]
    fn a_chart_covers_whole_steps_and_chooses_them_so_that_they_fit() {
        check(&[], "2026-03-03T12:30:00Z", "2026-03-04T12:45:00Z", 900);
        check(&[("step", "1m")], "2026-03-03T12:34:00Z", "2026-03-04T12:35:00Z", 60);
        check(&[("from", "2026-03-04T11:00:00Z")], "2026-03-04T11:00:00Z", "2026-03-04T12:35:00Z", 60);
        check(&[("to", "2026-03-01T00:00:00Z")], "2026-02-28T00:00:00Z", "2026-03-01T00:00:00Z", HOUR_S);
        check(
            &[("from", "2026-02-02T12:00:00Z")],
            "2026-02-02T08:00:00Z",
            "2026-03-04T16:00:00Z",
            8 * HOUR_S,
        );
        check(
            &[("from", "2026-02-02T12:00:00Z"), ("step", "1d")],
            "2026-02-02T00:00:00Z",
            "2026-03-05T00:00:00Z",
            DAY_S,
        );
        let old = [("from", "0001-01-01T00:00:00Z"), ("to", "9999-12-01T00:00:00Z")];
        assert!(Frame::read(&params(&old), now()).unwrap().steps() <= limits::CHART_STEPS);
    }

    #[test]
    fn every_fault_is_named() {
        for (query, fields) in [
            (
                &[("from", "now"), ("to", ""), ("step", "1"), ("group", "tenant")][..],
                &["to", "from", "step", "group"][..],
            ),
            (&[("step", "90s")], &["step"]),
            (&[("step", "0m")], &["step"]),
            (&[("step", "500ms")], &["step"]),
            (&[("step", "4000d")], &["step"]),
            (&[("from", "2026-03-05T00:00:00Z")], &["from"]),
            (&[("from", "2026-03-01T00:00:00Z"), ("to", "2026-03-01T00:00:00Z")], &["from"]),
            (&[("from", "2026-03-01T00:00:00Z"), ("step", "30m")], &["step"]),
            (&[("from", "2025-03-01T00:00:00Z"), ("step", "1h")], &["step"]),
        ] {
            let faults = Frame::read(&params(query), now()).unwrap_err();
            let found: Vec<_> = faults.iter().map(|fault| fault.pointer.as_str()).collect();
            assert_eq!(found, fields, "{query:?}");
        }
    }
}
