//! What every store must do, whatever its database: one suite, run against each backend.
//!
//! A backend passes all of it or is not a backend.

use std::sync::Arc;

use bytes::Bytes;
use jiff::Timestamp;

use super::*;
use crate::model::{DeliveryStatus, Format, Options, Ordering, Outcome, Secret, SubscriptionStatus};
use crate::retry::Verdict;

mod access;
mod bench;
mod catalogue;
mod erase;
mod housekeeping;
mod named;
mod order;
mod prune;
mod replays;
mod shared;
mod statistics;
mod text;
mod unmatched;

use bench::{Bench, Place, open, vault};

fn ended(claimed: &Claimed, status: u16, verdict: Verdict, now: i64) -> Ended {
    let attempt = attempt(claimed.attempt_count + 1, status, now);
    let (id, claim) = (claimed.id.clone(), claimed.claim);
    Ended { id, claim, attempt, verdict, health: Health::Same, note: Note::default() }
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_700_000_000 + second).unwrap()
}

fn sub(name: &str) -> SubscriptionId {
    SubscriptionId(name.to_owned())
}

fn new_event(id: &str, subscriptions: &[&str]) -> NewEvent {
    let event = Event {
        id: id.into(),
        source: "/test".into(),
        event_type: "contact.create".into(),
        subject: Some("/contacts/1".into()),
        time: at(-1),
        datacontenttype: Some("application/json".into()),
        data: Some(Bytes::from_static(b"{\"a\" : 1}")),
        tenant: Some("blue".into()),
        extensions: [("requestid".to_owned(), serde_json::from_str("\"r\"").unwrap())].into(),
    };
    let deliveries =
        subscriptions.iter().map(|name| delivery(&format!("dlv_{id}_{name}"), name, 0)).collect();
    NewEvent { event: event.into(), deliveries }
}

fn delivery(id: &str, subscription: &str, due_at: i64) -> NewDelivery {
    NewDelivery {
        id: DeliveryId(id.to_owned()),
        subscription: sub(subscription),
        due_at: at(due_at),
        resource: None,
        lease: None,
    }
}

