//! Operators between two vectors: which series meet which, and what their meeting yields. Series find each other once,
//! not at every step; what must hold at every step (nobody meets two) is checked only where labels leave it open.

use rustc_hash::FxHashMap;

use super::points::Steps;
use super::*;
use crate::ast::{Binary, BinaryOp, Cardinality, Matching};
use crate::labels::is_metadata;

impl Matching {
    /// The labels that two series must share to meet.
    fn key(&self, labels: &Labels) -> Labels {
        let named = |n: &str| self.labels.iter().any(|l| l == n);
        match (self.on, self.labels.is_empty()) {
            (true, _) => labels.keep(named),
            (false, true) => labels.without_name(),
            (false, false) => labels.without(|n| is_metadata(n) || named(n)),
        }
    }

    /// The labels of what comes of a meeting.
    fn result(&self, op: BinaryOp, many: &Labels, one: &Labels) -> Labels {
        let named = |n: &str| self.labels.iter().any(|l| l == n);
        let mut labels = if op.is_comparison() { many.clone() } else { many.without_name() };
        if self.cardinality == Cardinality::OneToOne {
            labels = if self.on { labels.keep(named) } else { labels.without(named) };
        }
        for name in &self.include {
            labels = labels.with(name, one.get(name).unwrap_or(""));
        }
        labels
    }
}

impl<'a, S: Source> Evaluator<'a, S> {
    /// `and`, `or` and `unless`.
    pub(super) fn set_operation(&mut self, binary: &Binary, grid: Grid, sink: Sink<'_, 'a, S>) -> Result<()> {
        let matching = binary.matching.clone().unwrap_or_default();
        let mut seen: FxHashMap<Labels, Steps> = FxHashMap::default();
        let mut mark = |row: &Row| {
            let steps = seen.entry(matching.key(&row.labels)).or_insert_with(|| Steps::new(grid.n));
            steps.set_present(&row.points);
        };
        if binary.op == BinaryOp::Or {
            let mut rows = self.rows(&binary.lhs, grid)?;
            rows.iter().for_each(&mut mark);
            self.stream(&binary.rhs, grid, &mut |_, mut row| {
                if let Some(steps) = seen.get(&matching.key(&row.labels)) {
                    hide(&mut row.points, |i| steps.has(i));
                }
                if row.points.iter().any(|v| is_present(*v)) {
                    rows.push(row);
                }
                Ok(())
            })?;
            let rows = if grid.n > 1 { merge_same_labels(rows)? } else { rows };
            return rows.into_iter().try_for_each(|row| sink(self, row));
        }
        self.stream(&binary.rhs, grid, &mut |_, row| {
            mark(&row);
            Ok(())
        })?;
        let keep_met = binary.op == BinaryOp::And;
        self.stream(&binary.lhs, grid, &mut |eval, mut row| {
            match seen.get(&matching.key(&row.labels)) {
                Some(steps) => hide(&mut row.points, |i| steps.has(i) != keep_met),
                None if keep_met => return Ok(()),
                None => {}
            }
            if !row.points.iter().any(|v| is_present(*v)) {
                return Ok(());
            }
            sink(eval, row)
        })
    }

    /// Arithmetic and comparisons.
    pub(super) fn vectors(&mut self, binary: &Binary, grid: Grid, sink: Sink<'_, 'a, S>) -> Result<()> {
        let matching = binary.matching.clone().unwrap_or_default();
        let lhs = self.rows(&binary.lhs, grid)?;
        let rhs = self.rows(&binary.rhs, grid)?;
        let swapped = matching.cardinality == Cardinality::OneToMany;
        let (many, one) = if swapped { (rhs, lhs) } else { (lhs, rhs) };
        if many.is_empty() || one.is_empty() {
            return Ok(());
        }
        let mut groups: FxHashMap<Labels, Vec<usize>> = FxHashMap::default();
        for (i, row) in one.iter().enumerate() {
            groups.entry(matching.key(&row.labels)).or_default().push(i);
        }
        check_one_side(&groups, &one, &many, &matching, grid)?;
        let keys: Vec<Labels> = many.iter().map(|row| matching.key(&row.labels)).collect();
        let mut crowd: FxHashMap<&Labels, u32> = FxHashMap::default();
        keys.iter().for_each(|key| *crowd.entry(key).or_default() += 1);

        let meeting = Meeting { binary, matching: &matching, swapped };
        let mut met: FxHashMap<&Labels, Steps> = FxHashMap::default();
        let mut crowded: Vec<Row> = Vec::new();
        for (row, key) in many.iter().zip(&keys) {
            let Some(partners) = groups.get(key) else { continue };
            let shared = crowd.get(key).is_some_and(|n| *n > 1);
            if shared && matching.cardinality == Cardinality::OneToOne {
                let steps = met.entry(key).or_insert_with(|| Steps::new(grid.n));
                check_many_side(row, partners.iter().map(|i| &one[*i]), steps)?;
            }
            for partner in partners {
                self.check()?;
                let points = self.points(grid.n, ABSENT)?;
                let Some(result) = meeting.of(row, &one[*partner], points) else { continue };
                if shared || partners.len() > 1 {
                    crowded.push(result);
                } else {
                    sink(self, result)?;
                }
            }
        }
        let merged = merge_same_labels(crowded)
            .map_err(|_| Error::execution("multiple matches for labels: grouping labels must ensure unique matches"))?;
        merged.into_iter().try_for_each(|row| sink(self, row))
    }
}

