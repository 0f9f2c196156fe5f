//! Deliveries of one resource follow each other; those of different resources do not wait.

use super::*;

/// Accepts an event of a resource for the subscription `a`, which wants order.
async fn accept(bench: &Bench, id: &str, resource: &str) -> DeliveryId {
    let mut event = new_event(id, &["a"]);
    event.deliveries[0].resource = Some(resource.to_owned());
    let delivery = event.deliveries[0].id.clone();
    bench.store.accept(vec![event], at(0)).await.unwrap();
    delivery
}

fn ids(claimed: &[Claimed]) -> Vec<&str> {
    claimed.iter().map(|claimed| claimed.event.id.as_str()).collect()
}

async fn end(bench: &Bench, claimed: &Claimed, verdict: Verdict, now: i64) -> bool {
    match bench.record(claimed, 500, verdict, now).await {
        Recorded::Current { released, .. } => released,
        Recorded::Stale => panic!("a stale claim"),
    }
}

#[tokio::test]
async fn a_resources_deliveries_follow_each_other_and_others_do_not_wait() {
    for bench in Bench::all().await {
        for (id, resource) in [("1", "/x"), ("2", "/x"), ("3", "/y"), ("4", "/x")] {
            accept(&bench, id, resource).await;
        }
        let first = bench.claim("a", 9, 0).await;
        assert_eq!(ids(&first), ["1", "3"]);
        assert!(first[0].sequence.is_some() && first[0].sequence < first[1].sequence);
        assert!(!end(&bench, &first[0], Verdict::Retry(at(50)), 1).await, "a retry lets nobody pass");
        assert!(bench.claim("a", 9, 10).await.is_empty());
        let again = bench.claim("a", 9, 50).await;
        assert_eq!(ids(&again), ["1"]);
        assert!(end(&bench, &again[0], Verdict::Delivered, 51).await);
        let next = bench.claim("a", 9, 51).await;
        assert_eq!(ids(&next), ["2"]);
        assert!(end(&bench, &next[0], Verdict::Delivered, 52).await);
        let last = bench.claim("a", 9, 52).await;
        assert_eq!(ids(&last), ["4"]);
        assert!(!end(&bench, &last[0], Verdict::Delivered, 53).await, "nobody waits any more");
    }
}

#[tokio::test]
async fn an_exhausted_delivery_lets_the_next_pass_and_says_so() {
    for bench in Bench::all().await {
        let exhausted = accept(&bench, "1", "/x").await;
        accept(&bench, "2", "/x").await;
        let first = bench.claim("a", 9, 0).await;
        assert!(end(&bench, &first[0], Verdict::Exhausted, 1).await);
        assert_eq!(ids(&bench.claim("a", 9, 1).await), ["2"]);
        let (delivery, _) = bench.store.delivery(&exhausted).await.unwrap();
        let reason = delivery.reason.unwrap();
        assert!(delivery.status == DeliveryStatus::Exhausted && reason.contains("went on"), "{reason}");
    }
}

#[tokio::test]
async fn a_delivery_that_waits_is_not_due_and_does_not_wake_its_lane() {
    for bench in Bench::all().await {
        accept(&bench, "1", "/x").await;
        let waiting = accept(&bench, "2", "/x").await;
        assert_eq!(bench.store.delivery(&waiting).await.unwrap().0.due_at, None);
        let claims = bench.store.claim(sub("a"), 9, at(0), at(60)).await.unwrap();
        assert_eq!((claims.claimed.len(), claims.more, claims.next_due_at), (1, false, None));
        let count = bench.store.cancel_pending(sub("a"), "off".into(), 9, at(1)).await.unwrap();
        assert_eq!(count, 1, "what waits is cancelled, what is under way ends by itself");
        assert!(!end(&bench, &claims.claimed[0], Verdict::Delivered, 2).await);
    }
}

#[tokio::test]
async fn a_redelivery_takes_its_turn() {
    for bench in Bench::all().await {
        let first = accept(&bench, "1", "/x").await;
        let claimed = bench.claim("a", 9, 0).await;
        end(&bench, &claimed[0], Verdict::Exhausted, 1).await;
        accept(&bench, "2", "/x").await;
        accept(&bench, "3", "/x").await;
        let second = bench.claim("a", 9, 1).await;
        assert_eq!(ids(&second), ["2"]);
        bench.store.redeliver(first, Note::default(), at(2)).await.unwrap();
        assert!(bench.claim("a", 9, 2).await.is_empty(), "one at a time");
        assert!(end(&bench, &second[0], Verdict::Delivered, 3).await);
        let again = bench.claim("a", 9, 3).await;
        assert_eq!(ids(&again), ["1"], "by its place in the order of acceptance");
        assert_eq!(again[0].began_at, at(2));
        assert!(end(&bench, &again[0], Verdict::Delivered, 4).await);
        assert_eq!(ids(&bench.claim("a", 9, 4).await), ["3"]);
    }
}

#[tokio::test]
async fn a_redelivery_of_one_that_others_wait_for_is_due_at_once() {
    for bench in Bench::all().await {
        let first = accept(&bench, "1", "/x").await;
        accept(&bench, "2", "/x").await;
        let claimed = bench.claim("a", 9, 0).await;
        end(&bench, &claimed[0], Verdict::Retry(at(50)), 1).await;
        bench.store.redeliver(first, Note::default(), at(2)).await.unwrap();
        let again = bench.claim("a", 9, 2).await;
        assert_eq!(ids(&again), ["1"]);
        assert!(end(&bench, &again[0], Verdict::Delivered, 3).await);
        assert_eq!(ids(&bench.claim("a", 9, 3).await), ["2"]);
    }
}

#[tokio::test]
async fn whom_others_wait_for_is_cancelled_after_them() {
    for bench in Bench::all().await {
        for id in ["1", "2", "3"] {
            accept(&bench, id, "/x").await;
        }
        assert_eq!(bench.store.cancel_pending(sub("a"), "off".into(), 2, at(1)).await.unwrap(), 2);
        // On again before the rest was cancelled.
        assert_eq!(ids(&bench.claim("a", 9, 2).await), ["1"]);
    }
}
