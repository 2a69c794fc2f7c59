//! The processes that use most CPU, memory, IO, open files and threads: who did it; and the watch list.
//!
//! Every pass lists /proc and reads /proc/PID/stat. A process that used no CPU in its last [`IDLE_AFTER_READS`] reads
//! is read only every [`IDLE_EVERY_PASSES`]th pass (its memory cannot grow without CPU), by pid in turn, so that a
//! host of thousands of sleeping processes costs what its busy ones cost. `sysinfo` is not used for this: with 2,000
//! sleeping processes on a 2-core virtual machine its scan took 104 ms of CPU (2.1% of a core at 5 s) and 1.9 MiB, a
//! full pass of ours 31 ms, a usual one 7.5 ms (0.15%); `examples/gather_cost.rs` measures both. IO is asked only of
//! processes that used CPU, and descriptors are counted by the kernel (Linux 6.2 and later).
//!
//! Series, and how they are kept few: a process gets its series when it is among the first `process_top` by CPU or by
//! memory, or among half as many by IO, open files or threads, and keeps them until it has been outside of all for
//! [`HOLD_PASSES`] passes, or ended. At most [`TRACKED_PER_TOP`] × `process_top` have series at once; the one that has
//! been outside longest makes room. All metrics are given for each, whichever it came by. A process that begins and
//! ends between two passes is not seen.
//!
//! In reading order: `stat` reads a process's files, `redact` makes a text of its command line, `watch` is the watch
//! list, `exit` how a process ended.

mod exit;
mod redact;
mod stat;
mod watch;

use std::mem::MaybeUninit;
use std::path::{Path, PathBuf};

use rustix::fd::OwnedFd;
use rustix::fs::{Mode, OFlags, RawDir, SeekFrom};
use rustix::io::Errno;

use self::stat::{STAT_BYTES, Stat, TEXT_BYTES, parse_stat};
use self::watch::Watches;
use super::cpu::TICKS_PER_SEC;
use super::metric::Metric;
use super::notices::Notices;
use super::parse;
use super::source::{Pass, Sink, Source, SourceError};
use super::table::Handle;

pub(super) use self::watch::METRICS as WATCH;
pub use self::watch::{Pattern, WATCHES_MAX, WatchBy, WatchConfig};

/// Most processes looked at; more are not, and counted as an error.
const PROCESSES_MAX: usize = 100_000;
/// Longest name taken, in bytes; a worker thread of the kernel's has up to 64.
const NAME_MAX_BYTES: usize = 64;
/// What is kept of every process's name, in bytes: as much as the kernel keeps.
const COMM_BYTES: usize = 16;
/// Bytes of /proc's listing read at a time.
const LISTING_BYTES: usize = 8 * 1024;
/// Reads without CPU time after which a process is idle.
const IDLE_AFTER_READS: u8 = 2;
/// How often an idle process is read, in passes.
pub(super) const IDLE_EVERY_PASSES: u32 = 4;
/// How long a process keeps its series outside of the top, in passes.
pub(super) const HOLD_PASSES: u32 = 12;
/// How many processes have series at most, for each of the top's places.
pub(super) const TRACKED_PER_TOP: usize = 4;
/// Less CPU than this makes nobody a top user: one tick in ten seconds.
const RATIO_MIN: f64 = 0.001;
/// Less IO than this makes nobody a top user, bytes a second.
const IO_MIN: f64 = 1024.0;
/// Fewer threads than this make nobody a top user.
const THREADS_MIN: f64 = 2.0;

const LABELS: &[&str] = &["name", "pid"];

/// What this source gives; the first five of every top process.
pub(super) static METRICS: [Metric; 7] = [
    Metric::gauge(
        "pitwatch_process_cpu_ratio",
        "cores",
        "/proc/PID/stat",
        "CPU time a second of a top process since it was last read; 1 is a whole core.",
    )
    .by(LABELS),
    Metric::gauge(
        "pitwatch_process_resident_memory_bytes",
        "bytes",
        "/proc/PID/stat",
        "Memory of a top process that is in RAM, shared pages included.",
    )
    .by(LABELS),
    Metric::gauge(
        "pitwatch_process_io_bytes_per_second",
        "bytes a second",
        "/proc/PID/io",
        "What a top process read from disks and wrote to them.",
    )
    .by(LABELS),
    Metric::gauge("pitwatch_process_open_files", "files", "/proc/PID/fd", "Descriptors of a top process.").by(LABELS),
    Metric::gauge("pitwatch_process_threads", "threads", "/proc/PID/stat", "Threads of a top process.").by(LABELS),
    Metric::gauge(
        "pitwatch_process_info",
        "",
        "/proc/PID/cmdline",
        "The command line of a top process, secrets hidden; always 1. Not given with `command_lines = false`.",
    )
    .by(&["command", "name", "pid"]),
    Metric::gauge("pitwatch_processes", "processes", "/proc", "Processes of the host."),
];
/// Amounts by which processes are ranked, in the order of their metrics.
const AMOUNTS: usize = 5;
const INFO: usize = 5;
const COUNT: usize = 6;

