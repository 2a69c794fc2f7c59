//! What every source of signals is made of: the trait, one gathering's context, files held open, entries kept by key.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::metric::Metric;
use super::table::{Handle, Table};

/// Most bytes read of one file; what is beyond is not looked at, and counted as an error.
const FILE_MAX_BYTES: usize = 1024 * 1024;
/// What the read buffer starts with: enough for every file of a common host.
const BUFFER_BYTES: usize = 16 * 1024;
/// Most keys that a source keeps at once: keys are searched one by one when their order changes.
const KEYS_MAX: usize = 10_000;
/// Ticks until a file that was absent is looked for again.
const ABSENT_RETRY_TICKS: u32 = 60;
/// The same for a directory: those are of the slower cadences.
const ABSENT_DIRECTORY_RETRY_TICKS: u32 = 6;

/// The instant of a gathering, passed in so that tests own time.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// For intervals.
    pub monotonic: Instant,
    /// Milliseconds since the Unix epoch: the timestamp of the tick.
    pub ts_ms: i64,
}

impl Now {
    /// The system's clocks.
    #[must_use]
    pub fn read() -> Self {
        let since_epoch = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        Self { monotonic: Instant::now(), ts_ms: i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX) }
    }
}

/// Why a source gave nothing, or not all, in a tick.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The file could not be opened or read.
    #[error("cannot read {path}")]
    Read {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file has no line that the source knows.
    #[error("{path} holds nothing of what it should")]
    Malformed {
        /// Which file.
        path: PathBuf,
    },
    /// A call to the system failed.
    #[error("{what} failed")]
    Call {
        /// Which call.
        what: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// A source on a thread of its own has not answered; it is asked nothing more until it does.
    #[error("no answer for {} s: what it reads hangs", .after.as_secs())]
    Late {
        /// How long ago it was asked.
        after: Duration,
    },
}

/// One place that signals come from: usually a file of /proc.
pub(super) trait Source: Send {
    /// Its name in `pitwatch_agent_source_errors_total{source=…}`.
    fn name(&self) -> &'static str;

    /// Reads it and sets the values of its series. Series that it does not set end with the tick.
    fn gather(&mut self, pass: &mut Pass<'_>) -> Result<(), SourceError>;
}

/// One source's part of one tick.
pub(super) struct Pass<'a> {
    pub(super) sink: Sink<'a>,
    pub(super) buffer: &'a mut Buffer,
    pub(super) now: Now,
    /// The longest that a source may wait for an answer from elsewhere.
    pub(super) patience: Duration,
}

/// Where a source's values go.
pub(super) struct Sink<'a> {
    pub(super) table: &'a mut Table,
    /// Lines and fields that were not what they should be; skipped and counted.
    pub(super) malformed: u64,
}

impl Sink<'_> {
    /// Sets a value, or counts a malformed field when there is none.
    pub(super) fn set(&mut self, handle: &mut Handle, metric: &Metric, labels: &[(&str, &str)], value: Option<f64>) {
        self.set_named(handle, metric, metric.name, labels, value);
    }

    /// As [`Sink::set`] for a member of a family, under its own name.
    pub(super) fn set_named(
        &mut self,
        handle: &mut Handle,
        metric: &Metric,
        name: &str,
        labels: &[(&str, &str)],
        value: Option<f64>,
    ) {
        match value {
            Some(value) => self.table.set_named(handle, metric, name, labels, value),
            None => self.malformed += 1,
        }
    }
}

/// The one buffer that every file is read into.
#[derive(Debug)]
pub(super) struct Buffer(Vec<u8>);

impl Buffer {
    pub(super) fn new() -> Self {
        Self(vec![0; BUFFER_BYTES])
    }

