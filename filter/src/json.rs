//! JSON as it came: validated and sliced, never re-serialised.
//!
//! The grammar is checked by serde_json without building a value, and what is handed on is always a slice of the original
//! text. Depth is bounded, because the companion and the receivers parse with a recursion limit of their own.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserializer as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

/// Deepest nesting of a representation; serde_json's own limit is 128, and the batch adds two levels around it.
pub const MAX_DEPTH: usize = 120;

/// The fields that may bear a representation's id, the first that is there counts.
const ID_FIELDS: [&str; 3] = ["id", "_id", "uuid"];

/// A valid JSON text, without the whitespace around it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Json<'a> {
    text: &'a str,
    /// The first of the fields that bear an id, found while the text was read.
    id: Option<&'a str>,
}

impl<'a> Json<'a> {
    /// Checks that the bytes are one JSON value (RFC 8259) in UTF-8, nested at most [`MAX_DEPTH`] deep.
    pub fn parse(bytes: &'a [u8]) -> Option<Self> {
        let text = std::str::from_utf8(bytes).ok()?;
        let text = text.trim_matches([' ', '\t', '\n', '\r']);
        let json = Self { text, id: read_id(text)? };
        is_shallow(text).then_some(json)
    }

    /// The original text.
    pub fn text(self) -> &'a str {
        self.text
    }

    /// Whether the value is an object or an array.
    pub fn is_structured(self) -> bool {
        self.text.starts_with(['{', '['])
    }

    /// Whether the value is an object.
    pub fn is_object(self) -> bool {
        self.text.starts_with('{')
    }

    /// The value that a JSON pointer's tokens (RFC 6901, unescaped) lead to, sliced from the original text.
    pub fn at(self, tokens: &[String]) -> Option<Self> {
        if tokens.is_empty() {
            return Some(self);
        }
        let text = tokens.iter().try_fold(self.text, |text, token| child(text, token))?;
        Some(Self { text, id: read_id(text)? })
    }

    /// The representation's id: a string that is not empty, or an integer, under one of the usual names.
    pub fn id(self) -> Option<String> {
        name_of(self.id?)
    }

    /// The value itself as a name: a string that is not empty, or an integer.
    pub fn name(self) -> Option<String> {
        name_of(self.text)
    }

    /// What the value is made of, each part sliced from the original text.
    pub fn parts(self) -> Parts<'a> {
        let mut parser = serde_json::Deserializer::from_str(self.text);
        let parts = match self.text.as_bytes().first() {
            Some(b'{') => parser.deserialize_map(All),
            Some(b'[') => parser.deserialize_seq(All),
            _ => return Parts::Leaf,
        };
        parts.unwrap_or(Parts::Leaf)
    }

    /// The elements of an array; `None` if it is none.
    pub fn elements(self) -> Option<Vec<Self>> {
        let Parts::Elements(texts) = self.parts() else { return None };
        texts.into_iter().map(|text| Some(Self { text, id: read_id(text)? })).collect()
    }
}

/// What a JSON value is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Parts<'a> {
    /// An object's keys, unescaped, with their values, in the order of the text; a key may stand twice.
    Members(Vec<(Cow<'a, str>, &'a str)>),
    /// An array's values.
    Elements(Vec<&'a str>),
    /// A string, a number, `true`, `false` or `null`.
    Leaf,
}

fn name_of(text: &str) -> Option<String> {
    let named = is_id(text).then_some(text)?;
    if named.starts_with('"') { serde_json::from_str(named).ok() } else { Some(named.to_owned()) }
}

/// Reads a whole value and gives the text of its id, if it has one; `None` if it is no JSON.
fn read_id(text: &str) -> Option<Option<&str>> {
    if !text.starts_with('{') {
        return serde_json::from_str::<IgnoredAny>(text).ok().map(|_| None);
    }
    let mut parser = serde_json::Deserializer::from_str(text);
    let found = parser.deserialize_map(Id).ok()?;
    parser.end().ok().map(|()| found)
}

fn is_id(value: &str) -> bool {
    let number = value.strip_prefix('-').unwrap_or(value);
    (!number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()))
        || (value.starts_with('"') && value != "\"\"")
}

fn child<'a>(text: &'a str, token: &str) -> Option<&'a str> {
    let mut parser = serde_json::Deserializer::from_str(text);
    let found = match text.as_bytes().first()? {
        b'{' => parser.deserialize_map(Child(token)),
        b'[' => parser.deserialize_seq(Child(token)),
        _ => return None,
    };
    found.ok().flatten().map(RawValue::get)
}

