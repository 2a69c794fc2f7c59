//! What a power cut may leave: a directory tree whose writes are durable only after an fsync, fed with the calls of a
//! traced process.
//!
//! The model is stricter than a file system with a journal: `sync_file_range` promises nothing, a file's fsync does
//! not make its name durable (its directory's does), what a failed fsync covered never reaches the disk unless it is
//! written again, and writes may reach the disk in any order. It is coherent as
//! the page cache is: a sector that reaches the disk holds all that was written to it until then.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::{Component, Path, PathBuf};

use crate::trace::{Call, Moment};
use crate::workload::Rng;

const SECTOR_BYTES: usize = 512;
const PAGE_BYTES: usize = 4096;

/// How the writes since the last fsync fare in one power cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// All are lost.
    Dropped,
    /// All reach the disk, as after a mere kill.
    Kept,
    /// The first of them reach the disk, the last of these in part, cut at any byte.
    Prefix,
    /// Each is dropped or kept.
    Whole,
    /// Each is dropped, kept, or cut at any byte.
    Torn,
    /// Each of their sectors is dropped or kept.
    Sectors,
    /// Each of their pages is dropped or kept.
    Pages,
}

impl Fate {
    pub(crate) const ALL: [Fate; 7] =
        [Fate::Dropped, Fate::Kept, Fate::Prefix, Fate::Whole, Fate::Torn, Fate::Sectors, Fate::Pages];
}

/// The tree under one directory.
#[derive(Debug)]
pub(crate) struct Disk {
    root: PathBuf,
    nodes: Vec<Node>,
    fds: HashMap<i64, Fd>,
    next_op: u64,
    /// By thread: the write that is on its way, and what an fsync on its way covers.
    writing: HashMap<u32, u64>,
    syncing: HashMap<u32, (usize, Vec<u64>)>,
    pub(crate) counts: Counts,
}

/// What was seen, to show that the trace is not empty.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Counts {
    pub(crate) writes: u64,
    pub(crate) written_bytes: u64,
    pub(crate) syncs: u64,
    pub(crate) failed_syncs: u64,
    pub(crate) range_syncs: u64,
}

#[derive(Debug, Clone, Copy)]
struct Fd {
    node: usize,
    offset: u64,
    write_only: bool,
}

#[derive(Debug)]
enum Node {
    File { durable: Vec<u8>, pending: Vec<(u64, Change)> },
    Dir { durable: BTreeMap<String, usize>, live: BTreeMap<String, usize>, pending: Vec<(u64, Naming)> },
}

#[derive(Debug, Clone)]
enum Change {
    Write { offset: usize, bytes: Vec<u8> },
    SetLen(usize),
}

#[derive(Debug, Clone)]
enum Naming {
    Add(String, usize),
    Remove(String),
    Rename(String, String),
}

