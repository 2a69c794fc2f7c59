//! What a line was told of a group: which episodes, how they stood, and where the platform keeps the message.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Change;
use crate::limits;

/// What a line was told, as the state store keeps it: a part of at most [`limits::TOLD_CHUNK`] episodes. New fields
/// need a default.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StoredTold {
    /// The group's number.
    pub group: u64,
    /// The line's name.
    pub line: String,
    /// Which part.
    pub part: usize,
    /// When it was told last.
    pub at_ms: i64,
    /// Where the message is.
    pub place: Option<String>,
    /// Episodes, and whether it heard their end.
    pub episodes: Vec<(u64, bool)>,
}

impl StoredTold {
    /// The key to store it under.
    #[must_use]
    pub fn key(&self) -> String {
        key(self.group, self.part, &self.line)
    }
}

fn key(group: u64, part: usize, line: &str) -> String {
    format!("{group:016x}/{part:04}/{line}")
}

#[derive(Debug, Default)]
pub(super) struct Told {
    pub(super) at_ms: i64,
    pub(super) episodes: BTreeMap<u64, bool>,
    pub(super) place: Option<String>,
    /// Parts that are stored.
    parts: usize,
}

impl Told {
    pub(super) fn restore(&mut self, stored: &StoredTold) {
        self.at_ms = self.at_ms.max(stored.at_ms);
        self.episodes.extend(stored.episodes.iter().copied());
        self.parts = self.parts.max(stored.part + 1);
        if stored.place.is_some() {
            self.place.clone_from(&stored.place);
        }
    }

    /// Its stored form, in parts.
    pub(super) fn stored(&self, group: u64, line: &str) -> Vec<StoredTold> {
        let all: Vec<(u64, bool)> = self.episodes.iter().map(|(number, over)| (*number, *over)).collect();
        let part = |(part, episodes): (usize, &[(u64, bool)])| StoredTold {
            group,
            line: line.to_owned(),
            part,
            at_ms: self.at_ms,
            place: self.place.clone(),
            episodes: episodes.to_vec(),
        };
        all.chunks(limits::TOLD_CHUNK).enumerate().map(part).collect()
    }

    /// How its stored form changes.
    pub(super) fn changes(&mut self, group: u64, line: &str) -> Vec<Change> {
        let mut changes: Vec<Change> = self.stored(group, line).into_iter().map(Change::PutTold).collect();
        let parts = changes.len();
        changes.extend((parts..self.parts).map(|part| Change::RemoveTold(key(group, part, line))));
        self.parts = parts;
        changes
    }
}
