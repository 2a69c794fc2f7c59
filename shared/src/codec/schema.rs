//! Schema frames: series come and go, their labels written as references where the chain has seen the text before.

use std::collections::HashMap;

use super::bytes::{Bytes, put_varint, unzigzag, zigzag};
use super::{ChainError, DecodeError, LABEL_COST_BYTES, STRING_SHARED_MAX_BYTES, STRINGS_MAX, STRINGS_MAX_BYTES};
use super::{SeriesDef, Slot};
use crate::limits;
use crate::model::{Labels, MetricType};

/// What a series' labels count against the chain's memory.
pub(super) fn label_cost(labels: &Labels) -> u32 {
    labels.iter().map(|(name, value)| (name.len() + value.len() + LABEL_COST_BYTES) as u32).sum()
}

/// Counts what a table of texts holds: one rule for both ends of which texts are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Kept {
    texts: usize,
    bytes: usize,
}

impl Kept {
    /// Counts `text` in, if there is room for it.
    fn admit(&mut self, text: &str) -> bool {
        let bytes = self.bytes + text.len();
        if text.len() > STRING_SHARED_MAX_BYTES || self.texts >= STRINGS_MAX || bytes > STRINGS_MAX_BYTES {
            return false;
        }
        *self = Self { texts: self.texts + 1, bytes };
        true
    }
}

/// A writer's table of texts.
#[derive(Clone, Debug, Default)]
pub(super) struct Interner {
    places: HashMap<Box<str>, u64>,
    kept: Kept,
}

impl Interner {
    fn of(texts: &Texts) -> Self {
        let places = texts.list.iter().cloned().zip(0..).collect();
        Self { places, kept: texts.kept }
    }

    fn keep(&mut self, text: &str) {
        let place = self.kept.texts as u64;
        if self.kept.admit(text) {
            self.places.insert(text.into(), place);
        }
    }

    fn forget_from(&mut self, kept: Kept) {
        self.kept = kept;
        self.places.retain(|_, place| *place < kept.texts as u64);
    }
}

/// A reader's table of texts.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Texts {
    pub(super) list: Vec<Box<str>>,
    kept: Kept,
}

impl Texts {
    /// Keeps `text` if it may be kept.
    pub(super) fn keep(&mut self, text: &str) -> bool {
        let room = self.kept.admit(text);
        if room {
            self.list.push(text.into());
        }
        room
    }

    fn forget_from(&mut self, kept: Kept) {
        self.kept = kept;
        self.list.truncate(kept.texts);
    }
}

/// The writer's texts of a chain.
#[derive(Clone, Debug, Default)]
pub(super) struct WriterTexts {
    names: Interner,
    values: Interner,
}

/// A point in the growth of a chain's texts.
#[derive(Clone, Copy)]
pub(super) struct TextMark(Kept, Kept);

impl WriterTexts {
    /// A writer's texts that answer to a reader's.
    pub(super) fn of(texts: &ReaderTexts) -> Self {
        Self { names: Interner::of(&texts.names), values: Interner::of(&texts.values) }
    }

    pub(super) fn mark(&self) -> TextMark {
        TextMark(self.names.kept, self.values.kept)
    }

    /// Forgets what came after `mark`.
    pub(super) fn forget_from(&mut self, mark: TextMark) {
        self.names.forget_from(mark.0);
        self.values.forget_from(mark.1);
    }

    /// Writes a schema frame's body, from the retired slots on.
    pub(super) fn put(&mut self, out: &mut Vec<u8>, retire: &[Slot], add: &[SeriesDef]) {
        put_varint(out, retire.len() as u64);
        let mut next = 0;
        for slot in retire {
            put_slot(out, &mut next, *slot);
        }
        put_varint(out, add.len() as u64);
        let mut next = 0;
        let mut previous = None;
        for series in add {
            put_slot(out, &mut next, series.slot);
            out.push(series.kind as u8);
            self.put_labels(out, &series.labels, previous);
            previous = Some(series);
        }
    }

    /// Writes a series' labels; texts that are new may begin as those of `previous` do.
    pub(super) fn put_labels(&mut self, out: &mut Vec<u8>, labels: &Labels, previous: Option<&SeriesDef>) {
        put_varint(out, labels.iter().len() as u64);
        for (name, value) in labels.iter() {
            match self.names.places.get(name) {
                Some(place) => put_varint(out, place + 1),
                None => {
                    out.push(0);
                    put_text(out, name);
                    self.names.keep(name);
                }
            }
            match self.values.places.get(value) {
                Some(place) => put_varint(out, place + 1),
                None => {
                    out.push(0);
                    let shared = shared_prefix(previous_value(previous, name), value);
                    put_varint(out, shared as u64);
                    put_text(out, &value[shared..]);
                    self.values.keep(value);
                }
            }
        }
    }
}

/// The reader's texts of a chain.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct ReaderTexts {
    pub(super) names: Texts,
    pub(super) values: Texts,
}

impl ReaderTexts {
    pub(super) fn mark(&self) -> TextMark {
        TextMark(self.names.kept, self.values.kept)
    }

    /// Forgets what came after `mark`.
    pub(super) fn forget_from(&mut self, mark: TextMark) {
        self.names.forget_from(mark.0);
        self.values.forget_from(mark.1);
    }

