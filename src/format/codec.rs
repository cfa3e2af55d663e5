//! Integers, byte strings and lists. Format: `format-spec/02-primitives.md`.

use super::{FormatError, Result};
use crate::world::Time;

/// Appends fields to a buffer.
pub trait Put {
    /// One byte.
    fn put_u8(&mut self, value: u8);
    /// Two bytes, little-endian.
    fn put_u16(&mut self, value: u16);
    /// Four bytes, little-endian.
    fn put_u32(&mut self, value: u32);
    /// Eight bytes, little-endian.
    fn put_u64(&mut self, value: u64);
    /// Seven bits a byte, lowest first, as few bytes as possible.
    fn put_varint(&mut self, value: u64);
    /// Signed: zigzag, then as a varint.
    fn put_signed(&mut self, value: i64);
    /// A length as a varint, then the bytes.
    fn put_bytes(&mut self, bytes: &[u8]);
    /// Seconds signed, then nanoseconds as a varint.
    fn put_time(&mut self, time: Time);
}

impl Put for Vec<u8> {
    fn put_u8(&mut self, value: u8) {
        self.push(value);
    }

    fn put_u16(&mut self, value: u16) {
        self.extend_from_slice(&value.to_le_bytes());
    }

    fn put_u32(&mut self, value: u32) {
        self.extend_from_slice(&value.to_le_bytes());
    }

    fn put_u64(&mut self, value: u64) {
        self.extend_from_slice(&value.to_le_bytes());
    }

    fn put_varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.push((value & 0x7f) as u8 | 0x80);
            value >>= 7;
        }
        self.push(value as u8);
    }

    fn put_signed(&mut self, value: i64) {
        self.put_varint(((value << 1) ^ (value >> 63)) as u64);
    }

    fn put_bytes(&mut self, bytes: &[u8]) {
        self.put_varint(bytes.len() as u64);
        self.extend_from_slice(bytes);
    }

    fn put_time(&mut self, time: Time) {
        self.put_signed(time.seconds);
        self.put_varint(u64::from(time.nanoseconds));
    }
}

/// Takes fields off the front of untrusted bytes.
#[derive(Debug, Clone)]
pub struct Take<'a> {
    rest: &'a [u8],
}

impl<'a> Take<'a> {
    /// Starts at the front.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// What is left.
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// Whether nothing is left.
    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// The end: an error if anything is left.
    pub fn finish(self, what: &'static str) -> Result<()> {
        match self.rest.len() {
            0 => Ok(()),
            count => Err(FormatError::Trailing { what, count }),
        }
    }

    /// The next `len` bytes.
    pub fn raw(&mut self, len: usize, what: &'static str) -> Result<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(len).ok_or(FormatError::Truncated(what))?;
        self.rest = rest;
        Ok(taken)
    }

    /// The next `N` bytes.
    pub fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N]> {
        let (taken, rest) = self.rest.split_first_chunk().ok_or(FormatError::Truncated(what))?;
        self.rest = rest;
        Ok(*taken)
    }

    /// One byte.
    pub fn u8(&mut self, what: &'static str) -> Result<u8> {
        self.array::<1>(what).map(|[byte]| byte)
    }

    /// Two bytes, little-endian.
    pub fn u16(&mut self, what: &'static str) -> Result<u16> {
        self.array(what).map(u16::from_le_bytes)
    }

    /// Four bytes, little-endian.
    pub fn u32(&mut self, what: &'static str) -> Result<u32> {
        self.array(what).map(u32::from_le_bytes)
    }

    /// Eight bytes, little-endian.
    pub fn u64(&mut self, what: &'static str) -> Result<u64> {
        self.array(what).map(u64::from_le_bytes)
    }

    /// A varint; one that could be shorter or does not fit 64 bits is refused.
    pub fn varint(&mut self, what: &'static str) -> Result<u64> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.u8(what)?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && byte > 1 {
                return Err(FormatError::Bad(what));
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return match byte == 0 && shift > 0 {
                    true => Err(FormatError::Bad(what)),
                    false => Ok(value),
                };
            }
        }
        Err(FormatError::Bad(what))
    }

    /// A varint of at most `limit`.
    pub fn bounded(&mut self, limit: u64, what: &'static str) -> Result<u64> {
        let found = self.varint(what)?;
        match found <= limit {
            true => Ok(found),
            false => Err(FormatError::TooLarge { what, found, limit }),
        }
    }

    /// A varint of at most `limit`, as a length or a count.
    pub fn count(&mut self, limit: usize, what: &'static str) -> Result<usize> {
        // A value at most `limit`, itself a usize, fits.
        self.bounded(limit as u64, what).map(|value| value as usize)
    }

    /// A varint of at most 32 bits.
    pub fn varint32(&mut self, what: &'static str) -> Result<u32> {
        self.bounded(u64::from(u32::MAX), what).map(|value| value as u32)
    }

    /// A signed number.
    pub fn signed(&mut self, what: &'static str) -> Result<i64> {
        let value = self.varint(what)?;
        Ok((value >> 1) as i64 ^ -((value & 1) as i64))
    }

    /// A byte string of at most `limit` bytes.
    pub fn bytes(&mut self, limit: usize, what: &'static str) -> Result<&'a [u8]> {
        let len = self.count(limit, what)?;
        self.raw(len, what)
    }

    /// A byte string of at most `limit` bytes that is UTF-8.
    pub fn text(&mut self, limit: usize, what: &'static str) -> Result<String> {
        let bytes = self.bytes(limit, what)?;
        String::from_utf8(bytes.to_vec()).map_err(|_| FormatError::Bad(what))
    }

    /// A time.
    pub fn time(&mut self, what: &'static str) -> Result<Time> {
        let seconds = self.signed(what)?;
        let nanoseconds = self.bounded(999_999_999, what)? as u32;
        Ok(Time { seconds, nanoseconds })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn numbers_there_and_back(unsigned: u64, signed: i64, nanoseconds in 0u32..1_000_000_000) {
            let time = Time { seconds: signed, nanoseconds };
            let mut bytes = Vec::new();
            bytes.put_varint(unsigned);
            bytes.put_signed(signed);
            bytes.put_time(time);
            bytes.put_bytes(b"name");
            let mut take = Take::new(&bytes);
            prop_assert_eq!(take.varint("a").unwrap(), unsigned);
            prop_assert_eq!(take.signed("b").unwrap(), signed);
            prop_assert_eq!(take.time("c").unwrap(), time);
            prop_assert_eq!(take.bytes(4, "d").unwrap(), b"name");
            prop_assert_eq!(take.finish("e"), Ok(()));
        }

        #[test]
        fn what_decodes_encodes_to_the_same_bytes(bytes: Vec<u8>) {
            let mut take = Take::new(&bytes);
            if let Ok(value) = take.varint("a") {
                let mut again = Vec::new();
                again.put_varint(value);
                prop_assert_eq!(&bytes[..bytes.len() - take.rest().len()], &again[..]);
            }
        }
    }

    #[test]
    fn numbers_that_are_refused() {
        for bad in [&[0x80][..], &[0x80, 0x00], &[0xff; 10], &[0xff; 11]] {
            assert!(Take::new(bad).varint("n").is_err(), "{bad:?}");
        }
        let large = FormatError::TooLarge { what: "n", found: 5, limit: 4 };
        assert_eq!(Take::new(&[5, 0, 0, 0, 0, 0]).bytes(4, "n"), Err(large));
        assert_eq!(Take::new(&[5, 0]).bytes(9, "n"), Err(FormatError::Truncated("n")));
    }
}
