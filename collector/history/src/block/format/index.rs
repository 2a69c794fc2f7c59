//! A block's index as bytes: its chunks, which series they have, and where a chunk lists its columns.

use pitwatch_shared::codec::GroupId;
use pitwatch_shared::model::{Labels, MetricType};
use rustc_hash::FxHashMap;

use super::{CRC_BYTES, HEADER_BYTES, INLINE_MAX_BYTES, Origin, Part, PartError, VERSION_ORIGIN};
use crate::block::column::COLUMN_VALUES_MAX;
use crate::bytes::{Fields, Malformed};
use crate::source::{SourceKind, SourceName};

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

impl Listing {
    /// The fields of its bytes.
    fn checked<'a>(&self, bytes: &'a [u8]) -> Result<Fields<'a>, Malformed> {
        if crc32fast::hash(bytes) == self.crc { Ok(Fields::new(bytes)) } else { Err(Malformed) }
    }
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

/// The columns that a chunk of `ticks` lists.
pub(crate) fn parse_listing(
    bytes: &[u8],
    (listing, ticks): (&Listing, u32),
    data_end: u64,
) -> Result<Vec<Column>, PartError> {
    let parse = || {
        let mut columns = Columns { fields: listing.checked(bytes)?, offset: listing.data_from, data_end };
        let mut all = Vec::new();
        while !columns.fields.is_empty() {
            all.push(columns.next(ticks)?.1);
        }
        Ok(all)
    };
    parse().map_err(|Malformed| PartError::Damaged(Part::Index))
}

/// A chunk's listing that was read and checked, to look columns up in. Where some of them begin is noted on the way, so
/// that no look-up goes far.
#[derive(Debug)]
pub(crate) struct Lookup {
    bytes: Vec<u8>,
    ticks: u32,
    data_end: u64,
    /// Where the listing goes on after the last look-up: for the series of a group one after another.
    next: Next,
    /// Where it goes on at every [`NOTED_EVERY`]th place, as far as it was read.
    noted: Vec<Next>,
}

/// A place in so many is noted.
const NOTED_EVERY: u32 = 64;

/// Where a listing goes on: the place of the next series, where it stands in the listing, and where the next column of
/// the data area begins.
#[derive(Clone, Copy, Debug)]
struct Next {
    place: u32,
    at: usize,
    offset: u64,
}

impl Lookup {
    /// Checks the bytes of the listing of a chunk of `ticks`.
    pub(crate) fn new(bytes: Vec<u8>, (listing, ticks): (&Listing, u32), data_end: u64) -> Result<Self, PartError> {
        listing.checked(&bytes).map_err(|Malformed| PartError::Damaged(Part::Index))?;
        let next = Next { place: 0, at: 0, offset: listing.data_from };
        Ok(Self { bytes, ticks, data_end, next, noted: vec![next] })
    }

    /// The column of the series at `place`.
    pub(crate) fn column(&mut self, place: u32) -> Result<Column, PartError> {
        self.find(place).map_err(|Malformed| PartError::Damaged(Part::Index))
    }

    fn find(&mut self, place: u32) -> Result<Column, Malformed> {
        let last = self.noted.len() - 1;
        let noted = self.noted[last.min((place / NOTED_EVERY) as usize)];
        let near = |next: &Next| (noted.place..=place).contains(&next.place);
        let begin = Some(self.next).filter(near).unwrap_or(noted);
        let rest = self.bytes.get(begin.at..).ok_or(Malformed)?;
        let mut columns = Columns { fields: Fields::new(rest), offset: begin.offset, data_end: self.data_end };
        let here = |columns: &Columns<'_>, place| Next {
            place,
            at: self.bytes.len() - columns.fields.rest().len(),
            offset: columns.offset,
        };
        for passed in begin.place..place {
            if passed == self.noted.len() as u32 * NOTED_EVERY {
                self.noted.push(here(&columns, passed));
            }
            columns.skip()?;
        }
        let (_, column) = columns.next(self.ticks)?;
        self.next = here(&columns, place.saturating_add(1));
        Ok(column)
    }
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
