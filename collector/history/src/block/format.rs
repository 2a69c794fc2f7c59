//! A block's parts as bytes: header, footer and index (docs/formats/block.md). Columns are `column`'s matter.
//!
//! Parsing is of slices and touches no file, so that it can be tried with any bytes.

use std::fmt;

use pitwatch_shared::codec::GroupId;
use pitwatch_shared::model::{Labels, MetricType};
use rustc_hash::FxHashMap;

use super::column::{self, COLUMN_VALUES_MAX, PcoFormat};
use crate::bytes::{Fields, Malformed, check_index_place, close_footer, put_u64};
use crate::source::{SourceKind, SourceName};

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

/// What an index says. Of the columns of values it has but where they are listed: a store has a hundred times as many as
/// it has series, and they are looked up in the file when they are read.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Outline {
    /// None in version 1.
    pub(crate) origin: Option<Origin>,
    pub(crate) chunks: Vec<Chunk>,
    pub(crate) rosters: Vec<Roster>,
}

/// The series of a chunk, or of several: a group mostly has the same ones chunk after chunk.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Roster {
    pub(crate) source: SourceName,
    pub(crate) group: GroupId,
    /// In the order in which its chunks list them.
    pub(crate) series: Vec<Listed>,
}

/// A series of a roster, and what its columns come to over the roster's chunks.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Listed {
    pub(crate) labels: Labels,
    pub(crate) kind: MetricType,
    pub(crate) bytes: u64,
    pub(crate) samples: u64,
}

/// Ticks of one group.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Chunk {
    pub(crate) roster: u32,
    pub(crate) ticks: u32,
    pub(crate) min_ts: i64,
    pub(crate) max_ts: i64,
    /// Samples of all its series.
    pub(crate) samples: u64,
    pub(crate) timestamps: Place,
    pub(crate) listing: Listing,
}

/// The part of an index that says of each series of a chunk when it has values and where they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Listing {
    /// Where it begins in the index.
    pub(crate) at: u64,
    pub(crate) bytes: u32,
    pub(crate) crc: u32,
    /// Where the first column that it names begins in the file.
    pub(crate) data_from: u64,
}

/// One series of one chunk.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Column {
    pub(crate) presence: Presence,
    pub(crate) values: Place,
}

/// At which ticks of its chunk a series has a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Presence {
    All,
    /// First tick and count, ascending, apart from one another.
    Ranges(Box<[(u32, u32)]>),
}

/// Where a column's bytes are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Inline(Box<[u8]>),
    Data { offset: u64, bytes: u32 },
}

impl Presence {
    /// How many values the series has in a chunk of `ticks`.
    pub(crate) fn count(&self, ticks: usize) -> usize {
        match self {
            Self::All => ticks,
            Self::Ranges(ranges) => ranges.iter().map(|(_, count)| *count as usize).sum(),
        }
    }

    /// Whether the series has every tick of the chunk, or else its runs of ticks.
    pub(crate) fn ranges(&self, ticks: usize) -> impl Iterator<Item = std::ops::Range<usize>> {
        let (all, ranges) = match self {
            Self::All => (Some(0..ticks), &[][..]),
            Self::Ranges(ranges) => (None, &ranges[..]),
        };
        all.into_iter().chain(ranges.iter().map(|(from, count)| *from as usize..(*from + *count) as usize))
    }
}

