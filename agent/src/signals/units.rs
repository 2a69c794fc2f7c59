//! States of systemd's units, asked of systemd itself over D-Bus.
//!
//! Root asks systemd straight (/run/systemd/private), others over the system bus; both may. /run/systemd and the
//! control groups alone do not say whether a unit failed, which is what matters. Kinds of units that node_exporter
//! leaves out by default are left out here too.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};

use super::dbus::{Call, Connection, Values};
use super::metric::Metric;
use super::notices::{Notice, Notices};
use super::parse;
use super::source::{Keyed, Pass, Source, SourceError};
use super::table::Handle;

/// Longest name of a unit taken into a label, in bytes; systemd's longest has 255.
const NAME_MAX_BYTES: usize = 255;
/// Most units with series, five each.
const UNITS_MAX: usize = 1000;
const CALL: &str = "systemd (D-Bus)";
const SYSTEMD: &str = "org.freedesktop.systemd1";
const STATES: [&str; 5] = ["active", "activating", "deactivating", "failed", "inactive"];
/// node_exporter's default `collector.systemd.unit-exclude`.
const EXCLUDED: [&str; 5] = [".automount", ".device", ".mount", ".scope", ".slice"];

/// What systemd gives.
pub(super) static METRICS: [Metric; 3] = [
    Metric::gauge("node_systemd_unit_state", "", CALL, "1 at the state that the unit is in, else 0.")
        .by(&["name", "state", "type"]),
    Metric::gauge("node_systemd_units", "units", CALL, "Units in a state, those without series of their own included.")
        .by(&["state"]),
    Metric::gauge("node_systemd_system_running", "", CALL, "Whether systemd says that all is up and nothing failed."),
];

/// One unit, as ListUnits has it.
#[derive(Debug, PartialEq)]
pub(super) struct Unit<'b> {
    pub(super) name: &'b str,
    pub(super) load: &'b str,
    pub(super) active: &'b str,
    pub(super) path: &'b str,
}

/// systemd's units.
pub(super) struct Units {
    /// Where systemd is at work, this directory is there.
    booted: PathBuf,
    private: PathBuf,
    bus: PathBuf,
    connection: Option<Connection>,
    units: Keyed<Series>,
    /// Of units that failed, by name.
    failed: HashMap<String, bool>,
    counts: [Handle; STATES.len()],
    running: Handle,
    notices: Notices,
    first: bool,
}

struct Series {
    name: String,
    kind: String,
    handles: [Handle; STATES.len()],
}

impl Units {
    pub(super) fn new(root: &Path, notices: Notices) -> Self {
        Self {
            booted: root.join("run/systemd/system"),
            private: root.join("run/systemd/private"),
            bus: root.join("run/dbus/system_bus_socket"),
            connection: None,
            units: Keyed::default(),
            failed: HashMap::new(),
            counts: Default::default(),
            running: Handle::default(),
            notices,
            first: true,
        }
    }
}

impl Source for Units {
    fn name(&self) -> &'static str {
        "systemd"
    }

    fn gather(&mut self, pass: &mut Pass<'_>) -> Result<(), SourceError> {
        if !self.booted.exists() {
            return Ok(());
        }
        let outcome = self.ask(pass);
        if outcome.is_err() {
            // systemd was started anew, or an answer was cut off: the next question is on a new connection.
            self.connection = None;
        }
        outcome.map_err(|source| SourceError::Call { what: CALL, source })
    }
}

impl Units {
    fn ask(&mut self, pass: &mut Pass<'_>) -> io::Result<()> {
        let connection = match &mut self.connection {
            Some(connection) => connection,
            None => {
                let made = Connection::to_peer(&self.private).or_else(|_| Connection::to_bus(&self.bus))?;
                self.connection.insert(made)
            }
        };
        let state = connection.call(&property(MANAGER, &["org.freedesktop.systemd1.Manager", "SystemState"]))?;
        let running = Values::new(&state).variant_string()? == "running";
        let answer = connection.call(&LIST_UNITS)?;
        let mut counts = [0_u32; STATES.len()];
        let mut failed = Vec::new();
        let (units, mut taken) = (&mut self.units, 0);
        units.begin();
        let mut asked = Ok(());
        parse_units(&answer, |unit| {
            if unit.load != "loaded" {
                return;
            }
            let Some(state) = STATES.iter().position(|state| *state == unit.active) else { return };
            counts[state] += 1;
            if unit.active == "failed" {
                failed.push(unit.name.to_owned());
            }
            if EXCLUDED.iter().any(|end| unit.name.ends_with(end)) {
                return;
            }
            taken += 1;
            if taken > UNITS_MAX {
                pass.sink.malformed += 1;
                return;
            }
            let made = |_: &[u8]| {
                let kind = kind(connection, &unit);
                let kind = kind.unwrap_or_else(|error| {
                    asked = Err(error);
                    String::new()
                });
                let name = parse::text(unit.name.as_bytes(), NAME_MAX_BYTES);
                Series { name, kind, handles: Default::default() }
            };
            let Some(series) = units.entry(unit.name.as_bytes(), made) else { return };
            for (at, (name, handle)) in STATES.into_iter().zip(&mut series.handles).enumerate() {
                let labels = [("name", series.name.as_str()), ("state", name), ("type", &series.kind)];
                pass.sink.set(handle, &METRICS[0], &labels, Some(f64::from(u8::from(at == state))));
            }
        })?;
        units.end();
        asked?;
        for ((state, handle), count) in STATES.into_iter().zip(&mut self.counts).zip(counts) {
            pass.sink.set(handle, &METRICS[1], &[("state", state)], Some(f64::from(count)));
        }
        pass.sink.set(&mut self.running, &METRICS[2], &[], Some(f64::from(u8::from(running))));
        self.tell(&failed, pass.now.ts_ms);
        Ok(())
    }

