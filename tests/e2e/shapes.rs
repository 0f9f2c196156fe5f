//! What an API answers, and what its subscribers get: each row of the README's table, played through the real Envoy.
//!
//! The table in the README is written from these rows, so it cannot say what does not happen.

use std::fmt::Write as _;
use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use harness::upstream::Seen;
use harness::workspace::{self, RunDirectory};
use harness::{Answer, Gateway, Recorder, Upstream, wait};
use hyper::Method;
use serde_json::{Value, json};

use crate::world::tell;

/// One kind of answer.
struct Row {
    /// The request, as `METHOD /path`.
    request: &'static str,
    /// What the API answers, in words.
    says: &'static str,
    answer: Answer,
    /// What the resource's entry in the configuration has besides path and noun; null for no entry at all.
    resource: Value,
    /// What the API answers to a GET of the resource.
    read: &'static str,
    /// The parts of the events that matter here.
    events: Vec<Value>,
}

/// The resources that have an entry: path and noun.
const RESOURCES: [(&str, &str); 15] = [
    ("/v1/invoices/{id}", "invoice"),
    ("/v1/users/bulk", "user"),
    ("/v1/notes/{id}", "note"),
    ("/v1/flags/{id}", "flag"),
    ("/v1/files/{id}", "file"),
    ("/v1/prices/{id}", "price"),
    ("/v1/cards/{id}", "card"),
    ("/v1/patients/{id}", "patient"),
    ("/v1/jobs/{id}", "job"),
    ("/v1/pages/{slug}", "page"),
    ("/v1/logs/{id}", "log"),
    ("/v1/zips/{id}", "zip"),
    ("/v1/gone/{id}", "thing"),
    ("/v1/orgs/{org}/seats/{id}", "org.seat"),
    ("/v1/reports/{id}", "report"),
];

fn rows() -> Vec<Row> {
    [plain(), shaped(), fetched(), guarded()].into_iter().flatten().collect()
}

fn row(
    request: &'static str,
    says: &'static str,
    answer: Answer,
    resource: Value,
    read: &'static str,
    events: Vec<Value>,
) -> Row {
    Row { request, says, answer, resource, read, events }
}

