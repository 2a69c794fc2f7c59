//! A decoder's chain as bytes, so that a log can begin in the middle of a chain. The layout is in
//! `docs/formats/frames.md`.

use super::bytes::{Bytes, put_varint, unzigzag, zigzag};
use super::chain::Group;
use super::models::Models;
use super::range::Probability;
use super::schema::{Texts, WriterTexts, label_cost, put_text, take_text};
use super::series::Series;
use super::tick::HISTORY_QUIET;
use super::{CHAIN_MAX_BYTES, ChainError, DecodeError, Decoder, SLOT_COST_BYTES, STRING_SHARED_MAX_BYTES, STRINGS_MAX};
use super::{GroupId, SeriesDef, Slot};
use crate::limits;
use crate::model::MetricType;

const VERSION: u8 = 1;
const CHECKSUM_BYTES: usize = 4;
/// More series than any chain lives to see.
const ADDED_MAX: u64 = 1 << 48;

impl Decoder {
    /// Appends the chain's state to `out`: a decoder restored from it goes on exactly as this one.
    pub fn snapshot(&self, out: &mut Vec<u8>) {
        let begin = out.len();
        out.push(VERSION);
        for probability in self.chain.models.models().all() {
            out.extend_from_slice(&probability.yes().to_le_bytes());
        }
        for texts in [&self.texts.names, &self.texts.values] {
            put_varint(out, texts.list.len() as u64);
            for text in &texts.list {
                put_text(out, text);
            }
        }
        put_varint(out, self.chain.groups.iter().flatten().count() as u64);
        let mut texts = WriterTexts::of(&self.texts);
        for (id, (group, series)) in self.chain.groups.iter().zip(&self.series).enumerate() {
            if let Some(group) = group {
                put_varint(out, id as u64);
                put_group(out, &mut texts, group, series);
            }
        }
        let checksum = crc32fast::hash(&out[begin..]);
        out.extend_from_slice(&checksum.to_le_bytes());
    }

    /// A decoder in the state that [`Decoder::snapshot`] wrote.
    ///
    /// # Errors
    /// Bytes that no snapshot of this version has, or more than a chain may hold.
    pub fn restore(snapshot: &[u8]) -> Result<Self, DecodeError> {
        let Some((body, checksum)) = snapshot.split_last_chunk::<CHECKSUM_BYTES>() else {
            return Err(DecodeError::Truncated { at: snapshot.len() });
        };
        if crc32fast::hash(body).to_le_bytes() != *checksum {
            return Err(DecodeError::Checksum);
        }
        let mut bytes = Bytes::new(body, 0);
        let version = bytes.byte()?;
        if version != VERSION {
            return Err(DecodeError::UnknownSnapshot(version));
        }
        let mut decoder = Self::new();
        let mut models = Models::NEW;
        for probability in models.all() {
            let at = bytes.at();
            let yes = u16::from_le_bytes([bytes.byte()?, bytes.byte()?]);
            *probability = Probability::checked(yes).ok_or(DecodeError::OutOfRange { what: "a probability", at })?;
        }
        decoder.chain.models.keep(&models);
        take_texts(&mut bytes, &mut decoder.texts.names)?;
        take_texts(&mut bytes, &mut decoder.texts.values)?;
        let groups = bytes.number("the number of groups", limits::GROUPS_PER_LANE_MAX.into())?;
        for _ in 0..groups {
            let at = bytes.at();
            let group = bytes.number("a group", u64::from(limits::GROUPS_PER_LANE_MAX) - 1)? as GroupId;
            if usize::from(group) < decoder.chain.groups.len() {
                return Err(DecodeError::OutOfRange { what: "a group out of order", at });
            }
            decoder.take_group(&mut bytes, group)?;
        }
        bytes.end()?;
        Ok(decoder)
    }

