//! Progress of a long command: one line on a terminal that is written over, nothing elsewhere.

use std::io::{self, IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

/// The line is written this often at most.
const SPACING: Duration = Duration::from_millis(100);
const MIB: u64 = 1024 * 1024;

/// The line.
#[derive(Debug)]
pub struct Meter {
    what: &'static str,
    shown: Option<Instant>,
    is_terminal: bool,
}

impl Meter {
    /// For standard error.
    #[must_use]
    pub fn new(what: &'static str) -> Self {
        Self { what, shown: None, is_terminal: io::stderr().is_terminal() }
    }

    /// What is being done now.
    pub fn phase(&mut self, what: &'static str) {
        self.what = what;
    }

    /// So much of so much is done.
    pub fn show(&mut self, bytes: u64, total_bytes: u64) {
        if !self.is_terminal || self.shown.is_some_and(|shown| shown.elapsed() < SPACING) {
            return;
        }
        self.shown = Some(Instant::now());
        let percent = bytes.saturating_mul(100) / total_bytes.max(1);
        eprint!("\r\x1b[K{}: {percent}% of {} MiB", self.what, total_bytes.div_ceil(MIB));
        let _ = io::stderr().flush();
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        if self.shown.is_some() {
            eprint!("\r\x1b[K");
        }
    }
}