    /// Gives notice of units that failed since the last time, and of those that no longer are.
    fn tell(&mut self, failed: &[String], ts_ms: i64) {
        for known in self.failed.values_mut() {
            *known = false;
        }
        for unit in failed {
            // What had failed before the agent began is no news.
            if self.failed.insert(unit.clone(), true).is_none() && !self.first {
                self.notices.push(ts_ms, Notice::Unit { unit: unit.clone(), failed: true });
            }
        }
        let notices = &self.notices;
        self.failed.retain(|unit, still| {
            if !*still {
                notices.push(ts_ms, Notice::Unit { unit: unit.clone(), failed: false });
            }
            *still
        });
        self.first = false;
    }
}

const MANAGER: &str = "/org/freedesktop/systemd1";
const LIST_UNITS: Call<'_> = Call {
    destination: SYSTEMD,
    path: MANAGER,
    interface: "org.freedesktop.systemd1.Manager",
    member: "ListUnits",
    arguments: &[],
};

/// Reads a property of an object: `arguments` are its interface and its name.
fn property<'c>(path: &'c str, arguments: &'c [&'c str; 2]) -> Call<'c> {
    Call { destination: SYSTEMD, path, interface: "org.freedesktop.DBus.Properties", member: "Get", arguments }
}

/// The type of a service, such as `simple`; other units have none.
fn kind(connection: &mut Connection, unit: &Unit<'_>) -> io::Result<String> {
    if !unit.name.ends_with(".service") {
        return Ok(String::new());
    }
    let answer = connection.call(&property(unit.path, &["org.freedesktop.systemd1.Service", "Type"]))?;
    Ok(parse::text(Values::new(&answer).variant_string()?.as_bytes(), NAME_MAX_BYTES))
}

/// Reads `a(ssssssouso)`: name, description, load state, active state, sub state, followed unit, path, job's number,
/// type and path.
pub(super) fn parse_units(body: &[u8], mut each: impl FnMut(Unit<'_>)) -> io::Result<()> {
    let mut values = Values::new(body);
    let length = values.number()? as usize;
    values.align(8)?;
    let end = values.position().saturating_add(length);
    while values.position() < end {
        values.align(8)?;
        let (name, _, load, active) = (values.string()?, values.string()?, values.string()?, values.string()?);
        let (_, _, path) = (values.string()?, values.string()?, values.string()?);
        let (_, _, _) = (values.number()?, values.string()?, values.string()?);
        each(Unit { name, load, active, path });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::testing::Bench;
    use super::*;

    /// As systemd writes it.
    fn body(units: &[(&str, &str, &str)]) -> Vec<u8> {
        let mut out = vec![0; 8];
        let string = |out: &mut Vec<u8>, text: &str| {
            out.resize(out.len().next_multiple_of(4), 0);
            out.extend((text.len() as u32).to_le_bytes());
            out.extend(text.as_bytes());
            out.push(0);
        };
        for (name, load, active) in units {
            out.resize(out.len().next_multiple_of(8), 0);
            for text in [name, "A unit", load, active, "running", "", "/org/freedesktop/systemd1/unit/x"] {
                string(&mut out, text);
            }
            out.resize(out.len().next_multiple_of(4), 0);
            out.extend([0; 4]);
            string(&mut out, "");
            string(&mut out, "/");
        }
        let length = (out.len() - 8) as u32;
        out[..4].copy_from_slice(&length.to_le_bytes());
        out
    }

    #[test]
    fn units_are_read_and_cut_answers_refused() {
        let body = body(&[("a.service", "loaded", "failed"), ("b.timer", "not-found", "inactive")]);
        let mut read = Vec::new();
        parse_units(&body, |unit| read.push((unit.name.to_owned(), unit.load.to_owned(), unit.active.to_owned())))
            .unwrap();
        let expected = [("a.service", "loaded", "failed"), ("b.timer", "not-found", "inactive")];
        assert_eq!(read, expected.map(|(a, b, c)| (a.to_owned(), b.to_owned(), c.to_owned())));
        for end in 8..body.len() {
            assert!(parse_units(&body[..end], |_| {}).is_err(), "{end}");
        }
    }

    #[test]
    fn a_host_without_systemd_has_no_units_and_one_that_does_not_answer_is_an_error() {
        let mut bench = Bench::new(|root| Box::new(Units::new(root, Notices::default())));
        assert_eq!((bench.tick(), bench.len()), (Ok(0), 0));
        std::fs::create_dir_all(bench.path("run/systemd/system")).unwrap();
        assert_eq!(bench.tick(), Err("systemd (D-Bus) failed".to_owned()));
    }

    #[test]
    fn failures_are_told_once_and_so_is_their_end() {
        let notices = Notices::default();
        let mut units = Units::new(Path::new("/nowhere"), notices.clone());
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        for failed in [&["old"][..], &["old", "new"], &["old", "new"], &["new"]] {
            units.tell(&names(failed), 0);
        }
        let told: Vec<_> = notices.take().into_iter().map(|(_, notice)| notice).collect();
        let unit = |unit: &str, failed| Notice::Unit { unit: unit.to_owned(), failed };
        assert_eq!(told, [unit("new", true), unit("old", false)]);
    }
}
