//! Writes the samples of several blocks as one, chunk by chunk.
//!
//! What lies alone in its time and is long enough, or has nothing to be joined with, is taken over as it is: its
//! columns are read, checked and written, not decoded. Chunks of one group that overlap (late data), or that are short
//! and follow one another, become one and are encoded anew. Memory is bounded by one chunk's ticks, one column, and
//! the index that is being gathered.

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::sync::{Arc, RwLock};

use pitwatch_shared::codec::GroupId;
use pitwatch_shared::model::{Labels, MetricType};

use crate::block::column::{self, COLUMN_VALUES_MAX};
use crate::block::{Block, BlockError, BlockWriter, Entry, Ticks};
use crate::history::read;
use crate::index::{Index, SeriesId};
use crate::job::Pace;
use crate::source::SourceName;

/// Chunks that follow one another become one up to this many ticks: a day at a tick each ten seconds.
const JOINED_TICKS_MAX: usize = 9_000;
/// Chunks that overlap become one up to this many ticks together; more are taken over as they are, in their order,
/// which a reader heeds.
const MERGED_TICKS_MAX: usize = 4 * COLUMN_VALUES_MAX;
/// The file is synced each time this much was written, bytes, so that no sync of the log has to wait for it all.
const SYNC_BYTES: u64 = 8 * 1024 * 1024;

/// Why blocks were not merged.
#[derive(Debug)]
pub(crate) enum MergeError {
    /// The nth of the blocks cannot be read.
    Input(usize, BlockError),
    /// The new one cannot be written.
    Output(io::Error),
    /// It was ended early.
    Stopped,
}

/// A chunk of one of the blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Piece {
    input: usize,
    chunk: u32,
    ticks: usize,
    min_ts: i64,
    max_ts: i64,
}

/// The blocks, ascending by order.
struct Inputs<'a> {
    blocks: &'a [Arc<Block>],
    index: &'a RwLock<Index>,
}

struct Merger<'a, 'b> {
    inputs: &'a Inputs<'a>,
    writer: &'a mut BlockWriter,
    pace: &'a mut Pace<'b>,
    replaced: u64,
}

/// Merges blocks, ascending by order, into `writer`; answers how many samples later ones replaced.
pub(crate) fn merge(
    blocks: &[Arc<Block>],
    index: &RwLock<Index>,
    writer: &mut BlockWriter,
    pace: &mut Pace<'_>,
) -> Result<u64, MergeError> {
    let mut groups: BTreeMap<(&SourceName, GroupId), Vec<Piece>> = BTreeMap::new();
    for (input, block) in blocks.iter().enumerate() {
        for (nth, chunk) in block.chunks().iter().enumerate() {
            let (ticks, min_ts, max_ts) = (chunk.ticks as usize, chunk.min_ts, chunk.max_ts);
            let piece = Piece { input, chunk: nth as u32, ticks, min_ts, max_ts };
            groups.entry(block.owner(chunk)).or_default().push(piece);
        }
    }
    let inputs = Inputs { blocks, index };
    let mut merger = Merger { inputs: &inputs, writer, pace, replaced: 0 };
    let mut synced = 0;
    for ((source, group), pieces) in groups {
        for unit in units(pieces) {
            merger.unit(source, group, &unit)?;
            let written = merger.writer.written();
            if written - synced >= SYNC_BYTES {
                merger.writer.sync().map_err(MergeError::Output)?;
                synced = written;
            }
        }
    }
    Ok(merger.replaced)
}

/// Chunks of one group that are to become one chunk, or to be taken over, in order of time; each by order of its block.
fn units(mut pieces: Vec<Piece>) -> Vec<Vec<Piece>> {
    pieces.sort_by_key(|piece| (piece.min_ts, piece.input, piece.chunk));
    // First what overlaps, then what is short and follows.
    let mut units: Vec<Vec<Piece>> = Vec::new();
    let mut last_ts = i64::MIN;
    for piece in pieces {
        match units.last_mut().filter(|_| piece.min_ts <= last_ts) {
            Some(unit) => unit.push(piece),
            None => units.push(vec![piece]),
        }
        last_ts = last_ts.max(piece.max_ts);
    }
    let ticks = |unit: &[Piece]| unit.iter().map(|piece| piece.ticks).sum::<usize>();
    let mut joined: Vec<Vec<Piece>> = Vec::new();
    for unit in units {
        match joined.last_mut().filter(|last| ticks(last) + ticks(&unit) <= JOINED_TICKS_MAX) {
            Some(last) => last.extend(unit),
            None => joined.push(unit),
        }
    }
    for unit in &mut joined {
        unit.sort_by_key(|piece| (piece.input, piece.chunk));
    }
    joined
}