impl Disk {
    pub(crate) fn new(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
            nodes: vec![Node::dir()],
            fds: HashMap::new(),
            next_op: 0,
            writing: HashMap::new(),
            syncing: HashMap::new(),
            counts: Counts::default(),
        }
    }

    /// Takes in a moment of a call; whether it touched the tree.
    pub(crate) fn feed(&mut self, call: &Call, moment: &Moment) -> bool {
        match (call.name.as_str(), moment) {
            ("write" | "pwrite64", Moment::Begin) => self.begin_write(call),
            ("write" | "pwrite64", Moment::End(written)) => self.end_write(call, *written),
            ("fsync" | "fdatasync", Moment::Begin) => self.begin_sync(call),
            ("fsync" | "fdatasync", Moment::End(result)) => self.end_sync(call, *result),
            (_, Moment::Begin) => false,
            (_, Moment::End(result)) if *result < 0 => false,
            ("open" | "openat" | "creat", Moment::End(fd)) => self.opened(call, *fd),
            ("close", _) => self.fds.remove(&call.number(0)).is_some(),
            ("dup" | "dup2" | "dup3", Moment::End(fd)) => self.duplicated(call, *fd),
            ("fcntl", Moment::End(fd)) => call.word(1).starts_with("F_DUPFD") && self.duplicated(call, *fd),
            ("lseek", Moment::End(offset)) => self.fds.get_mut(&call.number(0)).is_some_and(|fd| {
                fd.offset = *offset as u64;
                false
            }),
            ("ftruncate", _) => match self.fds.get(&call.number(0)) {
                Some(fd) => self.change(fd.node, Change::SetLen(call.number(1) as usize)),
                None => false,
            },
            ("mkdir" | "mkdirat", _) => self.made_dir(call),
            ("rename" | "renameat" | "renameat2", _) => self.renamed(call),
            ("unlink" | "unlinkat" | "rmdir", _) => self.removed(call),
            ("sync_file_range", _) => {
                self.counts.range_syncs += 1;
                false
            }
            ("mmap", _) => {
                let writes = call.word(2).contains("PROT_WRITE") && call.word(3).contains("MAP_SHARED");
                let mapped = call.number(4);
                assert!(
                    !writes || !self.fds.contains_key(&mapped),
                    "a file is written by mmap, which strace cannot see"
                );
                false
            }
            (other, _) => {
                let touches = call.args.iter().enumerate().any(|(at, arg)| match arg {
                    crate::trace::Arg::Bytes(_) => self.path(call, at).is_some(),
                    crate::trace::Arg::Word(word) => word.parse().is_ok_and(|fd| at == 0 && self.fds.contains_key(&fd)),
                });
                assert!(!touches && other != "io_uring_setup", "the disk model has no {other}: add it");
                false
            }
        }
    }

    /// Writes what a cut at this moment leaves to the directory `to`.
    pub(crate) fn cut(&self, fate: Fate, rng: &mut Rng, to: &Path) {
        self.cut_node(0, fate, rng, to);
    }

    fn cut_node(&self, node: usize, fate: Fate, rng: &mut Rng, to: &Path) {
        match &self.nodes[node] {
            Node::File { durable, pending } => {
                fs::write(to, after_cut(durable, pending, fate, rng)).expect("the image can be written");
            }
            Node::Dir { durable, pending, .. } => {
                fs::create_dir_all(to).expect("the image can be made");
                let kept = match fate {
                    Fate::Dropped => 0,
                    Fate::Kept => pending.len(),
                    _ => rng.below(pending.len() as u64 + 1) as usize,
                };
                let mut names = durable.clone();
                pending[..kept].iter().for_each(|(_, naming)| naming.apply(&mut names));
                for (name, child) in names {
                    self.cut_node(child, fate, rng, &to.join(name));
                }
            }
        }
    }

    fn begin_write(&mut self, call: &Call) -> bool {
        let fd_number = call.number(0);
        let Some(fd) = self.fds.get_mut(&fd_number) else { return false };
        let bytes = call.bytes(1).to_vec();
        let offset = if call.name == "pwrite64" {
            call.number(3) as u64
        } else {
            assert!(fd.write_only, "a plain write beside reads: the disk model does not follow the file's offset");
            let offset = fd.offset;
            fd.offset += bytes.len() as u64;
            offset
        };
        let node = fd.node;
        self.counts.writes += 1;
        self.counts.written_bytes += bytes.len() as u64;
        self.writing.insert(call.thread, self.next_op);
        self.change(node, Change::Write { offset: offset as usize, bytes })
    }

    fn end_write(&mut self, call: &Call, written: i64) -> bool {
        let Some(_) = self.writing.remove(&call.thread) else { return false };
        assert_eq!(written, call.bytes(1).len() as i64, "the disk model has no short writes");
        true
    }

    fn begin_sync(&mut self, call: &Call) -> bool {
        let Some(fd) = self.fds.get(&call.number(0)) else { return false };
        let on_their_way: Vec<u64> = self.writing.values().copied().collect();
        let covered = self.nodes[fd.node].pending_ops().filter(|op| !on_their_way.contains(op)).collect();
        self.syncing.insert(call.thread, (fd.node, covered));
        true
    }

    fn end_sync(&mut self, call: &Call, result: i64) -> bool {
        let Some((node, covered)) = self.syncing.remove(&call.thread) else { return false };
        if result == 0 {
            self.counts.syncs += 1;
            self.nodes[node].make_durable(&covered);
        } else {
            // The page cache holds these writes to be clean now: no later fsync covers them.
            self.counts.failed_syncs += 1;
            self.nodes[node].lose(&covered);
        }
        true
    }

    fn opened(&mut self, call: &Call, fd: i64) -> bool {
        let at = usize::from(call.name == "openat");
        let Some(path) = self.path(call, at) else { return false };
        let flags = if call.name == "creat" { "O_WRONLY|O_CREAT|O_TRUNC" } else { call.word(at + 1) };
        assert!(!flags.contains("O_APPEND"), "the disk model has no O_APPEND");
        let node = match self.find(&path) {
            Some(node) => node,
            None => {
                self.nodes.push(Node::File { durable: Vec::new(), pending: Vec::new() });
                let node = self.nodes.len() - 1;
                let (dir, name) = self.parent(&path);
                self.rename_in(dir, Naming::Add(name, node));
                node
            }
        };
        if flags.contains("O_TRUNC") {
            self.change(node, Change::SetLen(0));
        }
        self.fds.insert(fd, Fd { node, offset: 0, write_only: flags.contains("O_WRONLY") });
        true
    }

    fn duplicated(&mut self, call: &Call, to: i64) -> bool {
        if let Some(fd) = self.fds.get(&call.number(0)).copied() {
            self.fds.insert(to, fd);
        }
        false
    }

    fn made_dir(&mut self, call: &Call) -> bool {
        let Some(path) = self.path(call, usize::from(call.name == "mkdirat")) else { return false };
        self.nodes.push(Node::dir());
        let node = self.nodes.len() - 1;
        let (dir, name) = self.parent(&path);
        self.rename_in(dir, Naming::Add(name, node))
    }

    fn renamed(&mut self, call: &Call) -> bool {
        let (from_at, to_at) = if call.name == "rename" { (0, 1) } else { (1, 3) };
        let (Some(from), Some(to)) = (self.path(call, from_at), self.path(call, to_at)) else { return false };
        let ((from_dir, from), (to_dir, to)) = (self.parent(&from), self.parent(&to));
        assert_eq!(from_dir, to_dir, "the disk model has no renames between directories");
        self.rename_in(from_dir, Naming::Rename(from, to))
    }

    fn removed(&mut self, call: &Call) -> bool {
        let Some(path) = self.path(call, usize::from(call.name == "unlinkat")) else { return false };
        let (dir, name) = self.parent(&path);
        self.rename_in(dir, Naming::Remove(name))
    }

    fn change(&mut self, node: usize, change: Change) -> bool {
        let op = self.op();
        let Node::File { pending, .. } = &mut self.nodes[node] else { panic!("a directory is written to") };
        pending.push((op, change));
        true
    }

    fn rename_in(&mut self, dir: usize, naming: Naming) -> bool {
        let op = self.op();
        let Node::Dir { live, pending, .. } = &mut self.nodes[dir] else { panic!("a file has no names") };
        naming.apply(live);
        pending.push((op, naming));
        true
    }

    fn op(&mut self) -> u64 {
        self.next_op += 1;
        self.next_op - 1
    }

    /// The path under the root in argument `at`, relative to it.
    fn path(&self, call: &Call, at: usize) -> Option<PathBuf> {
        let path = Path::new(std::str::from_utf8(call.bytes(at)).ok()?);
        if path.is_relative() && at > 0 {
            let dir_is_ours = call.word(at - 1).parse().is_ok_and(|fd| self.fds.contains_key(&fd));
            assert!(!dir_is_ours, "the disk model has no paths relative to a descriptor");
        }
        path.strip_prefix(&self.root).ok().map(Path::to_owned)
    }

    fn find(&self, path: &Path) -> Option<usize> {
        let mut node = 0;
        for component in path.components() {
            let (Node::Dir { live, .. }, Component::Normal(name)) = (&self.nodes[node], component) else { return None };
            node = *live.get(name.to_str()?)?;
        }
        Some(node)
    }

    fn parent(&self, path: &Path) -> (usize, String) {
        let dir = path.parent().and_then(|parent| self.find(parent)).expect("the parent is there");
        (dir, path.file_name().and_then(|name| name.to_str()).expect("a name").to_owned())
    }
}

