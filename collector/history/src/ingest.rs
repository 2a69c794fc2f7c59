//! The writer's state: every source's decoder, slots and marks, and what a frame does to them. The appender and the
//! replay of the log both go through here, so that a restart rebuilds what was. `rows`: the same for samples by series.

mod rows;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use pitwatch_shared::codec::{Decoded, Decoder, GroupId, SeriesDef, begins_chain};
use pitwatch_shared::events::Event;
use pitwatch_shared::limits;
use pitwatch_shared::model::{INSTANCE, Labels, Lane, Mark, MetricType};
use rustc_hash::FxHashMap;

use crate::error::Reject;
use crate::head::Live;
use crate::history::{History, SourceHead, read, write};
use crate::index::SeriesId;
use crate::recovery::{Loss, RecoveryReport};
use crate::refused::SeriesLimit;
use crate::rows::{Rows, RowsAppended, SeriesRows};
use crate::source::{SourceKind, SourceName};
use crate::stats::count;
use crate::wal::record::{self, Record};

const NS_PER_MS: i64 = 1_000_000;

/// What a frame came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Appended {
    /// Samples that the frame stands for, those of refused series left out.
    pub samples: u64,
    /// Events that it holds and that are kept.
    pub events: u64,
    /// Series that the frame declares and that a limit refused.
    pub refused_series: u64,
    /// The frame, or a later one, was taken before; nothing was stored.
    pub duplicate: bool,
}

/// Every source of the store.
#[derive(Debug)]
pub(crate) struct Ingest {
    history: Arc<History>,
    sources: BTreeMap<u32, Source>,
    ids: FxHashMap<SourceName, u32>,
    next_id: u32,
    /// Sources with frames that are not durable yet.
    uncommitted: Vec<u32>,
    decoded: Decoded,
}

/// One source, as the writer has it.
#[derive(Debug)]
pub(crate) struct Source {
    id: u32,
    name: SourceName,
    head: Arc<SourceHead>,
    live: Live,
    /// The state of the metrics lane; none before its first chain, or after damage to the log.
    decoder: Option<Decoder>,
    /// Series that come by rows.
    pub(crate) rows: Rows,
    pub(crate) metrics: Marks,
    pub(crate) events: Marks,
}

/// How far a lane has come.
#[derive(Debug, Default)]
pub(crate) struct Marks {
    /// The last frame.
    taken: Option<Mark>,
    /// The last durable one.
    pub(crate) durable: Option<Mark>,
}

/// What is to become of a frame.
pub(crate) enum Check {
    Duplicate,
    Next,
}

impl Ingest {
    pub(crate) fn new(history: Arc<History>) -> Self {
        Self {
            history,
            sources: BTreeMap::new(),
            ids: FxHashMap::default(),
            next_id: 0,
            uncommitted: Vec::new(),
            decoded: Decoded::default(),
        }
    }

    pub(crate) fn id(&self, name: &SourceName) -> Option<u32> {
        self.ids.get(name).copied()
    }

    pub(crate) fn source(&self, name: &SourceName) -> Option<&Source> {
        self.sources.get(&self.id(name)?)
    }

    pub(crate) fn sources(&self) -> impl Iterator<Item = &Source> {
        self.sources.values()
    }

    pub(crate) fn sources_mut(&mut self) -> impl Iterator<Item = &mut Source> {
        self.sources.values_mut()
    }

    /// Every live series.
    pub(crate) fn live_series(&self) -> impl Iterator<Item = SeriesId> {
        self.sources.values().flat_map(|source| source.live.series())
    }

    /// Gives a new source its number.
    pub(crate) fn declare(&mut self, name: &SourceName) -> u32 {
        let id = self.next_id;
        self.insert(id, name.clone());
        id
    }

    pub(crate) fn forget(&mut self, id: u32) {
        if let Some(source) = self.sources.remove(&id) {
            self.ids.remove(&source.name);
            self.history.counters.active_series.fetch_sub(source.live.counted() as u64, Ordering::Relaxed);
        }
    }

    /// Whether the first frame of a source may be one.
    pub(crate) fn check_first(mark: Mark, payload: &[u8]) -> Result<Check, Reject> {
        if payload.len() > limits::FRAME_PAYLOAD_MAX_BYTES {
            return Err(Reject::TooLarge(payload.len()));
        }
        if begins_chain(payload) { Ok(Check::Next) } else { Err(Reject::Gap { last: None, got: mark }) }
    }

