//! Erasing a subject or a tenant: all of it, nothing else, and no trace in any file.

use super::*;
use crate::limits;
use crate::model::{Replay, ReplayKind, ReplayRange, ReplayStatus};

/// Accepts an event of a tenant about a subject, with deliveries where the order of that subject matters.
async fn accepted(bench: &Bench, id: &str, subject: Option<&str>, tenant: &str, subscriptions: &[&str]) {
    let mut event = new_event(id, subscriptions);
    Arc::make_mut(&mut event.event).subject = subject.map(str::to_owned);
    Arc::make_mut(&mut event.event).tenant = Some(tenant.to_owned());
    event.deliveries.iter_mut().for_each(|delivery| delivery.resource = subject.map(str::to_owned));
    assert_eq!(bench.store.accept(vec![event], at(0)).await.unwrap(), [Acceptance::Accepted]);
}

fn subject(text: &str) -> Erasure {
    Erasure::Subject(text.to_owned())
}

fn tenant(text: &str) -> Erasure {
    Erasure::Tenant(text.to_owned())
}

/// Erases in chunks until there is no more; returns the sums.
async fn erase(bench: &Bench, what: Erasure, limit: usize) -> Erased {
    let until = bench.store.begin_erasure(what.clone(), Note::default()).await.unwrap();
    erase_until(bench, what, limit, until).await
}

async fn erase_until(bench: &Bench, what: Erasure, limit: usize, until: i64) -> Erased {
    let (mut sum, mut next) = (Erased::default(), Some(0));
    while let Some(after) = next {
        let chunk = bench.store.erase(what.clone(), (after, until), limit, at(5)).await.unwrap();
        assert!(chunk.events <= limit && chunk.deliveries <= limit);
        sum.events += chunk.events;
        sum.deliveries += chunk.deliveries;
        sum.attempts += chunk.attempts;
        sum.released.extend(chunk.released);
        next = chunk.next;
    }
    sum
}

async fn left(bench: &Bench) -> Vec<String> {
    let found = bench.store.events(EventQuery { limit: 99, ..Default::default() }).await.unwrap();
    found.into_iter().rev().map(|found| found.event.id).collect()
}

#[tokio::test]
async fn a_subject_and_what_is_below_it_is_erased_and_nothing_beside_it() {
    for limit in [1, 2, 100] {
        for bench in Bench::all().await {
            for (id, about) in [
                ("itself", Some("/contacts/7")),
                ("below", Some("/contacts/7/notes/1")),
                ("beside", Some("/contacts/70")),
                ("above", Some("/contacts")),
                ("other case", Some("/Contacts/7")),
                ("none", None),
                ("again", Some("/contacts/7")),
            ] {
                accepted(&bench, id, about, "blue", &["a", "b"]).await;
            }
            for claimed in bench.claim("b", 9, 0).await {
                bench.record(&claimed, 500, Verdict::Retry(at(9)), 1).await;
            }
            let sum = erase(&bench, subject("/contacts/7"), limit).await;
            assert_eq!((sum.events, sum.deliveries, sum.attempts), (3, 6, 2), "in chunks of {limit}");
            assert_eq!(left(&bench).await, ["beside", "above", "other case", "none"]);
            assert!(sum.released.is_empty(), "nothing of the subject is left to be due");
            assert_eq!(bench.claim("a", 9, 9).await.len(), 4);
            assert_eq!(erase(&bench, subject("/contacts/7"), limit).await, Erased::default());
        }
    }
}

#[tokio::test]
async fn a_tenant_is_erased_and_another_one_goes_on_in_its_turn() {
    for bench in Bench::all().await {
        accepted(&bench, "1", Some("/contacts/1"), "acme", &["operator", "own"]).await;
        accepted(&bench, "2", Some("/contacts/1"), "acme", &["operator", "own"]).await;
        accepted(&bench, "3", Some("/contacts/1"), "blue", &["operator"]).await;
        accepted(&bench, "4", Some("/contacts/1"), "blue", &["operator"]).await;
        assert!(bench.claim("operator", 9, 0).await.len() == 1, "the others wait for the first");
        let sum = erase(&bench, tenant("acme"), 1).await;
        assert_eq!((sum.events, sum.deliveries), (2, 4));
        assert_eq!(sum.released, [sub("operator")]);
        assert_eq!(left(&bench).await, ["3", "4"]);
        let claimed = bench.claim("operator", 9, 5).await;
        assert_eq!(claimed.iter().map(|claimed| claimed.event.id.as_str()).collect::<Vec<_>>(), ["3"]);
    }
}

