//! What one source sent since the last seal, in memory: a timestamp column a group, and a series a column of changes.
//!
//! A tick costs what changed, not what there is: a column holds only the ticks at which its value changed. Ticks
//! stay in the order they came, so that a clock that jumps costs nothing here; reading and sealing sort.
//!
//! [`HeadData`] is what readers see, behind the source's lock. [`Live`] is the writer's side: which series stand in
//! which slot, and which are to end at their group's next tick. Bytes and numbering are not known here.

use std::collections::hash_map::Entry;

use pitwatch_shared::codec::{GroupId, Slot};
use pitwatch_shared::model::STALE_NAN_BITS;
use rustc_hash::{FxHashMap, FxHashSet};

use crate::index::SeriesId;

/// The end of a column whose series is live.
const OPEN: u32 = u32::MAX;
/// Estimated memory of a column without its changes, and of a change.
const COLUMN_BYTES: u64 = 256;
const CHANGE_BYTES: u64 = 12;
/// Ticks searched for an instant, from the last back, in a group that is not in order of time.
const TICKS_SEARCHED_MAX: usize = 64;
/// Columns of a series searched for an instant, from the last back.
const COLUMNS_SEARCHED_MAX: usize = 64;

/// One source's samples of one head.
#[derive(Debug, Default)]
pub(crate) struct HeadData {
    pub(crate) groups: FxHashMap<GroupId, Group>,
    /// A series' first column.
    by_series: FxHashMap<SeriesId, Place>,
    /// Its columns after that, in the order they were opened: nearly every series has but one.
    more_places: FxHashMap<SeriesId, Vec<Place>>,
    /// Series that were given a column since somebody took note of them last.
    pub(crate) opened: Vec<SeriesId>,
    pub(crate) samples: u64,
    pub(crate) bytes: u64,
}

/// Where a column is: its group, and its number there.
type Place = (GroupId, u32);

/// One group's ticks, in the order they came.
#[derive(Debug, Default)]
pub(crate) struct Group {
    pub(crate) ts: Vec<i64>,
    /// Whether every tick is later than the one before.
    pub(crate) sorted: bool,
    pub(crate) columns: Vec<Column>,
    pub(crate) min_ts: i64,
    pub(crate) max_ts: i64,
}

/// One series' values over the ticks `start..end` of its group.
#[derive(Debug)]
pub(crate) struct Column {
    pub(crate) series: SeriesId,
    pub(crate) start: u32,
    end: u32,
    /// The last of `ticks`, here so that a change reads no more of the column's memory than this.
    last_tick: u32,
    /// The value at `start`; most columns never have another.
    first: u64,
    /// Ticks after `start` at which the value changed, ascending.
    ticks: Vec<u32>,
    /// The value from that tick on.
    bits: Vec<u64>,
}

impl Column {
    /// Its last value.
    fn last(&self) -> u64 {
        self.bits.last().copied().unwrap_or(self.first)
    }

    /// The ticks that it covers in a group of `len` ticks.
    pub(crate) fn ticks(&self, len: usize) -> std::ops::Range<usize> {
        self.start as usize..(self.end as usize).min(len)
    }

    /// Calls `each` with every tick of `range` (within [`Column::ticks`]) and its value.
    pub(crate) fn values(&self, range: std::ops::Range<usize>, mut each: impl FnMut(usize, u64)) {
        let mut at = self.ticks.partition_point(|tick| *tick as usize <= range.start);
        let mut bits = at.checked_sub(1).map_or(self.first, |before| self.bits[before]);
        let mut tick = range.start;
        while tick < range.end {
            let until = self.ticks.get(at).map_or(range.end, |next| (*next as usize).min(range.end));
            for tick in tick..until {
                each(tick, bits);
            }
            tick = until;
            if let Some(next) = self.bits.get(at) {
                bits = *next;
            }
            at += 1;
        }
    }
}

