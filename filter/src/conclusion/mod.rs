//! From an observed exchange to its events.
//!
//! This is where rules, representation and event meet: the type is decided, the representation taken out of its envelope
//! or into its elements, the subject found. Where the answer is not the resource, it says what to read instead. Time and id
//! come from outside. What fits no rule comes back as its path's shape.

#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::time::Duration;

use crate::config::Config;
use crate::draft::{Draft, Ready, parameters_as_json};
use crate::event::Thin;
use crate::exchange::{Asked, Body, Media, Observation};
use crate::fetch::Target;
use crate::headers::Headers;
use crate::identity::{Identity, Sources};
use crate::ids::Ids;
use crate::json::Json;
use crate::path::{self, MAX_PATH};
use crate::rules::{self, Candidate, Match, Method, Place};
use crate::shape::{Representation, Shape};
use crate::timestamp::timestamp;

/// What came of a committed write.
pub enum Conclusion<'a> {
    /// Its events; more than one only for an answer in bulk.
    Events(Vec<Outcome<'a>>),
    /// No rule fits.
    Unmatched {
        /// The path with every id replaced by `{id}`.
        shape: String,
    },
}

/// What came of one written resource.
pub enum Outcome<'a> {
    /// An event for the outbox.
    Ready(Ready),
    /// An event that needs no more than what is at hand, but has to stay behind others of its resource that do.
    Behind(Draft<'a>, Result<Vec<u8>, Thin>),
    /// An event whose representation is to be read.
    Fetch(Draft<'a>, Target),
    /// The tenant is missing, and the configuration lets nothing go without one.
    Untold,
}

/// What an exchange is concluded with.
pub struct Conclude<'a> {
    /// The configuration.
    pub config: &'a Config,
    /// The time since the Unix epoch.
    pub now: Duration,
    /// Where ids come from.
    pub ids: &'a mut Ids,
    /// A property of the stream.
    pub property: &'a dyn Fn(&[&str]) -> Option<Vec<u8>>,
    /// Whether earlier events of this subject wait for a GET.
    pub waits: &'a dyn Fn(&str) -> bool,
}

impl Observation {
    /// Makes the events of this observation.
    pub fn conclude(&self, with: &mut Conclude<'_>) -> Conclusion<'_> {
        let Self { asked, head, .. } = self;
        let unmatched = || Conclusion::Unmatched { shape: rules::shape(path::without_query(&asked.target)) };
        let Some(candidate) = &asked.candidate else { return unmatched() };
        let shape = with.config.shape(candidate.source);
        let data = self.representation(shape);
        let id = data.ok().and_then(|json| shape.id(json, head.media));
        let new_id = || id.as_deref().is_some_and(|id| !bears_id(asked, id));
        let Some(found) = candidate.decide(&with.config.rules, head.status, new_id) else {
            return unmatched();
        };
        let elements = shape.explode.as_ref().and_then(|pointer| data.ok()?.at(pointer)?.elements());
        let outcomes = match (elements, &shape.explode) {
            (Some(elements), _) => {
                let each = elements.into_iter().map(|element| (element, shape.id(element, head.media)));
                each.map(|(element, id)| self.outcome(with, candidate, &found, Ok(element), id.as_deref()))
                    .collect()
            }
            (None, Some(_)) => {
                let reason = data.err().unwrap_or(Thin::Pointer);
                vec![self.outcome(with, candidate, &found, Err(reason), None)]
            }
            (None, None) => vec![self.outcome(with, candidate, &found, data, id.as_deref())],
        };
        Conclusion::Events(outcomes)
    }

    fn outcome(
        &self,
        with: &mut Conclude<'_>,
        candidate: &Candidate,
        found: &Match,
        data: Result<Json<'_>, Thin>,
        id: Option<&str>,
    ) -> Outcome<'_> {
        let shape = with.config.shape(candidate.source);
        let deleted = self.asked.method == Method::Delete;
        let draft = self.draft(with, candidate, found, data.ok(), id);
        // What is known of a resource that is gone, where nothing else is.
        let parameters = (deleted && data.is_err()).then(|| parameters_as_json(&candidate.parameters));
        let data = parameters.as_deref().map_or(data, |json| Json::parse(json).ok_or(Thin::Empty));
        if !deleted && shape.wants_fetch(data.ok(), self.head.media) {
            return match self.target(with, shape, found, &draft.subject) {
                Some(target) => Outcome::Fetch(draft, target),
                None => finish(draft, with, data),
            };
        }
        if (with.waits)(&draft.subject) {
            return Outcome::Behind(draft, data.map(|json| json.text().as_bytes().to_vec()));
        }
        finish(draft, with, data)
    }

