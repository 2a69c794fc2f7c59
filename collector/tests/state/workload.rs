//! A fixed sequence of batches over all tables: from a seed and a number, the batch; from a number of batches, the
//! state that they must have left.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use pitwatch_collector::state::{Batch, State, StateError, Table};

/// Everything in a store.
pub(crate) type Contents = BTreeMap<(Table, Vec<u8>), Vec<u8>>;

/// Holds the number of the last batch done.
const COUNTER_KEY: &[u8] = b"counter";
const KEYS_PER_TABLE: u64 = 60;

/// splitmix64: small, and the same everywhere.
#[derive(Clone, Debug)]
pub(crate) struct Rng(u64);

impl Rng {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    pub(crate) fn coin(&mut self) -> bool {
        self.below(2) == 0
    }
}

/// The `number`th batch, from 1: a few keys or hundreds, small values or long ones, puts and deletes.
pub(crate) fn batch(seed: u64, number: u64) -> Batch {
    let mut rng = Rng::new(seed ^ number.wrapping_mul(0x0100_0000_01b3));
    let keys = match rng.below(16) {
        0 => 400,
        1..4 => 1 + rng.below(100),
        _ => 1 + rng.below(12),
    };
    let mut batch = Batch::new();
    for _ in 0..keys {
        let table = Table::ALL[rng.below(9) as usize];
        let key = format!("{table}/{:03}", rng.below(KEYS_PER_TABLE)).into_bytes();
        if rng.below(5) == 0 {
            batch.delete(table, key);
        } else {
            let max_bytes = if rng.below(20) == 0 { 20_000 } else { 1_000 };
            let byte = rng.next() as u8;
            batch.put(table, key, vec![byte; rng.below(max_bytes) as usize]);
        }
        if batch.iter().map(|(_, key, value)| key.len() + value.map_or(0, <[u8]>::len)).sum::<usize>() > 900_000 {
            break;
        }
    }
    batch.put(Table::Meta, COUNTER_KEY, number.to_le_bytes());
    batch
}

/// What the first `batches` batches leave.
pub(crate) fn after(seed: u64, batches: u64) -> Contents {
    let mut contents = Contents::new();
    for number in 1..=batches {
        apply(&mut contents, &batch(seed, number));
    }
    contents
}

pub(crate) fn apply(contents: &mut Contents, batch: &Batch) {
    for (table, key, value) in batch.iter() {
        match value {
            Some(value) => contents.insert((table, key.to_owned()), value.to_owned()),
            None => contents.remove(&(table, key.to_owned())),
        };
    }
}

/// Everything in `state`, by scans.
pub(crate) fn contents(state: &dyn State) -> Result<Contents, StateError> {
    let mut contents = Contents::new();
    for table in Table::ALL {
        state.scan(table, b"", &mut |key, value| {
            contents.insert((table, key.to_owned()), value.to_owned());
            ControlFlow::Continue(())
        })?;
    }
    Ok(contents)
}

/// How many batches `state` says were done.
pub(crate) fn counter(state: &dyn State) -> Result<u64, StateError> {
    let stored = state.get(Table::Meta, COUNTER_KEY)?;
    Ok(stored.map_or(0, |bytes| u64::from_le_bytes(bytes.try_into().expect("a counter of 8 bytes"))))
}

/// Panics unless `state` is what some number of batches from `acked` to `begun` leaves; returns that number.
pub(crate) fn check(state: &dyn State, seed: u64, acked: u64, begun: u64) -> u64 {
    let done = counter(state).expect("the counter can be read");
    assert!(done >= acked, "batches {} to {acked} were acknowledged and are lost", done + 1);
    assert!(done <= begun, "batch {done} is there and was never begun");
    let found = contents(state).expect("everything can be read");
    let expected = after(seed, done);
    for (at, value) in &expected {
        match found.get(at) {
            Some(found) if found == value => {}
            Some(_) => panic!("after batch {done} {at:?} has another value"),
            None => panic!("after batch {done} {at:?} is missing"),
        }
    }
    for at in found.keys() {
        assert!(expected.contains_key(at), "after batch {done} {at:?} should not be there");
    }
    done
}
