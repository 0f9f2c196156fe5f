//! Answers of the store that come late or not at all: what it has done all the same is found out.

use super::*;

/// Turns a subscription off in the store alone, as for a caller who hung up before the store answered.
async fn turn_off_in_store(bench: &Bench, id: &SubscriptionId) {
    let change = bench.worker.directory.change(id).await;
    let off = bench.worker.store.turn_off(id.clone(), "asked for", Note::default(), start()).await;
    assert!(off.unwrap().is_some());
    drop(change);
}

fn is_on(bench: &Bench, id: &SubscriptionId) -> Option<bool> {
    let entry = bench.worker.directory.get(id);
    entry.map(|entry| entry.subscription.status == SubscriptionStatus::On)
}

async fn sweep(bench: &Bench) {
    bench.worker.clone().sweep(mpsc::unbounded_channel().0).await;
}

#[tokio::test]
async fn a_change_whose_end_nobody_heard_is_known_after_the_next_sweep() {
    let bench = Bench::new("127.0.0.0/8").await;
    let id = bench.subscribe("sub_1", "http://127.0.0.1:9/").await;
    turn_off_in_store(&bench, &id).await;
    assert_eq!(is_on(&bench, &id), Some(true));
    sweep(&bench).await;
    assert_eq!(is_on(&bench, &id), Some(false));
    assert!(bench.worker.board.take().woken.contains(&id), "what is pending is to be cancelled");
    let change = bench.worker.directory.change(&id).await;
    bench.worker.store.delete_subscription(id.clone(), Note::default()).await.unwrap();
    drop(change);
    sweep(&bench).await;
    assert_eq!(is_on(&bench, &id), None);
    assert!(bench.worker.directory.doubtful().is_empty());
}

#[tokio::test]
async fn a_receiver_that_wants_no_more_is_known_though_the_store_did_not_say_that_it_was_recorded() {
    let bench = Bench::new("127.0.0.0/8").await;
    let receiver = Receiver::start(|_| Some(status(410))).await;
    let id = bench.subscribe("sub_1", &receiver.url).await;
    bench.accept("1", &id).await;
    let now = bench.clock.now();
    let claims = bench.worker.store.claim(id.clone(), 1, now, later(now, limits::LEASE)).await.unwrap();
    let claimed = claims.claimed.into_iter().next().unwrap();
    let attempted = bench.worker.deliver(id.clone(), claimed, None).await;
    bench.worker.store.record(Arc::new(vec![attempted.ended.clone()]), now).await.unwrap();
    bench.worker.record(vec![attempted]).await;
    assert_eq!(is_on(&bench, &id), Some(true));
    sweep(&bench).await;
    assert_eq!(is_on(&bench, &id), Some(false));
}

#[tokio::test]
async fn a_claim_that_comes_too_late_is_given_back() {
    let bench = Bench::new("127.0.0.0/8").await;
    let id = bench.subscribe("sub_1", "http://127.0.0.1:9/").await;
    bench.accept("1", &id).await;
    // It was asked for at the start, and so long ago.
    let now = later(start(), limits::LEASE - limits::ATTEMPT);
    bench.clock.set(now);
    let claims = bench.worker.claim(&id, 1, start()).await.unwrap();
    assert_eq!((claims.claimed.len(), claims.more), (0, true));
    assert_eq!(bench.worker.claim(&id, 1, now).await.unwrap().claimed.len(), 1);
}
