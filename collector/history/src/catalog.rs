//! Which files there should be, so that one that is gone as a whole is noticed: a block, or the end of the log
//! (docs/formats/catalog.md).
//!
//! It is written after a file is durable and before one is removed: what it names was there. What it does not name may be
//! there all the same, after a crash between the two. Where it cannot be written, as on a full disk, it is removed: it
//! may know nothing, but nothing that is wrong.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pitwatch_disk::Disk;

use crate::blocks::TEMPORARY_SUFFIX;
use crate::bytes::{Fields, Malformed, put_u64};

/// The file's name, beside the blocks.
pub(crate) const FILE: &str = "catalog";
const MAGIC: [u8; 8] = *b"PITWCAT\n";
/// The version that this program writes, and the latest that it reads.
pub(crate) const VERSION: u32 = 1;

/// What there should be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Known {
    /// The last segment of the log that something was committed to.
    pub(crate) segment: Option<u64>,
    /// The numbers of the blocks.
    pub(crate) blocks: BTreeSet<u64>,
}

/// The catalog of a store.
#[derive(Debug)]
pub(crate) struct Catalog {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    known: Mutex<Known>,
}

/// What a catalog's bytes are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Parsed {
    Known(Known),
    /// Not the bytes that were written.
    Damaged,
    /// A later version's.
    Newer(u32),
}

impl Catalog {
    /// The catalog beside the blocks in `dir`.
    pub(crate) fn new(disk: Arc<dyn Disk>, dir: &Path) -> Self {
        Self { disk, dir: dir.to_owned(), known: Mutex::default() }
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.dir.join(FILE)
    }

    /// What the file says; `None` if there is none.
    pub(crate) fn read(&self) -> io::Result<Option<Parsed>> {
        let file = match self.disk.open(&self.path()) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            file => file?,
        };
        let mut bytes = vec![0; usize::try_from(file.len()?).map_err(io::Error::other)?];
        file.read_at(0, &mut bytes)?;
        Ok(Some(parse(&bytes)))
    }

    /// The last segment that something was committed to.
    pub(crate) fn segment(&self) -> Option<u64> {
        self.known().segment
    }

    /// Notes a change of what there should be; nothing is written if there is none.
    pub(crate) fn note(&self, change: impl FnOnce(&mut Known)) {
        let mut known = self.known();
        let before = known.clone();
        change(&mut known);
        if *known != before {
            self.write(&known);
        }
    }

    fn write(&self, known: &Known) {
        let temporary = self.dir.join(format!("{FILE}{TEMPORARY_SUFFIX}"));
        let write = || -> io::Result<()> {
            let file = self.disk.create(&temporary)?;
            file.write_at(0, &encode(known))?;
            file.sync()?;
            self.disk.rename(&temporary, &self.path())?;
            self.disk.sync_dir(&self.dir)
        };
        if write().is_err() {
            let _ = self.disk.remove(&temporary);
            let _ = self.disk.remove(&self.path());
            let _ = self.disk.sync_dir(&self.dir);
        }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn encode(known: &Known) -> Vec<u8> {
    let mut out = MAGIC.to_vec();
    out.extend_from_slice(&VERSION.to_le_bytes());
    put_u64(&mut out, known.segment.map_or(0, |segment| segment.saturating_add(1)));
    put_u64(&mut out, known.blocks.len() as u64);
    for number in &known.blocks {
        put_u64(&mut out, *number);
    }
    let crc = crc32fast::hash(&out);
    out.extend_from_slice(&crc.to_le_bytes());
    out
}

pub(crate) fn parse(bytes: &[u8]) -> Parsed {
    let parse = || {
        let (body, crc) = bytes.split_last_chunk().ok_or(Malformed)?;
        if crc32fast::hash(body) != u32::from_le_bytes(*crc) {
            return Err(Malformed);
        }
        let mut fields = Fields::new(body);
        if fields.take(MAGIC.len())? != MAGIC {
            return Err(Malformed);
        }
        match fields.fixed_u32()? {
            VERSION => {}
            newer => return Ok(Parsed::Newer(newer)),
        }
        let mut known = Known { segment: fields.u64()?.checked_sub(1), ..Known::default() };
        for _ in 0..fields.count(1)? {
            known.blocks.insert(fields.u64()?);
        }
        if fields.is_empty() { Ok(Parsed::Known(known)) } else { Err(Malformed) }
    };
    parse().unwrap_or(Parsed::Damaged)
}

#[cfg(test)]
mod tests {
    use super::*;
    use pitwatch_disk::SimDisk;

    fn known() -> Known {
        Known { segment: Some(7), blocks: [1, 3, 900].into() }
    }

    #[test]
    fn a_catalog_comes_back_and_no_flip_or_cut_of_it_passes() {
        let bytes = encode(&known());
        assert_eq!(parse(&bytes), Parsed::Known(known()));
        assert_eq!(parse(&encode(&Known::default())), Parsed::Known(Known::default()));
        for len in 0..bytes.len() {
            assert_eq!(parse(&bytes[..len]), Parsed::Damaged);
        }
        for bit in 0..bytes.len() * 8 {
            let mut bytes = bytes.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(parse(&bytes), Parsed::Damaged);
        }
    }

    #[test]
    fn a_newer_one_is_told_and_one_that_cannot_be_written_goes() {
        let mut bytes = encode(&known());
        bytes[8] = 2;
        let end = bytes.len() - 4;
        let crc = crc32fast::hash(&bytes[..end]);
        bytes[end..].copy_from_slice(&crc.to_le_bytes());
        assert_eq!(parse(&bytes), Parsed::Newer(2));

        let disk = SimDisk::new(1);
        let catalog = Catalog::new(Arc::new(disk.clone()), Path::new("/blocks"));
        assert_eq!(catalog.read().unwrap(), None);
        catalog.note(|now| *now = known());
        assert_eq!(catalog.read().unwrap(), Some(Parsed::Known(known())));
        disk.set_capacity(disk.used_bytes() + 3);
        catalog.note(|now| now.segment = Some(8));
        assert_eq!(catalog.read().unwrap(), None);
        disk.set_capacity(u64::MAX);
        catalog.note(|now| now.segment = Some(9));
        assert_eq!(catalog.read().unwrap(), Some(Parsed::Known(Known { segment: Some(9), ..known() })));
    }
}
