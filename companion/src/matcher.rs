//! Does this subscription want this event?
//!
//! Pure. [`Pattern`] is one entry of a subscription's `events`; [`Index`] finds all subscriptions of an event at a
//! cost that grows with the matches, not with the subscriptions. A subscription with a tenant sees that tenant's
//! events alone, and none of those without a tenant; one without is the operator's and sees all.

use std::collections::HashMap;
use std::fmt;
use std::hash::Hash;
use std::sync::Arc;

use crate::condition::{Condition, Field, View};
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
    /// `*`
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

    /// Whether an event type fits. Events of our own ([`news`]) fit only what names them.
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

/// The keys of one tenant and pattern.
#[derive(Debug)]
struct Bucket<K> {
    /// Those whose condition must be looked at, or who have none.
    any: Vec<Member<K>>,
    /// Those whose condition needs a field to have a value, by field and value: of ten thousand that differ by a
    /// customer's id, an event finds its own without a look at the others.
    by_value: HashMap<Field, HashMap<String, Vec<Member<K>>>>,
}

#[derive(Debug)]
struct Member<K> {
    key: K,
    condition: Option<Arc<Condition>>,
}

impl<K> Default for Index<K> {
    fn default() -> Self {
        Self { buckets: HashMap::new() }
    }
}

impl<K> Default for Bucket<K> {
    fn default() -> Self {
        Self { any: Vec::new(), by_value: HashMap::new() }
    }
}

impl<K: Clone + Eq + Hash + Ord> Index<K> {
    /// Adds a key under its patterns.
    pub fn insert(
        &mut self,
        key: &K,
        tenant: Option<&str>,
        patterns: &[Pattern],
        condition: Option<&Arc<Condition>>,
    ) {
        for pattern in patterns {
            let bucket = self.buckets.entry((tenant.map(str::to_owned), pattern.clone())).or_default();
            let member = Member { key: key.clone(), condition: condition.cloned() };
            bucket.place(condition).push(member);
        }
    }

    /// Takes a key away again; tenant, patterns and condition are those it was inserted with.
    pub fn remove(
        &mut self,
        key: &K,
        tenant: Option<&str>,
        patterns: &[Pattern],
        condition: Option<&Arc<Condition>>,
    ) {
        for pattern in patterns {
            let entry = (tenant.map(str::to_owned), pattern.clone());
            if let Some(bucket) = self.buckets.get_mut(&entry) {
                bucket.place(condition).retain(|other| other.key != *key);
                bucket.by_value.retain(|_, values| {
                    values.retain(|_, members| !members.is_empty());
                    !values.is_empty()
                });
                if bucket.any.is_empty() && bucket.by_value.is_empty() {
                    self.buckets.remove(&entry);
                }
            }
        }
    }

