//! Lane frames of the metrics lane: what an encoder and a decoder say to each other, payload bytes only.
//!
//! A *chain* is a run of frames that build on one another. A schema frame with `reset` begins a chain: every group
//! and slot is forgotten. Further schema frames add series to slots of a group or retire them; sample frames carry
//! one timestamp for a whole group and the change of each of its live series since the group's last tick.
//! Every live series of a group has a value at every tick of that group.
//!
//! The byte layout is `docs/formats/frames.md`. Numbering, acks and resending are [`crate::delivery`]'s matter: it
//! hands over every payload of a chain, once and in order.

mod bytes;
mod chain;
mod models;
mod range;
mod scale;
mod schema;
mod series;
mod snapshot;
mod tick;

pub use chain::ChainError;

use crate::limits;
use crate::model::{Labels, LabelsError, MetricType};
use bytes::{Bytes, put_varint};
use chain::Chain;
use schema::{ReaderTexts, WriterTexts, label_cost};
use tick::TickScratch;

/// A set of series that are sampled together and share their timestamps.
pub type GroupId = u16;
/// A series' place in its group.
pub type Slot = u32;

/// How far above twice the number of series ever added to a group a slot may lie.
pub const SLOTS_AHEAD_MAX: u32 = 64;
/// What a slot, live or retired, counts against [`CHAIN_MAX_BYTES`].
pub const SLOT_COST_BYTES: usize = 128;
/// What a label of a live series counts against [`CHAIN_MAX_BYTES`] besides its text.
pub const LABEL_COST_BYTES: usize = 64;
/// Most memory that a chain's slots and live labels may need in one process.
pub const CHAIN_MAX_BYTES: usize = 64 * 1024 * 1024;
/// Longest text that later schema frames can refer to.
pub const STRING_SHARED_MAX_BYTES: usize = 256;
/// Most label names, and most label values, that later schema frames can refer to.
pub const STRINGS_MAX: usize = 65_536;
/// Most bytes of label names, and of label values, that later schema frames can refer to.
pub const STRINGS_MAX_BYTES: usize = 2 * 1024 * 1024;

const _: () = assert!(STRING_SHARED_MAX_BYTES >= limits::LABEL_NAME_MAX_BYTES);
const _: () = assert!(limits::LABELS_MAX_BYTES + limits::LABELS_PER_SERIES_MAX * LABEL_COST_BYTES < CHAIN_MAX_BYTES);

/// Version 1 in the high half of a payload's first byte, the kind of frame in the low half.
const KIND_SCHEMA: u8 = 0x11;
const KIND_SCHEMA_RESET: u8 = 0x12;
const KIND_TICK: u8 = 0x13;

/// A series that a schema frame declares.
#[derive(Clone, Debug, PartialEq)]
pub struct SeriesDef {
    /// Where in the group; may not be live.
    pub slot: Slot,
    /// What its values mean.
    pub kind: MetricType,
    /// Its labels.
    pub labels: Labels,
}

/// What one frame says, checked against the chain so far.
#[derive(Clone, Debug, PartialEq)]
pub enum Decoded {
    /// A schema frame.
    Schema {
        /// Begins a chain: every group and slot is forgotten first.
        reset: bool,
        /// The group that the rest speaks of.
        group: GroupId,
        /// Slots that end (before `add`).
        retire: Vec<Slot>,
        /// Slots that begin.
        add: Vec<SeriesDef>,
    },
    /// A sample frame: every live slot has a value at `ts_ms`; those not in `changes` have the one they had.
    Tick {
        /// The group.
        group: GroupId,
        /// Milliseconds since the Unix epoch.
        ts_ms: i64,
        /// Slot and new value bits, ascending by slot. A series' first tick is always here.
        changes: Vec<(Slot, u64)>,
    },
}

impl Default for Decoded {
    /// A tick without changes, to be overwritten.
    fn default() -> Self {
        Self::Tick { group: 0, ts_ms: 0, changes: Vec::new() }
    }
}

