//! A configuration that changes while the agent runs: noticed, checked, and taken or refused.
//!
//! The file is looked at every few seconds, and at once after SIGHUP. A file with a mistake changes nothing: the
//! configuration before goes on, and the mistake is told in the log, by a metric and as an event. So it is with what the
//! collector sends for the agent's role ([`Central`]), which stands below the host's own file and is kept for the next start.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use pitwatch_shared::limits::SETTINGS_MAX_BYTES;

use crate::config::Config;
use crate::events::{EventKind, Happening};

/// What the collector sent last, in the agent's data directory.
const CENTRAL_FILE: &str = "central.toml";
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

/// What the collector sent and nobody has looked at yet.
#[derive(Debug, Default)]
pub struct Central(Mutex<Option<String>>);

impl Central {
    /// The collector sent this.
    pub fn offer(&self, text: String) {
        if text.len() <= SETTINGS_MAX_BYTES {
            *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(text);
        }
    }

    fn take(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// Watches the file.
pub struct Reloader {
    path: PathBuf,
    wanted: Arc<AtomicBool>,
    seen: Option<Stamp>,
    offered: Arc<Central>,
    /// What the collector said and is in force.
    central: String,
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
    /// Watches `path`, which was just read as `config`. `wanted` is set by whoever wants it read anew. Gives the
    /// configuration with what the collector sent last.
    #[must_use]
    pub fn start(path: &Path, config: Config, wanted: Arc<AtomicBool>, now_ms: i64) -> (Self, Config) {
        let central = fs::read_to_string(config.data_dir.join(CENTRAL_FILE)).unwrap_or_default();
        let with = Config::load_with(path, &central);
        if let Err(error) = &with {
            tracing::warn!("what the collector sent cannot be used, going on without: {error}");
        }
        let (central, config) = with.map_or((String::new(), config), |with| (central, with));
        let counts = ReloadCounts { taken_ms: now_ms, ..ReloadCounts::default() };
        let offered = Arc::new(Central::default());
        (Self { path: path.to_owned(), wanted, seen: stamp(path), offered, central, looks: 0, counts }, config)
    }

    /// Where what the collector sends goes.
    #[must_use]
    pub fn central(&self) -> Arc<Central> {
        self.offered.clone()
    }

    /// What the collector sent is in force, now and at the next start.
    fn keep(&mut self, text: String, dir: &Path) {
        let path = dir.join(CENTRAL_FILE);
        let kept = if text.is_empty() { fs::remove_file(&path) } else { fs::write(&path, &text) };
        if let Err(error) = kept.or_else(|error| if text.is_empty() { Ok(()) } else { Err(error) }) {
            tracing::warn!("what the collector sent is not kept for the next start: {error}");
        }
        self.central = text;
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
        let offered = self.offered.take().filter(|text| *text != self.central);
        if !wanted && offered.is_none() && now == self.seen {
            return Look::Same;
        }
        self.seen = now;
        let from_collector = offered.is_some();
        let central = offered.as_ref().unwrap_or(&self.central);
        let read = Config::load_with(&self.path, central).map_err(|error| pitwatch_shared::error_chain(&error));
        let read = read.and_then(|config| check(current, config));
        match read {
            Ok(config) => {
                self.counts.successful = true;
                if let Some(text) = offered {
                    self.keep(text, &config.data_dir);
                }
                if config == *current {
                    return Look::Same;
                }
                self.counts.taken_ms = now_ms;
                let parts = changes(current, &config);
                let from =
                    if from_collector { "the collector's settings".into() } else { self.path.display().to_string() };
                let summary = format!("{from}: {} changed", parts.join(", "));
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
        let write = |text: &str| {
            fs::write(&path, format!("name = \"a\"\ncollector = \"c:1\"\ndata_dir = {:?}\n{text}", dir.path()))
                .unwrap();
        };
        write("");
        let config = Config::load(&path).unwrap();
        let wanted = Arc::new(AtomicBool::new(false));
        let (mut reloader, _) = Reloader::start(&path, config.clone(), wanted.clone(), 7);
        let central = reloader.central();
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
        assert!(told.summary.contains("agent.toml:5: signals.cadence"), "{}", told.summary);
        assert_eq!((counts.successful, counts.refused), (false, 1));
        assert!(look().0.is_none(), "told once");
        fs::write(&path, "name = \"b\"\ncollector = \"c:1\"\n").unwrap();
        assert!(matches!(look().0, Some(Look::Refused(_))));
        write("");
        assert!(look().0.is_none());
        wanted.store(true, Ordering::Relaxed);
        let (told, counts) = look();
        assert!(told.is_none() && counts.successful);

        central.offer("[labels]\nenv = \"prod\"\n[statsd]\nudp = \"127.0.0.1:1\"\n".into());
        let (Some(Look::New(new, told)), _) = look() else { panic!("not taken") };
        assert_eq!(new.labels[0], ("env".to_owned(), "prod".to_owned()));
        assert_eq!(new.apps.statsd.udp, None, "not without the host's leave");
        assert_eq!(told.summary, "the collector's settings: [labels] changed");
        central.offer("[labels]\ninstance = \"other\"\n".into());
        let (Some(Look::Refused(told)), _) = look() else { panic!("taken") };
        assert!(told.summary.contains("the collector's settings:2: labels.instance"), "{}", told.summary);
        let (_, with) = Reloader::start(&path, config.clone(), Arc::default(), 7);
        assert_eq!(with.labels[0].0, "env", "kept for the next start");
        write("[central]\nallow = []\n");
        let (_, with) = Reloader::start(&path, config.clone(), Arc::default(), 7);
        assert_eq!(with.labels[0].0, "job");
    }
}