impl HeadData {
    /// First and last instant, if there is a tick.
    pub(crate) fn span(&self) -> Option<(i64, i64)> {
        let spans = self.groups.values().filter(|group| !group.ts.is_empty()).map(|group| (group.min_ts, group.max_ts));
        spans.reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)))
    }

    pub(crate) fn series(&self) -> impl Iterator<Item = SeriesId> {
        self.by_series.keys().copied()
    }

    /// The series' columns, in the order they were opened.
    fn places(&self, series: SeriesId) -> impl DoubleEndedIterator<Item = &Place> {
        let more = self.more_places.get(&series).into_iter().flatten();
        self.by_series.get(&series).into_iter().chain(more)
    }

    /// Whether the series has a column: only such a series has samples or gets some without [`HeadData::opened`].
    pub(crate) fn holds(&self, series: SeriesId) -> bool {
        self.by_series.contains_key(&series)
    }

    /// Whether the series may have a sample after `start` and not after `end`.
    pub(crate) fn has(&self, series: SeriesId, start: i64, end: i64) -> bool {
        let mut groups = self.places(series).filter_map(|(group, _)| self.groups.get(group));
        groups.any(|group| group.min_ts <= end && group.max_ts > start)
    }

    /// Adds the series' samples after `start` and not after `end`, in the order they came.
    pub(crate) fn samples(&self, series: SeriesId, start: i64, end: i64, ts: &mut Vec<i64>, values: &mut Vec<f64>) {
        for (group, column) in self.places(series) {
            let Some(group) = self.groups.get(group) else { continue };
            let Some(column) = group.columns.get(*column as usize) else { continue };
            let mut range = column.ticks(group.ts.len());
            if group.sorted {
                range.start = range.start.max(group.ts.partition_point(|at| *at <= start));
                range.end = range.end.min(group.ts.partition_point(|at| *at <= end));
            }
            if range.is_empty() {
                continue;
            }
            column.values(range, |tick, bits| {
                let at = group.ts[tick];
                if group.sorted || (at > start && at <= end) {
                    ts.push(at);
                    values.push(f64::from_bits(bits));
                }
            });
        }
    }

    /// The series' last sample after `start` and not after `end`; of several at one instant the one that came last.
    pub(crate) fn latest(&self, series: SeriesId, start: i64, end: i64) -> Option<(i64, u64)> {
        let mut found: Option<(i64, u64)> = None;
        let mut take = |at: i64, bits: u64| {
            if found.is_none_or(|(before, _)| at >= before) {
                found = Some((at, bits));
            }
        };
        for (group, column) in self.places(series) {
            let Some(group) = self.groups.get(group) else { continue };
            let Some(column) = group.columns.get(*column as usize) else { continue };
            let mut range = column.ticks(group.ts.len());
            if !group.sorted {
                column.values(range, |tick, bits| {
                    if group.ts[tick] > start && group.ts[tick] <= end {
                        take(group.ts[tick], bits);
                    }
                });
                continue;
            }
            // As a rule the last tick is asked for: nothing need be searched then.
            if end < group.max_ts {
                range.end = range.end.min(group.ts.partition_point(|at| *at <= end));
            }
            let Some(last) = range.end.checked_sub(1).filter(|last| *last >= range.start) else { continue };
            if group.ts[last] <= start {
                continue;
            }
            if column.last_tick as usize <= last {
                take(group.ts[last], column.last());
            } else {
                column.values(last..range.end, |tick, bits| take(group.ts[tick], bits));
            }
        }
        found
    }

    /// The instant of a tick of a group.
    pub(crate) fn tick_ms(&self, group: GroupId, tick: u32) -> Option<i64> {
        self.groups.get(&group)?.ts.get(tick as usize).copied()
    }

    /// A group's last tick and its instant.
    pub(crate) fn last_tick(&self, group: GroupId) -> Option<(u32, i64)> {
        let ts = &self.groups.get(&group)?.ts;
        Some((ts.len().checked_sub(1)? as u32, *ts.last()?))
    }

    /// A tick of a group at the instant, if one is found: `near` is tried first, and where clocks jumped not every
    /// tick is.
    pub(crate) fn tick_at(&self, group: GroupId, near: u32, ts_ms: i64) -> Option<u32> {
        let group = self.groups.get(&group)?;
        if group.ts.get(near as usize) == Some(&ts_ms) {
            return Some(near);
        }
        if group.sorted {
            return Some(group.ts.binary_search(&ts_ms).ok()? as u32);
        }
        let from = group.ts.len().saturating_sub(TICKS_SEARCHED_MAX);
        Some((from + group.ts[from..].iter().rposition(|at| *at == ts_ms)?) as u32)
    }

    /// The series' value at an instant, if one is found; see [`HeadData::tick_at`]. Of a series in many pieces only
    /// the latest are searched.
    pub(crate) fn value_at(&self, series: SeriesId, ts_ms: i64) -> Option<u64> {
        let places = self.places(series).rev().take(COLUMNS_SEARCHED_MAX);
        places
            .filter_map(|(id, column)| {
                let group = self.groups.get(id)?;
                let column = group.columns.get(*column as usize)?;
                let covered = column.ticks(group.ts.len());
                let near = covered.end.saturating_sub(1) as u32;
                let tick = self.tick_at(*id, near, ts_ms)? as usize;
                let mut value = None;
                if covered.contains(&tick) {
                    column.values(tick..tick + 1, |_, bits| value = Some(bits));
                }
                value
            })
            .next()
    }

    /// Adds a tick to a group.
    pub(crate) fn push_tick(&mut self, group: GroupId, ts_ms: i64) -> u32 {
        let group = self.groups.entry(group).or_default();
        let tick = group.ts.len() as u32;
        if tick == 0 {
            group.sorted = true;
            group.min_ts = ts_ms;
            group.max_ts = ts_ms;
        } else {
            group.sorted &= ts_ms > group.max_ts;
            group.min_ts = group.min_ts.min(ts_ms);
            group.max_ts = group.max_ts.max(ts_ms);
        }
        group.ts.push(ts_ms);
        self.bytes += 8;
        tick
    }

    /// Opens a column that covers one tick.
    pub(crate) fn open_at(&mut self, group: GroupId, series: SeriesId, tick: u32, bits: u64) -> u32 {
        let column = self.open(group, series, tick, bits);
        self.close(group, column, tick + 1);
        column
    }

    /// Extends a column over the tick after its last.
    pub(crate) fn cover(&mut self, group: GroupId, column: u32, tick: u32, bits: u64) {
        let found = self.groups.get(&group).and_then(|group| group.columns.get(column as usize));
        if found.is_some_and(|column| column.last() != bits) {
            self.change(group, column, tick, bits);
        }
        self.close(group, column, tick + 1);
    }

    fn open(&mut self, group: GroupId, series: SeriesId, tick: u32, bits: u64) -> u32 {
        self.opened.push(series);
        let columns = &mut self.groups.entry(group).or_default().columns;
        let at = columns.len() as u32;
        let (ticks, changed) = (Vec::new(), Vec::new());
        columns.push(Column { series, start: tick, end: OPEN, last_tick: tick, first: bits, ticks, bits: changed });
        match self.by_series.entry(series) {
            Entry::Vacant(vacant) => {
                vacant.insert((group, at));
            }
            Entry::Occupied(_) => self.more_places.entry(series).or_default().push((group, at)),
        }
        self.bytes += COLUMN_BYTES;
        at
    }

    /// Notes that the column's value, another one before, is `bits` from this tick on.
    fn change(&mut self, group: GroupId, column: u32, tick: u32, bits: u64) {
        let group = self.groups.get_mut(&group);
        let Some(column) = group.and_then(|group| group.columns.get_mut(column as usize)) else { return };
        if column.last_tick == tick {
            *column.bits.last_mut().unwrap_or(&mut column.first) = bits;
            return;
        }
        column.last_tick = tick;
        column.ticks.push(tick);
        column.bits.push(bits);
        self.bytes += CHANGE_BYTES;
    }

    fn close(&mut self, group: GroupId, column: u32, end: u32) {
        let group = self.groups.get_mut(&group);
        if let Some(column) = group.and_then(|group| group.columns.get_mut(column as usize)) {
            column.end = end;
        }
    }
}

