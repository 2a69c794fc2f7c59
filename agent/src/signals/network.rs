//! /proc/net/dev: bytes, packets, errors and drops of each network interface; and the softnet queues of each core.

use std::path::Path;

use super::metric::Metric;
use super::parse;
use super::source::{HeldFile, Keyed, Pass, Source, SourceError};
use super::table::Handle;

/// Longest interface name taken, in bytes; the kernel's own limit is 15.
pub(super) const DEVICE_MAX_BYTES: usize = 64;
const FILE: &str = "/proc/net/dev";

const fn counter(name: &'static str, unit: &'static str, help: &'static str) -> Metric {
    Metric::counter(name, unit, FILE, help).by(&["device"])
}

/// What /proc/net/dev gives, in the order of its columns.
pub(super) static METRICS: [Metric; 16] = [
    counter("node_network_receive_bytes_total", "bytes", "Bytes received."),
    counter("node_network_receive_packets_total", "packets", "Packets received."),
    counter("node_network_receive_errs_total", "packets", "Packets received with an error."),
    counter("node_network_receive_drop_total", "packets", "Packets received and dropped."),
    counter("node_network_receive_fifo_total", "packets", "Packets lost to a full receive queue."),
    counter("node_network_receive_frame_total", "packets", "Packets received with a framing error."),
    counter("node_network_receive_compressed_total", "packets", "Compressed packets received."),
    counter("node_network_receive_multicast_total", "packets", "Multicast packets received."),
    counter("node_network_transmit_bytes_total", "bytes", "Bytes sent."),
    counter("node_network_transmit_packets_total", "packets", "Packets sent."),
    counter("node_network_transmit_errs_total", "packets", "Packets that could not be sent for an error."),
    counter("node_network_transmit_drop_total", "packets", "Packets dropped before they were sent."),
    counter("node_network_transmit_fifo_total", "packets", "Packets lost to a full send queue."),
    counter("node_network_transmit_colls_total", "collisions", "Collisions."),
    counter("node_network_transmit_carrier_total", "packets", "Packets lost to a missing carrier."),
    counter("node_network_transmit_compressed_total", "packets", "Compressed packets sent."),
];

/// /proc/net/dev.
pub(super) struct Network {
    file: HeldFile,
    devices: Keyed<Device>,
}

struct Device {
    label: String,
    handles: [Handle; METRICS.len()],
}

impl Network {
    pub(super) fn new(proc_root: &Path) -> Self {
        Self { file: HeldFile::optional(proc_root.join("net/dev")), devices: Keyed::default() }
    }
}

impl Source for Network {
    fn name(&self) -> &'static str {
        "network"
    }

    fn gather(&mut self, pass: &mut Pass<'_>) -> Result<(), SourceError> {
        let sink = &mut pass.sink;
        let Some(text) = self.file.read(pass.buffer, &mut sink.malformed)? else { return Ok(()) };
        self.devices.begin();
        // Two lines of headings; a name may hold a colon (an alias), so that the last one parts name and numbers.
        for line in parse::lines(text).skip(2) {
            let Some(colon) = line.iter().rposition(|byte| *byte == b':') else {
                sink.malformed += 1;
                continue;
            };
            let made = |name: &[u8]| Device { label: parse::text(name, DEVICE_MAX_BYTES), handles: Default::default() };
            let Some(device) = self.devices.entry(parse::trim(&line[..colon]), made) else {
                sink.malformed += 1;
                continue;
            };
            let columns = device.handles.iter_mut().zip(&METRICS);
            for (word, (handle, metric)) in parse::words(&line[colon + 1..]).zip(columns) {
                sink.set(handle, metric, &[("device", &device.label)], parse::count(word));
            }
        }
        self.devices.end();
        Ok(())
    }
}

const SOFTNET_FILE: &str = "/proc/net/softnet_stat";
/// The column that numbers the core (Linux 5.10 and later); before, the line's place does.
const SOFTNET_CPU_COLUMN: usize = 12;

/// What /proc/net/softnet_stat gives, in the order of its columns.
pub(super) static SOFTNET: [Metric; 3] = [
    Metric::counter("node_softnet_processed_total", "packets", SOFTNET_FILE, "Packets that a core processed.")
        .by(&["cpu"]),
    Metric::counter("node_softnet_dropped_total", "packets", SOFTNET_FILE, "Packets dropped for a full backlog.")
        .by(&["cpu"]),
    Metric::counter(
        "node_softnet_times_squeezed_total",
        "times",
        SOFTNET_FILE,
        "Times that a core had more packets than its turn allowed.",
    )
    .by(&["cpu"]),
];

