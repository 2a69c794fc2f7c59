//! Directories of /sys whose entries have the same small files: thermal zones, core frequencies, power supplies, memory
//! controllers, disks' controllers, adapters.
//!
//! A [`Class`] says where the entries are, which files become labels and which become values; `sensors`, `power` and `devices`
//! hold the classes. A file that is absent, has no value now or is not for this user gives no series; `pitwatch-agent doctor`
//! says which those are.

mod devices;
mod power;
mod sensors;

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::metric::Metric;
use super::parse;
use super::source::{Directory, Keyed, Pass, Source, SourceError, names_in};
use super::table::Handle;

pub(super) use self::devices::{
    DMI_INFO, FC_COUNTERS, FC_INFO, INFINIBAND, INFINIBAND_INFO, MEMORY_ERRORS, MEMORY_ROW_ERRORS, NVME_INFO,
    SCSI_ERRORS, TAPES,
};
pub(super) use self::power::{POWER_SUPPLIES, POWER_SUPPLY_INFO};
pub(super) use self::sensors::{COOLING_DEVICES, FREQUENCIES, THERMAL_ZONES};

/// The board: it does not change while the host runs.
pub(super) use self::devices::BOARD;

/// Longest name of an entry, and longest text of a file, taken into a label, in bytes.
const TEXT_MAX_BYTES: usize = 255;
/// What some drivers say of a counter that their hardware does not have.
const NOT_COUNTED: &[u8] = b"0xffffffffffffffff";

/// Entries of one kind.
pub(super) struct Class {
    /// The source's name.
    name: &'static str,
    /// Where the entries are, below /sys.
    dir: &'static str,
    /// What their names begin with; what follows must be a number, unless there is no prefix.
    prefix: &'static str,
    /// The label that holds the entry's name, without the prefix unless `whole_name`.
    label: &'static str,
    whole_name: bool,
    /// Entries within the entries, if those are meant.
    within: Option<Within>,
    /// Where an entry's files are, below the entry.
    below: &'static str,
    /// A label that all entries have alike.
    fixed: Option<(&'static str, &'static str)>,
    /// Labels that are files.
    texts: &'static [(&'static str, &'static str)],
    /// Whether texts are hexadecimal numbers, to be given without `0x`.
    bare_hex: bool,
    /// The file of each metric and what one of its units is worth; without a file the value is 1.
    numbers: &'static [(&'static str, f64)],
    /// In the order of `numbers`.
    metrics: &'static [Metric],
}

/// Entries within an entry of a [`Class`]: named by a prefix and a number, which is their label.
struct Within {
    dir: &'static str,
    prefix: &'static str,
    label: &'static str,
}

/// What a class is unless it says otherwise.
const CLASS: Class = Class {
    name: "",
    dir: "",
    prefix: "",
    label: "",
    whole_name: false,
    within: None,
    below: "",
    fixed: None,
    texts: &[],
    bare_hex: false,
    numbers: &[],
    metrics: &[],
};

/// Every class whose entries change while the host runs.
fn classes() -> impl Iterator<Item = &'static Class> {
    sensors::CLASSES.iter().chain(&power::CLASSES).chain(&devices::CLASSES)
}

/// A source for each of them.
pub(super) fn sources(sys_root: &Path) -> impl Iterator<Item = Box<dyn Source>> {
    classes().map(|class| Box::new(Entries::new(sys_root, class)) as Box<dyn Source>)
}

/// The entries of one class.
pub(super) struct Entries {
    class: &'static Class,
    dir: Directory,
    entries: Keyed<Entry>,
}

struct Entry {
    label: String,
    inner: String,
    texts: Vec<String>,
    handles: Vec<Handle>,
}

impl Entries {
    pub(super) fn new(sys_root: &Path, class: &'static Class) -> Self {
        Self { class, dir: Directory::new(sys_root.join(class.dir)), entries: Keyed::default() }
    }

    fn entry(&mut self, name: &[u8], inner: &[u8], dir: &Path, pass: &mut Pass<'_>) {
        let class = self.class;
        let label = class.label_of(name);
        let made = |_: &[u8]| Entry {
            label: parse::text(label, TEXT_MAX_BYTES),
            inner: parse::text(inner, TEXT_MAX_BYTES),
            texts: vec![String::new(); class.texts.len()],
            handles: vec![Handle::default(); class.numbers.len()],
        };
        let found = match inner {
            b"" => self.entries.entry(name, made),
            inner => self.entries.entry(&[name, inner].join(&b'/'), made),
        };
        match found {
            Some(entry) => entry.gather(class, &dir.join(class.below), pass),
            None => pass.sink.malformed += 1,
        }
    }
}

