//! How a resource's answers are read: envelope, elements, id, what may leave, and whose it is.
//!
//! One shape for each resource of the configuration, and one for everything that the automatic rule takes.

use crate::exchange::Media;
use crate::identity::Identity;
use crate::json::Json;
use crate::path::Template;
use crate::privacy::Privacy;

/// The shape of one resource's answers.
#[derive(Debug, Clone, Default)]
pub struct Shape {
    /// Where in the answer the representation stands; empty for the whole.
    pub unwrap: Vec<String>,
    /// Where in the representation the array stands of which each element is a resource.
    pub explode: Option<Vec<String>>,
    /// Where in the representation its id stands; `None` for the usual names.
    pub id: Option<Vec<String>>,
    /// The subject, with the path's parameters and `{id}` filled in; `None` for what the exchange tells.
    pub subject: Option<Template>,
    /// What of a representation may leave Envoy.
    pub privacy: Privacy,
    /// Whether the answer is taken for the representation.
    pub representation: Representation,
    /// Whether the representation is read before an item is written to.
    pub previous: bool,
    /// Where the tenant is read; `None` if there are none.
    pub tenant: Option<Identity>,
    /// Where the actor is read.
    pub actor: Option<Identity>,
}

/// Where the representation of a written resource comes from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Representation {
    /// From the answer, whatever it holds.
    #[default]
    Answer,
    /// From the answer if it is an object with an id, else by GET.
    Fetch,
    /// By GET, always.
    Always,
}

impl Shape {
    /// The id of a representation.
    pub fn id(&self, json: Json<'_>, media: Media) -> Option<String> {
        match &self.id {
            Some(pointer) => json.at(pointer)?.name(),
            // JSON:API keeps the resource, and with it the id, in `data` (jsonapi.org, 1.1, 5.2).
            None if media == Media::JsonApi => json.id().or_else(|| json.at(&["data".to_owned()])?.id()),
            None => json.id(),
        }
    }

    /// Whether events of this shape need more than the answer in hand.
    pub fn wants_fetch(&self, answer: Option<Json<'_>>, media: Media) -> bool {
        let whole = || answer.is_some_and(|json| json.is_object() && self.id(json, media).is_some());
        let may = !self.privacy.none && self.explode.is_none();
        may && match self.representation {
            Representation::Answer => false,
            Representation::Fetch => !whole(),
            Representation::Always => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(representation: Representation) -> Shape {
        Shape { representation, ..Shape::default() }
    }

    #[test]
    fn an_answer_without_an_id_is_partial() {
        for (representation, text, wants) in [
            (Representation::Answer, "", false),
            (Representation::Fetch, "", true),
            (Representation::Fetch, r#"{"ok":true}"#, true),
            (Representation::Fetch, r#"[{"id":7}]"#, true),
            (Representation::Fetch, r#"{"id":7}"#, false),
            (Representation::Always, r#"{"id":7}"#, true),
        ] {
            let json = Json::parse(text.as_bytes());
            assert_eq!(
                shape(representation).wants_fetch(json, Media::Json),
                wants,
                "{representation:?} {text}"
            );
        }
    }

    #[test]
    fn an_id_stands_where_the_configuration_or_the_media_type_says() {
        let json = Json::parse(br#"{"data":{"id":"7","type":"contacts"},"meta":{"key":9}}"#).unwrap();
        let pointed = Shape { id: Some(vec!["meta".into(), "key".into()]), ..Shape::default() };
        assert_eq!(pointed.id(json, Media::Json).as_deref(), Some("9"));
        assert_eq!(Shape::default().id(json, Media::Json), None);
        assert_eq!(Shape::default().id(json, Media::JsonApi).as_deref(), Some("7"));
    }
}
