//! The operations that an OpenAPI description declares, with what their paths have in common.

use std::collections::BTreeMap;

use gatehook_filter::rules::Method;
use serde_json::Value;

use super::declared::{Declared, Segment};
use super::document::Document;
use super::sample;
use super::schema::Shape;
use crate::commands::input::token;

/// All that is declared.
#[derive(Debug)]
pub(super) struct Api<'a> {
    /// The description itself.
    pub(super) document: &'a Document,
    /// How many operations there are, reads included.
    pub(super) operations: usize,
    /// The operations that write, in the document's order.
    pub(super) writes: Vec<Operation<'a>>,
    paths: BTreeMap<String, Declarations<'a>>,
}

/// What is declared for one path.
#[derive(Debug, Default)]
struct Declarations<'a> {
    /// The schema of what GET answers, null if it does not say; `None` without GET.
    get: Option<&'a Value>,
    writes: Vec<Method>,
    path: Option<Declared>,
}

/// An operation that writes.
#[derive(Debug)]
pub(super) struct Operation<'a> {
    /// The method.
    pub(super) method: Method,
    /// The path, base included.
    pub(super) path: Declared,
    /// The path as the document writes it, for people.
    pub(super) shown: String,
    /// The operation's place in the document.
    pub(super) at: String,
    /// Its `operationId`.
    pub(super) id: Option<&'a str>,
    /// The declared statuses that are a success, ascending.
    pub(super) statuses: Vec<u16>,
    /// The schema of a success's JSON.
    pub(super) answer: Option<&'a Value>,
    /// The path with sample values.
    pub(super) sample: String,
}

impl<'a> Api<'a> {
    /// Reads the paths of a description.
    pub(super) fn of(document: &'a Document) -> Self {
        let mut api = Self { document, operations: 0, writes: Vec::new(), paths: BTreeMap::new() };
        let root = document.root();
        let paths = root.get("paths").and_then(Value::as_object);
        for (shown, item) in paths.into_iter().flatten().filter(|(shown, _)| shown.starts_with('/')) {
            let Some(item) = document.resolve(item) else { continue };
            for (name, operation) in item.as_object().into_iter().flatten() {
                let known = ["get", "put", "post", "delete", "options", "head", "patch", "trace"];
                if !known.contains(&name.as_str()) || !operation.is_object() {
                    continue;
                }
                let servers = [operation, item, root].into_iter().find_map(|holder| holder.get("servers"));
                let path = Declared::parse(&document.base(servers), shown);
                api.add(name, shown, path, item, operation);
            }
        }
        api
    }

    fn add(&mut self, name: &str, shown: &str, path: Declared, item: &'a Value, operation: &'a Value) {
        self.operations += 1;
        let declared = self.paths.entry(path.key()).or_default();
        declared.path = Some(path.clone());
        let (statuses, answer) = successes(self.document, operation);
        let Some(method) = Method::parse(name.to_ascii_uppercase().as_bytes()) else {
            if name == "get" {
                declared.get = Some(answer.unwrap_or(&Value::Null));
            }
            return;
        };
        declared.writes.push(method);
        let schema = |name: &str| parameter(self.document, item, operation, name);
        self.writes.push(Operation {
            method,
            sample: path.concrete(|name, at| sample::value(schema(name), at)),
            path,
            shown: format!("{} {shown}", method.name()),
            at: format!("/paths/{}/{name}", token(shown)),
            id: operation.get("operationId").and_then(Value::as_str),
            statuses,
            answer,
        });
    }

    /// Whether anything is declared for this path.
    pub(super) fn knows(&self, path: &Declared) -> bool {
        self.paths.contains_key(&path.key())
    }

    /// Whether this method is declared for this path.
    pub(super) fn writes(&self, path: &Declared, method: Method) -> bool {
        self.paths.get(&path.key()).is_some_and(|declared| declared.writes.contains(&method))
    }

    /// What GET on this path answers; `None` without GET.
    pub(super) fn get(&self, path: &Declared) -> Option<&'a Value> {
        self.paths.get(&path.key())?.get
    }

    /// The declared path of this path's items, if there are any.
    pub(super) fn item(&self, path: &Declared) -> Option<&Declared> {
        self.paths.get(&path.item("id").key())?.path.as_ref()
    }

    /// Whether the path is a collection: it has items, or GET answers a list.
    pub(super) fn is_collection(&self, path: &Declared, noun: &str) -> bool {
        let lists = |schema: &&Value| Shape::of(self.document, schema, noun).is_list;
        self.item(path).is_some() || self.get(path).as_ref().is_some_and(lists)
    }
}

