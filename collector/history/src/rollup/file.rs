//! An open rollup file: where its series are is in memory; times and values are read and checked when asked for.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};

use pitwatch_disk::{Disk, DiskFile};

use super::format::{self, COLUMNS, FOOTER_BYTES, Footer, LENGTHS_BYTES, Times};
use super::known::Known;
use super::page::{FIRST, LAST, MAX, MIN, ORDER, Page, RESETS, SUM};
use super::{Bucket, Fields};
use crate::block::BlockError;
use crate::block::column;
use crate::block::format::{CRC_BYTES, HEADER_BYTES, Header, Part, PartError, checked};
use crate::bytes::Malformed;
use crate::history::write;
use crate::index::{Index, SeriesId};

/// Timings that are kept read: the series of a host are asked for one after another, by a few threads at once.
const TIMINGS_KEPT: usize = 2;

/// An open rollup file.
#[derive(Debug)]
pub(crate) struct Rollup {
    path: PathBuf,
    file: Box<dyn DiskFile>,
    number: u64,
    bytes: u64,
    footer: Footer,
    header: Header,
    timings: Vec<format::Timing>,
    /// By series.
    entries: Vec<Entry>,
    /// The timings read last.
    kept: Mutex<VecDeque<Arc<Timing>>>,
}

/// A timing that has been asked for: its pages, the times of those that were read.
#[derive(Debug)]
struct Timing {
    number: u32,
    pages: Vec<(format::Page, OnceLock<Times>)>,
}

#[derive(Debug)]
struct Entry {
    series: SeriesId,
    timing: u32,
    offset: u64,
    bytes: u32,
}

