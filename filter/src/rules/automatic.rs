//! The automatic rule: a REST path read as REST paths are commonly built.
//!
//! Version and prefix segments in front are skipped, segments that look like ids are parameters, the last other segment
//! names the collection. `/api/v2/users/42/orders/7` is the order 7 of the user 42.

use std::borrow::Cow;
use std::rc::Rc;

use super::{Candidate, Method, Outcome, Place, Rules, Source, Verdict};
use crate::identifier::{is_date_version, is_prefix, is_version, is_version_number, looks_like_id};
use crate::path::{Parameter, decode_segment};

pub(super) fn consider(rules: &Rules, method: Method, path: &[&str]) -> Verdict {
    let Some(outcome_and_parameters) = read(rules, method, resource_part(path)) else {
        return Verdict::Unmatched;
    };
    let (outcome, parameters) = outcome_and_parameters;
    let on_item = matches!(outcome, Outcome::Item { .. });
    Verdict::Watch(Candidate {
        source: Source::Automatic,
        method,
        parameters,
        statuses: None,
        on_item,
        outcome,
    })
}

fn read(rules: &Rules, method: Method, path: &[&str]) -> Option<(Outcome, Vec<Parameter>)> {
    let (last, before) = path.split_last()?;
    let last = last.strip_suffix(".json").unwrap_or(last);
    if let Some((id, verb)) = last.split_once(':').filter(|(id, _)| looks_like_id(id)) {
        // The colon form of a custom method: POST /orders/7:cancel.
        let (collection, above) = before.split_last()?;
        let noun = nested(rules, above, rules.known_noun(collection)?);
        let action = Outcome::Always { noun, verb: word(verb)?.into(), place: Place::Above };
        return (method == Method::Post).then(|| (action, parameters(rules, above, Some(id))));
    }
    if looks_like_id(last) {
        let (collection, above) = before.split_last().filter(|(segment, _)| !looks_like_id(segment))?;
        let noun = nested(rules, above, rules.known_noun(collection)?);
        let otherwise = match method {
            Method::Post => None,
            Method::Put | Method::Patch => Some(Cow::Borrowed("update")),
            Method::Delete => Some(Cow::Borrowed("delete")),
        };
        return Some((Outcome::Item { noun, otherwise }, parameters(rules, above, Some(last))));
    }
    if method != Method::Post {
        return None;
    }
    let own = rules.known_noun(last)?;
    let noun = nested(rules, before, Rc::clone(&own));
    let outcome = match item_of(rules, before) {
        // A plural below an item is a collection of its own: POST /users/42/orders. A verb is no plural.
        Some(item_noun) if word(last)? == *own => Outcome::Below { noun, item_noun, verb: own },
        _ => Outcome::Collection { noun },
    };
    Some((outcome, parameters(rules, before, None)))
}

/// The noun of the item that this path ends with, if it ends with one.
fn item_of(rules: &Rules, path: &[&str]) -> Option<Rc<str>> {
    let end = path.iter().rposition(|segment| !looks_like_id(segment))?;
    let (above, [collection, _, ..]) = path.split_at_checked(end)? else { return None };
    Some(nested(rules, above, rules.known_noun(collection)?))
}

/// What is left of the path behind its prefixes and versions: `orders` of `/shop/api/v2/orders`.
fn resource_part<'a, 'b>(path: &'b [&'a str]) -> &'b [&'a str] {
    let mut start = 0;
    let mut behind_prefix = false;
    for (index, segment) in path.iter().enumerate() {
        let prefix = is_prefix(segment);
        // A bare number or a month is a version only directly behind a prefix; elsewhere it is an id.
        let numbered = behind_prefix && (is_version_number(segment) || is_date_version(segment));
        if prefix || numbered || is_version(segment) {
            start = index + 1;
        } else if looks_like_id(segment) {
            break;
        }
        behind_prefix = prefix;
    }
    path.get(start..).unwrap_or_default()
}

