//! Replays and recoveries: every event of the range once, whatever happens in between.

use super::*;
use crate::model::{Replay, ReplayId, ReplayKind, ReplayRange, ReplayStatus};

fn new_replay(kind: ReplayKind, range: ReplayRange) -> Replay {
    Replay {
        id: ReplayId("rpl_1".into()),
        kind,
        subscription: Some(sub("a")),
        range,
        status: ReplayStatus::Running,
        first: 0,
        position: 0,
        last: 0,
        made: 0,
        created_at: at(100),
        ended_at: None,
    }
}

/// Events `1`, `2`, … accepted a second apart, for these subscriptions.
async fn accepted(bench: &Bench, count: i64, subscriptions: &[&str]) {
    for second in 1..=count {
        bench.store.accept(vec![new_event(&second.to_string(), subscriptions)], at(second)).await.unwrap();
    }
}

async fn ahead(bench: &Bench, limit: usize) -> Vec<(i64, String)> {
    let (events, _) = bench.store.replay_ahead(&ReplayId("rpl_1".into()), limit, 9).await.unwrap();
    events.into_iter().map(|accepted| (accepted.seq, accepted.event.id)).collect()
}

#[tokio::test]
async fn a_range_of_times_is_a_range_of_events() {
    let time = |second: Option<i64>| second.map(at);
    for (since, until, expected) in [
        (None, None, vec!["1", "2", "3", "4"]),
        (Some(2), None, vec!["2", "3", "4"]),
        (Some(2), Some(4), vec!["2", "3"]),
        (None, Some(1), vec![]),
        (Some(5), None, vec![]),
    ] {
        for bench in Bench::all().await {
            accepted(&bench, 4, &[]).await;
            let range = ReplayRange { since: time(since), until: time(until), ..ReplayRange::default() };
            let replay = bench
                .store
                .create_replay(new_replay(ReplayKind::Replay, range), Note::default())
                .await
                .unwrap();
            let found: Vec<_> = ahead(&bench, 9).await.into_iter().map(|(_, id)| id).collect();
            assert_eq!(found, expected, "{since:?} {until:?}");
            assert_eq!(replay.status == ReplayStatus::Done, expected.is_empty(), "{since:?} {until:?}");
            assert_eq!(replay.last - replay.first + 1, i64::try_from(expected.len()).unwrap());
        }
    }
}

#[tokio::test]
async fn a_replay_makes_each_delivery_once_and_goes_on_where_it_was() {
    for bench in Bench::all().await {
        accepted(&bench, 2, &["a"]).await;
        for id in ["3", "4"] {
            bench.accept(id, &[]).await;
        }
        let replay = new_replay(ReplayKind::Replay, ReplayRange::default());
        bench.store.create_replay(replay, Note::default()).await.unwrap();
        let id = ReplayId("rpl_1".into());
        let first = ahead(&bench, 3).await;
        assert_eq!(first.len(), 3);
        let position = first[2].0;
        let deliveries = |chunk: &[(i64, String)]| -> Vec<_> {
            chunk
                .iter()
                .map(|(seq, event)| (*seq, delivery(&format!("dlv_again_{event}"), "a", 100)))
                .collect()
        };
        let moved =
            bench.store.advance_replay(id.clone(), position, deliveries(&first), at(100)).await.unwrap();
        assert_eq!((moved.made, moved.status), (1, ReplayStatus::Running), "1 and 2 have a delivery already");
        // A crash before the position was written would bring the same chunk again.
        let moved =
            bench.store.advance_replay(id.clone(), position, deliveries(&first), at(100)).await.unwrap();
        assert_eq!(moved.made, 1);
        let bench = bench.reopen().await;
        let rest = ahead(&bench, 9).await;
        assert_eq!(rest.iter().map(|(_, event)| event.as_str()).collect::<Vec<_>>(), ["4"]);
        let done =
            bench.store.advance_replay(id.clone(), rest[0].0, deliveries(&rest), at(101)).await.unwrap();
        assert_eq!((done.made, done.status, done.ended_at), (2, ReplayStatus::Done, Some(at(101))));
        assert_eq!(bench.claim("a", 9, 200).await.len(), 4);
        let (_, pending) = bench.store.replay_ahead(&id, 9, 3).await.unwrap();
        assert_eq!(pending, 3, "counted no further than asked");
    }
}

#[tokio::test]
async fn a_recovery_begins_anew_what_failed_and_nothing_else() {
    for bench in Bench::all().await {
        bench.store.create_subscription(subscription("a"), Note::default()).await.unwrap();
        accepted(&bench, 4, &["a", "b"]).await;
        let verdicts = [
            Verdict::Delivered,
            Verdict::Exhausted,
            Verdict::Cancelled("given up"),
            Verdict::Retry(at(9_000)),
        ];
        for subscription in ["a", "b"] {
            for (claimed, verdict) in bench.claim(subscription, 9, 10).await.iter().zip(&verdicts) {
                bench.record(claimed, 500, verdict.clone(), 11).await;
            }
        }
        let range = ReplayRange { status: Some(DeliveryStatus::Exhausted), ..ReplayRange::default() };
        for (range, expected) in [(range, 1), (ReplayRange::default(), 2)] {
            let id = ReplayId(format!("rpl_{expected}"));
            let replay = Replay { id: id.clone(), ..new_replay(ReplayKind::Recover, range) };
            let replay = bench.store.create_replay(replay, Note::default()).await.unwrap();
            let events = (replay.first..=replay.last).collect();
            let (done, woken) = bench.store.advance_recovery(id, replay.last, events, at(100)).await.unwrap();
            assert_eq!((done.made, done.status, woken), (expected, ReplayStatus::Done, vec![sub("a")]));
            for claimed in bench.claim("a", 9, 100).await {
                let verdict = if expected == 1 { Verdict::Exhausted } else { Verdict::Delivered };
                bench.record(&claimed, 500, verdict, 101).await;
            }
        }
    }
}

#[tokio::test]
async fn a_replay_that_was_ended_makes_nothing_more() {
    for bench in Bench::all().await {
        accepted(&bench, 1, &[]).await;
        let id = ReplayId("rpl_1".into());
        let replay = new_replay(ReplayKind::Replay, ReplayRange::default());
        bench.store.create_replay(replay, Note::default()).await.unwrap();
        let ended = bench.store.cancel_replay(id.clone(), Note::default(), at(101)).await.unwrap();
        assert_eq!((ended.status, ended.ended_at), (ReplayStatus::Cancelled, Some(at(101))));
        let late = vec![(1, delivery("dlv_late", "a", 100))];
        let after = bench.store.advance_replay(id, 1, late, at(102)).await.unwrap();
        assert_eq!((after.made, after.status), (0, ReplayStatus::Cancelled));
        let query = ReplayQuery { subscription: Some("a".into()), limit: 9, ..ReplayQuery::default() };
        assert_eq!(bench.store.replays(query).await.unwrap(), [after]);
        let missing = bench.store.cancel_replay(ReplayId("rpl_none".into()), Note::default(), at(0)).await;
        assert!(matches!(missing, Err(StoreError::NotFound)));
    }
}
