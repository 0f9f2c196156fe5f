//! What a schema says about the JSON that the filter would see: an id, an envelope around it, a list.
//!
//! Schemas are looked into a few levels deep, through references and `allOf`; of alternatives (`oneOf`, `anyOf`) one that
//! has it is enough. What cannot be read is taken to promise nothing.

use std::collections::{BTreeMap, VecDeque};

use gatehook_filter::rules::Rules;
use serde_json::Value;

use super::document::Document;
use crate::commands::input::token;

/// Deeper schemas say nothing about the top of a representation.
const MAX_DEPTH: usize = 8;

/// More parts and alternatives than people put together.
const MAX_PARTS: usize = 500;

/// The fields by which the filter knows a representation's id.
const ID_FIELDS: [&str; 3] = ["id", "_id", "uuid"];

/// What a schema promises.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Shape {
    /// The representation's id stands at the top.
    pub(super) has_id: bool,
    /// It stands below this JSON pointer, in the only field that could be the resource.
    pub(super) envelope: Option<String>,
    /// It is a list, or an object around one.
    pub(super) is_list: bool,
}

impl Shape {
    /// Reads the schema of an answer about this noun.
    pub(super) fn of(document: &Document, schema: &Value, noun: &str) -> Self {
        let properties = properties(document, schema);
        let has_id = has_id(&properties);
        let is_array = |schema: &Value| {
            document
                .resolve(schema)
                .is_some_and(|schema| is_type(schema, "array") || schema.get("items").is_some())
        };
        let names_a_list = |name: &str| {
            const WORDS: [&str; 8] =
                ["data", "result", "results", "items", "values", "records", "entries", "resources"];
            WORDS.contains(&name) || Rules::default().noun(name).is_some_and(|one| one == noun)
        };
        let holds_a_list = |(name, schema): (&String, &&Value)| names_a_list(name) && is_array(schema);
        let is_list = is_array(schema) || (!has_id && properties.iter().any(holds_a_list));
        let names_a_resource = |name: &str| {
            matches!(name, "data" | "result")
                || gatehook_filter::rules::word(name).is_some_and(|word| word == noun)
        };
        let mut envelopes = properties.iter().filter(|(name, schema)| {
            names_a_resource(name) && self::has_id(&self::properties(document, schema))
        });
        let envelope = match (envelopes.next(), envelopes.next()) {
            (Some((name, _)), None) if !has_id && !is_list => Some(format!("/{}", token(name))),
            _ => None,
        };
        Self { has_id, envelope, is_list }
    }

    /// JSON that fits: with an id that no request named, where the schema promises one.
    pub(super) fn sample(&self) -> Vec<u8> {
        let resource = r#"{"id":"made-by-the-api"}"#;
        match &self.envelope {
            _ if self.has_id => resource.to_owned(),
            _ if self.is_list => "[]".to_owned(),
            Some(pointer) => {
                let name = pointer.get(1..).unwrap_or_default().replace("~1", "/").replace("~0", "~");
                format!("{{{}:{resource}}}", Value::from(name))
            }
            None => "{}".to_owned(),
        }
        .into_bytes()
    }
}

fn has_id(properties: &BTreeMap<String, &Value>) -> bool {
    ID_FIELDS.iter().any(|field| properties.contains_key(*field))
}

fn is_type(schema: &Value, kind: &str) -> bool {
    match schema.get("type") {
        Some(Value::String(own)) => own == kind,
        Some(Value::Array(own)) => own.iter().any(|own| own == kind),
        _ => false,
    }
}

/// The properties of an object's schema, those of its parts and alternatives included.
fn properties<'a>(document: &'a Document, schema: &'a Value) -> BTreeMap<String, &'a Value> {
    let mut found = BTreeMap::new();
    let mut waiting = VecDeque::from([(schema, 0)]);
    // Schemas may name each other in circles, so both how deep and how many are bounded.
    for _ in 0..MAX_PARTS {
        let Some((schema, depth)) = waiting.pop_front() else { break };
        let Some(schema) = document.resolve(schema) else { continue };
        for (name, property) in schema.get("properties").and_then(Value::as_object).into_iter().flatten() {
            found.entry(name.clone()).or_insert(property);
        }
        if depth < MAX_DEPTH {
            let parts =
                ["allOf", "oneOf", "anyOf"].into_iter().filter_map(|name| schema.get(name)?.as_array());
            waiting.extend(parts.flatten().take(MAX_PARTS).map(|part| (part, depth + 1)));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(schema: &str, has_id: bool, envelope: Option<&str>, is_list: bool) {
        let text = format!(
            r#"{{"openapi": "3.0.0", "paths": {{}}, "o": {{"properties": {{"id": {{}}, "items": {{"type": "array"}}}}}},
                "loop": {{"allOf": [{{"$ref": "\#/loop"}}]}}, "schema": {schema}}}"#
        )
        .replace("\\#", "#");
        let document = Document::parse(text.as_bytes()).unwrap();
        let found = Shape::of(&document, &document.root()["schema"], "line_item");
        assert_eq!(found, Shape { has_id, envelope: envelope.map(str::to_owned), is_list }, "{schema}");
    }

    #[test]
    fn ids_envelopes_and_lists_are_told_apart() {
        check(r##"{"$ref": "#/o"}"##, true, None, false);
        check(r##"{"allOf": [{"$ref": "#/o"}, {"properties": {"x": {}}}]}"##, true, None, false);
        check(r##"{"oneOf": [{"properties": {}}, {"$ref": "#/o"}]}"##, true, None, false);
        check(r##"{"properties": {"data": {"$ref": "#/o"}, "meta": {}}}"##, false, Some("/data"), false);
        check(r##"{"properties": {"lineItem": {"$ref": "#/o"}}}"##, false, Some("/lineItem"), false);
        check(
            r##"{"properties": {"data": {"$ref": "#/o"}, "result": {"$ref": "#/o"}}}"##,
            false,
            None,
            false,
        );
        check(r##"{"properties": {"other": {"$ref": "#/o"}}}"##, false, None, false);
        check(r#"{"type": "array", "items": {}}"#, false, None, true);
        check(r#"{"type": ["array", "null"]}"#, false, None, true);
        check(r#"{"properties": {"line_items": {"type": "array"}}}"#, false, None, true);
        check(r##"{"$ref": "#/loop"}"##, false, None, false);
        let circle = vec![r##"{"$ref": "#/schema"}"##; 40].join(",");
        check(&format!(r#"{{"oneOf": [{circle}]}}"#), false, None, false);
        check(r##"{"$ref": "elsewhere.json#/o"}"##, false, None, false);
    }

    #[test]
    fn a_sample_has_what_the_schema_promises() {
        let shape = |has_id, envelope: Option<&str>| Shape {
            has_id,
            envelope: envelope.map(str::to_owned),
            is_list: false,
        };
        assert_eq!(shape(false, None).sample(), b"{}");
        assert_eq!(shape(true, None).sample(), br#"{"id":"made-by-the-api"}"#);
        assert_eq!(shape(false, Some("/data")).sample(), br#"{"data":{"id":"made-by-the-api"}}"#);
    }
}