/// Ids by name: that of the item itself is `id`, those above are named after their collections (`user_id`).
fn parameters(rules: &Rules, above: &[&str], id: Option<&str>) -> Vec<Parameter> {
    let mut parameters: Vec<Parameter> = Vec::new();
    for (noun, value) in ancestors(rules, above) {
        let name = format!("{noun}_id");
        // Where a collection stands twice in a path, the nearer one keeps the name.
        parameters.retain(|(other, _)| *other != name);
        parameters.push((name, decode_segment(value)));
    }
    parameters.extend(id.map(|id| ("id".to_owned(), decode_segment(id))));
    parameters
}

/// The noun with those above it in front, `user.order`, if the configuration wants them.
fn nested(rules: &Rules, above: &[&str], noun: Rc<str>) -> Rc<str> {
    if !rules.nested {
        return noun;
    }
    let nouns = ancestors(rules, above).map(|(noun, _)| noun);
    nouns.chain([noun]).collect::<Vec<_>>().join(".").into()
}

/// The items that a path leads through, as noun and id.
fn ancestors<'a>(rules: &'a Rules, above: &'a [&'a str]) -> impl Iterator<Item = (Rc<str>, &'a str)> {
    above.windows(2).filter_map(|pair| {
        let [collection, id] = pair else { return None };
        let is_item = looks_like_id(id) && !looks_like_id(collection);
        rules.known_noun(collection).filter(|_| is_item).map(|noun| (noun, *id))
    })
}

/// A segment as a word of an event type: `mark-paid` and `markPaid` are `mark_paid`; `None` if it is no word.
pub fn word(segment: &str) -> Option<String> {
    if !segment.starts_with(|c: char| c.is_ascii_alphabetic()) || segment.len() > 64 {
        return None;
    }
    let mut word = String::with_capacity(segment.len() + 4);
    let mut after_lower = false;
    for c in segment.chars() {
        match c {
            'A'..='Z' if after_lower => {
                word.push('_');
                word.push(c.to_ascii_lowercase());
            }
            'A'..='Z' | 'a'..='z' | '0'..='9' => word.push(c.to_ascii_lowercase()),
            '-' | '_' => word.push('_'),
            _ => return None,
        }
        after_lower = c.is_ascii_lowercase();
    }
    Some(word)
}

#[cfg(test)]
mod tests {
    use super::*;

    const USER: &[(&str, &str)] = &[("user_id", "42")];

    /// What the automatic rule makes of a request and its answer: type and parameters.
    fn check(request: &str, status: u16, new_id: bool, expected: Option<&str>, parameters: &[(&str, &str)]) {
        let rules = Rules { automatic: true, ..Rules::default() };
        let (method, path) = request.split_once(' ').unwrap();
        let verdict = rules.consider(Method::parse(method.as_bytes()).unwrap(), path);
        let (found, named) = match verdict {
            Verdict::Watch(candidate) => (
                candidate.decide(&rules, status, || new_id).map(|found| found.event_type),
                candidate.parameters,
            ),
            _ => (None, Vec::new()),
        };
        assert_eq!(found.as_deref(), expected, "{request} {status}");
        if expected.is_some() {
            let named: Vec<_> = named.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
            assert_eq!(named, parameters, "{request}");
        }
    }