impl Node {
    fn dir() -> Self {
        Node::Dir { durable: BTreeMap::new(), live: BTreeMap::new(), pending: Vec::new() }
    }

    fn pending_ops(&self) -> Box<dyn Iterator<Item = u64> + '_> {
        match self {
            Node::File { pending, .. } => Box::new(pending.iter().map(|(op, _)| *op)),
            Node::Dir { pending, .. } => Box::new(pending.iter().map(|(op, _)| *op)),
        }
    }

    fn make_durable(&mut self, ops: &[u64]) {
        match self {
            Node::File { durable, pending } => pending.retain(|(op, change)| {
                let covered = ops.contains(op);
                if covered {
                    change.apply(durable);
                }
                !covered
            }),
            Node::Dir { durable, pending, .. } => pending.retain(|(op, naming)| {
                let covered = ops.contains(op);
                if covered {
                    naming.apply(durable);
                }
                !covered
            }),
        }
    }

    fn lose(&mut self, ops: &[u64]) {
        match self {
            Node::File { pending, .. } => pending.retain(|(op, _)| !ops.contains(op)),
            Node::Dir { .. } => panic!("the disk model has no failed fsync of a directory"),
        }
    }
}

impl Naming {
    fn apply(&self, names: &mut BTreeMap<String, usize>) {
        match self {
            Naming::Add(name, node) => {
                names.insert(name.clone(), *node);
            }
            Naming::Remove(name) => {
                names.remove(name);
            }
            Naming::Rename(from, to) => {
                let node = names.remove(from).expect("what is renamed is there");
                names.insert(to.clone(), node);
            }
        }
    }
}

