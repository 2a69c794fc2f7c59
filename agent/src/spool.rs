//! The disk part of a lane's queue: frames that wait there while the collector is away, and over restarts.
//!
//! Segment files `NNNNNNNN.seg` of records; a segment is made when the one before is full and a chain begins, so that
//! every segment but the first of an outage can be decoded alone and the oldest can be dropped whole. Layout:
//! docs/formats/spool.md. What to keep and when is [`pitwatch_shared::delivery::Sender`]'s matter.

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use pitwatch_disk::{Disk, DiskFile};
use pitwatch_shared::delivery::{Backlog, Frame};
use pitwatch_shared::limits::FRAME_PAYLOAD_MAX_BYTES;
use pitwatch_shared::model::Mark;

/// A segment over this many bytes is closed when the next chain begins.
pub const SEGMENT_BYTES: u64 = 512 * 1024;
/// Most segments: bounds what is held in memory about them.
pub const SEGMENTS_MAX: usize = 4096;
/// Bytes of a record before its payload: length, checksum, epoch, sequence, time, flags.
const HEADER_BYTES: usize = 4 + 4 + 8 + 8 + 8 + 1;
const BEGINS_CHAIN: u8 = 1;

/// Frames on disk, oldest first.
#[derive(Debug)]
pub struct Spool {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    max_bytes: u64,
    segments: VecDeque<Segment>,
    /// The segment that may still grow; it is the last one.
    open: bool,
    next_number: u64,
    /// Everything up to here is acknowledged.
    released: Option<Mark>,
    cursor: Option<Cursor>,
    dropped: u64,
    damaged_bytes: u64,
}

#[derive(Debug)]
struct Segment {
    path: PathBuf,
    file: Box<dyn DiskFile>,
    bytes: u64,
    first: Mark,
    last: Mark,
    last_queued_ms: i64,
    frames: u64,
}

/// Where the frame after `mark` stands, so that reading in order does not search.
#[derive(Clone, Copy, Debug)]
struct Cursor {
    mark: Mark,
    segment_last: Mark,
    offset: u64,
}

impl Spool {
    /// Opens the spool in `dir`, keeping all whole records of an earlier run.
    ///
    /// # Errors
    /// The disk's.
    pub fn open(disk: Arc<dyn Disk>, dir: &Path, max_bytes: u64) -> io::Result<Self> {
        disk.create_dir_all(dir)?;
        let mut spool = Self {
            dir: dir.to_owned(),
            max_bytes,
            segments: VecDeque::new(),
            open: false,
            next_number: 0,
            released: None,
            cursor: None,
            dropped: 0,
            damaged_bytes: 0,
            disk,
        };
        for name in spool.disk.list(dir)? {
            let Some(number) = name.strip_suffix(".seg").and_then(|n| n.parse::<u64>().ok()) else { continue };
            spool.next_number = spool.next_number.max(number + 1);
            spool.load(&dir.join(name))?;
        }
        Ok(spool)
    }

    /// Bytes of segment ends that could not be read when the spool was opened.
    #[must_use]
    pub fn damaged_bytes(&self) -> u64 {
        self.damaged_bytes
    }

    /// The first epoch that is later than all frames here.
    #[must_use]
    pub fn next_epoch(&self) -> u64 {
        self.segments.back().map_or(1, |segment| segment.last.epoch + 1)
    }

    fn load(&mut self, path: &Path) -> io::Result<()> {
        let file = self.disk.open(path)?;
        let length = file.len()?;
        let (mut offset, mut segment): (u64, Option<Segment>) = (0, None);
        let mut frames: Vec<Frame> = Vec::new();
        while let Some((frame, end)) = read_record(&*file, offset, length) {
            offset = end;
            // A write whose sync failed may have reached the disk after all; its frames stand in the next segment too.
            let before = frames.last().map(|f| f.mark).or(self.segments.back().map(|s| s.last));
            if before.is_none_or(|before| frame.mark > before) {
                frames.push(Frame { payload: Bytes::new(), ..frame });
            }
        }
        if let (Some(first), Some(last)) = (frames.first(), frames.last()) {
            segment = Some(Segment {
                path: path.to_owned(),
                file,
                bytes: offset,
                first: first.mark,
                last: last.mark,
                last_queued_ms: last.queued_ms,
                frames: frames.len() as u64,
            });
        }
        self.damaged_bytes += length - offset;
        match segment {
            Some(segment) => self.segments.push_back(segment),
            None => self.disk.remove(path)?,
        }
        Ok(())
    }

