//! A rollup file's parts as bytes: header, footer, index and records (docs/formats/rollup.md).
//!
//! Parsing is of slices and touches no file, so that it can be tried with any bytes.

use super::Resolution;
use crate::block::column::{self, COLUMN_VALUES_MAX, Integers, PcoFormat};
use crate::block::format::{self as block, CRC_BYTES, END, HEADER_BYTES, Header, Part, PartError, Template, checked};
use crate::bytes::{Fields, Malformed, check_index_place, close_footer};

/// The first bytes of a rollup file.
const MAGIC: [u8; 8] = *b"PITWROL\n";
/// The version of rollup files that this program writes, and the latest that it reads.
pub(crate) const VERSION: u32 = 2;
/// The first version that divides a series' buckets into pages.
const VERSION_PAGES: u32 = 2;
/// Buckets of a page, but for the last one of a series: not three days of minutes, so that a query for a day decodes little
/// else, and what is decoded stays in a core's cache while it is joined.
pub(crate) const PAGE_BUCKETS: usize = 4096;
/// Bytes of the footer.
pub(crate) const FOOTER_BYTES: usize = 88;
/// Values of a bucket that have a column of their own.
pub(crate) const COLUMNS: usize = 6;
/// Bytes of what the begin of a series' record has of each page: the length of each column.
pub(crate) const LENGTHS_BYTES: usize = COLUMNS * 4;
/// Bytes of what the begin of a timing has of each page: the end of its last bucket, and its length.
pub(crate) const PAGE_BYTES: usize = 8 + 4;
/// Tags of the index's records.
pub(super) const TAG_TIMING: u8 = 0;
pub(super) const TAG_SERIES: u8 = 1;

/// The end of a rollup file: where its index is, and what the file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Footer {
    /// Where the index begins.
    pub index_offset: u64,
    /// Its bytes.
    pub index_bytes: u64,
    /// Its checksum.
    pub index_crc: u32,
    /// Of its buckets.
    pub resolution: Resolution,
    /// The window that the file covers, `(start_ms, end_ms]`.
    pub start_ms: i64,
    /// The window's end.
    pub end_ms: i64,
    /// How many buckets.
    pub buckets: u64,
    /// How many samples they stand for.
    pub samples: u64,
    /// Frames up to this log segment are in here.
    pub wal_through: u64,
    /// When it was written, in milliseconds since the Unix epoch.
    pub built_ms: i64,
}

/// What an index says.
pub(crate) struct Outline<'a> {
    pub(crate) symbols: Vec<&'a str>,
    pub(crate) templates: Vec<Template<'a>>,
    pub(crate) timings: Vec<Timing>,
    pub(crate) series: Vec<Entry>,
}

/// Where the times of some series' buckets are.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Timing {
    pub(crate) buckets: usize,
    pub(crate) offset: u64,
    pub(crate) bytes: u32,
}

/// A page of a timing: buckets that are read together.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Page {
    pub(crate) buckets: usize,
    /// The end of its last bucket.
    pub(crate) end_ms: i64,
    pub(crate) offset: u64,
    pub(crate) bytes: u32,
}

/// One series, and where its values are.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Entry {
    /// Which template has its type and its labels but the instance.
    pub(crate) template: usize,
    /// Which symbol is its instance, if it has one.
    pub(crate) instance: Option<usize>,
    pub(crate) timing: u32,
    pub(crate) offset: u64,
    pub(crate) bytes: u32,
}

/// The times of a page of a series' buckets, and what else most series of a host share: a column each.
#[derive(Debug)]
pub(crate) struct Times {
    pub(crate) ends: Integers,
    pub(crate) counts: Integers,
    /// How long before the bucket's end the first sample was taken.
    pub(crate) firsts: Integers,
    pub(crate) lasts: Integers,
    pub(crate) stale: Integers,
    /// Whether every bucket has a sample.
    pub(crate) are_full: bool,
}

/// A header that names the version of pco's format.
pub(crate) fn header() -> [u8; HEADER_BYTES] {
    block::header_of(MAGIC, VERSION)
}

/// How a file is to be read, by its first bytes.
pub(crate) fn parse_header(bytes: &[u8]) -> Result<Header, PartError> {
    block::parse_header_of(bytes, MAGIC, VERSION)
}

