//! Immutable block files: a sealed head's samples, compressed, with their index (docs/formats/block.md).
//!
//! - [`mod@format`]: the parts of a file. `column`: one series' values as bytes. `writer`: chunks to a file.
//! - `Block`: an open file. In memory are its chunks and which series they have; where the columns are is looked up in
//!   the file, and they are read and checked, when asked for.
//!
//! What is put into a block is the matter of those who make one: `seal`, `compact`.

pub(crate) mod column;
pub mod format;
pub(crate) mod recent;
pub(crate) mod writer;

use std::cell::RefCell;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use pitwatch_disk::{Disk, DiskFile};
use pitwatch_shared::codec::GroupId;

use crate::bytes::Malformed;
use crate::history::write;
use crate::index::{Index, SeriesId};
use crate::source::SourceName;
use crate::usage::BlockUsage;
use column::PcoFormat;
use format::{
    CRC_BYTES, Chunk, Column, FOOTER_BYTES, Footer, HEADER_BYTES, Header, Listing, Lookup, Origin, Outline, Part,
    PartError, Place, Presence,
};
use recent::{Recent, Timestamps};
pub(crate) use writer::{BlockWriter, Ticks};

const SUFFIX: &str = ".blk";

thread_local! {
    /// A column's bytes: a query reads thousands one after another.
    static COLUMN: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// What a block's file is called: its number, and the first and last instant in it, for people.
pub(crate) fn file_name(number: u64, min_ts: i64, max_ts: i64) -> String {
    format!("{number:08}-{min_ts}-{max_ts}{SUFFIX}")
}

/// The number of a block's file name.
pub(crate) fn number_of(name: &str) -> Option<u64> {
    name.strip_suffix(SUFFIX)?.split('-').next()?.parse().ok()
}

/// Why a block, or a part of one, cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BlockError {
    /// The operating system refuses.
    #[error("cannot read {part} of {path}")]
    Io {
        /// The block.
        path: PathBuf,
        /// Which part.
        part: Part,
        /// The reason.
        #[source]
        source: io::Error,
    },
    /// Bytes that are not what was written.
    #[error("{path}: {part} is damaged; restore the file from a backup, or delete it to do without its samples")]
    Damaged {
        /// The block.
        path: PathBuf,
        /// Which part.
        part: Part,
    },
    /// A file of a later version of this program.
    #[error("{path} has format version {found}, this program knows up to {known}")]
    Newer {
        /// The block.
        path: PathBuf,
        /// Its version.
        found: u32,
        /// The latest version known.
        known: u32,
    },
}

/// Reads the bytes of an index, for a block whose columns end at `data_end`; answers how many series it names. Unlike
/// opening a block it asks for no checksum, so that any bytes can be tried.
///
/// # Errors
/// Bytes that are no index.
pub fn try_index(bytes: &[u8], data_end: u64) -> Result<usize, PartError> {
    Ok(format::parse_index(format::VERSION, bytes, data_end)?.rosters.iter().map(|roster| roster.series.len()).sum())
}

/// Reads the bytes of a column of `count` values, as this version writes them, without a checksum.
#[must_use]
pub fn try_column(bytes: &[u8], count: usize) -> Option<Vec<f64>> {
    let pco = PcoFormat::from_bytes(PcoFormat::current()).ok()?;
    let mut values = Vec::new();
    column::decode(&pco, bytes, count, &mut values).ok()?;
    Some(values)
}

/// An open block.
#[derive(Debug)]
pub(crate) struct Block {
    path: PathBuf,
    file: Box<dyn DiskFile>,
    bytes: u64,
    number: u64,
    footer: Footer,
    origin: Origin,
    pco: PcoFormat,
    chunks: Vec<Chunk>,
    rosters: Vec<Roster>,
    /// By series.
    members: Vec<Member>,
    usage: BlockUsage,
    /// What was read lately of this and other blocks.
    recent: Arc<Recent>,
    /// A part of it was found damaged: it is left as it is.
    spoiled: AtomicBool,
}