    fn drop_first_segment(&mut self) {
        if let Some(segment) = self.segments.pop_front() {
            self.dropped += match self.released {
                Some(r) if r >= segment.first && r.epoch == segment.last.epoch => {
                    (segment.last.seq.saturating_sub(r.seq)).min(segment.frames)
                }
                _ => segment.frames,
            };
            self.remove(&segment);
        }
    }

    fn remove(&mut self, segment: &Segment) {
        // A file that stays behind costs room only: its frames are released or counted, and are skipped as
        // duplicates if a later run sends them.
        let _ = self.disk.remove(&segment.path);
        self.open &= !self.segments.is_empty();
        self.cursor = self.cursor.filter(|cursor| cursor.segment_last != segment.last);
    }

    fn begin_segment(&mut self, first: Mark) -> io::Result<()> {
        let path = self.dir.join(format!("{:08}.seg", self.next_number));
        let file = self.disk.create(&path)?;
        self.disk.sync_dir(&self.dir)?;
        self.next_number += 1;
        let before = Mark { epoch: first.epoch, seq: first.seq - 1 };
        self.segments.push_back(Segment { path, file, bytes: 0, first, last: before, last_queued_ms: 0, frames: 0 });
        self.open = true;
        Ok(())
    }

    fn write(&mut self, frames: &[Frame]) -> io::Result<()> {
        let mut rest = frames;
        while let Some(frame) = rest.first() {
            let full = self.segments.back().is_none_or(|segment| segment.bytes >= SEGMENT_BYTES);
            if !self.open || (full && frame.begins_chain) {
                self.begin_segment(frame.mark)?;
            }
            let Some(segment) = self.segments.back_mut() else { return Err(io::ErrorKind::NotFound.into()) };
            let mut bytes = Vec::new();
            let mut count = 0;
            for frame in rest {
                if count > 0 && frame.begins_chain && segment.bytes + bytes.len() as u64 >= SEGMENT_BYTES {
                    break;
                }
                put_record(&mut bytes, frame);
                count += 1;
            }
            segment.file.write_at(segment.bytes, &bytes)?;
            segment.file.sync()?;
            segment.bytes += bytes.len() as u64;
            segment.frames += count as u64;
            segment.last = rest[count - 1].mark;
            segment.last_queued_ms = rest[count - 1].queued_ms;
            rest = &rest[count..];
        }
        Ok(())
    }

    /// Undoes a write that failed part of the way: `segments` and `bytes` as they were before.
    fn undo(&mut self, segments: usize, last: Option<(u64, Mark, i64, u64)>) {
        while self.segments.len() > segments {
            if let Some(segment) = self.segments.pop_back() {
                self.remove(&segment);
            }
        }
        if let (Some(segment), Some((bytes, mark, queued_ms, frames))) = (self.segments.back_mut(), last) {
            // If even cutting fails, the next write goes over the same bytes.
            let _ = segment.file.set_len(bytes);
            (segment.bytes, segment.last, segment.last_queued_ms, segment.frames) = (bytes, mark, queued_ms, frames);
        }
        // After a failed sync nothing is known of that file: no more is added to it.
        self.open = false;
    }
}

impl Backlog for Spool {
    fn append(&mut self, frames: &[Frame]) -> io::Result<()> {
        let segments = self.segments.len();
        let last = self.segments.back().map(|s| (s.bytes, s.last, s.last_queued_ms, s.frames));
        if let Err(error) = self.write(frames) {
            self.undo(segments, last);
            return Err(error);
        }
        while self.segments.len() > 1 && (self.bytes() > self.max_bytes || self.segments.len() > SEGMENTS_MAX) {
            self.drop_first_segment();
        }
        Ok(())
    }

