//! Deliveries with time as an argument: real store, real sender, receivers on the loopback, a clock moved by hand.

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;

use super::attempt::NOT_ITS_TENANT;
use super::*;
use crate::directory::Defaults;
use crate::model::{Attempt, DeliveryId, DeliveryStatus, Event, Format, Options, Outcome, Secret};
use crate::sender::Sender;
use crate::store::{self, DeliveryQuery, NewDelivery, NewEvent, Note};
use crate::target::Guard;
use crate::testing::{Folder, ManualClock, Receiver};
use crate::vault::Vault;

mod ahead;
mod doubt;

struct Bench {
    worker: Arc<Worker>,
    clock: Arc<ManualClock>,
    _folder: Folder,
}

fn start() -> Timestamp {
    Timestamp::from_second(1_700_000_000).unwrap()
}

impl Bench {
    async fn new(allowed: &str) -> Self {
        let folder = Folder::new();
        let url = format!("sqlite:{}", folder.path("test.db").display());
        let vault = Vault::new(&[1; 32]);
        let store = store::embedded(&url, vault.clone()).unwrap();
        let keys = Arc::new(SigningKeys::load(&*store, vault, start()).await.unwrap());
        let guard = Guard::new(&[allowed.parse().unwrap()]);
        let clock = Arc::new(ManualClock::at(start()));
        let worker = Worker {
            directory: Arc::new(Directory::load(&*store, guard.clone(), Defaults::default()).await.unwrap()),
            store,
            board: Arc::default(),
            sender: Arc::new(Sender::new(guard).unwrap()),
            keys,
            clock: clock.clone(),
            metrics: Arc::default(),
            statistics: Arc::default(),
        };
        Self { worker: Arc::new(worker), clock, _folder: folder }
    }

    async fn subscribe(&self, name: &str, target_url: &str) -> SubscriptionId {
        let subscription = Subscription {
            id: SubscriptionId(name.to_owned()),
            revision: 1,
            tenant: None,
            target_url: target_url.to_owned(),
            events: vec!["contact.*".into()],
            status: SubscriptionStatus::On,
            off_reason: None,
            description: None,
            format: Format::Raw,
            metadata: Default::default(),
            credentials: Default::default(),
            secrets: vec![Secret { key: vec![7; 32], expires_at: None }],
            options: Options::default(),
            expires_at: None,
            failing_since: None,
            created_at: start(),
            updated_at: start(),
        };
        self.worker.store.create_subscription(subscription.clone(), Note::default()).await.unwrap();
        self.worker.directory.put(subscription.clone());
        subscription.id
    }

    async fn accept(&self, id: &str, subscription: &SubscriptionId) -> DeliveryId {
        let event = event(id);
        let delivery = DeliveryId(format!("dlv_{subscription}_{id}"));
        let now = self.clock.now();
        let (subscription, id) = (subscription.clone(), delivery.clone());
        let deliveries = vec![NewDelivery { id, subscription, due_at: now, resource: None, lease: None }];
        let accepted =
            self.worker.store.accept(vec![NewEvent { event: event.into(), deliveries }], now).await.unwrap();
        assert_eq!(accepted, [store::Acceptance::Accepted]);
        delivery
    }

    /// Makes all attempts of a subscription, moving the clock to each as it falls due; returns their times.
    async fn deliver_all(&self, id: &SubscriptionId) -> Vec<Timestamp> {
        let mut times = Vec::new();
        loop {
            let now = self.clock.now();
            let claims =
                self.worker.store.claim(id.clone(), 10, now, later(now, limits::LEASE)).await.unwrap();
            if claims.claimed.is_empty() {
                match claims.next_due_at {
                    Some(at) => self.clock.set(at),
                    None => return times,
                }
            }
            for claimed in claims.claimed {
                times.push(self.clock.now());
                self.deliver(id, claimed, claims.failing_since).await;
            }
        }
    }

    async fn deliver(&self, id: &SubscriptionId, claimed: Claimed, failing_since: Option<Timestamp>) {
        let attempted = self.worker.deliver(id.clone(), claimed, failing_since).await;
        self.worker.record(vec![attempted]).await;
    }

    async fn delivery(&self, id: &DeliveryId) -> (crate::model::Delivery, Vec<Attempt>) {
        self.worker.store.delivery(id).await.unwrap()
    }
}

