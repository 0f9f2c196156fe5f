//! From an exchange to its event type, or to nothing.
//!
//! Rules are asked twice. On the request, [`Rules::consider`] knows method and path and says whether the answer is worth
//! watching, so that everything else costs next to nothing. On the answer, [`Candidate::decide`] knows the status and,
//! where it matters, whether a new resource appeared. Explicit resources come first, in order, then the automatic rule.
//! What fits no rule is reported as such, never guessed. No clock, no host, no log.

mod automatic;
mod explicit;
mod memo;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::rc::Rc;

use crate::path::{self, Glob, Parameter};
use crate::singular::singular;

pub use automatic::word;
pub use explicit::Resource;
pub use memo::Memo;

/// Longest event type, in bytes; the companion refuses a longer one.
const MAX_TYPE: usize = 256;

/// The methods that write (RFC 9110); an exchange with another method is never looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Method {
    /// POST
    Post,
    /// PUT
    Put,
    /// PATCH
    Patch,
    /// DELETE
    Delete,
}

impl Method {
    /// The method of this exact (case-sensitive) name, if it writes.
    pub fn parse(name: &[u8]) -> Option<Self> {
        match name {
            b"POST" => Some(Self::Post),
            b"PUT" => Some(Self::Put),
            b"PATCH" => Some(Self::Patch),
            b"DELETE" => Some(Self::Delete),
            _ => None,
        }
    }

    /// The method's name on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Patch => "PATCH",
            Self::Delete => "DELETE",
        }
    }
}

/// Whether verbs say what the write does or what it did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Tense {
    /// `create`, `update`, `delete`
    #[default]
    Present,
    /// `created`, `updated`, `deleted`
    Past,
}

/// The compiled rules of one configuration.
#[derive(Debug, Clone, Default)]
pub struct Rules {
    /// Stands before every event type, with a dot.
    pub namespace: Option<String>,
    /// The tense of the three basic verbs.
    pub tense: Tense,
    /// Whether paths that no resource names are read by the automatic rule.
    pub automatic: bool,
    /// Whether the automatic rule puts the nouns above in front: `user.order.create`.
    pub nested: bool,
    /// Paths that leave no event and no trace.
    pub ignore: Vec<Glob>,
    /// Named resources, in the order in which they are tried.
    pub resources: Vec<Resource>,
    /// Verb (present tense) to its name in event types.
    pub verbs: BTreeMap<String, String>,
    /// Plural to singular, where the built-in rules get it wrong.
    pub singulars: BTreeMap<String, String>,
    /// The nouns of the segments that passed lately.
    pub nouns: Memo,
}

/// What a request alone tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The configuration wants nothing of it.
    Ignored,
    /// No rule fits; a success is to be counted.
    Unmatched,
    /// The answer decides.
    Watch(Candidate),
}

/// Which rule an event came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// The resource at this index of the configuration's `resources`.
    Resource(usize),
    /// The automatic rule.
    Automatic,
}

/// A request that becomes an event if its answer fits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// The rule that took it.
    pub source: Source,
    /// The request's method.
    pub method: Method,
    /// Path parameters in path order, percent-decoded.
    pub parameters: Vec<Parameter>,
    /// The statuses that count; `None` for any 2xx but 202.
    pub statuses: Option<Vec<u16>>,
    /// Whether the path is that of one resource, which may have been there before.
    pub on_item: bool,
    outcome: Outcome,
}

/// What an answer makes of a candidate.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Outcome {
    /// 201 creates; any other success does what `otherwise` says.
    Item { noun: Rc<str>, otherwise: Option<Cow<'static, str>> },
    /// A success does this to that, whatever its status.
    Always { noun: Rc<str>, verb: Cow<'static, str>, place: Place },
    /// 201 creates; otherwise a new id in the representation does.
    Collection { noun: Rc<str> },
    /// 201 creates a resource below the item; any other success is a verb on the item.
    Below { noun: Rc<str>, item_noun: Rc<str>, verb: Rc<str> },
}

/// An event type with its parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Match {
    /// `namespace.noun.verb`, the namespace only where one is configured.
    pub event_type: String,
    /// Where the resource stands, seen from the request's path.
    pub place: Place,
}

/// Where the resource that was written to stands, seen from the request's path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// At the path itself.
    Here,
    /// Below it, under the id that the representation bears.
    Below,
    /// Above it, because the path's end names an action: `/orders/7/cancel`, `/orders/7:cancel`.
    Above,
}

impl Rules {
    /// What is to be done with a request of this method and path (without its query).
    pub fn consider(&self, method: Method, path: &str) -> Verdict {
        let Some(segments) = path::segments(path) else { return Verdict::Unmatched };
        if self.ignore.iter().any(|glob| glob.matches(&segments)) {
            return Verdict::Ignored;
        }
        let explicit = self
            .resources
            .iter()
            .enumerate()
            .find_map(|(index, resource)| resource.consider(index, method, &segments));
        match explicit {
            Some(verdict) => verdict,
            None if self.automatic => automatic::consider(self, method, &segments),
            None => Verdict::Unmatched,
        }
    }