/// Why a frame could not be written. Nothing was appended and the chain is as it was.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// The frame breaks a rule of the chain.
    #[error(transparent)]
    Chain(#[from] ChainError),
    /// Fewer values than the group has slots.
    #[error("group {group}: {given} values for slots up to {last}")]
    TooFewValues {
        /// The group.
        group: GroupId,
        /// How many were given.
        given: usize,
        /// The highest live slot.
        last: Slot,
    },
    /// A payload over [`limits::FRAME_PAYLOAD_MAX_BYTES`].
    #[error("group {group}: a frame of {bytes} bytes; split the group or the schema frame")]
    TooLarge {
        /// The group.
        group: GroupId,
        /// What the frame would have.
        bytes: usize,
    },
}

/// Why a payload or a snapshot was refused. The decoder is as it was; its chain cannot go on without the frame.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// A first byte of no known version and kind.
    #[error("unknown frame version and kind {0:#04x}")]
    UnknownKind(u8),
    /// The payload ends too early.
    #[error("truncated at byte {at}")]
    Truncated {
        /// Its length.
        at: usize,
    },
    /// The payload goes on after its end.
    #[error("trailing bytes from byte {at}")]
    Trailing {
        /// Where it should end.
        at: usize,
    },
    /// Bytes that no encoder writes.
    #[error("damaged before byte {at}")]
    Damaged {
        /// Where it showed.
        at: usize,
    },
    /// A payload over [`limits::FRAME_PAYLOAD_MAX_BYTES`].
    #[error("a payload of {0} bytes, more than {max}", max = limits::FRAME_PAYLOAD_MAX_BYTES)]
    TooLarge(usize),
    /// A number outside its bounds.
    #[error("{what} is out of range at byte {at}")]
    OutOfRange {
        /// Which number.
        what: &'static str,
        /// Where it is.
        at: usize,
    },
    /// Text that is not UTF-8.
    #[error("text that is not UTF-8 at byte {at}")]
    NotText {
        /// Where it is.
        at: usize,
    },
    /// A metric type of a later version.
    #[error("unknown metric type {byte} at byte {at}")]
    UnknownType {
        /// The byte.
        byte: u8,
        /// Where it is.
        at: usize,
    },
    /// A scale of a later version.
    #[error("slot {slot} has the unknown scale {code}")]
    UnknownScale {
        /// The slot.
        slot: Slot,
        /// The scale's code.
        code: u8,
    },
    /// Labels that break a limit.
    #[error("labels refused at byte {at}")]
    Labels {
        /// Where they begin.
        at: usize,
        /// The breach.
        source: LabelsError,
    },
    /// The frame breaks a rule of the chain.
    #[error(transparent)]
    Chain(#[from] ChainError),
    /// A snapshot of another version.
    #[error("unknown snapshot version {0}")]
    UnknownSnapshot(u8),
    /// A snapshot whose checksum does not fit.
    #[error("the snapshot's checksum does not fit")]
    Checksum,
}

/// Whether a payload begins a chain: a look at its first byte, no check.
#[must_use]
pub fn begins_chain(payload: &[u8]) -> bool {
    payload.first() == Some(&KIND_SCHEMA_RESET)
}

/// Writes the frames of one lane, chain after chain.
#[derive(Clone, Debug)]
pub struct Encoder {
    chain: Chain,
    texts: WriterTexts,
    scratch: TickScratch,
}

impl Default for Encoder {
    fn default() -> Self {
        Self::new()
    }
}

impl Encoder {
    /// An encoder without a chain: its first frame should be a schema frame with `reset`.
    #[must_use]
    pub fn new() -> Self {
        Self { chain: Chain::new(), texts: WriterTexts::default(), scratch: TickScratch::new() }
    }

