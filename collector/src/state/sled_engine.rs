//! sled 0.34 as the state engine: one tree, each key behind its table's number, and a real fsync after its flush.

use std::fs::{self, File};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{PoisonError, RwLock};
use std::thread;
use std::time::Duration;

use super::error::{FORMAT, Fault, check_format};
use super::guard::Store;
use super::{Batch, Each, Engine, KEY_MAX_BYTES, Record, Table, VALUE_MAX_BYTES};

/// sled's page cache: the whole state fits.
const CACHE_BYTES: u64 = 16 * 1024 * 1024;
/// Part of the format: sled refuses a file of another segment size.
const SEGMENT_BYTES: usize = 4 * 1024 * 1024;

/// sled splits a leaf when it is walked past with more items than this.
const LEAF_MAX_ITEMS: usize = 16;
/// Room for what is added before the next walk, and for sled's own bytes.
const LEAF_SLACK_ITEMS: usize = 8;
/// sled writes a leaf larger than a quarter of a segment to a file of its own, which it never syncs.
const _: () = assert!((LEAF_MAX_ITEMS + LEAF_SLACK_ITEMS) * (KEY_MAX_BYTES + VALUE_MAX_BYTES) < SEGMENT_BYTES / 4);

/// How long a flush may take before it is looked after.
const FLUSH_PATIENCE: Duration = Duration::from_secs(1);

/// The key of the format number: 0 is no table's number.
const FORMAT_KEY: &[u8] = b"\0format";

/// An open sled directory.
#[derive(Debug)]
pub(super) struct SledStore {
    /// Locked for writing until a commit is durable: a scan of sled is no snapshot, and nobody shall read what a
    /// power cut can still take back.
    ///
    /// `None` only while it is dropped.
    db: RwLock<Option<sled::Db>>,
    /// sled's data file. Its `flush` only calls `sync_file_range` (its issue 1452), which promises nothing: 12 of 30
    /// power cuts left it panicking on open. A descriptor of its own: Linux tells each of a failed write-back, also
    /// of one that sled's thread was told of and only logged.
    data_file: File,
}

impl Store for SledStore {
    const ENGINE: Engine = Engine::Sled;

    fn create(path: &Path) -> Result<(), Fault> {
        let db = config(path).open()?;
        db.insert(FORMAT_KEY, &FORMAT.to_le_bytes())?;
        flush(&db)?;
        drop(db);
        sync_tree(path)?;
        Ok(())
    }

    fn open(path: &Path) -> Result<Self, Fault> {
        remove_half_snapshots(path)?;
        let db = config(path).open()?;
        check_format(db.get(FORMAT_KEY)?.as_deref())?;
        // Opening writes a snapshot under a new name and removes the old one.
        sync_tree(path)?;
        Ok(Self { db: RwLock::new(Some(db)), data_file: File::open(path.join("db"))? })
    }

    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, Fault> {
        let db = self.db.read().unwrap_or_else(PoisonError::into_inner);
        Ok(opened(&db)?.get(tree_key(table, key))?.map(|value| value.to_vec()))
    }

    fn scan(&self, table: Table, prefix: &[u8], each: &mut Each<'_>) -> Result<(), Fault> {
        let db = self.db.read().unwrap_or_else(PoisonError::into_inner);
        let entries: Vec<_> = opened(&db)?.scan_prefix(tree_key(table, prefix)).collect::<Result<_, _>>()?;
        // `each` may commit.
        drop(db);
        for (key, value) in entries {
            if each(&key[1..], &value).is_break() {
                break;
            }
        }
        Ok(())
    }

    fn records(&self) -> Result<Vec<Record>, Fault> {
        // For writing, so that no commit is half seen.
        let db = self.db.write().unwrap_or_else(PoisonError::into_inner);
        let mut records = Vec::new();
        for entry in opened(&db)?.iter() {
            let (key, value) = entry?;
            // The format number stands under no table's number.
            if let Some((number, key)) = key.split_first()
                && let Some(table) = Table::from_number(*number)
            {
                records.push((table, key.to_vec(), value.to_vec()));
            }
        }
        Ok(records)
    }

    fn commit(&self, batch: &Batch) -> Result<(), Fault> {
        let db = self.db.write().unwrap_or_else(PoisonError::into_inner);
        let db = opened(&db)?;
        let mut sled_batch = sled::Batch::default();
        for (table, key, value) in batch.iter() {
            match value {
                Some(value) => sled_batch.insert(tree_key(table, key), value),
                None => sled_batch.remove(tree_key(table, key)),
            }
        }
        db.apply_batch(sled_batch)?;
        flush(db)?;
        self.data_file.sync_data()?;
        Ok(())
    }
}

impl Drop for SledStore {
    fn drop(&mut self) {
        let db = self.db.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        // sled panics when its last fsync fails; nothing that was committed hangs on it.
        let _ = catch_unwind(AssertUnwindSafe(|| drop(db)));
    }
}

fn opened(db: &Option<sled::Db>) -> Result<&sled::Db, Fault> {
    db.as_ref().ok_or_else(|| Fault::Other("it is closed".to_owned()))
}

/// sled's flush, which may miss that a write of another thread failed and then waits for ever: a second flush sees
/// the failure, and wakes the first.
fn flush(db: &sled::Db) -> Result<(), sled::Error> {
    thread::scope(|scope| {
        let (flushed, watched) = mpsc::channel::<()>();
        scope.spawn(move || {
            let mut patience = FLUSH_PATIENCE;
            while watched.recv_timeout(patience) == Err(RecvTimeoutError::Timeout) {
                scope.spawn(|| db.flush());
                patience *= 2;
            }
        });
        let result = db.flush();
        drop(flushed);
        result.map(drop)
    })
}

fn config(path: &Path) -> sled::Config {
    sled::Config::new().path(path).cache_capacity(CACHE_BYTES).segment_size(SEGMENT_BYTES)
}

fn tree_key(table: Table, key: &[u8]) -> Vec<u8> {
    let mut tree_key = Vec::with_capacity(1 + key.len());
    tree_key.push(table as u8);
    tree_key.extend_from_slice(key);
    tree_key
}

/// Removes what a crash left of a snapshot being written: sled would take it for the newest and refuse to open.
fn remove_half_snapshots(path: &Path) -> io::Result<()> {
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        let name = entry.file_name();
        if name.as_encoded_bytes().starts_with(b"snap.") && name.as_encoded_bytes().ends_with(b".generating") {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// Makes a directory, what is in it and their names durable.
fn sync_tree(path: &Path) -> io::Result<()> {
    if fs::metadata(path)?.is_dir() {
        for entry in fs::read_dir(path)? {
            sync_tree(&entry?.path())?;
        }
    }
    File::open(path)?.sync_all()
}

impl From<sled::Error> for Fault {
    fn from(error: sled::Error) -> Self {
        match error {
            sled::Error::Io(error) if error.to_string().starts_with("could not acquire lock") => Fault::InUse,
            sled::Error::Io(error) => Fault::Io(error),
            sled::Error::Corruption { at, .. } => Fault::Damaged(format!("bad bytes at {at:?}")),
            error => Fault::Other(error.to_string()),
        }
    }
}
