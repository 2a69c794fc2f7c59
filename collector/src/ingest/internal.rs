//! The collector's own series (its metrics, what rules record) as frames of internal sources.
//!
//! Callers hand in the whole set of a table at each instant; what appeared since the last one is declared, what is
//! missing ends. After a start each table begins a new epoch and chain.

use std::collections::HashMap;
use std::sync::Arc;

use pitwatch_history::{Appender, SourceName};
use pitwatch_shared::codec::{Encoder, SeriesDef, Slot};
use pitwatch_shared::model::{Labels, Lane, Mark};

use super::Tick;
use super::core::Core;

/// Series declared in one frame.
const SERIES_PER_FRAME: usize = 2_000;

/// The tables of this run.
#[derive(Debug, Default)]
pub struct Internal {
    tables: HashMap<Arc<str>, Table>,
    /// The last epoch of each table of an earlier run.
    epochs: HashMap<String, u64>,
}

#[derive(Debug)]
struct Table {
    source: SourceName,
    encoder: Encoder,
    mark: Mark,
    slots: HashMap<Labels, Slot>,
    values: Vec<f64>,
    seen: Vec<bool>,
    free: Vec<Slot>,
    fresh: bool,
}

impl Internal {
    /// Tables that go on after those that `appender` knows.
    #[must_use]
    pub fn new(appender: &Appender) -> Self {
        let marks = appender.sources().filter_map(|(source, mark)| Some((source.name.to_string(), mark?.epoch)));
        Self { tables: HashMap::new(), epochs: marks.collect() }
    }

    /// Stores one instant of a table.
    ///
    /// # Errors
    /// What the codec or the store refused; the table begins a new chain next time.
    pub fn tick(&mut self, core: &mut Core, tick: Tick) -> Result<(), String> {
        let epochs = &self.epochs;
        let table = self.tables.entry(tick.table.clone()).or_insert_with(|| {
            Table::new(SourceName::internal(&tick.table), epochs.get(&*tick.table).map_or(1, |epoch| epoch + 1))
        });
        let result = table.tick(core.appender(), tick);
        if result.is_err() {
            let after = table.mark.epoch + 1;
            *table = Table::new(table.source.clone(), after);
        }
        result
    }
}

impl Table {
    fn new(source: SourceName, epoch: u64) -> Self {
        Self {
            source,
            encoder: Encoder::new(),
            mark: Mark { epoch, seq: 0 },
            slots: HashMap::new(),
            values: Vec::new(),
            seen: Vec::new(),
            free: Vec::new(),
            fresh: true,
        }
    }

    fn tick(&mut self, appender: &mut Appender, tick: Tick) -> Result<(), String> {
        self.seen.fill(false);
        let mut add = Vec::new();
        for (labels, kind, value) in tick.samples {
            let slot = match self.slots.get(&labels) {
                Some(slot) => *slot,
                None => {
                    let slot = self.free.pop().unwrap_or_else(|| {
                        self.values.push(0.0);
                        self.seen.push(false);
                        self.values.len() as Slot - 1
                    });
                    self.slots.insert(labels.clone(), slot);
                    add.push(SeriesDef { slot, kind, labels });
                    slot
                }
            };
            self.values[slot as usize] = value;
            self.seen[slot as usize] = true;
        }
        let mut retire = Vec::new();
        let seen = &self.seen;
        self.slots.retain(|_, slot| {
            let kept = seen[*slot as usize];
            if !kept {
                retire.push(*slot);
            }
            kept
        });
        retire.sort_unstable();
        add.sort_unstable_by_key(|def| def.slot);
        let mut payload = Vec::new();
        if self.fresh || !add.is_empty() || !retire.is_empty() {
            let first = add.len().min(SERIES_PER_FRAME);
            self.schema(appender, &mut payload, &retire, &add[..first])?;
            for part in add[first..].chunks(SERIES_PER_FRAME) {
                self.schema(appender, &mut payload, &[], part)?;
            }
        }
        // Only now: a slot that was retired in this frame may not be taken again before the next.
        self.free.extend(retire);
        payload.clear();
        self.encoder.tick(&mut payload, 0, tick.ts_ms, &self.values).map_err(|error| error.to_string())?;
        self.append(appender, &payload)
    }

    fn schema(
        &mut self,
        appender: &mut Appender,
        payload: &mut Vec<u8>,
        retire: &[Slot],
        add: &[SeriesDef],
    ) -> Result<(), String> {
        payload.clear();
        let reset = std::mem::take(&mut self.fresh);
        self.encoder.schema(payload, reset, 0, retire, add).map_err(|error| error.to_string())?;
        self.append(appender, payload)
    }

    fn append(&mut self, appender: &mut Appender, payload: &[u8]) -> Result<(), String> {
        self.mark.seq += 1;
        let appended = appender.append(&self.source, Lane::Metrics, self.mark, payload);
        appended.map(drop).map_err(|error| crate::error_chain(&error))
    }
}
