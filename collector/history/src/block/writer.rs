//! Writes a sealed head as a block file: columns as they are made, then the index and the footer.

use std::io;

use pitwatch_disk::DiskFile;
use pitwatch_shared::codec::GroupId;
use pitwatch_shared::model::{Labels, MetricType};
use rustc_hash::FxHashMap;

use super::column::{self, COLUMN_VALUES_MAX};
use super::format::{self, Footer, INLINE_MAX_BYTES};
use crate::bytes::{put_blob, put_i64, put_u64};
use crate::head::{Column, Group, HeadData};
use crate::index::SeriesId;
use crate::source::{SourceKind, SourceName};

/// Bytes gathered before they are written.
const BUFFER_BYTES: usize = 1024 * 1024;

/// Writes one block. Syncing and naming the file is its caller's matter.
pub(crate) struct BlockWriter<'a> {
    file: &'a dyn DiskFile,
    buffer: Vec<u8>,
    /// Bytes of the file before the buffer.
    written: u64,
    symbols: Symbols,
    templates: FxHashMap<(u8, Pairs), u64>,
    template_bytes: Vec<u8>,
    chunks: u64,
    chunk_bytes: Vec<u8>,
    span: Option<(i64, i64)>,
    samples: u64,
}

pub(crate) type Pairs = Vec<(u64, u64)>;

/// A series of a group, with the columns that hold it.
struct Series<'a> {
    labels: Labels,
    kind: MetricType,
    columns: Vec<&'a Column>,
}

/// A group's ticks in order of time, one a timestamp.
struct Order {
    ts: Vec<i64>,
    /// By the order of arrival, where a tick is in `ts`; none if it is in the same place.
    rank: Option<Vec<u32>>,
}

impl<'a> BlockWriter<'a> {
    pub(crate) fn new(file: &'a dyn DiskFile) -> Self {
        Self {
            file,
            buffer: format::header().to_vec(),
            written: 0,
            symbols: Symbols::default(),
            templates: FxHashMap::default(),
            template_bytes: Vec::new(),
            chunks: 0,
            chunk_bytes: Vec::new(),
            span: None,
            samples: 0,
        }
    }

    /// Adds what one source sent. `describe` answers a series' labels and type.
    pub(crate) fn source(
        &mut self,
        name: &SourceName,
        data: &HeadData,
        describe: impl Fn(SeriesId) -> Option<(Labels, MetricType)>,
    ) -> io::Result<()> {
        let mut groups: Vec<_> = data.groups.iter().filter(|(_, group)| !group.ts.is_empty()).collect();
        groups.sort_unstable_by_key(|(id, _)| **id);
        for (id, group) in groups {
            let mut by_series: Vec<&Column> = group.columns.iter().collect();
            // Stable: a later column of a series stays after an earlier one.
            by_series.sort_by_key(|column| column.series);
            let series = by_series.chunk_by(|a, b| a.series == b.series).filter_map(|columns| {
                let (labels, kind) = describe(columns.first()?.series)?;
                Some(Series { labels, kind, columns: columns.to_vec() })
            });
            let series: Vec<_> = series.collect();
            let order = Order::of(group);
            for from in (0..order.ts.len()).step_by(COLUMN_VALUES_MAX) {
                let to = order.ts.len().min(from + COLUMN_VALUES_MAX);
                self.chunk(name, *id, &order, from..to, &series, group.ts.len())?;
            }
        }
        Ok(())
    }

    /// Writes what is left, the index and the footer; answers the file's length.
    pub(crate) fn finish(mut self, wal_through: u64, sealed_ms: i64) -> io::Result<u64> {
        let mut index = Vec::new();
        self.symbols.put(&mut index);
        put_u64(&mut index, self.templates.len() as u64);
        index.append(&mut self.template_bytes);
        put_u64(&mut index, self.chunks);
        index.append(&mut self.chunk_bytes);
        let (min_ts, max_ts) = self.span.unwrap_or((0, 0));
        let footer = Footer {
            index_offset: self.written + self.buffer.len() as u64,
            index_bytes: index.len() as u64,
            index_crc: crc32fast::hash(&index),
            min_ts,
            max_ts,
            samples: self.samples,
            wal_through,
            sealed_ms,
        };
        self.buffer.extend_from_slice(&index);
        self.buffer.extend_from_slice(&footer.encode());
        self.flush()?;
        Ok(self.written)
    }

