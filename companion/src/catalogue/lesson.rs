//! What one round learns: counts of all events that passed, and what the few tell that are looked into.
//!
//! Pure. Each event counts for two rows: the one of all, which operators see, and its tenant's. A tenant's row is learnt from
//! that tenant's events alone, so that it tells nothing of another's.

use std::collections::{BTreeMap, HashMap};

use serde_json::Value;

use super::observed::{Change, Observed, values};
use super::{read, sample, write};
use crate::limits;
use crate::model::Event;
use crate::news;
use crate::store::{Learnt, Passed, TypeKey};

/// What a round has learnt so far.
#[derive(Debug, Default)]
pub struct Lesson {
    rows: BTreeMap<TypeKey, Row>,
    changes: BTreeMap<String, Vec<Change>>,
}

/// One row.
#[derive(Debug)]
struct Row {
    learnt: Learnt,
    /// What is known of its data, and the last of them, where any were looked at.
    looked: Option<(Observed, Value)>,
}

/// The rows that an event counts for.
fn keys(event_type: &str, tenant: Option<&str>) -> impl Iterator<Item = TypeKey> {
    let own = tenant.map(|tenant| Some(tenant.to_owned()));
    let event_type = event_type.to_owned();
    [Some(None), own]
        .into_iter()
        .flatten()
        .map(move |tenant| TypeKey { tenant, event_type: event_type.clone() })
}

/// The events to look into: the newest of each type and tenant, with data that are not too large.
pub fn choose(passed: &[Passed]) -> Vec<i64> {
    let (mut chosen, mut bytes) = (Vec::new(), 0);
    let mut counts: HashMap<(&str, Option<&str>), usize> = HashMap::new();
    let newest = || passed.iter().rev().filter(|event| is_traffic(&event.event_type));
    // One of each first, so that nothing rare is left out for what is not.
    for most in [1, limits::CATALOGUE_LOOKED] {
        for event in newest() {
            let Some(size) = event.size.filter(|size| *size <= limits::CATALOGUE_DATA) else { continue };
            let count = counts.entry((&event.event_type, event.tenant.as_deref())).or_default();
            let is_enough = *count >= most || bytes + size > limits::CATALOGUE_BYTES;
            if is_enough || chosen.len() == limits::CATALOGUE_LOOKED_ALL || chosen.contains(&event.seq) {
                continue;
            }
            (*count, bytes) = (*count + 1, bytes + size);
            chosen.push(event.seq);
        }
    }
    chosen.sort_unstable();
    chosen
}

/// The rows whose states are needed to look into events.
pub fn needed<'a>(events: impl IntoIterator<Item = &'a Event>) -> Vec<TypeKey> {
    let keys = events.into_iter().flat_map(|event| keys(&event.event_type, event.tenant.as_deref()));
    let mut keys: Vec<TypeKey> = keys.collect();
    keys.sort_unstable();
    keys.dedup();
    keys
}

/// Our own events are no traffic.
fn is_traffic(event_type: &str) -> bool {
    !event_type.starts_with(news::PREFIX)
}

impl Lesson {
    /// Counts events.
    pub fn count(&mut self, passed: &[Passed]) {
        for event in passed.iter().filter(|event| is_traffic(&event.event_type)) {
            for key in keys(&event.event_type, event.tenant.as_deref()) {
                let at = event.accepted_at;
                let row = self.rows.entry(key.clone()).or_insert_with(|| Row {
                    learnt: Learnt { key, count: 0, first_at: at, last_at: at, state: None },
                    looked: None,
                });
                row.learnt.count += 1;
                row.learnt.first_at = row.learnt.first_at.min(at);
                row.learnt.last_at = row.learnt.last_at.max(at);
            }
        }
    }

    /// Looks into an event that was counted. Data that are not JSON, or have too many values, say nothing.
    pub fn look(&mut self, event: &Event, states: &BTreeMap<TypeKey, String>) {
        let data = event.data.as_deref().filter(|_| event.is_json());
        let data: Option<Value> = data.and_then(|data| serde_json::from_slice(data).ok());
        let few = |data: &Value| values(data, limits::CATALOGUE_VALUES) < limits::CATALOGUE_VALUES;
        let Some(data) = data.filter(few) else { return };
        for key in keys(&event.event_type, event.tenant.as_deref()) {
            let Some(row) = self.rows.get_mut(&key) else { continue };
            let state = || states.get(&key).map(|state| read(state)).unwrap_or_default();
            let (observed, last) = row.looked.get_or_insert_with(|| (state(), Value::Null));
            let changes = observed.learn(&data);
            *last = data.clone();
            if key.tenant.is_none() && !changes.is_empty() {
                self.changes.entry(key.event_type).or_default().extend(changes);
            }
        }
    }