    /// Appends a schema frame to `out`: `retire` ends series, then `add` begins series; `reset` begins a chain.
    ///
    /// # Errors
    /// A breach of [`limits`] or of the chain's rules: slots live already or not live, slots too far up.
    pub fn schema(
        &mut self,
        out: &mut Vec<u8>,
        reset: bool,
        group: GroupId,
        retire: &[Slot],
        add: &[SeriesDef],
    ) -> Result<(), EncodeError> {
        if !reset {
            return schema_frame(&mut self.chain, &mut self.texts, out, KIND_SCHEMA, group, retire, add);
        }
        let (mut chain, mut texts) = (Chain::new(), WriterTexts::default());
        schema_frame(&mut chain, &mut texts, out, KIND_SCHEMA_RESET, group, retire, add)?;
        (self.chain, self.texts) = (chain, texts);
        Ok(())
    }

    /// Appends a sample frame to `out`: `values[slot]` for every live slot; entries of other slots are ignored.
    ///
    /// # Errors
    /// An unknown group, too few values, or a frame that would be too large.
    pub fn tick(&mut self, out: &mut Vec<u8>, group: GroupId, ts_ms: i64, values: &[f64]) -> Result<(), EncodeError> {
        let (models, known) = self.chain.parts(group)?;
        let span = known.span();
        if values.len() < span {
            return Err(EncodeError::TooFewValues { group, given: values.len(), last: span as Slot - 1 });
        }
        let begin = out.len();
        out.push(KIND_TICK);
        put_varint(out, group.into());
        let learnt = self.scratch.write(out, models, known, ts_ms, values);
        keep_to_limit(out, begin, group)?;
        models.keep(&learnt);
        self.scratch.commit_written(known, ts_ms, values);
        Ok(())
    }
}

fn schema_frame(
    chain: &mut Chain,
    texts: &mut WriterTexts,
    out: &mut Vec<u8>,
    kind: u8,
    group: GroupId,
    retire: &[Slot],
    add: &[SeriesDef],
) -> Result<(), EncodeError> {
    let costs = add.iter().map(|series| (series.slot, label_cost(&series.labels)));
    let checked = chain.check(group, retire, costs.clone())?;
    let (begin, mark) = (out.len(), texts.mark());
    out.push(kind);
    put_varint(out, group.into());
    texts.put(out, retire, add);
    if let Err(error) = keep_to_limit(out, begin, group) {
        texts.forget_from(mark);
        return Err(error);
    }
    chain.apply(checked, group, retire, costs);
    Ok(())
}

fn keep_to_limit(out: &mut Vec<u8>, begin: usize, group: GroupId) -> Result<(), EncodeError> {
    let bytes = out.len() - begin;
    if bytes > limits::FRAME_PAYLOAD_MAX_BYTES {
        out.truncate(begin);
        return Err(EncodeError::TooLarge { group, bytes });
    }
    Ok(())
}

/// A series as a decoder has it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SeriesState<'a> {
    /// Slot, type and labels.
    pub series: &'a SeriesDef,
    /// Bits of its last value; none before its first tick.
    pub value_bits: Option<u64>,
}

/// A group as a decoder has it.
#[derive(Clone, Copy, Debug)]
pub struct GroupState<'a> {
    /// Its number.
    pub group: GroupId,
    /// The timestamp of its last tick, in milliseconds since the Unix epoch.
    pub last_ts_ms: Option<i64>,
    state: &'a chain::Group,
    series: &'a [Option<SeriesDef>],
}

impl<'a> GroupState<'a> {
    /// Its live series, ascending by slot.
    pub fn series(&self) -> impl Iterator<Item = SeriesState<'a>> + use<'a> {
        let state = self.state;
        self.series.iter().flatten().map(move |series| SeriesState {
            series,
            value_bits: (!state.is_fresh(series.slot)).then(|| state.current[series.slot as usize]),
        })
    }
}

/// Reads the frames of one lane, chain after chain.
#[derive(Clone, Debug)]
pub struct Decoder {
    chain: Chain,
    texts: ReaderTexts,
    /// By group and slot.
    series: Vec<Vec<Option<SeriesDef>>>,
    scratch: TickScratch,
}

impl PartialEq for Decoder {
    fn eq(&self, other: &Self) -> bool {
        self.chain == other.chain && self.texts == other.texts && self.series == other.series
    }
}

