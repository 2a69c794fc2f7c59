//! The kernel's log: what it says of processes that it killed and of disks that fail; and its counter of kills, where
//! the log may not be read.
//!
//! A record of /dev/kmsg is `priority,sequence,microseconds,flags;text`, one a read. Anybody with root may write
//! there, so that nothing of it is trusted beyond its words.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use super::{EventKind, Happening};

/// Longest record that the kernel gives, bytes.
const RECORD_MAX_BYTES: usize = 8192;
/// Most records read at once: a flood of the log must not hold up the agent.
const RECORDS_A_LOOK: usize = 2_000;
/// A device that fails says so again and again; it is told again after this, milliseconds.
const DEVICE_AGAIN_MS: i64 = 5 * 60 * 1000;
/// Most devices remembered.
const DEVICES_MAX: usize = 64;
/// Facility of what the kernel itself says: other records are written by programs.
const KERNEL_FACILITY: u32 = 0;

/// The kernel's log, read from where it was left.
pub(super) struct KernelLog {
    file: File,
    buffer: Box<[u8; RECORD_MAX_BYTES]>,
    /// Records up to this were read, in this or an earlier run.
    pub(super) seen: Option<u64>,
    devices: Vec<Device>,
    /// The control group of the process about to be killed, from the line before.
    victim: Option<(u32, String)>,
    is_trusted: fn(u32) -> bool,
}

struct Device {
    name: String,
    told_ms: i64,
    untold: u64,
}

impl KernelLog {
    /// Opens the log after record `seen` of this boot; at its end if nothing is known of it.
    pub(super) fn open(path: &Path, seen: Option<u64>) -> io::Result<Self> {
        let mut file = File::options().read(true).custom_flags(libc::O_NONBLOCK).open(path)?;
        file.seek(if seen.is_some() { SeekFrom::Start(0) } else { SeekFrom::End(0) })?;
        Ok(Self {
            file,
            buffer: Box::new([0; RECORD_MAX_BYTES]),
            seen,
            devices: Vec::new(),
            victim: None,
            is_trusted: |facility| facility == KERNEL_FACILITY,
        })
    }

    /// What it says since it was last looked at. `boot_ms` is when its time began, by the wall clock.
    pub(super) fn look(&mut self, boot_ms: i64, now_ms: i64, out: &mut Vec<Happening>) {
        for _ in 0..RECORDS_A_LOOK {
            let length = match self.file.read(&mut self.buffer[..]) {
                Ok(0) => return,
                Ok(length) => length,
                // What was overwritten before it was read is lost; the next read goes on after it.
                Err(error) if error.raw_os_error() == Some(libc::EPIPE) => continue,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(_) => return,
            };
            let text = String::from_utf8_lossy(&self.buffer[..length]).into_owned();
            let Some(record) = Record::parse(&text) else { continue };
            if self.seen.is_some_and(|seen| record.sequence <= seen) {
                continue;
            }
            self.seen = Some(record.sequence);
            if (self.is_trusted)(record.priority >> 3) {
                let time_ms = boot_ms.saturating_add(i64::try_from(record.micros / 1000).unwrap_or(0)).min(now_ms);
                self.judge(record.text, time_ms, now_ms, out);
            }
        }
    }

    fn judge(&mut self, text: &str, time_ms: i64, now_ms: i64, out: &mut Vec<Happening>) {
        if let Some(victim) = oom_victim(text) {
            self.victim = Some(victim);
        } else if let Some(killed) = Killed::parse(text) {
            let group = self.victim.take().filter(|(pid, _)| *pid == killed.pid).map(|(_, group)| group);
            out.push(killed.happening(group, time_ms));
        } else if let Some(device) = failing_device(text) {
            self.disk_error(device, text, time_ms, now_ms, out);
        }
    }