fn subscription(name: &str) -> Subscription {
    Subscription {
        id: sub(name),
        revision: 1,
        tenant: None,
        target_url: "https://example.com/hook".into(),
        events: vec!["contact.*".into()],
        status: SubscriptionStatus::On,
        off_reason: None,
        description: Some("d".into()),
        format: Format::Raw,
        metadata: serde_json::from_str(r#"{"a":[1]}"#).unwrap(),
        options: Options { retry: Some("none".into()), ordering: Ordering::Resource, ..Options::default() },
        credentials: serde_json::from_str(r#"{"auth":{"type":"bearer","token":"t0k"}}"#).unwrap(),
        secrets: vec![Secret { key: vec![7; 32], expires_at: None }],
        expires_at: Some(at(1_000)),
        failing_since: None,
        created_at: at(0),
        updated_at: at(0),
    }
}

fn attempt(number: u32, status: u16, now: i64) -> Attempt {
    let outcome = Outcome::Answered { status, retry_after_s: None, instruction: None };
    Attempt { number, started_at: at(now), duration_ms: 3, outcome, answer: Bytes::from_static(b"answer") }
}

#[tokio::test]
async fn an_accepted_event_is_there_after_a_restart_with_its_deliveries() {
    for bench in Bench::all().await {
        let ids = bench.accept("1", &["a", "b"]).await;
        let bench = bench.reopen().await;
        let found = bench
            .store
            .events(EventQuery { id: Some("1".into()), limit: 9, ..Default::default() })
            .await
            .unwrap();
        let (expected, found) = (new_event("1", &[]).event, &found[0]);
        assert_eq!(found.accepted_at, at(0));
        assert_eq!(format!("{:?}", found.event), format!("{expected:?}"));
        for id in &ids {
            assert_eq!(bench.status(id).await, DeliveryStatus::Pending);
        }
    }
}

#[tokio::test]
async fn a_repeat_changes_nothing_even_within_one_batch() {
    for bench in Bench::all().await {
        bench.accept("1", &["a"]).await;
        let again = NewEvent { deliveries: vec![delivery("dlv_other", "a", 0)], ..new_event("1", &[]) };
        let mut elsewhere = new_event("1", &[]);
        Arc::make_mut(&mut elsewhere.event).source = "/elsewhere".into();
        let batch = vec![again, new_event("2", &[]), new_event("2", &[]), elsewhere];
        let acceptances = bench.store.accept(batch, at(0)).await.unwrap();
        use Acceptance::{Accepted, Repeated};
        assert_eq!(acceptances, [Repeated, Accepted, Repeated, Accepted]);
        assert_eq!(bench.claim("a", 9, 0).await.len(), 1);
    }
}

#[tokio::test]
async fn no_two_claims_hold_the_same_delivery_and_a_lease_that_runs_out_is_due_again() {
    for bench in Bench::all().await {
        for id in ["1", "2", "3"] {
            bench.accept(id, &["a"]).await;
        }
        let claims = bench.store.claim(sub("a"), 2, at(0), at(60)).await.unwrap();
        assert_eq!((claims.claimed.len(), claims.more, claims.next_due_at), (2, true, Some(at(0))));
        assert_eq!(claims.claimed[0].event.data.as_deref(), Some(&b"{\"a\" : 1}"[..]));
        let rest = bench.store.claim(sub("a"), 2, at(0), at(60)).await.unwrap();
        assert_eq!((rest.claimed.len(), rest.more, rest.next_due_at), (1, false, Some(at(60))));
        assert!(bench.claim("a", 9, 59).await.is_empty());
        let again = bench.claim("a", 9, 60).await;
        assert_eq!(again.len(), 3);
        assert!(matches!(
            bench.record(&claims.claimed[0], 200, Verdict::Delivered, 61).await,
            Recorded::Stale
        ));
        assert!(matches!(
            bench.record(&again[0], 200, Verdict::Delivered, 61).await,
            Recorded::Current { turned_off: None, released: false }
        ));
        assert!(matches!(bench.record(&again[0], 200, Verdict::Delivered, 61).await, Recorded::Stale));
    }
}

#[tokio::test]
async fn a_delivery_may_be_claimed_as_it_is_accepted_and_is_due_once_its_claim_ends() {
    for bench in Bench::all().await {
        let lease = Lease { claim: 7, until: at(60) };
        let mut event = new_event("1", &["a", "b", "c", "d"]);
        event.deliveries[..3].iter_mut().for_each(|delivery| delivery.lease = Some(lease));
        event.deliveries[3] =
            NewDelivery { resource: Some("/contacts/1".into()), ..event.deliveries[2].clone() };
        event.deliveries[3].id = DeliveryId("dlv_waits".into());
        event.deliveries[2].resource = Some("/contacts/1".into());
        let ids: Vec<_> = event.deliveries.iter().map(|delivery| delivery.id.clone()).collect();
        bench.store.accept(vec![event], at(0)).await.unwrap();
        for name in ["a", "b", "c"] {
            assert!(bench.claim(name, 9, 59).await.is_empty(), "{name} is claimed already");
        }
        bench.store.release(vec![(ids[0].clone(), 7), (ids[1].clone(), 8)], at(1)).await.unwrap();
        let again = bench.claim("a", 9, 1).await;
        assert_eq!((again.len(), again[0].attempt_count, again[0].began_at), (1, 0, at(0)));
        assert!(bench.claim("b", 9, 1).await.is_empty(), "it was released by another claim's token");
        assert_eq!(bench.store.due().await.unwrap().len(), 3);
        bench.store.release(vec![(ids[3].clone(), 7)], at(1)).await.unwrap();
        assert!(
            bench.claim("c", 9, 1).await.is_empty(),
            "what waits for an earlier one is claimed by nobody"
        );
        assert_eq!(bench.claim("c", 9, 60).await.len(), 1);
        let held = Claimed { id: ids[1].clone(), claim: 7, ..again[0].clone() };
        assert!(matches!(bench.record(&held, 200, Verdict::Delivered, 2).await, Recorded::Current { .. }));
        assert_eq!(bench.status(&ids[1]).await, DeliveryStatus::Delivered);
    }
}

#[tokio::test]
async fn attempts_recorded_together_stand_each_for_itself() {
    for bench in Bench::all().await {
        for id in ["1", "2", "3"] {
            bench.accept(id, &["a"]).await;
        }
        let claimed = bench.claim("a", 9, 0).await;
        bench.record(&claimed[1], 200, Verdict::Delivered, 1).await;
        let verdicts = [Verdict::Delivered, Verdict::Delivered, Verdict::Exhausted];
        let batch =
            claimed.iter().zip(verdicts).map(|(claimed, verdict)| ended(claimed, 500, verdict, 2)).collect();
        let recorded = bench.store.record(Arc::new(batch), at(2)).await.unwrap();
        assert!(matches!(
            recorded[..],
            [Recorded::Current { .. }, Recorded::Stale, Recorded::Current { .. }]
        ));
        for (claimed, expected) in claimed.iter().zip([("delivered", 2), ("delivered", 1), ("exhausted", 2)])
        {
            let (delivery, attempts) = bench.store.delivery(&claimed.id).await.unwrap();
            let ended_at = delivery.ended_at.unwrap();
            assert_eq!((delivery.status.word(), ended_at, attempts.len()), (expected.0, at(expected.1), 1));
        }
    }
}

#[tokio::test]
async fn each_verdict_is_written_with_its_attempt() {
    for bench in Bench::all().await {
        let ids = [
            bench.accept("1", &["a"]).await,
            bench.accept("2", &["a"]).await,
            bench.accept("3", &["a"]).await,
        ]
        .concat();
        let claimed = bench.claim("a", 9, 0).await;
        bench.record(&claimed[0], 500, Verdict::Retry(at(5)), 1).await;
        bench.record(&claimed[1], 500, Verdict::Exhausted, 1).await;
        bench.record(&claimed[2], 400, Verdict::Cancelled("because"), 1).await;
        assert_eq!(bench.status(&ids[1]).await, DeliveryStatus::Exhausted);
        let (cancelled, _) = bench.store.delivery(&ids[2]).await.unwrap();
        assert_eq!(
            (cancelled.status, cancelled.reason.as_deref()),
            (DeliveryStatus::Cancelled, Some("because"))
        );
        assert!(bench.claim("a", 9, 4).await.is_empty(), "a retry came early");
        let retry = bench.claim("a", 9, 5).await;
        assert_eq!((retry[0].attempt_count, retry[0].step), (1, 1));
        bench.record(&retry[0], 200, Verdict::Delivered, 6).await;
        let (delivered, attempts) = bench.store.delivery(&ids[0]).await.unwrap();
        assert_eq!(
            (delivered.status, delivered.attempt_count, delivered.due_at),
            (DeliveryStatus::Delivered, 2, None)
        );
        let seen: Vec<_> = attempts
            .iter()
            .map(|attempt| (attempt.number, attempt.outcome.status(), &attempt.answer[..]))
            .collect();
        assert_eq!(seen, [(1, Some(500), &b"answer"[..]), (2, Some(200), &b"answer"[..])]);
    }
}

#[tokio::test]
async fn a_restart_releases_what_was_under_way_unless_another_process_may_hold_it() {
    for bench in Bench::all().await {
        bench.accept("1", &["a"]).await;
        assert_eq!(bench.claim("a", 9, 0).await.len(), 1);
        let bench = bench.reopen().await;
        let released = usize::from(!bench.store.is_shared());
        assert_eq!(bench.store.release_all(at(1)).await.unwrap(), released);
        assert_eq!(bench.claim("a", 9, 1).await.len(), released);
        assert_eq!(bench.claim("a", 9, 61).await.len(), 1, "a lease runs out");
    }
}

#[tokio::test]
async fn due_names_each_subscription_with_pending_deliveries_once() {
    for bench in Bench::all().await {
        for id in ["1", "2", "3"] {
            bench.accept(id, &["b", "a"]).await;
        }
        bench.accept("4", &["c"]).await;
        let claimed = bench.claim("c", 9, 0).await;
        bench.record(&claimed[0], 200, Verdict::Delivered, 0).await;
        for claimed in bench.claim("b", 9, 0).await {
            bench.record(&claimed, 500, Verdict::Retry(at(7)), 0).await;
        }
        assert_eq!(bench.store.due().await.unwrap(), [(sub("a"), at(0)), (sub("b"), at(7))]);
    }
}

#[tokio::test]
async fn cancelling_leaves_what_is_under_way() {
    for bench in Bench::all().await {
        for id in ["1", "2", "3", "4"] {
            bench.accept(id, &["a"]).await;
        }
        let claimed = bench.claim("a", 1, 0).await;
        assert_eq!(bench.store.cancel_pending(sub("a"), "off".into(), 2, at(1)).await.unwrap(), 2);
        assert_eq!(bench.store.cancel_pending(sub("a"), "off".into(), 2, at(1)).await.unwrap(), 1);
        assert!(matches!(
            bench.record(&claimed[0], 200, Verdict::Delivered, 2).await,
            Recorded::Current { turned_off: None, released: false }
        ));
        let query = DeliveryQuery { status: Some(DeliveryStatus::Cancelled), limit: 9, ..Default::default() };
        assert_eq!(bench.store.deliveries(query).await.unwrap().len(), 3);
    }
}

#[tokio::test]
async fn a_redelivery_begins_a_new_round_and_keeps_the_count() {
    for bench in Bench::all().await {
        let id = bench.accept("1", &["a"]).await.remove(0);
        let claimed = bench.claim("a", 1, 0).await;
        bench.record(&claimed[0], 500, Verdict::Exhausted, 1).await;
        assert_eq!(bench.store.redeliver(id.clone(), Note::default(), at(2)).await.unwrap(), sub("a"));
        let again = bench.claim("a", 1, 2).await;
        assert_eq!((again[0].attempt_count, again[0].step), (1, 0));
        bench.store.redeliver(id.clone(), Note::default(), at(3)).await.unwrap();
        assert!(bench.claim("a", 1, 3).await.is_empty(), "an attempt under way is not doubled");
        bench.record(&again[0], 200, Verdict::Delivered, 4).await;
        let unknown = bench.store.redeliver(DeliveryId("dlv_none".into()), Note::default(), at(5)).await;
        assert!(matches!(unknown, Err(StoreError::NotFound)));
    }
}

#[tokio::test]
async fn a_subscription_comes_back_as_it_was_written() {
    for bench in Bench::all().await {
        let written = subscription("sub_1");
        bench.store.create_subscription(written.clone(), Note::default()).await.unwrap();
        let bench = bench.reopen().await;
        let mut read = bench.store.subscription(&sub("sub_1")).await.unwrap();
        assert_eq!(format!("{read:?}"), format!("{written:?}"));
        assert_eq!(read.secrets, written.secrets);
        read.revision = 2;
        read.events = vec!["*".into()];
        bench.store.update_subscription(read.clone(), Note::default()).await.unwrap();
        assert!(matches!(
            bench.store.update_subscription(read.clone(), Note::default()).await,
            Err(StoreError::Conflict)
        ));
        assert_eq!(bench.store.subscription(&sub("sub_1")).await.unwrap().events, ["*"]);
        bench.store.delete_subscription(sub("sub_1"), Note::default()).await.unwrap();
        assert!(matches!(
            bench.store.update_subscription(read, Note::default()).await,
            Err(StoreError::NotFound)
        ));
        assert!(matches!(
            bench.store.delete_subscription(sub("sub_1"), Note::default()).await,
            Err(StoreError::NotFound)
        ));
    }
}

#[tokio::test]
async fn an_off_verdict_turns_the_subscription_off_in_the_same_step() {
    for bench in Bench::all().await {
        bench.store.create_subscription(subscription("sub_1"), Note::default()).await.unwrap();
        let id = bench.accept("1", &["sub_1"]).await.remove(0);
        let claimed = bench.claim("sub_1", 1, 0).await;
        let Recorded::Current { turned_off: Some(off), .. } =
            bench.record(&claimed[0], 410, Verdict::Off("gone"), 1).await
        else {
            panic!("the subscription did not come back")
        };
        assert_eq!(
            (off.status, off.off_reason.as_deref(), off.revision),
            (SubscriptionStatus::Off, Some("gone"), 2)
        );
        assert_eq!(bench.status(&id).await, DeliveryStatus::Cancelled);
    }
}

#[tokio::test]
async fn pages_follow_each_other_without_gap_or_overlap() {
    for bench in Bench::all().await {
        for number in 0..5 {
            bench
                .store
                .create_subscription(subscription(&format!("sub_{number}")), Note::default())
                .await
                .unwrap();
            bench.accept(&number.to_string(), &["a"]).await;
        }
        let first =
            bench.store.subscriptions(SubscriptionQuery { limit: 3, ..Default::default() }).await.unwrap();
        let after = Some(first[2].id.0.clone());
        let second = bench
            .store
            .subscriptions(SubscriptionQuery { after, limit: 3, ..Default::default() })
            .await
            .unwrap();
        assert_eq!(second.iter().map(|s| s.id.as_str()).collect::<Vec<_>>(), ["sub_3", "sub_4"]);
        let off = SubscriptionQuery { status: Some(SubscriptionStatus::Off), limit: 3, ..Default::default() };
        assert!(bench.store.subscriptions(off).await.unwrap().is_empty());

        let newest = bench.store.events(EventQuery { limit: 2, ..Default::default() }).await.unwrap();
        let cursor = Some(newest[1].seq);
        let next = bench.store.events(EventQuery { cursor, limit: 9, ..Default::default() }).await.unwrap();
        assert_eq!(next.iter().map(|found| found.event.id.as_str()).collect::<Vec<_>>(), ["2", "1", "0"]);

        let query = DeliveryQuery { subscription: Some("a".into()), limit: 2, ..Default::default() };
        let newest = bench.store.deliveries(query.clone()).await.unwrap();
        let before = Some(newest[1].id.0.clone());
        let next = bench.store.deliveries(DeliveryQuery { before, limit: 9, ..query }).await.unwrap();
        assert_eq!(next.len(), 3);
        let of_event = DeliveryQuery { event: Some("4".into()), limit: 9, ..Default::default() };
        assert_eq!(bench.store.deliveries(of_event).await.unwrap().len(), 1);
    }
}

#[tokio::test]
async fn a_large_backlog_is_claimed_in_bounded_bites() {
    for bench in Bench::all().await {
        let mut large = new_event("1", &["a"]);
        let previous = format!("\"{}\"", "a".repeat(2 << 20));
        let event = Arc::make_mut(&mut large.event);
        event
            .extensions
            .insert("previous".into(), serde_json::value::RawValue::from_string(previous).unwrap());
        event.data = Some(Bytes::from(vec![b'1'; 1 << 20]));
        let mut batch = vec![large.clone()];
        for id in ["2", "3"] {
            let mut next = large.clone();
            Arc::make_mut(&mut next.event).id = id.into();
            next.deliveries[0].id = DeliveryId(format!("dlv_{id}"));
            batch.push(next);
        }
        bench.store.accept(batch, at(0)).await.unwrap();
        let claims = bench.store.claim(sub("a"), 9, at(0), at(60)).await.unwrap();
        assert_eq!((claims.claimed.len(), claims.more), (2, true));
    }
}

#[tokio::test]
async fn meta_keeps_its_first_value() {
    for bench in Bench::all().await {
        assert_eq!(bench.store.meta("x", None).await.unwrap(), None);
        assert_eq!(
            bench.store.meta("x", Some(Bytes::from_static(b"1"))).await.unwrap().as_deref(),
            Some(&b"1"[..])
        );
        assert_eq!(
            bench.store.meta("x", Some(Bytes::from_static(b"2"))).await.unwrap().as_deref(),
            Some(&b"1"[..])
        );
        bench.store.ping().await.unwrap();
    }
}

#[tokio::test]
async fn a_store_that_cannot_be_used_says_why() {
    let bench = Bench::in_file();
    let Place::Folder(folder) = &bench.place else { unreachable!() };
    bench.store.create_subscription(subscription("sub_1"), Note::default()).await.unwrap();
    let error = |result: anyhow::Result<Arc<dyn Store>>| format!("{:#}", result.err().unwrap());
    assert!(error(open(folder, 1)).contains("in use by another process"));
    assert!(error(embedded("mysql://x", Vault::new(&[1; 32]))).contains("names no store"));
    assert!(error(embedded("sqlite:/no/such/folder/x.db", Vault::new(&[1; 32]))).contains("/no/such/folder"));

    let newer = folder.path("newer.db");
    rusqlite::Connection::open(&newer).unwrap().pragma_update(None, "user_version", 99).unwrap();
    assert!(
        error(embedded(&format!("sqlite:{}", newer.display()), Vault::new(&[1; 32])))
            .contains("version 99, newer")
    );
}
