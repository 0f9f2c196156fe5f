//! An event as the values of a template.
//!
//! Lists and objects are ours and not minijinja's, whose fuel pays neither for comparing them nor for writing them into a
//! text: ours compare by a hash and show as `[…]` and `{…}`, both at once however large they are.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use minijinja::value::{Enumerator, Object, ObjectExt, ObjectRepr};
use minijinja::{Error, ErrorKind, Value};
use serde_json::Value as Tree;

use crate::model::Event;

/// `type`, `timestamp`, `id`, `subject`, `source`, `tenant`, `actor`, `data`, `previous`, `changed`, `thin` and `hook`;
/// what is not known is undefined. Data that is neither JSON nor text is not known.
pub(super) fn of(event: &Event, hook: &str) -> Value {
    let json = |text: &str| serde_json::from_str::<Tree>(text).ok().map(value);
    let data = event.data.as_deref().and_then(|data| std::str::from_utf8(data).ok());
    let data = data.and_then(|text| if event.is_json() { json(text) } else { Some(text.into()) });
    let mut known = BTreeMap::from([
        ("type".to_owned(), Value::from(&event.event_type)),
        ("timestamp".to_owned(), Value::from(event.time.to_string())),
        ("id".to_owned(), Value::from(&event.id)),
        ("source".to_owned(), Value::from(&event.source)),
    ]);
    let mut add = |name: &str, value: Option<Value>| {
        if let Some(value) = value {
            known.insert(name.to_owned(), value);
        }
    };
    add("subject", event.subject.as_ref().map(Value::from));
    add("tenant", event.tenant.as_ref().map(Value::from));
    add("data", data);
    add("hook", json(hook));
    for name in ["actor", "previous", "changed", "thin"] {
        add(name, event.extensions.get(name).and_then(|raw| json(raw.get())));
    }
    Value::from_object(Map { members: known, hash: 0 })
}

/// Its depth is bounded by the parser's.
fn value(tree: Tree) -> Value {
    let hash = hash(&tree);
    match tree {
        Tree::Null => Value::from(()),
        Tree::Bool(truth) => truth.into(),
        Tree::String(text) => text.into(),
        Tree::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(number), _) => number.into(),
            (None, Some(number)) => number.into(),
            (None, None) => number.as_f64().into(),
        },
        Tree::Array(items) => {
            Value::from_object(List { items: items.into_iter().map(value).collect(), hash })
        }
        Tree::Object(members) => {
            let members = members.into_iter().map(|(name, tree)| (name, value(tree))).collect();
            Value::from_object(Map { members, hash })
        }
    }
}

/// Of lists and objects; nothing else is compared by it.
fn hash(tree: &Tree) -> u64 {
    let mut hasher = DefaultHasher::new();
    if tree.is_array() || tree.is_object() {
        tree.hash(&mut hasher);
    }
    hasher.finish()
}

#[derive(Debug)]
struct List {
    items: Vec<Value>,
    hash: u64,
}

impl Object for List {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Seq
    }

    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        self.items.get(key.as_usize()?).cloned()
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Seq(self.items.len())
    }

    fn custom_cmp(self: &Arc<Self>, other: &minijinja::value::DynObject) -> Option<Ordering> {
        Some(self.hash.cmp(&other.downcast_ref::<Self>()?.hash))
    }

    fn render(self: &Arc<Self>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[…]")
    }
}

#[derive(Debug)]
struct Map {
    members: BTreeMap<String, Value>,
    hash: u64,
}

impl Object for Map {
    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        self.members.get(key.as_str()?).cloned()
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        // One name at a time: a template may look at the first of very many, often.
        self.mapped_enumerator(|this| Box::new(this.members.keys().map(Value::from)))
    }

    fn enumerator_len(self: &Arc<Self>) -> Option<usize> {
        Some(self.members.len())
    }

    fn custom_cmp(self: &Arc<Self>, other: &minijinja::value::DynObject) -> Option<Ordering> {
        Some(self.hash.cmp(&other.downcast_ref::<Self>()?.hash))
    }

    fn render(self: &Arc<Self>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("{…}")
    }
}

/// A value as JSON text: what the filter `tojson` makes. In a text it is that text, in a JSON body that JSON.
#[derive(Debug)]
pub(super) struct Json(pub(super) String);

impl Json {
    /// # Errors
    /// Where the value holds what JSON cannot.
    pub(super) fn of(value: &Value) -> Result<Self, Error> {
        if let Some(Self(text)) = value.downcast_object_ref::<Self>() {
            return Ok(Self(text.clone()));
        }
        serde_json::to_string(value)
            .map(Self)
            .map_err(|error| Error::new(ErrorKind::BadSerialization, error.to_string()))
    }
}

impl Object for Json {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }

    fn render(self: &Arc<Self>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
