//! `pitwatch-collector verify`: everything that a collector keeps on disk, or a backup, read and held against its
//! checksums. Nothing is changed, and a collector may be running.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use pitwatch_disk::{Disk, RealDisk};
use serde::Serialize;

use crate::authority::{self, Authority};
use crate::backup::{self, Manifest};
use crate::clock::unix_ms;
use crate::config::Config;
use crate::error_chain;
use crate::listen::keys;
use crate::meter::Meter;
use crate::state::{self, StateError};

/// What was found.
#[derive(Debug, Default, Serialize)]
pub struct Report {
    /// Whether nothing is damaged.
    pub sound: bool,
    /// Files that were read.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Samples that were decoded.
    pub samples: u64,
    /// What is damaged.
    pub damage: Vec<Found>,
    /// What is worth knowing and no damage.
    pub notes: Vec<Found>,
}

/// One place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Found {
    /// The file.
    pub file: String,
    /// Which part of it.
    pub part: String,
    /// What cannot be had any more.
    pub lost: String,
    /// What to do.
    pub advice: String,
}

/// Verifies the data directory of `config`.
///
/// # Errors
/// It cannot be read.
pub fn data_dir(config: &Config, meter: &mut Meter) -> anyhow::Result<Report> {
    let dir = &config.data_dir;
    let mut report = Report::default();
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    let mut show = |progress: pitwatch_history::Progress| meter.show(progress.bytes, progress.total_bytes);
    let history = pitwatch_history::verify(&disk, &dir.join("history"), &mut show)?;
    report.files = history.files;
    report.bytes = history.bytes;
    report.samples = history.samples;
    report.damage.extend(history.damage.into_iter().map(Found::from));
    report.notes.extend(history.notes.into_iter().map(Found::from));
    check_authority(dir, &mut report);
    check_state(config, &mut report);
    report.sound = report.damage.is_empty();
    Ok(report)
}

/// Verifies a backup.
///
/// # Errors
/// It has no manifest that can be used.
pub fn backup(dir: &Path, meter: &mut Meter) -> anyhow::Result<Report> {
    let manifest = Manifest::read(dir)?;
    let checked = backup::check(dir, &manifest, meter);
    let damage = checked.damaged.into_iter().map(|(path, wrong)| Found {
        file: path.display().to_string(),
        part: wrong,
        lost: "the file".to_owned(),
        advice: "back up again, into an empty directory if the file is not the collector's any more".to_owned(),
    });
    let damage: Vec<Found> = damage.collect();
    let sound = damage.is_empty();
    Ok(Report { sound, files: checked.files, bytes: checked.bytes, damage, ..Report::default() })
}

impl Report {
    /// For people: the damaged places as a table, then a line that says it all.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut out = String::new();
        for (title, found) in [("DAMAGED", &self.damage), ("NOTE", &self.notes)] {
            table(title, found, &mut out);
        }
        let verdict = match self.damage.len() {
            0 => "sound".to_owned(),
            1 => "1 damaged place".to_owned(),
            places => format!("{places} damaged places"),
        };
        let samples = if self.samples > 0 { format!(", {} samples", self.samples) } else { String::new() };
        let _ = writeln!(out, "{verdict}: {} files, {} bytes{samples}", self.files, self.bytes);
        out
    }
}

fn table(title: &str, found: &[Found], out: &mut String) {
    if found.is_empty() {
        return;
    }
    let title = [title, "PART", "LOST", "WHAT TO DO"];
    let rows = found.iter().map(|found| [&*found.file, &*found.part, &*found.lost, &*found.advice]);
    let rows: Vec<[&str; 4]> = std::iter::once(title).chain(rows).collect();
    let width = |at: usize| rows.iter().map(|row| row[at].chars().count()).max().unwrap_or(0);
    let widths = [width(0), width(1), width(2)];
    for row in &rows {
        for (cell, width) in row.iter().zip(widths) {
            let _ = write!(out, "{cell:width$}  ");
        }
        let _ = writeln!(out, "{}", row[3]);
    }
}

fn check_authority(dir: &Path, report: &mut Report) {
    let path = dir.join(authority::FILE);
    if !path.exists() {
        report.damage.push(Found::whole(&path, "it is missing", "restore it from a backup: every agent trusts it"));
    } else if let Err(error) = Authority::open(dir, unix_ms() / 1000) {
        let advice = "restore it from a backup: every agent trusts it";
        report.damage.push(Found::whole(&path, &error_chain(&error), advice));
    }
    report.files += 1;
    let path = dir.join(keys::FILE);
    let advice = "nothing: the next start makes it anew, and agents notice that start a little later";
    match fs::read(&path) {
        Ok(key) if key.len() == keys::BYTES => report.files += 1,
        Ok(key) => report.damage.push(Found::whole(&path, &format!("it has {} bytes", key.len()), advice)),
        Err(error) => report.damage.push(Found::whole(&path, &error.to_string(), advice)),
    }
}

/// Opening the state checks every page of it; reading it checks that what is there can be had.
fn check_state(config: &Config, report: &mut Report) {
    let dir = config.data_dir.join("state");
    let advice = "restore from a backup, or move it away to begin with an empty state: agents enrol anew";
    if !dir.exists() {
        report.damage.push(Found::whole(&dir, "it is missing", advice));
        return;
    }
    let opened = state::open(config.state, &dir).and_then(|state| {
        let bytes = state.size_bytes()?;
        state.records().map(|_| bytes)
    });
    match opened {
        Ok(bytes) => {
            report.files += 1;
            report.bytes += bytes;
        }
        Err(StateError::InUse { .. }) => {
            let (part, advice) = ("it is in use by the running collector", "nothing: it was checked at the start");
            report.notes.push(Found { lost: "nothing".to_owned(), ..Found::whole(&dir, part, advice) });
        }
        Err(error) => report.damage.push(Found::whole(&dir, &error_chain(&error), advice)),
    }
}

impl Found {
    fn whole(path: &Path, part: &str, advice: &str) -> Self {
        Self {
            file: path.display().to_string(),
            part: part.to_owned(),
            lost: "the file".to_owned(),
            advice: advice.to_owned(),
        }
    }
}

impl From<pitwatch_history::Damage> for Found {
    fn from(damage: pitwatch_history::Damage) -> Self {
        let file = damage.path.map_or_else(|| "the log".to_owned(), |path| path.display().to_string());
        Self { file, part: damage.part, lost: damage.lost, advice: damage.advice.to_owned() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn damage_is_a_table_and_a_verdict() {
        let mut report = Report { sound: true, files: 3, bytes: 4096, samples: 120, ..Report::default() };
        assert_eq!(report.to_text(), "sound: 3 files, 4096 bytes, 120 samples\n");
        report.damage.push(Found::whole(Path::new("/a/b.blk"), "the footer", "restore it"));
        assert_eq!(
            report.to_text(),
            "DAMAGED   PART        LOST      WHAT TO DO\n/a/b.blk  the footer  the file  restore it\n\
             1 damaged place: 3 files, 4096 bytes, 120 samples\n"
        );
    }
}
