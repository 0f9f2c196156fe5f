//! The resources that a configuration needs, so that the filter says of each operation what the description means.
//!
//! Placed is what the filter's own rules, run over a sample of the operation with the configuration at hand, give the
//! intended type. Resources are added only for operations that fail this test without them, until nothing changes.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use gatehook_filter::config::Config;
use gatehook_filter::rules::Source;

use super::api::{Api, Operation};
use super::intention::{Intention, Unplaced, intentions};
use super::resources::{Group, groups, text};
use super::schema::Shape;
use crate::commands::rehearsal::{Call, Outcome, rehearse};

/// What the filter takes.
const MAX_RESOURCES: usize = 1_000;

/// Adding resources can uncover an operation that another had hidden, but not for ever.
const MAX_ROUNDS: usize = 6;

/// How an operation came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// The automatic rule gives the intended type.
    Automatic,
    /// A resource does.
    Resource,
    /// Nothing does.
    Unplaced(Unplaced),
}

/// The configuration, and how each operation came out with it.
#[derive(Debug)]
pub(super) struct Plan {
    /// The configuration as JSON, one resource a line.
    pub(super) json: String,
    /// How many resources it has.
    pub(super) resources: usize,
    /// By operation, in the order of [`Api::writes`].
    pub(super) places: Vec<Place>,
    /// Operations that seem to read and would leave an event all the same, with its type.
    pub(super) loud_reads: Vec<(usize, String)>,
}

impl Plan {
    /// Makes the plan of an API.
    ///
    /// # Errors
    /// A configuration that the filter would refuse, which would be a fault of ours.
    pub(super) fn of(api: &Api<'_>) -> anyhow::Result<Self> {
        let intentions = intentions(api);
        let groups = groups(api, &intentions);
        let group_of: BTreeMap<usize, &String> = groups
            .iter()
            .flat_map(|(key, group)| group.members.iter().map(move |member| (*member, key)))
            .collect();
        let needed = choose(api, &intentions, &groups, &group_of)?;
        let choice = without_useless(api, &intentions, &groups, needed.clone())?;
        let json = text(choice.iter().filter_map(|key| groups.get(*key)));
        let config = parse(&json)?;
        let mut plan = Self { json, resources: choice.len(), places: Vec::new(), loud_reads: Vec::new() };
        for (index, (operation, intention)) in api.writes.iter().zip(&intentions).enumerate() {
            let place = match intention {
                Err(unplaced) => Place::Unplaced(*unplaced),
                Ok(intended) => match placed(api, &config, operation, intended) {
                    Some(Source::Automatic) => Place::Automatic,
                    Some(Source::Resource(_)) => Place::Resource,
                    None if operation.path.template().is_none() => Place::Unplaced(Unplaced::PartOfSegment),
                    None if group_of.get(&index).is_some_and(|key| needed.contains(*key)) => {
                        Place::Unplaced(Unplaced::Conflict)
                    }
                    None => Place::Unplaced(Unplaced::TooMany),
                },
            };
            if place == Place::Unplaced(Unplaced::Reads) {
                let made =
                    operation.statuses.first().and_then(|status| made(api, &config, operation, "", *status));
                plan.loud_reads.extend(made.map(|(event_type, _)| (index, event_type)));
            }
            plan.places.push(place);
        }
        Ok(plan)
    }
}

/// The resources that are needed, by the key of their group.
fn choose<'a>(
    api: &Api<'_>,
    intentions: &[Result<Intention, Unplaced>],
    groups: &'a BTreeMap<String, Group>,
    group_of: &BTreeMap<usize, &'a String>,
) -> anyhow::Result<BTreeSet<&'a String>> {
    // An envelope has to be opened even where the automatic rule finds the type.
    let opens = groups.iter().filter(|(_, group)| group.resource.unwrap.is_some());
    let mut chosen: BTreeSet<&String> = opens.map(|(key, _)| key).take(MAX_RESOURCES).collect();
    for _ in 0..MAX_ROUNDS {
        let config = parse(&text(chosen.iter().filter_map(|key| groups.get(*key))))?;
        let mut more = BTreeSet::new();
        for (index, (operation, intention)) in api.writes.iter().zip(intentions).enumerate() {
            let Ok(intended) = intention else { continue };
            let group = group_of.get(&index).filter(|key| !chosen.contains(**key));
            if let Some(key) = group.filter(|_| placed(api, &config, operation, intended).is_none()) {
                more.insert(*key);
            }
        }
        if more.is_empty() {
            break;
        }
        // Where there is room for some only, those that place most.
        let mut more: Vec<_> = more.into_iter().collect();
        more.sort_by_key(|key| std::cmp::Reverse(groups.get(*key).map_or(0, |group| group.members.len())));
        chosen.extend(more.into_iter().take(MAX_RESOURCES - chosen.len()));
    }
    Ok(chosen)
}