    fn after(&mut self, mark: Option<Mark>) -> io::Result<Option<Frame>> {
        let mark = mark.max(self.released);
        let found = self.segments.iter().find(|segment| Some(segment.last) > mark);
        let Some(segment) = found else { return Ok(None) };
        let here = self.cursor.filter(|c| Some(c.mark) == mark && c.segment_last == segment.last);
        let mut offset = here.map_or(0, |cursor| cursor.offset);
        while let Some((frame, end)) = read_record(&*segment.file, offset, segment.bytes) {
            offset = end;
            if Some(frame.mark) > mark {
                self.cursor = Some(Cursor { mark: frame.mark, segment_last: segment.last, offset });
                return Ok(Some(frame));
            }
        }
        Err(io::Error::new(io::ErrorKind::InvalidData, format!("{}: unreadable at {offset}", segment.path.display())))
    }

    fn release(&mut self, mark: Mark) {
        self.released = self.released.max(Some(mark));
        while self.segments.front().is_some_and(|segment| Some(segment.last) <= self.released) {
            if let Some(segment) = self.segments.pop_front() {
                self.remove(&segment);
            }
        }
    }

    fn expire(&mut self, oldest_ms: i64) {
        while self.segments.front().is_some_and(|segment| segment.last_queued_ms < oldest_ms) {
            self.drop_first_segment();
        }
    }

    fn last(&self) -> Option<Mark> {
        self.segments.back().map(|segment| segment.last)
    }

    fn bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.bytes).sum()
    }

    fn dropped(&self) -> u64 {
        self.dropped
    }
}

fn put_record(out: &mut Vec<u8>, frame: &Frame) {
    let start = out.len();
    out.extend_from_slice(&(frame.payload.len() as u32).to_le_bytes());
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&frame.mark.epoch.to_le_bytes());
    out.extend_from_slice(&frame.mark.seq.to_le_bytes());
    out.extend_from_slice(&frame.queued_ms.to_le_bytes());
    out.push(if frame.begins_chain { BEGINS_CHAIN } else { 0 });
    out.extend_from_slice(&frame.payload);
    let crc = checksum(&out[start..]);
    out[start + 4..start + 8].copy_from_slice(&crc.to_le_bytes());
}

/// Over the length and all after the checksum.
fn checksum(record: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&record[..4]);
    hasher.update(&record[8..]);
    hasher.finalize()
}

/// The record at `offset` and the offset after it; `None` where no whole record stands.
fn read_record(file: &dyn DiskFile, offset: u64, end: u64) -> Option<(Frame, u64)> {
    let mut header = [0; HEADER_BYTES];
    if offset + HEADER_BYTES as u64 > end {
        return None;
    }
    file.read_at(offset, &mut header).ok()?;
    let length = u32::from_le_bytes(header[..4].try_into().ok()?) as usize;
    let next = offset + (HEADER_BYTES + length) as u64;
    if length > FRAME_PAYLOAD_MAX_BYTES || next > end {
        return None;
    }
    let mut record = vec![0; HEADER_BYTES + length];
    file.read_at(offset, &mut record).ok()?;
    if checksum(&record).to_le_bytes() != record[4..8] {
        return None;
    }
    let number = |at: usize| Some(u64::from_le_bytes(record[at..at + 8].try_into().ok()?));
    let frame = Frame {
        mark: Mark { epoch: number(8)?, seq: number(16)? },
        begins_chain: record[32] & BEGINS_CHAIN != 0,
        queued_ms: number(24)? as i64,
        payload: Bytes::from(record).split_off(HEADER_BYTES),
    };
    Some((frame, next))
}

#[cfg(test)]
mod tests {
    use super::*;
    use pitwatch_disk::SimDisk;
    use proptest::prelude::*;

    const DIR: &str = "spool";

    fn frame(seq: u64, bytes: usize, begins_chain: bool) -> Frame {
        let payload = Bytes::from(vec![seq as u8; bytes]);
        Frame { mark: Mark { epoch: 3, seq }, begins_chain, queued_ms: seq as i64, payload }
    }

    fn open(disk: &SimDisk, max: u64) -> Spool {
        Spool::open(Arc::new(disk.clone()), Path::new(DIR), max).unwrap()
    }

