//! An event before its representation is settled.
//!
//! Everything that the exchange itself tells stands in a draft: when, what, where, whose. What becomes `data` may come
//! later, from a GET, and passes the same way as the answer in hand: the fields that name tenant and actor are read, then
//! privacy is applied, then the event is written. There is no other way from a representation to an event.

use std::borrow::Cow;

use crate::changed::changed;
use crate::config::{Config, MissingTenant};
use crate::event::{Attributes, Event, Payload, Thin};
use crate::headers::Headers;
use crate::identity::{Identity, Sources};
use crate::ids::Ids;
use crate::json::{Json, push_string};
use crate::path::Parameter;
use crate::rules::Source;
use crate::shape::Shape;

/// What an exchange tells of its event; borrowed from it, unless the event has to wait.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Draft<'a> {
    /// The rule that made it.
    pub source: Source,
    /// The event's id.
    pub id: String,
    /// The event's type.
    pub event_type: String,
    /// The resource's path.
    pub subject: Cow<'a, str>,
    /// When the exchange ended, RFC 3339.
    pub time: String,
    /// `x-request-id` of the exchange.
    pub request_id: Option<Cow<'a, str>>,
    /// `traceparent` of the exchange.
    pub traceparent: Option<Cow<'a, str>>,
    /// The answer's entity tag.
    pub etag: Option<Cow<'a, str>>,
    /// The tenant, unless a field of the representation names it.
    pub tenant: Option<String>,
    /// The actor, unless a field of the representation names it.
    pub actor: Option<String>,
    /// The API's answer to the GET before the write.
    pub previous: Option<Cow<'a, [u8]>>,
    /// Whether the resource is gone, so that what it was is all there is.
    pub deleted: bool,
}

/// An event, ready for the outbox.
#[derive(Debug)]
pub struct Ready {
    /// The event.
    pub event: Event,
    /// Its type, for the metrics.
    pub event_type: String,
    /// Why it bears no data, if it does not.
    pub thin: Option<Thin>,
    /// Whether a tenant is configured but was not found.
    pub tenant_missing: bool,
}

impl Draft<'_> {
    /// Writes the event with this representation; `None` where the tenant is missing and nothing may go without one.
    pub fn finish(self, config: &Config, data: Result<Json<'_>, Thin>, ids: &mut Ids) -> Option<Ready> {
        let shape = config.shape(self.source);
        let before = self.previous.as_deref().and_then(|bytes| Json::parse(bytes)?.at(&shape.unwrap));
        let data = if self.deleted { before.map_or(data, Ok) } else { data };
        let whole = data.ok().or(before);
        let tenant = self.tenant.or_else(|| from_field(shape.tenant.as_ref(), whole));
        let actor = self.actor.or_else(|| from_field(shape.actor.as_ref(), whole));
        let tenant_missing = shape.tenant.is_some() && tenant.is_none();
        let mut payload = payload(shape, data, before.filter(|_| !self.deleted));
        match config.missing_tenant {
            MissingTenant::Refuse if tenant_missing => return None,
            MissingTenant::Thin if tenant_missing => payload.data = Err(Thin::NoTenant),
            _ => {}
        }
        let (worker, sequence) = ids.sequence();
        let attributes = Attributes {
            id: &self.id,
            source: &config.source,
            event_type: &self.event_type,
            subject: &self.subject,
            time: &self.time,
            request_id: self.request_id.as_deref(),
            traceparent: self.traceparent.as_deref(),
            etag: self.etag.as_deref(),
            tenant: tenant.as_deref(),
            actor: actor.as_deref(),
            worker,
            sequence,
        };
        let event = Event::new(&attributes, &payload);
        Some(Ready { event, event_type: self.event_type, thin: payload.data.err(), tenant_missing })
    }

    /// The same, to be kept beyond its exchange.
    pub fn into_owned(self) -> Draft<'static> {
        let owned = |text: Option<Cow<'_, str>>| text.map(|text| Cow::Owned(text.into_owned()));
        Draft {
            subject: Cow::Owned(self.subject.into_owned()),
            request_id: owned(self.request_id),
            traceparent: owned(self.traceparent),
            etag: owned(self.etag),
            previous: self.previous.map(|bytes| Cow::Owned(bytes.into_owned())),
            ..self
        }
    }

    /// How much memory it takes, in bytes.
    pub fn size(&self) -> usize {
        self.previous.as_ref().map_or(0, |bytes| bytes.len()) + self.subject.len() + 512
    }
}

fn from_field(identity: Option<&Identity>, representation: Option<Json<'_>>) -> Option<String> {
    let identity = identity.filter(|identity| matches!(identity, Identity::Field(_)))?;
    identity.read(&Sources { headers: &Headers::new(), parameters: &[], representation, property: &|_| None })
}

fn payload<'a>(shape: &Shape, data: Result<Json<'a>, Thin>, before: Option<Json<'a>>) -> Payload<'a> {
    let data = data.and_then(|json| shape.privacy.apply(json).ok_or(Thin::Withheld));
    let previous = before.and_then(|json| shape.privacy.apply(json));
    let changed = match (&previous, &data) {
        (Some(before), Ok(after)) => compare(before, after),
        _ => None,
    };
    Payload { data, previous, changed }
}

/// Compared behind privacy: that a removed field has changed is nobody's business either.
fn compare(before: &str, after: &str) -> Option<String> {
    let pointers = changed(Json::parse(before.as_bytes())?, Json::parse(after.as_bytes())?);
    let mut json = vec![b'['];
    for pointer in &pointers {
        if json.len() > 1 {
            json.push(b',');
        }
        push_string(&mut json, pointer);
    }
    json.push(b']');
    String::from_utf8(json).ok()
}

/// `{"user_id":"42","id":"7"}`: what is known of a resource that is gone.
pub fn parameters_as_json(parameters: &[Parameter]) -> Vec<u8> {
    let mut json = vec![b'{'];
    for (name, value) in parameters {
        if json.len() > 1 {
            json.push(b',');
        }
        push_string(&mut json, name);
        json.push(b':');
        push_string(&mut json, value);
    }
    json.push(b'}');
    json
}
