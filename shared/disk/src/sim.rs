//! A disk in memory that forgets, tears and refuses as real ones do, repeatably by a seed.
//!
//! The model: a write is durable once a later sync of its file succeeded; a name (made, renamed, removed) once its
//! directory was synced. At a power cut every other write is kept, dropped or kept in part, in any combination, and
//! the name changes of a directory are kept up to a random one. After a failed sync, what it should have written
//! may be lost even if a later sync succeeds: the kernel marks such pages clean.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::{Disk, DiskFile};

/// Writes are torn at multiples of this, or at any byte of the last piece.
const SECTOR_BYTES: usize = 512;

/// A simulated disk; clones are the same disk.
#[derive(Clone, Debug)]
pub struct SimDisk(Arc<Mutex<Inner>>);

#[derive(Debug)]
struct Inner {
    random: Random,
    files: BTreeMap<u64, FileState>,
    next_file: u64,
    /// What a running system sees.
    names: BTreeMap<PathBuf, u64>,
    /// What a power cut leaves.
    durable_names: BTreeMap<PathBuf, u64>,
    /// Name changes since their directory was last synced, oldest first.
    pending_names: Vec<NameChange>,
    /// Handles of an earlier generation are dead.
    generation: u64,
    capacity_bytes: u64,
    failing_syncs: u32,
    failing_writes: u32,
    /// Reads that succeed yet, and how many fail after them.
    failing_reads: (u32, u32),
    /// Changes until the power goes by itself.
    changes_left: Option<u64>,
    dark: bool,
}

#[derive(Debug, Default)]
struct FileState {
    live: Vec<u8>,
    durable: Vec<u8>,
    pending: Vec<Write>,
}

#[derive(Debug)]
struct Write {
    change: Change,
    /// A sync that should have covered it failed: no later sync makes it durable.
    doomed: bool,
}

#[derive(Debug)]
enum Change {
    Bytes(usize, Vec<u8>),
    Length(usize),
}

#[derive(Debug)]
enum NameChange {
    Set(PathBuf, u64),
    Remove(PathBuf),
    Rename(PathBuf, PathBuf, u64),
}

impl NameChange {
    fn dir(&self) -> &Path {
        let (Self::Set(path, _) | Self::Remove(path) | Self::Rename(_, path, _)) = self;
        path.parent().unwrap_or(Path::new(""))
    }

    fn apply(&self, names: &mut BTreeMap<PathBuf, u64>) {
        match self {
            Self::Set(path, file) => {
                names.insert(path.clone(), *file);
            }
            Self::Remove(path) => {
                names.remove(path);
            }
            Self::Rename(from, to, file) => {
                names.remove(from);
                names.insert(to.clone(), *file);
            }
        }
    }
}

impl SimDisk {
    /// An empty disk without faults, whose chances follow `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(Inner {
            random: Random(seed),
            files: BTreeMap::new(),
            next_file: 0,
            names: BTreeMap::new(),
            durable_names: BTreeMap::new(),
            pending_names: Vec::new(),
            generation: 0,
            capacity_bytes: u64::MAX,
            failing_syncs: 0,
            failing_writes: 0,
            failing_reads: (0, 0),
            changes_left: None,
            dark: false,
        })))
    }

    /// Cuts the power and turns it on again: what was not durable is kept, lost or torn by chance, and every open
    /// handle is dead.
    pub fn power_cut(&self) {
        let mut inner = self.lock();
        let inner = &mut *inner;
        let kept = inner.random.below(inner.pending_names.len() as u64 + 1) as usize;
        for change in inner.pending_names.drain(..).take(kept) {
            change.apply(&mut inner.durable_names);
        }
        inner.names = inner.durable_names.clone();
        let names = &inner.names;
        inner.files.retain(|id, _| names.values().any(|named| named == id));
        for file in inner.files.values_mut() {
            for write in std::mem::take(&mut file.pending) {
                survive(&mut file.durable, &write.change, &mut inner.random);
            }
            file.live = file.durable.clone();
        }
        inner.generation += 1;
        inner.changes_left = None;
        inner.dark = false;
    }

    /// Lets `changes` more changes (writes, syncs, names) happen; all after them fail until [`SimDisk::power_cut`].
    pub fn cut_after(&self, changes: u64) {
        self.lock().changes_left = Some(changes);
    }

    /// A file system of `bytes`: growth past it fails with `StorageFull`, after writing what fits.
    pub fn set_capacity(&self, bytes: u64) {
        self.lock().capacity_bytes = bytes;
    }

    /// The next `count` syncs fail with an I/O error.
    pub fn fail_syncs(&self, count: u32) {
        self.lock().failing_syncs = count;
    }

    /// The next `count` writes fail with an I/O error, each after a random part of its bytes.
    pub fn fail_writes(&self, count: u32) {
        self.lock().failing_writes = count;
    }

    /// After `after` more reads the next `count` fail with an I/O error.
    pub fn fail_reads(&self, after: u32, count: u32) {
        self.lock().failing_reads = (after, count);
    }

    /// Flips one bit of a file, on the disk and in the running system's view.
    ///
    /// # Panics
    /// If there is no such file or bit: a mistake of the test.
    pub fn flip_bit(&self, path: &Path, bit: usize) {
        let mut inner = self.lock();
        let id = inner.names[path];
        let file = inner.files.get_mut(&id).expect("a named file");
        file.live[bit / 8] ^= 1 << (bit % 8);
        if let Some(byte) = file.durable.get_mut(bit / 8) {
            *byte ^= 1 << (bit % 8);
        }
    }

    /// Bytes that all files hold together.
    #[must_use]
    pub fn used_bytes(&self) -> u64 {
        self.lock().used_bytes()
    }

    /// Bytes of one file as the running system sees it.
    #[must_use]
    pub fn contents(&self, path: &Path) -> Option<Vec<u8>> {
        let inner = self.lock();
        let id = inner.names.get(path)?;
        Some(inner.files[id].live.clone())
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn handle(&self, inner: &Inner, file: u64) -> Box<dyn DiskFile> {
        Box::new(SimFile { disk: self.clone(), file, generation: inner.generation })
    }
}

