//! Fields of a protobuf message: enough of the wire format for two messages of known depth. Unknown fields are skipped,
//! as the format asks for.

/// Bytes that are no protobuf message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed protobuf, {left} bytes before its end")]
pub struct Malformed {
    /// How much was left.
    pub left: usize,
}

/// A field's value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Value<'a> {
    Varint(u64),
    Fixed64(u64),
    Bytes(&'a [u8]),
    Fixed32,
}

impl<'a> Value<'a> {
    /// A string, bytes or a message.
    pub(super) fn bytes(self) -> Option<&'a [u8]> {
        if let Value::Bytes(bytes) = self { Some(bytes) } else { None }
    }

    pub(super) fn varint(self) -> Option<u64> {
        if let Value::Varint(value) = self { Some(value) } else { None }
    }

    pub(super) fn double(self) -> Option<f64> {
        if let Value::Fixed64(bits) = self { Some(f64::from_bits(bits)) } else { None }
    }
}

/// The fields of a message, one after another.
#[derive(Clone, Debug)]
pub(super) struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// The next field's number and value; none at the end.
    pub(super) fn next(&mut self) -> Result<Option<(u64, Value<'a>)>, Malformed> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let key = self.varint()?;
        let value = match key & 7 {
            0 => Value::Varint(self.varint()?),
            1 => Value::Fixed64(u64::from_le_bytes(self.array()?)),
            2 => {
                let len = self.varint()?;
                Value::Bytes(self.take(len)?)
            }
            5 => {
                self.array::<4>()?;
                Value::Fixed32
            }
            // Groups are of the format's first days; no message here has any.
            _ => return Err(self.malformed()),
        };
        Ok(Some((key >> 3, value)))
    }

    pub(super) fn varint(&mut self) -> Result<u64, Malformed> {
        let mut value = 0;
        for shift in (0..u64::BITS).step_by(7) {
            let [byte] = self.array()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(self.malformed())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn malformed(&self) -> Malformed {
        Malformed { left: self.0.len() }
    }

    fn take(&mut self, len: u64) -> Result<&'a [u8], Malformed> {
        let parts = usize::try_from(len).ok().and_then(|len| self.0.split_at_checked(len));
        let (head, tail) = parts.ok_or(self.malformed())?;
        self.0 = tail;
        Ok(head)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (head, tail) = self.0.split_first_chunk::<N>().ok_or(self.malformed())?;
        self.0 = tail;
        Ok(*head)
    }
}
