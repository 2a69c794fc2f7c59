//! The bytes of a write-ahead log segment: its header, and the records after it (docs/formats/wal.md).

use pitwatch_shared::codec::GroupId;
use pitwatch_shared::model::{Labels, Lane, Mark};

use crate::bytes::{Fields, Malformed, put_blob, put_u64};
use crate::source::{SourceKind, SourceName};

/// The first bytes of a segment.
pub(crate) const MAGIC: [u8; 8] = *b"PITWWAL\n";
/// The version of segments that this program writes, and the latest that it reads.
pub(crate) const VERSION: u32 = 2;
/// The first version: it has no rows.
const VERSION_FIRST: u32 = 1;
/// Bytes of a segment's header.
pub(crate) const HEADER_BYTES: usize = 40;
/// Bytes before a record's body: length, checksum, kind.
pub(crate) const RECORD_HEADER_BYTES: usize = 9;
/// Largest record body; checkpoints of many series are the largest there are.
pub(crate) const RECORD_MAX_BYTES: usize = 1 << 30;

const NO_SEGMENT: u64 = u64::MAX;

/// What a segment says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Its number, as in its name.
    pub number: u64,
    /// The segment before it, and the bytes of that one that count.
    pub previous: Option<(u64, u64)>,
    /// Whether it begins with a checkpoint of every source, so that it needs no segment before it.
    pub checkpointed: bool,
}

/// Why a header is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeaderError {
    /// Too short, another file's, or a checksum that is wrong.
    Damaged,
    /// A later version's.
    Newer(u32),
}

impl Header {
    pub(crate) fn encode(&self) -> [u8; HEADER_BYTES] {
        let (number, len) = self.previous.unwrap_or((NO_SEGMENT, 0));
        let mut out = [0; HEADER_BYTES];
        out[..8].copy_from_slice(&MAGIC);
        out[8..12].copy_from_slice(&(VERSION | u32::from(self.checkpointed) << 16).to_le_bytes());
        out[12..20].copy_from_slice(&self.number.to_le_bytes());
        out[20..28].copy_from_slice(&number.to_le_bytes());
        out[28..36].copy_from_slice(&len.to_le_bytes());
        let crc = crc32fast::hash(&out[..36]);
        out[36..].copy_from_slice(&crc.to_le_bytes());
        out
    }

    /// The header at the front of `bytes`.
    ///
    /// # Errors
    /// See [`HeaderError`].
    pub fn parse(bytes: &[u8]) -> Result<Self, HeaderError> {
        parse_header(bytes).map_err(|Malformed| HeaderError::Damaged)?
    }
}

fn parse_header(bytes: &[u8]) -> Result<Result<Header, HeaderError>, Malformed> {
    let mut fields = Fields::new(bytes);
    let body = fields.take(HEADER_BYTES - 4)?;
    if fields.fixed_u32()? != crc32fast::hash(body) {
        return Err(Malformed);
    }
    let mut fields = Fields::new(body);
    if fields.take(8)? != MAGIC {
        return Err(Malformed);
    }
    let word = fields.fixed_u32()?;
    if !(VERSION_FIRST..=VERSION).contains(&(word & 0xffff)) {
        return Ok(Err(HeaderError::Newer(word & 0xffff)));
    }
    let number = fields.fixed_u64()?;
    let (previous, len) = (fields.fixed_u64()?, fields.fixed_u64()?);
    let previous = (previous != NO_SEGMENT).then_some((previous, len));
    Ok(Ok(Header { number, previous, checkpointed: word >> 16 & 1 == 1 }))
}

