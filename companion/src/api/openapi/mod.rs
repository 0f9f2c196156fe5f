//! `GET /openapi.json`: the API as OpenAPI 3.1, made of the table of its operations.
//!
//! Bodies are read by hand, so that all faults are named at once; what a library would derive from types is not there to be
//! derived. Instead words, bounds and scopes come from the code, and tests compare every field, example and answer with
//! the service itself.

use std::sync::LazyLock;

use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value, json};

mod operations;
mod schemas;

/// One operation.
struct Operation {
    method: &'static str,
    path: &'static str,
    id: &'static str,
    summary: &'static str,
    who: Who,
    parameters: &'static [Parameter],
    body: Option<Body>,
    /// Status and schema of the answer; no schema where it has no body.
    answer: (u16, &'static str),
    /// Statuses of faults beside those that follow from the rest.
    faults: &'static [u16],
}

/// Who may call it.
#[derive(Clone, Copy, PartialEq)]
enum Who {
    /// Needs no token.
    Anybody,
    /// A token of scope admin or read.
    Looks,
    /// A token of scope admin.
    Admin,
    /// A token of scope ingest.
    Ingest,
}

/// A parameter in the query or a header.
struct Parameter {
    place: &'static str,
    name: &'static str,
    schema: &'static str,
    words: &'static [&'static str],
    description: &'static str,
}

/// A request's body.
struct Body {
    media_types: &'static [&'static str],
    schema: &'static str,
    needed: bool,
}

impl Parameter {
    const fn query(name: &'static str, schema: &'static str, description: &'static str) -> Self {
        Self { place: "query", name, schema, words: &[], description }
    }

    const fn header(name: &'static str, schema: &'static str, description: &'static str) -> Self {
        Self { place: "header", ..Self::query(name, schema, description) }
    }

    const fn words(name: &'static str, words: &'static [&'static str], description: &'static str) -> Self {
        Self { words, ..Self::query(name, "", description) }
    }

    fn describe(&self) -> Value {
        let schema = match self.words {
            [] => reference(self.schema),
            words => json!({"type": "string", "enum": words}),
        };
        json!({"in": self.place, "name": self.name, "description": self.description, "schema": schema})
    }
}

/// What tenants have of the API, each for what is its own: the paths below these, under `/webhooks` instead of `/v1`.
const OF_TENANTS: &[&str] = &[
    "/v1/session",
    "/v1/subscriptions",
    "/v1/replays",
    "/v1/deliveries",
    "/v1/event-types",
    "/v1/catalogue",
    "/v1/statistics",
];

/// Operations on those paths that operators alone have.
const OF_OPERATORS: &[&str] = &["recover_deliveries", "describe_event_type", "forget_event_type"];

/// The description, made once.
static DOCUMENT: LazyLock<String> = LazyLock::new(|| document().to_string());

/// The description of what tenants have, made once.
static TENANTS_DOCUMENT: LazyLock<String> = LazyLock::new(|| tenants_document().to_string());

/// Answers with the description.
pub(super) async fn openapi() -> Response {
    ([(CONTENT_TYPE, "application/json")], DOCUMENT.as_str()).into_response()
}

/// Answers with the description of what tenants have.
pub(super) async fn of_tenants() -> Response {
    ([(CONTENT_TYPE, "application/json")], TENANTS_DOCUMENT.as_str()).into_response()
}

/// Every operation's method and path, and whether it needs a token.
#[cfg(test)]
pub(super) fn operations() -> impl Iterator<Item = (&'static str, &'static str, bool)> {
    operations::all().map(|operation| (operation.method, operation.path, operation.who != Who::Anybody))
}

fn document() -> Value {
    let mut paths = Map::new();
    for operation in operations::all() {
        let path = paths.entry(operation.path).or_insert_with(|| json!({}));
        path[operation.method] = operation.describe();
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Gatehook",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Subscriptions to the events of a REST API, their deliveries, and all that belongs to them.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": {
            "schemas": schemas::all(),
            "securitySchemes": {
                "admin": {"type": "http", "scheme": "bearer", "description": "A token of scope admin; of scope read where the operation only looks."},
                "ingest": {"type": "http", "scheme": "bearer", "description": "A token of scope ingest."},
            },
        },
    })
}

