//! The metrics lane: ticks in, numbered frames out.
//!
//! It joins the encoder and the sender: where the sender wants a chain begun, all live series are declared anew.
//! It knows neither signals nor transport, so that simulation drives it as it is.

use bytes::Bytes;
use pitwatch_shared::codec::{EncodeError, Encoder, GroupId, SeriesDef, Slot};
use pitwatch_shared::delivery::{Backlog, Sender};

/// Series a schema frame of a new chain declares at most; a larger group takes several frames.
const SERIES_PER_FRAME: usize = 2_000;

/// The series that live now, for the schema frames of a new chain.
pub trait Schema {
    /// Every group, in the order to declare.
    fn groups(&self) -> Vec<GroupId>;
    /// The live series of a group, those among them that the next tick's `add` brings.
    fn live(&self, group: GroupId) -> Vec<SeriesDef>;
}

/// What changed in a group's schema since its last tick; `retire` comes before `add`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SchemaChange {
    /// Slots that ended.
    pub retire: Vec<Slot>,
    /// Series that began.
    pub add: Vec<SeriesDef>,
}

/// A lane as the link sees it.
pub trait Queue {
    /// Where its frames wait on disk.
    type Backlog: Backlog;

    /// The frames that are not acknowledged.
    fn sender(&mut self) -> &mut Sender<Self::Backlog>;
}

/// One agent's metrics lane.
#[derive(Debug)]
pub struct MetricsLane<B> {
    encoder: Encoder,
    sender: Sender<B>,
    scratch: Vec<u8>,
}

impl<B: Backlog> MetricsLane<B> {
    /// A lane that begins a chain with its first tick.
    #[must_use]
    pub fn new(sender: Sender<B>) -> Self {
        Self { encoder: Encoder::new(), sender, scratch: Vec::new() }
    }

    /// Queues a tick of `group`: what changed in its schema since its last tick, and the values by slot.
    ///
    /// # Errors
    /// What the codec cannot say (a limit); the tick is not queued and the next one begins a chain.
    pub fn tick(
        &mut self,
        now_ms: i64,
        group: GroupId,
        change: Option<SchemaChange>,
        values: &[f64],
        schema: &dyn Schema,
    ) -> Result<(), EncodeError> {
        let result = self.try_tick(now_ms, group, change, values, schema);
        if result.is_err() {
            self.sender.break_chain();
        }
        result
    }

    fn try_tick(
        &mut self,
        now_ms: i64,
        group: GroupId,
        change: Option<SchemaChange>,
        values: &[f64],
        schema: &dyn Schema,
    ) -> Result<(), EncodeError> {
        if self.sender.wants_chain() {
            self.begin_chain(now_ms, schema)?;
        } else if let Some(change) = change {
            self.declare(now_ms, false, group, &change.retire, &change.add)?;
        }
        self.scratch.clear();
        self.encoder.tick(&mut self.scratch, group, now_ms, values)?;
        self.sender.queue(now_ms, false, Bytes::copy_from_slice(&self.scratch));
        Ok(())
    }

    fn begin_chain(&mut self, now_ms: i64, schema: &dyn Schema) -> Result<(), EncodeError> {
        for (i, group) in schema.groups().into_iter().enumerate() {
            self.declare(now_ms, i == 0, group, &[], &schema.live(group))?;
        }
        Ok(())
    }

    fn declare(
        &mut self,
        now_ms: i64,
        reset: bool,
        group: GroupId,
        retire: &[Slot],
        add: &[SeriesDef],
    ) -> Result<(), EncodeError> {
        let (first, rest) = add.split_at(add.len().min(SERIES_PER_FRAME));
        self.declare_part(now_ms, reset, group, retire, first)?;
        rest.chunks(SERIES_PER_FRAME).try_for_each(|part| self.declare_part(now_ms, false, group, &[], part))
    }

    fn declare_part(
        &mut self,
        now_ms: i64,
        reset: bool,
        group: GroupId,
        retire: &[Slot],
        add: &[SeriesDef],
    ) -> Result<(), EncodeError> {
        self.scratch.clear();
        self.encoder.schema(&mut self.scratch, reset, group, retire, add)?;
        self.sender.queue(now_ms, reset, Bytes::copy_from_slice(&self.scratch));
        Ok(())
    }
}

impl<B: Backlog> Queue for MetricsLane<B> {
    type Backlog = B;

    fn sender(&mut self) -> &mut Sender<B> {
        &mut self.sender
    }
}