/// How two series are combined.
struct Meeting<'m> {
    binary: &'m Binary,
    matching: &'m Matching,
    /// Whether the many side is the right one.
    swapped: bool,
}

impl Meeting<'_> {
    /// What comes of two series, if anything.
    fn of(&self, many: &Row, one: &Row, mut points: Points) -> Option<Row> {
        let op = self.binary.op;
        let filters = op.is_comparison() && !self.binary.return_bool;
        let mut any = false;
        for (point, (m, o)) in points.iter_mut().zip(many.points.iter().zip(one.points.iter())) {
            if !is_present(*m) || !is_present(*o) {
                continue;
            }
            let (a, b) = if self.swapped { (*o, *m) } else { (*m, *o) };
            let value = binary::scalar(op, a, b);
            if filters && value == 0.0 {
                continue;
            }
            *point = if filters { a } else { value };
            any = true;
        }
        any.then(|| Row {
            labels: self.matching.result(op, &many.labels, &one.labels),
            drop_name: self.binary.return_bool || (op.is_comparison() && many.drop_name),
            points,
        })
    }
}

fn hide(points: &mut [f64], hidden: impl Fn(usize) -> bool) {
    for (_, point) in points.iter_mut().enumerate().filter(|(i, _)| hidden(*i)) {
        *point = ABSENT;
    }
}

/// Refuses two series of the one side that share a key at a step at which the many side has anything.
fn check_one_side(
    groups: &FxHashMap<Labels, Vec<usize>>,
    one: &[Row],
    many: &[Row],
    matching: &Matching,
    grid: Grid,
) -> Result<()> {
    let mut crowded: Vec<_> = groups.iter().filter(|(_, members)| members.len() > 1).collect();
    if crowded.is_empty() {
        return Ok(());
    }
    crowded.sort();
    let mut anyone = Steps::new(grid.n);
    many.iter().for_each(|row| anyone.set_present(&row.points));
    for (key, members) in crowded {
        for i in (0..grid.n).filter(|i| anyone.has(*i)) {
            let mut present = members.iter().map(|m| &one[*m]).filter(|row| is_present(row.points[i]));
            if let (Some(a), Some(b)) = (present.next(), present.next()) {
                let side = if matching.cardinality == Cardinality::OneToMany { "left" } else { "right" };
                let shown = |row: &Row| if row.drop_name { row.labels.without_name() } else { row.labels.clone() };
                let (a, b) = (shown(a), shown(b));
                let (a, b) = if b < a { (b, a) } else { (a, b) };
                return Err(Error::execution(format!(
                    "found duplicate series for the match group {key} on the {side} hand-side of the operation: \
                     [{a}, {b}];many-to-many matching not allowed: matching labels must be unique on one side"
                )));
            }
        }
    }
    Ok(())
}

/// Refuses a second series of the left side that meets the same one, filtered away or not.
fn check_many_side<'r>(row: &Row, partners: impl Iterator<Item = &'r Row>, met: &mut Steps) -> Result<()> {
    for partner in partners {
        let both = row.points.iter().zip(partner.points.iter()).map(|(a, b)| is_present(*a) && is_present(*b));
        for (i, _) in both.enumerate().filter(|(_, both)| *both) {
            if met.has(i) {
                return Err(Error::execution(
                    "multiple matches for labels: many-to-one matching must be explicit (group_left/group_right)",
                ));
            }
            met.set(i);
        }
    }
    Ok(())
}
