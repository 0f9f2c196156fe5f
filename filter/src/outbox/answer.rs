//! What the companion's answer means for a batch.
//!
//! Only our own marker header makes a success: an Envoy, a proxy or a wrong cluster may answer 200 as well, and its 200
//! would lose events. What cannot become better by waiting is told apart from what can.

use std::time::Duration;

use crate::headers::Headers;

/// The meaning of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// The companion has dealt with every event of the batch: 2xx with `gatehook-ack`.
    Acknowledged {
        /// Events it has stored.
        accepted: usize,
        /// Events it had already.
        repeated: usize,
        /// Events it will never take.
        refused: usize,
    },
    /// 413: fewer or smaller events may pass.
    TooLarge,
    /// 400, 415 or 422: the same bytes will never pass.
    Malformed,
    /// Anything else, no answer included: try again.
    Unavailable {
        /// What the companion asked for, in whole seconds.
        retry_after: Option<Duration>,
    },
}

impl Answer {
    /// Reads the headers of an answer; none at all is how Envoy reports that the connection broke.
    pub fn read(headers: &Headers) -> Self {
        let acknowledgement = headers.text("gatehook-ack").and_then(read_acknowledgement);
        match (headers.text(":status").and_then(|status| status.parse::<u16>().ok()), acknowledgement) {
            (Some(200..=299), Some(acknowledged)) => acknowledged,
            (Some(413), _) => Self::TooLarge,
            (Some(400 | 415 | 422), None) => Self::Malformed,
            _ => {
                let seconds = headers.text("retry-after").and_then(|text| text.trim().parse().ok());
                Self::Unavailable { retry_after: seconds.map(Duration::from_secs) }
            }
        }
    }
}

/// `accepted=3;repeated=0;refused=1`, in any order; a count that is missing is none.
fn read_acknowledgement(text: &str) -> Option<Answer> {
    let (mut accepted, mut repeated, mut refused) = (0, 0, 0);
    for part in text.split(';') {
        let (name, count) = part.split_once('=')?;
        let count = count.trim().parse().ok()?;
        match name.trim() {
            "accepted" => accepted = count,
            "repeated" => repeated = count,
            "refused" => refused = count,
            _ => {}
        }
    }
    Some(Answer::Acknowledged { accepted, repeated, refused })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_marker_makes_a_success() {
        let unavailable = Answer::Unavailable { retry_after: None };
        let acknowledged = Answer::Acknowledged { accepted: 3, repeated: 0, refused: 1 };
        for (status, marker, expected) in [
            ("202", Some("accepted=3;repeated=0;refused=1"), acknowledged),
            ("200", Some("refused=1; accepted=3"), acknowledged),
            ("202", None, unavailable),
            ("202", Some(""), unavailable),
            ("202", Some("accepted=many"), unavailable),
            ("413", None, Answer::TooLarge),
            ("400", None, Answer::Malformed),
            ("415", None, Answer::Malformed),
            ("422", None, Answer::Malformed),
            ("401", None, unavailable),
            ("404", None, unavailable),
            ("503", Some("accepted=3"), unavailable),
            ("x", None, unavailable),
        ] {
            let marker_header = marker.map(|marker| ("gatehook-ack", marker));
            let headers = [(":status", status)].into_iter().chain(marker_header).collect();
            assert_eq!(Answer::read(&headers), expected, "{status} {marker:?}");
        }
        assert_eq!(Answer::read(&Headers::new()), unavailable);
    }

    #[test]
    fn retry_after_is_read_in_seconds() {
        let read = |value: &[u8]| {
            Answer::read(&[(":status", &b"503"[..]), ("retry-after", value)].into_iter().collect())
        };
        assert_eq!(read(b"7"), Answer::Unavailable { retry_after: Some(Duration::from_secs(7)) });
        for odd in [&b"-1"[..], b"soon", b"\xff", b""] {
            assert_eq!(read(odd), Answer::Unavailable { retry_after: None });
        }
    }
}
