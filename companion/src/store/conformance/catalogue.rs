//! The event catalogue: counted once, learnt apart for each tenant, bounded, and forgotten where it must be.

use super::*;

fn key(tenant: Option<&str>, event_type: &str) -> TypeKey {
    TypeKey { tenant: tenant.map(str::to_owned), event_type: event_type.to_owned() }
}

fn learnt(key: TypeKey, count: u64, (first, last): (i64, i64), state: Option<&str>) -> Learnt {
    let state = state.map(|state| (state.to_owned(), Some("{\"a\":\"\\u0000\"}".to_owned())));
    Learnt { key, count, first_at: at(first), last_at: at(last), state }
}

/// Writes a round that begins where the last one has ended and moves on by one.
async fn learn(bench: &Bench, learnt: Vec<Learnt>, keep: (usize, usize)) {
    let place = bench.store.passed(1).await.unwrap().place;
    let round = Round { place, position: place.position + 1, learnt, keep };
    bench.store.learn(round, Note::default(), at(0)).await.unwrap();
}

async fn types(bench: &Bench, tenant: Option<&str>) -> Vec<EventType> {
    let query = TypeQuery { tenant: tenant.map(str::to_owned), limit: 99, ..TypeQuery::default() };
    bench.store.event_types(query).await.unwrap()
}

async fn names(bench: &Bench, tenant: Option<&str>) -> Vec<String> {
    types(bench, tenant).await.into_iter().map(|found| found.event_type).collect()
}

fn said(description: Option<&str>, published: Option<bool>) -> TypePatch {
    TypePatch { description: description.map(|text| Some(text.to_owned())), published }
}

#[tokio::test]
async fn events_pass_in_order_from_the_place_that_was_reached() {
    for bench in Bench::all().await {
        for id in ["1", "2", "3"] {
            bench.accept(id, &[]).await;
        }
        let ahead = bench.store.passed(2).await.unwrap();
        let expected = |seq| Passed {
            seq,
            tenant: Some("blue".into()),
            event_type: "contact.create".into(),
            accepted_at: at(0),
            size: Some(9),
        };
        assert_eq!((ahead.newest, ahead.passed), (3, vec![expected(1), expected(2)]));
        let round = Round { place: ahead.place, position: 2, learnt: Vec::new(), keep: (9, 9) };
        bench.store.learn(round.clone(), Note::default(), at(0)).await.unwrap();
        let bench = bench.reopen().await;
        assert_eq!(bench.store.passed(9).await.unwrap().passed, [expected(3)]);
        let again = bench.store.learn(round, Note::default(), at(0)).await;
        assert!(matches!(again, Err(StoreError::Conflict)), "{again:?}");
        let found = bench.store.events_at(vec![3, 1, 99]).await.unwrap();
        let found: Vec<_> = found.iter().map(|found| (found.seq, found.event.id.as_str())).collect();
        assert_eq!(found, [(1, "1"), (3, "3")]);
    }
}

#[tokio::test]
async fn what_is_learnt_adds_up_and_news_stand_in_its_transaction() {
    for bench in Bench::all().await {
        let of_all = key(None, "a.b");
        learn(
            &bench,
            vec![
                learnt(of_all.clone(), 2, (5, 6), Some("{}")),
                learnt(key(Some("blue"), "a.b"), 1, (6, 6), None),
            ],
            (9, 9),
        )
        .await;
        let place = bench.store.passed(1).await.unwrap().place;
        let rows = vec![learnt(of_all.clone(), 3, (4, 9), None)];
        let round = Round { place, position: 7, learnt: rows, keep: (9, 9) };
        let note = || Note { news: vec![new_event("news", &["a"])], ..Note::default() };
        bench.store.learn(round.clone(), note(), at(0)).await.unwrap();
        bench.store.learn(round, note(), at(0)).await.unwrap_err();
        let found = &types(&bench, None).await[0];
        assert_eq!((found.count, found.first_at, found.last_at), (5, Some(at(4)), Some(at(9))));
        assert_eq!(
            (found.state.as_deref(), found.sample.as_deref()),
            (Some("{}"), Some("{\"a\":\"\\u0000\"}"))
        );
        assert_eq!(types(&bench, Some("blue")).await[0].count, 1);
        let states = bench.store.states(vec![of_all.clone(), key(Some("blue"), "a.b"), key(None, "x")]).await;
        assert_eq!(states.unwrap(), [(of_all, "{}".to_owned())]);
        assert_eq!(bench.claim("a", 9, 0).await.len(), 1);
    }
}

#[tokio::test]
async fn those_longest_unseen_make_room_and_what_was_said_of_them_stays() {
    for bench in Bench::all().await {
        for (second, name) in ["a", "b", "c", "d"].into_iter().enumerate() {
            let second = second as i64;
            let rows = [None, Some("blue"), Some("red")];
            let rows = rows.map(|tenant| learnt(key(tenant, name), 1, (second, second), None));
            learn(&bench, rows.to_vec(), (3, 4)).await;
            if name == "a" {
                bench
                    .store
                    .describe_type("a".into(), said(Some("x\0\\"), None), Note::default())
                    .await
                    .unwrap();
            }
        }
        let found = types(&bench, None).await;
        let shown: Vec<_> = found.iter().map(|found| (found.event_type.as_str(), found.count)).collect();
        assert_eq!(shown, [("a", 0), ("b", 1), ("c", 1), ("d", 1)]);
        assert_eq!((found[0].description.as_deref(), found[0].first_at), (Some("x\0\\"), None));
        assert_eq!(names(&bench, Some("blue")).await, ["c", "d"]);
        let behind = TypeQuery { after: Some("b".into()), limit: 1, ..TypeQuery::default() };
        assert_eq!(bench.store.event_types(behind).await.unwrap()[0].event_type, "c");
    }
}

