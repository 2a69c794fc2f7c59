//! Reading a TOML text key by key, so that every mistake in it is told at once, each with its line.
//!
//! It owns where a mistake is and how it reads, and the units of durations and sizes; which keys there are, and what
//! they may be, is each program's matter.

pub mod units;

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// One mistake: where, which key, what is wrong, what is allowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The file, or the environment variable.
    pub place: PathBuf,
    /// The line in the file, from 1, if the mistake is at one.
    pub line: Option<usize>,
    /// The key with its table, or nothing where the file is no TOML.
    pub key: String,
    /// What is wrong and what is allowed.
    pub what: String,
}

impl fmt::Display for Problem {
    /// `file:line: key: what is wrong; what is allowed`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.place.display())?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        if !self.key.is_empty() {
            write!(f, ": {}", self.key)?;
        }
        write!(f, ": {}", self.what)
    }
}

/// Mistakes as people read them: a line each.
#[must_use]
pub fn lines(problems: &[Problem]) -> String {
    problems.iter().map(Problem::to_string).collect::<Vec<_>>().join("\n")
}

/// A file's text, and the mistakes found in it so far.
#[derive(Debug)]
pub struct Reader<'t> {
    text: &'t str,
    file: &'t Path,
    /// The mistakes.
    pub problems: Vec<Problem>,
}

impl<'t> Reader<'t> {
    /// The file's tables, as far as it is TOML; where it is not is a problem each.
    pub fn new(text: &'t str, file: &'t Path) -> (Self, DeTable<'t>) {
        let mut reader = Self { text, file, problems: Vec::new() };
        let (table, errors) = DeTable::parse_recoverable(text);
        for error in errors {
            let message = error.message().replace('\n', ", ");
            reader.note(error.span(), String::new(), format!("not TOML: {message}"));
        }
        (reader, table.into_inner())
    }

    /// Notes a mistake.
    pub fn note(&mut self, span: Option<Range<usize>>, key: String, what: String) {
        let before = span.and_then(|span| self.text.as_bytes().get(..span.start));
        let line = before.map(|before| 1 + before.iter().filter(|byte| **byte == b'\n').count());
        self.problems.push(Problem { place: self.file.to_owned(), line, key, what });
    }

    /// Notes a mistake in an environment variable.
    pub fn note_variable(&mut self, name: &str, what: String) {
        self.problems.push(Problem { place: name.into(), line: None, key: String::new(), what });
    }
}

/// A table of the file, with the keys that were not asked for yet.
#[derive(Debug)]
pub struct Section<'t> {
    path: String,
    left: DeTable<'t>,
    /// Every key asked for, for the message about one that there is not.
    asked: Vec<&'static str>,
}

impl<'t> Section<'t> {
    /// The table called `path`, or the top one.
    #[must_use]
    pub fn new(path: &str, left: DeTable<'t>) -> Self {
        Self { path: path.to_owned(), left, asked: Vec::new() }
    }