impl Default for Decoder {
    fn default() -> Self {
        Self::new()
    }
}

impl Decoder {
    /// A decoder without a chain: it takes a schema frame first.
    #[must_use]
    pub fn new() -> Self {
        Self { chain: Chain::new(), texts: ReaderTexts::default(), series: Vec::new(), scratch: TickScratch::new() }
    }

    /// Reads one payload, wholly or not at all: on an error this decoder is as it was, and `out` says nothing.
    /// The lists in `out` are reused.
    ///
    /// # Errors
    /// Whatever no encoder would have written at this point of the chain.
    pub fn decode(&mut self, payload: &[u8], out: &mut Decoded) -> Result<(), DecodeError> {
        if payload.len() > limits::FRAME_PAYLOAD_MAX_BYTES {
            return Err(DecodeError::TooLarge(payload.len()));
        }
        let mut bytes = Bytes::new(payload, 0);
        let kind = bytes.byte()?;
        if !matches!(kind, KIND_SCHEMA | KIND_SCHEMA_RESET | KIND_TICK) {
            return Err(DecodeError::UnknownKind(kind));
        }
        let group = bytes.varint()?;
        let group = GroupId::try_from(group).map_err(|_| ChainError::Group(group))?;
        if kind == KIND_TICK {
            return self.decode_tick(payload, bytes.at(), group, out);
        }
        if kind == KIND_SCHEMA {
            return self.decode_schema(&mut bytes, false, group, out);
        }
        let mut fresh = Self::new();
        fresh.decode_schema(&mut bytes, true, group, out)?;
        std::mem::swap(&mut fresh.scratch, &mut self.scratch);
        *self = fresh;
        Ok(())
    }

    /// The groups of the chain, ascending.
    pub fn groups(&self) -> impl Iterator<Item = GroupState<'_>> {
        let groups = self.chain.groups.iter().zip(&self.series).enumerate();
        groups.filter_map(|(group, (state, series))| {
            let state = state.as_deref()?;
            Some(GroupState { group: group as GroupId, last_ts_ms: state.last_ts_ms, state, series })
        })
    }

    fn decode_tick(&mut self, payload: &[u8], at: usize, group: GroupId, out: &mut Decoded) -> Result<(), DecodeError> {
        let (models, known) = self.chain.parts(group)?;
        let (ts_ms, learnt) = self.scratch.read(payload, at, models, known)?;
        models.keep(&learnt);
        let mut changes = match out {
            Decoded::Tick { changes, .. } => std::mem::take(changes),
            Decoded::Schema { .. } => Vec::new(),
        };
        changes.clear();
        self.scratch.commit_read(known, ts_ms, &mut changes);
        *out = Decoded::Tick { group, ts_ms, changes };
        Ok(())
    }

    fn decode_schema(
        &mut self,
        bytes: &mut Bytes<'_>,
        reset: bool,
        group: GroupId,
        out: &mut Decoded,
    ) -> Result<(), DecodeError> {
        let (mut retire, mut add) = (Vec::new(), Vec::new());
        let mark = self.texts.mark();
        let room = CHAIN_MAX_BYTES - self.chain.cost_bytes;
        let taken = self.texts.take(bytes, &mut retire, &mut add, room);
        let costs = add.iter().map(|series| (series.slot, label_cost(&series.labels)));
        let checked = taken.and_then(|()| Ok(self.chain.check(group, &retire, costs.clone())?));
        let checked = checked.inspect_err(|_| self.texts.forget_from(mark))?;
        self.chain.apply(checked, group, &retire, costs);
        let slots = self.chain.group_or_new(group).series.len();
        self.series.resize(self.chain.groups.len(), Vec::new());
        let series = &mut self.series[usize::from(group)];
        series.resize(slots, None);
        for slot in &retire {
            series[*slot as usize] = None;
        }
        for begun in &add {
            series[begun.slot as usize] = Some(begun.clone());
        }
        *out = Decoded::Schema { reset, group, retire, add };
        Ok(())
    }
}

#[cfg(test)]
mod tests;
