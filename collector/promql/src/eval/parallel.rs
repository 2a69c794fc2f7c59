//! Reads many series and computes their rows, a batch at a time, on several threads where a batch takes longer than it
//! takes to start them. Rows come out in the order of their series, whatever the number of threads.

use std::time::{Duration, Instant};

use super::points::Points;
use super::select::{Compute, Keep, Reach, window};
use super::{Error, Halt, Result, SampleBuf, Source};

/// Series of the first batch, which is read by one thread and tells how long a series takes.
const FIRST_BATCH: usize = 8;
/// Series of a later batch: as many rows are held at once.
const BATCH: usize = 64;
/// What a batch must take for more threads to pay; to start one costs some tens of microseconds.
const WORTH: Duration = Duration::from_micros(400);

/// How the batches go.
pub(super) struct Pace {
    most: usize,
    threads: usize,
    batch: usize,
}

impl Pace {
    pub(super) fn new(threads: usize) -> Pace {
        Pace { most: threads.max(1), threads: 1, batch: FIRST_BATCH }
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
        let next = left.min(BATCH);
        let expected = time * self.threads as u32 * next as u32 / series.max(1) as u32;
        self.threads = if expected >= WORTH { self.most } else { 1 };
        self.batch = if self.threads > 1 { BATCH } else { FIRST_BATCH };
    }
}

/// What is done with each series.
pub(super) struct Read<'r, S: Source> {
    pub(super) source: &'r S,
    pub(super) reach: Reach,
    pub(super) keep: Keep,
    pub(super) compute: Compute<'r>,
    pub(super) halt: Halt<'r>,
}

/// What reading came to.
#[derive(Debug, Default)]
pub(super) struct Done {
    /// Time spent in the source, of all threads together.
    pub(super) reading: Duration,
    /// Samples read.
    pub(super) samples: u64,
    /// Samples of the longest read: what a thread holds beside the rows.
    pub(super) held: usize,
}

impl<S: Source> Read<'_, S> {
    /// Reads a batch on up to `threads` threads. A read of more than `room` samples ends it: `held` says so.
    pub(super) fn all(
        &self,
        batch: &mut [(S::Series, Points)],
        threads: usize,
        room: usize,
        buffers: &mut Vec<SampleBuf>,
    ) -> Result<Done> {
        let mut rows: Vec<(&S::Series, &mut [f64])> =
            batch.iter_mut().map(|(handle, points)| (&*handle, &mut **points)).collect();
        let share = rows.len().div_ceil(threads).max(1);
        let mut parts = rows.chunks_mut(share);
        let Some(own) = parts.next() else { return Ok(Done::default()) };
        let mut buffer = buffers.pop().unwrap_or_default();
        let done = std::thread::scope(|scope| {
            let others: Vec<_> = parts
                .map(|part| {
                    let mut buffer = buffers.pop().unwrap_or_default();
                    scope.spawn(move || (self.some(part, room, &mut buffer), buffer))
                })
                .collect();
            let mut done = self.some(own, room, &mut buffer);
            for other in others {
                let joined = other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
                done = done.and_then(|sum| {
                    let part = joined.0?;
                    Ok(Done {
                        reading: sum.reading + part.reading,
                        samples: sum.samples + part.samples,
                        held: sum.held.max(part.held),
                    })
                });
                buffers.push(joined.1);
            }
            done
        });
        buffers.push(buffer);
        done
    }

    /// Reads some series one after another.
    fn some(&self, rows: &mut [(&S::Series, &mut [f64])], room: usize, buffer: &mut SampleBuf) -> Result<Done> {
        let mut done = Done::default();
        for (handle, out) in rows {
            if self.halt.reached() {
                // Whoever called looks why.
                return Ok(done);
            }
            let (mut first, steps) = (0, self.reach.steps_a_read());
            while first < self.reach.n {
                let part = self.reach.part(first, steps.min(self.reach.n - first));
                let begun = Instant::now();
                self.source.samples(handle, part.start(), part.last_end(), buffer).map_err(Error::Source)?;
                done.reading += begun.elapsed();
                done.samples += buffer.len() as u64;
                done.held = done.held.max(buffer.len());
                if buffer.len() > room {
                    return Ok(done);
                }
                match self.keep {
                    Keep::All => {}
                    Keep::Samples => buffer.drop_stale(true),
                    Keep::Numbers => buffer.drop_stale(false),
                }
                if !buffer.is_empty() {
                    (self.compute)(&window(buffer, part, first, self.halt), &mut out[first..first + part.n]);
                }
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
    use crate::eval::select::{Latest, pick_latest};
    use crate::labels::Labels;
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
        let compute = |window: &crate::eval::select::Window<'_>, out: &mut [f64]| {
            pick_latest(window, Latest::Value, out);
        };
        let halt = Halt { cancel: &cancel, deadline: None };
        let read = Read { source: &source, reach, keep: Keep::All, compute: &compute, halt };
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
        let mut pace = Pace::new(4);
        assert_eq!((pace.threads(), pace.batch()), (1, FIRST_BATCH));
        pace.took(Duration::from_micros(8), FIRST_BATCH, 1000);
        assert_eq!(pace.threads(), 1);
        pace.took(Duration::from_micros(80), FIRST_BATCH, 1000);
        assert_eq!((pace.threads(), pace.batch()), (4, BATCH));
        pace.took(Duration::from_micros(160), BATCH, 3);
        assert_eq!(pace.threads(), 1);
    }
}
