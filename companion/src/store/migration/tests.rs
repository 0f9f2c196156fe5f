use std::sync::Arc;

use jiff::Timestamp;

use super::*;
use crate::model::{
    Attempt, DeliveryId, Event, Format, Options, Outcome, Scope, Secret, Shape, Subscription, SubscriptionId,
    SubscriptionStatus, Token,
};
use crate::retry::Verdict;
use crate::statistics::{Collector, HOUR_S, Of};
use crate::store::postgres::scratch::Schema;
use crate::store::{
    AuditEntry, Chart, ChartQuery, DeliveryQuery, Ended, EventQuery, Group, Health, Idempotency, Learnt,
    NewDelivery, NewEvent, Note, Round, Store, StoreError, SubscriptionQuery, TypeKey, TypePatch, TypeQuery,
    connect, embedded,
};
use crate::testing::Folder;
use crate::vault::Vault;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_700_000_000 + second).unwrap()
}

fn vault() -> Vault {
    Vault::new(&[1; 32])
}

fn subscription(id: &str, rate: Option<&str>) -> Subscription {
    Subscription {
        id: SubscriptionId(id.into()),
        revision: 1,
        tenant: Some("blue\0\\".into()),
        target_url: "https://example.com/".into(),
        events: vec!["*".into()],
        status: SubscriptionStatus::On,
        off_reason: None,
        description: Some("a \\ and a \0".into()),
        format: Format::Standard,
        metadata: [("a".to_owned(), "\0".into())].into_iter().collect(),
        options: Options { rate_limit: rate.map(Into::into), ..Options::default() },
        credentials: Default::default(),
        secrets: vec![Secret { key: vec![7; 24], expires_at: None }],
        expires_at: None,
        failing_since: None,
        created_at: at(0),
        updated_at: at(0),
    }
}

async fn accept(store: &dyn Store, number: usize, resource: Option<&str>) {
    let event = Event {
        id: format!("evt_{number}"),
        source: "/test".into(),
        event_type: "contact.create".into(),
        subject: Some("/contacts/1".into()),
        time: at(0),
        datacontenttype: Some("application/json".into()),
        data: Some(format!("{{\"n\" : {number}}}").into_bytes().into()),
        tenant: None,
        extensions: [("requestid".to_owned(), serde_json::from_str("\"\\u0000\"").unwrap())].into(),
    };
    let delivery = NewDelivery {
        id: DeliveryId(format!("dlv_{number:06}")),
        subscription: SubscriptionId("sub_1".into()),
        due_at: at(0),
        resource: resource.map(Into::into),
        lease: None,
    };
    let event = NewEvent { event: event.into(), deliveries: vec![delivery] };
    store.accept(vec![event], at(0)).await.unwrap();
}

/// Makes one attempt of what is due first, and records how it ended.
async fn attempt(store: &dyn Store, verdict: Verdict) {
    let claims = store.claim(SubscriptionId("sub_1".into()), 1, at(1), at(61)).await.unwrap();
    let claimed = &claims.claimed[0];
    let attempt = Attempt {
        number: claimed.attempt_count + 1,
        started_at: at(1),
        duration_ms: 3,
        outcome: Outcome::Unreachable("why\0".into()),
        answer: vec![0, 1, 2].into(),
    };
    let (id, claim) = (claimed.id.clone(), claimed.claim);
    let ended = Ended { id, claim, attempt, verdict, health: Health::Same, note: Note::default() };
    store.record(Arc::new(vec![ended]), at(2)).await.unwrap();
}

/// Asks for `sub_1`, once.
fn asked() -> Note {
    let (key, resource) = ("admin\0\\ POST key".into(), "sub_1".into());
    let idempotency = Idempotency { key, request: [5; 32], resource, at: at(0) };
    Note { idempotency: Some(idempotency), ..Note::default() }
}

