//! Lines out: the first or the last ones of a time range, of the streams that matchers mean, with what their text must have.
//!
//! Chunks are taken in the order of time, each only if its filter lets it pass, until what is found cannot be bettered:
//! memory is that of the answer and of one chunk.

use std::collections::BinaryHeap;
use std::sync::{Arc, Mutex};

use pitwatch_shared::model::Labels;

use super::chunk::{Chunk, Line, Lines, Span};
use super::filter;
use super::format::Place;
use super::store::{Indexed, LogStore, Memory, View, lock};
use super::{ANSWER_BYTES_MAX, ANSWER_LINES_MAX, LogError};
use crate::history::read;
use crate::index::SeriesId;
use crate::matchers::Matcher;

/// What a line's text must have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Needle {
    /// This text, wherever. Only the words that it holds from end to end narrow the search.
    Text(String),
    /// This text, with no further letter, digit, `_` or byte above ASCII at its ends: an id, an address, a phrase. All its
    /// words narrow the search.
    Words(String),
}

/// Which lines come first, and are kept where there are more than the limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// The oldest.
    Forward,
    /// The newest.
    Backward,
}

/// A question.
#[derive(Clone, Debug)]
pub struct Query<'a> {
    /// Of which streams.
    pub matchers: &'a [Matcher],
    /// Not before this, nanoseconds since the Unix epoch.
    pub start_ns: i64,
    /// Before this.
    pub end_ns: i64,
    /// What the text must have, all of it.
    pub needles: &'a [Needle],
    /// Most lines; at most [`ANSWER_LINES_MAX`] are given.
    pub limit: usize,
    /// From which end.
    pub direction: Direction,
}

/// Lines, and what it took to find them.
#[derive(Clone, Debug, Default)]
pub struct Answer {
    /// In the order of the direction.
    pub lines: Vec<(Labels, Line)>,
    /// There were more lines than fit into [`ANSWER_BYTES_MAX`].
    pub is_cut: bool,
    /// Chunks of the streams in the time range.
    pub chunks: usize,
    /// Of those, chunks that were unpacked.
    pub unpacked: usize,
}

impl Needle {
    fn is_in(&self, line: &str) -> bool {
        match self {
            Self::Text(text) => line.contains(&**text),
            Self::Words(text) => line.match_indices(&**text).any(|(at, found)| {
                let bytes = line.as_bytes();
                let joins = |before: Option<&u8>, after: Option<&u8>| {
                    before.zip(after).is_some_and(|(a, b)| filter::is_word(*a) && filter::is_word(*b))
                };
                let end = at + found.len();
                let begins = at.checked_sub(1).and_then(|before| bytes.get(before));
                !joins(begins, bytes.get(at)) && !joins(bytes.get(end.wrapping_sub(1)), bytes.get(end))
            }),
        }
    }

    /// Hashes of the words that a line must have if it has the needle.
    fn hashes(&self) -> Vec<u64> {
        let (Self::Text(text) | Self::Words(text)) = self;
        let whole = |from: usize, word: &str| match self {
            Self::Words(_) => true,
            // A word at an end may be a part of a longer one.
            Self::Text(_) => from > 0 && from + word.len() < text.len(),
        };
        filter::words(text).filter(|(from, word)| whole(*from, word)).map(|(_, word)| filter::hash(word)).collect()
    }
}

/// Where a chunk is.
enum Source {
    Memory(Arc<Chunk>),
    File(Arc<Indexed>, Place),
}

struct Candidate {
    stream: SeriesId,
    /// In the order in which lines of one stream and one time came.
    order: u64,
    min_ts: i64,
    max_ts: i64,
    source: Source,
}

/// By time in the direction, then stream, then the order of arrival.
type Rank = (i64, SeriesId, u64);

struct Found<'q> {
    query: &'q Query<'q>,
    limit: usize,
    bytes: usize,
    is_cut: bool,
    /// The last in rank on top.
    best: BinaryHeap<(Rank, String)>,
}