/// The tokens of a JSON pointer; the error says what is wrong with it.
pub fn parse_pointer(pointer: &str) -> Result<Vec<String>, String> {
    if pointer.is_empty() {
        return Ok(Vec::new());
    }
    let Some(rest) = pointer.strip_prefix('/') else {
        return Err("a JSON pointer is empty or begins with /".to_owned());
    };
    let faulty = rest.split('~').skip(1).any(|after| !after.starts_with(['0', '1']));
    if faulty {
        return Err("in a JSON pointer, ~ stands before 0 or 1".to_owned());
    }
    Ok(rest.split('/').map(|token| token.replace("~1", "/").replace("~0", "~")).collect())
}

/// Writes text as a JSON string, quotes included.
pub fn push_string(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    let mut rest = text.as_bytes();
    loop {
        let (plain, special) = rest.split_at_checked(plain_start(rest)).unwrap_or((rest, b""));
        out.extend_from_slice(plain);
        let Some((byte, further)) = special.split_first() else { break };
        match byte {
            b'"' | b'\\' => out.extend([b'\\', *byte]),
            _ => out.extend(format!("\\u{byte:04x}").bytes()),
        }
        rest = further;
    }
    out.push(b'"');
}

/// How many bytes at the beginning can stand in a JSON string as they are.
fn plain_start(bytes: &[u8]) -> usize {
    const EACH: u64 = u64::MAX / 0xff;
    let is_special = |byte: &u8| matches!(byte, b'"' | b'\\' | 0..=0x1f);
    let (words, _) = bytes.as_chunks::<8>();
    // Eight at a time: each term has the high bit of a byte set where that byte is special, or stands behind one that is.
    let plain = words.iter().take_while(|word| {
        let word = u64::from_le_bytes(**word);
        let zero = |word: u64| word.wrapping_sub(EACH) & !word;
        let control = word.wrapping_sub(EACH * 0x20) & !word;
        let special =
            control | zero(word ^ (EACH * u64::from(b'"'))) | zero(word ^ (EACH * u64::from(b'\\')));
        special & (EACH * 0x80) == 0
    });
    let start = plain.count() * 8;
    let rest = bytes.get(start..).unwrap_or_default();
    start + rest.iter().position(is_special).unwrap_or(rest.len())
}

/// Counts brackets outside of strings; the text is known to be valid, so they pair up.
fn is_shallow(text: &str) -> bool {
    // Most answers do not have so many brackets in all, whatever they nest, and counting is cheap.
    if count_opening(text.as_bytes()) <= MAX_DEPTH {
        return true;
    }
    let (mut depth, mut in_string, mut escaped) = (0_usize, false, false);
    for byte in text.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'[' | b'{' if !in_string => depth += 1,
            b']' | b'}' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > MAX_DEPTH {
            return false;
        }
    }
    true
}

/// How many `[` and `{` there are. Counted in bytes over pieces that cannot overflow them, which compiles to SIMD.
fn count_opening(bytes: &[u8]) -> usize {
    // The two characters differ in one bit.
    let count = |piece: &[u8]| piece.iter().fold(0_u8, |count, byte| count + u8::from(byte | 0x20 == b'{'));
    bytes.chunks(128).map(|piece| usize::from(count(piece))).sum()
}

/// Finds the best of an object's fields that may bear an id.
struct Id;

impl<'de> Visitor<'de> for Id {
    type Value = Option<&'de str>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Self::Value, M::Error> {
        // The last of a name counts, as most parsers have it, though it be no id.
        let mut last = [None; ID_FIELDS.len()];
        while let Some(Key(key)) = map.next_key()? {
            let Some(rank) = ID_FIELDS.iter().position(|name| *name == key) else {
                map.next_value::<IgnoredAny>()?;
                continue;
            };
            let value = map.next_value::<&RawValue>()?.get();
            if let Some(last) = last.get_mut(rank) {
                *last = Some(value);
            }
        }
        Ok(last.into_iter().flatten().find(|value| is_id(value)))
    }
}

/// Finds one child of an object (the last of that name, as most parsers have it) or of an array.
struct Child<'t>(&'t str);

