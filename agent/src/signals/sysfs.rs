//! Directories of /sys (and one of /proc's) whose entries have the same small files: thermal zones, core frequencies,
//! power supplies, memory controllers, NVMe controllers, SCSI disks, power counters.
//!
//! A [`Class`] says where the entries are, which files become labels and which become values. A file that is absent,
//! has no value now or is not for this user gives no series; `pitwatch-agent doctor` says which those are.

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::metric::Metric;
use super::parse;
use super::source::{Keyed, Pass, Source, SourceError};
use super::table::Handle;

/// Longest name of an entry, and longest text of a file, taken into a label, in bytes.
const TEXT_MAX_BYTES: usize = 255;

/// Entries of one kind.
pub(super) struct Class {
    /// The source's name.
    name: &'static str,
    /// Where the entries are, below /sys.
    dir: &'static str,
    /// What their names begin with; what follows must be a number, unless there is no prefix.
    prefix: &'static str,
    /// Where an entry's files are, below the entry.
    below: &'static str,
    /// The label that holds the entry's name without the prefix.
    label: &'static str,
    /// Labels that are files.
    texts: &'static [(&'static str, &'static str)],
    /// The file of each metric and what one of its units is worth; without a file the value is 1.
    numbers: &'static [(&'static str, f64)],
    /// In the order of `numbers`.
    pub(super) metrics: &'static [Metric],
}

const fn gauge(name: &'static str, unit: &'static str, source: &'static str, help: &'static str) -> Metric {
    Metric::gauge(name, unit, source, help)
}

const THERMAL: &str = "/sys/class/thermal/thermal_zone*";
const COOLING: &str = "/sys/class/thermal/cooling_device*";
const CPUFREQ: &str = "/sys/devices/system/cpu/cpu*/cpufreq";
const POWER: &str = "/sys/class/power_supply/*";
const EDAC: &str = "/sys/devices/system/edac/mc/mc*";
const NVME: &str = "/sys/class/nvme/nvme*";
const SCSI: &str = "/sys/block/sd*/device";
const DMI: &str = "/sys/class/dmi/id";

/// Temperatures of the board's zones.
pub(super) static THERMAL_ZONES: [Metric; 1] =
    [gauge("node_thermal_zone_temp", "degrees Celsius", THERMAL, "Temperature of a zone.").by(&["type", "zone"])];

/// Fans and other coolers.
pub(super) static COOLING_DEVICES: [Metric; 2] = [
    gauge("node_cooling_device_cur_state", "", COOLING, "How hard a cooler works now.").by(&["name", "type"]),
    gauge("node_cooling_device_max_state", "", COOLING, "How hard a cooler can work.").by(&["name", "type"]),
];

/// Clock rates of the cores.
pub(super) static FREQUENCIES: [Metric; 6] = [
    gauge("node_cpu_frequency_hertz", "hertz", CPUFREQ, "Clock rate of a core, as the hardware says.").by(&["cpu"]),
    gauge("node_cpu_frequency_min_hertz", "hertz", CPUFREQ, "Lowest clock rate that a core can have.").by(&["cpu"]),
    gauge("node_cpu_frequency_max_hertz", "hertz", CPUFREQ, "Highest clock rate that a core can have.").by(&["cpu"]),
    gauge("node_cpu_scaling_frequency_hertz", "hertz", CPUFREQ, "Clock rate of a core, as it was asked for.")
        .by(&["cpu"]),
    gauge("node_cpu_scaling_frequency_min_hertz", "hertz", CPUFREQ, "Lowest clock rate allowed.").by(&["cpu"]),
    gauge("node_cpu_scaling_frequency_max_hertz", "hertz", CPUFREQ, "Highest clock rate allowed.").by(&["cpu"]),
];

/// Mains and batteries.
pub(super) static POWER_SUPPLIES: [Metric; 9] = [
    gauge("node_power_supply_online", "", POWER, "Whether a supply gives power.").by(&["power_supply"]),
    gauge("node_power_supply_present", "", POWER, "Whether a battery is there.").by(&["power_supply"]),
    gauge("node_power_supply_capacity", "percent", POWER, "Charge of a battery.").by(&["power_supply"]),
    gauge("node_power_supply_cyclecount", "cycles", POWER, "Charge cycles of a battery.").by(&["power_supply"]),
    gauge("node_power_supply_voltage_volt", "volts", POWER, "Voltage of a supply.").by(&["power_supply"]),
    gauge("node_power_supply_current_ampere", "amperes", POWER, "Current of a supply.").by(&["power_supply"]),
    gauge("node_power_supply_power_watt", "watts", POWER, "Power that a supply gives.").by(&["power_supply"]),
    gauge("node_power_supply_energy_watthour", "watt hours", POWER, "Energy in a battery.").by(&["power_supply"]),
    gauge("node_power_supply_energy_full", "watt hours", POWER, "Energy in a full battery.").by(&["power_supply"]),
];