    /// Reads `file` from its start; `true` if it is longer than [`FILE_MAX_BYTES`].
    ///
    /// Files of /proc give what fits a page or so at a time, so that only an empty read is the end.
    fn fill(&mut self, file: &File) -> io::Result<(usize, bool)> {
        let mut filled = 0;
        loop {
            if filled == self.0.len() {
                if filled >= FILE_MAX_BYTES {
                    return Ok((filled, true));
                }
                self.0.resize((filled * 2).min(FILE_MAX_BYTES), 0);
            }
            match file.read_at(&mut self.0[filled..], filled as u64) {
                Ok(0) => return Ok((filled, false)),
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Reads a small file of /sys, without its blanks. Absent, without a value now, or not for this user: `None`.
    pub(super) fn read_small(&mut self, path: &Path) -> Option<&[u8]> {
        let (filled, _) = File::open(path).and_then(|file| self.fill(&file)).ok()?;
        Some(self.0[..filled].trim_ascii()).filter(|text| !text.is_empty())
    }

    /// Reads a file that is not held open. A file that is absent, or says that it has nothing to say, is `None`.
    pub(super) fn read_once(&mut self, path: &Path) -> Result<Option<&[u8]>, SourceError> {
        match File::open(path).and_then(|file| self.fill(&file)) {
            Ok((filled, _)) => Ok(Some(&self.0[..filled])),
            Err(error) if says_nothing(&error) => Ok(None),
            Err(source) => Err(SourceError::Read { path: path.to_owned(), source }),
        }
    }
}

/// Errors by which the kernel says that there is no such thing here, or none now.
fn says_nothing(error: &io::Error) -> bool {
    let gone = error.raw_os_error() == Some(rustix::io::Errno::NODEV.raw_os_error());
    gone || matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported)
}

/// A file that is opened once and read again and again.
#[derive(Debug)]
pub(super) struct HeldFile {
    path: PathBuf,
    file: Option<File>,
    /// Whether its absence is an error: not every kernel, and not every container, has every file.
    required: bool,
    absent_ticks: u32,
}

impl HeldFile {
    /// A file that every Linux has.
    pub(super) fn required(path: PathBuf) -> Self {
        Self { path, file: None, required: true, absent_ticks: 0 }
    }

    /// A file that may be absent.
    pub(super) fn optional(path: PathBuf) -> Self {
        Self { required: false, ..Self::required(path) }
    }

    /// The error of a file without any line that its source knows.
    pub(super) fn malformed(&self) -> SourceError {
        SourceError::Malformed { path: self.path.clone() }
    }

    /// Reads the file from its start, opening it if it is not open. `None`: it is optional and absent.
    ///
    /// A line that was cut off at [`FILE_MAX_BYTES`] is left out and counted in `malformed`.
    pub(super) fn read<'b>(
        &mut self,
        buffer: &'b mut Buffer,
        malformed: &mut u64,
    ) -> Result<Option<&'b [u8]>, SourceError> {
        if self.absent_ticks > 0 {
            self.absent_ticks -= 1;
            return Ok(None);
        }
        match self.fill(buffer) {
            Ok((filled, false)) => Ok(Some(&buffer.0[..filled])),
            Ok((filled, true)) => {
                *malformed += 1;
                let end = buffer.0[..filled].iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1);
                Ok(Some(&buffer.0[..end]))
            }
            Err(error) => {
                // A held file whose device or namespace is gone is opened anew the next time.
                self.file = None;
                if !self.required && says_nothing(&error) {
                    self.absent_ticks = ABSENT_RETRY_TICKS;
                    return Ok(None);
                }
                Err(SourceError::Read { path: self.path.clone(), source: error })
            }
        }
    }

    fn fill(&mut self, buffer: &mut Buffer) -> io::Result<(usize, bool)> {
        let file = match &self.file {
            Some(file) => file,
            None => self.file.insert(File::open(&self.path)?),
        };
        buffer.fill(file)
    }
}

/// A directory of /proc or /sys that is there only on hosts that have what it is about.
#[derive(Debug)]
pub(super) struct Directory {
    path: PathBuf,
    absent_ticks: u32,
}

impl Directory {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path, absent_ticks: 0 }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The names in it, in their order. Absent: none, and it is looked for again only after a while.
    pub(super) fn names(&mut self) -> Result<Vec<OsString>, SourceError> {
        if self.absent_ticks > 0 {
            self.absent_ticks -= 1;
            return Ok(Vec::new());
        }
        match std::fs::read_dir(&self.path) {
            Ok(listing) => Ok(sorted(listing)),
            Err(error) if says_nothing(&error) => {
                self.absent_ticks = ABSENT_DIRECTORY_RETRY_TICKS;
                Ok(Vec::new())
            }
            Err(source) => Err(SourceError::Read { path: self.path.clone(), source }),
        }
    }
}