impl Source for Entries {
    fn name(&self) -> &'static str {
        self.class.name
    }

    fn gather(&mut self, pass: &mut Pass<'_>) -> Result<(), SourceError> {
        let names = self.dir.names()?;
        self.entries.begin();
        for name in names {
            if number_behind(name.as_bytes(), self.class.prefix).is_none() {
                continue;
            }
            let dir = self.dir.path().join(&name);
            match &self.class.within {
                None => self.entry(name.as_bytes(), b"", &dir, pass),
                Some(within) => {
                    let dir = dir.join(within.dir);
                    for inner in names_in(&dir) {
                        if let Some(number) = number_behind(inner.as_bytes(), within.prefix) {
                            self.entry(name.as_bytes(), number, &dir.join(&inner), pass);
                        }
                    }
                }
            }
        }
        self.entries.end();
        Ok(())
    }
}

/// What an entry's name says behind the prefix; `None`: it is none that is meant.
fn number_behind<'n>(name: &'n [u8], prefix: &str) -> Option<&'n [u8]> {
    let rest = name.strip_prefix(prefix.as_bytes())?;
    (prefix.is_empty() || parse::whole(rest).is_some()).then_some(rest)
}

/// The number that a file begins with: `0x1f`, `-2750`, `2.5 Gb/sec`, `4: ACTIVE`.
fn number(text: &[u8]) -> Option<f64> {
    if let Some(digits) = text.strip_prefix(b"0x") {
        return parse::hex(digits).map(|number| number as f64);
    }
    let word = parse::words(text).next()?;
    let word = word.strip_suffix(b":").unwrap_or(word);
    parse::signed(word).or_else(|| parse::decimal(word))
}

impl Class {
    fn label_of<'n>(&self, name: &'n [u8]) -> &'n [u8] {
        if self.whole_name { name } else { &name[self.prefix.len()..] }
    }
}