/// Errors of the memory's modules.
pub(super) static MEMORY_ERRORS: [Metric; 2] = [
    Metric::counter("node_edac_correctable_errors_total", "errors", EDAC, "Memory errors that were corrected.")
        .by(&["controller"]),
    Metric::counter("node_edac_uncorrectable_errors_total", "errors", EDAC, "Memory errors that were not corrected.")
        .by(&["controller"]),
];

/// NVMe controllers.
pub(super) static NVME_INFO: [Metric; 1] = [gauge("node_nvme_info", "", NVME, "An NVMe controller; always 1.").by(&[
    "device",
    "firmware_revision",
    "model",
    "serial",
    "state",
])];

/// Errors of SCSI and SATA disks, as the kernel counted them.
pub(super) static SCSI_ERRORS: [Metric; 2] = [
    Metric::counter("pitwatch_disk_io_errors_total", "requests", SCSI, "Requests to a SCSI or SATA disk that failed.")
        .by(&["device"]),
    Metric::counter(
        "pitwatch_disk_io_timeouts_total",
        "requests",
        SCSI,
        "Requests to a SCSI or SATA disk that timed out.",
    )
    .by(&["device"]),
];

const DMI_TEXTS: [(&str, &str); 18] = [
    ("bios_date", "bios_date"),
    ("bios_release", "bios_release"),
    ("bios_vendor", "bios_vendor"),
    ("bios_version", "bios_version"),
    ("board_asset_tag", "board_asset_tag"),
    ("board_name", "board_name"),
    ("board_serial", "board_serial"),
    ("board_vendor", "board_vendor"),
    ("board_version", "board_version"),
    ("chassis_asset_tag", "chassis_asset_tag"),
    ("chassis_vendor", "chassis_vendor"),
    ("chassis_version", "chassis_version"),
    ("product_family", "product_family"),
    ("product_name", "product_name"),
    ("product_serial", "product_serial"),
    ("product_sku", "product_sku"),
    ("product_version", "product_version"),
    ("system_vendor", "sys_vendor"),
];

const DMI_LABELS: [&str; DMI_TEXTS.len()] = {
    let mut labels = [""; DMI_TEXTS.len()];
    let mut at = 0;
    while at < labels.len() {
        labels[at] = DMI_TEXTS[at].0;
        at += 1;
    }
    labels
};

/// What the firmware says of the board.
pub(super) static DMI_INFO: [Metric; 1] =
    [gauge("node_dmi_info", "", DMI, "The machine's board, firmware and product; always 1.").by(&DMI_LABELS)];

/// Sensors and power.
pub(super) static SENSORS: [Class; 7] = [
    Class {
        name: "thermal_zones",
        dir: "class/thermal",
        prefix: "thermal_zone",
        below: "",
        label: "zone",
        texts: &[("type", "type")],
        numbers: &[("temp", 1e3)],
        metrics: &THERMAL_ZONES,
    },
    Class {
        name: "cooling_devices",
        dir: "class/thermal",
        prefix: "cooling_device",
        below: "",
        label: "name",
        texts: &[("type", "type")],
        numbers: &[("cur_state", 1.0), ("max_state", 1.0)],
        metrics: &COOLING_DEVICES,
    },
    Class {
        name: "frequencies",
        dir: "devices/system/cpu",
        prefix: "cpu",
        below: "cpufreq",
        label: "cpu",
        texts: &[],
        numbers: &[
            ("cpuinfo_cur_freq", 1e-3),
            ("cpuinfo_min_freq", 1e-3),
            ("cpuinfo_max_freq", 1e-3),
            ("scaling_cur_freq", 1e-3),
            ("scaling_min_freq", 1e-3),
            ("scaling_max_freq", 1e-3),
        ],
        metrics: &FREQUENCIES,
    },
    Class {
        name: "power_supplies",
        dir: "class/power_supply",
        prefix: "",
        below: "",
        label: "power_supply",
        texts: &[],
        numbers: &[
            ("online", 1.0),
            ("present", 1.0),
            ("capacity", 1.0),
            ("cycle_count", 1.0),
            ("voltage_now", 1e6),
            ("current_now", 1e6),
            ("power_now", 1e6),
            ("energy_now", 1e6),
            ("energy_full", 1e6),
        ],
        metrics: &POWER_SUPPLIES,
    },
    Class {
        name: "memory_errors",
        dir: "devices/system/edac/mc",
        prefix: "mc",
        below: "",
        label: "controller",
        texts: &[],
        numbers: &[("ce_count", 1.0), ("ue_count", 1.0)],
        metrics: &MEMORY_ERRORS,
    },
    Class {
        name: "nvme",
        dir: "class/nvme",
        prefix: "",
        below: "",
        label: "device",
        texts: &[("firmware_revision", "firmware_rev"), ("model", "model"), ("serial", "serial"), ("state", "state")],
        numbers: &[("", 1.0)],
        metrics: &NVME_INFO,
    },
    Class {
        name: "scsi_errors",
        dir: "block",
        prefix: "",
        below: "device",
        label: "device",
        texts: &[],
        numbers: &[("ioerr_cnt", 1.0), ("iotmo_cnt", 1.0)],
        metrics: &SCSI_ERRORS,
    },
];

