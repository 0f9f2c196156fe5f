//! An OpenAPI description as a tree, with its references and its base paths.
//!
//! References inside the document are followed, a bounded number of steps; what lies in other files is unknown, and
//! nothing is ever fetched.

use serde_json::Value;

use crate::commands::input;

/// Longer chains of references are circles.
const MAX_STEPS: usize = 32;

/// An OpenAPI 3 description.
#[derive(Debug)]
pub(super) struct Document {
    root: Value,
}

impl Document {
    /// Reads a description; the error has a JSON pointer and a message.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, (String, String)> {
        let whole = |message: String| (String::new(), message);
        let mut documents = input::documents(bytes).map_err(whole)?;
        let root = documents.pop().filter(|_| documents.is_empty());
        let root = root.ok_or_else(|| whole("one OpenAPI document is needed".to_owned()))?;
        if let Some(version) = root.get("swagger") {
            let message = format!("Swagger {} is not read; convert it to OpenAPI 3 first", text(version));
            return Err(("/swagger".to_owned(), message));
        }
        match root.get("openapi").map(text) {
            Some(version) if version.starts_with("3.") => {}
            Some(version) => {
                return Err(("/openapi".to_owned(), format!("{version} is not read; 3.0 and 3.1 are")));
            }
            None => return Err(whole("is no OpenAPI description: openapi is missing".to_owned())),
        }
        if !root.get("paths").is_some_and(Value::is_object) {
            return Err(("/paths".to_owned(), "an object with the API's paths is needed".to_owned()));
        }
        Ok(Self { root })
    }

    /// The whole tree.
    pub(super) fn root(&self) -> &Value {
        &self.root
    }

    /// The value itself, or what its `$ref` leads to; `None` if that is not in this document.
    pub(super) fn resolve<'a>(&'a self, value: &'a Value) -> Option<&'a Value> {
        let mut value = value;
        for _ in 0..MAX_STEPS {
            let Some(reference) = value.get("$ref").and_then(Value::as_str) else { return Some(value) };
            value = self.root.pointer(&percent_decoded(reference.strip_prefix('#')?))?;
        }
        None
    }

    /// The path of the first server's URL, without a slash at its end; variables have their defaults.
    pub(super) fn base(&self, servers: Option<&Value>) -> String {
        let server = servers.and_then(Value::as_array).and_then(|servers| servers.first());
        let Some(server) = server else { return String::new() };
        let mut url = server.get("url").map(text).unwrap_or_default();
        let variables = server.get("variables").and_then(Value::as_object);
        for (name, variable) in variables.into_iter().flatten() {
            let default = variable.get("default").map(text).unwrap_or_default();
            url = url.replace(&format!("{{{name}}}"), &default);
        }
        let rest = match url.split_once("//") {
            Some((_, rest)) => rest.find('/').and_then(|at| rest.get(at..)).unwrap_or_default(),
            None if url.starts_with('/') => &url,
            None => "",
        };
        rest.split(['?', '#']).next().unwrap_or_default().trim_end_matches('/').to_owned()
    }
}

/// A scalar as text; YAML makes a number of `3.0`.
fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// A URI fragment's text (RFC 3986): `%7B` is a brace.
fn percent_decoded(fragment: &str) -> String {
    if !fragment.contains('%') {
        return fragment.to_owned();
    }
    fragment.split('/').map(gatehook_filter::path::decode_segment).collect::<Vec<_>>().join("/")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_openapi_3_is_read_and_the_place_is_named() {
        for (text, at) in [
            ("{\"swagger\": \"2.0\"}", "/swagger"),
            ("openapi: 2.9\npaths: {}", "/openapi"),
            ("{\"openapi\": \"3.0.0\"}", "/paths"),
            ("{}", ""),
            ("", ""),
            ("a: [", ""),
        ] {
            assert_eq!(Document::parse(text.as_bytes()).unwrap_err().0, at, "{text}");
        }
        assert!(Document::parse(b"openapi: 3.1\npaths: {}").is_ok());
    }

    #[test]
    fn references_are_followed_inside_the_document() {
        let text =
            br##"{"openapi": "3.0.0", "paths": {"/a/{id}": {"x": 1}}, "b": {"$ref": "#/paths/~1a~1%7Bid%7D"},
            "c": {"$ref": "#/b"}, "d": {"$ref": "#/d"}, "e": {"$ref": "other.json#/a"}}"##;
        let document = Document::parse(text).unwrap();
        let resolve = |name: &str| document.resolve(&document.root[name]);
        assert_eq!(resolve("c"), Some(&json!({"x": 1})));
        assert_eq!((resolve("d"), resolve("e")), (None, None));
    }

    #[test]
    fn the_base_is_the_path_of_the_first_server() {
        let document = Document::parse(b"openapi: 3.0.0\npaths: {}").unwrap();
        for (url, base) in [
            ("https://api.example/v1/", "/v1"),
            ("https://api.example", ""),
            ("//api.example/a/b", "/a/b"),
            ("/api", "/api"),
            ("https://{host}/{version}", "/v3"),
        ] {
            let servers =
                json!([{"url": url, "variables": {"version": {"default": "v3"}}}, {"url": "/other"}]);
            assert_eq!(document.base(Some(&servers)), base, "{url}");
        }
    }
}
