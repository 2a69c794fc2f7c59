//! What is looked at every second for events. Each look costs a few system calls and never waits.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tracing::{info, warn};

use super::boot::{ClockWatch, Left, boot_id, boot_ms};
use super::kernel::{KernelLog, oom_kills};
use super::mounts::Mounts;
use super::{EventKind, Happening};

/// How often [`Watch::look`] wants to be called.
pub const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Mounts are read at every so many looks.
const MOUNTS_EVERY: u32 = 10;
/// The file of what is known of this run is written at every so many looks, and when the kernel's log said something.
const SAVE_EVERY: u32 = 30;

/// Everything that is watched for events.
pub struct Watch {
    dir: PathBuf,
    proc_root: PathBuf,
    log: Option<KernelLog>,
    /// Where the kernel's log may not be read.
    oom_kills: Option<u64>,
    mounts: Mounts,
    clock: ClockWatch,
    left: Left,
    looks: u32,
    first: Vec<Happening>,
}

impl Watch {
    /// Begins to watch; `dir` is where the last run left what it knew. `root` is the host's.
    #[must_use]
    pub fn new(dir: &Path, proc_root: &Path, root: &Path, now_ms: i64) -> Self {
        let boot = boot_id(proc_root).unwrap_or_else(|| "unknown".to_owned());
        let last = Left::load(dir);
        let rebooted = last.as_ref().and_then(|left| left.reboot(&boot, boot_ms(now_ms)));
        // After a restart all that this boot's log says is news.
        let seen = match (&last, &rebooted) {
            (Some(_), Some(_)) => Some(0),
            (Some(left), None) => left.log_seen,
            (None, _) => None,
        };
        let path = root.join("dev/kmsg");
        let log = KernelLog::open(&path, seen)
            .inspect_err(|error| {
                info!(
                    path = %path.display(),
                    %error,
                    "the kernel's log may not be read, so that disk errors are not told and OOM kills only counted: \
                     run as root, or give the agent CAP_SYSLOG"
                );
            })
            .ok();
        let left = Left { boot_id: boot, alive_ms: now_ms, stopped: false, log_seen: seen };
        let watch = Self {
            dir: dir.to_owned(),
            proc_root: proc_root.to_owned(),
            log,
            oom_kills: None,
            mounts: Mounts::default(),
            clock: ClockWatch::default(),
            left,
            looks: 0,
            first: rebooted.into_iter().collect(),
        };
        watch.save();
        watch
    }

    /// Looks at everything that is due; gives what happened.
    pub fn look(&mut self, now_ms: i64) -> Vec<Happening> {
        let mut out = std::mem::take(&mut self.first);
        self.clock.look(&mut out);
        match &mut self.log {
            Some(log) => log.look(boot_ms(now_ms), now_ms, &mut out),
            None => self.count_kills(now_ms, &mut out),
        }
        if self.looks.is_multiple_of(MOUNTS_EVERY)
            && let Ok(mountinfo) = fs::read_to_string(self.proc_root.join("self/mountinfo"))
        {
            self.mounts.look(&mountinfo, now_ms, &mut out);
        }
        let seen = self.log.as_ref().and_then(|log| log.seen);
        if !out.is_empty() || self.looks.is_multiple_of(SAVE_EVERY) {
            self.left.alive_ms = now_ms;
            self.left.log_seen = seen.or(self.left.log_seen);
            self.save();
        }
        self.looks = self.looks.wrapping_add(1);
        out
    }

    /// The agent ends in order.
    pub fn stop(mut self, now_ms: i64) {
        self.left.alive_ms = now_ms;
        self.left.stopped = true;
        self.left.log_seen = self.log.as_ref().and_then(|log| log.seen).or(self.left.log_seen);
        self.save();
    }

    fn count_kills(&mut self, now_ms: i64, out: &mut Vec<Happening>) {
        let vmstat = fs::read_to_string(self.proc_root.join("vmstat")).ok();
        let Some(kills) = vmstat.as_deref().and_then(oom_kills) else { return };
        let before = self.oom_kills.replace(kills).unwrap_or(kills);
        let more = kills.saturating_sub(before);
        if more > 0 {
            let what = if more == 1 { "a process".to_owned() } else { format!("{more} processes") };
            let summary =
                format!("the kernel killed {what} for want of memory; its log, which names them, may not be read");
            out.push(Happening::new(EventKind::OomKill, now_ms, summary).with("processes", more.to_string()));
        }
    }

    fn save(&self) {
        if let Err(error) = self.left.save(&self.dir) {
            warn!("what is known of this boot cannot be kept: {error}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Host(tempfile::TempDir);

    impl Host {
        fn new(boot: &str, kills: u32) -> Self {
            let host = Self(tempfile::tempdir().unwrap());
            fs::create_dir_all(host.path("proc/sys/kernel/random")).unwrap();
            fs::create_dir_all(host.path("proc/self")).unwrap();
            fs::create_dir_all(host.path("data")).unwrap();
            host.boot(boot);
            host.kills(kills);
            fs::write(host.path("proc/self/mountinfo"), "9 1 8:1 / / rw - ext4 /dev/sda1 rw\n").unwrap();
            host
        }

        fn path(&self, path: &str) -> PathBuf {
            self.0.path().join(path)
        }

        fn boot(&self, id: &str) {
            fs::write(self.path("proc/sys/kernel/random/boot_id"), format!("{id}\n")).unwrap();
        }

        fn kills(&self, count: u32) {
            fs::write(self.path("proc/vmstat"), format!("oom_kill {count}\n")).unwrap();
        }

        fn watch(&self) -> Watch {
            Watch::new(&self.path("data"), &self.path("proc"), self.0.path(), 1_000_000_000_000)
        }
    }

    fn kinds(happenings: &[Happening]) -> Vec<&'static str> {
        happenings.iter().map(|happening| happening.kind.as_str()).collect()
    }

    #[test]
    fn restarts_kills_and_filesystems_are_told() {
        let host = Host::new("one", 5);
        let mut watch = host.watch();
        assert_eq!(kinds(&watch.look(1_000_000_000_000)), [""; 0]);
        host.kills(7);
        let told = watch.look(1_000_000_001_000);
        assert_eq!(kinds(&told), ["oom_kill"]);
        assert!(told[0].summary.starts_with("the kernel killed 2 processes"), "{}", told[0].summary);
        fs::write(host.path("proc/self/mountinfo"), "9 1 8:1 / / ro - ext4 /dev/sda1 ro\n").unwrap();
        let told: Vec<_> = (0..MOUNTS_EVERY).flat_map(|_| watch.look(1_000_000_002_000)).collect();
        assert_eq!(kinds(&told), ["filesystem_readonly"]);
        drop(watch);
        assert_eq!(kinds(&host.watch().look(0)), [""; 0], "the same boot");
        host.boot("two");
        let mut watch = host.watch();
        let told = watch.look(0);
        assert_eq!((kinds(&told), &*told[0].labels[0].1), (vec!["reboot"], "false"));
        watch.stop(1);
        host.boot("three");
        assert_eq!(host.watch().look(0)[0].labels[0].1, "true");
    }
}
