//! Values that callers would send for a parameter, by what its schema promises.
//!
//! A number or a UUID is what the automatic rule takes for an id. Any other text may be a slug (`octocat`, `my-cluster`),
//! so a slug it is: what holds for it holds for every value. Only a `pattern` that is plain enough to be written out
//! says more.

use serde_json::Value;

/// Longer values say nothing more.
const MAX_LENGTH: usize = 64;

/// A value for a parameter with this schema; `position` tells the parameters of one path apart.
pub(super) fn value(schema: Option<&Value>, position: usize) -> String {
    let text = |name: &str| schema.and_then(|schema| schema.get(name)).and_then(Value::as_str);
    let first = schema.and_then(|schema| schema.get("enum")).and_then(|values| values.get(0));
    if let Some(first) = first.and_then(Value::as_str).filter(|first| is_segment(first)) {
        return first.to_owned();
    }
    let kind = text("type").or_else(|| {
        // OpenAPI 3.1 may name several types.
        schema?.get("type")?.as_array()?.iter().filter_map(Value::as_str).find(|kind| *kind != "null")
    });
    match (kind, text("format")) {
        (Some("integer" | "number"), _) => return (4_200 + position).to_string(),
        (Some("boolean"), _) => return "true".to_owned(),
        (_, Some("uuid")) => return format!("0b8a1d4e-52c3-4c47-9a51-{position:012}"),
        _ => {}
    }
    let written = text("pattern").and_then(written_out).filter(|value| is_segment(value));
    written.unwrap_or_else(|| format!("sample-{}", NAMES.get(position % NAMES.len()).unwrap_or(&"slug")))
}

const NAMES: [&str; 8] = ["amber", "birch", "cedar", "delta", "ember", "fjord", "grove", "haven"];

fn is_segment(value: &str) -> bool {
    !value.is_empty()
        && value.len() <= MAX_LENGTH
        && value.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte))
}

/// A text that a plain pattern matches: letters as they stand, and classes a fixed number of times.
fn written_out(pattern: &str) -> Option<String> {
    let mut rest = pattern.strip_prefix('^')?.strip_suffix('$')?;
    let mut value = String::new();
    while let Some(first) = rest.chars().next() {
        let (atom, after) = match first {
            '[' => rest.split_once(']').map(|(class, after)| (class.get(1..).unwrap_or_default(), after))?,
            '\\' if rest.starts_with("\\d") => ("0-9", rest.get(2..)?),
            letter if letter.is_ascii_alphanumeric() || matches!(letter, '-' | '_') => rest.split_at(1),
            _ => return None,
        };
        let (times, after) = match after.strip_prefix('{') {
            Some(counted) => {
                let (count, after) = counted.split_once('}')?;
                (count.split(',').next()?.parse().ok().filter(|times| *times <= MAX_LENGTH)?, after)
            }
            None if after.starts_with(['*', '?', '+', '|']) => return None,
            None => (1, after),
        };
        let one = atom.len() == 1;
        // Digits and letters take turns, as they do in a random token.
        let letters: Vec<char> = match atom {
            _ if one => atom.chars().collect(),
            "0-9" => "7319".chars().collect(),
            _ if atom.contains("0-9") && atom.contains("a-") => "7b1d9c".chars().collect(),
            _ if atom.contains("0-9") && atom.contains("A-") => "7B1D9C".chars().collect(),
            _ => return None,
        };
        value.extend(letters.iter().cycle().take(times));
        rest = after;
    }
    Some(value)
}

#[cfg(test)]
mod tests {
    use gatehook_filter::identifier::looks_like_id;
    use serde_json::json;

    use super::*;

    #[test]
    fn a_value_is_as_telling_as_its_schema() {
        for (schema, is_id) in [
            (json!({"type": "integer"}), true),
            (json!({"type": ["null", "integer"]}), true),
            (json!({"type": "string", "format": "uuid"}), true),
            (json!({"type": "string", "pattern": "^AC[0-9a-fA-F]{32}$"}), true),
            (json!({"type": "string", "pattern": "^[a-z]+$"}), false),
            (json!({"type": "string"}), false),
            (json!({"type": "string", "example": "12345"}), false),
            (json!({"enum": ["open", "closed"]}), false),
        ] {
            let value = value(Some(&schema), 1);
            assert_eq!(looks_like_id(&value), is_id, "{schema} gave {value}");
        }
        assert!(!looks_like_id(&value(None, 0)));
        assert_ne!(value(None, 0), value(None, 1));
    }

    #[test]
    fn a_plain_pattern_is_written_out() {
        assert_eq!(written_out("^CA[0-9a-fA-F]{4}$").as_deref(), Some("CA7b1d"));
        assert_eq!(written_out("^\\d{3}-x$").as_deref(), Some("731-x"));
        for pattern in ["^(a|b)$", "^a+$", "[0-9]{3}", "^[^/]{2}$", "^a{999999}$", "^a{x}$"] {
            assert_eq!(written_out(pattern), None, "{pattern}");
        }
    }
}
