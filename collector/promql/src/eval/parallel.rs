//! Reads many series and computes their rows, a batch at a time, on several threads where a batch takes longer than it
//! takes to start them. Rows come out in the order of their series, whatever the number of threads.

use std::time::Duration;

use super::points::Points;
use super::select::Reach;
use super::{Halt, Result, SampleBuf};
use crate::bucket::Bucket;

/// Series of the first batch, which is read by one thread and tells how long a series takes.
const FIRST_BATCH: usize = 8;
/// Values of the rows of a later batch, which are held at once: 256 KiB of them.
const BATCH_VALUES: usize = 1 << 15;
/// Series of a later batch, at least.
const BATCH_MIN: usize = 64;
/// Series of a later batch, at most.
const BATCH_MAX: usize = 2048;
/// What a batch must take for more threads to pay; to start one costs some tens of microseconds.
const WORTH: Duration = Duration::from_micros(400);

/// How the batches go.
pub(super) struct Pace {
    most: usize,
    threads: usize,
    batch: usize,
    /// Series of a batch that several threads read.
    large: usize,
}

impl Pace {
    /// For rows of `steps` values.
    pub(super) fn new(threads: usize, steps: usize) -> Pace {
        let large = (BATCH_VALUES / steps.max(1)).clamp(BATCH_MIN, BATCH_MAX);
        Pace { most: threads.max(1), threads: 1, batch: FIRST_BATCH, large }
    }

    /// One series at a time.
    pub(super) fn one_by_one() -> Pace {
        Pace { most: 1, threads: 1, batch: 1, large: 1 }
    }

    /// Series of the next batch.
    pub(super) fn batch(&self) -> usize {
        self.batch
    }

    /// Threads for the next batch.
    pub(super) fn threads(&self) -> usize {
        self.threads
    }

    /// A batch of `series` took that long, and `left` series are to come.
    pub(super) fn took(&mut self, time: Duration, series: usize, left: usize) {
        let next = left.min(self.large);
        let expected = time * self.threads as u32 * next as u32 / series.max(1) as u32;
        self.threads = if expected >= WORTH { self.most } else { 1 };
        self.batch = if self.threads > 1 { self.large } else { self.batch.min(FIRST_BATCH) };
    }
}

/// What reads a run of steps of a series into its row; the second number is the step that the run begins with.
pub(super) type One<'r, H> = &'r (dyn Fn(&H, (Reach, usize), &mut Scratch, &mut [f64]) -> Result<Done> + Sync);

/// Memory of a thread, used again and again.
#[derive(Default)]
pub(super) struct Scratch {
    pub(super) samples: SampleBuf,
    pub(super) buckets: Vec<Bucket>,
}

/// How the series are read.
pub(super) struct Read<'r, H> {
    pub(super) reach: Reach,
    /// How many steps at once.
    pub(super) steps: usize,
    pub(super) one: One<'r, H>,
    pub(super) halt: Halt<'r>,
}

/// What reading came to.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Done {
    /// Time spent in the source, of all threads together.
    pub(super) reading: Duration,
    /// Samples read.
    pub(super) samples: u64,
    /// Samples of the longest read: what a thread holds beside the rows.
    pub(super) held: usize,
}

impl Done {
    fn and(self, other: Done) -> Done {
        Done {
            reading: self.reading + other.reading,
            samples: self.samples + other.samples,
            held: self.held.max(other.held),
        }
    }
}

