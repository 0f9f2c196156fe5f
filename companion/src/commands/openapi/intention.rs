//! Which event an operation should be, read from the description alone and without asking the filter.
//!
//! The reading follows REST: an item, a collection, an action on one of them, or a resource that stands alone. Where the
//! description gives no ground for one of these, the operation is not placed; nothing is guessed.

use std::collections::{BTreeMap, BTreeSet};

use gatehook_filter::identifier::{is_prefix, is_version, is_version_number};
use gatehook_filter::path::Template;
use gatehook_filter::rules::{Method, Rules, word};
use serde_json::Value;

use super::api::{Api, Operation};
use super::declared::{Declared, Segment};
use super::schema::Shape;
use super::words;

/// Words that stand where an id would: the caller's own.
const SELF: [&str; 4] = ["me", "mine", "self", "current"];

/// What an operation means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Intention {
    /// The noun of its event type.
    pub(super) noun: String,
    /// The verb of its event type, unless a 201 says `create`.
    pub(super) verb: String,
    /// What its path is.
    pub(super) form: Form,
}

/// What a path is to an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// One resource of several.
    Item,
    /// Where resources are made.
    Collection,
    /// Something done to the item or collection in front of the last segment.
    Action,
    /// A resource of which there is one, below an item or by itself.
    Singleton,
}

/// Why an operation is not placed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Unplaced {
    /// It reads, or authenticates, by POST.
    Reads,
    /// It writes a whole collection at once.
    WholeCollection,
    /// POST on an item.
    PostOnItem,
    /// POST to a plural that shows no new resource.
    PostToPlural,
    /// POST to a word that belongs to no declared resource.
    NoResource,
    /// The path has a parameter inside a segment.
    PartOfSegment,
    /// The last segment cannot stand in an event type.
    NoWord,
    /// No segment names a resource.
    NoNoun,
    /// No success is declared.
    NoSuccess,
    /// The dialect cannot say it beside the other operations of the same path.
    Conflict,
    /// The configuration has as many resources as it may have.
    TooMany,
}

impl Unplaced {
    /// A short name, for scripts.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Reads => "reads",
            Self::WholeCollection => "whole_collection",
            Self::PostOnItem => "post_on_item",
            Self::PostToPlural => "post_to_plural",
            Self::NoResource => "no_resource",
            Self::PartOfSegment => "part_of_segment",
            Self::NoWord => "no_word",
            Self::NoNoun => "no_noun",
            Self::NoSuccess => "no_success",
            Self::Conflict => "conflict",
            Self::TooMany => "too_many",
        }
    }

    /// The reason in words.
    pub(super) fn meaning(self) -> &'static str {
        match self {
            Self::Reads => "reads or authenticates by POST: it changes no resource",
            Self::WholeCollection => "writes a whole collection at once: neither one resource nor a new one",
            Self::PostOnItem => "POST on an item, and nothing declared says whether it creates or updates",
            Self::PostToPlural => {
                "POST to a plural whose answer shows neither a new resource nor a list of them"
            }
            Self::NoResource => "POST to a word in front of which no resource is declared (RPC)",
            Self::PartOfSegment => "a parameter is only part of a segment, which no template can say",
            Self::NoWord => "the last segment is no word that an event type could have",
            Self::NoNoun => "no segment of the path names a resource",
            Self::NoSuccess => "no 2xx is declared, so no answer counts",
            Self::Conflict => "the dialect cannot say it beside the other operations of its path",
            Self::TooMany => "the configuration already has 1000 resources",
        }
    }
}

impl Intention {
    /// The event type that an answer of this status should have.
    pub(super) fn event_type(&self, method: Method, status: u16) -> String {
        let creates = status == 201 && method != Method::Delete && self.form != Form::Action;
        let verb = if creates { "create" } else { &self.verb };
        format!("{}.{verb}", self.noun)
    }
}