fn event(id: &str) -> Event {
    Event {
        id: id.into(),
        source: "/test".into(),
        event_type: "contact.create".into(),
        subject: None,
        time: start(),
        datacontenttype: None,
        data: Some(Bytes::from_static(b"{}")),
        tenant: None,
        extensions: Default::default(),
    }
}

fn status(code: u16) -> Response {
    StatusCode::from_u16(code).unwrap().into_response()
}

#[tokio::test]
async fn ten_attempts_over_three_days_and_then_the_delivery_is_exhausted() {
    let bench = Bench::new("127.0.0.0/8").await;
    let receiver = Receiver::start(|_| Some(status(500))).await;
    let id = bench.subscribe("sub_1", &receiver.url).await;
    let delivery = bench.accept("1", &id).await;
    let times = bench.deliver_all(&id).await;
    assert_eq!(times.len(), 10);
    let hours = times[9].duration_since(start()).as_secs_f64() / 3600.0;
    let nominal = 2.0 + 5.0 + 10.0 + 14.0 + 20.0 + 24.0 + (5.0 / 3600.0) + 35.0 / 60.0;
    assert!((nominal * 0.8..=nominal * 1.2).contains(&hours), "{hours} hours");
    let (exhausted, attempts) = bench.delivery(&delivery).await;
    assert_eq!((exhausted.status, attempts.len()), (DeliveryStatus::Exhausted, 10));
    let ids: Vec<_> =
        receiver.received(10).await.into_iter().map(|(headers, _)| headers["webhook-id"].clone()).collect();
    assert!(ids.iter().all(|id| id == delivery.as_str()), "the webhook-id is the same over all attempts");
}

#[tokio::test]
async fn what_was_recorded_is_counted_for_charts_and_what_was_stale_is_not() {
    let bench = Bench::new("127.0.0.0/8").await;
    let receiver = Receiver::start(|_| Some(status(200))).await;
    let id = bench.subscribe("sub_1", &receiver.url).await;
    bench.accept("1", &id).await;
    let claims = bench.worker.store.claim(id.clone(), 1, start(), later(start(), limits::LEASE)).await;
    let claimed = claims.unwrap().claimed.remove(0);
    for _ in 0..2 {
        bench.deliver(&id, claimed.clone(), None).await;
    }
    receiver.received(2).await;
    let rows = bench.worker.statistics.collector().take().rows();
    let own = rows.iter().filter(|row| row.key.subscription == id.as_str());
    let counted: Vec<_> = own.map(|row| (row.key.resolution_s, row.counts.attempts)).collect();
    assert_eq!(counted, [(60, 1), (3_600, 1)]);
}

#[tokio::test]
async fn a_receiver_that_recovers_gets_its_delivery() {
    let bench = Bench::new("127.0.0.0/8").await;
    let receiver = Receiver::start(|number| Some(status(if number < 3 { 503 } else { 204 }))).await;
    let id = bench.subscribe("sub_1", &receiver.url).await;
    let delivery = bench.accept("1", &id).await;
    assert_eq!(bench.deliver_all(&id).await.len(), 3);
    assert_eq!(bench.delivery(&delivery).await.0.status, DeliveryStatus::Delivered);
}

#[tokio::test]
async fn what_was_claimed_for_a_subscription_that_is_deleted_then_is_not_sent_and_waits_for_nothing() {
    let bench = Bench::new("127.0.0.0/8").await;
    let receiver = Receiver::start(|_| Some(status(200))).await;
    let id = bench.subscribe("sub_1", &receiver.url).await;
    let delivery = bench.accept("1", &id).await;
    let now = bench.clock.now();
    let claims = bench.worker.store.claim(id.clone(), 1, now, later(now, limits::LEASE)).await.unwrap();
    bench.worker.directory.remove(&id);
    bench.deliver(&id, claims.claimed.into_iter().next().unwrap(), None).await;
    let (cancelled, _) = bench.delivery(&delivery).await;
    assert_eq!((cancelled.status, cancelled.ended_at), (DeliveryStatus::Cancelled, Some(now)));
    assert!(receiver.received(0).await.is_empty());
}