    /// The keys that want an event, each once, in order.
    pub fn matching(&self, view: &View<'_>) -> Vec<K> {
        let (event_type, tenant) = (view.event.event_type.as_str(), view.event.tenant.as_deref());
        let mut keys = Vec::new();
        let mut look = |pattern: Pattern| {
            let mut entry = (None, pattern);
            self.buckets.get(&entry).inspect(|bucket| bucket.find(view, &mut keys));
            if let Some(tenant) = tenant {
                entry.0 = Some(tenant.to_owned());
                self.buckets.get(&entry).inspect(|bucket| bucket.find(view, &mut keys));
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
        keys.sort_unstable();
        keys.dedup();
        keys
    }
}

impl<K: Clone> Bucket<K> {
    /// Where a key with this condition stands.
    fn place(&mut self, condition: Option<&Arc<Condition>>) -> &mut Vec<Member<K>> {
        match condition.and_then(|condition| condition.discriminant()) {
            None => &mut self.any,
            Some((field, value)) => {
                self.by_value.entry(field.clone()).or_default().entry(value.to_owned()).or_default()
            }
        }
    }

    fn find(&self, view: &View<'_>, keys: &mut Vec<K>) {
        let by_value =
            self.by_value.iter().filter_map(|(field, values)| values.get(&view.key(field)?)).flatten();
        let wants =
            |member: &&Member<K>| member.condition.as_ref().is_none_or(|condition| condition.holds(view));
        keys.extend(self.any.iter().chain(by_value).filter(wants).map(|member| member.key.clone()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Event;
    use bytes::Bytes;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    fn event(event_type: &str, tenant: Option<&str>, data: &Value) -> Event {
        Event {
            id: "1".into(),
            source: "/test".into(),
            event_type: event_type.into(),
            subject: None,
            time: jiff::Timestamp::UNIX_EPOCH,
            datacontenttype: None,
            data: Some(Bytes::from(data.to_string())),
            tenant: tenant.map(str::to_owned),
            extensions: Default::default(),
        }
    }

    fn condition(value: &Value) -> Arc<Condition> {
        Arc::new(Condition::parse(value, "").unwrap())
    }

    fn check(pattern: &str, event_type: &str, expected: bool) {
        assert_eq!(Pattern::parse(pattern).unwrap().matches(event_type), expected, "{pattern} {event_type}");
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
        check("*", "gatehook.subscription.off", false);
        check("gatehook.*", "gatehook.subscription.off", true);
        check("gatehook.subscription.*", "gatehook.subscription.off", true);
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
        let matching = |index: &Index<&'static str>, event_type: &str, tenant| {
            index.matching(&View::new(&event(event_type, tenant, &Value::Null)))
        };
        assert_eq!(matching(&index, "a.b", Some("blue")), ["blue", "operator"]);
        assert_eq!(matching(&index, "a.b", Some("green")), ["operator"]);
        assert_eq!(matching(&index, "a.b", Some("")), ["operator"]);
        assert_eq!(matching(&index, "a.b", None), ["operator"]);
        assert!(matching(&index, "gatehook.subscription.off", None).is_empty());
        index.remove(&"blue", Some("blue"), &all, None);
        assert_eq!(matching(&index, "a.b", Some("blue")), ["operator"]);
    }

    #[test]
    fn of_ten_thousand_that_differ_by_a_value_an_event_looks_at_its_own() {
        let mut index = Index::default();
        for customer in 0..10_000 {
            let condition =
                condition(&json!([{"exact": {"/customer": customer}}, {"prefix": {"type": "order."}}]));
            index.insert(&customer, None, &[Pattern::All], Some(&condition));
        }
        let event = event("order.update", None, &json!({"customer": 4_242}));
        assert_eq!(index.matching(&View::new(&event)), [4_242]);
        let bucket = &index.buckets[&(None, Pattern::All)];
        assert!(bucket.any.is_empty() && bucket.by_value.len() == 1, "no other condition is looked at");
        let values = bucket.by_value.values().next().unwrap();
        assert!(values.values().all(|members| members.len() == 1));
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

    proptest! {
        #[test]
        fn the_index_finds_what_a_scan_finds(
            subscriptions in prop::collection::vec(
                ("[ab]{1,2}(\\.[ab]){0,2}(\\.\\*)?|\\*", prop::option::of("[xy]"), 0..5usize, any::<bool>()), 0..20),
            event_type in "[ab]{1,2}(\\.[ab]){0,3}\\.?",
            tenant in prop::option::of("[xy]"),
            customer in 0..3u8,
        ) {
            let conditions = [
                None,
                Some(condition(&json!({"exact": {"/customer": 1}}))),
                Some(condition(&json!([{"prefix": {"type": "a"}}, {"exact": {"/customer": 2}}]))),
                Some(condition(&json!({"not": {"exact": {"/customer": 1}}}))),
                Some(condition(&json!({"any": [{"exact": {"/customer": 0}}, {"exact": {"tenant": "x"}}]}))),
            ];
            let event = event(&event_type, tenant.as_deref(), &json!({"customer": customer}));
            let view = View::new(&event);
            let mut index = Index::default();
            let mut expected = Vec::new();
            let read: Vec<_> = subscriptions
                .iter()
                .map(|(pattern, owner, condition, stays)| (Pattern::parse(pattern).unwrap(), owner, &conditions[*condition], stays))
                .collect();
            for (key, (pattern, owner, condition, _)) in read.iter().enumerate() {
                index.insert(&key, owner.as_deref(), std::slice::from_ref(pattern), condition.as_ref());
            }
            for (key, (pattern, owner, condition, stays)) in read.iter().enumerate() {
                if !**stays {
                    index.remove(&key, owner.as_deref(), std::slice::from_ref(pattern), condition.as_ref());
                } else if pattern.matches(&event_type)
                    && may_see(owner.as_deref(), tenant.as_deref())
                    && condition.as_ref().is_none_or(|condition| condition.holds(&view))
                {
                    expected.push(key);
                }
            }
            prop_assert_eq!(index.matching(&view), expected);
        }
    }
}
