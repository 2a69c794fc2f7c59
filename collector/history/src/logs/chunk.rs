//! Some lines of one stream as bytes: times, lengths, then all text in one run, through zstd.

use std::collections::HashSet;
use std::io;

use super::filter;
use super::{CHUNK_LINES_MAX, CHUNK_RAW_MAX_BYTES, CHUNK_TEXT_BYTES};
use crate::bytes::{Fields, Malformed, put_u64};

/// zstd's effort: higher levels gain a twentieth for several times the work.
const ZSTD_LEVEL: i32 = 3;

/// A line and when it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// Nanoseconds since the Unix epoch.
    pub ts_ns: i64,
    /// The text, without a line feed at its end.
    pub text: String,
}

/// A closed chunk.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Chunk {
    pub(super) span: Span,
    pub(super) filter: Vec<u8>,
    pub(super) data: Vec<u8>,
}

impl Chunk {
    pub(super) fn bytes(&self) -> u64 {
        (self.filter.len() + self.data.len()) as u64
    }
}

/// What is known of a chunk without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) min_ts: i64,
    pub(super) max_ts: i64,
    pub(super) lines: usize,
    /// Bytes before compression.
    pub(super) raw_bytes: usize,
}

/// Lines that no chunk holds yet, in the order they came.
#[derive(Debug, Default)]
pub(super) struct Open {
    text: String,
    /// Time, begin and length.
    lines: Vec<(i64, u32, u32)>,
}

impl Open {
    pub(super) fn push(&mut self, ts_ns: i64, text: &str) {
        self.lines.push((ts_ns, self.text.len() as u32, text.len() as u32));
        self.text.push_str(text);
    }

    /// Memory, about.
    pub(super) fn bytes(&self) -> u64 {
        (self.text.len() + self.lines.len() * size_of::<(i64, u32, u32)>()) as u64
    }

    pub(super) fn is_full(&self) -> bool {
        self.text.len() >= CHUNK_TEXT_BYTES || self.lines.len() >= CHUNK_LINES_MAX
    }

    pub(super) fn lines(&self) -> impl Iterator<Item = (i64, &str)> {
        self.lines.iter().map(|(ts, from, len)| (*ts, &self.text[*from as usize..(*from + *len) as usize]))
    }

    /// The lines by time, those of one time in the order they came, as a chunk; what is left is empty.
    pub(super) fn close(&mut self) -> io::Result<Option<Chunk>> {
        self.lines.sort_by_key(|(ts, ..)| *ts);
        let (Some(first), Some(last)) = (self.lines.first(), self.lines.last()) else { return Ok(None) };
        let (min_ts, max_ts) = (first.0, last.0);
        let mut raw = Vec::with_capacity(self.text.len() + self.lines.len() * 4);
        let mut before = min_ts;
        for (ts, ..) in &self.lines {
            put_u64(&mut raw, ts.wrapping_sub(before) as u64);
            before = *ts;
        }
        for (.., len) in &self.lines {
            put_u64(&mut raw, u64::from(*len));
        }
        let mut words = HashSet::new();
        for (_, text) in self.lines() {
            raw.extend_from_slice(text.as_bytes());
            words.extend(filter::words(text).map(|(_, word)| filter::hash(word)));
        }
        let data = zstd::bulk::compress(&raw, ZSTD_LEVEL)?;
        let span = Span { min_ts, max_ts, lines: self.lines.len(), raw_bytes: raw.len() };
        *self = Self::default();
        Ok(Some(Chunk { span, filter: filter::build(&words), data }))
    }
}

/// A chunk's lines, unpacked.
#[derive(Debug)]
pub(super) struct Lines {
    times: Vec<i64>,
    /// Where each line ends.
    ends: Vec<u32>,
    text: String,
}

impl Lines {
    pub(super) fn unpack(data: &[u8], span: &Span) -> Result<Self, Malformed> {
        if span.raw_bytes > CHUNK_RAW_MAX_BYTES || span.lines > CHUNK_LINES_MAX {
            return Err(Malformed);
        }
        let raw = zstd::bulk::decompress(data, span.raw_bytes).map_err(|_| Malformed)?;
        if raw.len() != span.raw_bytes {
            return Err(Malformed);
        }
        let mut fields = Fields::new(&raw);
        let mut times = Vec::with_capacity(span.lines);
        let mut at = span.min_ts;
        for _ in 0..span.lines {
            at = at.checked_add_unsigned(fields.u64()?).ok_or(Malformed)?;
            times.push(at);
        }
        let mut ends = Vec::with_capacity(span.lines);
        let mut end = 0_u32;
        for _ in 0..span.lines {
            end = end.checked_add(fields.u32()?).ok_or(Malformed)?;
            ends.push(end);
        }
        let text = std::str::from_utf8(fields.rest()).map_err(|_| Malformed)?;
        let whole = text.len() == end as usize && ends.iter().all(|end| text.is_char_boundary(*end as usize));
        if !whole || times.first() != Some(&span.min_ts) || at != span.max_ts {
            return Err(Malformed);
        }
        Ok(Self { times, ends, text: text.to_owned() })
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (i64, &str)> {
        let begins = std::iter::once(0).chain(self.ends.iter().copied());
        let places = begins.zip(&self.ends);
        self.times.iter().zip(places).map(|(ts, (from, to))| (*ts, &self.text[from as usize..*to as usize]))
    }

    pub(super) fn text(&self) -> &str {
        &self.text
    }
}

/// Unpacks bytes as a chunk of so many lines from `min_ts` to `max_ts` and so many bytes, without a checksum.
#[must_use]
pub fn try_lines(data: &[u8], min_ts: i64, max_ts: i64, lines: usize, raw_bytes: usize) -> Option<Vec<Line>> {
    let span = Span { min_ts, max_ts, lines, raw_bytes };
    let lines = Lines::unpack(data, &span).ok()?;
    Some(lines.iter().map(|(ts_ns, text)| Line { ts_ns, text: text.to_owned() }).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn lines_come_back_by_time(lines in prop::collection::vec((any::<i64>(), ".{0,40}"), 1..200)) {
            let mut open = Open::default();
            for (ts, text) in &lines {
                open.push(*ts, text);
            }
            let chunk = open.close().unwrap().unwrap();
            prop_assert!(open.close().unwrap().is_none());
            let mut sorted = lines.clone();
            sorted.sort_by_key(|(ts, _)| *ts);
            let unpacked = Lines::unpack(&chunk.data, &chunk.span).unwrap();
            let found: Vec<_> = unpacked.iter().map(|(ts, text)| (ts, text.to_owned())).collect();
            prop_assert_eq!(found, sorted);
            for (_, text) in &lines {
                for (_, word) in filter::words(text) {
                    prop_assert!(filter::may_have(&chunk.filter, filter::hash(word)));
                }
            }
        }

        #[test]
        fn any_bytes_are_unpacked_without_harm(data in prop::collection::vec(any::<u8>(), 0..100), lines in 0_usize..9) {
            let packed = zstd::bulk::compress(&data, 1).unwrap();
            let span = Span { min_ts: 0, max_ts: 9, lines, raw_bytes: data.len() };
            if let Ok(unpacked) = Lines::unpack(&packed, &span) {
                prop_assert_eq!(unpacked.iter().count(), lines);
            }
            prop_assert!(Lines::unpack(&data, &span).is_err() || lines == 0);
        }
    }
}
