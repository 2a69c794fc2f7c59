//! Classes of what measures and cools: thermal zones, coolers, the cores' clock rates.

use super::super::metric::Metric;
use super::{CLASS, Class};

const THERMAL: &str = "/sys/class/thermal/thermal_zone*";
const COOLING: &str = "/sys/class/thermal/cooling_device*";
const CPUFREQ: &str = "/sys/devices/system/cpu/cpu*/cpufreq";

/// Temperatures of the board's zones.
pub(in super::super) static THERMAL_ZONES: [Metric; 1] =
    [Metric::gauge("node_thermal_zone_temp", "degrees Celsius", THERMAL, "Temperature of a zone.")
        .by(&["type", "zone"])];

/// Fans and other coolers.
pub(in super::super) static COOLING_DEVICES: [Metric; 2] = [
    Metric::gauge("node_cooling_device_cur_state", "", COOLING, "How hard a cooler works now.").by(&["name", "type"]),
    Metric::gauge("node_cooling_device_max_state", "", COOLING, "How hard a cooler can work.").by(&["name", "type"]),
];

const fn hertz(name: &'static str, help: &'static str) -> Metric {
    Metric::gauge(name, "hertz", CPUFREQ, help).by(&["cpu"])
}

/// Clock rates of the cores.
pub(in super::super) static FREQUENCIES: [Metric; 6] = [
    hertz("node_cpu_frequency_hertz", "Clock rate of a core, as the hardware says."),
    hertz("node_cpu_frequency_min_hertz", "Lowest clock rate that a core can have."),
    hertz("node_cpu_frequency_max_hertz", "Highest clock rate that a core can have."),
    hertz("node_cpu_scaling_frequency_hertz", "Clock rate of a core, as it was asked for."),
    hertz("node_cpu_scaling_frequency_min_hertz", "Lowest clock rate allowed."),
    hertz("node_cpu_scaling_frequency_max_hertz", "Highest clock rate allowed."),
];

/// The classes.
pub(super) static CLASSES: [Class; 3] = [
    Class {
        name: "thermal_zones",
        dir: "class/thermal",
        prefix: "thermal_zone",
        label: "zone",
        texts: &[("type", "type")],
        numbers: &[("temp", 1e3)],
        metrics: &THERMAL_ZONES,
        ..CLASS
    },
    Class {
        name: "cooling_devices",
        dir: "class/thermal",
        prefix: "cooling_device",
        label: "name",
        texts: &[("type", "type")],
        numbers: &[("cur_state", 1.0), ("max_state", 1.0)],
        metrics: &COOLING_DEVICES,
        ..CLASS
    },
    Class {
        name: "frequencies",
        dir: "devices/system/cpu",
        prefix: "cpu",
        below: "cpufreq",
        label: "cpu",
        numbers: &[
            ("cpuinfo_cur_freq", 1e-3),
            ("cpuinfo_min_freq", 1e-3),
            ("cpuinfo_max_freq", 1e-3),
            ("scaling_cur_freq", 1e-3),
            ("scaling_min_freq", 1e-3),
            ("scaling_max_freq", 1e-3),
        ],
        metrics: &FREQUENCIES,
        ..CLASS
    },
];
