//! Header fields as the host hands them over: one buffer, read in place.
//!
//! A message has a dozen fields or two, of which the filter looks at a few. Taking each out of the buffer would cost two
//! allocations a field, which was the largest part of what an observed write cost. The form is that of the proxy-wasm ABI
//! 0.2.1: the number of fields, the sizes of each name and value (32 bits, little endian), then all names and values, each
//! with a zero byte behind it.

use std::fmt;

/// Header names (lower case, as HTTP/2 has them) and values, in the order of the message; values are any bytes.
#[derive(Clone, PartialEq, Eq)]
pub struct Headers {
    wire: Vec<u8>,
}

/// Bytes of the number of fields.
const COUNT: usize = 4;

/// Bytes of the sizes of one field.
const SIZES: usize = 8;

impl Headers {
    /// None at all.
    pub fn new() -> Self {
        Self { wire: vec![0; COUNT] }
    }

    /// As the host wrote them. What does not hold together is read as far as it does.
    pub fn from_wire(wire: Vec<u8>) -> Self {
        Self { wire }
    }

    /// All fields.
    pub fn iter(&self) -> Iter<'_> {
        let count = self.wire.first_chunk().map_or(0, |count| to_usize(u32::from_le_bytes(*count)));
        let rest = self.wire.get(COUNT..).unwrap_or_default();
        let all = count.checked_mul(SIZES).and_then(|sizes| rest.split_at_checked(sizes));
        let (sizes, bytes) = all.unwrap_or_default();
        Iter { sizes, bytes }
    }

    /// The first value of this name.
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        self.iter().find(|(own, _)| *own == name.as_bytes()).map(|(_, value)| value)
    }

    /// The first value of this name, if it is text.
    pub fn text(&self, name: &str) -> Option<&str> {
        std::str::from_utf8(self.get(name)?).ok()
    }

    /// How much memory they take, in bytes.
    pub fn size(&self) -> usize {
        self.wire.len()
    }
}

impl Default for Headers {
    fn default() -> Self {
        Self::new()
    }
}

/// Names alone: values may be credentials.
impl fmt::Debug for Headers {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_list().entries(self.iter().map(|(name, _)| String::from_utf8_lossy(name))).finish()
    }
}

impl<N: AsRef<[u8]>, V: AsRef<[u8]>> FromIterator<(N, V)> for Headers {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(fields: I) -> Self {
        let (mut count, mut sizes, mut bytes) = (0, Vec::new(), Vec::new());
        for (name, value) in fields {
            count += 1;
            for part in [name.as_ref(), value.as_ref()] {
                sizes.extend(u32::try_from(part.len()).unwrap_or(u32::MAX).to_le_bytes());
                bytes.extend_from_slice(part);
                bytes.push(0);
            }
        }
        Self { wire: [&u32::to_le_bytes(count), sizes.as_slice(), &bytes].concat() }
    }
}

/// The fields of a message, one after the other.
#[derive(Debug, Clone)]
pub struct Iter<'a> {
    sizes: &'a [u8],
    bytes: &'a [u8],
}

impl<'a> Iterator for Iter<'a> {
    type Item = (&'a [u8], &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let (sizes, further) = self.sizes.split_first_chunk::<SIZES>()?;
        let sizes = u64::from_le_bytes(*sizes);
        let (name, rest) = split_terminated(self.bytes, sizes & u64::from(u32::MAX))?;
        let (value, rest) = split_terminated(rest, sizes >> 32)?;
        (self.sizes, self.bytes) = (further, rest);
        Some((name, value))
    }
}

/// So many bytes, and what stands behind the zero that follows them.
fn split_terminated(bytes: &[u8], size: u64) -> Option<(&[u8], &[u8])> {
    let (part, rest) = bytes.split_at_checked(usize::try_from(size).ok()?)?;
    Some((part, rest.split_first()?.1))
}

fn to_usize(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_wire_form_is_the_abis() {
        let headers: Headers = [(":path", "/a"), ("x", "")].into_iter().collect();
        let wire = b"\x02\0\0\0\x05\0\0\0\x02\0\0\0\x01\0\0\0\0\0\0\0:path\0/a\0x\0\0";
        assert!(headers == Headers::from_wire(wire.to_vec()));
        assert_eq!(headers.text(":path"), Some("/a"));
        assert_eq!((headers.get("x"), headers.get("y")), (Some(&b""[..]), None));
        assert_eq!(Headers::new().iter().count(), 0);
    }

    #[test]
    fn the_first_of_several_counts_and_values_do_not_show() {
        let headers: Headers =
            [("authorization", b"hush"), ("authorization", b"\xff\xff\xff\xff")].into_iter().collect();
        assert_eq!(headers.text("authorization"), Some("hush"));
        assert_eq!(format!("{headers:?}"), r#"["authorization", "authorization"]"#);
    }

    proptest! {
        #[test]
        fn what_goes_in_comes_out(fields in proptest::collection::vec(("[a-z:-]{0,9}", any::<Vec<u8>>()), 0..9)) {
            let headers: Headers = fields.iter().map(|(name, value)| (name, value)).collect();
            let read: Vec<_> = headers.iter().map(|(name, value)| (name.to_vec(), value.to_vec())).collect();
            let fields: Vec<_> = fields.into_iter().map(|(name, value)| (name.into_bytes(), value)).collect();
            prop_assert_eq!(read, fields);
        }

        #[test]
        fn any_bytes_are_read_as_far_as_they_hold_together(wire in any::<Vec<u8>>(), count in 0_u32..4) {
            let wire = [&count.to_le_bytes()[..], &wire].concat();
            let (size, headers) = (wire.len(), Headers::from_wire(wire));
            let read: usize = headers.iter().map(|(name, value)| name.len() + value.len()).sum();
            prop_assert!(read <= size && headers.iter().count() <= 3);
        }
    }
}
