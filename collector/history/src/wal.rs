//! The write-ahead log: what came off the wire, durable before it is acknowledged.
//!
//! - [`record`]: the bytes of segments and records.
//! - `Writer`: appends, group commit, and what becomes of a segment whose disk refused.
//! - `replay`: which segments count after a crash, and their records in order.
//!
//! A segment names the one before it and how much of it counts. After a failed write or sync nothing more is
//! written to that segment: what was not durable goes to a new one, which continues the old one at its last durable
//! byte. What records mean is `ingest`'s matter.

pub mod record;
pub(crate) mod replay;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use pitwatch_disk::{Disk, DiskFile};

use crate::error::CommitError;
use record::{HEADER_BYTES, Header, Record};

/// The path of a segment.
pub(crate) fn segment_path(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("{number:08}.wal"))
}

/// The number of a segment's file name.
pub(crate) fn segment_number(name: &str) -> Option<u64> {
    name.strip_suffix(".wal")?.parse().ok()
}

/// Appends to the log. One at a time.
#[derive(Debug)]
pub(crate) struct Writer {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    /// The segment being written; `None` at first and after a failure.
    segment: Option<Segment>,
    /// The segment that the next one continues, and its durable bytes.
    previous: Option<(u64, u64)>,
    next_number: u64,
    /// Records that are not durable.
    pending: Vec<u8>,
    /// Durable bytes since the last checkpointed segment began.
    durable_bytes: u64,
}

#[derive(Debug)]
struct Segment {
    number: u64,
    path: PathBuf,
    file: Box<dyn DiskFile>,
    durable_len: u64,
}

impl Writer {
    /// A log in `dir` that goes on after `previous` with segments from `next_number`.
    pub(crate) fn new(
        disk: Arc<dyn Disk>,
        dir: PathBuf,
        previous: Option<(u64, u64)>,
        next_number: u64,
        durable_bytes: u64,
    ) -> Self {
        Self { disk, dir, segment: None, previous, next_number, pending: Vec::new(), durable_bytes }
    }

    /// Adds a record to what the next commit writes.
    pub(crate) fn push(&mut self, record: &Record<'_>) {
        record::put(&mut self.pending, record);
    }

    /// The last segment that something was committed to.
    pub(crate) fn last(&self) -> Option<u64> {
        let current = self.segment.as_ref().map(|segment| segment.number);
        current.or(self.previous.map(|(number, _)| number))
    }

    pub(crate) fn pending_bytes(&self) -> u64 {
        self.pending.len() as u64
    }

    /// Bytes that a restart would replay.
    pub(crate) fn bytes(&self) -> u64 {
        self.durable_bytes
    }

    /// How much of the segment of that file name counts, if it is the last one.
    pub(crate) fn durable_len(&self, name: &str) -> Option<u64> {
        let last = self.segment.as_ref().map(|segment| (segment.number, segment.durable_len)).or(self.previous);
        last.filter(|(number, _)| segment_number(name) == Some(*number)).map(|(_, len)| len)
    }

    /// Makes everything pushed so far durable.
    pub(crate) fn commit(&mut self) -> Result<(), CommitError> {
        if self.pending.is_empty() {
            return Ok(());
        }
        let mut pending = std::mem::take(&mut self.pending);
        let written = match &mut self.segment {
            Some(segment) => segment.append(&pending),
            None => self.begin(false, &pending),
        };
        match written {
            Ok(()) => {
                self.durable_bytes += pending.len() as u64;
                pending.clear();
                self.pending = pending;
                Ok(())
            }
            Err(failed) => {
                self.pending = pending;
                self.abandon();
                Err(CommitError {
                    action: failed.action,
                    path: failed.path,
                    pending_bytes: self.pending_bytes(),
                    source: failed.source,
                })
            }
        }
    }

    /// Begins a segment with a checkpoint of every source, after a commit. Answers the last segment before it, if
    /// there is one: once its head is in a block, it and all before it may go.
    pub(crate) fn rotate(&mut self, checkpoint: &[u8]) -> Result<Option<u64>, CommitError> {
        self.commit()?;
        // Whatever happens next, the old segment may not grow: a half-made new one may turn up after a crash and
        // says how much of the old one counts.
        self.abandon();
        let last = self.previous.map(|(number, _)| number);
        match self.begin(true, checkpoint) {
            Ok(()) => {
                self.durable_bytes = (HEADER_BYTES + checkpoint.len()) as u64;
                Ok(last)
            }
            Err(failed) => {
                Err(CommitError { action: failed.action, path: failed.path, pending_bytes: 0, source: failed.source })
            }
        }
    }

    fn begin(&mut self, checkpointed: bool, content: &[u8]) -> Result<(), Failed> {
        let number = self.next_number;
        self.next_number += 1;
        let path = segment_path(&self.dir, number);
        let header = Header { number, previous: self.previous, checkpointed };
        let file = self.disk.create(&path).map_err(Failed::at("create", &path))?;
        let mut segment = Segment { number, path, file, durable_len: 0 };
        let mut bytes = Vec::with_capacity(HEADER_BYTES + content.len());
        bytes.extend_from_slice(&header.encode());
        bytes.extend_from_slice(content);
        let synced = segment.append(&bytes).and_then(|()| {
            self.disk.sync_dir(&self.dir).map_err(Failed::at("make durable the name of", &segment.path))
        });
        match synced {
            Ok(()) => {
                self.segment = Some(segment);
                Ok(())
            }
            Err(failed) => {
                // Nothing in it was acknowledged; if it stays, replay leaves it out.
                let _ = self.disk.remove(&segment.path);
                Err(failed)
            }
        }
    }

    fn abandon(&mut self) {
        if let Some(segment) = self.segment.take() {
            self.previous = Some((segment.number, segment.durable_len));
            // Gives a full disk its bytes back; what counts is what the next segment says.
            let _ = segment.file.set_len(segment.durable_len);
        }
    }
}

impl Segment {
    fn append(&mut self, bytes: &[u8]) -> Result<(), Failed> {
        self.file.write_at(self.durable_len, bytes).map_err(Failed::at("write", &self.path))?;
        self.file.sync().map_err(Failed::at("sync", &self.path))?;
        self.durable_len += bytes.len() as u64;
        Ok(())
    }
}

struct Failed {
    action: &'static str,
    path: PathBuf,
    source: io::Error,
}

impl Failed {
    fn at(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self { action, path, source }
    }
}