impl Inputs<'_> {
    /// The entries of a chunk.
    fn entries(&self, piece: &Piece) -> Result<Vec<Entry>, MergeError> {
        self.block(piece, |block| block.entries(piece.chunk))
    }

    /// A series' labels and type; there as long as a block that the store has open has it.
    fn describe(&self, series: SeriesId) -> Option<(Labels, MetricType)> {
        let index = read(self.index);
        Some((index.labels(series)?.clone(), index.kind(series)))
    }

    /// Does something with the block of a piece.
    fn block<T>(&self, piece: &Piece, ask: impl FnOnce(&Block) -> Result<T, BlockError>) -> Result<T, MergeError> {
        ask(&self.blocks[piece.input]).map_err(|error| MergeError::Input(piece.input, error))
    }
}

impl Merger<'_, '_> {
    fn unit(&mut self, source: &SourceName, group: GroupId, unit: &[Piece]) -> Result<(), MergeError> {
        let ticks: usize = unit.iter().map(|piece| piece.ticks).sum();
        let current = unit.iter().all(|piece| self.inputs.blocks[piece.input].is_current());
        if (unit.len() > 1 && ticks <= MERGED_TICKS_MAX) || !current {
            self.rewrite(source, group, unit)
        } else {
            unit.iter().try_for_each(|piece| self.copy(source, group, piece))
        }
    }

    /// Takes a chunk over as it is.
    fn copy(&mut self, source: &SourceName, group: GroupId, piece: &Piece) -> Result<(), MergeError> {
        let inputs = self.inputs;
        let column = inputs.block(piece, |block| block.timestamps_column(piece.chunk))?;
        let ticks = Ticks { count: piece.ticks, min_ts: piece.min_ts, max_ts: piece.max_ts, column: &column };
        let entries = inputs.entries(piece)?;
        let series: Vec<_> = entries.iter().filter_map(|entry| Some((entry, inputs.describe(entry.series)?))).collect();
        let mut chunk = self.writer.chunk(source, group, ticks, series.iter().map(|(_, (labels, _))| labels));
        for (nth, (entry, (_, kind))) in series.iter().enumerate() {
            let ranges: Vec<_> = entry.presence.ranges(piece.ticks).map(|range| (range.start, range.len())).collect();
            let column = inputs.block(piece, |block| block.values_column(entry))?;
            chunk.series(nth, *kind, &ranges, &column).map_err(MergeError::Output)?;
            breathe(self.pace, &column)?;
        }
        chunk.finish();
        Ok(())
    }

    /// Makes one chunk of several, or as many as its ticks need.
    fn rewrite(&mut self, source: &SourceName, group: GroupId, unit: &[Piece]) -> Result<(), MergeError> {
        let timestamps = unit.iter().map(|piece| self.inputs.block(piece, |block| block.timestamps(piece.chunk)));
        let timestamps = timestamps.collect::<Result<Vec<_>, _>>()?;
        let mut ts: Vec<i64> = timestamps.iter().flat_map(|ts| ts.iter().copied()).collect();
        ts.sort_unstable();
        ts.dedup();
        let place = |at: &i64| ts.partition_point(|other| other < at) as u32;
        let ranks: Vec<Vec<u32>> = timestamps.iter().map(|ts| ts.iter().map(place).collect()).collect();
        for from in (0..ts.len()).step_by(COLUMN_VALUES_MAX) {
            let range = from..ts.len().min(from + COLUMN_VALUES_MAX);
            self.rewrite_range(source, group, (unit, &ranks), (&ts[range.clone()], range))?;
        }
        Ok(())
    }

