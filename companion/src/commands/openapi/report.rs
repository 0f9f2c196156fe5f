//! What a configuration made from an OpenAPI description does and does not place.

use std::collections::BTreeMap;
use std::io::{self, Write};

use serde::Serialize;

use super::api::Api;
use super::intention::Unplaced;
use super::plan::{Place, Plan};

/// Counts and lists of one description.
#[derive(Debug, Serialize)]
pub(super) struct Report<'a> {
    file: &'a str,
    /// Operations of the description, reads included.
    operations: usize,
    /// Operations with POST, PUT, PATCH or DELETE.
    writes: usize,
    /// Writes for which the filter gives the intended type.
    placed: usize,
    /// Of these, by the automatic rule alone.
    automatic: usize,
    /// Of these, by a resource.
    explicit: usize,
    resources: usize,
    unplaced: Vec<Kind>,
    /// Operations that seem to read and would leave an event all the same.
    loud_reads: Vec<LoudRead>,
}

/// Writes that are not placed for one reason.
#[derive(Debug, Serialize)]
struct Kind {
    kind: &'static str,
    meaning: &'static str,
    operations: Vec<String>,
    /// Where they stand in the description, as JSON pointers.
    places: Vec<String>,
}

#[derive(Debug, Serialize)]
struct LoudRead {
    operation: String,
    #[serde(rename = "type")]
    event_type: String,
}

impl<'a> Report<'a> {
    pub(super) fn of(file: &'a str, api: &Api<'_>, plan: &Plan) -> Self {
        let count = |wanted: Place| plan.places.iter().filter(|place| **place == wanted).count();
        let (automatic, explicit) = (count(Place::Automatic), count(Place::Resource));
        let mut kinds: BTreeMap<Unplaced, Kind> = BTreeMap::new();
        for (operation, place) in api.writes.iter().zip(&plan.places) {
            let Place::Unplaced(unplaced) = place else { continue };
            let (kind, meaning) = (unplaced.name(), unplaced.meaning());
            let new = || Kind { kind, meaning, operations: Vec::new(), places: Vec::new() };
            let kind = kinds.entry(*unplaced).or_insert_with(new);
            kind.operations.push(operation.shown.clone());
            kind.places.push(operation.at.clone());
        }
        let mut unplaced: Vec<_> = kinds.into_values().collect();
        unplaced.sort_by_key(|kind| std::cmp::Reverse(kind.operations.len()));
        let loud = plan.loud_reads.iter().filter_map(|(index, event_type)| {
            let operation = api.writes.get(*index)?.shown.clone();
            Some(LoudRead { operation, event_type: event_type.clone() })
        });
        Self {
            file,
            operations: api.operations,
            writes: api.writes.len(),
            placed: automatic + explicit,
            automatic,
            explicit,
            resources: plan.resources,
            unplaced,
            loud_reads: loud.collect(),
        }
    }

    /// The report for people, the share that is placed at its end.
    pub(super) fn print(&self, out: &mut impl Write) -> io::Result<()> {
        for Kind { meaning, operations, places, .. } in &self.unplaced {
            writeln!(out, "not placed, {}: {meaning}", operations.len())?;
            for (operation, place) in operations.iter().zip(places) {
                writeln!(out, "  {operation}  ({}: {place})", self.file)?;
            }
        }
        if !self.loud_reads.is_empty() {
            let count = self.loud_reads.len();
            writeln!(
                out,
                "seem to read, but would leave an event, {count}: if they only read, put them into ignore"
            )?;
            for LoudRead { operation, event_type } in &self.loud_reads {
                writeln!(out, "  {operation}  {event_type}")?;
            }
        }
        let Self { file, operations, writes, placed, automatic, explicit, resources, .. } = self;
        writeln!(out, "{file}: {operations} operations, {writes} of them write")?;
        writeln!(
            out,
            "  {automatic} need no resource, the automatic rule names them; {explicit} are named by {resources} resources"
        )?;
        let share = if *writes == 0 { 100.0 } else { 100.0 * *placed as f64 / *writes as f64 };
        writeln!(out, "  placed: {placed} of {writes} writes, {share:.1} %")
    }
}
