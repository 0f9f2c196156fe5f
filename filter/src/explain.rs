//! Why an exchange leaves no event: facts for people who ask, from the very rules that decide.
//!
//! Nothing here decides anything. [`why_not`] is asked after the fact, of an exchange that came to nothing, and points at
//! the part of the configuration or the answer that made it so. The words for it belong to whoever shows them.

use crate::path::{self, Fit};
use crate::rules::{Method, Rules, Source, Verdict};

/// The reason why an exchange leaves no event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Silence {
    /// The method does not write.
    Read,
    /// The target is no absolute path, or has too many segments.
    NoPath,
    /// The answer is no success (2xx), so nothing was written.
    NoSuccess,
    /// The pattern at this index of `ignore` fits the path.
    Ignored(usize),
    /// The resource at this index has the method's verb set to null.
    SwitchedOff(usize),
    /// The answer is a success, but this rule does not count its status.
    NotCounted(Source),
    /// This rule took the path, and the method means nothing to it there.
    Meaningless(Source),
    /// The answer created something only if it bears an id that the request did not.
    NoNewId,
    /// No resource fits the path, and the automatic rule is switched off.
    AutomaticOff,
    /// No resource fits the path, and the automatic rule cannot read it.
    NoRule,
}

/// Why a request of this method and target, answered by the upstream with this status, leaves no event.
pub fn why_not(rules: &Rules, method: &[u8], target: &str, status: u16) -> Silence {
    let Some(method) = Method::parse(method) else { return Silence::Read };
    let path = path::without_query(target);
    let Some(segments) = path::segments(path) else { return Silence::NoPath };
    if !(200..300).contains(&status) {
        return Silence::NoSuccess;
    }
    match rules.consider(method, path) {
        Verdict::Ignored => match rules.ignore.iter().position(|glob| glob.matches(&segments)) {
            Some(index) => Silence::Ignored(index),
            None => Silence::SwitchedOff(switched_off(rules, method, &segments)),
        },
        Verdict::Unmatched if rules.automatic => Silence::NoRule,
        Verdict::Unmatched => Silence::AutomaticOff,
        Verdict::Watch(candidate) if !candidate.accepts(status) => Silence::NotCounted(candidate.source),
        Verdict::Watch(candidate) if candidate.may_ask_for_new_id() => Silence::NoNewId,
        Verdict::Watch(candidate) => Silence::Meaningless(candidate.source),
    }
}

/// The first resource that fits and wants nothing of the method: the one that decided.
fn switched_off(rules: &Rules, method: Method, segments: &[&str]) -> usize {
    let off = rules.resources.iter().position(|resource| {
        let fit = resource.template.fit(segments).filter(|fit| !matches!(fit, Fit::Action(..)));
        fit.is_some_and(|fit| resource.given(method, &fit) == Some(&None))
    });
    off.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    #[track_caller]
    fn check(config: &str, request: &str, status: u16, expected: Silence) {
        let config = Config::parse(config.as_bytes()).unwrap();
        let (method, target) = request.split_once(' ').unwrap();
        assert_eq!(why_not(&config.rules, method.as_bytes(), target, status), expected, "{request} {status}");
    }

    #[test]
    fn each_silence_has_its_reason() {
        let config = r#"{
            "ignore": ["/healthz", "/internal/**"],
            "resources": [
                {"path": "/v1/orders/{id}", "noun": "order", "verbs": {"DELETE": null}, "statuses": [200]},
                {"path": "/v1/carts/{id}", "noun": "cart"}
            ]
        }"#;
        check(config, "GET /v1/orders/7", 200, Silence::Read);
        check(config, "POST *", 200, Silence::NoPath);
        check(config, "POST /v1/orders", 404, Silence::NoSuccess);
        check(config, "POST /internal/a?b", 201, Silence::Ignored(1));
        check(config, "DELETE /v1/orders/7", 200, Silence::SwitchedOff(0));
        check(config, "POST /v1/orders", 201, Silence::NotCounted(Source::Resource(0)));
        check(config, "POST /v1/carts", 202, Silence::NotCounted(Source::Resource(1)));
        check(config, "POST /v1/carts/7", 200, Silence::Meaningless(Source::Resource(1)));
        check(config, "POST /v1/users/7", 200, Silence::Meaningless(Source::Automatic));
        check(config, "POST /search", 200, Silence::NoNewId);
        check(config, "PUT /settings", 200, Silence::NoRule);
        check(r#"{"automatic": false}"#, "PUT /a/7", 200, Silence::AutomaticOff);
    }
}