#[tokio::test]
async fn tenants_see_their_own_and_what_is_published() {
    for bench in Bench::all().await {
        let rows = vec![
            learnt(key(None, "a.b"), 3, (1, 2), Some("{}")),
            learnt(key(Some("blue"), "a.b"), 1, (1, 1), None),
            learnt(key(None, "c.d"), 1, (1, 1), Some("{}")),
        ];
        learn(&bench, rows, (9, 9)).await;
        assert_eq!(names(&bench, Some("red")).await, [""; 0]);
        for name in ["a.b", "c.d"] {
            let patch = said(Some("text"), Some(name == "c.d"));
            bench.store.describe_type(name.into(), patch, Note::default()).await.unwrap();
        }
        assert_eq!(names(&bench, Some("blue")).await, ["a.b", "c.d"]);
        let red = &types(&bench, Some("red")).await[0];
        let expected = EventType {
            event_type: "c.d".into(),
            description: Some("text".into()),
            published: true,
            ..EventType::default()
        };
        assert_eq!(red, &expected);
        let unknown = bench.store.describe_type("x".into(), said(None, Some(true)), Note::default()).await;
        assert!(matches!(unknown, Err(StoreError::NotFound)), "{unknown:?}");
        let nothing = TypePatch { description: Some(None), published: Some(false) };
        bench.store.describe_type("c.d".into(), nothing, Note::default()).await.unwrap();
        assert_eq!(names(&bench, Some("red")).await, [""; 0]);
        assert_eq!(types(&bench, None).await[1].description, None);
    }
}

#[tokio::test]
async fn a_forgotten_type_is_gone_for_all_and_what_is_being_learnt_of_it_too() {
    for bench in Bench::all().await {
        let rows = vec![
            learnt(key(None, "a.b"), 3, (1, 2), None),
            learnt(key(Some("blue"), "a.b"), 1, (1, 1), None),
        ];
        learn(&bench, rows.clone(), (9, 9)).await;
        bench
            .store
            .describe_type("a.b".into(), said(Some("text"), Some(true)), Note::default())
            .await
            .unwrap();
        let place = bench.store.passed(1).await.unwrap().place;
        bench.store.forget_type("a.b".into(), Note::default()).await.unwrap();
        let round = Round { place, position: 9, learnt: rows, keep: (9, 9) };
        let late = bench.store.learn(round, Note::default(), at(0)).await;
        assert!(matches!(late, Err(StoreError::Conflict)), "{late:?}");
        assert!(types(&bench, None).await.is_empty() && types(&bench, Some("blue")).await.is_empty());
        let again = bench.store.forget_type("a.b".into(), Note::default()).await;
        assert!(matches!(again, Err(StoreError::NotFound)), "{again:?}");
    }
}

#[tokio::test]
async fn erasing_a_tenant_leaves_nothing_that_its_events_have_taught() {
    for bench in Bench::all().await {
        bench.accept("1", &[]).await;
        let rows = |count| {
            vec![
                learnt(key(None, "a.b"), count, (1, 2), Some("{}")),
                learnt(key(Some("blue"), "a.b"), count, (1, 2), Some("{\"secret of blue\":1}")),
                learnt(key(Some("red"), "a.b"), count, (1, 2), Some("{}")),
            ]
        };
        learn(&bench, rows(1), (9, 9)).await;
        let blue = Erasure::Tenant("blue".into());
        let until = bench.store.begin_erasure(blue.clone(), Note::default()).await.unwrap();
        assert!(types(&bench, Some("blue")).await.is_empty());
        // One that follows reads the tenant's events while they are still there.
        learn(&bench, rows(1), (9, 9)).await;
        let place = bench.store.passed(1).await.unwrap().place;
        while bench.store.erase(blue.clone(), (0, until), 1, at(5)).await.unwrap().next.is_some() {}
        let round = Round { place, position: 99, learnt: rows(1), keep: (9, 9) };
        let late = bench.store.learn(round, Note::default(), at(0)).await;
        assert!(matches!(late, Err(StoreError::Conflict)), "{late:?}");
        assert!(types(&bench, Some("blue")).await.is_empty());
        assert_eq!(
            (names(&bench, Some("red")).await, types(&bench, None).await[0].count),
            (vec!["a.b".into()], 2)
        );
        bench.store.finish_erasure().await.unwrap();
        if let Place::Folder(folder) = &bench.place {
            for file in ["test.db", "test.db-wal"] {
                let bytes = std::fs::read(folder.path(file)).unwrap_or_default();
                assert!(!bytes.windows(14).any(|at| at == b"secret of blue"), "{file}");
            }
        }
    }
}
