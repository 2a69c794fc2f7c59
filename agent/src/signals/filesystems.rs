//! Space and files of each mounted filesystem, without ever waiting for one that does not answer.
//!
//! statvfs(2) on a dead NFS mount does not return, and no signal ends it. So it is called on threads of
//! [`super::prober`]; a gathering waits only as long as its patience, and only for mounts that answered so far. A mount
//! without an answer keeps its last values until [`DEADLINE`] has passed and then has `node_filesystem_device_error` 1 and
//! nothing else, as it has when the call fails.
//!
//! Left out are the mount points and types that node_exporter leaves out by default. Debian's package also leaves
//! out /mnt, /media and /run; we keep to upstream, because data disks are often mounted below /mnt.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::metric::Metric;
use super::parse;
use super::prober::{Probe, Prober, Space, Urgency};
use super::source::{HeldFile, Keyed, Pass, Sink, Source, SourceError};
use super::table::Handle;

/// A mount that has not answered for this long is in error.
pub(super) const DEADLINE: Duration = Duration::from_secs(5);
/// Longest device, mount point or type taken into a label, in bytes.
const TEXT_MAX_BYTES: usize = 1024;

const fn gauge(name: &'static str, unit: &'static str, help: &'static str) -> Metric {
    Metric::gauge(name, unit, "statvfs(2)", help).by(&["device", "fstype", "mountpoint"])
}

/// What this source gives; the last two do not need an answer.
pub(super) static METRICS: [Metric; 7] = [
    gauge("node_filesystem_size_bytes", "bytes", "Size of the filesystem."),
    gauge("node_filesystem_free_bytes", "bytes", "Free space, what is kept for root included."),
    gauge("node_filesystem_avail_bytes", "bytes", "Free space for users other than root."),
    gauge("node_filesystem_files", "files", "Inodes of the filesystem."),
    gauge("node_filesystem_files_free", "files", "Free inodes."),
    gauge("node_filesystem_readonly", "", "Whether the filesystem is read-only."),
    gauge("node_filesystem_device_error", "", "Whether the filesystem did not say its numbers, or not in time."),
];
const READONLY: usize = 5;
const DEVICE_ERROR: usize = 6;

/// The mounted filesystems.
pub(super) struct Filesystems {
    /// Those of the whole host; needs the right to look at process 1.
    of_init: HeldFile,
    /// Those that this process sees.
    of_self: HeldFile,
    root: PathBuf,
    mounts: Keyed<Option<Mount>>,
    prober: Prober,
}

struct Mount {
    id: u64,
    path: PathBuf,
    urgency: Urgency,
    device: String,
    point: String,
    fstype: String,
    readonly: bool,
    /// Since when an answer is awaited.
    asked: Option<Instant>,
    answer: Option<Result<Space, ()>>,
    handles: [Handle; METRICS.len()],
}

impl Filesystems {
    /// Mounts of `proc_root`, asked by `probe` below `root`.
    pub(super) fn new(proc_root: &Path, root: &Path, probe: Probe) -> Self {
        Self {
            of_init: HeldFile::required(proc_root.join("1/mounts")),
            of_self: HeldFile::required(proc_root.join("self/mounts")),
            root: root.to_owned(),
            mounts: Keyed::default(),
            prober: Prober::new(probe),
        }
    }
}

impl Source for Filesystems {
    fn name(&self) -> &'static str {
        "filesystems"
    }

    fn gather(&mut self, pass: &mut Pass<'_>) -> Result<(), SourceError> {
        let now = pass.now.monotonic;
        self.list(pass)?;
        self.take_answers();
        let mounts = &mut self.mounts;
        self.prober.forget_unless(|id| mounts.values().flatten().any(|mount| mount.id == id));
        let mut awaited = 0;
        for mount in self.mounts.values().flatten() {
            if mount.asked.is_none() {
                mount.asked = Some(now);
                self.prober.ask(mount.id, &mount.path, mount.urgency);
            }
            awaited += usize::from(mount.asked == Some(now));
        }
        // Without a thread the last answers stand, until they are overdue.
        let waited = self.prober.wait(awaited, pass.patience);
        self.take_answers();
        for mount in self.mounts.values().flatten() {
            mount.set(now, &mut pass.sink);
        }
        waited.map_err(|source| SourceError::Call { what: "starting a thread", source })
    }
}

