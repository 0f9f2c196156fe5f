//! Forgetting what ended before a time, and nothing else.

use super::*;

/// Accepts an event at a second, delivers it to the first `delivered` of its subscriptions a second later.
async fn accepted(bench: &Bench, id: &str, subscriptions: &[&str], delivered: usize, second: i64) {
    let batch = vec![new_event(id, subscriptions)];
    bench.store.accept(batch, at(second)).await.unwrap();
    for subscription in &subscriptions[..delivered] {
        for claimed in bench.claim(subscription, 99, second).await {
            bench.record(&claimed, 200, Verdict::Delivered, second + 1).await;
        }
    }
}

/// Prunes in chunks until there is no more; returns events and deliveries of each chunk.
async fn prune(bench: &Bench, limit: usize, before: i64) -> Vec<(usize, usize)> {
    let (mut chunks, mut after) = (Vec::new(), 0);
    loop {
        let pruned = bench.store.prune(after, limit, at(before), 0).await.unwrap();
        chunks.push((pruned.events, pruned.deliveries));
        match pruned.next {
            Some(next) => after = next,
            None => return chunks,
        }
    }
}

async fn events(bench: &Bench) -> Vec<String> {
    let found = bench.store.events(EventQuery { limit: 99, ..Default::default() }).await.unwrap();
    found.into_iter().rev().map(|found| found.event.id).collect()
}

#[tokio::test]
async fn the_place_of_a_forgotten_event_is_not_given_again() {
    for bench in Bench::all().await {
        for id in ["1", "2"] {
            accepted(&bench, id, &[], 0, 0).await;
        }
        assert_eq!(prune(&bench, 9, 9).await, [(2, 0)]);
        let bench = bench.reopen().await;
        accepted(&bench, "3", &[], 0, 10).await;
        let found = bench.store.events(EventQuery { limit: 9, ..Default::default() }).await.unwrap();
        assert_eq!(
            found.iter().map(|accepted| accepted.seq).collect::<Vec<_>>(),
            [3],
            "a reader at 2 must find it"
        );
    }
}

#[tokio::test]
async fn what_ended_before_a_time_is_pruned_and_what_is_pending_never() {
    for limit in [1, 2, 3, 100] {
        for bench in Bench::all().await {
            accepted(&bench, "done", &["a"], 1, 0).await;
            accepted(&bench, "pending", &["b"], 0, 1).await;
            accepted(&bench, "unwanted", &[], 0, 2).await;
            accepted(&bench, "half", &["c", "b"], 1, 3).await;
            accepted(&bench, "late", &["d"], 1, 49).await;
            accepted(&bench, "young", &[], 0, 50).await;
            let chunks = prune(&bench, limit, 50).await;
            assert!(chunks.iter().all(|(events, deliveries)| *events <= limit && *deliveries <= limit));
            let total = chunks.iter().fold((0, 0), |sum, chunk| (sum.0 + chunk.0, sum.1 + chunk.1));
            assert_eq!(total, (2, 2), "in chunks of {limit}");
            assert_eq!(events(&bench).await, ["pending", "half", "late", "young"]);
            let id = |name: &str| DeliveryId(format!("dlv_{name}"));
            for gone in ["done_a", "half_c"] {
                assert!(matches!(bench.store.delivery(&id(gone)).await, Err(StoreError::NotFound)), "{gone}");
            }
            for kept in ["pending_b", "half_b", "late_d"] {
                assert!(bench.store.delivery(&id(kept)).await.is_ok(), "{kept}");
            }
            assert_eq!(bench.claim("b", 9, 60).await.len(), 2, "what is pending is delivered all the same");
        }
    }
}

#[tokio::test]
async fn a_pruned_event_leaves_nothing_behind() {
    for bench in Bench::all().await {
        accepted(&bench, "1", &["a"], 1, 0).await;
        prune(&bench, 9, 50).await;
        let bench = bench.reopen().await;
        let id = bench.accept("1", &["a"]).await.remove(0);
        let (delivery, attempts) = bench.store.delivery(&id).await.unwrap();
        assert_eq!((delivery.attempt_count, attempts.len()), (0, 0));
    }
}

#[tokio::test]
async fn the_deliveries_of_one_event_are_pruned_in_chunks_too() {
    for bench in Bench::all().await {
        let names: Vec<String> = (0..25).map(|number| format!("s{number}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        accepted(&bench, "1", &names, 25, 0).await;
        assert_eq!(prune(&bench, 10, 50).await, [(0, 10), (0, 10), (1, 5)]);
    }
}

#[tokio::test]
async fn a_redelivery_keeps_its_event_until_it_has_ended() {
    for bench in Bench::all().await {
        accepted(&bench, "1", &["a"], 1, 0).await;
        bench.store.redeliver(DeliveryId("dlv_1_a".into()), Note::default(), at(60)).await.unwrap();
        assert_eq!(prune(&bench, 9, 70).await, [(0, 0)]);
        let claimed = bench.claim("a", 9, 80).await.remove(0);
        bench.record(&claimed, 200, Verdict::Delivered, 80).await;
        assert_eq!(prune(&bench, 9, 80).await, [(0, 0)]);
        assert_eq!(prune(&bench, 9, 81).await, [(1, 1)]);
    }
}
