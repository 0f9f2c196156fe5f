//! Tenants at `/webhooks/…`: each sees and changes its own, however it asks.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::{Value, json};

use crate::client::{Companion, Receiver};

/// Makes a subscription of a tenant's own; returns its id.
async fn subscribe(companion: &Companion, tenant: &str, target_url: &str) -> String {
    let body = json!({"target_url": target_url, "events": ["*"]}).to_string();
    let made = companion.tenant(tenant, "POST", "/webhooks/subscriptions", &body).await;
    assert_eq!((made.status, &made.json["tenant"]), (201, &json!(tenant)), "{}", made.json);
    let id = made.json["id"].as_str().unwrap().to_owned();
    assert_eq!(made.headers["location"], format!("/webhooks/subscriptions/{id}").as_str());
    assert!(made.json["secret"].as_str().unwrap().starts_with("whsec_"));
    id
}

async fn accept(companion: &Companion, id: &str, tenant: &str) {
    let event = json!({"specversion": "1.0", "id": id, "source": "/t", "type": "contact.create", "tenant": tenant, "data": {"id": 1}});
    assert_eq!(companion.ingest("application/cloudevents+json", &event.to_string()).await.status, 202);
}

/// Ids of a tenant's list.
async fn listed(companion: &Companion, tenant: &str, path: &str) -> Vec<String> {
    let page = companion.tenant(tenant, "GET", path, "").await;
    assert_eq!(page.status, 200, "{path}: {}", page.json);
    page.json["data"].as_array().unwrap().iter().map(|row| row["id"].as_str().unwrap().to_owned()).collect()
}

/// Two tenants, each with a subscription that has had an event.
struct Two {
    companion: Companion,
    receiver: Receiver,
    acme: String,
    blue: String,
}

impl Two {
    async fn start() -> Self {
        let (companion, receiver) = (Companion::start().await, Receiver::start(&[200]).await);
        let acme = subscribe(&companion, "acme", &receiver.url).await;
        let blue = subscribe(&companion, "blue", &receiver.url).await;
        accept(&companion, "1", "acme").await;
        accept(&companion, "2", "blue").await;
        receiver.received(2).await;
        Self { companion, receiver, acme, blue }
    }
}

#[tokio::test]
async fn a_tenant_lists_and_reads_its_own_alone() {
    let Two { companion, acme, blue, .. } = Two::start().await;
    for (tenant, own) in [("acme", &acme), ("blue", &blue)] {
        assert_eq!(listed(&companion, tenant, "/webhooks/subscriptions").await, std::slice::from_ref(own));
        let deliveries = listed(&companion, tenant, "/webhooks/deliveries").await;
        assert_eq!(deliveries.len(), 1);
        let path = format!("/webhooks/deliveries/{}", deliveries[0]);
        let read = companion.tenant(tenant, "GET", &path, "").await.json;
        assert_eq!((&read["subscription"], &read["event"]["tenant"]), (&json!(own), &json!(tenant)));
        let request = companion.tenant(tenant, "GET", &format!("{path}/request"), "").await;
        assert_eq!((request.status, &request.json["method"]), (200, &json!("POST")));
        let session = companion.tenant(tenant, "GET", "/webhooks/session", "").await.json;
        assert_eq!(session, json!({"scope": "tenant", "tenant": tenant, "expires_at": null}));
    }
    assert!(listed(&companion, "nobody", "/webhooks/subscriptions").await.is_empty());
    assert!(listed(&companion, "nobody", "/webhooks/deliveries").await.is_empty());
    let asked = companion.tenant("acme", "GET", "/webhooks/subscriptions?tenant=blue", "").await;
    assert_eq!((asked.status, asked.faults()), (400, vec!["tenant"]));
}

