//! An open rollup file: where its series are is in memory; times and values are read and checked when asked for.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use pitwatch_disk::{Disk, DiskFile};

use super::format::{self, COLUMNS, FOOTER_BYTES, Footer, LENGTHS_BYTES, Times, Timing};
use super::known::Known;
use super::{Bucket, Fields};
use crate::block::BlockError;
use crate::block::column::{self, PcoFormat};
use crate::block::format::{CRC_BYTES, HEADER_BYTES, Part, PartError, checked};
use crate::bytes::Malformed;
use crate::history::write;
use crate::index::{Index, SeriesId};

/// The columns of a series' record, in their order.
const ORDER: [Fields; COLUMNS] = [Fields::FIRST, Fields::LAST, Fields::MIN, Fields::MAX, Fields::SUM, Fields::RESETS];
const FIRST: usize = 0;
const LAST: usize = 1;
const MAX: usize = 3;
const SUM: usize = 4;
const RESETS: usize = 5;

/// An open rollup file.
#[derive(Debug)]
pub(crate) struct Rollup {
    path: PathBuf,
    file: Box<dyn DiskFile>,
    number: u64,
    bytes: u64,
    footer: Footer,
    pco: PcoFormat,
    timings: Vec<Timing>,
    /// By series.
    entries: Vec<Entry>,
    /// The times read last: the series of a host are asked for one after another.
    last_times: Mutex<Option<(u32, Arc<Times>)>>,
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
        let pco = format::parse_header(&header).map_err(bad)?;
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
        let last_times = Mutex::default();
        Ok(Self { path, file, number, bytes, footer, pco, timings, entries, last_times })
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

    /// Calls `each` with the series' buckets that end after `start` and not after `end`, ascending.
    pub(crate) fn buckets(
        &self,
        series: SeriesId,
        start: i64,
        end: i64,
        fields: Fields,
        mut each: impl FnMut(Bucket),
    ) -> Result<(), BlockError> {
        let Ok(at) = self.entries.binary_search_by_key(&series, |entry| entry.series) else { return Ok(()) };
        let entry = &self.entries[at];
        let times = self.times(entry.timing)?;
        let range = times.ends.partition_point(|at| *at <= start)..times.ends.partition_point(|at| *at <= end);
        if range.is_empty() {
            return Ok(());
        }
        let record = Record { file: self, entry, times: &times, lengths: self.lengths(entry)? };
        let mut columns: [Vec<f64>; COLUMNS] = Default::default();
        for (nth, column) in columns.iter_mut().enumerate().filter(|(nth, _)| fields.has(ORDER[*nth])) {
            *column = record.column(nth)?;
        }
        let value = |nth: usize, at: usize| columns[nth].get(at).copied().unwrap_or(0.0);
        for at in range {
            let (end_ms, count, stale) = (times.ends[at], times.counts[at] as u32, times.stale[at] == 1);
            if count == 0 {
                each(Bucket { end_ms, first_ms: end_ms, last_ms: end_ms, stale, ..Bucket::default() });
                continue;
            }
            let [first, last, min, max, sum, resets] = std::array::from_fn(|nth| value(nth, at));
            let (first_ms, last_ms) = (end_ms - times.firsts[at], end_ms - times.lasts[at]);
            each(Bucket { end_ms, count, stale, first_ms, last_ms, first, last, min, max, sum, resets });
        }
        Ok(())
    }

    /// Reads all that is in the file; answers every damaged part, with the number of the series that it is one of.
    pub(crate) fn check(&self, progress: &mut dyn FnMut(u64), damage: &mut dyn FnMut(SeriesId, BlockError)) {
        let mut by_place: Vec<&Entry> = self.entries.iter().collect();
        by_place.sort_unstable_by_key(|entry| entry.offset);
        for entry in by_place {
            let read = self.buckets(entry.series, i64::MIN, i64::MAX, Fields::ALL, |_| {});
            if let Err(error) = read {
                damage(entry.series, error);
            }
            progress(u64::from(entry.bytes));
        }
    }

    fn lengths(&self, entry: &Entry) -> Result<[usize; COLUMNS], BlockError> {
        let part = Part::Buckets(entry.offset);
        let mut lengths = [0; LENGTHS_BYTES];
        self.read(entry.offset, &mut lengths, part)?;
        format::parse_lengths(&lengths, entry.bytes as usize).map_err(|Malformed| self.damaged(part))
    }

    fn times(&self, timing: u32) -> Result<Arc<Times>, BlockError> {
        let last = || self.last_times.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((of, times)) = &*last()
            && *of == timing
        {
            return Ok(times.clone());
        }
        // In bounds: the index was read with it.
        let Timing { buckets, offset, bytes } = self.timings[timing as usize];
        let mut record = vec![0; bytes as usize];
        self.read(offset, &mut record, Part::Timing(offset))?;
        let times = Times::parse(&self.pco, &record, buckets, &self.footer);
        let times = Arc::new(times.map_err(|Malformed| self.damaged(Part::Timing(offset)))?);
        *last() = Some((timing, times.clone()));
        Ok(times)
    }

    fn read(&self, offset: u64, buffer: &mut [u8], part: Part) -> Result<(), BlockError> {
        let read = self.file.read_at(offset, buffer);
        read.map_err(|source| BlockError::Io { path: self.path.clone(), part, source })
    }

    fn damaged(&self, part: Part) -> BlockError {
        BlockError::Damaged { path: self.path.clone(), part }
    }
}

/// One series' values.
struct Record<'a> {
    file: &'a Rollup,
    entry: &'a Entry,
    times: &'a Times,
    lengths: [usize; COLUMNS],
}

impl Record<'_> {
    /// The values of a column; one that is not there is told from others.
    fn column(&self, nth: usize) -> Result<Vec<f64>, BlockError> {
        let count = self.times.ends.len();
        let length = self.lengths[nth];
        if length == 0 {
            return match nth {
                FIRST => Err(self.file.damaged(Part::Buckets(self.entry.offset))),
                MAX => self.column(LAST),
                SUM => {
                    let counts = self.times.counts.iter().map(|count| *count as f64);
                    Ok(self.column(FIRST)?.into_iter().zip(counts).map(|(first, count)| first * count).collect())
                }
                RESETS => Ok(vec![0.0; count]),
                _ => self.column(FIRST),
            };
        }
        let before: usize = self.lengths[..nth].iter().filter(|length| **length > 0).map(|one| one + CRC_BYTES).sum();
        let offset = self.entry.offset + (LENGTHS_BYTES + before) as u64;
        let part = Part::Values(offset);
        let mut bytes = vec![0; length + CRC_BYTES];
        self.file.read(offset, &mut bytes, part)?;
        let mut values = Vec::with_capacity(count);
        let column = checked(&bytes).ok_or(Malformed);
        let decoded = column.and_then(|column| column::decode(&self.file.pco, column, count, &mut values));
        decoded.map_err(|Malformed| self.file.damaged(part))?;
        Ok(values)
    }
}
