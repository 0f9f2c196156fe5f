//! So many in a time: `100/s`, `600/m`, `1000/h`.
//!
//! Pure: a token bucket that gets `now` as an argument.

use std::fmt;
use std::str::FromStr;

/// So many in a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    count: u32,
    period_s: u32,
}

impl Rate {
    /// In a second.
    pub fn per_second(self) -> f64 {
        f64::from(self.count) / f64::from(self.period_s)
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
        match count.parse() {
            Ok(count @ 1..=1_000_000) if count.to_string() == text[..text.len() - 2] => {
                Ok(Self { count, period_s })
            }
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
