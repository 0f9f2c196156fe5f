//! Does this subscription want this event?
//!
//! Pure. [`Pattern`] is one entry of a subscription's `events`; [`Index`] finds all subscriptions of an event at a
//! cost that grows with the matches, not with the subscriptions, also where these differ by their conditions alone. A
//! subscription with a tenant sees that tenant's events alone, and none of those without a tenant; one without is the
//! operator's and sees all.

use std::collections::HashMap;
use std::fmt;
use std::hash::Hash;

use crate::condition::{Condition, Field, Scalar, View};
use crate::limits;
use crate::news;

/// Whether a subscription of `owner` may see an event of `tenant`. An event without a tenant is the operator's alone: it
/// may be anybody's.
pub fn may_see(owner: Option<&str>, tenant: Option<&str>) -> bool {
    owner.is_none() || owner == tenant
}

/// One entry of `events`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Pattern {
    /// `*`: all but the companion's own news ([`news::PREFIX`])
    All,
    /// `contact.*`, kept as `contact.`
    Prefix(String),
    /// `contact.create`
    Exact(String),
}

impl Pattern {
    /// Reads a pattern.
    ///
    /// # Errors
    /// A sentence that says what is allowed.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty()
            || text.len() > limits::EVENT_TYPE
            || text.chars().any(|c| c.is_control() || c.is_whitespace())
        {
            return Err(format!(
                "an event type has 1 to {} characters and no white space",
                limits::EVENT_TYPE
            ));
        }
        match text.strip_suffix(".*") {
            _ if text == "*" => Ok(Self::All),
            Some(prefix) if !prefix.is_empty() && !prefix.contains('*') => {
                Ok(Self::Prefix(format!("{prefix}.")))
            }
            None if !text.contains('*') => Ok(Self::Exact(text.to_owned())),
            _ => Err(format!("`{text}`: a star stands alone (`*`) or for the end of a type (`contact.*`)")),
        }
    }

    /// Whether an event type fits.
    pub fn matches(&self, event_type: &str) -> bool {
        match self {
            Self::All => !event_type.starts_with(news::PREFIX),
            Self::Prefix(prefix) => event_type.len() > prefix.len() && event_type.starts_with(prefix),
            Self::Exact(exact) => event_type == exact,
        }
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("*"),
            Self::Prefix(prefix) => write!(f, "{prefix}*"),
            Self::Exact(exact) => f.write_str(exact),
        }
    }
}

/// Which keys (subscriptions) want which events.
#[derive(Debug)]
pub struct Index<K> {
    buckets: HashMap<(Option<String>, Pattern), Bucket<K>>,
}

/// The keys of one tenant and one pattern. A key with a condition stands under one atom that the condition cannot hold
/// without, where it has one: an event then finds it by the value in that field.
#[derive(Debug)]
struct Bucket<K> {
    open: Vec<Candidate<K>>,
    by_value: HashMap<Field, HashMap<Scalar<'static>, Vec<Candidate<K>>>>,
}

/// A key, and what remains to be asked of an event.
type Candidate<K> = (K, Option<Condition>);

impl<K> Default for Index<K> {
    fn default() -> Self {
        Self { buckets: HashMap::new() }
    }
}

impl<K: Clone + Eq + Hash + Ord> Index<K> {
    /// Adds a key under its patterns.
    pub fn insert(
        &mut self,
        key: &K,
        tenant: Option<&str>,
        patterns: &[Pattern],
        condition: Option<&Condition>,
    ) {
        for pattern in patterns {
            let bucket = self.buckets.entry((tenant.map(str::to_owned), pattern.clone())).or_default();
            bucket.list(condition).push((key.clone(), condition.cloned()));
        }
    }

    /// Takes a key away again; all else is what it was inserted with.
    pub fn remove(
        &mut self,
        key: &K,
        tenant: Option<&str>,
        patterns: &[Pattern],
        condition: Option<&Condition>,
    ) {
        for pattern in patterns {
            let place = (tenant.map(str::to_owned), pattern.clone());
            if let Some(bucket) = self.buckets.get_mut(&place) {
                bucket.remove(key, condition);
                if bucket.open.is_empty() && bucket.by_value.is_empty() {
                    self.buckets.remove(&place);
                }
            }
        }
    }

