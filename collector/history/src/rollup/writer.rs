//! Writes a rollup file series by series: records as they come, then the index and the footer.

use std::collections::VecDeque;
use std::io;

use pitwatch_disk::DiskFile;
use pitwatch_shared::model::{INSTANCE, Labels, MetricType};
use rustc_hash::FxHashMap;

use super::Bucket;
use super::format::{self, COLUMNS, Footer, LENGTHS_BYTES, PAGE_BUCKETS, TAG_SERIES, TAG_TIMING};
use crate::block::column;
use crate::block::writer::{Pairs, Symbols, put_pairs};
use crate::bytes::{put_blob, put_u64};

/// Bytes gathered before they are written.
const BUFFER_BYTES: usize = 1024 * 1024;
/// Timings that a series is compared with: those of the last hosts' groups.
const TIMINGS_KEPT: usize = 16;

/// Writes one rollup file. Syncing and naming it is its caller's matter.
pub(crate) struct RollupWriter<'a> {
    file: &'a dyn DiskFile,
    buffer: Vec<u8>,
    /// Bytes of the file before the buffer.
    written: u64,
    symbols: Symbols,
    templates: FxHashMap<(u8, Pairs), u64>,
    template_bytes: Vec<u8>,
    records: u64,
    record_bytes: Vec<u8>,
    timings: u64,
    /// The latest timings as they were written, with their numbers.
    kept: VecDeque<(Vec<u8>, u64)>,
    buckets: u64,
    samples: u64,
}

impl<'a> RollupWriter<'a> {
    pub(crate) fn new(file: &'a dyn DiskFile) -> Self {
        Self {
            file,
            buffer: format::header().to_vec(),
            written: 0,
            symbols: Symbols::default(),
            templates: FxHashMap::default(),
            template_bytes: Vec::new(),
            records: 0,
            record_bytes: Vec::new(),
            timings: 0,
            kept: VecDeque::new(),
            buckets: 0,
            samples: 0,
        }
    }

    /// Bytes so far, those that are not written yet among them.
    pub(crate) fn bytes(&self) -> u64 {
        self.written + self.buffer.len() as u64
    }

    /// Adds a series, each once; `buckets` ascend, at most [`column::COLUMN_VALUES_MAX`] of them.
    pub(crate) fn series(&mut self, labels: &Labels, kind: MetricType, buckets: &[Bucket]) -> io::Result<()> {
        if buckets.is_empty() {
            return Ok(());
        }
        let timing = self.timing(buckets)?;
        let record = record(buckets);
        let template = self.template(labels, kind);
        let instance = labels.value(INSTANCE).map_or(0, |name| self.symbols.id(name) + 1);
        self.record_bytes.push(TAG_SERIES);
        for field in [template, instance, timing, record.len() as u64] {
            put_u64(&mut self.record_bytes, field);
        }
        self.records += 1;
        self.buckets += buckets.len() as u64;
        self.samples += buckets.iter().map(|bucket| u64::from(bucket.count)).sum::<u64>();
        self.put(&record)
    }

    /// Writes what is left, the index and the footer; what `footer` says of the index and of what is in the file is
    /// filled in here.
    pub(crate) fn finish(mut self, footer: Footer) -> io::Result<()> {
        let mut index = Vec::new();
        self.symbols.put(&mut index);
        put_u64(&mut index, self.templates.len() as u64);
        index.append(&mut self.template_bytes);
        put_u64(&mut index, self.records);
        index.append(&mut self.record_bytes);
        let footer = Footer {
            index_offset: self.written + self.buffer.len() as u64,
            index_bytes: index.len() as u64,
            index_crc: crc32fast::hash(&index),
            buckets: self.buckets,
            samples: self.samples,
            ..footer
        };
        self.buffer.extend_from_slice(&index);
        self.buffer.extend_from_slice(&footer.encode());
        self.flush()
    }

    /// The number of the timing that the buckets have, written if no late series had it.
    fn timing(&mut self, buckets: &[Bucket]) -> io::Result<u64> {
        let pages: Vec<(i64, Vec<u8>)> = buckets.chunks(PAGE_BUCKETS).map(timing_page).collect();
        let mut record = Vec::new();
        for (end_ms, page) in &pages {
            record.extend_from_slice(&end_ms.to_le_bytes());
            record.extend_from_slice(&(page.len() as u32).to_le_bytes());
        }
        put_crc(&mut record, 0);
        pages.iter().for_each(|(_, page)| record.extend_from_slice(page));
        if let Some((_, number)) = self.kept.iter().find(|(kept, _)| *kept == record) {
            return Ok(*number);
        }
        let number = self.timings;
        self.timings += 1;
        if self.kept.len() == TIMINGS_KEPT {
            self.kept.pop_front();
        }
        self.kept.push_back((record.clone(), number));
        self.record_bytes.push(TAG_TIMING);
        put_u64(&mut self.record_bytes, buckets.len() as u64);
        put_u64(&mut self.record_bytes, record.len() as u64);
        self.records += 1;
        self.put(&record)?;
        Ok(number)
    }