    /// The noun for a segment that names a collection: lower case, `[a-z0-9_]`, singular.
    pub fn noun(&self, segment: &str) -> Option<String> {
        let word = automatic::word(segment)?;
        let last = word.rfind('_').and_then(|at| word.split_at_checked(at + 1));
        let (head, last) = last.unwrap_or(("", &word));
        let given = self.singulars.get(&word).cloned();
        given
            .or_else(|| self.singulars.get(last).map(|one| format!("{head}{one}")))
            .or_else(|| Some(singular(&word)))
    }

    /// The same, known from the second time on.
    fn known_noun(&self, segment: &str) -> Option<Rc<str>> {
        self.nouns.get_or(segment, || self.noun(segment))
    }

    fn event_type(&self, noun: &str, verb: &str) -> String {
        let past = match (self.tense, verb) {
            (Tense::Past, "create") => "created",
            (Tense::Past, "update") => "updated",
            (Tense::Past, "delete") => "deleted",
            _ => verb,
        };
        let verb = self.verbs.get(verb).map_or(past, String::as_str);
        let namespace = self.namespace.as_deref().unwrap_or_default();
        let parts =
            if namespace.is_empty() { ["", "", noun, ".", verb] } else { [namespace, ".", noun, ".", verb] };
        parts.concat()
    }
}

impl Candidate {
    /// Whether an answer of this status counts at all.
    pub fn accepts(&self, status: u16) -> bool {
        match &self.statuses {
            Some(statuses) => statuses.contains(&status),
            None => (200..300).contains(&status) && status != 202,
        }
    }

    /// Whether [`decide`](Self::decide) may ask for a new id, so that the request's own body matters.
    pub fn may_ask_for_new_id(&self) -> bool {
        matches!(self.outcome, Outcome::Collection { .. })
    }

    /// The event type, given the answer; `None` where no rule fits it.
    ///
    /// `has_new_id` says whether the representation bears an id that the request did not; it is asked only if needed.
    pub fn decide(&self, rules: &Rules, status: u16, has_new_id: impl FnOnce() -> bool) -> Option<Match> {
        let created = status == 201;
        let (noun, verb, place) = match &self.outcome {
            Outcome::Always { noun, verb, place } => (noun, &**verb, *place),
            Outcome::Item { noun, .. } if created => (noun, "create", Place::Here),
            Outcome::Item { noun, otherwise } => (noun, otherwise.as_deref()?, Place::Here),
            Outcome::Collection { noun } if created || has_new_id() => (noun, "create", Place::Below),
            Outcome::Collection { .. } => return None,
            Outcome::Below { noun, .. } if created => (noun, "create", Place::Below),
            Outcome::Below { item_noun, verb, .. } => (item_noun, &**verb, Place::Above),
        };
        let event_type = rules.event_type(noun, verb);
        (event_type.len() <= MAX_TYPE).then_some(Match { event_type, place })
    }
}

/// The path with every id replaced by `{id}`, so that many paths share one shape in the log; at most 200 bytes.
pub fn shape(path: &str) -> String {
    let Some(segments) = path::segments(path) else { return "(not a path)".to_owned() };
    let mut shape = String::new();
    for segment in segments {
        if shape.len() + segment.len() > 200 {
            shape.push_str("/…");
            break;
        }
        shape.push('/');
        shape.push_str(if crate::identifier::looks_like_id(segment) { "{id}" } else { segment });
    }
    shape
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tense_namespace_and_renames_shape_the_type() {
        let mut rules = Rules { automatic: true, ..Rules::default() };
        assert_eq!(rules.event_type("order", "update"), "order.update");
        rules.tense = Tense::Past;
        assert_eq!(rules.event_type("order", "update"), "order.updated");
        assert_eq!(rules.event_type("order", "cancel"), "order.cancel");
        rules.verbs.insert("update".to_owned(), "change".to_owned());
        rules.namespace = Some("acme".to_owned());
        assert_eq!(rules.event_type("order", "update"), "acme.order.change");
    }

    #[test]
    fn an_override_mends_a_singular_even_in_a_compound() {
        let singulars = BTreeMap::from([("data".to_owned(), "datum".to_owned())]);
        let rules = Rules { singulars, ..Rules::default() };
        assert_eq!(rules.noun("data").as_deref(), Some("datum"));
        assert_eq!(rules.noun("sensor-data").as_deref(), Some("sensor_datum"));
        assert_eq!(rules.noun("orders").as_deref(), Some("order"));
    }

    #[test]
    fn ids_vanish_from_a_shape() {
        assert_eq!(shape("/v1/users/42/orders/7/settle"), "/v1/users/{id}/orders/{id}/settle");
        assert_eq!(shape("*"), "(not a path)");
        assert!(shape(&"/segment".repeat(60)).len() < 220);
    }
}
