//! What a store that several processes share must do beside: each handle here stands for a process.

use std::collections::BTreeSet;
use std::time::Duration;

use super::*;
use crate::store::offline;

mod failure;
mod pace;

/// A test takes no longer, or something waits for ever.
const PATIENCE: Duration = Duration::from_secs(60);

/// An event in order for the subscription `a`.
fn in_order(id: &str, resource: &str) -> NewEvent {
    let mut event = new_event(id, &["a"]);
    event.deliveries[0].resource = Some(resource.to_owned());
    event
}

#[tokio::test]
async fn events_matched_with_subscriptions_as_they_were_are_not_accepted() {
    let Some(bench) = Bench::shared().await else { return };
    let other = bench.other().await;
    let version = bench.store.version().await.unwrap();
    let accept = |version, id: &str| other.accept_as_of(version, vec![new_event(id, &["a"])], at(0));
    assert_eq!(accept(version, "1").await.unwrap(), [Acceptance::Accepted]);
    bench.store.create_subscription(subscription("a"), Note::default()).await.unwrap();
    // Those that share the transaction go on.
    let (outdated, unasked) =
        tokio::join!(accept(version, "2"), other.accept(vec![new_event("3", &[])], at(0)));
    assert!(matches!(outdated, Err(StoreError::Outdated)));
    assert_eq!(unasked.unwrap(), [Acceptance::Accepted]);
    let version = bench.store.version().await.unwrap();
    assert_eq!(accept(version, "2").await.unwrap(), [Acceptance::Accepted]);
    let found = bench.store.events(EventQuery { limit: 9, ..Default::default() }).await.unwrap();
    assert_eq!(found.iter().map(|found| found.event.id.as_str()).collect::<Vec<_>>(), ["2", "3", "1"]);
}

#[tokio::test]
async fn a_call_that_cannot_be_kept_leaves_those_that_share_its_transaction() {
    let Some(bench) = Bench::shared().await else { return };
    let accept = |id: &str| bench.store.accept(vec![new_event(id, &["a"])], at(0));
    let mut wrong = new_event("wrong", &[]);
    Arc::make_mut(&mut wrong.event).subject = Some("a\0".into());
    let doubled = NewEvent { deliveries: vec![delivery("dlv_1_a", "a", 0)], ..new_event("doubled", &[]) };
    let refused = (bench.store.accept(vec![wrong], at(0)), bench.store.accept(vec![doubled], at(0)));
    let (one, two, wrong, three, doubled) =
        tokio::join!(accept("1"), accept("2"), refused.0, accept("3"), refused.1);
    assert!(wrong.is_err() && doubled.is_err());
    for accepted in [one, two, three] {
        assert_eq!(accepted.unwrap(), [Acceptance::Accepted]);
    }
    assert_eq!(bench.claim("a", 9, 0).await.len(), 3);
    assert_eq!(bench.store.events(EventQuery { limit: 9, ..Default::default() }).await.unwrap()[0].seq, 3);
}

#[tokio::test]
async fn one_of_several_leads_and_another_one_follows_it() {
    let Some(bench) = Bench::shared().await else { return };
    let other = bench.other().await;
    assert!(bench.store.leads().await.unwrap());
    assert!(bench.store.leads().await.unwrap() && !other.leads().await.unwrap());
    // Its time is over.
    bench.run("UPDATE leader SET until = '-infinity'");
    assert!(other.leads().await.unwrap());
    assert!(other.leads().await.unwrap());
}

