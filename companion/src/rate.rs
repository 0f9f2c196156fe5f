//! So many in a time: `100/s`, `600/m`, `1000/h`; and the bucket that keeps to it.
//!
//! Pure: `now` is an argument.

use std::fmt;
use std::str::FromStr;

use jiff::{SignedDuration, Timestamp};

/// So many in a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    count: u32,
    period_s: u32,
}

impl Rate {
    /// So many in so many seconds.
    pub(crate) const fn new(count: u32, period_s: u32) -> Self {
        Self { count, period_s }
    }

    /// In a second.
    pub fn per_second(self) -> f64 {
        f64::from(self.count) / f64::from(self.period_s)
    }

    /// At most so many at once: a second's worth, at least one.
    fn burst(self) -> f64 {
        self.per_second().max(1.0)
    }
}

impl FromStr for Rate {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const ALLOWED: &str = "must be a whole number from 1 to 1000000 and /s, /m or /h, such as 100/s";
        let (count, unit) = text.split_once('/').ok_or(ALLOWED)?;
        let period_s = match unit {
            "s" => 1,
            "m" => 60,
            "h" => 3600,
            _ => return Err(ALLOWED),
        };
        let digits = count.bytes().all(|byte| byte.is_ascii_digit()) && !count.starts_with('0');
        match count.parse() {
            Ok(count @ 1..=1_000_000) if digits => Ok(Self { count, period_s }),
            _ => Err(ALLOWED),
        }
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = match self.period_s {
            1 => 's',
            60 => 'm',
            _ => 'h',
        };
        write!(f, "{}/{unit}", self.count)
    }
}

/// A token bucket: full at first, filled at a rate, emptied by what is taken.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bucket {
    tokens: f64,
    filled_at: Timestamp,
}

impl Bucket {
    /// A full bucket.
    pub(crate) fn full(rate: Rate, now: Timestamp) -> Self {
        Self { tokens: rate.burst(), filled_at: now }
    }

    /// A bucket as it was kept: what was in it when it was last filled.
    pub(crate) fn of(tokens: f64, filled_at: Timestamp) -> Self {
        Self { tokens, filled_at }
    }

    /// What to keep of it, for [`Bucket::of`].
    pub(crate) fn state(&self) -> (f64, Timestamp) {
        (self.tokens, self.filled_at)
    }

    /// Takes up to `wanted` tokens; returns how many, or when there will be one.
    pub(crate) fn take(&mut self, wanted: usize, rate: Rate, now: Timestamp) -> Result<usize, Timestamp> {
        self.fill(rate, now);
        let taken = (self.tokens as usize).min(wanted);
        if taken == 0 && wanted > 0 {
            let missing_s = (1.0 - self.tokens) / rate.per_second();
            // Rounded up, so that there is a whole token when that time has come.
            let wait = SignedDuration::from_micros((missing_s * 1e6).ceil() as i64 + 1);
            return Err(now.checked_add(wait).unwrap_or(Timestamp::MAX));
        }
        self.tokens -= taken as f64;
        Ok(taken)
    }

    /// Puts tokens back that were not needed.
    pub(crate) fn give_back(&mut self, count: usize) {
        self.tokens += count as f64;
    }

    /// Whether it says no more than a new one would.
    pub(crate) fn is_full(&mut self, rate: Rate, now: Timestamp) -> bool {
        self.fill(rate, now);
        self.tokens >= rate.burst()
    }

    fn fill(&mut self, rate: Rate, now: Timestamp) {
        // A clock that was set back fills nothing and takes nothing.
        let passed_s = now.duration_since(self.filled_at).as_secs_f64().max(0.0);
        self.tokens = (self.tokens + passed_s * rate.per_second()).min(rate.burst());
        self.filled_at = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(micros: i64) -> Timestamp {
        Timestamp::from_microsecond(1_700_000_000_000_000 + micros).unwrap()
    }

    #[test]
    fn a_rate_is_read_and_written() {
        for text in ["1/s", "600/m", "1000000/h"] {
            assert_eq!(text.parse::<Rate>().unwrap().to_string(), text);
        }
        for wrong in ["", "0/s", "5", "5/d", "5/", "/s", "05/s", "+5/s", "1000001/s", "1.5/s", "-1/s", "5 /s"]
        {
            assert!(wrong.parse::<Rate>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_bucket_says_when_the_next_token_comes() {
        let rate: Rate = "6/m".parse().unwrap();
        let mut bucket = Bucket::full(rate, at(0));
        assert_eq!(bucket.take(5, rate, at(0)), Ok(1));
        let Err(next) = bucket.take(5, rate, at(0)) else { panic!("more than the burst") };
        assert!(next >= at(10_000_000) && next <= at(10_000_010), "{next}");
        assert_eq!(bucket.take(5, rate, next), Ok(1));
        bucket.give_back(1);
        assert_eq!(bucket.take(5, rate, next), Ok(1));
        assert!(
            bucket.take(1, rate, at(-1_000_000)).is_err(),
            "a clock that was set back gives nothing away"
        );
    }

    proptest! {
        /// However it is asked, an hour gives what the rate allows: the burst and the hour's worth, no more, no less.
        #[test]
        fn an_hour_gives_what_the_rate_allows(count in 1u32..5_000, unit in "[sm]", steps in prop::collection::vec(1i64..20_000_000, 1..50)) {
            let rate: Rate = format!("{count}/{unit}").parse().unwrap();
            let (mut bucket, mut now, mut taken, mut step) = (Bucket::full(rate, at(0)), 0, 0usize, 0);
            let hour = 3_600_000_000;
            loop {
                match bucket.take(1_000, rate, at(now)) {
                    Ok(some) => taken += some,
                    // Comes back when told, or a little later.
                    Err(next) => now = (next.as_microsecond() - at(0).as_microsecond()) + steps[step % steps.len()] % 50_000,
                }
                step += 1;
                if now > hour || step > 20_000 { break; }
            }
            let most = rate.burst() + rate.per_second() * now as f64 / 1e6;
            prop_assert!(taken as f64 <= most + 1e-6, "{} of {}", taken, most);
        }
    }
}
