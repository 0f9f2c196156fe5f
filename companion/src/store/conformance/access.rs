//! Tokens, the audit log, idempotency keys, and events of our own: each stands or falls with the change it belongs to.

use super::*;
use crate::model::{Scope, Token};

fn audit(action: &str) -> AuditEntry {
    let (actor, action, resource) = ("tok_1".into(), action.into(), "sub_1".into());
    AuditEntry { at: at(3), actor, action, resource, detail: Some("[1]".into()) }
}

fn asked(key: &str, request: u8, resource: &str, at: Timestamp) -> Note {
    let idempotency = Idempotency { key: key.into(), request: [request; 32], resource: resource.into(), at };
    Note { idempotency: Some(idempotency), ..Note::default() }
}

#[tokio::test]
async fn a_token_is_there_until_it_is_deleted() {
    for bench in Bench::all().await {
        let token = Token {
            id: "tok_1".into(),
            hash: [7; 32],
            scope: Scope::Read,
            description: Some("d".into()),
            expires_at: Some(at(9)),
            created_at: at(0),
        };
        bench.store.create_token(token.clone(), Note::default()).await.unwrap();
        let bench = bench.reopen().await;
        assert_eq!(bench.store.tokens().await.unwrap(), [token]);
        bench.store.delete_token("tok_1".into(), Note::default()).await.unwrap();
        assert!(bench.store.tokens().await.unwrap().is_empty());
        let gone = bench.store.delete_token("tok_1".into(), Note::default()).await;
        assert!(matches!(gone, Err(StoreError::NotFound)));
    }
}

#[tokio::test]
async fn a_change_and_what_is_told_of_it_are_written_together_or_not_at_all() {
    for bench in Bench::all().await {
        let note = || Note {
            audit: Some(audit("subscription.create")),
            news: vec![new_event("news", &["b"])],
            idempotency: None,
        };
        bench.store.create_subscription(subscription("sub_1"), note()).await.unwrap();
        assert_eq!(bench.claim("b", 9, 9).await.len(), 1);
        let stale = bench.store.update_subscription(subscription("sub_1"), note()).await;
        assert!(matches!(stale, Err(StoreError::Conflict)));
        let lines = bench.store.audit(None, 9).await.unwrap();
        assert_eq!(lines.iter().map(|line| &line.entry).collect::<Vec<_>>(), [&audit("subscription.create")]);
        let next = Subscription { revision: 2, ..subscription("sub_1") };
        let update = Note { audit: Some(audit("subscription.update")), ..Note::default() };
        bench.store.update_subscription(next, update).await.unwrap();
        let lines = bench.store.audit(None, 1).await.unwrap();
        assert_eq!(lines[0].entry.action, "subscription.update");
        assert_eq!(bench.store.audit(Some(lines[0].seq), 9).await.unwrap().len(), 1);
    }
}

#[tokio::test]
async fn an_idempotency_key_makes_one_thing_for_a_day() {
    for bench in Bench::all().await {
        let create = async |name: &str, key: &str, request: u8, now: i64| {
            bench.store.create_subscription(subscription(name), asked(key, request, name, at(now))).await
        };
        create("sub_1", "k", 1, 0).await.unwrap();
        let again = create("sub_2", "k", 1, 1).await;
        assert!(matches!(again, Err(StoreError::Repeated { resource, same: true }) if resource == "sub_1"));
        assert!(matches!(create("sub_2", "k", 2, 1).await, Err(StoreError::Repeated { same: false, .. })));
        assert!(matches!(bench.store.subscription(&sub("sub_2")).await, Err(StoreError::NotFound)));
        create("sub_2", "other", 1, 1).await.unwrap();
        create("sub_3", "k", 2, 24 * 3600 + 1).await.unwrap();
    }
}

#[tokio::test]
async fn the_first_failure_is_remembered_until_a_delivery_arrives() {
    for bench in Bench::all().await {
        bench.store.create_subscription(subscription("a"), Note::default()).await.unwrap();
        for id in ["1", "2", "3"] {
            bench.accept(id, &["a"]).await;
        }
        let claims = bench.store.claim(sub("a"), 9, at(0), at(60)).await.unwrap();
        assert_eq!(claims.failing_since, None);
        for (index, (health, now, expected)) in
            [(Health::Failing, 5, Some(at(5))), (Health::Failing, 6, Some(at(5))), (Health::Well, 7, None)]
                .into_iter()
                .enumerate()
        {
            let ended = Ended { health, ..ended(&claims.claimed[index], 500, Verdict::Retry(at(99)), now) };
            bench.end(ended, now).await;
            assert_eq!(bench.store.subscription(&sub("a")).await.unwrap().failing_since, expected, "{now}");
        }
    }
}

