//! Runs the store's jobs, each on a thread of its own: a seal at full speed, all others as if nobody waited for them.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use pitwatch_history::{Done, Job};
use tracing::{info, warn};

/// A patient job works this long at a stretch, milliseconds.
const WORK_MS: u64 = 10;
/// It rests so many times as long as it worked: it has a fifth of one core.
const REST_FACTOR: u32 = 4;
/// It writes at most this much on average, bytes a second.
const WRITE_BYTES_PER_SEC: u64 = 16 * 1024 * 1024;
/// It rests at most this long at once, milliseconds, so that a stop need not wait.
const REST_MAX_MS: u64 = 250;
/// Added to the niceness of its thread.
const NICENESS: i32 = 10;

/// The jobs that run.
#[derive(Debug, Default)]
pub struct Background {
    jobs: Vec<JoinHandle<()>>,
    stop: Arc<AtomicBool>,
}

impl Background {
    /// Runs a job. Without a thread for it, it is dropped: the store hands it out again.
    pub fn start(&mut self, job: Job) {
        self.jobs.retain(|thread| !thread.is_finished());
        let name = job.name();
        let mut pacer = Pacer::new(self.stop.clone());
        let patient = !matches!(job, Job::Seal(_));
        let run = move || {
            if patient {
                // On Linux this is of the calling thread alone. Without it the job still rests.
                let _ = rustix::process::nice(NICENESS);
            }
            match job.run(&mut |bytes| pacer.pace(bytes)) {
                Ok(done) => log(done),
                Err(error) => warn!("{}; trying again later", crate::error_chain(&error)),
            }
        };
        match std::thread::Builder::new().name(name.to_owned()).spawn(run) {
            Ok(thread) => self.jobs.push(thread),
            Err(error) => warn!("no thread for the job {name}, trying again later: {error}"),
        }
    }

    /// Ends patient jobs early and waits for all.
    pub fn stop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.jobs.drain(..) {
            let _ = thread.join();
        }
    }
}

fn log(done: Done) {
    match done {
        Done::Sealed(sealed) => info!(
            blocks = sealed.blocks,
            samples = sealed.samples,
            bytes = sealed.bytes,
            expired_samples = sealed.expired_samples,
            "head sealed"
        ),
        Done::Compacted(compacted) if compacted.blocks == 0 => {}
        Done::Compacted(compacted) => info!(
            blocks = compacted.blocks,
            samples = compacted.samples,
            bytes_before = compacted.bytes_before,
            bytes = compacted.bytes,
            "blocks compacted"
        ),
        Done::RolledUp(made) => info!(end_ms = made.end_ms, "rolled up: {made}"),
        Done::LogsMerged(files) => info!(files, "files of log lines became one"),
        done => info!(?done, "job done"),
    }
}

/// Slows a job down to its share of processor and disk.
struct Pacer {
    stop: Arc<AtomicBool>,
    since: Instant,
    bytes: u64,
}

impl Pacer {
    fn new(stop: Arc<AtomicBool>) -> Self {
        Self { stop, since: Instant::now(), bytes: 0 }
    }

    fn pace(&mut self, bytes: u64) -> ControlFlow<()> {
        self.bytes += bytes;
        let worked = self.since.elapsed();
        if worked >= Duration::from_millis(WORK_MS) {
            let mut rest = rest(worked, self.bytes);
            while !rest.is_zero() && !self.stop.load(Ordering::Relaxed) {
                let once = rest.min(Duration::from_millis(REST_MAX_MS));
                std::thread::sleep(once);
                rest -= once;
            }
            self.since = Instant::now();
            self.bytes = 0;
        }
        if self.stop.load(Ordering::Relaxed) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }
}

/// How long to rest after having worked and written.
fn rest(worked: Duration, bytes: u64) -> Duration {
    let written = Duration::from_micros(bytes.saturating_mul(1_000_000) / WRITE_BYTES_PER_SEC);
    (worked * REST_FACTOR).max(written.saturating_sub(worked))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rest_follows_the_scarcer_of_processor_and_disk() {
        let worked = Duration::from_millis(10);
        assert_eq!(rest(worked, 0), Duration::from_millis(40));
        assert_eq!(rest(worked, WRITE_BYTES_PER_SEC), Duration::from_millis(990));
    }

    #[test]
    fn a_stop_ends_a_job() {
        let stop = Arc::new(AtomicBool::new(true));
        let mut pacer = Pacer::new(stop);
        assert_eq!(pacer.pace(WRITE_BYTES_PER_SEC), ControlFlow::Break(()));
    }
}
