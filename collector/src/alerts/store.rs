//! Alerts, deliveries and the time of the last evaluation in the state store.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use pitwatch_alerting::StoredAlert;
use pitwatch_alerting::engine::AlertChange;
use pitwatch_alerting::queue::{DeliveryChange, StoredDelivery};

use crate::state::{BATCH_MAX_KEYS, Batch, State, StateError, Table};

const EVALUATED_KEY: &[u8] = b"alerts/evaluated_ms";
/// The time of the last evaluation is stored this often, milliseconds.
const EVALUATED_EVERY_MS: i64 = 15_000;

/// The state store as alerting uses it.
#[derive(Debug)]
pub struct AlertStore {
    state: Arc<dyn State>,
    stored_ms: AtomicI64,
}

/// What an earlier run left.
#[derive(Debug, Default)]
pub struct Stored {
    /// Alerts, pending and firing.
    pub alerts: Vec<StoredAlert>,
    /// Deliveries that wait.
    pub deliveries: Vec<StoredDelivery>,
    /// When rules were last evaluated, about; milliseconds since the Unix epoch.
    pub evaluated_ms: Option<i64>,
}

impl AlertStore {
    /// Over the state store.
    #[must_use]
    pub fn new(state: Arc<dyn State>) -> Self {
        Self { state, stored_ms: AtomicI64::new(0) }
    }

    /// Everything that is stored.
    ///
    /// # Errors
    /// The store's.
    pub fn load(&self) -> Result<Stored, StateError> {
        let mut stored = Stored::default();
        self.state
            .scan(Table::Alerts, b"", &mut |key, value| keep(serde_json::from_slice(value), key, &mut stored.alerts))?;
        self.state.scan(Table::Notifications, b"", &mut |key, value| {
            keep(serde_json::from_slice(value), key, &mut stored.deliveries)
        })?;
        let evaluated = self.state.get(Table::Meta, EVALUATED_KEY)?;
        stored.evaluated_ms = evaluated.and_then(|bytes| Some(i64::from_le_bytes(bytes.try_into().ok()?)));
        Ok(stored)
    }

    /// Stores what an evaluation changed. An alert and its messages are in one transaction; a storm takes several.
    ///
    /// # Errors
    /// The store's.
    pub fn save(&self, alerts: &[AlertChange], deliveries: &[DeliveryChange]) -> Result<(), StateError> {
        let mut batch = Batch::new();
        // Messages first where one transaction does not hold all: a crash between tells twice, never not at all.
        for change in deliveries {
            match change {
                DeliveryChange::Put(delivery) => {
                    let value = serde_json::to_vec(delivery).unwrap_or_default();
                    batch.put(Table::Notifications, delivery.id.to_be_bytes(), value);
                }
                DeliveryChange::Remove(id) => {
                    batch.delete(Table::Notifications, id.to_be_bytes());
                }
            }
            self.commit_full(&mut batch)?;
        }
        for change in alerts {
            match change {
                AlertChange::Put(alert) => {
                    batch.put(Table::Alerts, alert.key.as_bytes(), serde_json::to_vec(alert).unwrap_or_default());
                }
                AlertChange::Remove(key) => {
                    batch.delete(Table::Alerts, key.as_bytes());
                }
            }
            self.commit_full(&mut batch)?;
        }
        if batch.is_empty() { Ok(()) } else { self.state.commit(&batch) }
    }

    /// Notes that rules were evaluated, now and then.
    ///
    /// # Errors
    /// The store's.
    pub fn evaluated(&self, now_ms: i64) -> Result<(), StateError> {
        if now_ms.saturating_sub(self.stored_ms.load(Ordering::Relaxed)) < EVALUATED_EVERY_MS {
            return Ok(());
        }
        self.stored_ms.store(now_ms, Ordering::Relaxed);
        let mut batch = Batch::new();
        batch.put(Table::Meta, EVALUATED_KEY, now_ms.to_le_bytes());
        self.state.commit(&batch)
    }

    fn commit_full(&self, batch: &mut Batch) -> Result<(), StateError> {
        if batch.len() >= BATCH_MAX_KEYS || batch.bytes() >= crate::state::BATCH_MAX_BYTES / 2 {
            self.state.commit(&std::mem::take(batch))?;
        }
        Ok(())
    }
}

fn keep<T>(read: serde_json::Result<T>, key: &[u8], into: &mut Vec<T>) -> ControlFlow<()> {
    match read {
        Ok(one) => into.push(one),
        Err(error) => tracing::error!(key = %String::from_utf8_lossy(key), "a stored alert is damaged: {error}"),
    }
    ControlFlow::Continue(())
}
