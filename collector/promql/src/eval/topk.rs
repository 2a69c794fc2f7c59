//! `topk` and `bottomk`. Keeps, for each group and step, only the values that are in the lead; rows that never lead
//! cost their labels and nothing else.

use rustc_hash::FxHashMap;

use super::aggregate::Grouping;
use super::*;
use crate::ast::Aggregate;

/// A value in the lead and the row that it comes from.
#[derive(Clone, Copy)]
struct Leader {
    value: f64,
    row: u32,
}

/// The leaders of a group at one step, best first; among equals the earlier row.
type Board = Vec<Leader>;

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
                grown += enter(&mut groups[at][i], limits.at(i), Leader { value: *value, row: number }, largest);
            }
            if grown > 0 {
                held.push(eval.meter.hold(2 * grown)?);
            }
            rows.push((row.labels, row.drop_name));
            Ok(())
        })?;
        drop(held);
        self.emit(groups, &rows, grid, sink)
    }

    /// Turns the boards into rows: at a single step in the order of the lead, otherwise in that of the input.
    fn emit(
        &mut self,
        groups: Vec<Vec<Board>>,
        rows: &[(Labels, bool)],
        grid: Grid,
        sink: Sink<'_, 'a, S>,
    ) -> Result<()> {
        for boards in groups {
            let mut place: FxHashMap<u32, usize> = FxHashMap::default();
            let mut out: Vec<(u32, Row)> = Vec::new();
            for (i, board) in boards.into_iter().enumerate() {
                for leader in board {
                    let next = out.len();
                    let at = *place.entry(leader.row).or_insert(next);
                    if at == next {
                        let (labels, drop_name) = rows[leader.row as usize].clone();
                        out.push((leader.row, Row { labels, drop_name, points: self.points(grid.n, ABSENT)? }));
                    }
                    out[at].1.points[i] = leader.value;
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
fn enter(board: &mut Board, limit: usize, new: Leader, largest: bool) -> usize {
    // NaN is behind everything.
    let behind = |old: f64| {
        if old.is_nan() {
            return !new.value.is_nan();
        }
        if largest { old < new.value } else { old > new.value }
    };
    let full = board.len() >= limit;
    if full && !board.last().is_some_and(|last| behind(last.value)) {
        return 0;
    }
    let at = board.partition_point(|old| !behind(old.value));
    if full {
        board.pop();
    }
    board.insert(at, new);
    usize::from(!full)
}
