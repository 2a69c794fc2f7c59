//! One group's series: their slots, their values at the last tick, and what changed since the run loop last asked.
//!
//! A source sets values through a [`Handle`] of its own; a handle that has no slot yet gets one. A tick is mark and
//! sweep: a series that no source set in a tick is retired at the tick's end, so that a disk that was pulled, or a
//! file that could not be read, ends its series instead of repeating an old value. A slot is free for another series
//! once a tick passed without it.
//!
//! At steady state a tick writes into `values` and allocates nothing.

use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};

use pitwatch_shared::codec::{SeriesDef, Slot};
use pitwatch_shared::limits;
use pitwatch_shared::model::{Labels, METRIC_NAME, MetricType, stale_nan};

use super::metric::Metric;

/// Most series of one group; more are refused and counted. One schema frame holds them all.
pub const SERIES_PER_GROUP_MAX: usize = 10_000;
/// Ticks until a refused series is tried again.
const REFUSED_RETRY_TICKS: u32 = 60;

const _: () = assert!(SERIES_PER_GROUP_MAX <= limits::SERIES_PER_SCHEMA_FRAME_MAX);
const _: () = assert!(SERIES_PER_GROUP_MAX < limits::SLOTS_PER_GROUP_MAX as usize);

/// A source's hold on one series: no slot yet, a slot, or refused for a while.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Handle(Hold);

impl Handle {
    /// Whether the table has the series now.
    pub(crate) fn is_live(self, table: &Table) -> bool {
        let Hold::Live { slot, serial } = self.0 else { return false };
        let cell = table.cells.get(slot as usize);
        cell.is_some_and(|cell| cell.serial == serial && cell.def.is_some())
    }
}

#[derive(Debug, Default, Clone, Copy)]
enum Hold {
    #[default]
    New,
    Live {
        slot: Slot,
        serial: u32,
    },
    Refused {
        until_tick: u32,
    },
}

/// The schema changes of a group since they were last taken. `retire` comes before `add`: a slot may be in both.
#[derive(Debug, Default, PartialEq)]
pub struct Changes {
    /// Slots whose series ended.
    pub retire: Vec<Slot>,
    /// Series that began, ascending by slot.
    pub add: Vec<SeriesDef>,
}

/// A slot: its series while it lives, and who holds it.
#[derive(Debug, Default)]
struct Cell {
    def: Option<SeriesDef>,
    /// Unlike for any two series of the table: a handle of a series that ended does not fit its successor.
    serial: u32,
    /// The tick that last set the value.
    tick: u32,
    /// Added since the last [`Table::take_changes`].
    fresh: bool,
}

/// One group's series and their values.
#[derive(Debug)]
pub struct Table {
    host: Vec<(String, String)>,
    cells: Vec<Cell>,
    values: Vec<f64>,
    tick: u32,
    next_serial: u32,
    /// Retired in the last tick; free from the next on.
    cooling: Vec<Slot>,
    free: Vec<Slot>,
    retired: Vec<Slot>,
    fresh: usize,
    known: HashSet<u64>,
    hasher: RandomState,
    refused: u64,
}

impl Table {
    /// An empty table whose every series will carry `host`, the labels of the host's config, but for those that it has
    /// itself: a series' own label goes before the host's of the same name, as before Prometheus' external labels.
    #[must_use]
    pub fn new(host: &[(String, String)]) -> Self {
        Self {
            host: host.to_vec(),
            cells: Vec::new(),
            values: Vec::new(),
            tick: 0,
            next_serial: 1,
            cooling: Vec::new(),
            free: Vec::new(),
            retired: Vec::new(),
            fresh: 0,
            known: HashSet::new(),
            hasher: RandomState::new(),
            refused: 0,
        }
    }

    /// The values of the last tick by slot; at a slot that is not live stands the stale marker.
    #[must_use]
    pub fn values(&self) -> &[f64] {
        &self.values
    }

    /// The live series, ascending by slot: what the first schema frame of a chain declares.
    pub fn live(&self) -> impl Iterator<Item = &SeriesDef> {
        self.cells.iter().filter_map(|cell| cell.def.as_ref())
    }

    /// How many series are live.
    #[must_use]
    pub fn len(&self) -> usize {
        self.known.len()
    }