/// The writer's view of a source's slots.
#[derive(Debug, Default)]
pub(crate) struct Live {
    groups: FxHashMap<GroupId, LiveGroup>,
    /// Series to be given a stale marker at the next tick of their group, with the value and column they had.
    ending: FxHashMap<SeriesId, (GroupId, LiveSlot)>,
    /// Series that count towards the limit: live ones, and those that the head already holds.
    counted: FxHashSet<SeriesId>,
}

#[derive(Debug, Default)]
struct LiveGroup {
    /// By slot: an agent numbers them without gaps.
    slots: Vec<Option<LiveSlot>>,
    /// Slots that have had a value: each gives a sample a tick.
    valued: u64,
    /// Whether every valued slot has its column in the present head.
    opened: bool,
}

#[derive(Clone, Copy, Debug)]
struct LiveSlot {
    series: SeriesId,
    /// The series' last value, which may be of a chain before.
    bits: Option<u64>,
    /// Declared, but without a tick since.
    fresh: bool,
    column: Option<u32>,
}

impl LiveGroup {
    fn live(&self) -> impl Iterator<Item = &LiveSlot> {
        self.slots.iter().flatten()
    }

    fn live_mut(&mut self) -> impl Iterator<Item = &mut LiveSlot> {
        self.slots.iter_mut().flatten()
    }