impl Place {
    /// Bytes that it takes of the file.
    pub(crate) fn file_bytes(&self) -> u64 {
        match self {
            Self::Inline(bytes) => bytes.len() as u64,
            Self::Data { bytes, .. } => u64::from(*bytes) + CRC_BYTES as u64,
        }
    }
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

/// Reads an index of a block of `version`. `data_end` is where the data area ends.
pub(crate) fn parse_index(version: u32, bytes: &[u8], data_end: u64) -> Result<Outline, PartError> {
    let parse = || {
        let mut fields = Fields::new(bytes);
        let origin = if version >= VERSION_ORIGIN { Some(Origin::parse(&mut fields)?) } else { None };
        let symbols = (0..fields.count(1)?).map(|_| fields.text()).collect::<Result<Vec<_>, _>>()?;
        let templates = (0..fields.count(2)?).map(|_| parse_template(&mut fields, &symbols));
        let templates = templates.collect::<Result<Vec<_>, _>>()?;
        let columns = Columns { fields, offset: HEADER_BYTES as u64, data_end };
        let outline = Outline { origin, ..Outline::default() };
        let mut reader = IndexReader {
            bytes,
            columns,
            symbols,
            templates,
            outline,
            forms: Vec::new(),
            latest: FxHashMap::default(),
        };
        for _ in 0..reader.columns.fields.count(1)? {
            reader.chunk()?;
        }
        if reader.columns.fields.is_empty() { Ok(reader.outline) } else { Err(Malformed) }
    };
    parse().map_err(|Malformed| PartError::Damaged(Part::Index))
}

/// The columns that a chunk of `ticks` lists, or only the one at `place`.
pub(crate) fn parse_listing(
    bytes: &[u8],
    (listing, ticks): (&Listing, u32),
    place: Option<u32>,
    data_end: u64,
) -> Result<Vec<Column>, PartError> {
    let parse = || {
        if crc32fast::hash(bytes) != listing.crc {
            return Err(Malformed);
        }
        let mut columns = Columns { fields: Fields::new(bytes), offset: listing.data_from, data_end };
        if let Some(place) = place {
            (0..place).try_for_each(|_| columns.skip())?;
            return Ok(vec![columns.next(ticks)?.1]);
        }
        let mut all = Vec::new();
        while !columns.fields.is_empty() {
            all.push(columns.next(ticks)?.1);
        }
        Ok(all)
    };
    parse().map_err(|Malformed| PartError::Damaged(Part::Index))
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
        for one in parse_listing(listed, (listing, *ticks), None, footer.index_offset)? {
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

/// A metric's type and the labels that many series have.
pub(crate) struct Template<'a> {
    pub(crate) kind: MetricType,
    pub(crate) pairs: Vec<(&'a str, &'a str)>,
}

fn parse_pairs<'a>(fields: &mut Fields<'_>, symbols: &[&'a str]) -> Result<Vec<(&'a str, &'a str)>, Malformed> {
    let mut pairs = Vec::new();
    for _ in 0..fields.count(2)? {
        let name = symbols.get(fields.usize()?).ok_or(Malformed)?;
        let value = symbols.get(fields.usize()?).ok_or(Malformed)?;
        pairs.push((*name, *value));
    }
    Ok(pairs)
}

pub(crate) fn parse_template<'a>(fields: &mut Fields<'_>, symbols: &[&'a str]) -> Result<Template<'a>, Malformed> {
    let kind = MetricType::from_byte(fields.byte()?).ok_or(Malformed)?;
    Ok(Template { kind, pairs: parse_pairs(fields, symbols)? })
}

struct IndexReader<'a> {
    /// All of the index.
    bytes: &'a [u8],
    columns: Columns<'a>,
    symbols: Vec<&'a str>,
    templates: Vec<Template<'a>>,
    outline: Outline,
    /// What each roster was made from.
    forms: Vec<Form<'a>>,
    /// The last roster of each group.
    latest: FxHashMap<(SourceKind, usize, GroupId), u32>,
}

/// The labels that all series of a chunk have, and their templates.
#[derive(PartialEq)]
struct Form<'a> {
    common: Vec<(&'a str, &'a str)>,
    templates: Vec<u32>,
}

impl<'a> IndexReader<'a> {
    fn chunk(&mut self) -> Result<(), Malformed> {
        let fields = &mut self.columns.fields;
        let kind = match fields.byte()? {
            0 => SourceKind::Agent,
            1 => SourceKind::Internal,
            _ => return Err(Malformed),
        };
        let symbol = fields.usize()?;
        let name = *self.symbols.get(symbol).ok_or(Malformed)?;
        let group = GroupId::try_from(fields.u64()?).map_err(|_| Malformed)?;
        let common = parse_pairs(fields, &self.symbols)?;
        let ticks = fields.u32()?;
        if ticks == 0 || ticks as usize > COLUMN_VALUES_MAX {
            return Err(Malformed);
        }
        let min_ts = fields.i64()?;
        let max_ts = min_ts.checked_add_unsigned(fields.u64()?).ok_or(Malformed)?;
        let timestamps = self.columns.place()?;
        let count = self.columns.fields.count(3)?;
        let (begin, data_from) = (self.columns.fields.rest(), self.columns.offset);
        let mut templates = Vec::with_capacity(count);
        let mut amounts = Vec::with_capacity(count);
        for _ in 0..count {
            let (template, column) = self.columns.next(ticks)?;
            templates.push(u32::try_from(template).map_err(|_| Malformed)?);
            amounts.push((column.values.file_bytes(), column.presence.count(ticks as usize) as u64));
        }
        let listed = &begin[..begin.len() - self.columns.fields.rest().len()];
        let listing = Listing {
            at: (self.bytes.len() - begin.len()) as u64,
            bytes: u32::try_from(listed.len()).map_err(|_| Malformed)?,
            crc: crc32fast::hash(listed),
            data_from,
        };
        let roster = self.roster((kind, symbol, group), name, Form { common, templates })?;
        let series = &mut self.outline.rosters[roster as usize].series;
        for (listed, (bytes, samples)) in series.iter_mut().zip(&amounts) {
            listed.bytes += bytes;
            listed.samples += samples;
        }
        let samples = amounts.iter().map(|(_, samples)| samples).sum();
        self.outline.chunks.push(Chunk { roster, ticks, min_ts, max_ts, samples, timestamps, listing });
        Ok(())
    }

