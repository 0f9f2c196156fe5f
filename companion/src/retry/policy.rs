//! When the next attempt is due: a subscription's `retry`.
//!
//! Pure. A policy says the delay before attempt n, how many attempts there are and how old a delivery may grow; `on`
//! gives outcomes of one kind a policy of their own.

use std::str::FromStr;
use std::time::Duration;

use serde_json::Value;

use super::duration;
use crate::limits;
use crate::members::{Fault, Members, step};
use crate::model::Outcome;

/// How far jitter moves an attempt, either way, where the policy does not say.
const JITTER: f64 = 0.2;
/// Attempts of a policy that does not say how many.
const ATTEMPTS: u32 = 10;
/// Longest delay before an attempt, and longest age.
const LONGEST_DAYS: u64 = 30;

/// When attempts are made.
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    delays: Delays,
    attempts: u32,
    longest_age: Option<Duration>,
    jitter: f64,
    on: Vec<(Kind, Policy)>,
}

/// The delay before each attempt.
#[derive(Clone, Debug, PartialEq)]
enum Delays {
    /// Before attempt 1, 2, ….
    Schedule(Vec<Duration>),
    /// None before the first; then `first`, multiplied by `factor` each time, at most `most`.
    Exponential { first: Duration, factor: f64, most: Duration },
    /// None before the first; then `first`, growing by `step`, at most `most`.
    Linear { first: Duration, step: Duration, most: Duration },
    /// None before the first; then the same each time.
    Fixed(Duration),
}

/// Outcomes of one kind, the key of a member of `on`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// `"404"`
    Status(u16),
    /// `"4xx"`
    Class(u16),
    /// `"timed_out"`
    TimedOut,
    /// `"unreachable"`: no connection, or not one that is allowed.
    Unreachable,
}