/// The board: it does not change while the host runs.
pub(super) static BOARD: Class = Class {
    name: "dmi",
    dir: "class/dmi",
    prefix: "",
    below: "",
    label: "",
    texts: &DMI_TEXTS,
    numbers: &[("", 1.0)],
    metrics: &DMI_INFO,
};

/// The entries of several classes, one after the other.
pub(super) struct Classes(Vec<Entries>);

impl Classes {
    pub(super) fn new(sys_root: &Path, classes: &'static [Class]) -> Self {
        Self(classes.iter().map(|class| Entries::new(sys_root, class)).collect())
    }
}

impl Source for Classes {
    fn name(&self) -> &'static str {
        "sensors"
    }

    fn gather(&mut self, pass: &mut Pass<'_>) -> Result<(), SourceError> {
        let mut outcome = Ok(());
        for entries in &mut self.0 {
            outcome = outcome.and(entries.gather(pass));
        }
        outcome
    }
}

/// The entries of one class.
pub(super) struct Entries {
    class: &'static Class,
    dir: PathBuf,
    entries: Keyed<Entry>,
}

struct Entry {
    label: String,
    texts: Vec<String>,
    handles: Vec<Handle>,
}

impl Entries {
    pub(super) fn new(sys_root: &Path, class: &'static Class) -> Self {
        Self { class, dir: sys_root.join(class.dir), entries: Keyed::default() }
    }
}

impl Source for Entries {
    fn name(&self) -> &'static str {
        self.class.name
    }

    fn gather(&mut self, pass: &mut Pass<'_>) -> Result<(), SourceError> {
        let listing = match std::fs::read_dir(&self.dir) {
            Ok(listing) => listing,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            Err(source) => return Err(SourceError::Read { path: self.dir.clone(), source }),
        };
        let class = self.class;
        self.entries.begin();
        for name in listing.flatten().map(|entry| entry.file_name()) {
            let Some(label) = class.entry(name.as_bytes()) else { continue };
            let dir = self.dir.join(&name).join(class.below);
            let made = |_: &[u8]| Entry {
                label: parse::text(label, TEXT_MAX_BYTES),
                texts: vec![String::new(); class.texts.len()],
                handles: vec![Handle::default(); class.numbers.len()],
            };
            match self.entries.entry(name.as_bytes(), made) {
                Some(entry) => entry.gather(class, &dir, pass),
                None => pass.sink.malformed += 1,
            }
        }
        self.entries.end();
        Ok(())
    }
}

impl Class {
    /// What an entry's name says behind the prefix; `None`: it is none of this class.
    fn entry<'n>(&self, name: &'n [u8]) -> Option<&'n [u8]> {
        let rest = name.strip_prefix(self.prefix.as_bytes())?;
        (self.prefix.is_empty() || parse::whole(rest).is_some()).then_some(rest)
    }
}

