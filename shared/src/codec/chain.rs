//! The state that both ends of a chain keep: groups and slots, and the rules for what may join them.

use super::models::Kept;
use super::series::Series;
use super::tick::HISTORY_QUIET;
use super::{CHAIN_MAX_BYTES, GroupId, SLOT_COST_BYTES, SLOTS_AHEAD_MAX, Slot};
use crate::limits;

/// Why a schema frame or a sample frame does not fit the chain so far.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChainError {
    /// A group number at or over [`limits::GROUPS_PER_LANE_MAX`].
    #[error("group {0}: groups are numbered below {max}", max = limits::GROUPS_PER_LANE_MAX)]
    Group(u64),
    /// A sample frame for a group that no schema frame of this chain named.
    #[error("group {0} was never declared in this chain")]
    GroupUnknown(GroupId),
    /// An added slot that has a series already, or stands twice among the added.
    #[error("group {group}: slot {slot} is live already; retire it first")]
    SlotLive {
        /// The group.
        group: GroupId,
        /// The slot.
        slot: Slot,
    },
    /// A retired slot that has no series, or stands twice among the retired.
    #[error("group {group}: slot {slot} was never declared or is retired")]
    SlotNotLive {
        /// The group.
        group: GroupId,
        /// The slot.
        slot: Slot,
    },
    /// A slot too far above those in use, see [`SLOTS_AHEAD_MAX`].
    #[error("group {group}: slot {slot} is too far up; the next may be at most {highest}")]
    SlotTooHigh {
        /// The group.
        group: GroupId,
        /// The slot.
        slot: u64,
        /// The highest that would do.
        highest: Slot,
    },
    /// More series than one schema frame may add.
    #[error("a schema frame adds {0} series, more than {max}", max = limits::SERIES_PER_SCHEMA_FRAME_MAX)]
    TooManySeries(u64),
    /// The chain would need more memory than [`CHAIN_MAX_BYTES`].
    #[error("the chain's series need more than {max} bytes", max = CHAIN_MAX_BYTES)]
    TooLarge,
}

/// One group: a column per property with a slot per row; bitmaps have 64 slots a word.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Group {
    /// Slots with a series.
    pub(super) live: Vec<u64>,
    /// Live slots without a value yet.
    pub(super) fresh: Vec<u64>,
    /// Live slots without a change in their history.
    pub(super) quiet: Vec<u64>,
    /// Bits of the last values.
    pub(super) current: Vec<u64>,
    /// Whether the value changed at each of the last ticks, the last in the lowest bit.
    pub(super) history: Vec<u16>,
    /// What the values' changes are guessed from.
    pub(super) series: Vec<Series>,
    /// What each slot's labels count against the chain's memory, in bytes.
    pub(super) label_costs: Vec<u32>,
    /// Series ever added.
    pub(super) added: u64,
    pub(super) last_ts_ms: Option<i64>,
    pub(super) interval_ms: i64,
}

impl Group {
    /// How far `ts_ms` lies from where a steady group would tick next.
    pub(super) fn jump_to(&self, ts_ms: i64) -> i64 {
        ts_ms.wrapping_sub(self.after_jump(0))
    }

    /// The inverse of [`Group::jump_to`].
    pub(super) fn after_jump(&self, jump: i64) -> i64 {
        self.last_ts_ms.unwrap_or(0).wrapping_add(self.interval_ms).wrapping_add(jump)
    }

    /// Notes the timestamp of a tick.
    pub(super) fn arrive(&mut self, ts_ms: i64) {
        self.interval_ms = self.last_ts_ms.map_or(0, |last| ts_ms.wrapping_sub(last));
        self.last_ts_ms = Some(ts_ms);
    }

    /// Whether the slot has a series.
    pub(super) fn is_live(&self, slot: Slot) -> bool {
        self.live.get(slot as usize / 64).is_some_and(|word| word >> (slot % 64) & 1 != 0)
    }

    /// Whether the slot waits for its first value.
    pub(super) fn is_fresh(&self, slot: Slot) -> bool {
        self.fresh.get(slot as usize / 64).is_some_and(|word| word >> (slot % 64) & 1 != 0)
    }

    /// The number of slots that `values` must have.
    pub(super) fn span(&self) -> usize {
        self.live
            .iter()
            .rposition(|word| *word != 0)
            .map_or(0, |word| (word + 1) * 64 - self.live[word].leading_zeros() as usize)
    }

    /// Makes room for slots below `span`.
    pub(super) fn grow(&mut self, span: usize) {
        if span > self.series.len() {
            self.series.resize(span, Series::NEW);
            self.current.resize(span, 0);
            self.history.resize(span, HISTORY_QUIET);
            self.label_costs.resize(span, 0);
            for bitmap in [&mut self.live, &mut self.fresh, &mut self.quiet] {
                bitmap.resize(span.div_ceil(64), 0);
            }
        }
    }

    /// Makes `slot` a live one without a value.
    pub(super) fn begin(&mut self, slot: Slot, label_cost: u32) {
        self.grow(slot as usize + 1);
        let (word, bit) = (slot as usize / 64, 1 << (slot % 64));
        self.live[word] |= bit;
        self.fresh[word] |= bit;
        self.label_costs[slot as usize] = label_cost;
        self.added += 1;
    }