#[tokio::test]
async fn what_is_anothers_answers_like_what_is_not_there() {
    let Two { companion, blue, .. } = Two::start().await;
    let delivery = listed(&companion, "blue", "/webhooks/deliveries").await.remove(0);
    let replay = format!("/webhooks/subscriptions/{blue}/replay");
    let replay = companion.tenant("blue", "POST", &replay, "").await.json["id"].as_str().unwrap().to_owned();
    let whole = json!({"target_url": "http://127.0.0.1:1/", "events": ["*"]}).to_string();
    let routes = [
        ("GET", format!("subscriptions/{blue}"), ""),
        ("PUT", format!("subscriptions/{blue}"), whole.as_str()),
        ("PATCH", format!("subscriptions/{blue}"), r#"{"status":"off"}"#),
        ("DELETE", format!("subscriptions/{blue}"), ""),
        ("POST", format!("subscriptions/{blue}/rotate-secret"), ""),
        ("POST", format!("subscriptions/{blue}/ping"), ""),
        ("GET", format!("subscriptions/{blue}/retry-preview"), ""),
        ("POST", format!("subscriptions/{blue}/recover"), ""),
        ("POST", format!("subscriptions/{blue}/replay"), ""),
        ("GET", format!("deliveries/{delivery}"), ""),
        ("GET", format!("deliveries/{delivery}/request"), ""),
        ("POST", format!("deliveries/{delivery}/redeliver"), ""),
        ("GET", format!("statistics?subscription={blue}"), ""),
        ("GET", format!("replays/{replay}"), ""),
        ("DELETE", format!("replays/{replay}"), ""),
    ];
    for (method, path, body) in routes {
        let theirs = companion.tenant("acme", method, &format!("/webhooks/{path}"), body).await;
        let absent = path.replace(&blue, "sub_x").replace(&delivery, "dlv_x").replace(&replay, "rpl_x");
        let none = companion.tenant("acme", method, &format!("/webhooks/{absent}"), body).await;
        assert_eq!(theirs.status, 404, "{method} {path}: {}", theirs.json);
        assert_eq!((theirs.status, theirs.json), (none.status, none.json), "{method} {path}");
    }
    for query in [
        format!("deliveries?subscription={blue}"),
        format!("replays?subscription={blue}"),
        "deliveries?event=2".into(),
    ] {
        assert!(listed(&companion, "acme", &format!("/webhooks/{query}")).await.is_empty(), "{query}");
    }
    let still = companion.admin("GET", &format!("/v1/subscriptions/{blue}"), "").await;
    assert_eq!((still.status, &still.json["status"]), (200, &json!("on")));
}

#[tokio::test]
async fn a_tenant_knows_the_event_types_of_its_own_events_and_those_that_are_published() {
    let Two { companion, .. } = Two::start().await;
    let event = json!({"specversion": "1.0", "id": "9", "source": "/t", "type": "secret.create", "tenant": "blue", "data": {"of_blue": 1}});
    assert_eq!(companion.ingest("application/cloudevents+json", &event.to_string()).await.status, 202);
    let known = async |tenant: &str| {
        let page = companion.tenant(tenant, "GET", "/webhooks/event-types", "").await.json;
        let types = page["data"].as_array().unwrap().clone();
        types
            .into_iter()
            .map(|row| (row["type"].as_str().unwrap().to_owned(), row))
            .collect::<BTreeMap<_, _>>()
    };
    let learnt = async || {
        while !known("blue").await.contains_key("secret.create") {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), learnt()).await.unwrap();
    let (acme, blue) = (known("acme").await, known("blue").await);
    assert_eq!(acme.keys().collect::<Vec<_>>(), ["contact.create"]);
    assert_eq!((&acme["contact.create"]["count"], &blue["contact.create"]["count"]), (&json!(1), &json!(1)));
    let path = "/webhooks/event-types/secret.create";
    assert_eq!(companion.tenant("acme", "GET", path, "").await.status, 404);
    for method in ["PATCH", "DELETE"] {
        assert_eq!(companion.tenant("blue", method, path, "{}").await.status, 405, "{method}");
    }
    for export in ["openapi.json", "asyncapi.json"] {
        let path = format!("/webhooks/catalogue/{export}");
        let (acme, blue) = (
            companion.tenant("acme", "GET", &path, "").await,
            companion.tenant("blue", "GET", &path, "").await,
        );
        assert!(
            !acme.json.to_string().contains("secret") && blue.json.to_string().contains("of_blue"),
            "{export}"
        );
    }
    let published = r#"{"published":true,"description":"Something happened."}"#;
    assert_eq!(companion.admin("PATCH", "/v1/event-types/secret.create", published).await.status, 200);
    let seen = known("acme").await.remove("secret.create").unwrap();
    assert_eq!((&seen["count"], &seen["description"]), (&json!(0), &json!("Something happened.")));
    assert_eq!((&seen["sample"], &seen["schema"]), (&json!(null), &json!(null)));
}

#[tokio::test]
async fn a_cursor_leads_nowhere_but_through_ones_own() {
    let Two { companion, receiver, acme, blue } = Two::start().await;
    for number in 3..9 {
        accept(&companion, &number.to_string(), if number % 2 == 0 { "acme" } else { "blue" }).await;
    }
    receiver.received(8).await;
    let own: BTreeSet<_> = listed(&companion, "acme", "/webhooks/deliveries").await.into_iter().collect();
    assert_eq!(own.len(), 4);
    let theirs = listed(&companion, "blue", "/webhooks/deliveries").await;
    let cursors =
        theirs.iter().map(String::as_str).chain(["", "0", "dlv_", "dlv_zzzz", "%00", "' OR 1=1 --", "~"]);
    for cursor in cursors.map(|cursor| cursor.replace(' ', "%20").replace('\'', "%27")) {
        let path = format!("/webhooks/deliveries?cursor={cursor}");
        let page = companion.tenant("acme", "GET", &path, "").await;
        assert!(matches!(page.status, 200 | 400), "{cursor}: {}", page.json);
        for row in page.json["data"].as_array().into_iter().flatten() {
            assert!(own.contains(row["id"].as_str().unwrap()), "{cursor}: {row}");
        }
    }
    for (path, mine) in [("subscriptions", &acme), ("replays", &acme)] {
        for cursor in [blue.as_str(), "", "zzzz", "%00"] {
            let page =
                companion.tenant("acme", "GET", &format!("/webhooks/{path}?cursor={cursor}"), "").await;
            for row in page.json["data"].as_array().into_iter().flatten() {
                assert_eq!(row["id"], mine.as_str(), "{path} {cursor}");
            }
        }
    }
    // Page by page it sees all of its own, each once.
    let (mut turned, mut cursor) = (Vec::new(), String::new());
    loop {
        let path = format!("/webhooks/deliveries?limit=1{cursor}");
        let page = companion.tenant("acme", "GET", &path, "").await.json;
        turned.extend(
            page["data"].as_array().unwrap().iter().map(|row| row["id"].as_str().unwrap().to_owned()),
        );
        let Some(next) = page["next_cursor"].as_str() else { break };
        cursor = format!("&cursor={next}");
    }
    assert_eq!(turned.len(), 4);
    assert_eq!(turned.into_iter().collect::<BTreeSet<_>>(), own);
}

#[tokio::test]
async fn a_tenant_cannot_make_itself_another() {
    let Two { companion, receiver, acme, .. } = Two::start().await;
    let path = format!("/webhooks/subscriptions/{acme}");
    let whole =
        |tenant: Value| json!({"target_url": receiver.url, "events": ["*"], "tenant": tenant}).to_string();
    for tenant in [json!("blue"), json!("acme "), json!("")] {
        for (method, at, body) in [
            ("POST", "/webhooks/subscriptions", whole(tenant.clone())),
            ("PUT", path.as_str(), whole(tenant.clone())),
            ("PATCH", path.as_str(), json!({"tenant": tenant}).to_string()),
        ] {
            let refused = companion.tenant("acme", method, at, &body).await;
            assert_eq!((refused.status, refused.faults()), (422, vec!["/tenant"]), "{method} {tenant}");
        }
    }
    // Nobody's is its own too.
    for (method, body) in
        [("PUT", whole(json!(null))), ("PATCH", r#"{"tenant":null}"#.into()), ("PUT", whole(json!("acme")))]
    {
        let kept = companion.tenant("acme", method, &path, &body).await;
        assert_eq!((kept.status, &kept.json["tenant"]), (200, &json!("acme")), "{method}");
    }
    for route in [
        "events",
        "events/1",
        "unmatched",
        "tokens",
        "audit",
        "signing-keys",
        "portal-links",
        "erase",
        "deliveries/redeliver",
    ] {
        for method in ["GET", "POST", "DELETE"] {
            let answer = companion.tenant("acme", method, &format!("/webhooks/{route}"), "{}").await;
            assert!(matches!(answer.status, 404 | 405), "{method} {route}: {}", answer.status);
            let answer = companion.tenant("acme", method, &format!("/v1/{route}"), "{}").await;
            assert_eq!(answer.status, 404, "{method} /v1/{route}");
        }
    }
}

#[tokio::test]
async fn a_subscription_that_changes_hands_keeps_what_was_sent_from_its_new_tenant() {
    let Two { companion, acme, .. } = Two::start().await;
    let old = listed(&companion, "acme", "/webhooks/deliveries").await.remove(0);
    let moved = companion.admin("PATCH", &format!("/v1/subscriptions/{acme}"), r#"{"tenant":"green"}"#).await;
    assert_eq!(moved.status, 200);
    assert_eq!(listed(&companion, "green", "/webhooks/subscriptions").await, std::slice::from_ref(&acme));
    assert!(listed(&companion, "green", "/webhooks/deliveries").await.is_empty());
    for tenant in ["green", "acme"] {
        let read = companion.tenant(tenant, "GET", &format!("/webhooks/deliveries/{old}"), "").await;
        assert_eq!(read.status, 404, "{tenant}");
    }
    let path = format!("/webhooks/deliveries/{old}/redeliver");
    assert_eq!(companion.tenant("green", "POST", &path, "").await.status, 404);
}

#[tokio::test]
async fn a_tenant_is_bounded_and_an_operator_is_not() {
    let flags = ["--tenant-subscriptions", "2", "--tenant-rate", "600/h"];
    let companion = Companion::start_with_flags(&flags).await;
    let receiver = Receiver::start(&[200]).await;
    let body = json!({"target_url": receiver.url, "events": ["*"], "tenant": "acme"}).to_string();
    for _ in 0..3 {
        assert_eq!(companion.admin("POST", "/v1/subscriptions", &body).await.status, 201);
    }
    let third = companion.tenant("acme", "POST", "/webhooks/subscriptions", &body).await;
    assert_eq!(third.status, 409);
    assert!(third.json["detail"].as_str().unwrap().contains("2 subscriptions"), "{}", third.json);
    // Six seconds have to pass before the next request, which is its second in this test.
    let next = companion.tenant("acme", "GET", "/webhooks/subscriptions", "").await;
    assert_eq!(next.status, 429);
    let wait: u64 = next.headers["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((1..=6).contains(&wait), "{wait}");
    assert_eq!(companion.tenant("blue", "GET", "/webhooks/subscriptions", "").await.status, 200);
}

#[tokio::test]
async fn a_tenant_floods_no_receiver_by_way_of_pings() {
    let Two { companion, receiver, acme, .. } = Two::start().await;
    let path = format!("/webhooks/subscriptions/{acme}/ping");
    let mut statuses = Vec::new();
    for _ in 0..10 {
        statuses.push(companion.tenant("acme", "POST", &path, "").await.status);
    }
    assert_eq!(statuses[0], 200);
    assert!(statuses.contains(&429), "{statuses:?}");
    let pings = receiver.received(3).await.len() - 2;
    assert_eq!(pings, statuses.iter().filter(|status| **status == 200).count());
}

#[tokio::test]
async fn a_tenant_has_three_replays_at_once() {
    let Two { companion, receiver, .. } = Two::start().await;
    accept(&companion, "8", "acme").await;
    accept(&companion, "9", "acme").await;
    let late = subscribe(&companion, "acme", &receiver.url).await;
    let replay = format!("/webhooks/subscriptions/{late}/replay");
    let mut statuses = Vec::new();
    for _ in 0..4 {
        statuses.push(companion.tenant("acme", "POST", &replay, r#"{"rate":"1/h"}"#).await.status);
    }
    assert_eq!(statuses, [202, 202, 202, 409]);
    let operators = format!("/v1/subscriptions/{late}/replay");
    assert_eq!(companion.admin("POST", &operators, "").await.status, 202);
}

#[tokio::test]
async fn what_operators_may_call_is_not_open_to_tenants() {
    let companion = Companion::start_with_flags(&["--tenant-allow-targets", "10.0.0.0/8"]).await;
    let receiver = Receiver::start(&[200]).await;
    let body =
        |url: &str, tenant: Value| json!({"target_url": url, "events": ["*"], "tenant": tenant}).to_string();
    let refused = companion
        .tenant("acme", "POST", "/webhooks/subscriptions", &body(&receiver.url, json!("acme")))
        .await;
    assert_eq!((refused.status, refused.faults()), (422, vec!["/target_url"]));
    // Nor by a name, nor by way of an operator who gives it away.
    let named = receiver.url.replace("127.0.0.1", "localhost");
    let refused =
        companion.tenant("acme", "POST", "/webhooks/subscriptions", &body(&named, json!("acme"))).await;
    assert_eq!((refused.status, refused.faults()), (422, vec!["/target_url"]));
    let own = companion.admin("POST", "/v1/subscriptions", &body(&receiver.url, json!(null))).await.json;
    let path = format!("/v1/subscriptions/{}", own["id"].as_str().unwrap());
    assert_eq!(companion.admin("PATCH", &path, r#"{"tenant":"acme"}"#).await.faults(), ["/target_url"]);
    let pinged = companion.admin("POST", &format!("{path}/ping"), "").await.json;
    assert_eq!(pinged["outcome"], "delivered");
}

#[tokio::test]
async fn a_tenant_has_no_say_in_what_our_own_keys_sign() {
    let Two { companion, receiver, acme, .. } = Two::start().await;
    let body = json!({"target_url": receiver.url, "events": ["*"], "signing": "ed25519"}).to_string();
    let refused = companion.tenant("acme", "POST", "/webhooks/subscriptions", &body).await;
    assert_eq!((refused.status, refused.faults()), (422, vec!["/signing"]));
    let path = format!("/webhooks/subscriptions/{acme}");
    let refused = companion.tenant("acme", "PATCH", &path, r#"{"signing":"ed25519"}"#).await;
    assert_eq!(refused.faults(), ["/signing"]);
    // Where an operator has chosen it, the tenant does not write what is signed.
    let chosen =
        companion.admin("PATCH", &format!("/v1/subscriptions/{acme}"), r#"{"signing":"ed25519"}"#).await;
    assert_eq!(chosen.status, 200);
    let template = r#"{"format":"template","template":"{\"type\":{{ type | tojson }}}"}"#;
    assert_eq!(companion.tenant("acme", "PATCH", &path, template).await.faults(), ["/signing"]);
}

#[tokio::test]
async fn nobody_comes_around_the_gateway() {
    let companion =
        Companion::start_with_flags(&["--gateway-token", "from-the-gateway", "--tenant-header", "x-org"])
            .await;
    let status = async |headers: &[(&str, &str)]| {
        companion.public("GET", "/webhooks/subscriptions", headers, "").await.status
    };
    let (named, shown) = (("x-org", "acme"), ("gatehook-gateway", "from-the-gateway"));
    assert_eq!(status(&[named, shown]).await, 200);
    for wrong in
        [("gatehook-gateway", "from-the-gatewa"), ("gatehook-gateway", ""), ("x-gateway", "from-the-gateway")]
    {
        assert_eq!(status(&[named, wrong]).await, 403, "{wrong:?}");
    }
    assert_eq!(status(&[named]).await, 403);
    assert_eq!(status(&[shown]).await, 401);
    assert_eq!(status(&[shown, ("x-gatehook-tenant", "acme")]).await, 401, "another header names nobody");
    assert_eq!(status(&[shown, named, ("x-org", "blue")]).await, 400, "one of the two is somebody else's");
    assert_eq!(
        status(&[shown, ("authorization", "Bearer admin")]).await,
        401,
        "operators have a listener of their own"
    );
    assert_eq!(companion.public("GET", "/webhooks/openapi.json", &[], "").await.status, 403);
    for path in [
        "/",
        "/v1/subscriptions",
        "/webhooks",
        "/webhooks/",
        "/metrics",
        "/healthz",
        "/webhooks/../v1/tokens",
        "//webhooks/subscriptions",
        "/webhooks/%2e%2e/v1/tokens",
    ] {
        let answer =
            companion.public("GET", path, &[named, shown, ("authorization", "Bearer admin")], "").await;
        assert_eq!(answer.status, 404, "{path}");
    }
}

#[tokio::test]
async fn another_sites_page_changes_nothing_by_a_cookie() {
    let Two { companion, acme, .. } = Two::start().await;
    let path = format!("/webhooks/subscriptions/{acme}/rotate-secret");
    let named = ("x-gatehook-tenant", "acme");
    let status = async |more: &[(&str, &str)]| {
        companion.public("POST", &path, &[&[named], more].concat(), "").await.status
    };
    assert_eq!(status(&[("sec-fetch-site", "cross-site")]).await, 403);
    assert_eq!(status(&[("sec-fetch-site", "same-site")]).await, 403);
    assert_eq!(status(&[("sec-fetch-site", "same-origin")]).await, 200);
    let foreign = ("sec-fetch-site", "cross-site");
    assert_eq!(status(&[foreign, ("authorization", "Bearer jwt")]).await, 200);
    // A gateway may have made it of a cookie, a browser of a password that it knows.
    assert_eq!(status(&[foreign, ("authorization", "Bearer jwt"), ("cookie", "session=1")]).await, 403);
    assert_eq!(status(&[foreign, ("authorization", "Basic eDp5")]).await, 403);
}

#[tokio::test]
async fn a_link_is_its_tenant_until_it_ends() {
    let Two { companion, acme, .. } = Two::start().await;
    let made = companion.admin("POST", "/v1/portal-links", r#"{"tenant":"acme","expires_in":"10m"}"#).await;
    assert_eq!(made.status, 200, "{}", made.json);
    let (path, token) = made.json["url"].as_str().unwrap().split_once("#link=").unwrap();
    assert_eq!(path, "/webhooks/portal");
    let by = async |companion: &Companion, authorization: &str, more: &[(&str, &str)]| {
        let headers = [&[("authorization", authorization)], more].concat();
        companion.public("GET", "/webhooks/subscriptions", &headers, "").await
    };
    let bearer = format!("Gatehook-Link {token}");
    let page = by(&companion, &bearer, &[]).await;
    assert_eq!((page.status, &page.json["data"][0]["id"]), (200, &json!(acme)));
    let as_other = by(&companion, &bearer, &[("x-gatehook-tenant", "blue")]).await;
    assert_eq!(as_other.json["data"][0]["id"], acme.as_str(), "a link is for its own tenant alone");
    let session =
        companion.public("GET", "/webhooks/session", &[("authorization", bearer.as_str())], "").await.json;
    assert_eq!((&session["tenant"], &session["expires_at"]), (&json!("acme"), &made.json["expires_at"]));
    for forged in
        ["Gatehook-Link", "Gatehook-Link x", &format!("Gatehook-Link {token}x"), &format!("Bearer {token}")]
    {
        assert_eq!(by(&companion, forged, &[]).await.status, 401, "{forged}");
    }
    assert_eq!(companion.admin("GET", "/v1/audit", "").await.json["data"][0]["action"], "portal-link.create");
    let operators =
        companion.send("GET", "/v1/subscriptions", &[("authorization", bearer.as_str())], "").await;
    assert_eq!(operators.status, 401, "a tenant is no operator");
    for (body, field) in [
        (r#"{}"#, "/tenant"),
        (r#"{"tenant":"a","expires_in":"25h"}"#, "/expires_in"),
        (r#"{"tenant":"a","expires_in":"1s"}"#, "/expires_in"),
        (r#"{"tenant":"a","scope":"admin"}"#, "/scope"),
    ] {
        let refused = companion.admin("POST", "/v1/portal-links", body).await;
        assert_eq!((refused.status, refused.faults()), (422, vec![field]), "{body}");
    }
    let companion = companion.restart_days_later(1).await;
    let late = by(&companion, &bearer, &[]).await;
    assert_eq!(late.status, 401);
    assert!(late.json["detail"].as_str().unwrap().contains("expired"), "{}", late.json);
}

#[tokio::test]
async fn tenants_are_told_what_they_may_do() {
    let Two { companion, acme, .. } = Two::start().await;
    let described = companion.public("GET", "/webhooks/openapi.json", &[], "").await;
    assert_eq!(described.status, 200);
    let all = companion.send("GET", "/openapi.json", &[], "").await.json;
    let named = described.json["paths"].as_object().unwrap();
    for (path, operations) in all["paths"].as_object().unwrap() {
        let own = path.replacen("/v1/", "/webhooks/", 1);
        for method in operations.as_object().unwrap().keys() {
            let is_named = named.get(&own).is_some_and(|operations| operations.get(method).is_some());
            let at = own.replace("{id}", &acme);
            let answer = companion.tenant("acme", &method.to_uppercase(), &at, "{}").await;
            let is_route = answer.json["detail"] != "there is no such route" && answer.status != 405;
            assert!(
                is_named == is_route || own.starts_with("/openapi") || !path.starts_with("/v1/"),
                "{method} {path}"
            );
        }
    }
    let keys = companion.public("GET", "/webhooks/.well-known/jwks.json", &[], "").await;
    assert!(keys.json["keys"].is_array());
}
