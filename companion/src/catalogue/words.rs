//! Whether the strings of a place are a few words, and which.
//!
//! A word is kept as a hash of 32 bits until the few are sure to be all: a hundred strings seen, each word several times, and
//! no new one for as long as all before took. From then on words are kept in clear as they come. A string that is no word, or
//! one word too many, and all is forgotten for good.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::texts::is_word;

/// Most words that are still a few.
const MOST: usize = 10;
/// Strings that have to be seen before anything is sure.
const SURE_AFTER: u64 = 100;
/// How often each word has to be seen.
const EACH: u64 = 5;

/// The words of a place.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
pub(super) struct Words {
    /// Whether they may be anything.
    #[serde(rename = "o", skip_serializing_if = "super::observed::is_default")]
    is_open: bool,
    #[serde(rename = "w", skip_serializing_if = "Vec::is_empty")]
    known: Vec<Word>,
    /// How many strings had been seen when the last new word came.
    #[serde(rename = "l", skip_serializing_if = "super::observed::is_default")]
    last_new: u64,
}

/// Hash, how often, and in clear where that is sure.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
struct Word(u32, u64, Option<String>);

impl Words {
    /// Takes a string in, the `count`th of its place.
    pub(super) fn observe(&mut self, text: &str, count: u64) {
        if self.is_open {
            return;
        }
        if !is_word(text) {
            return self.open();
        }
        let hash = hash(text);
        let is_full = self.known.len() == MOST;
        match self.known.iter_mut().find(|word| word.0 == hash) {
            Some(word) => word.1 += 1,
            None if is_full => return self.open(),
            None => {
                self.known.push(Word(hash, 1, None));
                self.known.sort_unstable_by_key(|word| word.0);
                self.last_new = count;
                self.known.iter_mut().for_each(|word| word.2 = None);
            }
        }
        if !self.is_sure(count) {
            return;
        }
        match self.known.iter_mut().find(|word| word.0 == hash) {
            Some(Word(.., clear @ None)) => *clear = Some(text.to_owned()),
            // Two words with the same hash.
            Some(Word(.., Some(clear))) if clear != text => self.open(),
            _ => {}
        }
    }

    /// The words, sorted, where `count` strings make them sure and all have come again since; else none.
    pub(super) fn sure(&self, count: u64) -> Vec<&str> {
        let mut words: Vec<&str> = self.known.iter().filter_map(|word| word.2.as_deref()).collect();
        if !self.is_sure(count) || words.len() < self.known.len() {
            return Vec::new();
        }
        words.sort_unstable();
        words
    }

    /// The words of two places of so many strings each; none is in clear, and the first half is seen anew.
    pub(super) fn merge(&mut self, other: Self, (own, others): (u64, u64)) {
        if self.is_open || other.is_open {
            return self.open();
        }
        for Word(hash, count, _) in other.known {
            match self.known.iter_mut().find(|word| word.0 == hash) {
                Some(word) => word.1 += count,
                None => self.known.push(Word(hash, count, None)),
            }
        }
        if self.known.len() > MOST {
            return self.open();
        }
        self.known.sort_unstable_by_key(|word| word.0);
        self.known.iter_mut().for_each(|word| word.2 = None);
        self.last_new = own + others;
    }

    fn is_sure(&self, count: u64) -> bool {
        // One word alone may be the only one that was needed so far.
        self.known.len() >= 2
            && count >= SURE_AFTER
            && self.last_new <= count / 2
            && self.known.iter().all(|word| word.1 >= EACH)
    }

    fn open(&mut self) {
        *self = Self { is_open: true, ..Self::default() };
    }
}

fn hash(text: &str) -> u32 {
    let digest = Sha256::digest(text.as_bytes());
    digest.iter().take(4).fold(0, |hash, byte| hash << 8 | u32::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The sure words after so many rounds through a list.
    fn check(texts: &[&str], rounds: usize, expected: &[&str]) -> Words {
        let mut words = Words::default();
        let mut count = 0;
        for _ in 0..rounds {
            for text in texts {
                count += 1;
                words.observe(text, count);
            }
        }
        assert_eq!(words.sure(count), expected, "{texts:?} {rounds} times");
        words
    }

    #[test]
    fn a_few_words_are_sure_after_a_hundred_strings() {
        check(&["paid", "open"], 49, &[]);
        check(&["paid", "open"], 51, &["open", "paid"]);
        check(&["paid"], 500, &[]);
        check(
            &["a", "b", "c", "d", "e", "f", "g", "h", "i", "j"],
            20,
            &["a", "b", "c", "d", "e", "f", "g", "h", "i", "j"],
        );
        check(&["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k"], 50, &[]);
        check(&["paid", "Ada"], 500, &[]);
    }

    #[test]
    fn nothing_is_in_clear_before_it_is_sure_and_nothing_after_it_is_not() {
        let early = check(&["anna", "bert"], 40, &[]);
        let mut late = check(&["anna", "bert"], 100, &["anna", "bert"]);
        late.observe("carl", 201);
        for words in [&early, &late] {
            assert!(words.known.iter().all(|word| word.2.is_none()), "{words:?}");
        }
        assert_eq!(late.sure(201), [""; 0]);
        late.observe("Dora Maar", 202);
        assert_eq!((late.known.len(), late.is_open), (0, true));
    }

    #[test]
    fn a_new_word_has_to_stand_the_test_again() {
        let mut words = check(&["paid", "open"], 100, &["open", "paid"]);
        for count in 201..=1_000 {
            words.observe(["paid", "open", "void"][count as usize % 3], count);
            let sure = words.sure(count);
            let expected = match count {
                ..203 => 2,
                203..408 => 0,
                _ => 3,
            };
            assert_eq!(sure.len(), expected, "{count}");
        }
    }
}
