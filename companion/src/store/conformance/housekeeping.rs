//! Keeping what is kept, and bringing back what a clock has put too far ahead.

use std::time::Duration;

use super::*;
use crate::limits;
use crate::model::{Replay, ReplayKind, ReplayRange, ReplayStatus};
use crate::retry::later;

async fn count(bench: &Bench) -> usize {
    bench.store.events(EventQuery { limit: 99, ..Default::default() }).await.unwrap().len()
}

#[tokio::test]
async fn the_newest_events_are_told_from_the_rest_and_what_is_pending_stays() {
    for bench in Bench::all().await {
        assert_eq!(bench.store.first_kept(1).await.unwrap(), 0);
        bench.accept("pending", &["a"]).await;
        for id in ["1", "2", "3", "4"] {
            bench.accept(id, &[]).await;
        }
        for keep in [5, 6, u64::MAX] {
            assert_eq!(bench.store.first_kept(keep).await.unwrap(), 0);
        }
        let first = bench.store.first_kept(2).await.unwrap();
        let pruned = bench.store.prune(0, 99, at(-99), first).await.unwrap();
        assert_eq!((pruned.events, pruned.deliveries), (2, 0));
        assert_eq!(count(&bench).await, 3);
        let claimed = bench.claim("a", 9, 0).await.remove(0);
        bench.record(&claimed, 200, Verdict::Delivered, 1).await;
        let first = bench.store.first_kept(2).await.unwrap();
        let pruned = bench.store.prune(0, 99, at(-99), first).await.unwrap();
        assert_eq!((pruned.events, pruned.deliveries), (1, 1));
        let first = bench.store.first_kept(0).await.unwrap();
        assert_eq!(bench.store.prune(0, 99, at(-99), first).await.unwrap().events, 2);
    }
}

#[tokio::test]
async fn old_lines_of_the_audit_log_and_replays_that_ended_are_pruned_in_chunks() {
    for bench in Bench::all().await {
        for second in 0..5 {
            let entry = AuditEntry {
                at: at(second),
                actor: "admin".into(),
                action: "replay.create".into(),
                resource: second.to_string(),
                detail: None,
            };
            // Without events there is nothing to replay: it has ended when it is made.
            let replay = Replay {
                id: ReplayId(format!("rpl_{second}")),
                kind: ReplayKind::Recover,
                subscription: None,
                range: ReplayRange::default(),
                status: ReplayStatus::Running,
                first: 0,
                position: 0,
                last: 0,
                made: 0,
                created_at: at(second),
                ended_at: None,
            };
            let note = Note { audit: Some(entry), ..Note::default() };
            bench.store.create_replay(replay, note).await.unwrap();
        }
        let mut chunks = Vec::new();
        while chunks.last() != Some(&0) {
            chunks.push(bench.store.prune_log(2, 2, at(3)).await.unwrap());
        }
        assert_eq!(chunks, [4, 2, 0]);
        let lines = bench.store.audit(None, 9).await.unwrap();
        assert_eq!(lines.iter().map(|line| line.entry.resource.as_str()).collect::<Vec<_>>(), ["4", "3"]);
        let replays = bench.store.replays(ReplayQuery { limit: 9, ..Default::default() }).await.unwrap();
        assert_eq!(replays.iter().map(|replay| replay.id.as_str()).collect::<Vec<_>>(), ["rpl_4", "rpl_3"]);
    }
}

/// Accepts an event whose deliveries to `a` are made in order.
async fn in_order(bench: &Bench, id: &str, due_at: i64) {
    let event = new_event(id, &[]);
    let mut delivery = delivery(&format!("dlv_{id}"), "a", due_at);
    delivery.resource = Some("/contacts/1".into());
    bench.store.accept(vec![NewEvent { deliveries: vec![delivery], ..event }], at(0)).await.unwrap();
}

#[tokio::test]
async fn a_start_makes_due_what_waits_for_nobody() {
    for bench in Bench::all().await {
        in_order(&bench, "1", 0).await;
        in_order(&bench, "2", 0).await;
        in_order(&bench, "3", 0).await;
        assert_eq!(
            bench.store.release_all(at(1)).await.unwrap(),
            0,
            "the first of them is due, as it should be"
        );
        // No use case leaves such a row, a restored copy of another program's may.
        bench.run(&format!("UPDATE deliveries SET due_at = {}", i64::MAX));
        assert!(bench.claim("a", 9, 9).await.is_empty());
        assert_eq!(bench.store.release_all(at(9)).await.unwrap(), 1);
        let claimed = bench.claim("a", 9, 9).await;
        assert_eq!(claimed.iter().map(|claimed| claimed.id.as_str()).collect::<Vec<_>>(), ["dlv_1"]);
        bench.record(&claimed[0], 200, Verdict::Delivered, 9).await;
        assert_eq!(bench.claim("a", 9, 9).await.len(), 1, "the next has its turn");
    }
}

