//! The outbox case by case; `model` has the combinations.

use super::*;
use crate::event::tests::sample;

const LIMITS: Limits = Limits {
    outbox_events: 8,
    outbox_bytes: 100_000,
    batch_events: 4,
    batch_bytes: 10_000,
    linger: Duration::from_millis(5),
};
const NOW: Duration = Duration::from_secs(1_000);
const UNAVAILABLE: Answer = Answer::Unavailable { retry_after: None };

fn event(id: &str) -> Event {
    sample(id, "{\"a\":1}")
}

fn filled(count: usize) -> Outbox {
    let mut outbox = Outbox::new(LIMITS);
    for id in 0..count {
        assert_eq!(outbox.push(event(&id.to_string()), None), Pushed::Queued);
    }
    outbox
}

fn ids(sending: &Sending) -> Vec<String> {
    let events: Vec<serde_json::Value> = serde_json::from_slice(&sending.body).unwrap();
    events.iter().map(|event| event["id"].as_str().unwrap().to_owned()).collect()
}

fn acknowledged(accepted: usize) -> Answer {
    Answer::Acknowledged { accepted, repeated: 0, refused: 0 }
}

#[test]
fn batches_go_one_at_a_time_and_in_order() {
    let mut outbox = filled(6);
    let first = outbox.take(NOW, 1).unwrap();
    assert_eq!(ids(&first), ["0", "1", "2", "3"]);
    assert_eq!(outbox.take(NOW, 1), None);
    outbox.settle(first.number, acknowledged(4), NOW, 0.0);
    assert_eq!(ids(&outbox.take(NOW, 1).unwrap()), ["4", "5"]);
}

#[test]
fn a_failed_batch_comes_again_with_the_same_ids_after_a_wait() {
    let mut outbox = filled(2);
    let first = outbox.take(NOW, 1).unwrap();
    assert_eq!(first.retried, 0);
    outbox.settle(first.number, UNAVAILABLE, NOW, 0.0);
    assert_eq!(outbox.take(NOW, 1), None);
    let again = outbox.take(NOW + FIRST_BACKOFF, 1).unwrap();
    assert_eq!((ids(&again), again.retried), (ids(&first), 2));
}

#[test]
fn waits_double_up_to_their_bound_and_a_success_ends_them() {
    let mut outbox = filled(1);
    let mut now = NOW;
    let mut waits = Vec::new();
    for _ in 0..12 {
        let number = outbox.take(now, 1).unwrap().number;
        outbox.settle(number, UNAVAILABLE, now, 1.0);
        waits.push(outbox.wait_left(now).unwrap());
        now += *waits.last().unwrap();
    }
    assert_eq!(waits[..3], [FIRST_BACKOFF, FIRST_BACKOFF * 2, FIRST_BACKOFF * 4]);
    assert_eq!(waits.last(), Some(&LONGEST_BACKOFF));
    let number = outbox.take(now, 1).unwrap().number;
    outbox.settle(number, acknowledged(1), now, 1.0);
    assert_eq!(outbox.wait_left(now), None);
}

#[test]
fn retry_after_is_heeded_within_bounds() {
    for (asked, waited) in [(30, 30), (1_000_000, 60)] {
        let mut outbox = filled(1);
        let number = outbox.take(NOW, 1).unwrap().number;
        let retry_after = Some(Duration::from_secs(asked));
        outbox.settle(number, Answer::Unavailable { retry_after }, NOW, 0.5);
        assert_eq!(outbox.wait_left(NOW), Some(Duration::from_secs(waited)));
    }
}

#[test]
fn a_clock_set_back_does_not_prolong_a_wait() {
    let mut outbox = filled(1);
    let number = outbox.take(NOW, 1).unwrap().number;
    outbox.settle(number, UNAVAILABLE, NOW, 1.0);
    let earlier = NOW - Duration::from_secs(500);
    assert_eq!(outbox.take(earlier, 1), None);
    assert!(outbox.take(earlier + FIRST_BACKOFF, 1).is_some());
}

