//! Aggregations. Rows are folded into their groups as they come, so that memory grows with the groups; only `quantile`
//! must keep what it has seen.

use rustc_hash::FxHashMap;

use super::fold::{Fold, Greatest, Least, Mean, Sum};
use super::*;
use crate::ast::{Aggregate, AggregateOp};
use crate::labels::METRIC_NAME;

/// What one step of a group has gathered.
trait Cell: Copy + Default {
    fn add(&mut self, value: f64);
    /// The result, [`ABSENT`] if nothing was added.
    fn value(&self) -> f64;
}

/// Which labels make a group.
pub(super) struct Grouping<'g> {
    names: &'g [String],
    without: bool,
}

impl<'g> Grouping<'g> {
    pub(super) fn of(aggregate: &'g Aggregate) -> Grouping<'g> {
        Grouping { names: &aggregate.grouping, without: aggregate.without }
    }

    /// The labels of the group that a series belongs to.
    pub(super) fn key(&self, labels: &Labels) -> Labels {
        if self.without {
            return labels.without(|n| n == METRIC_NAME || self.names.iter().any(|g| g == n));
        }
        if self.names.is_empty() {
            return Labels::default();
        }
        labels.keep(|n| self.names.iter().any(|g| g == n))
    }

    /// Whether a group keeps the metric name, and with it the question whether to drop it.
    pub(super) fn keeps_name(&self) -> bool {
        !self.without && self.names.iter().any(|g| g == METRIC_NAME)
    }
}

impl<'a, S: Source> Evaluator<'a, S> {
    pub(super) fn aggregate(&mut self, aggregate: &Aggregate, grid: Grid, sink: Sink<'_, 'a, S>) -> Result<()> {
        match aggregate.op {
            AggregateOp::Sum => self.fold::<SumCell>(aggregate, grid, sink),
            AggregateOp::Avg => self.fold::<Mean>(aggregate, grid, sink),
            AggregateOp::Count => self.fold::<CountCell>(aggregate, grid, sink),
            AggregateOp::Group => self.fold::<GroupCell>(aggregate, grid, sink),
            AggregateOp::Min => self.fold::<MinCell>(aggregate, grid, sink),
            AggregateOp::Max => self.fold::<MaxCell>(aggregate, grid, sink),
            AggregateOp::Stddev => self.fold::<SpreadCell<true>>(aggregate, grid, sink),
            AggregateOp::Stdvar => self.fold::<SpreadCell<false>>(aggregate, grid, sink),
            AggregateOp::Topk => self.top(aggregate, true, grid, sink),
            AggregateOp::Bottomk => self.top(aggregate, false, grid, sink),
            AggregateOp::Quantile => self.quantile(aggregate, grid, sink),
            AggregateOp::CountValues => self.count_values(aggregate, grid, sink),
        }
    }

    fn fold<C: Cell>(&mut self, aggregate: &Aggregate, grid: Grid, sink: Sink<'_, 'a, S>) -> Result<()> {
        struct Group<C> {
            labels: Labels,
            drop_name: bool,
            cells: Vec<C>,
        }
        let grouping = Grouping::of(aggregate);
        let mut index: FxHashMap<Labels, usize> = FxHashMap::default();
        let mut groups: Vec<Group<C>> = Vec::new();
        // Cells are on the account as the samples that they take the room of.
        let ignores_native =
            !matches!(aggregate.op, AggregateOp::Sum | AggregateOp::Avg | AggregateOp::Count | AggregateOp::Group);
        let counts_native = matches!(aggregate.op, AggregateOp::Count | AggregateOp::Group);
        let room = grid.n * size_of::<C>().div_ceil(size_of::<f64>());
        let mut held = Vec::new();
        self.stream(&aggregate.expr, grid, &mut |eval, row| {
            if row.points.native.is_some() && ignores_native {
                eval.ignored_native(aggregate);
                if !row.points.iter().any(|v| is_present(*v)) {
                    return Ok(());
                }
            }
            let key = grouping.key(&row.labels);
            let at = match index.get(&key) {
                Some(at) => *at,
                None => {
                    held.push(eval.meter.hold(room)?);
                    groups.push(Group { labels: key.clone(), drop_name: false, cells: vec![C::default(); grid.n] });
                    index.insert(key, groups.len() - 1);
                    groups.len() - 1
                }
            };
            let group = &mut groups[at];
            group.drop_name |= row.drop_name && grouping.keeps_name();
            for (cell, value) in group.cells.iter_mut().zip(row.points.iter()) {
                if is_present(*value) {
                    cell.add(*value);
                }
            }
            if let Some(native) = row.points.native.as_ref().filter(|_| counts_native) {
                group.cells.iter_mut().enumerate().filter(|(i, _)| native.has(*i)).for_each(|(_, cell)| cell.add(0.0));
            }
            Ok(())
        })?;
        drop(held);
        for group in groups {
            let mut points = self.points(grid.n, ABSENT)?;
            points.iter_mut().zip(&group.cells).for_each(|(point, cell)| *point = cell.value());
            sink(self, Row { labels: group.labels, drop_name: group.drop_name, points })?;
        }
        Ok(())
    }

