//! What stands in a message: the id of a delivery, or in SQS the ids of several, each on a line.
//!
//! A queue is open to others, so what comes is looked at before anything is made of it.

use crate::limits;
use crate::model::DeliveryId;

/// The id that the bytes are, if they are one.
pub(super) fn id(bytes: &[u8]) -> Option<DeliveryId> {
    let is_id = bytes.len() <= limits::CALL_ID
        && bytes.strip_prefix(b"dlv_").is_some_and(|rest| !rest.is_empty())
        && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'));
    // What passed is ASCII.
    is_id.then(|| DeliveryId(String::from_utf8_lossy(bytes).into_owned()))
}

/// The text of a message with these ids.
pub(super) fn text(deliveries: &[DeliveryId]) -> String {
    deliveries.iter().map(DeliveryId::as_str).collect::<Vec<_>>().join("\n")
}

/// The ids that the text is made of, if it is made of ids alone and of no more than we would put in.
pub(super) fn ids(text: &str) -> Option<Vec<DeliveryId>> {
    if text.len() > limits::CALLS_PER_MESSAGE * (limits::CALL_ID + 1) {
        return None;
    }
    let ids = text.split('\n').map(|line| id(line.as_bytes())).collect::<Option<Vec<_>>>()?;
    (ids.len() <= limits::CALLS_PER_MESSAGE).then_some(ids)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_ids_are_read_back_as_they_were_written() {
        let some = |count: usize| (0..count).map(|at| DeliveryId(format!("dlv_{at}"))).collect::<Vec<_>>();
        for count in [1, 2, limits::CALLS_PER_MESSAGE] {
            assert_eq!(ids(&text(&some(count))), Some(some(count)));
        }
        let too_many = text(&some(limits::CALLS_PER_MESSAGE + 1));
        for other in ["", "\n", "dlv_1\n", "dlv_1,dlv_2", "dlv_1\nsub_1", &too_many] {
            assert_eq!(ids(other), None, "{other:?}");
        }
    }

    #[test]
    fn only_ids_of_deliveries_are_taken() {
        let ours = DeliveryId::new(jiff::Timestamp::UNIX_EPOCH, [7; 10]);
        assert_eq!(id(ours.as_str().as_bytes()), Some(ours));
        let long = format!("dlv_{}", "a".repeat(limits::CALL_ID));
        for other in ["", "dlv_", "sub_1", "dlv_1 ", "dlv_ü", " dlv_1", "dlv_1\n", &long] {
            assert_eq!(id(other.as_bytes()), None, "{other:?}");
        }
        assert_eq!(id(&[0xff, 0x00]), None);
    }
}
