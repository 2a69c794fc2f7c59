//! Sample frames: which live slots changed, and by how much.
//!
//! The body that writes and the body that reads are one: [`Decisions`] stands for both. A frame is worked out beside the
//! chain and put in place only when all of it is known to be good, so a bad one leaves no trace.

use super::bytes::{BitReader, BitWriter, unzigzag, zigzag};
use super::chain::{Group, set_bits};
use super::models::{Kept, Models, SIZE_CONTEXTS};
use super::range::{Decisions, Probability, RangeReader, RangeWriter};
use super::scale::{SCALE_BITS, Scale};
use super::series::{Change, Class, SIZE_MAX, Series, size_of};
use super::{DecodeError, Slot};

/// The history of a slot without a change at any of the ticks it remembers.
pub(super) const HISTORY_QUIET: u16 = 0;
/// Width of a bit count where it is spelt out.
const COUNT_BITS: u32 = 7;

/// A frame being worked out, kept to be reused.
#[derive(Clone, Debug)]
pub(super) struct TickScratch {
    /// The changed slots as a bitmap.
    map: Vec<u64>,
    /// The changed slots, ascending.
    list: Vec<(Slot, Change)>,
    /// What their series will know; when writing only.
    next: Vec<Series>,
    bits: BitWriter,
}

impl TickScratch {
    pub(super) fn new() -> Self {
        Self { map: Vec::new(), list: Vec::new(), next: Vec::new(), bits: BitWriter::default() }
    }

    /// Appends a frame's decisions and bits to `out` and gives what was learnt; [`TickScratch::commit_written`] makes it
    /// part of the chain. What is learnt is on the stack meanwhile: ten thousand decoders are held at once.
    pub(super) fn write(
        &mut self,
        out: &mut Vec<u8>,
        models: &Kept,
        group: &Group,
        ts_ms: i64,
        values: &[f64],
    ) -> Models {
        let mut learnt = models.models();
        self.compare(group, values);
        let is_escape = |(slot, change): &(Slot, Change)| {
            !matches!(change.class, Class::Residual(_)) && group.series[*slot as usize].has_scale()
        };
        let escapes = self.list.iter().any(is_escape);
        let jump = group.jump_to(ts_ms);
        let mut range = RangeWriter::new(out);
        range.decide(&mut learnt.flat.steady, jump == 0);
        decide_changed(&mut range, &mut learnt, group, &mut self.map);
        range.decide(&mut learnt.flat.escapes, escapes);
        for (slot, change) in &self.list {
            let series = &group.series[*slot as usize];
            decide_class(&mut range, &mut learnt, series, escapes, change.class);
        }
        range.finish();
        self.bits.clear();
        if jump != 0 {
            put_counted(&mut self.bits, zigzag(jump));
        }
        for (_, change) in &self.list {
            put_change(&mut self.bits, change);
        }
        self.bits.finish(out);
        learnt
    }

    /// Makes the frame just written part of the chain.
    pub(super) fn commit_written(&mut self, group: &mut Group, ts_ms: i64, values: &[f64]) {
        self.commit(group, ts_ms);
        for ((slot, _), next) in self.list.iter().zip(&self.next) {
            let at = *slot as usize;
            group.series[at] = *next;
            group.current[at] = values[at].to_bits();
        }
    }

    /// Reads what [`TickScratch::write`] wrote, from byte `at` of `payload` to its end, and gives the timestamp and
    /// what was learnt.
    pub(super) fn read(
        &mut self,
        payload: &[u8],
        at: usize,
        models: &Kept,
        group: &Group,
    ) -> Result<(i64, Models), DecodeError> {
        let mut learnt = models.models();
        self.map.clear();
        self.map.resize(group.live.len(), 0);
        self.list.clear();
        let mut range = RangeReader::new(payload, at);
        let steady = range.decide(&mut learnt.flat.steady, false);
        decide_changed(&mut range, &mut learnt, group, &mut self.map);
        let escapes = range.decide(&mut learnt.flat.escapes, false);
        for (word, map) in self.map.iter().enumerate() {
            for slot in set_bits(word, *map) {
                let series = &group.series[slot as usize];
                let class = decide_class(&mut range, &mut learnt, series, escapes, Class::Residual(0));
                self.list.push((slot, Change { class, scale: Scale::BITS, number: 0 }));
            }
        }
        let mut bits = BitReader::new(payload, range.finish()?);
        let jump = if steady { 0 } else { unzigzag(take_counted(&mut bits)?) };
        for (slot, change) in &mut self.list {
            take_change(&mut bits, *slot, change)?;
        }
        bits.finish()?;
        Ok((group.after_jump(jump), learnt))
    }

    /// Makes the frame just read part of the chain and appends its changes.
    pub(super) fn commit_read(&mut self, group: &mut Group, ts_ms: i64, changes: &mut Vec<(Slot, u64)>) {
        self.commit(group, ts_ms);
        changes.reserve(self.list.len());
        for (slot, change) in &self.list {
            let value_bits = group.series[*slot as usize].receive(change);
            group.current[*slot as usize] = value_bits;
            changes.push((*slot, value_bits));
        }
    }

    fn commit(&mut self, group: &mut Group, ts_ms: i64) {
        group.arrive(ts_ms);
        for (word, map) in self.map.iter().enumerate() {
            let noted = group.live[word] & (map | !group.quiet[word]);
            for slot in set_bits(word, noted) {
                let bit = slot % 64;
                let history = &mut group.history[slot as usize];
                *history = *history << 1 | (map >> bit & 1) as u16;
                let quiet = u64::from(*history == HISTORY_QUIET);
                group.quiet[word] = group.quiet[word] & !(1 << bit) | quiet << bit;
            }
            group.fresh[word] = 0;
        }
    }

