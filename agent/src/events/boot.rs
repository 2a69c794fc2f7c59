//! Restarts of the host, and steps of its wall clock.
//!
//! What is known of the last run stands in one line of a file: the boot's id, when the agent was last alive, whether it was
//! stopped in order, and how far the kernel's log was read.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rustix::time::{ClockId, clock_gettime};

use super::{EventKind, Happening};

const FILE: &str = "boot";
/// A step of the wall clock below this is not told, milliseconds: a clock that is slewed moves half a millisecond a
/// second.
const STEP_MIN_MS: i64 = 500;

/// What the last run left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Left {
    pub(super) boot_id: String,
    pub(super) alive_ms: i64,
    pub(super) stopped: bool,
    pub(super) log_seen: Option<u64>,
}

impl Left {
    /// Reads it; none at the first start.
    pub(super) fn load(dir: &Path) -> Option<Self> {
        Self::parse(&fs::read_to_string(dir.join(FILE)).ok()?)
    }

    fn parse(text: &str) -> Option<Self> {
        let mut words = text.split_whitespace();
        Some(Self {
            boot_id: words.next()?.to_owned(),
            alive_ms: words.next()?.parse().ok()?,
            stopped: words.next()? == "stopped",
            log_seen: words.next()?.parse().ok(),
        })
    }

    /// Writes it. It need not survive a power cut: what is older then tells of an earlier moment.
    pub(super) fn save(&self, dir: &Path) -> io::Result<()> {
        let seen = self.log_seen.map_or("-".to_owned(), |seen| seen.to_string());
        let word = if self.stopped { "stopped" } else { "running" };
        let new = dir.join("boot.new");
        fs::write(&new, format!("{} {} {word} {seen}\n", self.boot_id, self.alive_ms))?;
        fs::rename(&new, dir.join(FILE))
    }

    /// The event, if the host was restarted since. `boot_ms` is when it was.
    pub(super) fn reboot(&self, boot_id: &str, boot_ms: i64) -> Option<Happening> {
        if self.boot_id == boot_id {
            return None;
        }
        let down_secs = boot_ms.saturating_sub(self.alive_ms).max(0) / 1000;
        let how = match self.stopped {
            true => "the host was restarted",
            false => "the host was restarted without a stop: a crash, a reset or a power cut",
        };
        let summary = format!("{how}; nothing was heard of it for {down_secs} s before");
        let happening = Happening::new(EventKind::Reboot, boot_ms, summary)
            .with("clean", self.stopped.to_string())
            .with("down_seconds", down_secs.to_string());
        Some(happening)
    }
}

/// This boot's id.
pub(super) fn boot_id(proc_root: &Path) -> Option<String> {
    let path: PathBuf = proc_root.join("sys/kernel/random/boot_id");
    let id = fs::read_to_string(path).ok()?.trim().to_owned();
    (!id.is_empty() && id.len() <= 64 && id.bytes().all(|byte| byte.is_ascii_graphic())).then_some(id)
}

/// When the host was started, by the wall clock as it is now.
pub(super) fn boot_ms(now_ms: i64) -> i64 {
    now_ms.saturating_sub(millis(ClockId::Boottime))
}

fn millis(clock: ClockId) -> i64 {
    let at = clock_gettime(clock);
    at.tv_sec.saturating_mul(1000).saturating_add(at.tv_nsec / 1_000_000)
}

/// Notices that the wall clock was set: it moved against the clock that counts since the boot.
#[derive(Debug, Default)]
pub(super) struct ClockWatch {
    offset_ms: Option<i64>,
}

impl ClockWatch {
    /// Reads both clocks.
    pub(super) fn look(&mut self, out: &mut Vec<Happening>) {
        let (boot_ms, now_ms) = (millis(ClockId::Boottime), millis(ClockId::Realtime));
        self.compare(boot_ms, now_ms, out);
    }

    fn compare(&mut self, boot_ms: i64, now_ms: i64, out: &mut Vec<Happening>) {
        let offset_ms = now_ms.saturating_sub(boot_ms);
        let step_ms = offset_ms.saturating_sub(self.offset_ms.unwrap_or(offset_ms));
        self.offset_ms = Some(offset_ms);
        if step_ms.saturating_abs() < STEP_MIN_MS {
            return;
        }
        let (step_secs, way) = (step_ms as f64 / 1000.0, if step_ms > 0 { "forward" } else { "back" });
        let summary = format!("the wall clock was set {way} by {:.3} s", step_secs.abs());
        let happening =
            Happening::new(EventKind::ClockStep, now_ms, summary).with("step_seconds", format!("{step_secs:.3}"));
        out.push(happening);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_restart_is_told_with_how_it_came() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Left::load(dir.path()), None);
        let mut left = Left { boot_id: "a-1".into(), alive_ms: 10_000, stopped: false, log_seen: Some(7) };
        left.save(dir.path()).unwrap();
        assert_eq!(Left::load(dir.path()), Some(left.clone()));
        assert_eq!(left.reboot("a-1", 20_000), None);
        let happening = left.reboot("b-2", 22_500).unwrap();
        let said = "the host was restarted without a stop: a crash, a reset or a power cut; nothing was heard of it \
                    for 12 s before";
        assert_eq!((happening.time_ms, &*happening.summary), (22_500, said));
        left.stopped = true;
        left.log_seen = None;
        left.save(dir.path()).unwrap();
        assert_eq!(Left::load(dir.path()), Some(left.clone()));
        assert!(left.reboot("b-2", 0).unwrap().summary.starts_with("the host was restarted; nothing"));
        assert_eq!(Left::parse("torn"), None);
    }

    #[test]
    fn a_clock_that_is_set_is_told_and_one_that_drifts_is_not() {
        let (mut clock, mut out) = (ClockWatch::default(), Vec::new());
        for (boot_ms, now_ms) in [(0, 1_000_000), (1000, 1_001_100), (2000, 1_002_000), (3000, 1_062_000)] {
            clock.compare(boot_ms, now_ms, &mut out);
        }
        clock.compare(4000, 1_003_000, &mut out);
        let said: Vec<&str> = out.iter().map(|happening| &*happening.summary).collect();
        assert_eq!(said, ["the wall clock was set forward by 59.000 s", "the wall clock was set back by 60.000 s"]);
        clock.look(&mut out);
    }
}
