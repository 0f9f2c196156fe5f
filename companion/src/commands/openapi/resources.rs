//! From intentions to the resources that would say them, grouped by the template that they share.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use gatehook_filter::rules::Method;
use serde::Serialize;
use serde_json::ser::{Formatter, Serializer};

use super::api::{Api, Operation};
use super::declared::{Declared, Segment};
use super::intention::{Form, Intention, Unplaced};
use super::schema::Shape;

/// One resource of the configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Resource {
    /// The template.
    pub(super) path: String,
    /// The noun.
    pub(super) noun: String,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    verbs: BTreeMap<&'static str, Option<String>>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    actions: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    statuses: BTreeSet<u16>,
    /// Where the representation stands, if that is not the whole answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) unwrap: Option<String>,
}

/// What one resource would do.
#[derive(Debug)]
pub(super) struct Group {
    /// The path that its template stands for.
    pub(super) path: Declared,
    /// The operations that it would say, by their index.
    pub(super) members: Vec<usize>,
    /// The resource.
    pub(super) resource: Resource,
    /// Where the answers of its members hold the representation, as far as they have one.
    envelopes: BTreeSet<Option<String>>,
}

/// All resources that could be needed, by the key of their path; operations that no template can say are in none.
pub(super) fn groups(api: &Api<'_>, intentions: &[Result<Intention, Unplaced>]) -> BTreeMap<String, Group> {
    let mut groups = Groups { api, found: BTreeMap::new() };
    let wanted = |index: usize| {
        let operation = api.writes.get(index)?;
        let intention = intentions.get(index)?.as_ref().ok()?;
        operation.path.template().is_some().then_some((index, operation, intention))
    };
    let all: Vec<_> = (0..api.writes.len()).filter_map(wanted).collect();
    let of_form = |form: Form| all.iter().filter(move |(_, _, intention)| intention.form == form);
    for (index, operation, intention) in of_form(Form::Item).chain(of_form(Form::Singleton)) {
        // What the filter does not take for granted: that POST updates, and that DELETE does so even if answered 201.
        let said = match operation.method {
            Method::Post => intention.verb == "update",
            Method::Delete => operation.statuses.contains(&201),
            Method::Put | Method::Patch => false,
        };
        let verb = said.then_some(intention.verb.as_str());
        groups.put(*index, operation, intention, operation.path.clone(), verb);
    }
    for (index, operation, intention) in of_form(Form::Collection) {
        let path = api.item(&operation.path).cloned().unwrap_or_else(|| operation.path.item("id"));
        // A verb for POST is said of item and collection alike, so a collection beside such an item stands alone.
        let taken =
            groups.found.get(&path.key()).is_some_and(|group| group.resource.verbs.contains_key("POST"));
        groups.put(*index, operation, intention, if taken { operation.path.clone() } else { path }, None);
    }
    for (index, operation, intention) in of_form(Form::Action) {
        groups.put_action(*index, operation, intention);
    }
    let mut found = groups.found;
    for group in found.values_mut() {
        group.finish(api);
    }
    silence_reads(api, intentions, &mut found);
    found
}

/// Where a path is a resource's and its POST only reads, the resource must not take the POST for a write.
fn silence_reads(
    api: &Api<'_>,
    intentions: &[Result<Intention, Unplaced>],
    groups: &mut BTreeMap<String, Group>,
) {
    for (operation, intention) in api.writes.iter().zip(intentions) {
        let group = groups.get_mut(&operation.path.key()).filter(|_| *intention == Err(Unplaced::Reads));
        let Some(group) = group else { continue };
        let members = || group.members.iter().filter_map(|member| api.writes.get(*member));
        if members().all(|member| member.method != Method::Post) {
            group.resource.verbs.insert(Method::Post.name(), None);
        }
    }
}

struct Groups<'a> {
    api: &'a Api<'a>,
    found: BTreeMap<String, Group>,
}

