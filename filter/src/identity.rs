//! On whose behalf an exchange ran: the tenant, and the actor within it.
//!
//! The configuration names the source, and nothing else is looked at: a header that callers could forge counts only where
//! an operator knows that something before the filter sets it.

use crate::headers::Headers;
use crate::json::Json;
use crate::path::Parameter;

/// Where jwt_authn leaves the verified claims.
const JWT_FILTER: &str = "envoy.filters.http.jwt_authn";

/// Longest tenant or actor; the companion takes no longer one.
const MAX_BYTES: usize = 256;

/// Where a tenant or an actor is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Identity {
    /// A request header, in lower case.
    Header(String),
    /// A claim of a token that Envoy's jwt_authn has verified.
    Jwt {
        /// The key that jwt_authn's `payload_in_metadata` names; Istio's is `payload`.
        keys: Vec<String>,
        /// The way to the claim.
        claim: Vec<String>,
    },
    /// A parameter of the request's path.
    Parameter(String),
    /// A field of the representation, before anything is removed from it.
    Field(Vec<String>),
}

/// What an exchange offers to read from.
pub struct Sources<'a> {
    /// The request's headers.
    pub headers: &'a Headers,
    /// The path's parameters.
    pub parameters: &'a [Parameter],
    /// The representation, if there is one.
    pub representation: Option<Json<'a>>,
    /// A property of the stream.
    pub property: &'a dyn Fn(&[&str]) -> Option<Vec<u8>>,
}

impl Identity {
    /// The identity, if the exchange bears one: visible ASCII and spaces, at most 256 bytes.
    pub fn read(&self, sources: &Sources<'_>) -> Option<String> {
        let found = match self {
            Self::Header(name) => {
                let mut values = sources.headers.iter().filter(|(own, _)| *own == name.as_bytes());
                let value = values.next().map(|(_, value)| value.to_vec());
                // Two values of one header leave open which of them the API heeded.
                value.filter(|_| values.next().is_none()).and_then(|value| String::from_utf8(value).ok())
            }
            Self::Jwt { keys, claim } => keys.iter().find_map(|key| {
                let mut path = vec!["metadata", "filter_metadata", JWT_FILTER, key];
                path.extend(claim.iter().map(String::as_str));
                (sources.property)(&path).and_then(|value| metadata_text(&value))
            }),
            Self::Parameter(name) => {
                let found = sources.parameters.iter().find(|(own, _)| own == name);
                found.map(|(_, value)| value.clone())
            }
            Self::Field(pointer) => {
                sources.representation.and_then(|json| json.at(pointer)).and_then(Json::name)
            }
        };
        let found = found.map(|value| value.trim().to_owned());
        found.filter(|value| {
            (1..=MAX_BYTES).contains(&value.len()) && value.bytes().all(|byte| matches!(byte, b' '..=b'~'))
        })
    }
}

/// A value of dynamic metadata: text as it is, a number as the host has it, eight bytes of a little-endian double.
fn metadata_text(value: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(value).ok().filter(|text| !text.chars().any(char::is_control));
    if let Some(text) = text {
        return Some(text.to_owned());
    }
    let number = f64::from_le_bytes(value.try_into().ok()?);
    (number.fract() == 0.0 && number.abs() < 9e15).then(|| format!("{number:.0}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(identity: &Identity, expected: Option<&str>) {
        let headers: Headers = [
            ("x-tenant", &b" acme "[..]),
            ("x-odd", b"a\xff"),
            ("x-twice", b"a"),
            ("x-twice", b"b"),
            ("x-empty", b""),
        ]
        .into_iter()
        .collect();
        let parameters = [("org".to_owned(), "o-1".to_owned())];
        let property = |path: &[&str]| match path {
            ["metadata", "filter_metadata", JWT_FILTER, "payload", "org", "id"] => Some(b"org-7".to_vec()),
            ["metadata", "filter_metadata", JWT_FILTER, "payload", "number"] => {
                Some(42.0_f64.to_le_bytes().to_vec())
            }
            ["metadata", "filter_metadata", JWT_FILTER, "payload", "long"] => Some(vec![b'x'; 257]),
            _ => None,
        };
        let representation = Json::parse(br#"{"org":{"id":9},"list":[1],"blank":""}"#);
        let sources =
            Sources { headers: &headers, parameters: &parameters, representation, property: &property };
        assert_eq!(identity.read(&sources).as_deref(), expected, "{identity:?}");
    }

    #[test]
    fn each_source_is_read_where_it_stands() {
        let words = |text: &str| text.split('/').map(str::to_owned).collect::<Vec<_>>();
        let jwt = |claim| Identity::Jwt { keys: words("jwt_payload/payload"), claim: words(claim) };
        check(&Identity::Header("x-tenant".into()), Some("acme"));
        check(&jwt("org/id"), Some("org-7"));
        check(&jwt("number"), Some("42"));
        check(&Identity::Parameter("org".into()), Some("o-1"));
        check(&Identity::Field(words("org/id")), Some("9"));
    }

    #[test]
    fn what_is_no_name_is_no_identity() {
        let words = |text: &str| text.split('/').map(str::to_owned).collect::<Vec<_>>();
        for name in ["x-none", "x-odd", "x-twice", "x-empty"] {
            check(&Identity::Header(name.into()), None);
        }
        check(&Identity::Jwt { keys: words("payload"), claim: words("long") }, None);
        check(&Identity::Jwt { keys: words("payload"), claim: words("nothing") }, None);
        check(&Identity::Parameter("other".into()), None);
        check(&Identity::Field(words("list")), None);
        check(&Identity::Field(words("blank")), None);
    }
}
