//! What was observed of an event type's data: a state that grows with its shape, never with its values.
//!
//! One node for each place of the data: how often it was there and with which JSON types, and what is known of its strings,
//! items and members. All of it adds up, in whatever order events come; but for whether something has vanished, which is a
//! question of order. Bounded in depth, members and nodes: what is beyond is not described, so that a schema made of the
//! state allows all that was observed.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::texts::{Formats, is_data};
use super::words::Words;
use crate::limits;

/// Events with data that have to be seen before anything is called a change; and events in a row that have to lack a field.
pub const DRIFT_AFTER: u64 = 20;
/// Members of an object that is looked at for being keyed by data; smaller ones are what they look like.
const MANY: usize = 20;
/// Objects that have to be seen before their members are said to be rarely the same.
const MANY_SEEN: u64 = 10;

/// What was observed at one place.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
pub struct Observed {
    /// How often, by [`Kind`].
    #[serde(rename = "c")]
    counts: [u64; Kind::ALL.len()],
    #[serde(rename = "f", skip_serializing_if = "is_default")]
    pub(super) formats: Formats,
    #[serde(rename = "w", skip_serializing_if = "is_default")]
    words: Words,
    /// What all items of its arrays are.
    #[serde(rename = "i", skip_serializing_if = "is_default")]
    pub(super) items: Option<Box<Self>>,
    #[serde(rename = "m", skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) members: BTreeMap<String, Self>,
    /// Whether the members' names are data; then they are not kept.
    #[serde(rename = "d", skip_serializing_if = "is_default")]
    pub(super) is_map: bool,
    /// What all members are where their names are data.
    #[serde(rename = "v", skip_serializing_if = "is_default")]
    pub(super) values: Option<Box<Self>>,
    /// Whether there was no room for items; there will never be then, as earlier ones are not known.
    #[serde(rename = "x", skip_serializing_if = "is_default")]
    lacks_items: bool,
    /// The same of members.
    #[serde(rename = "y", skip_serializing_if = "is_default")]
    lacks_members: bool,
    #[serde(rename = "g", skip_serializing_if = "is_default")]
    gap: Gap,
}

/// How long a member has been missing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
struct Gap {
    /// Objects in a row.
    objects: u64,
    /// Events in a row.
    events: u64,
    /// Number of the last of them.
    last: u64,
}

/// A JSON type, integers apart from other numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Null,
    Boolean,
    Integer,
    Number,
    String,
    Array,
    Object,
}

impl Kind {
    pub(super) const ALL: [Self; 7] =
        [Self::Null, Self::Boolean, Self::Integer, Self::Number, Self::String, Self::Array, Self::Object];

    fn of(value: &Value) -> Self {
        match value {
            Value::Null => Self::Null,
            Value::Bool(_) => Self::Boolean,
            Value::Number(number) if number.is_f64() => Self::Number,
            Value::Number(_) => Self::Integer,
            Value::String(_) => Self::String,
            Value::Array(_) => Self::Array,
            Value::Object(_) => Self::Object,
        }
    }

    /// Its name in a schema.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Boolean => "boolean",
            Self::Integer => "integer",
            Self::Number => "number",
            Self::String => "string",
            Self::Array => "array",
            Self::Object => "object",
        }
    }

    /// Whether both are the same to a reader of JSON, who knows numbers alone.
    fn is_like(self, other: Self) -> bool {
        let is_number = |kind| matches!(kind, Self::Integer | Self::Number);
        self == other || is_number(self) && is_number(other)
    }
}

/// Something about the data that was always so, and is not any more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Change {
    /// What kind of change.
    pub kind: ChangeKind,
    /// Where: a JSON pointer; `*` stands for any item, and for any member whose name is data.
    pub path: String,
    /// The JSON types that were there.
    pub before: Vec<&'static str>,
    /// Those that came; none where it vanished.
    pub after: Vec<&'static str>,
}

/// A kind of change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ChangeKind {
    /// A field that nearly always was there is missing in the last events.
    Vanished,
    /// A JSON type that was never seen there.
    TypeChanged,
}

/// What is on the way through the data of one event.
struct Course {
    /// Its number.
    event: u64,
    depth: usize,
    /// Nodes that may still be added.
    room: usize,
    path: String,
    changes: Vec<Change>,
}

impl Course {
    fn take_room(&mut self) -> bool {
        let has_room = self.room > 0;
        self.room = self.room.saturating_sub(1);
        has_room
    }