impl Inner {
    /// Counts one change against the planned power cut.
    fn change(&mut self) -> io::Result<()> {
        match &mut self.changes_left {
            Some(0) => self.dark = true,
            Some(left) => *left -= 1,
            None => {}
        }
        self.powered()
    }

    fn powered(&self) -> io::Result<()> {
        if self.dark { Err(io::Error::other("simulated power cut")) } else { Ok(()) }
    }

    fn used_bytes(&self) -> u64 {
        let files: BTreeSet<u64> = self.names.values().copied().collect();
        files.iter().map(|id| self.files[id].live.len() as u64).sum()
    }

    fn id(&self, path: &Path) -> io::Result<u64> {
        self.names.get(path).copied().ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, path.display().to_string()))
    }

    fn name(&mut self, change: NameChange) {
        change.apply(&mut self.names);
        self.pending_names.push(change);
    }
}

impl Disk for SimDisk {
    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let mut inner = self.lock();
        inner.change()?;
        if inner.names.contains_key(path) {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, path.display().to_string()));
        }
        let id = inner.next_file;
        inner.next_file += 1;
        inner.files.insert(id, FileState::default());
        inner.name(NameChange::Set(path.to_owned(), id));
        Ok(self.handle(&inner, id))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let inner = self.lock();
        inner.powered()?;
        let id = inner.id(path)?;
        Ok(self.handle(&inner, id))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let inner = self.lock();
        inner.powered()?;
        let here = inner.names.keys().filter(|path| path.parent() == Some(dir));
        Ok(here.filter_map(|path| Some(path.file_name()?.to_str()?.to_owned())).collect())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut inner = self.lock();
        inner.change()?;
        let id = inner.id(from)?;
        inner.name(NameChange::Rename(from.to_owned(), to.to_owned(), id));
        Ok(())
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut inner = self.lock();
        inner.change()?;
        if inner.names.contains_key(to) {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, to.display().to_string()));
        }
        let id = inner.id(from)?;
        inner.name(NameChange::Set(to.to_owned(), id));
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut inner = self.lock();
        inner.change()?;
        inner.id(path)?;
        inner.name(NameChange::Remove(path.to_owned()));
        Ok(())
    }

    fn create_dir_all(&self, _dir: &Path) -> io::Result<()> {
        // Directories are implied by the paths of their files.
        self.lock().powered()
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut inner = self.lock();
        inner.change()?;
        let inner = &mut *inner;
        let (synced, pending) = inner.pending_names.drain(..).partition(|change| change.dir() == dir);
        inner.pending_names = pending;
        for change in synced {
            let change: NameChange = change;
            change.apply(&mut inner.durable_names);
        }
        Ok(())
    }

    fn free_bytes(&self, _dir: &Path) -> io::Result<u64> {
        let inner = self.lock();
        Ok(inner.capacity_bytes.saturating_sub(inner.used_bytes()))
    }
}

