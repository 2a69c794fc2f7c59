//! `[watch.NAME]`: which processes the agent watches.

use std::path::PathBuf;

use pitwatch_shared::settings::{Reader, Section};

use crate::signals::{Pattern, WATCHES_MAX, WatchBy, WatchConfig};

/// Longest name of a watch, in bytes: it is a label's value.
const NAME_MAX_BYTES: usize = 64;
const BY: &str = "give exactly one of unit, name, command and pid_file";
const UNIT: &str = "give a unit of systemd with its ending, such as \"nginx.service\"";
const PROCESS: &str = "give the name of a process, such as \"nginx\"";
const COMMAND: &str =
    "give a regular expression that the whole command line is searched for, such as \"java .*lobby\\.jar\"";
const PID_FILE: &str = "give an absolute path, such as \"/run/nginx.pid\"";

/// Every watch, sorted by name.
pub(super) fn watches(section: Section<'_>, reader: &mut Reader<'_>) -> Vec<WatchConfig> {
    let mut watches = Vec::new();
    for (span, name, mut section) in section.tables(reader) {
        let key = format!("watch.{name}");
        if name.is_empty() || name.len() > NAME_MAX_BYTES || name.chars().any(char::is_control) {
            let what = format!("{name:?} is no name of a watch; use 1 to {NAME_MAX_BYTES} bytes of text");
            reader.note(Some(span.clone()), key.clone(), what);
        }
        let problems = reader.problems.len();
        let given = [
            section.value(reader, "unit", UNIT, unit),
            section.value(reader, "name", PROCESS, |text| plain(text).map(WatchBy::Name)),
            section.value(reader, "command", COMMAND, |text| {
                let pattern =
                    Pattern::new(text).map_err(|error| format!("{text:?} is no regular expression ({error})"));
                pattern.map(WatchBy::Command)
            }),
            section.value(reader, "pid_file", PID_FILE, pid_file),
        ];
        section.end(reader);
        let mut given = given.into_iter().flatten();
        match (given.next(), given.next()) {
            (Some(by), None) => watches.push(WatchConfig { name, by }),
            // What is wrong with the one that is given was said.
            (None, _) if reader.problems.len() > problems => {}
            (first, _) => {
                let what = if first.is_none() { "says nothing to watch" } else { "says more than one thing to watch" };
                reader.note(Some(span), key, format!("{what}; {BY}"));
            }
        }
    }
    if watches.len() > WATCHES_MAX {
        let what = format!("{} watches; at most {WATCHES_MAX} are allowed", watches.len());
        reader.note(None, "watch".to_owned(), what);
    }
    watches.sort_by(|a, b| a.name.cmp(&b.name));
    watches
}

fn plain(text: &str) -> Result<String, String> {
    let good = !text.is_empty() && !text.contains('/') && !text.chars().any(char::is_control);
    if good { Ok(text.to_owned()) } else { Err(format!("{text:?} is no name")) }
}

fn unit(text: &str) -> Result<WatchBy, String> {
    let named = plain(text)?;
    if named.contains('.') { Ok(WatchBy::Unit(named)) } else { Err(format!("{text:?} has no ending")) }
}

fn pid_file(text: &str) -> Result<WatchBy, String> {
    let path = PathBuf::from(text);
    if path.is_absolute() { Ok(WatchBy::PidFile(path)) } else { Err(format!("{text:?} is no absolute path")) }
}
