//! Paths: split, percent-coded, matched against templates and globs.
//!
//! A path here is what stands before `?` in `:path` (RFC 9110, origin form). Segments are compared as they were sent;
//! only values handed on as parameters are percent-decoded (RFC 3986). Nothing is normalised: that is the proxy's task.

use std::fmt::Write as _;

/// More segments than any REST API has; a path beyond it matches no rule.
pub const MAX_SEGMENTS: usize = 64;

/// Longest path of a resource, in bytes; the companion refuses an event with a longer subject.
pub const MAX_PATH: usize = 2_048;

/// The part of a request target before its query or fragment.
pub fn without_query(target: &str) -> &str {
    target.split(['?', '#']).next().unwrap_or(target)
}

/// The segments of an absolute path, empty ones left out; `None` if the path is not absolute, too long or has too many.
pub fn segments(path: &str) -> Option<Vec<&str>> {
    let rest = path.strip_prefix('/').filter(|_| path.len() <= MAX_PATH)?;
    let segments: Vec<&str> =
        rest.split('/').filter(|segment| !segment.is_empty()).take(MAX_SEGMENTS + 1).collect();
    (segments.len() <= MAX_SEGMENTS).then_some(segments)
}

/// Turns the bytes of a request target into text, with every byte that is not visible ASCII percent-encoded.
pub fn printable(target: &[u8]) -> String {
    // Nearly all are plain as they come.
    let plain = target.iter().all(u8::is_ascii_graphic).then_some(target);
    if let Some(text) = plain.and_then(|target| std::str::from_utf8(target).ok()) {
        return text.to_owned();
    }
    let mut text = String::with_capacity(target.len());
    for &byte in target {
        push_byte(&mut text, byte, byte.is_ascii_graphic());
    }
    text
}

/// Percent-encodes a value so that it can stand as one path segment (`pchar` of RFC 3986 stays).
pub fn encode_segment(value: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@".contains(&byte);
    if value.bytes().all(plain) {
        return value.to_owned();
    }
    let mut text = String::with_capacity(value.len());
    for byte in value.bytes() {
        push_byte(&mut text, byte, plain(byte));
    }
    text
}

fn push_byte(text: &mut String, byte: u8, plain: bool) {
    if plain {
        text.push(char::from(byte));
    } else {
        // Writing to a String cannot fail.
        let _ = write!(text, "%{byte:02X}");
    }
}

/// Percent-decodes one segment; what does not decode to UTF-8 comes back as it was.
pub fn decode_segment(segment: &str) -> String {
    if !segment.contains('%') {
        return segment.to_owned();
    }
    let mut bytes = Vec::with_capacity(segment.len());
    let mut rest = segment.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        match (byte, tail) {
            (b'%', [high, low, after @ ..]) => {
                let (Some(high), Some(low)) = (hexadecimal(*high), hexadecimal(*low)) else {
                    return segment.to_owned();
                };
                bytes.push(high << 4 | low);
                rest = after;
            }
            _ => {
                bytes.push(byte);
                rest = tail;
            }
        }
    }
    String::from_utf8(bytes).unwrap_or_else(|_| segment.to_owned())
}