    /// Whether a frame comes when it should.
    pub(crate) fn check(&self, id: u32, mark: Mark, payload: &[u8]) -> Result<Check, Reject> {
        let source = self.sources.get(&id);
        let taken = source.and_then(|source| source.metrics.taken);
        if taken.is_some_and(|taken| mark <= taken) {
            return Ok(Check::Duplicate);
        }
        if payload.len() > limits::FRAME_PAYLOAD_MAX_BYTES {
            return Err(Reject::TooLarge(payload.len()));
        }
        let follows = source.is_some_and(|source| source.decoder.is_some())
            && taken.is_some_and(|taken| taken.epoch == mark.epoch && taken.seq.checked_add(1) == Some(mark.seq));
        if follows || begins_chain(payload) { Ok(Check::Next) } else { Err(Reject::Gap { last: taken, got: mark }) }
    }

    /// Takes a frame that [`Ingest::check`] lets pass. On an error nothing has changed.
    pub(crate) fn take(&mut self, id: u32, mark: Mark, payload: &[u8]) -> Result<Appended, Reject> {
        let Some(source) = self.sources.get_mut(&id) else {
            return Err(Reject::Gap { last: None, got: mark });
        };
        source.decoder.get_or_insert_default().decode(payload, &mut self.decoded)?;
        if source.is_settled() {
            self.uncommitted.push(id);
        }
        source.metrics.taken = Some(mark);
        let mut appended = Appended::default();
        match &self.decoded {
            Decoded::Schema { reset, group, retire, add } => {
                if *reset {
                    source.live.reset();
                }
                for slot in retire {
                    source.live.retire(*group, *slot);
                }
                appended.refused_series = source.declare_series(&self.history, *group, add);
            }
            Decoded::Tick { group, ts_ms, changes } => {
                let mut data = write(&source.head.data);
                appended.samples = source.live.tick(&mut data, *group, *ts_ms, changes);
                let opened = std::mem::take(&mut data.opened);
                drop(data);
                self.history.arrived(&opened);
                source.head.last_ms.fetch_max(*ts_ms, Ordering::Relaxed);
            }
        }
        Ok(appended)
    }

    /// As [`Ingest::check`] for the events lane, whose frames stand alone.
    pub(crate) fn check_event(&self, id: Option<u32>, mark: Mark, payload: &[u8]) -> Result<Check, Reject> {
        let taken = id.and_then(|id| self.sources.get(&id)).and_then(|source| source.events.taken);
        if taken.is_some_and(|taken| mark <= taken) {
            return Ok(Check::Duplicate);
        }
        if payload.len() > limits::FRAME_PAYLOAD_MAX_BYTES {
            return Err(Reject::TooLarge(payload.len()));
        }
        Ok(Check::Next)
    }

    /// Takes an event. One that is none, or that there is no room for, is counted and passed over: the agent could
    /// only send it again. `is_new` unless its line is in a file already.
    pub(crate) fn take_event(&mut self, id: u32, mark: Mark, payload: &[u8], is_new: bool) -> Appended {
        let Some(source) = self.sources.get_mut(&id) else { return Appended::default() };
        if source.is_settled() {
            self.uncommitted.push(id);
        }
        source.events.taken = Some(mark);
        if !is_new {
            return Appended::default();
        }
        let kept = Event::decode(payload).ok().and_then(|event| {
            let stream = event.stream(&source.name.name)?;
            let line = event.to_line(&format!("{}.{}", mark.epoch, mark.seq));
            self.history.logs.append(&stream, event.time_ms.saturating_mul(NS_PER_MS), &line).ok()
        });
        if kept.is_none() {
            count(&self.history.counters.events_refused);
        }
        Appended { events: u64::from(kept.is_some()), ..Appended::default() }
    }

    /// Takes samples by series; the record that the log needs of them, if any, and what they came to.
    pub(crate) fn take_rows(&mut self, id: u32, series: &[SeriesRows]) -> (Option<Vec<u8>>, RowsAppended) {
        let Some(source) = self.sources.get_mut(&id) else { return (None, RowsAppended::default()) };
        source.take_rows(&self.history, series)
    }

    /// Does what a record of a segment of the log says.
    pub(crate) fn replay(&mut self, segment: u64, record: Record<'_>, report: &mut RecoveryReport) {
        match record {
            Record::Source { id, name } => {
                if self.sources.get(&id).is_none_or(|source| source.name != name) {
                    self.forget(id);
                    self.insert(id, name);
                }
            }
            Record::Forget { source } => self.forget(source),
            Record::Checkpoint { source, lane: Lane::Metrics, mark, decoder, ending } => {
                self.restore(source, mark, decoder, &ending);
            }
            Record::Frame { source, lane: Lane::Metrics, mark, payload } => {
                self.replay_frame(source, mark, payload, report);
            }
            Record::Checkpoint { source, lane: Lane::Events, mark, .. } => {
                if let Some(source) = self.sources.get_mut(&source) {
                    source.events.taken = source.events.taken.max(Some(mark));
                }
            }
            Record::Frame { source, lane: Lane::Events, mark, payload } => {
                let is_new = self.history.logs.sealed_through() < Some(segment);
                self.replay_event(source, mark, payload, is_new, report);
            }
            Record::Rows { source, payload } => self.replay_rows(source, payload, report),
            Record::Checkpoint { .. } | Record::Frame { .. } => {}
        }
    }

