//! The integers of a column, listed or as the line that they are on.

/// The integers of a column, one line of them not written out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Integers {
    /// `first`, and `step` further each.
    Line {
        first: i64,
        step: i64,
        count: usize,
    },
    Listed(Vec<i64>),
}

impl Integers {
    pub(crate) fn at(&self, at: usize) -> i64 {
        match self {
            Self::Line { first, step, .. } => first.wrapping_add(step.wrapping_mul(at as i64)),
            Self::Listed(listed) => listed[at],
        }
    }

    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Line { count, .. } => *count,
            Self::Listed(listed) => listed.len(),
        }
    }

    /// The sum of those in a range; what is added up is to be small enough.
    pub(crate) fn sum(&self, range: std::ops::Range<usize>) -> i64 {
        match self {
            Self::Line { first, step: 0, .. } => first.wrapping_mul(range.len() as i64),
            Self::Line { .. } => range.map(|at| self.at(at)).fold(0, i64::wrapping_add),
            Self::Listed(listed) => listed[range].iter().fold(0, |sum, one| sum.wrapping_add(*one)),
        }
    }

    /// Whether all are within `least..=most`.
    pub(crate) fn are_within(&self, least: i64, most: i64) -> bool {
        let is_within = |one: i64| least <= one && one <= most;
        match self {
            // Between two ends that are no more than an integer apart.
            Self::Line { first, step, count } => {
                let last = step.checked_mul(*count as i64 - 1).and_then(|rise| first.checked_add(rise));
                *count == 0 || is_within(*first) && last.is_some_and(is_within)
            }
            Self::Listed(listed) => listed.iter().all(|one| is_within(*one)),
        }
    }
}