#[test]
fn an_event_too_large_is_found_by_halving_and_goes_thin() {
    let mut outbox = filled(4);
    let mut sizes = Vec::new();
    let thinned = loop {
        let sending = outbox.take(NOW, 1).unwrap();
        sizes.push(ids(&sending).len());
        let settled = outbox.settle(sending.number, Answer::TooLarge, NOW, 0.0);
        if settled.thinned > 0 {
            break settled;
        }
    };
    assert_eq!((sizes, thinned.thinned, thinned.dropped), (vec![4, 2, 1], 1, 0));
    let thin = outbox.take(NOW, 1).unwrap();
    assert!(String::from_utf8(thin.body).unwrap().contains("\"thin\":\"too_large\""));
}

#[test]
fn a_thin_event_that_is_still_too_large_is_dropped() {
    let mut outbox = filled(1);
    for expected in [(1, 0), (0, 1)] {
        let number = outbox.take(NOW, 1).unwrap().number;
        let settled = outbox.settle(number, Answer::TooLarge, NOW, 0.0);
        assert_eq!((settled.thinned, settled.dropped), expected);
    }
    assert!(outbox.is_empty());
    assert_eq!(outbox.bytes, 0);
}

#[test]
fn one_poisonous_event_takes_no_other_with_it() {
    let mut outbox = filled(8);
    let (mut accepted, mut dropped) = (Vec::new(), 0);
    while let Some(sending) = outbox.take(NOW, 1) {
        let inside = ids(&sending);
        if inside.contains(&"2".to_owned()) {
            dropped += outbox.settle(sending.number, Answer::Malformed, NOW, 0.0).dropped;
        } else {
            outbox.settle(sending.number, acknowledged(inside.len()), NOW, 0.0);
            accepted.extend(inside);
        }
    }
    assert_eq!((accepted, dropped), (["0", "1", "3", "4", "5", "6", "7"].map(str::to_owned).to_vec(), 1));
}

#[test]
fn a_full_outbox_drops_the_newest_and_says_so_once_a_burst() {
    let mut outbox = filled(8);
    assert_eq!(outbox.push(event("x"), None), Pushed::Dropped { first: true });
    assert_eq!(outbox.push(event("y"), None), Pushed::Dropped { first: false });
    for _ in 0..2 {
        let number = outbox.take(NOW, 1).unwrap().number;
        outbox.settle(number, acknowledged(4), NOW, 0.0);
    }
    for id in 0..8 {
        assert_eq!(outbox.push(event(&id.to_string()), None), Pushed::Queued);
    }
    assert_eq!(outbox.push(event("z"), None), Pushed::Dropped { first: true });
}

#[test]
fn an_event_larger_than_the_outbox_goes_thin() {
    let outbox_bytes = event("large").json().len() - 1;
    let mut outbox = Outbox::new(Limits { outbox_bytes, ..LIMITS });
    assert_eq!(outbox.push(event("large"), None), Pushed::Queued);
    assert!(String::from_utf8(outbox.take(NOW, 1).unwrap().body).unwrap().contains("too_large"));
}

#[test]
fn a_late_answer_for_a_batch_that_was_given_up_changes_nothing() {
    let mut outbox = filled(1);
    let number = outbox.take(NOW, 1).unwrap().number;
    let later = NOW + Duration::from_secs(20);
    assert_eq!(outbox.overdue(later, Duration::from_secs(10)), [number]);
    outbox.settle(number, UNAVAILABLE, later, 0.0);
    assert_eq!(outbox.settle(number, acknowledged(1), later, 0.0), Settled::default());
    assert_eq!(outbox.len(), 1);
}

#[test]
fn a_halved_batch_heeds_smaller_bounds_that_came_meanwhile() {
    let mut outbox = filled(8);
    let number = outbox.take(NOW, 1).unwrap().number;
    outbox.set_limits(Limits { batch_events: 1, ..LIMITS });
    outbox.settle(number, Answer::TooLarge, NOW, 0.0);
    assert_eq!(ids(&outbox.take(NOW, 1).unwrap()), ["0"]);
}
