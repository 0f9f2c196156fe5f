//! The configuration's shape as JSON, before its meaning is checked.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, MapAccess, Visitor};

use crate::rules::Tense;

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

#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawConfig {
    pub(super) companion: Object<RawCompanion>,
    pub(super) source: String,
    pub(super) namespace: Option<String>,
    pub(super) tense: Tense,
    pub(super) automatic: bool,
    pub(super) ignore: Vec<String>,
    pub(super) resources: Vec<Object<RawResource>>,
    pub(super) verbs: BTreeMap<String, String>,
    pub(super) singulars: BTreeMap<String, String>,
    pub(super) max_body_bytes: usize,
    pub(super) identity_encoding: bool,
    pub(super) outbox: Object<RawOutbox>,
    pub(super) batch: Object<RawBatch>,
    pub(super) mode: String,
}

impl Default for RawConfig {
    fn default() -> Self {
        Self {
            companion: Object::default(),
            source: "gatehook".to_owned(),
            namespace: None,
            tense: Tense::default(),
            automatic: true,
            ignore: Vec::new(),
            resources: Vec::new(),
            verbs: BTreeMap::new(),
            singulars: BTreeMap::new(),
            max_body_bytes: 1024 * 1024,
            identity_encoding: true,
            outbox: Object::default(),
            batch: Object::default(),
            mode: "async".to_owned(),
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
#[serde(deny_unknown_fields)]
pub(super) struct RawResource {
    pub(super) path: String,
    pub(super) noun: String,
    #[serde(default)]
    pub(super) verbs: BTreeMap<String, Option<String>>,
    #[serde(default)]
    pub(super) actions: BTreeMap<String, String>,
    #[serde(default)]
    pub(super) statuses: Option<Vec<u16>>,
    #[serde(default)]
    pub(super) unwrap: String,
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
