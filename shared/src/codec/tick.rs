//! Sample frames: which live slots changed, and by how much.
//!
//! The body that writes and the body that reads are one: [`Decisions`] stands for both. A frame is worked out beside the
//! chain and put in place only when all of it is known to be good, so a bad one leaves no trace.

use super::bytes::{BitReader, BitWriter, Bytes, put_varint, unzigzag, zigzag};
use super::chain::{Group, set_bits};
use super::range::{Decisions, Probability, RangeReader, RangeWriter};
use super::scale::{SCALE_BITS, Scale};
use super::{DecodeError, Slot};

/// Width of a bit count on the wire.
const COUNT_BITS: u32 = 7;
/// The history of a slot without a change at any of the ticks it remembers.
pub(super) const HISTORY_QUIET: u16 = 0;
/// Ways to guess a series' next integer.
const GUESSES: usize = 4;
/// Fractional bits of `trend` and `level`.
const FRACTION_BITS: u32 = 4;
/// Sizes of residuals are averaged in 1/16 bit.
const SIZE_ONE: u16 = 16;
/// The average of a series that had no residual yet.
const SIZE_UNKNOWN: u16 = u16::MAX;
const SIZE_CONTEXTS: usize = 64 * 2 + 2;
/// Decisions to each side of the expected size before the size is spelt out.
const SIZE_STEPS: usize = 12;
const SIZE_MAX: u8 = 64;
const MEAN_MAX: u16 = SIZE_ONE * SIZE_MAX as u16;
/// Class of a value sent as its bits, the series' state left alone.
const CLASS_RAW: u8 = 65;
/// Class of a value that brings its scale along.
const CLASS_SCALE: u8 = 66;
/// Raw values in a row after which a series is taken for one of plain floats.
const RAW_RUN_MAX: u8 = 4;

/// What a chain has learnt about how its series change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Models {
    steady: Probability,
    stir: [Probability; 2],
    changed: [Probability; 17 * 4 * 4],
    escape: [Probability; 4],
    rescale: Probability,
    larger: [Probability; SIZE_CONTEXTS],
    steps: [[[Probability; SIZE_STEPS]; 2]; SIZE_CONTEXTS],
}

impl Models {
    /// Every probability, in the snapshot's order.
    pub(super) fn all(&mut self) -> impl Iterator<Item = &mut Probability> {
        let single = [&mut self.steady, &mut self.rescale];
        let flat = self.stir.iter_mut().chain(&mut self.changed).chain(&mut self.escape).chain(&mut self.larger);
        single.into_iter().chain(flat).chain(self.steps.as_flattened_mut().as_flattened_mut())
    }

    /// Nothing learnt yet.
    pub(super) const NEW: Self = Self {
        steady: Probability::EVEN,
        stir: [Probability::EVEN; 2],
        changed: [Probability::EVEN; 17 * 4 * 4],
        escape: [Probability::EVEN; 4],
        rescale: Probability::EVEN,
        larger: [Probability::EVEN; SIZE_CONTEXTS],
        steps: [[[Probability::EVEN; SIZE_STEPS]; 2]; SIZE_CONTEXTS],
    };
}

/// What is known of a series' values besides the last one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SlotState {
    integer: i64,
    /// Last change of `integer`.
    delta: i64,
    /// Running mean of the changes.
    trend: i64,
    /// Running mean of the integers.
    level: i64,
    /// Running mean size of what each guess missed by.
    missed: [u16; GUESSES],
    /// Running mean size of the residuals.
    size: u16,
    scale: Option<Scale>,
    raw_run: u8,
}

impl SlotState {
    /// A series without a value.
    pub(super) const NEW: Self = Self {
        integer: 0,
        delta: 0,
        trend: 0,
        level: 0,
        missed: [0; GUESSES],
        size: SIZE_UNKNOWN,
        scale: None,
        raw_run: 0,
    };

    /// Writes the state for the snapshot.
    pub(super) fn put(&self, out: &mut Vec<u8>) {
        out.push(self.scale.map_or(0, |scale| scale.code() + 1));
        out.push(self.raw_run);
        put_varint(out, zigzag(self.integer));
        put_varint(out, zigzag(self.delta));
        put_varint(out, zigzag(self.trend));
        put_varint(out, zigzag(self.level.wrapping_sub(self.integer << FRACTION_BITS)));
        for mean in self.missed {
            put_varint(out, mean.into());
        }
        put_varint(out, self.size.into());
    }