#[tokio::test]
async fn a_subscription_whose_every_attempt_fails_for_five_days_goes_off() {
    let bench = Bench::new("127.0.0.0/8").await;
    let receiver = Receiver::start(|_| Some(status(500))).await;
    let id = bench.subscribe("sub_1", &receiver.url).await;
    // The schedule ends after three days, so one delivery alone does not bring it about.
    let first = bench.accept("1", &id).await;
    bench.deliver_all(&id).await;
    assert_eq!(bench.delivery(&first).await.0.status, DeliveryStatus::Exhausted);
    assert_eq!(bench.worker.directory.get(&id).unwrap().subscription.status, SubscriptionStatus::On);
    let second = bench.accept("2", &id).await;
    bench.deliver_all(&id).await;
    let off = bench.worker.directory.get(&id).unwrap().subscription.clone();
    assert_eq!((off.status, off.failing_since), (SubscriptionStatus::Off, Some(start())));
    assert_eq!(off.off_reason.as_deref(), Some("every attempt failed for 5 days"));
    let days = bench.clock.now().duration_since(start()).as_hours() / 24;
    assert!((5..7).contains(&days), "{days} days");
    assert_eq!(bench.delivery(&second).await.0.status, DeliveryStatus::Cancelled);
}

#[tokio::test]
async fn retry_after_is_waited_for() {
    let bench = Bench::new("127.0.0.0/8").await;
    let limited = || (StatusCode::TOO_MANY_REQUESTS, [("retry-after", "3600")]).into_response();
    let receiver =
        Receiver::start(move |number| Some(if number == 1 { limited() } else { status(200) })).await;
    let id = bench.subscribe("sub_1", &receiver.url).await;
    bench.accept("1", &id).await;
    let times = bench.deliver_all(&id).await;
    assert_eq!(times[1].duration_since(times[0]).as_secs(), 3600);
}

#[tokio::test]
async fn a_410_turns_the_subscription_off_and_cancels_what_is_pending() {
    let bench = Bench::new("127.0.0.0/8").await;
    let receiver = Receiver::start(|_| Some(status(410))).await;
    let id = bench.subscribe("sub_1", &receiver.url).await;
    let first = bench.accept("1", &id).await;
    let second = bench.accept("2", &id).await;
    let now = bench.clock.now();
    let claims = bench.worker.store.claim(id.clone(), 1, now, later(now, limits::LEASE)).await.unwrap();
    bench.deliver(&id, claims.claimed.into_iter().next().unwrap(), None).await;
    let off = bench.worker.directory.get(&id).unwrap();
    assert_eq!(off.subscription.status, SubscriptionStatus::Off);
    assert_eq!(off.subscription.off_reason.as_deref(), Some("the receiver answered 410 Gone"));
    assert!(bench.worker.directory.address(event("2"), bench.clock.now()).deliveries.is_empty());
    let (report, _news) = mpsc::unbounded_channel();
    bench.worker.clone().serve(id, 1, report).await;
    for delivery in [first, second] {
        assert_eq!(bench.delivery(&delivery).await.0.status, DeliveryStatus::Cancelled);
    }
    assert_eq!(receiver.received(1).await.len(), 1, "nothing was sent after the 410");
}

#[tokio::test]
async fn a_subscription_that_was_given_a_tenant_gets_nothing_of_others_any_more() {
    let bench = Bench::new("127.0.0.0/8").await;
    let receiver = Receiver::start(|_| Some(status(200))).await;
    let id = bench.subscribe("sub_1", &receiver.url).await;
    let delivery = bench.accept("1", &id).await;
    let mut subscription = bench.worker.directory.get(&id).unwrap().subscription.clone();
    subscription.revision += 1;
    subscription.tenant = Some("blue".into());
    bench.worker.directory.put(subscription);
    assert_eq!(bench.deliver_all(&id).await.len(), 1);
    let (cancelled, attempts) = bench.delivery(&delivery).await;
    assert_eq!(
        (cancelled.status, cancelled.reason.as_deref()),
        (DeliveryStatus::Cancelled, Some(NOT_ITS_TENANT))
    );
    assert_eq!(attempts[0].outcome.word(), "blocked");
    assert!(tokio::time::timeout(Duration::ZERO, receiver.received(1)).await.is_err());
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let bench = Bench::new("127.0.0.0/8").await;
    let elsewhere = Receiver::start(|_| Some(status(200))).await;
    let location = elsewhere.url.clone();
    let redirect =
        move |_| Some((StatusCode::TEMPORARY_REDIRECT, [("location", location.clone())]).into_response());
    let receiver = Receiver::start(redirect).await;
    let id = bench.subscribe("sub_1", &receiver.url).await;
    let delivery = bench.accept("1", &id).await;
    bench.deliver_all(&id).await;
    let (exhausted, attempts) = bench.delivery(&delivery).await;
    assert_eq!((exhausted.status, attempts[0].outcome.status()), (DeliveryStatus::Exhausted, Some(307)));
    assert!(tokio::time::timeout(Duration::ZERO, elsewhere.received(1)).await.is_err());
}

