//! Times that processes of one machine can compare, and chance.

use std::fmt;
use std::hash::{BuildHasher as _, RandomState};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// A time of the clock that nobody sets, in nanoseconds since the machine started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Moment(pub(crate) u64);

impl Moment {
    pub(crate) fn now() -> Self {
        let now = clock_gettime(ClockId::Monotonic);
        let nanoseconds = i128::from(now.tv_sec) * 1_000_000_000 + i128::from(now.tv_nsec);
        Self(u64::try_from(nanoseconds).unwrap_or_default())
    }

    /// The time from an earlier moment until this one; none where it was not earlier.
    pub(crate) fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

/// Something shorter than `most`, different each time.
pub(crate) fn up_to(most: Duration) -> Duration {
    most.mul_f64(chance())
}

/// A number in [0, 1).
pub(crate) fn chance() -> f64 {
    let random = RandomState::new().hash_one(Moment::now().0);
    f64::from(u32::try_from(random >> 32).unwrap_or_default()) / (f64::from(u32::MAX) + 1.0)
}

/// Milliseconds or seconds, as a person reads them.
pub(crate) fn shown(duration: Duration) -> String {
    match duration.as_secs_f64() {
        short if short < 10.0 => format!("{:.0} ms", short * 1e3),
        long => format!("{long:.1} s"),
    }
}
