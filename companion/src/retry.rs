//! What an attempt's outcome means: delivered, again at a time, or over.
//!
//! Pure: outcome, number of the attempt, `now` and jitter in [0, 1) go in, a [`Verdict`] comes out. The schedule is
//! that of Standard Webhooks; the meaning of answers is design §3.

use std::str::FromStr;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::limits;
use crate::model::{Instruction, Outcome};

/// How far jitter moves an attempt, either way.
const JITTER: f64 = 0.2;

/// Delays before attempt 1, 2, …; after the last the delivery is exhausted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schedule(Vec<Duration>);

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

impl Default for Schedule {
    /// The schedule of Standard Webhooks: ten attempts over about three days.
    fn default() -> Self {
        let minutes = |n: u64| Duration::from_secs(n * 60);
        let hours = |n: u64| minutes(n * 60);
        Self(vec![
            Duration::ZERO,
            Duration::from_secs(5),
            minutes(5),
            minutes(30),
            hours(2),
            hours(5),
            hours(10),
            hours(14),
            hours(20),
            hours(24),
        ])
    }
}

impl Schedule {
    /// Delay before the first attempt.
    pub fn first(&self) -> Duration {
        self.0.first().copied().unwrap_or_default()
    }

    /// What `outcome` of the `step`th attempt of this round (1 for the first) means at `now`.
    pub fn judge(&self, outcome: &Outcome, step: u32, now: Timestamp, jitter: f64) -> Verdict {
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
        match self.0.get(step as usize) {
            None => Verdict::Exhausted,
            Some(delay) => {
                let delay = delay.mul_f64(1.0 + JITTER * (2.0 * jitter - 1.0)).max(not_before);
                Verdict::Retry(later(now, delay))
            }
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

impl FromStr for Schedule {
    type Err = String;

    /// Durations with a unit, separated by commas: `0s,5s,5m,30m,2h`.
    fn from_str(text: &str) -> Result<Self, String> {
        let steps = text
            .split(',')
            .map(|step| duration(step.trim(), LONGEST_DELAY_DAYS))
            .collect::<Result<Vec<_>, _>>()?;
        if steps.len() > limits::RETRY_STEPS {
            return Err(format!("{} attempts, at most {} are allowed", steps.len(), limits::RETRY_STEPS));
        }
        Ok(Self(steps))
    }
}

/// Longest delay before an attempt.
const LONGEST_DELAY_DAYS: u64 = 30;

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

    fn check(outcome: &Outcome, step: u32, expected: &Verdict) {
        assert_eq!(
            &Schedule::default().judge(outcome, step, Timestamp::UNIX_EPOCH, 0.5),
            expected,
            "{outcome:?} at {step}"
        );
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
    fn a_schedule_needs_units() {
        assert_eq!(
            "0s, 250ms,2m".parse(),
            Ok(Schedule(vec![Duration::ZERO, Duration::from_millis(250), Duration::from_secs(120)]))
        );
        for wrong in ["", "5", "5 s", "s", "5s,", "-1s", "31d", "99999999999999999999s"] {
            assert!(wrong.parse::<Schedule>().is_err(), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn a_retry_is_never_early_nor_more_than_a_fifth_late(step in 1u32..10, jitter in 0.0f64..1.0) {
            let now = Timestamp::from_second(1_700_000_000).unwrap();
            let schedule = Schedule::default();
            let delay = schedule.0[step as usize].as_secs_f64();
            let Verdict::Retry(due_at) = schedule.judge(&answered(500), step, now, jitter) else { panic!("no retry") };
            let waited = due_at.duration_since(now).as_secs_f64();
            prop_assert!((delay * 0.799..=delay * 1.201).contains(&waited), "{} of {}", waited, delay);
        }
    }
}