/// Of how many buckets the pages of a version's files are.
pub(crate) fn page_buckets(version: u32) -> usize {
    if version < VERSION_PAGES { COLUMN_VALUES_MAX } else { PAGE_BUCKETS }
}

impl Footer {
    pub(crate) fn encode(&self) -> [u8; FOOTER_BYTES] {
        let mut out = Vec::with_capacity(FOOTER_BYTES);
        out.extend_from_slice(&self.index_offset.to_le_bytes());
        out.extend_from_slice(&self.index_bytes.to_le_bytes());
        out.extend_from_slice(&self.index_crc.to_le_bytes());
        out.extend_from_slice(&self.resolution.ms().to_le_bytes());
        out.extend_from_slice(&self.start_ms.to_le_bytes());
        out.extend_from_slice(&self.end_ms.to_le_bytes());
        out.extend_from_slice(&self.buckets.to_le_bytes());
        out.extend_from_slice(&self.samples.to_le_bytes());
        out.extend_from_slice(&self.wal_through.to_le_bytes());
        out.extend_from_slice(&self.built_ms.to_le_bytes());
        close_footer(&mut out, END);
        let mut fixed = [0; FOOTER_BYTES];
        fixed.copy_from_slice(&out);
        fixed
    }

    /// The footer of the last 88 bytes of a file of `file_bytes`.
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
            resolution: Resolution::from_ms(fields.fixed_u64()? as i64).ok_or(Malformed)?,
            start_ms: fields.fixed_u64()? as i64,
            end_ms: fields.fixed_u64()? as i64,
            buckets: fields.fixed_u64()?,
            samples: fields.fixed_u64()?,
            wal_through: fields.fixed_u64()?,
            built_ms: fields.fixed_u64()? as i64,
        };
        let (index, ends) = ((footer.index_offset, footer.index_bytes), (HEADER_BYTES, FOOTER_BYTES));
        check_index_place(index, ends, file_bytes)?;
        if footer.start_ms >= footer.end_ms {
            return Err(Malformed);
        }
        Ok(footer)
    }
}

/// Reads an index. `data_end` is where the records end.
pub(crate) fn parse_index(bytes: &[u8], data_end: u64) -> Result<Outline<'_>, PartError> {
    let parse = || {
        let mut fields = Fields::new(bytes);
        let symbols = (0..fields.count(1)?).map(|_| fields.text()).collect::<Result<Vec<_>, _>>()?;
        let templates = (0..fields.count(2)?).map(|_| block::parse_template(&mut fields, &symbols));
        let templates = templates.collect::<Result<Vec<_>, _>>()?;
        let mut outline = Outline { symbols, templates, timings: Vec::new(), series: Vec::new() };
        let mut offset = HEADER_BYTES as u64;
        for _ in 0..fields.count(3)? {
            let bytes = match fields.byte()? {
                TAG_TIMING => outline.timing(&mut fields, offset)?,
                TAG_SERIES => outline.entry(&mut fields, offset)?,
                _ => return Err(Malformed),
            };
            offset = offset.checked_add(u64::from(bytes)).filter(|end| *end <= data_end).ok_or(Malformed)?;
        }
        if fields.is_empty() && offset == data_end { Ok(outline) } else { Err(Malformed) }
    };
    parse().map_err(|Malformed| PartError::Damaged(Part::Index))
}

impl Outline<'_> {
    /// Reads a timing whose record is at `offset`; answers the record's length.
    fn timing(&mut self, fields: &mut Fields<'_>, offset: u64) -> Result<u32, Malformed> {
        let buckets = fields.usize()?;
        if buckets == 0 || buckets > COLUMN_VALUES_MAX {
            return Err(Malformed);
        }
        let bytes = fields.u32()?;
        self.timings.push(Timing { buckets, offset, bytes });
        Ok(bytes)
    }

    /// Reads a series whose record is at `offset`; answers the record's length.
    fn entry(&mut self, fields: &mut Fields<'_>, offset: u64) -> Result<u32, Malformed> {
        let template = fields.usize()?;
        let instance = fields.usize()?.checked_sub(1);
        let timing = fields.u32()?;
        let bytes = fields.u32()?;
        let known = template < self.templates.len()
            && instance.is_none_or(|symbol| symbol < self.symbols.len())
            && (timing as usize) < self.timings.len();
        if !known {
            return Err(Malformed);
        }
        self.series.push(Entry { template, instance, timing, offset, bytes });
        Ok(bytes)
    }
}

