//! Samples that come by series, each with its own timestamp, as remote write sends them: no frame, no slots.
//!
//! The head keeps columns over the ticks of a group, so a series needs a group whose timestamps are its own. It is
//! found by the timestamps themselves: a series goes to the group whose last tick is the instant of its first sample,
//! goes on there as long as it has the group's next tick, and moves where it has not. Series that are scraped together so
//! come to share one timestamp column, whatever their labels and however their samples are cut into requests; a
//! series like no other has a group of its own. Where a sample stands changes what it costs, never what is read.
//!
//! `record` is the bytes of it in the log.

mod record;

use pitwatch_shared::codec::GroupId;
use pitwatch_shared::model::{Labels, MetricType};
use rustc_hash::FxHashMap;

use crate::head::HeadData;
use crate::index::SeriesId;
pub(crate) use record::{Part, Reader, Writer};

/// The last group: it takes the series that no group is left for.
const GROUP_LAST: GroupId = GroupId::MAX;

/// Samples of one series.
#[derive(Clone, Debug, PartialEq)]
pub struct SeriesRows {
    /// The series' labels, kept as they are.
    pub labels: Labels,
    /// What its values mean.
    pub kind: MetricType,
    /// Milliseconds since the Unix epoch, and value; in any order.
    pub samples: Vec<(i64, f64)>,
}

/// What rows came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RowsAppended {
    /// Samples that are in the store now, those among them that it had already.
    pub samples: u64,
    /// Of them, samples that it had already and that were left out.
    pub repeated: u64,
    /// Samples left out because the series has another value at that time.
    pub conflicting: u64,
    /// Series that a limit refused.
    pub refused_series: u64,
    /// Samples of those.
    pub refused_samples: u64,
}

/// A source's series that come by rows, for as long as a head lasts.
#[derive(Debug, Default)]
pub(crate) struct Rows {
    /// By the number that the log has for them.
    places: Vec<Place>,
    numbers: FxHashMap<SeriesId, u32>,
    /// The group that ends on an instant.
    ends: FxHashMap<i64, GroupId>,
    /// Whether the log knows the numbers; if not, its next record begins anew.
    pub(crate) is_known: bool,
}

/// Where a series' next sample is expected.
#[derive(Clone, Copy, Debug)]
struct Place {
    series: SeriesId,
    /// The last value, which the log's next one builds on.
    bits: u64,
    /// The latest instant that it has.
    last_ms: i64,
    /// Its group, its column there, and the tick after the column's last; none before its first sample.
    column: Option<(GroupId, u32, u32)>,
}

/// What became of a sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Taken {
    Stored,
    Repeated,
    Conflicting,
}

impl Rows {
    /// The series' number, if it has one.
    pub(crate) fn number(&self, series: SeriesId) -> Option<u32> {
        self.numbers.get(&series).copied()
    }

    /// Gives the series the next number.
    pub(crate) fn add(&mut self, series: SeriesId) -> u32 {
        let number = self.places.len() as u32;
        self.places.push(Place { series, bits: 0, last_ms: i64::MIN, column: None });
        self.numbers.insert(series, number);
        number
    }

    /// The series' last value; none if the number is not given.
    pub(crate) fn bits(&self, number: u32) -> Option<u64> {
        Some(self.places.get(number as usize)?.bits)
    }

    /// How many numbers are given.
    pub(crate) fn len(&self) -> u32 {
        self.places.len() as u32
    }

    /// Forgets every number.
    pub(crate) fn forget_numbers(&mut self) {
        self.places.clear();
        self.numbers.clear();
    }

    /// What taking the sample would come to, so that it need not be written if that is nothing.
    pub(crate) fn look(&self, data: &HeadData, number: u32, ts_ms: i64, bits: u64) -> Taken {
        let Some(place) = self.places.get(number as usize) else { return Taken::Stored };
        if place.column.is_some() && ts_ms > place.last_ms {
            return Taken::Stored;
        }
        match data.value_at(place.series, ts_ms) {
            None => Taken::Stored,
            Some(known) if known == bits => Taken::Repeated,
            Some(_) => Taken::Conflicting,
        }
    }

    /// Puts a sample of a numbered series into the head.
    pub(crate) fn take(&mut self, data: &mut HeadData, number: u32, ts_ms: i64, bits: u64) {
        let Some(place) = self.places.get_mut(number as usize) else { return };
        place.bits = bits;
        place.last_ms = place.last_ms.max(ts_ms);
        data.samples += 1;
        let group = place.column.map(|(group, _, _)| group);
        if let Some((group, column, end)) = &mut place.column {
            let due = data.tick_ms(*group, *end);
            // The first of a scrape brings the tick that the others find; none does while another group ends on it.
            let goes_on = due == Some(ts_ms)
                || due.is_none()
                    && data.last_tick(*group).is_some_and(|(_, last)| ts_ms > last)
                    && !self.ends.contains_key(&ts_ms);
            if goes_on {
                if due.is_none() {
                    push_tick(&mut self.ends, data, *group, ts_ms);
                }
                data.cover(*group, *column, *end, bits);
                *end += 1;
                return;
            }
        }
        let (group, tick) = find_tick(&mut self.ends, data, group, ts_ms);
        let column = data.open_at(group, place.series, tick, bits);
        place.column = Some((group, column, tick + 1));
    }
}

