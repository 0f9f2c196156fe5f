//! Resources that the configuration names.
//!
//! A resource that fits the path decides alone: what it does not want is not handed to the automatic rule. A path below
//! the item that is none of its actions is not its path, and goes on to the next rule.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::rc::Rc;

use super::{Candidate, Method, Outcome, Place, Source, Verdict};
use crate::path::{Fit, Template};
use crate::shape::Shape;

/// One entry of `resources`, compiled.
#[derive(Debug, Clone)]
pub struct Resource {
    /// The item's path; without its last parameter it is the collection's.
    pub template: Template,
    /// The noun in event types.
    pub noun: Rc<str>,
    /// Verbs given by method; `None` for methods that leave no event.
    pub verbs: BTreeMap<Method, Option<String>>,
    /// The same on the collection alone, before `verbs`.
    pub collection: BTreeMap<Method, Option<String>>,
    /// Last segment of `POST item/segment` to its verb.
    pub actions: BTreeMap<String, String>,
    /// The statuses that count; `None` for any 2xx but 202.
    pub statuses: Option<Vec<u16>>,
    /// How its answers are read.
    pub shape: Shape,
}

impl Resource {
    pub(super) fn consider(&self, index: usize, method: Method, path: &[&str]) -> Option<Verdict> {
        let noun = self.noun.clone();
        let fit = self.template.fit(path)?;
        let given = self.given(method, &fit);
        let on_item = matches!(fit, Fit::Item(_));
        let (parameters, outcome) = match fit {
            Fit::Action(parameters, action) => {
                let verb = self.actions.get(action).filter(|_| method == Method::Post)?;
                (parameters, Outcome::Always { noun, verb: verb.clone().into(), place: Place::Above })
            }
            Fit::Collection(_) | Fit::Item(_) if given == Some(&None) => return Some(Verdict::Ignored),
            Fit::Collection(parameters) => (parameters, self.on_collection(method, given)),
            Fit::Item(parameters) => (parameters, self.on_item(method, given)),
        };
        let (source, statuses) = (Source::Resource(index), self.statuses.clone());
        Some(Verdict::Watch(Candidate { source, method, parameters, statuses, on_item, outcome }))
    }

    /// The verb that the configuration gives a method there, if it says anything about it.
    pub(crate) fn given(&self, method: Method, fit: &Fit<'_>) -> Option<&Option<String>> {
        let own = self.collection.get(&method).filter(|_| matches!(fit, Fit::Collection(_)));
        own.or_else(|| self.verbs.get(&method))
    }

    /// A POST to the collection creates; another method there means something only if the configuration gives it a verb.
    fn on_collection(&self, method: Method, given: Option<&Option<String>>) -> Outcome {
        let noun = self.noun.clone();
        let posted = method == Method::Post;
        let place = if posted { Place::Below } else { Place::Here };
        match given {
            Some(Some(verb)) => Outcome::Always { noun, verb: verb.clone().into(), place },
            _ if posted => Outcome::Always { noun, verb: Cow::Borrowed("create"), place },
            _ => Outcome::Item { noun, otherwise: None },
        }
    }

    fn on_item(&self, method: Method, given: Option<&Option<String>>) -> Outcome {
        let noun = self.noun.clone();
        let verb = match method {
            Method::Put | Method::Patch => "update",
            Method::Delete => "delete",
            // A resource that stands alone, such as /v1/profile, is its own collection.
            Method::Post if !self.template.has_collection() => "create",
            Method::Post => return self.post_on_item(given),
        };
        match given {
            // PUT answered 201 creates, whatever an update is called.
            Some(verb) if method == Method::Put => {
                Outcome::Item { noun, otherwise: verb.clone().map(Cow::Owned) }
            }
            Some(Some(verb)) => Outcome::Always { noun, verb: verb.clone().into(), place: Place::Here },
            _ => Outcome::Item { noun, otherwise: Some(Cow::Borrowed(verb)) },
        }
    }