    /// The records at the begin of a segment that needs none before it.
    pub(crate) fn checkpoint(&self) -> Vec<u8> {
        let mut out = Vec::new();
        let index = read(&self.history.index);
        let mut state = Vec::new();
        for (&id, source) in &self.sources {
            record::put(&mut out, &Record::Source { id, name: source.name.clone() });
            if let Some(mark) = source.events.taken {
                let lane = Lane::Events;
                record::put(&mut out, &Record::Checkpoint { source: id, lane, mark, decoder: &[], ending: Vec::new() });
            }
            let Some(mark) = source.metrics.taken else { continue };
            state.clear();
            if let Some(decoder) = &source.decoder {
                decoder.snapshot(&mut state);
            }
            let ending = source.live.ending();
            let ending = ending.filter_map(|(group, series)| Some((group, index.labels(series)?.clone()))).collect();
            let lane = Lane::Metrics;
            record::put(&mut out, &Record::Checkpoint { source: id, lane, mark, decoder: &state, ending });
        }
        out
    }

    /// What was taken is durable. Only those that it touches: with ten thousand sources a commit brings a few hundred.
    pub(crate) fn committed(&mut self) {
        for id in self.uncommitted.drain(..) {
            if let Some(source) = self.sources.get_mut(&id) {
                source.settle();
            }
        }
    }

    /// The heads were taken away.
    pub(crate) fn heads_taken(&mut self) {
        let mut active = 0;
        for source in self.sources.values_mut() {
            source.live.head_taken();
            source.rows = Rows::default();
            active += source.live.counted() as u64;
        }
        self.history.counters.active_series.store(active, Ordering::Relaxed);
    }

    fn insert(&mut self, id: u32, name: SourceName) {
        self.next_id = self.next_id.max(id.saturating_add(1));
        let head = Arc::new(SourceHead::new(name.clone()));
        write(&self.history.view).heads.insert(id, head.clone());
        self.ids.insert(name.clone(), id);
        let (live, rows) = (Live::default(), Rows::default());
        let (metrics, events) = (Marks::default(), Marks::default());
        let source = Source { id, name, head, live, rows, decoder: None, metrics, events };
        self.sources.insert(id, source);
    }

    fn replay_frame(&mut self, id: u32, mark: Mark, payload: &[u8], report: &mut RecoveryReport) {
        let taken = match self.check(id, mark, payload) {
            Ok(Check::Duplicate) => {
                report.duplicates += 1;
                return;
            }
            Ok(Check::Next) => self.take(id, mark, payload),
            Err(reject) => Err(reject),
        };
        match taken {
            Ok(appended) => {
                report.frames += 1;
                report.samples += appended.samples;
            }
            // What it builds on is lost, so that the lane needs a new chain.
            Err(_) => {
                if let Some(source) = self.sources.get_mut(&id) {
                    source.decoder = None;
                }
                self.report_lost(id, report);
            }
        }
    }

    fn replay_event(&mut self, id: u32, mark: Mark, payload: &[u8], is_new: bool, report: &mut RecoveryReport) {
        if !self.sources.contains_key(&id) {
            self.report_lost(id, report);
            return;
        }
        match self.check_event(Some(id), mark, payload) {
            Ok(Check::Next) => {
                self.take_event(id, mark, payload, is_new);
                report.frames += 1;
            }
            Ok(Check::Duplicate) | Err(_) => report.duplicates += 1,
        }
    }

    fn replay_rows(&mut self, id: u32, payload: &[u8], report: &mut RecoveryReport) {
        let taken = self.sources.get_mut(&id).and_then(|source| source.replay_rows(&self.history, payload).ok());
        match taken {
            Some(samples) => {
                report.frames += 1;
                report.samples += samples;
            }
            None => self.report_lost(id, report),
        }
    }

    /// Notes that a record of a source was left out, as what it builds on is lost.
    fn report_lost(&self, id: u32, report: &mut RecoveryReport) {
        let name = self.sources.get(&id).map(|source| source.name.clone());
        let known = report.losses.iter_mut().find_map(|loss| match loss {
            Loss::Frames { source, count } if *source == name => Some(count),
            _ => None,
        });
        match known {
            Some(count) => *count += 1,
            None => report.losses.push(Loss::Frames { source: name, count: 1 }),
        }
    }

