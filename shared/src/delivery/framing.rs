//! How frames stand on a lane's stream: a header of one to a few bytes, then the payload.
//!
//! A lane's stream begins with the lane's byte (written by the transport). Then, for each frame:
//!
//! ```text
//! varint   payload length in bytes × 2, plus 1 if the mark is written out
//! varint   epoch      } only if the mark is written out: always for a stream's first frame,
//! varint   sequence   } else whenever it is not the one after the frame before
//! bytes    payload
//! ```
//! Varints are LEB128: seven bits a byte, least significant first.

use bytes::{Buf, Bytes, BytesMut};

use crate::limits::FRAME_PAYLOAD_MAX_BYTES;
use crate::model::Mark;

/// Longest header in bytes: three varints of at most ten bytes.
pub const FRAME_HEADER_MAX_BYTES: usize = 30;
const VARINT_MAX_BYTES: usize = 10;

/// What was wrong with a lane's stream. The stream cannot be read any further.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FramingError {
    /// A length over the limit.
    #[error("a frame of {0} bytes, more than {FRAME_PAYLOAD_MAX_BYTES}")]
    TooLarge(u64),
    /// A varint of more than ten bytes or more than 64 bits.
    #[error("a malformed number in a frame header")]
    Varint,
    /// The first frame of a stream, or a frame after sequence 2⁶⁴ − 1, without its mark.
    #[error("a frame without its number")]
    Unmarked,
}

/// Writes frames onto one stream.
#[derive(Debug, Default)]
pub struct FrameWriter {
    last: Option<Mark>,
}

impl FrameWriter {
    /// For a new stream.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends the header and the payload of the frame `mark` to `out`.
    pub fn write(&mut self, mark: Mark, payload: &[u8], out: &mut Vec<u8>) {
        let explicit = self.last.and_then(next) != Some(mark);
        put_varint(out, (payload.len() as u64) << 1 | u64::from(explicit));
        if explicit {
            put_varint(out, mark.epoch);
            put_varint(out, mark.seq);
        }
        out.extend_from_slice(payload);
        self.last = Some(mark);
    }
}

/// Reads frames from one stream's bytes as they arrive.
#[derive(Debug, Default)]
pub struct FrameReader {
    buffer: BytesMut,
    last: Option<Mark>,
}

impl FrameReader {
    /// For a new stream.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes bytes that arrived. The caller hands in what [`FrameReader::next_frame`] will take soon: the buffer holds
    /// at most one frame and what came with it.
    pub fn extend(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole frame, or `None` until more bytes arrive.
    ///
    /// # Errors
    /// A stream that cannot be read any further.
    pub fn next_frame(&mut self) -> Result<Option<(Mark, Bytes)>, FramingError> {
        let mut rest: &[u8] = &self.buffer;
        let Some(head) = take_varint(&mut rest)? else { return Ok(None) };
        let (len, explicit) = (head >> 1, head & 1 == 1);
        if len > FRAME_PAYLOAD_MAX_BYTES as u64 {
            return Err(FramingError::TooLarge(len));
        }
        let mark = if explicit {
            let Some(epoch) = take_varint(&mut rest)? else { return Ok(None) };
            let Some(seq) = take_varint(&mut rest)? else { return Ok(None) };
            Mark { epoch, seq }
        } else {
            self.last.and_then(next).ok_or(FramingError::Unmarked)?
        };
        let len = usize::try_from(len).map_err(|_| FramingError::TooLarge(len))?;
        if rest.len() < len {
            return Ok(None);
        }
        let header = self.buffer.len() - rest.len();
        self.buffer.advance(header);
        self.last = Some(mark);
        Ok(Some((mark, self.buffer.split_to(len).freeze())))
    }
}

fn next(mark: Mark) -> Option<Mark> {
    Some(Mark { epoch: mark.epoch, seq: mark.seq.checked_add(1)? })
}

fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Takes a varint off the front; `None` if it is not all there yet.
fn take_varint(bytes: &mut &[u8]) -> Result<Option<u64>, FramingError> {
    let mut value: u64 = 0;
    for (i, byte) in bytes.iter().take(VARINT_MAX_BYTES).enumerate() {
        let bits = u64::from(byte & 0x7f);
        value |= bits.checked_shl(7 * i as u32).filter(|v| v >> (7 * i) == bits).ok_or(FramingError::Varint)?;
        if byte & 0x80 == 0 {
            *bytes = &bytes[i + 1..];
            return Ok(Some(value));
        }
    }
    if bytes.len() >= VARINT_MAX_BYTES { Err(FramingError::Varint) } else { Ok(None) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn frames_survive_any_cutting_of_the_stream(
            frames in proptest::collection::vec((0..3_u64, 0..4_u64, proptest::collection::vec(any::<u8>(), 0..300)), 1..20),
            piece in 1..50_usize,
        ) {
            let (mut writer, mut reader) = (FrameWriter::new(), FrameReader::new());
            let (mut bytes, mut got) = (Vec::new(), Vec::new());
            let frames: Vec<_> =
                frames.into_iter().map(|(epoch, seq, payload)| (Mark { epoch, seq }, Bytes::from(payload))).collect();
            for (mark, payload) in &frames {
                writer.write(*mark, payload, &mut bytes);
            }
            for piece in bytes.chunks(piece) {
                reader.extend(piece);
                while let Some(frame) = reader.next_frame().unwrap() {
                    got.push(frame);
                }
            }
            prop_assert_eq!(got, frames);
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut reader = FrameReader::new();
            reader.extend(&bytes);
            while let Ok(Some(_)) = reader.next_frame() {}
        }
    }

    #[test]
    fn the_frame_after_costs_one_header_byte() {
        let mut writer = FrameWriter::new();
        let mut out = Vec::new();
        writer.write(Mark { epoch: 5, seq: 9 }, b"ab", &mut out);
        writer.write(Mark { epoch: 5, seq: 10 }, b"cd", &mut out);
        assert_eq!(out, [5, 5, 9, b'a', b'b', 4, b'c', b'd']);
    }

    #[test]
    fn hostile_headers_are_refused() {
        let refuse = |bytes: &[u8]| {
            let mut reader = FrameReader::new();
            reader.extend(bytes);
            reader.next_frame().unwrap_err()
        };
        assert_eq!(refuse(&[4, 1, 2]), FramingError::Unmarked);
        assert_eq!(refuse(&[0xff; 10]), FramingError::Varint);
        assert_eq!(refuse(&[0xff; 9].into_iter().chain([2]).collect::<Vec<_>>()), FramingError::Varint);
        assert!(matches!(refuse(&[0xff, 0xff, 0xff, 0x7f]), FramingError::TooLarge(_)));
    }
}
