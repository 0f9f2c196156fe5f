//! The one host call that the SDK does not make as we need it: all of a header map in one piece.
//!
//! The SDK takes the map apart into two allocations for each field, and panics on a status that it does not expect. This is
//! its own call without either; the only unsafe code of the repository.
#![expect(
    unsafe_code,
    reason = "a host call with pointers; the SDK's own way costs a third of an observed write"
)]

use proxy_wasm::types::MapType;

#[link(wasm_import_module = "env")]
unsafe extern "C" {
    /// `proxy_get_header_map_pairs` of the proxy-wasm ABI 0.2.1.
    fn proxy_get_header_map_pairs(map: u32, data: *mut *mut u8, size: *mut usize) -> u32;
}

/// A header map as the host writes it (see [`crate::headers`]); `None` if it gives none.
pub(super) fn header_map(map: MapType) -> Option<Vec<u8>> {
    let (mut data, mut size) = (std::ptr::null_mut(), 0);
    // SAFETY: the host writes a pointer and a size to these two places, if it answers 0, and nothing else.
    let status = unsafe { proxy_get_header_map_pairs(map as u32, &raw mut data, &raw mut size) };
    if status != 0 || data.is_null() {
        return None;
    }
    // SAFETY: the host has asked the SDK's `malloc` for these bytes, which makes a boxed slice of just this size, has filled
    // them, and has given them away.
    Some(unsafe { Vec::from_raw_parts(data, size, size) })
}
