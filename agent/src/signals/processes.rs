//! The processes that use most CPU and most memory: who did it.
//!
//! Every pass lists /proc and reads /proc/PID/stat. A process that used no CPU in its last [`IDLE_AFTER_READS`] reads
//! is read only every [`IDLE_EVERY_PASSES`]th pass (its memory cannot grow without CPU), by pid in turn, so that a
//! host of thousands of sleeping processes costs what its busy ones cost. `sysinfo` is not used for this: with 2,000
//! sleeping processes on a 2-core virtual machine its scan took 104 ms of CPU (2.1% of a core at 5 s) and 1.9 MiB, a
//! full pass of ours 31 ms, a usual one 7.5 ms (0.15%); `examples/gather_cost.rs` measures both.
//!
//! Series, and how they are kept few: a process gets its series when it is among the first `process_top` by CPU or by
//! memory, and keeps them until it has been outside of both for [`HOLD_PASSES`] passes, or ended. At most
//! [`TRACKED_PER_TOP`] × `process_top` have series at once; the one that has been outside longest makes room. Both
//! metrics are given for each, whichever it came by. A process that begins and ends between two passes is not seen.

use std::ffi::CStr;
use std::mem::MaybeUninit;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, RawDir, SeekFrom};
use rustix::io::Errno;

use super::cpu::TICKS_PER_SEC;
use super::metric::Metric;
use super::parse;
use super::source::{Pass, Sink, Source, SourceError};
use super::table::Handle;

/// Most processes looked at; more are not, and counted as an error.
const PROCESSES_MAX: usize = 100_000;
/// Most bytes read of a process's stat: what is taken stands well before.
const STAT_BYTES: usize = 512;
/// Longest name taken, in bytes; a worker thread of the kernel's has up to 64.
const NAME_MAX_BYTES: usize = 64;
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

/// What this source gives.
pub(super) static METRICS: [Metric; 3] = [
    Metric::gauge(
        "pitwatch_process_cpu_ratio",
        "cores",
        "/proc/PID/stat",
        "CPU time a second of a top process since it was last read; 1 is a whole core.",
    )
    .by(&["name", "pid"]),
    Metric::gauge(
        "pitwatch_process_resident_memory_bytes",
        "bytes",
        "/proc/PID/stat",
        "Memory of a top process that is in RAM, shared pages included.",
    )
    .by(&["name", "pid"]),
    Metric::gauge("pitwatch_processes", "processes", "/proc", "Processes of the host."),
];

/// A process, as last read.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Process {
    pid: u32,
    /// With the pid, its identity: pids come again.
    start_ticks: u64,
    cpu_ticks: u64,
    read_ms: u64,
    memory_pages: u64,
    /// NaN until it was read twice, or is known to have begun since the last pass.
    ratio: f64,
    idle_reads: u8,
    tracked: bool,
}

/// A process with series.
struct Tracked {
    pid: u32,
    start_ticks: u64,
    name: String,
    label: String,
    outside_passes: u32,
    handles: [Handle; 2],
}

/// What is taken of a stat file.
#[derive(Debug, PartialEq)]
struct Stat<'b> {
    name: &'b [u8],
    cpu_ticks: u64,
    start_ticks: u64,
    memory_pages: u64,
}

/// The processes of /proc.
pub(super) struct Processes {
    root: PathBuf,
    dir: Option<rustix::fd::OwnedFd>,
    top: usize,
    page_bytes: f64,
    began: Option<std::time::Instant>,
    pass: u32,
    last_pass_ms: u64,
    pids: Vec<u32>,
    /// Of the last pass and of this one, ascending by pid.
    known: Vec<Process>,
    next: Vec<Process>,
    tracked: Vec<Tracked>,
    ranks: [Vec<(f64, u32)>; 2],
    count: Handle,
}

impl Processes {
    pub(super) fn new(proc_root: &Path, top: usize) -> Self {
        Self {
            root: proc_root.to_owned(),
            dir: None,
            top,
            page_bytes: rustix::param::page_size() as f64,
            began: None,
            pass: 0,
            last_pass_ms: 0,
            pids: Vec::new(),
            known: Vec::new(),
            next: Vec::new(),
            tracked: Vec::new(),
            ranks: Default::default(),
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
            let process = &self.known[at];
            let labels = [("name", tracked.name.as_str()), ("pid", &tracked.label)];
            let [ratio, memory] = &mut tracked.handles;
            if !process.ratio.is_nan() {
                pass.sink.set(ratio, &METRICS[0], &labels, Some(process.ratio));
            }
            pass.sink.set(memory, &METRICS[1], &labels, Some(process.memory_pages as f64 * self.page_bytes));
        }
        pass.sink.set(&mut self.count, &METRICS[2], &[], Some(self.known.len() as f64));
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
        let mut old = self.known.iter().copied().peekable();
        for &pid in &self.pids {
            while old.next_if(|process| process.pid < pid).is_some() {}
            let before = old.next_if(|process| process.pid == pid);
            let idle = before.filter(|process| !process.tracked && process.idle_reads >= IDLE_AFTER_READS);
            if let Some(process) = idle.filter(|_| pid.wrapping_add(self.pass) % IDLE_EVERY_PASSES != 0) {
                self.next.push(process);
                continue;
            }
            let mut buffer = [0; STAT_BYTES];
            match read_stat(dir, pid, &mut buffer) {
                Ok(Some(text)) => match parse_stat(text) {
                    Some(stat) => {
                        self.next.push(Process::read(pid, before, &stat, now_ms, self.since_last_pass(now_ms)));
                    }
                    None => sink.malformed += 1,
                },
                // It ended meanwhile.
                Ok(None) => {}
                Err(_) => sink.malformed += 1,
            }
        }
        std::mem::swap(&mut self.known, &mut self.next);
    }

