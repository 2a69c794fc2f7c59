//! Writing and reading one log file, and reading all of it.

use std::io;
use std::path::{Path, PathBuf};

use pitwatch_disk::{Disk, DiskFile};
use pitwatch_shared::model::Labels;

use super::chunk::{Chunk, Lines, Span};
use super::format::{self, CRC_BYTES, FOOTER_BYTES, Footer, HEADER_BYTES, Part, PartError, Place, Stream};
use super::store::file_numbers;
use super::{LOGS_DIR, LogError};
use crate::bytes::Malformed;

/// Bytes gathered before they are written.
const BUFFER_BYTES: usize = 1024 * 1024;

/// A file of log lines that cannot be opened, or a part of one that cannot be read.
#[derive(Debug)]
pub struct LogLoss {
    /// Which part of which file.
    pub error: LogError,
    /// Lines lost with it, as far as can be told.
    pub lines: Option<u64>,
}

/// What reading every log file found.
#[derive(Debug, Default)]
pub struct Checked {
    /// Files that were read.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Lines that were unpacked.
    pub lines: u64,
    /// What is damaged.
    pub losses: Vec<LogLoss>,
}

/// An open file; its index is its reader's, chunks are read and checked when asked for.
#[derive(Debug)]
pub(super) struct LogFile {
    path: PathBuf,
    file: Box<dyn DiskFile>,
    bytes: u64,
    footer: Footer,
}

impl LogFile {
    /// Opens a file; answers its streams too.
    pub(super) fn open(disk: &dyn Disk, path: &Path) -> Result<(Self, Vec<Stream>), LogError> {
        let io = || {
            let path = path.to_owned();
            move |source| LogError::Io { action: "read", path, source }
        };
        let bad = |error| of_part(path, error);
        let file = disk.open(path).map_err(io())?;
        let bytes = file.len().map_err(io())?;
        if bytes < (HEADER_BYTES + FOOTER_BYTES) as u64 {
            return Err(bad(PartError::Damaged(Part::Footer)));
        }
        let mut header = [0; HEADER_BYTES];
        file.read_at(0, &mut header).map_err(io())?;
        format::parse_header(&header).map_err(bad)?;
        let mut footer = [0; FOOTER_BYTES];
        file.read_at(bytes - FOOTER_BYTES as u64, &mut footer).map_err(io())?;
        let footer = Footer::parse(&footer, bytes).map_err(bad)?;
        let mut index = vec![0; footer.index_bytes as usize];
        file.read_at(footer.index_offset, &mut index).map_err(io())?;
        if crc32fast::hash(&index) != footer.index_crc {
            return Err(bad(PartError::Damaged(Part::Index)));
        }
        let streams = format::parse_index(&index, footer.index_offset).map_err(bad)?;
        Ok((Self { path: path.to_owned(), file, bytes, footer }, streams))
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) fn footer(&self) -> &Footer {
        &self.footer
    }

    pub(super) fn filter(&self, place: &Place) -> Result<Vec<u8>, LogError> {
        self.part(place.offset, place.filter_bytes, Part::Filter(place.offset))
    }

    pub(super) fn lines(&self, place: &Place) -> Result<Lines, LogError> {
        let part = Part::Lines(place.data_offset());
        let data = self.part(place.data_offset(), place.data_bytes, part)?;
        Lines::unpack(&data, &place.span).map_err(|Malformed| of_part(&self.path, PartError::Damaged(part)))
    }

    fn part(&self, offset: u64, bytes: u32, part: Part) -> Result<Vec<u8>, LogError> {
        let mut read = vec![0; bytes as usize + CRC_BYTES];
        let done = self.file.read_at(offset, &mut read);
        done.map_err(|source| LogError::Io { action: "read", path: self.path.clone(), source })?;
        if format::checked(&read).is_none() {
            return Err(of_part(&self.path, PartError::Damaged(part)));
        }
        read.truncate(bytes as usize);
        Ok(read)
    }
}

