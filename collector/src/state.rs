//! The collector's small mutable state: agents, certificates, tokens, silences, alert states, what was told of them, incidents.
//!
//! Owns the trait [`State`] over an embedded key-value store, its limits, and the two engines behind it. Leaves the
//! meaning of keys and values to those who store them, and history (large, append-only) to `pitwatch-history`.
//!
//! - [`State`], [`Table`], [`Batch`], [`open`]: what callers use.
//! - [`StateError`]: what can go wrong, and what to do then.
//! - `guard`: one process a directory, crash-proof creation, panics caught, reopening after a failed write.
//! - `redb_engine`, `sled_engine` (feature `sled`): the engines. Why these two: docs/decisions/stores.md.

mod error;
mod guard;
mod redb_engine;
#[cfg(feature = "sled")]
mod sled_engine;

use std::collections::BTreeMap;
use std::fmt;
use std::ops::ControlFlow;
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;

pub use error::StateError;

/// Longest key in bytes.
pub const KEY_MAX_BYTES: usize = 512;
/// Longest value in bytes.
pub const VALUE_MAX_BYTES: usize = 32 * 1024;
/// Most keys that one batch may put or delete (sled's memory and disk use grow steeply above it).
pub const BATCH_MAX_KEYS: usize = 500;
/// Largest sum of a batch's keys and values in bytes.
pub const BATCH_MAX_BYTES: usize = 1024 * 1024;

const _: () = assert!(KEY_MAX_BYTES + VALUE_MAX_BYTES <= BATCH_MAX_BYTES);

/// A record: its table, key and value.
pub type Record = (Table, Vec<u8>, Vec<u8>);

/// What [`State::scan`] calls with a key and its value.
pub type Each<'a> = dyn FnMut(&[u8], &[u8]) -> ControlFlow<()> + 'a;

/// An open store. Cheap to share; every method may be called from any thread, and blocks on the disk.
pub trait State: Send + Sync + fmt::Debug {
    /// The value of `key`, if there is one.
    ///
    /// # Errors
    /// [`StateError::KeyTooLong`]; the disk's and the engine's errors.
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StateError>;

    /// Calls `each` with every key that starts with `prefix` and its value, in ascending order of keys, until it
    /// breaks. What it sees is the store at one moment: no batch is half there. `each` may use the store.
    ///
    /// # Errors
    /// The disk's and the engine's errors; `each` may have been called before.
    fn scan(&self, table: Table, prefix: &[u8], each: &mut Each<'_>) -> Result<(), StateError>;

    /// Does all of `batch` or nothing of it. `Ok` means that it is durable.
    ///
    /// # Errors
    /// A limit, and then nothing was done. The disk's and the engine's errors, and then the batch is there wholly or
    /// not at all and which is unknown: commit it again. The store reopens itself when it can.
    fn commit(&self, batch: &Batch) -> Result<(), StateError>;

    /// Every record of every table at one moment, in the order of tables and keys.
    ///
    /// # Errors
    /// The disk's and the engine's errors.
    fn records(&self) -> Result<Vec<Record>, StateError>;

    /// Bytes that the store takes on disk.
    ///
    /// # Errors
    /// The disk's.
    fn size_bytes(&self) -> Result<u64, StateError>;
}

/// Opens the store in `dir`, making both if they are not there.
///
/// # Errors
/// [`StateError::OtherEngine`], [`StateError::InUse`], [`StateError::EngineAbsent`], [`StateError::Newer`],
/// [`StateError::Damaged`]; the disk's errors.
pub fn open(engine: Engine, dir: &Path) -> Result<Arc<dyn State>, StateError> {
    match engine {
        Engine::Redb => Ok(Arc::new(guard::Guard::<redb_engine::RedbStore>::open(dir)?)),
        #[cfg(feature = "sled")]
        Engine::Sled => Ok(Arc::new(guard::Guard::<sled_engine::SledStore>::open(dir)?)),
        #[cfg(not(feature = "sled"))]
        Engine::Sled => Err(StateError::EngineAbsent { engine }),
    }
}

/// The engine under the store: `[state] engine` of the config.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Engine {
    /// `redb`, the default.
    #[default]
    Redb,
    /// `sled` 0.34, where the program was built with the feature `sled`.
    Sled,
}

impl Engine {
    /// Every engine, built in or not.
    pub const ALL: [Engine; 2] = [Engine::Redb, Engine::Sled];

    /// Its name in the config.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Engine::Redb => "redb",
            Engine::Sled => "sled",
        }
    }

    /// The name of its file or directory in the state's directory.
    fn file_name(self) -> &'static str {
        match self {
            Engine::Redb => "state.redb",
            Engine::Sled => "state.sled",
        }
    }
}

impl fmt::Display for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Engine {
    type Err = UnknownEngine;

    fn from_str(name: &str) -> Result<Self, UnknownEngine> {
        Engine::ALL.into_iter().find(|engine| engine.name() == name).ok_or_else(|| UnknownEngine(name.to_owned()))
    }
}

