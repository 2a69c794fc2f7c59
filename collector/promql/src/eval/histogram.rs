//! Classic histograms: the `le` buckets of one histogram are gathered, made consistent, and asked for a quantile or a
//! fraction.

use rustc_hash::FxHashMap;

use super::*;
use crate::ast::Call;
use crate::text::quote;

/// The label that holds a bucket's upper bound.
const BUCKET_LABEL: &str = "le";

/// A difference of counts that is smaller than this, relatively, comes from rounding.
const SMALL_DELTA: f64 = 1e-12;

/// The buckets of one histogram, by upper bound.
struct Histogram {
    labels: Labels,
    buckets: Vec<(f64, Points)>,
}

/// A bucket at one step: upper bound, and observations up to it.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Bucket {
    bound: f64,
    count: f64,
}

/// Asks the buckets of a histogram at a step for a value.
type Ask<'f, E> = &'f mut dyn FnMut(&mut E, &Labels, usize, &mut Vec<Bucket>) -> f64;

impl<'a, S: Source> Evaluator<'a, S> {
    pub(super) fn histogram_quantile(&mut self, call: &Call, grid: Grid, sink: Sink<'_, 'a, S>) -> Result<()> {
        let phi = self.scalar(&call.args[0], grid)?;
        self.check_quantile(&phi, grid, call.args[0].unwrapped().span());
        let vector = &call.args[1];
        let at = vector.unwrapped().span();
        self.histograms(vector, grid, sink, &mut |eval, labels, i, buckets| {
            let (value, forced) = quantile(phi.at(i), buckets);
            if forced {
                let text = "input to histogram_quantile needed to be fixed for monotonicity \
                    (see https://prometheus.io/docs/prometheus/latest/querying/functions/#histogram_quantile)";
                eval.inform(at, &format!("{text}{}", for_metric(labels)));
            }
            value
        })
    }

    pub(super) fn histogram_fraction(&mut self, call: &Call, grid: Grid, sink: Sink<'_, 'a, S>) -> Result<()> {
        let lower = self.scalar(&call.args[0], grid)?;
        let upper = self.scalar(&call.args[1], grid)?;
        self.histograms(&call.args[2], grid, sink, &mut |_, _, i, buckets| fraction(lower.at(i), upper.at(i), buckets))
    }

    /// Gathers the histograms of a vector and yields `f` of the buckets of each at each step.
    fn histograms(&mut self, vector: &Expr, grid: Grid, sink: Sink<'_, 'a, S>, f: Ask<'_, Self>) -> Result<()> {
        let at = vector.unwrapped().span();
        let mut index: FxHashMap<Labels, usize> = FxHashMap::default();
        let mut histograms: Vec<Histogram> = Vec::new();
        self.stream(vector, grid, &mut |eval, row| {
            let label = row.labels.get(BUCKET_LABEL).unwrap_or("");
            let Some(bound) = parse_bound(label) else {
                let text = "bucket label \"le\" is missing or has a malformed value of";
                let label = quote(label);
                eval.warn(at, &format!("{text} {label}{}", for_metric(&row.labels)));
                return Ok(());
            };
            let key = row.labels.without(|n| n == BUCKET_LABEL);
            let at = *index.entry(key.clone()).or_insert_with(|| {
                histograms.push(Histogram { labels: key, buckets: Vec::new() });
                histograms.len() - 1
            });
            histograms[at].buckets.push((bound, row.points));
            Ok(())
        })?;
        let mut buckets = Vec::new();
        for mut histogram in histograms {
            self.check()?;
            histogram.buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
            let mut points = self.points(grid.n, ABSENT)?;
            for (i, point) in points.iter_mut().enumerate() {
                buckets.clear();
                let present = histogram.buckets.iter().filter(|(_, p)| is_present(p[i]));
                buckets.extend(present.map(|(bound, p)| Bucket { bound: *bound, count: p[i] }));
                if !buckets.is_empty() {
                    *point = f(self, &histogram.labels, i, &mut buckets);
                }
            }
            sink(self, Row { labels: histogram.labels, drop_name: true, points })?;
        }
        Ok(())
    }
}

fn for_metric(labels: &Labels) -> String {
    labels.metric_name().map_or(String::new(), |name| format!(" for metric name {}", quote(name)))
}