/// A process, as last read.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Process {
    pid: u32,
    /// With the pid, its identity: pids come again.
    start_ticks: u64,
    comm: [u8; COMM_BYTES],
    cpu_ticks: u64,
    read_ms: u64,
    /// Of the disks; `None` until it was asked, and where it may not be known.
    io_bytes: Option<u64>,
    /// NaN where it is not known: a share of a CPU, for one, until it was read twice.
    amounts: [f64; AMOUNTS],
    idle_reads: u8,
    tracked: bool,
    /// It ended, and its parent has not taken note.
    zombie: bool,
    /// Bits of the watches that it belongs to.
    watches: u64,
}

/// A process with series.
struct Tracked {
    pid: u32,
    start_ticks: u64,
    name: String,
    label: String,
    command: String,
    outside_passes: u32,
    handles: [Handle; AMOUNTS],
    info: Handle,
}

/// The processes of /proc.
pub(super) struct Processes {
    root: PathBuf,
    dir: Option<OwnedFd>,
    top: usize,
    command_lines: bool,
    page_bytes: f64,
    began: Option<std::time::Instant>,
    pass: u32,
    last_pass_ms: u64,
    pids: Vec<u32>,
    /// Of the last pass and of this one, ascending by pid.
    known: Vec<Process>,
    next: Vec<Process>,
    tracked: Vec<Tracked>,
    ranks: [Vec<(f64, u32)>; AMOUNTS],
    watches: Watches,
    count: Handle,
}

impl Processes {
    pub(super) fn new(
        proc_root: &Path,
        root: &Path,
        top: usize,
        command_lines: bool,
        watches: &[WatchConfig],
        notices: Notices,
    ) -> Self {
        Self {
            root: proc_root.to_owned(),
            dir: None,
            top,
            command_lines,
            page_bytes: rustix::param::page_size() as f64,
            began: None,
            pass: 0,
            last_pass_ms: 0,
            pids: Vec::new(),
            known: Vec::new(),
            next: Vec::new(),
            tracked: Vec::new(),
            ranks: Default::default(),
            watches: Watches::new(proc_root, root, watches, notices),
            count: Handle::default(),
        }
    }
}

impl Source for Processes {
    fn name(&self) -> &'static str {
        "processes"
    }

    fn gather(&mut self, pass: &mut Pass<'_>) -> Result<(), SourceError> {
        let now = pass.now.monotonic;
        let now_ms = now.saturating_duration_since(*self.began.get_or_insert(now)).as_millis() as u64;
        self.list(&mut pass.sink)?;
        self.read_all(now_ms, &mut pass.sink);
        self.rank();
        self.track();
        for tracked in &mut self.tracked {
            let Ok(at) = self.known.binary_search_by_key(&tracked.pid, |process| process.pid) else { continue };
            tracked.set(&self.known[at], &mut pass.sink);
        }
        pass.sink.set(&mut self.count, &METRICS[COUNT], &[], Some(self.known.len() as f64));
        self.watches.follow(&mut self.known, self.dir.as_ref(), pass);
        self.pass = self.pass.wrapping_add(1);
        self.last_pass_ms = now_ms;
        Ok(())
    }
}

impl Processes {
    /// Lists the pids, ascending.
    fn list(&mut self, sink: &mut Sink<'_>) -> Result<(), SourceError> {
        let failed = |error: Errno| SourceError::Read { path: self.root.clone(), source: error.into() };
        self.pids.clear();
        let dir = match &self.dir {
            Some(dir) => dir,
            None => {
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
                self.dir.insert(rustix::fs::open(&self.root, flags, Mode::empty()).map_err(failed)?)
            }
        };
        rustix::fs::seek(dir, SeekFrom::Start(0)).map_err(failed)?;
        let mut buffer = [MaybeUninit::uninit(); LISTING_BYTES];
        let mut listing = RawDir::new(dir, &mut buffer);
        while let Some(entry) = listing.next() {
            let entry = entry.map_err(failed)?;
            let Some(pid) = parse::whole(entry.file_name().to_bytes()).and_then(|pid| u32::try_from(pid).ok()) else {
                continue;
            };
            if self.pids.len() >= PROCESSES_MAX {
                sink.malformed += 1;
                break;
            }
            self.pids.push(pid);
        }
        if !self.pids.is_sorted() {
            self.pids.sort_unstable();
        }
        Ok(())
    }

