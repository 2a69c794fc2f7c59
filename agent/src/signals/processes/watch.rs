//! The watch list: processes that the host's configuration names, whether they are there, what they use, how they ended.
//!
//! A process is told to be a watch's once, when it is first seen (and after an exec): by its name, by its command line,
//! by the control group that systemd put it in, or by a pid file. Each is held by a pidfd while it lives, so that the
//! kernel can be asked how it ended. A watch began anew when none of the processes that it had is left and another is
//! there; that counts as a restart.

use std::path::{Path, PathBuf};

use rustix::fd::OwnedFd;
use rustix::time::{ClockId, clock_gettime};

use super::exit::Held;
use super::stat::{self, TEXT_BYTES};
use super::{COMM_BYTES, Process};
use crate::signals::cpu::TICKS_PER_SEC;
use crate::signals::metric::Metric;
use crate::signals::notices::{Ended, Notice, Notices};
use crate::signals::parse;
use crate::signals::source::{HeldFile, Pass};
use crate::signals::table::Handle;

/// Most watches.
pub const WATCHES_MAX: usize = 64;
const _: () = assert!(WATCHES_MAX <= u64::BITS as usize);
/// Processes of a watch that are followed one by one; more are counted and added up.
const MEMBERS_MAX: usize = 64;
/// Passes until the end of a process is told without knowing how: its parent may be slow to take note.
const ENDING_PASSES: u8 = 3;
/// What the kernel keeps of a process's name, in bytes.
const NAME_BYTES: usize = 15;
const SIGKILL: i32 = 9;
const LABELS: &[&str] = &["watch"];

const fn gauge(name: &'static str, unit: &'static str, help: &'static str) -> Metric {
    Metric::gauge(name, unit, "/proc/PID", help).by(LABELS)
}

/// What a watch gives; the first three whether anything runs or not.
pub(in crate::signals) static METRICS: [Metric; 8] = [
    gauge("pitwatch_watch_up", "", "Whether a process of the watch runs."),
    gauge("pitwatch_watch_instances", "processes", "Processes of the watch."),
    Metric::counter(
        "pitwatch_watch_restarts_total",
        "restarts",
        "/proc/PID",
        "Times that all processes of the watch were gone and another was there, since the agent began.",
    )
    .by(LABELS),
    gauge("pitwatch_watch_cpu_ratio", "cores", "CPU time a second of the watch's processes."),
    gauge("pitwatch_watch_resident_memory_bytes", "bytes", "Memory in RAM of the watch's processes."),
    gauge("pitwatch_watch_open_files", "files", "Descriptors of the watch's processes."),
    gauge("pitwatch_watch_threads", "threads", "Threads of the watch's processes."),
    gauge("pitwatch_watch_age_seconds", "seconds", "How long the oldest process of the watch runs."),
];

/// A regular expression that was found good.
#[derive(Clone, Debug)]
pub struct Pattern(regex_lite::Regex);

impl Pattern {
    /// The pattern of a text.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn new(text: &str) -> Result<Self, String> {
        regex_lite::Regex::new(text).map(Self).map_err(|error| error.to_string())
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_str() == other.0.as_str()
    }
}

/// By what a watch knows its processes.
#[derive(Clone, Debug, PartialEq)]
pub enum WatchBy {
    /// All that systemd runs for this unit.
    Unit(String),
    /// The name of the process.
    Name(String),
    /// The command line, arguments joined by blanks.
    Command(Pattern),
    /// The process whose number a file holds.
    PidFile(PathBuf),
}

/// What a watch is called, and what it watches.
#[derive(Clone, Debug, PartialEq)]
pub struct WatchConfig {
    /// Its `watch` label.
    pub name: String,
    /// Which processes.
    pub by: WatchBy,
}

/// The watch list at work.
pub(super) struct Watches {
    list: Vec<Watch>,
    root: PathBuf,
    vmstat: HeldFile,
    oom_kills: Option<u64>,
    /// Passes since the kernel last killed something for want of memory.
    since_oom: u8,
    notices: Notices,
    first: bool,
}

struct Watch {
    config: WatchConfig,
    members: Vec<Member>,
    /// Gone, with the passes left until that is told without a reason.
    ending: Vec<(Member, u8)>,
    /// A process of it was seen.
    ran: bool,
    restarts: u64,
    handles: [Handle; METRICS.len()],
}

struct Member {
    pid: u32,
    start_ticks: u64,
    held: Option<Held>,
}

impl Watches {
    pub(super) fn new(proc_root: &Path, root: &Path, configs: &[WatchConfig], notices: Notices) -> Self {
        let watch = |config: &WatchConfig| Watch {
            config: config.clone(),
            members: Vec::new(),
            ending: Vec::new(),
            ran: false,
            restarts: 0,
            handles: Default::default(),
        };
        Self {
            list: configs.iter().take(WATCHES_MAX).map(watch).collect(),
            root: root.to_owned(),
            vmstat: HeldFile::optional(proc_root.join("vmstat")),
            oom_kills: None,
            since_oom: u8::MAX,
            notices,
            first: true,
        }
    }

