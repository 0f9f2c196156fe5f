//! `/v1/unmatched`: reported by the filter, read and forgotten by a user.

use serde_json::{Value, json};

use crate::client::{Answer, Companion};

const REPORT: &str = include_str!("../../../tests/fixtures/unmatched.json");

async fn report(companion: &Companion, body: &str) -> Answer {
    let headers = [("authorization", "Bearer ingest"), ("content-type", "application/json")];
    companion.send("POST", "/v1/unmatched", &headers, body.to_owned()).await
}

/// A report of one shape.
fn one(path: &str, count: u64) -> String {
    let shape = json!({"method": "POST", "path": path, "count": count, "status": 200});
    json!({"source": "gatehook", "shapes": [shape]}).to_string()
}

async fn list(companion: &Companion) -> Vec<Value> {
    companion.admin("GET", "/v1/unmatched", "").await.json["data"].as_array().unwrap().clone()
}

#[tokio::test]
async fn what_the_rules_left_out_is_counted_shown_and_forgotten() {
    let companion = Companion::start().await;
    let answer = report(&companion, REPORT).await;
    assert_eq!((answer.status, &answer.json), (202, &json!({"accepted": 2})));
    assert_eq!(answer.headers["gatehook-ack"], "accepted=2;repeated=0;refused=0");
    let companion = companion.restart().await;
    report(&companion, &one("/v1/users/{id}/settings", 1)).await;
    report(&companion, &one("/v1/graphql", 30)).await;

    let shapes = list(&companion).await;
    let shown = |shape: &Value| json!([shape["method"], shape["path"], shape["count"], shape["status"]]);
    assert_eq!(
        shapes.iter().map(shown).collect::<Vec<_>>(),
        [
            json!(["POST", "/v1/graphql", 42, 200]),
            json!(["PUT", "/v1/users/{id}/settings", 3, 204]),
            json!(["POST", "/v1/users/{id}/settings", 1, 200])
        ]
    );
    assert_eq!(shapes[0]["source"], "gatehook");
    assert_eq!(shapes[1]["rule"], json!({"path": "/v1/users/{user_id}/settings", "noun": "setting"}));
    let time = |name: &str| shapes[0][name].as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
    assert!(time("first_at") < time("last_at"));
    let metrics = companion.send("GET", "/metrics", &[], "").await.json;
    assert!(metrics.as_str().unwrap().contains("gatehook_unmatched_total 31\n"), "{metrics}");

    let forgotten = companion.admin("DELETE", "/v1/unmatched", "").await;
    assert_eq!((forgotten.status, list(&companion).await), (204, vec![]));
    report(&companion, &one("/v1/graphql", 1)).await;
    assert_eq!(list(&companion).await[0]["count"], 1);
}

#[tokio::test]
async fn the_list_pages_by_cursor_most_frequent_first() {
    let companion = Companion::start().await;
    for (path, count) in [("/a", 1), ("/b", 5), ("/c", 5), ("/d", 9)] {
        report(&companion, &one(path, count)).await;
    }
    let (mut paths, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = companion.admin("GET", &format!("/v1/unmatched?limit=1{cursor}"), "").await.json;
        paths.extend(page["data"].as_array().unwrap().iter().map(|shape| shape["path"].clone()));
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    assert_eq!(paths, ["/d", "/b", "/c", "/a"]);
    for (query, fault) in [("cursor=x", "cursor"), ("limit=0", "limit"), ("colour=red", "query")] {
        let answer = companion.admin("GET", &format!("/v1/unmatched?{query}"), "").await;
        assert_eq!((answer.status, answer.faults()), (400, vec![fault]));
    }
}

#[tokio::test]
async fn a_wrong_report_is_refused_whole_with_every_fault_named() {
    let companion = Companion::start().await;
    let check = async |body: &str, status: u16, faults: &[&str]| {
        let answer = report(&companion, body).await;
        assert_eq!((answer.status, answer.faults()), (status, faults.to_vec()), "{body}: {}", answer.json);
        assert!(!answer.headers.contains_key("gatehook-ack"));
    };
    check("{", 400, &[""]).await;
    check("[]", 400, &[""]).await;
    check("{}", 422, &["/source", "/shapes"]).await;
    check(r#"{"source":"","shapes":{}}"#, 422, &["/source", "/shapes"]).await;
    check(r#"{"source":"s","shapes":[7]}"#, 422, &["/shapes/0"]).await;
    let good = r#"{"method":"POST","path":"/good","count":1,"status":200}"#;
    let missing = ["/shapes/1/method", "/shapes/1/path", "/shapes/1/count", "/shapes/1/status"];
    check(&format!(r#"{{"source":"s","shapes":[{good},{{}}]}}"#), 422, &missing).await;
    for (field, values) in [
        ("method", vec![json!(""), json!("PO ST"), json!("X".repeat(33)), json!(7)]),
        ("path", vec![json!("graphql"), json!("/a?token=x"), json!("/a b"), json!("/".repeat(1_025))]),
        ("count", vec![json!(0), json!(-1), json!(1.5), json!("1"), json!(1_000_000_001)]),
        ("status", vec![json!(99), json!(600), json!("200")]),
    ] {
        for value in values {
            let mut shape: Value = serde_json::from_str(good).unwrap();
            shape[field] = value;
            let body = json!({"source": "s", "shapes": [shape]}).to_string();
            check(&body, 422, &[&format!("/shapes/0/{field}")]).await;
        }
    }
    check(&format!(r#"{{"source":"s","shapes":[{}]}}"#, vec![good; 101].join(",")), 422, &["/shapes"]).await;
    check(&" ".repeat((256 << 10) + 1), 413, &[]).await;
    assert!(list(&companion).await.is_empty());
    let full = format!(r#"{{"source":"s","later":1,"shapes":[{}]}}"#, vec![good; 100].join(","));
    assert_eq!(report(&companion, &full).await.status, 202);
    assert_eq!(list(&companion).await[0]["count"], 100);
}

#[tokio::test]
async fn reporting_and_reading_have_their_own_tokens() {
    let companion = Companion::start().await;
    for (method, token) in [("POST", "Bearer admin"), ("GET", "Bearer ingest"), ("DELETE", "Bearer ingest")] {
        let headers = [("authorization", token), ("content-type", "application/json")];
        let answer = companion.send(method, "/v1/unmatched", &headers, REPORT).await;
        assert_eq!((answer.status, answer.faults()), (403, vec![]), "{method}");
    }
    let headers = [("authorization", "Bearer ingest"), ("content-type", "text/plain")];
    let answer = companion.send("POST", "/v1/unmatched", &headers, REPORT).await;
    assert_eq!((answer.status, answer.faults()), (415, vec!["content-type"]));
    assert_eq!(companion.admin("PUT", "/v1/unmatched", "{}").await.status, 405);
}