    fn disk_error(&mut self, name: &str, text: &str, time_ms: i64, now_ms: i64, out: &mut Vec<Happening>) {
        let at = match self.devices.iter().position(|device| device.name == name) {
            Some(at) => at,
            None => {
                if self.devices.len() >= DEVICES_MAX {
                    self.devices.remove(0);
                }
                let told_ms = now_ms.saturating_sub(DEVICE_AGAIN_MS);
                self.devices.push(Device { name: name.to_owned(), told_ms, untold: 0 });
                self.devices.len() - 1
            }
        };
        let device = &mut self.devices[at];
        if (0..DEVICE_AGAIN_MS).contains(&now_ms.saturating_sub(device.told_ms)) {
            device.untold += 1;
            return;
        }
        device.told_ms = now_ms;
        let mut happening = Happening::new(EventKind::DiskError, time_ms, text.trim()).with("device", name);
        let untold = std::mem::take(&mut device.untold);
        if untold > 0 {
            happening = happening.with("errors_since", untold.to_string());
        }
        out.push(happening);
    }
}

/// One record of the log.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Record<'a> {
    priority: u32,
    sequence: u64,
    micros: u64,
    text: &'a str,
}

impl<'a> Record<'a> {
    pub(super) fn parse(record: &'a str) -> Option<Self> {
        let (head, rest) = record.split_once(';')?;
        let mut fields = head.split(',');
        let priority = fields.next()?.parse().ok()?;
        let sequence = fields.next()?.parse().ok()?;
        let micros = fields.next()?.parse().ok()?;
        // What follows the first line are details by name.
        Some(Self { priority, sequence, micros, text: rest.split('\n').next().unwrap_or_default() })
    }
}

/// A process that was killed for want of memory.
#[derive(Debug, PartialEq, Eq)]
struct Killed<'a> {
    pid: u32,
    name: &'a str,
    in_group: bool,
    resident_kib: Option<u64>,
}

impl<'a> Killed<'a> {
    /// `Out of memory: Killed process 4711 (mysqld) total-vm:…kB, anon-rss:123kB, …`, with `Memory cgroup ` before it if a
    /// group's own limit was reached.
    fn parse(text: &'a str) -> Option<Self> {
        let (before, rest) = text.split_once("ut of memory: Killed process ")?;
        let (pid, rest) = rest.split_once(" (")?;
        let (name, rest) = rest.split_once(')')?;
        let resident = rest.split_once("anon-rss:").and_then(|(_, rest)| rest.split_once("kB")?.0.parse().ok());
        let in_group = before.starts_with("Memory cgroup");
        Some(Self { pid: pid.parse().ok()?, name, in_group, resident_kib: resident })
    }

    fn happening(&self, group: Option<String>, time_ms: i64) -> Happening {
        let why =
            if self.in_group { "its control group reached its memory limit" } else { "the host ran out of memory" };
        let summary = format!("the kernel killed {} (pid {}): {why}", self.name, self.pid);
        let mut happening = Happening::new(EventKind::OomKill, time_ms, summary)
            .with("name", self.name)
            .with("pid", self.pid.to_string())
            .with("scope", if self.in_group { "cgroup" } else { "host" });
        if let Some(kib) = self.resident_kib {
            happening = happening.with("resident_bytes", kib.saturating_mul(1024).to_string());
        }
        if let Some(group) = group {
            happening = happening.with("cgroup", group);
        }
        happening
    }
}

/// `oom-kill:constraint=…,task_memcg=/system.slice/db.service,task=mysqld,pid=4711,uid=0`: the process and its group.
fn oom_victim(text: &str) -> Option<(u32, String)> {
    let fields = text.strip_prefix("oom-kill:")?;
    let field = |name: &str| fields.split(',').find_map(|field| field.strip_prefix(name)?.strip_prefix('='));
    Some((field("pid")?.parse().ok()?, field("task_memcg")?.to_owned()))
}

/// The device that a line complains of, if it complains of one.
fn failing_device(text: &str) -> Option<&str> {
    const PHRASES: [&str; 7] = [
        "I/O error, dev ",
        "I/O error on dev ",
        "medium error, dev ",
        "target error, dev ",
        "timeout error, dev ",
        "EXT4-fs error (device ",
        "BTRFS error (device ",
    ];
    let rest = PHRASES.iter().find_map(|phrase| Some(text.split_once(phrase)?.1)).or_else(|| {
        let rest = text.strip_prefix("XFS (")?;
        let bad = ["orruption", "I/O error", "shutdown"].iter().any(|word| text.contains(word));
        bad.then_some(rest)
    })?;
    let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && !matches!(c, '-' | '_' | '!' | '/' | '.'));
    let name = &rest[..end.unwrap_or(rest.len())];
    (!name.is_empty()).then_some(name)
}

