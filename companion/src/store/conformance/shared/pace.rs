//! A rate and a cap hold over all processes.

use super::*;

/// A store whose subscription `a` has these bounds and 20 deliveries due, and another process.
async fn prepare(rate: Option<&str>, cap: Option<usize>) -> Option<(Bench, Arc<dyn Store>)> {
    let bench = Bench::shared().await?;
    let mut made = subscription("a");
    made.options.rate_limit = rate.map(str::to_owned);
    made.options.max_in_flight = cap;
    bench.store.create_subscription(made, Note::default()).await.unwrap();
    let batch = (0..20).map(|number| new_event(&format!("{number:02}"), &["a"])).collect();
    bench.store.accept(batch, at(0)).await.unwrap();
    let other = bench.other().await;
    Some((bench, other))
}

async fn claim(store: &Arc<dyn Store>, limit: usize, now: i64) -> Claims {
    store.claim(sub("a"), limit, at(now), at(now + 60)).await.unwrap()
}

#[tokio::test]
async fn a_rate_is_of_all_processes_together() {
    let Some((bench, other)) = prepare(Some("5/s"), None).await else { return };
    let first = claim(&bench.store, 3, 0).await.claimed;
    assert_eq!((first.len(), claim(&other, 9, 0).await.claimed.len()), (3, 2));
    let none = claim(&bench.store, 9, 0).await;
    let next = none.next_due_at.unwrap();
    assert!(none.claimed.is_empty() && next > at(0) && next <= at(1), "{next}");
    let claims = other.claim(sub("a"), 9, next, at(60)).await.unwrap();
    assert_eq!(claims.claimed.len(), 1, "there is one when it was said to be");
    // What was not used is given back.
    let unused = first[..2].iter().map(|claimed| (claimed.id.clone(), claimed.claim)).collect();
    other.release(unused, next).await.unwrap();
    assert_eq!(bench.store.claim(sub("a"), 9, next, at(60)).await.unwrap().claimed.len(), 2);
    assert_eq!(claim(&bench.store, 99, 50).await.claimed.len(), 5, "no more than a burst gathers");
}

#[tokio::test]
async fn a_claim_that_finds_less_than_the_rate_allows_takes_no_more_of_it() {
    let Some((bench, other)) = prepare(Some("20/s"), None).await else { return };
    for claimed in claim(&bench.store, 19, 0).await.claimed {
        bench.record(&claimed, 200, Verdict::Delivered, 0).await;
    }
    let claims = claim(&other, 9, 1).await;
    assert_eq!((claims.claimed.len(), claims.more, claims.next_due_at), (1, false, None));
    let batch = (20..50).map(|number| new_event(&format!("{number:02}"), &["a"])).collect();
    bench.store.accept(batch, at(1)).await.unwrap();
    assert_eq!(claim(&other, 99, 1).await.claimed.len(), 19);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cap_is_of_all_processes_together() {
    let Some((bench, other)) = prepare(None, Some(3)).await else { return };
    let third = bench.other().await;
    let (one, two, three) = tokio::join!(claim(&bench.store, 9, 0), claim(&other, 9, 0), claim(&third, 9, 0));
    let held: Vec<_> = [one, two, three].into_iter().flat_map(|claims| claims.claimed).collect();
    assert_eq!(held.len(), 3);
    let none = claim(&other, 9, 1).await;
    let next = none.next_due_at.unwrap();
    assert!(none.claimed.is_empty() && next > at(1) && next < at(9), "it is looked at again soon");
    bench.record(&held[0], 200, Verdict::Delivered, 1).await;
    bench.record(&held[1], 500, Verdict::Retry(at(99)), 1).await;
    assert_eq!(claim(&other, 9, 1).await.claimed.len(), 2);
    assert_eq!(claim(&other, 9, 61).await.claimed.len(), 3, "leases that ran out hold nothing");
}