    /// A POST on an item means nothing by itself; a verb other than `create` says what the API means by it.
    fn post_on_item(&self, given: Option<&Option<String>>) -> Outcome {
        let otherwise = given.cloned().flatten().filter(|verb| verb != "create").map(Cow::Owned);
        Outcome::Item { noun: self.noun.clone(), otherwise }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Rules;
    use super::*;

    fn orders() -> Resource {
        let verbs = BTreeMap::from([(Method::Patch, Some("amend".to_owned())), (Method::Delete, None)]);
        Resource {
            template: Template::parse("/v1/orders/{number}").unwrap(),
            noun: "order".into(),
            verbs,
            collection: BTreeMap::new(),
            actions: BTreeMap::from([("mark-paid".to_owned(), "pay".to_owned())]),
            statuses: None,
            shape: Shape::default(),
        }
    }

    fn check(resource: Resource, request: &str, status: u16, expected: Option<&str>) {
        let rules = Rules { resources: vec![resource], ..Rules::default() };
        let (method, path) = request.split_once(' ').unwrap();
        let found = match rules.consider(Method::parse(method.as_bytes()).unwrap(), path) {
            Verdict::Watch(candidate) if candidate.accepts(status) => {
                candidate.decide(&rules, status, || false).map(|found| found.event_type)
            }
            Verdict::Watch(_) | Verdict::Unmatched => None,
            Verdict::Ignored => Some("ignored".to_owned()),
        };
        assert_eq!(found.as_deref(), expected, "{request} {status}");
    }

    #[test]
    fn a_collection_may_have_verbs_of_its_own() {
        let verbs = BTreeMap::from([(Method::Post, Some("amend".to_owned()))]);
        let collection = BTreeMap::from([
            (Method::Post, Some("place".to_owned())),
            (Method::Delete, Some("clear".to_owned())),
            (Method::Put, None),
        ]);
        let resource = || Resource { verbs: verbs.clone(), collection: collection.clone(), ..orders() };
        check(resource(), "POST /v1/orders", 201, Some("order.place"));
        check(resource(), "POST /v1/orders/7", 200, Some("order.amend"));
        check(resource(), "DELETE /v1/orders", 204, Some("order.clear"));
        check(resource(), "PUT /v1/orders", 200, Some("ignored"));
        check(resource(), "DELETE /v1/orders/7", 204, Some("order.delete"));
    }

    #[test]
    fn methods_give_verbs_on_item_and_collection() {
        check(orders(), "POST /v1/orders", 201, Some("order.create"));
        check(orders(), "POST /v1/orders", 200, Some("order.create"));
        check(orders(), "PUT /v1/orders/7", 200, Some("order.update"));
        check(orders(), "PUT /v1/orders/7", 201, Some("order.create"));
        check(orders(), "PATCH /v1/orders/7", 200, Some("order.amend"));
        check(orders(), "DELETE /v1/orders/7", 200, Some("ignored"));
        check(orders(), "POST /v1/orders/7/mark-paid", 200, Some("order.pay"));
        check(orders(), "POST /v1/orders/7", 200, None);
        check(orders(), "PUT /v1/orders", 200, None);
        check(orders(), "POST /v1/orders/7/ship", 200, None);
        check(orders(), "PUT /v1/orders/7/mark-paid", 200, None);
    }

    #[test]
    fn only_named_statuses_count_and_202_only_if_named() {
        check(orders(), "POST /v1/orders", 202, None);
        check(
            Resource { statuses: Some(vec![202]), ..orders() },
            "POST /v1/orders",
            202,
            Some("order.create"),
        );
        check(Resource { statuses: Some(vec![202]), ..orders() }, "POST /v1/orders", 201, None);
    }

    #[test]
    fn a_resource_that_stands_alone_is_created_and_changed_in_place() {
        let profile = || Resource { template: Template::parse("/v1/profile").unwrap(), ..orders() };
        check(profile(), "POST /v1/profile", 200, Some("order.create"));
        check(profile(), "PUT /v1/profile", 200, Some("order.update"));
    }

    #[test]
    fn a_post_on_an_item_means_what_the_configuration_says() {
        let mut stripe = orders();
        stripe.verbs.insert(Method::Post, Some("update".to_owned()));
        check(stripe, "POST /v1/orders/7", 200, Some("order.update"));
    }

    #[test]
    fn the_first_fitting_resource_decides_and_the_automatic_rule_takes_the_rest() {
        let rules = Rules { automatic: true, resources: vec![orders()], ..Rules::default() };
        assert_eq!(rules.consider(Method::Delete, "/v1/orders/7"), Verdict::Ignored);
        let Verdict::Watch(ship) = rules.consider(Method::Post, "/v1/orders/7/ship") else {
            panic!("not watched")
        };
        assert_eq!(ship.source, Source::Automatic);
    }
}