    fn all(spool: &mut Spool) -> Vec<u64> {
        let mut at = None;
        std::iter::from_fn(|| {
            let frame = spool.after(at).unwrap()?;
            assert!(frame.payload.iter().all(|byte| *byte == frame.mark.seq as u8));
            at = Some(frame.mark);
            Some(frame.mark.seq)
        })
        .collect()
    }

    #[test]
    fn frames_come_back_in_order_after_a_restart() {
        let disk = SimDisk::new(1);
        let mut spool = open(&disk, 1 << 30);
        spool.append(&[frame(1, 10, true), frame(2, 10, false)]).unwrap();
        spool.append(&[frame(3, 10, false)]).unwrap();
        disk.power_cut();
        let mut spool = open(&disk, 1 << 30);
        assert_eq!(all(&mut spool), [1, 2, 3]);
        assert_eq!(spool.next_epoch(), 4);
        spool.release(Mark { epoch: 3, seq: 2 });
        assert_eq!(all(&mut spool), [3]);
        spool.release(Mark { epoch: 3, seq: 3 });
        assert_eq!((spool.last(), spool.next_epoch()), (None, 1));
        assert_eq!(disk.list(Path::new(DIR)).unwrap(), [""; 0]);
    }

    #[test]
    fn the_oldest_segments_go_first_and_are_counted() {
        let disk = SimDisk::new(1);
        let mut spool = open(&disk, 3 * SEGMENT_BYTES);
        let half = SEGMENT_BYTES as usize / 2;
        for seq in 1..=12 {
            spool.append(&[frame(seq, half, seq % 2 == 1)]).unwrap();
        }
        let left = all(&mut spool);
        assert_eq!(left.first().unwrap() % 2, 1, "what is left begins a chain");
        assert_eq!(spool.dropped() + left.len() as u64, 12);
        assert!(spool.bytes() <= 3 * SEGMENT_BYTES + 100);
        spool.expire(100);
        assert_eq!((spool.dropped(), spool.last()), (12, None));
    }

    #[test]
    fn a_full_disk_leaves_the_spool_as_it_was() {
        let disk = SimDisk::new(1);
        let mut spool = open(&disk, 1 << 30);
        spool.append(&[frame(1, 100, true)]).unwrap();
        disk.set_capacity(disk.used_bytes() + 50);
        assert!(spool.append(&[frame(2, 100, false)]).is_err());
        assert_eq!(all(&mut spool), [1]);
        disk.set_capacity(1 << 20);
    }

    #[test]
    fn a_failed_sync_loses_and_doubles_nothing() {
        for seed in 0..50 {
            let disk = SimDisk::new(seed);
            let mut spool = open(&disk, 1 << 30);
            spool.append(&[frame(1, 100, true)]).unwrap();
            disk.fail_syncs(1);
            assert!(spool.append(&[frame(2, 100, false)]).is_err());
            spool.append(&[frame(2, 100, false), frame(3, 100, false)]).unwrap();
            assert_eq!(all(&mut spool), [1, 2, 3]);
            disk.power_cut();
            assert_eq!(all(&mut open(&disk, 1 << 30)), [1, 2, 3]);
        }
    }

    proptest! {
        #[test]
        fn damage_costs_only_what_it_touches(seed in any::<u64>(), bit in any::<prop::sample::Index>(), cut in any::<bool>()) {
            let disk = SimDisk::new(seed);
            let mut spool = open(&disk, 1 << 30);
            for seq in 1..=5 {
                spool.append(&[frame(seq, 40, seq == 1)]).unwrap();
            }
            let path = Path::new(DIR).join("00000000.seg");
            let size = disk.contents(&path).unwrap().len();
            let at = bit.index(size);
            if cut {
                disk.open(&path).unwrap().set_len(at as u64).unwrap();
            } else {
                disk.flip_bit(&path, at * 8 + 3);
            }
            let mut spool = open(&disk, 1 << 30);
            let whole = at / (HEADER_BYTES + 40);
            prop_assert_eq!(all(&mut spool), (1..=whole as u64).collect::<Vec<_>>());
        }
    }
}