impl Operation<'_> {
    /// The path's last segment.
    pub(super) fn last(&self) -> Option<&Segment> {
        self.path.segments.last()
    }
}

/// The declared statuses from 200 to 299, and the schema of the first JSON among their answers.
fn successes<'a>(document: &'a Document, operation: &'a Value) -> (Vec<u16>, Option<&'a Value>) {
    let responses = operation.get("responses").and_then(Value::as_object);
    let mut found: Vec<(u16, &Value)> = Vec::new();
    for (status, response) in responses.into_iter().flatten() {
        let number = match status.as_str() {
            "2XX" | "2xx" => Some(200),
            exact => exact.parse().ok(),
        };
        found.extend(number.filter(|number| (200..300).contains(number)).map(|number| (number, response)));
    }
    let other = responses.and_then(|responses| responses.get("default").filter(|_| responses.len() == 1));
    if found.is_empty() {
        // Where nothing else is declared, the default is the success.
        found.extend(other.map(|response| (200, response)));
    }
    found.sort_by_key(|(status, _)| *status);
    let answer = found.iter().find_map(|(_, response)| {
        let content = document.resolve(response)?.get("content")?.as_object()?;
        let json = content.iter().find(|(media, _)| {
            let essence = media.split(';').next().unwrap_or_default().trim();
            matches!(essence, "application/json" | "*/*" | "application/*") || essence.ends_with("+json")
        });
        json?.1.get("schema")
    });
    let mut statuses: Vec<u16> = found.into_iter().map(|(status, _)| status).collect();
    statuses.dedup();
    (statuses, answer)
}

/// The schema of a path parameter, declared with the operation or with its path.
fn parameter<'a>(
    document: &'a Document,
    item: &'a Value,
    operation: &'a Value,
    name: &str,
) -> Option<&'a Value> {
    let lists = [operation, item].into_iter().filter_map(|holder| holder.get("parameters")?.as_array());
    let found = lists.flatten().filter_map(|parameter| document.resolve(parameter)).find(|parameter| {
        parameter.get("in").is_some_and(|place| place == "path")
            && parameter.get("name").is_some_and(|own| own == name)
    });
    document.resolve(found?.get("schema")?)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r##"
openapi: 3.0.0
servers: [{url: https://api.example/v1}]
paths:
  /orders:
    get: {responses: {200: {content: {application/json: {schema: {type: array}}}}}}
    post:
      operationId: addOrder
      responses:
        201: {$ref: '#/components/responses/order'}
        202: {}
        400: {}
    x-note: {}
  /orders/{id}:
    parameters: [{name: id, in: path, schema: {type: integer}}]
    put: {responses: {2XX: {}}}
    delete: {responses: {default: {}}}
    patch: {servers: [{url: /other}], responses: {400: {}, default: {}}}
  /profile:
    get: {}
components: {responses: {order: {content: {application/json; charset=utf-8: {schema: {title: order}}}}}}
"##;

    #[test]
    fn operations_come_with_path_statuses_and_answer() {
        let document = Document::parse(TEXT.as_bytes()).unwrap();
        let api = Api::of(&document);
        assert_eq!((api.operations, api.writes.len()), (6, 4));
        let [post, delete, patch, put] = &api.writes[..] else { panic!("{:?}", api.writes) };
        assert_eq!(
            (post.id, &post.statuses[..], &post.sample[..]),
            (Some("addOrder"), &[201, 202][..], "/v1/orders")
        );
        assert_eq!(post.answer.unwrap()["title"], "order");
        assert_eq!((&put.statuses[..], &put.sample[..]), (&[200][..], "/v1/orders/4202"));
        assert_eq!((&delete.statuses[..], &patch.statuses[..]), (&[200][..], &[][..]));
        assert_eq!(patch.path.key(), "/other/orders/{}");
        assert_eq!(put.at, "/paths/~1orders~1{id}/put");
    }

    #[test]
    fn paths_know_each_other() {
        let document = Document::parse(TEXT.as_bytes()).unwrap();
        let api = Api::of(&document);
        let path = |path| Declared::parse("/v1", path);
        assert!(
            api.is_collection(&path("/orders"), "order") && !api.is_collection(&path("/profile"), "profile")
        );
        assert!(api.knows(&path("/profile")) && api.get(&path("/profile")).is_some());
        assert!(api.writes(&path("/orders/{x}"), Method::Put) && !api.writes(&path("/orders"), Method::Put));
    }
}
