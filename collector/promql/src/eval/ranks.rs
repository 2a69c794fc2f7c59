//! The values of a sliding window in order: whichever place in it is asked for, at a cost that grows with the logarithm
//! of the samples and not with those in the window.

use std::cmp::Ordering;

/// The order of quantiles: NaN is the smallest.
pub(super) fn order(a: &f64, b: &f64) -> Ordering {
    a.partial_cmp(b).unwrap_or_else(|| b.is_nan().cmp(&a.is_nan()))
}

/// A window over samples. Each has a place in the order of all; a Fenwick tree counts those places that the window holds.
/// It takes 16 bytes a sample, as much as the samples themselves.
pub(super) struct Ranks {
    /// All values in order.
    sorted: Vec<f64>,
    /// The place of each sample.
    places: Vec<u32>,
    tree: Vec<u32>,
    low: usize,
    high: usize,
}

impl Ranks {
    /// An empty window before the first sample.
    pub(super) fn new(values: &[f64]) -> Self {
        let mut by_value: Vec<u32> = (0..values.len() as u32).collect();
        by_value.sort_unstable_by(|a, b| order(&values[*a as usize], &values[*b as usize]));
        let mut places = vec![0; values.len()];
        for (place, sample) in by_value.iter().enumerate() {
            places[*sample as usize] = place as u32;
        }
        let sorted = by_value.into_iter().map(|sample| values[sample as usize]).collect();
        Self { sorted, places, tree: vec![0; values.len() + 1], low: 0, high: 0 }
    }

    /// The window holds the samples `low..high`; neither bound goes back.
    pub(super) fn move_to(&mut self, low: usize, high: usize) {
        for sample in self.high.max(low)..high {
            self.count(self.places[sample], 1);
        }
        for sample in self.low..low.min(self.high) {
            self.count(self.places[sample], 1_u32.wrapping_neg());
        }
        (self.low, self.high) = (low, high.max(self.high));
    }

    fn count(&mut self, place: u32, by: u32) {
        let mut at = place as usize + 1;
        while at < self.tree.len() {
            self.tree[at] = self.tree[at].wrapping_add(by);
            at += at & at.wrapping_neg();
        }
    }

    /// The value at a place of the window's order, which must be less than the number of its samples.
    pub(super) fn nth(&self, nth: usize) -> f64 {
        let (mut at, mut left) = (0, nth as u32);
        let mut reach = self.tree.len().next_power_of_two() >> 1;
        while reach > 0 {
            if let Some(count) = self.tree.get(at + reach).filter(|count| **count <= left) {
                left -= count;
                at += reach;
            }
            reach >>= 1;
        }
        self.sorted.get(at).copied().unwrap_or(f64::NAN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_place_of_every_window_is_that_of_its_sorted_samples(
            values in proptest::collection::vec(prop_oneof![Just(f64::NAN), Just(1.0), -9.0..9.0], 1..60),
            moves in proptest::collection::vec((0usize..8, 0usize..8), 1..20),
        ) {
            let mut ranks = Ranks::new(&values);
            let (mut low, mut high) = (0, 0);
            for (leave, enter) in moves {
                high = (high + enter).min(values.len());
                low = (low + leave).min(high);
                ranks.move_to(low, high);
                let mut sorted = values[low..high].to_vec();
                sorted.sort_by(order);
                for (nth, value) in sorted.iter().enumerate() {
                    prop_assert_eq!(ranks.nth(nth).to_bits(), value.to_bits());
                }
            }
        }
    }
}
