//! /sys/class/hwmon: temperatures, fans, voltages, currents and powers of the host's chips, named as node_exporter
//! names them: `temp1_input` of a chip is `node_hwmon_temp_celsius{chip=…,sensor="temp1"}`.

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::metric::Metric;
use super::parse;
use super::source::{Keyed, Pass, Source, SourceError};
use super::table::Handle;

/// Longest name or label taken, in bytes.
const TEXT_MAX_BYTES: usize = 255;
/// Most files of one chip.
const FILES_MAX: usize = 500;
const FILES: &str = "/sys/class/hwmon/*";

/// What the chips give.
pub(super) static METRICS: [Metric; 4] = [
    Metric::gauge("node_hwmon_chip_names", "", FILES, "The chip's own name; always 1.").by(&["chip", "chip_name"]),
    Metric::gauge("node_hwmon_sensor_label", "", FILES, "What a sensor measures; always 1.")
        .by(&["chip", "label", "sensor"]),
    Metric::counter("node_hwmon_energy_joule_total", "joules", FILES, "Energy used.").by(&["chip", "sensor"]),
    Metric::gauge(
        "node_hwmon_*",
        "in the name",
        FILES,
        "A sensor's value or limit, such as temp_celsius, temp_max_celsius, fan_rpm, in_volts.",
    )
    .by(&["chip", "sensor"]),
];
const CHIP_NAMES: usize = 0;
const SENSOR_LABEL: usize = 1;
const ENERGY: usize = 2;
const FAMILY: usize = 3;

/// Kinds of sensors; a file's name begins with one.
const KINDS: [&str; 10] = ["curr", "energy", "fan", "freq", "humidity", "in", "intrusion", "power", "pwm", "temp"];

/// The chips.
pub(super) struct Hwmon {
    dir: PathBuf,
    chips: Keyed<Chip>,
}

#[derive(Default)]
struct Chip {
    label: String,
    name: String,
    name_handle: Handle,
    files: Keyed<Option<Sensor>>,
}

/// A file of a chip.
struct Sensor {
    /// `temp1`.
    label: String,
    gives: Gives,
    handle: Handle,
}

enum Gives {
    /// The text of a `_label` file, as it last was.
    Text(String),
    /// A metric, and what one unit of the file is worth.
    Number { metric: usize, name: String, unit: f64 },
}

impl Hwmon {
    pub(super) fn new(sys_root: &Path) -> Self {
        Self { dir: sys_root.join("class/hwmon"), chips: Keyed::default() }
    }
}

impl Source for Hwmon {
    fn name(&self) -> &'static str {
        "hwmon"
    }

    fn gather(&mut self, pass: &mut Pass<'_>) -> Result<(), SourceError> {
        let listing = match std::fs::read_dir(&self.dir) {
            Ok(listing) => listing,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            Err(source) => return Err(SourceError::Read { path: self.dir.clone(), source }),
        };
        self.chips.begin();
        for name in listing.flatten().map(|entry| entry.file_name()) {
            let dir = self.dir.join(&name);
            match self.chips.entry(name.as_bytes(), |name| Chip::new(&dir, name)) {
                Some(chip) => chip.gather(&dir, pass),
                None => pass.sink.malformed += 1,
            }
        }
        self.chips.end();
        Ok(())
    }
}

impl Chip {
    /// A chip is named after the device that it sits on, which stays the same over reboots.
    fn new(dir: &Path, name: &[u8]) -> Self {
        let device = dir.join("device").canonicalize().ok();
        let of_path = |path: &Path| path.file_name().map(|name| clean(name.as_bytes()));
        let named = device.as_deref().and_then(|device| Some((of_path(device.parent()?)?, of_path(device)?)));
        let label = match named {
            Some((kind, device)) if !kind.is_empty() && !device.is_empty() => format!("{kind}_{device}"),
            _ => clean(name),
        };
        Self { label, ..Self::default() }
    }