/// The description of what a tenant has: the same operations under other paths, and the schemas that they need.
fn tenants_document() -> Value {
    let mut document = document();
    let mut paths = Map::new();
    for operation in operations::all().filter(|operation| operation.is_of_tenants()) {
        let path = operation.path.replacen("/v1/", "/webhooks/", 1);
        let mut described = operation.describe();
        described["security"] = json!([{"api": []}, {"link": []}]);
        described["responses"]["429"] = problem(429);
        if let Some(described) = described.as_object_mut() {
            described.remove("description");
        }
        paths.entry(path).or_insert_with(|| json!({}))[operation.method] = described;
    }
    document["paths"] = Value::Object(paths);
    document["info"]["description"] =
        "Your subscriptions to the events of this API, and their deliveries.".into();
    document["components"]["securitySchemes"] = json!({
        "api": {"type": "http", "scheme": "bearer", "description": "The credentials of the API itself, which its gateway knows."},
        "link": {"type": "apiKey", "in": "header", "name": "authorization", "description": "`Gatehook-Link` and the token of a portal link."},
    });
    keep_needed(&mut document);
    document
}

/// Takes away the schemas that nothing in a document leads to.
fn keep_needed(document: &mut Value) {
    let all = document["components"]["schemas"].take();
    let (mut needed, mut ahead) = (Map::new(), named_in(&document["paths"]));
    while let Some(name) = ahead.pop() {
        if let (false, Some(schema)) = (needed.contains_key(&name), all.get(&name)) {
            ahead.extend(named_in(schema));
            needed.insert(name, schema.clone());
        }
    }
    document["components"]["schemas"] = Value::Object(needed);
}

/// Names of the schemas that a value refers to.
fn named_in(value: &Value) -> Vec<String> {
    match value {
        Value::Object(map) => {
            let own = map.get("$ref").and_then(Value::as_str).and_then(|place| place.rsplit('/').next());
            own.map(str::to_owned).into_iter().chain(map.values().flat_map(named_in)).collect()
        }
        Value::Array(list) => list.iter().flat_map(named_in).collect(),
        _ => Vec::new(),
    }
}

fn reference(schema: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{schema}")})
}

impl Operation {
    fn is_of_tenants(&self) -> bool {
        let is_below = |path: &&str| {
            self.path.strip_prefix(*path).is_some_and(|rest| matches!(rest.get(..1), None | Some("/")))
        };
        OF_TENANTS.iter().any(is_below) && !OF_OPERATORS.contains(&self.id)
    }

    fn describe(&self) -> Value {
        let mut parameters: Vec<Value> = self.parameters.iter().map(Parameter::describe).collect();
        if self.path.contains("{id}") {
            parameters.insert(
                0,
                json!({"in": "path", "name": "id", "required": true, "description": "Its id.", "schema": reference("Id")}),
            );
        }
        let mut described = json!({
            "operationId": self.id,
            "summary": self.summary,
            "parameters": parameters,
            "responses": self.responses(),
            "security": match self.who {
                Who::Anybody => json!([]),
                Who::Looks | Who::Admin => json!([{"admin": []}]),
                Who::Ingest => json!([{"ingest": []}]),
            },
        });
        if self.who == Who::Looks {
            described["description"] = "A token of scope read is enough.".into();
        }
        if let Some(body) = &self.body {
            let content: Map<String, Value> = body
                .media_types
                .iter()
                .map(|media_type| ((*media_type).to_owned(), json!({"schema": body.schema_for(media_type)})))
                .collect();
            described["requestBody"] = json!({"required": body.needed, "content": content});
        }
        described
    }

    fn responses(&self) -> Value {
        let (status, schema) = self.answer;
        let mut answer = json!({"description": self.summary});
        if !schema.is_empty() {
            let (media_type, schema) = match schema {
                "PlainText" => ("text/plain; charset=utf-8", json!({"type": "string"})),
                "OpenMetrics" => {
                    ("application/openmetrics-text; version=1.0.0; charset=utf-8", json!({"type": "string"}))
                }
                "EventStream" => ("text/event-stream", json!({"type": "string"})),
                schema => ("application/json", reference(schema)),
            };
            answer["content"] = json!({media_type: {"schema": schema}});
        }
        let headers = self.headers();
        if !headers.is_empty() {
            answer["headers"] = Value::Object(headers);
        }
        let mut responses = Map::from_iter([(status.to_string(), answer)]);
        for fault in self.all_faults() {
            responses.insert(fault.to_string(), problem(fault));
        }
        Value::Object(responses)
    }