    /// Reads what [`WriterTexts::put`] wrote. The added series may cost `room` bytes.
    pub(super) fn take(
        &mut self,
        bytes: &mut Bytes<'_>,
        retire: &mut Vec<Slot>,
        add: &mut Vec<SeriesDef>,
        mut room: usize,
    ) -> Result<(), DecodeError> {
        // A slot takes at least a byte, so the count bounds the list by the payload.
        let count = bytes.number("the number of retired slots", bytes.left() as u64)?;
        let mut next = 0;
        for _ in 0..count {
            retire.push(take_slot(bytes, &mut next)?);
        }
        let count = bytes.varint()?;
        if count > limits::SERIES_PER_SCHEMA_FRAME_MAX as u64 {
            return Err(ChainError::TooManySeries(count).into());
        }
        let mut next = 0;
        for _ in 0..count {
            let slot = take_slot(bytes, &mut next)?;
            let at = bytes.at();
            let kind = bytes.byte()?;
            let kind = MetricType::from_byte(kind).ok_or(DecodeError::UnknownType { byte: kind, at })?;
            let labels = self.take_labels(bytes, add.last(), &mut room)?;
            add.push(SeriesDef { slot, kind, labels });
        }
        bytes.end()
    }

    /// Reads what [`WriterTexts::put_labels`] wrote. The labels may cost `room` bytes, which shrinks by their cost.
    pub(super) fn take_labels(
        &mut self,
        bytes: &mut Bytes<'_>,
        previous: Option<&SeriesDef>,
        room: &mut usize,
    ) -> Result<Labels, DecodeError> {
        let at = bytes.at();
        let count = bytes.number("the number of labels", limits::LABELS_PER_SERIES_MAX as u64)? as usize;
        let mut pairs: Vec<(Box<str>, Box<str>)> = Vec::with_capacity(count);
        for _ in 0..count {
            let name: Box<str> = match bytes.varint()? {
                0 => {
                    let name = take_text(bytes, "", limits::LABEL_NAME_MAX_BYTES)?;
                    self.names.keep(&name);
                    name
                }
                place => known_text(&self.names, place, bytes.at())?,
            };
            let value: Box<str> = match bytes.varint()? {
                0 => {
                    let model = previous_value(previous, &name);
                    let shared = bytes.number("a shared prefix", model.len() as u64)? as usize;
                    let prefix = model.get(..shared).ok_or(DecodeError::NotText { at: bytes.at() })?;
                    let value = take_text(bytes, prefix, limits::LABEL_VALUE_MAX_BYTES)?;
                    self.values.keep(&value);
                    value
                }
                place => known_text(&self.values, place, bytes.at())?,
            };
            let cost = name.len() + value.len() + LABEL_COST_BYTES;
            *room = room.checked_sub(cost).ok_or(ChainError::TooLarge)?;
            pairs.push((name, value));
        }
        let labels = Labels::new(pairs).map_err(|source| DecodeError::Labels { at, source })?;
        if labels.iter().len() != count {
            return Err(DecodeError::OutOfRange { what: "an empty label value", at });
        }
        Ok(labels)
    }
}

fn put_slot(out: &mut Vec<u8>, next: &mut i64, slot: Slot) {
    put_varint(out, zigzag(i64::from(slot) - *next));
    *next = i64::from(slot) + 1;
}

fn take_slot(bytes: &mut Bytes<'_>, next: &mut i64) -> Result<Slot, DecodeError> {
    let at = bytes.at();
    let slot = next.checked_add(unzigzag(bytes.varint()?)).and_then(|slot| Slot::try_from(slot).ok());
    let slot = slot.ok_or(DecodeError::OutOfRange { what: "a slot", at })?;
    *next = i64::from(slot) + 1;
    Ok(slot)
}

/// Writes a text's length and bytes.
pub(super) fn put_text(out: &mut Vec<u8>, text: &str) {
    put_varint(out, text.len() as u64);
    out.extend_from_slice(text.as_bytes());
}

/// Reads what [`put_text`] wrote, behind `prefix`.
pub(super) fn take_text(bytes: &mut Bytes<'_>, prefix: &str, max_bytes: usize) -> Result<Box<str>, DecodeError> {
    let len = bytes.number("a text's length", max_bytes.saturating_sub(prefix.len()) as u64)? as usize;
    let at = bytes.at();
    let rest = std::str::from_utf8(bytes.take(len)?).map_err(|_| DecodeError::NotText { at })?;
    Ok([prefix, rest].concat().into())
}

fn known_text(texts: &Texts, place: u64, at: usize) -> Result<Box<str>, DecodeError> {
    let index = usize::try_from(place - 1).ok();
    let text = index.and_then(|index| texts.list.get(index));
    text.cloned().ok_or(DecodeError::OutOfRange { what: "a text reference", at })
}

fn previous_value<'a>(previous: Option<&'a SeriesDef>, name: &str) -> &'a str {
    previous.and_then(|series| series.labels.value(name)).unwrap_or("")
}

fn shared_prefix(model: &str, text: &str) -> usize {
    let mut shared = model.bytes().zip(text.bytes()).take_while(|(a, b)| a == b).count();
    while !text.is_char_boundary(shared) {
        shared -= 1;
    }
    shared
}