    /// Whether no series is live.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    /// Series refused so far: over [`SERIES_PER_GROUP_MAX`], a twin of a live one, or labels beyond the limits.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.refused
    }

    /// What changed in the schema since this was last asked, or `None`, which is the usual answer and costs nothing.
    ///
    /// A chain that begins anew (from [`Table::live`]) should drop what this returns.
    pub fn take_changes(&mut self) -> Option<Changes> {
        if self.fresh == 0 && self.retired.is_empty() {
            return None;
        }
        let mut changes = Changes { retire: std::mem::take(&mut self.retired), add: Vec::with_capacity(self.fresh) };
        for cell in self.cells.iter_mut().filter(|cell| cell.fresh) {
            cell.fresh = false;
            changes.add.extend(cell.def.clone());
        }
        self.fresh = 0;
        Some(changes)
    }

    /// Begins a tick: nothing is set yet.
    pub(crate) fn begin(&mut self) {
        self.tick = self.tick.wrapping_add(1);
        self.free.append(&mut self.cooling);
    }

    /// Ends a tick: what was not set in it is retired.
    pub(crate) fn end(&mut self) {
        for (slot, cell) in (0..).zip(&mut self.cells) {
            if cell.tick == self.tick {
                continue;
            }
            let Some(def) = cell.def.take() else { continue };
            self.known.remove(&self.hasher.hash_one(&def.labels));
            self.values[slot as usize] = stale_nan();
            self.cooling.push(slot);
            if cell.fresh {
                // Nobody was told of it, so nobody need be told of its end.
                cell.fresh = false;
                self.fresh -= 1;
            } else {
                self.retired.push(slot);
            }
        }
    }

    /// Sets the value of `name{labels}`, of `metric`'s family, in this tick. Name and labels are read only when the
    /// handle has no slot.
    pub(crate) fn set_named(
        &mut self,
        handle: &mut Handle,
        metric: &Metric,
        name: &str,
        labels: &[(&str, &str)],
        value: f64,
    ) {
        if !self.hold(handle, value) {
            handle.0 = self.add(metric.kind, name, labels, value);
        }
    }

    /// Sets the value of a series that another table has: its own labels, the host's come on top.
    pub(super) fn set_def(&mut self, handle: &mut Handle, def: &SeriesDef, value: f64) {
        if !self.hold(handle, value) {
            let labels: Vec<_> = def.labels.iter().filter(|(name, _)| *name != METRIC_NAME).collect();
            handle.0 = self.add(def.kind, def.labels.metric(), &labels, value);
        }
    }

    /// Sets the value of a handle that has a slot; `false` if it needs one.
    fn hold(&mut self, handle: &Handle, value: f64) -> bool {
        match handle.0 {
            // A serial is given once, so a slot with this one is live and this series'.
            Hold::Live { slot, serial } => {
                let cell = self.cells.get_mut(slot as usize).filter(|cell| cell.serial == serial && cell.def.is_some());
                let Some(cell) = cell else { return false };
                cell.tick = self.tick;
                self.values[slot as usize] = value;
                true
            }
            Hold::Refused { until_tick } => self.tick.wrapping_sub(until_tick) > u32::MAX / 2,
            Hold::New => false,
        }
    }

    fn add(&mut self, kind: MetricType, name: &str, labels: &[(&str, &str)], value: f64) -> Hold {
        let host = self.host.iter().map(|(n, v)| (n.as_str(), v.as_str()));
        let host = host.filter(|(name, _)| labels.iter().all(|(own, _)| own != name));
        let pairs = [(METRIC_NAME, name)].into_iter().chain(host).chain(labels.iter().copied());
        let full = self.known.len() >= SERIES_PER_GROUP_MAX;
        let fitting = (!full).then(|| Labels::new(pairs).ok()).flatten();
        // A hash stands for its labels: the odds that two series of a host share one are below 1e-10.
        let Some(labels) = fitting.filter(|labels| self.known.insert(self.hasher.hash_one(labels))) else {
            self.refused += 1;
            return Hold::Refused { until_tick: self.tick.wrapping_add(REFUSED_RETRY_TICKS) };
        };
        let slot = self.free.pop().unwrap_or_else(|| {
            self.cells.push(Cell::default());
            self.values.push(stale_nan());
            (self.cells.len() - 1) as Slot
        });
        let serial = self.next_serial;
        self.next_serial = self.next_serial.wrapping_add(1).max(1);
        self.cells[slot as usize] =
            Cell { def: Some(SeriesDef { slot, kind, labels }), serial, tick: self.tick, fresh: true };
        self.fresh += 1;
        self.values[slot as usize] = value;
        Hold::Live { slot, serial }
    }
}

#[cfg(test)]
mod tests {
    use pitwatch_shared::model::is_stale;
    use proptest::prelude::*;

    use super::*;

    const METRIC: Metric = Metric::gauge("m", "", "", "").by(&["id"]);

    fn table() -> Table {
        Table::new(&[("role".into(), "game".into())])
    }

    fn slots(changes: &Changes) -> (Vec<Slot>, Vec<String>) {
        (changes.retire.clone(), changes.add.iter().map(|def| format!("{}={}", def.slot, def.labels)).collect())
    }