    /// Brings `known` up to date: new processes, those that ended, and what the others used.
    fn read_all(&mut self, now_ms: u64, sink: &mut Sink<'_>) {
        let Some(dir) = &self.dir else { return };
        self.next.clear();
        let look = Look {
            dir,
            now_ms,
            // In the first pass nothing is known of when a process began to use what it used.
            since_last_pass_ms: (self.pass > 0).then(|| now_ms.saturating_sub(self.last_pass_ms)),
            page_bytes: self.page_bytes,
        };
        let mut old = self.known.iter().copied().peekable();
        for &pid in &self.pids {
            while old.next_if(|process| process.pid < pid).is_some() {}
            let before = old.next_if(|process| process.pid == pid);
            let followed = |process: &Process| process.tracked || process.watches != 0;
            let idle = before.filter(|process| !followed(process) && process.idle_reads >= IDLE_AFTER_READS);
            if let Some(process) = idle.filter(|_| pid.wrapping_add(self.pass) % IDLE_EVERY_PASSES != 0) {
                self.next.push(process);
                continue;
            }
            let mut buffer = [0; STAT_BYTES];
            match stat::read(dir, pid, "stat", &mut buffer) {
                Ok(Some(text)) => match parse_stat(text) {
                    Some(stat) => self.next.push(look.process(pid, before, &stat, &self.watches)),
                    None => sink.malformed += 1,
                },
                // It ended meanwhile.
                Ok(None) => {}
                Err(_) => sink.malformed += 1,
            }
        }
        std::mem::swap(&mut self.known, &mut self.next);
    }

    /// Finds the first by each amount, as (amount, pid).
    fn rank(&mut self) {
        let half = self.top.div_ceil(2);
        let places = [(self.top, RATIO_MIN), (self.top, 1.0), (half, IO_MIN), (half, 1.0), (half, THREADS_MIN)];
        for (at, (rank, (top, least))) in self.ranks.iter_mut().zip(places).enumerate() {
            rank.clear();
            for process in &self.known {
                // NaN is not known to be large.
                if process.amounts[at] >= least {
                    place(rank, process.amounts[at], process.pid, top);
                }
            }
        }
    }

    /// Brings `tracked` up to date with the ranks.
    fn track(&mut self) {
        let (ranks, known) = (&self.ranks, &self.known);
        let find = |pid: u32| known.binary_search_by_key(&pid, |process| process.pid).ok();
        self.tracked.retain_mut(|tracked| {
            let ranked = ranks.iter().flatten().any(|(_, pid)| *pid == tracked.pid);
            tracked.outside_passes = if ranked { 0 } else { tracked.outside_passes + 1 };
            let alive = find(tracked.pid).is_some_and(|at| known[at].start_ticks == tracked.start_ticks);
            alive && tracked.outside_passes <= HOLD_PASSES
        });
        for &(_, pid) in ranks.iter().flatten() {
            if self.tracked.iter().any(|tracked| tracked.pid == pid) {
                continue;
            }
            let begun = self.dir.as_ref().and_then(|dir| Tracked::begin(dir, pid, self.command_lines));
            let Some(tracked) = begun else { continue };
            if self.tracked.len() >= self.top * TRACKED_PER_TOP {
                let Some(longest) = (0..self.tracked.len()).max_by_key(|at| self.tracked[*at].outside_passes) else {
                    continue;
                };
                self.tracked.swap_remove(longest);
            }
            self.tracked.push(tracked);
        }
        for process in &mut self.known {
            process.tracked = false;
        }
        for tracked in &self.tracked {
            if let Ok(at) = self.known.binary_search_by_key(&tracked.pid, |process| process.pid) {
                self.known[at].tracked = true;
            }
        }
    }
}

/// What is the same for all processes that are read in a pass.
struct Look<'d> {
    dir: &'d OwnedFd,
    now_ms: u64,
    since_last_pass_ms: Option<u64>,
    page_bytes: f64,
}

