//! A path as an OpenAPI description declares it, and the paths that callers really send.

use gatehook_filter::path::{Template, segments};

/// A declared path, its server's base in front.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Declared {
    /// The segments, empty ones left out.
    pub(super) segments: Vec<Segment>,
}

/// One segment of a declared path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Segment {
    /// Text as it stands.
    Literal(String),
    /// A parameter that is the whole segment, by its name.
    Parameter(String),
    /// A parameter with text around it (`{id}.json`, `{id}:cancel`), or several.
    Mixed(String),
}

impl Declared {
    /// Reads base and path; what stands behind `?` or `#` tells operations of one path apart and is no part of it.
    pub(super) fn parse(base: &str, path: &str) -> Self {
        let path = path.split(['?', '#']).next().unwrap_or_default();
        let parts = base.split('/').chain(path.split('/')).filter(|part| !part.is_empty());
        let segments = parts.map(|part| {
            let inner = part.strip_prefix('{').and_then(|rest| rest.strip_suffix('}'));
            match inner {
                Some(name) if !name.contains(['{', '}']) => Segment::Parameter(name.to_owned()),
                _ if part.contains('{') => Segment::Mixed(part.to_owned()),
                _ => Segment::Literal(part.to_owned()),
            }
        });
        Self { segments: segments.collect() }
    }

    /// The path without its last segment.
    pub(super) fn parent(&self) -> Self {
        let before = self.segments.split_last().map(|(_, before)| before.to_vec());
        Self { segments: before.unwrap_or_default() }
    }

    /// The path with one parameter more.
    pub(super) fn item(&self, name: &str) -> Self {
        let mut segments = self.segments.clone();
        segments.push(Segment::Parameter(name.to_owned()));
        Self { segments }
    }

    /// Names the paths that this one matches, whatever the parameters are called: `/orders/{}`.
    pub(super) fn key(&self) -> String {
        let parts = self.segments.iter().map(|segment| match segment {
            Segment::Literal(text) | Segment::Mixed(text) => format!("/{text}"),
            Segment::Parameter(_) => "/{}".to_owned(),
        });
        parts.collect()
    }

    /// The path as a template of the filter; `None` if its dialect has no words for it.
    pub(super) fn template(&self) -> Option<String> {
        let mut names: Vec<String> = Vec::new();
        let mut text = String::new();
        for segment in &self.segments {
            text.push('/');
            match segment {
                Segment::Literal(literal) => text.push_str(literal),
                Segment::Parameter(name) => {
                    let mut name = parameter_name(name);
                    while names.contains(&name) {
                        name.push('_');
                    }
                    text.push_str(&format!("{{{name}}}"));
                    names.push(name);
                }
                Segment::Mixed(_) => return None,
            }
        }
        Template::parse(&text).is_ok().then_some(text)
    }

    /// A path that a caller would send: each parameter by the sample of its name.
    pub(super) fn concrete(&self, sample: impl Fn(&str, usize) -> String) -> String {
        let mut path = String::new();
        for (index, segment) in self.segments.iter().enumerate() {
            path.push('/');
            match segment {
                Segment::Literal(text) => path.push_str(text),
                Segment::Parameter(name) => path.push_str(&sample(name, index)),
                Segment::Mixed(text) => path.push_str(&mixed(text, |name| sample(name, index))),
            }
        }
        if segments(&path).is_some() { path } else { "/".to_owned() }
    }

    /// Fixed text comes before parameters, a shorter path before its continuation: so each of them is reached.
    pub(super) fn rank(&self) -> Vec<(bool, &str)> {
        let segments = self.segments.iter().map(|segment| match segment {
            Segment::Literal(text) | Segment::Mixed(text) => (false, text.as_str()),
            Segment::Parameter(_) => (true, ""),
        });
        segments.collect()
    }
}

/// A parameter's name in the letters that templates allow.
fn parameter_name(name: &str) -> String {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    let name: String = name.chars().map(|c| if fits(c) { c } else { '_' }).collect();
    if name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') { name } else { format!("_{name}") }
}

/// A segment with its parameters filled in.
fn mixed(text: &str, sample: impl Fn(&str) -> String) -> String {
    let mut filled = String::new();
    let mut rest = text;
    while let Some((before, name, after)) = rest
        .split_once('{')
        .and_then(|(before, behind)| behind.split_once('}').map(|(name, after)| (before, name, after)))
    {
        filled.push_str(before);
        filled.push_str(&sample(name));
        rest = after;
    }
    filled + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_read_with_its_base() {
        let path = Declared::parse("/v1/", "/repos/{owner}/{repo.name}/?a=b");
        assert_eq!(path.key(), "/v1/repos/{}/{}");
        assert_eq!(path.template().as_deref(), Some("/v1/repos/{owner}/{repo_name}"));
        assert_eq!(path.parent().item("id").template().as_deref(), Some("/v1/repos/{owner}/{id}"));
        assert_eq!(Declared::parse("", "/a/{id}/b/{id}").template().as_deref(), Some("/a/{id}/b/{id_}"));
    }

    #[test]
    fn what_the_dialect_has_no_words_for_has_no_template() {
        for path in ["/a/{id}.json", "/a/{b}{c}", "/a/*", "/"] {
            assert_eq!(Declared::parse("", path).template(), None, "{path}");
        }
    }

    #[test]
    fn samples_stand_where_the_parameters_are() {
        let path = Declared::parse("/v1", "/a/{b}/{c}.json#part");
        assert_eq!(path.concrete(|name, at| format!("{name}{at}")), "/v1/a/b2/c3.json");
    }

    #[test]
    fn fixed_text_and_shorter_paths_rank_first() {
        let rank = |path: &str| Declared::parse("", path);
        let mut paths = [rank("/a/{b}/{c}"), rank("/a/{b}"), rank("/a/b/{c}"), rank("/a/b")];
        paths.sort_by(|one, two| one.rank().cmp(&two.rank()));
        let keys: Vec<_> = paths.iter().map(Declared::key).collect();
        assert_eq!(keys, ["/a/b", "/a/b/{}", "/a/{}", "/a/{}/{}"]);
    }
}
