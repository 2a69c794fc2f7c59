//! From one source's head to chunks: ticks in order of time, one a timestamp, and each series' values along them.

use std::ops::Range;

use pitwatch_shared::codec::GroupId;
use pitwatch_shared::model::{Labels, MetricType};

use super::files::Files;
use super::spread::{Age, Place, Run, Spread};
use crate::block::Ticks;
use crate::block::column::{self, COLUMN_VALUES_MAX};
use crate::error::BuildError;
use crate::head::{Column, Group, HeadData};
use crate::index::SeriesId;
use crate::source::SourceName;

/// Samples by what became of them, beside being sealed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) expired: u64,
    pub(crate) replaced: u64,
    pub(crate) late: u64,
    pub(crate) future: u64,
    pub(crate) stray: u64,
}

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
    /// How many ticks arrived.
    arrived: usize,
}

/// Writes what one source sent. `describe` answers a series' labels and type.
pub(crate) fn write(
    name: &SourceName,
    data: &HeadData,
    spread: &Spread,
    describe: impl Fn(SeriesId) -> Option<(Labels, MetricType)>,
    files: &mut Files<'_, '_>,
    counts: &mut Counts,
) -> Result<(), BuildError> {
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
        for run in spread.runs(&order.ts) {
            for from in run.ticks.clone().step_by(COLUMN_VALUES_MAX) {
                let ticks = from..run.ticks.end.min(from + COLUMN_VALUES_MAX);
                let run = Run { ticks, ..run.clone() };
                write_run(name, *id, &order, &run, &series, files, counts)?;
            }
        }
    }
    Ok(())
}

fn write_run(
    name: &SourceName,
    group: GroupId,
    order: &Order,
    run: &Run,
    series: &[Series<'_>],
    files: &mut Files<'_, '_>,
    counts: &mut Counts,
) -> Result<(), BuildError> {
    let here: Vec<_> = series.iter().filter(|series| order.may_have(series, &run.ticks)).collect();
    let ts = &order.ts[run.ticks.clone()];
    let (Some(&min_ts), Some(&max_ts)) = (ts.first(), ts.last()) else { return Ok(()) };
    let mut samples = 0;
    let nth = match run.place {
        Place::Expired => {
            for series in here {
                let (_, values, replaced) = order.values(series, &run.ticks);
                counts.expired += values.len() as u64 + replaced;
            }
            return Ok(());
        }
        Place::File(nth) | Place::Stray(nth) => nth,
    };
    files.write(nth, |writer| {
        let mut column = Vec::new();
        column::encode_integers(ts, &mut column);
        let ticks = Ticks { count: ts.len(), min_ts, max_ts, column: &column };
        let mut chunk = writer.chunk(name, group, ticks, here.iter().map(|series| &series.labels));
        let mut column = Vec::new();
        for (nth, series) in here.iter().enumerate() {
            let (ranges, values, replaced) = order.values(series, &run.ticks);
            counts.replaced += replaced;
            if values.is_empty() {
                continue;
            }
            column.clear();
            column::encode(&values, &mut column);
            chunk.series(nth, series.kind, &ranges, &column)?;
            samples += values.len() as u64;
        }
        chunk.finish();
        Ok(())
    })?;
    match (run.place, run.age) {
        (Place::Stray(_), _) => counts.stray += samples,
        (_, Age::Late) => counts.late += samples,
        (_, Age::Future) => counts.future += samples,
        (_, Age::Now) => {}
    }
    Ok(())
}

impl Order {
    fn of(group: &Group) -> Self {
        let arrived = group.ts.len();
        if group.sorted {
            return Self { ts: group.ts.clone(), rank: None, arrived };
        }
        let mut ts = group.ts.clone();
        ts.sort_unstable();
        ts.dedup();
        let place = |at: &i64| ts.partition_point(|other| other < at) as u32;
        let rank = group.ts.iter().map(place).collect();
        Self { ts, rank: Some(rank), arrived }
    }

    /// Whether the series may have a value within a range of the ordered ticks.
    fn may_have(&self, series: &Series<'_>, range: &Range<usize>) -> bool {
        self.rank.is_some()
            || series.columns.iter().any(|column| {
                let covered = column.ticks(self.arrived);
                covered.start < range.end && range.start < covered.end
            })
    }

    /// A series' values within a range of the ordered ticks, and the runs of ticks (from the range's begin) that have
    /// them. Of several at one timestamp the last that came stays; the others are counted.
    fn values(&self, series: &Series<'_>, range: &Range<usize>) -> (Vec<(usize, usize)>, Vec<u64>, u64) {
        if let (None, [column]) = (&self.rank, &series.columns[..]) {
            let covered = column.ticks(self.arrived);
            let both = covered.start.max(range.start)..covered.end.min(range.end);
            let mut values = Vec::with_capacity(both.len());
            column.values(both.clone(), |_, bits| values.push(bits));
            return (vec![(both.start.saturating_sub(range.start), both.len())], values, 0);
        }
        let mut at: Vec<Option<u64>> = vec![None; range.len()];
        let mut replaced = 0;
        for column in &series.columns {
            column.values(column.ticks(self.arrived), |tick, bits| {
                let place = self.rank.as_ref().map_or(tick, |rank| rank[tick] as usize);
                if range.contains(&place) {
                    replaced += u64::from(at[place - range.start].replace(bits).is_some());
                }
            });
        }
        let ranges = column::ranges(at.iter().map(Option::is_some));
        (ranges, at.into_iter().flatten().collect(), replaced)
    }
}
