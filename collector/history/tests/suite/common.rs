//! A source that plays an agent, and the plain model that the store is held against.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use pitwatch_disk::SimDisk;
use pitwatch_history::{
    Appender, Config, Done, History, Job, JobError, MatchOp, Matcher, RecoveryReport, SourceKind, SourceName,
};
use pitwatch_shared::codec::{Encoder, GroupId, SeriesDef, Slot};
use pitwatch_shared::model::{INSTANCE, Labels, Lane, Mark, MetricType, STALE_NAN_BITS};

pub(crate) const DIR: &str = "/store";

/// What the store should hold: by series, by timestamp, the bits written last.
pub(crate) type Model = BTreeMap<Labels, BTreeMap<i64, u64>>;

pub(crate) fn open(disk: &SimDisk, config: &Config) -> (Arc<History>, Appender, RecoveryReport) {
    History::open(Arc::new(disk.clone()), Path::new(DIR), config.clone()).unwrap()
}

/// Runs a job without a pause.
pub(crate) fn run_job(job: Job) -> Result<Done, JobError> {
    job.run(&mut |_| ControlFlow::Continue(()))
}

/// Small numbers from a seed.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }
}

/// A frame that was made, and what it means.
pub(crate) struct Frame {
    pub(crate) mark: Mark,
    pub(crate) payload: Vec<u8>,
    pub(crate) samples: Vec<(Labels, i64, u64)>,
}

/// A source with its encoder. It keeps every frame, so that any can be sent again.
pub(crate) struct Feeder {
    pub(crate) name: SourceName,
    pub(crate) frames: Vec<Frame>,
    encoder: Encoder,
    epoch: u64,
    seq: u64,
    pub(crate) now: i64,
    live: BTreeMap<(GroupId, Slot), (Labels, Option<u64>)>,
    ending: BTreeMap<Labels, (GroupId, u64)>,
}

impl Feeder {
    pub(crate) fn new(name: SourceName) -> Self {
        Self {
            name,
            frames: Vec::new(),
            encoder: Encoder::new(),
            epoch: 0,
            seq: 0,
            now: 1_700_000_000_000,
            live: BTreeMap::new(),
            ending: BTreeMap::new(),
        }
    }

    /// Labels of the series `slot` of a group, as the source writes them.
    pub(crate) fn labels(group: GroupId, slot: Slot) -> Labels {
        let name = format!("metric_{}", slot % 3);
        Labels::new([("__name__", &*name), ("g", &group.to_string()), ("s", &slot.to_string())]).unwrap()
    }

    fn stamped(&self, labels: &Labels) -> Labels {
        match self.name.kind {
            SourceKind::Agent => labels.with(INSTANCE, &self.name.name).unwrap(),
            SourceKind::Internal => labels.clone(),
        }
    }

    fn push(&mut self, payload: Vec<u8>, samples: Vec<(Labels, i64, u64)>) {
        self.seq += 1;
        let mark = Mark { epoch: self.epoch, seq: self.seq };
        self.frames.push(Frame { mark, payload, samples });
    }

    /// A new process of the agent: a new epoch, which begins a chain.
    pub(crate) fn restart(&mut self, group: GroupId, slots: &[Slot]) {
        self.epoch += 1;
        self.seq = 0;
        self.schema(true, group, &[], slots);
    }

    pub(crate) fn schema(&mut self, reset: bool, group: GroupId, retire: &[Slot], add: &[Slot]) {
        let mut payload = Vec::new();
        let defs: Vec<_> = add
            .iter()
            .map(|slot| SeriesDef { slot: *slot, kind: MetricType::Gauge, labels: Self::labels(group, *slot) })
            .collect();
        self.encoder.schema(&mut payload, reset, group, retire, &defs).unwrap();
        if reset {
            for ((group, _), (labels, bits)) in std::mem::take(&mut self.live) {
                if let Some(bits) = bits {
                    self.ending.insert(labels, (group, bits));
                }
            }
        }
        for slot in retire {
            if let Some((labels, Some(bits))) = self.live.remove(&(group, *slot)) {
                self.ending.insert(labels, (group, bits));
            }
        }
        for slot in add {
            let labels = self.stamped(&Self::labels(group, *slot));
            let before = self.ending.remove(&labels).map(|(_, bits)| bits);
            self.live.insert((group, *slot), (labels, before));
        }
        self.push(payload, Vec::new());
    }

    pub(crate) fn slots(&self, group: GroupId) -> Vec<Slot> {
        self.live.keys().filter(|(of, _)| *of == group).map(|(_, slot)| *slot).collect()
    }

    pub(crate) fn groups(&self) -> Vec<GroupId> {
        let mut groups: Vec<_> = self.live.keys().map(|(group, _)| *group).collect();
        groups.dedup();
        groups
    }

    pub(crate) fn has_chain(&self) -> bool {
        self.epoch > 0
    }