impl Look<'_> {
    /// A process by its stat, against what was read of it before.
    fn process(&self, pid: u32, before: Option<Process>, stat: &Stat<'_>, watches: &Watches) -> Process {
        let before = before.filter(|process| process.start_ticks == stat.start_ticks);
        let (used_ticks, over_ms) = match before {
            Some(process) => {
                (stat.cpu_ticks.saturating_sub(process.cpu_ticks), Some(self.now_ms.saturating_sub(process.read_ms)))
            }
            // New since the last pass: all that it used, it used since then.
            None => (stat.cpu_ticks, self.since_last_pass_ms),
        };
        let over_secs = over_ms.filter(|over_ms| *over_ms > 0).map(|over_ms| over_ms as f64 / 1000.0);
        let a_second = |amount: f64| over_secs.map_or(f64::NAN, |secs| amount / secs);
        let mut comm = [0; COMM_BYTES];
        let kept = stat.name.len().min(COMM_BYTES);
        comm[..kept].copy_from_slice(&stat.name[..kept]);
        // Without CPU there was no IO.
        let io_before = before.map(|process| process.io_bytes);
        let io_bytes = match io_before {
            Some(io_bytes) if used_ticks == 0 => io_bytes,
            _ => stat::io_bytes(self.dir, pid),
        };
        let io_used = match (io_before, io_bytes) {
            (_, None) | (Some(None), _) => f64::NAN,
            (Some(Some(before)), Some(now)) => now.saturating_sub(before) as f64,
            (None, Some(now)) => now as f64,
        };
        // An exec makes another program of a process: it may be a watched one.
        let same = before.filter(|process| process.comm == comm);
        let watches = same.map_or_else(|| watches.of(self.dir, pid, &comm), |process| process.watches);
        Process {
            pid,
            start_ticks: stat.start_ticks,
            comm,
            cpu_ticks: stat.cpu_ticks,
            read_ms: self.now_ms,
            io_bytes,
            amounts: [
                a_second(used_ticks as f64 / TICKS_PER_SEC),
                stat.memory_pages as f64 * self.page_bytes,
                a_second(io_used),
                stat::open_files(self.dir, pid).map_or(f64::NAN, f64::from),
                f64::from(stat.threads),
            ],
            idle_reads: match used_ticks {
                0 => before.map_or(0, |process| process.idle_reads).saturating_add(1),
                _ => 0,
            },
            tracked: false,
            zombie: matches!(stat.state, b'Z' | b'X'),
            watches,
        }
    }
}

impl Tracked {
    fn begin(dir: &OwnedFd, pid: u32, command_lines: bool) -> Option<Self> {
        let mut buffer = [0; STAT_BYTES];
        let stat = parse_stat(stat::read(dir, pid, "stat", &mut buffer).ok().flatten()?)?;
        let mut raw = [0; TEXT_BYTES];
        let raw = if command_lines { stat::read(dir, pid, "cmdline", &mut raw).ok().flatten() } else { None };
        Some(Self {
            pid,
            start_ticks: stat.start_ticks,
            name: parse::text(stat.name, NAME_MAX_BYTES),
            label: pid.to_string(),
            command: raw.map(redact::command).unwrap_or_default(),
            outside_passes: 0,
            handles: Default::default(),
            info: Handle::default(),
        })
    }

    fn set(&mut self, process: &Process, sink: &mut Sink<'_>) {
        let labels = [("name", self.name.as_str()), ("pid", &self.label)];
        for ((handle, metric), amount) in self.handles.iter_mut().zip(&METRICS).zip(process.amounts) {
            if !amount.is_nan() {
                sink.set(handle, metric, &labels, Some(amount));
            }
        }
        // Threads of the kernel's have none.
        if !self.command.is_empty() {
            let labels = [("command", self.command.as_str()), labels[0], labels[1]];
            sink.set(&mut self.info, &METRICS[INFO], &labels, Some(1.0));
        }
    }
}

/// Puts an amount into its place of a descending list of at most `top`.
fn place(rank: &mut Vec<(f64, u32)>, amount: f64, pid: u32, top: usize) {
    if rank.len() >= top && rank.last().is_none_or(|(least, _)| amount <= *least) {
        return;
    }
    let at = rank.partition_point(|(other, _)| *other >= amount);
    rank.insert(at, (amount, pid));
    rank.truncate(top);
}

#[cfg(test)]
mod tests;