#[tokio::test]
async fn a_target_that_may_not_be_called_is_never_dialled() {
    let bench = Bench::new("10.0.0.0/8").await;
    let receiver = Receiver::start(|_| Some(status(200))).await;
    let port = receiver.url.rsplit(':').next().unwrap().to_owned();
    for (name, host) in [("sub_literal", "127.0.0.1"), ("sub_name", "localhost")] {
        let id = bench.subscribe(name, &format!("http://{host}:{port}")).await;
        let delivery = bench.accept(name, &id).await;
        bench.deliver_all(&id).await;
        let (_, attempts) = bench.delivery(&delivery).await;
        assert_eq!(attempts[0].outcome.word(), "blocked", "{host}");
    }
    assert!(tokio::time::timeout(Duration::ZERO, receiver.received(1)).await.is_err());
}

#[tokio::test]
async fn a_refused_connection_is_an_outcome_too() {
    let bench = Bench::new("127.0.0.0/8").await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    drop(listener);
    let id = bench.subscribe("sub_1", &url).await;
    let delivery = bench.accept("1", &id).await;
    bench.deliver_all(&id).await;
    let (_, attempts) = bench.delivery(&delivery).await;
    assert_eq!(attempts[0].outcome.word(), "unreachable");
    assert!(
        attempts[0].outcome.error().unwrap().to_lowercase().contains("refused"),
        "{:?}",
        attempts[0].outcome
    );
}

#[tokio::test]
async fn a_receiver_that_hangs_times_out() {
    let bench = Bench::new("127.0.0.0/8").await;
    let receiver = Receiver::start(|_| None).await;
    let id = bench.subscribe("sub_1", &receiver.url).await;
    let delivery = bench.accept("1", &id).await;
    let now = bench.clock.now();
    let claims = bench.worker.store.claim(id.clone(), 1, now, later(now, limits::LEASE)).await.unwrap();
    let claimed = claims.claimed.into_iter().next().unwrap();
    let worker = bench.worker.clone();
    let attempt = tokio::spawn(async move {
        let attempted = worker.deliver(id, claimed, None).await;
        worker.record(vec![attempted]).await;
    });
    receiver.received(1).await;
    tokio::time::pause();
    tokio::time::advance(limits::ATTEMPT).await;
    tokio::time::resume();
    attempt.await.unwrap();
    assert_eq!(bench.delivery(&delivery).await.1[0].outcome, Outcome::TimedOut);
}

#[tokio::test]
async fn the_first_kilobytes_of_a_large_answer_are_kept() {
    let bench = Bench::new("127.0.0.0/8").await;
    let receiver = Receiver::start(|_| Some("a".repeat(10 << 20).into_response())).await;
    let id = bench.subscribe("sub_1", &receiver.url).await;
    let delivery = bench.accept("1", &id).await;
    bench.deliver_all(&id).await;
    let (delivered, attempts) = bench.delivery(&delivery).await;
    assert_eq!(
        (delivered.status, attempts[0].answer.len()),
        (DeliveryStatus::Delivered, limits::ANSWER_KEPT)
    );
}

#[tokio::test]
async fn a_dead_receiver_delays_nobody_and_a_restart_takes_up_where_it_was() {
    let bench = Bench::new("127.0.0.0/8").await;
    let dead = Receiver::start(|_| None).await;
    let healthy = Receiver::start(|_| Some(status(200))).await;
    let (dead_id, healthy_id) =
        (bench.subscribe("sub_1", &dead.url).await, bench.subscribe("sub_2", &healthy.url).await);
    for number in 0..100 {
        bench.accept(&format!("d{number}"), &dead_id).await;
        bench.accept(&format!("h{number}"), &healthy_id).await;
    }
    // Nothing was published, as after a crash: the sweep at the start finds all of it.
    let (stop, stopped) = watch::channel(false);
    let running = tokio::spawn(bench.worker.clone().run(stopped));
    healthy.received(100).await;
    let pending = DeliveryQuery { status: Some(DeliveryStatus::Pending), limit: 500, ..Default::default() };
    let pending = bench.worker.store.deliveries(pending).await.unwrap();
    assert!(pending.iter().filter(|delivery| delivery.subscription == dead_id).count() == 100);
    stop.send(true).unwrap();
    tokio::time::pause();
    running.await.unwrap();
}