/// A column that cannot be read.
#[derive(Debug)]
pub(crate) struct ColumnDamage {
    /// Where it is.
    pub(crate) part: String,
    pub(crate) source: SourceName,
    /// Whose values they are; none for timestamps, which all series of a chunk share.
    pub(crate) series: Option<SeriesId>,
    pub(crate) samples: u64,
    /// First and last timestamp, milliseconds since the Unix epoch.
    pub(crate) span: (i64, i64),
}

/// The series of some chunks.
#[derive(Debug)]
struct Roster {
    source: SourceName,
    group: GroupId,
    /// In the order in which its chunks list them.
    series: Box<[SeriesId]>,
    /// Its chunks, ascending.
    chunks: Vec<u32>,
}

/// A series and its place in a roster.
#[derive(Debug)]
struct Member {
    series: SeriesId,
    roster: u32,
    place: u32,
}

/// One series of one chunk.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) series: SeriesId,
    pub(crate) presence: Presence,
    pub(crate) values: Place,
    ticks: usize,
}

/// A block file that was read, of which the index of series does not know yet.
#[derive(Debug)]
pub(crate) struct Loaded {
    path: PathBuf,
    file: Box<dyn DiskFile>,
    bytes: u64,
    number: u64,
    footer: Footer,
    pco: PcoFormat,
    outline: Outline,
}

impl Loaded {
    /// Opens a block file and reads its index.
    pub(crate) fn open(disk: &dyn Disk, path: &Path) -> Result<Self, BlockError> {
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
        let Header { version, pco } = format::parse_header(&header).map_err(bad)?;
        let mut footer = [0; FOOTER_BYTES];
        file.read_at(bytes - FOOTER_BYTES as u64, &mut footer).map_err(io(Part::Footer))?;
        let footer = Footer::parse(&footer, bytes).map_err(bad)?;
        let mut raw = vec![0; footer.index_bytes as usize];
        file.read_at(footer.index_offset, &mut raw).map_err(io(Part::Index))?;
        if crc32fast::hash(&raw) != footer.index_crc {
            return Err(bad(PartError::Damaged(Part::Index)));
        }
        let outline = format::parse_index(version, &raw, footer.index_offset).map_err(bad)?;
        let number = path.file_name().and_then(|name| number_of(name.to_str()?)).unwrap_or(0);
        Ok(Self { path: path.to_owned(), file, bytes, number, footer, pco, outline })
    }

    pub(crate) fn footer(&self) -> &Footer {
        &self.footer
    }

    /// None in version 1, whose blocks are each a whole head in the order of their numbers.
    pub(crate) fn origin(&self) -> Option<&Origin> {
        self.outline.origin.as_ref()
    }

    /// Enters the block's series into the index. `recent` is what blocks of the same store share.
    pub(crate) fn enter(self, index: &RwLock<Index>, recent: &Arc<Recent>) -> Block {
        let Self { path, file, bytes, number, footer, pco, outline } = self;
        let enter = |listed: &format::Listed| write(index).insert(&listed.labels, listed.kind);
        let ids: Vec<Box<[SeriesId]>> =
            outline.rosters.iter().map(|roster| roster.series.iter().map(enter).collect()).collect();
        let usage = BlockUsage::of(&outline, &ids);
        let Outline { origin, chunks, rosters } = outline;
        let mut rosters: Vec<Roster> = rosters
            .into_iter()
            .zip(ids)
            .map(|(of, series)| Roster { source: of.source, group: of.group, series, chunks: Vec::new() })
            .collect();
        for (nth, chunk) in chunks.iter().enumerate() {
            // In bounds: the index was read chunk by chunk.
            rosters[chunk.roster as usize].chunks.push(nth as u32);
        }
        let mut members = Vec::with_capacity(rosters.iter().map(|roster| roster.series.len()).sum());
        for (nth, roster) in rosters.iter_mut().enumerate() {
            roster.chunks.shrink_to_fit();
            let all = roster.series.iter().enumerate();
            members.extend(all.map(|(place, series)| Member {
                series: *series,
                roster: nth as u32,
                place: place as u32,
            }));
        }
        members.sort_unstable_by_key(|member| (member.series, member.roster, member.place));
        let origin = origin.unwrap_or_else(|| Origin { order: number, ..Origin::default() });
        let recent = recent.clone();
        let spoiled = AtomicBool::new(false);
        Block { path, file, bytes, number, footer, origin, pco, chunks, rosters, members, usage, recent, spoiled }
    }
}