impl Found<'_> {
    fn rank(&self, ts: i64, stream: SeriesId, order: u64) -> Rank {
        match self.query.direction {
            Direction::Forward => (ts, stream, order),
            // Negation without overflow.
            Direction::Backward => (!ts, stream, !order),
        }
    }

    fn is_full(&self) -> bool {
        self.best.len() >= self.limit || self.is_cut
    }

    fn is_wanted(&self, rank: &Rank) -> bool {
        !self.is_full() || self.best.peek().is_some_and(|(last, _)| rank < last)
    }

    fn take(&mut self, stream: SeriesId, order: u64, ts: i64, text: &str) {
        if ts < self.query.start_ns || ts >= self.query.end_ns {
            return;
        }
        let rank = self.rank(ts, stream, order);
        if !self.is_wanted(&rank) || !self.query.needles.iter().all(|needle| needle.is_in(text)) {
            return;
        }
        self.bytes += text.len();
        self.best.push((rank, text.to_owned()));
        while self.best.len() > self.limit || self.bytes > ANSWER_BYTES_MAX {
            self.is_cut |= self.best.len() <= self.limit;
            let Some((_, gone)) = self.best.pop() else { break };
            self.bytes -= gone.len();
        }
    }
}

impl LogStore {
    /// The lines that a query asks for.
    ///
    /// # Errors
    /// A file that is damaged or cannot be read; it names the file and the part.
    pub fn query(&self, query: &Query<'_>) -> Result<Answer, LogError> {
        let limit = query.limit.min(ANSWER_LINES_MAX);
        let mut answer = Answer::default();
        if limit == 0 || query.start_ns >= query.end_ns {
            return Ok(answer);
        }
        let mut found = Found { query, limit, bytes: 0, is_cut: false, best: BinaryHeap::new() };
        let mut candidates = self.candidates(query, &mut found);
        answer.chunks = candidates.len();
        match query.direction {
            Direction::Forward => candidates.sort_by_key(|candidate| candidate.min_ts),
            Direction::Backward => candidates.sort_by_key(|candidate| !candidate.max_ts),
        }
        let words: Vec<u64> = query.needles.iter().flat_map(Needle::hashes).collect();
        for candidate in candidates {
            let nearest = match query.direction {
                Direction::Forward => candidate.min_ts,
                Direction::Backward => candidate.max_ts,
            };
            // No line of this chunk or of a later one can stand before what is found.
            if found.is_full() && !found.is_wanted(&(found.rank(nearest, 0, 0).0, 0, 0)) {
                break;
            }
            let Some(lines) = candidate.unpack(&words)? else { continue };
            answer.unpacked += 1;
            let has = |needle: &Needle| {
                let (Needle::Text(text) | Needle::Words(text)) = needle;
                lines.text().contains(&**text)
            };
            if query.needles.iter().all(has) {
                for (at, (ts, text)) in lines.iter().enumerate() {
                    found.take(candidate.stream, candidate.order + at as u64, ts, text);
                }
            }
        }
        answer.is_cut = found.is_cut;
        let index = read(&self.index);
        for ((ts, stream, _), text) in found.best.into_sorted_vec() {
            let ts_ns = if query.direction == Direction::Forward { ts } else { !ts };
            let Some(labels) = index.labels(stream) else { continue };
            answer.lines.push((labels.clone(), Line { ts_ns, text }));
        }
        Ok(answer)
    }

    /// The streams that matchers mean and that have lines in the range.
    #[must_use]
    pub fn streams(&self, matchers: &[Matcher], start_ns: i64, end_ns: i64) -> Vec<Labels> {
        let overlaps = |min_ts, max_ts| min_ts < end_ns && max_ts >= start_ns;
        let view = read(&self.view);
        let index = read(&self.index);
        let has = |id: &SeriesId| {
            let mut files = view.files.iter().filter_map(|file| file.chunks.get(id)).flatten();
            files.any(|place| overlaps(place.span.min_ts, place.span.max_ts))
                || view.memories(*id).any(|memory| {
                    let memory = lock(memory);
                    let mut closed = memory.closed.iter();
                    closed.any(|chunk| overlaps(chunk.span.min_ts, chunk.span.max_ts))
                        || memory.open.lines().any(|(ts, _)| overlaps(ts, ts))
                })
        };
        let ids = index.select(matchers).into_iter().filter(has);
        ids.filter_map(|id| index.labels(id).cloned()).collect()
    }

