//! What is known of each series, by its number: numbers are given one after another, so that a table of pages is smaller and
//! quicker than one that hashes. A page whose series are all forgotten goes.

use super::{Entry, SeriesId};

/// Series of a page.
const PAGE: usize = 256;

type Page = [Option<Entry>; PAGE];

#[derive(Debug, Default)]
pub(super) struct Entries {
    pages: Vec<Option<Box<Page>>>,
    len: usize,
}

impl Entries {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn get(&self, id: SeriesId) -> Option<&Entry> {
        let (page, at) = place(id);
        self.pages.get(page)?.as_ref()?[at].as_ref()
    }

    pub(super) fn get_mut(&mut self, id: SeriesId) -> Option<&mut Entry> {
        let (page, at) = place(id);
        self.pages.get_mut(page)?.as_mut()?[at].as_mut()
    }

    /// Adds a series that is not there.
    pub(super) fn insert(&mut self, id: SeriesId, entry: Entry) {
        let (page, at) = place(id);
        if page >= self.pages.len() {
            self.pages.resize_with(page + 1, || None);
        }
        let page = self.pages[page].get_or_insert_with(|| Box::new([const { None }; PAGE]));
        page[at] = Some(entry);
        self.len += 1;
    }

    /// Every number, ascending.
    pub(super) fn ids(&self) -> impl Iterator<Item = SeriesId> {
        let pages = self.pages.iter().enumerate().filter_map(|(nth, page)| Some((nth, page.as_ref()?)));
        pages.flat_map(|(nth, page)| {
            let held = page.iter().enumerate().filter(|(_, entry)| entry.is_some());
            held.map(move |(at, _)| (nth * PAGE + at) as SeriesId)
        })
    }

    /// Forgets those that are not to be kept.
    pub(super) fn retain(&mut self, keep: impl Fn(SeriesId) -> bool) {
        for (nth, place) in self.pages.iter_mut().enumerate() {
            let Some(page) = place else { continue };
            for (at, entry) in page.iter_mut().enumerate() {
                if entry.is_some() && !keep((nth * PAGE + at) as SeriesId) {
                    *entry = None;
                    self.len -= 1;
                }
            }
            if page.iter().all(Option::is_none) {
                *place = None;
            }
        }
    }
}

fn place(id: SeriesId) -> (usize, usize) {
    (id as usize / PAGE, id as usize % PAGE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use pitwatch_shared::model::{Labels, MetricType};
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    proptest! {
        #[test]
        fn entries_are_a_map(ids in proptest::collection::btree_set(0..3000_u32, 0..300), divisor in 1..5_u32) {
            let (mut entries, mut model) = (Entries::default(), BTreeMap::new());
            for id in ids {
                let labels = Labels::new([("nth", id.to_string())]).unwrap();
                entries.insert(id, Entry { labels: labels.clone(), kind: MetricType::Gauge, source: id });
                model.insert(id, labels);
            }
            for round in 0..2 {
                prop_assert_eq!(entries.len(), model.len());
                prop_assert!(entries.ids().eq(model.keys().copied()));
                for id in 0..3000 {
                    prop_assert_eq!(entries.get(id).map(|entry| &entry.labels), model.get(&id), "round {}", round);
                    prop_assert_eq!(entries.get_mut(id).map(|entry| entry.source), model.contains_key(&id).then_some(id));
                }
                entries.retain(|id| id % divisor == 0);
                model.retain(|id, _| id % divisor == 0);
            }
            entries.retain(|_| false);
            prop_assert!(entries.pages.iter().all(Option::is_none) && entries.len() == 0);
        }
    }
}