/// Leaves out the resources that place nothing after all, because another one takes their paths.
fn without_useless<'a>(
    api: &Api<'_>,
    intentions: &[Result<Intention, Unplaced>],
    groups: &'a BTreeMap<String, Group>,
    mut chosen: BTreeSet<&'a String>,
) -> anyhow::Result<BTreeSet<&'a String>> {
    let config = parse(&text(chosen.iter().filter_map(|key| groups.get(*key))))?;
    chosen.retain(|key| {
        let mut members = groups.get(*key).into_iter().flat_map(|group| &group.members);
        members.any(|member| match (api.writes.get(*member), intentions.get(*member)) {
            (Some(operation), Some(Ok(intended))) => placed(api, &config, operation, intended).is_some(),
            _ => false,
        })
    });
    Ok(chosen)
}

fn parse(json: &str) -> anyhow::Result<Config> {
    Config::parse(json.as_bytes())
        .map_err(|faults| anyhow::anyhow!("the configuration would not load: {faults}"))
}

/// The rule that gives the intended type, if one does for every declared success.
fn placed(api: &Api<'_>, config: &Config, operation: &Operation<'_>, intended: &Intention) -> Option<Source> {
    // 202 counts only where nothing else is declared: elsewhere it says that the write is yet to come.
    let alone = operation.statuses == [202];
    let statuses = operation.statuses.iter().filter(|status| alone || **status != 202);
    let mut rule = None;
    for status in statuses {
        let (event_type, source) = made(api, config, operation, &intended.noun, *status)?;
        if event_type != intended.event_type(operation.method, *status) {
            return None;
        }
        rule = Some(source);
    }
    rule
}

/// The type of the event that the filter makes of the operation's sample, and by which rule.
fn made(
    api: &Api<'_>,
    config: &Config,
    operation: &Operation<'_>,
    noun: &str,
    status: u16,
) -> Option<(String, Source)> {
    let schema = operation.answer.filter(|_| !matches!(status, 204 | 205));
    let body = schema.map(|schema| Shape::of(api.document, schema, noun).sample()).unwrap_or_default();
    let call = Call {
        method: operation.method.name(),
        target: &operation.sample,
        authority: "api.example",
        request_headers: &[],
        request_body: b"{}",
        status,
        headers: &[],
        body: &body,
    };
    match rehearse(config, &call, Duration::ZERO) {
        Outcome::Event { event_type, rule, .. } => Some((event_type, rule?)),
        Outcome::Silence(..) | Outcome::Untold(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::document::Document;
    use super::*;

    fn plan(text: &str) -> Plan {
        let document = Document::parse(text.as_bytes()).unwrap();
        Plan::of(&Api::of(&document)).unwrap()
    }

    #[test]
    fn what_the_automatic_rule_says_needs_no_resource() {
        let plan = plan(
            r#"{"openapi": "3.0.0", "paths": {
                "/orders": {"post": {"responses": {"201": {}}}},
                "/orders/{id}": {"delete": {"responses": {"204": {}},
                    "parameters": [{"name": "id", "in": "path", "schema": {"format": "uuid"}}]}}
            }}"#,
        );
        assert_eq!((plan.json.as_str(), plan.resources), ("{}\n", 0));
        assert_eq!(plan.places, [Place::Automatic; 2]);
    }

    #[test]
    fn no_more_resources_than_the_filter_takes() {
        let path = |number: usize| {
            format!(r#""/a{number}/{{slug}}": {{"delete": {{"responses": {{"204": {{}}}}}}}}"#)
        };
        let paths: Vec<_> = (0..=MAX_RESOURCES).map(path).collect();
        let plan = plan(&format!(r#"{{"openapi": "3.0.0", "paths": {{{}}}}}"#, paths.join(",")));
        let left_out =
            plan.places.iter().filter(|place| **place == Place::Unplaced(Unplaced::TooMany)).count();
        assert_eq!((plan.resources, left_out), (MAX_RESOURCES, 1));
    }

    #[test]
    fn a_read_on_the_path_of_a_resource_is_silenced() {
        let plan = plan(
            r#"{"openapi": "3.0.0", "paths": {"/apps/{slug}/token": {
                "post": {"operationId": "check-token", "responses": {"200": {}}},
                "delete": {"responses": {"204": {}}}
            }}}"#,
        );
        assert!(plan.json.contains(r#""noun": "token", "verbs": {"POST": null}"#), "{}", plan.json);
        assert_eq!(plan.places, [Place::Resource, Place::Unplaced(Unplaced::Reads)]);
        assert!(plan.loud_reads.is_empty());
    }
}
