//! Committed writes that fit no rule, counted by the shape of their path, for the companion to show.
//!
//! What is reported is told once and added up there. An answer that does not come leaves the counts as they were, so a
//! shape may be counted twice, which is better than not at all: these numbers point at rules that are missing.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::json::push_string;
use crate::rules::Method;

/// Shapes that are kept between two reports, and the companion's bound for one; further ones are counted in the metric alone.
const MOST_SHAPES: usize = 100;

/// Soon enough for someone who waits for it, and rare enough to cost nothing.
const FIRST_REPORT: Duration = Duration::from_secs(1);
const NEXT_REPORT: Duration = Duration::from_secs(10);

/// What waits to be reported to one destination.
#[derive(Debug, Default)]
pub struct Unmatched {
    shapes: BTreeMap<(Method, String), Tally>,
    /// What a report under way has told.
    told: Option<BTreeMap<(Method, String), Tally>>,
    /// Since when the next report is waited for, and how long.
    wait: Option<(Duration, Duration)>,
    reported: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Tally {
    count: u64,
    status: u16,
}

impl Unmatched {
    /// Counts a write of this shape; `status` is what the API answered.
    pub fn add(&mut self, method: Method, shape: String, status: u16, now: Duration) {
        // A request target that is no path (`OPTIONS *` and its like) points at no rule, and the companion takes paths alone.
        if !shape.starts_with('/') {
            return;
        }
        let room = self.shapes.len() < MOST_SHAPES;
        let key = (method, shape);
        match self.shapes.get_mut(&key) {
            Some(tally) => *tally = Tally { count: tally.count.saturating_add(1), status },
            None if room => drop(self.shapes.insert(key, Tally { count: 1, status })),
            None => return,
        }
        let length = if self.reported { NEXT_REPORT } else { FIRST_REPORT };
        self.wait.get_or_insert((now, length));
    }

    /// How long until a report is due; zero if it is, `None` if there is nothing to report.
    pub fn wait_left(&mut self, now: Duration) -> Option<Duration> {
        if self.shapes.is_empty() || self.told.is_some() {
            return None;
        }
        let (since, length) = self.wait.as_mut()?;
        // The clock was set back: the wait starts anew.
        *since = (*since).min(now);
        Some(length.saturating_sub(now.saturating_sub(*since)))
    }

    /// The report that is due, as JSON.
    pub fn take(&mut self, source: &str, now: Duration) -> Option<Vec<u8>> {
        if self.wait_left(now) != Some(Duration::ZERO) {
            return None;
        }
        let shapes = std::mem::take(&mut self.shapes);
        let mut json = b"{\"source\":".to_vec();
        push_string(&mut json, source);
        json.extend_from_slice(b",\"shapes\":[");
        for (index, ((method, shape), Tally { count, status })) in shapes.iter().enumerate() {
            json.extend_from_slice(if index == 0 { b"{\"method\":" } else { b",{\"method\":" });
            push_string(&mut json, method.name());
            json.extend_from_slice(b",\"path\":");
            push_string(&mut json, shape);
            json.extend_from_slice(format!(",\"count\":{count},\"status\":{status}}}").as_bytes());
        }
        json.extend_from_slice(b"]}");
        (self.told, self.reported, self.wait) = (Some(shapes), true, Some((now, NEXT_REPORT)));
        Some(json)
    }

    /// The report under way was taken, or has to be told again.
    pub fn settle(&mut self, taken: bool, now: Duration) {
        let told = self.told.take().unwrap_or_default();
        if taken {
            return;
        }
        for (key, tally) in told {
            let own = self.shapes.entry(key).or_insert(Tally { count: 0, status: tally.status });
            own.count = own.count.saturating_add(tally.count);
        }
        self.wait = Some((now, NEXT_REPORT));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn report(unmatched: &mut Unmatched, now: u64) -> Option<serde_json::Value> {
        unmatched.take("gate\"way", seconds(now)).map(|json| serde_json::from_slice(&json).unwrap())
    }

    #[test]
    fn the_fixture_is_what_the_filter_reports() {
        let fixture = include_str!("../../tests/fixtures/unmatched.json");
        let mut unmatched = Unmatched::default();
        for (count, method, shape, status) in
            [(12, Method::Post, "/v1/graphql", 200), (3, Method::Put, "/v1/users/{id}/settings", 204)]
        {
            (0..count).for_each(|_| unmatched.add(method, shape.into(), status, seconds(1)));
        }
        let report = unmatched.take("gatehook", seconds(2)).unwrap();
        assert_eq!(String::from_utf8(report).unwrap(), fixture.trim_end());
    }

    #[test]
    fn counts_are_told_once_and_again_only_after_a_failure() {
        let mut unmatched = Unmatched::default();
        assert_eq!(unmatched.wait_left(seconds(0)), None);
        for status in [200, 204] {
            unmatched.add(Method::Post, "/v1/graphql".into(), status, seconds(10));
        }
        assert!(report(&mut unmatched, 10).is_none(), "not at once");
        let first = report(&mut unmatched, 11).unwrap();
        let shape = serde_json::json!({"method": "POST", "path": "/v1/graphql", "status": 204, "count": 2});
        assert_eq!(first, serde_json::json!({"source": "gate\"way", "shapes": [shape]}));
        unmatched.add(Method::Put, "/v1/settings".into(), 200, seconds(12));
        assert!(report(&mut unmatched, 100).is_none(), "one at a time");
        unmatched.settle(false, seconds(100));
        unmatched.add(Method::Post, "/v1/graphql".into(), 200, seconds(101));
        assert!(report(&mut unmatched, 109).is_none(), "a failure is waited out");
        let again = report(&mut unmatched, 110).unwrap();
        assert_eq!(
            (&again["shapes"][0]["count"], &again["shapes"][1]["path"]),
            (&3.into(), &"/v1/settings".into())
        );
        unmatched.settle(true, seconds(110));
        assert_eq!(unmatched.wait_left(seconds(1_000)), None);
    }

    #[test]
    fn shapes_are_bounded_and_a_clock_set_back_delays_no_report_for_ever() {
        let mut unmatched = Unmatched::default();
        unmatched.add(Method::Post, "(not a path)".into(), 200, seconds(1_000));
        assert_eq!(unmatched.wait_left(seconds(2_000)), None);
        for n in 0..300 {
            unmatched.add(Method::Put, format!("/a{n}"), 200, seconds(1_000));
        }
        assert_eq!(unmatched.wait_left(seconds(5)), Some(FIRST_REPORT));
        let told = report(&mut unmatched, 6).unwrap();
        assert_eq!(told["shapes"].as_array().unwrap().len(), MOST_SHAPES);
    }
}
