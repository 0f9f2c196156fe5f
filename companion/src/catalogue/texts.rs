//! What a string looks like: a date, an address, a word, or data.
//!
//! Cautious where being wrong would mislead: a string has a format only where every reader of that format agrees.

use jiff::civil;
use serde::{Deserialize, Serialize};
use url::Url;

use crate::limits;

/// A format of JSON Schema (2020-12, §7.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    DateTime,
    Date,
    Uuid,
    Email,
    Uri,
}

impl Format {
    /// All of them; no string has two.
    const ALL: [Self; 5] = [Self::DateTime, Self::Date, Self::Uuid, Self::Email, Self::Uri];

    /// Its name in a schema.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::DateTime => "date-time",
            Self::Date => "date",
            Self::Uuid => "uuid",
            Self::Email => "email",
            Self::Uri => "uri",
        }
    }

    /// The format that a string has.
    pub(super) fn of(text: &str) -> Option<Self> {
        // Most strings have none, and this one look says so.
        let is_plain = text.len() <= limits::TARGET_URL && text.is_ascii() && text.contains(['-', '@', ':']);
        Self::ALL.into_iter().find(|format| is_plain && format.fits(text))
    }

    fn fits(self, text: &str) -> bool {
        match self {
            Self::DateTime => is_date_time(text),
            Self::Date => is_date(text),
            Self::Uuid => is_uuid(text),
            Self::Email => is_email(text),
            Self::Uri => is_uri(text),
        }
    }
}

/// The format that all strings of a place have had.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(transparent)]
pub(super) struct Formats(u8);

impl Formats {
    /// Takes a string in; `is_first` where it is the first of its place.
    pub(super) fn observe(&mut self, text: &str, is_first: bool) {
        if is_first || self.0 != 0 {
            let own = Format::of(text).map_or(0, |format| 1 << format as u8);
            self.0 = if is_first { own } else { self.0 & own };
        }
    }

    /// What both had, where both had strings.
    pub(super) fn merge(self, other: Self, (own_is_empty, other_is_empty): (bool, bool)) -> Self {
        match (own_is_empty, other_is_empty) {
            (true, _) => other,
            (_, true) => self,
            _ => Self(self.0 & other.0),
        }
    }

    /// The format, where there is one.
    pub(super) fn get(self) -> Option<Format> {
        Format::ALL.into_iter().find(|format| self.0 & (1 << *format as u8) != 0)
    }
}

/// RFC 3339, in the form that everybody reads: capitals, and no leap second.
fn is_date_time(text: &str) -> bool {
    let Some((date, time)) = text.split_once('T') else { return false };
    let Some((time, offset)) = time.split_at_checked(8) else { return false };
    let fraction = offset.strip_prefix('.').map_or(0, |rest| 1 + leading_digits(rest));
    let offset = &offset[fraction..];
    let offset_fits = offset == "Z"
        || offset.strip_prefix(['+', '-']).is_some_and(|clock| is_clock(&format!("{clock}:00")));
    fraction != 1 && is_date(date) && is_clock(time) && offset_fits
}

fn is_date(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.len() == 10
        && bytes[4] == b'-'
        && bytes[7] == b'-'
        && text.parse::<civil::Date>().is_ok_and(|date| date.year() > 0)
}

/// `23:59:59`
fn is_clock(text: &str) -> bool {
    let mut parts = text.split(':').zip([24, 60, 60]);
    let fits = |(part, most): (&str, u8)| {
        part.len() == 2 && leading_digits(part) == 2 && part.parse().is_ok_and(|number: u8| number < most)
    };
    text.len() == 8 && parts.by_ref().take(3).filter(|part| fits(*part)).count() == 3
}

fn leading_digits(text: &str) -> usize {
    text.bytes().take_while(u8::is_ascii_digit).count()
}

fn is_uuid(text: &str) -> bool {
    text.len() == 36
        && text.bytes().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        })
}

/// Only what nobody doubts: dots and words before the `@`, a name of several labels after it.
fn is_email(text: &str) -> bool {
    let Some((local, domain)) = text.split_once('@') else { return false };
    let word = |part: &str| !part.is_empty() && part.bytes().all(|byte| is_alphanumeric_or(byte, b"_+-"));
    let label = |part: &str| {
        word(part)
            && part.len() <= 63
            && part.bytes().all(|byte| is_alphanumeric_or(byte, b"-"))
            && !part.starts_with('-')
            && !part.ends_with('-')
    };
    let is_name = domain.contains('.') && domain.rsplit('.').next().is_some_and(|top| top.len() >= 2);
    local.len() <= 64
        && domain.len() <= 253
        && local.split('.').all(word)
        && is_name
        && domain.split('.').all(label)
}

/// An address of the web with a host, and nothing in it that would have to be encoded.
fn is_uri(text: &str) -> bool {
    let is_plain = text.bytes().all(|byte| is_alphanumeric_or(byte, b"-._~:/?#@!$&'()*+,;=%"));
    let mut parts = text.split('%').skip(1);
    let is_encoded =
        parts.all(|part| part.len() >= 2 && part.as_bytes().iter().take(2).all(u8::is_ascii_hexdigit));
    let has_host = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    let has_host = has_host.is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_alphanumeric()));
    has_host && is_plain && is_encoded && text.matches('#').count() <= 1 && Url::parse(text).is_ok()
}

fn is_alphanumeric_or(byte: u8, others: &[u8]) -> bool {
    byte.is_ascii_alphanumeric() || others.contains(&byte)
}

