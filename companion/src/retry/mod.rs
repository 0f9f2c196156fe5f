//! What an attempt's outcome means: delivered, again at a time, or over.
//!
//! Pure: outcome, progress, `now` and jitter in [0, 1) go in, a [`Verdict`] comes out. The meaning of answers is design
//! §3; when the next attempt is due says the subscription's [`Policy`].

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::limits;
use crate::model::{Instruction, Outcome};

mod policy;
mod preview;

pub use policy::Policy;
pub use preview::Planned;

/// What becomes of a delivery after an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It arrived.
    Delivered,
    /// The next attempt is due at this time.
    Retry(Timestamp),
    /// That was the last attempt.
    Exhausted,
    /// The receiver gave this delivery up; why.
    Cancelled(&'static str),
    /// The receiver wants no more: the subscription goes off; why.
    Off(&'static str),
}

/// How far a delivery has come when an attempt ends.
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    /// Attempts of this round, the one that has just ended included: 1 for the first.
    pub step: u32,
    /// When this round began: when the delivery was made, or last redelivered.
    pub began_at: Timestamp,
    /// Since when every attempt of its subscription has failed.
    pub failing_since: Option<Timestamp>,
}

impl Policy {
    /// What the outcome of an attempt means at `now`; `jitter` is in [0, 1).
    pub fn judge(&self, outcome: &Outcome, progress: Progress, now: Timestamp, jitter: f64) -> Verdict {
        let mut not_before = Duration::ZERO;
        if let Outcome::Answered { status, retry_after_s, instruction } = outcome {
            match (status, instruction) {
                (_, Some(Instruction::Disable)) => {
                    return Verdict::Off("the receiver answered webhook-delivery: disable");
                }
                (410, _) => return Verdict::Off("the receiver answered 410 Gone"),
                (200..=299, _) => return Verdict::Delivered,
                (_, Some(Instruction::AbortMessage)) => {
                    return Verdict::Cancelled("the receiver answered webhook-delivery: abort-message");
                }
                (429 | 503, _) => {
                    not_before = Duration::from_secs(retry_after_s.unwrap_or(0)).min(limits::RETRY_AFTER);
                }
                _ => {}
            }
        }
        let failing_since = progress.failing_since.unwrap_or(now);
        if later(failing_since, limits::FAILING) <= now {
            return Verdict::Off("every attempt failed for 5 days");
        }
        let policy = self.for_outcome(outcome);
        let Some(delay) = policy.delay(progress.step.saturating_add(1)) else {
            return Verdict::Exhausted;
        };
        let due_at = later(now, policy.jittered(delay, jitter).max(not_before));
        match policy.longest_age() {
            Some(longest) if due_at > later(progress.began_at, longest) => Verdict::Exhausted,
            _ => Verdict::Retry(due_at),
        }
    }
}

/// `now` plus a delay, at most the end of time.
pub fn later(now: Timestamp, delay: Duration) -> Timestamp {
    SignedDuration::try_from(delay)
        .ok()
        .and_then(|delay| now.checked_add(delay).ok())
        .unwrap_or(Timestamp::MAX)
}

/// `Retry-After` (RFC 9110 §10.2.3) as seconds from `now`: a number of seconds or an HTTP date; else `None`.
pub fn retry_after_s(value: &str, now: Timestamp) -> Option<u64> {
    let value = value.trim();
    if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) {
        return Some(value.parse().unwrap_or(u64::MAX));
    }
    let date = Timestamp::try_from(httpdate::parse_http_date(value).ok()?).ok()?;
    Some(u64::try_from(date.as_second().saturating_sub(now.as_second())).unwrap_or(0))
}

