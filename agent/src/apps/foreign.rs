//! Series of other programs in a table: by the text with which they are exposed.
//!
//! At steady state a sample costs one look-up and allocates nothing: what the rules make of a series is remembered by its text.

use std::collections::HashMap;

use super::exposition::{Malformed, Sample, Timestamps, parse};
use super::names::{Namer, metric_name, of_kind};
use super::rules::Rules;
use crate::signals::{Handle, Table};

/// Samples looked at for each series that may be kept.
const SAMPLES_PER_SERIES: usize = 10;

/// What became of a text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Taken {
    /// Samples of the text.
    pub(crate) samples: usize,
    /// Of them, those that the rules keep.
    pub(crate) kept: usize,
    /// Series that were not there the last time.
    pub(crate) added: usize,
    /// Series beyond the limit.
    pub(crate) refused: usize,
}

/// The series of one program.
#[derive(Debug)]
pub(crate) struct Foreign {
    namer: Namer,
    rules: Rules,
    timestamps: Timestamps,
    series_max: usize,
    known: HashMap<Box<str>, Known>,
    pass: u32,
}

#[derive(Debug)]
struct Known {
    /// None if the rules drop it.
    handle: Option<Handle>,
    pass: u32,
}

impl Foreign {
    pub(crate) fn new(namer: Namer, rules: Rules, timestamps: Timestamps, series_max: usize) -> Self {
        Self { namer, rules, timestamps, series_max, known: HashMap::new(), pass: 0 }
    }

    /// Begins a pass over texts.
    pub(crate) fn begin(&mut self) {
        self.pass = self.pass.wrapping_add(1);
    }

    /// Puts a text's samples into the table, all or none of them.
    pub(crate) fn take(&mut self, text: &[u8], table: &mut Table, taken: &mut Taken) -> Result<(), Malformed> {
        let text = std::str::from_utf8(text).map_err(|error| {
            let good = text.get(..error.valid_up_to()).unwrap_or_default();
            Malformed { line: good.iter().filter(|byte| **byte == b'\n').count() + 1, what: "it is no UTF-8" }
        })?;
        let mut samples = Vec::new();
        // What the rules drop must not use up the room of what they keep, up to a bound on memory.
        let count = parse(text, self.timestamps, self.series_max.saturating_mul(SAMPLES_PER_SERIES), &mut samples)?;
        taken.samples += count;
        taken.refused += count - samples.len();
        for sample in &samples {
            self.sample(sample, table, taken);
        }
        Ok(())
    }

    /// Ends a pass: series that did not come are forgotten.
    pub(crate) fn end(&mut self) {
        let pass = self.pass;
        self.known.retain(|_, known| known.pass == pass);
    }

    fn sample(&mut self, sample: &Sample<'_>, table: &mut Table, taken: &mut Taken) {
        if let Some(known) = self.known.get_mut(sample.series) {
            known.pass = self.pass;
            if let Some(handle) = &mut known.handle {
                if taken.kept >= self.series_max {
                    taken.refused += 1;
                    return;
                }
                taken.kept += 1;
                // Name and labels are asked for only if the table has let the series go.
                match handle.is_live(table) {
                    true => table.set_named(handle, of_kind(sample.kind), "", &[], sample.value),
                    false => set(&self.namer, &self.rules, handle, sample, table),
                }
            }
            return;
        }
        let dropped = self.rules.name(sample.name).is_none();
        if !dropped && taken.kept >= self.series_max {
            taken.refused += 1;
            return;
        }
        let mut known = Known { handle: None, pass: self.pass };
        if !dropped {
            taken.kept += 1;
            taken.added += 1;
            let handle = known.handle.insert(Handle::default());
            set(&self.namer, &self.rules, handle, sample, table);
        }
        self.known.insert(sample.series.into(), known);
    }
}

fn set(namer: &Namer, rules: &Rules, handle: &mut Handle, sample: &Sample<'_>, table: &mut Table) {
    let Some(name) = rules.name(sample.name).and_then(|name| metric_name(&name)) else { return };
    let labels: Vec<(String, String)> = sample
        .labels()
        .filter(|(name, _)| !rules.drop_labels.iter().any(|dropped| dropped == name))
        .map(|(name, value)| (namer.label(name), value))
        .collect();
    let labels: Vec<(&str, &str)> = labels.iter().map(|(name, value)| (&**name, &**value)).collect();
    table.set_named(handle, of_kind(sample.kind), &name, &labels, sample.value);
}

#[cfg(test)]
mod tests {
    use super::super::rules::Pattern;
    use super::*;

    fn take(foreign: &mut Foreign, table: &mut Table, text: &str) -> (Result<(), Malformed>, Taken, Vec<String>) {
        let mut taken = Taken::default();
        table.begin();
        foreign.begin();
        let done = foreign.take(text.as_bytes(), table, &mut taken);
        foreign.end();
        table.end();
        let mut lines: Vec<String> =
            table.live().map(|def| format!("{} {}", def.labels, table.values()[def.slot as usize])).collect();
        lines.sort();
        (done, taken, lines)
    }

    #[test]
    fn series_come_stay_and_go() {
        let host = [("job".to_owned(), "app".to_owned())];
        let rules = Rules {
            drop: vec![Pattern::new("go_*").unwrap()],
            rename: vec![(Pattern::new("x_*").unwrap(), "y_*".to_owned())],
            drop_labels: vec!["pod".into()],
            ..Rules::default()
        };
        let (mut foreign, mut table) =
            (Foreign::new(Namer::new(&host), rules, Timestamps::Ignored, 3), Table::new(&host));
        let text = "go_x 1\nx_a{job=\"j\",pod=\"p\"} 1\nb 2\n";
        let (done, taken, lines) = take(&mut foreign, &mut table, text);
        assert_eq!((done, taken), (Ok(()), Taken { samples: 3, kept: 2, added: 2, refused: 0 }));
        assert_eq!(lines, ["b{job=\"app\"} 2", "y_a{exported_job=\"j\",job=\"app\"} 1"]);
        let (_, taken, lines) = take(&mut foreign, &mut table, "b 3\n");
        assert_eq!((taken.added, lines), (0, vec!["b{job=\"app\"} 3".to_owned()]));
        let (done, _, lines) = take(&mut foreign, &mut table, "b 4\n{");
        assert_eq!((done.unwrap_err().line, lines), (2, vec![]), "half a text is no text");
        let (_, taken, lines) = take(&mut foreign, &mut table, "b 5\nc 1\nd 1\ne 1\nf 1\n");
        assert_eq!((taken.kept, taken.refused, lines.len()), (3, 2, 3));
        assert_eq!(foreign.take(b"a 1\n\xff", &mut table, &mut Taken::default()).unwrap_err().line, 2);
    }
}
