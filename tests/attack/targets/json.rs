//! The filter's own reading of JSON against `serde_json`: what is JSON, what a pointer leads to, what differs.

use anyhow::{Result, ensure};
use gatehook_filter::changed::changed;
use gatehook_filter::json::{Json, MAX_DEPTH, parse_pointer, push_string};
use serde_json::Value;
use serde_json::value::RawValue;

use super::{Reading, Target, parts};

pub(super) const TARGET: Target = Target {
    name: "json",
    percent: 10,
    words: &[
        "{\"id\":7}",
        "\"id\"",
        "\"_id\"",
        "\"uuid\"",
        "[1,2]",
        "{\"a\":{\"b\":[]}}",
        "\"\\u0069d\"",
        "/a/0",
        "/a~1b",
        "~0",
        "1.0",
        "1",
        "-0",
        "1e2",
        "100",
        "\\ud83e\\udd80",
        "\\/",
        "\"a\":",
        ",",
        "\n--\n",
    ],
    play,
    bytes: 256 << 10,
    // What differs is compared level by level.
    per_byte: 2_048,
};

fn play(input: &[u8]) -> Result<Reading> {
    let [one, other, pointer] = parts(input);
    let mut read = String::new();
    for text in [one, other] {
        read.push_str(valid(text)?);
    }
    let text = String::from_utf8_lossy(pointer);
    written(&text)?;
    let Some(json) = Json::parse(one) else { return Ok(Reading::refused(&read)) };
    // Beyond a double there is nothing to compare with.
    let Ok(value) = serde_json::from_str::<Value>(json.text()) else {
        return Ok(Reading::taken("no double"));
    };
    if let Ok(tokens) = parse_pointer(&text) {
        let found = json.at(&tokens).map(|json| serde_json::from_str::<Value>(json.text()));
        let same = match (&found, value.pointer(&text)) {
            (Some(Ok(found)), Some(expected)) => found == expected,
            (None, None) => true,
            _ => false,
        };
        ensure!(same, "a pointer leads to the same: {text} in {value} to {found:?}");
        read.push_str(if found.is_some() { "found" } else { "" });
    }
    let same = json.id() == id(&value) || json.id().is_some_and(|id| is_double(&id));
    ensure!(same, "the same id: {:?} in {value}", json.id());
    if let Some(after) = Json::parse(other) {
        read.push_str(&differs(json, &value, after)?);
    }
    Ok(Reading::taken(&format!("{read} {}", json.id().is_some())))
}

/// Both call the same bytes JSON, but for what nests too deep.
fn valid(bytes: &[u8]) -> Result<&'static str> {
    let theirs = serde_json::from_slice::<&RawValue>(bytes).ok();
    let ours = Json::parse(bytes);
    match (ours, theirs) {
        (None, None) => Ok("no "),
        (Some(ours), Some(theirs)) => {
            ensure!(ours.text() == theirs.get(), "the text as it came: {:?}", ours.text());
            ensure!(depth(theirs.get()) <= MAX_DEPTH, "a depth that others take: {}", depth(theirs.get()));
            Ok(if ours.is_object() {
                "object "
            } else if ours.is_structured() {
                "array "
            } else {
                "leaf "
            })
        }
        (None, Some(theirs)) => {
            // A name that is no Unicode is JSON by its grammar, and nobody can name it.
            let unnamed = theirs.get().to_ascii_lowercase().contains("\\ud");
            ensure!(unnamed || depth(theirs.get()) > MAX_DEPTH, "JSON is taken: {theirs}");
            Ok("deep ")
        }
        (ours, _) => anyhow::bail!("what is no JSON is refused: {ours:?}"),
    }
}

/// How deep valid JSON nests, counted without strings.
fn depth(json: &str) -> usize {
    let (mut deepest, mut depth, mut rest) = (0_usize, 0_usize, json.bytes());
    while let Some(byte) = rest.next() {
        match byte {
            b'"' => {
                while let Some(inner) = rest.next().filter(|inner| *inner != b'"') {
                    if inner == b'\\' {
                        rest.next();
                    }
                }
            }
            b'[' | b'{' => depth += 1,
            b']' | b'}' => depth -= 1,
            _ => {}
        }
        deepest = deepest.max(depth);
    }
    deepest
}

/// A text written as JSON reads back.
fn written(text: &str) -> Result<()> {
    let mut json = Vec::new();
    push_string(&mut json, text);
    ensure!(
        serde_json::from_slice::<String>(&json).is_ok_and(|back| back == text),
        "a text reads back: {text:?}"
    );
    Ok(())
}

/// The id that a representation has: a text that is not empty, or a whole number.
fn id(value: &Value) -> Option<String> {
    let name = |name: &str| match value.get(name)? {
        Value::String(text) if !text.is_empty() => Some(text.clone()),
        number @ Value::Number(_) if !number.to_string().contains(['.', 'e', 'E']) => {
            Some(number.to_string())
        }
        _ => None,
    };
    value.as_object().and_then(|_| ["id", "_id", "uuid"].into_iter().find_map(name))
}

/// Whether this is a whole number that the other parser makes a double of.
fn is_double(id: &str) -> bool {
    id == "-0" || id.len() > 17 && id.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-')
}

/// Where two values differ, the pointers lead to what differs; where they do not, there are none.
fn differs(before: Json<'_>, value: &Value, after: Json<'_>) -> Result<String> {
    let Ok(other) = serde_json::from_str::<Value>(after.text()) else { return Ok(String::new()) };
    let pointers = changed(before, after);
    for pointer in &pointers {
        let (one, other) = (value.pointer(pointer), other.pointer(pointer));
        ensure!(one != other, "what has changed differs: {pointer:?} is {one:?}");
    }
    // `1` and `1.0` are the same number to us and two to the other parser.
    let plain = |json: Json<'_>| !json.text().contains(['.', 'e', 'E']) && !json.text().contains("-0");
    ensure!(
        !plain(before) || !plain(after) || *value == other || !pointers.is_empty(),
        "what differs has changed: {value} and {other}"
    );
    Ok(format!("{}", pointers.len().min(3)))
}
