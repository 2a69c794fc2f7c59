//! The distribution of measurements between two ticks: a sketch with buckets that grow by a fixed ratio, as in
//! DDSketch (Masson, Rim, Lee: "DDSketch", VLDB 2019). Its quantiles are within 2% of the value.

use std::collections::BTreeMap;

/// The ratio of a bucket's bounds: a value in its middle is within 2% of both.
const RATIO: f64 = 1.04;
/// Most buckets; beyond, the lowest two become one.
const BUCKETS_MAX: usize = 512;
/// Values nearer to 0 are 0.
const ZERO: f64 = 1e-9;

/// Measurements since the last tick.
#[derive(Clone, Debug, Default)]
pub struct Sketch {
    /// How many by bucket; negative ones below.
    buckets: BTreeMap<i32, f64>,
    count: f64,
}

impl Sketch {
    /// Takes a measurement that stands for `weight`.
    pub fn add(&mut self, value: f64, weight: f64) {
        *self.buckets.entry(bucket(value)).or_default() += weight;
        self.count += weight;
        if self.buckets.len() > BUCKETS_MAX
            && let Some((_, low)) = self.buckets.pop_first()
            && let Some(mut next) = self.buckets.first_entry()
        {
            *next.get_mut() += low;
        }
    }

    /// The value that a share `q` of all is not above; none if there are none.
    #[must_use]
    pub fn quantile(&self, q: f64) -> Option<f64> {
        let rank = q * self.count;
        let mut seen = 0.0;
        let mut last = None;
        for (at, count) in &self.buckets {
            seen += count;
            last = Some(middle(*at));
            if seen >= rank {
                break;
            }
        }
        last
    }

    /// Begins anew.
    pub fn clear(&mut self) {
        self.buckets.clear();
        self.count = 0.0;
    }
}

fn bucket(value: f64) -> i32 {
    let size = value.abs();
    if size < ZERO {
        return 0;
    }
    // Of finite values at most some 18,000.
    let at = ((size.ln() - ZERO.ln()) / RATIO.ln()) as i32 + 1;
    if value < 0.0 { -at } else { at }
}

fn middle(bucket: i32) -> f64 {
    if bucket == 0 {
        return 0.0;
    }
    let size = ZERO * RATIO.powi(bucket.abs() - 1) * 2.0 * RATIO / (1.0 + RATIO);
    if bucket < 0 { -size } else { size }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn quantiles_are_near_the_true_ones() {
        let mut sketch = Sketch::default();
        assert_eq!(sketch.quantile(0.5), None);
        (1..=1000).for_each(|n| sketch.add(f64::from(n) / 1000.0, 1.0));
        for q in [0.5, 0.9, 0.99] {
            let found = sketch.quantile(q).unwrap();
            assert!((found / q - 1.0).abs() < 0.025, "{q}: {found}");
        }
        sketch.clear();
        sketch.add(-5.0, 3.0);
        sketch.add(0.0, 1.0);
        assert!((sketch.quantile(0.5).unwrap() + 5.0).abs() < 0.11);
        assert!(sketch.quantile(1.0).unwrap().abs() < 1e-9);
    }

    proptest! {
        #[test]
        fn any_values_fit(values in prop::collection::vec(any::<f64>().prop_filter("finite", |v| v.is_finite()), 0..2000)) {
            let mut sketch = Sketch::default();
            values.iter().for_each(|value| sketch.add(*value, 1.0));
            prop_assert!(sketch.buckets.len() <= BUCKETS_MAX);
            prop_assert_eq!(sketch.quantile(0.5).is_some(), !values.is_empty());
        }
    }
}
