//! What of a representation may leave Envoy: an allow-list, a list of what goes, or nothing at all.
//!
//! Applied to everything that an event bears (`data`, `previous`, a DELETE's parameters) before it is written anywhere.
//! What stays, stays byte for byte; only the objects and arrays on the way to a removed value are written anew.

use std::borrow::Cow;
use std::collections::BTreeMap;

use crate::json::{Json, Parts, push_string};

/// In a pointer, every member of an object or every element of an array.
const ANY: &str = "*";

/// The privacy settings of one resource, compiled.
#[derive(Debug, Clone, Default)]
pub struct Privacy {
    /// Whether events bear no data at all.
    pub none: bool,
    only: Option<Tree>,
    redact: Option<Tree>,
}

/// Pointers with a common beginning share a branch.
#[derive(Debug, Clone, Default)]
struct Tree {
    /// A pointer ends here.
    ends: bool,
    children: BTreeMap<String, Tree>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cut {
    /// What pointers lead to goes.
    Redact,
    /// Only what pointers lead to stays.
    Only,
}

impl Privacy {
    /// From the tokens of JSON pointers (RFC 6901), in which `*` stands for every member or element.
    pub fn new(none: bool, only: &[Vec<String>], redact: &[Vec<String>]) -> Self {
        Self { none, only: Tree::of(only), redact: Tree::of(redact) }
    }

    /// What may leave of a value; `None` if nothing may.
    pub fn apply<'a>(&self, json: Json<'a>) -> Option<Cow<'a, str>> {
        if self.none {
            return None;
        }
        let text = Cow::Borrowed(json.text());
        let text = match &self.only {
            Some(tree) => Cow::Owned(cut(&text, tree, Cut::Only)?),
            None => text,
        };
        match &self.redact {
            Some(tree) => cut(&text, tree, Cut::Redact).map(Cow::Owned),
            None => Some(text),
        }
    }
}

impl Tree {
    fn of(pointers: &[Vec<String>]) -> Option<Self> {
        let mut root = Self::default();
        for pointer in pointers {
            let mut node = &mut root;
            for token in pointer {
                node = node.children.entry(token.clone()).or_default();
            }
            node.ends = true;
        }
        (!pointers.is_empty()).then_some(root)
    }
}

fn cut(text: &str, tree: &Tree, how: Cut) -> Option<String> {
    if tree.ends {
        // The empty pointer is the whole value.
        return (how == Cut::Only).then(|| text.to_owned());
    }
    let mut out = Vec::with_capacity(text.len());
    write_cut(&mut out, text, &[tree], how)?;
    String::from_utf8(out).ok()
}

/// Writes what stays of a value below these branches; the depth is that of the longest pointer.
fn write_cut(out: &mut Vec<u8>, text: &str, branches: &[&Tree], how: Cut) -> Option<()> {
    match Json::parse(text.as_bytes())?.parts() {
        Parts::Members(members) => {
            let members = members.into_iter().map(|(key, value)| (Some(key), value));
            write_parts(out, (b'{', b'}'), members, branches, how)
        }
        Parts::Elements(elements) => {
            let elements = elements.into_iter().map(|value| (None, value));
            write_parts(out, (b'[', b']'), elements, branches, how)
        }
        // Pointers that lead below a plain value lead nowhere.
        Parts::Leaf if how == Cut::Redact => {
            out.extend_from_slice(text.as_bytes());
            Some(())
        }
        Parts::Leaf => None,
    }
}