impl Block {
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(crate) fn footer(&self) -> &Footer {
        &self.footer
    }

    pub(crate) fn usage(&self) -> &BlockUsage {
        &self.usage
    }

    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    /// See [`Origin::order`].
    pub(crate) fn order(&self) -> u64 {
        self.origin.order
    }

    /// Whether its columns may be taken over as they are by a block that is written now.
    pub(crate) fn is_current(&self) -> bool {
        self.pco.is_current()
    }

    pub(crate) fn is_spoiled(&self) -> bool {
        self.spoiled.load(Ordering::Relaxed)
    }

    /// Notes that a part of it is damaged.
    pub(crate) fn spoil(&self) {
        self.spoiled.store(true, Ordering::Relaxed);
    }

    pub(crate) fn chunks(&self) -> &[Chunk] {
        &self.chunks
    }

    /// Whose chunk it is.
    pub(crate) fn owner(&self, chunk: &Chunk) -> (&SourceName, GroupId) {
        let roster = &self.rosters[chunk.roster as usize];
        (&roster.source, roster.group)
    }

    /// The series of a chunk, in the order of the file.
    pub(crate) fn entries(&self, chunk: u32) -> Result<Vec<Entry>, BlockError> {
        let series = self.rosters[self.chunks[chunk as usize].roster as usize].series.iter();
        let Chunk { listing, ticks, .. } = &self.chunks[chunk as usize];
        let columns = format::parse_listing(&self.listing(listing)?, (listing, *ticks), self.footer.index_offset)
            .map_err(|_| BlockError::Damaged { path: self.path.clone(), part: Part::Index })?;
        Ok(series.zip(columns).map(|(series, column)| self.entry(chunk, *series, column)).collect())
    }

    fn entry(&self, chunk: u32, series: SeriesId, Column { presence, values }: Column) -> Entry {
        Entry { series, presence, values, ticks: self.chunks[chunk as usize].ticks as usize }
    }

    /// The bytes of what the index lists for a chunk.
    fn listing(&self, Listing { at, bytes, .. }: &Listing) -> Result<Vec<u8>, BlockError> {
        let mut raw = vec![0; *bytes as usize];
        let read = self.file.read_at(self.footer.index_offset + at, &mut raw);
        read.map_err(|source| BlockError::Io { path: self.path.clone(), part: Part::Index, source })?;
        Ok(raw)
    }

    /// What the index lists for a chunk's series at `place`.
    fn looked_up(&self, chunk: u32, place: u32) -> Result<Column, BlockError> {
        let damaged = |_| BlockError::Damaged { path: self.path.clone(), part: Part::Index };
        let lookup = self.recent.lookups.get((self.number, chunk), || {
            let Chunk { listing, ticks, .. } = &self.chunks[chunk as usize];
            let lookup = Lookup::new(self.listing(listing)?, (listing, *ticks), self.footer.index_offset);
            Ok((Arc::new(Mutex::new(lookup.map_err(damaged)?)), listing.bytes as usize))
        })?;
        let mut lookup = lookup.lock().unwrap_or_else(PoisonError::into_inner);
        lookup.column(place).map_err(damaged)
    }

    /// Every series, some more than once.
    pub(crate) fn series(&self) -> impl Iterator<Item = SeriesId> {
        self.members.iter().map(|member| member.series)
    }

    /// Whether the block may have samples after `start` and not after `end`.
    pub(crate) fn overlaps(&self, start: i64, end: i64) -> bool {
        self.footer.min_ts <= end && self.footer.max_ts > start
    }