/// Moves a store on a thread of its own; what it tells is heard by the second.
fn moving(
    from: &str,
    to: &str,
) -> (std::thread::JoinHandle<anyhow::Result<Moved>>, tokio::sync::mpsc::UnboundedReceiver<Progress>) {
    let (told, heard) = tokio::sync::mpsc::unbounded_channel();
    let (from, to) = (from.to_owned(), to.to_owned());
    let moving = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(move_store(&from, &to, &mut |progress| {
            let _ = told.send(progress);
        }))
    });
    (moving, heard)
}

/// A store with a row of every kind.
async fn fill(store: &dyn Store) {
    let audit = AuditEntry {
        at: at(0),
        actor: "admin".into(),
        action: "subscription.create".into(),
        resource: "sub_1".into(),
        detail: None,
    };
    let note = Note { audit: Some(audit), ..asked() };
    store.create_subscription(subscription("sub_1", None), note).await.unwrap();
    store.create_subscription(subscription("sub_2", Some("5/s")), Note::default()).await.unwrap();
    let token = Token {
        id: "tok_1".into(),
        hash: [3; 32],
        scope: Scope::Read,
        description: None,
        expires_at: None,
        created_at: at(0),
    };
    store.create_token(token, Note::default()).await.unwrap();
    for number in 0..3_000 {
        accept(store, number, (number >= 2_990).then_some("/contacts/1")).await;
    }
    attempt(store, Verdict::Retry(at(500))).await;
    attempt(store, Verdict::Delivered).await;
    let shape = Shape { method: "POST".into(), path: "/a".into(), count: 2, status: 200 };
    store.count_unmatched("one".into(), vec![shape], 9, at(0)).await.unwrap();
    let mut collector = Collector::default();
    let answered = Outcome::TimedOut;
    let counted =
        Attempt { number: 1, started_at: at(1), duration_ms: 3, outcome: answered, answer: vec![].into() };
    let id = SubscriptionId("sub_1".into());
    let of = Of { subscription: &id, owner: -7, event_type: "contact.create" };
    collector.count(of, &counted, &Verdict::Exhausted, at(1));
    store.add_statistics(collector.take().rows()).await.unwrap();
    store.meta("kept", Some(vec![1].into())).await.unwrap();
    learn(store, "contact.create").await;
    let patch = TypePatch { description: Some(Some("a \\ and a \0".into())), published: Some(true) };
    store.describe_type("contact.create".into(), patch, Note::default()).await.unwrap();
}

/// Adds to what the catalogue knows of a type.
async fn learn(store: &dyn Store, event_type: &str) {
    let place = store.passed(1).await.unwrap().place;
    let learnt = [None, Some("blue".to_owned())].map(|tenant| Learnt {
        key: TypeKey { tenant, event_type: event_type.into() },
        count: 2,
        first_at: at(0),
        last_at: at(1),
        state: Some(("{}".into(), Some("[\"\\u0000\"]".into()))),
    });
    let round = Round { place, position: place.position + 1, learnt: learnt.into(), keep: (99, 99) };
    store.learn(round, Note::default(), at(0)).await.unwrap();
}

async fn chart(store: &dyn Store) -> Option<Chart> {
    let query = ChartQuery {
        from: at(-1_699_920_000),
        to: at(1_699_920_000),
        step_s: HOUR_S,
        subscriptions: None,
        owner: None,
        event_type: None,
        group: Some(Group::Subscription),
        most_groups: 9,
        most_rows: 9,
    };
    store.statistics(query).await.unwrap()
}

