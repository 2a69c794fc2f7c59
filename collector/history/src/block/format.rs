//! A block's parts as bytes: header and footer here, the index in `index` (docs/formats/block.md). Columns are `column`'s
//! matter.
//!
//! Parsing is of slices and touches no file, so that it can be tried with any bytes.

mod index;

use std::fmt;

pub(crate) use self::index::{
    Chunk, Column, Listed, Listing, Lookup, Outline, Place, Presence, Template, parse_index, parse_listing,
    parse_template,
};
use super::column::{self, PcoFormat};
use crate::bytes::{Fields, Malformed, check_index_place, close_footer, put_u64};

/// The first bytes of a block.
const MAGIC: [u8; 8] = *b"PITWBLK\n";
/// The last bytes of a block.
pub(crate) const END: [u8; 8] = *b"PITWEND\n";
/// The version of blocks that this program writes, and the latest that it reads.
pub(crate) const VERSION: u32 = 2;
/// The first version whose index begins with the block's [`Origin`].
const VERSION_ORIGIN: u32 = 2;
/// Bytes of the header.
pub(crate) const HEADER_BYTES: usize = 20;
/// Bytes of the footer.
pub(crate) const FOOTER_BYTES: usize = 72;
/// Bytes of the checksum after a column in the data area.
pub(crate) const CRC_BYTES: usize = 4;
/// Columns up to this stand in the index.
pub(crate) const INLINE_MAX_BYTES: usize = 16;

/// A part of a block file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Part {
    /// The header at its begin.
    Header,
    /// The footer at its end.
    Footer,
    /// The index before the footer.
    Index,
    /// The timestamps at this byte.
    Timestamps(u64),
    /// The values at this byte.
    Values(u64),
    /// The times of buckets at this byte.
    Timing(u64),
    /// The record of a series' buckets at this byte.
    Buckets(u64),
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Header => f.write_str("the header"),
            Self::Footer => f.write_str("the footer"),
            Self::Index => f.write_str("the index"),
            Self::Timestamps(at) => write!(f, "the timestamp column at byte {at}"),
            Self::Values(at) => write!(f, "the value column at byte {at}"),
            Self::Timing(at) => write!(f, "the times of buckets at byte {at}"),
            Self::Buckets(at) => write!(f, "the buckets at byte {at}"),
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

/// The end of a block: where its index is, and what the block holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Footer {
    /// Where the index begins.
    pub index_offset: u64,
    /// Its bytes.
    pub index_bytes: u64,
    /// Its checksum.
    pub index_crc: u32,
    /// The first timestamp.
    pub min_ts: i64,
    /// The last timestamp.
    pub max_ts: i64,
    /// How many samples.
    pub samples: u64,
    /// The last log segment whose frames are in here.
    pub wal_through: u64,
    /// When it was sealed, in milliseconds since the Unix epoch.
    pub sealed_ms: i64,
}

/// What a header says.
#[derive(Clone, Debug)]
pub(crate) struct Header {
    pub(crate) version: u32,
    pub(crate) pco: PcoFormat,
}

/// Where a block comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Origin {
    /// Of blocks that have the same series at the same timestamp the one of the highest order counts.
    pub(crate) order: u64,
    /// One of several blocks of a seal, and not the one that completes it.
    pub(crate) part: bool,
    /// Numbers of the blocks whose samples it holds, ascending: they do not count beside it.
    pub(crate) replaces: Vec<u64>,
}

/// A header that names the version of pco's format.
pub(crate) fn header() -> [u8; HEADER_BYTES] {
    header_of(MAGIC, VERSION)
}

/// The header of a kind of file.
pub(crate) fn header_of(magic: [u8; 8], version: u32) -> [u8; HEADER_BYTES] {
    let mut out = [0; HEADER_BYTES];
    out[..8].copy_from_slice(&magic);
    out[8..12].copy_from_slice(&version.to_le_bytes());
    out[12..14].copy_from_slice(&PcoFormat::current());
    let crc = crc32fast::hash(&out[..16]);
    out[16..].copy_from_slice(&crc.to_le_bytes());
    out
}

/// How a block is to be read, by its first bytes.
pub(crate) fn parse_header(bytes: &[u8]) -> Result<Header, PartError> {
    parse_header_of(bytes, MAGIC, VERSION)
}

