//! The fields that say how answers are read, of the whole configuration and of single resources.
//!
//! A resource's own field stands before that of the whole; what is to be redacted adds up, so that a resource cannot
//! publish by mistake what the whole configuration holds back.

use super::compile::{Check, is_header_name};
use super::raw::{Data, Previous, RawIdentity, RawShape};
use crate::identity::Identity;
use crate::json::parse_pointer;
use crate::privacy::Privacy;
use crate::shape::Shape;

/// More than any allow-list needs; each costs a little of every event.
const MAX_POINTERS: usize = 200;

/// The keys under which jwt_authn is commonly told to leave the claims: Envoy's documentation, and Istio.
const PAYLOADS: [&str; 2] = ["jwt_payload", "payload"];

/// The shape that stands at this path of the configuration, on the ground of the whole configuration's.
pub(super) fn compile(check: &mut Check, at: &str, raw: &RawShape, base: Option<&RawShape>) -> Shape {
    let nothing = RawShape::default();
    let base = base.unwrap_or(&nothing);
    let own = |field: fn(&RawShape) -> &Option<String>| (field(raw), field(base));
    let unwrap = pointer(check, at, "unwrap", own(|raw| &raw.unwrap)).unwrap_or_default();
    let explode = pointer(check, at, "explode", own(|raw| &raw.explode));
    let id = pointer(check, at, "id", own(|raw| &raw.id));
    if raw.only.as_ref().is_some_and(Vec::is_empty) {
        check.fault(&format!("{at}/only"), "an empty list would let nothing pass; say data: none instead");
    }
    let only = match &raw.only {
        Some(only) => pointers(check, at, "only", only),
        None => inherited(base.only.iter().flatten()),
    };
    let mut redact = pointers(check, at, "redact", &raw.redact);
    redact.extend(inherited(base.redact.iter()));
    let none = raw.data.or(base.data) == Some(Data::None);
    Shape {
        unwrap,
        explode,
        id,
        subject: None,
        privacy: Privacy::new(none, &only, &redact),
        representation: raw.representation.or(base.representation).unwrap_or_default(),
        previous: raw.previous.or(base.previous) == Some(Previous::Fetch),
        tenant: identity(check, &format!("{at}/tenant"), raw.tenant.as_ref(), base.tenant.as_ref()),
        actor: identity(check, &format!("{at}/actor"), raw.actor.as_ref(), base.actor.as_ref()),
    }
}

/// What the resource says, or else the whole configuration, whose own faults are told in their own place.
fn pointer(
    check: &mut Check,
    at: &str,
    field: &str,
    (own, base): (&Option<String>, &Option<String>),
) -> Option<Vec<String>> {
    match own {
        Some(text) => check.take(&format!("{at}/{field}"), parse_pointer(text)),
        None => parse_pointer(base.as_ref()?).ok(),
    }
}

fn pointers(check: &mut Check, at: &str, field: &str, texts: &[String]) -> Vec<Vec<String>> {
    check.require(texts.len() <= MAX_POINTERS, &format!("{at}/{field}"), "at most 200 are allowed");
    let parsed = texts.iter().enumerate();
    parsed
        .filter_map(|(index, text)| check.take(&format!("{at}/{field}/{index}"), parse_pointer(text)))
        .collect()
}

fn inherited<'a>(texts: impl Iterator<Item = &'a String>) -> Vec<Vec<String>> {
    texts.filter_map(|text| parse_pointer(text).ok()).collect()
}

fn identity(
    check: &mut Check,
    at: &str,
    own: Option<&RawIdentity>,
    base: Option<&RawIdentity>,
) -> Option<Identity> {
    match own {
        Some(raw) => compile_identity(check, at, raw),
        None => compile_identity(&mut Check::default(), at, base?),
    }
}

fn compile_identity(check: &mut Check, at: &str, raw: &RawIdentity) -> Option<Identity> {
    let RawIdentity { header, jwt, parameter, field, payload } = raw;
    if payload.is_some() && jwt.is_none() {
        check.fault(&format!("{at}/payload"), "it says where the claims are, so it goes with jwt");
    }
    match (header, jwt, parameter, field) {
        (Some(name), None, None, None) => {
            check.require(
                is_header_name(name),
                &format!("{at}/header"),
                "a header name in lower case is needed",
            );
            Some(Identity::Header(name.clone()))
        }
        (None, Some(claim), None, None) => {
            let claim = if claim.starts_with('/') { parse_pointer(claim) } else { Ok(vec![claim.clone()]) };
            let claim = check.take(&format!("{at}/jwt"), claim)?;
            let known = || PAYLOADS.map(str::to_owned).to_vec();
            Some(Identity::Jwt { keys: payload.clone().map_or_else(known, |key| vec![key]), claim })
        }
        (None, None, Some(name), None) => Some(Identity::Parameter(name.clone())),
        (None, None, None, Some(text)) => {
            check.take(&format!("{at}/field"), parse_pointer(text)).map(Identity::Field)
        }
        _ => {
            check.fault(at, "one of header, jwt, parameter and field is needed, and only one");
            None
        }
    }
}
