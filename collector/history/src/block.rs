//! Immutable block files: a sealed head's samples, compressed, with their index (docs/formats/block.md).

use std::io;
use std::path::PathBuf;

use crate::index::SeriesId;

/// Why a block, or a part of one, cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BlockError {
    /// The operating system refuses.
    #[error("cannot read {part} of {path}")]
    Io {
        /// The block.
        path: PathBuf,
        /// Which part.
        part: Part,
        /// The reason.
        #[source]
        source: io::Error,
    },
    /// Bytes that are not what was written.
    #[error("{path}: {part} is damaged; restore the file from a backup, or delete it to do without its samples")]
    Damaged {
        /// The block.
        path: PathBuf,
        /// Which part.
        part: Part,
    },
    /// A file of a later version of this program.
    #[error("{path} has format version {found}, this program knows up to {known}")]
    Newer {
        /// The block.
        path: PathBuf,
        /// Its version.
        found: u32,
        /// The latest version known.
        known: u32,
    },
}

/// A part of a block file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The header at its begin.
    Header,
}

impl std::fmt::Display for Part {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Header => f.write_str("the header"),
        }
    }
}

/// An open block.
#[derive(Debug)]
pub(crate) struct Block;

impl Block {
    pub(crate) fn overlaps(&self, _start: i64, _end: i64) -> bool {
        false
    }
    pub(crate) fn has(&self, _id: SeriesId, _start: i64, _end: i64) -> bool {
        false
    }
    pub(crate) fn samples(
        &self,
        _id: SeriesId,
        _s: i64,
        _e: i64,
        _ts: &mut Vec<i64>,
        _v: &mut Vec<f64>,
    ) -> Result<(), BlockError> {
        Ok(())
    }
    pub(crate) fn bytes(&self) -> u64 {
        0
    }
    pub(crate) fn sample_count(&self) -> u64 {
        0
    }
}
