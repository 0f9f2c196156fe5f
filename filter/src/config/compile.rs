//! From the configuration's shape to its meaning, with every fault in its place.

use std::collections::BTreeMap;
use std::time::Duration;

use super::raw::{
    Mode, Object, RawBatch, RawCompanion, RawConfig, RawFetch, RawHold, RawOutbox, RawResource, RawShape,
};
use super::{Companion, Config, Fault, Faults, Fetch, Token, shape};
use crate::hold::Hold;
use crate::outbox::Limits;
use crate::path::{Glob, Template};
use crate::rules::{Memo, Method, Resource, Rules};

const MEBIBYTE: usize = 1024 * 1024;

/// More of either than any API has; matching looks at them one by one.
const MAX_RESOURCES: usize = 1_000;

/// A worker's VM may have 1 GiB and never gives memory back.
const MAX_OUTBOX_BYTES: usize = 256 * MEBIBYTE;

/// What the companion takes of a source; and of words with dots, so that a type of namespace, noun and verb fits into 256.
const MAX_SOURCE: usize = 2_048;
const MAX_WORDS: usize = 90;

/// What the companion takes in one request.
const MAX_BATCH_EVENTS: usize = 1_000;
const MAX_BATCH_BYTES: usize = 4 * MEBIBYTE;

/// Collects faults while values pass through.
#[derive(Default)]
pub(super) struct Check {
    faults: Vec<Fault>,
}

impl Check {
    pub(super) fn fault(&mut self, path: &str, message: impl Into<String>) {
        self.faults.push(Fault { path: path.to_owned(), message: message.into() });
    }

    pub(super) fn require(&mut self, holds: bool, path: &str, message: &str) {
        if !holds {
            self.fault(path, message);
        }
    }

    pub(super) fn take<T>(&mut self, path: &str, result: Result<T, String>) -> Option<T> {
        result.map_err(|message| self.fault(path, message)).ok()
    }

    fn word(&mut self, path: &str, word: &str) {
        self.require(is_word(word), path, "lower-case letters, digits and _ are allowed, a letter first");
    }

    fn within(&mut self, path: &str, value: usize, least: usize, most: usize) {
        self.require((least..=most).contains(&value), path, &format!("must be from {least} to {most}"));
    }

    /// A duration with its unit, within bounds given in milliseconds.
    fn duration(&mut self, path: &str, text: &str, least_ms: u64, most_ms: u64) -> Duration {
        let ms = parse_milliseconds(text);
        let Some(ms) = ms.filter(|ms| (least_ms..=most_ms).contains(ms)) else {
            let problem = if ms.is_none() {
                "a duration is a whole number with its unit: ms, s, m or h"
            } else {
                "out of bounds"
            };
            self.fault(path, format!("{problem}; from {least_ms}ms to {most_ms}ms is allowed"));
            return Duration::ZERO;
        };
        Duration::from_millis(ms)
    }
}

pub(super) fn compile(mut raw: RawConfig) -> Result<Config, Faults> {
    let mut check = Check::default();
    let raw_shape = raw.shape();
    let shape = shape::compile(&mut check, "", &raw_shape, None);
    let companion = compile_companion(&mut check, raw.companion.0);
    let source_fits = !raw.source.is_empty() && raw.source.bytes().all(|byte| byte.is_ascii_graphic());
    check.require(source_fits, "/source", "a URI reference of visible ASCII, without spaces, is needed");
    check.require(raw.source.len() <= MAX_SOURCE, "/source", "at most 2048 bytes are allowed");
    if let Some(namespace) = &raw.namespace {
        check_namespace(&mut check, namespace);
    }
    let ignore = raw.ignore.iter().enumerate();
    let ignore =
        ignore.filter_map(|(i, text)| check.take(&format!("/ignore/{i}"), Glob::parse(text))).collect();
    check.require(raw.ignore.len() <= MAX_RESOURCES, "/ignore", "at most 1000 are allowed");
    check.require(
        !raw.via || companion.token.is_some(),
        "/via",
        "gateways know each other's marks by the companion's token, so one is needed",
    );
    let resources = compile_resources(&mut check, raw.resources, &raw_shape);
    let fetch = compile_fetch(&mut check, raw.fetch.0, &raw.previous_timeout);
    for (field, words) in [("verbs", &raw.verbs), ("singulars", &raw.singulars)] {
        for (key, value) in words {
            let path = format!("/{field}/{}", escape(key));
            check.require(
                is_word(key) && is_word(value),
                &path,
                "both words are of a-z, 0-9 and _, a letter first",
            );
        }
    }
    check.within("/max_body_bytes", raw.max_body_bytes, 1, 64 * MEBIBYTE);
    let limits = compile_limits(&mut check, &raw.outbox.0, &raw.batch.0);
    let hold = compile_hold(&mut check, raw.mode, raw.hold.map(|Object(hold)| hold), &raw.hold_timeout);
    if !check.faults.is_empty() {
        return Err(Faults(check.faults));
    }
    let (namespace, tense, automatic, verbs, singulars) =
        (raw.namespace, raw.tense, raw.automatic, raw.verbs, raw.singulars);
    Ok(Config {
        source: raw.source,
        via: companion.token.as_ref().filter(|_| raw.via).map(Token::mark),
        rules: Rules {
            namespace,
            tense,
            automatic,
            nested: raw.nested,
            ignore,
            resources,
            verbs,
            singulars,
            nouns: Memo::default(),
        },
        shape,
        missing_tenant: raw.missing_tenant,
        fetch,
        hold,
        companion,
        max_body_bytes: raw.max_body_bytes,
        identity_encoding: raw.identity_encoding,
        limits,
    })
}