    /// Reads what [`SlotState::put`] wrote.
    pub(super) fn take(bytes: &mut Bytes<'_>) -> Result<Self, DecodeError> {
        let at = bytes.at();
        let scale = match bytes.byte()? {
            0 => None,
            code => Some(Scale::from_code(code - 1).ok_or(DecodeError::OutOfRange { what: "a scale", at })?),
        };
        let raw_run = bytes.byte()?;
        let integer = unzigzag(bytes.varint()?);
        let delta = unzigzag(bytes.varint()?);
        let trend = unzigzag(bytes.varint()?);
        let level = unzigzag(bytes.varint()?).wrapping_add(integer << FRACTION_BITS);
        let mut missed = [0; GUESSES];
        for mean in &mut missed {
            *mean = bytes.number("a guess's mean size", MEAN_MAX.into())? as u16;
        }
        let at = bytes.at();
        let size = bytes.number("a mean size", SIZE_UNKNOWN.into())? as u16;
        if size > MEAN_MAX && size != SIZE_UNKNOWN {
            return Err(DecodeError::OutOfRange { what: "a mean size", at });
        }
        Ok(Self { integer, delta, trend, level, missed, size, scale, raw_run })
    }

    fn guesses(&self) -> [i64; GUESSES] {
        [
            self.integer,
            self.integer.wrapping_add(self.delta),
            self.integer.wrapping_add(rounded(self.trend)),
            rounded(self.level),
        ]
    }

    fn guess(&self) -> i64 {
        let guesses = self.guesses();
        let mut best = 0;
        for other in 1..GUESSES {
            if self.missed[other] < self.missed[best] {
                best = other;
            }
        }
        guesses[best]
    }

    /// Takes in an integer that was sent as its distance from [`SlotState::guess`], of `size` bits.
    fn advance(&mut self, integer: i64, size: u8) {
        let guesses = self.guesses();
        for (missed, guess) in self.missed.iter_mut().zip(guesses) {
            let bits = SIZE_ONE * u16::from(residual_size(zigzag(integer.wrapping_sub(guess))));
            *missed = approach(*missed, bits, 3);
        }
        self.delta = integer.wrapping_sub(self.integer);
        self.trend = self.trend.wrapping_add((self.delta << FRACTION_BITS).wrapping_sub(self.trend) >> 3);
        self.level = self.level.wrapping_add((integer << FRACTION_BITS).wrapping_sub(self.level) >> 3);
        self.integer = integer;
        let bits = SIZE_ONE * u16::from(size);
        self.size = if self.size == SIZE_UNKNOWN { bits } else { approach(self.size, bits, 2) };
        self.raw_run = 0;
    }

    /// Begins anew under `scale`.
    fn rescale(&mut self, scale: Scale, integer: i64) {
        *self = Self { integer, level: integer << FRACTION_BITS, scale: Some(scale), ..Self::NEW };
    }

    fn size_context(&self) -> (usize, u8) {
        if self.size == SIZE_UNKNOWN {
            (SIZE_CONTEXTS - 1, 8)
        } else {
            (usize::from((self.size + 4) / 8), ((self.size + 8) / 16) as u8)
        }
    }

    fn escape_context(&self) -> usize {
        usize::from(self.scale == Some(Scale::BITS)) + 2 * usize::from(self.raw_run > 0)
    }
}

fn rounded(fixed: i64) -> i64 {
    fixed.wrapping_add(1 << (FRACTION_BITS - 1)) >> FRACTION_BITS
}

fn approach(mean: u16, value: u16, rate: u32) -> u16 {
    (i32::from(mean) + ((i32::from(value) - i32::from(mean)) >> rate)) as u16
}

fn residual_size(residual: u64) -> u8 {
    (64 - residual.leading_zeros()) as u8
}

/// One changed slot of the frame at hand.
#[derive(Clone, Copy, Debug)]
struct Change {
    slot: Slot,
    class: u8,
    scale: Scale,
    /// Residual, value bits or zigzag integer, by class.
    number: u64,
    value: u64,
    next: SlotState,
}

/// A frame being worked out, kept to be reused.
#[derive(Clone, Debug)]
pub(super) struct TickScratch {
    models: Box<Models>,
    changed: Vec<u64>,
    changes: Vec<Change>,
    bits: BitWriter,
}

impl TickScratch {
    pub(super) fn new() -> Self {
        Self { models: Box::new(Models::NEW), changed: Vec::new(), changes: Vec::new(), bits: BitWriter::default() }
    }