/// The names in a directory, in their order; none if it is absent or not for this user.
pub(super) fn names_in(dir: &Path) -> Vec<OsString> {
    std::fs::read_dir(dir).map(sorted).unwrap_or_default()
}

fn sorted(listing: std::fs::ReadDir) -> Vec<OsString> {
    let mut names: Vec<_> = listing.flatten().take(KEYS_MAX).map(|entry| entry.file_name()).collect();
    names.sort_unstable();
    names
}

/// Series of a source that learns only from its files which there are. A value costs a key, so it is for slower cadences.
#[derive(Debug, Default)]
pub(super) struct Found {
    handles: Keyed<Handle>,
    key: Vec<u8>,
}

impl Found {
    /// Begins a pass.
    pub(super) fn begin(&mut self) {
        self.handles.begin();
    }

    /// Sets a value, or counts a malformed field when there is none. What is set twice in a pass has the later value.
    pub(super) fn set(&mut self, sink: &mut Sink<'_>, metric: &Metric, labels: &[(&str, &str)], value: Option<f64>) {
        self.set_named(sink, metric, metric.name, labels, value);
    }

    /// As [`Found::set`] for a member of a family, under its own name.
    pub(super) fn set_named(
        &mut self,
        sink: &mut Sink<'_>,
        metric: &Metric,
        name: &str,
        labels: &[(&str, &str)],
        value: Option<f64>,
    ) {
        self.key.clear();
        for part in [name].into_iter().chain(labels.iter().map(|(_, value)| *value)) {
            self.key.extend_from_slice(part.as_bytes());
            self.key.push(0);
        }
        match self.handles.entry(&self.key, |_| Handle::default()) {
            Some(handle) => sink.set_named(handle, metric, name, labels, value),
            None => sink.malformed += 1,
        }
    }

    /// Ends a pass.
    pub(super) fn end(&mut self) {
        self.handles.end();
    }
}

/// Sources of one group read one after the other, to share a thread.
pub(super) struct Together {
    name: &'static str,
    sources: Vec<Box<dyn Source>>,
}

impl Together {
    pub(super) fn new(name: &'static str, sources: Vec<Box<dyn Source>>) -> Self {
        Self { name, sources }
    }
}

impl Source for Together {
    fn name(&self) -> &'static str {
        self.name
    }

    /// The first failure is the answer; the others are gathered nonetheless.
    fn gather(&mut self, pass: &mut Pass<'_>) -> Result<(), SourceError> {
        let mut outcome = Ok(());
        for source in &mut self.sources {
            let own = source.gather(pass);
            outcome = outcome.and(own);
        }
        outcome
    }
}

/// Entries by a key of the kernel's, found by position as long as the order stays what it was.
///
/// The kernel lists disks, interfaces and fields in the same order tick after tick, so that the entry wanted is
/// nearly always the one after the last; else it is searched, and made if it is new.
#[derive(Debug)]
pub(super) struct Keyed<T> {
    entries: Vec<Entry<T>>,
    cursor: usize,
    seen: usize,
    pass: bool,
}

#[derive(Debug)]
struct Entry<T> {
    key: Box<[u8]>,
    pass: bool,
    value: T,
}

impl<T> Default for Keyed<T> {
    fn default() -> Self {
        Self { entries: Vec::new(), cursor: 0, seen: 0, pass: false }
    }
}

impl<T> Keyed<T> {
    /// Begins a pass over the keys.
    pub(super) fn begin(&mut self) {
        self.cursor = 0;
        self.seen = 0;
        self.pass = !self.pass;
    }

    /// The entry of `key`, made by `make` if it is new; `None` if there are [`KEYS_MAX`] already.
    pub(super) fn entry(&mut self, key: &[u8], make: impl FnOnce(&[u8]) -> T) -> Option<&mut T> {
        let at = match self.entries.get(self.cursor) {
            Some(entry) if *entry.key == *key => self.cursor,
            _ => match self.entries.iter().position(|entry| *entry.key == *key) {
                Some(at) => at,
                None if self.entries.len() >= KEYS_MAX => return None,
                None => {
                    let at = self.cursor.min(self.entries.len());
                    self.entries.insert(at, Entry { key: key.into(), pass: !self.pass, value: make(key) });
                    at
                }
            },
        };
        self.cursor = at + 1;
        let entry = &mut self.entries[at];
        if entry.pass != self.pass {
            entry.pass = self.pass;
            self.seen += 1;
        }
        Some(&mut entry.value)
    }