    fn since_last_pass(&self, now_ms: u64) -> Option<u64> {
        (self.pass > 0).then(|| now_ms.saturating_sub(self.last_pass_ms))
    }

    /// Finds the first `top` by CPU and by memory, as (amount, pid).
    fn rank(&mut self) {
        let top = self.top;
        for rank in &mut self.ranks {
            rank.clear();
        }
        for process in &self.known {
            let by_cpu = process.ratio >= RATIO_MIN;
            if by_cpu {
                place(&mut self.ranks[0], process.ratio, process.pid, top);
            }
            if process.memory_pages > 0 {
                place(&mut self.ranks[1], process.memory_pages as f64, process.pid, top);
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
            let Some(tracked) = self.dir.as_ref().and_then(|dir| Tracked::begin(dir, pid)) else { continue };
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

impl Process {
    /// What `stat` says at `now_ms`, against what was read before; `since_last_pass_ms` is `None` in the first pass.
    fn read(pid: u32, before: Option<Self>, stat: &Stat<'_>, now_ms: u64, since_last_pass_ms: Option<u64>) -> Self {
        let before = before.filter(|process| process.start_ticks == stat.start_ticks);
        let (used_ticks, over_ms) = match before {
            Some(process) => {
                (stat.cpu_ticks.saturating_sub(process.cpu_ticks), Some(now_ms.saturating_sub(process.read_ms)))
            }
            // New since the last pass: all that it used, it used since then.
            None => (stat.cpu_ticks, since_last_pass_ms),
        };
        let ratio = match over_ms {
            Some(over_ms) if over_ms > 0 => used_ticks as f64 / TICKS_PER_SEC / (over_ms as f64 / 1000.0),
            _ => f64::NAN,
        };
        let idle_reads =
            if used_ticks == 0 { before.map_or(0, |process| process.idle_reads).saturating_add(1) } else { 0 };
        Self {
            pid,
            start_ticks: stat.start_ticks,
            cpu_ticks: stat.cpu_ticks,
            read_ms: now_ms,
            memory_pages: stat.memory_pages,
            ratio,
            idle_reads,
            tracked: false,
        }
    }
}

impl Tracked {
    fn begin(dir: &rustix::fd::OwnedFd, pid: u32) -> Option<Self> {
        let mut buffer = [0; STAT_BYTES];
        let stat = parse_stat(read_stat(dir, pid, &mut buffer).ok().flatten()?)?;
        Some(Self {
            pid,
            start_ticks: stat.start_ticks,
            name: parse::text(stat.name, NAME_MAX_BYTES),
            label: pid.to_string(),
            outside_passes: 0,
            handles: Default::default(),
        })
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

/// The text of a process's stat; `None` if the process ended.
fn read_stat<'b>(dir: &rustix::fd::OwnedFd, pid: u32, buffer: &'b mut [u8]) -> Result<Option<&'b [u8]>, Errno> {
    let mut path = [0; 16];
    let path = stat_path(pid, &mut path);
    let ended = |error| if matches!(error, Errno::NOENT | Errno::SRCH) { Ok(None) } else { Err(error) };
    let file = match rustix::fs::openat(dir, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()) {
        Ok(file) => file,
        Err(error) => return ended(error),
    };
    match rustix::io::read(&file, &mut *buffer) {
        Ok(read) => Ok(Some(&buffer[..read])),
        Err(error) => ended(error),
    }
}

/// `1234/stat`, written from the end of `buffer`.
fn stat_path(mut pid: u32, buffer: &mut [u8; 16]) -> &CStr {
    const TAIL: &[u8] = b"/stat\0";
    let mut at = buffer.len() - TAIL.len();
    buffer[at..].copy_from_slice(TAIL);
    loop {
        at -= 1;
        buffer[at] = b'0' + (pid % 10) as u8;
        pid /= 10;
        if pid == 0 {
            break;
        }
    }
    CStr::from_bytes_with_nul(&buffer[at..]).unwrap_or(c"")
}

/// `1234 (name) S 1 …`: the name may hold anything, brackets and blanks too, so that the last bracket ends it.
fn parse_stat(text: &[u8]) -> Option<Stat<'_>> {
    let open = text.iter().position(|byte| *byte == b'(')?;
    let close = text.iter().rposition(|byte| *byte == b')').filter(|close| *close > open)?;
    // The words after the name; the state is field 3 of proc(5), and so here the nought-th.
    let mut words = parse::words(&text[close + 1..]).enumerate();
    let mut field = |number: usize| {
        let (_, word) = words.find(|(at, _)| at + 3 == number)?;
        parse::whole(word)
    };
    let cpu_ticks = field(14)?.checked_add(field(15)?)?;
    Some(Stat { name: &text[open + 1..close], cpu_ticks, start_ticks: field(22)?, memory_pages: field(24)? })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::super::testing::Bench;
    use super::*;

    fn bench(top: usize) -> Bench {
        Bench::new(|root| Box::new(Processes::new(root, top)))
    }

    fn stat(name: &str, cpu_ticks: u64, start_ticks: u64, memory_pages: u64) -> String {
        format!(
            "7 ({name}) S 1 7 7 0 -1 4194560 1 2 3 4 {cpu_ticks} 0 0 0 20 0 1 0 {start_ticks} 4096 {memory_pages} 18446744073709551615 1 1\n"
        )
    }

    fn put(bench: &Bench, pid: u32, name: &str, cpu_ticks: u64, memory_pages: u64) {
        bench.file(&format!("{pid}/stat"), stat(name, cpu_ticks, u64::from(pid), memory_pages).as_bytes());
    }

    fn pass(bench: &mut Bench) -> u64 {
        bench.tick_after(Duration::from_secs(5)).unwrap()
    }

    fn ratio(bench: &Bench, name: &str, pid: u32) -> Option<f64> {
        bench.value(&format!("pitwatch_process_cpu_ratio{{name=\"{name}\",pid=\"{pid}\"}}"))
    }

    fn tracked(bench: &Bench) -> Vec<String> {
        let prefix = "pitwatch_process_resident_memory_bytes";
        bench.names().into_iter().filter_map(|name| name.strip_prefix(prefix).map(str::to_owned)).collect()
    }

    #[test]
    fn the_top_by_cpu_and_by_memory_have_series() {
        let mut bench = bench(1);
        for (pid, name, pages) in [(10, "big", 900), (20, "busy", 5), (30, "small", 4)] {
            put(&bench, pid, name, 100, pages);
        }
        bench.file("self/stat", b"not a process");
        assert_eq!(pass(&mut bench), 0);
        assert_eq!(tracked(&bench), ["{name=\"big\",pid=\"10\"}"], "a first pass knows no CPU");
        put(&bench, 20, "busy", 350, 5);
        pass(&mut bench);
        assert_eq!(tracked(&bench), ["{name=\"big\",pid=\"10\"}", "{name=\"busy\",pid=\"20\"}"]);
        assert_eq!(ratio(&bench, "busy", 20), Some(0.5));
        assert_eq!(ratio(&bench, "big", 10), Some(0.0));
        assert_eq!(bench.value("pitwatch_processes"), Some(3.0));
    }

    #[test]
    fn a_new_process_counts_from_the_last_pass() {
        let mut bench = bench(1);
        put(&bench, 10, "old", 0, 1);
        pass(&mut bench);
        put(&bench, 11, "new", 250, 1);
        pass(&mut bench);
        assert_eq!(ratio(&bench, "new", 11), Some(0.5));
    }

    #[test]
    fn a_pid_that_came_again_is_another_process() {
        let mut bench = bench(1);
        put(&bench, 10, "first", 1_000_000, 9);
        pass(&mut bench);
        bench.file("10/stat", stat("second", 50, 777, 9).as_bytes());
        pass(&mut bench);
        pass(&mut bench);
        assert_eq!(tracked(&bench), ["{name=\"second\",pid=\"10\"}"]);
        assert_eq!(ratio(&bench, "second", 10), Some(0.0));
    }

    #[test]
    fn series_are_held_for_a_while_and_end_at_once_with_the_process() {
        let mut bench = bench(1);
        put(&bench, 10, "a", 0, 9);
        put(&bench, 20, "b", 0, 5);
        pass(&mut bench);
        put(&bench, 20, "b", 1, 50);
        // Pid 20 is idle by now and read every fourth pass only; its CPU wakes it.
        for _ in 0..IDLE_EVERY_PASSES {
            pass(&mut bench);
        }
        assert_eq!(tracked(&bench).len(), 2);
        for _ in 0..HOLD_PASSES - IDLE_EVERY_PASSES {
            pass(&mut bench);
        }
        assert_eq!(tracked(&bench).len(), 2, "held outside of the top");
        for _ in 0..IDLE_EVERY_PASSES {
            pass(&mut bench);
        }
        assert_eq!(tracked(&bench), ["{name=\"b\",pid=\"20\"}"]);
        std::fs::remove_dir_all(bench.path("20")).unwrap();
        pass(&mut bench);
        assert_eq!(tracked(&bench), ["{name=\"a\",pid=\"10\"}"]);
    }

    #[test]
    fn no_more_processes_have_series_than_the_limit() {
        let mut bench = bench(2);
        for turn in 0..30_u32 {
            for pid in 1..40 {
                put(&bench, pid, "p", 0, u64::from((pid * 7 + turn * 11) % 41) + 1);
            }
            // A new start is a new process to the scan, which is read at once.
            for pid in 1..40 {
                bench.file(
                    &format!("{pid}/stat"),
                    stat("p", 0, u64::from(turn), u64::from((pid * 7 + turn * 11) % 41) + 1).as_bytes(),
                );
            }
            pass(&mut bench);
            assert!(tracked(&bench).len() <= 2 * TRACKED_PER_TOP);
        }
    }

    #[test]
    fn an_idle_process_is_read_in_turn_only() {
        let mut bench = bench(0);
        for pid in 1..=100 {
            put(&bench, pid, "idle", 5, 1);
        }
        for _ in 0..6 {
            assert_eq!(pass(&mut bench), 0);
        }
        for pid in 1..=100 {
            bench.file(&format!("{pid}/stat"), b"broken");
        }
        assert_eq!(pass(&mut bench), 25, "a quarter of them a pass");
    }

    #[test]
    fn hostile_names_are_names_only() {
        let mut bench = bench(5);
        put(&bench, 10, "a) S 1 (b", 0, 3);
        bench.file(
            "11/stat",
            &[b"11 (\xff\x1b[2J) S ".to_vec(), stat("x", 0, 1, 2).into_bytes()[9..].to_vec()].concat(),
        );
        bench.file("12/stat", b"12 (unclosed S 1 2 3");
        bench.file("13/stat", b"");
        std::fs::create_dir_all(bench.path("14")).unwrap();
        assert_eq!(pass(&mut bench), 2);
        assert_eq!(tracked(&bench), ["{name=\"\\\\xff\\\\x1b[2J\",pid=\"11\"}", "{name=\"a) S 1 (b\",pid=\"10\"}"]);
    }

    #[test]
    fn pids_become_paths() {
        for pid in [0, 7, 42, 4_194_304, u32::MAX] {
            let mut buffer = [0; 16];
            assert_eq!(stat_path(pid, &mut buffer).to_str().unwrap(), format!("{pid}/stat"));
        }
    }

    /// One busy process of this host is found, by the real /proc.
    #[test]
    fn a_real_burner_is_found() {
        let mut burner = std::process::Command::new("sh").args(["-c", "while :; do :; done"]).spawn().unwrap();
        let mut bench = Bench::new(|_| Box::new(Processes::new(Path::new("/proc"), 10)));
        let mut found = None;
        for _ in 0..100 {
            bench.tick_after(Duration::from_millis(200)).unwrap();
            found = ratio(&bench, "sh", burner.id()).filter(|ratio| *ratio > 0.05);
            if found.is_some() {
                break;
            }
            std::thread::sleep(Duration::from_millis(200));
        }
        burner.kill().unwrap();
        burner.wait().unwrap();
        assert!(found.is_some());
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..STAT_BYTES)) {
            let _ = parse_stat(&bytes);
        }

        #[test]
        fn any_name_is_told_from_the_numbers(name in prop::collection::vec(any::<u8>(), 0..64)) {
            let text = [b"1 (", &name[..], b") S 1 7 7 0 -1 0 1 2 3 4 30 12 0 0 20 0 1 0 99 4096 55 0"].concat();
            let stat = parse_stat(&text);
            prop_assert_eq!(stat, Some(Stat { name: &name, cpu_ticks: 42, start_ticks: 99, memory_pages: 55 }));
        }

        #[test]
        fn a_rank_is_the_largest_in_order(amounts in prop::collection::vec(0_u32..50, 0..40), top in 0_usize..12) {
            let mut rank = Vec::new();
            for (pid, amount) in (0..).zip(&amounts) {
                place(&mut rank, f64::from(*amount), pid, top);
            }
            let mut sorted = amounts.clone();
            sorted.sort_unstable_by(|a, b| b.cmp(a));
            sorted.truncate(top);
            prop_assert_eq!(rank.iter().map(|(amount, _)| *amount as u32).collect::<Vec<_>>(), sorted);
        }
    }
}
