//! The JSON Schema (2020-12) of what was observed.
//!
//! It says what always was so, and forbids nothing that may come: a field is required where every observation had it, and
//! further ones are allowed everywhere.

use serde_json::{Map, Value, json};

use super::observed::{Kind, Observed};

/// What names the dialect of a schema that stands alone.
pub const DIALECT: &str = "https://json-schema.org/draft/2020-12/schema";

/// A schema that stands alone; `None` where nothing was observed.
pub fn document(observed: &Observed) -> Option<Value> {
    let Value::Object(schema) = schema(observed) else { return None };
    let dialect = [("$schema".to_owned(), DIALECT.into())];
    (observed.count() > 0).then(|| Value::Object(dialect.into_iter().chain(schema).collect()))
}

/// A schema to stand within another.
pub fn schema(observed: &Observed) -> Value {
    let types = observed.types();
    let mut schema = Map::new();
    match types.as_slice() {
        [] => return json!({}),
        [one] => schema.insert("type".to_owned(), json!(one)),
        several => schema.insert("type".to_owned(), json!(several)),
    };
    if let Some(format) = observed.formats.get() {
        schema.insert("format".to_owned(), json!(format.name()));
    }
    if types.iter().all(|name| ["string", "null"].contains(name)) {
        words(observed, &mut schema);
    }
    if let Some(items) = &observed.items {
        schema.insert("items".to_owned(), self::schema(items));
    }
    if let Some(values) = &observed.values {
        schema.insert("additionalProperties".to_owned(), self::schema(values));
    }
    members(observed, &mut schema);
    Value::Object(schema)
}

fn words(observed: &Observed, schema: &mut Map<String, Value>) {
    let mut words: Vec<Value> = observed.sure_words().into_iter().map(Value::from).collect();
    if words.is_empty() {
        return;
    }
    if observed.count_of(Kind::Null) > 0 {
        words.push(Value::Null);
    }
    schema.insert("enum".to_owned(), words.into());
}

fn members(observed: &Observed, schema: &mut Map<String, Value>) {
    if observed.members.is_empty() {
        return;
    }
    let objects = observed.count_of(Kind::Object);
    let properties: Map<String, Value> =
        observed.members.iter().map(|(name, member)| (name.clone(), self::schema(member))).collect();
    let always = observed.members.iter().filter(|(_, member)| member.count() == objects);
    let required: Vec<&String> = always.map(|(name, _)| name).collect();
    schema.insert("properties".to_owned(), properties.into());
    if !required.is_empty() {
        schema.insert("required".to_owned(), json!(required));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(documents: &[Value], expected: &Value) {
        let mut observed = Observed::default();
        documents.iter().for_each(|data| drop(observed.learn(data)));
        assert_eq!(&schema(&observed), expected);
    }

    #[test]
    fn a_schema_says_what_always_was_so() {
        check(&[], &json!({}));
        check(
            &[
                json!({"id": 7, "at": "2026-01-30T12:34:56Z", "note": null}),
                json!({"id": 8.5, "at": "2026-01-30T12:34:56Z", "note": "x"}),
            ],
            &json!({
                "type": "object",
                "properties": {
                    "at": {"type": "string", "format": "date-time"},
                    "id": {"type": "number"},
                    "note": {"type": ["null", "string"]},
                },
                "required": ["at", "id", "note"],
            }),
        );
        check(
            &[json!({"a": 1}), json!({})],
            &json!({"type": "object", "properties": {"a": {"type": "integer"}}}),
        );
        check(
            &[json!([]), json!([1, null])],
            &json!({"type": "array", "items": {"type": ["null", "integer"]}}),
        );
        check(&[json!("2026-01-30"), json!("soon")], &json!({"type": "string"}));
    }

    #[test]
    fn a_few_words_become_an_enum_once_they_are_sure() {
        let status = |n: usize| json!({"status": (["open", "paid", "void"][n % 3]), "name": format!("n{n}")});
        let documents: Vec<Value> = (0..150).map(status).collect();
        let text = json!({"type": "string"});
        let words = json!({"type": "string", "enum": ["open", "paid", "void"]});
        for (seen, expected) in [(90, &text), (150, &words)] {
            let schema = json!({"type": "object", "properties": {"name": text, "status": expected}, "required": ["name", "status"]});
            check(&documents[..seen], &schema);
        }
    }
}