impl Filesystems {
    /// Reads which filesystems are mounted.
    fn list(&mut self, pass: &mut Pass<'_>) -> Result<(), SourceError> {
        let malformed = &mut pass.sink.malformed;
        // Not `or_else`: the borrow of the buffer would outlive the failed read.
        let file =
            if self.of_init.read(pass.buffer, malformed).is_ok() { &mut self.of_init } else { &mut self.of_self };
        let text = file.read(pass.buffer, malformed)?.unwrap_or_default();
        self.mounts.begin();
        for line in parse::lines(text) {
            let mut ends = line.iter().enumerate().filter(|(_, byte)| **byte == b' ').map(|(at, _)| at);
            let (Some(end), mut words) = (ends.nth(2), parse::words(line).skip(3)) else {
                *malformed += 1;
                continue;
            };
            let prober = &mut self.prober;
            let root = &self.root;
            match self.mounts.entry(&line[..end], |key| Mount::new(key, root, prober)) {
                Some(Some(mount)) => {
                    let mut options = words.next().unwrap_or_default().split(|byte| *byte == b',');
                    mount.readonly = options.any(|option| option == b"ro");
                }
                Some(None) => {}
                None => *malformed += 1,
            }
        }
        self.mounts.end();
        Ok(())
    }

    fn take_answers(&mut self) {
        for (id, answer) in self.prober.answers() {
            // An answer of a mount that is gone meanwhile has nobody to take it.
            if let Some(mount) = self.mounts.values().flatten().find(|mount| mount.id == id) {
                mount.asked = None;
                mount.answer = Some(answer.map_err(|_| ()));
            }
        }
    }
}

impl Mount {
    /// The mount of a line's first three words: device, mount point, type. `None`: it is left out.
    fn new(key: &[u8], root: &Path, prober: &mut Prober) -> Option<Self> {
        let mut words = parse::words(key);
        let (device, point, fstype) = (words.next()?, unescaped(words.next()?), words.next()?);
        if excluded_type(fstype) || excluded_point(&point) {
            return None;
        }
        let below: &[u8] = point.strip_prefix(b"/").unwrap_or(&point);
        Some(Self {
            id: prober.id(),
            path: root.join(OsStr::from_bytes(below)),
            urgency: if is_remote(fstype) { Urgency::Remote } else { Urgency::Local },
            device: parse::text(&unescaped(device), TEXT_MAX_BYTES),
            point: parse::text(&point, TEXT_MAX_BYTES),
            fstype: parse::text(fstype, TEXT_MAX_BYTES),
            readonly: false,
            asked: None,
            answer: None,
            handles: Default::default(),
        })
    }

    fn set(&mut self, now: Instant, sink: &mut Sink<'_>) {
        let labels = [("device", self.device.as_str()), ("fstype", &self.fstype), ("mountpoint", &self.point)];
        let overdue = self.asked.is_some_and(|asked| now.saturating_duration_since(asked) >= DEADLINE);
        let space = match self.answer {
            Some(Ok(space)) if !overdue => Some(space),
            // Asked a moment ago for the first time: nothing is known yet, not even that it fails.
            None if !overdue => return,
            _ => None,
        };
        let mut set = |at: usize, value: f64| sink.set(&mut self.handles[at], &METRICS[at], &labels, Some(value));
        if let Some(space) = space {
            let numbers = [space.size_bytes, space.free_bytes, space.avail_bytes, space.files, space.files_free];
            for (at, number) in numbers.into_iter().enumerate() {
                set(at, number as f64);
            }
            set(READONLY, f64::from(u8::from(self.readonly || space.readonly)));
        }
        set(DEVICE_ERROR, f64::from(u8::from(space.is_none())));
    }
}

