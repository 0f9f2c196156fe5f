//! The one place that reads the clock.
//!
//! Rules and store take `now` as an argument; the edges get theirs from a [`Clock`], which tests move by hand.

use std::sync::LazyLock;
use std::time::{Duration, Instant};

use jiff::Timestamp;

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

/// Ten random bytes for an id, from the operating system.
///
/// # Panics
/// Where the system has no randomness: nothing could be signed or named safely.
pub fn random_id_bytes() -> [u8; 10] {
    let mut bytes = [0; 10];
    getrandom::fill(&mut bytes).expect("the system gives randomness");
    bytes
}

/// A random number in [0, 1), for jitter.
pub fn random_fraction() -> f64 {
    let mut bytes = [0; 4];
    // Without randomness the middle is as good: jitter only spreads load.
    if getrandom::fill(&mut bytes).is_err() {
        return 0.5;
    }
    f64::from(u32::from_le_bytes(bytes)) / (f64::from(u32::MAX) + 1.0)
}
