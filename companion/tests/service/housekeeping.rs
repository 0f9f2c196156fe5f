//! Housekeeping: erased on demand, and room on the disk left to deliveries.

use serde_json::json;

use crate::client::{Companion, Receiver};

/// Accepts an event of a tenant about a subject.
async fn accept(companion: &Companion, id: &str, tenant: &str, subject: &str) {
    let event = json!({
        "specversion": "1.0", "id": id, "source": "/t", "type": "contact.create", "tenant": tenant,
        "subject": subject, "data": {"name": format!("name-of-{id}")},
    });
    let answer = companion.ingest("application/cloudevents+json", &event.to_string()).await;
    assert_eq!(answer.status, 202, "{}", answer.json);
}

async fn status(companion: &Companion, path: &str) -> u16 {
    companion.admin("GET", path, "").await.status
}

#[tokio::test]
async fn a_subject_is_erased_from_api_log_and_disk() {
    let companion = Companion::start().await;
    let receiver = Receiver::start(&[200]).await;
    companion.subscribe(&receiver.url).await;
    for (id, subject) in [("1", "/contacts/ada"), ("2", "/contacts/ada/notes/1"), ("3", "/contacts/adam")] {
        accept(&companion, id, "acme", subject).await;
    }
    receiver.received(3).await;
    assert!(companion.traces("name-of-1") > 0 && companion.traces("/contacts/ada/") > 0);
    let erased = companion.admin("POST", "/v1/erase", r#"{"subject":"/contacts/ada"}"#).await;
    assert_eq!(erased.status, 200, "{}", erased.json);
    assert_eq!((&erased.json["events"], &erased.json["deliveries"]), (&json!(2), &json!(2)));
    assert_eq!((&erased.json["subscriptions"], &erased.json["overwritten"]), (&json!(0), &json!(true)));
    for (id, expected) in [("1", 404), ("2", 404), ("3", 200)] {
        assert_eq!(status(&companion, &format!("/v1/events/{id}")).await, expected);
        let page = companion.admin("GET", &format!("/v1/deliveries?event={id}"), "").await.json;
        assert_eq!(page["data"].as_array().unwrap().len(), usize::from(expected == 200));
    }
    let line = &companion.admin("GET", "/v1/audit?limit=1", "").await.json["data"][0];
    assert_eq!((&line["action"], &line["actor"]), (&json!("erase.subject"), &json!("admin")));
    for text in ["name-of-1", "name-of-2", "/contacts/ada/", "\"/contacts/ada\""] {
        assert_eq!(companion.traces(text), 0, "{text}");
    }
    assert!(companion.traces("/contacts/adam") > 0);
}

#[tokio::test]
async fn a_tenant_is_erased_with_its_subscriptions_and_gets_nothing_any_more() {
    let companion = Companion::start().await;
    let receiver = Receiver::start(&[200]).await;
    let mut paths = Vec::new();
    for tenant in ["acme", "blue"] {
        let body = json!({"target_url": receiver.url, "events": ["*"], "tenant": tenant}).to_string();
        let made = companion.admin("POST", "/v1/subscriptions", &body).await.json;
        paths.push(format!("/v1/subscriptions/{}", made["id"].as_str().unwrap()));
        accept(&companion, tenant, tenant, "/contacts/1").await;
    }
    receiver.received(2).await;
    let erased = companion.admin("POST", "/v1/erase", r#"{"tenant":"acme"}"#).await.json;
    assert_eq!(
        (&erased["events"], &erased["deliveries"], &erased["subscriptions"]),
        (&json!(1), &json!(1), &json!(1))
    );
    assert_eq!((status(&companion, &paths[0]).await, status(&companion, &paths[1]).await), (404, 200));
    assert_eq!(status(&companion, "/v1/events/acme").await, 404);
    assert_eq!(companion.traces("name-of-acme"), 0);
    for tenant in ["acme", "blue"] {
        accept(&companion, &format!("{tenant}-later"), tenant, "/contacts/1").await;
        let page = companion.admin("GET", &format!("/v1/deliveries?event={tenant}-later"), "").await.json;
        assert_eq!(page["data"].as_array().unwrap().len(), usize::from(tenant == "blue"), "{tenant}");
    }
}

#[tokio::test]
async fn an_erasure_names_one_thing_and_needs_the_admins_token() {
    let companion = Companion::start().await;
    for (body, status, faults) in [
        ("{}", 422, vec![""]),
        (r#"{"subject":"/contacts/7","tenant":"acme"}"#, 422, vec!["/tenant"]),
        (r#"{"subject":7}"#, 422, vec!["/subject"]),
        (r#"{"subject":"/contacts/7","since":"2026-01-01"}"#, 422, vec!["/since"]),
        ("[]", 400, vec![""]),
    ] {
        let answer = companion.admin("POST", "/v1/erase", body).await;
        assert_eq!((answer.status, answer.faults()), (status, faults), "{body}");
    }
    let ingest = [("authorization", "Bearer ingest")];
    assert_eq!(companion.send("POST", "/v1/erase", &ingest, r#"{"tenant":"acme"}"#).await.status, 403);
}

#[tokio::test]
async fn a_disk_that_is_nearly_full_takes_no_events_and_delivers_those_it_has() {
    let companion = Companion::start().await;
    let receiver = Receiver::start(&[200]).await;
    let retry = json!({"policy": "schedule", "delays": ["1h"]});
    let body = json!({"target_url": receiver.url, "events": ["*"], "retry": retry}).to_string();
    let made = companion.admin("POST", "/v1/subscriptions", &body).await;
    assert_eq!(made.status, 201, "{}", made.json);
    companion.contact_created("1").await;
    assert_eq!(companion.send("GET", "/readyz", &[], "").await.json, "ready\n");

    let companion = companion.restart_days_later_with(1, &["--min-free-disk", "1000PB"]).await;
    let event = r#"{"specversion":"1.0","id":"2","source":"/t","type":"contact.create"}"#;
    let refused = companion.ingest("application/cloudevents+json", event).await;
    assert_eq!((refused.status, &refused.headers["retry-after"]), (503, &"1".parse().unwrap()));
    assert!(refused.faults().is_empty() && refused.json["detail"].as_str().unwrap().contains("disk"));
    receiver.received(1).await;
    let ready = companion.send("GET", "/readyz", &[], "").await;
    assert!(ready.status == 200 && ready.json.as_str().unwrap().contains("nearly full"), "{}", ready.json);
    let metrics = companion.send("GET", "/metrics", &[], "").await.json;
    assert!(metrics.as_str().unwrap().contains("gatehook_disk_refusals_total 1\n"), "{metrics}");
    assert_eq!(status(&companion, "/v1/events/2").await, 404);
}

#[tokio::test]
async fn no_more_events_are_kept_than_was_said() {
    let companion = Companion::start().await;
    for id in ["1", "2", "3"] {
        companion.contact_created(id).await;
    }
    let companion = companion.restart_days_later_with(0, &["--retention-events", "2"]).await;
    while status(&companion, "/v1/events/1").await == 200 {
        tokio::task::yield_now().await;
    }
    assert_eq!(
        (status(&companion, "/v1/events/2").await, status(&companion, "/v1/events/3").await),
        (200, 200)
    );
}
