//! The values of a series over a grid, and the account of how many are held.

use std::cell::{Cell, RefCell};
use std::ops::{Deref, DerefMut};
use std::rc::Rc;

use crate::error::{Error, Result};
use crate::source::STALE;

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
        Ok(Points { values, meter: self.clone() })
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
            return Err(Error::TooManySamples { limit: self.limit });
        }
        self.peak.set(self.peak.get().max(total));
        Ok(())
    }

    pub(crate) fn peak(&self) -> usize {
        self.peak.get()
    }
}

/// Values that are on the account until they are dropped.
pub(crate) struct Points {
    values: Vec<f64>,
    meter: Rc<Meter>,
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
        assert!(matches!(meter.points(5, 0.0), Err(Error::TooManySamples { limit: 10 })));
        drop(first);
        assert_eq!(meter.points(10, 1.0).unwrap().iter().sum::<f64>(), 10.0);
        assert_eq!(meter.peak(), 10);
    }
}
