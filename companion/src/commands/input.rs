//! Files as the commands take them: bounded, JSON or YAML, `-` for standard input.

use std::fs::File;
use std::io::Read;

use anyhow::{Context, ensure};
use serde::Deserialize;
use serde_json::Value;

/// Larger than any API description or Envoy configuration that people keep in one file.
const MAX_BYTES: u64 = 64 * 1024 * 1024;

/// The name of a file in messages.
pub(crate) fn shown(file: &str) -> &str {
    if file == "-" { "stdin" } else { file }
}

/// The bytes of a file, or of standard input for `-`.
pub(crate) fn read(file: &str) -> anyhow::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let read = if file == "-" {
        std::io::stdin().lock().take(MAX_BYTES + 1).read_to_end(&mut bytes)
    } else {
        File::open(file).and_then(|open| open.take(MAX_BYTES + 1).read_to_end(&mut bytes))
    };
    let length = read.with_context(|| format!("{}: cannot be read", shown(file)))?;
    ensure!(length as u64 <= MAX_BYTES, "{}: larger than {} MiB", shown(file), MAX_BYTES >> 20);
    Ok(bytes)
}

/// Every document of a JSON or YAML text; the error says where the text breaks off being either.
pub(crate) fn documents(bytes: &[u8]) -> Result<Vec<Value>, String> {
    let text = std::str::from_utf8(bytes).map_err(|error| format!("no UTF-8: {error}"))?;
    // Most of what is JSON begins like it, and the JSON parser is the faster one by far.
    let json_fault = match serde_json::from_str(text) {
        Ok(value) => return Ok(vec![value]),
        Err(error) => error,
    };
    let mut documents = Vec::new();
    for document in serde_yaml_ng::Deserializer::from_str(text) {
        let mut value = serde_yaml_ng::Value::deserialize(document).map_err(|error| {
            if text.trim_start().starts_with('{') { json_fault.to_string() } else { error.to_string() }
        })?;
        // `<<: *anchor` belongs to YAML 1.1, which people still write.
        value.apply_merge().map_err(|error| error.to_string())?;
        match json(value)? {
            Value::Null => {}
            value => documents.push(value),
        }
    }
    Ok(documents)
}

/// A YAML value as JSON: keys become text (`200:` is the key `"200"`), tags vanish.
fn json(value: serde_yaml_ng::Value) -> Result<Value, String> {
    use serde_yaml_ng::Value as Yaml;

    Ok(match value {
        Yaml::Null => Value::Null,
        Yaml::Bool(value) => value.into(),
        Yaml::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(whole), _) => whole.into(),
            (None, Some(whole)) => whole.into(),
            (None, None) => number.as_f64().into(),
        },
        Yaml::String(text) => text.into(),
        Yaml::Sequence(values) => values.into_iter().map(json).collect::<Result<_, _>>()?,
        Yaml::Mapping(pairs) => {
            let pairs = pairs.into_iter().map(|(key, value)| Ok((key_text(&key)?, json(value)?)));
            Value::Object(pairs.collect::<Result<_, String>>()?)
        }
        Yaml::Tagged(tagged) => json(tagged.value)?,
    })
}

fn key_text(key: &serde_yaml_ng::Value) -> Result<String, String> {
    use serde_yaml_ng::Value as Yaml;

    match key {
        Yaml::String(text) => Ok(text.clone()),
        Yaml::Number(number) => Ok(number.to_string()),
        Yaml::Bool(value) => Ok(value.to_string()),
        Yaml::Null => Ok("null".to_owned()),
        _ => Err("a key that is a list or an object has no JSON".to_owned()),
    }
}

/// A key as a token of a JSON pointer (RFC 6901).
pub(crate) fn token(key: &str) -> String {
    key.replace('~', "~0").replace('/', "~1")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn json_and_yaml_come_out_alike() {
        let yaml = b"---\na: &x {200: [1, -2, 1.5, true, null]}\nb: *x\n---\n---\nc: {<<: {d: 1}, e: 2}\n";
        let a = json!({"200": [1, -2, 1.5, true, null]});
        assert_eq!(documents(yaml).unwrap(), [json!({"a": a, "b": a}), json!({"c": {"d": 1, "e": 2}})]);
        assert_eq!(documents(b" {\"a\": 1} ").unwrap(), [json!({"a": 1})]);
        assert!(documents(b"").unwrap().is_empty());
    }

    #[test]
    fn what_is_neither_says_where() {
        assert!(documents(b"{\"a\": ").unwrap_err().contains("line 1"));
        assert!(documents(b"a: [1").unwrap_err().contains("line 1"));
        assert!(documents(b"\xff").unwrap_err().contains("UTF-8"));
    }
}
