//! Which segments of a path are ids, and which are versions: what the automatic rule knows without being told.
//!
//! Pure tests on one segment. They lean to the cautious side: a noun that passes for an id would name an event after the
//! wrong collection, while an id that passes for a noun only leaves the exchange unmatched, and counted.

/// Whether a path segment looks like the id of one resource.
///
/// Ids are numbers (also dates and dotted or dashed numbers), UUIDs, ULIDs, KSUIDs, hexadecimal from 8 digits, keys such
/// as `PROJ-123`, prefixed ids such as `cus_9s6X`, other random tokens, and anything with an `@`.
pub fn looks_like_id(segment: &str) -> bool {
    let bytes = segment.as_bytes();
    // Most segments are plain words, and no id is.
    if bytes.iter().all(|byte| byte.is_ascii_lowercase() || *byte == b'-') {
        return false;
    }
    is_numeric(bytes)
        || is_uuid(bytes)
        || is_hexadecimal(bytes)
        || is_key(segment)
        || is_prefixed(segment)
        || is_token(bytes)
        || segment.contains('@')
}

/// Whether a segment names a version of the API: `v2`, `v1.1`, `v1beta1`.
pub fn is_version(segment: &str) -> bool {
    let Some(rest) = segment.strip_prefix(['v', 'V']) else { return false };
    let number = rest.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.');
    let stage = number.trim_start_matches(|c: char| c.is_ascii_alphabetic());
    let named = matches!(number.strip_suffix(stage), Some("" | "alpha" | "beta" | "rc" | "preview"));
    number.len() < rest.len() && named && stage.bytes().all(|byte| byte.is_ascii_digit())
}

/// Whether a segment is a version by date (`2024-01`, `2024-01-31`), which it can only be behind a prefix such as `api`.
pub fn is_date_version(segment: &str) -> bool {
    let mut parts = segment.split('-').map(|part| (part.len(), is_digits(part.as_bytes())));
    parts.next() == Some((4, true))
        && parts.next() == Some((2, true))
        && matches!(parts.next(), None | Some((2, true)))
        && parts.next().is_none()
}

/// Whether a segment is a bare version number (`3`, `1.0`), which it can only be behind a prefix such as `api`.
pub fn is_version_number(segment: &str) -> bool {
    segment.len() <= 4
        && segment.starts_with(|c: char| c.is_ascii_digit())
        && segment.split('.').all(|part| (1..=2).contains(&part.len()) && is_digits(part.as_bytes()))
}

/// Whether a segment only says that an API begins here.
pub fn is_prefix(segment: &str) -> bool {
    ["api", "apis", "rest", "restapi"].iter().any(|word| segment.eq_ignore_ascii_case(word))
}

fn is_digits(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().all(u8::is_ascii_digit)
}

fn is_numeric(bytes: &[u8]) -> bool {
    bytes.first().is_some_and(u8::is_ascii_digit)
        && bytes.iter().all(|byte| byte.is_ascii_digit() || matches!(byte, b'-' | b'.' | b','))
}

fn is_uuid(bytes: &[u8]) -> bool {
    bytes.len() == 36
        && bytes.iter().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => *byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        })
}

/// At least 8 hexadecimal digits, one of them a digit proper, so that `facade` and `defaced` stay words.
fn is_hexadecimal(bytes: &[u8]) -> bool {
    bytes.len() >= 8 && bytes.iter().all(u8::is_ascii_hexdigit) && bytes.iter().any(u8::is_ascii_digit)
}

/// A key as issue trackers and invoices have it: capitals, a dash, then numbers.
fn is_key(segment: &str) -> bool {
    let Some((name, number)) = segment.split_once('-') else { return false };
    name.len() >= 2
        && name.starts_with(|c: char| c.is_ascii_uppercase())
        && name.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit())
        && number.split('-').all(|part| is_digits(part.as_bytes()))
}

/// `cus_9s6X`, `sk_test_4eC39H`: a lower-case prefix, then at least four letters and digits that mix.
fn is_prefixed(segment: &str) -> bool {
    let Some((prefix, tail)) = segment.rsplit_once('_') else { return false };
    let tail = tail.as_bytes();
    let prefix_fits = prefix.starts_with(|c: char| c.is_ascii_lowercase())
        && prefix.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_');
    let mixes = tail.iter().any(u8::is_ascii_digit)
        || (tail.iter().any(u8::is_ascii_lowercase) && tail.iter().skip(1).any(u8::is_ascii_uppercase));
    prefix_fits && tail.len() >= 4 && tail.iter().all(u8::is_ascii_alphanumeric) && mixes
}

/// ULID, KSUID, cuid, ObjectId and other random tokens: long without a break, or of all three kinds of character.
fn is_token(bytes: &[u8]) -> bool {
    let digits = bytes.iter().filter(|byte| byte.is_ascii_digit()).count();
    let plain = bytes.iter().all(u8::is_ascii_alphanumeric);
    let url_safe = bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
    let both_cases = bytes.iter().any(u8::is_ascii_lowercase) && bytes.iter().any(u8::is_ascii_uppercase);
    (bytes.len() >= 20 && plain && digits >= 2)
        || (bytes.len() >= 10 && url_safe && both_cases && digits >= 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_recognised() {
        for id in [
            "7",
            "000042",
            "2024-01-31",
            "1.2.3",
            "10,11",
            "3fa85f64-5717-4562-b3fc-2c963f66afa6",
            "3FA85F64-5717-4562-B3FC-2C963F66AFA6",
            "01ARZ3NDEKTSV4RRFFQ69G5FAV",
            "0ujtsYcgvSTl8PAuAdqWYSMnLOv",
            "507f1f77bcf86cd799439011",
            "deadbeef0",
            "cus_9s6X",
            "sk_test_4eC39HqLyjWD",
            "sub_1MowQVLkdIwHu7ixeRlqHVzs",
            "evt_abCD",
            "PROJ-123",
            "INV-2024-0001",
            "ckopqwooh000001la8mbi2im9",
            "dQw4w9WgXcQ",
            "V1StGXR8_Z5jdHi6B-myT",
            "joe@example.com",
        ] {
            assert!(looks_like_id(id), "{id} is an id");
        }
    }

    #[test]
    fn words_are_no_ids() {
        for word in [
            "orders",
            "order_items",
            "line-items",
            "lineItems",
            "cancel",
            "mark-paid",
            "oauth2",
            "facade",
            "defaced",
            "users_v2",
            "utf_8",
            "e-mail",
            "internationalization",
            "me",
            "ORDERS",
            "web_hooks",
            "s3-buckets",
            "organizationMemberships",
        ] {
            assert!(!looks_like_id(word), "{word} is a word");
        }
    }

    #[test]
    fn versions_are_recognised() {
        for version in ["v1", "V2", "v2.1", "v1beta1", "v1alpha2", "v3preview"] {
            assert!(is_version(version), "{version} is a version");
        }
        for other in ["v", "values", "vehicles", "1", "v1x"] {
            assert!(!is_version(other), "{other} is no version");
        }
        assert!(is_date_version("2024-01") && is_date_version("2024-01-31"));
        assert!(!is_date_version("2024") && !is_date_version("2024-1") && !is_date_version("2024-01-31-7"));
        assert!(is_version_number("3") && is_version_number("1.0"));
        assert!(!is_version_number("2024") && !is_version_number("x") && !is_version_number("1."));
    }
}