impl<'de> Visitor<'de> for Child<'_> {
    type Value = Option<&'de RawValue>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object or an array")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Self::Value, M::Error> {
        let mut found = None;
        while let Some(Key(key)) = map.next_key()? {
            if key == self.0 {
                found = Some(map.next_value()?);
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(found)
    }

    fn visit_seq<S: SeqAccess<'de>>(self, mut sequence: S) -> Result<Self::Value, S::Error> {
        let canonical = self.0 == "0" || !self.0.starts_with(['0', '+']);
        let Some(index) = self.0.parse::<usize>().ok().filter(|_| canonical) else {
            while sequence.next_element::<IgnoredAny>()?.is_some() {}
            return Ok(None);
        };
        let (mut found, mut at) = (None, 0_usize);
        while let Some(element) = sequence.next_element()? {
            found = if at == index { Some(element) } else { found };
            at += 1;
        }
        Ok(found)
    }
}

/// Gathers all parts of an object or an array.
struct All;

impl<'de> Visitor<'de> for All {
    type Value = Parts<'de>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object or an array")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Self::Value, M::Error> {
        let mut members = Vec::new();
        while let Some((Key(key), value)) = map.next_entry::<_, &RawValue>()? {
            members.push((key, value.get()));
        }
        Ok(Parts::Members(members))
    }

    fn visit_seq<S: SeqAccess<'de>>(self, mut sequence: S) -> Result<Self::Value, S::Error> {
        let mut elements = Vec::new();
        while let Some(value) = sequence.next_element::<&RawValue>()? {
            elements.push(value.get());
        }
        Ok(Parts::Elements(elements))
    }
}

/// An object's key, borrowed from the text unless it has escapes.
#[derive(serde::Deserialize)]
struct Key<'a>(#[serde(borrow)] Cow<'a, str>);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_comes_back_byte_for_byte() {
        let text = "{ \"b\" : 1.0e400,\n \"a\":\"\\u00fc\" , \"a\" : [ ] }";
        let padded = format!("\n {text}\r\n");
        assert_eq!(Json::parse(padded.as_bytes()).unwrap().text(), text);
    }

    #[test]
    fn what_is_no_json_is_refused() {
        for bytes in
            [&b""[..], b"{", b"{}x", b"<html>", b"\"\xff\"", b"\xef\xbb\xbf{}", b"NaN", b"{'a':1}", b"[1,]"]
        {
            assert_eq!(Json::parse(bytes), None, "{bytes:?}");
        }
    }

    #[test]
    fn nesting_is_bounded() {
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert!(Json::parse(nested(MAX_DEPTH).as_bytes()).is_some());
        assert!(Json::parse(nested(MAX_DEPTH + 1).as_bytes()).is_none());
        assert!(Json::parse(nested(200_000).as_bytes()).is_none());
        let flat = format!("[{}\"[[\\\"[\"]", "[],".repeat(500));
        assert!(Json::parse(flat.as_bytes()).is_some());
    }

    #[test]
    fn a_pointer_slices_the_original() {
        let text = br#"{"data": {"a/b": [ 1, {"x" : null} ]}, "data ": 2}"#;
        let json = Json::parse(text).unwrap();
        for (pointer, expected) in [
            ("", Some(std::str::from_utf8(text).unwrap())),
            ("/data/a~1b/1", Some(r#"{"x" : null}"#)),
            ("/data/a~1b/1/x", Some("null")),
            ("/data/a~1b/01", None),
            ("/data/a~1b/2", None),
            ("/nothing", None),
            ("/data/a~1b/0/x", None),
        ] {
            let tokens = parse_pointer(pointer).unwrap();
            assert_eq!(json.at(&tokens).map(Json::text), expected, "{pointer}");
        }
        assert!(
            parse_pointer("data").is_err() && parse_pointer("/a~2").is_err() && parse_pointer("/a~").is_err()
        );
    }

    #[test]
    fn an_id_is_a_string_or_an_integer() {
        for (text, id) in [
            (r#"{"id": 42}"#, Some("42")),
            (r#"{"id": "c\u00fcs"}"#, Some("cüs")),
            (r#"{"_id": "507f"}"#, Some("507f")),
            (r#"{"uuid": "u", "id": null}"#, Some("u")),
            (r#"{"id": 1.5}"#, None),
            (r#"{"id": ""}"#, None),
            (r#"{"id": {"id": 1}}"#, None),
            (r#"[{"id": 1}]"#, None),
            ("7", None),
        ] {
            assert_eq!(Json::parse(text.as_bytes()).unwrap().id().as_deref(), id, "{text}");
        }
    }

    #[test]
    fn a_written_string_reads_back() {
        for text in ["plain", "a\"b\\c\n\u{1}ü🦀\u{7f}", ""] {
            let mut out = Vec::new();
            push_string(&mut out, text);
            assert_eq!(serde_json::from_slice::<String>(&out).unwrap(), text);
        }
    }
}
