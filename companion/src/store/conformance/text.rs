//! Text of callers, whatever is in it.

use super::*;

#[tokio::test]
async fn free_text_comes_back_with_zero_bytes_and_backslashes() {
    for bench in Bench::all().await {
        let text = "a\0b\\0c\\\\\u{1F980}";
        let mut written = subscription("sub_1");
        written.description = Some(text.into());
        written.tenant = Some(text.into());
        written.metadata = serde_json::from_value(serde_json::json!({"a": text})).unwrap();
        written.options.template = Some(text.into());
        bench.store.create_subscription(written.clone(), Note::default()).await.unwrap();
        let read = bench.store.subscription(&sub("sub_1")).await.unwrap();
        assert_eq!(format!("{read:?}"), format!("{written:?}"));
        let query = SubscriptionQuery { tenant: Some(text.into()), limit: 9, ..Default::default() };
        assert_eq!(bench.store.subscriptions(query).await.unwrap().len(), 1);
        let id = bench.accept("1", &["sub_1"]).await.remove(0);
        let claimed = bench.claim("sub_1", 1, 0).await.remove(0);
        let mut ended = ended(&claimed, 0, Verdict::Retry(at(9)), 1);
        ended.attempt.outcome = Outcome::Unreachable(text.into());
        ended.attempt.answer = Bytes::from(text);
        bench.end(ended, 1).await;
        let (_, attempts) = bench.store.delivery(&id).await.unwrap();
        assert_eq!(attempts[0].outcome, Outcome::Unreachable(text.into()));
        assert_eq!(attempts[0].answer, text);
    }
}

#[tokio::test]
async fn nothing_is_found_by_a_name_with_a_zero_byte() {
    for bench in Bench::all().await {
        bench.accept("1", &["a"]).await;
        let not_found = |result: Result<(), StoreError>| matches!(result, Err(StoreError::NotFound));
        assert!(not_found(bench.store.delivery(&DeliveryId("a\0".into())).await.map(drop)));
        assert!(not_found(bench.store.subscription(&sub("a\0")).await.map(drop)));
        assert!(not_found(bench.store.delete_token("a\0".into(), Note::default()).await));
        let redelivered = bench.store.redeliver(DeliveryId("a\0".into()), Note::default(), at(0)).await;
        assert!(not_found(redelivered.map(drop)));
        let query = EventQuery { id: Some("1\0".into()), limit: 9, ..Default::default() };
        assert!(bench.store.events(query).await.unwrap().is_empty());
        let query = DeliveryQuery { event: Some("1\0".into()), limit: 9, ..Default::default() };
        assert!(bench.store.deliveries(query).await.unwrap().is_empty());
        let ids = vec![DeliveryId("a\0".into()), DeliveryId("dlv_1_a".into())];
        assert_eq!(bench.store.claim_named(ids, at(0), at(9)).await.unwrap().due, [sub("a")]);
    }
}
