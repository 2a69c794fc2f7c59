//! Reads the log after a restart: which segments count, and their records up to the first that is damaged.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;

use pitwatch_disk::{Disk, DiskFile};

use super::record::{self, HEADER_BYTES, Header, HeaderError, Parsed, Record};
use super::{segment_number, segment_path};
use crate::error::OpenError;
use crate::recovery::{Loss, RecoveryReport};

/// Bytes read at a time.
const READ_BYTES: usize = 1024 * 1024;

/// Where the log stands after a replay.
#[derive(Debug, Default)]
pub(crate) struct Replayed {
    /// The last segment that counts and how much of it.
    pub(crate) previous: Option<(u64, u64)>,
    /// A number that no segment has.
    pub(crate) next_number: u64,
    /// Bytes that were replayed.
    pub(crate) bytes: u64,
}

/// Calls `each` with the segment and every record of it after segment `sealed_through`, in order, and removes segments that do not count.
/// Something was committed to segment `noted`.
pub(crate) fn replay(
    disk: &dyn Disk,
    dir: &Path,
    sealed_through: Option<u64>,
    noted: Option<u64>,
    report: &mut RecoveryReport,
    mut each: impl FnMut(u64, Record<'_>, &mut RecoveryReport),
) -> Result<Replayed, OpenError> {
    let listed = disk.list(dir).map_err(|source| OpenError::Io { action: "list", path: dir.to_owned(), source })?;
    let numbers: BTreeSet<u64> = listed.iter().filter_map(|name| segment_number(name)).collect();
    let next_number = numbers.last().copied().max(sealed_through).max(noted).map_or(1, |last| last + 1);
    let chain = chain(disk, dir, &numbers, sealed_through, report)?;
    // The end of the log is gone, or was cut to nothing.
    let last = chain.last().map(|link| link.number).max(sealed_through);
    if let Some(noted) = noted.filter(|noted| last < Some(*noted)) {
        report.losses.push(Loss::MissingSegment { path: segment_path(dir, noted) });
    }
    let kept: BTreeSet<u64> = chain.iter().map(|link| link.number).collect();
    let mut replayed = Replayed { previous: None, next_number, bytes: 0 };
    for link in chain {
        let path = segment_path(dir, link.number);
        let read = read_segment(disk, &path, link.counts, |record| each(link.number, record, report));
        let read = read.map_err(|source| OpenError::Log { path: path.clone(), source })?;
        report.segments += 1;
        replayed.bytes += read.good;
        replayed.previous = Some((link.number, read.good));
        match link.counts {
            Some(counts) if read.good < counts => {
                report.losses.push(Loss::Segment { path, offset: read.good, bytes: counts - read.good });
            }
            None if read.good < read.len => {
                report.losses.push(Loss::TornTail { path: path.clone(), bytes: read.len - read.good });
                // So that it is not reported at every start; what counts is said by the next segment.
                let _ = disk.open(&path).and_then(|file| file.set_len(read.good));
            }
            _ => {}
        }
    }
    if let Some((last, _)) = replayed.previous {
        // After a kill without a power cut the log may be whole in memory only, and its marks are about to count.
        let path = segment_path(dir, last);
        let synced = disk.open(&path).and_then(|file| file.sync()).and_then(|()| disk.sync_dir(dir));
        synced.map_err(|source| OpenError::Io { action: "sync", path, source })?;
    }
    for number in numbers.difference(&kept) {
        let _ = disk.remove(&segment_path(dir, *number));
    }
    Ok(replayed)
}

struct Link {
    number: u64,
    /// Bytes that count, as the segment after it says.
    counts: Option<u64>,
}

/// The segments that count, oldest first: from the last one back along what each names as the one before it.
fn chain(
    disk: &dyn Disk,
    dir: &Path,
    numbers: &BTreeSet<u64>,
    sealed_through: Option<u64>,
    report: &mut RecoveryReport,
) -> Result<Vec<Link>, OpenError> {
    let is_sealed = |number: u64| sealed_through.is_some_and(|sealed| number <= sealed);
    let mut headers = BTreeMap::new();
    for &number in numbers.iter().filter(|number| !is_sealed(**number)) {
        headers.insert(number, header(disk, &segment_path(dir, number))?);
    }
    // A segment whose header never became whole holds nothing that was acknowledged, if it is the last and empty.
    while let Some((&number, &(None, len))) = headers.last_key_value()
        && len <= HEADER_BYTES as u64
    {
        headers.remove(&number);
    }
    let mut chain = Vec::new();
    let mut next = headers.keys().last().map(|last| (*last, None));
    while let Some((number, counts)) = next {
        chain.push(Link { number, counts });
        let before = || headers.range(..number).next_back().map(|(number, _)| (*number, None));
        next = match headers.get(&number).and_then(|(header, _)| *header) {
            Some(header) => match header.previous {
                Some((previous, _)) if is_sealed(previous) => None,
                Some((previous, counts)) if previous < number && headers.contains_key(&previous) => {
                    Some((previous, Some(counts)))
                }
                Some((previous, _)) => {
                    // With a checkpoint at its begin nothing after it depends on the one that is gone.
                    if !header.checkpointed {
                        report.losses.push(Loss::MissingSegment { path: segment_path(dir, previous) });
                    }
                    before().filter(|_| !header.checkpointed)
                }
                None => None,
            },
            None => {
                report.losses.push(Loss::Header { path: segment_path(dir, number) });
                before()
            }
        };
    }
    chain.reverse();
    Ok(chain)
}

/// A segment's header, if it is whole, and the segment's length.
fn header(disk: &dyn Disk, path: &Path) -> Result<(Option<Header>, u64), OpenError> {
    let mut bytes = [0; HEADER_BYTES];
    let read = disk.open(path).and_then(|file| {
        let len = file.len()?;
        if len < HEADER_BYTES as u64 {
            return Ok((false, len));
        }
        file.read_at(0, &mut bytes)?;
        Ok((true, len))
    });
    let (whole, len) = read.map_err(|source| OpenError::Log { path: path.to_owned(), source })?;
    if !whole {
        return Ok((None, len));
    }
    match Header::parse(&bytes) {
        Ok(header) => Ok((Some(header), len)),
        Err(HeaderError::Damaged) => Ok((None, len)),
        Err(HeaderError::Newer(found)) => {
            Err(OpenError::Newer { path: path.to_owned(), found, known: record::VERSION })
        }
    }
}

struct Read {
    /// Bytes up to the end of the last whole record.
    good: u64,
    len: u64,
}

fn read_segment(
    disk: &dyn Disk,
    path: &Path,
    counts: Option<u64>,
    mut each: impl FnMut(Record<'_>),
) -> io::Result<Read> {
    let file = disk.open(path)?;
    let len = file.len()?;
    let end = counts.map_or(len, |counts| counts.min(len));
    let mut good = (HEADER_BYTES as u64).min(end);
    let mut buffer = Vec::new();
    loop {
        // `buffer` holds the file from `good` on.
        let mut at = 0;
        let needs = loop {
            match record::parse(&buffer[at..]) {
                Parsed::Record(record, len) => {
                    each(record);
                    at += len;
                }
                Parsed::Needs(needs) => break needs,
                Parsed::Bad => return Ok(Read { good: good + at as u64, len }),
            }
        };
        good += at as u64;
        buffer.drain(..at);
        if good + needs as u64 > end {
            return Ok(Read { good, len });
        }
        fill(&*file, good, end, needs, &mut buffer)?;
    }
}

/// Extends `buffer`, which holds the file from `from`, to at least `needs` bytes. A place that cannot be read is not taken
/// for a damaged one: what seems to be the log's end is cut off, and the disk may give it back the next time.
fn fill(file: &dyn DiskFile, from: u64, end: u64, needs: usize, buffer: &mut Vec<u8>) -> io::Result<()> {
    let have = buffer.len();
    let left = usize::try_from(end - from).unwrap_or(usize::MAX);
    buffer.resize(needs.max(READ_BYTES).min(left), 0);
    file.read_at(from + have as u64, &mut buffer[have..])
}
