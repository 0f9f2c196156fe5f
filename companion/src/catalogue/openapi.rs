//! The catalogue as OpenAPI 3.1: one webhook for each event type.

use serde_json::{Map, Value, json};

use super::webhook::{Described, HEADERS, header};

/// The document.
pub fn document(types: &[Described]) -> Value {
    let webhooks: Map<String, Value> =
        types.iter().map(|described| (described.event_type.clone(), webhook(described))).collect();
    let parameters: Map<String, Value> = HEADERS
        .iter()
        .map(|(name, description, example)| {
            let parameter = json!({"in": "header", "name": name, "required": true, "description": description, "schema": header(example)});
            ((*name).to_owned(), parameter)
        })
        .collect();
    json!({
        "openapi": "3.1.0",
        "jsonSchemaDialect": super::schema::DIALECT,
        "info": {
            "title": "Webhooks",
            "version": "1",
            "description": "What is POSTed to whoever subscribed, in the format `standard`. The schemas are inferred from what was sent.",
        },
        "webhooks": webhooks,
        "components": {"parameters": parameters},
    })
}

fn webhook(described: &Described) -> Value {
    let parameters: Vec<Value> =
        HEADERS.iter().map(|(name, ..)| json!({"$ref": format!("#/components/parameters/{name}")})).collect();
    let mut content = json!({"schema": described.payload()});
    if let Some(example) = described.example() {
        content["example"] = example;
    }
    let mut operation = json!({
        "operationId": described.event_type,
        "summary": described.summary(),
        "parameters": parameters,
        "requestBody": {"required": true, "content": {"application/json": content}},
        "responses": {
            "2XX": {"description": "It has arrived."},
            "410": {"description": "No more of them: the subscription goes off."},
            "default": {"description": "It is sent again later."},
        },
    });
    if let Some(description) = &described.description {
        operation["description"] = description.as_str().into();
    }
    json!({"post": operation})
}

#[cfg(test)]
mod tests {
    use super::super::asyncapi;
    use super::super::{Observed, sample};
    use super::*;

    const OPENAPI: &str = include_str!("../../../tests/fixtures/schemas/openapi-3.1.json");
    const ASYNCAPI: &str = include_str!("../../../tests/fixtures/schemas/asyncapi-3.0.json");

    fn types() -> Vec<Described> {
        let data = json!({"id": 7, "status": "paid", "at": "2026-01-30T12:34:56Z", "tags": ["a"], "by": {"ada@example.com": 1}});
        let mut observed = Observed::default();
        observed.learn(&data);
        let sample = sample::sample(&data, &observed);
        let described = |event_type: &str, description: Option<&str>| Described {
            event_type: event_type.into(),
            description: description.map(Into::into),
            observed: observed.clone(),
            sample: sample.clone(),
        };
        let thin = Described { observed: Observed::default(), sample: None, ..described("thin.only", None) };
        vec![
            described("order.create", Some("An order.\n\nMore of it.")),
            described("https://example.com/strange type~/", None),
            thin,
        ]
    }

    fn check(schema: &str, document: &Value) {
        let schema: Value = serde_json::from_str(schema).unwrap();
        let validator = jsonschema::options().build(&schema).unwrap();
        let faults: Vec<_> = validator
            .iter_errors(document)
            .map(|fault| format!("{} {fault}", fault.instance_path()))
            .collect();
        assert!(faults.is_empty(), "{faults:#?}");
    }

    #[test]
    fn it_is_what_the_specification_of_openapi_allows() {
        check(OPENAPI, &document(&types()));
        check(OPENAPI, &document(&[]));
    }

    #[test]
    fn it_is_what_the_specification_of_asyncapi_allows() {
        check(ASYNCAPI, &asyncapi::document(&types()));
        check(ASYNCAPI, &asyncapi::document(&[]));
    }

    #[test]
    fn each_example_fits_the_payload_that_it_is_an_example_of() {
        let document = document(&types());
        for (name, webhook) in document["webhooks"].as_object().unwrap() {
            let content = &webhook["post"]["requestBody"]["content"]["application/json"];
            if name == "thin.only" {
                assert_eq!(content["example"], Value::Null);
                continue;
            }
            jsonschema::meta::validate(&content["schema"]).unwrap();
            check(&content["schema"].to_string(), &content["example"]);
            let mut thin = content["example"].clone();
            thin["data"] = Value::Null;
            check(&content["schema"].to_string(), &thin);
        }
        assert_eq!(document["webhooks"]["order.create"]["post"]["summary"], "An order.");
    }
}