    /// The watches, as bits, that a process belongs to; a pid file says so later.
    pub(super) fn of(&self, dir: &OwnedFd, pid: u32, comm: &[u8; COMM_BYTES]) -> u64 {
        let mut bits = 0;
        let (mut command, mut group) = (None, None);
        let text = |file: &str| {
            let mut buffer = [0; TEXT_BYTES];
            let read = stat::read(dir, pid, file, &mut buffer).ok().flatten().unwrap_or_default();
            String::from_utf8_lossy(read.strip_suffix(b"\0").unwrap_or(read)).replace('\0', " ")
        };
        for (at, watch) in self.list.iter().enumerate() {
            let belongs = match &watch.config.by {
                WatchBy::Name(name) => {
                    let kept = &name.as_bytes()[..name.len().min(NAME_BYTES)];
                    comm.strip_prefix(kept).is_some_and(|rest| rest.first().is_none_or(|byte| *byte == 0))
                }
                WatchBy::Command(pattern) => pattern.0.is_match(command.get_or_insert_with(|| text("cmdline"))),
                WatchBy::Unit(unit) => {
                    let group = group.get_or_insert_with(|| text("cgroup"));
                    group.lines().any(|line| line.split('/').skip(1).any(|part| part == unit))
                }
                WatchBy::PidFile(_) => false,
            };
            bits |= u64::from(belongs) << at;
        }
        bits
    }

    /// Sets the series of every watch, and gives notice of what changed.
    pub(super) fn follow(&mut self, known: &mut [Process], dir: Option<&OwnedFd>, pass: &mut Pass<'_>) {
        if self.list.is_empty() || dir.is_none() {
            return;
        }
        self.look_for_oom(pass);
        for at in 0..self.list.len() {
            let bit = 1 << at;
            if let WatchBy::PidFile(path) = &self.list[at].config.by {
                let path = self.root.join(path.strip_prefix("/").unwrap_or(path));
                let text = pass.buffer.read_small(&path).unwrap_or_default();
                let pid = parse::words(text).next().and_then(parse::whole);
                for process in known.iter_mut() {
                    process.watches &= !bit;
                    process.watches |= if pid == Some(u64::from(process.pid)) { bit } else { 0 };
                }
            }
            let now_running = || known.iter().filter(move |process| process.watches & bit != 0 && !process.zombie);
            let watch = &mut self.list[at];
            watch.follow(now_running().copied(), self.first, pass.now.ts_ms, &self.notices);
            watch.tell_ends(now_running().count(), self.since_oom <= ENDING_PASSES, pass.now.ts_ms, &self.notices);
            watch.set(&now_running(), pass);
        }
        self.first = false;
    }

    fn look_for_oom(&mut self, pass: &mut Pass<'_>) {
        let text = self.vmstat.read(pass.buffer, &mut pass.sink.malformed).ok().flatten().unwrap_or_default();
        let kills = parse::lines(text).find_map(|line| line.strip_prefix(b"oom_kill ")).and_then(parse::whole);
        let grew = self.oom_kills.zip(kills).is_some_and(|(before, now)| now > before);
        self.since_oom = if grew { 0 } else { self.since_oom.saturating_add(1) };
        self.oom_kills = kills;
    }
}

impl Watch {
    /// Brings the members up to date.
    fn follow(&mut self, running: impl Iterator<Item = Process> + Clone, first: bool, ts_ms: i64, notices: &Notices) {
        let is =
            |member: &Member, process: &Process| (member.pid, member.start_ticks) == (process.pid, process.start_ticks);
        let (kept, gone): (Vec<_>, Vec<_>) =
            self.members.drain(..).partition(|member| running.clone().any(|process| is(member, &process)));
        let survived = !kept.is_empty();
        self.members = kept;
        self.ending.extend(gone.into_iter().map(|member| (member, ENDING_PASSES)));
        let mut begun = None;
        for process in running {
            if self.members.len() >= MEMBERS_MAX {
                break;
            }
            if !self.members.iter().any(|member| is(member, &process)) {
                let held = Held::open(process.pid);
                self.members.push(Member { pid: process.pid, start_ticks: process.start_ticks, held });
                begun.get_or_insert(process.pid);
            }
        }
        let Some(pid) = begun.filter(|_| !survived) else { return };
        let again = self.ran;
        self.ran = true;
        self.restarts += u64::from(again);
        if !first {
            notices.push(ts_ms, Notice::Started { watch: self.config.name.clone(), pid, again });
        }
    }