    #[test]
    fn a_series_keeps_its_slot_while_it_is_set() {
        let (mut table, mut a) = (table(), Handle::default());
        table.begin();
        table.set_named(&mut a, &METRIC, "m", &[("id", "a")], 1.0);
        table.end();
        assert_eq!(slots(&table.take_changes().unwrap()), (vec![], vec!["0=m{id=\"a\",role=\"game\"}".to_owned()]));
        table.begin();
        table.set_named(&mut a, &METRIC, "m", &[], 2.0);
        table.end();
        assert_eq!(table.take_changes(), None);
        assert_eq!(table.values(), [2.0]);
    }

    #[test]
    fn a_series_own_label_goes_before_the_hosts() {
        let (mut table, mut own, mut other) =
            (Table::new(&[("zone".into(), "eu".into())]), Handle::default(), Handle::default());
        table.begin();
        table.set_named(&mut own, &METRIC, "m", &[("zone", "0")], 1.0);
        table.set_named(&mut other, &METRIC, "m", &[("id", "a")], 1.0);
        table.end();
        let (_, added) = slots(&table.take_changes().unwrap());
        assert_eq!(added, ["0=m{zone=\"0\"}", "1=m{id=\"a\",zone=\"eu\"}"]);
    }

    #[test]
    fn a_slot_is_reused_only_after_a_tick_without_it() {
        let (mut table, mut a, mut b) = (table(), Handle::default(), Handle::default());
        table.begin();
        table.set_named(&mut a, &METRIC, "m", &[("id", "a")], 1.0);
        table.end();
        table.take_changes();
        table.begin();
        table.set_named(&mut b, &METRIC, "m", &[("id", "b")], 2.0);
        table.end();
        let changes = table.take_changes().unwrap();
        assert_eq!(slots(&changes), (vec![0], vec!["1=m{id=\"b\",role=\"game\"}".to_owned()]));
        assert!(is_stale(table.values()[0]));
        table.begin();
        table.set_named(&mut b, &METRIC, "m", &[], 2.0);
        // The old handle no longer fits: the series begins anew, in the slot that cooled.
        table.set_named(&mut a, &METRIC, "m", &[("id", "a")], 3.0);
        table.end();
        assert_eq!(slots(&table.take_changes().unwrap()), (vec![], vec!["0=m{id=\"a\",role=\"game\"}".to_owned()]));
        assert_eq!(table.values(), [3.0, 2.0]);
    }

    #[test]
    fn twins_and_labels_beyond_the_limits_are_refused_and_counted() {
        let mut table = table();
        let mut handles = [Handle::default(); 3];
        let long = "x".repeat(limits::LABEL_VALUE_MAX_BYTES + 1);
        for _ in 0..3 {
            table.begin();
            for (handle, id) in handles.iter_mut().zip(["a", "a", &long]) {
                table.set_named(handle, &METRIC, "m", &[("id", id)], 1.0);
            }
            table.end();
        }
        assert_eq!(table.len(), 1);
        assert_eq!(table.refused(), 2, "a refused series is not tried again at once");
    }

    #[test]
    fn a_table_holds_no_more_than_its_limit() {
        let mut table = table();
        table.begin();
        for i in 0..SERIES_PER_GROUP_MAX + 5 {
            table.set_named(&mut Handle::default(), &METRIC, "m", &[("id", &i.to_string())], 0.0);
        }
        table.end();
        assert_eq!((table.len(), table.refused()), (SERIES_PER_GROUP_MAX, 5));
    }

    proptest! {
        /// Whatever comes and goes, a reader that applies the changes knows exactly the live series.
        #[test]
        fn changes_replay_to_the_live_series(ticks in prop::collection::vec((any::<u8>(), any::<bool>()), 1..60)) {
            let mut table = table();
            let mut handles = [Handle::default(); 8];
            let mut reader: std::collections::BTreeMap<Slot, SeriesDef> = Default::default();
            for (present, take) in ticks {
                table.begin();
                for (id, handle) in handles.iter_mut().enumerate() {
                    if present & (1 << id) != 0 {
                        table.set_named(handle, &METRIC, "m", &[("id", &id.to_string())], id as f64);
                    }
                }
                table.end();
                prop_assert_eq!(table.live().count(), present.count_ones() as usize);
                for def in table.live() {
                    let id: f64 = def.labels.value("id").unwrap().parse().unwrap();
                    prop_assert_eq!(table.values()[def.slot as usize], id);
                }
                if take && let Some(changes) = table.take_changes() {
                    for slot in changes.retire {
                        prop_assert!(reader.remove(&slot).is_some(), "retired a slot that was not live");
                    }
                    for def in changes.add {
                        prop_assert!(reader.insert(def.slot, def).is_none(), "added to a live slot");
                    }
                    prop_assert!(reader.values().eq(table.live()));
                }
            }
        }
    }
}
