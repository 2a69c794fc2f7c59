//! Silences: matchers with an author, a reason and an end; alerts that match are not told.
//!
//! As in Alertmanager, plus two things: a silence may come again (`recurrence`, its time intervals), and one that has
//! ended is kept for a while, so that it is known who kept what quiet.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::labels::LabelSet;
use crate::limits;
use crate::matchers::{Matcher, all_match};
use crate::routing::interval::TimeInterval;

/// A silence. Its serde form is kept in the state store: new fields need a default.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Silence {
    /// A UUID.
    pub id: String,
    /// Alerts that pass all of them are quiet.
    pub matchers: Vec<Matcher>,
    /// From when, Unix milliseconds.
    pub starts_ms: i64,
    /// Until when.
    pub ends_ms: i64,
    /// Who made it.
    pub created_by: String,
    /// Why.
    pub comment: String,
    /// When it was last changed.
    pub updated_ms: i64,
    /// Between its start and its end it holds only then; always, if there is none.
    #[serde(default)]
    pub recurrence: Vec<TimeInterval>,
}

/// Where a silence stands; Alertmanager's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum SilenceState {
    /// It holds.
    Active,
    /// It will hold.
    Pending,
    /// It has ended.
    Expired,
}

impl SilenceState {
    /// Its word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Pending => "pending",
            Self::Expired => "expired",
        }
    }
}

/// Why a silence was not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SilenceError {
    /// It cannot be as it is.
    #[error("silence invalid: {0}")]
    Invalid(String),
    /// There is none of that id.
    #[error("silence {0} not found")]
    NotFound(String),
    /// There are too many.
    #[error("{} silences are kept already: expire some", limits::SILENCES_MAX)]
    TooMany,
}

impl Silence {
    /// Where it stands.
    #[must_use]
    pub fn state(&self, now_ms: i64) -> SilenceState {
        match () {
            () if now_ms >= self.ends_ms => SilenceState::Expired,
            () if now_ms < self.starts_ms => SilenceState::Pending,
            () if self.recurrence.is_empty() || self.recurrence.iter().any(|time| time.contains(now_ms)) => {
                SilenceState::Active
            }
            () => SilenceState::Pending,
        }
    }

    /// Whether labels pass all matchers.
    #[must_use]
    pub fn matches(&self, labels: &LabelSet) -> bool {
        all_match(&self.matchers, labels)
    }

    fn check(&self) -> Result<(), SilenceError> {
        let invalid = |what: &str| Err(SilenceError::Invalid(what.to_owned()));
        if self.matchers.is_empty() {
            return invalid("at least one matcher required");
        }
        if self.matchers.len() > limits::MATCHERS_MAX {
            return invalid("too many matchers");
        }
        if self.matchers.iter().all(|matcher| matcher.matches_value("")) {
            return invalid(
                "at least one matcher must not match the empty string: this silence would match everything",
            );
        }
        if self.ends_ms <= self.starts_ms {
            return invalid("end time must be after its start");
        }
        if self.created_by.trim().is_empty() || self.comment.trim().is_empty() {
            return invalid("it needs an author (createdBy) and a reason (comment)");
        }
        let bytes = self.created_by.len() + self.comment.len();
        if bytes > limits::SILENCE_TEXT_MAX_BYTES || self.recurrence.len() > limits::RECURRENCES_MAX {
            return invalid("its texts or its times are too long");
        }
        Ok(())
    }
}

/// All silences.
#[derive(Debug, Default)]
pub struct Silences {
    all: BTreeMap<String, Silence>,
}

impl Silences {
    /// Those that were stored.
    #[must_use]
    pub fn restore(stored: Vec<Silence>) -> Self {
        Self { all: stored.into_iter().map(|silence| (silence.id.clone(), silence)).collect() }
    }

    /// Adds a silence, or changes the one of its id; gives what to store. One whose matchers change, or that has
    /// ended, becomes a new one under `new_id`, as in Alertmanager; what it replaces ends.
    ///
    /// # Errors
    /// [`SilenceError`]
    pub fn set(&mut self, mut silence: Silence, new_id: &str, now_ms: i64) -> Result<Vec<Silence>, SilenceError> {
        silence.updated_ms = now_ms;
        silence.check()?;
        if silence.ends_ms <= now_ms {
            return Err(SilenceError::Invalid("end time can't be in the past".to_owned()));
        }
        let mut stored = Vec::new();
        if silence.id.is_empty() {
            silence.id = new_id.to_owned();
        } else {
            let old = self.all.get_mut(&silence.id).ok_or_else(|| SilenceError::NotFound(silence.id.clone()))?;
            let same = old.matchers == silence.matchers && old.state(now_ms) != SilenceState::Expired;
            // One that holds keeps its start.
            if same && now_ms >= old.starts_ms {
                silence.starts_ms = old.starts_ms;
            }
            if !same {
                if old.ends_ms > now_ms {
                    (old.ends_ms, old.updated_ms) = (now_ms, now_ms);
                    stored.push(old.clone());
                }
                silence.id = new_id.to_owned();
            }
        }
        if silence.id == new_id {
            silence.starts_ms = silence.starts_ms.max(now_ms);
            if self.all.len() >= limits::SILENCES_MAX {
                return Err(SilenceError::TooMany);
            }
        }
        self.all.insert(silence.id.clone(), silence.clone());
        stored.push(silence);
        Ok(stored)
    }