    /// The rows as they are to be written, and what has changed, by event type.
    pub fn finish(self) -> (Vec<Learnt>, BTreeMap<String, Vec<Change>>) {
        let rows = self.rows.into_values().map(|Row { learnt, looked }| {
            let state = looked.map(|(observed, last)| {
                let sample = sample::sample(&last, &observed).map(|sample| sample.to_string());
                (write(&observed), sample)
            });
            Learnt { state, ..learnt }
        });
        let changes = self.changes.into_iter().map(|(event_type, mut changes)| {
            changes.truncate(limits::CATALOGUE_CHANGES);
            (event_type, changes)
        });
        (rows.collect(), changes.collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::Timestamp;

    fn event(event_type: &str, tenant: Option<&str>, data: Option<&str>) -> Event {
        Event {
            id: "1".into(),
            source: "/t".into(),
            event_type: event_type.into(),
            subject: None,
            time: Timestamp::UNIX_EPOCH,
            datacontenttype: None,
            data: data.map(|data| data.to_owned().into()),
            tenant: tenant.map(str::to_owned),
            extensions: Default::default(),
        }
    }

    fn passed(seq: i64, event: &Event) -> Passed {
        Passed {
            seq,
            tenant: event.tenant.clone(),
            event_type: event.event_type.clone(),
            accepted_at: Timestamp::from_second(seq).unwrap(),
            size: event.data.as_ref().map(bytes::Bytes::len),
        }
    }

    fn check(events: &[Event], expected: &[(&str, Option<&str>, u64, Option<&str>)]) {
        let mut lesson = Lesson::default();
        let passed: Vec<_> = events.iter().enumerate().map(|(at, event)| passed(at as i64, event)).collect();
        lesson.count(&passed);
        events.iter().for_each(|event| lesson.look(event, &BTreeMap::new()));
        let (rows, changes) = lesson.finish();
        assert_eq!(changes, BTreeMap::new());
        let rows: Vec<_> = rows
            .iter()
            .map(|row| {
                let sample = row.state.as_ref().and_then(|(_, sample)| sample.as_deref());
                (row.key.event_type.as_str(), row.key.tenant.as_deref(), row.count, sample)
            })
            .collect();
        assert_eq!(rows, expected);
    }

    #[test]
    fn an_event_counts_for_all_and_for_its_tenant_alone() {
        let events = [
            event("a.b", Some("blue"), Some(r#"{"x":1}"#)),
            event("a.b", Some("red"), Some(r#"{"y":"z"}"#)),
            event("a.b", None, None),
        ];
        check(
            &events,
            &[
                ("a.b", None, 3, Some(r#"{"y":"x"}"#)),
                ("a.b", Some("blue"), 1, Some(r#"{"x":0}"#)),
                ("a.b", Some("red"), 1, Some(r#"{"y":"x"}"#)),
            ],
        );
    }

    #[test]
    fn our_own_events_and_what_is_no_json_teach_nothing() {
        let text = Event { datacontenttype: Some("text/plain".into()), ..event("a.text", None, Some("1")) };
        let deep = "[".repeat(500) + &"]".repeat(500);
        let many = format!("[{}1]", "1,".repeat(limits::CATALOGUE_VALUES));
        check(
            &[
                event("gatehook.schema.changed", None, Some("{}")),
                text,
                event("b.broken", None, Some("{")),
                event("c.deep", None, Some(&deep)),
                event("d.many", None, Some(&many)),
            ],
            &[
                ("a.text", None, 1, None),
                ("b.broken", None, 1, None),
                ("c.deep", None, 1, None),
                ("d.many", None, 1, None),
            ],
        );
    }

    #[test]
    fn the_newest_few_of_each_are_looked_into() {
        let (own, other) = (event("a.b", Some("blue"), Some("{}")), event("a.c", None, Some("{}")));
        let thin = event("a.b", Some("blue"), None);
        let mut all: Vec<Passed> = (0..50).map(|seq| passed(seq, &own)).collect();
        all.extend([
            passed(50, &other),
            passed(51, &thin),
            passed(52, &event("gatehook.x", None, Some("{}"))),
        ]);
        all.push(Passed { size: Some(limits::CATALOGUE_DATA + 1), ..passed(53, &own) });
        assert_eq!(choose(&all), (40..=50).collect::<Vec<_>>());
        let large: Vec<Passed> = (0..50)
            .map(|seq| Passed {
                size: Some(limits::CATALOGUE_DATA),
                tenant: Some(seq.to_string()),
                ..passed(seq, &own)
            })
            .collect();
        assert_eq!(choose(&large).len(), limits::CATALOGUE_BYTES / limits::CATALOGUE_DATA);
        let many: Vec<Passed> =
            (0..500).map(|seq| Passed { tenant: Some(seq.to_string()), ..passed(seq, &own) }).collect();
        assert_eq!(choose(&many).len(), limits::CATALOGUE_LOOKED_ALL);
    }

    #[test]
    fn a_change_of_a_tenants_own_row_is_nobodys_news() {
        let mut states = BTreeMap::new();
        let mut learn = |event: &Event| {
            let mut lesson = Lesson::default();
            lesson.count(&[passed(1, event)]);
            lesson.look(event, &states);
            let (rows, changes) = lesson.finish();
            for row in rows {
                states.insert(row.key, row.state.unwrap().0);
            }
            changes
        };
        for _ in 0..25 {
            assert!(learn(&event("a.b", Some("blue"), Some(r#"{"x":1}"#))).is_empty());
            assert!(learn(&event("a.b", Some("red"), Some(r#"{"x":"1"}"#))).is_empty());
        }
        assert!(learn(&event("a.b", Some("blue"), Some(r#"{"x":"1"}"#))).is_empty(), "new to blue alone");
        assert_eq!(learn(&event("a.b", Some("blue"), Some(r#"{"x":null}"#)))["a.b"].len(), 1);
    }
}
