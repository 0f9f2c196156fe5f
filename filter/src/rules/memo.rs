//! Nouns found before, by path segment.
//!
//! An API has few collections and many writes, and finding a singular means comparing a word with some hundred others. What
//! callers can choose is bounded: a full memo starts anew, so that junk costs time and never memory.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

/// More collections than an API has.
const MOST: usize = 256;

/// Longer segments are looked at anew each time.
const LONGEST: usize = 64;

/// A memo of what segments mean.
#[derive(Debug, Clone, Default)]
pub struct Memo {
    known: RefCell<BTreeMap<Box<str>, Option<Rc<str>>>>,
}

impl Memo {
    /// What the segment means; found once, and known from then on.
    pub(super) fn get_or(&self, segment: &str, find: impl FnOnce() -> Option<String>) -> Option<Rc<str>> {
        // Nothing in `find` comes back here, so the memo is free; if it were not, finding anew is as right.
        let Ok(mut known) = self.known.try_borrow_mut() else { return find().map(Rc::from) };
        if let Some(meaning) = known.get(segment) {
            return meaning.clone();
        }
        let meaning: Option<Rc<str>> = find().map(Rc::from);
        if segment.len() <= LONGEST {
            if known.len() >= MOST {
                known.clear();
            }
            known.insert(segment.into(), meaning.clone());
        }
        meaning
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_segment_is_looked_at_once_and_a_full_memo_starts_anew() {
        let (memo, count) = (Memo::default(), std::cell::Cell::new(0));
        let look = |segment: &str| {
            let find = || {
                count.set(count.get() + 1);
                (segment != "?").then(|| segment.to_uppercase())
            };
            memo.get_or(segment, find)
        };
        for _ in 0..3 {
            assert_eq!((look("a").as_deref(), look("?")), (Some("A"), None));
        }
        assert_eq!(count.get(), 2);
        for number in 0..MOST {
            look(&number.to_string());
        }
        assert!(memo.known.borrow().len() <= MOST);
        look("a");
        assert_eq!(count.get(), 3 + MOST);
    }
}