/// A name that is no engine's.
#[derive(Debug, thiserror::Error)]
#[error("unknown state engine {0:?}: it is \"redb\" or \"sled\"")]
pub struct UnknownEngine(String);

/// A key space of its own. The numbers are on disk: they are never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Table {
    /// The agents that were enrolled.
    Agents = 1,
    /// Certificates given and revoked.
    Certificates = 2,
    /// One-time enrolment tokens.
    EnrollTokens = 3,
    /// Hashes of the tokens of people and programs.
    ApiTokens = 4,
    /// States of alerts.
    Alerts = 5,
    /// Notifications not yet delivered.
    Notifications = 6,
    /// Silences.
    Silences = 7,
    /// Facts about the collector itself.
    Meta = 8,
    /// Incidents, their timelines, and what people did about alerts.
    Incidents = 9,
}

impl Table {
    /// Every table.
    pub const ALL: [Table; 9] = [
        Table::Agents,
        Table::Certificates,
        Table::EnrollTokens,
        Table::ApiTokens,
        Table::Alerts,
        Table::Notifications,
        Table::Silences,
        Table::Meta,
        Table::Incidents,
    ];

    /// The table of that number.
    #[must_use]
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|table| *table as u8 == number)
    }

    /// Its name, on disk and in messages.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Table::Agents => "agents",
            Table::Certificates => "certificates",
            Table::EnrollTokens => "enroll_tokens",
            Table::ApiTokens => "api_tokens",
            Table::Alerts => "alerts",
            Table::Notifications => "notifications",
            Table::Silences => "silences",
            Table::Meta => "meta",
            Table::Incidents => "incidents",
        }
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Puts and deletes over several tables, done together. Of several on one key the last counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// `None` deletes. In the order of tables and keys.
    ops: BTreeMap<(Table, Vec<u8>), Option<Vec<u8>>>,
}

impl Batch {
    /// A batch of nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Gives `key` the value `value`.
    pub fn put(&mut self, table: Table, key: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) -> &mut Self {
        self.ops.insert((table, key.into()), Some(value.into()));
        self
    }

    /// Removes `key`, if it is there.
    pub fn delete(&mut self, table: Table, key: impl Into<Vec<u8>>) -> &mut Self {
        self.ops.insert((table, key.into()), None);
        self
    }

    /// How many keys it touches.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ops.len()
    }

    /// Whether it does nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ops.is_empty()
    }

    /// The puts (`Some`) and deletes (`None`), in the order of tables and keys.
    pub fn iter(&self) -> impl Iterator<Item = (Table, &[u8], Option<&[u8]>)> {
        self.ops.iter().map(|((table, key), value)| (*table, key.as_slice(), value.as_deref()))
    }

    /// Bytes of its keys and values.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.iter().map(|(_, key, value)| key.len() + value.map_or(0, <[u8]>::len)).sum()
    }

    fn check_limits(&self) -> Result<(), StateError> {
        if self.len() > BATCH_MAX_KEYS {
            return Err(StateError::BatchTooManyKeys { keys: self.len() });
        }
        let mut batch_bytes = 0;
        for (table, key, value) in self.iter() {
            check_key(table, key)?;
            let value_bytes = value.map_or(0, <[u8]>::len);
            if value_bytes > VALUE_MAX_BYTES {
                return Err(StateError::ValueTooLong { table, value_bytes });
            }
            batch_bytes += key.len() + value_bytes;
        }
        if batch_bytes > BATCH_MAX_BYTES {
            return Err(StateError::BatchTooLarge { batch_bytes });
        }
        Ok(())
    }
}

fn check_key(table: Table, key: &[u8]) -> Result<(), StateError> {
    if key.len() > KEY_MAX_BYTES {
        return Err(StateError::KeyTooLong { table, key_bytes: key.len() });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn engine_names_round_trip_and_others_are_refused_with_the_choices() {
        for engine in Engine::ALL {
            assert_eq!(engine.name().parse::<Engine>().unwrap(), engine);
        }
        let error = "rocksdb".parse::<Engine>().unwrap_err().to_string();
        assert!(error.contains("rocksdb") && error.contains("redb") && error.contains("sled"), "{error}");
    }

    #[test]
    fn the_last_operation_on_a_key_counts() {
        let mut batch = Batch::new();
        batch.put(Table::Meta, *b"a", *b"1").delete(Table::Meta, *b"a").put(Table::Agents, *b"a", *b"2");
        let ops: Vec<_> = batch.iter().collect();
        assert_eq!(ops, [(Table::Agents, &b"a"[..], Some(&b"2"[..])), (Table::Meta, b"a", None)]);
    }

    #[test]
    fn table_numbers_are_frozen() {
        let numbers: Vec<u8> = Table::ALL.iter().map(|table| *table as u8).collect();
        assert_eq!(numbers, [1, 2, 3, 4, 5, 6, 7, 8, 9]);
    }
}