    fn restore(&mut self, id: u32, mark: Mark, state: &[u8], ending: &[(GroupId, Labels)]) {
        let Some(source) = self.sources.get_mut(&id) else { return };
        if source.metrics.taken == Some(mark) && source.decoder.is_some() {
            return;
        }
        source.metrics.taken = Some(mark);
        source.decoder = Decoder::restore(state).ok();
        let before = source.live.counted() as u64;
        source.live = Live::default();
        self.history.counters.active_series.fetch_sub(before, Ordering::Relaxed);
        let Some(decoder) = source.decoder.take() else { return };
        for group in decoder.groups() {
            for state in group.series() {
                if let Some(series) = source.admit(&self.history, state.series) {
                    source.live.restore(group.group, state.series.slot, series, state.value_bits);
                }
            }
        }
        source.decoder = Some(decoder);
        for (group, labels) in ending {
            let mut index = write(&self.history.index);
            let series = index.insert(labels, MetricType::Unknown);
            index.add_source(series, id);
            source.live.restore_ending(*group, series);
        }
    }
}

impl Source {
    pub(crate) fn id(&self) -> u32 {
        self.id
    }

    pub(crate) fn name(&self) -> &SourceName {
        &self.name
    }

    /// How far a lane has come; none of a lane that is not kept.
    pub(crate) fn marks(&self, lane: Lane) -> Option<&Marks> {
        match lane {
            Lane::Metrics => Some(&self.metrics),
            Lane::Events => Some(&self.events),
            Lane::Logs => None,
        }
    }

    /// Whether all that was taken is durable.
    fn is_settled(&self) -> bool {
        [&self.metrics, &self.events].into_iter().all(|marks| marks.durable == marks.taken)
    }

    /// All that was taken is durable.
    pub(crate) fn settle(&mut self) {
        for marks in [&mut self.metrics, &mut self.events] {
            marks.durable = marks.taken;
        }
    }

    /// Whether the lane's next frame may go on with a chain.
    pub(crate) fn has_chain(&self) -> bool {
        self.decoder.is_some()
    }

    /// Puts the series of a schema frame into their slots; answers how many a limit refused.
    fn declare_series(&mut self, history: &History, group: GroupId, add: &[SeriesDef]) -> u64 {
        let mut refused = 0;
        for def in add {
            match self.admit(history, def) {
                Some(series) => {
                    let mut data = write(&self.head.data);
                    self.live.declare(&mut data, group, def.slot, series);
                }
                None => refused += 1,
            }
        }
        refused
    }

    /// The number of a declared series, unless a limit refuses it. Counts it as active.
    fn admit(&mut self, history: &History, def: &SeriesDef) -> Option<SeriesId> {
        let labels = match self.name.kind {
            SourceKind::Internal => def.labels.clone(),
            SourceKind::Agent => match def.labels.with(INSTANCE, &self.name.name) {
                Ok(labels) => labels,
                Err(_) => return self.refuse(history, &def.labels, SeriesLimit::Labels),
            },
        };
        let known = read(&history.index).id(&labels);
        self.count(history, known, history.config.series_per_source_max).map_or_else(
            |limit| self.refuse(history, &def.labels, limit),
            |()| Some(self.index(history, &labels, def.kind)),
        )
    }

    /// Counts a series as active unless it is, or a limit refuses it.
    fn count(&self, history: &History, known: Option<SeriesId>, own_max: usize) -> Result<(), SeriesLimit> {
        if known.is_some_and(|id| self.live.is_counted(id)) {
            return Ok(());
        }
        if self.live.counted() >= own_max {
            return Err(SeriesLimit::PerSource);
        }
        let active = &history.counters.active_series;
        if active.load(Ordering::Relaxed) >= history.config.series_total_max as u64 {
            return Err(SeriesLimit::Total);
        }
        active.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// The series' number in the index, which notes its type and that this source has it.
    fn index(&self, history: &History, labels: &Labels, kind: MetricType) -> SeriesId {
        {
            let index = read(&history.index);
            if let Some(id) = index.id(labels)
                && index.kind(id) == kind
                && index.sources(id).any(|source| source == self.id)
            {
                return id;
            }
        }
        let mut index = write(&history.index);
        let id = index.insert(labels, kind);
        index.add_source(id, self.id);
        id
    }

    fn refuse(&self, history: &History, labels: &Labels, limit: SeriesLimit) -> Option<SeriesId> {
        history.counters.refusals.note(&self.name, labels, limit);
        None
    }
}