/// A word of /proc/mounts with its `\040` escapes undone.
fn unescaped(word: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(word.len());
    let mut rest = word;
    while let Some((first, tail)) = rest.split_first() {
        if let [b'\\', a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', tail @ ..] = rest {
            out.push((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'));
            rest = tail;
        } else {
            out.push(*first);
            rest = tail;
        }
    }
    out
}

/// node_exporter's default `collector.filesystem.fs-types-exclude`.
fn excluded_type(fstype: &[u8]) -> bool {
    matches!(
        fstype,
        b"autofs"
            | b"binfmt_misc"
            | b"bpf"
            | b"cgroup"
            | b"cgroup2"
            | b"configfs"
            | b"debugfs"
            | b"devpts"
            | b"devtmpfs"
            | b"fusectl"
            | b"hugetlbfs"
            | b"iso9660"
            | b"mqueue"
            | b"nsfs"
            | b"overlay"
            | b"proc"
            | b"procfs"
            | b"pstore"
            | b"rpc_pipefs"
            | b"securityfs"
            | b"selinuxfs"
            | b"squashfs"
            | b"erofs"
            | b"sysfs"
            | b"tracefs"
    )
}

/// node_exporter's default `collector.filesystem.mount-points-exclude`:
/// `^/(dev|proc|run/credentials/.+|sys|var/lib/docker/.+|var/lib/containers/storage/.+)($|/)`.
fn excluded_point(point: &[u8]) -> bool {
    let is_or_below = |dir: &[u8]| point.strip_prefix(dir).is_some_and(|rest| matches!(rest, [] | [b'/', ..]));
    let below = |dir: &[u8]| point.strip_prefix(dir).is_some_and(|rest| !rest.is_empty());
    [&b"/dev"[..], b"/proc", b"/sys"].into_iter().any(is_or_below)
        || [&b"/run/credentials/"[..], b"/var/lib/docker/", b"/var/lib/containers/storage/"].into_iter().any(below)
}

/// Types whose answer comes over a network or from another process, and so may never come.
fn is_remote(fstype: &[u8]) -> bool {
    let listed = matches!(
        fstype,
        b"nfs" | b"nfs4" | b"cifs" | b"smb3" | b"smbfs" | b"ceph" | b"9p" | b"afs" | b"lustre" | b"gfs2" | b"ocfs2"
    );
    listed || fstype.starts_with(b"fuse") || matches!(fstype, b"glusterfs" | b"beegfs" | b"davfs" | b"virtiofs")
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::mpsc;
    use std::sync::{Arc, Mutex};

    use super::super::prober;
    use super::super::testing::{Bench, survives_mutation};
    use super::*;

    const SPACE: Space =
        Space { size_bytes: 100, free_bytes: 60, avail_bytes: 50, files: 10, files_free: 9, readonly: false };

    fn bench(probe: Probe) -> Bench {
        Bench::new(|root| Box::new(Filesystems::new(root, Path::new("/"), probe)))
    }

    fn good() -> Probe {
        Arc::new(|_| Ok(SPACE))
    }

    /// Ticks until `what` holds: answers come from other threads.
    fn tick_until(bench: &mut Bench, what: impl Fn(&Bench) -> bool) {
        for _ in 0..1000 {
            assert_eq!(bench.tick_after(Duration::ZERO), Ok(0));
            if what(bench) {
                return;
            }
        }
        panic!("still not so: {:?}", bench.names());
    }

    #[test]
    fn a_filesystem_gives_its_space() {
        let mut bench = bench(good());
        bench.file(
            "1/mounts",
            b"/dev/vda / ext4 rw,relatime 0 0\n/dev/vdb /a\\040b\\134 xfs ro 0 0\nproc /proc proc rw 0 0\n",
        );
        tick_until(&mut bench, |bench| bench.len() == 14);
        let series =
            |name: &str| format!("node_filesystem_{name}{{device=\"/dev/vda\",fstype=\"ext4\",mountpoint=\"/\"}}");
        let names = ["size_bytes", "free_bytes", "avail_bytes", "files", "files_free", "readonly", "device_error"];
        let values = names.map(|name| bench.value(&series(name)).unwrap());
        assert_eq!(values, [100.0, 60.0, 50.0, 10.0, 9.0, 0.0, 0.0]);
        let readonly = "node_filesystem_readonly{device=\"/dev/vdb\",fstype=\"xfs\",mountpoint=\"/a b\\\\\"}";
        assert_eq!(bench.value(readonly), Some(1.0));
    }

    #[test]
    fn a_filesystem_that_fails_says_so_and_nothing_else() {
        let mut bench = bench(Arc::new(|_| Err(io::ErrorKind::PermissionDenied.into())));
        bench.file("1/mounts", b"/dev/vda / ext4 rw 0 0\n");
        tick_until(&mut bench, |bench| bench.len() > 0);
        assert_eq!(
            bench.names(),
            ["node_filesystem_device_error{device=\"/dev/vda\",fstype=\"ext4\",mountpoint=\"/\"}"]
        );
        assert_eq!(bench.value(&bench.names()[0]), Some(1.0));
    }

    #[test]
    fn mounts_that_hang_hold_up_no_other_and_come_back() {
        let (release, hung) = mpsc::channel::<()>();
        let hung = Mutex::new(hung);
        let mut bench = bench(Arc::new(move |path: &Path| {
            if path.starts_with("/dead") {
                let _ = hung.lock().unwrap().recv();
            }
            Ok(SPACE)
        }));
        // More dead mounts than there are threads for them, and listed first.
        let mut mounts: String = (0..20).map(|i| format!("h:/{i} /dead/{i} nfs4 rw 0 0\n")).collect();
        mounts.push_str("/dev/vda / ext4 rw 0 0\n");
        bench.file("1/mounts", mounts.as_bytes());
        tick_until(&mut bench, |bench| bench.len() == 7);
        assert!(bench.names().iter().all(|name| name.contains("/dev/vda")), "nothing is known of the dead ones yet");
        assert_eq!(bench.tick_after(DEADLINE), Ok(0));
        tick_until(&mut bench, |bench| bench.len() == 7 + 20);
        assert_eq!(
            bench.value("node_filesystem_device_error{device=\"h:/3\",fstype=\"nfs4\",mountpoint=\"/dead/3\"}"),
            Some(1.0)
        );
        assert_eq!(
            bench.value("node_filesystem_avail_bytes{device=\"/dev/vda\",fstype=\"ext4\",mountpoint=\"/\"}"),
            Some(50.0)
        );
        drop(release);
        tick_until(&mut bench, |bench| bench.len() == 7 * 21);
    }

    #[test]
    fn a_mount_that_is_gone_ends_and_hostile_lines_are_counted() {
        let mut bench = bench(good());
        bench.file("1/mounts", b"/dev/vda / ext4 rw 0 0\n");
        tick_until(&mut bench, |bench| bench.len() == 7);
        let long = "x".repeat(5000);
        bench.file("1/mounts", format!("short line\n{long} /{long} ext4 rw 0 0\n").as_bytes());
        for _ in 0..1000 {
            assert_eq!(bench.tick_after(Duration::ZERO), Ok(1));
        }
        assert!(bench.names().iter().all(|name| !name.contains("vda") && name.len() < 3 * TEXT_MAX_BYTES));
    }

    #[test]
    fn where_process_1_is_hidden_our_own_mounts_are_read() {
        let mut bench = bench(good());
        bench.file("self/mounts", b"/dev/vda / ext4 rw 0 0\n");
        tick_until(&mut bench, |bench| bench.len() == 7);
        std::fs::remove_dir_all(bench.path("self")).unwrap();
    }

    #[test]
    fn the_default_exclusions_are_node_exporters() {
        for point in ["/dev", "/dev/shm", "/proc", "/sys/fs/cgroup", "/run/credentials/x", "/var/lib/docker/overlay2/a"]
        {
            assert!(excluded_point(point.as_bytes()), "{point}");
        }
        for point in ["/", "/device", "/run", "/mnt/data", "/var/lib/docker", "/process", "/home"] {
            assert!(!excluded_point(point.as_bytes()), "{point}");
        }
        assert!(excluded_type(b"autofs") && !excluded_type(b"tmpfs") && !excluded_type(b"nfs4"));
        assert!(is_remote(b"fuse.sshfs") && !is_remote(b"ext4"));
    }

    #[test]
    fn escapes_are_undone() {
        assert_eq!(unescaped(b"/a\\040b\\011\\134c\\377"), b"/a b\t\\c\xff");
        assert_eq!(unescaped(b"/a\\04\\9\\"), b"/a\\04\\9\\");
    }

    #[test]
    fn the_root_of_this_host_answers() {
        let space = prober::statvfs(Path::new("/")).unwrap();
        assert!(space.size_bytes >= space.free_bytes && space.free_bytes >= space.avail_bytes);
        assert!(prober::statvfs(Path::new("/no/such/path")).is_err());
    }

    #[test]
    fn mutated_files_are_survived() {
        let mounts =
            b"/dev/vda / ext4 rw,relatime 0 0\ntmpfs /run tmpfs rw,nosuid 0 0\nh:/x /a\\040b nfs4 ro,soft 0 0\n";
        survives_mutation("1/mounts", mounts, |root| {
            Box::new(Filesystems::new(root, Path::new("/"), Arc::new(|_| Ok(SPACE))))
        });
    }
}