fn hexadecimal(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

/// The path that a `Location` header names, if it is on this very API: path-absolute, or with the same authority.
///
/// Another host's location says nothing about a resource here, and a relative one is rare enough to be left alone.
pub fn location_path(location: &str, authority: &str) -> Option<String> {
    let rest = match location.split_once("://") {
        Some((scheme, rest))
            if scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("https") =>
        {
            rest
        }
        _ => match location.strip_prefix("//") {
            Some(rest) => rest,
            None => return location.starts_with('/').then(|| printable(without_query(location).as_bytes())),
        },
    };
    let (host, path) = rest.split_at_checked(rest.find(['/', '?', '#']).unwrap_or(rest.len()))?;
    let path = without_query(path);
    host.eq_ignore_ascii_case(authority)
        .then(|| if path.is_empty() { "/".to_owned() } else { printable(path.as_bytes()) })
}

/// The path of the item that an action's path belongs to: `/orders/7` for `/orders/7/cancel` and `/orders/7:cancel`.
pub fn above(path: &str) -> &str {
    let path = path.trim_end_matches('/');
    let Some(slash) = path.rfind('/') else { return path };
    let colon = path.rfind(':').filter(|colon| *colon > slash);
    path.get(..colon.unwrap_or(slash.max(1))).unwrap_or(path)
}

/// A path on this API as the upstream knows it, told by how Envoy has rewritten the request's own path.
///
/// What both share at their end was not rewritten, and what stands before it was exchanged.
pub fn rewritten(path: &str, original: &str, sent: &str) -> String {
    let same = original.bytes().rev().zip(sent.bytes().rev()).take_while(|(one, other)| one == other).count();
    let kept = original.get(original.len().saturating_sub(same)..).unwrap_or_default();
    // Segments are whole: `/v1/contacts` behind `/api` shares no half of a segment with `/contacts`.
    let kept = kept.find('/').and_then(|at| kept.get(at..)).unwrap_or_default();
    let (Some(old), Some(new)) = (original.strip_suffix(kept), sent.strip_suffix(kept)) else {
        return path.to_owned();
    };
    let under = |prefix: &'_ str| {
        let rest = path.strip_prefix(prefix)?;
        (rest.is_empty() || rest.starts_with('/')).then(|| rest.to_owned())
    };
    match under(old) {
        // A location that the upstream wrote may be in its own words already.
        Some(rest) if new.is_empty() || under(new).is_none() => format!("{new}{rest}"),
        _ => path.to_owned(),
    }
}

/// A path with parameters, such as `/v1/contacts/{id}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    parts: Vec<Part>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Literal(String),
    Parameter(String),
}

/// Name and decoded value of a path parameter.
pub type Parameter = (String, String);

/// How a path lies to a template.
#[derive(Debug, PartialEq, Eq)]
pub enum Fit<'a> {
    /// The path is the template's: one resource.
    Item(Vec<Parameter>),
    /// The path is the template's without its last parameter: the collection.
    Collection(Vec<Parameter>),
    /// The path goes one segment beyond the template: an action on one resource.
    Action(Vec<Parameter>, &'a str),
}

impl Template {
    /// Parses a template; the error says what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let Some(segments) = segments(text) else {
            return Err(format!("a path begins with / and has at most {MAX_SEGMENTS} segments"));
        };
        let mut parts: Vec<Part> = Vec::with_capacity(segments.len());
        for segment in segments {
            let part = parse_part(segment)?;
            if matches!(part, Part::Parameter(_)) && parts.contains(&part) {
                return Err(format!("the parameter {segment} stands twice"));
            }
            parts.push(part);
        }
        if !parts.iter().any(|part| matches!(part, Part::Literal(_))) {
            return Err("a path needs at least one segment that is no parameter".to_owned());
        }
        Ok(Self { parts })
    }

    /// Whether the last segment is a parameter, so that the path without it is a collection.
    pub fn has_collection(&self) -> bool {
        matches!(self.parts.last(), Some(Part::Parameter(_)))
    }

    /// The names of the parameters, in path order.
    pub fn parameter_names(&self) -> impl Iterator<Item = &str> {
        self.parts.iter().filter_map(|part| match part {
            Part::Parameter(name) => Some(name.as_str()),
            Part::Literal(_) => None,
        })
    }

    /// Whether there is a parameter of this name.
    pub fn has_parameter(&self, name: &str) -> bool {
        self.parameter_names().any(|own| own == name)
    }

    /// Whether both templates match the same paths, whatever their parameters are called.
    pub fn covers_the_same_as(&self, other: &Self) -> bool {
        self.parts.len() == other.parts.len()
            && self.parts.iter().zip(&other.parts).all(|pair| match pair {
                (Part::Literal(one), Part::Literal(two)) => one == two,
                (Part::Parameter(_), Part::Parameter(_)) => true,
                _ => false,
            })
    }

    /// How the path lies to this template; `None` where it does not fit at all.
    pub fn fit<'a>(&self, path: &[&'a str]) -> Option<Fit<'a>> {
        let beyond = path.get(self.parts.len()..);
        let fits = self.parts.iter().zip(path).all(|(part, segment)| match part {
            Part::Literal(literal) => literal == segment,
            Part::Parameter(_) => true,
        });
        match beyond {
            _ if !fits => None,
            Some([]) => Some(Fit::Item(self.parameters(path))),
            Some([action]) => Some(Fit::Action(self.parameters(path), action)),
            Some(_) => None,
            None if self.has_collection() && path.len() + 1 == self.parts.len() => {
                Some(Fit::Collection(self.parameters(path)))
            }
            None => None,
        }
    }

    /// The path with these values as its parameters; `None` if one is missing.
    pub fn expand(&self, parameters: &[Parameter]) -> Option<String> {
        let mut path = String::new();
        for part in &self.parts {
            path.push('/');
            match part {
                Part::Literal(literal) => path.push_str(literal),
                Part::Parameter(name) => {
                    // The last one counts: the id of the representation is put behind what the path had.
                    let (_, value) = parameters.iter().rev().find(|(own, _)| own == name)?;
                    path.push_str(&encode_segment(value));
                }
            }
        }
        Some(path)
    }

    fn parameters(&self, path: &[&str]) -> Vec<Parameter> {
        let pairs = self.parts.iter().zip(path);
        pairs
            .filter_map(|(part, segment)| match part {
                Part::Parameter(name) => Some((name.clone(), decode_segment(segment))),
                Part::Literal(_) => None,
            })
            .collect()
    }
}

