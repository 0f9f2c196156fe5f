use super::*;
use crate::directory::Defaults;
use crate::feed::Feed;
use crate::model::Event;
use crate::store::{self, EventQuery, EventType, TypeQuery};
use crate::target::Guard;
use crate::testing::{Folder, ManualClock};
use crate::vault::Vault;

struct Bench {
    follower: Follower,
    count: usize,
    _stop: watch::Sender<bool>,
    _folder: Folder,
}

fn start() -> Timestamp {
    Timestamp::from_second(1_700_000_000).unwrap()
}

impl Bench {
    async fn new() -> Self {
        let folder = Folder::new();
        let url = format!("sqlite:{}", folder.path("test.db").display());
        let store = store::embedded(&url, Vault::new(&[1; 32])).unwrap();
        let directory = Directory::load(&*store, Guard::default(), Defaults::default()).await.unwrap();
        let (stop, stopped) = watch::channel(false);
        let follower = Follower {
            store,
            directory: Arc::new(directory),
            board: Arc::default(),
            accepted: Feed::new(stopped).watch(),
            clock: Arc::new(ManualClock::at(start())),
            metrics: Arc::default(),
        };
        Self { follower, count: 0, _stop: stop, _folder: folder }
    }

    async fn accept(&mut self, event_type: &str, tenant: Option<&str>, data: &str, times: usize) {
        let first = self.count;
        self.count += times;
        let event = |number: usize| Event {
            id: number.to_string(),
            source: "/test".into(),
            event_type: event_type.into(),
            subject: None,
            time: start(),
            datacontenttype: None,
            data: Some(data.to_owned().into()),
            tenant: tenant.map(str::to_owned),
            extensions: Default::default(),
        };
        let batch = (first..self.count).map(|number| self.follower.directory.address(event(number), start()));
        self.follower.store.accept(batch.collect(), start()).await.unwrap();
    }

    async fn types(&self, tenant: Option<&str>) -> Vec<EventType> {
        let query = TypeQuery { tenant: tenant.map(str::to_owned), limit: 99, ..TypeQuery::default() };
        self.follower.store.event_types(query).await.unwrap()
    }

    async fn counts(&self, tenant: Option<&str>) -> Vec<(String, i64)> {
        self.types(tenant).await.into_iter().map(|found| (found.event_type, found.count)).collect()
    }

    /// The data of all `gatehook.schema.changed`.
    async fn news(&self) -> Vec<serde_json::Value> {
        let query = EventQuery { limit: 999, oldest_first: true, ..EventQuery::default() };
        let events = self.follower.store.events(query).await.unwrap().into_iter().map(|found| found.event);
        let news = events.filter(|event| event.event_type == "gatehook.schema.changed");
        news.map(|event| serde_json::from_slice(&event.data.unwrap()).unwrap()).collect()
    }
}

#[tokio::test]
async fn every_event_is_counted_once_for_all_and_for_its_tenant() {
    let mut bench = Bench::new().await;
    bench.accept("a.b", Some("blue"), "{}", limits::CATALOGUE_PAGE).await;
    bench.accept("a.b", None, "{}", 5).await;
    bench.accept("c.d", Some("red"), "{}", 1).await;
    assert!(bench.follower.round().await.unwrap(), "there is more");
    assert_eq!(bench.follower.metrics.catalogue_behind.get(), 6);
    assert!(!bench.follower.round().await.unwrap());
    assert!(!bench.follower.round().await.unwrap());
    let page = limits::CATALOGUE_PAGE as i64;
    assert_eq!(bench.counts(None).await, [("a.b".into(), page + 5), ("c.d".into(), 1)]);
    assert_eq!(bench.counts(Some("blue")).await, [("a.b".into(), page)]);
    assert_eq!(bench.counts(Some("green")).await, []);
    assert_eq!(bench.follower.metrics.catalogue_behind.get(), 0);
}

#[tokio::test]
async fn events_that_are_gone_before_they_were_seen_are_passed_over() {
    let mut bench = Bench::new().await;
    bench.accept("a.b", None, "{}", 10).await;
    let later = Timestamp::from_second(1_800_000_000).unwrap();
    bench.follower.store.prune(0, 100, later, 0).await.unwrap();
    bench.accept("a.b", None, "{}", 3).await;
    bench.follower.round().await.unwrap();
    assert_eq!(bench.counts(None).await, [("a.b".into(), 3)]);
}

#[tokio::test]
async fn a_change_is_told_of_once_and_is_no_traffic() {
    let mut bench = Bench::new().await;
    for (data, times) in [(r#"{"id":1,"card":"x"}"#, 3), (r#"{"id":1}"#, 2), (r#"{"id":"1"}"#, 1)] {
        for _ in 0..times {
            bench.accept("a.b", Some("blue"), data, limits::CATALOGUE_LOOKED).await;
            bench.follower.round().await.unwrap();
        }
    }
    for _ in 0..3 {
        bench.follower.round().await.unwrap();
    }
    let change = |kind: &str, path: &str, before: &[&str], after: &[&str]| {
        let change = serde_json::json!({"kind": kind, "path": path, "before": before, "after": after});
        serde_json::json!({"type": "a.b", "changes": [change]})
    };
    let expected = [
        change("vanished", "/card", &["string"], &[]),
        change("type_changed", "/id", &["integer"], &["string"]),
    ];
    assert_eq!(bench.news().await, expected);
    assert_eq!(bench.counts(None).await, [("a.b".into(), 60)]);
}

#[tokio::test]
async fn what_was_learnt_before_a_conflict_is_not_written() {
    let mut bench = Bench::new().await;
    bench.accept("a.b", Some("blue"), "{}", 1).await;
    let ahead = bench.follower.store.passed(9).await.unwrap();
    bench.follower.round().await.unwrap();
    let round = Round { place: ahead.place, position: 1, learnt: Vec::new(), keep: (9, 9) };
    let late = bench.follower.store.learn(round, Note::default(), start()).await;
    assert!(matches!(late, Err(StoreError::Conflict)), "{late:?}");
    assert_eq!(bench.counts(None).await, [("a.b".into(), 1)]);
}

#[tokio::test]
async fn it_learns_when_started_and_stops_when_told() {
    let mut bench = Bench::new().await;
    bench.accept("a.b", None, "{}", 1).await;
    let store = bench.follower.store.clone();
    let (stop, stopped) = watch::channel(false);
    let running = tokio::spawn(bench.follower.run(stopped));
    while store.event_types(TypeQuery { limit: 1, ..TypeQuery::default() }).await.unwrap().is_empty() {
        tokio::task::yield_now().await;
    }
    stop.send(true).unwrap();
    running.await.unwrap();
}