    /// Ends a pass: entries whose key did not come are forgotten.
    pub(super) fn end(&mut self) {
        if self.seen < self.entries.len() {
            self.entries.retain(|entry| entry.pass == self.pass);
        }
    }

    /// The entries, in the order of the last pass.
    pub(super) fn values(&mut self) -> impl Iterator<Item = &mut T> {
        self.entries.iter_mut().map(|entry| &mut entry.value)
    }

    /// How many entries there are.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(file: &mut HeldFile) -> (Result<Option<Vec<u8>>, SourceError>, u64) {
        let mut malformed = 0;
        let read = file.read(&mut Buffer::new(), &mut malformed).map(|text| text.map(<[u8]>::to_vec));
        (read, malformed)
    }

    #[test]
    fn a_held_file_is_read_from_its_start_each_time() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        std::fs::write(&path, "one\n").unwrap();
        let mut file = HeldFile::required(path.clone());
        assert_eq!(read(&mut file).0.unwrap().unwrap(), b"one\n");
        std::fs::write(&path, "two two\n").unwrap();
        assert_eq!(read(&mut file).0.unwrap().unwrap(), b"two two\n");
    }

    #[test]
    fn a_file_that_is_absent_is_an_error_only_if_it_is_required() {
        let dir = tempfile::tempdir().unwrap();
        assert!(read(&mut HeldFile::optional(dir.path().join("f"))).0.unwrap().is_none());
        let error = read(&mut HeldFile::required(dir.path().join("f"))).0.unwrap_err();
        assert_eq!(error.to_string(), format!("cannot read {}", dir.path().join("f").display()));
    }

    #[test]
    fn an_optional_file_is_looked_for_again_after_a_while() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        let mut file = HeldFile::optional(path.clone());
        read(&mut file).0.unwrap();
        std::fs::write(&path, "here").unwrap();
        for _ in 0..ABSENT_RETRY_TICKS {
            assert!(read(&mut file).0.unwrap().is_none());
        }
        assert!(read(&mut file).0.unwrap().is_some());
    }

    #[test]
    fn an_endless_file_is_cut_at_the_limit_and_counted() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        std::fs::write(&path, "0123456\n".repeat(FILE_MAX_BYTES / 8 + 1).replacen('0', "", 1)).unwrap();
        let (text, malformed) = read(&mut HeldFile::required(path));
        let text = text.unwrap().unwrap();
        assert_eq!(malformed, 1);
        assert!(text.len() < FILE_MAX_BYTES && text.ends_with(b"\n"));
        let (text, _) = read(&mut HeldFile::required("/dev/zero".into()));
        assert_eq!(text.unwrap().unwrap(), b"", "no line ended before the limit");
    }

    #[test]
    fn a_directory_that_is_absent_is_looked_for_again_after_a_while() {
        let dir = tempfile::tempdir().unwrap();
        let mut directory = Directory::new(dir.path().join("d"));
        assert!(directory.names().unwrap().is_empty());
        for name in ["b", "a"] {
            std::fs::create_dir_all(dir.path().join("d").join(name)).unwrap();
        }
        for _ in 0..ABSENT_DIRECTORY_RETRY_TICKS {
            assert!(directory.names().unwrap().is_empty());
        }
        assert_eq!(directory.names().unwrap(), ["a", "b"]);
        assert_eq!(names_in(&dir.path().join("d")), ["a", "b"]);
    }

    proptest! {
        #[test]
        fn entries_are_those_of_the_last_pass(passes in prop::collection::vec(prop::collection::vec(0_u8..12, 0..16), 1..12)) {
            let mut keyed = Keyed::default();
            for keys in passes {
                keyed.begin();
                for key in &keys {
                    prop_assert_eq!(keyed.entry(&[*key], |key| key[0]).copied(), Some(*key));
                }
                keyed.end();
                let mut distinct = keys.clone();
                distinct.sort_unstable();
                distinct.dedup();
                prop_assert_eq!(keyed.len(), distinct.len());
            }
        }
    }
}