    /// Appends a frame's decisions and bits to `out`; [`TickScratch::commit`] makes it part of the chain.
    pub(super) fn write(&mut self, out: &mut Vec<u8>, models: &Models, group: &Group, ts_ms: i64, values: &[f64]) {
        (*self.models).clone_from(models);
        self.changed.clear();
        self.changes.clear();
        self.bits.clear();
        let words = group.live.iter().zip(values.chunks(64)).zip(group.current.chunks(64));
        for ((live, values), current) in words {
            let mut changed = 0;
            for (i, (value, current)) in values.iter().zip(current).enumerate() {
                changed |= u64::from(value.to_bits() != *current) << i;
            }
            self.changed.push(changed & live);
        }
        for (word, (changed, fresh)) in self.changed.iter_mut().zip(&group.fresh).enumerate() {
            *changed |= fresh;
            for slot in set_bits(word, *changed) {
                self.changes.push(Change::plan(slot, &group.slots[slot as usize], values[slot as usize]));
            }
        }
        let mut range = RangeWriter::new(out);
        let jump = group.jump_to(ts_ms);
        range.decide(&mut self.models.steady, jump == 0);
        code_changed(&mut range, &mut self.models, group, &mut self.changed);
        for change in &self.changes {
            code_class(&mut range, &mut self.models, &group.slots[change.slot as usize], change.class);
        }
        range.finish();
        if jump != 0 {
            put_counted(&mut self.bits, zigzag(jump));
        }
        for change in &self.changes {
            change.put(&mut self.bits);
        }
        self.bits.finish(out);
    }

    /// Reads what [`TickScratch::write`] wrote, from byte `at` of `payload` to its end, and gives the timestamp.
    pub(super) fn read(
        &mut self,
        payload: &[u8],
        at: usize,
        models: &Models,
        group: &Group,
    ) -> Result<i64, DecodeError> {
        (*self.models).clone_from(models);
        self.changed.clear();
        self.changed.resize(group.live.len(), 0);
        self.changes.clear();
        let mut range = RangeReader::new(payload, at);
        let steady = range.decide(&mut self.models.steady, false);
        code_changed(&mut range, &mut self.models, group, &mut self.changed);
        for (word, changed) in self.changed.iter().enumerate() {
            for slot in set_bits(word, *changed) {
                let state = &group.slots[slot as usize];
                let class = code_class(&mut range, &mut self.models, state, 0);
                self.changes.push(Change { slot, class, scale: Scale::BITS, number: 0, value: 0, next: *state });
            }
        }
        let mut bits = BitReader::new(payload, range.finish()?);
        let jump = if steady { 0 } else { unzigzag(take_counted(&mut bits)?) };
        for change in &mut self.changes {
            change.take(&mut bits)?;
        }
        bits.finish()?;
        Ok(group.after_jump(jump))
    }

    /// The changed slots and their value bits.
    pub(super) fn changes(&self) -> impl Iterator<Item = (Slot, u64)> {
        self.changes.iter().map(|change| (change.slot, change.value))
    }

    /// Makes the frame part of the chain.
    pub(super) fn commit(&mut self, models: &mut Models, group: &mut Group, ts_ms: i64) {
        models.clone_from(&self.models);
        group.arrive(ts_ms);
        for (word, changed) in self.changed.iter().enumerate() {
            let noted = group.live[word] & (changed | !group.quiet[word]);
            for slot in set_bits(word, noted) {
                let bit = 1 << (slot % 64);
                let history = &mut group.history[slot as usize];
                *history = *history << 1 | u16::from(changed & bit != 0);
                if *history == HISTORY_QUIET {
                    group.quiet[word] |= bit;
                } else {
                    group.quiet[word] &= !bit;
                }
            }
            group.fresh[word] = 0;
        }
        for change in &self.changes {
            group.slots[change.slot as usize] = change.next;
            group.current[change.slot as usize] = change.value;
        }
    }
}

impl Change {
    fn plan(slot: Slot, state: &SlotState, value: f64) -> Self {
        let mut next = *state;
        let bits = value.to_bits();
        if let Some(scale) = state.scale
            && let Some(integer) = scale.integer(value)
        {
            let residual = zigzag(integer.wrapping_sub(state.guess()));
            let class = residual_size(residual);
            next.advance(integer, class);
            return Self { slot, class, scale, number: residual, value: bits, next };
        }
        let found = Scale::find(value);
        let found = found
            .or_else(|| (state.raw_run >= RAW_RUN_MAX).then(|| (Scale::BITS, Scale::BITS.integer(value).unwrap_or(0))));
        if let Some((scale, integer)) = found {
            next.rescale(scale, integer);
            return Self { slot, class: CLASS_SCALE, scale, number: zigzag(integer), value: bits, next };
        }
        next.raw_run = next.raw_run.saturating_add(1);
        Self { slot, class: CLASS_RAW, scale: Scale::BITS, number: bits, value: bits, next }
    }

