//! Varints, and raw bits behind them: how the plain parts of a payload are written and read.

use super::DecodeError;

/// Appends `value` in groups of seven bits, lowest first.
pub(super) fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Maps small magnitudes of either sign to small numbers.
#[inline]
pub(super) fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

/// The inverse of [`zigzag`].
#[inline]
pub(super) fn unzigzag(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}

/// A reader of a payload's plain bytes.
pub(super) struct Bytes<'a> {
    payload: &'a [u8],
    at: usize,
}

impl<'a> Bytes<'a> {
    /// Begins at byte `at`.
    pub(super) fn new(payload: &'a [u8], at: usize) -> Self {
        Self { payload, at }
    }

    /// Where the next read begins.
    pub(super) fn at(&self) -> usize {
        self.at
    }

    /// How many bytes are left.
    pub(super) fn left(&self) -> usize {
        self.payload.len() - self.at
    }

    /// One byte.
    pub(super) fn byte(&mut self) -> Result<u8, DecodeError> {
        let byte = *self.payload.get(self.at).ok_or(DecodeError::Truncated { at: self.payload.len() })?;
        self.at += 1;
        Ok(byte)
    }

    /// A varint of at most 64 bits.
    pub(super) fn varint(&mut self) -> Result<u64, DecodeError> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let part = u64::from(byte & 0x7f);
            if shift == 63 && part > 1 {
                break;
            }
            value |= part << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(DecodeError::OutOfRange { what: "a varint", at: self.at })
    }

    /// A varint that may not exceed `max`.
    pub(super) fn number(&mut self, what: &'static str, max: u64) -> Result<u64, DecodeError> {
        let at = self.at;
        let value = self.varint()?;
        if value <= max { Ok(value) } else { Err(DecodeError::OutOfRange { what, at }) }
    }

    /// `len` bytes.
    pub(super) fn take(&mut self, len: usize) -> Result<&'a [u8], DecodeError> {
        if len > self.left() {
            return Err(DecodeError::Truncated { at: self.payload.len() });
        }
        let bytes = &self.payload[self.at..self.at + len];
        self.at += len;
        Ok(bytes)
    }

    /// Checks that the payload ends here.
    pub(super) fn end(&self) -> Result<(), DecodeError> {
        if self.left() == 0 { Ok(()) } else { Err(DecodeError::Trailing { at: self.at }) }
    }
}

/// Collects bits, lowest first, into bytes.
#[derive(Clone, Debug, Default)]
pub(super) struct BitWriter {
    bytes: Vec<u8>,
    pending: u128,
    pending_bits: u32,
}

impl BitWriter {
    /// Forgets what was collected.
    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.pending = 0;
        self.pending_bits = 0;
    }

    /// The lowest `bits` (at most 64) of `value`, which has no others.
    #[inline]
    pub(super) fn put(&mut self, value: u64, bits: u32) {
        self.pending |= u128::from(value) << self.pending_bits;
        self.pending_bits += bits;
        if self.pending_bits >= 64 {
            self.bytes.extend_from_slice(&(self.pending as u64).to_le_bytes());
            self.pending >>= 64;
            self.pending_bits -= 64;
        }
    }

    /// Appends everything to `out`, the last byte filled up with zeros.
    pub(super) fn finish(&mut self, out: &mut Vec<u8>) {
        let rest = (self.pending as u64).to_le_bytes();
        self.bytes.extend_from_slice(&rest[..self.pending_bits.div_ceil(8) as usize]);
        out.extend_from_slice(&self.bytes);
    }
}

/// Reads what [`BitWriter`] wrote. Reads as if zeros followed; `finish` tells whether they were needed.
pub(super) struct BitReader<'a> {
    bytes: &'a [u8],
    /// Where `bytes` lies in the payload, for errors.
    base: usize,
    at_bit: usize,
}

impl<'a> BitReader<'a> {
    /// Reads the payload from byte `base` to its end.
    pub(super) fn new(payload: &'a [u8], base: usize) -> Self {
        Self { bytes: &payload[base..], base, at_bit: 0 }
    }