fn compile_limits(check: &mut Check, outbox: &RawOutbox, batch: &RawBatch) -> Limits {
    check.within("/outbox/max_events", outbox.max_events, 1, 1_000_000);
    check.within("/outbox/max_bytes", outbox.max_bytes, 64 * 1024, MAX_OUTBOX_BYTES);
    check.within("/batch/max_events", batch.max_events, 1, MAX_BATCH_EVENTS);
    check.within("/batch/max_bytes", batch.max_bytes, 1024, MAX_BATCH_BYTES);
    Limits {
        outbox_events: outbox.max_events,
        outbox_bytes: outbox.max_bytes,
        batch_events: batch.max_events,
        batch_bytes: batch.max_bytes,
        linger: check.duration("/batch/linger", &batch.linger, 1, 10_000),
    }
}

fn check_namespace(check: &mut Check, namespace: &str) {
    let fits = namespace.len() <= MAX_WORDS && namespace.split('.').all(is_word);
    check.require(fits, "/namespace", "words of a-z, 0-9 and _, with dots between them, are allowed");
    let is_free = namespace.split('.').next() != Some("gatehook");
    let detail = "`gatehook` is for the companion's own events, which it takes from nobody";
    check.require(is_free, "/namespace", detail);
}

fn compile_companion(check: &mut Check, raw: RawCompanion) -> Companion {
    let visible = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
    check.require(!raw.cluster.is_empty(), "/companion/cluster", "the name of an Envoy cluster is needed");
    check.require(visible(&raw.authority), "/companion/authority", "a host, without spaces, is needed");
    let path_fits = raw.path.starts_with('/') && visible(&raw.path);
    check.require(path_fits, "/companion/path", "a path that begins with / is needed");
    // An empty token would read as «no token» here and as a wrong one there.
    let token_fits = raw.token.as_deref().is_none_or(visible);
    check.require(
        token_fits,
        "/companion/token",
        "a token is visible ASCII without spaces; leave it out for none",
    );
    let timeout = check.duration("/companion/timeout", &raw.timeout, 10, 300_000);
    let RawCompanion { cluster, authority, path, token, .. } = raw;
    Companion { cluster, authority, path, token: token.map(Token), timeout }
}

/// A header name as HTTP/2 has it (RFC 9113, 8.2): lower case, visible, no pseudo-header.
pub(super) fn is_header_name(name: &str) -> bool {
    !name.is_empty()
        && name.bytes().all(|byte| {
            byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"!#$%&'*+-.^_`|~".contains(&byte)
        })
}

fn compile_fetch(check: &mut Check, raw: RawFetch, previous_timeout: &str) -> Fetch {
    check.require(
        raw.cluster.as_deref() != Some(""),
        "/fetch/cluster",
        "the name of an Envoy cluster is needed; leave it out for the exchange's own",
    );
    for (index, name) in raw.headers.iter().enumerate() {
        let path = format!("/fetch/headers/{index}");
        check.require(is_header_name(name), &path, "a header name in lower case is needed");
    }
    check.require(raw.headers.len() <= 32, "/fetch/headers", "at most 32 are allowed");
    check.within("/fetch/max_concurrent", raw.max_concurrent, 1, 100);
    check.within("/fetch/max_waiting", raw.max_waiting, 1, 100_000);
    Fetch {
        timeout: check.duration("/fetch/timeout", &raw.timeout, 10, 60_000),
        previous_timeout: check.duration("/previous_timeout", previous_timeout, 1, 60_000),
        cluster: raw.cluster,
        headers: raw.headers.into_iter().collect(),
        max_concurrent: raw.max_concurrent,
        max_waiting: raw.max_waiting,
    }
}

fn compile_hold(check: &mut Check, mode: Mode, raw: Option<RawHold>, timeout: &str) -> Option<Hold> {
    if mode == Mode::Async {
        check.require(
            raw.is_none(),
            "/hold",
            "it says nothing in mode async; set mode to hold, or leave it out",
        );
        return None;
    }
    let raw = raw.unwrap_or_default();
    // The filter cannot see what Envoy allows, and without it an answer with a body would hang.
    check.require(
        raw.allow_on_headers_stop_iteration,
        "/hold/allow_on_headers_stop_iteration",
        "true is needed, to confirm that Envoy's own configuration of this filter says \
         allow_on_headers_stop_iteration: true; without that, answers would hang",
    );
    check.within("/hold/buffer_bytes", raw.buffer_bytes, 1024, 64 * MEBIBYTE);
    check.within("/hold/max_body_bytes", raw.max_body_bytes, 0, raw.buffer_bytes);
    if let Some(read_bytes) = raw.read_bytes {
        check.within("/hold/read_bytes", read_bytes, 1024, raw.buffer_bytes);
    }
    let RawHold { max_body_bytes, buffer_bytes, read_bytes, .. } = raw;
    let timeout = check.duration("/hold_timeout", timeout, 1, 60_000);
    Some(Hold { timeout, max_body_bytes, buffer_bytes, read_bytes })
}

