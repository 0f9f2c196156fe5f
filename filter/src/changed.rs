//! What differs between two representations of one resource, as JSON pointers (RFC 6901).
//!
//! Values are compared as JSON, not as text: order of members, spaces and the spelling of strings and numbers do not
//! count. Arrays of different length differ as a whole, because an index says little then.

use std::collections::BTreeMap;

use crate::json::{Json, Parts};

/// More pointers than this say less than the names of the fields at the top.
const MOST: usize = 100;

/// Each level reads its values anew, so depth costs: this many readings of the whole, and small ones without counting.
const MOST_READINGS: usize = 16;
const SMALL: usize = 64 * 1024;

/// Pointers of what was added, removed or changed, in order of path; beyond 100, only the fields at the top.
///
/// Where both are so large and so deep that looking further would keep the proxy from its work, a pointer names the whole
/// value in which they differ.
pub fn changed(before: Json<'_>, after: Json<'_>) -> Vec<String> {
    let whole = before.text().len() + after.text().len();
    let mut differences = Differences { found: Vec::new(), left: whole * MOST_READINGS + SMALL };
    differences.compare("", before, after, usize::MAX);
    if differences.found.len() > MOST {
        differences.found.clear();
        differences.compare("", before, after, 1);
    }
    differences.found
}

/// What was found, and how many bytes may still be read.
struct Differences {
    found: Vec<String>,
    left: usize,
}

impl Differences {
    /// Depth is bounded by that of valid representations, and `depth` ends it sooner.
    fn compare(&mut self, at: &str, before: Json<'_>, after: Json<'_>, depth: usize) {
        if before.text() == after.text() {
            return;
        }
        let cost = before.text().len() + after.text().len();
        let Some(left) = self.left.checked_sub(cost) else { return self.found.push(at.to_owned()) };
        self.left = left;
        match (before.parts(), after.parts()) {
            (Parts::Members(one), Parts::Members(other)) if depth > 0 => {
                // Of a key that stands twice the last one counts, as most parsers have it.
                let one: BTreeMap<_, _> = one.into_iter().collect();
                let other: BTreeMap<_, _> = other.into_iter().collect();
                let mut keys: Vec<_> = one.keys().chain(other.keys()).collect();
                keys.sort();
                keys.dedup();
                for key in keys {
                    let at = format!("{at}/{}", key.replace('~', "~0").replace('/', "~1"));
                    self.compare_parts(at, one.get(key).copied(), other.get(key).copied(), depth - 1);
                }
            }
            (Parts::Elements(one), Parts::Elements(other)) if depth > 0 && one.len() == other.len() => {
                for (index, (one, other)) in one.into_iter().zip(other).enumerate() {
                    self.compare_parts(format!("{at}/{index}"), Some(one), Some(other), depth - 1);
                }
            }
            (Parts::Leaf, Parts::Leaf) if same_leaf(before.text(), after.text()) => {}
            _ => self.found.push(at.to_owned()),
        }
    }

    fn compare_parts(&mut self, at: String, before: Option<&str>, after: Option<&str>, depth: usize) {
        if self.found.len() > MOST && depth > 0 {
            return;
        }
        let parts = before.zip(after);
        let parts = parts
            .and_then(|(one, other)| Some((Json::parse(one.as_bytes())?, Json::parse(other.as_bytes())?)));
        match parts {
            Some((before, after)) => self.compare(&at, before, after, depth),
            None => self.found.push(at),
        }
    }
}

fn same_leaf(one: &str, other: &str) -> bool {
    if one.starts_with('"') && other.starts_with('"') {
        let read = |text: &str| serde_json::from_str::<String>(text).ok();
        return read(one) == read(other);
    }
    // Large integers are no doubles, so they count as equal only if they are written the same.
    let number = |text: &str| text.parse::<f64>().ok().filter(|number| number.abs() < 9e15);
    number(one).is_some_and(|one| number(other) == Some(one))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(before: &str, after: &str, expected: &[&str]) {
        let json = |text: &'static str| Json::parse(text.as_bytes()).unwrap();
        let (before, after) = (before.to_owned().leak(), after.to_owned().leak());
        assert_eq!(changed(json(before), json(after)), expected, "{before} {after}");
    }

    #[test]
    fn each_difference_has_its_pointer() {
        check(r#"{"a":1,"b":{"c":[1,2]}}"#, r#"{"a":1,"b":{"c":[1,3]}}"#, &["/b/c/1"]);
        check(r#"{"a":1}"#, r#"{"b":1}"#, &["/a", "/b"]);
        check(r#"{"a":[1]}"#, r#"{"a":[1,2]}"#, &["/a"]);
        check(r#"{"a":{}}"#, r#"{"a":[]}"#, &["/a"]);
        check(r#"{"a/b":1,"~":1}"#, r#"{"a/b":2,"~":2}"#, &["/a~1b", "/~0"]);
        check("1", "2", &[""]);
    }

    #[test]
    fn the_spelling_of_a_value_is_no_difference() {
        check(r#"{"a":1.50,"b":"\u00fc"}"#, "{ \"b\" : \"ü\", \"a\" : 1.5 }", &[]);
        check(r#"{"a":9007199254740993}"#, r#"{"a":9007199254740992}"#, &["/a"]);
        check("1e400", "1e400", &[]);
        check("null", "false", &[""]);
    }

    #[test]
    fn what_is_large_and_deep_is_not_read_again_at_every_level() {
        let nested = |value: usize, pad: usize| {
            let inner = format!("[{value},\"{}\"]", "x".repeat(pad));
            format!("{}{inner}{}", "{\"a\":".repeat(100), "}".repeat(100))
        };
        let pointers = |pad| {
            let (one, other) = (nested(1, pad), nested(2, pad));
            changed(Json::parse(one.as_bytes()).unwrap(), Json::parse(other.as_bytes()).unwrap())
        };
        assert_eq!(pointers(10), [format!("{}/0", "/a".repeat(100))]);
        assert_eq!(pointers(200_000), ["/a".repeat(MOST_READINGS)]);
    }

    #[test]
    fn too_many_differences_are_told_by_the_top_alone() {
        let many = |value: usize| {
            let members: Vec<_> = (0..200).map(|n| format!("\"k{n}\":{value}")).collect();
            format!("{{\"inner\":{{{}}},\"same\":1}}", members.join(","))
        };
        check(&many(1), &many(2), &["/inner"]);
    }
}