    /// Headers of the answer.
    fn headers(&self) -> Map<String, Value> {
        let (status, schema) = self.answer;
        let header = |description: &str| json!({"required": true, "description": description, "schema": {"type": "string"}});
        let mut headers = Map::new();
        if schema == "Subscription" {
            headers.insert("etag".to_owned(), header("The revision, for `if-match`."));
        }
        if status == 201 || schema == "Replay" && status == 202 {
            headers.insert("location".to_owned(), header("Where it can be read."));
        }
        if self.who == Who::Ingest {
            headers.insert("gatehook-ack".to_owned(), header("What was accepted, repeated and refused."));
        }
        headers
    }

    /// Statuses of everything that may be wrong.
    fn all_faults(&self) -> Vec<u16> {
        let mut faults = self.faults.to_vec();
        if self.who != Who::Anybody {
            faults.extend([401, 403, 503]);
        }
        if self.path.contains("{id}") {
            faults.extend([400, 404]);
        }
        if !self.parameters.is_empty() {
            faults.push(400);
        }
        if self.body.is_some() {
            faults.extend([400, 408, 413, 415]);
        }
        if self.body.as_ref().is_some_and(|body| body.schema != "CloudEvents") {
            faults.push(422);
        }
        faults.sort_unstable();
        faults.dedup();
        faults
    }
}

impl Body {
    /// A batch is a list of events.
    fn schema_for(&self, media_type: &str) -> Value {
        match (self.schema, media_type) {
            ("CloudEvents", "application/cloudevents+json") => reference("CloudEvent"),
            ("CloudEvents", _) => reference("CloudEventBatch"),
            (schema, _) => reference(schema),
        }
    }
}

/// An answer that says what is wrong.
fn problem(status: u16) -> Value {
    let description = match status {
        400 => "The request cannot be read; `errors` names the place.",
        401 => "No token, or one that is not known.",
        403 => "The token's scope does not allow this.",
        404 => "There is no such resource.",
        408 => "The body did not arrive in time.",
        409 => "It does not go together with what is there.",
        412 => "The resource has changed since; its `etag` is another.",
        413 => "The body is too large.",
        415 => "Not a media type of this operation, or encoded.",
        429 => "More than a tenant may ask for; come back.",
        422 => "Some fields are not allowed; `errors` names each.",
        500 => "It ended badly, which is our fault; ask again.",
        _ => "Not at the moment; come back.",
    };
    let mut answer = json!({
        "description": description,
        "content": {"application/problem+json": {"schema": reference("Problem")}},
    });
    let header = match status {
        401 => Some("www-authenticate"),
        429 | 503 => Some("retry-after"),
        _ => None,
    };
    if let Some(header) = header {
        answer["headers"] = json!({header: {"required": true, "schema": {"type": "string"}}});
    }
    answer
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_reference_leads_somewhere_and_every_schema_is_used() {
        let text = document().to_string();
        let named: BTreeSet<_> = text
            .split("#/components/schemas/")
            .skip(1)
            .map(|rest| rest.split('"').next().unwrap().to_owned())
            .collect();
        let known: BTreeSet<_> =
            document()["components"]["schemas"].as_object().unwrap().keys().cloned().collect();
        assert_eq!(named, known);
    }

    #[test]
    fn tenants_are_told_of_what_they_have_and_of_nothing_else() {
        let document = tenants_document();
        let paths = document["paths"].as_object().unwrap();
        assert!(paths.keys().all(|path| path.starts_with("/webhooks/")));
        assert!(
            paths.contains_key("/webhooks/deliveries/{id}")
                && !paths.contains_key("/webhooks/deliveries/redeliver")
        );
        let schemas = document["components"]["schemas"].as_object().unwrap();
        assert!(schemas.contains_key("SubscriptionFields") && !schemas.contains_key("Token"));
        assert_eq!(named_in(&document).iter().collect::<BTreeSet<_>>(), schemas.keys().collect());
    }

    #[test]
    fn operations_have_their_own_names() {
        let ids: BTreeSet<_> = operations::all().map(|operation| operation.id).collect();
        assert_eq!(ids.len(), operations::all().count());
        assert!(operations().all(|(method, path, _)| !method.is_empty() && path.starts_with('/')));
    }
}