    /// The chunks to look into; lines of no chunk are looked at here.
    fn candidates(&self, query: &Query<'_>, found: &mut Found<'_>) -> Vec<Candidate> {
        let overlaps = |span: &Span| span.min_ts < query.end_ns && span.max_ts >= query.start_ns;
        let view = read(&self.view);
        let ids = read(&self.index).select(query.matchers);
        let mut candidates = Vec::new();
        for stream in ids {
            let mut order = 0;
            let mut add = |order: &mut u64, span: &Span, source: &dyn Fn() -> Source| {
                if overlaps(span) {
                    candidates.push(Candidate {
                        stream,
                        order: *order,
                        min_ts: span.min_ts,
                        max_ts: span.max_ts,
                        source: source(),
                    });
                }
                *order += span.lines as u64;
            };
            for file in &view.files {
                for place in file.chunks.get(&stream).into_iter().flatten() {
                    add(&mut order, &place.span, &|| Source::File(file.clone(), *place));
                }
            }
            for memory in view.memories(stream) {
                let memory = lock(memory);
                for chunk in &memory.closed {
                    add(&mut order, &chunk.span, &|| Source::Memory(chunk.clone()));
                }
                for (ts, text) in memory.open.lines() {
                    found.take(stream, order, ts, text);
                    order += 1;
                }
            }
        }
        candidates
    }
}

impl Candidate {
    /// Its lines, unless its filter says that one of the words is not in them.
    fn unpack(&self, words: &[u64]) -> Result<Option<Lines>, LogError> {
        let passes = |filter: &[u8]| words.iter().all(|hash| filter::may_have(filter, *hash));
        match &self.source {
            Source::Memory(chunk) if !passes(&chunk.filter) => Ok(None),
            // It was packed here and has been in memory ever since.
            Source::Memory(chunk) => Ok(Lines::unpack(&chunk.data, &chunk.span).ok()),
            Source::File(file, place) => {
                if !words.is_empty() && !passes(&file.file.filter(place)?) {
                    return Ok(None);
                }
                file.file.lines(place).map(Some)
            }
        }
    }
}

impl View {
    /// A stream's lines in memory, the older first.
    fn memories(&self, stream: SeriesId) -> impl Iterator<Item = &Mutex<Memory>> {
        let frozen = self.frozen.iter().filter_map(move |frozen| frozen.head.get(&stream));
        frozen.chain(self.head.get(&stream)).map(|memory| &**memory)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn needles_are_text_or_whole_words() {
        let line = "GET /pay/8f3a-77 from 10.1.2.30";
        let text = |needle: &str| Needle::Text(needle.to_owned()).is_in(line);
        let words = |needle: &str| Needle::Words(needle.to_owned()).is_in(line);
        assert!(text("8f3") && text("") && text("0.1.2.3") && !text("8F3a"));
        assert!(words("8f3a-77") && words("8f3a") && words("/pay/") && words("10.1.2.30"));
        assert!(!words("8f3") && !words("10.1.2.3") && !words("ay/8f3a"));
        assert!(words("77 from 10") && words(" from "));
    }

    #[test]
    fn only_words_that_must_be_there_narrow_a_search() {
        let count = |needle: Needle| needle.hashes().len();
        assert_eq!(count(Needle::Text("8f3a77".to_owned())), 0);
        assert_eq!(count(Needle::Text("abc def ghi".to_owned())), 1);
        assert_eq!(count(Needle::Text("/abc/".to_owned())), 1);
        assert_eq!(count(Needle::Words("abc def ghi x".to_owned())), 3);
    }
}