    pub(super) fn ignored_native(&mut self, aggregate: &Aggregate) {
        let text = format!("ignored histogram in {} aggregation", aggregate.op.as_str());
        self.inform(aggregate.expr.unwrapped().span(), &text);
    }

    fn quantile(&mut self, aggregate: &Aggregate, grid: Grid, sink: Sink<'_, 'a, S>) -> Result<()> {
        let Some(param) = &aggregate.param else { return Ok(()) };
        let phi = self.scalar(param, grid)?;
        self.check_quantile(&phi, grid, param.unwrapped().span());
        let grouping = Grouping::of(aggregate);
        let mut index: FxHashMap<Labels, usize> = FxHashMap::default();
        let mut groups: Vec<(Labels, bool, Vec<Points>)> = Vec::new();
        self.stream(&aggregate.expr, grid, &mut |eval, row| {
            if row.points.native.is_some() {
                eval.ignored_native(aggregate);
            }
            let key = grouping.key(&row.labels);
            let at = *index.entry(key.clone()).or_insert_with(|| {
                groups.push((key, false, Vec::new()));
                groups.len() - 1
            });
            groups[at].1 |= row.drop_name && grouping.keeps_name();
            groups[at].2.push(row.points);
            Ok(())
        })?;
        let mut values = Vec::new();
        for (labels, drop_name, members) in groups {
            let mut points = self.points(grid.n, ABSENT)?;
            for (i, point) in points.iter_mut().enumerate() {
                values.clear();
                values.extend(members.iter().map(|m| m[i]).filter(|v| is_present(*v)));
                if !values.is_empty() {
                    *point = window::quantile(phi.at(i), &mut values);
                }
            }
            sink(self, Row { labels, drop_name, points })?;
        }
        Ok(())
    }