    /// Tells of processes that ended, once it is known how, or will not be.
    fn tell_ends(&mut self, left: usize, oom: bool, ts_ms: i64, notices: &Notices) {
        let name = &self.config.name;
        self.ending.retain_mut(|(member, passes)| {
            let status = member.held.as_ref().and_then(Held::status);
            *passes -= 1;
            if status.is_none() && member.held.is_some() && *passes > 0 {
                return true;
            }
            let ended = ended(status, oom);
            // One of many that ended in good order is nothing to tell of.
            if left == 0 || ended.is_failure() {
                notices.push(ts_ms, Notice::Gone { watch: name.clone(), pid: member.pid, ended, left });
            }
            false
        });
    }

    fn set<'p>(&mut self, running: &(impl Iterator<Item = &'p Process> + Clone), pass: &mut Pass<'_>) {
        let count = running.clone().count();
        let sum = |at: usize| {
            running.clone().map(|process| process.amounts[at]).filter(|amount| !amount.is_nan()).sum::<f64>()
        };
        let oldest = running.clone().map(|process| process.start_ticks).min();
        let up_secs = clock_gettime(ClockId::Boottime).tv_sec as f64;
        let age = oldest.map_or(0.0, |ticks| (up_secs - ticks as f64 / TICKS_PER_SEC).max(0.0));
        let up = f64::from(u8::from(count > 0));
        let values = [up, count as f64, self.restarts as f64, sum(0), sum(1), sum(3), sum(4), age];
        let given = if count > 0 { values.len() } else { 3 };
        for ((handle, metric), value) in self.handles.iter_mut().zip(&METRICS).zip(values).take(given) {
            pass.sink.set(handle, metric, &[("watch", &self.config.name)], Some(value));
        }
    }
}

