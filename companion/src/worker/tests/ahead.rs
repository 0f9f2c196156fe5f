//! Deliveries claimed as they were accepted: sent without a claim of their own, and given back where they cannot be sent.

use tokio::task::JoinHandle;

use super::*;
use crate::store::Lease;

/// A worker at work, and one subscription whose deliveries may be claimed ahead.
struct Running {
    bench: Bench,
    id: SubscriptionId,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Running {
    /// The first delivery goes by the store, and shows that nothing is due and the receiver is well.
    async fn start(receiver: &Receiver) -> Self {
        let bench = Bench::new("127.0.0.0/8").await;
        let id = bench.subscribe("sub_1", &receiver.url).await;
        let (stop, stopped) = watch::channel(false);
        let task = tokio::spawn(bench.worker.clone().run(stopped));
        bench.accept("first", &id).await;
        bench.worker.board.wake([id.clone()]);
        receiver.received(1).await;
        let running = Self { bench, id, stop, task };
        until(async || running.is_open()).await;
        running
    }

    fn is_open(&self) -> bool {
        self.bench.worker.directory.get(&self.id).unwrap().ahead.place(1).is_some()
    }

    /// Accepts events whose deliveries are claimed, and hands these over.
    async fn hand_over(&self, count: usize, lease: Duration) -> Vec<DeliveryId> {
        let mut all = Vec::new();
        for number in 0..count {
            all.push(self.accept(&number.to_string(), lease).await);
        }
        let ids = all.iter().map(|ready| ready.claimed.id.clone()).collect();
        self.bench.worker.board.hand_over(all, []);
        ids
    }

    /// Accepts an event whose delivery is claimed.
    async fn accept(&self, id: &str, lease: Duration) -> Ready {
        let now = self.bench.clock.now();
        let lease = Lease { claim: 7, until: later(now, lease) };
        let (event, mut ready) = self.bench.worker.directory.address_ahead(event(id).into(), lease, now);
        assert_eq!((event.deliveries.len(), ready.len()), (1, 1));
        self.bench.worker.store.accept(vec![event], now).await.unwrap();
        ready.remove(0)
    }

    async fn count(&self, status: DeliveryStatus) -> usize {
        let query = DeliveryQuery { status: Some(status), limit: 500, ..Default::default() };
        self.bench.worker.store.deliveries(query).await.unwrap().len()
    }

    async fn claimable(&self) -> usize {
        let now = self.bench.clock.now();
        let claims = self.bench.worker.store.claim(self.id.clone(), 99, now, later(now, limits::LEASE));
        claims.await.unwrap().claimed.len()
    }

    async fn stop(self) -> Bench {
        self.stop.send(true).unwrap();
        tokio::time::pause();
        self.task.await.unwrap();
        self.bench
    }
}

async fn until(mut holds: impl AsyncFnMut() -> bool) {
    while !holds().await {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test]
async fn what_is_handed_over_is_sent_once_each_and_recorded() {
    let receiver = Receiver::start(|_| Some(status(200))).await;
    let running = Running::start(&receiver).await;
    let ids = running.hand_over(40, limits::LEASE).await;
    until(async || running.count(DeliveryStatus::Delivered).await == 41).await;
    for id in ids {
        assert_eq!(running.bench.delivery(&id).await.1.len(), 1);
    }
    assert_eq!(receiver.received(41).await.len(), 41);
    assert!(running.is_open(), "nothing came by the store meanwhile");
    running.stop().await;
}

#[tokio::test]
async fn what_is_held_for_a_receiver_that_fails_is_due_again_and_what_comes_then_goes_by_the_store() {
    let receiver = Receiver::start(|number| Some(status(if number == 1 { 200 } else { 503 }))).await;
    let running = Running::start(&receiver).await;
    running.hand_over(40, limits::LEASE).await;
    // All but the eight that were under way at once, and what the worker probes with until its breaker opens.
    let mut claimable = 0;
    until(async || {
        claimable += running.claimable().await;
        claimable >= 40 - 8 - 5
    })
    .await;
    assert!(!running.is_open());
    running.stop().await;
}

#[tokio::test]
async fn what_is_held_for_a_subscription_that_went_off_is_cancelled() {
    let receiver = Receiver::start(|_| Some(status(200))).await;
    let running = Running::start(&receiver).await;
    let mut off = running.bench.worker.directory.get(&running.id).unwrap().subscription.clone();
    (off.revision, off.status) = (off.revision + 1, SubscriptionStatus::Off);
    let now = running.bench.clock.now();
    let lease = Lease { claim: 7, until: later(now, limits::LEASE) };
    let (event, ready) = running.bench.worker.directory.address_ahead(event("2").into(), lease, now);
    running.bench.worker.directory.put(off);
    running.bench.worker.store.accept(vec![event], now).await.unwrap();
    running.bench.worker.board.hand_over(ready, []);
    until(async || running.count(DeliveryStatus::Cancelled).await == 1).await;
    assert_eq!(receiver.received(1).await.len(), 1);
    running.stop().await;
}

#[tokio::test]
async fn a_claim_that_may_not_last_is_given_back_and_made_anew() {
    let receiver = Receiver::start(|_| Some(status(200))).await;
    let running = Running::start(&receiver).await;
    let ids = running.hand_over(1, limits::ATTEMPT).await;
    until(async || running.count(DeliveryStatus::Delivered).await == 2).await;
    assert_eq!(running.bench.delivery(&ids[0]).await.1.len(), 1);
    assert_eq!(receiver.received(2).await.len(), 2);
    running.stop().await;
}

#[tokio::test]
async fn of_what_is_held_only_that_is_sent_whose_own_claim_lasts() {
    let receiver = Receiver::start(|_| Some(status(200))).await;
    let running = Running::start(&receiver).await;
    let held = vec![running.accept("1", limits::LEASE).await, running.accept("2", limits::ATTEMPT).await];
    // The second one's lease has run out, and somebody else has claimed it.
    let then = later(running.bench.clock.now(), limits::ATTEMPT);
    let other = running.bench.worker.store.claim(running.id.clone(), 9, then, later(then, limits::LEASE));
    assert_eq!(other.await.unwrap().claimed.len(), 1);
    running.bench.worker.board.hand_over(held, []);
    until(async || running.count(DeliveryStatus::Delivered).await == 2).await;
    running.stop().await;
    assert_eq!(receiver.received(2).await.len(), 2, "what somebody else holds was sent");
}

#[tokio::test]
async fn what_is_held_when_the_worker_stops_is_due_at_once() {
    let receiver = Receiver::start(|number| (number == 1).then(|| status(200))).await;
    let running = Running::start(&receiver).await;
    running.hand_over(40, limits::LEASE).await;
    receiver.received(1 + 2).await;
    let id = running.id.clone();
    let bench = running.stop().await;
    tokio::time::resume();
    let now = bench.clock.now();
    let claims = bench.worker.store.claim(id, 99, now, later(now, limits::LEASE)).await.unwrap();
    assert!(claims.claimed.len() >= 40 - limits::IN_FLIGHT, "{} are due", claims.claimed.len());
    assert!(
        bench
            .worker
            .directory
            .address_ahead(event("x").into(), Lease { claim: 1, until: now }, now)
            .1
            .is_empty()
    );
}