    /// The keys that want an event, each once, in order.
    pub fn matching(&self, view: &View<'_>) -> Vec<K> {
        let candidates = self.candidates(view).into_iter();
        candidates
            .filter(|(_, condition)| condition.as_ref().is_none_or(|condition| condition.matches(view)))
            .map(|(key, _)| key.clone())
            .collect()
    }

    /// The keys whose conditions must be asked, or have none, each once, in order.
    fn candidates<'a>(&'a self, view: &'a View<'_>) -> Vec<&'a Candidate<K>> {
        let (event_type, tenant) = (view.event().event_type.as_str(), view.event().tenant.as_deref());
        let mut candidates = Vec::new();
        let mut look = |pattern: Pattern| {
            let mut place = (None, pattern);
            if let Some(bucket) = self.buckets.get(&place) {
                bucket.look(view, &mut candidates);
            }
            if let Some(tenant) = tenant {
                place.0 = Some(tenant.to_owned());
                if let Some(bucket) = self.buckets.get(&place) {
                    bucket.look(view, &mut candidates);
                }
            }
        };
        if Pattern::All.matches(event_type) {
            look(Pattern::All);
        }
        look(Pattern::Exact(event_type.to_owned()));
        for (dot, _) in event_type.match_indices('.') {
            if dot + 1 < event_type.len() {
                look(Pattern::Prefix(event_type[..=dot].to_owned()));
            }
        }
        candidates.sort_unstable_by_key(|(key, _)| key);
        candidates.dedup_by_key(|(key, _)| key);
        candidates
    }
}

impl<K> Default for Bucket<K> {
    fn default() -> Self {
        Self { open: Vec::new(), by_value: HashMap::new() }
    }
}

impl<K: Eq> Bucket<K> {
    /// Where a key with this condition goes: under the atom with the fewest keys so far, so that what all conditions
    /// share (`"status": "paid"`) gives way to what tells them apart. Among equals a field that is looked at anyway wins.
    fn list(&mut self, condition: Option<&Condition>) -> &mut Vec<Candidate<K>> {
        let atoms = condition.map(Condition::necessary).unwrap_or_default();
        let crowd = |field, value| {
            let values = self.by_value.get(field);
            (values.and_then(|values| values.get(value)).map_or(0, Vec::len), values.is_none())
        };
        match atoms.into_iter().min_by_key(|atom| crowd(&atom.field, &atom.value)) {
            Some(atom) => {
                let values = self.by_value.entry(atom.field.clone()).or_default();
                values.entry(atom.value.clone()).or_default()
            }
            None => &mut self.open,
        }
    }

    fn remove(&mut self, key: &K, condition: Option<&Condition>) {
        self.open.retain(|(other, _)| other != key);
        for atom in condition.map(Condition::necessary).unwrap_or_default() {
            let Some(values) = self.by_value.get_mut(&atom.field) else { continue };
            if let Some(keys) = values.get_mut(&atom.value) {
                keys.retain(|(other, _)| other != key);
                if keys.is_empty() {
                    values.remove(&atom.value);
                }
            }
            if values.is_empty() {
                self.by_value.remove(&atom.field);
            }
        }
    }

