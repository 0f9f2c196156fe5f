//! `/v1/events`: taking events in, looking at them, and following them as they come.

use std::collections::BTreeMap;

use axum::http::StatusCode;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::value::RawValue;

use super::error::Problem;
use crate::limits;
use crate::matcher::Pattern;
use crate::model::Event;
use crate::store::AcceptedEvent;

mod ingest;
mod list;
mod stream;

pub(super) use ingest::ingest;
pub(super) use list::{list, read};
pub(super) use stream::stream;

/// Which events somebody wants to see.
struct Wanted {
    /// Empty: of all types.
    types: Vec<Pattern>,
    subject: Option<String>,
    tenant: Option<String>,
}

impl Wanted {
    /// `types` are patterns, separated by commas; `*` is all, events of our own included.
    fn read(types: Option<&str>, subject: Option<String>, tenant: Option<String>) -> Result<Self, Problem> {
        let patterns = types.map_or_else(Vec::new, |types| types.split(',').collect());
        if patterns.len() > limits::SUBSCRIPTION_EVENTS {
            return Err(Problem::malformed(
                "type",
                format!("at most {} are allowed", limits::SUBSCRIPTION_EVENTS),
            ));
        }
        let types = patterns.into_iter().filter(|text| *text != "*").map(Pattern::parse);
        let types = types.collect::<Result<_, _>>().map_err(|detail| Problem::malformed("type", detail))?;
        Ok(Self { types, subject, tenant })
    }

    fn includes(&self, event: &Event) -> bool {
        let is = |wanted: &Option<String>, own: &Option<String>| wanted.is_none() || wanted == own;
        (self.types.is_empty() || self.types.iter().any(|pattern| pattern.matches(&event.event_type)))
            && is(&self.subject, &event.subject)
            && is(&self.tenant, &event.tenant)
    }
}

/// An event as the API shows it: the CloudEvents JSON format, data and extensions verbatim, and when it was accepted.
type Representation = BTreeMap<String, Box<RawValue>>;

fn representation(accepted: &AcceptedEvent) -> Result<Representation, Problem> {
    let event = &accepted.event;
    let mut attributes = event.extensions.clone();
    let mut put = |name: &str, value: Option<&str>| {
        let Some(value) = value else { return };
        // A string always serializes.
        if let Ok(json) = serde_json::value::to_raw_value(value) {
            attributes.insert(name.to_owned(), json);
        }
    };
    put("specversion", Some("1.0"));
    put("id", Some(&event.id));
    put("source", Some(&event.source));
    put("type", Some(&event.event_type));
    put("subject", event.subject.as_deref());
    put("time", Some(&event.time.to_string()));
    put("datacontenttype", event.datacontenttype.as_deref());
    put("tenant", event.tenant.as_deref());
    put("accepted_at", Some(&accepted.accepted_at.to_string()));
    match event.data.as_deref().map(|data| (std::str::from_utf8(data), event.is_json())) {
        None => {}
        Some((Ok(json), true)) => {
            let damaged = |_| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "this event's data is damaged");
            attributes.insert("data".into(), RawValue::from_string(json.to_owned()).map_err(damaged)?);
        }
        Some((Ok(text), false)) => put("data", Some(text)),
        Some((Err(_), _)) => {
            put("data_base64", event.data.as_deref().map(|data| STANDARD.encode(data)).as_deref())
        }
    }
    Ok(attributes)
}