/// The intention of every operation, in their order. A resource that stands alone below several kinds of item
/// (`pods/{name}/status`, `nodes/{name}/status`) is named after its parent as well.
pub(super) fn intentions(api: &Api<'_>) -> Vec<Result<Intention, Unplaced>> {
    let mut found: Vec<_> = api.writes.iter().map(|operation| intend(api, operation)).collect();
    let mut parents: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let parent = |operation: &Operation<'_>| noun_before(&operation.path.parent());
    for (operation, intention) in api.writes.iter().zip(&found) {
        if let Ok(Intention { noun, form: Form::Singleton, .. }) = intention {
            parents.entry(noun.clone()).or_default().extend(parent(operation));
        }
    }
    for (operation, intention) in api.writes.iter().zip(&mut found) {
        let Ok(Intention { noun, form: Form::Singleton, .. }) = intention else { continue };
        let shared = parents.get(noun).is_some_and(|parents| parents.len() > 1);
        if let Some(parent) = parent(operation).filter(|parent| shared && parent.len() + noun.len() < 64) {
            *noun = format!("{parent}_{noun}");
        }
    }
    found
}

fn intend(api: &Api<'_>, operation: &Operation<'_>) -> Result<Intention, Unplaced> {
    if operation.statuses.is_empty() {
        return Err(Unplaced::NoSuccess);
    }
    if operation.method == Method::Post && words::reads(operation) {
        return Err(Unplaced::Reads);
    }
    let (last, before) = operation.path.segments.split_last().ok_or(Unplaced::NoNoun)?;
    if before.iter().any(|segment| matches!(segment, Segment::Mixed(_))) {
        return Err(Unplaced::PartOfSegment);
    }
    match last {
        Segment::Parameter(_) => on_item(api, operation),
        Segment::Literal(literal) => {
            on_literal(api, operation, literal.strip_suffix(".json").unwrap_or(literal))
        }
        // What the automatic rule knows of such segments: a format, and a verb behind a colon.
        Segment::Mixed(text) => match text.strip_suffix(".json").unwrap_or(text).split_once('}') {
            Some((_, "")) if text.starts_with('{') => on_item(api, operation),
            Some((_, verb)) if text.starts_with('{') && operation.method == Method::Post => {
                let verb = verb.strip_prefix(':').and_then(word).ok_or(Unplaced::PartOfSegment)?;
                let noun = noun_before(&operation.path.parent()).ok_or(Unplaced::NoNoun)?;
                Ok(Intention { noun, verb, form: Form::Action })
            }
            _ => Err(Unplaced::PartOfSegment),
        },
    }
}

/// The path ends in a parameter.
fn on_item(api: &Api<'_>, operation: &Operation<'_>) -> Result<Intention, Unplaced> {
    let noun = noun_before(&operation.path).ok_or(Unplaced::NoNoun)?;
    let intention =
        |verb: &str| Ok(Intention { noun: noun.clone(), verb: verb.to_owned(), form: Form::Item });
    match operation.method {
        Method::Put | Method::Patch => intention("update"),
        Method::Delete => intention("delete"),
        // A 201 says it; nothing else would make the filter say `create` of an item.
        Method::Post if operation.statuses == [201] => intention("create"),
        Method::Post => {
            let path = &operation.path;
            let other = api.writes(path, Method::Put) || api.writes(path, Method::Patch);
            // What answers like GET on the same path, where nothing else updates, is the update.
            let like_get = operation.answer.is_some_and(|answer| is_among(answer, api.get(path)));
            match words::first(operation) {
                Some(first) if words::UPDATE.contains(&first.as_str()) => intention("update"),
                Some(first) if words::CREATE.contains(&first.as_str()) => Err(Unplaced::PostOnItem),
                _ if like_get && !other => intention("update"),
                _ => Err(Unplaced::PostOnItem),
            }
        }
    }
}