impl Groups<'_> {
    fn put(
        &mut self,
        index: usize,
        operation: &Operation<'_>,
        intention: &Intention,
        path: Declared,
        verb: Option<&str>,
    ) {
        let envelope = self.envelope(operation, intention);
        let Some(group) = self.group(path, intention) else { return };
        group.members.push(index);
        group.envelopes.extend(envelope);
        if let Some(verb) = verb {
            group.resource.verbs.insert(operation.method.name(), Some(verb.to_owned()));
        }
    }

    /// An action goes to its item's resource, unless it is of another kind: not POST, answered 202, or differently wrapped.
    fn put_action(&mut self, index: usize, operation: &Operation<'_>, intention: &Intention) {
        let parent = operation.path.parent();
        let envelope = self.envelope(operation, intention);
        let (below_item, literal) = match (parent.segments.last(), operation.last()) {
            (Some(Segment::Parameter(_)), Some(Segment::Literal(literal))) => (true, literal.clone()),
            _ => (false, String::new()),
        };
        let wrapped_alike = match (self.found.get(&parent.key()), &envelope) {
            (Some(group), Some(envelope)) => group.envelopes.iter().all(|other| other == envelope),
            _ => true,
        };
        if operation.method != Method::Post || !below_item || operation.statuses == [202] || !wrapped_alike {
            return self.put(index, operation, intention, operation.path.clone(), Some(&intention.verb));
        }
        let Some(group) = self.group(parent, intention) else { return };
        group.members.push(index);
        group.envelopes.extend(envelope);
        group.resource.actions.insert(literal, intention.verb.clone());
    }

    fn group(&mut self, path: Declared, intention: &Intention) -> Option<&mut Group> {
        let template = path.template()?;
        let group = self.found.entry(path.key()).or_insert_with(|| Group {
            path,
            members: Vec::new(),
            resource: Resource {
                path: template,
                noun: intention.noun.clone(),
                verbs: BTreeMap::new(),
                actions: BTreeMap::new(),
                statuses: BTreeSet::new(),
                unwrap: None,
            },
            envelopes: BTreeSet::new(),
        });
        Some(group)
    }

    /// Where the operation's answer holds the representation; `None` if there is no JSON, or none that is used.
    fn envelope(&self, operation: &Operation<'_>, intention: &Intention) -> Option<Option<String>> {
        let schema = operation.answer.filter(|_| operation.method != Method::Delete)?;
        Some(Shape::of(self.api.document, schema, &intention.noun).envelope)
    }
}

impl Group {
    fn finish(&mut self, api: &Api<'_>) {
        let members = || self.members.iter().filter_map(|member| api.writes.get(*member));
        if members().any(|operation| operation.statuses == [202]) {
            self.resource.statuses = members().flat_map(|operation| operation.statuses.clone()).collect();
        }
        if let (1, Some(envelope)) = (self.envelopes.len(), self.envelopes.first()) {
            self.resource.unwrap.clone_from(envelope);
        }
    }
}

/// The configuration with these resources, one a line, in an order in which each of them is reached.
pub(super) fn text<'a>(chosen: impl Iterator<Item = &'a Group>) -> String {
    let mut chosen: Vec<_> = chosen.collect();
    chosen.sort_by(|one, two| one.path.rank().cmp(&two.path.rank()));
    let lines: Vec<String> =
        chosen.iter().map(|group| format!("    {}", one_line(&group.resource))).collect();
    if lines.is_empty() {
        return "{}\n".to_owned();
    }
    format!("{{\n  \"resources\": [\n{}\n  ]\n}}\n", lines.join(",\n"))
}

fn one_line(resource: &Resource) -> String {
    let mut line = Vec::new();
    // Text and numbers in a buffer cannot fail to be written.
    let _ = resource.serialize(&mut Serializer::with_formatter(&mut line, OneLine));
    String::from_utf8_lossy(&line).into_owned()
}

/// JSON in one line with spaces where people put them.
struct OneLine;

impl Formatter for OneLine {
    fn begin_array_value<W: ?Sized + io::Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        writer.write_all(if first { b"" } else { b", " })
    }

    fn begin_object_key<W: ?Sized + io::Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        writer.write_all(if first { b"" } else { b", " })
    }

    fn begin_object_value<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        writer.write_all(b": ")
    }
}
