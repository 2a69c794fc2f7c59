//! `topk` and `bottomk`. Keeps, for each group and step, only the values that are in the lead; rows that never lead
//! cost their labels and nothing else.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use rustc_hash::FxHashMap;

use super::aggregate::Grouping;
use super::*;
use crate::ast::Aggregate;

/// A value and the row that it comes from. The greater, the further behind.
#[derive(Clone, Copy)]
struct Leader {
    /// The value, or for `topk` its opposite.
    key: f64,
    row: u32,
}

impl Leader {
    fn new(value: f64, row: u32, largest: bool) -> Leader {
        Leader { key: if largest { -value } else { value }, row }
    }

    fn value(&self, largest: bool) -> f64 {
        if largest { -self.key } else { self.key }
    }
}

impl Ord for Leader {
    /// NaN is behind everything; among equals the later row is behind.
    fn cmp(&self, other: &Leader) -> Ordering {
        let values = self.key.partial_cmp(&other.key).unwrap_or_else(|| self.key.is_nan().cmp(&other.key.is_nan()));
        values.then(self.row.cmp(&other.row))
    }
}

impl PartialOrd for Leader {
    fn partial_cmp(&self, other: &Leader) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Leader {
    fn eq(&self, other: &Leader) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Leader {}

/// The leaders of a group at one step, the last of them on top.
type Board = BinaryHeap<Leader>;

impl<'a, S: Source> Evaluator<'a, S> {
    pub(super) fn top(
        &mut self,
        aggregate: &Aggregate,
        largest: bool,
        grid: Grid,
        sink: Sink<'_, 'a, S>,
    ) -> Result<()> {
        let Some(param) = &aggregate.param else { return Ok(()) };
        let param = self.scalar(param, grid)?;
        let limits = limits(&param, grid)?;
        let grouping = Grouping::of(aggregate);
        let mut index: FxHashMap<Labels, usize> = FxHashMap::default();
        let mut groups: Vec<Vec<Board>> = Vec::new();
        let mut rows: Vec<(Labels, bool)> = Vec::new();
        let mut held = Vec::new();
        self.stream(&aggregate.expr, grid, &mut |eval, row| {
            if row.points.native.is_some() {
                eval.ignored_native(aggregate);
            }
            let next = groups.len();
            let at = *index.entry(grouping.key(&row.labels)).or_insert(next);
            if at == next {
                groups.push(vec![Board::new(); grid.n]);
            }
            let (mut grown, number) = (0, rows.len() as u32);
            for (i, value) in row.points.iter().enumerate().filter(|(_, v)| is_present(**v)) {
                grown += enter(&mut groups[at][i], limits.at(i), Leader::new(*value, number, largest));
            }
            if grown > 0 {
                held.push(eval.meter.hold(2 * grown)?);
            }
            rows.push((row.labels, row.drop_name));
            Ok(())
        })?;
        drop(held);
        self.emit(groups, largest, &rows, grid, sink)
    }

    /// Turns the boards into rows: at a single step in the order of the lead, otherwise in that of the input.
    fn emit(
        &mut self,
        groups: Vec<Vec<Board>>,
        largest: bool,
        rows: &[(Labels, bool)],
        grid: Grid,
        sink: Sink<'_, 'a, S>,
    ) -> Result<()> {
        for boards in groups {
            let mut place: FxHashMap<u32, usize> = FxHashMap::default();
            let mut out: Vec<(u32, Row)> = Vec::new();
            for (i, board) in boards.into_iter().enumerate() {
                for leader in board.into_sorted_vec() {
                    let next = out.len();
                    let at = *place.entry(leader.row).or_insert(next);
                    if at == next {
                        let (labels, drop_name) = rows[leader.row as usize].clone();
                        out.push((leader.row, Row { labels, drop_name, points: self.points(grid.n, ABSENT)? }));
                    }
                    out[at].1.points[i] = leader.value(largest);
                }
            }
            if grid.n > 1 {
                out.sort_by_key(|(row, _)| *row);
            }
            for (_, row) in out {
                sink(self, row)?;
            }
        }
        Ok(())
    }
}

/// How many may lead, at each step.
enum Limits {
    Same(usize),
    Each(Vec<usize>),
}

impl Limits {
    fn at(&self, i: usize) -> usize {
        match self {
            Limits::Same(limit) => *limit,
            Limits::Each(limits) => limits[i],
        }
    }
}

fn limits(param: &Scalars, grid: Grid) -> Result<Limits> {
    let limit = |value: f64| {
        if value.is_nan() {
            return Err(Error::execution("Parameter value is NaN"));
        }
        if value >= i64::MAX as f64 {
            return Err(Error::execution(format!("Scalar value {} overflows int64", crate::text::format_short(value))));
        }
        if value <= i64::MIN as f64 {
            return Err(Error::execution(format!(
                "Scalar value {} underflows int64",
                crate::text::format_short(value)
            )));
        }
        Ok(if value < 1.0 { 0 } else { value as usize })
    };
    match param {
        Scalars::Same(value) => limit(*value).map(Limits::Same),
        // A parameter that has no value at some step leaves that step empty only if it is no number at all.
        Scalars::Each(_) => (0..grid.n).map(|i| limit(param.at(i))).collect::<Result<_>>().map(Limits::Each),
    }
}

/// Puts a value on the board if it leads; returns by how much the board grew.
fn enter(board: &mut Board, limit: usize, new: Leader) -> usize {
    if board.len() < limit {
        board.push(new);
        return 1;
    }
    if let Some(mut last) = board.peek_mut().filter(|last| new < **last) {
        *last = new;
    }
    0
}
