//! From the shape of a write that no rule named to the rule that would name it.
//!
//! A member for `resources` in the filter's configuration, ready to copy, and to be read by whoever copies it: the nouns are
//! the filter's own, and what the API means by a verb only its owner knows. What the filter would not load is not offered.

use gatehook_filter::config::Config;
use gatehook_filter::identifier::{is_prefix, is_version};
use gatehook_filter::rules::{Method, Rules, word};
use serde_json::{Value, json};

/// What stands for an id in a shape.
const ID: &str = "{id}";
/// Answers that count where 202 is to be one of them.
const ACCEPTED: [u16; 5] = [200, 201, 202, 203, 204];

/// The rule for writes of this method and shape that were answered so; `None` where there can be none.
pub fn rule(method: &str, path: &str, status: u16) -> Option<Value> {
    let method = Method::parse(method.as_bytes()).filter(|_| (200..300).contains(&status))?;
    // A shape that was cut off names no path.
    let segments: Vec<&str> = path.split('/').filter(|segment| !segment.is_empty()).collect();
    let (last, above) = segments.split_last().filter(|_| !path.contains('…'))?;
    let mut rule = match (*last, above.last()) {
        (ID, _) => item(method, &segments)?,
        (verb, Some(&ID)) if method == Method::Post && !is_plural(verb) && status != 201 => {
            json!({"path": template(above), "noun": noun_above(above)?, "actions": {verb: word(verb)?}})
        }
        (name, _) if method == Method::Post && (is_plural(name) || status == 201) => {
            let items: Vec<&str> = segments.iter().copied().chain([ID]).collect();
            json!({"path": template(&items), "noun": noun(name)?})
        }
        (name, _) => json!({"path": template(&segments), "noun": noun(name)?}),
    };
    if status == 202 {
        rule["statuses"] = json!(ACCEPTED);
    }
    let configuration = json!({"resources": [rule]}).to_string();
    Config::parse(configuration.as_bytes()).is_ok().then_some(rule)
}

/// A write to one item: a POST there means nothing by itself, so it is said to change it.
fn item(method: Method, segments: &[&str]) -> Option<Value> {
    let mut rule = json!({"path": template(segments), "noun": noun_above(segments)?});
    if method == Method::Post {
        rule["verbs"] = json!({"POST": "update"});
    }
    Some(rule)
}

/// The path with its parameters named after what stands before them, the last one at its end `id`.
fn template(segments: &[&str]) -> String {
    let mut names: Vec<String> = Vec::new();
    for (at, segment) in segments.iter().enumerate() {
        if *segment != ID {
            names.push((*segment).to_owned());
            continue;
        }
        let own = noun_above(segments.get(..=at).unwrap_or_default());
        let name = match own {
            _ if at + 1 == segments.len() => "id".to_owned(),
            Some(noun) => format!("{noun}_id"),
            None => "parent_id".to_owned(),
        };
        let is_taken = |name: &str| names.contains(&format!("{{{name}}}"));
        let name = if is_taken(&name) { format!("{name}_{at}") } else { name };
        names.push(format!("{{{name}}}"));
    }
    format!("/{}", names.join("/"))
}

/// The noun of the last segment that is no id.
fn noun_above(segments: &[&str]) -> Option<String> {
    segments.iter().rev().find(|segment| **segment != ID).and_then(|segment| noun(segment))
}

fn noun(segment: &str) -> Option<String> {
    let is_name = !is_prefix(segment) && !is_version(segment);
    is_name.then(|| Rules::default().noun(segment)).flatten()
}

fn is_plural(segment: &str) -> bool {
    word(segment).is_some_and(|word| noun(segment).is_some_and(|noun| noun != word))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::rehearsal::{Call, Outcome, rehearse};
    use gatehook_filter::rules::Source;
    use std::time::Duration;

    /// The event type that the filter makes of the write by that rule, and the rule's path.
    fn check(method: &str, shape: &str, status: u16, expected: Option<(&str, &str)>) {
        let rule = rule(method, shape, status);
        let Some((event_type, path)) = expected else {
            assert_eq!(rule, None, "{method} {shape} {status}");
            return;
        };
        let rule = rule.unwrap_or_else(|| panic!("no rule for {method} {shape} {status}"));
        assert_eq!(rule["path"], path);
        let config = Config::parse(json!({"resources": [rule]}).to_string().as_bytes()).unwrap();
        let target = shape.replace(ID, "42");
        let call = Call {
            method,
            target: &target,
            authority: "api.example",
            request_headers: &[],
            request_body: b"",
            status,
            headers: &[],
            body: b"{}",
        };
        match rehearse(&config, &call, Duration::from_secs(1)) {
            Outcome::Event { event_type: found, rule, .. } => {
                assert_eq!((found.as_str(), rule), (event_type, Some(Source::Resource(0))));
            }
            other => panic!("{method} {shape} {status}: {other:?}"),
        }
    }

    #[test]
    fn the_filter_names_the_write_by_the_rule() {
        check(
            "PUT",
            "/v1/users/{id}/settings",
            200,
            Some(("setting.update", "/v1/users/{user_id}/settings")),
        );
        check("POST", "/v1/graphql", 200, Some(("graphql.create", "/v1/graphql")));
        check("POST", "/v1/contacts", 200, Some(("contact.create", "/v1/contacts/{id}")));
        check("POST", "/v1/contacts/{id}", 200, Some(("contact.update", "/v1/contacts/{id}")));
        check("DELETE", "/v1/contacts", 204, Some(("contact.delete", "/v1/contacts")));
        check("DELETE", "/sessions/current", 204, Some(("current.delete", "/sessions/current")));
        check("POST", "/orders/{id}/mark-paid", 200, Some(("order.mark_paid", "/orders/{id}")));
        check("POST", "/users/{id}/orders", 200, Some(("order.create", "/users/{user_id}/orders/{id}")));
        check("POST", "/users/{id}/note", 201, Some(("note.create", "/users/{user_id}/note/{id}")));
        check("PUT", "/orders/{id}/{id}", 200, Some(("order.update", "/orders/{order_id}/{id}")));
        check("PATCH", "/a/{id}/a/{id}/b", 200, Some(("b.update", "/a/{a_id}/a/{a_id_3}/b")));
        check("POST", "/jobs", 202, Some(("job.create", "/jobs/{id}")));
    }

    #[test]
    fn where_there_can_be_none_there_is_none() {
        for (method, shape, status) in [
            ("GET", "/v1/contacts", 200),
            ("OPTIONS", "/v1/contacts", 200),
            ("PUT", "/", 200),
            ("PUT", "/{id}", 200),
            ("PUT", "/v1/{id}", 200),
            ("POST", "/api/v2", 201),
            ("POST", "/sm%C3%B8r", 200),
            ("PUT", "/a/b/…", 200),
            ("PUT", "/contacts/{id}", 302),
        ] {
            check(method, shape, status, None);
        }
    }
}