    fn gather(&mut self, dir: &Path, pass: &mut Pass<'_>) {
        let name = pass.buffer.read_small(&dir.join("name")).map(clean).unwrap_or_default();
        if name != self.name {
            self.name = name;
            self.name_handle = Handle::default();
        }
        if !self.name.is_empty() {
            let labels = [("chip", self.label.as_str()), ("chip_name", &self.name)];
            pass.sink.set(&mut self.name_handle, &METRICS[CHIP_NAMES], &labels, Some(1.0));
        }
        let Ok(listing) = std::fs::read_dir(dir) else { return };
        self.files.begin();
        for file in listing.flatten().take(FILES_MAX).map(|entry| entry.file_name()) {
            if let Some(Some(sensor)) = self.files.entry(file.as_bytes(), Sensor::of_file) {
                sensor.gather(&self.label, &dir.join(&file), pass);
            }
        }
        self.files.end();
    }
}

impl Sensor {
    /// `temp1_input`; `None`: no file of a sensor.
    fn of_file(file: &[u8]) -> Option<Self> {
        let file = std::str::from_utf8(file).ok()?;
        let kind = KINDS.into_iter().find(|kind| {
            file.strip_prefix(kind).is_some_and(|rest| rest.starts_with(|first: char| first.is_ascii_digit()))
        })?;
        let rest = &file[kind.len()..];
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let element = match rest[digits..].strip_prefix('_') {
            Some(element) => element,
            None if rest.len() == digits => "",
            None => return None,
        };
        if file.len() > TEXT_MAX_BYTES || !element.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
            return None;
        }
        let gives = if element == "label" { Gives::Text(String::new()) } else { number(kind, element) };
        Some(Self { label: file[..kind.len() + digits].to_owned(), gives, handle: Handle::default() })
    }

    fn gather(&mut self, chip: &str, path: &Path, pass: &mut Pass<'_>) {
        let Some(text) = pass.buffer.read_small(path) else { return };
        let (chip, sensor) = (("chip", chip), ("sensor", self.label.as_str()));
        match &mut self.gives {
            Gives::Text(known) => {
                let text = parse::text(text, TEXT_MAX_BYTES);
                if *known != text {
                    *known = text;
                    self.handle = Handle::default();
                }
                let labels = [chip, ("label", known.as_str()), sensor];
                pass.sink.set(&mut self.handle, &METRICS[SENSOR_LABEL], &labels, Some(1.0));
            }
            Gives::Number { metric, name, unit } => {
                // Files such as `pwm1_enable` may hold words.
                let Some(number) = parse::signed(text) else { return };
                let value = Some(number * *unit);
                pass.sink.set_named(&mut self.handle, &METRICS[*metric], name, &[chip, sensor], value);
            }
        }
    }
}

/// What `element` of a sensor of `kind` is called, and what one unit of it is worth.
fn number(kind: &str, element: &str) -> Gives {
    let base = if matches!(element, "" | "input") {
        format!("node_hwmon_{kind}")
    } else {
        format!("node_hwmon_{kind}_{element}")
    };
    let counted = !matches!(element, "alarm" | "enable" | "fault" | "type");
    let (unit_name, unit) = match kind {
        _ if element == "beep" => ("_enabled", 1.0),
        _ if !counted => ("", 1.0),
        "curr" => ("_amps", 1e-3),
        "energy" => ("_joule_total", 1e-6),
        "fan" if matches!(element, "input" | "max" | "min" | "target") => ("_rpm", 1.0),
        "freq" => ("_freq_mhz", 1e-6),
        "humidity" => ("", 1e-6),
        "in" => ("_volts", 1e-3),
        "power" if element == "accuracy" => ("", 1e-6),
        "power" if element.starts_with("average_interval") => ("_seconds", 1e-3),
        "power" => ("_watt", 1e-6),
        "temp" => ("_celsius", 1e-3),
        _ => ("", 1.0),
    };
    let metric = if kind == "energy" && element == "input" { ENERGY } else { FAMILY };
    Gives::Number { metric, name: format!("{base}{unit_name}"), unit }
}