    fn chunk(
        &mut self,
        name: &SourceName,
        group: GroupId,
        order: &Order,
        window: std::ops::Range<usize>,
        series: &[Series<'_>],
        ticks: usize,
    ) -> io::Result<()> {
        let ts = &order.ts[window.clone()];
        let (Some(&min), Some(&max)) = (ts.first(), ts.last()) else { return Ok(()) };
        let pairs: Vec<Pairs> = series.iter().map(|series| self.symbols.pairs(&series.labels)).collect();
        let mut common = pairs.first().cloned().unwrap_or_default();
        for pairs in &pairs {
            common.retain(|pair| pairs.contains(pair));
        }
        let mut entries = Vec::new();
        let mut count = 0;
        let mut head = Vec::new();
        head.push(u8::from(name.kind == SourceKind::Internal));
        put_u64(&mut head, self.symbols.id(&name.name));
        put_u64(&mut head, u64::from(group));
        put_pairs(&mut head, &common);
        put_u64(&mut head, ts.len() as u64);
        put_i64(&mut head, min);
        put_u64(&mut head, max.wrapping_sub(min) as u64);
        let mut column = Vec::new();
        column::encode_integers(ts, &mut column);
        self.column(&column, &mut head)?;
        for (series, mut pairs) in series.iter().zip(pairs) {
            let (ranges, values) = order.values(series, &window, ticks);
            if values.is_empty() {
                continue;
            }
            pairs.retain(|pair| !common.contains(pair));
            put_u64(&mut entries, self.template(series.kind, pairs));
            put_ranges(&mut entries, &ranges, ts.len());
            column.clear();
            column::encode(&values, &mut column);
            self.column(&column, &mut entries)?;
            count += 1;
            self.samples += values.len() as u64;
        }
        self.chunks += 1;
        self.span = Some(self.span.map_or((min, max), |span| (span.0.min(min), span.1.max(max))));
        self.chunk_bytes.append(&mut head);
        put_u64(&mut self.chunk_bytes, count);
        self.chunk_bytes.append(&mut entries);
        Ok(())
    }

    fn template(&mut self, kind: MetricType, pairs: Pairs) -> u64 {
        let next = self.templates.len() as u64;
        let bytes = &mut self.template_bytes;
        *self.templates.entry((kind as u8, pairs)).or_insert_with_key(|(kind, pairs)| {
            bytes.push(*kind);
            put_pairs(bytes, pairs);
            next
        })
    }

    /// Puts a column into the data area, or into the index if it is small; `index` says which.
    fn column(&mut self, column: &[u8], index: &mut Vec<u8>) -> io::Result<()> {
        put_u64(index, column.len() as u64);
        if column.len() <= INLINE_MAX_BYTES {
            index.extend_from_slice(column);
            return Ok(());
        }
        self.buffer.extend_from_slice(column);
        self.buffer.extend_from_slice(&crc32fast::hash(column).to_le_bytes());
        if self.buffer.len() >= BUFFER_BYTES { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.write_at(self.written, &self.buffer)?;
        self.written += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }
}

impl Order {
    fn of(group: &Group) -> Self {
        if group.sorted {
            return Self { ts: group.ts.clone(), rank: None };
        }
        let mut ts = group.ts.clone();
        ts.sort_unstable();
        ts.dedup();
        let place = |at: &i64| ts.partition_point(|other| other < at) as u32;
        let rank = group.ts.iter().map(place).collect();
        Self { ts, rank: Some(rank) }
    }

    /// A series' values within a window of the ordered ticks, and the runs of ticks (from the window's begin) that
    /// have them. Of several at one timestamp the last that came stays.
    fn values(
        &self,
        series: &Series<'_>,
        window: &std::ops::Range<usize>,
        ticks: usize,
    ) -> (Vec<(usize, usize)>, Vec<u64>) {
        if let (None, [column]) = (&self.rank, &series.columns[..]) {
            let covered = column.ticks(ticks);
            let range = covered.start.max(window.start)..covered.end.min(window.end);
            let mut values = Vec::with_capacity(range.len());
            column.values(range.clone(), |_, bits| values.push(bits));
            return (vec![(range.start.saturating_sub(window.start), range.len())], values);
        }
        let mut at: Vec<Option<u64>> = vec![None; window.len()];
        for column in &series.columns {
            column.values(column.ticks(ticks), |tick, bits| {
                let place = self.rank.as_ref().map_or(tick, |rank| rank[tick] as usize);
                if window.contains(&place) {
                    at[place - window.start] = Some(bits);
                }
            });
        }
        let mut ranges: Vec<(usize, usize)> = Vec::new();
        for (place, _) in at.iter().enumerate().filter(|(_, value)| value.is_some()) {
            match ranges.last_mut() {
                Some((from, count)) if *from + *count == place => *count += 1,
                _ => ranges.push((place, 1)),
            }
        }
        (ranges, at.into_iter().flatten().collect())
    }
}

/// The texts of a file's labels, each once.
#[derive(Default)]
pub(crate) struct Symbols {
    ids: FxHashMap<Box<str>, u64>,
    bytes: Vec<u8>,
}

impl Symbols {
    pub(crate) fn id(&mut self, text: &str) -> u64 {
        if let Some(id) = self.ids.get(text) {
            return *id;
        }
        let id = self.ids.len() as u64;
        self.ids.insert(text.into(), id);
        put_blob(&mut self.bytes, text.as_bytes());
        id
    }

    pub(crate) fn pairs(&mut self, labels: &Labels) -> Pairs {
        labels.iter().map(|(name, value)| (self.id(name), self.id(value))).collect()
    }

    pub(crate) fn put(&mut self, out: &mut Vec<u8>) {
        put_u64(out, self.ids.len() as u64);
        out.append(&mut self.bytes);
    }
}

pub(crate) fn put_pairs(out: &mut Vec<u8>, pairs: &[(u64, u64)]) {
    put_u64(out, pairs.len() as u64);
    for (name, value) in pairs {
        put_u64(out, *name);
        put_u64(out, *value);
    }
}

fn put_ranges(out: &mut Vec<u8>, ranges: &[(usize, usize)], ticks: usize) {
    if matches!(ranges, [(0, count)] if *count == ticks) {
        put_u64(out, 0);
        return;
    }
    put_u64(out, ranges.len() as u64);
    let mut next = 0;
    for (from, count) in ranges {
        put_u64(out, (from - next) as u64);
        put_u64(out, *count as u64);
        next = from + count;
    }
}
