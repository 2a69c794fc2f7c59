//! Writes a block file: columns as they come, then the index and the footer.

use std::io;

use pitwatch_disk::DiskFile;
use pitwatch_shared::codec::GroupId;
use pitwatch_shared::model::{Labels, MetricType};
use rustc_hash::FxHashMap;

use super::format::{self, Footer, INLINE_MAX_BYTES, Origin};
use crate::bytes::{put_blob, put_i64, put_u64};
use crate::source::{SourceKind, SourceName};

/// Writes one block. Naming the file is its caller's matter.
pub(crate) struct BlockWriter {
    file: Box<dyn DiskFile>,
    buffer: Vec<u8>,
    /// Bytes gathered before they are written.
    buffer_bytes: usize,
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

/// A chunk's timestamps.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ticks<'a> {
    /// How many, at most [`super::column::COLUMN_VALUES_MAX`].
    pub(crate) count: usize,
    pub(crate) min_ts: i64,
    pub(crate) max_ts: i64,
    /// All of them, as a column.
    pub(crate) column: &'a [u8],
}

/// Adds the series of one chunk.
pub(crate) struct ChunkWriter<'a> {
    block: &'a mut BlockWriter,
    source: &'a SourceName,
    group: GroupId,
    ticks: Ticks<'a>,
    /// The labels that all series have.
    common: Pairs,
    pairs: Vec<Pairs>,
    /// The chunk's part of the index before its series, once there is one.
    head: Vec<u8>,
    entries: Vec<u8>,
    count: u64,
}

pub(crate) type Pairs = Vec<(u64, u64)>;

impl BlockWriter {
    pub(crate) fn new(file: Box<dyn DiskFile>, buffer_bytes: usize) -> Self {
        Self {
            file,
            buffer: format::header().to_vec(),
            buffer_bytes,
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

    /// Begins a chunk that has values of some of the series of `labels`.
    pub(crate) fn chunk<'a>(
        &'a mut self,
        source: &'a SourceName,
        group: GroupId,
        ticks: Ticks<'a>,
        labels: impl Iterator<Item = &'a Labels>,
    ) -> ChunkWriter<'a> {
        let pairs: Vec<Pairs> = labels.map(|labels| self.symbols.pairs(labels)).collect();
        let mut common = pairs.first().cloned().unwrap_or_default();
        for pairs in &pairs {
            common.retain(|pair| pairs.contains(pair));
        }
        let (head, entries) = (Vec::new(), Vec::new());
        ChunkWriter { block: self, source, group, ticks, common, pairs, head, entries, count: 0 }
    }

    /// First and last timestamp so far.
    pub(crate) fn span(&self) -> Option<(i64, i64)> {
        self.span
    }

    /// Bytes of the file that are written.
    pub(crate) fn written(&self) -> u64 {
        self.written
    }

    /// Makes durable what is written, so that the last sync has little to do.
    pub(crate) fn sync(&self) -> io::Result<()> {
        self.file.sync()
    }

    /// Writes what is left, the index and the footer, and makes the file durable.
    pub(crate) fn finish(mut self, origin: &Origin, wal_through: u64, sealed_ms: i64) -> io::Result<()> {
        let mut index = Vec::new();
        origin.put(&mut index);
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
        self.file.sync()
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
        if self.buffer.len() >= self.buffer_bytes { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.write_at(self.written, &self.buffer)?;
        self.written += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }
}

impl ChunkWriter<'_> {
    /// Adds the `nth` of the series of the chunk, once at most: the runs of ticks (first and count) at which it has a
    /// value, and the column of those.
    pub(crate) fn series(
        &mut self,
        nth: usize,
        kind: MetricType,
        ranges: &[(usize, usize)],
        column: &[u8],
    ) -> io::Result<()> {
        if self.count == 0 {
            self.begin()?;
        }
        let mut pairs = std::mem::take(&mut self.pairs[nth]);
        pairs.retain(|pair| !self.common.contains(pair));
        put_u64(&mut self.entries, self.block.template(kind, pairs));
        put_ranges(&mut self.entries, ranges, self.ticks.count);
        self.block.column(column, &mut self.entries)?;
        self.count += 1;
        self.block.samples += ranges.iter().map(|(_, count)| *count as u64).sum::<u64>();
        Ok(())
    }

    /// Ends the chunk. Without a series there is none.
    pub(crate) fn finish(mut self) {
        if self.count == 0 {
            return;
        }
        let (block, Ticks { min_ts: min, max_ts: max, .. }) = (self.block, self.ticks);
        block.chunks += 1;
        block.span = Some(block.span.map_or((min, max), |span| (span.0.min(min), span.1.max(max))));
        block.chunk_bytes.append(&mut self.head);
        put_u64(&mut block.chunk_bytes, self.count);
        block.chunk_bytes.append(&mut self.entries);
    }

    fn begin(&mut self) -> io::Result<()> {
        let (head, Ticks { count, min_ts, max_ts, column }) = (&mut self.head, self.ticks);
        head.push(u8::from(self.source.kind == SourceKind::Internal));
        put_u64(head, self.block.symbols.id(&self.source.name));
        put_u64(head, u64::from(self.group));
        put_pairs(head, &self.common);
        put_u64(head, count as u64);
        put_i64(head, min_ts);
        put_u64(head, max_ts.wrapping_sub(min_ts) as u64);
        self.block.column(column, head)
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
