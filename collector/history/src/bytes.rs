//! Fields of the store's files: bincode's standard integers (little endian, variable length), strings and blobs.
//!
//! The records and tables that they make up are laid out in [`crate::wal`] and [`crate::block`]. Written by hand and
//! not through `pitwatch_shared::wire`, whose messages are bounded to what a control message may be: a block's index
//! is larger, and most of a WAL record is one opaque payload.

/// Bytes that end too early or hold what their field may not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Malformed;

/// Bytes of a CRC-32.
const CRC_BYTES: usize = 4;
/// Bytes of the mark at the end of a file.
const END_BYTES: usize = 8;

/// Appends an unsigned integer.
pub(crate) fn put_u64(out: &mut Vec<u8>, value: u64) {
    match value {
        0..=250 => out.push(value as u8),
        251..=0xffff => {
            out.push(251);
            out.extend_from_slice(&(value as u16).to_le_bytes());
        }
        0x1_0000..=0xffff_ffff => {
            out.push(252);
            out.extend_from_slice(&(value as u32).to_le_bytes());
        }
        _ => {
            out.push(253);
            out.extend_from_slice(&value.to_le_bytes());
        }
    }
}

/// Appends a signed integer, folded so that small magnitudes are short.
pub(crate) fn put_i64(out: &mut Vec<u8>, value: i64) {
    put_u64(out, ((value << 1) ^ (value >> 63)) as u64);
}

/// Appends a length and the bytes.
pub(crate) fn put_blob(out: &mut Vec<u8>, bytes: &[u8]) {
    put_u64(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Ends a footer: the CRC-32 of what it holds so far, and the mark at the end of the file.
pub(crate) fn close_footer(out: &mut Vec<u8>, end: [u8; END_BYTES]) {
    let crc = crc32fast::hash(out);
    out.extend_from_slice(&crc.to_le_bytes());
    out.extend_from_slice(&end);
}

/// Whether an index of that offset and length fills a file from somewhere after its header up to its footer; `ends` are
/// the bytes of header and footer.
pub(crate) fn check_index_place(
    (offset, bytes): (u64, u64),
    (header_bytes, footer_bytes): (usize, usize),
    file_bytes: u64,
) -> Result<(), Malformed> {
    let end = offset.checked_add(bytes).and_then(|end| end.checked_add(footer_bytes as u64));
    if end == Some(file_bytes) && offset >= header_bytes as u64 { Ok(()) } else { Err(Malformed) }
}

/// Takes fields off the front of a slice.
#[derive(Clone, Debug)]
pub(crate) struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// The fields of a footer of `len` bytes that [`close_footer`] ended with `end`.
    pub(crate) fn of_footer(bytes: &'a [u8], len: usize, end: [u8; END_BYTES]) -> Result<Self, Malformed> {
        let mut fields = Self(bytes);
        let body = fields.take(len - CRC_BYTES - END_BYTES)?;
        if crc32fast::hash(body) != fields.fixed_u32()? || fields.rest() != end {
            return Err(Malformed);
        }
        Ok(Self(body))
    }

    /// What is left.
    pub(crate) fn rest(&self) -> &'a [u8] {
        self.0
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn take(&mut self, len: usize) -> Result<&'a [u8], Malformed> {
        let (head, tail) = self.0.split_at_checked(len).ok_or(Malformed)?;
        self.0 = tail;
        Ok(head)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (head, tail) = self.0.split_first_chunk::<N>().ok_or(Malformed)?;
        self.0 = tail;
        Ok(*head)
    }

    pub(crate) fn byte(&mut self) -> Result<u8, Malformed> {
        Ok(self.array::<1>()?[0])
    }

    /// Four bytes, little endian.
    pub(crate) fn fixed_u32(&mut self) -> Result<u32, Malformed> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    /// Eight bytes, little endian.
    pub(crate) fn fixed_u64(&mut self) -> Result<u64, Malformed> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    pub(crate) fn u64(&mut self) -> Result<u64, Malformed> {
        Ok(match self.byte()? {
            small @ 0..=250 => u64::from(small),
            251 => u64::from(u16::from_le_bytes(self.array()?)),
            252 => u64::from(u32::from_le_bytes(self.array()?)),
            253 => self.fixed_u64()?,
            _ => return Err(Malformed),
        })
    }

    pub(crate) fn u32(&mut self) -> Result<u32, Malformed> {
        u32::try_from(self.u64()?).map_err(|_| Malformed)
    }

    pub(crate) fn usize(&mut self) -> Result<usize, Malformed> {
        usize::try_from(self.u64()?).map_err(|_| Malformed)
    }

    /// A count of things that take at least `each` bytes of what is left, so that it may be allocated for.
    pub(crate) fn count(&mut self, each: usize) -> Result<usize, Malformed> {
        let count = self.usize()?;
        if count.checked_mul(each).is_none_or(|bytes| bytes > self.0.len()) {
            return Err(Malformed);
        }
        Ok(count)
    }

    pub(crate) fn i64(&mut self) -> Result<i64, Malformed> {
        let folded = self.u64()?;
        Ok((folded >> 1) as i64 ^ -((folded & 1) as i64))
    }

    pub(crate) fn blob(&mut self) -> Result<&'a [u8], Malformed> {
        let len = self.usize()?;
        self.take(len)
    }

    pub(crate) fn text(&mut self) -> Result<&'a str, Malformed> {
        std::str::from_utf8(self.blob()?).map_err(|_| Malformed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn integers_are_bincodes_standard_ones() {
        let mut out = Vec::new();
        for value in [0, 250, 251, 0xffff, 0x1_0000, 0x1_0000_0000] {
            put_u64(&mut out, value);
        }
        let golden = [0, 250, 251, 251, 0, 251, 255, 255, 252, 0, 0, 1, 0, 253, 0, 0, 0, 0, 1, 0, 0, 0];
        assert_eq!(out, golden);
    }

    proptest! {
        #[test]
        fn fields_come_back(unsigned: u64, signed: i64, blob: Vec<u8>) {
            let mut out = Vec::new();
            put_u64(&mut out, unsigned);
            put_i64(&mut out, signed);
            put_blob(&mut out, &blob);
            let mut fields = Fields::new(&out);
            prop_assert_eq!(fields.u64(), Ok(unsigned));
            prop_assert_eq!(fields.i64(), Ok(signed));
            prop_assert_eq!(fields.blob(), Ok(&*blob));
            prop_assert!(fields.is_empty());
            for cut in 0..out.len() {
                let mut fields = Fields::new(&out[..cut]);
                prop_assert!(fields.u64().and_then(|_| fields.i64()).and_then(|_| fields.blob()).is_err());
            }
        }
    }
}