#[tokio::test]
async fn a_subscription_is_turned_off_once() {
    for bench in Bench::all().await {
        bench.store.create_subscription(subscription("a"), Note::default()).await.unwrap();
        let note = || Note {
            audit: Some(audit("subscription.off")),
            news: vec![new_event("off", &[])],
            idempotency: None,
        };
        let off = bench.store.turn_off(sub("a"), "over", note(), at(5)).await.unwrap().unwrap();
        assert_eq!(
            (off.status, off.off_reason.as_deref(), off.revision),
            (SubscriptionStatus::Off, Some("over"), 2)
        );
        assert!(bench.store.turn_off(sub("a"), "again", note(), at(6)).await.unwrap().is_none());
        assert_eq!(bench.store.audit(None, 9).await.unwrap().len(), 1);
        assert!(bench.store.turn_off(sub("none"), "again", note(), at(6)).await.unwrap().is_none());
    }
}

fn of_tenant(name: &str, tenant: &str) -> Subscription {
    Subscription { tenant: Some(tenant.into()), ..subscription(name) }
}

#[tokio::test]
async fn a_tenant_has_no_more_subscriptions_than_it_may() {
    for bench in Bench::all().await {
        let create = async |name: &str, tenant: &str, note: Note| {
            bench.store.create_subscription_within(2, of_tenant(name, tenant), note).await
        };
        let note = || Note { audit: Some(audit("subscription.create")), ..Note::default() };
        let together = ["1", "2", "3", "4"].map(|name| create(name, "a\\b", note()));
        let made = futures_util::future::join_all(together).await;
        assert_eq!(made.iter().filter(|made| made.is_ok()).count(), 2, "{made:?}");
        assert!(made.iter().all(|made| matches!(made, Ok(()) | Err(StoreError::Full))), "{made:?}");
        assert_eq!(bench.store.audit(None, 9).await.unwrap().len(), 2, "what was not made is not told of");
        create("5", "b", Note::default()).await.unwrap();
        let query = SubscriptionQuery { tenant: Some("a\\b".into()), limit: 9, ..Default::default() };
        let own = bench.store.subscriptions(query).await.unwrap();
        assert_eq!(own.len(), 2);
        bench.store.delete_subscription(own[0].id.clone(), Note::default()).await.unwrap();
        create("6", "a\\b", Note::default()).await.unwrap();
    }
}

#[tokio::test]
async fn a_tenant_finds_deliveries_of_its_own_events_for_its_own_subscriptions() {
    for bench in Bench::all().await {
        for (name, tenant) in [("a1", "a"), ("a2", "a"), ("b1", "b")] {
            let made = of_tenant(name, tenant);
            bench.store.create_subscription(made, Note::default()).await.unwrap();
        }
        let accept = async |id: &str, tenant: Option<&str>, subscriptions: &[&str]| {
            let NewEvent { event, deliveries } = new_event(id, subscriptions);
            let event = Event { tenant: tenant.map(str::to_owned), ..(*event).clone() };
            bench.store.accept(vec![NewEvent { event: event.into(), deliveries }], at(0)).await.unwrap();
        };
        accept("1", Some("a"), &["a1", "a2"]).await;
        accept("2", Some("b"), &["b1"]).await;
        // The first subscription was another tenant's when this was accepted, or nobody's.
        accept("3", Some("b"), &["a1"]).await;
        accept("4", None, &["a1", "b1"]).await;
        accept("5", Some("a"), &["a2", "gone"]).await;
        let page = async |query: DeliveryQuery| -> Vec<(String, String, String)> {
            let found = bench.store.deliveries(query).await.unwrap().into_iter();
            found.map(|found| (found.event.id, found.subscription.0, found.id.0)).collect()
        };
        let of = |tenant: &str| DeliveryQuery { tenant: Some(tenant.into()), limit: 9, ..Default::default() };
        let named = |page: &[(String, String, String)]| -> Vec<String> {
            page.iter().map(|(event, subscription, _)| format!("{event} {subscription}")).collect()
        };
        let all = page(of("a")).await;
        assert_eq!(named(&all)[..1], ["5 a2"]);
        let mut sorted = named(&all);
        sorted.sort();
        assert_eq!(sorted, ["1 a1", "1 a2", "5 a2"]);
        assert_eq!(named(&page(of("b")).await), ["2 b1"]);
        assert!(page(of("c")).await.is_empty());
        let only = DeliveryQuery { subscription: Some("a2".into()), ..of("a") };
        assert_eq!(named(&page(only).await), ["5 a2", "1 a2"]);
        let others = DeliveryQuery { subscription: Some("b1".into()), ..of("a") };
        assert!(page(others).await.is_empty());
        // A page after the other, and the place of another tenant's delivery shows nothing of it.
        let (mut turned, mut before) = (Vec::new(), None);
        loop {
            let next = page(DeliveryQuery { before: before.take(), limit: 1, ..of("a") }).await;
            let Some((_, _, id)) = next.first() else { break };
            before = Some(id.clone());
            turned.extend(next);
        }
        assert_eq!(turned, all);
        let theirs = page(of("b")).await.remove(0).2;
        let from_there = page(DeliveryQuery { before: Some(theirs), ..of("a") }).await;
        assert!(from_there.iter().all(|found| all.contains(found)));
    }
}
