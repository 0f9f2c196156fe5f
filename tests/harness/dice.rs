//! Draws by a generator that is the same everywhere (xorshift64*), so that a seed names all that came of it.

/// A seeded generator.
#[derive(Debug, Clone)]
pub struct Dice(u64);

impl Dice {
    /// Draws from this seed; 0 is no seed of this generator, so it counts as another one.
    pub fn new(seed: u64) -> Self {
        Self(if seed == 0 { u64::MAX } else { seed })
    }

    /// A number below `most`, which is not 0.
    pub fn below(&mut self, most: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let drawn = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33;
        usize::try_from(drawn).unwrap_or_default() % most
    }

    /// One of a list that is not empty.
    pub fn pick<'a, T: ?Sized>(&mut self, from: &[&'a T]) -> &'a T {
        from[self.below(from.len())]
    }
}
