//! What sources see happen, for the run loop to make events of: a queue with a bound.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

/// Most notices that wait; the oldest goes first.
const WAITING_MAX: usize = 256;

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// By itself and without an error, or in a way that the kernel does not tell.
    Quietly,
    /// By itself, with this exit status.
    WithStatus(i32),
    /// By this signal.
    BySignal(i32),
    /// Killed by the kernel for want of memory.
    OutOfMemory,
}

impl Ended {
    /// Whether it is an end that nobody asks for: an error, or a signal other than those that stop a program.
    #[must_use]
    pub fn is_failure(self) -> bool {
        /// SIGHUP, SIGINT, SIGPIPE, SIGTERM: what systemd takes for a clean end too.
        const STOPS: [i32; 4] = [1, 2, 13, 15];
        match self {
            Self::Quietly => false,
            Self::BySignal(signal) => !STOPS.contains(&signal),
            Self::WithStatus(_) | Self::OutOfMemory => true,
        }
    }
}

/// What a source saw.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// A watch has a process that it did not have.
    Started {
        /// The watch's name.
        watch: String,
        /// The process.
        pid: u32,
        /// It had one before: a restart.
        again: bool,
    },
    /// A process of a watch is gone.
    Gone {
        /// The watch's name.
        watch: String,
        /// The process.
        pid: u32,
        /// How it ended.
        ended: Ended,
        /// How many processes the watch has left.
        left: usize,
    },
    /// A unit of systemd's failed, or is active again after that.
    Unit {
        /// The unit's name.
        unit: String,
        /// Whether it failed.
        failed: bool,
    },
}

/// The queue; clones share it.
#[derive(Clone, Debug, Default)]
pub(super) struct Notices(Arc<Mutex<VecDeque<(i64, Notice)>>>);

impl Notices {
    /// Puts a notice of `ts_ms` into the queue.
    pub(super) fn push(&self, ts_ms: i64, notice: Notice) {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.len() >= WAITING_MAX {
            waiting.pop_front();
        }
        waiting.push_back((ts_ms, notice));
    }

    /// Takes what waits, the oldest first, each with its time in milliseconds since the Unix epoch.
    pub(super) fn take(&self) -> Vec<(i64, Notice)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).drain(..).collect()
    }
}