    fn take_group(&mut self, bytes: &mut Bytes<'_>, id: GroupId) -> Result<(), DecodeError> {
        let mut group = Group { last_ts_ms: take_option(bytes)?, ..Group::default() };
        group.interval_ms = unzigzag(bytes.varint()?);
        let added = bytes.number("the number of series ever added", ADDED_MAX)?;
        let span = bytes.number("the number of slots", limits::SLOTS_PER_GROUP_MAX.into())? as usize;
        self.chain.cost_bytes += span * SLOT_COST_BYTES;
        let mut room = CHAIN_MAX_BYTES.checked_sub(self.chain.cost_bytes).ok_or(ChainError::TooLarge)?;
        group.grow(span);
        let mut series = vec![None; span];
        let live = bytes.number("the number of live slots", span as u64)?;
        let mut next = 0;
        for _ in 0..live {
            let gap = bytes.number("a slot", (span as u64).saturating_sub(u64::from(next) + 1))?;
            let slot = next + gap as Slot;
            if slot as usize >= span {
                return Err(DecodeError::OutOfRange { what: "a slot", at: bytes.at() });
            }
            next = slot + 1;
            let at = bytes.at();
            let kind = bytes.byte()?;
            let kind = MetricType::from_byte(kind).ok_or(DecodeError::UnknownType { byte: kind, at })?;
            let labels = self.texts.take_labels(bytes, None, &mut room)?;
            let cost = label_cost(&labels);
            self.chain.cost_bytes += cost as usize;
            series[slot as usize] = Some(SeriesDef { slot, kind, labels });
            group.begin(slot, cost);
            if let Some(bits) = take_option(bytes)? {
                take_values(bytes, &mut group, slot, bits as u64)?;
            }
        }
        group.added = added;
        *self.chain.group_or_new(id) = group;
        self.series.resize(self.chain.groups.len(), Vec::new());
        self.series[usize::from(id)] = series;
        Ok(())
    }
}

fn put_group(out: &mut Vec<u8>, texts: &mut WriterTexts, group: &Group, series: &[Option<SeriesDef>]) {
    put_option(out, group.last_ts_ms);
    put_varint(out, zigzag(group.interval_ms));
    put_varint(out, group.added);
    put_varint(out, group.series.len() as u64);
    put_varint(out, series.iter().flatten().count() as u64);
    let mut next = 0;
    for series in series.iter().flatten() {
        let slot = series.slot as usize;
        put_varint(out, u64::from(series.slot - next));
        next = series.slot + 1;
        out.push(series.kind as u8);
        texts.put_labels(out, &series.labels, None);
        if group.is_fresh(series.slot) {
            put_option(out, None);
        } else {
            put_option(out, Some(group.current[slot] as i64));
            out.extend_from_slice(&group.history[slot].to_le_bytes());
            group.series[slot].put(out);
        }
    }
}

fn take_values(bytes: &mut Bytes<'_>, group: &mut Group, slot: Slot, bits: u64) -> Result<(), DecodeError> {
    let (at, word, bit) = (slot as usize, slot as usize / 64, 1 << (slot % 64));
    group.fresh[word] &= !bit;
    group.current[at] = bits;
    group.history[at] = u16::from_le_bytes([bytes.byte()?, bytes.byte()?]);
    if group.history[at] == HISTORY_QUIET {
        group.quiet[word] |= bit;
    }
    group.series[at] = Series::take(bytes)?;
    Ok(())
}

fn take_texts(bytes: &mut Bytes<'_>, texts: &mut Texts) -> Result<(), DecodeError> {
    for _ in 0..bytes.number("the number of texts", STRINGS_MAX as u64)? {
        let at = bytes.at();
        let text = take_text(bytes, "", STRING_SHARED_MAX_BYTES)?;
        if !texts.keep(&text) {
            return Err(DecodeError::OutOfRange { what: "the size of all texts", at });
        }
    }
    Ok(())
}

fn put_option(out: &mut Vec<u8>, value: Option<i64>) {
    out.push(u8::from(value.is_some()));
    if let Some(value) = value {
        out.extend_from_slice(&value.to_le_bytes());
    }
}

fn take_option(bytes: &mut Bytes<'_>) -> Result<Option<i64>, DecodeError> {
    if bytes.number("a flag", 1)? == 0 {
        return Ok(None);
    }
    let mut value = [0; 8];
    value.copy_from_slice(bytes.take(8)?);
    Ok(Some(i64::from_le_bytes(value)))
}