/// As [`parse_header`], for a kind of file and the latest version of it that is known.
pub(crate) fn parse_header_of(bytes: &[u8], magic: [u8; 8], known: u32) -> Result<Header, PartError> {
    let damaged = PartError::Damaged(Part::Header);
    let parse = || {
        let mut fields = Fields::new(bytes);
        let body = fields.take(16)?;
        if crc32fast::hash(body) != fields.fixed_u32()? {
            return Err(Malformed);
        }
        let mut fields = Fields::new(body);
        if fields.take(8)? != magic {
            return Err(Malformed);
        }
        Ok((fields.fixed_u32()?, [fields.byte()?, fields.byte()?]))
    };
    let (version, pco) = parse().map_err(|Malformed| damaged)?;
    if version == 0 {
        return Err(damaged);
    }
    if version > known {
        return Err(PartError::Newer(version));
    }
    let pco = PcoFormat::from_bytes(pco).map_err(|Malformed| damaged)?;
    Ok(Header { version, pco })
}

impl Origin {
    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        put_u64(out, self.order);
        out.push(u8::from(self.part));
        put_u64(out, self.replaces.len() as u64);
        self.replaces.iter().for_each(|number| put_u64(out, *number));
    }

    fn parse(fields: &mut Fields<'_>) -> Result<Self, Malformed> {
        let order = fields.u64()?;
        let part = match fields.byte()? {
            byte @ 0..=1 => byte == 1,
            _ => return Err(Malformed),
        };
        let replaces = (0..fields.count(1)?).map(|_| fields.u64()).collect::<Result<Vec<_>, _>>()?;
        Ok(Self { order, part, replaces })
    }
}

impl Footer {
    pub(crate) fn encode(&self) -> [u8; FOOTER_BYTES] {
        let mut out = Vec::with_capacity(FOOTER_BYTES);
        out.extend_from_slice(&self.index_offset.to_le_bytes());
        out.extend_from_slice(&self.index_bytes.to_le_bytes());
        out.extend_from_slice(&self.index_crc.to_le_bytes());
        out.extend_from_slice(&self.min_ts.to_le_bytes());
        out.extend_from_slice(&self.max_ts.to_le_bytes());
        out.extend_from_slice(&self.samples.to_le_bytes());
        out.extend_from_slice(&self.wal_through.to_le_bytes());
        out.extend_from_slice(&self.sealed_ms.to_le_bytes());
        close_footer(&mut out, END);
        let mut fixed = [0; FOOTER_BYTES];
        fixed.copy_from_slice(&out);
        fixed
    }

    /// The footer of the last 72 bytes of a file of `file_bytes`.
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
            samples: fields.fixed_u64()?,
            wal_through: fields.fixed_u64()?,
            sealed_ms: fields.fixed_u64()? as i64,
        };
        let (index, ends) = ((footer.index_offset, footer.index_bytes), (HEADER_BYTES, FOOTER_BYTES));
        check_index_place(index, ends, file_bytes)?;
        Ok(footer)
    }
}

/// Reads a whole block from memory, every column of it; answers how many samples it holds.
///
/// # Errors
/// The first part that is damaged.
pub fn parse_whole(bytes: &[u8]) -> Result<u64, PartError> {
    let Header { version, pco } = parse_header(bytes)?;
    let footer = bytes.last_chunk::<FOOTER_BYTES>().ok_or(PartError::Damaged(Part::Footer))?;
    let footer = Footer::parse(footer, bytes.len() as u64)?;
    let (data, rest) = bytes.split_at(footer.index_offset as usize);
    let index = &rest[..footer.index_bytes as usize];
    if crc32fast::hash(index) != footer.index_crc {
        return Err(PartError::Damaged(Part::Index));
    }
    let outline = parse_index(version, index, footer.index_offset)?;
    let column = |place: &Place, part: fn(u64) -> Part| -> Result<Vec<u8>, PartError> {
        match place {
            Place::Inline(bytes) => Ok(bytes.to_vec()),
            Place::Data { offset, bytes } => {
                let damaged = PartError::Damaged(part(*offset));
                let end = *offset as usize + *bytes as usize + CRC_BYTES;
                let with_crc = data.get(*offset as usize..end).ok_or(damaged)?;
                Ok(checked(with_crc).ok_or(damaged)?.to_vec())
            }
        }
    };
    let (mut samples, mut values) = (0, Vec::new());
    for Chunk { ticks, timestamps, listing, .. } in &outline.chunks {
        let bytes = column(timestamps, Part::Timestamps)?;
        let timestamps = column::decode_integers(&pco, &bytes, *ticks as usize);
        timestamps.map_err(|Malformed| PartError::Damaged(Part::Timestamps(0)))?;
        let listed = &index[listing.at as usize..][..listing.bytes as usize];
        for one in parse_listing(listed, (listing, *ticks), footer.index_offset)? {
            let bytes = column(&one.values, Part::Values)?;
            let count = one.presence.count(*ticks as usize);
            values.clear();
            let decoded = column::decode(&pco, &bytes, count, &mut values);
            decoded.map_err(|Malformed| PartError::Damaged(Part::Values(0)))?;
            samples += count as u64;
        }
    }
    Ok(samples)
}