/// The path ends in fixed text.
fn on_literal(api: &Api<'_>, operation: &Operation<'_>, literal: &str) -> Result<Intention, Unplaced> {
    let method = operation.method;
    if SELF.contains(&literal) {
        let noun = noun_before(&operation.path).ok_or(Unplaced::NoNoun)?;
        let verb = match method {
            Method::Put | Method::Patch => "update",
            Method::Delete => "delete",
            Method::Post => return Err(Unplaced::PostOnItem),
        };
        return Ok(Intention { noun, verb: verb.to_owned(), form: Form::Item });
    }
    if is_no_noun(literal) {
        return Err(Unplaced::NoNoun);
    }
    let verb = word(literal).filter(|word| is_word(word)).ok_or(Unplaced::NoWord)?;
    let noun = Rules::default().noun(literal).filter(|noun| is_word(noun)).ok_or(Unplaced::NoWord)?;
    let is_collection = api.is_collection(&operation.path, &noun);
    let end = End { api, operation, noun, verb, is_collection };
    if method == Method::Post { end.of_post() } else { end.of_others() }
}

/// The last segment of a path, which is fixed text.
struct End<'a> {
    api: &'a Api<'a>,
    operation: &'a Operation<'a>,
    /// The segment as a noun, singular.
    noun: String,
    /// The segment as a verb.
    verb: String,
    is_collection: bool,
}

impl End<'_> {
    fn of_post(&self) -> Result<Intention, Unplaced> {
        let Self { api, operation, .. } = *self;
        let path = &operation.path;
        let is_plural = self.noun != self.verb;
        let is_read = api.get(path).is_some();
        let replaced = api.writes(path, Method::Put) || api.writes(path, Method::Patch);
        // What DELETE takes away again is a thing, such as a lock or a star.
        let is_thing = replaced || api.writes(path, Method::Delete);
        let first = words::first(operation).unwrap_or_default();
        let creates = operation.statuses.contains(&201) || words::CREATE.contains(&first.as_str());
        // An action on an item answers with that item, so its id shows nothing new.
        let shows_new = (is_plural || self.owner().is_none()) && shows_id(api, operation, &self.noun);
        let creates = creates || shows_new;
        let updates = words::UPDATE.contains(&first.as_str())
            || (!replaced && operation.answer.is_some_and(|answer| is_among(answer, api.get(path))));
        if self.is_collection {
            return self.is("create", Form::Collection);
        }
        if words::is_a_verb(&self.verb) || words::names_the_verb(operation, &self.verb) {
            return self.owner().map(|owner| self.action(owner)).ok_or(Unplaced::NoResource);
        }
        match (is_thing || (is_read && !is_plural), self.owner()) {
            (true, _) if is_read && updates && !operation.statuses.contains(&201) => {
                self.is("update", Form::Singleton)
            }
            (true, _) if is_thing || creates => self.is("create", Form::Singleton),
            (true, _) => Err(Unplaced::PostOnItem),
            (false, _) if creates => self.is("create", Form::Collection),
            (false, Some(owner)) if !is_plural || self.is_below_actions() => Ok(self.action(owner)),
            (false, _) if is_plural => Err(Unplaced::PostToPlural),
            (false, _) => Err(Unplaced::NoResource),
        }
    }

    fn of_others(&self) -> Result<Intention, Unplaced> {
        let Self { api, operation, .. } = *self;
        let path = &operation.path;
        let is_read = api.get(path).is_some();
        let is_plural = self.noun != self.verb;
        if self.is_collection || (is_plural && !is_read && !api.writes(path, Method::Put)) {
            return Err(Unplaced::WholeCollection);
        }
        let replaces = operation.method != Method::Delete;
        let alone = !is_read && !api.writes(path, Method::Delete);
        match self.owner() {
            // `PUT /pulls/7/merge` is an action if the description calls it `merge`, too; `PUT /cards/7/position` is none.
            Some(owner) if replaces && alone && words::begins_with(operation, &self.verb) => {
                Ok(self.action(owner))
            }
            _ => self.is(if replaces { "update" } else { "delete" }, Form::Singleton),
        }
    }

    fn is(&self, verb: &str, form: Form) -> Result<Intention, Unplaced> {
        Ok(Intention { noun: self.noun.clone(), verb: verb.to_owned(), form })
    }

    fn action(&self, owner: String) -> Intention {
        Intention { noun: owner, verb: self.verb.clone(), form: Form::Action }
    }

    /// `/orders/{id}/actions/cancel` says of its last word that it is a verb.
    fn is_below_actions(&self) -> bool {
        let parent = self.operation.path.parent();
        let below_item = matches!(parent.parent().segments.last(), Some(Segment::Parameter(_)));
        below_item && matches!(parent.segments.last(), Some(Segment::Literal(text)) if text == "actions")
    }

    /// What a verb at the end would be said of: the item, or the resource that is declared in front of it.
    fn owner(&self) -> Option<String> {
        let parent = self.operation.path.parent();
        match parent.segments.last()? {
            Segment::Parameter(_) => noun_before(&parent),
            _ if self.is_below_actions() => noun_before(&parent.parent()),
            _ if self.api.knows(&parent) || self.api.item(&parent).is_some() => noun_before(&parent),
            _ => None,
        }
    }
}