/// Reads bytes as an index, as the pages of a timing and the times of one of `count` buckets, and as the lengths of a record,
/// without their checksums, so that any bytes can be tried; answers how many series, pages, times and columns that gives.
#[must_use]
pub fn try_parts(bytes: &[u8], count: usize) -> [usize; 4] {
    let series = parse_index(bytes, HEADER_BYTES as u64).map_or(0, |outline| outline.series.len());
    let footer = Footer {
        index_offset: 0,
        index_bytes: 0,
        index_crc: 0,
        resolution: Resolution::Minute,
        start_ms: 0,
        end_ms: i64::MAX,
        buckets: 0,
        samples: 0,
        wal_through: 0,
        built_ms: 0,
    };
    let timing = Timing { buckets: count * PAGE_BUCKETS, offset: HEADER_BYTES as u64, bytes: bytes.len() as u32 };
    let pages = timing.parse_pages(VERSION, bytes, &footer).map_or(0, |pages| pages.len());
    let times = PcoFormat::from_bytes(PcoFormat::current())
        .and_then(|pco| Times::parse_columns(&pco, bytes, count, &footer))
        .map_or(0, |times| times.ends.len());
    let columns = parse_columns(bytes, bytes.len()).map_or(0, |pages| pages.len() * COLUMNS);
    [series, pages, times, columns]
}

impl Timing {
    /// How many pages it has, and every series with it.
    pub(crate) fn pages(&self, version: u32) -> usize {
        self.buckets.div_ceil(page_buckets(version))
    }

    /// Bytes of the head of its record.
    pub(crate) fn head_bytes(&self, version: u32) -> usize {
        if version < VERSION_PAGES { 0 } else { self.pages(version) * PAGE_BYTES + CRC_BYTES }
    }

    /// Its pages, as the head of its record has them.
    pub(crate) fn page_list(&self, version: u32, head: &[u8], footer: &Footer) -> Result<Vec<Page>, Malformed> {
        let head = if version < VERSION_PAGES { head } else { checked(head).ok_or(Malformed)? };
        self.parse_pages(version, head, footer)
    }

    fn parse_pages(&self, version: u32, head: &[u8], footer: &Footer) -> Result<Vec<Page>, Malformed> {
        if version < VERSION_PAGES {
            let Self { buckets, offset, bytes } = *self;
            return Ok(vec![Page { buckets, end_ms: footer.end_ms, offset, bytes }]);
        }
        let mut fields = Fields::new(head);
        let (mut left, mut offset) = (self.buckets, self.offset + self.head_bytes(version) as u64);
        let mut pages: Vec<Page> = Vec::with_capacity(self.pages(version));
        while left > 0 {
            let (end_ms, bytes) = (fields.fixed_u64()? as i64, fields.fixed_u32()?);
            let before = pages.last().map_or(footer.start_ms, |page| page.end_ms);
            if end_ms <= before || end_ms > footer.end_ms {
                return Err(Malformed);
            }
            let buckets = left.min(PAGE_BUCKETS);
            pages.push(Page { buckets, end_ms, offset, bytes });
            offset = offset.checked_add(u64::from(bytes)).ok_or(Malformed)?;
            left -= buckets;
        }
        let is_whole = fields.is_empty() && offset == self.offset + u64::from(self.bytes);
        if is_whole { Ok(pages) } else { Err(Malformed) }
    }
}

impl Times {
    /// The times of a page's record with its checksum, for buckets of a resolution in a window.
    pub(crate) fn parse(pco: &PcoFormat, record: &[u8], count: usize, footer: &Footer) -> Result<Self, Malformed> {
        Self::parse_columns(pco, checked(record).ok_or(Malformed)?, count, footer)
    }