    fn draft(
        &self,
        with: &mut Conclude<'_>,
        candidate: &Candidate,
        found: &Match,
        representation: Option<Json<'_>>,
        id: Option<&str>,
    ) -> Draft<'_> {
        let Self { asked, head, .. } = self;
        let shape = with.config.shape(candidate.source);
        let sources = Sources {
            headers: &asked.headers,
            parameters: &candidate.parameters,
            representation: None,
            property: with.property,
        };
        let read =
            |identity: &Option<Identity>| identity.as_ref().and_then(|identity| identity.read(&sources));
        Draft {
            source: candidate.source,
            id: with.ids.next(with.now),
            event_type: found.event_type.clone(),
            subject: self.subject(shape, candidate, found, id, representation),
            time: timestamp(with.now),
            request_id: asked.request_id().map(Cow::Borrowed),
            traceparent: asked.traceparent().map(Cow::Borrowed),
            etag: head.etag.as_deref().map(Cow::Borrowed),
            tenant: read(&shape.tenant),
            actor: read(&shape.actor),
            previous: asked.previous.as_deref().map(Cow::Borrowed),
            deleted: asked.method == Method::Delete,
        }
    }

    fn representation(&self, shape: &Shape) -> Result<Json<'_>, Thin> {
        let bytes = match &self.body {
            Body::Kept(bytes) => bytes,
            Body::Lost(reason) => return Err(*reason),
        };
        if bytes.trim_ascii().is_empty() {
            return Err(Thin::Empty);
        }
        let json = Json::parse(bytes)
            .filter(|json| self.says_json() || json.is_structured())
            .ok_or(Thin::NotJson)?;
        json.at(&shape.unwrap).ok_or(Thin::Pointer)
    }

    /// The resource's path: as configured, or where a 201 says it is, or below the collection by its id, or above an
    /// action, or where the request went.
    fn subject(
        &self,
        shape: &Shape,
        candidate: &Candidate,
        found: &Match,
        id: Option<&str>,
        representation: Option<Json<'_>>,
    ) -> Cow<'_, str> {
        if let Some(template) = &shape.subject {
            let own = id.map(|id| ("id".to_owned(), id.to_owned()));
            let parameters: Vec<_> = candidate.parameters.iter().cloned().chain(own).collect();
            if let Some(path) = template.expand(&parameters).filter(|path| path.len() <= MAX_PATH) {
                return Cow::Owned(path);
            }
        }
        let path = path::without_query(&self.asked.target);
        let located = || {
            let location = self.head.location.as_deref().filter(|_| self.head.status == 201);
            let location =
                location.and_then(|location| path::location_path(location, &self.asked.authority()));
            location.or_else(|| self.self_link(representation?))
        };
        let bulk = shape.explode.is_some();
        if let Some(located) = located().filter(|located| !bulk && located.len() <= MAX_PATH) {
            return Cow::Owned(located);
        }
        match (found.place, id) {
            (Place::Below, Some(id)) => below(path, id),
            (_, Some(id)) if bulk => below(path, id),
            (Place::Above, _) => Cow::Borrowed(path::above(path)),
            _ => Cow::Borrowed(path),
        }
    }

    /// Where a HAL representation says that it is itself (draft-kelly-json-hal, 4.1.1).
    fn self_link(&self, representation: Json<'_>) -> Option<String> {
        let hal = Some(representation).filter(|_| self.head.media == Media::Hal)?;
        let link = hal.at(&["_links", "self", "href"].map(str::to_owned))?.name()?;
        path::location_path(&link, &self.asked.authority())
    }

    /// What to GET; `None` where nothing tells under which path the resource stands.
    fn target(&self, with: &Conclude<'_>, shape: &Shape, found: &Match, subject: &str) -> Option<Target> {
        let Self { asked, .. } = self;
        let path = path::without_query(&asked.target);
        let (own, below) = (subject == path, found.place == Place::Below);
        if own && below && shape.subject.is_none() {
            return None;
        }
        let query = asked.target.split_once('?').map(|(_, query)| query).filter(|_| own);
        let text = |path: &[&str]| (with.property)(path).and_then(|value| String::from_utf8(value).ok());
        let (cluster, authority, wanted) = match &with.config.fetch.cluster {
            Some(cluster) => (cluster.clone(), asked.authority().into_owned(), subject.to_owned()),
            None => {
                let sent = text(&["request", "path"]).unwrap_or_else(|| path.to_owned());
                let host = text(&["request", "host"]).unwrap_or_else(|| asked.authority().into_owned());
                let sent = path::rewritten(subject, path, path::without_query(&sent));
                (text(&["xds", "cluster_name"])?, host, sent)
            }
        };
        let path = query.map_or(wanted.clone(), |query| format!("{wanted}?{query}"));
        Some(Target { cluster, authority, path, headers: asked.credentials(with.config) })
    }
}