/// One record.
#[derive(Clone, Debug, PartialEq)]
pub enum Record<'a> {
    /// Gives a source its number in this log.
    Source {
        /// The number.
        id: u32,
        /// The source.
        name: SourceName,
    },
    /// A frame as it came, with its mark.
    Frame {
        /// The source's number.
        source: u32,
        /// The lane.
        lane: Lane,
        /// The frame's mark: the lane's high-water mark once this record is there.
        mark: Mark,
        /// The frame.
        payload: &'a [u8],
    },
    /// The state of a source's lane at the begin of a segment.
    Checkpoint {
        /// The source's number.
        source: u32,
        /// The lane.
        lane: Lane,
        /// The last frame before.
        mark: Mark,
        /// The decoder's state after it; empty if a chain must begin.
        decoder: &'a [u8],
        /// Series to be given a stale marker at their group's next tick.
        ending: Vec<(GroupId, Labels)>,
    },
    /// A source is no more.
    Forget {
        /// The source's number.
        source: u32,
    },
    /// Samples by series.
    Rows {
        /// The source's number.
        source: u32,
        /// What `rows::record` wrote.
        payload: &'a [u8],
    },
}

/// What stands at a place of a segment.
#[derive(Debug)]
pub enum Parsed<'a> {
    /// A record and the bytes that it takes.
    Record(Record<'a>, usize),
    /// Not a whole record: this many bytes from its begin would be needed to say more.
    Needs(usize),
    /// No record.
    Bad,
}

/// Parses the record at the front of `bytes`.
#[must_use]
pub fn parse(bytes: &[u8]) -> Parsed<'_> {
    let mut fields = Fields::new(bytes);
    let (Ok(len), Ok(crc)) = (fields.fixed_u32(), fields.fixed_u32()) else {
        return Parsed::Needs(RECORD_HEADER_BYTES);
    };
    let len = len as usize;
    if len == 0 || len > RECORD_MAX_BYTES {
        return Parsed::Bad;
    }
    let Ok(content) = fields.take(len) else { return Parsed::Needs(8 + len) };
    if crc32fast::hash(content) != crc {
        return Parsed::Bad;
    }
    match parse_content(content) {
        Ok(record) => Parsed::Record(record, 8 + len),
        Err(Malformed) => Parsed::Bad,
    }
}

fn parse_content(content: &[u8]) -> Result<Record<'_>, Malformed> {
    let mut fields = Fields::new(content);
    let record = match fields.byte()? {
        1 => {
            let id = fields.u32()?;
            let kind = match fields.byte()? {
                0 => SourceKind::Agent,
                1 => SourceKind::Internal,
                _ => return Err(Malformed),
            };
            Record::Source { id, name: SourceName { kind, name: fields.text()?.into() } }
        }
        2 => {
            let (source, lane, mark) = parse_place(&mut fields)?;
            return Ok(Record::Frame { source, lane, mark, payload: fields.rest() });
        }
        3 => {
            let (source, lane, mark) = parse_place(&mut fields)?;
            let decoder = fields.blob()?;
            let mut ending = Vec::new();
            for _ in 0..fields.count(2)? {
                let group = GroupId::try_from(fields.u64()?).map_err(|_| Malformed)?;
                let mut pairs = Vec::new();
                for _ in 0..fields.count(2)? {
                    pairs.push((fields.text()?, fields.text()?));
                }
                ending.push((group, Labels::new(pairs).map_err(|_| Malformed)?));
            }
            Record::Checkpoint { source, lane, mark, decoder, ending }
        }
        4 => Record::Forget { source: fields.u32()? },
        5 => return Ok(Record::Rows { source: fields.u32()?, payload: fields.rest() }),
        _ => return Err(Malformed),
    };
    if fields.is_empty() { Ok(record) } else { Err(Malformed) }
}

fn parse_place(fields: &mut Fields<'_>) -> Result<(u32, Lane, Mark), Malformed> {
    let source = fields.u32()?;
    let lane = Lane::from_byte(fields.byte()?).ok_or(Malformed)?;
    Ok((source, lane, Mark { epoch: fields.u64()?, seq: fields.u64()? }))
}

