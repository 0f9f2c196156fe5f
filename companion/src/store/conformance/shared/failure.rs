//! A server that goes away, or cannot be used.

use super::*;
use crate::store::postgres::scratch::Schema;

impl Bench {
    fn schema(&self) -> &Schema {
        match &self.place {
            Place::Schema(schema) => schema,
            Place::Folder(_) => panic!("a file has no server"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_are_cut_fail_what_was_under_way_and_nothing_after_it() {
    let Some(bench) = Bench::shared().await else { return };
    let store = bench.store.clone();
    let writer = tokio::spawn(async move {
        let (mut accepted, mut failed) = (Vec::new(), 0);
        for number in 0..300 {
            let id = number.to_string();
            match store.accept(vec![new_event(&id, &["a"])], at(0)).await {
                Ok(_) => accepted.push(id),
                Err(StoreError::Unavailable(_)) => failed += 1,
                Err(error) => panic!("{error:?}"),
            }
        }
        (accepted, failed)
    });
    for _ in 0..3 {
        tokio::task::block_in_place(|| bench.schema().cut());
        // Told or not, what comes after it works.
        let _ = bench.store.claim(sub("a"), 2, at(1), at(60)).await;
    }
    let (accepted, failed) = tokio::time::timeout(PATIENCE, writer).await.unwrap().unwrap();
    assert!(failed < 50 && accepted.len() + failed == 300, "{failed} failed");
    bench.store.ping().await.unwrap();
    let found = bench.store.events(EventQuery { limit: 999, ..Default::default() }).await.unwrap();
    let found: BTreeSet<_> = found.into_iter().map(|found| found.event.id).collect();
    assert!(accepted.iter().all(|id| found.contains(id)), "something accepted was lost");
    assert_eq!(offline::integrity(&bench.place.url()).unwrap(), []);
}

#[tokio::test]
async fn who_hears_nothing_for_a_while_is_told_so() {
    let Some(bench) = Bench::shared().await else { return };
    let signal = async || tokio::time::timeout(PATIENCE, bench.store.signal()).await.unwrap();
    bench.schema().cut();
    assert_eq!(signal().await, Signal::Missed);
    // The connection that was cut may be the first that the pool gives.
    while bench.store.announce(vec![sub("a")]).await.is_err() {}
    assert_eq!(signal().await, Signal::Due(vec![sub("a")]));
}

#[tokio::test]
async fn several_processes_may_start_at_once() {
    let Some(schema) = Schema::new() else { return };
    let url = schema.url();
    let start = || connect(&url, vault(1));
    let (one, two, three) = tokio::join!(start(), start(), start());
    for store in [one, two, three] {
        store.unwrap().ping().await.unwrap();
    }
}

#[tokio::test]
async fn a_server_that_cannot_be_used_says_why_and_no_password() {
    let error = async |url: &str| {
        let error = format!("{:#}", connect(url, vault(1)).await.err().unwrap());
        assert!(!error.contains("hunter2") && !error.contains('\n'), "{error}");
        error
    };
    let refused = error("postgres://me:hunter2@127.0.0.1:1/x").await;
    assert!(refused.contains("cannot use postgres://me:***@127.0.0.1:1/x: error connecting"), "{refused}");
    let unknown = error("postgres://me:hunter2@127.0.0.1/x?sslcolor=red").await;
    assert!(unknown.contains("sslcolor"), "{unknown}");
    let Some(schema) = Schema::new() else { return };
    let url = schema.url();
    let elsewhere = error(&url.replace("search_path%3D", "search_path%3Dnone_")).await;
    assert!(elsewhere.contains("names no schema"), "{elsewhere}");
    schema.run("CREATE TABLE gatehook_schema (version bigint); INSERT INTO gatehook_schema VALUES (99)");
    assert!(error(&url).await.contains("its schema has version 99, newer than this program's"));
    let flaws = offline::integrity(&url);
    assert!(format!("{:#}", flaws.unwrap_err()).contains("schema version 99"));
    let copied = offline::backup(&url, std::path::Path::new("/nowhere"));
    assert!(copied.unwrap_err().to_string().contains("pg_dump"));
}

#[tokio::test]
async fn a_database_that_does_not_keep_text_as_utf_8_is_refused() {
    let Some(schema) = Schema::new() else { return };
    let name = format!("gatehook_{:x}", crate::clock::random_token());
    schema.run(&format!("CREATE DATABASE {name} ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0"));
    let refused = connect(&format!("{}&dbname={name}", schema.url()), vault(1)).await.err();
    schema.run(&format!("DROP DATABASE {name} WITH (FORCE)"));
    let refused = format!("{:#}", refused.unwrap());
    assert!(refused.contains("the database keeps text as LATIN1"), "{refused}");
}

#[tokio::test(start_paused = true)]
async fn a_server_that_does_not_answer_is_not_waited_for() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("postgres://me@{}/x?sslmode=disable", silent.local_addr().unwrap());
    let error = connect(&url, vault(1)).await.err().unwrap();
    assert!(format!("{error:#}").contains("/x?sslmode=disable: the server did not answer"), "{error:#}");
}

#[tokio::test]
async fn rows_that_contradict_each_other_are_named() {
    let Some(bench) = Bench::shared().await else { return };
    bench.store.create_subscription(subscription("a"), Note::default()).await.unwrap();
    bench.store.accept(vec![in_order("1", "/x"), in_order("2", "/x")], at(0)).await.unwrap();
    bench.claim("a", 9, 0).await;
    let flaws = || {
        let found = offline::integrity(&bench.place.url()).unwrap();
        found.into_iter().map(|flaw| (flaw.flaw, flaw.at)).collect::<Vec<_>>()
    };
    assert_eq!(flaws(), []);
    bench.run(&format!("UPDATE deliveries SET due_at = {}", i64::MAX));
    bench.run("UPDATE subscriptions SET options = '{'");
    bench.run("DELETE FROM events WHERE id = '2'; INSERT INTO attempts VALUES (77, 1, 0, 0, 'x')");
    let expected = [
        ("delivery without event", "dlv_2_a"),
        ("attempt without delivery", "delivery 77"),
        ("pending delivery that waits for nobody", "dlv_1_a"),
        ("claim without lease", "dlv_1_a"),
        ("subscription with damaged fields", "a"),
    ];
    assert_eq!(flaws(), expected.map(|(flaw, at)| (flaw, at.to_owned())));
}
