//! Claiming deliveries by name: only what needs no lane.

use super::*;

const SUBSCRIPTIONS: [&str; 7] = ["on", "other", "off", "deleted", "rate", "cap", "failing"];

fn dlv(name: &str) -> DeliveryId {
    DeliveryId(format!("dlv_1_{name}"))
}

/// Subscriptions of each kind, all with a delivery that is due.
async fn prepare(bench: &Bench) {
    for name in SUBSCRIPTIONS {
        let mut made = subscription(name);
        made.options.rate_limit = (name == "rate").then(|| "5/s".into());
        made.options.max_in_flight = (name == "cap").then_some(3);
        bench.store.create_subscription(made, Note::default()).await.unwrap();
    }
    bench.accept("0", &["failing"]).await;
    let first = bench.claim("failing", 1, 0).await.remove(0);
    let failing = Ended { health: Health::Failing, ..ended(&first, 500, Verdict::Exhausted, 0) };
    bench.end(failing, 0).await;
    bench.accept("1", &SUBSCRIPTIONS).await;
    bench.store.turn_off(sub("off"), "over", Note::default(), at(0)).await.unwrap();
    bench.store.delete_subscription(sub("deleted"), Note::default()).await.unwrap();
}

#[tokio::test]
async fn of_deliveries_named_those_are_claimed_that_need_no_lane_and_of_the_others_the_subscriptions_are() {
    for bench in Bench::all().await {
        prepare(&bench).await;
        let mut ids: Vec<_> = SUBSCRIPTIONS.into_iter().map(dlv).collect();
        ids.push(DeliveryId("dlv_unknown".into()));
        ids.push(dlv("rate"));
        let named = bench.store.claim_named(ids.clone(), at(0), at(60)).await.unwrap();
        let mut claimed: Vec<_> =
            named.claimed.iter().map(|(of, claimed)| (of.as_str(), &claimed.id)).collect();
        claimed.sort();
        assert_eq!(claimed, [("on", &dlv("on")), ("other", &dlv("other"))]);
        assert_eq!(named.due, ["cap", "deleted", "failing", "off", "rate"].map(sub));
        let first = &named.claimed[0].1;
        assert_eq!((first.attempt_count, first.began_at, first.sequence), (0, at(0), None));
        assert_eq!(first.event.data.as_deref(), Some(&b"{\"a\" : 1}"[..]));
        let again = bench.store.claim_named(ids, at(59), at(99)).await.unwrap();
        assert!(again.claimed.is_empty(), "they are claimed already");
        assert!(matches!(bench.record(first, 200, Verdict::Delivered, 5).await, Recorded::Current { .. }));
        bench
            .store
            .release(vec![(named.claimed[1].1.id.clone(), named.claimed[1].1.claim)], at(5))
            .await
            .unwrap();
        assert_eq!(bench.claim("other", 9, 5).await.len() + bench.claim("on", 9, 5).await.len(), 1);
    }
}

#[tokio::test]
async fn what_somebody_else_holds_or_is_not_due_is_passed_over() {
    for bench in Bench::all().await {
        prepare(&bench).await;
        assert_eq!(bench.claim("on", 9, 0).await.len(), 1);
        let held = bench.claim("other", 9, 0).await.remove(0);
        bench.record(&held, 500, Verdict::Retry(at(50)), 1).await;
        let ids = vec![dlv("on"), dlv("other")];
        let named = bench.store.claim_named(ids.clone(), at(47), at(99)).await.unwrap();
        assert!(named.claimed.is_empty() && named.due.is_empty());
        let named = bench.store.claim_named(ids.clone(), at(48), at(99)).await.unwrap();
        assert!(named.claimed.is_empty());
        assert_eq!(named.due, [sub("other")], "another process's clock may be ahead");
        let named = bench.store.claim_named(vec![dlv("on")], at(59), at(99)).await.unwrap();
        assert!(named.due.is_empty(), "a lease that is about to end is somebody's");
        let named = bench.store.claim_named(ids, at(60), at(99)).await.unwrap();
        assert_eq!(named.claimed.len(), 2, "a lease ran out, and a retry is due");
        assert_eq!(named.claimed.iter().map(|(_, claimed)| claimed.step).sum::<u32>(), 1);
        assert!(bench.store.claim_named(Vec::new(), at(60), at(99)).await.unwrap().claimed.is_empty());
    }
}

#[tokio::test]
async fn what_is_too_much_for_one_claim_is_left_to_the_next() {
    for bench in Bench::all().await {
        bench.store.create_subscription(subscription("on"), Note::default()).await.unwrap();
        let mut ids = Vec::new();
        for id in ["1", "2", "3"] {
            let mut event = new_event(id, &["on"]);
            Arc::make_mut(&mut event.event).data = Some(vec![b'1'; 3 << 20].into());
            ids.push(event.deliveries[0].id.clone());
            bench.store.accept(vec![event], at(0)).await.unwrap();
        }
        let named = bench.store.claim_named(ids.clone(), at(0), at(60)).await.unwrap();
        assert_eq!((named.claimed.len(), named.due), (2, vec![sub("on")]));
        let named = bench.store.claim_named(ids, at(0), at(60)).await.unwrap();
        assert_eq!((named.claimed.len(), named.due), (1, vec![]));
    }
}