    #[test]
    fn items_collections_and_actions_are_told_apart() {
        let both = &[("user_id", "42"), ("id", "7")];
        check("PUT /api/v2/users/42/orders/7", 200, false, Some("order.update"), both);
        check("PUT /api/v2/users/42/orders/7", 201, false, Some("order.create"), both);
        check("PATCH /api/v2/users/42/orders/7", 204, false, Some("order.update"), both);
        check("DELETE /users/42/orders/7", 204, false, Some("order.delete"), both);
        check("DELETE /companies/cus_9s6X", 200, false, Some("company.delete"), &[("id", "cus_9s6X")]);
        check("POST /contacts", 201, false, Some("contact.create"), &[]);
        check("POST /users/42/orders", 201, false, Some("order.create"), USER);
        check("POST /users/42/orders", 200, true, Some("order.create"), USER);
        check("POST /users/42/orders", 200, false, None, &[]);
        check("POST /orders/7/cancel", 200, true, Some("order.cancel"), &[("order_id", "7")]);
        check("POST /orders/7/mark-paid", 204, false, Some("order.mark_paid"), &[("order_id", "7")]);
        check("POST /orders/7/process", 200, false, Some("order.process"), &[("order_id", "7")]);
        check("POST /orders/7:cancel", 200, false, Some("order.cancel"), &[("id", "7")]);
    }

    #[test]
    fn a_post_answered_200_creates_only_with_a_new_id() {
        check("POST /contacts", 200, true, Some("contact.create"), &[]);
        check("POST /contacts", 200, false, None, &[]);
        check("POST /search", 200, false, None, &[]);
    }

    #[test]
    fn prefixes_and_versions_are_skipped() {
        check("POST /api/v1/line-items", 201, false, Some("line_item.create"), &[]);
        check(
            "POST /rest/api/3/issue/10000/comment",
            201,
            false,
            Some("comment.create"),
            &[("issue_id", "10000")],
        );
        check(
            "PUT /admin/api/2024-01/orders/450789469.json",
            200,
            false,
            Some("order.update"),
            &[("id", "450789469")],
        );
        check("POST /api/v2", 201, false, None, &[]);
        check("DELETE /v1/7", 204, false, None, &[]);
        check("POST /lineItems", 201, false, Some("line_item.create"), &[]);
        check("POST /shop/v1/orders/7/cancel", 200, false, Some("order.cancel"), &[("order_id", "7")]);
        check("PUT /days/2024-01-31", 200, false, Some("day.update"), &[("id", "2024-01-31")]);
    }

    #[test]
    fn what_fits_no_rule_is_never_guessed() {
        for request in [
            "POST /orders/7",
            "PUT /settings",
            "DELETE /sessions/current",
            "PATCH /users/me",
            "PUT /orders/7/status",
            "POST /",
            "POST /7",
            "PUT /orders/7/8",
            "POST /sm%C3%B8r",
            "POST /graph:ql",
            "PUT /orders/7:cancel",
        ] {
            check(request, 200, true, None, &[]);
        }
    }

    #[test]
    fn nouns_above_stand_in_front_where_they_are_wanted() {
        let rules = Rules { automatic: true, nested: true, ..Rules::default() };
        for (method, path, expected) in [
            (Method::Put, "/api/users/42/orders/7", "user.order.update"),
            (Method::Post, "/users/42/orders", "user.order.create"),
            (Method::Post, "/users/42/orders/7/cancel", "user.order.cancel.create"),
            (Method::Post, "/users/42/orders/7:cancel", "user.order.cancel"),
            (Method::Delete, "/users/42", "user.delete"),
        ] {
            let status = if method == Method::Delete || method == Method::Put { 200 } else { 201 };
            let Verdict::Watch(candidate) = rules.consider(method, path) else { panic!("{path}") };
            let found = candidate.decide(&rules, status, || false).map(|found| found.event_type);
            assert_eq!(found.as_deref(), Some(expected), "{path}");
        }
        let Verdict::Watch(candidate) = rules.consider(Method::Post, "/users/42/orders/7/cancel") else {
            panic!()
        };
        assert_eq!(candidate.decide(&rules, 200, || false).unwrap().event_type, "user.order.cancel");
    }

    #[test]
    fn a_collection_that_stands_twice_keeps_the_nearer_id() {
        check(
            "DELETE /nodes/1/nodes/2/nodes/3",
            204,
            false,
            Some("node.delete"),
            &[("node_id", "2"), ("id", "3")],
        );
    }
}