    /// The number of the template with these labels but the instance.
    fn template(&mut self, labels: &Labels, kind: MetricType) -> u64 {
        let others = labels.iter().filter(|(name, _)| *name != INSTANCE);
        let pairs: Pairs = others.map(|(name, value)| (self.symbols.id(name), self.symbols.id(value))).collect();
        let next = self.templates.len() as u64;
        let bytes = &mut self.template_bytes;
        *self.templates.entry((kind as u8, pairs)).or_insert_with_key(|(kind, pairs)| {
            bytes.push(*kind);
            put_pairs(bytes, pairs);
            next
        })
    }

    fn put(&mut self, record: &[u8]) -> io::Result<()> {
        self.buffer.extend_from_slice(record);
        if self.buffer.len() >= BUFFER_BYTES { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.write_at(self.written, &self.buffer)?;
        self.written += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }
}

/// The end of a page's last bucket, and its times as bytes.
fn timing_page(buckets: &[Bucket]) -> (i64, Vec<u8>) {
    let before_end = |bucket: &Bucket, ts_ms| if bucket.count == 0 { 0 } else { bucket.end_ms - ts_ms };
    let parts: [&dyn Fn(&Bucket) -> i64; 5] = [
        &|bucket| bucket.end_ms,
        &|bucket| i64::from(bucket.count),
        &|bucket| before_end(bucket, bucket.first_ms),
        &|bucket| before_end(bucket, bucket.last_ms),
        &|bucket| i64::from(bucket.stale),
    ];
    let mut page = Vec::new();
    for part in parts {
        let integers: Vec<i64> = buckets.iter().map(part).collect();
        let mut column = Vec::new();
        column::encode_integers(&integers, &mut column);
        put_blob(&mut page, &column);
    }
    put_crc(&mut page, 0);
    (buckets.last().map_or(0, |bucket| bucket.end_ms), page)
}

/// A series' record: the lengths of its columns page by page, then those that cannot be told from others.
fn record(buckets: &[Bucket]) -> Vec<u8> {
    let (mut record, mut columns) = (Vec::with_capacity(LENGTHS_BYTES), Vec::new());
    for page in buckets.chunks(PAGE_BUCKETS) {
        put_page(page, &mut record, &mut columns);
    }
    put_crc(&mut record, 0);
    record.append(&mut columns);
    record
}

fn put_page(buckets: &[Bucket], lengths: &mut Vec<u8>, columns: &mut Vec<u8>) {
    let mut values: [Vec<u64>; COLUMNS] = Default::default();
    // What a bucket without samples repeats costs nothing.
    let mut before = [0.0; COLUMNS];
    for bucket in buckets {
        if bucket.count > 0 {
            before = [bucket.first, bucket.last, bucket.min, bucket.max, bucket.sum, bucket.resets];
        }
        values.iter_mut().zip(before).for_each(|(values, value)| values.push(value.to_bits()));
    }
    let [first, last, min, max, sum, resets] = &values;
    let told = [
        false,
        last == first,
        min == first,
        max == last,
        buckets.iter().zip(first).zip(sum).all(|((of, first), sum)| of.count == 0 || times(of.count, *first) == *sum),
        resets.iter().all(|bits| *bits == 0),
    ];
    for (values, told) in values.iter().zip(told) {
        let begin = columns.len();
        if !told {
            column::encode(values, columns);
        }
        lengths.extend_from_slice(&((columns.len() - begin) as u32).to_le_bytes());
        if !told {
            put_crc(columns, begin);
        }
    }
}

/// Appends the checksum of what is in `out` from `begin` on.
fn put_crc(out: &mut Vec<u8>, begin: usize) {
    let crc = crc32fast::hash(&out[begin..]);
    out.extend_from_slice(&crc.to_le_bytes());
}

/// The sum of so many times the value, by bits.
fn times(count: u32, bits: u64) -> u64 {
    (f64::from_bits(bits) * f64::from(count)).to_bits()
}
