//! The parts of a log file as bytes: header, footer and index (docs/formats/logs.md). Chunks are `chunk`'s matter.
//!
//! Parsing is of slices and touches no file, so that it can be tried with any bytes.

use std::fmt;

use pitwatch_shared::model::Labels;

use super::chunk::Span;
use super::filter::{BLOCK_BYTES, FILTER_MAX_BYTES};
use super::{CHUNK_LINES_MAX, CHUNK_RAW_MAX_BYTES};
use crate::bytes::{Fields, Malformed, check_index_place, close_footer, put_blob, put_i64, put_u64};

/// The first bytes of a file.
const MAGIC: [u8; 8] = *b"PITWLOG\n";
/// The last bytes of a file.
const END: [u8; 8] = *b"PITWLGE\n";
/// The version of files that this program writes, and the latest that it reads.
pub(super) const VERSION: u32 = 1;
/// Bytes of the header.
pub(super) const HEADER_BYTES: usize = 16;
/// Bytes of the footer.
pub(super) const FOOTER_BYTES: usize = 80;
/// Bytes of the checksum after each filter and each chunk.
pub(super) const CRC_BYTES: usize = 4;

/// A part of a log file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Part {
    /// The header at its begin.
    Header,
    /// The footer at its end.
    Footer,
    /// The index before the footer.
    Index,
    /// The filter at this byte.
    Filter(u64),
    /// The lines at this byte.
    Lines(u64),
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Header => f.write_str("the header"),
            Self::Footer => f.write_str("the footer"),
            Self::Index => f.write_str("the index"),
            Self::Filter(at) => write!(f, "the filter at byte {at}"),
            Self::Lines(at) => write!(f, "the lines at byte {at}"),
        }
    }
}

/// Why a part is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PartError {
    /// Cut, or not the bytes that were written.
    Damaged(Part),
    /// A later version's.
    Newer(u32),
}

/// The end of a file: where its index is, and what the file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Footer {
    /// Where the index begins.
    pub index_offset: u64,
    /// Its bytes.
    pub index_bytes: u64,
    /// Its checksum.
    pub index_crc: u32,
    /// The first time, nanoseconds since the Unix epoch.
    pub min_ts: i64,
    /// The last time.
    pub max_ts: i64,
    /// How many lines.
    pub lines: u64,
    /// Bytes of chunks before compression.
    pub raw_bytes: u64,
    /// The last log segment whose lines are in here.
    pub wal_through: u64,
    /// When it was sealed, milliseconds since the Unix epoch.
    pub sealed_ms: i64,
}

/// One stream of a file with its chunks.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Stream {
    pub(super) labels: Labels,
    pub(super) chunks: Vec<Place>,
}

/// Where a chunk is: its filter, then its lines, each with a checksum after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) span: Span,
    pub(super) offset: u64,
    pub(super) filter_bytes: u32,
    pub(super) data_bytes: u32,
}

impl Place {
    /// Where its lines begin.
    pub(super) fn data_offset(&self) -> u64 {
        self.offset + u64::from(self.filter_bytes) + CRC_BYTES as u64
    }

    /// Where it ends.
    pub(super) fn end(&self) -> u64 {
        self.data_offset() + u64::from(self.data_bytes) + CRC_BYTES as u64
    }
}

pub(super) fn header() -> [u8; HEADER_BYTES] {
    let mut out = [0; HEADER_BYTES];
    out[..8].copy_from_slice(&MAGIC);
    out[8..12].copy_from_slice(&VERSION.to_le_bytes());
    let crc = crc32fast::hash(&out[..12]);
    out[12..].copy_from_slice(&crc.to_le_bytes());
    out
}

pub(super) fn parse_header(bytes: &[u8]) -> Result<(), PartError> {
    let parse = || {
        let mut fields = Fields::new(bytes);
        let body = fields.take(HEADER_BYTES - 4)?;
        if crc32fast::hash(body) != fields.fixed_u32()? {
            return Err(Malformed);
        }
        let mut fields = Fields::new(body);
        if fields.take(8)? != MAGIC { Err(Malformed) } else { fields.fixed_u32() }
    };
    match parse() {
        Ok(VERSION) => Ok(()),
        Ok(newer) => Err(PartError::Newer(newer)),
        Err(Malformed) => Err(PartError::Damaged(Part::Header)),
    }
}