    fn end(&mut self, slot: Slot) {
        let (word, bit) = (slot as usize / 64, 1 << (slot % 64));
        for bitmap in [&mut self.live, &mut self.fresh, &mut self.quiet] {
            bitmap[word] &= !bit;
        }
        self.series[slot as usize] = Series::NEW;
        self.current[slot as usize] = 0;
        self.history[slot as usize] = HISTORY_QUIET;
        self.label_costs[slot as usize] = 0;
    }
}

/// The slots of a bitmap's word, ascending.
#[inline]
pub(super) fn set_bits(word: usize, mut bits: u64) -> impl Iterator<Item = Slot> {
    std::iter::from_fn(move || {
        if bits == 0 {
            return None;
        }
        let slot = word as Slot * 64 + bits.trailing_zeros();
        bits &= bits - 1;
        Some(slot)
    })
}

/// A schema frame that keeps the chain's rules.
#[derive(Clone, Copy, Debug)]
pub(super) struct Checked {
    cost_bytes: usize,
}

/// A chain without its texts.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Chain {
    pub(super) groups: Vec<Option<Box<Group>>>,
    pub(super) models: Kept,
    /// What slots and live labels count against [`CHAIN_MAX_BYTES`].
    pub(super) cost_bytes: usize,
}

impl Chain {
    pub(super) fn new() -> Self {
        Self { groups: Vec::new(), models: Kept::NEW, cost_bytes: 0 }
    }

    /// The group, if it was declared.
    pub(super) fn group(&self, group: GroupId) -> Result<&Group, ChainError> {
        self.groups.get(usize::from(group)).and_then(Option::as_deref).ok_or(ChainError::GroupUnknown(group))
    }

    /// The group, declared now if it was not.
    pub(super) fn group_or_new(&mut self, group: GroupId) -> &mut Group {
        let at = usize::from(group);
        if at >= self.groups.len() {
            self.groups.resize(at + 1, None);
        }
        self.groups[at].get_or_insert_default()
    }

    /// Whether a schema frame may retire and add these, each with its labels' cost.
    pub(super) fn check(
        &self,
        group: GroupId,
        retire: &[Slot],
        add: impl ExactSizeIterator<Item = (Slot, u32)> + Clone,
    ) -> Result<Checked, ChainError> {
        if group >= limits::GROUPS_PER_LANE_MAX {
            return Err(ChainError::Group(group.into()));
        }
        if add.len() > limits::SERIES_PER_SCHEMA_FRAME_MAX {
            return Err(ChainError::TooManySeries(add.len() as u64));
        }
        let empty = Group::default();
        let known = self.group(group).unwrap_or(&empty);
        let mut cost_bytes = self.cost_bytes;
        let mut retired = retire.to_vec();
        retired.sort_unstable();
        for (i, slot) in retired.iter().copied().enumerate() {
            if !known.is_live(slot) || (i > 0 && retired[i - 1] == slot) {
                return Err(ChainError::SlotNotLive { group, slot });
            }
            cost_bytes -= known.label_costs[slot as usize] as usize;
        }
        let ahead = known.added + add.len() as u64;
        let highest = (u64::from(SLOTS_AHEAD_MAX) + 2 * ahead).min(u64::from(limits::SLOTS_PER_GROUP_MAX) - 1) as Slot;
        let mut added: Vec<Slot> = add.clone().map(|(slot, _)| slot).collect();
        added.sort_unstable();
        for (i, slot) in added.iter().copied().enumerate() {
            if slot > highest {
                return Err(ChainError::SlotTooHigh { group, slot: slot.into(), highest });
            }
            let live = known.is_live(slot) && retired.binary_search(&slot).is_err();
            if live || (i > 0 && added[i - 1] == slot) {
                return Err(ChainError::SlotLive { group, slot });
            }
        }
        cost_bytes += add.map(|(_, cost)| cost as usize).sum::<usize>();
        let slots = added.last().map_or(0, |slot| *slot as usize + 1);
        cost_bytes += slots.saturating_sub(known.series.len()) * SLOT_COST_BYTES;
        if cost_bytes > CHAIN_MAX_BYTES {
            return Err(ChainError::TooLarge);
        }
        Ok(Checked { cost_bytes })
    }

    /// The models and the group, to change them together.
    pub(super) fn parts(&mut self, group: GroupId) -> Result<(&mut Kept, &mut Group), ChainError> {
        let known = self.groups.get_mut(usize::from(group)).and_then(Option::as_deref_mut);
        Ok((&mut self.models, known.ok_or(ChainError::GroupUnknown(group))?))
    }

    /// Does what was checked.
    pub(super) fn apply(
        &mut self,
        checked: Checked,
        group: GroupId,
        retire: &[Slot],
        add: impl Iterator<Item = (Slot, u32)>,
    ) {
        self.cost_bytes = checked.cost_bytes;
        let group = self.group_or_new(group);
        for slot in retire {
            group.end(*slot);
        }
        for (slot, cost) in add {
            group.begin(slot, cost);
        }
    }
}