    /// The payload's byte of the next bit.
    pub(super) fn at(&self) -> usize {
        self.base + self.at_bit / 8
    }

    /// The next `bits` (at most 64).
    #[inline]
    pub(super) fn take(&mut self, bits: u32) -> u64 {
        let (at, shift) = (self.at_bit / 8, self.at_bit % 8);
        self.at_bit += bits as usize;
        let window = match self.bytes.get(at..at + 16) {
            Some(window) => window.try_into().map_or(0, u128::from_le_bytes),
            None => self.short_window(at),
        };
        let mask = if bits == 64 { u64::MAX } else { (1 << bits) - 1 };
        (window >> shift) as u64 & mask
    }

    /// Checks that the bits reach exactly to the payload's end.
    pub(super) fn finish(self) -> Result<(), DecodeError> {
        let used = self.at_bit.div_ceil(8);
        if used > self.bytes.len() {
            return Err(DecodeError::Truncated { at: self.base + self.bytes.len() });
        }
        if used < self.bytes.len() {
            return Err(DecodeError::Trailing { at: self.base + used });
        }
        let filled = self.at_bit % 8;
        match self.bytes.last() {
            Some(last) if filled != 0 && last >> filled != 0 => Err(DecodeError::Damaged { at: self.base + used - 1 }),
            _ => Ok(()),
        }
    }

    #[cold]
    fn short_window(&self, at: usize) -> u128 {
        let mut window = [0; 16];
        let rest = self.bytes.get(at..).unwrap_or_default();
        let len = rest.len().min(16);
        window[..len].copy_from_slice(&rest[..len]);
        u128::from_le_bytes(window)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn varints_come_back(value: u64, signed: i64) {
            let mut out = Vec::new();
            put_varint(&mut out, value);
            put_varint(&mut out, zigzag(signed));
            let mut bytes = Bytes::new(&out, 0);
            prop_assert_eq!(bytes.varint(), Ok(value));
            prop_assert_eq!(bytes.varint().map(unzigzag), Ok(signed));
            prop_assert_eq!(bytes.end(), Ok(()));
        }

        #[test]
        fn bits_come_back(fields in prop::collection::vec((any::<u64>(), 0..=64u32), 0..50)) {
            let mut writer = BitWriter::default();
            let fields: Vec<(u64, u32)> =
                fields.into_iter().map(|(value, bits)| (value.checked_shr(64 - bits).unwrap_or(0), bits)).collect();
            fields.iter().for_each(|(value, bits)| writer.put(*value, *bits));
            let mut out = vec![7];
            writer.finish(&mut out);
            let mut reader = BitReader::new(&out, 1);
            for (value, bits) in &fields {
                prop_assert_eq!(reader.take(*bits), *value);
            }
            prop_assert_eq!(reader.finish(), Ok(()));
        }
    }

    #[test]
    fn a_varint_over_64_bits_is_refused() {
        let most = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01];
        assert_eq!(Bytes::new(&most, 0).varint(), Ok(u64::MAX));
        let mut over = most;
        over[9] = 0x02;
        assert!(matches!(Bytes::new(&over, 0).varint(), Err(DecodeError::OutOfRange { .. })));
        assert_eq!(Bytes::new(&most[..4], 0).varint(), Err(DecodeError::Truncated { at: 4 }));
    }

    #[test]
    fn bits_end_exactly_and_in_zeros() {
        let read = |payload: &[u8], bits| {
            let mut reader = BitReader::new(payload, 0);
            reader.take(bits);
            reader.finish()
        };
        assert_eq!(read(&[0xff, 0x03], 10), Ok(()));
        assert_eq!(read(&[0xff, 0x07], 10), Err(DecodeError::Damaged { at: 1 }));
        assert_eq!(read(&[0xff], 10), Err(DecodeError::Truncated { at: 1 }));
        assert_eq!(read(&[0xff, 0x03, 0x00], 10), Err(DecodeError::Trailing { at: 2 }));
    }
}