    /// Puts a series into a slot, which the frame's decoder knows to be within bounds.
    fn put(&mut self, slot: Slot, series: LiveSlot) {
        let at = slot as usize;
        if at >= self.slots.len() {
            self.slots.resize(at + 1, None);
        }
        self.slots[at] = Some(series);
    }
}

impl Live {
    /// Counts a series towards the limits as long as this head lasts.
    pub(crate) fn count(&mut self, series: SeriesId) {
        self.counted.insert(series);
    }

    /// Series that count towards the source's limit.
    pub(crate) fn counted(&self) -> usize {
        self.counted.len()
    }

    pub(crate) fn is_counted(&self, series: SeriesId) -> bool {
        self.counted.contains(&series)
    }

    /// Series with a value that no decoder knows, by group: they wait for their stale marker, or would get one if
    /// they were retired before their next tick.
    pub(crate) fn ending(&self) -> impl Iterator<Item = (GroupId, SeriesId)> {
        let fresh = self
            .groups
            .iter()
            .flat_map(|(group, live)| live.live().filter(|slot| slot.fresh).map(|slot| (*group, *slot)));
        let ending = self.ending.values().copied().chain(fresh);
        let valued = ending.filter(|(_, slot)| slot.bits.is_some_and(|bits| bits != STALE_NAN_BITS));
        valued.map(|(group, slot)| (group, slot.series))
    }

    /// Every live series.
    pub(crate) fn series(&self) -> impl Iterator<Item = SeriesId> {
        let slots = self.groups.values().flat_map(LiveGroup::live);
        slots.map(|slot| slot.series).chain(self.ending.keys().copied())
    }

    /// Forgets every group; their series end at their group's next tick unless declared again before.
    pub(crate) fn reset(&mut self) {
        for (group, live) in self.groups.drain() {
            for slot in live.live().filter(|slot| slot.bits.is_some()) {
                self.ending.insert(slot.series, (group, *slot));
            }
        }
    }

    pub(crate) fn retire(&mut self, group: GroupId, slot: Slot) {
        let Some(live) = self.groups.get_mut(&group) else { return };
        if let Some(slot) = live.slots.get_mut(slot as usize).and_then(Option::take)
            && slot.bits.is_some()
        {
            live.valued -= u64::from(!slot.fresh);
            self.ending.insert(slot.series, (group, slot));
        }
    }

    /// Puts a series into a slot. If it was about to end, it goes on instead.
    pub(crate) fn declare(&mut self, data: &mut HeadData, group: GroupId, slot: Slot, series: SeriesId) {
        self.counted.insert(series);
        let (mut column, mut bits) = (None, None);
        if let Some((old_group, old)) = self.ending.remove(&series) {
            bits = old.bits;
            if old_group == group {
                column = old.column;
            } else if let (Some(column), Some(ticks)) = (old.column, data.groups.get(&old_group)) {
                let end = ticks.ts.len() as u32;
                data.close(old_group, column, end);
            }
        }
        let live = self.groups.entry(group).or_default();
        live.put(slot, LiveSlot { series, bits, fresh: true, column });
    }

