//! The files of one seal, each begun with its first chunk.

use std::io;

use crate::block::BlockWriter;
use crate::block::format::Origin;
use crate::blocks::{BlockDir, Building};
use crate::error::BuildError;

/// Bytes gathered before they are written, a file: at most 8 MiB in all.
const BUFFER_BYTES: usize = 64 * 1024;

/// The files that are being written.
pub(crate) struct Files<'a, 'b> {
    dir: &'a BlockDir,
    building: &'a mut Building<'b>,
    writers: Vec<Option<(u64, BlockWriter)>>,
}

/// A file that is durable, under its temporary name.
pub(crate) struct Written {
    pub(crate) number: u64,
    /// First and last timestamp.
    pub(crate) span: (i64, i64),
}

impl<'a, 'b> Files<'a, 'b> {
    pub(crate) fn new(dir: &'a BlockDir, building: &'a mut Building<'b>) -> Self {
        Self { dir, building, writers: Vec::new() }
    }

    /// Writes to the nth file.
    pub(crate) fn write(
        &mut self,
        nth: usize,
        write: impl FnOnce(&mut BlockWriter) -> io::Result<()>,
    ) -> Result<(), BuildError> {
        if self.writers.len() <= nth {
            self.writers.resize_with(nth + 1, || None);
        }
        let (number, writer) = match &mut self.writers[nth] {
            Some(begun) => begun,
            none => {
                let number = self.dir.take_number();
                let file = self.building.create(number)?;
                none.insert((number, BlockWriter::new(file, BUFFER_BYTES)))
            }
        };
        write(writer).map_err(self.building.at("write", *number))
    }

    /// Makes the files durable, by ascending number: all but the last say that they are parts.
    pub(crate) fn finish(self, wal_through: u64, sealed_ms: i64) -> Result<Vec<Written>, BuildError> {
        // A file in which every chunk came out empty gets no name.
        let filled = self.writers.into_iter().flatten().filter_map(|(number, writer)| {
            let span = writer.span()?;
            Some((number, span, writer))
        });
        let mut filled: Vec<_> = filled.collect();
        filled.sort_by_key(|(number, ..)| *number);
        let last = filled.last().map(|(number, ..)| *number);
        let mut files = Vec::with_capacity(filled.len());
        for (number, span, writer) in filled {
            let origin = Origin { order: number, part: Some(number) != last, replaces: Vec::new() };
            writer.finish(&origin, wal_through, sealed_ms).map_err(self.building.at("write", number))?;
            files.push(Written { number, span });
        }
        Ok(files)
    }
}