/// What a wait status says.
fn ended(status: Option<i32>, oom: bool) -> Ended {
    match status.map(|status| (status & 0x7f, status >> 8 & 0xff)) {
        Some((SIGKILL, _)) if oom => Ended::OutOfMemory,
        Some((0, 0)) => Ended::Quietly,
        Some((0, code)) => Ended::WithStatus(code),
        Some((signal, _)) => Ended::BySignal(signal),
        None if oom => Ended::OutOfMemory,
        None => Ended::Quietly,
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Child, Command};
    use std::time::Duration;

    use super::super::Processes;
    use super::*;
    use crate::signals::testing::Bench;

    fn watch(name: &str, by: WatchBy) -> WatchConfig {
        WatchConfig { name: name.to_owned(), by }
    }

    fn bench(watches: &[WatchConfig]) -> (Bench, Notices) {
        let notices = Notices::default();
        let given = notices.clone();
        let source = |root: &Path| Box::new(Processes::new(root, root, 0, false, watches, given)) as Box<_>;
        (Bench::new(source), notices)
    }

    fn put(bench: &Bench, pid: u32, name: &str, start_ticks: u64) {
        let stat = format!("{pid} ({name}) S 1 7 7 0 -1 0 1 2 3 4 0 0 0 0 20 0 2 0 {start_ticks} 4096 5 0\n");
        bench.file(&format!("{pid}/stat"), stat.as_bytes());
    }

    fn pass(bench: &mut Bench) {
        assert_eq!(bench.tick_after(Duration::from_secs(5)), Ok(0));
    }

    fn value(bench: &Bench, what: &str, name: &str) -> Option<f64> {
        bench.value(&format!("pitwatch_watch_{what}{{watch=\"{name}\"}}"))
    }

    #[test]
    fn a_process_is_found_by_each_of_its_marks() {
        let (mut bench, _) = bench(&[
            watch("long", WatchBy::Name("a-name-of-18-chars".to_owned())),
            watch("lobby", WatchBy::Command(Pattern::new(r"java .*lobby\.jar").unwrap())),
            watch("db", WatchBy::Unit("db.service".to_owned())),
            watch("web", WatchBy::PidFile("/run/web.pid".into())),
            watch("none", WatchBy::Name("a".to_owned())),
        ]);
        put(&bench, 10, "a-name-of-18-ch", 1);
        put(&bench, 11, "java", 1);
        bench.file("11/cmdline", b"/usr/bin/java\0-Xmx1g\0-jar\0lobby.jar\0");
        for pid in [12, 13] {
            put(&bench, pid, "postgres", 1);
            bench.file(&format!("{pid}/cgroup"), b"1:name=systemd:/\n0::/system.slice/db.service/inner\n");
        }
        put(&bench, 14, "web", 1);
        bench.file("run/web.pid", b"14\n");
        pass(&mut bench);
        let instances =
            |bench: &Bench| ["long", "lobby", "db", "web", "none"].map(|name| value(bench, "instances", name));
        assert_eq!(instances(&bench), [Some(1.0), Some(1.0), Some(2.0), Some(1.0), Some(0.0)]);
        assert_eq!(value(&bench, "threads", "db"), Some(4.0));
        assert_eq!((value(&bench, "up", "none"), value(&bench, "age_seconds", "none")), (Some(0.0), None));
        bench.file("run/web.pid", b"nonsense");
        bench.file("10/stat", b"10 (exec-of-another) S 1 7 7 0 -1 0 1 2 3 4 0 0 0 0 20 0 2 0 1 4096 5 0\n");
        pass(&mut bench);
        assert_eq!(instances(&bench), [Some(0.0), Some(1.0), Some(2.0), Some(0.0), Some(0.0)]);
    }

    #[test]
    fn restarts_are_counted_and_told() {
        let (mut bench, notices) = bench(&[watch("game", WatchBy::Name("game".to_owned()))]);
        // Numbers that no process of the host has, so that nothing of it is held.
        let pid = 4_194_400;
        put(&bench, pid, "game", 1);
        pass(&mut bench);
        assert_eq!((value(&bench, "restarts_total", "game"), notices.take().len()), (Some(0.0), 0));
        put(&bench, pid + 1, "game", 5);
        pass(&mut bench);
        std::fs::remove_dir_all(bench.path(&pid.to_string())).unwrap();
        pass(&mut bench);
        assert_eq!(value(&bench, "restarts_total", "game"), Some(0.0), "one of two is left");
        assert_eq!(notices.take(), []);
        std::fs::remove_dir_all(bench.path(&(pid + 1).to_string())).unwrap();
        pass(&mut bench);
        put(&bench, pid + 2, "game", 9);
        pass(&mut bench);
        assert_eq!(value(&bench, "restarts_total", "game"), Some(1.0));
        let told: Vec<_> = notices.take().into_iter().map(|(_, notice)| notice).collect();
        let name = || "game".to_owned();
        let expected = [
            Notice::Gone { watch: name(), pid: pid + 1, ended: Ended::Quietly, left: 0 },
            Notice::Started { watch: name(), pid: pid + 2, again: true },
        ];
        assert_eq!(told, expected);
    }

    #[test]
    fn a_wait_status_says_how_it_ended() {
        let ends =
            [(Some(0), false), (Some(3 << 8), false), (Some(11 | 0x80), false), (Some(9), false), (Some(9), true)];
        let expected =
            [Ended::Quietly, Ended::WithStatus(3), Ended::BySignal(11), Ended::BySignal(9), Ended::OutOfMemory];
        assert_eq!(ends.map(|(status, oom)| ended(status, oom)), expected);
        assert!(!Ended::BySignal(15).is_failure() && Ended::BySignal(9).is_failure());
    }

    /// Real processes that end in three ways.
    #[test]
    fn real_processes_are_followed_to_their_ends() {
        let marks = ["quiet", "broken", "killed"];
        let watches = marks.map(|mark| {
            watch(
                mark,
                WatchBy::Command(Pattern::new(&format!("pitwatch-watch-{mark}-{}$", std::process::id())).unwrap()),
            )
        });
        let notices = Notices::default();
        let given = notices.clone();
        let source = Processes::new(Path::new("/proc"), Path::new("/"), 0, false, &watches, given);
        let mut bench = Bench::new(|_| Box::new(source));
        let start = |mark: &str, script: &str| -> Child {
            let name = format!("pitwatch-watch-{mark}-{}", std::process::id());
            Command::new("sh").args(["-c", script, &name]).stdin(std::process::Stdio::piped()).spawn().unwrap()
        };
        let mut children =
            [start("quiet", "read x; exit 0"), start("broken", "read x; exit 7"), start("killed", "read x; :")];
        bench.tick_after(Duration::from_secs(1)).unwrap();
        assert_eq!(marks.map(|mark| value(&bench, "up", mark)), [Some(1.0); 3]);
        children[2].kill().unwrap();
        for child in &mut children {
            drop(child.stdin.take());
            child.wait().unwrap();
        }
        let mut told = Vec::new();
        for _ in 0..=ENDING_PASSES {
            bench.tick_after(Duration::from_secs(1)).unwrap();
            told.extend(notices.take().into_iter().filter_map(|(_, notice)| match notice {
                Notice::Gone { watch, ended, .. } => Some((watch, ended)),
                _ => None,
            }));
        }
        assert_eq!(marks.map(|mark| value(&bench, "up", mark)), [Some(0.0); 3]);
        assert_eq!(told.len(), 3, "{told:?}");
        if told.contains(&("broken".to_owned(), Ended::WithStatus(7))) {
            assert!(told.contains(&("killed".to_owned(), Ended::BySignal(9))), "{told:?}");
            assert!(told.contains(&("quiet".to_owned(), Ended::Quietly)), "{told:?}");
        } else {
            eprintln!("this kernel does not tell how a process ended: {told:?}");
        }
    }
}
