//! What the words of an operation say: the last segment of its path and the first word of its `operationId`.
//!
//! Only words that mean the same in every API are listed. An operation that reads is better left out by mistake than
//! told to the world as a write.

use gatehook_filter::rules::word;

use super::api::Operation;
use super::declared::Segment;

/// An `operationId` that begins so changes what is there.
pub(super) const UPDATE: &[&str] = &["update", "modify", "edit", "patch", "change", "replace", "set"];

/// An `operationId` that begins so makes something new.
pub(super) const CREATE: &[&str] = &["create", "add", "new", "insert", "register", "upload"];

/// An `operationId` that begins so reads.
const READ: &[&str] = &[
    "get",
    "list",
    "search",
    "find",
    "query",
    "fetch",
    "read",
    "retrieve",
    "lookup",
    "check",
    "validate",
    "preview",
    "count",
    "describe",
    "calculate",
    "evaluate",
    "estimate",
    "compare",
    "suggest",
    "autocomplete",
    "render",
    "parse",
    "login",
    "logout",
    "authenticate",
    "authorize",
];

/// A path that ends in exactly this reads, or authenticates.
const READ_PATHS: &[&str] = &[
    "search",
    "query",
    "find",
    "list",
    "lookup",
    "get",
    "count",
    "validate",
    "check",
    "preview",
    "calculate",
    "estimate",
    "evaluate",
    "eval",
    "compare",
    "suggest",
    "autocomplete",
    "graphql",
    "parse",
    "login",
    "logout",
    "signin",
    "sign_in",
    "signout",
    "sign_out",
    "token",
    "authenticate",
    "introspect",
];

/// A path whose last word ends in this does the same: `bulk-get`, `advanced_search`.
const READ_ENDS: &[&str] =
    &["_search", "_query", "_get", "_retrieve", "_lookup", "_preview", "_login", "_logout"];

/// Whether a POST reads or authenticates, by its path or by its name.
pub(super) fn reads(operation: &Operation<'_>) -> bool {
    let last = match operation.last() {
        Some(Segment::Literal(literal)) => word(literal.rsplit(['.', ':']).next().unwrap_or(literal)),
        _ => None,
    };
    let by_path = last.is_some_and(|last| {
        READ_PATHS.contains(&last.as_str()) || READ_ENDS.iter().any(|end| last.ends_with(end))
    });
    // `postListMemberEvents` is made of the method and the path: its `List` is a noun.
    let own =
        all(operation).first().is_some_and(|first| !first.eq_ignore_ascii_case(operation.method.name()));
    let by_name = own && first(operation).is_some_and(|first| READ.contains(&first.as_str()));
    by_path || (by_name && !names(operation).any(|word| word == "create" || word == "update"))
}

/// Whether the `operationId` begins with the words of a path's last segment: `addFollowers` of `POST …/addFollowers`.
pub(super) fn begins_with(operation: &Operation<'_>, verb: &str) -> bool {
    let name = names(operation).collect::<Vec<_>>().join("_");
    name.strip_prefix(verb).is_some_and(|rest| rest.is_empty() || rest.starts_with('_'))
}

/// Whether a word begins as only verbs do: `bulk_update`, `create_from_template`.
pub(super) fn is_a_verb(word: &str) -> bool {
    let first = word.split('_').next().unwrap_or_default();
    UPDATE.contains(&first)
        || CREATE.contains(&first)
        || matches!(word.split_once('_'), Some(("bulk" | "batch", verb)) if is_a_verb(verb))
}

/// Whether the last segment is called a verb by the `operationId`, and is built like one: `addFollowers`, not `votes`,
/// nor the `phone_number` of `phone_number_create`.
pub(super) fn names_the_verb(operation: &Operation<'_>, verb: &str) -> bool {
    let is_verb = |word: &str| CREATE.contains(&word) || UPDATE.contains(&word) || READ.contains(&word);
    let built_like_one = match verb.split_once('_') {
        Some((first, _)) => is_verb(first) || !names(operation).any(|word| is_verb(&word)),
        None => is_verb(verb),
    };
    built_like_one && begins_with(operation, verb)
}

/// The first word of the `operationId`, without what groups it: `update` of `issues/update-label`.
pub(super) fn first(operation: &Operation<'_>) -> Option<String> {
    names(operation).next()
}

/// The words of the `operationId` from the first that says what is done.
fn names(operation: &Operation<'_>) -> impl Iterator<Item = String> {
    let method = operation.method.name().to_ascii_lowercase();
    // Some generators put the method in front, some say first that there are many: neither says what is done.
    let says_nothing = move |word: &String| *word == method || word == "batch" || word == "bulk";
    all(operation).into_iter().skip_while(says_nothing)
}

/// The words of the `operationId`, without what groups it.
fn all(operation: &Operation<'_>) -> Vec<String> {
    let name = operation.id.unwrap_or_default().rsplit(['/', '.', ':']).next().unwrap_or_default();
    let name: String = name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
    let name = word(name.trim_start_matches('_')).unwrap_or_default();
    name.split('_').filter(|word| !word.is_empty()).map(str::to_owned).collect()
}
