//! The one place that reads the clock.
//!
//! Rules and store take `now` as an argument; the edges get theirs from a [`Clock`], which tests move by hand.
//!
//! All times that are kept are those of the wall clock, which people set and daemons correct. When it jumps forward, what is
//! pending is due earlier, and retention forgets sooner; nothing need be done, and nothing could be. When it jumps back,
//! what was due now would wait for as long as the jump was. [`Jumps`] sees that, by a clock that nobody sets, and the
//! [`crate::timekeeper`] moves what is pending back with it; what was written between the jump and that moment may be due
//! early, never late. `webhook-timestamp` and the times of attempts stay the wall clock's: receivers compare them with theirs.

use std::sync::LazyLock;
use std::time::{Duration, Instant};

use jiff::Timestamp;

use crate::limits;
use crate::retry::later;

/// Tells the time.
pub trait Clock: Send + Sync {
    /// The current time, in whole microseconds as the store keeps it.
    fn now(&self) -> Timestamp;

    /// Time since some moment before the first call. Nobody sets it, and it stands still while the machine sleeps.
    fn elapsed(&self) -> Duration {
        static START: LazyLock<Instant> = LazyLock::new(Instant::now);
        START.elapsed()
    }
}

/// The system's clock.
#[derive(Clone, Copy, Debug)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(
        clippy::disallowed_methods,
        reason = "the edges get the time here, everything else from the edges"
    )]
    fn now(&self) -> Timestamp {
        let now = Timestamp::now();
        Timestamp::from_microsecond(now.as_microsecond()).unwrap_or(now)
    }
}

/// Sees the wall clock jump back. Pure.
#[derive(Debug)]
pub struct Jumps {
    wall: Timestamp,
    elapsed: Duration,
}

impl Jumps {
    /// Begins at a time of the wall clock and one of [`Clock::elapsed`].
    pub fn since(wall: Timestamp, elapsed: Duration) -> Self {
        Self { wall, elapsed }
    }

    /// How far the wall clock has jumped back since it was last looked at, [`limits::CLOCK_SLEW`] at least. `None` where it
    /// has not, or only so little, or has jumped forward.
    pub fn back(&mut self, wall: Timestamp, elapsed: Duration) -> Option<Duration> {
        let expected = later(self.wall, elapsed.saturating_sub(self.elapsed));
        *self = Self::since(wall, elapsed);
        let back = Duration::try_from(expected.duration_since(wall)).ok()?;
        (back >= limits::CLOCK_SLEW).then_some(back)
    }
}

/// Ten random bytes for an id, from the operating system.
///
/// # Panics
/// Where the system has no randomness: nothing could be signed or named safely.
pub fn random_id_bytes() -> [u8; 10] {
    let mut bytes = [0; 10];
    fill(&mut bytes).expect("the system gives randomness");
    bytes
}

/// A random number that names a claim.
///
/// # Panics
/// As [`random_id_bytes`].
pub fn random_token() -> i64 {
    let mut bytes = [0; 8];
    fill(&mut bytes).expect("the system gives randomness");
    i64::from_le_bytes(bytes)
}

/// A random number in [0, 1), for jitter.
pub fn random_fraction() -> f64 {
    let mut bytes = [0; 4];
    // Without randomness the middle is as good: jitter only spreads load.
    if fill(&mut bytes).is_err() {
        return 0.5;
    }
    f64::from(u32::from_le_bytes(bytes)) / (f64::from(u32::MAX) + 1.0)
}

fn fill(bytes: &mut [u8]) -> Result<(), getrandom::Error> {
    #[cfg(test)]
    if crate::testing::drew(bytes) {
        return Ok(());
    }
    getrandom::fill(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_jump_back_is_seen_and_only_once() {
        // Seconds of the wall clock and of the other one, and how far the first has gone back.
        let looks = [
            ((100, 0), None),
            ((101, 1), None),
            ((7_300, 2), None),
            ((3_700, 2), Some(3_600)),
            ((3_701, 3), None),
            ((3_701, 5), Some(2)),
            ((3_711, 15), None),
            ((3_705, 15), Some(6)),
        ];
        let at = |second| Timestamp::from_second(second).unwrap();
        let mut jumps = Jumps::since(at(100), Duration::ZERO);
        for ((wall, elapsed), expected) in looks {
            let back = jumps.back(at(wall), Duration::from_secs(elapsed));
            assert_eq!(back, expected.map(Duration::from_secs), "{wall} after {elapsed} s");
        }
    }

    #[test]
    fn what_a_daemon_corrects_by_slewing_is_not_a_jump() {
        let at = |millisecond| Timestamp::from_millisecond(millisecond).unwrap();
        let mut jumps = Jumps::since(at(0), Duration::ZERO);
        for second in 1..10_000_u32 {
            // Half a millisecond a second is as fast as it gets.
            let wall = at(i64::from(second) * 1_000 - i64::from(second / 2));
            assert_eq!(jumps.back(wall, Duration::from_secs(second.into())), None);
        }
    }
}