    /// A tick at which some values change.
    pub(crate) fn tick(&mut self, group: GroupId, step_ms: i64, mut value: impl FnMut(Slot, Option<u64>) -> u64) {
        self.now += step_ms;
        let now = self.now;
        let mut values = vec![0.0; self.slots(group).last().map_or(0, |last| *last as usize + 1)];
        let mut samples = Vec::new();
        self.ending.retain(|labels, (of, bits)| {
            if *of == group && *bits != STALE_NAN_BITS {
                samples.push((labels.clone(), now, STALE_NAN_BITS));
            }
            *of != group
        });
        for ((_, slot), (labels, bits)) in self.live.iter_mut().filter(|((of, _), _)| *of == group) {
            let new = value(*slot, *bits);
            *bits = Some(new);
            values[*slot as usize] = f64::from_bits(new);
            samples.push((labels.clone(), now, new));
        }
        let mut payload = Vec::new();
        self.encoder.tick(&mut payload, group, now, &values).unwrap();
        self.push(payload, samples);
    }

    /// Sends every frame after `from`.
    pub(crate) fn send_after(&self, appender: &mut Appender, from: Option<Mark>) {
        for frame in self.frames.iter().filter(|frame| from.is_none_or(|from| frame.mark > from)) {
            appender.append(&self.name, Lane::Metrics, frame.mark, &frame.payload).unwrap();
        }
    }

    /// How many samples the frames up to `through` stand for.
    pub(crate) fn samples(&self, through: Option<Mark>) -> u64 {
        let frames = self.frames.iter().filter(|frame| through.is_some_and(|through| frame.mark <= through));
        frames.map(|frame| frame.samples.len() as u64).sum()
    }

    /// Adds what the frames up to `through` mean.
    pub(crate) fn model(&self, through: Option<Mark>, model: &mut Model) {
        for frame in self.frames.iter().filter(|frame| through.is_some_and(|through| frame.mark <= through)) {
            for (labels, ts, bits) in &frame.samples {
                model.entry(labels.clone()).or_default().insert(*ts, *bits);
            }
        }
    }
}

/// All that the store holds, as a model.
pub(crate) fn contents(history: &History) -> Model {
    let all = Matcher::new("__name__", MatchOp::Ne, "").unwrap();
    let mut model = Model::new();
    let (mut ts, mut values) = (Vec::new(), Vec::new());
    for series in history.select(&[all], i64::MIN, i64::MAX).unwrap() {
        history.samples(&series, i64::MIN, i64::MAX, &mut ts, &mut values).unwrap();
        assert!(ts.windows(2).all(|pair| pair[0] < pair[1]), "{} is not in order", series.labels);
        let samples = ts.iter().copied().zip(values.iter().map(|value| value.to_bits()));
        assert!(model.insert(series.labels, samples.collect()).is_none());
    }
    model
}

/// As [`assert_same`] from `horizon` on; what is before may be there or not, if it was ever sent.
pub(crate) fn assert_same_since(horizon: i64, mut found: Model, mut expected: Model, what: &str) {
    for (labels, samples) in &mut found {
        let sent = expected.get(labels);
        for (ts, _) in samples.range(..horizon) {
            assert!(sent.is_some_and(|sent| sent.contains_key(ts)), "{what}: {labels} was never sent at {ts}");
        }
        *samples = samples.split_off(&horizon);
    }
    expected.values_mut().for_each(|samples| *samples = samples.split_off(&horizon));
    assert_same(&found, &expected, what);
}

/// Panics with the first difference.
pub(crate) fn assert_same(found: &Model, expected: &Model, what: &str) {
    for (labels, samples) in expected {
        let got = found.get(labels);
        if let Some((ts, bits)) = samples.iter().find(|(ts, bits)| got.and_then(|got| got.get(ts)) != Some(bits)) {
            let got = got.and_then(|got| got.get(ts));
            panic!("{what}: {labels} at {ts} is {got:x?}, not {bits:x} (of {} samples)", samples.len());
        }
    }
    for (labels, samples) in found {
        let expected = expected.get(labels);
        if let Some(ts) = samples.keys().find(|ts| expected.is_none_or(|expected| !expected.contains_key(ts))) {
            panic!("{what}: {labels} has a sample at {ts} that was never sent");
        }
    }
}

/// A value to try: mostly plain ones, some odd.
pub(crate) fn value(random: &mut Random, before: Option<u64>) -> u64 {
    match (random.below(12), before) {
        (0..6, Some(before)) => before,
        (6, _) => (-0.0_f64).to_bits(),
        (7, _) => f64::NAN.to_bits() | random.below(9),
        (8, _) => random.below(u64::MAX),
        (9, _) if random.below(4) == 0 => STALE_NAN_BITS,
        _ => (random.below(1000) as f64 / 10.0).to_bits(),
    }
}
