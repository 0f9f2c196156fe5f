//! Retry policies, and the headers and settings that speak of time: nothing is due too early, too late, or for ever.

use std::time::Duration;

use anyhow::{Result, ensure};
use companion::limits;
use companion::model::Outcome;
use companion::rate::Rate;
use companion::retry::{self, Policy, Progress, Verdict, later};
use serde_json::Value;

use super::{NOW, Reading, Target, parts};

pub(super) const TARGET: Target = Target {
    name: "retry",
    percent: 8,
    words: &[
        "policy",
        "standard",
        "exponential",
        "linear",
        "fixed",
        "schedule",
        "none",
        "delays",
        "attempts",
        "longest_age",
        "jitter",
        "first",
        "factor",
        "most",
        "step",
        "delay",
        "on",
        "404",
        "4xx",
        "timed_out",
        "unreachable",
        "0s",
        "5m",
        "30d",
        "31d",
        "1500ms",
        "2h",
        "99999999999999999999s",
        "100/s",
        "1/h",
        "Fri, 31 Dec 9999 23:59:59 GMT",
        "Thu, 01 Jan 1970 00:00:00 GMT",
        "0.5",
        "1e308",
    ],
    play,
    bytes: 256 << 10,
    per_byte: 128,
};

fn play(input: &[u8]) -> Result<Reading> {
    let [policy, text] = parts(input);
    if let Ok(text) = std::str::from_utf8(text) {
        texts(text)?;
    }
    let Ok(value) = serde_json::from_slice::<Value>(policy) else { return Ok(Reading::refused("no JSON")) };
    let policy = match Policy::parse(&value, "/retry") {
        Ok(policy) => policy,
        Err(faults) => {
            let below = faults.iter().all(|fault| fault.pointer.starts_with("/retry"));
            ensure!(below, "a fault is below the field: {faults:?}");
            return Reading::faulty(&faults);
        }
    };
    let wait = std::str::from_utf8(text).ok().and_then(|text| retry::retry_after_s(text, NOW));
    let mut planned = String::new();
    for status in [200, 302, 404, 410, 429, 500, 503] {
        let outcome = Outcome::Answered { status, retry_after_s: wait, instruction: None };
        planned.push_str(&judged(&policy, &outcome)?);
    }
    planned.push_str(&judged(&policy, &Outcome::TimedOut)?);
    planned.push_str(&judged(&policy, &Outcome::Unreachable(String::new()))?);
    Ok(Reading::taken(&planned))
}

/// How many attempts there are; each is due within bounds.
fn judged(policy: &Policy, outcome: &Outcome) -> Result<String> {
    let most = u32::try_from(limits::RETRY_STEPS)?;
    let mut step = 0;
    for jitter in [0.0, 0.5, 1.0 - f64::EPSILON] {
        for at in 1..=most + 1 {
            let progress = Progress { step: at, began_at: NOW, failing_since: None };
            match policy.judge(outcome, progress, NOW, jitter) {
                Verdict::Retry(due) => {
                    ensure!(
                        due >= NOW && due <= later(NOW, limits::DUE_FARTHEST),
                        "due within bounds: {due}"
                    );
                    ensure!(at < most, "attempts end: one more after {at}");
                    step = at;
                }
                _ => break,
            }
        }
    }
    Ok(format!("{} ", step.checked_ilog2().map_or(0, |log| log + 1)))
}

fn texts(text: &str) -> Result<()> {
    if let Ok(rate) = text.parse::<Rate>() {
        ensure!(rate.to_string() == text && rate.per_second() > 0.0, "a rate reads as it is written: {text}");
    }
    if let Ok(duration) = retry::duration(text, 30) {
        ensure!(duration <= Duration::from_secs(30 * 86_400), "a duration is bounded: {text}");
    }
    if let Ok(policy) = text.parse::<Policy>() {
        judged(&policy, &Outcome::TimedOut)?;
    }
    // Any number will do, as long as there is one: what is obeyed of it is bounded by the policy.
    let _ = retry::retry_after_s(text, NOW);
    Ok(())
}