#[tokio::test]
async fn the_version_grows_with_what_events_are_matched_with_and_all_are_told() {
    let Some(bench) = Bench::shared().await else { return };
    let (store, other) = (&bench.store, bench.other().await);
    let mut version = store.version().await.unwrap();
    let mut changed = async |what: &str| {
        let signal = tokio::time::timeout(PATIENCE, other.signal()).await.expect(what);
        let now = other.version().await.unwrap();
        assert!(signal == Signal::Changed && now > version, "{what}");
        version = now;
    };
    store.create_subscription(subscription("a"), Note::default()).await.unwrap();
    changed("a subscription").await;
    let next = Subscription { revision: 2, ..subscription("a") };
    store.update_subscription(next, Note::default()).await.unwrap();
    changed("a change").await;
    assert_eq!(other.revisions().await.unwrap(), [(sub("a"), 2)]);
    store.turn_off(sub("a"), "over", Note::default(), at(0)).await.unwrap().unwrap();
    changed("an end").await;
    assert_eq!(store.meta("signing_keys", Some(Bytes::from_static(b"1"))).await.unwrap().unwrap(), "1");
    changed("signing keys").await;
    let (from, to) = (Bytes::from_static(b"1"), Bytes::from_static(b"2"));
    store.replace_meta("signing_keys", from, to, Note::default()).await.unwrap();
    changed("new signing keys").await;
    store.delete_subscription(sub("a"), Note::default()).await.unwrap();
    changed("a deletion").await;
    // Neither of these is matched with.
    store.accept(vec![new_event("1", &["a"])], at(0)).await.unwrap();
    store.meta("x", Some(Bytes::from_static(b"1"))).await.unwrap();
    store.announce(vec![sub("a"), sub("b")]).await.unwrap();
    let signal = tokio::time::timeout(PATIENCE, other.signal()).await.unwrap();
    assert_eq!(signal, Signal::Due(vec![sub("a"), sub("b")]));
    assert!(store.clock().await.unwrap().unwrap() > at(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_that_goes_on_after_a_place_misses_nothing() {
    let Some(bench) = Bench::shared().await else { return };
    let count = 150;
    let mut writers = Vec::new();
    for name in ["x", "y"] {
        let store = bench.other().await;
        writers.push(tokio::spawn(async move {
            for number in 0..count {
                // Two at a time, so that groups form; some are repeats, which take no place.
                let event = |part: &str| vec![new_event(&format!("{name}{number}{part}"), &[])];
                let (first, second) =
                    tokio::join!(store.accept(event("a"), at(0)), store.accept(event("b"), at(0)));
                first.and(second).unwrap();
                store.accept(event("a"), at(0)).await.unwrap();
            }
        }));
    }
    let (mut after, mut seen) = (0, Vec::new());
    while seen.len() < 4 * count {
        let query = EventQuery { cursor: Some(after), oldest_first: true, limit: 7, ..Default::default() };
        let page = bench.store.events(query).await.unwrap();
        after = page.last().map_or(after, |last| last.seq);
        seen.extend(page.into_iter().map(|found| found.event.id));
        let is_over = writers.iter().all(tokio::task::JoinHandle::is_finished);
        assert!(!is_over || i64::try_from(seen.len()).unwrap() == after, "{} of {after}", seen.len());
    }
    for writer in writers {
        writer.await.unwrap();
    }
    assert_eq!(seen.iter().collect::<BTreeSet<_>>().len(), 4 * count, "none was seen twice");
    assert_eq!(after, 4 * i64::try_from(count).unwrap(), "places have no gaps");
}

#[tokio::test]
async fn who_is_behind_cancels_nothing_of_a_subscription_that_is_on() {
    let Some(bench) = Bench::shared().await else { return };
    bench.store.create_subscription(subscription("a"), Note::default()).await.unwrap();
    bench.accept("1", &["a", "gone"]).await;
    bench.accept("2", &["a"]).await;
    let cancel = |name| bench.store.cancel_pending(sub(name), "off".into(), 9, at(1));
    assert_eq!((cancel("a").await.unwrap(), cancel("gone").await.unwrap()), (0, 1));
    bench.store.turn_off(sub("a"), "over", Note::default(), at(1)).await.unwrap().unwrap();
    assert_eq!(cancel("a").await.unwrap(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_erasure_of_one_that_is_delivered_again_leaves_nobody_waiting_for_it() {
    let Some(bench) = Bench::shared().await else { return };
    let other = bench.other().await;
    for round in 0..40 {
        let resource = format!("/contacts/{round}");
        bench.store.accept(vec![in_order(&format!("{round}_1"), &resource)], at(0)).await.unwrap();
        let head = bench.claim("a", 9, 0).await.remove(0);
        bench.record(&head, 200, Verdict::Delivered, 1).await;
        let what = Erasure::Tenant("blue".into());
        let until = bench.store.begin_erasure(what.clone(), Note::default()).await.unwrap();
        let again = async {
            // It may be gone.
            let again = other.redeliver(head.id.clone(), Note::default(), at(1)).await;
            assert!(matches!(again, Ok(_) | Err(StoreError::NotFound)), "{again:?}");
            let mut follower = in_order(&format!("{round}_2"), &resource);
            Arc::make_mut(&mut follower.event).tenant = Some("red".into());
            other.accept(vec![follower], at(1)).await.unwrap();
        };
        let (erased, ()) = tokio::join!(bench.store.erase(what, (0, until), 99, at(1)), again);
        erased.unwrap();
        let claimed = bench.claim("a", 9, 2).await;
        assert_eq!(claimed.len(), 1, "round {round}");
        bench.record(&claimed[0], 200, Verdict::Delivered, 2).await;
    }
}

#[tokio::test]
async fn what_waits_for_nobody_is_due_after_a_pruning() {
    let Some(bench) = Bench::shared().await else { return };
    bench.store.accept(vec![in_order("1", "/x"), in_order("2", "/x")], at(0)).await.unwrap();
    bench.run(&format!("UPDATE deliveries SET due_at = {}", i64::MAX));
    // By the server's clock, which is anywhere.
    let ever = 100_000_000_000;
    assert!(bench.claim("a", 9, ever).await.is_empty());
    bench.store.prune(7, 9, at(0), 0).await.unwrap();
    assert!(bench.claim("a", 9, ever).await.is_empty(), "only the first chunk looks for it");
    bench.store.prune(0, 9, at(0), 0).await.unwrap();
    assert_eq!(bench.claim("a", 9, ever).await[0].event.id, "1");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_processes_that_claim_at_once_share_what_is_due() {
    let Some(bench) = Bench::shared().await else { return };
    for chunk in 0..10 {
        let batch = (0..50).map(|number| new_event(&format!("{chunk}_{number}"), &["a"])).collect();
        bench.store.accept(batch, at(0)).await.unwrap();
    }
    let mut claimers = Vec::new();
    for _ in 0..4 {
        let store = bench.other().await;
        claimers.push(tokio::spawn(async move {
            let mut claimed = Vec::new();
            loop {
                let claims = store.claim(sub("a"), 7, at(1), at(60)).await.unwrap();
                let is_over = claims.next_due_at != Some(at(0));
                claimed.extend(claims.claimed.into_iter().map(|claimed| claimed.id));
                if is_over {
                    return claimed;
                }
            }
        }));
    }
    let mut all = Vec::new();
    for claimer in claimers {
        all.extend(claimer.await.unwrap());
    }
    assert_eq!(all.len(), 500);
    assert_eq!(all.into_iter().collect::<BTreeSet<_>>().len(), 500);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_accepted_while_the_one_before_it_ends_has_its_turn() {
    let Some(bench) = Bench::shared().await else { return };
    let other = bench.other().await;
    for round in 0..60 {
        let resource = format!("/contacts/{round}");
        bench.store.accept(vec![in_order(&format!("{round}_1"), &resource)], at(0)).await.unwrap();
        let head = bench.claim("a", 9, 0).await.remove(0);
        // By every way in which one may end.
        let end = async {
            match round % 3 {
                0 => drop(bench.record(&head, 200, Verdict::Delivered, 1).await),
                1 => {
                    bench.store.release(vec![(head.id.clone(), head.claim)], at(1)).await.unwrap();
                    bench.store.cancel_pending(sub("a"), "off".into(), 1, at(1)).await.unwrap();
                }
                _ => {
                    let what = Erasure::Tenant("blue".into());
                    let until = bench.store.begin_erasure(what.clone(), Note::default()).await.unwrap();
                    bench.store.erase(what, (0, until), 99, at(1)).await.unwrap();
                }
            }
        };
        let mut follower = in_order(&format!("{round}_2"), &resource);
        Arc::make_mut(&mut follower.event).tenant = Some("red".into());
        let (_, accepted) = tokio::join!(end, other.accept(vec![follower], at(1)));
        accepted.unwrap();
        for claimed in bench.claim("a", 9, 2).await {
            bench.record(&claimed, 200, Verdict::Delivered, 2).await;
        }
        let pending = DeliveryQuery { status: Some(DeliveryStatus::Pending), limit: 9, ..Default::default() };
        let stuck = bench.store.deliveries(pending).await.unwrap();
        assert!(stuck.is_empty(), "round {round}: {stuck:?}");
    }
    assert_eq!(offline::integrity(&bench.place.url()).unwrap(), []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn processes_at_the_same_rows_do_not_fail_each_other() {
    let Some(bench) = Bench::shared().await else { return };
    let mut workers = Vec::new();
    for worker in 0..3 {
        let store = bench.other().await;
        workers.push(tokio::spawn(async move {
            for round in 0..30 {
                let batch = (0..6)
                    .map(|number| {
                        in_order(&format!("{worker}_{round}_{number}"), &format!("/{}", number % 4))
                    })
                    .collect();
                store.accept(batch, at(round)).await.unwrap();
                let claims = store.claim(sub("a"), 5, at(round), at(round + 60)).await.unwrap();
                let ended: Vec<_> = claims
                    .claimed
                    .iter()
                    .map(|claimed| ended(claimed, 500, Verdict::Exhausted, round))
                    .collect();
                store.record(Arc::new(ended), at(round)).await.unwrap();
                if let Some(claimed) = claims.claimed.first() {
                    // Another may have pruned it.
                    let again = store.redeliver(claimed.id.clone(), Note::default(), at(round)).await;
                    assert!(matches!(again, Ok(_) | Err(StoreError::NotFound)), "{again:?}");
                }
                store.cancel_pending(sub("a"), "off".into(), 2, at(round)).await.unwrap();
                store.release_all(at(round)).await.unwrap();
                store.prune(0, 5, at(round), 0).await.unwrap();
            }
        }));
    }
    for worker in workers {
        tokio::time::timeout(PATIENCE, worker).await.unwrap().unwrap();
    }
    let mut rounds = 0;
    while bench.store.cancel_pending(sub("a"), "over".into(), 99, at(999)).await.unwrap() > 0 {
        rounds += 1;
        assert!(rounds < 100);
    }
    assert!(bench.store.due().await.unwrap().is_empty());
    assert_eq!(offline::integrity(&bench.place.url()).unwrap(), []);
}