impl Entry {
    fn gather(&mut self, class: &Class, dir: &Path, pass: &mut Pass<'_>) {
        let mut texts = Vec::with_capacity(class.texts.len());
        for (_, file) in class.texts {
            let text = pass.buffer.read_small(&dir.join(file));
            texts.push(text.map(|text| parse::text(text, TEXT_MAX_BYTES)).unwrap_or_default());
        }
        if texts != self.texts {
            // Other labels are another series: the old handles do not fit.
            self.texts = texts;
            self.handles.fill(Handle::default());
        }
        let texts = class.texts.iter().zip(&self.texts).map(|((label, _), text)| (*label, text.as_str()));
        let own = (!class.label.is_empty()).then_some((class.label, self.label.as_str()));
        let labels: Vec<_> = own.into_iter().chain(texts).collect();
        for ((file, unit), (handle, metric)) in class.numbers.iter().zip(self.handles.iter_mut().zip(class.metrics)) {
            if file.is_empty() {
                // An entry whose every file is absent is none.
                if self.texts.iter().any(|text| !text.is_empty()) {
                    pass.sink.set(handle, metric, &labels, Some(1.0));
                }
                continue;
            }
            let Some(text) = pass.buffer.read_small(&dir.join(file)) else { continue };
            let number = match text.strip_prefix(b"0x") {
                Some(digits) => parse::hex(digits).map(|number| number as f64),
                None => parse::signed(text),
            };
            pass.sink.set(handle, metric, &labels, number.map(|number| number / unit));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::Bench;
    use super::*;

    fn bench(name: &str) -> Bench {
        let class = SENSORS.iter().chain([&BOARD]).find(|class| class.name == name).unwrap();
        Bench::new(|root| Box::new(Entries::new(root, class)))
    }

    #[test]
    fn a_zone_gives_its_temperature_by_type() {
        let mut bench = bench("thermal_zones");
        assert_eq!(bench.tick(), Ok(0), "not every machine has any");
        bench.file("class/thermal/thermal_zone0/type", b"x86_pkg_temp\n");
        bench.file("class/thermal/thermal_zone0/temp", b"41500\n");
        bench.file("class/thermal/thermal_zone1/type", b"acpitz\n");
        bench.file("class/thermal/cooling_device0/cur_state", b"1\n");
        assert_eq!(bench.tick(), Ok(0));
        assert_eq!(bench.names(), ["node_thermal_zone_temp{type=\"x86_pkg_temp\",zone=\"0\"}"]);
        assert_eq!(bench.value(&bench.names()[0]), Some(41.5));
        bench.file("class/thermal/thermal_zone0/temp", b"-2750\n");
        bench.file("class/thermal/thermal_zone1/temp", b"hot\n");
        assert_eq!(bench.tick(), Ok(1));
        assert_eq!(bench.value("node_thermal_zone_temp{type=\"x86_pkg_temp\",zone=\"0\"}"), Some(-2.75));
    }

    #[test]
    fn cores_are_told_from_what_stands_beside_them() {
        let mut bench = bench("frequencies");
        bench.file("devices/system/cpu/cpu3/cpufreq/scaling_cur_freq", b"2400000\n");
        bench.file("devices/system/cpu/cpuidle/cpufreq/scaling_cur_freq", b"1\n");
        assert_eq!(bench.tick(), Ok(0));
        assert_eq!(bench.names(), ["node_cpu_scaling_frequency_hertz{cpu=\"3\"}"]);
        assert_eq!(bench.value(&bench.names()[0]), Some(2.4e9));
    }

    #[test]
    fn disks_errors_are_hexadecimal() {
        let mut bench = bench("scsi_errors");
        bench.file("block/sda/device/ioerr_cnt", b"0x1f\n");
        bench.file("block/vda/size", b"9\n");
        assert_eq!(bench.tick(), Ok(0));
        assert_eq!(bench.value("pitwatch_disk_io_errors_total{device=\"sda\"}"), Some(31.0));
        assert_eq!(bench.len(), 1);
    }

    #[test]
    fn a_board_names_itself_and_hostile_text_is_text() {
        let mut bench = bench("dmi");
        bench.file("class/dmi/id/sys_vendor", b"Ven\x1b[31m\xff dor\n");
        bench.file("class/dmi/id/product_name", &[b'x'; 5000]);
        assert_eq!(bench.tick(), Ok(0));
        assert_eq!(bench.len(), 1);
        assert!(bench.names()[0].contains("system_vendor=\"Ven\\\\x1b[31m\\\\xff dor\""), "{:?}", bench.names());
        assert!(bench.names()[0].len() < 600);
    }

    #[test]
    fn every_class_has_a_file_for_each_metric() {
        assert!(SENSORS.iter().chain([&BOARD]).all(|class| class.metrics.len() == class.numbers.len()));
    }
}