fn parse_bound(text: &str) -> Option<f64> {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let bound = match unsigned.to_ascii_lowercase().as_str() {
        "inf" | "infinity" => f64::INFINITY,
        "nan" => f64::NAN,
        // Rust's own words for infinity are spelt out above.
        word if word.starts_with(['i', 'n', '+', '-']) => return None,
        number => number.parse().ok()?,
    };
    Some(if text.starts_with('-') { -bound } else { bound })
}

/// Adds up buckets of the same bound; false if the last is not +Inf.
fn coalesce(buckets: &mut Vec<Bucket>) -> bool {
    buckets.dedup_by(|later, kept| {
        let same = later.bound == kept.bound;
        if same {
            kept.count += later.count;
        }
        same
    });
    buckets.last().is_some_and(|b| b.bound == f64::INFINITY)
}

/// Makes counts never fall; true if that took more than evening out rounding.
fn ensure_monotonic(buckets: &mut [Bucket]) -> bool {
    let mut forced = false;
    let mut previous = buckets.first().map_or(0.0, |b| b.count);
    for bucket in buckets.iter_mut().skip(1) {
        let count = bucket.count;
        if count == previous {
            continue;
        }
        if nearly_equal(count, previous) {
            bucket.count = previous;
        } else if count < previous {
            bucket.count = previous;
            forced = true;
        } else {
            previous = count;
        }
    }
    forced
}

fn nearly_equal(a: f64, b: f64) -> bool {
    if a.is_nan() && b.is_nan() {
        return true;
    }
    let sum = a.abs() + b.abs();
    let difference = (a - b).abs();
    if a == 0.0 || b == 0.0 || sum < f64::MIN_POSITIVE {
        return difference < SMALL_DELTA * f64::MIN_POSITIVE;
    }
    difference / sum.min(f64::MAX) < SMALL_DELTA
}

/// The φ-quantile, linear within a bucket, and whether counts had to be forced to rise.
fn quantile(phi: f64, buckets: &mut Vec<Bucket>) -> (f64, bool) {
    if phi.is_nan() {
        return (f64::NAN, false);
    }
    if !(0.0..=1.0).contains(&phi) {
        return (if phi < 0.0 { f64::NEG_INFINITY } else { f64::INFINITY }, false);
    }
    if !coalesce(buckets) {
        return (f64::NAN, false);
    }
    let forced = ensure_monotonic(buckets);
    let last = buckets.len() - 1;
    let total = buckets[last].count;
    if last == 0 || total == 0.0 {
        return (f64::NAN, forced && last > 0);
    }
    let mut rank = phi * total;
    let at = buckets[..last].partition_point(|b| b.count < rank);
    if at == last {
        return (buckets[last - 1].bound, forced);
    }
    let Bucket { bound: end, mut count } = buckets[at];
    if at == 0 && end <= 0.0 {
        return (end, forced);
    }
    let mut start = 0.0;
    if at > 0 {
        let below = buckets[at - 1];
        start = below.bound;
        count -= below.count;
        rank -= below.count;
    }
    (start + (end - start) * (rank / count), forced)
}

/// The share of observations between two bounds, linear within a bucket.
fn fraction(lower: f64, upper: f64, buckets: &mut Vec<Bucket>) -> f64 {
    if !coalesce(buckets) {
        return f64::NAN;
    }
    ensure_monotonic(buckets);
    let total = buckets.last().map_or(0.0, |b| b.count);
    if total == 0.0 || lower.is_nan() || upper.is_nan() {
        return f64::NAN;
    }
    if lower >= upper {
        return 0.0;
    }
    (rank_of(upper, buckets, total) - rank_of(lower, buckets, total)) / total
}

/// How many observations lie below a value.
fn rank_of(value: f64, buckets: &[Bucket], total: f64) -> f64 {
    let (mut below, mut rank) = (f64::NEG_INFINITY, 0.0);
    for (i, bucket) in buckets.iter().enumerate() {
        if below >= value {
            break;
        }
        if bucket.bound > value {
            // Nothing is known of how far the outermost buckets reach, but that sizes are rarely negative.
            let start = if i == 0 && bucket.bound > 0.0 { 0.0 } else { below };
            if value <= start || bucket.bound.is_infinite() {
                break;
            }
            if start.is_infinite() {
                // A bucket without a lower end counts as a whole for all that lies in it.
                return bucket.count;
            }
            return rank + (bucket.count - rank) * (value - start) / (bucket.bound - start);
        }
        (below, rank) = (bucket.bound, bucket.count);
    }
    rank.min(total)
}
