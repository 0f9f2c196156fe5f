//! Does this subscription want this event?
//!
//! Pure. [`Pattern`] is one entry of a subscription's `events`; [`Index`] finds all subscriptions of an event at a
//! cost that grows with the matches, not with the subscriptions. A subscription with a tenant sees that tenant's
//! events alone, and none of those without a tenant; one without is the operator's and sees all.

use std::collections::HashMap;
use std::fmt;
use std::hash::Hash;

use crate::limits;

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

    /// Whether an event type fits.
    pub fn matches(&self, event_type: &str) -> bool {
        match self {
            Self::All => true,
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
    entries: HashMap<(Option<String>, Pattern), Vec<K>>,
}

impl<K> Default for Index<K> {
    fn default() -> Self {
        Self { entries: HashMap::new() }
    }
}

impl<K: Clone + Eq + Hash + Ord> Index<K> {
    /// Adds a key under its patterns.
    pub fn insert(&mut self, key: &K, tenant: Option<&str>, patterns: &[Pattern]) {
        for pattern in patterns {
            self.entries.entry((tenant.map(str::to_owned), pattern.clone())).or_default().push(key.clone());
        }
    }

    /// Takes a key away again; tenant and patterns are those it was inserted with.
    pub fn remove(&mut self, key: &K, tenant: Option<&str>, patterns: &[Pattern]) {
        for pattern in patterns {
            let entry = (tenant.map(str::to_owned), pattern.clone());
            if let Some(keys) = self.entries.get_mut(&entry) {
                keys.retain(|other| other != key);
                if keys.is_empty() {
                    self.entries.remove(&entry);
                }
            }
        }
    }

    /// The keys that want an event, each once, in order.
    pub fn matching(&self, event_type: &str, tenant: Option<&str>) -> Vec<K> {
        let mut keys = Vec::new();
        let mut look = |pattern: Pattern| {
            let mut entry = (None, pattern);
            keys.extend(self.entries.get(&entry).into_iter().flatten().cloned());
            if let Some(tenant) = tenant {
                entry.0 = Some(tenant.to_owned());
                keys.extend(self.entries.get(&entry).into_iter().flatten().cloned());
            }
        };
        look(Pattern::All);
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

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
        index.insert(&"operator", None, &all);
        index.insert(&"blue", Some("blue"), &all);
        index.insert(&"red", Some("red"), &all);
        assert_eq!(index.matching("a.b", Some("blue")), ["blue", "operator"]);
        assert_eq!(index.matching("a.b", Some("green")), ["operator"]);
        assert_eq!(index.matching("a.b", Some("")), ["operator"]);
        assert_eq!(index.matching("a.b", None), ["operator"]);
        index.remove(&"blue", Some("blue"), &all);
        assert_eq!(index.matching("a.b", Some("blue")), ["operator"]);
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
            patterns in prop::collection::vec(("[ab]{1,2}(\\.[ab]){0,2}(\\.\\*)?|\\*", prop::option::of("[xy]")), 0..20),
            event_type in "[ab]{1,2}(\\.[ab]){0,3}\\.?",
            tenant in prop::option::of("[xy]"),
        ) {
            let mut index = Index::default();
            let mut expected = Vec::new();
            for (key, (pattern, owner)) in patterns.iter().enumerate() {
                let pattern = Pattern::parse(pattern).unwrap();
                index.insert(&key, owner.as_deref(), std::slice::from_ref(&pattern));
                if pattern.matches(&event_type) && may_see(owner.as_deref(), tenant.as_deref()) {
                    expected.push(key);
                }
            }
            prop_assert_eq!(index.matching(&event_type, tenant.as_deref()), expected);
        }
    }
}