    /// Goes one step down.
    fn within(&mut self, step: &str, observe: impl FnOnce(&mut Self)) {
        let length = self.path.len();
        self.depth += 1;
        self.path.push('/');
        for c in step.chars() {
            match c {
                '~' => self.path.push_str("~0"),
                '/' => self.path.push_str("~1"),
                c => self.path.push(c),
            }
        }
        observe(self);
        self.path.truncate(length);
        self.depth -= 1;
    }

    fn tell(&mut self, kind: ChangeKind, before: Vec<&'static str>, after: Vec<&'static str>) {
        if self.changes.len() < limits::CATALOGUE_CHANGES {
            self.changes.push(Change { kind, path: self.path.clone(), before, after });
        }
    }
}

impl Observed {
    /// Takes the data of an event in; returns what has changed by it, compared with all before.
    pub fn learn(&mut self, data: &Value) -> Vec<Change> {
        let room = limits::CATALOGUE_PLACES.saturating_sub(self.places());
        let event = self.count() + 1;
        let mut course = Course { event, depth: 0, room, path: String::new(), changes: Vec::new() };
        self.observe(data, &mut course);
        course.changes
    }

    /// How often it was there.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// How often it was there with this type.
    pub(super) fn count_of(&self, kind: Kind) -> u64 {
        self.counts[kind as usize]
    }

