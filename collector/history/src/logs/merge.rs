//! Small log files become one, so that their number stays bounded by days and bytes.
//!
//! Every seal writes a file, however few lines there are. Files of one day that lie side by side become one with their
//! streams' lines packed anew: of a day that is over as soon as there are two, of today only when there are several of like
//! size, so that a line is written a few times and not once a seal. A file never holds more than a day, and retention, which
//! deletes whole files, keeps its meaning.
//!
//! The new file's name holds the numbers of all that it replaces, `FIRST-LAST.log`: after a crash between its rename and
//! their removal they are known for what they are.

use std::collections::BTreeSet;
use std::ops::{ControlFlow, Range};
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use super::LogError;
use super::chunk::{Chunk, Open};
use super::file::FileWriter;
use super::store::{Indexed, LogStore, at, file_name};
use crate::blocks::TEMPORARY_SUFFIX;
use crate::history::{read, write};
use crate::job::Pace;

/// Largest file that is made of several, bytes, as far as their sum says.
const MERGED_MAX_BYTES: u64 = 32 * 1024 * 1024;
/// Files of today that become one.
const TODAY_MIN: usize = 8;
const DAY_MS: i64 = 24 * 60 * 60 * 1000;

/// Makes one file of several. Dropped without having run, or after a failure, all stay as they are.
#[derive(Debug)]
pub struct LogMergeJob {
    store: Arc<LogStore>,
    inputs: Vec<Arc<Indexed>>,
}

/// What is known of a file when files are chosen.
#[derive(Clone, Copy, Debug)]
struct Candidate {
    bytes: u64,
    sealed_ms: i64,
    spoiled: bool,
}

/// Which neighbours are to become one: the first run that is worth it.
fn plan(files: &[Candidate], now_ms: i64) -> Option<Range<usize>> {
    let day = |ms: i64| ms.div_euclid(DAY_MS);
    let mut begin = 0;
    while begin < files.len() {
        let of = day(files[begin].sealed_ms);
        let (mut end, mut bytes) = (begin, 0);
        while let Some(file) = files.get(end)
            && day(file.sealed_ms) == of
            && !file.spoiled
            && bytes + file.bytes <= MERGED_MAX_BYTES
        {
            (end, bytes) = (end + 1, bytes + file.bytes);
        }
        let chosen = match of < day(now_ms) {
            true => (end - begin >= 2).then_some(begin),
            false => of_like_size(&files[begin..end]).map(|from| begin + from),
        };
        if let Some(from) = chosen {
            return Some(from..end);
        }
        begin = end.max(begin + 1);
    }
    None
}

/// Where the last files of a run begin none of which is larger than all others together.
fn of_like_size(run: &[Candidate]) -> Option<usize> {
    let is_one = |from: &usize| {
        let bytes = run[*from..].iter().map(|file| file.bytes);
        bytes.clone().max().unwrap_or(0) <= bytes.sum::<u64>() / 2
    };
    (0..(run.len() + 1).saturating_sub(TODAY_MIN)).find(is_one)
}

impl LogStore {
    /// A job that makes one file of several, if some are worth it and no other is at work.
    #[must_use]
    pub fn merge(self: &Arc<Self>, now_ms: i64) -> Option<LogMergeJob> {
        let files = read(&self.view).files.clone();
        let candidates = files.iter().map(|file| Candidate {
            bytes: file.file.bytes(),
            sealed_ms: file.file.footer().sealed_ms,
            spoiled: file.spoiled.load(Ordering::Relaxed),
        });
        let chosen = plan(&candidates.collect::<Vec<_>>(), now_ms)?;
        let claimed = self.merging.swap(true, Ordering::AcqRel);
        (!claimed).then(|| LogMergeJob { store: self.clone(), inputs: files[chosen].to_vec() })
    }
}

impl LogMergeJob {
    /// Writes the one file and puts it in the place of the others; answers how many those were, 0 if `pace` ended it or
    /// retention was faster.
    ///
    /// # Errors
    /// The file cannot be written, or one of the others cannot be read: that one is left alone until the store is opened
    /// again.
    pub fn run(self, pace: &mut Pace<'_>) -> Result<usize, LogError> {
        let store = &self.store;
        let (Some(first), Some(last)) = (self.inputs.first(), self.inputs.last()) else { return Ok(0) };
        let numbers = (first.numbers.0, last.numbers.1);
        let path = store.dir.join(file_name(numbers));
        let temporary = path.with_extension(TEMPORARY_SUFFIX.trim_start_matches('.'));
        let merged = self.write(&temporary, pace).and_then(|done| match done {
            ControlFlow::Continue(()) => self.replace(numbers, &temporary, &path),
            ControlFlow::Break(()) => Ok(0),
        });
        if !matches!(merged, Ok(count) if count > 0) {
            let _ = store.disk.remove(&temporary);
        }
        merged
    }