/// `oom_kill` of /proc/vmstat.
pub(super) fn oom_kills(vmstat: &str) -> Option<u64> {
    vmstat.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn records_are_read() {
        let record = Record::parse("6,339,5140900,-;NET: Registered\n SUBSYSTEM=net\n").unwrap();
        assert_eq!(record, Record { priority: 6, sequence: 339, micros: 5_140_900, text: "NET: Registered" });
        assert_eq!(Record::parse("nonsense"), None);
    }

    fn log() -> KernelLog {
        KernelLog {
            file: File::open("/dev/null").unwrap(),
            buffer: Box::new([0; RECORD_MAX_BYTES]),
            seen: None,
            devices: Vec::new(),
            victim: None,
            is_trusted: |_| true,
        }
    }

    #[test]
    fn a_kill_is_told_with_its_group() {
        let (mut log, mut out) = (log(), Vec::new());
        log.judge(
            "oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=/,mems_allowed=0,oom_memcg=/db,\
             task_memcg=/system.slice/db.service,task=mysqld,pid=4711,uid=107",
            1,
            1,
            &mut out,
        );
        log.judge(
            "Memory cgroup out of memory: Killed process 4711 (mysqld) total-vm:900kB, anon-rss:512kB, file-rss:0kB",
            2,
            2,
            &mut out,
        );
        log.judge("Out of memory: Killed process 12 (a b) total-vm:1kB", 3, 3, &mut out);
        let said: Vec<&str> = out.iter().map(|happening| &*happening.summary).collect();
        assert_eq!(
            said,
            [
                "the kernel killed mysqld (pid 4711): its control group reached its memory limit",
                "the kernel killed a b (pid 12): the host ran out of memory",
            ]
        );
        let labels: Vec<String> = out[0].labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
        assert_eq!(
            labels.join(" "),
            "name=mysqld pid=4711 scope=cgroup resident_bytes=524288 cgroup=/system.slice/db.service"
        );
    }

    #[test]
    fn failing_disks_are_known_by_their_words() {
        for (text, device) in [
            ("blk_update_request: I/O error, dev sda, sector 1953 op 0x0:(READ)", Some("sda")),
            ("I/O error, dev nvme0n1, sector 8 op 0x1:(WRITE) flags 0x800", Some("nvme0n1")),
            ("Buffer I/O error on dev dm-0, logical block 1, async page read", Some("dm-0")),
            ("critical medium error, dev sdb, sector 4711", Some("sdb")),
            ("EXT4-fs error (device sda1): ext4_find_entry:1455: inode #2: comm ls", Some("sda1")),
            ("BTRFS error (device sdc1 state EA): open_ctree failed", Some("sdc1")),
            ("XFS (sdd1): Corruption detected. Unmount and run xfs_repair", Some("sdd1")),
            ("XFS (sdd1): Mounting V5 Filesystem", None),
            ("sd 0:0:0:0: [sda] Attached SCSI disk", None),
        ] {
            assert_eq!(failing_device(text), device, "{text}");
        }
    }

    #[test]
    fn a_disk_that_goes_on_failing_is_told_now_and_then() {
        let (mut log, mut out) = (log(), Vec::new());
        for second in 0..400 {
            log.judge("I/O error, dev sda, sector 1", second * 1000, second * 1000, &mut out);
        }
        log.judge("I/O error, dev sdb, sector 1", 0, 0, &mut out);
        assert_eq!(out.len(), 3);
        assert_eq!(out[1].labels[1], ("errors_since", "299".to_owned()));
    }

    #[test]
    fn the_counter_of_kills_is_found() {
        assert_eq!(oom_kills("pgfault 1\noom_kill 17\nx 3\n"), Some(17));
        assert_eq!(oom_kills("oom_killer 17\n"), None);
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_left(text in "\\PC*", words in "(oom-kill:|Out of memory: Killed process |I/O error, dev |,|pid=|\\(|\\)| |3|;)*") {
            let (mut log, mut out) = (log(), Vec::new());
            let _ = Record::parse(&text);
            log.judge(&text, 1, 1, &mut out);
            log.judge(&words, 1, 1, &mut out);
            let _ = oom_kills(&text);
        }
    }
}