/// As node_exporter writes names into labels: small letters, digits and `:`, and `_` for the rest.
fn clean(name: &[u8]) -> String {
    let plain = |byte: &u8| {
        if byte.is_ascii_alphanumeric() || *byte == b':' { char::from(byte.to_ascii_lowercase()) } else { '_' }
    };
    let text: String = name.iter().take(TEXT_MAX_BYTES).map(plain).collect();
    text.trim_matches('_').to_owned()
}

#[cfg(test)]
mod tests {
    use super::super::testing::Bench;
    use super::*;

    fn bench() -> Bench {
        let bench = Bench::new(|root| Box::new(Hwmon::new(root)));
        let files = [("name", "k10temp"), ("temp1_input", "41125"), ("temp1_label", "Tctl"), ("temp1_max", "70000")];
        for (file, text) in files.into_iter().chain([("fan2_input", "1200"), ("in0_input", "1480"), ("uevent", "")]) {
            bench.file(&format!("devices/pci0/0000:00:18.3/hwmon/hwmon0/{file}"), format!("{text}\n").as_bytes());
        }
        let hwmon = bench.path("devices/pci0/0000:00:18.3/hwmon/hwmon0");
        std::os::unix::fs::symlink(bench.path("devices/pci0/0000:00:18.3"), hwmon.join("device")).unwrap();
        std::fs::create_dir_all(bench.path("class/hwmon")).unwrap();
        std::os::unix::fs::symlink(hwmon, bench.path("class/hwmon/hwmon0")).unwrap();
        bench
    }

    #[test]
    fn a_chip_gives_its_sensors_in_base_units() {
        let mut bench = bench();
        assert_eq!(bench.tick(), Ok(0));
        let chip = "chip=\"pci0_0000:00:18_3\"";
        let value = |series: String| bench.value(&series).unwrap();
        assert_eq!(value(format!("node_hwmon_temp_celsius{{{chip},sensor=\"temp1\"}}")), 41.125);
        assert_eq!(value(format!("node_hwmon_temp_max_celsius{{{chip},sensor=\"temp1\"}}")), 70.0);
        assert_eq!(value(format!("node_hwmon_fan_rpm{{{chip},sensor=\"fan2\"}}")), 1200.0);
        assert_eq!(value(format!("node_hwmon_in_volts{{{chip},sensor=\"in0\"}}")), 1.48);
        assert_eq!(value(format!("node_hwmon_chip_names{{{chip},chip_name=\"k10temp\"}}")), 1.0);
        assert_eq!(value(format!("node_hwmon_sensor_label{{{chip},label=\"Tctl\",sensor=\"temp1\"}}")), 1.0);
        assert_eq!(bench.len(), 6);
    }

    #[test]
    fn names_are_node_exporters() {
        for (file, name) in [
            ("curr1_crit", "node_hwmon_curr_crit_amps"),
            ("energy1_input", "node_hwmon_energy_joule_total"),
            ("power1_average", "node_hwmon_power_average_watt"),
            ("power1_average_interval", "node_hwmon_power_average_interval_seconds"),
            ("temp10_crit_alarm", "node_hwmon_temp_crit_alarm_celsius"),
            ("temp1_type", "node_hwmon_temp_type"),
            ("fan1_alarm", "node_hwmon_fan_alarm"),
            ("pwm1", "node_hwmon_pwm"),
            ("intrusion0_alarm", "node_hwmon_intrusion_alarm"),
        ] {
            let Some(Sensor { gives: Gives::Number { name: given, .. }, .. }) = Sensor::of_file(file.as_bytes()) else {
                panic!("{file}");
            };
            assert_eq!(given, name);
        }
        for file in [&b"temp"[..], b"tempx_input", b"temp1-input", b"power", b"\xff1", b"temp1_a b", b"in"] {
            assert!(Sensor::of_file(file).is_none(), "{file:?}");
        }
    }

    #[test]
    fn a_sensor_without_a_number_has_no_series() {
        let mut bench = bench();
        bench.file("class/hwmon/hwmon0/temp1_input", b"N/A\n");
        assert_eq!(bench.tick(), Ok(0));
        assert!(bench.names().iter().all(|name| !name.starts_with("node_hwmon_temp_celsius")));
    }
}