impl Rollup {
    /// Opens a file and enters its series into the index. `known` may come from other files of the same index.
    pub(crate) fn open(
        disk: &dyn Disk,
        path: &Path,
        number: u64,
        index: &RwLock<Index>,
        known: &mut Known,
    ) -> Result<Self, BlockError> {
        let io = |part| {
            let path = path.to_owned();
            move |source| BlockError::Io { path, part, source }
        };
        let bad = |error| match error {
            PartError::Damaged(part) => BlockError::Damaged { path: path.to_owned(), part },
            PartError::Newer(found) => BlockError::Newer { path: path.to_owned(), found, known: format::VERSION },
        };
        let file = disk.open(path).map_err(io(Part::Header))?;
        let bytes = file.len().map_err(io(Part::Footer))?;
        if bytes < (HEADER_BYTES + FOOTER_BYTES) as u64 {
            return Err(bad(PartError::Damaged(Part::Footer)));
        }
        let mut header = [0; HEADER_BYTES];
        file.read_at(0, &mut header).map_err(io(Part::Header))?;
        let header = format::parse_header(&header).map_err(bad)?;
        let mut footer = [0; FOOTER_BYTES];
        file.read_at(bytes - FOOTER_BYTES as u64, &mut footer).map_err(io(Part::Footer))?;
        let footer = Footer::parse(&footer, bytes).map_err(bad)?;
        let mut raw = vec![0; footer.index_bytes as usize];
        file.read_at(footer.index_offset, &mut raw).map_err(io(Part::Index))?;
        if crc32fast::hash(&raw) != footer.index_crc {
            return Err(bad(PartError::Damaged(Part::Index)));
        }
        let outline = format::parse_index(&raw, footer.index_offset).map_err(bad)?;
        let mut entries = Vec::with_capacity(outline.series.len());
        {
            let mut ids = known.of(&outline);
            let mut index = write(index);
            for format::Entry { template, instance, timing, offset, bytes } in outline.series.iter().copied() {
                let series = ids.series(&outline, template, instance, &mut index);
                let series = series.ok_or_else(|| bad(PartError::Damaged(Part::Index)))?;
                entries.push(Entry { series, timing, offset, bytes });
            }
        }
        entries.sort_unstable_by_key(|entry| entry.series);
        let (path, timings) = (path.to_owned(), outline.timings);
        let kept = Mutex::default();
        Ok(Self { path, file, number, bytes, footer, header, timings, entries, kept })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Its number: a later file's is higher.
    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(crate) fn footer(&self) -> &Footer {
        &self.footer
    }

    /// Whether what the other file has is in this one.
    pub(crate) fn replaces(&self, other: &Self) -> bool {
        let (footer, theirs) = (&self.footer, &other.footer);
        footer.resolution == theirs.resolution
            && self.number > other.number
            && footer.start_ms <= theirs.start_ms
            && footer.end_ms >= theirs.end_ms
    }

    pub(crate) fn series(&self) -> impl Iterator<Item = SeriesId> {
        self.entries.iter().map(|entry| entry.series)
    }

    /// Whether its window has instants after `start` and not after `end`.
    pub(crate) fn overlaps(&self, start: i64, end: i64) -> bool {
        self.footer.start_ms < end && self.footer.end_ms > start
    }

    pub(crate) fn has(&self, series: SeriesId) -> bool {
        self.entries.binary_search_by_key(&series, |entry| entry.series).is_ok()
    }

    /// Calls `each` with the series' buckets that end after `start` and not after `end`, ascending, those within one span of
    /// `grid_ms`, a multiple of the resolution, joined as far as they stand in one page.
    pub(crate) fn buckets(
        &self,
        series: SeriesId,
        (start, end): (i64, i64),
        grid_ms: i64,
        fields: Fields,
        mut each: impl FnMut(Bucket),
    ) -> Result<(), BlockError> {
        let Ok(at) = self.entries.binary_search_by_key(&series, |entry| entry.series) else { return Ok(()) };
        let entry = &self.entries[at];
        let timing = self.timing(entry.timing)?;
        let begin = timing.pages.partition_point(|(page, _)| page.end_ms <= start);
        let reaching = timing.pages.partition_point(|(page, _)| page.end_ms < end);
        let pages = begin..(reaching + 1).min(timing.pages.len());
        if pages.is_empty() {
            return Ok(());
        }
        let mut record = Record::open(self, entry, timing.pages.len())?;
        for nth in pages {
            let times = self.times(&timing, nth)?;
            let range = times.after(start)..times.after(end);
            if !range.is_empty() {
                record.page(nth, times, fields)?.each(range, grid_ms, self.footer.resolution.ms(), &mut each);
            }
        }
        Ok(())
    }

    /// Reads all that is in the file; answers every damaged part, with the number of the series that it is one of.
    pub(crate) fn check(&self, progress: &mut dyn FnMut(u64), damage: &mut dyn FnMut(SeriesId, BlockError)) {
        let mut by_place: Vec<&Entry> = self.entries.iter().collect();
        by_place.sort_unstable_by_key(|entry| entry.offset);
        for entry in by_place {
            let resolution_ms = self.footer.resolution.ms();
            let read = self.buckets(entry.series, (i64::MIN, i64::MAX), resolution_ms, Fields::ALL, |_| {});
            if let Err(error) = read {
                damage(entry.series, error);
            }
            progress(u64::from(entry.bytes));
        }
    }

    fn timing(&self, number: u32) -> Result<Arc<Timing>, BlockError> {
        let kept = || self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(timing) = kept().iter().find(|timing| timing.number == number) {
            return Ok(timing.clone());
        }
        // In bounds: the index was read with it.
        let of = &self.timings[number as usize];
        let part = Part::Timing(of.offset);
        let mut head = vec![0; of.head_bytes(self.header.version)];
        self.read(of.offset, &mut head, part)?;
        let pages = of.page_list(self.header.version, &head, &self.footer).map_err(|Malformed| self.damaged(part))?;
        let pages = pages.into_iter().map(|page| (page, OnceLock::new())).collect();
        let timing = Arc::new(Timing { number, pages });
        let mut kept = kept();
        kept.truncate(TIMINGS_KEPT - 1);
        kept.push_front(timing.clone());
        Ok(timing)
    }

    fn times<'t>(&self, timing: &'t Timing, nth: usize) -> Result<&'t Times, BlockError> {
        let (page, times) = &timing.pages[nth];
        if let Some(times) = times.get() {
            return Ok(times);
        }
        let part = Part::Timing(page.offset);
        let mut record = vec![0; page.bytes as usize];
        self.read(page.offset, &mut record, part)?;
        let read = Times::parse(&self.header.pco, &record, page.buckets, &self.footer);
        let read = read.map_err(|Malformed| self.damaged(part))?;
        Ok(times.get_or_init(|| read))
    }

    fn read(&self, offset: u64, buffer: &mut [u8], part: Part) -> Result<(), BlockError> {
        let read = self.file.read_at(offset, buffer);
        read.map_err(|source| BlockError::Io { path: self.path.clone(), part, source })
    }

    fn damaged(&self, part: Part) -> BlockError {
        BlockError::Damaged { path: self.path.clone(), part }
    }
}

