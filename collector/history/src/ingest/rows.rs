//! What rows do to a source's state: as they come, and again from the log.

use std::sync::atomic::Ordering;

use pitwatch_shared::model::{Labels, MetricType};

use super::Source;
use crate::bytes::Malformed;
use crate::history::{History, read, write};
use crate::index::SeriesId;
use crate::rows::{Part, Reader, RowsAppended, SeriesRows, Taken, Writer};

impl Source {
    /// Takes samples by series into the head; the record that the log needs of them, if any, and what they came to.
    pub(super) fn take_rows(&mut self, history: &History, series: &[SeriesRows]) -> (Option<Vec<u8>>, RowsAppended) {
        let begins = !self.rows.is_known;
        if begins {
            self.rows.forget_numbers();
            self.rows.is_known = true;
        }
        let (mut writer, mut appended) = (Writer::new(begins), RowsAppended::default());
        let head = self.head.clone();
        let (mut written, mut last_ms, mut fresh) = (begins, i64::MIN, Vec::new());
        let mut opened = Vec::new();
        for one in series {
            let known = read(&history.index).id(&one.labels);
            let numbered = known.and_then(|id| self.rows.number(id));
            let number = match numbered {
                Some(number) => number,
                None => match self.admit_by_rows(history, known, &one.labels, one.kind) {
                    Some(id) => self.rows.add(id),
                    None => {
                        appended.refused_series += 1;
                        appended.refused_samples += one.samples.len() as u64;
                        continue;
                    }
                },
            };
            let data = &mut *write(&head.data);
            fresh.clear();
            for &(ts_ms, value) in &one.samples {
                let (bits, before) = (value.to_bits(), self.rows.bits(number).unwrap_or(0));
                match self.rows.look(data, number, ts_ms, bits) {
                    Taken::Stored => {
                        fresh.push((ts_ms, before, bits));
                        self.rows.take(data, number, ts_ms, bits);
                        last_ms = last_ms.max(ts_ms);
                    }
                    Taken::Repeated => appended.repeated += 1,
                    Taken::Conflicting => appended.conflicting += 1,
                }
            }
            opened.append(&mut data.opened);
            if fresh.is_empty() && numbered.is_some() {
                continue;
            }
            written = true;
            writer.series(number, fresh.len(), numbered.is_none().then_some((&one.labels, one.kind)));
            fresh.iter().for_each(|(ts_ms, before, bits)| writer.sample(*ts_ms, *before, *bits));
            appended.samples += fresh.len() as u64;
        }
        history.arrived(&opened);
        appended.samples += appended.repeated;
        head.last_ms.fetch_max(last_ms, Ordering::Relaxed);
        (written.then(|| writer.finish()), appended)
    }

    /// Takes what a record of the log says; answers how many samples that is.
    pub(super) fn replay_rows(&mut self, history: &History, payload: &[u8]) -> Result<u64, Malformed> {
        let mut reader = Reader::new(payload)?;
        if reader.begins {
            self.rows.forget_numbers();
        }
        self.rows.is_known = true;
        let head = self.head.clone();
        let (mut at, mut samples, mut last_ms) = (0, 0, i64::MIN);
        while let Some(part) = reader.next(self.rows.len())? {
            match part {
                Part::Series(number, new) => {
                    at = number;
                    if let Some((labels, kind)) = new {
                        let known = read(&history.index).id(&labels);
                        // Below the limits then; a lower one now refuses what comes, not what is durable.
                        let id = self.index(history, &labels, kind);
                        if known.is_none_or(|id| !self.live.is_counted(id)) {
                            history.counters.active_series.fetch_add(1, Ordering::Relaxed);
                        }
                        self.live.count(id);
                        self.rows.add(id);
                    }
                }
                Part::Sample(ts_ms, xor) => {
                    let bits = self.rows.bits(at).ok_or(Malformed)? ^ xor;
                    self.rows.take(&mut write(&head.data), at, ts_ms, bits);
                    last_ms = last_ms.max(ts_ms);
                    samples += 1;
                }
            }
        }
        let opened = std::mem::take(&mut write(&head.data).opened);
        history.arrived(&opened);
        head.last_ms.fetch_max(last_ms, Ordering::Relaxed);
        Ok(samples)
    }

    /// The number in the index of a series that comes by rows, unless a limit refuses it.
    fn admit_by_rows(
        &mut self,
        history: &History,
        known: Option<SeriesId>,
        labels: &Labels,
        kind: MetricType,
    ) -> Option<SeriesId> {
        if let Err(limit) = self.count(history, known, history.config.series_by_rows_max) {
            return self.refuse(history, labels, limit);
        }
        let id = self.index(history, labels, kind);
        self.live.count(id);
        Some(id)
    }
}
