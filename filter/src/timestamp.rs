//! The time of an event as text; a calendar library would be many times the size of this one function.

use std::time::Duration;

/// RFC 3339 in UTC with microseconds, for a time since the Unix epoch: `2026-03-01T12:00:00.000001Z`.
pub fn timestamp(since_epoch: Duration) -> String {
    let seconds = since_epoch.as_secs();
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    // Civil date from days, after Howard Hinnant; eras of 400 years that begin on 1 March.
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let mut text = Vec::with_capacity(27);
    let two = |number: u64| {
        // Below 100, so that both digits fit into a byte.
        let number = u8::try_from(number).unwrap_or_default();
        [b'0' + number / 10, b'0' + number % 10]
    };
    let micros = u64::from(since_epoch.subsec_micros());
    text.extend(two(year / 100));
    text.extend(two(year % 100));
    for (mark, number) in [
        (b'-', month),
        (b'-', day),
        (b'T', second / 3_600),
        (b':', second / 60 % 60),
        (b':', second % 60),
        (b'.', micros / 10_000),
    ] {
        text.push(mark);
        text.extend(two(number));
    }
    text.extend(two(micros / 100 % 100));
    text.extend(two(micros % 100));
    text.push(b'Z');
    String::from_utf8(text).unwrap_or_default()
}

/// Twelve digits, zeros in front; text of one length sorts as it counts.
pub fn twelve_digits(number: u64) -> [u8; 12] {
    let (mut digits, mut rest) = ([b'0'; 12], number);
    for digit in digits.iter_mut().rev() {
        *digit += u8::try_from(rest % 10).unwrap_or_default();
        rest /= 10;
    }
    digits
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_has_twelve_digits() {
        assert_eq!(&twelve_digits(0), b"000000000000");
        assert_eq!(&twelve_digits(123_456_789_012), b"123456789012");
        assert_eq!(&twelve_digits(7), b"000000000007");
    }

    #[test]
    fn timestamps_are_rfc_3339_with_microseconds() {
        for (seconds, nanoseconds, text) in [
            (0, 0, "1970-01-01T00:00:00.000000Z"),
            (951_782_400, 1_999, "2000-02-29T00:00:00.000001Z"),
            (1_767_225_599, 999_999_999, "2025-12-31T23:59:59.999999Z"),
            (4_107_542_400, 0, "2100-03-01T00:00:00.000000Z"),
        ] {
            assert_eq!(timestamp(Duration::new(seconds, nanoseconds)), text);
        }
    }
}