#[tokio::test]
async fn a_start_leaves_one_that_waits_for_a_later_event_that_is_tried_again() {
    for bench in Bench::all().await {
        in_order(&bench, "1", 0).await;
        let claimed = bench.claim("a", 9, 0).await.remove(0);
        bench.record(&claimed, 500, Verdict::Exhausted, 0).await;
        in_order(&bench, "2", 60).await;
        bench.store.redeliver(claimed.id, Note::default(), at(1)).await.unwrap();
        assert_eq!(bench.store.release_all(at(2)).await.unwrap(), 0);
        assert!(bench.claim("a", 9, 59).await.is_empty());
        assert_eq!(bench.claim("a", 9, 60).await[0].event.id, "2");
    }
}

#[tokio::test]
async fn a_start_brings_back_what_is_due_later_than_any_policy_says() {
    for bench in Bench::all().await {
        bench.accept("1", &["a", "b"]).await;
        let farthest = later(at(0), limits::DUE_FARTHEST);
        for (subscription, due_at) in
            [("a", farthest), ("b", farthest + jiff::SignedDuration::from_micros(1))]
        {
            let claimed = bench.claim(subscription, 9, 0).await.remove(0);
            bench.record(&claimed, 500, Verdict::Retry(due_at), 0).await;
        }
        assert_eq!(bench.store.release_all(at(0)).await.unwrap(), 1);
        assert_eq!(bench.store.due().await.unwrap(), [(sub("a"), farthest), (sub("b"), at(0))]);
    }
}

#[tokio::test]
async fn due_times_and_leases_go_back_with_the_clock_of_one_process_and_what_waits_does_not() {
    for bench in Bench::all().await {
        let hour = 3_600;
        for number in 0..limits::SHIFT_CHUNK + 5 {
            bench.accept(&format!("{number:04}"), &["many"]).await;
        }
        for claimed in bench.claim("many", 9_999, hour).await {
            bench.record(&claimed, 500, Verdict::Retry(at(2 * hour)), hour).await;
        }
        in_order(&bench, "first", 0).await;
        in_order(&bench, "second", 0).await;
        assert_eq!(bench.claim("a", 9, hour).await.len(), 1);
        bench.accept("due", &["b"]).await;
        // It was one hour, and is the beginning again.
        let shifted = bench.store.shift_due(Duration::from_secs(3_600), at(0)).await.unwrap();
        if bench.store.is_shared() {
            assert_eq!(shifted, 0, "its processes go by its clock");
            continue;
        }
        assert_eq!(shifted, limits::SHIFT_CHUNK + 6);
        let due = bench.store.due().await.unwrap();
        assert_eq!(due, [(sub("a"), at(60)), (sub("b"), at(0)), (sub("many"), at(hour))]);
        assert_eq!(bench.claim("a", 9, 60).await.len(), 1, "the second still waits for the first");
    }
}

#[tokio::test]
async fn secrets_are_sealed_again_under_a_new_key_in_chunks_and_nothing_else_changes() {
    for bench in Bench::all().await {
        for name in ["sub_1", "sub_2", "sub_3"] {
            let made = Subscription { credentials: Default::default(), ..subscription(name) };
            let made = if name == "sub_2" { subscription(name) } else { made };
            bench.store.create_subscription(made, Note::default()).await.unwrap();
        }
        assert_eq!(bench.store.reseal(9).await.unwrap(), 0, "all are under the key");
        let version = bench.store.version().await.unwrap();
        let bench = bench.reopen_with(vault(2).opening(&[1; 32])).await;
        assert_eq!(bench.store.reseal(2).await.unwrap(), 2);
        assert_eq!(bench.store.reseal(2).await.unwrap(), 1);
        assert_eq!(bench.store.reseal(2).await.unwrap(), 0);
        assert_eq!(bench.store.version().await.unwrap(), version);
        let bench = bench.reopen_with(vault(2)).await;
        let read = bench.store.subscription(&sub("sub_2")).await.unwrap();
        assert_eq!(format!("{read:?}"), format!("{:?}", subscription("sub_2")));
        assert_eq!(read.secrets, subscription("sub_2").secrets);
    }
}
