//! The writer's side: frames in, durable by commit, and the upkeep that the passing of time asks for.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use pitwatch_disk::Disk;
use pitwatch_shared::model::{Lane, Mark};
use rustc_hash::FxHashSet;

use crate::compact::CompactJob;
use crate::config::Config;
use crate::error::{AppendError, CommitError, OpenError, Reject};
use crate::history::{History, read, write};
use crate::ingest::{Appended, Check, Ingest, Source};
use crate::job::Job;
use crate::recovery::RecoveryReport;
use crate::rollup::RollupJob;
use crate::rows::{RowsAppended, SeriesRows};
use crate::seal::{Frozen, SealJob};
use crate::source::SourceName;
use crate::stats::count;
use crate::wal;
use crate::wal::record::Record;

/// Blocks are looked at for a compaction this often, milliseconds, and again after each.
const COMPACT_LOOK_MS: i64 = 60_000;

/// The one writer of a store.
#[derive(Debug)]
pub struct Appender {
    pub(crate) history: Arc<History>,
    ingest: Ingest,
    pub(crate) wal: wal::Writer,
    /// The last segment that the catalog names.
    noted_segment: Option<u64>,
    /// When the head began to collect, by the clock given to [`Appender::maintain`].
    head_begun_ms: Option<i64>,
    /// When the blocks were last looked at for a compaction, by the same clock.
    compacted_ms: Option<i64>,
}

impl History {
    /// Opens the store in `dir`, making it if there is none, and replays its log. Damage to single files does not
    /// stop it: the report names each loss.
    ///
    /// # Errors
    /// The operating system refuses, or a file is of a later version of this program.
    pub fn open(
        disk: Arc<dyn Disk>,
        dir: &Path,
        config: Config,
    ) -> Result<(Arc<Self>, Appender, RecoveryReport), OpenError> {
        crate::recovery::open(disk, dir, config)
    }
}

impl Appender {
    pub(crate) fn new(history: Arc<History>, ingest: Ingest, wal: wal::Writer) -> Self {
        let mut appender =
            Self { history, ingest, noted_segment: wal.last(), wal, head_begun_ms: None, compacted_ms: None };
        for source in appender.ingest.sources_mut() {
            source.settle();
            // Parts of the log may be lost: what comes next builds on nothing before it.
            source.rows.is_known = false;
        }
        appender.note_wal();
        appender
    }

    /// Takes a frame into the head and into what the next commit makes durable.
    ///
    /// # Errors
    /// A frame that is malformed or out of sequence, of which nothing is kept; or too much that waits for a commit.
    pub fn append(
        &mut self,
        source: &SourceName,
        lane: Lane,
        mark: Mark,
        payload: &[u8],
    ) -> Result<Appended, AppendError> {
        self.check_backlog()?;
        let taken = self.take(source, lane, mark, payload);
        let counters = &self.history.counters;
        match &taken {
            Ok(appended) if appended.duplicate => count(&counters.frames_duplicate),
            Ok(appended) => {
                count(&counters.frames_appended);
                counters.samples_appended.fetch_add(appended.samples, Ordering::Relaxed);
                counters.events_appended.fetch_add(appended.events, Ordering::Relaxed);
                counters.wal_pending_bytes.store(self.wal.pending_bytes(), Ordering::Relaxed);
            }
            Err(_) => count(&counters.frames_rejected),
        }
        Ok(taken?)
    }

    /// Takes samples by series into the head and into what the next commit makes durable. Their labels are kept as they
    /// are. Samples may be late or come again; a second value at a time is left out
    /// where the first is found in the head; what is sealed already gives way to what comes now.
    ///
    /// # Errors
    /// Too much waits for a commit; nothing was taken.
    pub fn append_rows(&mut self, source: &SourceName, series: &[SeriesRows]) -> Result<RowsAppended, AppendError> {
        self.check_backlog()?;
        let known = self.ingest.id(source);
        let id = known.unwrap_or_else(|| self.ingest.declare(source));
        if known.is_none() {
            self.wal.push(&Record::Source { id, name: source.clone() });
        }
        let (payload, appended) = self.ingest.take_rows(id, series);
        if let Some(payload) = payload {
            self.wal.push(&Record::Rows { source: id, payload: &payload });
        }
        let counters = &self.history.counters;
        counters.samples_appended.fetch_add(appended.samples - appended.repeated, Ordering::Relaxed);
        counters.wal_pending_bytes.store(self.wal.pending_bytes(), Ordering::Relaxed);
        Ok(appended)
    }