    /// Whether the series may have samples in the block after `start` and not after `end`.
    pub(crate) fn has(&self, series: SeriesId, start: i64, end: i64) -> bool {
        self.overlaps(start, end) && self.places(series, start, end).next().is_some()
    }

    /// Whether the other block may have a sample of a series and timestamp that this one has too.
    pub(crate) fn shares(&self, other: &Self) -> bool {
        self.chunks.iter().any(|chunk| {
            let series = &self.rosters[chunk.roster as usize].series;
            other.overlaps(chunk.min_ts.saturating_sub(1), chunk.max_ts)
                && series.iter().any(|series| other.has(*series, chunk.min_ts.saturating_sub(1), chunk.max_ts))
        })
    }

    /// The chunks that may have samples of the series after `start` and not after `end`, and its place in each.
    fn places(&self, series: SeriesId, start: i64, end: i64) -> impl Iterator<Item = (u32, u32)> {
        let from = self.members.partition_point(|member| member.series < series);
        let members = self.members[from..].iter().take_while(move |member| member.series == series);
        let places = members.flat_map(|member| {
            let chunks = &self.rosters[member.roster as usize].chunks;
            chunks.iter().map(|chunk| (*chunk, member.place))
        });
        places.filter(move |(chunk, _)| self.chunks[*chunk as usize].overlaps(start, end))
    }

    /// Adds the series' samples after `start` and not after `end`; answers whether all that is there then is in order,
    /// if what was there before is. On an error `ts` and `values` may hold a part.
    pub(crate) fn samples(
        &self,
        series: SeriesId,
        start: i64,
        end: i64,
        ts: &mut Vec<i64>,
        values: &mut Vec<f64>,
    ) -> Result<bool, BlockError> {
        let mut places: Vec<_> = self.places(series, start, end).collect();
        places.sort_unstable();
        let (mut decoded, mut in_order) = (Vec::new(), true);
        for (chunk, place) in places {
            let entry = &self.entry(chunk, series, self.looked_up(chunk, place)?);
            let timestamps = self.recent_timestamps(chunk)?;
            let from = timestamps.partition_point(|at| *at <= start);
            let to = timestamps.partition_point(|at| *at <= end);
            if entry.presence.ranges(entry.ticks).all(|range| range.end <= from || range.start >= to) {
                continue;
            }
            let begin = ts.len();
            if entry.presence == Presence::All {
                // As most series are: no copy between.
                ts.extend_from_slice(&timestamps[from..to]);
                self.add_values(entry, values)?;
                values.truncate(begin + to);
                values.drain(begin..begin + from);
            } else {
                self.values(entry, &mut decoded)?;
                let mut before = 0;
                for range in entry.presence.ranges(entry.ticks) {
                    let (begin, len) = (range.start, range.len());
                    let wanted = range.start.max(from)..range.end.min(to);
                    if wanted.start < wanted.end {
                        ts.extend_from_slice(&timestamps[wanted.clone()]);
                        values.extend_from_slice(&decoded[before + wanted.start - begin..before + wanted.end - begin]);
                    }
                    before += len;
                }
            }
            in_order &= begin == 0 || begin == ts.len() || ts[begin - 1] < ts[begin];
        }
        Ok(in_order)
    }

    /// Replaces `out` by the values of an entry, one a tick that it has.
    pub(crate) fn values(&self, entry: &Entry, out: &mut Vec<f64>) -> Result<(), BlockError> {
        out.clear();
        self.add_values(entry, out)
    }

    fn add_values(&self, entry: &Entry, out: &mut Vec<f64>) -> Result<(), BlockError> {
        COLUMN.with_borrow_mut(|column| {
            let part = self.read_column(&entry.values, Part::Values, column)?;
            column::decode(&self.pco, column, entry.presence.count(entry.ticks), out)
                .map_err(|Malformed| BlockError::Damaged { path: self.path.clone(), part })
        })
    }

    /// The bytes of an entry's column, checked.
    pub(crate) fn values_column(&self, entry: &Entry) -> Result<Vec<u8>, BlockError> {
        Ok(self.column(&entry.values, Part::Values)?.0)
    }

