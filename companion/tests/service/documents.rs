//! What the README says is what the code does: a receiver's answer, and the fields of a subscription.

use companion::model::{Instruction, Outcome};
use companion::retry::{Policy, Progress, Verdict};
use jiff::Timestamp;
use serde_json::Value;
use std::collections::BTreeSet;

use crate::client::{Companion, Receiver};

const README: &str = include_str!("../../README.md");

/// The rows of the table under a heading, cell by cell.
fn table(heading: &str) -> Vec<Vec<&'static str>> {
    let (_, text) = README.split_once(heading).unwrap();
    let rows =
        text.lines().skip_while(|line| !line.starts_with('|')).take_while(|line| line.starts_with('|'));
    let cells = |line: &'static str| line.trim_matches('|').split('|').map(str::trim).collect();
    rows.skip(2).map(cells).collect()
}

/// The statuses of a cell such as `300–409, 411`; all for `any`.
fn statuses(cell: &str) -> Vec<u16> {
    let range = |part: &str| {
        let (first, last) = part.split_once('–').unwrap_or((part, part));
        first.parse::<u16>().ok().zip(last.parse().ok()).map(|(first, last)| first..=last)
    };
    match cell {
        "any" => (200..=599).collect(),
        _ => cell.split(", ").filter_map(range).flatten().collect(),
    }
}

fn follows(outcome: &Outcome) -> String {
    let progress = Progress { step: 1, began_at: Timestamp::UNIX_EPOCH, failing_since: None };
    let judge = |outcome: &Outcome| Policy::default().judge(outcome, progress, Timestamp::UNIX_EPOCH, 0.5);
    match judge(outcome) {
        Verdict::Delivered => "delivered".into(),
        Verdict::Cancelled(_) => "cancelled".into(),
        Verdict::Off(_) => "off".into(),
        Verdict::Exhausted => "exhausted".into(),
        Verdict::Retry(soon) => {
            let Outcome::Answered { status, instruction, .. } = outcome else { return "retry".into() };
            let slow =
                Outcome::Answered { status: *status, retry_after_s: Some(3_600), instruction: *instruction };
            let waits = judge(&slow) != Verdict::Retry(soon);
            if waits { "retry, not before `retry-after`".into() } else { "retry".into() }
        }
    }
}

#[test]
fn the_table_of_answers_says_what_each_answer_does() {
    let mut plain = BTreeSet::new();
    for row in table("### What the answer means") {
        let instruction = match row[1] {
            "`disable`" => Some(Instruction::Disable),
            "`abort-message`" => Some(Instruction::AbortMessage),
            _ => None,
        };
        let statuses = statuses(row[0]);
        for status in &statuses {
            let outcome = Outcome::Answered { status: *status, retry_after_s: None, instruction };
            assert_eq!(follows(&outcome), row[2], "{} {}", row[0], row[1]);
            plain.extend(instruction.is_none().then_some(*status));
        }
        if statuses.is_empty() {
            for outcome in [Outcome::TimedOut, Outcome::Unreachable("".into()), Outcome::Blocked("".into())] {
                assert_eq!(follows(&outcome), row[2], "{}", row[0]);
            }
        }
    }
    assert_eq!(plain, (200..=599).collect(), "every status stands in the table");
}

#[test]
fn the_table_of_policies_names_them_all() {
    let named: Vec<_> =
        table("### Retries").into_iter().map(|row| row[0].trim_matches('`').to_owned()).collect();
    assert_eq!(named, Policy::WORDS);
    let (_, text) = README.split_once("### Retries").unwrap();
    let example = text.split("```json").nth(1).unwrap().split("```").next().unwrap();
    Policy::parse(&serde_json::from_str(example).unwrap(), "").unwrap();
}

#[tokio::test]
async fn the_table_of_a_subscriptions_fields_is_what_the_api_takes_and_shows() {
    let mut named = BTreeSet::new();
    for row in table("## A subscription") {
        let names = row[0].split(", ").map(|name| name.trim_matches('`').to_owned());
        let read_only = row[1] == "ours";
        named.extend(names.map(|name| (name, read_only)));
    }
    let companion = Companion::start().await;
    let receiver = Receiver::start(&[200]).await;
    let made = companion.subscribe(&receiver.url).await;
    let shown: BTreeSet<String> = made.as_object().unwrap().keys().cloned().collect();
    assert_eq!(shown, named.iter().map(|(name, _)| name.clone()).collect());
    let path = format!("/v1/subscriptions/{}", made["id"].as_str().unwrap());
    for (name, read_only) in named {
        // No field takes a list of a list: one that is read says so, one of ours is ignored.
        let patch = Value::Object([(name.clone(), serde_json::json!([[]]))].into_iter().collect());
        let answer = companion.admin("PATCH", &path, &patch.to_string()).await;
        assert_eq!(answer.status, if read_only { 200 } else { 422 }, "{name}: {}", answer.json);
        let place = |fault: &str| fault.split('/').nth(1).map(str::to_owned);
        assert!(
            read_only || answer.faults().iter().all(|fault| place(fault) == Some(name.clone())),
            "{name}"
        );
    }
}