/// A tick at the instant, in the series' group or another, made if there is none.
fn find_tick(
    ends: &mut FxHashMap<i64, GroupId>,
    data: &mut HeadData,
    own: Option<GroupId>,
    ts_ms: i64,
) -> (GroupId, u32) {
    if let Some(&group) = ends.get(&ts_ms)
        && let Some((tick, _)) = data.last_tick(group)
    {
        return (group, tick);
    }
    if let Some(group) = own
        && let Some((last, _)) = data.last_tick(group)
        && let Some(tick) = data.tick_at(group, last, ts_ms)
    {
        return (group, tick);
    }
    let next = data.groups.len();
    let group = GroupId::try_from(next).unwrap_or(GROUP_LAST);
    (group, push_tick(ends, data, group, ts_ms))
}

fn push_tick(ends: &mut FxHashMap<i64, GroupId>, data: &mut HeadData, group: GroupId, ts_ms: i64) -> u32 {
    if let Some((_, last)) = data.last_tick(group)
        && ends.get(&last) == Some(&group)
    {
        ends.remove(&last);
    }
    ends.insert(ts_ms, group);
    data.push_tick(group, ts_ms)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Plays samples of numbered series; gives the head.
    fn play(samples: &[(u32, i64, u64)]) -> (Rows, HeadData) {
        let (mut rows, mut data) = (Rows::default(), HeadData::default());
        let count = samples.iter().map(|(number, _, _)| number + 1).max().unwrap_or(0);
        (0..count).for_each(|number| assert_eq!(rows.add(number + 100), number));
        for &(number, ts, bits) in samples {
            rows.take(&mut data, number, ts, bits);
        }
        (rows, data)
    }

    fn read(data: &HeadData, number: u32) -> Vec<(i64, u64)> {
        let (mut ts, mut values) = (Vec::new(), Vec::new());
        data.samples(number + 100, i64::MIN, i64::MAX, &mut ts, &mut values);
        let mut samples: Vec<_> = ts.into_iter().zip(values.into_iter().map(f64::to_bits)).collect();
        samples.sort_unstable();
        samples
    }

    #[test]
    fn series_scraped_together_share_a_group_and_a_column_each() {
        let scrapes = (0..10).flat_map(|nth| {
            let of = move |number, at: i64| (number, at + nth * 1000, u64::from(number));
            [of(0, 5), of(1, 5), of(2, 7), of(3, 7)]
        });
        let (_, data) = play(&scrapes.collect::<Vec<_>>());
        let mut groups: Vec<_> = data.groups.values().map(|group| (group.ts.len(), group.columns.len())).collect();
        groups.sort_unstable();
        assert_eq!(groups, [(10, 2), (10, 2)]);
        assert_eq!(read(&data, 3).len(), 10);
    }

    #[test]
    fn targets_that_met_once_part_again() {
        let scrapes = (0..10).flat_map(|nth| {
            let of = move |number, drift: i64| (number, nth * (1000 + drift), u64::from(number));
            [of(0, 0), of(1, 0), of(2, 3), of(3, 3)]
        });
        let samples: Vec<_> = scrapes.collect();
        let (_, data) = play(&samples);
        assert_eq!(data.groups.len(), 2);
        assert_eq!(data.groups.values().map(|group| group.columns.len()).sum::<usize>(), 6);
        for number in 0..4 {
            let sent = samples.iter().filter(|(of, _, _)| *of == number).map(|(_, ts, bits)| (*ts, *bits));
            assert_eq!(read(&data, number), sent.collect::<Vec<_>>());
        }
    }

    #[test]
    fn gaps_late_samples_and_repetitions_are_kept_apart() {
        let (rows, data) = play(&[
            (0, 10, 1),
            (1, 10, 1),
            (0, 20, 2),
            (0, 30, 3),
            // Missed one.
            (1, 30, 2),
            // Late, at a tick that is there and at one that is not.
            (1, 20, 9),
            (0, 15, 8),
        ]);
        assert_eq!(read(&data, 0), [(10, 1), (15, 8), (20, 2), (30, 3)]);
        assert_eq!(read(&data, 1), [(10, 1), (20, 9), (30, 2)]);
        assert_eq!(rows.look(&data, 0, 15, 8), Taken::Repeated);
        assert_eq!(rows.look(&data, 0, 15, 7), Taken::Conflicting);
        assert_eq!(rows.look(&data, 0, 16, 7), Taken::Stored);
        assert_eq!(data.samples, 7);
    }
}