/// One series' values, page by page.
struct Record<'a> {
    file: &'a Rollup,
    entry: &'a Entry,
    lengths: Vec<[usize; COLUMNS]>,
    /// Those of the last page.
    values: [Vec<f64>; COLUMNS],
    /// A column's bytes.
    bytes: Vec<u8>,
}

impl<'a> Record<'a> {
    fn open(file: &'a Rollup, entry: &'a Entry, pages: usize) -> Result<Self, BlockError> {
        let part = Part::Buckets(entry.offset);
        let mut head = vec![0; pages * LENGTHS_BYTES + CRC_BYTES];
        file.read(entry.offset, &mut head, part)?;
        let lengths = format::parse_lengths(&head, entry.bytes as usize);
        let lengths = lengths.map_err(|Malformed| file.damaged(part))?;
        Ok(Self { file, entry, lengths, values: Default::default(), bytes: Vec::new() })
    }

    /// The columns of a page that are asked for; those that are not there are told from others.
    fn page<'p>(&'p mut self, nth: usize, times: &'p Times, fields: Fields) -> Result<Page<'p>, BlockError> {
        self.values.iter_mut().for_each(Vec::clear);
        let lengths = self.lengths[nth];
        let mut told: [usize; COLUMNS] = std::array::from_fn(|column| column);
        for (column, from) in [(LAST, FIRST), (MIN, FIRST), (MAX, LAST)] {
            if lengths[column] == 0 {
                told[column] = told[from];
            }
        }
        for column in (FIRST..COLUMNS).filter(|column| fields.has(ORDER[*column])) {
            match column {
                RESETS if lengths[RESETS] == 0 => {}
                SUM if lengths[SUM] == 0 => {
                    self.column(nth, FIRST, times)?;
                    let [firsts, .., sums, _] = &mut self.values;
                    sums.extend(firsts.iter().enumerate().map(|(at, first)| first * times.counts.at(at) as f64));
                }
                _ => self.column(nth, told[column], times)?,
            }
        }
        Ok(Page { times, fields, values: &self.values, told })
    }

    /// Reads a column that is there, unless it has been.
    fn column(&mut self, page: usize, nth: usize, times: &Times) -> Result<(), BlockError> {
        let Self { file, entry, lengths, values, bytes } = self;
        let values = &mut values[nth];
        if !values.is_empty() {
            return Ok(());
        }
        let length = lengths[page][nth];
        if length == 0 {
            return Err(file.damaged(Part::Buckets(entry.offset)));
        }
        let before = lengths[..page].iter().flatten().chain(&lengths[page][..nth]);
        let before: usize = before.filter(|length| **length > 0).map(|length| length + CRC_BYTES).sum();
        let head = lengths.len() * LENGTHS_BYTES + CRC_BYTES;
        let offset = entry.offset + (head + before) as u64;
        let part = Part::Values(offset);
        bytes.resize(length + CRC_BYTES, 0);
        file.read(offset, bytes, part)?;
        let column = checked(bytes).ok_or(Malformed);
        let decoded = column.and_then(|column| column::decode(&file.header.pco, column, times.ends.len(), values));
        decoded.map_err(|Malformed| file.damaged(part))
    }
}