#[tokio::test]
async fn an_attempt_under_way_leaves_nothing() {
    for bench in Bench::all().await {
        accepted(&bench, "1", Some("/contacts/1"), "acme", &["a"]).await;
        let claimed = bench.claim("a", 9, 0).await.remove(0);
        erase(&bench, tenant("acme"), 9).await;
        assert!(matches!(bench.record(&claimed, 200, Verdict::Delivered, 6).await, Recorded::Stale));
        assert!(matches!(bench.store.delivery(&claimed.id).await, Err(StoreError::NotFound)));
        let is_overwritten = bench.store.finish_erasure().await.unwrap();
        assert_eq!(is_overwritten, !bench.store.is_shared(), "a server's files are its own");
        accepted(&bench, "1", Some("/contacts/1"), "acme", &["a"]).await;
        assert_eq!(bench.store.delivery(&claimed.id).await.unwrap().1.len(), 0);
    }
}

#[tokio::test]
async fn what_is_accepted_later_stays_and_does_not_wait_for_what_was_erased() {
    for bench in Bench::all().await {
        accepted(&bench, "1", Some("/contacts/1"), "blue", &["a"]).await;
        let until = bench.store.begin_erasure(subject("/contacts/1"), Note::default()).await.unwrap();
        accepted(&bench, "2", Some("/contacts/1"), "blue", &["a"]).await;
        let sum = erase_until(&bench, subject("/contacts/1"), 9, until).await;
        assert_eq!((sum.events, sum.released), (1, vec![sub("a")]));
        assert_eq!(bench.claim("a", 9, 5).await.len(), 1);
    }
}