    /// Finds the changed slots and how each is sent.
    fn compare(&mut self, group: &Group, values: &[f64]) {
        self.map.clear();
        self.list.clear();
        self.next.clear();
        let words = group.live.iter().zip(&group.fresh).zip(values.chunks(64)).zip(group.current.chunks(64));
        for (word, (((live, fresh), values), current)) in words.enumerate() {
            let mut map = 0;
            for (bit, (value, current)) in values.iter().zip(current).enumerate() {
                map |= u64::from(value.to_bits() != *current) << bit;
            }
            map = map & live | fresh;
            self.map.push(map);
            for slot in set_bits(word, map) {
                let mut next = group.series[slot as usize];
                self.list.push((slot, next.send(values[slot as usize % 64])));
                self.next.push(next);
            }
        }
    }
}

/// Which live slots changed: into `map` when reading, from it when writing.
fn decide_changed(decisions: &mut impl Decisions, models: &mut Models, group: &Group, map: &mut [u64]) {
    let mut before = 0;
    for (word, map) in map.iter_mut().enumerate() {
        let fresh = group.fresh[word];
        let known = group.live[word] & !fresh;
        let quiet = group.quiet[word] & known;
        let mut asked = known & !quiet;
        if quiet != 0 {
            let stirred = decisions.decide(&mut models.flat.stirred[before], *map & quiet != 0);
            if stirred {
                asked = known;
            }
            before = usize::from(stirred);
        }
        let mut found = fresh;
        for slot in set_bits(word, asked) {
            let history = group.history[slot as usize];
            let context = history.count_ones() as usize * 4 + usize::from(history & 3);
            let bit = slot % 64;
            let yes = decisions.decide(&mut models.flat.changed[context], *map >> bit & 1 != 0);
            found |= u64::from(yes) << bit;
        }
        *map = found;
    }
}

/// How a changed value is sent: read, or written if it is `class`.
#[inline]
fn decide_class(
    decisions: &mut impl Decisions,
    models: &mut Models,
    series: &Series,
    escapes: bool,
    class: Class,
) -> Class {
    let residual = match class {
        Class::Residual(size) => Some(size),
        Class::Scale | Class::Raw => None,
    };
    let escape = &mut models.flat.escape[usize::from(series.escaped())];
    if !series.has_scale() || (escapes && decisions.decide(escape, residual.is_none())) {
        let rescale = decisions.decide(&mut models.flat.rescale, class == Class::Scale);
        return if rescale { Class::Scale } else { Class::Raw };
    }
    Class::Residual(decide_size(decisions, models, series, residual.unwrap_or(0)))
}

/// The size of a residual: first whether it is below the expected size, then away from it step by step.
#[inline]
fn decide_size(decisions: &mut impl Decisions, models: &mut Models, series: &Series, size: u8) -> u8 {
    let (expected, known) = series.expected_size();
    let context = if known { usize::from(expected) } else { SIZE_CONTEXTS - 1 };
    let larger = expected == 0 || decisions.decide(&mut models.flat.larger[context], size >= expected);
    let mut reached = if larger { expected } else { expected - 1 };
    let end = if larger { SIZE_MAX } else { 0 };
    for step in &mut models.steps[context][usize::from(larger)] {
        let further = if larger { size > reached } else { size < reached };
        if reached == end || !decisions.decide(step, further) {
            return reached;
        }
        reached = if larger { reached + 1 } else { reached - 1 };
    }
    let mut spelt = 0;
    for bit in (0..COUNT_BITS).rev() {
        let mut even = Probability::EVEN;
        spelt = spelt << 1 | u8::from(decisions.decide(&mut even, size >> bit & 1 != 0));
    }
    spelt.min(SIZE_MAX)
}

#[inline]
fn put_change(bits: &mut BitWriter, change: &Change) {
    match change.class {
        Class::Residual(0) => {}
        // The highest bit of a residual of known size is known.
        Class::Residual(size) => bits.put(change.number & !(1 << (size - 1)), u32::from(size - 1)),
        Class::Raw => bits.put(change.number, u64::BITS),
        Class::Scale => {
            bits.put(u64::from(change.scale.code()), SCALE_BITS);
            put_counted(bits, change.number);
        }
    }
}

#[inline]
fn take_change(bits: &mut BitReader<'_>, slot: Slot, change: &mut Change) -> Result<(), DecodeError> {
    match change.class {
        Class::Residual(0) => {}
        Class::Residual(size) => change.number = bits.take(u32::from(size - 1)) | 1 << (size - 1),
        Class::Raw => change.number = bits.take(u64::BITS),
        Class::Scale => {
            let code = bits.take(SCALE_BITS) as u8;
            change.scale = Scale::from_code(code).ok_or(DecodeError::UnknownScale { slot, code })?;
            change.number = take_counted(bits)?;
        }
    }
    Ok(())
}

/// A number behind its size.
fn put_counted(bits: &mut BitWriter, number: u64) {
    let size = u32::from(size_of(number));
    bits.put(u64::from(size), COUNT_BITS);
    bits.put(number, size);
}

fn take_counted(bits: &mut BitReader<'_>) -> Result<u64, DecodeError> {
    let at = bits.at();
    let size = bits.take(COUNT_BITS) as u32;
    if size > u64::BITS {
        return Err(DecodeError::OutOfRange { what: "a bit count", at });
    }
    Ok(bits.take(size))
}
