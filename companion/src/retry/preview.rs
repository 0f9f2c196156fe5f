//! When would attempts 1 … n run, were each to end the same way?

use jiff::Timestamp;
use serde::Serialize;

use super::{Policy, Progress, Verdict, later};
use crate::model::Outcome;

/// One attempt of a preview.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Planned {
    /// 1 for the first.
    pub number: u32,
    /// Without jitter.
    pub at: Timestamp,
    /// With all jitter one way.
    pub earliest: Timestamp,
    /// With all jitter the other way.
    pub latest: Timestamp,
}

impl Policy {
    /// The attempts of a delivery made at `from` if each ends with `outcome`, at once. Where a longest age cuts the last
    /// attempts off, the fewest that jitter can lead to are shown.
    pub fn preview(&self, outcome: &Outcome, from: Timestamp) -> Vec<Planned> {
        let times = [0.5, 0.0, 1.0].map(|jitter| self.times(outcome, from, jitter));
        let [at, earliest, latest] = &times;
        let all = at.iter().zip(earliest).zip(latest).zip(1..);
        all.map(|(((at, earliest), latest), number)| Planned {
            number,
            at: *at,
            earliest: *earliest,
            latest: *latest,
        })
        .collect()
    }

    fn times(&self, outcome: &Outcome, from: Timestamp, jitter: f64) -> Vec<Timestamp> {
        let mut times = vec![later(from, self.first())];
        loop {
            let (step, now) = (times.len() as u32, times.last().copied().unwrap_or(from));
            let progress = Progress { step, began_at: from, failing_since: None };
            match self.judge(outcome, progress, now, jitter) {
                Verdict::Retry(due_at) => times.push(due_at),
                _ => return times,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[expect(clippy::needless_pass_by_value, reason = "a table of literals reads better without ampersands")]
    fn check(policy: serde_json::Value, outcome: &Outcome, expected: &[(i64, i64, i64)]) {
        let policy = Policy::parse(&policy, "").unwrap();
        let planned = policy.preview(outcome, Timestamp::UNIX_EPOCH);
        let seconds: Vec<_> = planned
            .iter()
            .map(|planned| (planned.at.as_second(), planned.earliest.as_second(), planned.latest.as_second()))
            .collect();
        assert_eq!(seconds, expected, "{policy:?}");
    }

    #[test]
    fn a_preview_says_when_each_attempt_would_run() {
        let failed = |status, retry_after_s| Outcome::Answered { status, retry_after_s, instruction: None };
        let fixed = json!({"policy": "fixed", "delay": "10s", "attempts": 3, "jitter": 0.5});
        check(fixed.clone(), &failed(500, None), &[(0, 0, 0), (10, 5, 15), (20, 10, 30)]);
        check(fixed.clone(), &failed(503, Some(60)), &[(0, 0, 0), (60, 60, 60), (120, 120, 120)]);
        check(fixed, &failed(410, None), &[(0, 0, 0)]);
        check(
            json!({"policy": "fixed", "delay": "10s", "longest_age": "25s", "jitter": 0}),
            &failed(500, None),
            &[(0, 0, 0), (10, 10, 10), (20, 20, 20)],
        );
        check(json!({"policy": "standard", "on": {"4xx": "none"}}), &failed(404, None), &[(0, 0, 0)]);
    }
}