#[tokio::test]
async fn an_event_of_ours_that_repeats_the_subject_is_erased_too() {
    for bench in Bench::all().await {
        for (id, about) in [("7", "/contacts/7"), ("70", "/contacts/70")] {
            let mut news = new_event(id, &[]);
            Arc::make_mut(&mut news.event).event_type = "gatehook.delivery.exhausted".into();
            Arc::make_mut(&mut news.event).subject = Some("/v1/deliveries/dlv_1".into());
            Arc::make_mut(&mut news.event).data =
                Some(format!(r#"{{"event":{{"subject":"{about}"}}}}"#).into());
            bench.store.accept(vec![news], at(0)).await.unwrap();
        }
        erase(&bench, subject("/contacts/7"), 9).await;
        assert_eq!(left(&bench).await, ["70"]);
    }
}

fn replay(id: &str, subscription: &str, about: Option<&str>) -> Replay {
    Replay {
        id: ReplayId(id.to_owned()),
        kind: ReplayKind::Replay,
        subscription: Some(sub(subscription)),
        range: ReplayRange { subject: about.map(str::to_owned), ..ReplayRange::default() },
        status: ReplayStatus::Running,
        first: 0,
        position: 0,
        last: 0,
        made: 0,
        created_at: at(0),
        ended_at: None,
    }
}

async fn replays(bench: &Bench) -> Vec<String> {
    let found = bench.store.replays(ReplayQuery { limit: 9, ..Default::default() }).await.unwrap();
    found.into_iter().rev().map(|replay| replay.id.0).collect()
}

#[tokio::test]
async fn replays_that_name_the_subject_are_forgotten() {
    for bench in Bench::all().await {
        for (id, about) in [("1", Some("/contacts/7")), ("2", Some("/contacts/70")), ("3", None)] {
            bench.store.create_replay(replay(id, "a", about), Note::default()).await.unwrap();
        }
        erase(&bench, subject("/contacts/7"), 9).await;
        assert_eq!(replays(&bench).await, ["2", "3"]);
    }
}

#[tokio::test]
async fn a_subscription_goes_after_the_last_of_its_deliveries() {
    for bench in Bench::all().await {
        bench.store.create_subscription(subscription("sub_1"), Note::default()).await.unwrap();
        bench.store.create_replay(replay("1", "sub_1", None), Note::default()).await.unwrap();
        for id in ["1", "2", "3"] {
            bench.accept(id, &["sub_1", "sub_2"]).await;
        }
        let claimed = bench.claim("sub_1", 1, 0).await.remove(0);
        bench.record(&claimed, 200, Verdict::Delivered, 1).await;
        let chunk = |limit| bench.store.erase_subscription(sub("sub_1"), limit);
        let first = chunk(2).await.unwrap();
        assert_eq!((first.deliveries, first.attempts, first.next.is_some()), (2, 1, true));
        assert!(bench.store.subscription(&sub("sub_1")).await.is_ok());
        let last = chunk(2).await.unwrap();
        assert_eq!((last.deliveries, last.next), (1, None));
        assert!(matches!(bench.store.subscription(&sub("sub_1")).await, Err(StoreError::NotFound)));
        assert!(replays(&bench).await.is_empty());
        assert_eq!(bench.claim("sub_2", 9, 0).await.len(), 3);
    }
}

/// How often a text stands in any file of the store.
fn traces(bench: &Bench, text: &str) -> usize {
    let Place::Folder(folder) = &bench.place else { panic!("a server's files are its own") };
    let folder = folder.path("");
    let files = std::fs::read_dir(folder).unwrap().map(|entry| std::fs::read(entry.unwrap().path()).unwrap());
    files.map(|bytes| bytes.windows(text.len()).filter(|window| *window == text.as_bytes()).count()).sum()
}

#[tokio::test]
async fn nothing_of_what_was_erased_is_left_in_any_file() {
    // PostgreSQL promises less, and says so; its files are not ours to read.
    let bench = Bench::in_file();
    let text = "Ada-Lovelace";
    for number in 0..40_i64 {
        let about = if number % 2 == 0 { format!("/contacts/{text}") } else { format!("/contacts/{number}") };
        let mut event = new_event(&format!("{number:02}"), &["a", "b"]);
        if number % 2 == 0 {
            // Small ones share a page with others, large ones fill pages of their own.
            Arc::make_mut(&mut event.event).data =
                Some(format!("\"{}\"", text.repeat(if number % 4 == 0 { 1 } else { 900 })).into());
        }
        Arc::make_mut(&mut event.event).subject = Some(about.clone());
        event.deliveries.iter_mut().for_each(|delivery| delivery.resource = Some(about.clone()));
        bench.store.accept(vec![event], at(number)).await.unwrap();
        for claimed in bench.claim("b", 99, 99).await {
            let verdict = if number % 3 == 0 { Verdict::Delivered } else { Verdict::Retry(at(99)) };
            let mut ended = ended(&claimed, 500, verdict, 99);
            ended.attempt.answer = Bytes::from(text);
            bench.end(ended, 99).await;
        }
    }
    // What was pruned before leaves no trace either.
    bench.store.prune(0, limits::PRUNE_CHUNK, at(9), 0).await.unwrap();
    assert!(traces(&bench, text) > 100);
    erase(&bench, subject(&format!("/contacts/{text}")), 7).await;
    assert!(traces(&bench, text) > 0, "the log still has it");
    for id in ["a", "b"] {
        while bench.store.erase_subscription(sub(id), 7).await.unwrap().next.is_some() {}
    }
    assert!(bench.store.finish_erasure().await.unwrap());
    assert_eq!(traces(&bench, text), 0);
    assert_eq!(left(&bench).await.len(), 20);
}

#[tokio::test]
async fn an_erasure_is_noted() {
    for bench in Bench::all().await {
        let entry = AuditEntry {
            at: at(0),
            actor: "admin".into(),
            action: "erase.tenant".into(),
            resource: "sha256:00".into(),
            detail: None,
        };
        let note = Note { audit: Some(entry.clone()), ..Note::default() };
        assert_eq!(bench.store.begin_erasure(tenant("acme"), note).await.unwrap(), 0);
        assert_eq!(bench.store.audit(None, 9).await.unwrap()[0].entry, entry);
    }
}

#[tokio::test]
async fn nothing_beside_its_events_names_an_erased_tenant() {
    for bench in Bench::all().await {
        for (number, name) in ["acme \\ co", "acme"].into_iter().enumerate() {
            let actor = tenant_actor(name);
            let line = |action: &str, detail: Option<String>| AuditEntry {
                at: at(1),
                actor: actor.clone(),
                action: action.into(),
                resource: "r".into(),
                detail,
            };
            let key = format!("{} {actor} /v1/subscriptions k", actor.len());
            let asked = Idempotency { key, request: [1; 32], resource: "r".into(), at: at(1) };
            let note = Note { audit: Some(line("a", None)), idempotency: Some(asked), ..Note::default() };
            let made = subscription(&format!("sub_{number}"));
            bench.store.create_subscription(made, note).await.unwrap();
            let link = line("portal-link.create", Some(serde_json::to_string(name).unwrap()));
            bench.store.write_note(Note { audit: Some(link), ..Note::default() }).await.unwrap();
        }
        erase(&bench, tenant("acme \\ co"), 9).await;
        let lines = bench.store.audit(None, 9).await.unwrap();
        let named = lines.iter().filter(|line| format!("{line:?}").contains("co\"")).count();
        assert_eq!((lines.len(), named), (4, 0), "{lines:?}");
        let others = lines.iter().filter(|line| line.entry.actor == "tenant:acme").count();
        assert_eq!(others, 2, "another one's stay");
    }
}
