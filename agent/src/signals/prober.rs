//! Threads that ask filesystems for their space, so that one that does not answer holds up nobody else.
//!
//! A thread lives while there is something to ask and ends; none is idle. When answers are late, another thread goes
//! on with what is left, up to [`THREADS_MAX`] for local and as many for remote filesystems: dead network mounts,
//! however many, never use up the threads of the disks.

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

/// Most threads of one urgency, those that wait for a dead mount included.
const THREADS_MAX: usize = 4;
/// What a thread needs to call statvfs(2), with room to spare.
const STACK_BYTES: usize = 64 * 1024;
/// How often a gathering waits for answers, with one more thread each time.
const ROUNDS: usize = 3;

/// How large a filesystem is, and what is left.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Space {
    pub(super) size_bytes: u64,
    pub(super) free_bytes: u64,
    pub(super) avail_bytes: u64,
    pub(super) files: u64,
    pub(super) files_free: u64,
    pub(super) readonly: bool,
}

/// Asks the filesystem at a path; may never return.
pub(super) type Probe = Arc<dyn Fn(&Path) -> io::Result<Space> + Send + Sync>;

/// statvfs(2).
pub(super) fn statvfs(path: &Path) -> io::Result<Space> {
    let stat = rustix::fs::statvfs(path)?;
    let bytes = |blocks: u64| blocks.saturating_mul(stat.f_frsize);
    Ok(Space {
        size_bytes: bytes(stat.f_blocks),
        free_bytes: bytes(stat.f_bfree),
        avail_bytes: bytes(stat.f_bavail),
        files: stat.f_files,
        files_free: stat.f_ffree,
        readonly: stat.f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY),
    })
}

/// Which threads ask.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Urgency {
    /// A filesystem of this host.
    Local = 0,
    /// One that another host or process serves.
    Remote = 1,
}

#[derive(Default)]
struct Lane {
    jobs: VecDeque<(u64, PathBuf)>,
    threads: usize,
}

#[derive(Default)]
struct State {
    lanes: [Lane; 2],
    answers: Vec<(u64, io::Result<Space>)>,
}

/// The threads, and what they are to ask.
pub(super) struct Prober {
    probe: Probe,
    shared: Arc<(Mutex<State>, Condvar)>,
    last_id: u64,
}

impl Prober {
    pub(super) fn new(probe: Probe) -> Self {
        Self { probe, shared: Arc::default(), last_id: 0 }
    }

    /// A number that no other mount has.
    pub(super) fn id(&mut self) -> u64 {
        self.last_id += 1;
        self.last_id
    }

    /// Has the filesystem at `path` asked; the answer comes under `id`.
    pub(super) fn ask(&self, id: u64, path: &Path, urgency: Urgency) {
        lock(&self.shared.0).lanes[urgency as usize].jobs.push_back((id, path.to_owned()));
    }

    /// Forgets what was asked but not begun, but for the mounts that `keep` names.
    pub(super) fn forget_unless(&self, mut keep: impl FnMut(u64) -> bool) {
        for lane in &mut lock(&self.shared.0).lanes {
            lane.jobs.retain(|(id, _)| keep(*id));
        }
    }

    /// Starts what was asked and waits until there are `awaited` answers, but no longer than [`ROUNDS`] × `wait`.
    pub(super) fn wait(&self, awaited: usize, wait: Duration) -> io::Result<()> {
        let (state, answered) = &*self.shared;
        let mut state = lock(state);
        for _ in 0..ROUNDS {
            for urgency in [Urgency::Local, Urgency::Remote] {
                let lane = &mut state.lanes[urgency as usize];
                if !lane.jobs.is_empty() && lane.threads < THREADS_MAX {
                    self.start(urgency)?;
                    lane.threads += 1;
                }
            }
            let waited = answered.wait_timeout_while(state, wait, |state| state.answers.len() < awaited);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
            // Only with something left to begin is another thread, and another wait, of use.
            if state.answers.len() >= awaited || state.lanes.iter().all(|lane| lane.jobs.is_empty()) {
                break;
            }
        }
        Ok(())
    }

    /// The answers since they were last taken.
    pub(super) fn answers(&self) -> Vec<(u64, io::Result<Space>)> {
        std::mem::take(&mut lock(&self.shared.0).answers)
    }

    fn start(&self, urgency: Urgency) -> io::Result<()> {
        let (probe, shared) = (Arc::clone(&self.probe), Arc::clone(&self.shared));
        let builder = thread::Builder::new().name("statvfs".to_owned()).stack_size(STACK_BYTES);
        builder.spawn(move || work(&probe, &shared, urgency)).map(drop)
    }
}

fn work(probe: &Probe, (state, answered): &(Mutex<State>, Condvar), urgency: Urgency) {
    let mut guard = lock(state);
    while let Some((id, path)) = guard.lanes[urgency as usize].jobs.pop_front() {
        drop(guard);
        let answer = probe(&path);
        guard = lock(state);
        guard.answers.push((id, answer));
        answered.notify_one();
    }
    guard.lanes[urgency as usize].threads -= 1;
}

/// What a thread that panicked left is still good: every change is made whole under the lock.
fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}
