//! Lane frames of the metrics lane. (Signatures first; the body follows.)
//!
//! A *chain* is a run of frames that build on one another. A schema frame with `reset` begins a chain: every group
//! and slot is forgotten. Further schema frames add series to slots of a group or retire them; sample frames carry
//! one timestamp for a whole group and the change of each of its live series since the group's last tick.
//! Every live series of a group has a value at every tick of that group.

use crate::model::{Labels, MetricType};

/// A set of series that are sampled together and share their timestamps.
pub type GroupId = u16;
/// A series' place in its group.
pub type Slot = u32;

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