impl Entry {
    fn gather(&mut self, class: &Class, dir: &Path, pass: &mut Pass<'_>) {
        let mut texts = Vec::with_capacity(class.texts.len());
        for (_, file) in class.texts {
            let text = pass.buffer.read_small(&dir.join(file)).unwrap_or_default();
            let text = text.strip_prefix(b"0x").filter(|_| class.bare_hex).unwrap_or(text);
            texts.push(parse::text(text, TEXT_MAX_BYTES));
        }
        if texts != self.texts {
            // Other labels are another series: the old handles do not fit.
            self.texts = texts;
            self.handles.fill(Handle::default());
        }
        let texts = class.texts.iter().zip(&self.texts).map(|((label, _), text)| (*label, text.as_str()));
        let own = (!class.label.is_empty()).then_some((class.label, self.label.as_str()));
        let inner = class.within.as_ref().map(|within| (within.label, self.inner.as_str()));
        let labels: Vec<_> = own.into_iter().chain(inner).chain(class.fixed).chain(texts).collect();
        for ((file, unit), (handle, metric)) in class.numbers.iter().zip(self.handles.iter_mut().zip(class.metrics)) {
            if file.is_empty() {
                // An entry whose every file is absent is none.
                if self.texts.iter().any(|text| !text.is_empty()) {
                    pass.sink.set(handle, metric, &labels, Some(1.0));
                }
                continue;
            }
            let Some(text) = pass.buffer.read_small(&dir.join(file)) else { continue };
            if text != NOT_COUNTED {
                pass.sink.set(handle, metric, &labels, number(text).map(|number| number / unit));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::Bench;
    use super::*;

    fn bench(name: &str) -> Bench {
        let class = classes().chain([&BOARD]).find(|class| class.name == name).unwrap();
        Bench::new(|root| Box::new(Entries::new(root, class)))
    }

    #[test]
    fn a_zone_gives_its_temperature_by_type() {
        let mut bench = bench("thermal_zones");
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
    fn a_host_without_the_class_has_none_of_it() {
        for class in classes().chain([&BOARD]) {
            let mut bench = Bench::new(|root| Box::new(Entries::new(root, class)));
            assert_eq!((bench.tick(), bench.len()), (Ok(0), 0), "{}", class.name);
        }
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
    fn memory_errors_are_by_row_and_without_one() {
        let (mut rows, mut unknown) = (bench("memory_row_errors"), bench("memory_rowless_errors"));
        for bench in [&mut rows, &mut unknown] {
            bench.file("devices/system/edac/mc/mc0/ce_noinfo_count", b"2\n");
            bench.file("devices/system/edac/mc/mc0/ue_noinfo_count", b"0\n");
            bench.file("devices/system/edac/mc/mc0/csrow1/ce_count", b"3\n");
            bench.file("devices/system/edac/mc/mc0/csrow1/ue_count", b"4\n");
            bench.file("devices/system/edac/mc/power/control", b"auto\n");
            assert_eq!(bench.tick(), Ok(0));
        }
        let name =
            |kind: &str, row: &str| format!("node_edac_csrow_{kind}_errors_total{{controller=\"0\",csrow=\"{row}\"}}");
        assert_eq!(rows.value(&name("correctable", "1")), Some(3.0));
        assert_eq!(rows.value(&name("uncorrectable", "1")), Some(4.0));
        assert_eq!(rows.len(), 2);
        assert_eq!(unknown.value(&name("correctable", "unknown")), Some(2.0));
        assert_eq!(unknown.len(), 2);
    }

    #[test]
    fn a_port_of_infiniband_gives_its_state_its_rate_and_bytes() {
        let mut bench = bench("infiniband");
        for (file, text) in [
            ("state", "4: ACTIVE\n"),
            ("phys_state", "5: LinkUp\n"),
            ("rate", "2.5 Gb/sec (1X SDR)\n"),
            ("counters/port_rcv_data", "1000\n"),
            ("counters/port_rcv_errors", "7\n"),
            ("counters_ext/port_rcv_data_64", "2000\n"),
        ] {
            bench.file(&format!("class/infiniband/mlx4_0/ports/1/{file}"), text.as_bytes());
        }
        assert_eq!(bench.tick(), Ok(0));
        let value =
            |name: &str| bench.value(&format!("node_infiniband_{name}{{device=\"mlx4_0\",port=\"1\"}}")).unwrap();
        assert_eq!((value("state_id"), value("physical_state_id")), (4.0, 5.0));
        assert_eq!(value("rate_bytes_per_second").round(), 312_500_000.0);
        assert_eq!(
            (value("port_data_received_bytes_total"), value("legacy_data_received_bytes_total")),
            (4000.0, 8000.0)
        );
        assert_eq!(value("port_errors_received_total"), 7.0);
    }

    #[test]
    fn an_adapter_of_fibre_channel_counts_what_its_hardware_counts() {
        let mut bench = bench("fibrechannel");
        bench.file("class/fc_host/host0/statistics/rx_frames", b"0x3\n");
        bench.file("class/fc_host/host0/statistics/tx_frames", b"0xffffffffffffffff\n");
        assert_eq!(bench.tick(), Ok(0));
        assert_eq!(bench.names(), ["node_fibrechannel_rx_frames_total{fc_host=\"host0\"}"]);
        assert_eq!(bench.value(&bench.names()[0]), Some(3.0));
        let mut bench = self::bench("fibrechannel_info");
        bench.file("class/fc_host/host0/port_name", b"0x1000e0071bce95f2\n");
        bench.file("class/fc_host/host0/port_state", b"Online\n");
        assert_eq!(bench.tick(), Ok(0));
        let name = "node_fibrechannel_info{fc_host=\"host0\",port_name=\"1000e0071bce95f2\",port_state=\"Online\"}";
        assert_eq!(bench.names(), [name]);
    }

    #[test]
    fn a_tape_drive_is_counted_once() {
        let mut bench = bench("tapes");
        for drive in ["st0", "nst0", "st0a"] {
            bench.file(&format!("class/scsi_tape/{drive}/stats/read_ns"), b"1500000000\n");
        }
        assert_eq!(bench.tick(), Ok(0));
        assert_eq!(bench.names(), ["node_tape_read_time_seconds_total{device=\"st0\"}"]);
        assert_eq!(bench.value(&bench.names()[0]), Some(1.5));
    }

    #[test]
    fn a_battery_says_what_it_is_and_how_full() {
        let mut bench = bench("power_supplies");
        bench.file("class/power_supply/BAT0/voltage_now", b"12229000\n");
        bench.file("class/power_supply/BAT0/temp", b"-15\n");
        bench.file("class/power_supply/BAT0/time_to_empty_now", b"90\n");
        assert_eq!(bench.tick(), Ok(0));
        let value = |name: &str| bench.value(&format!("node_power_supply_{name}{{power_supply=\"BAT0\"}}"));
        assert_eq!(value("voltage_volt"), Some(12.229));
        assert_eq!(value("temp_celsius"), Some(-1.5));
        assert_eq!(value("time_to_empty_seconds"), Some(90.0));
        let mut bench = self::bench("power_supply_info");
        bench.file("class/power_supply/BAT0/status", b"Discharging\n");
        assert_eq!(bench.tick(), Ok(0));
        assert_eq!(bench.names(), ["node_power_supply_info{power_supply=\"BAT0\",status=\"Discharging\"}"]);
    }

    #[test]
    fn every_class_has_a_file_for_each_metric() {
        assert!(classes().chain([&BOARD]).all(|class| class.metrics.len() == class.numbers.len()));
    }
}