fn compile_resources(check: &mut Check, raw: Vec<Object<RawResource>>, base: &RawShape) -> Vec<Resource> {
    check.require(raw.len() <= MAX_RESOURCES, "/resources", "at most 1000 are allowed");
    let mut resources: Vec<Resource> = Vec::with_capacity(raw.len());
    for (index, Object(raw)) in raw.into_iter().enumerate() {
        let at = format!("/resources/{index}");
        let Some(resource) = compile_resource(check, &at, raw, base) else { continue };
        let earlier =
            resources.iter().find(|earlier| earlier.template.covers_the_same_as(&resource.template));
        if let Some(earlier) = earlier {
            let message = format!(
                "an earlier resource ({}) has the same path, so this one is never reached",
                earlier.noun
            );
            check.fault(&format!("{at}/path"), message);
        }
        resources.push(resource);
    }
    resources
}

fn compile_resource(check: &mut Check, at: &str, mut raw: RawResource, base: &RawShape) -> Option<Resource> {
    let raw_shape = raw.shape();
    let template = check.take(&format!("{at}/path"), Template::parse(&raw.path));
    let noun_fits = raw.noun.len() <= MAX_WORDS && raw.noun.split('.').all(is_word);
    check.require(
        noun_fits,
        &format!("{at}/noun"),
        "lower-case letters, digits and _ are allowed, a letter first, and dots between such words",
    );
    let verbs = compile_verbs(check, &format!("{at}/verbs"), raw.verbs);
    let collection = compile_verbs(check, &format!("{at}/collection"), raw.collection);
    let has_collection = template.as_ref().is_none_or(Template::has_collection);
    check.require(
        collection.is_empty() || has_collection,
        &format!("{at}/collection"),
        "this path does not end in a parameter, so it has no collection; say it in verbs",
    );
    for (segment, verb) in &raw.actions {
        let path = format!("{at}/actions/{}", escape(segment));
        let one_segment =
            !segment.is_empty() && segment.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'/');
        check.require(one_segment, &path, "an action is one path segment");
        check.word(&path, verb);
    }
    if let Some(statuses) = &raw.statuses {
        check.require(
            !statuses.is_empty(),
            &format!("{at}/statuses"),
            "at least one status is needed; leave it out for any 2xx but 202",
        );
        for (index, status) in statuses.iter().enumerate() {
            let success = (200..300).contains(status);
            check.require(
                success,
                &format!("{at}/statuses/{index}"),
                "only a status from 200 to 299 is a success",
            );
        }
    }
    let mut shape = shape::compile(check, at, &raw_shape, Some(base));
    shape.subject = raw.subject.and_then(|text| {
        let path = format!("{at}/subject");
        let subject = check.take(&path, Template::parse(&text))?;
        let known = |name: &str| name == "id" || template.as_ref().is_none_or(|own| own.has_parameter(name));
        for name in subject.parameter_names().filter(|name| !known(name)) {
            check.fault(&path, format!("{{{name}}} is neither a parameter of the path nor {{id}}"));
        }
        Some(subject)
    });
    let (noun, actions, statuses) = (raw.noun.into(), raw.actions, raw.statuses);
    Some(Resource { template: template?, noun, verbs, collection, actions, statuses, shape })
}

/// Verbs by method, at this path of the configuration.
fn compile_verbs(
    check: &mut Check,
    at: &str,
    raw: BTreeMap<String, Option<String>>,
) -> BTreeMap<Method, Option<String>> {
    let mut verbs = BTreeMap::new();
    for (method, verb) in raw {
        let path = format!("{at}/{}", escape(&method));
        if let Some(verb) = &verb {
            check.word(&path, verb);
        }
        match Method::parse(method.as_bytes()) {
            Some(method) => drop(verbs.insert(method, verb)),
            None => check.fault(&path, "POST, PUT, PATCH and DELETE are observed, nothing else"),
        }
    }
    verbs
}

fn is_word(word: &str) -> bool {
    word.len() <= 64
        && word.starts_with(|c: char| c.is_ascii_lowercase())
        && word.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
}

fn parse_milliseconds(text: &str) -> Option<u64> {
    let unit_at = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at_checked(unit_at)?;
    let factor = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(factor)
}

/// A key as a token of a JSON pointer.
fn escape(key: &str) -> String {
    key.replace('~', "~0").replace('/', "~1")
}