    /// Makes all that was appended durable: only then do the marks count.
    ///
    /// # Errors
    /// The disk refuses. What was appended stays in memory; the call may be repeated until it succeeds, and then
    /// nothing is lost or doubled. Stop appending meanwhile.
    pub fn commit(&mut self) -> Result<(), CommitError> {
        let committed = self.wal.commit();
        self.note_wal();
        match committed {
            Ok(()) => {
                count(&self.history.counters.commits);
                self.note_segment();
                self.ingest.committed();
                Ok(())
            }
            Err(error) => {
                count(&self.history.counters.commits_failed);
                Err(error)
            }
        }
    }

    /// The last durable frame of a source's lane.
    #[must_use]
    pub fn mark(&self, source: &SourceName, lane: Lane) -> Option<Mark> {
        self.ingest.source(source)?.marks(lane)?.durable
    }

    /// Whether the lane's next frame must begin a chain; every frame of the events lane does.
    #[must_use]
    pub fn needs_chain(&self, source: &SourceName, lane: Lane) -> bool {
        lane != Lane::Metrics || self.ingest.source(source).is_none_or(|source| !source.has_chain())
    }

    /// Every source with its last durable frame of the metrics lane.
    pub fn sources(&self) -> impl Iterator<Item = (&SourceName, Option<Mark>)> {
        self.ingest.sources().map(|source| (source.name(), source.metrics.durable))
    }

    /// Forgets a source's marks and slots; its samples stay until retention. Durable with the next commit.
    pub fn forget_source(&mut self, source: &SourceName) {
        let Some(id) = self.ingest.id(source) else { return };
        self.wal.push(&Record::Forget { source: id });
        self.ingest.forget(id);
    }

    /// Does what is due at `now_ms` (milliseconds since the Unix epoch): deletes blocks that are past retention, freezes
    /// the head when its window ends or its size is reached, looks for blocks to compact. Call it every few seconds. Run the job that it may answer on
    /// a thread of its own, beside appends and queries, and go on calling: other jobs may be due meanwhile.
    ///
    /// # Errors
    /// The log cannot be rotated. Nothing is lost; a later call tries again.
    pub fn maintain(&mut self, now_ms: i64) -> Result<Option<Job>, CommitError> {
        self.history.retain(now_ms, &self.ingest);
        self.history.logs.retain(now_ms);
        let waiting = read(&self.history.view).frozen.clone();
        if let Some(job) = waiting.and_then(|frozen| SealJob::claim(&self.history, frozen, now_ms)) {
            return Ok(Some(Job::Seal(job)));
        }
        let (bytes, span_ms) = self.head_size();
        let config = &self.history.config;
        let windows = config.windows();
        // After a restart the head is as old as it is long.
        let begun_ms = self.head_begun_ms.unwrap_or(now_ms.saturating_sub(span_ms.min(windows.span_ms())));
        // A clock that was ahead must not put the seal off.
        let begun_ms = begun_ms.min(now_ms);
        self.head_begun_ms = Some(begun_ms);
        let due = windows.of(now_ms) > windows.of(begun_ms)
            || bytes >= config.head_max_bytes
            || self.wal.bytes() >= config.wal_max_bytes
            || self.history.logs.is_due();
        if due && let Some(job) = self.seal(now_ms)? {
            return Ok(Some(Job::Seal(job)));
        }
        if let Some(job) = RollupJob::claim(&self.history, now_ms) {
            return Ok(Some(Job::Rollup(job)));
        }
        if let Some(job) = self.history.logs.merge(now_ms) {
            return Ok(Some(Job::MergeLogs(job)));
        }
        let since_ms = self.compacted_ms.map(|at| now_ms.saturating_sub(at));
        let look = self.history.compaction.take_again()
            || since_ms.is_none_or(|since_ms| !(0..COMPACT_LOOK_MS).contains(&since_ms));
        Ok(if look { self.compact(now_ms).map(Job::Compact) } else { None })
    }