    /// Puts a series into a slot with the value that it had, as a checkpoint gives it.
    pub(crate) fn restore(&mut self, group: GroupId, slot: Slot, series: SeriesId, bits: Option<u64>) {
        self.counted.insert(series);
        let live = self.groups.entry(group).or_default();
        live.put(slot, LiveSlot { series, bits, fresh: bits.is_none(), column: None });
        live.valued += u64::from(bits.is_some());
        live.opened = false;
    }

    /// Notes a series of [`Live::ending`], as a checkpoint gives it after every slot.
    pub(crate) fn restore_ending(&mut self, group: GroupId, series: SeriesId) {
        let live = self.groups.get_mut(&group);
        // Which value it was does not matter: only its stale marker is to come.
        let bits = Some(0);
        match live.and_then(|live| live.live_mut().find(|slot| slot.series == series)) {
            Some(slot) => slot.bits = slot.bits.or(bits),
            None => {
                self.ending.insert(series, (group, LiveSlot { series, bits, fresh: true, column: None }));
            }
        }
    }

    /// Adds a tick; answers how many samples that is, stale markers left out.
    pub(crate) fn tick(&mut self, data: &mut HeadData, group: GroupId, ts_ms: i64, changes: &[(Slot, u64)]) -> u64 {
        let tick = data.push_tick(group, ts_ms);
        self.end_series(data, group, tick);
        let live = self.groups.entry(group).or_default();
        if !live.opened {
            for slot in live.live_mut().filter(|slot| slot.column.is_none() && !slot.fresh) {
                slot.column = slot.bits.map(|bits| data.open(group, slot.series, tick, bits));
            }
            live.opened = true;
        }
        for (slot, bits) in changes {
            // A slot that is not here was refused at a limit.
            let Some(slot) = live.slots.get_mut(*slot as usize).and_then(Option::as_mut) else { continue };
            live.valued += u64::from(slot.fresh);
            slot.fresh = false;
            // A slot's column, if it has one, ends on the slot's value.
            let before = slot.bits.replace(*bits);
            match slot.column {
                Some(_) if before == Some(*bits) => {}
                Some(column) => data.change(group, column, tick, *bits),
                None => slot.column = Some(data.open(group, slot.series, tick, *bits)),
            }
        }
        data.samples += live.valued;
        live.valued
    }

    /// The head was taken away: columns are opened anew at the next tick.
    pub(crate) fn head_taken(&mut self) {
        for group in self.groups.values_mut() {
            group.opened = false;
            for slot in group.live_mut() {
                slot.column = None;
            }
        }
        for (_, slot) in self.ending.values_mut() {
            slot.column = None;
        }
        self.counted = self.series().collect();
    }