fn of_part(path: &Path, error: PartError) -> LogError {
    match error {
        PartError::Damaged(part) => LogError::Damaged { path: path.to_owned(), part },
        PartError::Newer(found) => LogError::Newer { path: path.to_owned(), found, known: format::VERSION },
    }
}

/// Writes one file. Syncing and naming it is its caller's matter.
pub(super) struct FileWriter<'a> {
    file: &'a dyn DiskFile,
    buffer: Vec<u8>,
    /// Bytes of the file before the buffer.
    written: u64,
    index: Vec<u8>,
    span: Option<(i64, i64)>,
    lines: u64,
    raw_bytes: u64,
}

impl<'a> FileWriter<'a> {
    pub(super) fn new(file: &'a dyn DiskFile) -> Self {
        let buffer = format::header().to_vec();
        Self { file, buffer, written: 0, index: Vec::new(), span: None, lines: 0, raw_bytes: 0 }
    }

    /// Adds a stream's chunks.
    pub(super) fn stream<'c>(
        &mut self,
        labels: &Labels,
        chunks: impl IntoIterator<Item = &'c Chunk>,
    ) -> io::Result<()> {
        let mut places = Vec::new();
        for chunk in chunks {
            let Span { min_ts, max_ts, lines, raw_bytes } = chunk.span;
            places.push(Place {
                span: chunk.span,
                offset: self.written + self.buffer.len() as u64,
                filter_bytes: chunk.filter.len() as u32,
                data_bytes: chunk.data.len() as u32,
            });
            for part in [&chunk.filter, &chunk.data] {
                self.buffer.extend_from_slice(part);
                self.buffer.extend_from_slice(&crc32fast::hash(part).to_le_bytes());
            }
            self.span = Some(self.span.map_or((min_ts, max_ts), |span| (span.0.min(min_ts), span.1.max(max_ts))));
            self.lines += lines as u64;
            self.raw_bytes += raw_bytes as u64;
            if self.buffer.len() >= BUFFER_BYTES {
                self.flush()?;
            }
        }
        format::put_stream(&mut self.index, labels, &places);
        Ok(())
    }

    /// Writes what is left, the index and the footer.
    pub(super) fn finish(mut self, wal_through: u64, sealed_ms: i64) -> io::Result<()> {
        let (min_ts, max_ts) = self.span.unwrap_or((0, 0));
        let footer = Footer {
            index_offset: self.written + self.buffer.len() as u64,
            index_bytes: self.index.len() as u64,
            index_crc: crc32fast::hash(&self.index),
            min_ts,
            max_ts,
            lines: self.lines,
            raw_bytes: self.raw_bytes,
            wal_through,
            sealed_ms,
        };
        self.buffer.append(&mut self.index);
        self.buffer.extend_from_slice(&footer.encode());
        self.flush()
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.write_at(self.written, &self.buffer)?;
        self.written += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }
}

/// Reads every byte of the log files of the store in `dir`. `progress` is told the bytes of each chunk.
///
/// # Errors
/// The directory cannot be listed; one that is not there holds nothing.
pub fn verify(disk: &dyn Disk, dir: &Path, progress: &mut dyn FnMut(u64)) -> io::Result<Checked> {
    let dir = dir.join(LOGS_DIR);
    let names = match disk.list(&dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Checked::default()),
        names => names?,
    };
    let mut checked = Checked::default();
    for name in names.iter().filter(|name| file_numbers(name).is_some()) {
        let (file, streams) = match LogFile::open(disk, &dir.join(name)) {
            // Retention took it meanwhile.
            Err(LogError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => {
                checked.losses.push(LogLoss { error, lines: None });
                continue;
            }
            Ok(opened) => opened,
        };
        checked.files += 1;
        checked.bytes += file.bytes();
        for place in streams.iter().flat_map(|stream| &stream.chunks) {
            let lines = place.span.lines as u64;
            match file.filter(place).and_then(|_| file.lines(place)) {
                Ok(_) => checked.lines += lines,
                Err(error) => checked.losses.push(LogLoss { error, lines: Some(lines) }),
            }
            progress(place.end() - place.offset);
        }
    }
    Ok(checked)
}