/// Answers that need a word on where the resource stands in them, or that go thin.
fn shaped() -> Vec<Row> {
    let event = |kind: &str, data: Value| vec![json!({"type": kind, "data": data})];
    vec![
        row(
            "POST /v1/invoices",
            "201, the resource in an envelope",
            Answer::json(201, r#"{"data":{"id":"i1"},"meta":{}}"#),
            json!({"unwrap": "/data"}),
            "",
            event("invoice.create", json!({"id": "i1"})),
        ),
        row(
            "POST /v1/users/bulk",
            "200, several resources at once",
            Answer::json(200, r#"{"items":[{"id":1},{"id":2}]}"#),
            json!({"explode": "/items", "subject": "/v1/users/{id}"}),
            "",
            vec![
                json!({"type": "user.create", "subject": "/v1/users/1", "data": {"id": 1}}),
                json!({"type": "user.create", "subject": "/v1/users/2", "data": {"id": 2}}),
            ],
        ),
        row(
            "POST /v1/jobs",
            "202, accepted for later",
            Answer::json(202, r#"{"id":"j1","state":"queued"}"#),
            json!({"statuses": [202]}),
            "",
            event("job.create", json!({"id": "j1", "state": "queued"})),
        ),
        row(
            "PUT /v1/pages/home",
            "200, a resource without an id",
            Answer::json(200, r#"{"title":"Home"}"#),
            json!({}),
            "",
            event("page.update", json!({"title": "Home"})),
        ),
        row(
            "PUT /v1/zips/7",
            "200, compressed although we asked for plain",
            Answer::json(200, r#"{"id":7}"#).header("content-encoding", "gzip"),
            json!({}),
            "",
            vec![json!({"type": "zip.update", "thin": "encoded"})],
        ),
        row(
            "PUT /v1/reports/7",
            "200, larger than `max_body_bytes`",
            Answer::json(200, &format!(r#"{{"id":7,"pad":"{}"}}"#, "x".repeat(70_000))),
            json!({}),
            "",
            vec![json!({"type": "report.update", "thin": "too_large"})],
        ),
    ]
}

/// What is read by GET.
fn fetched() -> Vec<Row> {
    let event = |kind: &str, data: Value| vec![json!({"type": kind, "data": data})];
    vec![
        row(
            "PATCH /v1/notes/7",
            "204, nothing",
            Answer::empty(204),
            json!({"representation": "fetch"}),
            r#"{"id":"7","text":"new"}"#,
            event("note.update", json!({"id": "7", "text": "new"})),
        ),
        row(
            "PUT /v1/flags/7",
            "200, `{\"ok\":true}`",
            Answer::json(200, r#"{"ok":true}"#),
            json!({"representation": "fetch"}),
            r#"{"id":7,"on":true}"#,
            event("flag.update", json!({"id": 7, "on": true})),
        ),
        row(
            "POST /v1/files",
            "201, nothing but a `Location`",
            Answer::empty(201).header("location", "/v1/files/f9"),
            json!({"representation": "fetch"}),
            r#"{"id":"f9"}"#,
            vec![json!({"type": "file.create", "subject": "/v1/files/f9", "data": {"id": "f9"}})],
        ),
        row(
            "PUT /v1/prices/7",
            "200, the resource; what was there before matters",
            Answer::json(200, r#"{"id":7,"eur":12}"#),
            json!({"previous": "fetch"}),
            r#"{"id":7,"eur":10}"#,
            vec![
                json!({"type": "price.update", "data": {"id": 7, "eur": 12}, "previous": {"id": 7, "eur": 10},
                        "changed": ["/eur"]}),
            ],
        ),
        row(
            "DELETE /v1/prices/7",
            "204; what was there before matters",
            Answer::empty(204),
            json!({"previous": "fetch"}),
            r#"{"id":7,"eur":10}"#,
            event("price.delete", json!({"id": 7, "eur": 10})),
        ),
        row(
            "PUT /v1/gone/7",
            "204, and the GET finds nothing",
            Answer::empty(204),
            json!({"representation": "fetch"}),
            "",
            vec![json!({"type": "thing.update", "thin": "fetch_refused"})],
        ),
    ]
}

/// What may leave, and whose it is.
fn guarded() -> Vec<Row> {
    let event = |kind: &str, data: Value| vec![json!({"type": kind, "data": data})];
    vec![
        row(
            "PUT /v1/cards/7",
            "200, with a field that must not leave",
            Answer::json(200, r#"{"id":7,"number":"4242","brand":"visa"}"#),
            json!({"redact": ["/number"]}),
            "",
            event("card.update", json!({"id": 7, "brand": "visa"})),
        ),
        row(
            "PUT /v1/patients/7",
            "200, of which little may leave",
            Answer::json(200, r#"{"id":7,"name":"Ada","ward":"B"}"#),
            json!({"only": ["/id", "/ward"]}),
            "",
            event("patient.update", json!({"id": 7, "ward": "B"})),
        ),
        row(
            "POST /v1/logs",
            "201, of which nothing may leave",
            Answer::json(201, r#"{"id":"l1"}"#),
            json!({"data": "none"}),
            "",
            vec![json!({"type": "log.create", "subject": "/v1/logs/l1", "thin": "withheld"})],
        ),
        row(
            "POST /v1/orgs/acme/seats",
            "201, on behalf of a tenant",
            Answer::json(201, r#"{"id":"s1"}"#),
            json!({"tenant": {"parameter": "org"}}),
            "",
            vec![json!({"type": "org.seat.create", "tenant": "acme", "data": {"id": "s1"}})],
        ),
    ]
}

/// What needs no configuration at all.
fn plain() -> Vec<Row> {
    let simple = |request, says, answer, event| Row {
        request,
        says,
        answer,
        resource: Value::Null,
        read: "",
        events: vec![event],
    };
    let linked = r#"{"_links":{"self":{"href":"/v1/albums/9"}},"title":"Blue"}"#;
    vec![
        simple(
            "POST /v1/contacts",
            "201, the resource",
            Answer::json(201, r#"{"id":"c1","name":"Ada"}"#),
            json!({"type": "contact.create", "subject": "/v1/contacts/c1", "data": {"id": "c1", "name": "Ada"}}),
        ),
        simple(
            "POST /v1/companies",
            "200, the resource with a new id",
            Answer::json(200, r#"{"id":7}"#),
            json!({"type": "company.create", "subject": "/v1/companies/7", "data": {"id": 7}}),
        ),
        simple(
            "PATCH /v1/contacts/7",
            "200, the resource",
            Answer::json(200, r#"{"id":7,"name":"Eve"}"#),
            json!({"type": "contact.update", "data": {"id": 7, "name": "Eve"}}),
        ),
        simple(
            "PUT /v1/contacts/8",
            "201, the resource",
            Answer::json(201, r#"{"id":8}"#),
            json!({"type": "contact.create", "data": {"id": 8}}),
        ),
        simple(
            "DELETE /v1/users/42/orders/7",
            "204",
            Answer::empty(204),
            json!({"type": "order.delete", "data": {"user_id": "42", "id": "7"}}),
        ),
        simple(
            "POST /v1/orders/7/cancel",
            "200, the order",
            Answer::json(200, r#"{"id":7,"state":"cancelled"}"#),
            json!({"type": "order.cancel", "subject": "/v1/orders/7", "data": {"id": 7, "state": "cancelled"}}),
        ),
        simple(
            "POST /v1/articles",
            "201, JSON:API",
            Answer::sized(201, r#"{"data":{"type":"articles","id":"3"}}"#)
                .header("content-type", "application/vnd.api+json"),
            json!({"type": "article.create", "subject": "/v1/articles/3",
                   "data": {"data": {"type": "articles", "id": "3"}}}),
        ),
        simple(
            "POST /v1/albums",
            "201, HAL",
            Answer::sized(201, linked).header("content-type", "application/hal+json"),
            json!({"type": "album.create", "subject": "/v1/albums/9",
                   "data": {"_links": {"self": {"href": "/v1/albums/9"}}, "title": "Blue"}}),
        ),
        simple(
            "PUT /v1/contacts/9",
            "204, nothing",
            Answer::empty(204),
            json!({"type": "contact.update", "thin": "empty"}),
        ),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn each_shape_of_an_answer_becomes_the_event_that_the_readme_shows() {
    tell(plays_each_row).await;
}

async fn plays_each_row(run: &Arc<RunDirectory>) -> Result<()> {
    let upstream = Upstream::start(api).await?;
    let recorder = Recorder::start().await?;
    let gateway = Gateway::before(upstream.address(), recorder.address())
        .filter(&json!({"resources": resources()?, "max_body_bytes": 65_536}))
        .start(run)
        .await?;
    let caller = gateway.caller();
    for row in rows() {
        let (method, path) = row.request.split_once(' ').context("method and path")?;
        let before = recorder.accepted().len();
        let call = caller.call(method.parse::<Method>()?, path).body("{}");
        let answer = call.send().await.with_context(|| row.request)?;
        ensure!((200..300).contains(&answer.status), "{} was answered {}", row.request, answer.status);
        let after = before + row.events.len();
        let all = recorder.accepted_at_least(after, wait::PATIENCE).await.context(row.request)?;
        ensure!(all.len() == after, "{}: one event too many: {all:#?}", row.request);
        for (event, expected) in all[before..].iter().zip(&row.events) {
            check(event, expected).with_context(|| format!("{}: {event}", row.request))?;
        }
    }
    let readme = std::fs::read_to_string(workspace::root().join("README.md"))?;
    ensure!(readme.contains(&table()), "the README lacks this table:\n{}", table());
    Ok(())
}

/// Each named part is as expected, and an event has data or says why not.
fn check(event: &Value, expected: &Value) -> Result<()> {
    for (name, value) in expected.as_object().context("an object")? {
        ensure!(&event[name] == value, "{name} is {} instead of {value}", event[name]);
    }
    ensure!(event.get("data").is_some() == event.get("thin").is_none(), "data or a reason");
    Ok(())
}

fn api(seen: &Seen) -> Answer {
    let request = format!("{} {}", seen.method, seen.path);
    let rows = rows();
    if let Some(row) = rows.iter().find(|row| row.request == request) {
        return row.answer.clone();
    }
    let of_resource = |row: &&Row| {
        let path = row.request.split(' ').nth(1).unwrap_or_default();
        !row.read.is_empty() && seen.path.starts_with(path)
    };
    match rows.iter().find(of_resource) {
        Some(row) if seen.method == "GET" => Answer::json(200, row.read),
        _ => Answer::json(404, "{}"),
    }
}

/// The configuration's entries: of rows that share a resource, all have the same.
fn resources() -> Result<Vec<Value>> {
    let rows = rows();
    let mut entries = Vec::new();
    for (path, noun) in RESOURCES {
        let fixed = path.split("/{").next().unwrap_or(path);
        let row = rows.iter().find(|row| !row.resource.is_null() && row.request.contains(fixed));
        let mut entry = row.with_context(|| format!("no row for {path}"))?.resource.clone();
        entry["path"] = path.into();
        entry["noun"] = noun.into();
        entries.push(entry);
    }
    Ok(entries)
}

/// The README's table.
fn table() -> String {
    let mut table =
        String::from("| your API answers | in the configuration | your subscribers get |\n|---|---|---|\n");
    for row in rows() {
        let settings = match &row.resource {
            Value::Null => "nothing".to_owned(),
            Value::Object(object) if object.is_empty() => "the resource's path and noun".to_owned(),
            settings => format!("`{settings}`"),
        };
        let events: Vec<String> = row.events.iter().map(shown).collect();
        let _ = writeln!(table, "| `{}`: {} | {settings} | {} |", row.request, row.says, events.join("; "));
    }
    table
}

fn shown(event: &Value) -> String {
    let mut text = format!("`{}`", event["type"].as_str().unwrap_or_default());
    if let Some(tenant) = event.get("tenant") {
        let _ = write!(text, " of tenant `{}`", tenant.as_str().unwrap_or_default());
    }
    match event.get("data") {
        Some(data) => drop(write!(text, " `{data}`")),
        None => drop(write!(text, " without data, `thin`: {}", event["thin"])),
    }
    if let Some(previous) = event.get("previous") {
        let _ = write!(text, ", `previous` `{previous}`, `changed` `{}`", event["changed"]);
    }
    text
}