/// All that can be read of a store, as text.
async fn all(store: &dyn Store) -> Vec<String> {
    let limit = 1_000_000;
    let mut all = Vec::new();
    let subscriptions = SubscriptionQuery { limit, ..Default::default() };
    all.extend(store.subscriptions(subscriptions).await.unwrap().iter().map(|row| format!("{row:?}")));
    let mut cursor = None;
    loop {
        let query = EventQuery { cursor, oldest_first: true, limit, ..Default::default() };
        let page = store.events(query).await.unwrap();
        let Some(last) = page.last() else { break };
        cursor = Some(last.seq);
        all.extend(page.iter().map(|row| format!("{row:?}")));
    }
    let deliveries = store.deliveries(DeliveryQuery { limit, ..Default::default() }).await.unwrap();
    for delivery in deliveries {
        all.push(format!("{:?}", store.delivery(&delivery.id).await.unwrap()));
    }
    all.extend(store.tokens().await.unwrap().iter().map(|row| format!("{row:?}")));
    all.extend(store.audit(None, limit).await.unwrap().iter().map(|row| format!("{row:?}")));
    all.extend(store.unmatched(None, limit).await.unwrap().iter().map(|row| format!("{row:?}")));
    all.push(format!("{:?}", chart(store).await));
    for tenant in [None, Some("blue".to_owned())] {
        let types = store.event_types(TypeQuery { tenant, limit, ..TypeQuery::default() }).await.unwrap();
        all.extend(types.iter().map(|row| format!("{row:?}")));
    }
    all.push(format!("{:?}", store.passed(1).await.unwrap()));
    all.push(format!("{:?} {:?}", store.meta("kept", None).await.unwrap(), store.due().await.unwrap()));
    all
}

#[tokio::test]
async fn a_store_moves_while_it_is_used_and_each_row_is_as_it_was() {
    let Some(schema) = Schema::new() else { return };
    let folder = Folder::new();
    let old = format!("sqlite:{}", folder.path("old.db").display());
    let store = embedded(&old, vault()).unwrap();
    fill(&*store).await;
    let (moving, mut stop) = moving(&old, &schema.url());
    while stop.recv().await.unwrap() != Progress::Stop {}
    assert!(connect(&schema.url(), vault()).await.is_err(), "it is not there yet");
    // Whatever happens to a row: a new one, one that is changed, one that goes.
    accept(&*store, 9_000, None).await;
    attempt(&*store, Verdict::Delivered).await;
    store.delete_subscription(SubscriptionId("sub_2".into()), Note::default()).await.unwrap();
    store.prune(0, 100, at(9), 0).await.unwrap();
    learn(&*store, "contact.create").await;
    learn(&*store, "order.create").await;
    let before = all(&*store).await;
    drop(store);
    let moved = moving.join().unwrap().unwrap();
    assert!(moved.contains(&("attempts", 1)) && moved.contains(&("subscriptions", 1)), "{moved:?}");
    let new = connect(&schema.url(), vault()).await.unwrap();
    let after = all(&*new).await;
    for (one, other) in before.iter().zip(&after) {
        assert_eq!(one, other);
    }
    assert_eq!(before.len(), after.len());
    assert_eq!(chart(&*new).await.unwrap().groups[0].0, "sub_1");
    // It goes on where the old one was: places, keys, order.
    accept(&*new, 9_001, Some("/contacts/1")).await;
    let newest = new.events(EventQuery { limit: 1, ..Default::default() }).await.unwrap();
    assert_eq!(newest[0].seq, 3_002);
    learn(&*new, "order.delete").await;
    let again = new.create_subscription(subscription("sub_3", None), asked()).await;
    assert!(matches!(again, Err(StoreError::Repeated { resource, same: true }) if resource == "sub_1"));
    let refused = embedded(&old, vault()).err().unwrap().to_string();
    assert!(refused.contains("was moved to postgres://"), "{refused}");
    assert!(move_store(&old, &schema.url(), &mut |_| {}).await.is_err(), "it was moved before");
}