#[derive(Debug)]
struct SimFile {
    disk: SimDisk,
    file: u64,
    generation: u64,
}

impl SimFile {
    fn with<T>(&self, change: bool, run: impl FnOnce(&mut Inner) -> io::Result<T>) -> io::Result<T> {
        let mut inner = self.disk.lock();
        if inner.generation != self.generation {
            return Err(io::Error::other("a handle from before the power cut"));
        }
        let powered = if change { inner.change() } else { inner.powered() };
        powered?;
        run(&mut inner)
    }
}

/// The state of a file by its id; handles keep removed files alive, as the system does.
fn file(inner: &mut Inner, id: u64) -> &mut FileState {
    inner.files.entry(id).or_default()
}

impl DiskFile for SimFile {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        self.with(false, |inner| {
            match &mut inner.failing_reads {
                (0, 0) => {}
                (0, left) => {
                    *left -= 1;
                    return Err(io::Error::other("simulated read failure"));
                }
                (after, _) => *after -= 1,
            }
            let live = &file(inner, self.file).live;
            let from = usize::try_from(offset).map_err(io::Error::other)?;
            let bytes = live.get(from..).and_then(|rest| rest.get(..buf.len()));
            buf.copy_from_slice(bytes.ok_or(io::ErrorKind::UnexpectedEof)?);
            Ok(())
        })
    }

    fn write_at(&self, offset: u64, buf: &[u8]) -> io::Result<()> {
        self.with(true, |inner| {
            let fails = inner.failing_writes > 0;
            inner.failing_writes = inner.failing_writes.saturating_sub(1);
            let short = if fails { inner.random.below(buf.len() as u64 + 1) as usize } else { buf.len() };
            let free = inner.capacity_bytes.saturating_sub(inner.used_bytes());
            let state = file(inner, self.file);
            let from = usize::try_from(offset).map_err(io::Error::other)?;
            let growth = (from + buf.len()).saturating_sub(state.live.len()) as u64;
            let lost = usize::try_from(growth.saturating_sub(free)).map_err(io::Error::other)?;
            let bytes = buf[..buf.len().saturating_sub(lost).min(short)].to_vec();
            let whole = bytes.len() == buf.len();
            let change = Change::Bytes(from, bytes);
            apply(&mut state.live, &change);
            state.pending.push(Write { change, doomed: false });
            match (fails, whole) {
                (true, _) => Err(io::Error::other("simulated write failure")),
                (false, true) => Ok(()),
                (false, false) => Err(io::ErrorKind::StorageFull.into()),
            }
        })
    }

    fn len(&self) -> io::Result<u64> {
        self.with(false, |inner| Ok(file(inner, self.file).live.len() as u64))
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.with(true, |inner| {
            let change = Change::Length(usize::try_from(len).map_err(io::Error::other)?);
            let state = file(inner, self.file);
            apply(&mut state.live, &change);
            state.pending.push(Write { change, doomed: false });
            Ok(())
        })
    }

    fn sync(&self) -> io::Result<()> {
        self.with(true, |inner| {
            let fails = inner.failing_syncs > 0;
            inner.failing_syncs = inner.failing_syncs.saturating_sub(1);
            let state = file(inner, self.file);
            if fails {
                state.pending.iter_mut().for_each(|write| write.doomed = true);
                return Err(io::Error::other("simulated sync failure"));
            }
            // Doomed writes stay behind, to be lost or kept by chance. A later write to the same place hides them.
            let (doomed, synced): (Vec<_>, Vec<_>) = state.pending.drain(..).partition(|write| write.doomed);
            state.pending = doomed;
            for write in synced {
                apply(&mut state.durable, &write.change);
            }
            Ok(())
        })
    }
}

fn apply(data: &mut Vec<u8>, change: &Change) {
    match change {
        Change::Length(len) => data.resize(*len, 0),
        Change::Bytes(..) if matches!(change, Change::Bytes(_, bytes) if bytes.is_empty()) => {}
        Change::Bytes(from, bytes) => {
            if data.len() < from + bytes.len() {
                data.resize(from + bytes.len(), 0);
            }
            data[*from..from + bytes.len()].copy_from_slice(bytes);
        }
    }
}

