//! The configuration's shape as JSON, before its meaning is checked.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, MapAccess, Visitor};

use super::MissingTenant;
use crate::rules::Tense;
use crate::shape::Representation;

/// A struct from a JSON object alone; derived code would take an array of the fields as well.
#[derive(Default)]
pub(super) struct Object<T>(pub(super) T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Fields<T> {
            type Value = T;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an object")
            }

            fn visit_map<M: MapAccess<'de>>(self, map: M) -> Result<T, M::Error> {
                T::deserialize(MapAccessDeserializer::new(map))
            }
        }
        deserializer.deserialize_map(Fields(PhantomData)).map(Self)
    }
}

/// Defines a struct of the configuration with the fields of a shape among its own; serde's `flatten` would lose both the
/// refusal of unknown fields and the path of a fault.
macro_rules! with_shape {
    ($(#[$attribute:meta])* $name:ident { $($(#[$own:meta])* $field:ident: $type:ty,)* }) => {
        $(#[$attribute])*
        pub(super) struct $name {
            $($(#[$own])* pub(super) $field: $type,)*
            #[serde(default)]
            unwrap: Option<String>,
            #[serde(default)]
            explode: Option<String>,
            #[serde(default)]
            id: Option<String>,
            #[serde(default)]
            representation: Option<Representation>,
            #[serde(default)]
            previous: Option<Previous>,
            #[serde(default)]
            data: Option<Data>,
            #[serde(default)]
            only: Option<Vec<String>>,
            #[serde(default)]
            redact: Vec<String>,
            #[serde(default)]
            tenant: Option<Object<RawIdentity>>,
            #[serde(default)]
            actor: Option<Object<RawIdentity>>,
        }

        impl $name {
            /// Takes the fields of the shape out.
            pub(super) fn shape(&mut self) -> RawShape {
                RawShape {
                    unwrap: self.unwrap.take(),
                    explode: self.explode.take(),
                    id: self.id.take(),
                    representation: self.representation,
                    previous: self.previous,
                    data: self.data,
                    only: self.only.take(),
                    redact: std::mem::take(&mut self.redact),
                    tenant: self.tenant.take().map(|Object(identity)| identity),
                    actor: self.actor.take().map(|Object(identity)| identity),
                }
            }
        }
    };
}

/// What both the whole configuration and a single resource may say of answers.
#[derive(Clone, Default)]
pub(super) struct RawShape {
    pub(super) unwrap: Option<String>,
    pub(super) explode: Option<String>,
    pub(super) id: Option<String>,
    pub(super) representation: Option<Representation>,
    pub(super) previous: Option<Previous>,
    pub(super) data: Option<Data>,
    pub(super) only: Option<Vec<String>>,
    pub(super) redact: Vec<String>,
    pub(super) tenant: Option<RawIdentity>,
    pub(super) actor: Option<RawIdentity>,
}

/// Whether the representation before a write is read.
#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Previous {
    None,
    Fetch,
}

/// Whether events bear the representation.
#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Data {
    Full,
    None,
}

#[derive(Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawIdentity {
    pub(super) header: Option<String>,
    pub(super) jwt: Option<String>,
    pub(super) parameter: Option<String>,
    pub(super) field: Option<String>,
    pub(super) payload: Option<String>,
}

with_shape! {
    #[derive(Deserialize)]
    #[serde(default, deny_unknown_fields)]
    RawConfig {
        companion: Object<RawCompanion>,
        source: String,
        namespace: Option<String>,
        tense: Tense,
        automatic: bool,
        nested: bool,
        ignore: Vec<String>,
        resources: Vec<Object<RawResource>>,
        verbs: BTreeMap<String, String>,
        singulars: BTreeMap<String, String>,
        missing_tenant: MissingTenant,
        max_body_bytes: usize,
        identity_encoding: bool,
        via: bool,
        fetch: Object<RawFetch>,
        previous_timeout: String,
        outbox: Object<RawOutbox>,
        batch: Object<RawBatch>,
        mode: Mode,
        hold: Option<Object<RawHold>>,
        hold_timeout: String,
    }
}

/// Whether an answer waits for its event.
#[derive(Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Mode {
    #[default]
    Async,
    Hold,
}

#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawHold {
    pub(super) allow_on_headers_stop_iteration: bool,
    pub(super) max_body_bytes: usize,
    pub(super) buffer_bytes: usize,
    pub(super) read_bytes: Option<usize>,
}

impl Default for RawHold {
    fn default() -> Self {
        Self {
            allow_on_headers_stop_iteration: false,
            max_body_bytes: 64 * 1024,
            buffer_bytes: 1024 * 1024,
            read_bytes: None,
        }
    }
}

impl Default for RawConfig {
    fn default() -> Self {
        let shape = RawShape::default();
        Self {
            companion: Object::default(),
            source: "gatehook".to_owned(),
            namespace: None,
            tense: Tense::default(),
            automatic: true,
            nested: false,
            ignore: Vec::new(),
            resources: Vec::new(),
            verbs: BTreeMap::new(),
            singulars: BTreeMap::new(),
            missing_tenant: MissingTenant::default(),
            max_body_bytes: 1024 * 1024,
            identity_encoding: true,
            via: false,
            fetch: Object::default(),
            previous_timeout: "100ms".to_owned(),
            outbox: Object::default(),
            batch: Object::default(),
            mode: Mode::default(),
            hold: None,
            hold_timeout: "1s".to_owned(),
            unwrap: shape.unwrap,
            explode: shape.explode,
            id: shape.id,
            representation: shape.representation,
            previous: shape.previous,
            data: shape.data,
            only: shape.only,
            redact: shape.redact,
            tenant: None,
            actor: None,
        }
    }
}

with_shape! {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    RawResource {
        path: String,
        noun: String,
        #[serde(default)]
        verbs: BTreeMap<String, Option<String>>,
        #[serde(default)]
        collection: BTreeMap<String, Option<String>>,
        #[serde(default)]
        actions: BTreeMap<String, String>,
        #[serde(default)]
        statuses: Option<Vec<u16>>,
        #[serde(default)]
        subject: Option<String>,
    }
}

#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawFetch {
    pub(super) cluster: Option<String>,
    pub(super) headers: Vec<String>,
    pub(super) timeout: String,
    pub(super) max_concurrent: usize,
    pub(super) max_waiting: usize,
}

impl Default for RawFetch {
    fn default() -> Self {
        Self {
            cluster: None,
            headers: vec!["authorization".to_owned(), "cookie".to_owned()],
            timeout: "2s".to_owned(),
            max_concurrent: 32,
            max_waiting: 1_000,
        }
    }
}

#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawCompanion {
    pub(super) cluster: String,
    pub(super) authority: String,
    pub(super) path: String,
    pub(super) token: Option<String>,
    pub(super) timeout: String,
}

impl Default for RawCompanion {
    fn default() -> Self {
        Self {
            cluster: "gatehook".to_owned(),
            authority: "gatehook".to_owned(),
            path: "/v1/events".to_owned(),
            token: None,
            timeout: "5s".to_owned(),
        }
    }
}

#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawOutbox {
    pub(super) max_events: usize,
    pub(super) max_bytes: usize,
}

impl Default for RawOutbox {
    fn default() -> Self {
        Self { max_events: 10_000, max_bytes: 16 * 1024 * 1024 }
    }
}

#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawBatch {
    pub(super) max_events: usize,
    pub(super) max_bytes: usize,
    pub(super) linger: String,
}

impl Default for RawBatch {
    fn default() -> Self {
        Self { max_events: 100, max_bytes: 1024 * 1024, linger: "5ms".to_owned() }
    }
}
