//! Which blocks are to become one. Pure: blocks by their figures in, a choice out.

use crate::window::Windows;

/// Windows of the store that may become one block: a day of two hours each.
pub(crate) const WINDOWS_MERGED: i64 = 12;
/// So many blocks of one window become one whatever their sizes.
const BLOCKS_MAX: usize = 8;
/// Fewer do if the largest is at most so many times as large as the rest: a large block is not written again for each
/// late sample.
const LARGEST_RATIO: u64 = 4;
/// Most bytes of blocks that become one.
const BYTES_MAX: u64 = 4 * 1024 * 1024 * 1024;
/// Most bytes of their indexes: what is gathered in memory until the end.
const INDEX_BYTES_MAX: u64 = 256 * 1024 * 1024;
/// Of what the store may have in all, a block is at most this part, so that retention frees what it must and no more.
const RETENTION_PART: u64 = 8;

/// A block's figures.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Candidate {
    pub(crate) min_ts: i64,
    pub(crate) max_ts: i64,
    pub(crate) bytes: u64,
    pub(crate) index_bytes: u64,
    /// Not to be touched.
    pub(crate) spoiled: bool,
}

/// What bounds the choice.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules {
    pub(crate) windows: Windows,
    pub(crate) retention_bytes: Option<u64>,
    pub(crate) now_ms: i64,
}

/// Chooses among blocks, which are ascending by order. Larger windows come first: what becomes part of a day at once is
/// not written twice. `conflict` answers whether the second block may hold a sample that one of the first block has too.
///
/// The block that comes of it takes the highest order of the chosen ones. So none is chosen that has a sample which a
/// block in between, not chosen, replaces: it would win then.
pub(crate) fn plan(blocks: &[Candidate], rules: &Rules, conflict: impl Fn(usize, usize) -> bool) -> Option<Vec<usize>> {
    for windows in [rules.windows.times(WINDOWS_MERGED), rules.windows] {
        let mut inside: Vec<(i64, usize)> = Vec::new();
        for (nth, block) in blocks.iter().enumerate().filter(|(_, block)| !block.spoiled) {
            if let Some(window) = windows.around(block.min_ts, block.max_ts)
                // The seal that has the window's last samples has had its time.
                && windows.end(window).saturating_add(rules.windows.span_ms()) <= rules.now_ms
            {
                inside.push((window, nth));
            }
        }
        // Stable: by order within a window.
        inside.sort_by_key(|(window, _)| *window);
        for window in inside.chunk_by(|a, b| a.0 == b.0) {
            let members: Vec<usize> = window.iter().map(|(_, nth)| *nth).collect();
            let mut runs = runs(blocks, &members, &conflict).into_iter();
            if let Some(run) = runs.find(|run| is_worth_it(blocks, run, rules)) {
                return Some(run);
            }
        }
    }
    None
}

fn is_worth_it(blocks: &[Candidate], run: &[usize], rules: &Rules) -> bool {
    let bytes: u64 = run.iter().map(|nth| blocks[*nth].bytes).sum();
    let index_bytes: u64 = run.iter().map(|nth| blocks[*nth].index_bytes).sum();
    let largest = run.iter().map(|nth| blocks[*nth].bytes).max().unwrap_or(0);
    let bytes_max = rules.retention_bytes.map_or(BYTES_MAX, |limit| BYTES_MAX.min(limit / RETENTION_PART));
    run.len() >= 2
        && bytes <= bytes_max
        && index_bytes <= INDEX_BYTES_MAX
        && (run.len() >= BLOCKS_MAX || largest <= (bytes - largest).saturating_mul(LARGEST_RATIO))
}

/// Cuts blocks of one window, ascending, where a block between them and not of them forbids to go on.
fn runs(blocks: &[Candidate], members: &[usize], conflict: &impl Fn(usize, usize) -> bool) -> Vec<Vec<usize>> {
    let mut runs: Vec<Vec<usize>> = Vec::new();
    for &member in members {
        let may_join = |run: &Vec<usize>| {
            let first = run.first().copied().unwrap_or(member);
            let mut between = (first..member).filter(|nth| members.binary_search(nth).is_err());
            !between.any(|outside| {
                let mut lower = run.iter().filter(|nth| **nth < outside);
                lower.any(|lower| overlap(&blocks[*lower], &blocks[outside]) && conflict(*lower, outside))
            })
        };
        match runs.last_mut().filter(|run| may_join(run)) {
            Some(run) => run.push(member),
            None => runs.push(vec![member]),
        }
    }
    runs
}

fn overlap(a: &Candidate, b: &Candidate) -> bool {
    a.min_ts <= b.max_ts && b.min_ts <= a.max_ts
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const HOUR: i64 = 3_600_000;

    fn block(min_ts: i64, max_ts: i64, bytes: u64) -> Candidate {
        Candidate { min_ts, max_ts, bytes, index_bytes: 0, spoiled: false }
    }

    fn rules(now_ms: i64) -> Rules {
        Rules { windows: Windows::new(Duration::from_secs(7200)), retention_bytes: None, now_ms }
    }

    fn choose(blocks: &[Candidate], rules: &Rules) -> Option<Vec<usize>> {
        plan(blocks, rules, |_, _| true)
    }

    #[test]
    fn a_day_becomes_one_block_when_it_is_over() {
        let blocks: Vec<_> = (0..12).map(|nth| block(nth * 2 * HOUR + 1, (nth + 1) * 2 * HOUR, 100)).collect();
        assert_eq!(choose(&blocks, &rules(25 * HOUR)), None);
        assert_eq!(choose(&blocks, &rules(26 * HOUR)), Some((0..12).collect()));
        let limited = Rules { retention_bytes: Some(9_000), ..rules(26 * HOUR) };
        assert_eq!(choose(&blocks, &limited), None);
    }

    #[test]
    fn a_large_block_waits_for_more_than_one_small_one() {
        let mut blocks = vec![block(1, 24 * HOUR, 1000)];
        for nth in 2..8 {
            blocks.push(block(HOUR, 3 * HOUR, 10));
            assert_eq!(choose(&blocks, &rules(100 * HOUR)), None, "with {nth}");
        }
        blocks.push(block(HOUR, 3 * HOUR, 10));
        assert_eq!(choose(&blocks, &rules(100 * HOUR)), Some((0..8).collect()));
        // Of one window, though, small ones become one.
        let late = [block(1, 24 * HOUR, 1000), block(HOUR, 2 * HOUR, 10), block(HOUR, 2 * HOUR, 10)];
        assert_eq!(choose(&late, &rules(100 * HOUR)), Some(vec![1, 2]));
    }

    #[test]
    fn what_lies_over_several_days_keeps_those_before_and_after_apart() {
        let blocks =
            [block(1, HOUR, 10), block(2, HOUR, 10), block(1, 50 * HOUR, 10), block(1, HOUR, 10), block(1, HOUR, 10)];
        assert_eq!(choose(&blocks, &rules(100 * HOUR)), Some(vec![0, 1]));
        assert_eq!(choose(&blocks[1..], &rules(100 * HOUR)), Some(vec![2, 3]));
        assert_eq!(plan(&blocks, &rules(100 * HOUR), |_, _| false), Some(vec![0, 1, 3, 4]));
        let mut spoiled = blocks;
        spoiled[1].spoiled = true;
        assert_eq!(choose(&spoiled, &rules(100 * HOUR)), Some(vec![3, 4]));
    }
}