/// Appends a record with its length and checksum.
pub(crate) fn put(out: &mut Vec<u8>, record: &Record<'_>) {
    let begin = out.len();
    out.extend_from_slice(&[0; 8]);
    match record {
        Record::Source { id, name } => {
            out.push(1);
            put_u64(out, u64::from(*id));
            out.push(u8::from(name.kind == SourceKind::Internal));
            put_blob(out, name.name.as_bytes());
        }
        Record::Frame { source, lane, mark, payload } => {
            out.push(2);
            put_place(out, *source, *lane, *mark);
            out.extend_from_slice(payload);
        }
        Record::Checkpoint { source, lane, mark, decoder, ending } => {
            out.push(3);
            put_place(out, *source, *lane, *mark);
            put_blob(out, decoder);
            put_u64(out, ending.len() as u64);
            for (group, labels) in ending {
                put_u64(out, u64::from(*group));
                put_u64(out, labels.iter().len() as u64);
                for (name, value) in labels.iter() {
                    put_blob(out, name.as_bytes());
                    put_blob(out, value.as_bytes());
                }
            }
        }
        Record::Forget { source } => {
            out.push(4);
            put_u64(out, u64::from(*source));
        }
        Record::Rows { source, payload } => {
            out.push(5);
            put_u64(out, u64::from(*source));
            out.extend_from_slice(payload);
        }
    }
    let len = (out.len() - begin - 8) as u32;
    let crc = crc32fast::hash(&out[begin + 8..]);
    out[begin..begin + 4].copy_from_slice(&len.to_le_bytes());
    out[begin + 4..begin + 8].copy_from_slice(&crc.to_le_bytes());
}

fn put_place(out: &mut Vec<u8>, source: u32, lane: Lane, mark: Mark) {
    put_u64(out, u64::from(source));
    out.push(lane as u8);
    put_u64(out, mark.epoch);
    put_u64(out, mark.seq);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn records() -> Vec<Record<'static>> {
        let mark = Mark { epoch: 1_700_000_000, seq: 3 };
        let labels = Labels::new([("__name__", "up"), ("a", "b")]).unwrap();
        vec![
            Record::Source { id: 300, name: SourceName { kind: SourceKind::Internal, name: "collector".into() } },
            Record::Frame { source: 300, lane: Lane::Metrics, mark, payload: b"payload" },
            Record::Checkpoint { source: 2, lane: Lane::Logs, mark, decoder: b"state", ending: vec![(9, labels)] },
            Record::Forget { source: 2 },
            Record::Rows { source: 300, payload: b"rows" },
        ]
    }

    #[test]
    fn records_come_back_and_every_cut_or_flip_is_seen() {
        for record in records() {
            let mut bytes = Vec::new();
            put(&mut bytes, &record);
            let Parsed::Record(back, len) = parse(&bytes) else { panic!("{record:?}") };
            assert_eq!((back, len), (record, bytes.len()));
            for cut in 0..bytes.len() {
                assert!(matches!(parse(&bytes[..cut]), Parsed::Needs(needs) if needs > cut));
            }
            for bit in 0..bytes.len() * 8 {
                let mut flipped = bytes.clone();
                flipped[bit / 8] ^= 1 << (bit % 8);
                assert!(!matches!(parse(&flipped), Parsed::Record(..)), "bit {bit}");
            }
        }
    }

    #[test]
    fn headers_come_back_and_newer_ones_are_named() {
        for previous in [None, Some((6, 4711))] {
            let header = Header { number: 7, previous, checkpointed: previous.is_none() };
            assert_eq!(Header::parse(&header.encode()), Ok(header));
        }
        let mut newer = Header { number: 7, previous: None, checkpointed: true }.encode();
        newer[8] = 3;
        assert_eq!(Header::parse(&newer), Err(HeaderError::Damaged));
        let crc = crc32fast::hash(&newer[..36]);
        newer[36..].copy_from_slice(&crc.to_le_bytes());
        assert_eq!(Header::parse(&newer), Err(HeaderError::Newer(3)));
    }

    proptest! {
        #[test]
        fn any_bytes_parse_to_something(bytes: Vec<u8>) {
            let _ = parse(&bytes);
            let _ = parse_content(&bytes);
            let _ = Header::parse(&bytes);
        }
    }
}
