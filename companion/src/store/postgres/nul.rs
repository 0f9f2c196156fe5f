//! Zero bytes in text, which PostgreSQL cannot hold: written as `\0` in columns of free text, where a backslash is `\\`.
//!
//! What callers name things by has none: the API refuses it in what it accepts.

use std::borrow::Cow;

/// A text as it is kept.
pub(in crate::store) fn escaped(text: &str) -> Cow<'_, str> {
    match text.contains(['\0', '\\']) {
        true => text.replace('\\', r"\\").replace('\0', r"\0").into(),
        false => text.into(),
    }
}

/// As [`escaped`], of a text that may not be there.
pub(super) fn escaped_option(text: Option<&str>) -> Option<Cow<'_, str>> {
    text.map(escaped)
}

/// Whether one of these texts has a zero byte, so that nothing is found by it.
pub(super) fn is_in<'a>(texts: impl IntoIterator<Item = &'a Option<String>>) -> bool {
    texts.into_iter().flatten().any(|text| text.contains('\0'))
}

/// A text as it was written.
pub(super) fn unescaped(kept: &str) -> String {
    let (mut text, mut rest) = (String::with_capacity(kept.len()), kept.chars());
    while let Some(c) = rest.next() {
        match c {
            '\\' => text.push(if rest.next() == Some('0') { '\0' } else { '\\' }),
            c => text.push(c),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_text_comes_back(text in r"[\x00\\0a]{0,12}") {
            prop_assert!(!escaped(&text).contains('\0'));
            prop_assert_eq!(unescaped(&escaped(&text)), text);
        }
    }
}
