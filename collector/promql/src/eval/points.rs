//! The values of a series over a grid, and the account of how many are held.

use std::cell::{Cell, RefCell};
use std::ops::{Deref, DerefMut};
use std::rc::Rc;

use crate::error::{Error, Result};
use crate::source::{STALE, is_native_histogram};

/// No value at this step. Results never hold a stale marker, so its bits are free to mean this.
pub(crate) const ABSENT: f64 = STALE;

/// Whether there is a value.
#[inline]
pub(crate) fn is_present(value: f64) -> bool {
    value.to_bits() != ABSENT.to_bits()
}

/// How many freed vectors are kept for the next.
const MAX_SPARE: usize = 16;

/// Counts the samples that a query holds, and refuses more than the limit.
pub(crate) struct Meter {
    held: Cell<usize>,
    peak: Cell<usize>,
    limit: usize,
    spare: RefCell<Vec<Vec<f64>>>,
}

impl Meter {
    pub(crate) fn new(limit: usize) -> Rc<Meter> {
        Rc::new(Meter { held: Cell::new(0), peak: Cell::new(0), limit, spare: RefCell::new(Vec::new()) })
    }

    /// `n` times `fill`.
    pub(crate) fn points(self: &Rc<Meter>, n: usize, fill: f64) -> Result<Points> {
        self.allow(n)?;
        self.held.set(self.held.get() + n);
        let mut values = self.spare.borrow_mut().pop().unwrap_or_default();
        values.clear();
        values.resize(n, fill);
        Ok(Points { values, meter: self.clone(), native: None })
    }

    /// Puts the room of `n` samples on the account, for what is not kept as points.
    pub(crate) fn hold(self: &Rc<Meter>, n: usize) -> Result<Held> {
        self.allow(n)?;
        self.held.set(self.held.get() + n);
        Ok(Held { n, meter: self.clone() })
    }

    /// Whether `n` more samples may be held.
    pub(crate) fn allow(&self, n: usize) -> Result<()> {
        let total = self.held.get().saturating_add(n);
        if total > self.limit {
            return Err(Error::TooManySamples { needed: total, limit: self.limit });
        }
        self.peak.set(self.peak.get().max(total));
        Ok(())
    }

    /// How many more samples may be held.
    pub(crate) fn room(&self) -> usize {
        self.limit.saturating_sub(self.held.get())
    }

    pub(crate) fn peak(&self) -> usize {
        self.peak.get()
    }
}

/// Values that are on the account until they are dropped.
pub(crate) struct Points {
    values: Vec<f64>,
    meter: Rc<Meter>,
    /// The steps that hold a native histogram. Their value is [`ABSENT`], so that only who looks here sees them.
    pub(crate) native: Option<Steps>,
}

impl Points {
    /// Whether any step has a value or a native histogram.
    pub(crate) fn any(&self) -> bool {
        self.native.is_some() || self.values.iter().any(|v| is_present(*v))
    }

    /// Moves what stands for native histograms out of the values.
    pub(crate) fn split_native(&mut self) {
        for i in 0..self.values.len() {
            if is_native_histogram(self.values[i]) {
                self.values[i] = ABSENT;
                self.native.get_or_insert_with(|| Steps::new(self.values.len())).set(i);
            }
        }
    }
}

impl Deref for Points {
    type Target = [f64];

    #[inline]
    fn deref(&self) -> &[f64] {
        &self.values
    }
}

impl DerefMut for Points {
    #[inline]
    fn deref_mut(&mut self) -> &mut [f64] {
        &mut self.values
    }
}

impl Drop for Points {
    fn drop(&mut self) {
        self.meter.held.set(self.meter.held.get().saturating_sub(self.values.len()));
        let mut spare = self.meter.spare.borrow_mut();
        if spare.len() < MAX_SPARE {
            spare.push(std::mem::take(&mut self.values));
        }
    }
}

/// A bit for each step.
pub(crate) struct Steps(Vec<u64>);

impl Steps {
    pub(crate) fn new(n: usize) -> Steps {
        Steps(vec![0; n.div_ceil(64)])
    }

    pub(crate) fn all(n: usize) -> Steps {
        Steps(vec![u64::MAX; n.div_ceil(64)])
    }

    pub(crate) fn has(&self, i: usize) -> bool {
        self.0[i / 64] >> (i % 64) & 1 == 1
    }

    pub(crate) fn set(&mut self, i: usize) {
        self.0[i / 64] |= 1 << (i % 64);
    }

    pub(crate) fn set_present(&mut self, points: &[f64]) {
        for (i, _) in points.iter().enumerate().filter(|(_, v)| is_present(**v)) {
            self.set(i);
        }
    }
}

/// Room that is on the account until this is dropped.
pub(crate) struct Held {
    n: usize,
    meter: Rc<Meter>,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.meter.held.set(self.meter.held.get().saturating_sub(self.n));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_dropped_leaves_the_account() {
        let meter = Meter::new(10);
        let first = meter.points(6, 0.0).unwrap();
        assert!(matches!(meter.points(5, 0.0), Err(Error::TooManySamples { needed: 11, limit: 10 })));
        drop(first);
        assert_eq!(meter.points(10, 1.0).unwrap().iter().sum::<f64>(), 10.0);
        assert_eq!(meter.peak(), 10);
    }
}