/// Whether the answer is a resource with an id, in an envelope or not.
fn shows_id(api: &Api<'_>, operation: &Operation<'_>, noun: &str) -> bool {
    let shape = operation.answer.map(|schema| Shape::of(api.document, schema, noun));
    shape.is_some_and(|shape| shape.has_id || shape.envelope.is_some())
}

/// Whether the schema of an object is the other one, or one of its alternatives; that both are text says nothing.
fn is_among(schema: &Value, other: Option<&Value>) -> bool {
    let is_object =
        ["$ref", "properties", "allOf", "anyOf", "oneOf"].iter().any(|key| schema.get(*key).is_some());
    let Some(other) = other.filter(|_| is_object) else { return false };
    let of = |name: &str| other.get(name).and_then(Value::as_array).is_some_and(|all| all.contains(schema));
    schema == other || of("anyOf") || of("oneOf")
}

/// The noun of the last fixed segment of a path, if it is one; `/users/me` is a user.
fn noun_before(path: &Declared) -> Option<String> {
    let literal = path.segments.iter().rev().find_map(|segment| match segment {
        Segment::Literal(literal) if !SELF.contains(&literal.as_str()) => Some(literal.as_str()),
        _ => None,
    })?;
    let literal = literal.strip_suffix(".json").unwrap_or(literal);
    Rules::default().noun(literal).filter(|noun| is_word(noun) && !is_no_noun(literal))
}

fn is_no_noun(literal: &str) -> bool {
    is_prefix(literal) || is_version(literal) || is_version_number(literal)
}