/// /proc/net/softnet_stat.
pub(super) struct Softnet {
    file: HeldFile,
    cores: Keyed<Core>,
}

struct Core {
    label: String,
    handles: [Handle; SOFTNET.len()],
}

impl Softnet {
    pub(super) fn new(proc_root: &Path) -> Self {
        Self { file: HeldFile::optional(proc_root.join("net/softnet_stat")), cores: Keyed::default() }
    }
}

impl Source for Softnet {
    fn name(&self) -> &'static str {
        "softnet"
    }

    fn gather(&mut self, pass: &mut Pass<'_>) -> Result<(), SourceError> {
        let sink = &mut pass.sink;
        let Some(text) = self.file.read(pass.buffer, &mut sink.malformed)? else { return Ok(()) };
        self.cores.begin();
        for (place, line) in parse::lines(text).enumerate() {
            let cpu = match parse::words(line).nth(SOFTNET_CPU_COLUMN) {
                Some(word) => parse::hex(word),
                None => Some(place as u64),
            };
            let made = |cpu: u64| Core { label: cpu.to_string(), handles: Default::default() };
            let Some(core) = cpu.and_then(|cpu| self.cores.entry(&cpu.to_le_bytes(), |_| made(cpu))) else {
                sink.malformed += 1;
                continue;
            };
            for (word, (handle, metric)) in parse::words(line).zip(core.handles.iter_mut().zip(&SOFTNET)) {
                let value = parse::hex(word).map(|number| number as f64);
                sink.set(handle, metric, &[("cpu", &core.label)], value);
            }
        }
        self.cores.end();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Bench, survives_mutation};
    use super::*;

    #[test]
    fn a_captured_file_gives_its_numbers() {
        let mut bench = Bench::new(|root| Box::new(Network::new(root)));
        bench.file("net/dev", include_bytes!("../../testdata/proc/net/dev"));
        assert_eq!(bench.tick(), Ok(0));
        assert_eq!(bench.value("node_network_receive_bytes_total{device=\"lo\"}"), Some(62_960.0));
        assert_eq!(bench.value("node_network_transmit_packets_total{device=\"eth0\"}"), Some(11_264.0));
        assert_eq!(bench.len(), 4 * METRICS.len());
    }

    #[test]
    fn hostile_names_are_shown_and_interfaces_come_and_go() {
        let mut bench = Bench::new(|root| Box::new(Network::new(root)));
        let head = b"Inter-|\n face |\n".to_vec();
        bench.file("net/dev", &[&head[..], b"a\xff\x1bb: 7 1\neth0:1: 5\nno colon\n   : 1\n"].concat());
        assert_eq!(bench.tick(), Ok(1));
        assert_eq!(
            bench.names(),
            [
                "node_network_receive_bytes_total",
                "node_network_receive_bytes_total{device=\"a\\\\xff\\\\x1bb\"}",
                "node_network_receive_bytes_total{device=\"eth0:1\"}",
                "node_network_receive_packets_total{device=\"a\\\\xff\\\\x1bb\"}",
            ]
        );
        bench.file("net/dev", &[&head[..], b"veth9: 7\n"].concat());
        assert_eq!(bench.tick(), Ok(0));
        assert_eq!(bench.names(), ["node_network_receive_bytes_total{device=\"veth9\"}"]);
    }

    #[test]
    fn softnet_counts_by_core_in_hexadecimal() {
        let mut bench = Bench::new(|root| Box::new(Softnet::new(root)));
        bench.file("net/softnet_stat", include_bytes!("../../testdata/proc/net/softnet_stat"));
        assert_eq!(bench.tick(), Ok(0));
        assert_eq!(bench.value("node_softnet_processed_total{cpu=\"1\"}"), Some(f64::from(0x4118)));
        bench.file("net/softnet_stat", b"0000000a 00000001 00000002\nzz 1 2\n");
        assert_eq!(bench.tick(), Ok(1));
        assert_eq!(bench.value("node_softnet_times_squeezed_total{cpu=\"0\"}"), Some(2.0));
    }

    #[test]
    fn mutated_files_are_survived() {
        let dev = include_bytes!("../../testdata/proc/net/dev");
        survives_mutation("net/dev", dev, |root| Box::new(Network::new(root)));
        let softnet = include_bytes!("../../testdata/proc/net/softnet_stat");
        survives_mutation("net/softnet_stat", softnet, |root| Box::new(Softnet::new(root)));
    }
}