    /// The types that it had, as a schema names them.
    pub(super) fn types(&self) -> Vec<&'static str> {
        let is_seen = |kind: &Kind| {
            // Any integer is a number.
            self.count_of(*kind) > 0 && (*kind != Kind::Integer || self.count_of(Kind::Number) == 0)
        };
        Kind::ALL.into_iter().filter(is_seen).map(Kind::name).collect()
    }

    /// The words that its strings are sure to be.
    pub(super) fn sure_words(&self) -> Vec<&str> {
        self.words.sure(self.count_of(Kind::String))
    }

    /// Nodes, itself included.
    pub(super) fn places(&self) -> usize {
        let below = self.members.values().chain(self.items.as_deref()).chain(self.values.as_deref());
        1 + below.map(Self::places).sum::<usize>()
    }

    fn observe(&mut self, value: &Value, course: &mut Course) {
        let kind = Kind::of(value);
        let is_new = !Kind::ALL.into_iter().any(|other| other.is_like(kind) && self.count_of(other) > 0);
        if is_new && course.event > DRIFT_AFTER && self.count() >= DRIFT_AFTER {
            course.tell(ChangeKind::TypeChanged, self.types(), vec![kind.name()]);
        }
        self.counts[kind as usize] += 1;
        match value {
            Value::String(text) => {
                let count = self.count_of(Kind::String);
                self.formats.observe(text, count == 1);
                self.words.observe(text, count);
            }
            Value::Array(items) => self.observe_items(items, course),
            Value::Object(members) => self.observe_members(members, course),
            _ => {}
        }
    }

    fn observe_items(&mut self, items: &[Value], course: &mut Course) {
        if items.is_empty() || course.depth == limits::CATALOGUE_DEPTH {
            return;
        }
        if self.items.is_none() && (self.lacks_items || !course.take_room()) {
            self.lacks_items = true;
            return;
        }
        let node = self.items.get_or_insert_default();
        course.within("*", |course| items.iter().for_each(|item| node.observe(item, course)));
    }

    fn observe_members(&mut self, members: &Map<String, Value>, course: &mut Course) {
        if course.depth == limits::CATALOGUE_DEPTH {
            return;
        }
        if !self.is_map && self.has_data_for_names(members) {
            self.forget_names();
        }
        if self.is_map {
            return self.observe_values(members, course);
        }
        let objects = self.count_of(Kind::Object);
        for (name, member) in &mut self.members {
            if !members.contains_key(name) {
                course.within(name, |course| member.miss(objects, course));
            }
        }
        for (name, value) in members {
            let is_known = self.members.contains_key(name);
            if !is_known && (self.lacks_members || !course.take_room()) {
                self.lacks_members = true;
                continue;
            }
            let member = self.members.entry(name.clone()).or_default();
            member.gap = Gap::default();
            course.within(name, |course| member.observe(value, course));
        }
    }

    fn observe_values(&mut self, members: &Map<String, Value>, course: &mut Course) {
        if members.is_empty() {
            return;
        }
        if self.values.is_none() && (self.lacks_members || !course.take_room()) {
            self.lacks_members = true;
            return;
        }
        let node = self.values.get_or_insert_default();
        course.within("*", |course| members.values().for_each(|value| node.observe(value, course)));
    }

    /// Notes that a member is missing from the last of so many objects.
    fn miss(&mut self, objects: u64, course: &mut Course) {
        self.gap.objects += 1;
        if self.gap.last == course.event {
            return;
        }
        self.gap.last = course.event;
        self.gap.events += 1;
        let (there, before) = (self.count(), objects.saturating_sub(self.gap.objects));
        let was_nearly_always_there = there >= DRIFT_AFTER && there * 20 >= before * 19;
        if self.gap.events == DRIFT_AFTER && was_nearly_always_there {
            course.tell(ChangeKind::Vanished, self.types(), Vec::new());
        }
    }

    /// Whether the names of an object's members are data: they look like it, or are too many, or are hardly ever the same.
    fn has_data_for_names(&self, members: &Map<String, Value>) -> bool {
        let new = members.keys().filter(|name| !self.members.contains_key(*name)).count();
        if new == 0 {
            return false;
        }
        let count = self.members.len() + new;
        members.keys().any(|name| is_data(name))
            || count > limits::CATALOGUE_MEMBERS
            || count > MANY && self.members_are_alike_and_rare()
    }

    fn members_are_alike_and_rare(&self) -> bool {
        let objects = self.count_of(Kind::Object);
        let seen: u64 = self.members.values().map(Self::count).sum();
        let kinds: BTreeSet<Vec<&str>> = self.members.values().map(Self::types).collect();
        objects >= MANY_SEEN && kinds.len() == 1 && seen * 5 < objects * self.members.len() as u64
    }

    /// Keeps of the members what all of them are.
    fn forget_names(&mut self) {
        self.is_map = true;
        let members = std::mem::take(&mut self.members);
        // What there was no room for is not known, so nothing holds for all.
        if !self.lacks_members {
            let merged = members.into_values().reduce(Self::merged);
            self.values = merged.map(Box::new);
        }
    }

    /// What was observed at either of two places.
    pub(super) fn merged(mut self, mut other: Self) -> Self {
        let strings = (self.count_of(Kind::String), other.count_of(Kind::String));
        self.formats = self.formats.merge(other.formats, (strings.0 == 0, strings.1 == 0));
        self.words.merge(other.words.clone(), strings);
        self.items = both(self.items.take(), other.items.take());
        self.lacks_items |= other.lacks_items;
        if self.lacks_items {
            self.items = None;
        }
        self.merge_members(&mut other);
        self.counts.iter_mut().zip(other.counts).for_each(|(own, other)| *own += other);
        self.gap = Gap::default();
        self
    }

    fn merge_members(&mut self, other: &mut Self) {
        if self.is_map || other.is_map {
            for either in [&mut *self, &mut *other] {
                if !either.is_map {
                    either.forget_names();
                }
            }
        }
        self.values = both(self.values.take(), other.values.take());
        let mut others = std::mem::take(&mut other.members);
        // A member that one had no room for may have been there.
        if self.lacks_members {
            others.retain(|name, _| self.members.contains_key(name));
        }
        if other.lacks_members {
            self.members.retain(|name, _| others.contains_key(name));
        }
        for (name, member) in others {
            let own = self.members.remove(&name);
            let merged = own.map_or_else(|| member.clone(), |own| own.merged(member.clone()));
            self.members.insert(name, merged);
        }
        self.lacks_members |= other.lacks_members;
        if self.lacks_members && self.is_map {
            self.values = None;
        }
    }
}

fn both(one: Option<Box<Observed>>, other: Option<Box<Observed>>) -> Option<Box<Observed>> {
    match (one, other) {
        (Some(one), Some(other)) => Some(Box::new(one.merged(*other))),
        (one, other) => one.or(other),
    }
}

/// Whether a value need not be kept.
pub(super) fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// How many values there are in one, itself included, counted up to `most`.
pub fn values(value: &Value, most: usize) -> usize {
    let (mut waiting, mut count) = (vec![value], 0);
    while let Some(value) = waiting.pop() {
        count += 1;
        if count >= most {
            break;
        }
        match value {
            Value::Array(items) => waiting.extend(items),
            Value::Object(members) => waiting.extend(members.values()),
            _ => {}
        }
    }
    count
}

#[cfg(test)]
mod tests;