    /// Ends a silence now; gives what to store.
    ///
    /// # Errors
    /// [`SilenceError::NotFound`]; [`SilenceError::Invalid`] if it has ended.
    pub fn expire(&mut self, id: &str, now_ms: i64) -> Result<Silence, SilenceError> {
        let silence = self.all.get_mut(id).ok_or_else(|| SilenceError::NotFound(id.to_owned()))?;
        if silence.ends_ms <= now_ms {
            return Err(SilenceError::Invalid(format!("silence {id} already expired")));
        }
        (silence.ends_ms, silence.updated_ms) = (now_ms, now_ms);
        silence.starts_ms = silence.starts_ms.min(now_ms);
        Ok(silence.clone())
    }

    /// Forgets those that ended long ago; gives their ids.
    pub fn forget(&mut self, now_ms: i64) -> Vec<String> {
        let old = |silence: &&Silence| now_ms - silence.ends_ms >= limits::SILENCE_KEPT_MS;
        let ids: Vec<String> = self.all.values().filter(old).map(|silence| silence.id.clone()).collect();
        for id in &ids {
            self.all.remove(id);
        }
        ids
    }

    /// The silence of that id.
    #[must_use]
    pub fn get(&self, id: &str) -> Option<&Silence> {
        self.all.get(id)
    }

    /// Every silence.
    pub fn iter(&self) -> impl Iterator<Item = &Silence> {
        self.all.values()
    }

    /// Whether a silence that holds matches.
    #[must_use]
    pub fn is_silenced(&self, labels: &LabelSet, now_ms: i64) -> bool {
        self.holding(now_ms).any(|silence| silence.matches(labels))
    }

    /// The silences that hold and match.
    #[must_use]
    pub fn silenced_by(&self, labels: &LabelSet, now_ms: i64) -> Vec<String> {
        self.holding(now_ms).filter(|silence| silence.matches(labels)).map(|silence| silence.id.clone()).collect()
    }

    fn holding(&self, now_ms: i64) -> impl Iterator<Item = &Silence> {
        self.all.values().filter(move |silence| silence.state(now_ms) == SilenceState::Active)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::matchers::parse_matchers;

    fn silence(matchers: &str, ends_ms: i64) -> Silence {
        Silence {
            id: String::new(),
            matchers: parse_matchers(matchers).unwrap(),
            starts_ms: 0,
            ends_ms,
            created_by: "ann".into(),
            comment: "disk swap".into(),
            updated_ms: 0,
            recurrence: Vec::new(),
        }
    }

    #[test]
    fn a_silence_holds_until_its_end_or_until_it_is_ended() {
        let mut silences = Silences::default();
        let labels = LabelSet::new([("alertname", "A"), ("instance", "db-1")]);
        silences.set(silence("instance=~db-.*", 2_000), "one", 1_000).unwrap();
        assert!(silences.is_silenced(&labels, 1_000) && !silences.is_silenced(&labels, 2_000));
        assert_eq!(silences.silenced_by(&labels, 1_999), ["one"]);
        assert!(!silences.is_silenced(&LabelSet::new([("instance", "web")]), 1_500));
        let ended = silences.expire("one", 1_500).unwrap();
        assert_eq!((ended.ends_ms, ended.state(1_500)), (1_500, SilenceState::Expired));
        assert!(silences.expire("one", 1_600).is_err() && silences.expire("two", 1_600).is_err());
        assert_eq!(silences.forget(1_500 + limits::SILENCE_KEPT_MS), ["one"]);
    }

    #[test]
    fn other_matchers_make_another_silence() {
        let mut silences = Silences::default();
        silences.set(silence("a=b", 5_000), "one", 1_000).unwrap();
        let longer = Silence { id: "one".into(), ..silence("a=b", 9_000) };
        let stored = silences.set(longer, "two", 2_000).unwrap();
        assert_eq!((&*stored[0].id, stored[0].starts_ms, stored[0].ends_ms), ("one", 1_000, 9_000));
        let other = Silence { id: "one".into(), ..silence("a=c", 9_000) };
        let stored = silences.set(other, "two", 3_000).unwrap();
        assert_eq!((stored[0].ends_ms, &*stored[1].id), (3_000, "two"));
    }

    #[test]
    fn what_would_silence_everything_or_nobody_answers_for_is_refused() {
        let mut silences = Silences::default();
        let mut refused = |silence: Silence| silences.set(silence, "x", 1_000).unwrap_err().to_string();
        assert!(refused(silence("a=~.*", 5_000)).contains("match everything"));
        assert!(refused(silence("", 5_000)).contains("matcher"));
        assert!(refused(silence("a=b", 900)).contains("past"));
        assert!(refused(Silence { comment: " ".into(), ..silence("a=b", 5_000) }).contains("reason"));
        assert!(refused(Silence { id: "none".into(), ..silence("a=b", 5_000) }).contains("not found"));
    }

    #[test]
    fn one_that_comes_again_holds_in_its_times() {
        let json = r#"[{"times":[{"start_time":"02:00","end_time":"04:00"}]}]"#;
        let nightly = Silence { recurrence: serde_json::from_str(json).unwrap(), ..silence("a=b", i64::MAX) };
        assert_eq!(nightly.state(3 * 3_600_000), SilenceState::Active);
        assert_eq!(nightly.state(5 * 3_600_000), SilenceState::Pending);
        assert_eq!(nightly.state(27 * 3_600_000), SilenceState::Active);
    }
}