/// What the configuration takes for a word of an event type.
fn is_word(word: &str) -> bool {
    word.len() <= 64
        && Template::parse(&format!("/{word}")).is_ok()
        && word.starts_with(|c: char| c.is_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::super::document::Document;
    use super::*;

    const API: &[u8] = include_bytes!("../../../tests/fixtures/api.yaml");

    /// Every write of the fixture, and what it means.
    const TABLE: &str = "
        POST /contacts contact.create, PUT /contacts/{id} contact.update, DELETE /contacts/{id} contact.delete,
        POST /contacts/{id}/archive contact.archive, PATCH /repos/{owner}/{repo} repo.update,
        DELETE /repos/{owner}/{repo} repo.delete, POST /repos/{owner}/{repo}/fork repo.fork,
        POST /repos/{owner}/{repo}/transfer repo.transfer, DELETE /repos/{owner}/{repo}/branches/{branch} branch.delete,
        POST /invoices invoice.create, PUT /invoices/{id} invoice.update, POST /customers customer.create,
        POST /customers/{customer} customer.update, PUT /profile profile.update, DELETE /profile profile.delete,
        PUT /contacts/{id}/status contact_status.update, PUT /customers/{customer}/status customer_status.update,
        POST /contacts/import contact.import, PUT /repos/{owner}/{repo}/update-branch repo.update_branch,
        POST /repos/{owner}/{repo}/addFollowers repo.add_followers,
        POST /repos/{owner}/{repo}/actions/cancel-jobs repo.cancel_jobs, PUT /contacts/me contact.update,
        POST /contacts/search reads, DELETE /branches whole_collection, POST /branches/{name} post_on_item,
        POST /contacts/{id}/votes post_to_plural, POST /sandbox/wipe no_resource,
        PUT /files/{name}.{format} part_of_segment, POST /chat.postMessage no_word, PUT /{anything} no_noun,
        PUT /jobs/{id} no_success, POST /templates/schema schema.create,
        POST /templates/schema#check-in template.schema";

    #[test]
    fn every_kind_of_operation_is_read() {
        let document = Document::parse(API).unwrap();
        let api = Api::of(&document);
        let found = api.writes.iter().zip(intentions(&api)).map(|(operation, intention)| {
            let meaning = match intention {
                Ok(Intention { noun, verb, .. }) => format!("{noun}.{verb}"),
                Err(unplaced) => unplaced.name().to_owned(),
            };
            format!("{} {meaning}", operation.shown)
        });
        let found: BTreeSet<String> = found.collect();
        let expected: BTreeSet<String> = TABLE.split(',').map(|line| line.trim().to_owned()).collect();
        assert_eq!(found.difference(&expected).collect::<Vec<_>>(), Vec::<&String>::new());
        assert_eq!(expected.difference(&found).collect::<Vec<_>>(), Vec::<&String>::new());
    }

    #[test]
    fn a_201_says_create_except_of_actions_and_deletes() {
        let intention = |form| Intention { noun: "order".to_owned(), verb: "update".to_owned(), form };
        assert_eq!(intention(Form::Item).event_type(Method::Put, 201), "order.create");
        assert_eq!(intention(Form::Item).event_type(Method::Put, 200), "order.update");
        assert_eq!(intention(Form::Item).event_type(Method::Delete, 201), "order.update");
        assert_eq!(intention(Form::Action).event_type(Method::Post, 201), "order.update");
    }

    #[test]
    fn the_names_of_operations_are_evidence_only_at_their_beginning() {
        let of = |path: &str, id: &str| {
            let text = format!(
                r#"{{"openapi": "3.0.0", "paths": {{"/a": {{"get": {{}}}}, "{path}": {{"post": {{"operationId": "{id}",
                    "responses": {{"200": {{}}}}}}}}}}}}"#
            );
            let document = Document::parse(text.as_bytes()).unwrap();
            let intention = intentions(&Api::of(&document)).remove(0);
            intention.map_or_else(
                |unplaced| unplaced.name().to_owned(),
                |one| format!("{}.{}", one.noun, one.verb),
            )
        };
        assert_eq!(of("/a/{id}", "updateA"), "a.update");
        assert_eq!(of("/a/{id}", "as/update-it"), "a.update");
        assert_eq!(of("/a/{id}", "doUpdate"), "post_on_item");
        assert_eq!(of("/a/{id}/pings", "createPing"), "ping.create");
        assert_eq!(of("/a/{id}/pings", "pings"), "post_to_plural");
        assert_eq!(of("/a/{id}/report", "getReport"), "reads");
        assert_eq!(of("/a/{id}/report", "getOrCreateReport"), "a.report");
        assert_eq!(of("/a/{id}/bulk-get", ""), "reads");
        assert_eq!(of("/a/{id}/time-estimate", ""), "a.time_estimate");
        assert_eq!(of("/a/{id}/report", "postListReport"), "a.report");
        assert_eq!(of("/a/bulk-create", "BulkCreateAs"), "a.bulk_create");
        assert_eq!(of("/b/bulk-create", "BulkCreateBs"), "no_resource");
        assert_eq!(of("/a/{id}/phone_number", "phone_number_create"), "a.phone_number");
    }
}
