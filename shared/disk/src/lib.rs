//! The disk as a small trait, so that what must survive a power cut can be run on a simulated one.
//!
//! - [`Disk`], [`DiskFile`]: what the write-ahead log, block files, spool and state engine ask of a disk.
//! - [`real`]: the operating system's files.
//! - [`sim`]: a disk in memory that can be cut at any moment, run full, fail a read, a write
//!   or an fsync, or flip a bit.

pub mod real;
pub mod sim;

use std::fmt;
use std::io;
use std::path::Path;

pub use real::RealDisk;
pub use sim::SimDisk;

/// A directory tree of files. Paths are taken as given.
///
/// Durability is as POSIX has it: a file's bytes are durable after [`DiskFile::sync`], a file's name (made, renamed
/// or removed) after [`Disk::sync_dir`] of its directory.
pub trait Disk: Send + Sync + fmt::Debug {
    /// Makes a new empty file for reading and writing; fails if it exists.
    ///
    /// # Errors
    /// The operating system's, `AlreadyExists` among them.
    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>>;
    /// Opens an existing file for reading and writing.
    ///
    /// # Errors
    /// The operating system's, `NotFound` among them.
    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>>;
    /// The names (no paths) of the files in `dir`, sorted; directories are left out.
    ///
    /// # Errors
    /// The operating system's.
    fn list(&self, dir: &Path) -> io::Result<Vec<String>>;
    /// Renames `from` to `to`, replacing it.
    ///
    /// # Errors
    /// The operating system's.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Gives the file `from` a second name (a hard link); fails if `to` exists.
    ///
    /// # Errors
    /// The operating system's, `AlreadyExists` and `CrossesDevices` among them.
    fn link(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file.
    ///
    /// # Errors
    /// The operating system's.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Makes a directory and its parents, durably.
    ///
    /// # Errors
    /// The operating system's.
    fn create_dir_all(&self, dir: &Path) -> io::Result<()>;
    /// Makes the names in `dir` durable.
    ///
    /// # Errors
    /// The operating system's.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
    /// Bytes that may still be written to the file system of `dir`.
    ///
    /// # Errors
    /// The operating system's.
    fn free_bytes(&self, dir: &Path) -> io::Result<u64>;
}

/// An open file. Reads may run beside one another and beside writes elsewhere in the file.
pub trait DiskFile: Send + Sync + fmt::Debug {
    /// Fills `buf` from `offset`; `UnexpectedEof` if the file ends before.
    ///
    /// # Errors
    /// The operating system's.
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()>;
    /// Writes all of `buf` at `offset`, growing the file. After an error any part may have been written.
    ///
    /// # Errors
    /// The operating system's, `StorageFull` among them.
    fn write_at(&self, offset: u64, buf: &[u8]) -> io::Result<()>;
    /// The file's length in bytes.
    ///
    /// # Errors
    /// The operating system's.
    fn len(&self) -> io::Result<u64>;
    /// Whether the file is empty.
    ///
    /// # Errors
    /// As [`DiskFile::len`].
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }
    /// Cuts or grows (with zeros) the file to `len` bytes.
    ///
    /// # Errors
    /// The operating system's.
    fn set_len(&self, len: u64) -> io::Result<()>;
    /// Makes the file's bytes and length durable (`fdatasync`). After an error nothing is known of the bytes
    /// written since the last success, and a later success says nothing of them either.
    ///
    /// # Errors
    /// The operating system's.
    fn sync(&self) -> io::Result<()>;
}