fn parse_part(segment: &str) -> Result<Part, String> {
    let name = segment.strip_prefix('{').and_then(|rest| rest.strip_suffix('}'));
    if let Some(name) = name {
        let fits = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'));
        return if fits {
            Ok(Part::Parameter(name.to_owned()))
        } else {
            Err(format!("{segment} is no parameter: a name of letters, digits, - and _ stands in the braces"))
        };
    }
    if segment.contains(['{', '}', '*', '?', '#']) || !segment.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(format!(
            "the segment {segment} has a character that no path has; a parameter is a whole segment"
        ));
    }
    Ok(Part::Literal(segment.to_owned()))
}

/// A pattern for ignored paths: `*` stands for one segment, `**` for any number of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Glob {
    parts: Vec<String>,
}

impl Glob {
    /// Parses a pattern; the error says what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let Some(parts) = segments(text) else {
            return Err(format!("a pattern begins with / and has at most {MAX_SEGMENTS} segments"));
        };
        if parts.iter().filter(|part| **part == "**").count() > 1 {
            return Err("** may stand once in a pattern".to_owned());
        }
        let odd = parts.iter().find(|part| part.contains('*') && !matches!(**part, "*" | "**"));
        match odd {
            Some(part) => Err(format!("in {part}, a * must be a whole segment")),
            None => Ok(Self { parts: parts.into_iter().map(str::to_owned).collect() }),
        }
    }

    /// Whether the path matches.
    pub fn matches(&self, path: &[&str]) -> bool {
        let same = |(part, segment): (&String, &&str)| part == "*" || part == segment;
        let Some(gap) = self.parts.iter().position(|part| part == "**") else {
            return self.parts.len() == path.len() && self.parts.iter().zip(path).all(same);
        };
        let behind = self.parts.len() - gap - 1;
        gap + behind <= path.len()
            && self.parts.iter().take(gap).zip(path).all(same)
            && self.parts.iter().rev().take(behind).zip(path.iter().rev()).all(same)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parameters(pairs: &[(&str, &str)]) -> Vec<Parameter> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn a_template_fits_item_collection_and_action() {
        let template = Template::parse("/v1/users/{user}/orders/{id}").unwrap();
        let fit = |path| template.fit(&segments(path).unwrap()).map(|fit| format!("{fit:?}"));
        let user = parameters(&[("user", "42")]);
        let both = parameters(&[("user", "42"), ("id", "a b")]);
        assert_eq!(fit("/v1/users/42/orders/a%20b"), Some(format!("{:?}", Fit::Item(both.clone()))));
        assert_eq!(fit("/v1/users/42/orders/"), Some(format!("{:?}", Fit::Collection(user))));
        assert_eq!(fit("/v1/users/42/orders/a%20b/pay"), Some(format!("{:?}", Fit::Action(both, "pay"))));
        for path in ["/v1/users/42", "/v1/users/42/orders/7/pay/now", "/v2/users/42/orders/7", "/"] {
            assert_eq!(fit(path), None, "{path}");
        }
    }

    #[test]
    fn a_template_is_filled_in() {
        let template = Template::parse("/v1/users/{user}/orders/{id}").unwrap();
        let filled = parameters(&[("user", "42"), ("id", "old"), ("id", "a b")]);
        assert_eq!(template.expand(&filled).as_deref(), Some("/v1/users/42/orders/a%20b"));
        assert_eq!(template.expand(&parameters(&[("user", "42")])), None);
    }

    #[test]
    fn an_action_belongs_to_the_item_above_it() {
        for (path, item) in [
            ("/orders/7/cancel", "/orders/7"),
            ("/orders/7/cancel/", "/orders/7"),
            ("/orders/7:cancel", "/orders/7"),
            ("/a:b/7/cancel", "/a:b/7"),
            ("/cancel", "/"),
            ("", ""),
        ] {
            assert_eq!(above(path), item, "{path}");
        }
    }

    #[test]
    fn a_path_is_rewritten_as_the_request_was() {
        for (path, original, sent, expected) in [
            ("/crm/contacts/7", "/crm/contacts/7", "/crm/contacts/7", "/crm/contacts/7"),
            ("/crm/contacts/7", "/crm/contacts", "/contacts", "/contacts/7"),
            ("/contacts/7", "/crm/contacts", "/contacts", "/contacts/7"),
            ("/crm/contacts/7", "/crm/contacts", "/internal/v2/contacts", "/internal/v2/contacts/7"),
            ("/contacts/7", "/contacts", "/api/contacts", "/api/contacts/7"),
            ("/api/contacts/7", "/contacts", "/api/contacts", "/api/contacts/7"),
            ("/crmx/7", "/crm/contacts", "/contacts", "/crmx/7"),
        ] {
            assert_eq!(rewritten(path, original, sent), expected, "{path} {original} {sent}");
        }
    }

    #[test]
    fn a_faulty_template_is_refused() {
        for text in ["contacts", "/{id}", "/", "/a/{}", "/a/{b c}", "/a/x{b}", "/a/*", "/a/{b}/{b}", "/a/ü"]
        {
            assert!(Template::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_glob_matches_one_segment_or_any_number() {
        for (pattern, path, matches) in [
            ("/healthz", "/healthz", true),
            ("/healthz", "/healthz/live", false),
            ("/internal/**", "/internal", true),
            ("/internal/**", "/internal/a/b", true),
            ("/*/jobs", "/a/jobs", true),
            ("/*/jobs", "/a/b/jobs", false),
            ("/**/jobs", "/a/b/jobs", true),
            ("/a/**/a", "/a", false),
            ("/**", "/", true),
        ] {
            assert_eq!(
                Glob::parse(pattern).unwrap().matches(&segments(path).unwrap()),
                matches,
                "{pattern} {path}"
            );
        }
        assert!(Glob::parse("/a*").is_err() && Glob::parse("a").is_err() && Glob::parse("/**/a/**").is_err());
    }

    #[test]
    fn a_location_counts_only_on_the_same_api() {
        for (location, path) in [
            ("/orders/7", Some("/orders/7")),
            ("/orders/7?x=1#y", Some("/orders/7")),
            ("https://API.example/orders/7", Some("/orders/7")),
            ("http://api.example", Some("/")),
            ("//api.example/orders/7", Some("/orders/7")),
            ("https://other.example/orders/7", None),
            ("//other.example/orders/7", None),
            ("7", None),
            ("ftp://api.example/7", None),
            ("/ä", Some("/%C3%A4")),
            ("", None),
        ] {
            assert_eq!(location_path(location, "api.example").as_deref(), path, "{location}");
        }
    }

    #[test]
    fn percent_coding_goes_both_ways() {
        assert_eq!(encode_segment("a b/ü%"), "a%20b%2F%C3%BC%25");
        assert_eq!(decode_segment("a%20b%2F%C3%BC%25"), "a b/ü%");
        assert_eq!(decode_segment("100%"), "100%");
        assert_eq!(decode_segment("%zz"), "%zz");
        assert_eq!(decode_segment("%ff"), "%ff");
        assert_eq!(printable(b"/a\xff b"), "/a%FF%20b");
    }

    #[test]
    fn a_path_of_too_many_segments_has_none() {
        assert!(segments(&"/a".repeat(MAX_SEGMENTS)).is_some());
        assert!(segments(&"/a".repeat(MAX_SEGMENTS + 1)).is_none());
        assert!(segments(&format!("/{}", "a".repeat(MAX_PATH - 1))).is_some());
        assert!(segments(&format!("/{}", "a".repeat(MAX_PATH))).is_none());
        assert!(segments("a/b").is_none());
    }
}