    /// The number of the roster of a chunk: the group's last, if it is the same.
    fn roster(&mut self, key: (SourceKind, usize, GroupId), name: &str, form: Form<'a>) -> Result<u32, Malformed> {
        if let Some(last) = self.latest.get(&key)
            && self.forms[*last as usize] == form
        {
            return Ok(*last);
        }
        let mut series = Vec::with_capacity(form.templates.len());
        for template in &form.templates {
            let template = self.templates.get(*template as usize).ok_or(Malformed)?;
            let labels = Labels::new(form.common.iter().chain(&template.pairs).copied()).map_err(|_| Malformed)?;
            series.push(Listed { labels, kind: template.kind, bytes: 0, samples: 0 });
        }
        // A source's chunks mostly follow one another: they share its name.
        let (kind, _, group) = key;
        let before = self.outline.rosters.last().map(|roster| &roster.source);
        let source = match before.filter(|source| source.kind == kind && *source.name == *name) {
            Some(source) => source.clone(),
            None => SourceName { kind, name: name.into() },
        };
        let roster = u32::try_from(self.outline.rosters.len()).map_err(|_| Malformed)?;
        self.outline.rosters.push(Roster { source, group, series });
        self.forms.push(form);
        self.latest.insert(key, roster);
        Ok(roster)
    }
}

/// Reads columns as a chunk lists them.
struct Columns<'a> {
    fields: Fields<'a>,
    /// Where the next column of the data area begins.
    offset: u64,
    data_end: u64,
}

impl Columns<'_> {
    /// The template of the next series of a chunk of `ticks`, and its column.
    fn next(&mut self, ticks: u32) -> Result<(usize, Column), Malformed> {
        let template = self.fields.usize()?;
        let presence = self.presence(ticks as usize)?;
        Ok((template, Column { presence, values: self.place()? }))
    }

    /// Goes past a series.
    fn skip(&mut self) -> Result<(), Malformed> {
        self.fields.usize()?;
        for _ in 0..2 * self.fields.count(2)? {
            self.fields.usize()?;
        }
        let bytes = self.fields.usize()?;
        if bytes <= INLINE_MAX_BYTES { self.fields.take(bytes).map(drop) } else { self.pass(bytes).map(drop) }
    }

    fn presence(&mut self, ticks: usize) -> Result<Presence, Malformed> {
        let count = self.fields.count(2)?;
        if count == 0 {
            return Ok(Presence::All);
        }
        let mut ranges = Vec::with_capacity(count);
        let mut next = 0_usize;
        for _ in 0..count {
            let from = next.checked_add(self.fields.usize()?).ok_or(Malformed)?;
            let len = self.fields.usize()?;
            next = from.checked_add(len).filter(|end| len > 0 && *end <= ticks).ok_or(Malformed)?;
            ranges.push((from as u32, len as u32));
        }
        Ok(Presence::Ranges(ranges.into()))
    }

    fn place(&mut self) -> Result<Place, Malformed> {
        let bytes = self.fields.usize()?;
        if bytes <= INLINE_MAX_BYTES {
            return Ok(Place::Inline(self.fields.take(bytes)?.into()));
        }
        let offset = self.pass(bytes)?;
        Ok(Place::Data { offset, bytes: u32::try_from(bytes).map_err(|_| Malformed)? })
    }

    /// Where a column of the data area begins; the next one is after it.
    fn pass(&mut self, bytes: usize) -> Result<u64, Malformed> {
        let offset = self.offset;
        let end = u64::try_from(bytes).ok().and_then(|bytes| bytes.checked_add(CRC_BYTES as u64));
        self.offset = end.and_then(|bytes| offset.checked_add(bytes)).ok_or(Malformed)?;
        if self.offset > self.data_end { Err(Malformed) } else { Ok(offset) }
    }
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
            let all = parse_listing(listed, (&chunk.listing, chunk.ticks), None, data_end).unwrap();
            for (place, column) in all.iter().enumerate() {
                let one = parse_listing(listed, (&chunk.listing, chunk.ticks), Some(place as u32), data_end);
                assert_eq!(one.unwrap(), std::slice::from_ref(column));
            }
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