    fn put(&self, bits: &mut BitWriter) {
        match self.class {
            CLASS_RAW => bits.put(self.number, 64),
            CLASS_SCALE => {
                bits.put(u64::from(self.scale.code()), SCALE_BITS);
                put_counted(bits, self.number);
            }
            0 => {}
            // The highest bit of a residual of known size is known.
            size => bits.put(self.number & !(1 << (size - 1)), u32::from(size - 1)),
        }
    }

    fn take(&mut self, bits: &mut BitReader<'_>) -> Result<(), DecodeError> {
        match self.class {
            CLASS_RAW => {
                self.value = bits.take(64);
                self.next.raw_run = self.next.raw_run.saturating_add(1);
            }
            CLASS_SCALE => {
                let code = bits.take(SCALE_BITS) as u8;
                let scale = Scale::from_code(code).ok_or(DecodeError::UnknownScale { slot: self.slot, code })?;
                let integer = unzigzag(take_counted(bits)?);
                self.value = scale.value(integer).to_bits();
                self.next.rescale(scale, integer);
            }
            size => {
                let residual = if size == 0 { 0 } else { bits.take(u32::from(size - 1)) | 1 << (size - 1) };
                let integer = self.next.guess().wrapping_add(unzigzag(residual));
                self.value = self.next.scale.unwrap_or(Scale::BITS).value(integer).to_bits();
                self.next.advance(integer, size);
            }
        }
        Ok(())
    }
}

fn put_counted(bits: &mut BitWriter, number: u64) {
    let size = u32::from(residual_size(number));
    bits.put(u64::from(size), COUNT_BITS);
    bits.put(number, size);
}

fn take_counted(bits: &mut BitReader<'_>) -> Result<u64, DecodeError> {
    let size = bits.take(COUNT_BITS) as u32;
    if size > 64 {
        return Err(DecodeError::OutOfRange { what: "a bit count", at: 0 });
    }
    Ok(bits.take(size))
}

/// Which live slots changed: into `changed` when reading, from it when writing.
fn code_changed(decisions: &mut impl Decisions, models: &mut Models, group: &Group, changed: &mut [u64]) {
    let mut near = 0;
    let mut stirred = 0;
    for (word, changed) in changed.iter_mut().enumerate() {
        let fresh = group.fresh[word];
        let known = group.live[word] & !fresh;
        let quiet = group.quiet[word] & known;
        let mut asked = known & !quiet;
        if quiet != 0 {
            let stir = decisions.decide(&mut models.stir[stirred], *changed & quiet != 0);
            if stir {
                asked = known;
            }
            stirred = usize::from(stir);
        }
        let mut found = fresh;
        for slot in set_bits(word, asked) {
            let history = group.history[slot as usize];
            let context = (history.count_ones() as usize * 4 + usize::from(history & 3)) * 4 + near;
            let bit = slot % 64;
            let yes = decisions.decide(&mut models.changed[context], *changed >> bit & 1 != 0);
            found |= u64::from(yes) << bit;
            near = (near << 1 | usize::from(yes)) & 3;
        }
        *changed = found;
    }
}

/// How a changed slot's value is sent: the size of its residual in bits, or an escape.
fn code_class(decisions: &mut impl Decisions, models: &mut Models, state: &SlotState, class: u8) -> u8 {
    if state.scale.is_none() || decisions.decide(&mut models.escape[state.escape_context()], class > SIZE_MAX) {
        let rescale = decisions.decide(&mut models.rescale, class == CLASS_SCALE);
        return if rescale { CLASS_SCALE } else { CLASS_RAW };
    }
    let (context, expected) = state.size_context();
    let larger = expected == 0 || decisions.decide(&mut models.larger[context], class >= expected);
    let steps = &mut models.steps[context][usize::from(larger)];
    let mut size = if larger { expected } else { expected - 1 };
    for step in steps {
        let last = if larger { size == SIZE_MAX } else { size == 0 };
        if last || !decisions.decide(step, if larger { class > size } else { class < size }) {
            return size;
        }
        size = if larger { size + 1 } else { size - 1 };
    }
    spelt(decisions, class)
}

/// A size far from the expected one, bit by bit.
fn spelt(decisions: &mut impl Decisions, class: u8) -> u8 {
    let mut size = 0;
    for bit in (0..COUNT_BITS).rev() {
        let yes = decisions.decide(&mut Probability::EVEN.clone(), class >> bit & 1 != 0);
        size = size << 1 | u8::from(yes);
    }
    size.min(SIZE_MAX)
}