    fn write(&self, path: &Path, pace: &mut Pace<'_>) -> Result<ControlFlow<()>, LogError> {
        let store = &self.store;
        let file = store.disk.create(path).map_err(at("create", path))?;
        let mut writer = FileWriter::new(&*file);
        let streams: BTreeSet<_> = self.inputs.iter().flat_map(|input| input.chunks.keys().copied()).collect();
        for id in streams {
            let Some(labels) = read(&store.index).labels(id).cloned() else { continue };
            let mut chunks: Vec<Chunk> = Vec::new();
            let mut open = Open::default();
            for input in &self.inputs {
                for place in input.chunks.get(&id).into_iter().flatten() {
                    let lines = input.file.lines(place);
                    let lines = lines.inspect_err(|_| input.spoiled.store(true, Ordering::Relaxed))?;
                    for (ts_ns, text) in lines.iter() {
                        if open.is_full() {
                            chunks.extend(open.close().map_err(at("compress", path))?);
                        }
                        open.push(ts_ns, text);
                    }
                }
            }
            chunks.extend(open.close().map_err(at("compress", path))?);
            writer.stream(&labels, &chunks).map_err(at("write", path))?;
            if pace(chunks.iter().map(Chunk::bytes).sum()).is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        let most = |of: fn(&Indexed) -> u64| self.inputs.iter().map(|input| of(input)).max().unwrap_or(0);
        let sealed_ms = self.inputs.iter().map(|input| input.file.footer().sealed_ms).max().unwrap_or(0);
        let wal_through = most(|input| input.file.footer().wal_through);
        writer.finish(wal_through, sealed_ms).map_err(at("write", path))?;
        file.sync().map_err(at("sync", path))?;
        Ok(ControlFlow::Continue(()))
    }

    /// The new file under its name, in the view and instead of the others.
    fn replace(&self, numbers: (u64, u64), temporary: &Path, path: &Path) -> Result<usize, LogError> {
        let store = &self.store;
        // Retention and seals wait for a rename and a sync.
        let _one = store.sealing.lock().unwrap_or_else(PoisonError::into_inner);
        let is_input = |file: &Arc<Indexed>| self.inputs.iter().any(|input| Arc::ptr_eq(input, file));
        if read(&store.view).files.iter().filter(|file| is_input(file)).count() < self.inputs.len() {
            return Ok(0);
        }
        store.disk.rename(temporary, path).map_err(at("rename", temporary))?;
        let opened = store.disk.sync_dir(&store.dir).map_err(at("make durable the names in", &store.dir));
        let merged = opened.and_then(|()| store.open_file(path, numbers)).inspect_err(|_| {
            let _ = store.disk.remove(path);
        })?;
        {
            let mut view = write(&store.view);
            let place = view.files.iter().position(is_input).unwrap_or(view.files.len());
            view.files.retain(|file| !is_input(file));
            view.files.insert(place, Arc::new(merged));
        }
        for input in &self.inputs {
            // What stays is removed when the store is opened again.
            let _ = store.disk.remove(input.file.path());
        }
        let _ = store.disk.sync_dir(&store.dir);
        Ok(self.inputs.len())
    }
}

impl Drop for LogMergeJob {
    fn drop(&mut self) {
        self.store.merging.store(false, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn file(bytes: u64, day: i64) -> Candidate {
        Candidate { bytes, sealed_ms: day * DAY_MS + 5, spoiled: false }
    }

    #[test]
    fn days_that_are_over_become_one_file_and_today_only_several_of_like_size() {
        let now_ms = 2 * DAY_MS;
        assert_eq!(plan(&[], now_ms), None);
        assert_eq!(plan(&[file(1, 0), file(1, 1), file(1, 1), file(1, 2)], now_ms), Some(1..3));
        let today = vec![file(1, 2); TODAY_MIN];
        assert_eq!(plan(&today[1..], now_ms), None);
        assert_eq!(plan(&today, now_ms), Some(0..TODAY_MIN));
        let mut one_is_large = today;
        one_is_large[0].bytes = 100;
        assert_eq!(plan(&one_is_large, now_ms), None);
        one_is_large.push(file(1, 2));
        assert_eq!(plan(&one_is_large, now_ms), Some(1..TODAY_MIN + 1));
        let mut spoiled = [file(1, 0), file(1, 0), file(1, 0)];
        spoiled[1].spoiled = true;
        assert_eq!(plan(&spoiled, now_ms), None);
        assert_eq!(plan(&[file(MERGED_MAX_BYTES, 0), file(1, 0), file(1, 0)], now_ms), Some(1..3));
    }

    proptest! {
        /// A seal every quarter of an hour for a week: how many files there are, and how often a byte is written.
        #[test]
        fn the_number_of_files_is_bounded_and_so_is_what_is_written(sizes in prop::collection::vec(1_u64..400_000, 672)) {
            let (mut files, mut written) = (Vec::<Candidate>::new(), 0);
            let sealed: u64 = sizes.iter().sum();
            for (nth, bytes) in sizes.into_iter().enumerate() {
                let now_ms = nth as i64 * 15 * 60 * 1000;
                files.push(Candidate { bytes, sealed_ms: now_ms, spoiled: false });
                while let Some(chosen) = plan(&files, now_ms) {
                    let bytes = files[chosen.clone()].iter().map(|file| file.bytes).sum();
                    let sealed_ms = files[chosen.end - 1].sealed_ms;
                    written += bytes;
                    files.splice(chosen, [Candidate { bytes, sealed_ms, spoiled: false }]);
                }
                // A day of 96 seals may be two files.
                prop_assert!(files.len() <= 2 * 7 + 2 * TODAY_MIN, "{} files", files.len());
            }
            prop_assert!(written <= 8 * sealed, "{written} of {sealed}");
        }
    }
}