fn write_parts<'a>(
    out: &mut Vec<u8>,
    (open, close): (u8, u8),
    parts: impl Iterator<Item = (Option<Cow<'a, str>>, &'a str)>,
    branches: &[&Tree],
    how: Cut,
) -> Option<()> {
    out.push(open);
    let mut first = true;
    for (index, (key, value)) in parts.enumerate() {
        let token = key.clone().unwrap_or_else(|| Cow::Owned(index.to_string()));
        let below: Vec<&Tree> = branches
            .iter()
            .flat_map(|tree| [tree.children.get(token.as_ref()), tree.children.get(ANY)])
            .flatten()
            .collect();
        let named = below.iter().any(|tree| tree.ends);
        let whole = match how {
            Cut::Redact if named => continue,
            Cut::Only if below.is_empty() => continue,
            Cut::Redact => below.is_empty(),
            Cut::Only => named,
        };
        let before = out.len();
        if !first {
            out.push(b',');
        }
        if let Some(key) = &key {
            push_string(out, key);
            out.push(b':');
        }
        if whole {
            out.extend_from_slice(value.as_bytes());
        } else if write_cut(out, value, &below, how).is_none() {
            // A plain value where the allow-list names something inside it.
            out.truncate(before);
            continue;
        }
        first = false;
    }
    out.push(close);
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::parse_pointer;

    fn privacy(none: bool, only: &[&str], redact: &[&str]) -> Privacy {
        let tokens = |pointers: &[&str]| -> Vec<_> {
            pointers.iter().map(|pointer| parse_pointer(pointer).unwrap()).collect()
        };
        Privacy::new(none, &tokens(only), &tokens(redact))
    }

    fn check(only: &[&str], redact: &[&str], text: &str, expected: Option<&str>) {
        let json = Json::parse(text.as_bytes()).unwrap();
        assert_eq!(
            privacy(false, only, redact).apply(json).as_deref(),
            expected,
            "{only:?} {redact:?} {text}"
        );
    }

    #[test]
    fn without_settings_the_text_stays_as_it_was() {
        let text = "{ \"a\" : 1.0e400, \"a\" : [ ] }";
        check(&[], &[], text, Some(text));
        let json = Json::parse(text.as_bytes()).unwrap();
        assert!(matches!(Privacy::default().apply(json), Some(Cow::Borrowed(_))));
    }

    #[test]
    fn a_redacted_field_is_gone_wherever_it_stands() {
        check(&[], &["/ssn"], r#"{"ssn":1,"name": "a"}"#, Some(r#"{"name":"a"}"#));
        check(&[], &["/ssn"], r#"{"name":"a","ssn":1,"ssn":2}"#, Some(r#"{"name":"a"}"#));
        check(&[], &["/ssn"], r#"{"\u0073sn":1}"#, Some("{}"));
        check(
            &[],
            &["/card/number"],
            r#"{"card":{"number":1,"brand":"v"}}"#,
            Some(r#"{"card":{"brand":"v"}}"#),
        );
        check(&[], &["/card/number"], r#"{"card":"none"}"#, Some(r#"{"card":"none"}"#));
        check(&[], &["/a~1b"], r#"{"a/b":1,"c":{ "x" : 1 }}"#, Some(r#"{"c":{ "x" : 1 }}"#));
        check(&[], &["/items/*/ssn"], r#"{"items":[{"ssn":1,"n":2},3]}"#, Some(r#"{"items":[{"n":2},3]}"#));
        check(&[], &["/items/0"], r#"{"items":[1,2]}"#, Some(r#"{"items":[2]}"#));
        check(&[], &["/*/x", "/a/y"], r#"{"a":{"x":1,"y":2,"z":3}}"#, Some(r#"{"a":{"z":3}}"#));
        check(&[], &[""], "{}", None);
        check(&[], &["/a"], "7", Some("7"));
    }

    #[test]
    fn an_allow_list_keeps_what_it_names_and_nothing_else() {
        let text = r#"{"id":7,"card":{"brand":"v","number":1},"tags":[{"n":1,"s":2},"x"],"new":true}"#;
        check(&["/id", "/card/brand"], &[], text, Some(r#"{"id":7,"card":{"brand":"v"}}"#));
        check(&["/tags/*/n"], &[], text, Some(r#"{"tags":[{"n":1}]}"#));
        check(&["/id/inside"], &[], text, Some("{}"));
        check(&["/card"], &["/card/number"], text, Some(r#"{"card":{"brand":"v"}}"#));
        check(&[""], &[], text, Some(text));
        check(&["/id"], &[], "7", None);
        check(&["/id"], &[], "[{\"id\":1}]", Some("[]"));
    }

    #[test]
    fn no_data_means_none() {
        assert_eq!(privacy(true, &[], &[]).apply(Json::parse(b"{}").unwrap()), None);
    }
}