/// The column before its checksum, if that fits.
pub(crate) fn checked(with_crc: &[u8]) -> Option<&[u8]> {
    let (column, crc) = with_crc.split_last_chunk::<CRC_BYTES>()?;
    (crc32fast::hash(column) == u32::from_le_bytes(*crc)).then_some(column)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block::{try_column, try_index};
    use proptest::prelude::*;

    const FIXTURE: &[u8] = include_bytes!("../../tests/fixtures/v2.blk");

    fn index() -> (&'static [u8], u64) {
        let footer = Footer::parse(FIXTURE.last_chunk::<FOOTER_BYTES>().unwrap(), FIXTURE.len() as u64).unwrap();
        let index = &FIXTURE[footer.index_offset as usize..][..footer.index_bytes as usize];
        (index, footer.index_offset)
    }

    #[test]
    fn a_whole_block_is_read_and_no_flip_of_it_passes() {
        let samples = parse_whole(FIXTURE).unwrap();
        let (index, data_end) = index();
        assert!(samples > 200 && try_index(index, data_end) == Ok(8));
        for bit in 0..FIXTURE.len() * 8 {
            let mut flipped = FIXTURE.to_vec();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(parse_whole(&flipped).is_err(), "bit {bit}");
        }
        for cut in 0..FIXTURE.len() {
            assert!(parse_whole(&FIXTURE[..cut]).is_err());
        }
        let mut newer = FIXTURE.to_vec();
        newer[8] = 3;
        let crc = crc32fast::hash(&newer[..16]);
        newer[16..20].copy_from_slice(&crc.to_le_bytes());
        assert_eq!(parse_whole(&newer), Err(PartError::Newer(3)));
    }

    #[test]
    fn parts_without_their_checksums_do_not_panic() {
        let (index, data_end) = index();
        for bit in 0..index.len() * 8 {
            let mut flipped = index.to_vec();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let _ = try_index(&flipped, data_end);
        }
        let outline = parse_index(VERSION, index, data_end).unwrap();
        let columns = outline.chunks.iter().flat_map(|chunk| {
            let listed = &index[chunk.listing.at as usize..][..chunk.listing.bytes as usize];
            let all = parse_listing(listed, (&chunk.listing, chunk.ticks), data_end).unwrap();
            let listing = (&chunk.listing, chunk.ticks);
            let mut lookup = Lookup::new(listed.to_vec(), listing, data_end).unwrap();
            // On from the last, at it again, back, and past the end.
            let ahead = 0..all.len();
            for place in ahead.clone().chain(ahead.clone().rev()).chain(ahead.step_by(2)) {
                assert_eq!(lookup.column(place as u32).as_ref(), Ok(&all[place]));
                assert!(lookup.column(all.len() as u32).is_err());
            }
            assert!(lookup.column(u32::MAX).is_err());
            assert!(Lookup::new(listed[1..].to_vec(), listing, data_end).is_err());
            all
        });
        for column in columns {
            let Place::Data { offset, bytes } = column.values else { continue };
            let column = &FIXTURE[offset as usize..][..bytes as usize];
            for bit in 0..column.len() * 8 {
                let mut flipped = column.to_vec();
                flipped[bit / 8] ^= 1 << (bit % 8);
                let _ = try_column(&flipped, 37);
            }
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_an_index_or_none(bytes: Vec<u8>, data_end: u64) {
            let _ = try_index(&bytes, data_end);
            let _ = parse_whole(&bytes);
            let _ = Footer::parse(&bytes, data_end);
        }
    }
}
