//! Event ids: UUIDv7 (RFC 9562) without a source of randomness.
//!
//! A module for wasm32-unknown-unknown has no entropy of its own. So each VM makes one key from all that sets it apart
//! (clock, a counter shared by the workers, the node, the first request) and draws the ids' random part from
//! SHA-256(key, counter). Two VMs that differ in any ingredient have unrelated streams. The ids name events and let
//! repeats be recognised; they are no secrets.

use std::time::Duration;

use sha2::{Digest as _, Sha256};

/// Draws ids; one for each VM.
#[derive(Debug, Clone)]
pub struct Ids {
    key: [u8; 32],
    blocks: u64,
    pool: Vec<u64>,
    last_ms: u64,
    within_ms: u16,
    worker: String,
    sequence: u64,
}

impl Ids {
    /// A generator whose stream depends on every ingredient, and on their order and borders.
    pub fn new<'a>(ingredients: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let mut hash = Sha256::new();
        for ingredient in ingredients {
            hash.update(u64::try_from(ingredient.len()).unwrap_or(u64::MAX).to_le_bytes());
            hash.update(ingredient);
        }
        let key: [u8; 32] = hash.finalize().into();
        // A name is public, the key is not.
        let name = Sha256::new().chain_update(b"worker").chain_update(key).finalize();
        let worker = name.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        Self { key, blocks: 0, pool: Vec::new(), last_ms: 0, within_ms: 0, worker, sequence: 0 }
    }

    /// The VM's name, and the number of its next event, from 1 on.
    pub fn sequence(&mut self) -> (&str, u64) {
        self.sequence += 1;
        (&self.worker, self.sequence)
    }

    /// The VM's name.
    pub fn worker(&self) -> &str {
        &self.worker
    }

    /// The next id, at a time since the Unix epoch; ids of one VM ascend even if the clock steps back.
    pub fn next(&mut self, now: Duration) -> String {
        let ms = u64::try_from(now.as_millis()).unwrap_or(u64::MAX).max(self.last_ms);
        self.within_ms = if ms == self.last_ms { self.within_ms + 1 } else { 0 };
        // The 12 bits of rand_a count within a millisecond (RFC 9562, 6.2, method 1); a spill borrows the next one.
        self.last_ms = ms + u64::from(self.within_ms >> 12);
        self.within_ms &= 0x0fff;
        let head = (self.last_ms << 16) | 0x7000 | u64::from(self.within_ms);
        let tail = (self.random() >> 2) | (0b10 << 62);
        uuid_text(u128::from(head) << 64 | u128::from(tail))
    }

    /// A number in [0, 1), for jitter.
    pub fn fraction(&mut self) -> f64 {
        f64::from(u32::try_from(self.random() >> 32).unwrap_or(0)) / (f64::from(u32::MAX) + 1.0)
    }

    fn random(&mut self) -> u64 {
        if self.pool.is_empty() {
            self.blocks += 1;
            let block: [u8; 32] = Sha256::new()
                .chain_update(self.key)
                .chain_update(self.blocks.to_le_bytes())
                .finalize()
                .into();
            let (words, _) = block.as_chunks::<8>();
            self.pool.extend(words.iter().map(|word| u64::from_le_bytes(*word)));
        }
        self.pool.pop().unwrap_or_default()
    }
}

/// The usual form, 8-4-4-4-12; `format!` would take longer than all the rest of an id.
fn uuid_text(id: u128) -> String {
    let mut text = Vec::with_capacity(36);
    for (at, byte) in id.to_be_bytes().into_iter().enumerate() {
        if matches!(at, 4 | 6 | 8 | 10) {
            text.push(b'-');
        }
        text.extend(
            [byte >> 4, byte & 0xf]
                .map(|nibble| if nibble < 10 { b'0' + nibble } else { b'a' - 10 + nibble }),
        );
    }
    String::from_utf8(text).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn ids(ingredient: &str) -> Ids {
        Ids::new([ingredient.as_bytes()])
    }

    #[test]
    fn an_id_is_a_uuid_of_version_7_with_its_time() {
        assert_eq!(
            uuid_text(0x0123_4567_89ab_cdef_0123_4567_89ab_cdef),
            "01234567-89ab-cdef-0123-456789abcdef"
        );
        let id = ids("a").next(Duration::from_millis(0x0123_4567_89ab));
        assert_eq!(id.get(..18), Some("01234567-89ab-7000"));
        assert!(id.len() == 36 && matches!(id.as_bytes()[19], b'8' | b'9' | b'a' | b'b'), "{id}");
    }

    #[test]
    fn ids_of_one_vm_ascend_and_differ_even_when_the_clock_steps_back() {
        let mut generator = ids("a");
        let clock = [5_000, 5_000, 4_000, 5_001, 1].into_iter().cycle();
        let drawn: Vec<_> = clock.take(20_000).map(|ms| generator.next(Duration::from_millis(ms))).collect();
        assert!(drawn.is_sorted(), "a later id is the greater one");
        assert_eq!(drawn.iter().collect::<BTreeSet<_>>().len(), drawn.len());
    }

    #[test]
    fn vms_that_differ_in_one_ingredient_share_no_id() {
        let now = Duration::from_secs(1);
        let mut seen = BTreeSet::new();
        for vm in 0..50 {
            let mut generator = ids(&vm.to_string());
            assert!((0..200).all(|_| seen.insert(generator.next(now))));
        }
        assert_ne!(Ids::new([&b"ab"[..], b"c"]).next(now), Ids::new([&b"a"[..], b"bc"]).next(now));
    }

    #[test]
    fn events_of_a_vm_are_counted_under_its_name() {
        let (mut one, mut other) = (ids("a"), ids("b"));
        assert_eq!((one.sequence().1, one.sequence().1), (1, 2));
        assert_ne!(one.worker(), other.sequence().0);
        assert_eq!(one.worker().len(), 16);
    }

    #[test]
    fn a_fraction_lies_below_one() {
        let mut generator = ids("a");
        let drawn: Vec<_> = (0..1_000).map(|_| generator.fraction()).collect();
        assert!(drawn.iter().all(|fraction| (0.0..1.0).contains(fraction)));
        let mean = drawn.iter().sum::<f64>() / 1_000.0;
        assert!((0.4..0.6).contains(&mean), "{mean}");
    }
}