    fn parse_columns(pco: &PcoFormat, columns: &[u8], count: usize, footer: &Footer) -> Result<Self, Malformed> {
        let mut fields = Fields::new(columns);
        let mut part = || column::decode_lines(pco, fields.blob()?, count);
        let (ends, counts, firsts, lasts, stale) = (part()?, part()?, part()?, part()?, part()?);
        let resolution = footer.resolution.ms();
        let is_grid = match &ends {
            Integers::Line { first, step, .. } => {
                (*step > 0 || count == 1) && first % resolution == 0 && step % resolution == 0
            }
            Integers::Listed(ends) => {
                ends.windows(2).all(|pair| pair[0] < pair[1]) && ends.iter().all(|end| end % resolution == 0)
            }
        };
        let sound = fields.is_empty()
            && is_grid
            && ends.are_within(footer.start_ms.saturating_add(1), footer.end_ms)
            && [&firsts, &lasts].into_iter().all(|offsets| offsets.are_within(0, resolution - 1))
            && counts.are_within(0, u32::MAX.into())
            && stale.are_within(0, 1);
        let are_full = counts.are_within(1, u32::MAX.into());
        if sound { Ok(Self { ends, counts, firsts, lasts, stale, are_full }) } else { Err(Malformed) }
    }

    /// The first bucket that ends after an instant.
    pub(crate) fn after(&self, ts_ms: i64) -> usize {
        let (mut low, mut high) = (0, self.ends.len());
        while low < high {
            let middle = low.midpoint(high);
            if self.ends.at(middle) <= ts_ms {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low
    }
}

/// The lengths of the columns of each page, at the begin of a series' record of `bytes`.
pub(crate) fn parse_lengths(lengths: &[u8], bytes: usize) -> Result<Vec<[usize; COLUMNS]>, Malformed> {
    parse_columns(checked(lengths).ok_or(Malformed)?, bytes)
}

fn parse_columns(lengths: &[u8], bytes: usize) -> Result<Vec<[usize; COLUMNS]>, Malformed> {
    let mut fields = Fields::new(lengths);
    let mut pages = Vec::with_capacity(lengths.len() / LENGTHS_BYTES);
    let mut total = lengths.len() + CRC_BYTES;
    while !fields.is_empty() {
        let mut page = [0; COLUMNS];
        for length in &mut page {
            *length = fields.fixed_u32()? as usize;
            if *length > 0 {
                total = total.checked_add(*length + CRC_BYTES).ok_or(Malformed)?;
            }
        }
        pages.push(page);
    }
    if total == bytes { Ok(pages) } else { Err(Malformed) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const FIXTURE: &[u8] = include_bytes!("../../tests/fixtures/v2.rol");

    #[test]
    fn parts_without_their_checksums_do_not_panic() {
        let footer = Footer::parse(FIXTURE.last_chunk::<FOOTER_BYTES>().unwrap(), FIXTURE.len() as u64).unwrap();
        let index = &FIXTURE[footer.index_offset as usize..][..footer.index_bytes as usize];
        let Header { version, pco } = parse_header(&FIXTURE[..HEADER_BYTES]).unwrap();
        let outline = parse_index(index, footer.index_offset).unwrap();
        assert_eq!(outline.series.len(), 6);
        for bit in 0..index.len() * 8 {
            let mut flipped = index.to_vec();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let _ = parse_index(&flipped, footer.index_offset);
        }
        for timing in outline.timings {
            let record = &FIXTURE[timing.offset as usize..][..timing.bytes as usize];
            let head = &record[..timing.head_bytes(version)];
            let pages = timing.page_list(version, head, &footer).unwrap();
            for bit in 0..(head.len() - CRC_BYTES) * 8 {
                let mut flipped = head[..head.len() - CRC_BYTES].to_vec();
                flipped[bit / 8] ^= 1 << (bit % 8);
                let _ = timing.parse_pages(version, &flipped, &footer);
            }
            for Page { buckets, offset, bytes, .. } in pages {
                let page = &FIXTURE[offset as usize..][..bytes as usize - CRC_BYTES];
                for bit in 0..page.len() * 8 {
                    let mut flipped = page.to_vec();
                    flipped[bit / 8] ^= 1 << (bit % 8);
                    let _ = Times::parse_columns(&pco, &flipped, buckets, &footer);
                    let _ = try_parts(&flipped, buckets);
                }
            }
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_parts_or_none(bytes: Vec<u8>, data_end: u64, length: usize) {
            let _ = parse_index(&bytes, data_end);
            let _ = Footer::parse(&bytes, data_end);
            let _ = parse_lengths(&bytes, length);
            let _ = parse_header(&bytes);
        }
    }
}
