//! A configuration that changes while the agent runs: noticed, checked, and taken or refused.
//!
//! The file is looked at every few seconds, and at once after SIGHUP. A file with a mistake changes nothing: the
//! configuration before goes on, and the mistake is told in the log, by a metric and as an event.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::config::Config;
use crate::events::{EventKind, Happening};

/// The file is looked at at every so many calls of [`Reloader::look`].
const STAT_EVERY: u32 = 5;

/// How reading anew went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReloadCounts {
    /// The last configuration that was found is in force.
    pub successful: bool,
    /// When one was last taken, milliseconds since the Unix epoch.
    pub taken_ms: i64,
    /// How many were refused.
    pub refused: u64,
}

impl Default for ReloadCounts {
    fn default() -> Self {
        Self { successful: true, taken_ms: 0, refused: 0 }
    }
}

/// Watches the file.
pub struct Reloader {
    path: PathBuf,
    wanted: Arc<AtomicBool>,
    seen: Option<Stamp>,
    looks: u32,
    counts: ReloadCounts,
}

/// What tells a file from its successor: device, number, size, and when it changed.
type Stamp = (u64, u64, u64, i64, i64);

/// What a look came to.
#[derive(Debug)]
pub enum Look {
    /// Nothing is new.
    Same,
    /// A good configuration, to be put in force; the event that tells of it.
    New(Box<Config>, Happening),
    /// One that cannot be.
    Refused(Happening),
}

impl Reloader {
    /// Watches `path`, which was just read. `wanted` is set by whoever wants it read anew.
    #[must_use]
    pub fn new(path: &Path, wanted: Arc<AtomicBool>, now_ms: i64) -> Self {
        let counts = ReloadCounts { taken_ms: now_ms, ..ReloadCounts::default() };
        Self { path: path.to_owned(), wanted, seen: stamp(path), looks: 0, counts }
    }

    /// How it went so far.
    #[must_use]
    pub fn counts(&self) -> ReloadCounts {
        self.counts
    }

    /// Looks whether the file is another than that of `current`.
    pub fn look(&mut self, current: &Config, now_ms: i64) -> Look {
        self.looks = self.looks.wrapping_add(1);
        let wanted = self.wanted.swap(false, Ordering::Relaxed);
        if !wanted && !self.looks.is_multiple_of(STAT_EVERY) {
            return Look::Same;
        }
        let now = stamp(&self.path);
        if !wanted && now == self.seen {
            return Look::Same;
        }
        self.seen = now;
        let read = Config::load(&self.path).map_err(|error| pitwatch_shared::error_chain(&error));
        let read = read.and_then(|config| check(current, config));
        match read {
            Ok(config) => {
                self.counts.successful = true;
                if config == *current {
                    return Look::Same;
                }
                self.counts.taken_ms = now_ms;
                let parts = changes(current, &config);
                let summary = format!("{}: {} changed", self.path.display(), parts.join(", "));
                Look::New(Box::new(config), Happening::new(EventKind::ConfigReloaded, now_ms, summary))
            }
            Err(what) => {
                self.counts.successful = false;
                self.counts.refused += 1;
                let summary = format!("the configuration is refused, the one before goes on: {what}");
                Look::Refused(Happening::new(EventKind::ConfigRefused, now_ms, summary))
            }
        }
    }
}

fn stamp(path: &Path) -> Option<Stamp> {
    let metadata = fs::metadata(path).ok()?;
    Some((metadata.dev(), metadata.ino(), metadata.len(), metadata.mtime(), metadata.mtime_nsec()))
}

/// Whether one may follow the other without a restart.
fn check(current: &Config, config: Config) -> Result<Config, String> {
    if config.name != current.name {
        return Err("name changed: enrol under the new name, then restart the agent".to_owned());
    }
    if config.data_dir != current.data_dir {
        return Err("data_dir changed: restart the agent".to_owned());
    }
    Ok(config)
}

fn changes(before: &Config, after: &Config) -> Vec<&'static str> {
    let parts = [
        ("collector", before.collector == after.collector),
        ("[labels]", before.labels == after.labels),
        ("[signals]", before.signals == after.signals),
        ("[textfile]", before.apps.textfile == after.apps.textfile),
        ("[statsd]", before.apps.statsd == after.apps.statsd),
        ("[scrape]", before.apps.scrape == after.apps.scrape),
        ("[queue] (from the next start on)", before.queue == after.queue),
        ("[log] (from the next start on)", before.log_level == after.log_level),
    ];
    parts.into_iter().filter(|(_, same)| !same).map(|(name, _)| name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_taken_and_a_mistake_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("agent.toml");
        let write = |text: &str| fs::write(&path, format!("name = \"a\"\ncollector = \"c:1\"\n{text}")).unwrap();
        write("");
        let config = Config::load(&path).unwrap();
        let wanted = Arc::new(AtomicBool::new(false));
        let mut reloader = Reloader::new(&path, wanted.clone(), 7);
        let mut look = || {
            let looks: Vec<Look> = (0..STAT_EVERY).map(|_| reloader.look(&config, 9)).collect();
            let told = looks.into_iter().find(|look| !matches!(look, Look::Same));
            (told, reloader.counts())
        };
        assert!(look().0.is_none());
        write("[signals]\ncadence = \"2s\"\n");
        let (Some(Look::New(new, told)), counts) = look() else { panic!("not taken") };
        assert_eq!((new.signals.cadence.as_secs(), counts.taken_ms), (2, 9));
        assert!(told.summary.ends_with("agent.toml: [signals] changed"), "{}", told.summary);
        write("[signals]\ncadence = \"2 weeks\"\n");
        let (Some(Look::Refused(told)), counts) = look() else { panic!("taken") };
        assert!(told.summary.contains("agent.toml:4: signals.cadence"), "{}", told.summary);
        assert_eq!((counts.successful, counts.refused), (false, 1));
        assert!(look().0.is_none(), "told once");
        fs::write(&path, "name = \"b\"\ncollector = \"c:1\"\n").unwrap();
        assert!(matches!(look().0, Some(Look::Refused(_))));
        write("");
        assert!(look().0.is_none());
        wanted.store(true, Ordering::Relaxed);
        let (told, counts) = look();
        assert!(told.is_none() && counts.successful);
    }
}
