//! Which answers may be held until the companion has their event.
//!
//! Envoy keeps a held body in a buffer, and a body that outgrows it becomes an error, after the write was committed. So an
//! answer is held only as long as not even the largest next piece could outgrow the buffer; all others pass.

use std::time::Duration;

/// Mode `hold`, compiled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hold {
    /// How long an answer is held at most.
    pub timeout: Duration,
    /// The largest body that is held, in bytes.
    pub max_body_bytes: usize,
    /// What Envoy's listener buffers, in bytes (`per_connection_buffer_limit_bytes`).
    pub buffer_bytes: usize,
    /// The largest piece in which Envoy reads from the API, in bytes (the cluster's `per_connection_buffer_limit_bytes`);
    /// `None` if it is not known, so that bodies of unknown length are not held.
    pub read_bytes: Option<usize>,
}

impl Hold {
    /// Whether an answer may be held from its headers on; `length` is what they declare.
    pub fn begins(&self, ends: bool, length: Option<usize>) -> bool {
        match length {
            _ if ends => true,
            // Envoy sees to it that no more comes than was declared.
            Some(length) => length <= self.max_body_bytes && length <= self.buffer_bytes,
            None => self.goes_on(0),
        }
    }

    /// Whether a body of unknown length may be held further, now that so much of it is there.
    pub fn goes_on(&self, size: usize) -> bool {
        let next = self.read_bytes.and_then(|read| size.checked_add(read));
        size <= self.max_body_bytes && next.is_some_and(|next| next <= self.buffer_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hold(read_bytes: Option<usize>) -> Hold {
        Hold { timeout: Duration::ZERO, max_body_bytes: 100, buffer_bytes: 120, read_bytes }
    }

    #[test]
    fn what_cannot_outgrow_the_buffer_is_held() {
        assert!(hold(None).begins(true, None));
        assert!(hold(None).begins(false, Some(100)));
        assert!(!hold(None).begins(false, Some(101)));
        assert!(!hold(None).begins(false, None));
    }

    #[test]
    fn a_body_of_unknown_length_is_held_until_the_next_piece_might_be_too_much() {
        let hold = hold(Some(30));
        assert!(hold.begins(false, None) && hold.goes_on(90));
        assert!(!hold.goes_on(91));
        assert!(!Hold { read_bytes: Some(1), ..hold.clone() }.goes_on(101));
        assert!(!Hold { read_bytes: Some(usize::MAX), ..hold }.begins(false, None));
    }
}