    /// Writes the chunk of a range of the merged ticks; `ranks` says where among all of them each piece's ticks are.
    fn rewrite_range(
        &mut self,
        source: &SourceName,
        group: GroupId,
        (unit, ranks): (&[Piece], &[Vec<u32>]),
        (ts, range): (&[i64], Range<usize>),
    ) -> Result<(), MergeError> {
        let inputs = self.inputs;
        let (Some(&min_ts), Some(&max_ts)) = (ts.first(), ts.last()) else { return Ok(()) };
        let here = unit.iter().zip(ranks).filter(|(piece, _)| piece.min_ts <= max_ts && min_ts <= piece.max_ts);
        let mut entries: Vec<((&Piece, &Vec<u32>), Entry)> = Vec::new();
        for of in here {
            entries.extend(inputs.entries(of.0)?.into_iter().map(|entry| (of, entry)));
        }
        // Stable: a later block's entry stays after an earlier one's.
        entries.sort_by_key(|(_, entry)| entry.series);
        let series = entries.chunk_by(|a, b| a.1.series == b.1.series);
        let series = series.filter_map(|entries| Some((entries, inputs.describe(entries.first()?.1.series)?)));
        let series: Vec<_> = series.collect();
        let mut column = Vec::new();
        column::encode_integers(ts, &mut column);
        let ticks = Ticks { count: ts.len(), min_ts, max_ts, column: &column };
        let mut chunk = self.writer.chunk(source, group, ticks, series.iter().map(|(_, (labels, _))| labels));
        let (mut at, mut decoded, mut column) = (Vec::new(), Vec::new(), Vec::new());
        for (nth, (entries, (_, kind))) in series.iter().enumerate() {
            at.clear();
            at.resize(ts.len(), None);
            for ((piece, ranks), entry) in *entries {
                inputs.block(piece, |block| block.values(entry, &mut decoded))?;
                let places = entry.presence.ranges(piece.ticks).flat_map(|ticks| &ranks[ticks]);
                for (place, value) in places.zip(&decoded).filter(|(place, _)| range.contains(&(**place as usize))) {
                    let before = at[*place as usize - range.start].replace(value.to_bits());
                    self.replaced += u64::from(before.is_some());
                }
            }
            let ranges = column::ranges(at.iter().map(Option::is_some));
            let values: Vec<u64> = at.iter().flatten().copied().collect();
            if values.is_empty() {
                continue;
            }
            column.clear();
            column::encode(&values, &mut column);
            chunk.series(nth, *kind, &ranges, &column).map_err(MergeError::Output)?;
            breathe(self.pace, &column)?;
        }
        chunk.finish();
        Ok(())
    }
}

/// Lets others have the processor and the disk after a column.
fn breathe(pace: &mut Pace<'_>, column: &[u8]) -> Result<(), MergeError> {
    if pace(column.len() as u64).is_break() { Err(MergeError::Stopped) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn piece(input: usize, min_ts: i64, ticks: usize) -> Piece {
        Piece { input, chunk: 0, ticks, min_ts, max_ts: min_ts + ticks as i64 - 1 }
    }

    fn inputs(units: &[Vec<Piece>]) -> Vec<Vec<usize>> {
        units.iter().map(|unit| unit.iter().map(|piece| piece.input).collect()).collect()
    }

    #[test]
    fn long_chunks_stay_apart_short_ones_join_and_overlapping_ones_must() {
        let long = vec![piece(0, 0, 7200), piece(1, 7200, 7200), piece(2, 14_400, 7200)];
        assert_eq!(inputs(&units(long)), [[0], [1], [2]]);
        let short = vec![piece(1, 720, 720), piece(0, 0, 720), piece(2, 1440, 720), piece(3, 2160, 7200)];
        assert_eq!(inputs(&units(short)), [vec![0, 1, 2], vec![3]]);
        let late = vec![piece(0, 0, 7200), piece(1, 7200, 7200), piece(2, 100, 50), piece(3, 7190, 20)];
        assert_eq!(inputs(&units(late)), [[0, 1, 2, 3]]);
    }
}