/// A duration with its unit: `500ms`, `5s`, `5m`, `2h`, `1d`; at most so many days. A number without a unit is an error.
pub fn duration(text: &str, most_days: u64) -> Result<Duration, String> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let wrong = || format!("`{text}` is not a duration: a whole number and ms, s, m, h or d, such as 5s");
    let number: u64 = number.parse().map_err(|_| wrong())?;
    let millis = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err(wrong()),
    };
    match number.checked_mul(millis) {
        Some(total) if total <= most_days.saturating_mul(86_400_000) => Ok(Duration::from_millis(total)),
        _ => Err(format!("`{text}` is longer than {most_days} days")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn answered(status: u16) -> Outcome {
        Outcome::Answered { status, retry_after_s: None, instruction: None }
    }

    fn progress(step: u32) -> Progress {
        Progress { step, began_at: Timestamp::UNIX_EPOCH, failing_since: None }
    }

    fn check(outcome: &Outcome, step: u32, expected: &Verdict) {
        let verdict = Policy::default().judge(outcome, progress(step), Timestamp::UNIX_EPOCH, 0.5);
        assert_eq!(&verdict, expected, "{outcome:?} at {step}");
    }

    fn at(seconds: i64) -> Verdict {
        Verdict::Retry(Timestamp::from_second(seconds).unwrap())
    }

    #[test]
    fn each_outcome_means_what_the_design_says() {
        check(&answered(200), 1, &Verdict::Delivered);
        check(&answered(204), 10, &Verdict::Delivered);
        check(&answered(500), 1, &at(5));
        check(&answered(404), 2, &at(300));
        check(&answered(302), 1, &at(5));
        check(&Outcome::TimedOut, 9, &at(24 * 3600));
        check(&Outcome::Unreachable("refused".into()), 10, &Verdict::Exhausted);
        check(&answered(410), 1, &Verdict::Off("the receiver answered 410 Gone"));
        let disable =
            Outcome::Answered { status: 200, retry_after_s: None, instruction: Some(Instruction::Disable) };
        check(&disable, 1, &Verdict::Off("the receiver answered webhook-delivery: disable"));
        let abort = Outcome::Answered {
            status: 422,
            retry_after_s: None,
            instruction: Some(Instruction::AbortMessage),
        };
        check(&abort, 1, &Verdict::Cancelled("the receiver answered webhook-delivery: abort-message"));
    }

    #[test]
    fn retry_after_moves_an_attempt_later_never_earlier_and_never_past_a_day() {
        let limited =
            |status, seconds| Outcome::Answered { status, retry_after_s: Some(seconds), instruction: None };
        check(&limited(429, 60), 1, &at(60));
        check(&limited(503, 60), 1, &at(60));
        check(&limited(503, 60), 2, &at(300));
        check(&limited(500, 60), 1, &at(5));
        check(&limited(429, u64::MAX), 1, &at(24 * 3600));
        check(&limited(429, 60), 10, &Verdict::Exhausted);
    }

    #[test]
    fn retry_after_is_read_as_seconds_or_as_a_date() {
        let now: Timestamp = "2015-10-21T07:28:00Z".parse().unwrap();
        assert_eq!(retry_after_s("120", now), Some(120));
        assert_eq!(retry_after_s(" 0 ", now), Some(0));
        assert_eq!(retry_after_s("Wed, 21 Oct 2015 07:30:00 GMT", now), Some(120));
        assert_eq!(retry_after_s("Wed, 21 Oct 2015 07:00:00 GMT", now), Some(0));
        assert_eq!(retry_after_s("99999999999999999999999", now), Some(u64::MAX));
        for nonsense in ["", "soon", "-1", "1.5"] {
            assert_eq!(retry_after_s(nonsense, now), None, "{nonsense}");
        }
    }

    #[test]
    fn a_subscription_goes_off_after_five_days_of_failures_only() {
        let day = |n: i64| Timestamp::from_second(n * 24 * 3600).unwrap();
        let judge = |outcome: &Outcome, since, now| {
            let progress = Progress { step: 1, began_at: now, failing_since: since };
            Policy::default().judge(outcome, progress, now, 0.5)
        };
        let off = Verdict::Off("every attempt failed for 5 days");
        assert_eq!(judge(&answered(500), Some(day(1)), day(6)), off);
        assert_eq!(judge(&Outcome::TimedOut, Some(day(1)), day(7)), off);
        assert!(matches!(judge(&answered(500), Some(day(2)), day(6)), Verdict::Retry(_)));
        assert!(matches!(judge(&answered(500), None, day(6)), Verdict::Retry(_)));
        assert_eq!(judge(&answered(200), Some(day(1)), day(6)), Verdict::Delivered);
    }

    #[test]
    fn no_attempt_is_planned_past_the_longest_age() {
        let policy =
            serde_json::json!({"policy": "fixed", "delay": "1m", "longest_age": "150s", "jitter": 0});
        let policy = Policy::parse(&policy, "").unwrap();
        let judge =
            |now| policy.judge(&answered(500), progress(1), Timestamp::from_second(now).unwrap(), 0.5);
        assert_eq!(judge(90), at(150));
        assert_eq!(judge(91), Verdict::Exhausted);
    }

    proptest! {
        #[test]
        fn a_retry_is_never_early_nor_more_than_a_fifth_late(step in 1u32..10, jitter in 0.0f64..1.0) {
            let now = Timestamp::from_second(1_700_000_000).unwrap();
            let policy = Policy::default();
            let delay = policy.delay(step + 1).unwrap().as_secs_f64();
            let Verdict::Retry(due_at) = policy.judge(&answered(500), progress(step), now, jitter) else { panic!("no retry") };
            let waited = due_at.duration_since(now).as_secs_f64();
            prop_assert!((delay * 0.799..=delay * 1.201).contains(&waited), "{} of {}", waited, delay);
        }
    }
}