impl Change {
    fn apply(&self, file: &mut Vec<u8>) {
        match self {
            Change::Write { offset, bytes } => {
                let end = offset + bytes.len();
                if file.len() < end {
                    file.resize(end, 0);
                }
                file[*offset..end].copy_from_slice(bytes);
            }
            Change::SetLen(len) => file.resize(*len, 0),
        }
    }
}

fn after_cut(durable: &[u8], pending: &[(u64, Change)], fate: Fate, rng: &mut Rng) -> Vec<u8> {
    let mut on_disk = durable.to_vec();
    let mut live = durable.to_vec();
    let prefix = rng.below(pending.len() as u64 + 1) as usize;
    for (at, (_, change)) in pending.iter().enumerate() {
        change.apply(&mut live);
        let whole = match fate {
            Fate::Dropped => false,
            Fate::Kept => true,
            Fate::Prefix => at < prefix,
            _ => rng.coin(),
        };
        match change {
            Change::SetLen(len) if whole => on_disk.resize(*len, 0),
            Change::SetLen(_) => {}
            Change::Write { offset, bytes } => {
                let (start, end) = (*offset, offset + bytes.len());
                let torn_end = start + rng.below(bytes.len() as u64 + 1) as usize;
                match fate {
                    _ if whole && !matches!(fate, Fate::Sectors | Fate::Pages) => {
                        reach(&live, &mut on_disk, start, end);
                    }
                    Fate::Prefix if at == prefix => reach(&live, &mut on_disk, start, torn_end),
                    Fate::Torn if rng.coin() => reach(&live, &mut on_disk, start, torn_end),
                    Fate::Sectors => reach_in_parts(&live, &mut on_disk, start..end, SECTOR_BYTES, rng),
                    Fate::Pages => reach_in_parts(&live, &mut on_disk, start..end, PAGE_BYTES, rng),
                    _ => {}
                }
            }
        }
    }
    on_disk
}

/// Bytes `start..end` and what else was written to their first sector reach the disk.
fn reach(live: &[u8], on_disk: &mut Vec<u8>, start: usize, end: usize) {
    if start == end {
        return;
    }
    let start = start / SECTOR_BYTES * SECTOR_BYTES;
    if on_disk.len() < end {
        on_disk.resize(end, 0);
    }
    on_disk[start..end].copy_from_slice(&live[start..end]);
}

fn reach_in_parts(live: &[u8], on_disk: &mut Vec<u8>, bytes: std::ops::Range<usize>, part_bytes: usize, rng: &mut Rng) {
    let mut start = bytes.start / part_bytes * part_bytes;
    while start < bytes.end {
        let end = (start + part_bytes).min(live.len());
        if rng.coin() {
            reach(live, on_disk, start, end);
        }
        start += part_bytes;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(offset: usize, bytes: &[u8]) -> (u64, Change) {
        (0, Change::Write { offset, bytes: bytes.to_vec() })
    }

    #[test]
    fn fates_are_what_they_say() {
        let durable = vec![b'.'; 1024];
        let pending = [write(0, &[b'a'; 512]), write(512, &[b'b'; 1024])];
        let after = |fate, seed| after_cut(&durable, &pending, fate, &mut Rng::new(seed));
        assert_eq!(after(Fate::Dropped, 1), durable);
        let kept = after(Fate::Kept, 1);
        assert_eq!((kept.len(), kept[0], kept[1535]), (1536, b'a', b'b'));
        let outcomes = |fate| (0..200).map(|seed| after(fate, seed)).collect::<std::collections::BTreeSet<_>>();
        assert_eq!(outcomes(Fate::Whole).len(), 4);
        // Three sectors, each dropped or kept; the last, beyond the end, as a length.
        assert_eq!(outcomes(Fate::Sectors).len(), 8);
        assert!(outcomes(Fate::Torn).len() > 50);
        // The second never without the first.
        assert!(outcomes(Fate::Prefix).iter().all(|image| image[512] != b'b' || image[0] == b'a'));
    }

    #[test]
    fn a_sector_reaches_the_disk_with_all_that_was_written_to_it() {
        let pending = [write(0, b"aa"), write(2, b"bb")];
        for seed in 0..50 {
            let image = after_cut(b"....", &pending, Fate::Whole, &mut Rng::new(seed));
            assert!([&b"...."[..], b"aa..", b"aabb"].contains(&&*image), "{image:?}");
        }
    }
}
