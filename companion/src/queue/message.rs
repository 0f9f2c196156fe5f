//! What stands in a message: the id of a delivery.
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

#[cfg(test)]
mod tests {
    use super::*;

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