    /// Adds the keys whose conditions an event may meet.
    fn look<'a>(&'a self, view: &'a View<'_>, candidates: &mut Vec<&'a Candidate<K>>) {
        candidates.extend(&self.open);
        for (field, values) in &self.by_value {
            let found = view.scalar(field).and_then(|scalar| values.get(&scalar));
            candidates.extend(found.into_iter().flatten());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Event;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    fn check(pattern: &str, event_type: &str, expected: bool) {
        let pattern = Pattern::parse(pattern).unwrap();
        assert_eq!(pattern.matches(event_type), expected, "{pattern} {event_type}");
        let mut index = Index::default();
        index.insert(&1, None, std::slice::from_ref(&pattern), None);
        let found = index.matching(&View::new(&event(event_type, None, &json!(null))));
        assert_eq!(found, [1].repeat(usize::from(expected)), "the index: {pattern} {event_type}");
    }

    fn event(event_type: &str, tenant: Option<&str>, data: &Value) -> Event {
        Event {
            id: "1".into(),
            source: "/test".into(),
            event_type: event_type.into(),
            subject: data["subject"].as_str().map(str::to_owned),
            time: jiff::Timestamp::UNIX_EPOCH,
            datacontenttype: None,
            data: Some(data.to_string().into()),
            tenant: tenant.map(str::to_owned),
            extensions: Default::default(),
        }
    }

    fn condition(value: &Value) -> Condition {
        Condition::parse(value).unwrap()
    }

    #[test]
    fn patterns_match_exactly_by_prefix_or_all() {
        check("contact.create", "contact.create", true);
        check("contact.create", "contact.created", false);
        check("contact.*", "contact.create", true);
        check("contact.*", "contact.", false);
        check("contact.*", "contacts.create", false);
        check("acme.*", "acme.contact.create", true);
        check("*", "anything", true);
    }

    #[test]
    fn the_companions_own_news_must_be_named() {
        for (pattern, expected) in [
            ("*", false),
            ("gatehook.*", true),
            ("gatehook.subscription.*", true),
            ("gatehook.subscription.off", true),
            ("gatehook.subscription", false),
            ("gatehook.delivery.*", false),
        ] {
            check(pattern, "gatehook.subscription.off", expected);
        }
        check("*", "gatehook", true);
        check("*", "gatehooks.create", true);
        check("*", "acme.gatehook.create", true);
    }

    #[test]
    fn a_star_elsewhere_is_refused() {
        for wrong in ["", "*.create", "con*", "a.*.b", "**", ".*", "a b", "contact.**", "*.*"] {
            assert!(Pattern::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_tenant_sees_its_own_events_and_the_operator_all() {
        let mut index = Index::default();
        let all = [Pattern::All];
        index.insert(&"operator", None, &all, None);
        index.insert(&"blue", Some("blue"), &all, None);
        index.insert(&"red", Some("red"), &all, None);
        let found =
            |index: &Index<_>, tenant| index.matching(&View::new(&event("a.b", tenant, &json!(null))));
        assert_eq!(found(&index, Some("blue")), ["blue", "operator"]);
        assert_eq!(found(&index, Some("green")), ["operator"]);
        assert_eq!(found(&index, Some("")), ["operator"]);
        assert_eq!(found(&index, None), ["operator"]);
        index.remove(&"blue", Some("blue"), &all, None);
        assert_eq!(found(&index, Some("blue")), ["operator"]);
    }

    #[test]
    fn who_may_see_what() {
        for (owner, tenant, expected) in [
            (None, None, true),
            (None, Some("blue"), true),
            (Some("blue"), Some("blue"), true),
            (Some("blue"), Some("red"), false),
            (Some("blue"), Some("Blue"), false),
            (Some("blue"), None, false),
        ] {
            assert_eq!(may_see(owner, tenant), expected, "{owner:?} {tenant:?}");
        }
    }

    #[test]
    fn only_candidates_are_asked_where_ten_thousand_differ_by_a_condition() {
        let count = 10_000;
        let wants: [fn(usize) -> Value; 4] = [
            |i| json!({"exact": {"/customer": format!("c{i}")}}),
            |i| json!({"exact": {"subject": format!("/contacts/{i}")}}),
            |i| json!({"exact": {"type": "order.update", "/status": "paid", "/customer": format!("c{i}")}}),
            |i| json!([{"prefix": {"type": "order."}}, {"all": [{"exact": {"/n": i}}, {"exact": {"/ok": true}}]}]),
        ];
        for want in wants {
            let mut index = Index::default();
            let conditions: Vec<_> = (0..count).map(|key| condition(&want(key))).collect();
            for (key, condition) in conditions.iter().enumerate() {
                index.insert(&key, None, &[Pattern::All], Some(condition));
            }
            let data = json!({"customer": "c42", "subject": "/contacts/42", "status": "paid", "n": 42.0, "ok": true});
            let event = event("order.update", None, &data);
            let view = View::new(&event);
            assert_eq!(index.matching(&view), [42], "{}", want(42));
            assert!(index.candidates(&view).len() <= 2, "{}", want(42));
            for (key, condition) in conditions.iter().enumerate() {
                index.remove(&key, None, &[Pattern::All], Some(condition));
            }
            assert!(index.buckets.is_empty());
        }
    }

    #[test]
    fn a_key_under_several_patterns_is_asked_once() {
        let mut index = Index::default();
        let patterns = ["*", "a.*", "a.b"].map(|text| Pattern::parse(text).unwrap());
        index.insert(&1, None, &patterns, Some(&condition(&json!({"prefix": {"type": "a"}}))));
        let event = event("a.b", None, &json!(null));
        assert_eq!(index.candidates(&View::new(&event)).len(), 1);
    }

    fn filter() -> impl Strategy<Value = Value> {
        let value = prop_oneof![Just(json!(1)), Just(json!(1.0)), Just(json!("x")), Just(json!(null))];
        let leaf = prop_oneof![
            prop::collection::btree_map("/[ab]", value, 1..3).prop_map(|members| json!({"exact": members})),
            "[xy]".prop_map(|subject| json!({"exact": {"subject": subject}})),
            "[ab]".prop_map(|start| json!({"prefix": {"type": start}})),
        ];
        leaf.prop_recursive(3, 8, 3, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 1..3).prop_map(|all| json!({"all": all})),
                prop::collection::vec(inner.clone(), 1..3).prop_map(|any| json!({"any": any})),
                inner.prop_map(|not| json!({"not": not})),
            ]
        })
    }

    proptest! {
        #[test]
        fn the_index_finds_what_a_scan_finds(
            subscriptions in prop::collection::vec((
                prop::collection::vec("[ab]{1,2}(\\.[ab]){0,2}(\\.\\*)?|\\*|gatehook\\.(\\*|a)", 1..3),
                prop::option::of("[xy]"),
                prop::option::of(filter()),
                any::<bool>(),
            ), 0..20),
            event_type in "[ab]{1,2}(\\.[ab]){0,3}\\.?|gatehook\\.[ab]",
            tenant in prop::option::of("[xy]"),
            data in prop::collection::btree_map("[ab]|subject", prop_oneof![Just(json!(1)), Just(json!("x"))], 0..3),
        ) {
            let event = event(&event_type, tenant.as_deref(), &json!(data));
            let view = View::new(&event);
            let (mut index, mut expected) = (Index::default(), Vec::new());
            let subscriptions: Vec<_> = subscriptions.into_iter().map(|(patterns, owner, filter, is_kept)| {
                let patterns: Vec<_> = patterns.iter().map(|text| Pattern::parse(text).unwrap()).collect();
                (patterns, owner, filter.as_ref().map(condition), is_kept)
            }).collect();
            for (key, (patterns, owner, condition, is_kept)) in subscriptions.iter().enumerate() {
                index.insert(&key, owner.as_deref(), patterns, condition.as_ref());
                // Every other one goes away at once, the rest when all have come: removals meet crowds of any size.
                if !is_kept && key % 2 == 0 {
                    index.remove(&key, owner.as_deref(), patterns, condition.as_ref());
                }
                let is_wanted = patterns.iter().any(|pattern| pattern.matches(&event_type))
                    && may_see(owner.as_deref(), tenant.as_deref())
                    && condition.as_ref().is_none_or(|condition| condition.matches(&view));
                if *is_kept && is_wanted {
                    expected.push(key);
                }
            }
            for (key, (patterns, owner, condition, is_kept)) in subscriptions.iter().enumerate() {
                if !is_kept && key % 2 == 1 {
                    index.remove(&key, owner.as_deref(), patterns, condition.as_ref());
                }
            }
            prop_assert_eq!(index.matching(&view), expected);
            for (key, (patterns, owner, condition, _)) in subscriptions.iter().enumerate() {
                index.remove(&key, owner.as_deref(), patterns, condition.as_ref());
            }
            prop_assert!(index.buckets.is_empty());
        }
    }
}