impl Default for Policy {
    /// The schedule of Standard Webhooks: ten attempts over about three days.
    fn default() -> Self {
        let minutes = |n: u64| Duration::from_secs(n * 60);
        let hours = |n: u64| minutes(n * 60);
        Self::schedule(vec![
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

impl Policy {
    /// Names of policies, as they stand in a subscription's `retry`.
    pub const WORDS: &[&str] = &["standard", "exponential", "linear", "fixed", "schedule", "none"];

    fn schedule(delays: Vec<Duration>) -> Self {
        let attempts = u32::try_from(delays.len()).unwrap_or(u32::MAX);
        Self::of(Delays::Schedule(delays), attempts)
    }

    fn of(delays: Delays, attempts: u32) -> Self {
        Self { delays, attempts, longest_age: None, jitter: JITTER, on: Vec::new() }
    }

    /// Reads a policy that stands at the pointer `at`: an object with `policy` and its members, or the name alone.
    ///
    /// # Errors
    /// All faults at once, each with its place and what is allowed there.
    pub fn parse(value: &Value, at: &str) -> Result<Self, Vec<Fault>> {
        Self::read(value, at, true)
    }

    fn read(value: &Value, at: &str, may_branch: bool) -> Result<Self, Vec<Fault>> {
        let map = match value {
            Value::String(_) => serde_json::Map::from_iter([("policy".to_owned(), value.clone())]),
            Value::Object(map) => map.clone(),
            _ => {
                let detail =
                    "must be an object such as {\"policy\": \"exponential\"}, or the name of a policy";
                return Err(vec![Fault::new(at, detail)]);
            }
        };
        let mut members = Members::new(at, map);
        if !members.has("policy") {
            members.fault("policy", format!("is missing; one of {}", Self::WORDS.join(", ")));
        }
        let known = |text: &str| Self::WORDS.iter().find(|word| **word == text).copied();
        let word = members.word("policy", "standard", known, Self::WORDS);
        let mut policy = match word {
            "exponential" => Self::exponential(&mut members),
            "linear" => Self::linear(&mut members),
            "fixed" => {
                let delay = delay(&mut members, "delay", Duration::from_secs(60));
                Self::of(Delays::Fixed(delay), ATTEMPTS)
            }
            "schedule" => Self::schedule(schedule(&mut members, at)),
            "none" => Self::schedule(vec![Duration::ZERO]),
            _ => Self::default(),
        };
        if word != "none" {
            policy.attempts(&mut members);
            policy.longest_age = members.read("longest_age", |text| duration(text, LONGEST_DAYS));
            policy.jitter = members.number("jitter", 0.0..=0.5).unwrap_or(JITTER);
        }
        if may_branch {
            policy.on = branches(&mut members, at);
        }
        members.finish("this policy").map(|()| policy)
    }

    fn exponential(members: &mut Members) -> Self {
        Self::of(
            Delays::Exponential {
                first: delay(members, "first", Duration::from_secs(5)),
                factor: members.number("factor", 1.0..=10.0).unwrap_or(2.0),
                most: delay(members, "most", Duration::from_secs(12 * 3600)),
            },
            ATTEMPTS,
        )
    }

    fn linear(members: &mut Members) -> Self {
        let first = delay(members, "first", Duration::from_secs(60));
        let step = delay(members, "step", first);
        let most = delay(members, "most", Duration::from_secs(12 * 3600));
        Self::of(Delays::Linear { first, step, most }, ATTEMPTS)
    }

    /// A list of delays may be cut short by `attempts`, not made longer.
    fn attempts(&mut self, members: &mut Members) {
        let most = match &self.delays {
            Delays::Schedule(delays) => delays.len().max(1),
            _ => limits::RETRY_STEPS,
        };
        if let Some(attempts) = members.count("attempts", 1..=most as u64) {
            self.attempts = u32::try_from(attempts).unwrap_or(u32::MAX);
        }
    }

    /// Delay before attempt `number` (1 for the first); `None` where there is no such attempt.
    pub fn delay(&self, number: u32) -> Option<Duration> {
        if number == 0 || number > self.attempts {
            return None;
        }
        let repeats = number.saturating_sub(2);
        match &self.delays {
            Delays::Schedule(delays) => delays.get(number as usize - 1).copied(),
            _ if number == 1 => Some(Duration::ZERO),
            Delays::Exponential { first, factor, most } => {
                let seconds = first.as_secs_f64() * factor.powi(i32::try_from(repeats).unwrap_or(i32::MAX));
                Some(Duration::from_secs_f64(seconds.min(most.as_secs_f64())))
            }
            Delays::Linear { first, step, most } => {
                Some(step.saturating_mul(repeats).saturating_add(*first).min(*most))
            }
            Delays::Fixed(delay) => Some(*delay),
        }
    }

    /// Delay before the first attempt.
    pub fn first(&self) -> Duration {
        self.delay(1).unwrap_or_default()
    }

    /// How old a delivery may grow before no further attempt is made.
    pub(super) fn longest_age(&self) -> Option<Duration> {
        self.longest_age
    }

    /// A delay moved by `jitter` in [0, 1); one half leaves it where it is.
    pub(super) fn jittered(&self, delay: Duration, jitter: f64) -> Duration {
        delay.mul_f64(1.0 + self.jitter * (2.0 * jitter - 1.0))
    }

    /// The policy that an outcome falls under: that of its status, else of its class, else this one.
    pub(super) fn for_outcome(&self, outcome: &Outcome) -> &Self {
        let kinds = match outcome {
            Outcome::Answered { status, .. } => [Kind::Status(*status), Kind::Class(status / 100)],
            Outcome::TimedOut => [Kind::TimedOut; 2],
            Outcome::Unreachable(_) | Outcome::Blocked(_) => [Kind::Unreachable; 2],
        };
        let of = |kind| self.on.iter().find(|(own, _)| *own == kind).map(|(_, policy)| policy);
        kinds.into_iter().find_map(of).unwrap_or(self)
    }
}

impl FromStr for Policy {
    type Err = String;

    /// Delays before attempt 1, 2, …, with a unit, separated by commas: `0s,5s,5m,30m,2h`.
    fn from_str(text: &str) -> Result<Self, String> {
        let delays =
            text.split(',').map(|step| duration(step.trim(), LONGEST_DAYS)).collect::<Result<Vec<_>, _>>()?;
        if delays.len() > limits::RETRY_STEPS {
            return Err(format!("{} attempts, at most {} are allowed", delays.len(), limits::RETRY_STEPS));
        }
        Ok(Self::schedule(delays))
    }
}

impl FromStr for Kind {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const ALLOWED: &str = "is not a kind of outcome: a status from 300 to 599 (\"404\"), a class (\"3xx\", \"4xx\", \
                               \"5xx\"), \"timed_out\" or \"unreachable\"";
        match text {
            "timed_out" => Ok(Self::TimedOut),
            "unreachable" => Ok(Self::Unreachable),
            "3xx" => Ok(Self::Class(3)),
            "4xx" => Ok(Self::Class(4)),
            "5xx" => Ok(Self::Class(5)),
            _ => match text.parse() {
                Ok(status @ 300..=599) if text.len() == 3 => Ok(Self::Status(status)),
                _ => Err(ALLOWED),
            },
        }
    }
}

fn delay(members: &mut Members, name: &str, default: Duration) -> Duration {
    members.read(name, |text| duration(text, LONGEST_DAYS)).unwrap_or(default)
}

fn schedule(members: &mut Members, at: &str) -> Vec<Duration> {
    let allowed =
        format!("must be a list of 1 to {} durations, such as [\"0s\", \"5s\"]", limits::RETRY_STEPS);
    let Some(Value::Array(delays)) = members.take("delays") else {
        members.fault("delays", allowed);
        return Vec::new();
    };
    if delays.is_empty() || delays.len() > limits::RETRY_STEPS {
        members.fault("delays", allowed);
        return Vec::new();
    }
    let mut found = Vec::with_capacity(delays.len());
    for (index, delay) in delays.iter().enumerate() {
        let text = delay.as_str().ok_or_else(|| "must be a string such as 5s".to_owned());
        match text.and_then(|text| duration(text, LONGEST_DAYS)) {
            Ok(delay) => found.push(delay),
            Err(detail) => members.faults([Fault::new(format!("{at}/delays/{index}"), detail)]),
        }
    }
    found
}

fn branches(members: &mut Members, at: &str) -> Vec<(Kind, Policy)> {
    let mut found = Vec::new();
    for (name, value) in members.object("on").unwrap_or_default() {
        let place = format!("{at}/on{}", step(&name));
        match name.parse::<Kind>() {
            Ok(kind) => match Policy::read(&value, &place, false) {
                Ok(policy) => found.push((kind, policy)),
                Err(faults) => members.faults(faults),
            },
            Err(detail) => members.faults([Fault::new(place, detail)]),
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn delays(policy: &Policy) -> Vec<u64> {
        (1..).map_while(|number| policy.delay(number)).map(|delay| delay.as_secs()).collect()
    }

    #[expect(clippy::needless_pass_by_value, reason = "a table of literals reads better without ampersands")]
    fn check(policy: Value, expected: &[u64]) {
        assert_eq!(delays(&Policy::parse(&policy, "").unwrap()), expected, "{policy}");
    }

    #[test]
    fn each_policy_has_its_delays() {
        check(json!("standard"), &[0, 5, 300, 1800, 7200, 18000, 36000, 50400, 72000, 86400]);
        check(json!({"policy": "standard", "attempts": 3}), &[0, 5, 300]);
        check(
            json!({"policy": "exponential", "first": "1s", "factor": 3, "most": "20s", "attempts": 6}),
            &[0, 1, 3, 9, 20, 20],
        );
        check(
            json!({"policy": "linear", "first": "10s", "step": "5s", "most": "18s", "attempts": 5}),
            &[0, 10, 15, 18, 18],
        );
        check(json!({"policy": "fixed", "delay": "7s", "attempts": 3}), &[0, 7, 7]);
        check(json!({"policy": "schedule", "delays": ["1s", "2m"]}), &[1, 120]);
        check(json!("none"), &[0]);
        assert_eq!(delays(&Policy::parse(&json!("exponential"), "").unwrap()).len(), 10);
    }

    #[test]
    fn each_fault_names_its_place() {
        let check = |policy: Value, expected: &[&str]| {
            let faults = Policy::parse(&policy, "/retry").unwrap_err();
            let places: Vec<_> = faults.iter().map(|fault| fault.pointer.as_str()).collect();
            assert_eq!(places, expected, "{policy}");
        };
        check(json!(7), &["/retry"]);
        check(json!("never"), &["/retry/policy"]);
        check(json!({}), &["/retry/policy"]);
        check(json!({"policy": "fixed", "delay": "7", "attempts": 0}), &["/retry/delay", "/retry/attempts"]);
        check(json!({"policy": "fixed", "first": "7s"}), &["/retry/first"]);
        check(json!({"policy": "none", "attempts": 3}), &["/retry/attempts"]);
        check(json!({"policy": "schedule"}), &["/retry/delays"]);
        check(
            json!({"policy": "schedule", "delays": ["0s", 5, "31d"]}),
            &["/retry/delays/1", "/retry/delays/2"],
        );
        check(json!({"policy": "standard", "attempts": 11}), &["/retry/attempts"]);
        check(
            json!({"policy": "exponential", "factor": 0.5, "jitter": 0.6}),
            &["/retry/factor", "/retry/jitter"],
        );
        check(
            json!({"policy": "standard", "on": {"200": "none", "6xx": "none", "404": {"policy": "fixed", "on": {}}}}),
            &["/retry/on/200", "/retry/on/404/on", "/retry/on/6xx"],
        );
    }

    #[test]
    fn an_outcome_falls_under_the_nearest_policy() {
        let policy = json!({"policy": "fixed", "delay": "1s", "on": {
            "4xx": "none", "429": {"policy": "fixed", "delay": "2s"}, "timed_out": {"policy": "fixed", "delay": "3s"}
        }});
        let policy = Policy::parse(&policy, "").unwrap();
        let answered = |status| Outcome::Answered { status, retry_after_s: None, instruction: None };
        let second = |outcome: &Outcome| policy.for_outcome(outcome).delay(2).map(|delay| delay.as_secs());
        assert_eq!(second(&answered(500)), Some(1));
        assert_eq!(second(&answered(404)), None);
        assert_eq!(second(&answered(429)), Some(2));
        assert_eq!(second(&Outcome::TimedOut), Some(3));
        assert_eq!(second(&Outcome::Blocked(String::new())), Some(1));
    }

    #[test]
    fn a_schedule_of_the_command_line_needs_units() {
        assert_eq!(delays(&"0s, 1500ms,2m".parse().unwrap()), [0, 1, 120]);
        for wrong in ["", "5", "5 s", "s", "5s,", "-1s", "31d", "99999999999999999999s"] {
            assert!(wrong.parse::<Policy>().is_err(), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn delays_never_shrink_nor_pass_their_bound(
            first in 0u64..100_000, factor in 1.0f64..10.0, step in 0u64..100_000, most in 0u64..2_000_000, attempts in 1u32..50,
        ) {
            for policy in [
                json!({"policy": "exponential", "first": format!("{first}s"), "factor": factor, "most": format!("{most}s"), "attempts": attempts}),
                json!({"policy": "linear", "first": format!("{first}s"), "step": format!("{step}s"), "most": format!("{most}s"), "attempts": attempts}),
            ] {
                let delays = delays(&Policy::parse(&policy, "").unwrap());
                prop_assert_eq!(delays.len(), attempts as usize);
                prop_assert!(delays.is_sorted() && delays.iter().all(|delay| *delay <= most));
            }
        }
    }
}