/// Whether a string may be one of a few words that a program knows: short, of one case, without spaces.
pub(super) fn is_word(text: &str) -> bool {
    let of = |letter: fn(&u8) -> bool| {
        text.bytes().all(|byte| letter(&byte) || is_digit_or(byte, b"_-."))
            && text.bytes().next().is_some_and(|byte| letter(&byte))
    };
    text.len() <= limits::CATALOGUE_WORD
        && (of(u8::is_ascii_lowercase) || of(u8::is_ascii_uppercase))
        && !is_data(text)
}

fn is_digit_or(byte: u8, others: &[u8]) -> bool {
    byte.is_ascii_digit() || others.contains(&byte)
}

/// Whether a member's name is data itself: an id, an address, a date, a sentence.
pub(super) fn is_data(name: &str) -> bool {
    let is_name = |c: char| c.is_ascii_alphanumeric() || "_-.:$@".contains(c);
    let digits = name.bytes().filter(u8::is_ascii_digit).count();
    let all = |fits: fn(u8) -> bool| name.bytes().all(fits);
    let is_number = name.starts_with(|c: char| c.is_ascii_digit()) && all(|byte| is_digit_or(byte, b"-.,:"));
    let is_hexadecimal = name.len() >= 8 && digits > 0 && all(|byte| byte.is_ascii_hexdigit());
    let is_token = name.len() >= 20 && digits >= 2 && all(|byte| byte.is_ascii_alphanumeric());
    name.is_empty()
        || name.len() > limits::CATALOGUE_KEY
        || !name.chars().all(is_name)
        || name.chars().skip(1).any(|c| c == '@')
        || is_number
        || is_hexadecimal
        || is_uuid(name)
        || is_token
        || is_key(name)
        || is_prefixed(name)
}

/// `PROJ-123`
fn is_key(name: &str) -> bool {
    name.split_once('-').is_some_and(|(letters, number)| {
        letters.len() >= 2
            && letters.bytes().all(|byte| byte.is_ascii_uppercase())
            && !number.is_empty()
            && number.bytes().all(|byte| is_digit_or(byte, b"-"))
    })
}

/// `cus_9s6XKzkNRiz8i3`: behind a prefix letters follow digits, as they do in no `address_line2`.
fn is_prefixed(name: &str) -> bool {
    let Some((_, tail)) = name.rsplit_once(['_', '-']) else { return false };
    let first_digit = tail.bytes().position(|byte| byte.is_ascii_digit());
    let mixes = first_digit.is_some_and(|at| tail[at..].bytes().any(|byte| byte.is_ascii_alphabetic()));
    tail.len() >= 4 && mixes && tail.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_format_is_seen_where_every_reader_agrees() {
        for (text, format) in [
            ("2026-01-30T12:34:56Z", Some("date-time")),
            ("2026-01-30T12:34:56.000789+01:00", Some("date-time")),
            ("2026-01-30T12:34:56", None),
            ("2026-01-30T24:00:00Z", None),
            ("2026-01-30T12:34:56.Z", None),
            ("2026-02-30T12:34:56Z", None),
            ("2026-01-30 12:34:56Z", None),
            ("2026-01-30T12:34:56+0100", None),
            ("2026-01-30", Some("date")),
            ("2026-1-30", None),
            ("20260130", None),
            ("3fa85f64-5717-4562-b3fc-2c963f66afa6", Some("uuid")),
            ("3fa85f64-5717-4562-b3fc-2c963f66afa", None),
            ("ada.lovelace+x@mail.example.com", Some("email")),
            ("ada@localhost", None),
            ("@example.com", None),
            ("a..b@example.com", None),
            ("https://example.com/a?b=c#d", Some("uri")),
            ("https://example.com/%zz", None),
            ("https:///x", None),
            ("urn:x", None),
            ("contact:7", None),
            ("", None),
        ] {
            assert_eq!(Format::of(text).map(Format::name), format, "{text}");
        }
    }

    #[test]
    fn names_and_data_are_told_apart() {
        for name in [
            "id",
            "first_name",
            "addressLine1",
            "address_line2",
            "@type",
            "$ref",
            "_links",
            "x-rate",
            "sha256",
            "oauth2_token",
            "metadata",
            "OrderStatus",
            "dc:title",
            "v2",
            "md5",
            "facade",
            "line.1",
        ] {
            assert!(!is_data(name), "{name}");
        }
        for name in [
            "",
            "7",
            "2026-01-30",
            "ada@example.com",
            "Ada Lovelace",
            "grüße",
            "3fa85f64-5717-4562-b3fc-2c963f66afa6",
            "507f1f77bcf86cd799439011",
            "cus_9s6XKzkNRiz8i3",
            "PROJ-123",
            "0ujtsYcgvSTl8PAuAdqWYSMnLOv",
            "a/b",
            "+49",
        ] {
            assert!(is_data(name), "{name}");
        }
    }

    #[test]
    fn words_are_short_and_of_one_case() {
        for word in ["paid", "in_transit", "USD", "CARD-PRESENT", "v2"] {
            assert!(is_word(word), "{word}");
        }
        for text in [
            "",
            "Ada",
            "ada lovelace",
            "ada@example.com",
            "7",
            "-x",
            "straße",
            "a_very_long_word_that_no_program_would_ever_have",
        ] {
            assert!(!is_word(text), "{text}");
        }
    }
}