impl<H: Sync> Read<'_, H> {
    /// Reads a batch on up to `threads` threads. A read of more than `room` samples ends it: `held` says so.
    pub(super) fn all(
        &self,
        batch: &mut [(H, Points)],
        threads: usize,
        room: usize,
        scratches: &mut Vec<Scratch>,
    ) -> Result<Done> {
        let mut rows: Vec<(&H, &mut [f64])> =
            batch.iter_mut().map(|(handle, points)| (&*handle, &mut **points)).collect();
        let share = rows.len().div_ceil(threads).max(1);
        scratches.resize_with(scratches.len().max(threads), Scratch::default);
        let mut parts = rows.chunks_mut(share).zip(scratches);
        let Some((own, scratch)) = parts.next() else { return Ok(Done::default()) };
        std::thread::scope(|scope| {
            let others: Vec<_> =
                parts.map(|(part, scratch)| scope.spawn(move || self.some(part, room, scratch))).collect();
            let done = self.some(own, room, scratch);
            others.into_iter().fold(done, |sum, other| {
                let part = other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
                Ok(sum?.and(part?))
            })
        })
    }

    /// Reads some series one after another.
    fn some(&self, rows: &mut [(&H, &mut [f64])], room: usize, scratch: &mut Scratch) -> Result<Done> {
        let mut done = Done::default();
        for (handle, out) in rows {
            let mut first = 0;
            while first < self.reach.n {
                // Whoever called looks why.
                if self.halt.reached() || done.held > room {
                    return Ok(done);
                }
                let part = self.reach.part(first, self.steps.min(self.reach.n - first));
                done = done.and((self.one)(handle, (part, first), scratch, &mut out[first..first + part.n])?);
                first += part.n;
            }
        }
        Ok(done)
    }
}

#[cfg(test)]
mod tests {
    use super::super::points::{ABSENT, Meter};
    use super::*;
    use crate::engine::Cancel;
    use crate::error::Error;
    use crate::eval::select::{Latest, pick_latest, window};
    use crate::labels::Labels;
    use crate::source::Source;
    use crate::testing::MemorySource;

    fn rows(threads: usize, room: usize) -> (Done, Vec<Vec<f64>>) {
        let mut source = MemorySource::new();
        for nth in 0..50_u8 {
            let labels = Labels::from_pairs([("__name__", "up"), ("instance", &*format!("{nth:02}"))]);
            for tick in 0..i64::from(nth) {
                source.push(&labels, tick * 1000, f64::from(nth) + tick as f64);
            }
        }
        let (cancel, meter) = (Cancel::new(), Meter::new(10_000));
        let reach = Reach { end: 0, step: 1000, width: 5000, n: 60 };
        let mut series = source.select(&[], reach.start(), reach.last_end()).unwrap();
        series.sort_by(|a, b| a.0.cmp(&b.0));
        let mut batch: Vec<_> =
            series.into_iter().map(|(_, handle)| (handle, meter.points(reach.n, ABSENT).unwrap())).collect();
        let halt = Halt { cancel: &cancel, deadline: None };
        let one = |handle: &_, (part, first): (Reach, usize), scratch: &mut Scratch, out: &mut [f64]| {
            source.samples(handle, part.start(), part.last_end(), &mut scratch.samples).map_err(Error::Source)?;
            pick_latest(&window(&scratch.samples, part, first, halt), Latest::Value, out);
            let len = scratch.samples.len();
            Ok(Done { reading: Duration::ZERO, samples: len as u64, held: len })
        };
        let read = Read { reach, steps: reach.n, one: &one, halt };
        let done = read.all(&mut batch, threads, room, &mut Vec::new()).unwrap();
        (done, batch.iter().map(|(_, points)| points.to_vec()).collect())
    }

    #[test]
    fn threads_change_nothing_but_the_time() {
        let (alone, expected) = rows(1, 1000);
        assert!(alone.samples == (0..50).sum::<u64>() && alone.held == 49);
        for threads in [2, 3, 64] {
            let (done, found) = rows(threads, 1000);
            assert!((done.samples, done.held) == (alone.samples, alone.held));
            let bits = |rows: &[Vec<f64>]| rows.concat().iter().map(|v| v.to_bits()).collect::<Vec<_>>();
            assert_eq!(bits(&found), bits(&expected), "{threads} threads");
            assert!(rows(threads, 40).0.held > 40);
        }
    }

    #[test]
    fn threads_begin_where_a_batch_is_long_enough() {
        assert_eq!((Pace::new(4, 1).large, Pace::new(4, 11_000).large), (BATCH_MAX, BATCH_MIN));
        let mut pace = Pace::new(4, 512);
        assert_eq!((pace.threads(), pace.batch()), (1, FIRST_BATCH));
        pace.took(Duration::from_micros(8), FIRST_BATCH, 1000);
        assert_eq!(pace.threads(), 1);
        pace.took(Duration::from_micros(80), FIRST_BATCH, 1000);
        assert_eq!((pace.threads(), pace.batch()), (4, 64));
        pace.took(Duration::from_micros(160), 64, 3);
        assert_eq!(pace.threads(), 1);
    }
}
