//! Answers of the store that come late or not at all.

use super::*;

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