/// Applies what a power cut leaves of a write that was not durable.
fn survive(data: &mut Vec<u8>, change: &Change, random: &mut Random) {
    match (random.below(3), change) {
        (0, _) => {}
        (1, _) | (_, Change::Length(_)) => apply(data, change),
        (_, Change::Bytes(from, bytes)) => {
            let torn = random.below(bytes.len() as u64 + 1) as usize;
            for (i, sector) in bytes[..torn].chunks(SECTOR_BYTES).enumerate() {
                if random.below(4) > 0 {
                    apply(data, &Change::Bytes(from + i * SECTOR_BYTES, sector.to_vec()));
                }
            }
        }
    }
}

/// SplitMix64 (Steele, Lea, Flood 2014): small, and the same everywhere.
#[derive(Debug)]
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound.max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(name: &str) -> PathBuf {
        Path::new("dir").join(name)
    }

    #[test]
    fn synced_bytes_and_names_survive_every_cut() {
        for seed in 0..200 {
            let disk = SimDisk::new(seed);
            let file = disk.create(&path("a")).unwrap();
            file.write_at(0, &[7; 2000]).unwrap();
            file.sync().unwrap();
            disk.sync_dir(Path::new("dir")).unwrap();
            file.write_at(2000, &[9; 2000]).unwrap();
            disk.power_cut();
            assert!(file.len().is_err(), "the handle is dead");
            let data = disk.contents(&path("a")).unwrap();
            assert_eq!(data[..2000], [7; 2000]);
            assert!(data[2000..].iter().all(|b| *b == 9 || *b == 0));
        }
    }

    #[test]
    fn unsynced_bytes_and_names_are_lost_in_some_cuts_and_kept_in_others() {
        let mut outcomes = std::collections::BTreeSet::new();
        for seed in 0..200 {
            let disk = SimDisk::new(seed);
            let file = disk.create(&path("a")).unwrap();
            file.write_at(0, &[7; 1500]).unwrap();
            disk.power_cut();
            outcomes.insert(disk.contents(&path("a")).map(|data| data.len()));
        }
        assert!(outcomes.contains(&None) && outcomes.contains(&Some(0)) && outcomes.contains(&Some(1500)));
        assert!(outcomes.len() > 4, "some are torn: {outcomes:?}");
    }

    #[test]
    fn a_failed_sync_may_lose_what_a_later_one_does_not_cover() {
        let lost = (0..100).any(|seed| {
            let disk = SimDisk::new(seed);
            let file = disk.create(&path("a")).unwrap();
            disk.sync_dir(Path::new("dir")).unwrap();
            disk.fail_syncs(1);
            file.write_at(0, b"abc").unwrap();
            assert!(file.sync().is_err());
            file.sync().unwrap();
            disk.power_cut();
            disk.contents(&path("a")).unwrap() != b"abc"
        });
        assert!(lost);
    }

    #[test]
    fn a_full_disk_writes_what_fits_and_says_so() {
        let disk = SimDisk::new(1);
        disk.set_capacity(10);
        let file = disk.create(&path("a")).unwrap();
        file.write_at(0, &[1; 8]).unwrap();
        assert_eq!(file.write_at(8, &[1; 8]).unwrap_err().kind(), io::ErrorKind::StorageFull);
        assert_eq!(file.len().unwrap(), 10);
        assert_eq!(disk.free_bytes(Path::new("dir")).unwrap(), 0);
        file.set_len(4).unwrap();
        file.write_at(4, &[2; 4]).unwrap();
    }

    #[test]
    fn writes_and_reads_fail_as_often_as_was_said() {
        let disk = SimDisk::new(1);
        let file = disk.create(&path("a")).unwrap();
        disk.fail_writes(1);
        assert!(file.write_at(0, &[1; 100]).is_err());
        assert!(file.len().unwrap() <= 100);
        file.write_at(0, &[2; 100]).unwrap();
        disk.fail_reads(0, 1);
        let mut buf = [0; 100];
        assert!(file.read_at(0, &mut buf).is_err());
        file.read_at(0, &mut buf).unwrap();
        assert_eq!(buf, [2; 100]);
    }

    #[test]
    fn a_planned_cut_stops_all_changes() {
        let disk = SimDisk::new(1);
        let file = disk.create(&path("a")).unwrap();
        disk.cut_after(1);
        file.write_at(0, b"x").unwrap();
        assert!(file.sync().is_err());
        assert!(disk.create(&path("b")).is_err());
        disk.power_cut();
        assert!(disk.create(&path("b")).is_ok());
    }
}