    /// A job that looks for blocks to compact at once. `None` if one is under way.
    pub fn compact(&mut self, now_ms: i64) -> Option<CompactJob> {
        self.compacted_ms = Some(now_ms);
        CompactJob::claim(&self.history, now_ms)
    }

    /// Freezes the head at once, as at a clean stop that is to leave nothing to replay. `None` if another head is
    /// still being sealed or there is nothing to seal.
    ///
    /// # Errors
    /// As [`Appender::maintain`].
    pub fn seal(&mut self, now_ms: i64) -> Result<Option<SealJob>, CommitError> {
        if read(&self.history.view).frozen.is_some() {
            return Ok(None);
        }
        self.commit()?;
        let rotated = self.wal.rotate(&self.ingest.checkpoint());
        self.note_wal();
        let last_segment = rotated?;
        self.note_segment();
        self.head_begun_ms = Some(now_ms);
        let Some(last_segment) = last_segment else { return Ok(None) };
        self.history.logs.freeze(last_segment);
        let frozen = {
            let mut view = write(&self.history.view);
            let taken = view.heads.iter().map(|(id, head)| {
                let data = std::mem::take(&mut *write(&head.data));
                (*id, (head.name.clone(), data))
            });
            let frozen = Arc::new(Frozen::new(taken.collect(), last_segment));
            let known: FxHashSet<u32> = self.ingest.sources().map(Source::id).collect();
            view.heads.retain(|id, _| known.contains(id));
            view.frozen = Some(frozen.clone());
            frozen
        };
        self.ingest.heads_taken();
        Ok(SealJob::claim(&self.history, frozen, now_ms))
    }

    fn check_backlog(&self) -> Result<(), AppendError> {
        let (pending_bytes, limit_bytes) = (self.wal.pending_bytes(), self.history.config.pending_max_bytes);
        if pending_bytes < limit_bytes { Ok(()) } else { Err(AppendError::Backlog { pending_bytes, limit_bytes }) }
    }

    fn take(&mut self, name: &SourceName, lane: Lane, mark: Mark, payload: &[u8]) -> Result<Appended, Reject> {
        let known = self.ingest.id(name);
        // A source is only declared with its first frame that is one.
        let check = match (lane, known) {
            (Lane::Metrics, Some(id)) => self.ingest.check(id, mark, payload)?,
            (Lane::Metrics, None) => Ingest::check_first(mark, payload)?,
            (Lane::Events, id) => self.ingest.check_event(id, mark, payload)?,
            (Lane::Logs, _) => return Err(Reject::Lane(lane)),
        };
        if matches!(check, Check::Duplicate) {
            return Ok(Appended { duplicate: true, ..Appended::default() });
        }
        let id = known.unwrap_or_else(|| self.ingest.declare(name));
        let taken = match lane {
            Lane::Events => Ok(self.ingest.take_event(id, mark, payload, true)),
            _ => self.ingest.take(id, mark, payload),
        };
        let appended = taken.inspect_err(|_| {
            if known.is_none() {
                self.ingest.forget(id);
            }
        })?;
        if known.is_none() {
            self.wal.push(&Record::Source { id, name: name.clone() });
        }
        self.wal.push(&Record::Frame { source: id, lane, mark, payload });
        Ok(appended)
    }

    /// Estimated bytes of the head, and the time between its first and its last sample.
    fn head_size(&self) -> (u64, i64) {
        let (mut bytes, mut span) = (0, None::<(i64, i64)>);
        for head in read(&self.history.view).heads.values() {
            let data = read(&head.data);
            bytes += data.bytes;
            span = match (span, data.span()) {
                (Some(a), Some(b)) => Some((a.0.min(b.0), a.1.max(b.1))),
                (a, b) => a.or(b),
            };
        }
        (bytes, span.map_or(0, |(min, max)| max.saturating_sub(min)))
    }

    /// Notes the segment that was committed to last, if it is another one.
    fn note_segment(&mut self) {
        let segment = self.wal.last();
        if self.noted_segment != segment {
            self.noted_segment = segment;
            self.history.blocks.catalog.note(|known| known.segment = segment);
        }
    }

    fn note_wal(&self) {
        let counters = &self.history.counters;
        counters.wal_bytes.store(self.wal.bytes(), Ordering::Relaxed);
        counters.wal_pending_bytes.store(self.wal.pending_bytes(), Ordering::Relaxed);
    }
}