#[tokio::test]
async fn a_store_that_is_used_is_no_target_and_a_move_that_was_broken_off_goes_on() {
    let Some(schema) = Schema::new() else { return };
    let folder = Folder::new();
    let old = format!("sqlite:{}", folder.path("old.db").display());
    let store = embedded(&old, vault()).unwrap();
    fill(&*store).await;
    drop(store);
    let new = connect(&schema.url(), vault()).await.unwrap();
    accept(&*new, 1, None).await;
    drop(new);
    let refused = move_store(&old, &schema.url(), &mut |_| {}).await.unwrap_err();
    assert!(format!("{refused:#}").contains("in use already"), "{refused:#}");
    schema.run("DELETE FROM deliveries; DELETE FROM events; DELETE FROM meta");
    // The server goes away in the middle of it.
    let cut = |progress: Progress| {
        if matches!(progress, Progress::Table { name: "events", .. }) {
            schema.cut();
        }
    };
    assert!(move_store(&old, &schema.url(), &mut { cut }).await.is_err());
    let refused = connect(&schema.url(), vault()).await.err().unwrap();
    assert!(format!("{refused:#}").contains("has not ended"), "{refused:#}");
    let moved = move_store(&old, &schema.url(), &mut |_| {}).await.unwrap();
    assert!(moved.contains(&("events", 3_000)), "{moved:?}");
    connect(&schema.url(), vault()).await.unwrap();
}

#[tokio::test]
async fn one_of_several_moves_takes_place() {
    let (Some(schema), Some(elsewhere)) = (Schema::new(), Schema::new()) else { return };
    let folder = Folder::new();
    let old = format!("sqlite:{}", folder.path("old.db").display());
    let store = embedded(&old, vault()).unwrap();
    accept(&*store, 1, None).await;
    let (one, mut heard) = moving(&old, &schema.url());
    while heard.recv().await.unwrap() != Progress::Stop {}
    let refused = move_store(&old, &schema.url(), &mut |_| {}).await.unwrap_err();
    assert_eq!(format!("{refused:#}"), "--to: another move into it is under way");
    let (other, mut heard) = moving(&old, &elsewhere.url());
    while heard.recv().await.unwrap() != Progress::Stop {}
    drop(store);
    let (one, other) = (one.join().unwrap(), other.join().unwrap());
    assert!(one.is_ok() != other.is_ok(), "{one:?} {other:?}");
    let refused = one.err().or(other.err()).unwrap();
    assert!(format!("{refused:#}").contains("meanwhile"), "{refused:#}");
}

#[tokio::test]
async fn a_move_that_broke_off_between_the_two_stores_comes_to_its_end() {
    let Some(schema) = Schema::new() else { return };
    let folder = Folder::new();
    let path = folder.path("old.db");
    let old = format!("sqlite:{}", path.display());
    let store = embedded(&old, vault()).unwrap();
    accept(&*store, 1, None).await;
    drop(store);
    move_store(&old, &schema.url(), &mut |_| {}).await.unwrap();
    let refused = move_store(&old, &schema.url(), &mut |_| {}).await.unwrap_err();
    assert!(format!("{refused:#}").contains("was moved to it before"), "{refused:#}");
    // As it is where the old one is closed and the new one was not released.
    let path = path.canonicalize().unwrap();
    schema.run(&format!("INSERT INTO meta VALUES ('moving_from', convert_to('{}', 'UTF8'))", path.display()));
    assert!(connect(&schema.url(), vault()).await.is_err());
    let moved = move_store(&old, &schema.url(), &mut |_| {}).await.unwrap();
    assert!(moved.contains(&("events", 1)), "{moved:?}");
    let new = connect(&schema.url(), vault()).await.unwrap();
    accept(&*new, 2, None).await;
    let newest = new.events(EventQuery { limit: 1, ..Default::default() }).await.unwrap();
    assert_eq!(newest[0].seq, 2);
}

#[tokio::test]
async fn a_wrong_url_is_named() {
    for (from, to, named) in [
        ("postgres://x", "postgres://y", "--from"),
        ("sqlite:/nowhere/x.db", "postgres://y", "--from"),
        ("sqlite:x.db", "sqlite:y.db", "--to"),
    ] {
        let refused = move_store(from, to, &mut |_| {}).await.unwrap_err();
        assert!(format!("{refused:#}").contains(named), "{refused:#}");
    }
}