    fn count_values(&mut self, aggregate: &Aggregate, grid: Grid, sink: Sink<'_, 'a, S>) -> Result<()> {
        let Some(param) = &aggregate.param else { return Ok(()) };
        let name = call::text_of(param)?;
        if let Some(bytes) = &name.bytes {
            return Err(Error::execution(format!("invalid label name {}", crate::text::quote_bytes(bytes))));
        }
        if name.value.is_empty() {
            return Err(Error::execution("invalid label name \"\""));
        }
        let mut names = aggregate.grouping.clone();
        if !aggregate.without {
            names.push(name.value.clone());
        }
        let grouping = Grouping { names: &names, without: aggregate.without };
        let mut index: FxHashMap<Labels, usize> = FxHashMap::default();
        let mut counts: Vec<Row> = Vec::new();
        self.stream(&aggregate.expr, grid, &mut |eval, row| {
            // A series seldom changes its value: look the group up only when it does.
            let mut last: Option<(u64, usize)> = None;
            for (i, value) in row.points.iter().enumerate().filter(|(_, v)| is_present(**v)) {
                let at = match last {
                    Some((bits, at)) if bits == value.to_bits() => at,
                    _ => {
                        let text = crate::text::format_plain(*value);
                        let key = grouping.key(&row.labels.with(&name.value, &text));
                        match index.get(&key) {
                            Some(at) => *at,
                            None => {
                                let points = eval.points(grid.n, ABSENT)?;
                                counts.push(Row { labels: key.clone(), drop_name: false, points });
                                index.insert(key, counts.len() - 1);
                                counts.len() - 1
                            }
                        }
                    }
                };
                last = Some((value.to_bits(), at));
                let count = &mut counts[at];
                count.drop_name |= row.drop_name && grouping.keeps_name();
                let point = &mut count.points[i];
                *point = if is_present(*point) { *point + 1.0 } else { 1.0 };
            }
            Ok(())
        })?;
        counts.into_iter().try_for_each(|row| sink(self, row))
    }
}

#[derive(Clone, Copy)]
struct SumCell(Sum);

impl Default for SumCell {
    fn default() -> SumCell {
        SumCell(Sum { sum: ABSENT, lost: 0.0 })
    }
}

impl Cell for SumCell {
    #[inline]
    fn add(&mut self, value: f64) {
        if is_present(self.0.sum) {
            self.0.add(value);
        } else {
            self.0.sum = value;
        }
    }

    fn value(&self) -> f64 {
        if is_present(self.0.sum) { self.0.value() } else { ABSENT }
    }
}

impl Cell for Mean {
    #[inline]
    fn add(&mut self, value: f64) {
        Mean::add(self, value);
    }

    fn value(&self) -> f64 {
        window::mean_or_absent(self)
    }
}

#[derive(Clone, Copy, Default)]
struct CountCell(f64);

impl Cell for CountCell {
    #[inline]
    fn add(&mut self, _: f64) {
        self.0 += 1.0;
    }

    fn value(&self) -> f64 {
        if self.0 > 0.0 { self.0 } else { ABSENT }
    }
}

#[derive(Clone, Copy)]
struct GroupCell(f64);

impl Default for GroupCell {
    fn default() -> GroupCell {
        GroupCell(ABSENT)
    }
}

impl Cell for GroupCell {
    #[inline]
    fn add(&mut self, _: f64) {
        self.0 = 1.0;
    }

    fn value(&self) -> f64 {
        self.0
    }
}

#[derive(Clone, Copy)]
struct MinCell(f64);

impl Default for MinCell {
    fn default() -> MinCell {
        MinCell(ABSENT)
    }
}

impl Cell for MinCell {
    #[inline]
    fn add(&mut self, value: f64) {
        self.0 = if is_present(self.0) { Least(self.0).then(Least(value)).0 } else { value };
    }

    fn value(&self) -> f64 {
        self.0
    }
}

#[derive(Clone, Copy)]
struct MaxCell(f64);

impl Default for MaxCell {
    fn default() -> MaxCell {
        MaxCell(ABSENT)
    }
}

impl Cell for MaxCell {
    #[inline]
    fn add(&mut self, value: f64) {
        self.0 = if is_present(self.0) { Greatest(self.0).then(Greatest(value)).0 } else { value };
    }

    fn value(&self) -> f64 {
        self.0
    }
}

/// Welford's running variance; `ROOT` for the standard deviation.
#[derive(Clone, Copy, Default)]
struct SpreadCell<const ROOT: bool> {
    count: f64,
    mean: f64,
    squares: f64,
}

impl<const ROOT: bool> Cell for SpreadCell<ROOT> {
    #[inline]
    fn add(&mut self, value: f64) {
        self.count += 1.0;
        let delta = value - self.mean;
        self.mean += delta / self.count;
        self.squares += delta * (value - self.mean);
    }

    fn value(&self) -> f64 {
        match self.count {
            0.0 => ABSENT,
            count if ROOT => (self.squares / count).sqrt(),
            count => self.squares / count,
        }
    }
}