impl Footer {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(FOOTER_BYTES);
        out.extend_from_slice(&self.index_offset.to_le_bytes());
        out.extend_from_slice(&self.index_bytes.to_le_bytes());
        out.extend_from_slice(&self.index_crc.to_le_bytes());
        out.extend_from_slice(&self.min_ts.to_le_bytes());
        out.extend_from_slice(&self.max_ts.to_le_bytes());
        out.extend_from_slice(&self.lines.to_le_bytes());
        out.extend_from_slice(&self.raw_bytes.to_le_bytes());
        out.extend_from_slice(&self.wal_through.to_le_bytes());
        out.extend_from_slice(&self.sealed_ms.to_le_bytes());
        close_footer(&mut out, END);
        out
    }

    /// The footer of the last 80 bytes of a file of `file_bytes`.
    ///
    /// # Errors
    /// Bytes that are no footer, or one of a file of another length.
    pub fn parse(bytes: &[u8], file_bytes: u64) -> Result<Self, PartError> {
        Self::parse_fields(bytes, file_bytes).map_err(|Malformed| PartError::Damaged(Part::Footer))
    }

    fn parse_fields(bytes: &[u8], file_bytes: u64) -> Result<Self, Malformed> {
        let mut fields = Fields::of_footer(bytes, FOOTER_BYTES, END)?;
        let footer = Self {
            index_offset: fields.fixed_u64()?,
            index_bytes: fields.fixed_u64()?,
            index_crc: fields.fixed_u32()?,
            min_ts: fields.fixed_u64()? as i64,
            max_ts: fields.fixed_u64()? as i64,
            lines: fields.fixed_u64()?,
            raw_bytes: fields.fixed_u64()?,
            wal_through: fields.fixed_u64()?,
            sealed_ms: fields.fixed_u64()? as i64,
        };
        let (index, ends) = ((footer.index_offset, footer.index_bytes), (HEADER_BYTES, FOOTER_BYTES));
        check_index_place(index, ends, file_bytes)?;
        Ok(footer)
    }
}

/// Adds a stream to an index.
pub(super) fn put_stream(index: &mut Vec<u8>, labels: &Labels, chunks: &[Place]) {
    put_u64(index, labels.iter().len() as u64);
    for (name, value) in labels.iter() {
        put_blob(index, name.as_bytes());
        put_blob(index, value.as_bytes());
    }
    put_u64(index, chunks.len() as u64);
    for Place { span, filter_bytes, data_bytes, .. } in chunks {
        put_i64(index, span.min_ts);
        put_u64(index, span.max_ts.wrapping_sub(span.min_ts) as u64);
        put_u64(index, span.lines as u64);
        put_u64(index, span.raw_bytes as u64);
        put_u64(index, u64::from(*filter_bytes));
        put_u64(index, u64::from(*data_bytes));
    }
}

/// Reads an index. `data_end` is where the chunks end.
pub(super) fn parse_index(bytes: &[u8], data_end: u64) -> Result<Vec<Stream>, PartError> {
    let parse = || {
        let mut fields = Fields::new(bytes);
        let mut streams = Vec::new();
        let mut offset = HEADER_BYTES as u64;
        while !fields.is_empty() {
            streams.push(parse_stream(&mut fields, &mut offset, data_end)?);
        }
        Ok(streams)
    };
    parse().map_err(|Malformed| PartError::Damaged(Part::Index))
}

fn parse_stream(fields: &mut Fields<'_>, offset: &mut u64, data_end: u64) -> Result<Stream, Malformed> {
    let mut pairs = Vec::new();
    for _ in 0..fields.count(2)? {
        pairs.push((fields.text()?, fields.text()?));
    }
    let labels = Labels::new(pairs).map_err(|_| Malformed)?;
    let mut chunks = Vec::new();
    for _ in 0..fields.count(6)? {
        let min_ts = fields.i64()?;
        let max_ts = min_ts.checked_add_unsigned(fields.u64()?).ok_or(Malformed)?;
        let (lines, raw_bytes) = (fields.usize()?, fields.usize()?);
        let (filter_bytes, data_bytes) = (fields.u32()?, fields.u32()?);
        let span = Span { min_ts, max_ts, lines, raw_bytes };
        let place = Place { span, offset: *offset, filter_bytes, data_bytes };
        *offset = place.end();
        let filter = filter_bytes as usize;
        let bounded = lines > 0
            && lines <= CHUNK_LINES_MAX
            && raw_bytes <= CHUNK_RAW_MAX_BYTES
            && filter > 0
            && filter <= FILTER_MAX_BYTES
            && filter.is_multiple_of(BLOCK_BYTES);
        if !bounded || *offset > data_end {
            return Err(Malformed);
        }
        chunks.push(place);
    }
    Ok(Stream { labels, chunks })
}

/// Reads the bytes of an index, for a file whose chunks end at `data_end`; answers how many chunks it names. Unlike
/// opening a file it asks for no checksum, so that any bytes can be tried.
///
/// # Errors
/// Bytes that are no index.
pub fn try_index(bytes: &[u8], data_end: u64) -> Result<usize, PartError> {
    Ok(parse_index(bytes, data_end)?.iter().map(|stream| stream.chunks.len()).sum())
}

/// The bytes before their checksum, if that fits.
pub(super) fn checked(with_crc: &[u8]) -> Option<&[u8]> {
    let (bytes, crc) = with_crc.split_last_chunk::<CRC_BYTES>()?;
    (crc32fast::hash(bytes) == u32::from_le_bytes(*crc)).then_some(bytes)
}
