//! What was read lately of the blocks' chunks, decoded: a question over a fleet touches a chunk a host for each of its
//! metrics, and a page asks many such questions, again and again.
//!
//! Two generations: what is asked for moves to the young one; when that has grown to half the bound, the old one goes
//! and the young one is old. So what was asked for in the last half is there, and nothing is kept track of per use.

use std::sync::{Arc, Mutex, PoisonError};

use rustc_hash::FxHashMap;

use super::format::Lookup;

/// Most bytes of timestamps that are kept: two hours at 1 s of 580 hosts.
const TIMESTAMPS_BYTES_MAX: usize = 32 << 20;
/// Most bytes of listings that are kept; one of 600 series has about 6 KB, so that a day in twelve blocks of 450 hosts fits.
const LISTINGS_BYTES_MAX: usize = 32 << 20;

/// A chunk of a block: the block's number, and which of its chunks.
type ChunkId = (u64, u32);

/// The timestamps of a chunk.
pub(crate) type Timestamps = Arc<[i64]>;
/// The listing of a chunk: who looks something up in it moves it.
pub(crate) type SharedLookup = Arc<Mutex<Lookup>>;

/// What was read lately of a store's blocks.
#[derive(Debug)]
pub(crate) struct Recent {
    pub(crate) timestamps: Kept<Timestamps>,
    pub(crate) lookups: Kept<SharedLookup>,
}

impl Default for Recent {
    fn default() -> Self {
        Self { timestamps: Kept::new(TIMESTAMPS_BYTES_MAX), lookups: Kept::new(LISTINGS_BYTES_MAX) }
    }
}

/// One part of chunks.
#[derive(Debug)]
pub(crate) struct Kept<V> {
    most_bytes: usize,
    generations: Mutex<Generations<V>>,
}

#[derive(Debug)]
struct Generations<V> {
    young: FxHashMap<ChunkId, (V, usize)>,
    old: FxHashMap<ChunkId, (V, usize)>,
    young_bytes: usize,
}

impl<V: Clone> Kept<V> {
    fn new(most_bytes: usize) -> Self {
        let (young, old) = (FxHashMap::default(), FxHashMap::default());
        Self { most_bytes, generations: Mutex::new(Generations { young, old, young_bytes: 0 }) }
    }

    /// What is kept of that chunk, or what `read` reads: its value and bytes.
    pub(crate) fn get<E>(&self, of: ChunkId, read: impl FnOnce() -> Result<(V, usize), E>) -> Result<V, E> {
        let held = || self.generations.lock().unwrap_or_else(PoisonError::into_inner);
        let known = {
            let mut generations = held();
            if let Some((value, _)) = generations.young.get(&of) {
                return Ok(value.clone());
            }
            generations.old.remove(&of)
        };
        // Nobody waits while one reads; two may read the same.
        let (value, bytes) = known.map_or_else(read, Ok)?;
        held().keep(of, (value.clone(), bytes), self.most_bytes / 2);
        Ok(value)
    }
}

impl<V> Generations<V> {
    fn keep(&mut self, of: ChunkId, (value, bytes): (V, usize), most_bytes: usize) {
        if self.young_bytes + bytes > most_bytes {
            self.old = std::mem::take(&mut self.young);
            self.young_bytes = 0;
        }
        // What is larger than a generation is not kept.
        if bytes <= most_bytes {
            let before = self.young.insert(of, (value, bytes));
            self.young_bytes = self.young_bytes + bytes - before.map_or(0, |(_, bytes)| bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_asked_for_lately_is_kept_within_the_bound() {
        let kept = Kept::new(100);
        let mut reads = Vec::new();
        let mut ask = |chunk: u32, bytes: usize| {
            let value = kept.get((1, chunk), || {
                reads.push(chunk);
                Ok::<_, ()>((chunk * 10, bytes))
            });
            assert_eq!(value, Ok(chunk * 10));
            let held = kept.generations.lock().unwrap();
            let sum = |of: &FxHashMap<_, (u32, usize)>| of.values().map(|(_, bytes)| bytes).sum::<usize>();
            assert!(sum(&held.young) == held.young_bytes && sum(&held.young) + sum(&held.old) <= 100);
        };
        for chunk in [1, 2, 1, 2] {
            ask(chunk, 20);
        }
        // The third does not fit beside two; asked for again, the first is young.
        for chunk in [3, 1, 4, 1, 2, 3] {
            ask(chunk, 20);
        }
        ask(5, 51);
        ask(5, 51);
        assert_eq!(reads, [1, 2, 3, 4, 2, 3, 5, 5]);
    }

    #[test]
    fn an_error_is_not_kept() {
        let kept = Kept::<u32>::new(100);
        assert_eq!(kept.get((1, 1), || Err("no")), Err("no"));
        assert_eq!(kept.get((1, 1), || Ok::<_, &str>((7, 1))), Ok(7));
    }
}