impl Asked {
    /// Whether the representation may have to be read.
    pub fn may_fetch(&self, config: &Config) -> bool {
        let shape = self.candidate.as_ref().map(|candidate| config.shape(candidate.source));
        shape.is_some_and(|shape| shape.representation != Representation::Answer)
    }

    /// What to GET to see the resource before this request writes to it: the request's own path, as the caller wrote it,
    /// because Envoy rewrites it only later.
    pub fn target_before(
        &self,
        config: &Config,
        property: &dyn Fn(&[&str]) -> Option<Vec<u8>>,
    ) -> Option<Target> {
        let own = || String::from_utf8(property(&["xds", "cluster_name"])?).ok();
        let cluster = config.fetch.cluster.clone().or_else(own)?;
        Some(Target {
            cluster,
            authority: self.authority().into_owned(),
            path: self.target.clone(),
            headers: self.credentials(config),
        })
    }

    fn credentials(&self, config: &Config) -> Headers {
        let wanted = |name| std::str::from_utf8(name).is_ok_and(|name| config.fetch.headers.contains(name));
        self.headers.iter().filter(|(name, _)| wanted(*name)).collect()
    }
}

fn finish<'a>(draft: Draft<'_>, with: &mut Conclude<'_>, data: Result<Json<'_>, Thin>) -> Outcome<'a> {
    draft.finish(with.config, data, with.ids).map_or(Outcome::Untold, Outcome::Ready)
}

/// What calls itself by more than a path can hold has no path of its own.
fn below<'a>(path: &'a str, id: &str) -> Cow<'a, str> {
    let below = [path.trim_end_matches('/'), "/", &path::encode_segment(id)].concat();
    if below.len() <= MAX_PATH { Cow::Owned(below) } else { Cow::Borrowed(path) }
}

/// Whether the request itself named this id: in its query, in a form, or as the id of the JSON it sent.
fn bears_id(asked: &Asked, id: &str) -> bool {
    let named = |pairs: &str| {
        let mut pairs = pairs.split('&').filter_map(|pair| pair.split_once('='));
        pairs.any(|(name, value)| name == "id" && path::decode_segment(value) == id)
    };
    let query = asked.target.split_once('?').is_some_and(|(_, query)| named(query));
    let parameter = asked
        .candidate
        .as_ref()
        .is_some_and(|candidate| candidate.parameters.iter().any(|(_, value)| value == id));
    let body = match &asked.body {
        Body::Kept(bytes) => match Json::parse(bytes) {
            Some(json) => json.id().as_deref() == Some(id),
            None => std::str::from_utf8(bytes).is_ok_and(named),
        },
        // A body too large to be looked at may name any id, so nothing is claimed about it.
        Body::Lost(reason) => *reason != Thin::Empty,
    };
    query || parameter || body
}