    /// The bytes of a chunk's timestamps, checked.
    pub(crate) fn timestamps_column(&self, chunk: u32) -> Result<Vec<u8>, BlockError> {
        Ok(self.column(&self.chunks[chunk as usize].timestamps, Part::Timestamps)?.0)
    }

    /// Reads every column. `progress` is told the bytes of each, `each` its samples or what is lost with it.
    pub(crate) fn check(&self, progress: &mut dyn FnMut(u64), each: &mut dyn FnMut(Result<u64, ColumnDamage>)) {
        let mut values = Vec::new();
        for (nth, chunk) in self.chunks.iter().enumerate() {
            let timestamps = self.timestamps(nth as u32);
            progress(chunk.timestamps.file_bytes());
            let entries = match timestamps.and_then(|_| self.entries(nth as u32)) {
                Ok(entries) => entries,
                Err(error) => {
                    each(Err(self.damage(&error, chunk, None, chunk.samples)));
                    continue;
                }
            };
            for entry in entries {
                let read = self.values(&entry, &mut values);
                progress(entry.values.file_bytes());
                let samples = entry.presence.count(entry.ticks) as u64;
                each(match read {
                    Ok(()) => Ok(samples),
                    Err(error) => Err(self.damage(&error, chunk, Some(entry.series), samples)),
                });
            }
        }
    }

    fn damage(&self, error: &BlockError, chunk: &Chunk, series: Option<SeriesId>, samples: u64) -> ColumnDamage {
        let part = match error {
            BlockError::Io { part, source, .. } => format!("{part}: {source}"),
            BlockError::Damaged { part, .. } => part.to_string(),
            BlockError::Newer { .. } => error.to_string(),
        };
        let source = self.owner(chunk).0.clone();
        ColumnDamage { part, source, series, samples, span: (chunk.min_ts, chunk.max_ts) }
    }

    /// The timestamps of a chunk, ascending.
    pub(crate) fn timestamps(&self, chunk: u32) -> Result<Timestamps, BlockError> {
        let Chunk { ticks, timestamps, .. } = &self.chunks[chunk as usize];
        let (column, part) = self.column(timestamps, Part::Timestamps)?;
        let decoded = column::decode_integers(&self.pco, &column, *ticks as usize).ok();
        let ascending = decoded.filter(|ts| ts.is_sorted_by(|a, b| a < b));
        Ok(ascending.ok_or_else(|| BlockError::Damaged { path: self.path.clone(), part })?.into())
    }

    /// The same, for those who will ask again.
    fn recent_timestamps(&self, chunk: u32) -> Result<Timestamps, BlockError> {
        self.recent.timestamps.get((self.number, chunk), || {
            let timestamps = self.timestamps(chunk)?;
            let bytes = size_of_val(&*timestamps);
            Ok((timestamps, bytes))
        })
    }

    fn column(&self, place: &Place, part: fn(u64) -> Part) -> Result<(Vec<u8>, Part), BlockError> {
        let mut column = Vec::new();
        let part = self.read_column(place, part, &mut column)?;
        Ok((column, part))
    }

    /// Replaces `column` by a column's bytes, checked.
    fn read_column(&self, place: &Place, part: fn(u64) -> Part, column: &mut Vec<u8>) -> Result<Part, BlockError> {
        match place {
            Place::Inline(bytes) => {
                column.clear();
                column.extend_from_slice(bytes);
                Ok(Part::Index)
            }
            Place::Data { offset, bytes } => {
                let part = part(*offset);
                column.resize(*bytes as usize + CRC_BYTES, 0);
                let read = self.file.read_at(*offset, column);
                read.map_err(|source| BlockError::Io { path: self.path.clone(), part, source })?;
                if format::checked(column).is_none() {
                    return Err(BlockError::Damaged { path: self.path.clone(), part });
                }
                column.truncate(*bytes as usize);
                Ok(part)
            }
        }
    }
}

impl Chunk {
    fn overlaps(&self, start: i64, end: i64) -> bool {
        self.min_ts <= end && self.max_ts > start
    }
}