    fn key(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    fn take(&mut self, key: &'static str) -> Option<Spanned<DeValue<'t>>> {
        self.asked.push(key);
        self.left.remove(key)
    }

    /// Whether something stands at `key`.
    #[must_use]
    pub fn has(&self, key: &str) -> bool {
        self.left.contains_key(key)
    }

    /// Puts another file's tables below this one's, those of `names` only: a key of theirs is taken where this one has none.
    pub fn put_below(&mut self, below: DeTable<'t>, names: &[&str]) {
        for (name, value) in below {
            let known: &str = name.get_ref();
            if !names.contains(&known) {
                continue;
            }
            if !self.left.contains_key(known) {
                self.left.insert(name, value);
                continue;
            }
            if let Some(DeValue::Table(own)) = self.left.get_mut(known).map(Spanned::get_mut)
                && let DeValue::Table(theirs) = value.into_inner()
            {
                for (key, value) in theirs {
                    let known: &str = key.get_ref();
                    if !own.contains_key(known) {
                        own.insert(key, value);
                    }
                }
            }
        }
    }

    /// The table at `key`, empty if there is none.
    pub fn table(&mut self, reader: &mut Reader<'_>, key: &'static str) -> Section<'t> {
        let table = self.take(key).and_then(|value| {
            let span = value.span();
            match value.into_inner() {
                DeValue::Table(table) => Some(table),
                other => {
                    reader.note(Some(span), self.key(key), wrong_type(&other, &format!("a table, [{key}]")));
                    None
                }
            }
        });
        Section::new(&self.key(key), table.unwrap_or_default())
    }

    /// The value at `key`, read by `parse`; `None` if there is none or it is wrong, which is noted.
    ///
    /// `allowed` ends the message of a value that is wrong.
    pub fn value<T>(
        &mut self,
        reader: &mut Reader<'_>,
        key: &'static str,
        allowed: &str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        let value = self.take(key)?;
        let parsed = match value.get_ref() {
            DeValue::String(text) => parse(text).map_err(|wrong| format!("{wrong}; {allowed}")),
            other => Err(wrong_type(other, &format!("a string: {allowed}"))),
        };
        parsed.map_err(|what| reader.note(Some(value.span()), self.key(key), what)).ok()
    }

    /// The switch at `key`.
    pub fn flag(&mut self, reader: &mut Reader<'_>, key: &'static str) -> Option<bool> {
        let value = self.take(key)?;
        match value.get_ref() {
            DeValue::Boolean(flag) => Some(*flag),
            other => {
                reader.note(Some(value.span()), self.key(key), wrong_type(other, "true or false"));
                None
            }
        }
    }

    /// Every table of a table whose keys are the operator's own, with its name and where that stands.
    pub fn tables(self, reader: &mut Reader<'_>) -> Vec<(Range<usize>, String, Section<'t>)> {
        let mut tables = Vec::new();
        for (key, value) in self.left {
            let name = key.get_ref().to_string();
            let path = format!("{}.{name}", self.path);
            let span = value.span();
            match value.into_inner() {
                DeValue::Table(table) => tables.push((key.span(), name, Section::new(&path, table))),
                other => reader.note(Some(span), path, wrong_type(&other, "a table")),
            }
        }
        tables
    }

    /// The whole number at `key`, if it is within `range`.
    pub fn number(&mut self, reader: &mut Reader<'_>, key: &'static str, range: Range<u64>) -> Option<u64> {
        let value = self.take(key)?;
        let allowed = format!("a whole number from {} to {}", range.start, range.end - 1);
        let parsed = match value.get_ref() {
            DeValue::Integer(number) => u64::from_str_radix(number.as_str(), number.radix())
                .ok()
                .filter(|number| range.contains(number))
                .ok_or_else(|| format!("{number} is out of range; {allowed}")),
            other => Err(wrong_type(other, &allowed)),
        };
        parsed.map_err(|what| reader.note(Some(value.span()), self.key(key), what)).ok()
    }

    /// The duration at `key`, if it is within `range`, both ends included.
    pub fn duration(
        &mut self,
        reader: &mut Reader<'_>,
        key: &'static str,
        (least, most): (Duration, Duration),
    ) -> Option<Duration> {
        let (from, to) = (units::of_duration(least), units::of_duration(most));
        let allowed = format!("give {from} to {to}, in ms, s, m, h or d");
        self.value(reader, key, &allowed, |text| {
            let duration = units::duration(text).ok_or_else(|| format!("{text:?} is no duration"))?;
            if (least..=most).contains(&duration) { Ok(duration) } else { Err(format!("{text:?} is out of range")) }
        })
    }

    /// The size in bytes at `key`, if it is within `range`, both ends included.
    pub fn bytes(&mut self, reader: &mut Reader<'_>, key: &'static str, (least, most): (u64, u64)) -> Option<u64> {
        let (from, to) = (units::of_bytes(least), units::of_bytes(most));
        let allowed = format!("give {from} to {to}, in KiB, MiB, GiB or TiB");
        self.value(reader, key, &allowed, |text| {
            let bytes = units::bytes(text).ok_or_else(|| format!("{text:?} is no size"))?;
            if (least..=most).contains(&bytes) { Ok(bytes) } else { Err(format!("{text:?} is out of range")) }
        })
    }

    /// The strings of the array at `key`, each read by `parse`; those that are wrong are noted and left out.
    pub fn list<T>(
        &mut self,
        reader: &mut Reader<'_>,
        key: &'static str,
        allowed: &str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Vec<T> {
        let Some(value) = self.take(key) else { return Vec::new() };
        let DeValue::Array(items) = value.get_ref() else {
            let what = wrong_type(value.get_ref(), &format!("an array of strings: {allowed}"));
            reader.note(Some(value.span()), self.key(key), what);
            return Vec::new();
        };
        let mut list = Vec::new();
        for item in items {
            let parsed = match item.get_ref() {
                DeValue::String(text) => parse(text).map_err(|wrong| format!("{wrong}; {allowed}")),
                other => Err(wrong_type(other, &format!("a string: {allowed}"))),
            };
            match parsed {
                Ok(item) => list.push(item),
                Err(what) => reader.note(Some(item.span()), self.key(key), what),
            }
        }
        list
    }

    /// Every key of a table whose keys are the operator's own, with its text.
    pub fn texts(self, reader: &mut Reader<'_>) -> Vec<(Range<usize>, String, String)> {
        let mut texts = Vec::new();
        for (key, value) in self.left {
            let name = key.get_ref().to_string();
            match value.get_ref() {
                DeValue::String(text) => texts.push((key.span(), name, text.to_string())),
                other => {
                    reader.note(Some(value.span()), format!("{}.{name}", self.path), wrong_type(other, "a string"));
                }
            }
        }
        texts
    }

    /// Ends the section: what was not asked for is a mistake each.
    pub fn end(self, reader: &mut Reader<'_>) {
        for (key, _) in &self.left {
            let near = self.asked.iter().find(|asked| near(asked, key.get_ref()));
            let hint = near.map(|asked| format!(", perhaps {asked}")).unwrap_or_default();
            let what = format!("there is no such key{hint}; allowed are {}", self.asked.join(", "));
            reader.note(Some(key.span()), self.key(key.get_ref()), what);
        }
    }
}

fn wrong_type(value: &DeValue<'_>, allowed: &str) -> String {
    let what = match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a number with a fraction",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    };
    format!("is {what}; it must be {allowed}")
}

/// Whether a key was likely meant by another: one edit apart, or the same but for case and dashes.
fn near(meant: &str, written: &str) -> bool {
    let plain = |text: &str| text.replace('-', "_").to_ascii_lowercase();
    let (a, b) = (plain(meant).into_bytes(), plain(written).into_bytes());
    let same_head = a.iter().zip(&b).take_while(|(x, y)| x == y).count();
    let same_tail = a[same_head..].iter().rev().zip(b[same_head..].iter().rev()).take_while(|(x, y)| x == y).count();
    a.len().max(b.len()) - same_head - same_tail <= 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_one_edit_apart_is_near() {
        for written in ["cadence", "Cadence", "cadenc", "caadence", "cadense"] {
            assert!(near("cadence", written), "{written}");
        }
        assert!(near("data_dir", "data-dir"));
        assert!(!near("cadence", "kadense"));
        assert!(!near("name", "queue"));
    }
}