    fn end_series(&mut self, data: &mut HeadData, group: GroupId, tick: u32) {
        if self.ending.is_empty() {
            return;
        }
        self.ending.retain(|series, (of, slot)| {
            if *of != group {
                return true;
            }
            if slot.bits != Some(STALE_NAN_BITS) {
                let column = match slot.column {
                    Some(column) => {
                        data.change(group, column, tick, STALE_NAN_BITS);
                        column
                    }
                    None => data.open(group, *series, tick, STALE_NAN_BITS),
                };
                data.close(group, column, tick + 1);
            } else if let Some(column) = slot.column {
                data.close(group, column, tick);
            }
            false
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(data: &HeadData, series: SeriesId) -> Vec<(i64, u64)> {
        let (mut ts, mut values) = (Vec::new(), Vec::new());
        data.samples(series, i64::MIN, i64::MAX, &mut ts, &mut values);
        ts.into_iter().zip(values.into_iter().map(f64::to_bits)).collect()
    }

    #[test]
    fn a_value_holds_until_it_changes_and_a_retired_series_goes_stale_once() {
        let (mut live, mut data) = (Live::default(), HeadData::default());
        live.declare(&mut data, 0, 0, 7);
        live.declare(&mut data, 0, 1, 8);
        assert_eq!(live.tick(&mut data, 0, 10, &[(0, 1), (1, 5)]), 2);
        assert_eq!(live.tick(&mut data, 0, 20, &[]), 2);
        assert_eq!(live.tick(&mut data, 0, 30, &[(0, 2)]), 2);
        live.retire(0, 1);
        assert_eq!(live.tick(&mut data, 0, 40, &[]), 1);
        live.tick(&mut data, 0, 50, &[]);
        assert_eq!(samples(&data, 7), [(10, 1), (20, 1), (30, 2), (40, 2), (50, 2)]);
        assert_eq!(data.opened, [7, 8]);
        assert_eq!(samples(&data, 8), [(10, 5), (20, 5), (30, 5), (40, STALE_NAN_BITS)]);
        let (mut ts, mut values) = (Vec::new(), Vec::new());
        data.samples(7, 10, 30, &mut ts, &mut values);
        assert_eq!(ts, [20, 30]);
        assert_eq!(data.latest(7, 10, 30), Some((30, 2)));
        assert_eq!((data.latest(7, 30, 39), data.latest(7, 0, 5)), (None, None));
        assert_eq!(data.latest(8, 0, 100), Some((40, STALE_NAN_BITS)));
    }

    #[test]
    fn a_new_chain_goes_on_with_what_it_declares_again() {
        let (mut live, mut data) = (Live::default(), HeadData::default());
        live.declare(&mut data, 0, 0, 7);
        live.declare(&mut data, 0, 1, 8);
        live.tick(&mut data, 0, 10, &[(0, 1), (1, 5)]);
        live.reset();
        live.declare(&mut data, 0, 4, 7);
        live.tick(&mut data, 0, 20, &[(4, 1)]);
        assert_eq!(samples(&data, 7), [(10, 1), (20, 1)]);
        assert_eq!(samples(&data, 8), [(10, 5), (20, STALE_NAN_BITS)]);
        assert_eq!(data.groups[&0].columns.len(), 2);
    }

    #[test]
    fn a_series_declared_again_and_retired_before_its_tick_goes_stale() {
        let (mut live, mut data) = (Live::default(), HeadData::default());
        live.declare(&mut data, 0, 0, 7);
        live.declare(&mut data, 0, 1, 8);
        live.tick(&mut data, 0, 10, &[(0, 1), (1, 5)]);
        live.reset();
        live.declare(&mut data, 0, 0, 8);
        live.declare(&mut data, 0, 1, 7);
        live.retire(0, 1);
        assert_eq!(live.tick(&mut data, 0, 20, &[(0, 6)]), 1);
        assert_eq!(samples(&data, 7), [(10, 1), (20, STALE_NAN_BITS)]);
        assert_eq!(samples(&data, 8), [(10, 5), (20, 6)]);
    }

    #[test]
    fn a_head_that_is_taken_away_leaves_the_values_behind() {
        let (mut live, mut data) = (Live::default(), HeadData::default());
        live.declare(&mut data, 0, 0, 7);
        live.declare(&mut data, 0, 1, 8);
        live.tick(&mut data, 0, 10, &[(0, 1), (1, 5)]);
        live.retire(0, 1);
        let mut data = HeadData::default();
        live.head_taken();
        live.tick(&mut data, 0, 20, &[]);
        live.tick(&mut data, 0, 30, &[]);
        assert_eq!(samples(&data, 7), [(20, 1), (30, 1)]);
        assert_eq!(samples(&data, 8), [(20, STALE_NAN_BITS)]);
    }

    #[test]
    fn a_clock_that_jumps_back_keeps_the_order_of_arrival() {
        let (mut live, mut data) = (Live::default(), HeadData::default());
        live.declare(&mut data, 0, 0, 7);
        live.tick(&mut data, 0, 10, &[(0, 1)]);
        live.tick(&mut data, 0, 20, &[(0, 2)]);
        live.tick(&mut data, 0, 10, &[(0, 3)]);
        assert_eq!(samples(&data, 7), [(10, 1), (20, 2), (10, 3)]);
        assert!(!data.groups[&0].sorted);
    }
}
