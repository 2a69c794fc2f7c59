//! Over which files a head's samples go: one a window of time, few enough files, and nothing past retention.

use std::collections::BTreeMap;
use std::ops::Range;

use crate::head::{Group, HeadData};
use crate::window::Windows;

/// Most files of one seal: ten days of backlog at two hours a window. Above it the windows with the fewest ticks, as a
/// broken clock makes them, share one file.
pub(crate) const FILES_MAX: usize = 128;

/// Where the ticks of one head go.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Spread {
    windows: Windows,
    /// Windows that have a file of their own, ascending.
    own: Vec<i64>,
    /// Ticks up to here are past retention.
    expired_through: i64,
    now_ms: i64,
}

/// Ticks, one after another, that go to the same place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    pub(crate) ticks: Range<usize>,
    pub(crate) place: Place,
    /// When their window was, seen from the seal.
    pub(crate) age: Age,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// Past retention: nowhere.
    Expired,
    /// The nth file.
    File(usize),
    /// The file, after all others, of windows that have none of their own.
    Stray(usize),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Age {
    /// The window ended more than a window ago.
    Late,
    Now,
    /// The window has not begun.
    Future,
}

impl Spread {
    /// Spreads a head that is sealed at `now_ms`; windows that ended before `horizon` are past retention.
    pub(crate) fn of<'a>(
        heads: impl Iterator<Item = &'a HeadData>,
        windows: Windows,
        horizon: Option<i64>,
        now_ms: i64,
    ) -> Self {
        let expired_through = horizon.map_or(i64::MIN, |horizon| windows.begin(windows.of(horizon)));
        let mut ticks: BTreeMap<i64, u64> = BTreeMap::new();
        for group in heads.flat_map(|data| data.groups.values()) {
            count_ticks(group, windows, &mut ticks);
        }
        ticks.retain(|window, _| windows.end(*window) > expired_through);
        let mut own: Vec<i64> = ticks.keys().copied().collect();
        if own.len() > FILES_MAX {
            own.sort_by_key(|window| std::cmp::Reverse((ticks[window], *window)));
            own.truncate(FILES_MAX - 1);
            own.sort_unstable();
        }
        Self { windows, own, expired_through, now_ms }
    }

    /// Cuts ascending timestamps into runs.
    pub(crate) fn runs(&self, ts: &[i64]) -> Vec<Run> {
        let mut runs: Vec<Run> = Vec::new();
        let mut from = ts.partition_point(|at| *at <= self.expired_through);
        if from > 0 {
            runs.push(Run { ticks: 0..from, place: Place::Expired, age: Age::Late });
        }
        while let Some(first) = ts.get(from) {
            let window = self.windows.of(*first);
            let to = from + ts[from..].partition_point(|at| *at <= self.windows.end(window));
            let place = self.own.binary_search(&window).map_or(Place::Stray(self.own.len()), Place::File);
            match runs.last_mut() {
                // So that a clock that is everywhere does not make a chunk of every tick.
                Some(last) if place == last.place && matches!(place, Place::Stray(_)) => last.ticks.end = to,
                _ => runs.push(Run { ticks: from..to, place, age: self.age(window) }),
            }
            from = to;
        }
        runs
    }

    fn age(&self, window: i64) -> Age {
        if self.windows.end(window).saturating_add(self.windows.span_ms()) <= self.now_ms {
            Age::Late
        } else if self.windows.begin(window) >= self.now_ms {
            Age::Future
        } else {
            Age::Now
        }
    }
}

fn count_ticks(group: &Group, windows: Windows, ticks: &mut BTreeMap<i64, u64>) {
    let mut rest = &group.ts[..];
    while let Some(first) = rest.first() {
        let window = windows.of(*first);
        let inside = |at: &i64| windows.of(*at) == window;
        let count =
            if group.sorted { rest.partition_point(inside) } else { rest.iter().take_while(|at| inside(at)).count() };
        *ticks.entry(window).or_default() += count as u64;
        rest = &rest[count..];
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::time::Duration;

    fn head(ts: &[i64]) -> HeadData {
        let mut data = HeadData::default();
        let sorted = ts.windows(2).all(|pair| pair[0] < pair[1]);
        data.groups.insert(0, Group { ts: ts.to_vec(), sorted, ..Group::default() });
        data
    }

    #[test]
    fn the_rarest_windows_share_a_file() {
        let windows = Windows::new(Duration::from_millis(10));
        let mut ts: Vec<i64> = (0..300).map(|nth| nth * 10 + 5).collect();
        ts.extend([1001, 1002, 2001]);
        ts.sort_unstable();
        let spread = Spread::of([&head(&ts)].into_iter(), windows, None, 1500);
        assert_eq!(spread.own.len(), FILES_MAX - 1);
        assert!(spread.own.contains(&100) && spread.own.contains(&200) && spread.own.contains(&299));
        let runs = spread.runs(&ts);
        assert_eq!(runs[0], Run { ticks: 0..100, place: Place::Stray(127), age: Age::Late });
        assert_eq!(runs[1], Run { ticks: 100..103, place: Place::File(0), age: Age::Late });
    }

    proptest! {
        #[test]
        fn every_tick_has_one_place_and_files_are_few(
            mut ts in proptest::collection::vec(-5_000_i64..5_000, 1..400),
            span in 1_u64..500,
            horizon in proptest::option::of(-5_000_i64..5_000),
        ) {
            let windows = Windows::new(Duration::from_millis(span));
            let spread = Spread::of([&head(&ts)].into_iter(), windows, horizon, 0);
            prop_assert!(spread.own.len() <= FILES_MAX);
            ts.sort_unstable();
            ts.dedup();
            let runs = spread.runs(&ts);
            let mut next = 0;
            for run in runs {
                prop_assert_eq!(run.ticks.start, next);
                next = run.ticks.end;
                for at in &ts[run.ticks] {
                    match run.place {
                        Place::Expired => prop_assert!(windows.end(windows.of(*at)) < horizon.unwrap()),
                        Place::File(nth) => prop_assert_eq!(windows.of(*at), spread.own[nth]),
                        Place::Stray(nth) => prop_assert_eq!((nth, spread.own.len()), (FILES_MAX - 1, FILES_MAX - 1)),
                    }
                }
            }
            prop_assert_eq!(next, ts.len());
        }
    }
}
