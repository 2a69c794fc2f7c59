//! /sys/class/net: whether an interface is up, its speed, MTU, addresses and numbers.
//!
//! These are a score of small files an interface, and change seldom: they have a slower cadence of their own.

use std::path::{Path, PathBuf};

use super::metric::Metric;
use super::network::DEVICE_MAX_BYTES;
use super::parse;
use super::source::{Buffer, Keyed, Pass, Sink, Source, SourceError};
use super::table::Handle;

/// Longest text of a file taken into a label, in bytes; the kernel's longest, an alias, has 255.
const TEXT_MAX_BYTES: usize = 255;
/// The bit of `flags` by which the administrator has the interface up.
const FLAG_UP: u64 = 1;

/// How a file writes its number.
#[derive(Clone, Copy)]
enum Form {
    Decimal,
    Hex,
    /// Mbit/s, given as bytes a second; below nought it is unknown, and so not given.
    Megabits,
}

const fn gauge(name: &'static str, unit: &'static str, help: &'static str) -> Metric {
    Metric::gauge(name, unit, "/sys/class/net/*", help).by(&["device"])
}

const fn counter(name: &'static str, unit: &'static str, help: &'static str) -> Metric {
    Metric::counter(name, unit, "/sys/class/net/*", help).by(&["device"])
}

/// What the files of one number give.
pub(super) static NUMBERS: [Metric; 18] = [
    gauge("node_network_iface_id", "", "The interface's index."),
    gauge("node_network_iface_link", "", "The index of the interface that this one is linked to."),
    gauge("node_network_iface_link_mode", "", "The interface's link mode."),
    gauge("node_network_address_assign_type", "", "How the hardware address came about."),
    gauge("node_network_carrier", "", "Whether the interface has a carrier; absent while it is down."),
    counter("node_network_carrier_changes_total", "changes", "Times that the carrier came or went."),
    counter("node_network_carrier_up_changes_total", "changes", "Times that the carrier came."),
    counter("node_network_carrier_down_changes_total", "changes", "Times that the carrier went."),
    gauge("node_network_device_id", "", "The interface's number among those of one device."),
    gauge("node_network_dormant", "", "Whether the interface waits for something beside its carrier."),
    gauge("node_network_flags", "", "The interface's flags, IFF_* of the kernel."),
    gauge("node_network_mtu_bytes", "bytes", "Largest packet sent."),
    gauge("node_network_name_assign_type", "", "How the interface's name came about."),
    gauge("node_network_net_dev_group", "", "The interface's group."),
    gauge("node_network_speed_bytes", "bytes a second", "The link's speed; absent where it is not known."),
    gauge("node_network_transmit_queue_length", "packets", "Length of the send queue."),
    gauge("node_network_protocol_type", "", "The interface's protocol, ARPHRD_* of the kernel."),
    counter("node_network_receive_nohandler_total", "packets", "Packets received that nobody wanted."),
];

/// The file of each of [`NUMBERS`].
const FILES: [(&str, Form); NUMBERS.len()] = [
    ("ifindex", Form::Decimal),
    ("iflink", Form::Decimal),
    ("link_mode", Form::Decimal),
    ("addr_assign_type", Form::Decimal),
    ("carrier", Form::Decimal),
    ("carrier_changes", Form::Decimal),
    ("carrier_up_count", Form::Decimal),
    ("carrier_down_count", Form::Decimal),
    ("dev_id", Form::Hex),
    ("dormant", Form::Decimal),
    ("flags", Form::Hex),
    ("mtu", Form::Decimal),
    ("name_assign_type", Form::Decimal),
    ("netdev_group", Form::Decimal),
    ("speed", Form::Megabits),
    ("tx_queue_len", Form::Decimal),
    ("type", Form::Decimal),
    ("statistics/rx_nohandler", Form::Decimal),
];

/// The files of the info's labels; what is no file is made of the flags.
const INFO_FILES: [&str; 6] = ["operstate", "address", "broadcast", "duplex", "ifalias", "adminstate"];
const OPERSTATE: usize = 0;
const ADMINSTATE: usize = 5;

/// What the files of text give.
pub(super) static TEXTS: [Metric; 2] = [
    gauge("node_network_up", "", "1 if the interface's state is up, else 0."),
    Metric::gauge("node_network_info", "", "/sys/class/net/*", "Addresses and state of the interface; always 1.")
        .by(&["address", "adminstate", "broadcast", "device", "duplex", "ifalias", "operstate"]),
];

/// /sys/class/net.
pub(super) struct Interfaces {
    dir: PathBuf,
    devices: Keyed<Device>,
}

struct Device {
    label: String,
    numbers: [Handle; NUMBERS.len()],
    up: Handle,
    /// The texts of the info's labels.
    texts: [String; INFO_FILES.len()],
    info: Handle,
}

impl Interfaces {
    pub(super) fn new(sys_root: &Path) -> Self {
        Self { dir: sys_root.join("class/net"), devices: Keyed::default() }
    }
}

impl Source for Interfaces {
    fn name(&self) -> &'static str {
        "interfaces"
    }

    fn gather(&mut self, pass: &mut Pass<'_>) -> Result<(), SourceError> {
        let unreadable = |source| SourceError::Read { path: self.dir.clone(), source };
        let listing = match std::fs::read_dir(&self.dir) {
            Ok(listing) => listing,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(unreadable(error)),
        };
        self.devices.begin();
        for name in listing.flatten().map(|entry| entry.file_name()) {
            let path = self.dir.join(&name);
            // Beside the interfaces stands a file of the bonding driver's.
            if name == "bonding_masters" {
                continue;
            }
            let device = self.devices.entry(name.as_encoded_bytes(), Device::new);
            match device {
                Some(device) => device.gather(&path, pass.buffer, &mut pass.sink),
                None => pass.sink.malformed += 1,
            }
        }
        self.devices.end();
        Ok(())
    }
}

impl Device {
    fn new(name: &[u8]) -> Self {
        Self {
            label: parse::text(name, DEVICE_MAX_BYTES),
            numbers: Default::default(),
            up: Handle::default(),
            texts: Default::default(),
            info: Handle::default(),
        }
    }

    /// Reads the files of the interface; one that vanishes meanwhile has none, and so no series.
    fn gather(&mut self, dir: &Path, buffer: &mut Buffer, sink: &mut Sink<'_>) {
        let device = ("device", self.label.as_str());
        let mut flags = 0;
        for ((file, form), (handle, metric)) in FILES.into_iter().zip(self.numbers.iter_mut().zip(&NUMBERS)) {
            let Some(text) = read(dir, file, buffer, sink) else { continue };
            let value = match form {
                Form::Decimal => parse::signed(text),
                Form::Hex => parse::hex(text).map(|number| number as f64),
                Form::Megabits => match parse::signed(text) {
                    Some(megabits) if megabits < 0.0 => continue,
                    megabits => megabits.map(|megabits| megabits * 1e6 / 8.0),
                },
            };
            if file == "flags" {
                flags = parse::hex(text).unwrap_or(0);
            }
            sink.set(handle, metric, &[device], value);
        }
        let mut texts = INFO_FILES.map(|file| {
            read(dir, file, buffer, sink).map(|text| parse::text(text, TEXT_MAX_BYTES)).unwrap_or_default()
        });
        if texts[OPERSTATE].is_empty() {
            return;
        }
        let up = if texts[OPERSTATE] == "up" { 1.0 } else { 0.0 };
        sink.set(&mut self.up, &TEXTS[0], &[device], Some(up));
        texts[ADMINSTATE] = if flags & FLAG_UP != 0 { "up" } else { "down" }.to_owned();
        if texts != self.texts {
            // Other labels are another series: the old handle does not fit.
            self.texts = texts;
            self.info = Handle::default();
        }
        let [operstate, address, broadcast, duplex, ifalias, adminstate] = &self.texts;
        let labels = [
            device,
            ("operstate", operstate),
            ("address", address),
            ("broadcast", broadcast),
            ("duplex", duplex),
            ("ifalias", ifalias),
            ("adminstate", adminstate),
        ];
        sink.set(&mut self.info, &TEXTS[1], &labels, Some(1.0));
    }
}

/// The text of an interface's file without its line end; a file that is absent or has nothing to say is `None`.
fn read<'b>(dir: &Path, file: &str, buffer: &'b mut Buffer, sink: &mut Sink<'_>) -> Option<&'b [u8]> {
    match buffer.read_once(&dir.join(file)) {
        Ok(text) => text.map(parse::trim).filter(|text| !text.is_empty()),
        Err(_) => {
            sink.malformed += 1;
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::Bench;
    use super::*;

    fn bench() -> Bench {
        let bench = Bench::new(|root| Box::new(Interfaces::new(root)));
        let files = [("ifindex", "4"), ("carrier", "1"), ("speed", "1000"), ("mtu", "1400"), ("flags", "0x1003")];
        for (file, text) in files.into_iter().chain([("address", "02:fc:00:00:00:01"), ("operstate", "up")]) {
            bench.file(&format!("class/net/eth0/{file}"), format!("{text}\n").as_bytes());
        }
        bench.file("class/net/bonding_masters", b"\n");
        bench
    }

    #[test]
    fn an_interface_gives_what_its_files_say() {
        let mut bench = bench();
        assert_eq!(bench.tick(), Ok(0));
        assert_eq!(bench.value("node_network_speed_bytes{device=\"eth0\"}"), Some(125e6));
        assert_eq!(bench.value("node_network_flags{device=\"eth0\"}"), Some(f64::from(0x1003)));
        assert_eq!(bench.value("node_network_up{device=\"eth0\"}"), Some(1.0));
        let info =
            "node_network_info{address=\"02:fc:00:00:00:01\",adminstate=\"up\",device=\"eth0\",operstate=\"up\"}";
        assert_eq!(bench.value(info), Some(1.0));
        assert_eq!(bench.len(), 7);
    }

    #[test]
    fn a_change_of_state_is_another_info() {
        let mut bench = bench();
        bench.tick().unwrap();
        bench.file("class/net/eth0/operstate", b"down\n");
        bench.file("class/net/eth0/speed", b"-1\n");
        bench.tick().unwrap();
        assert_eq!(bench.value("node_network_up{device=\"eth0\"}"), Some(0.0));
        assert_eq!(bench.value("node_network_speed_bytes{device=\"eth0\"}"), None, "an unknown speed is no number");
        let infos: Vec<_> = bench.names().into_iter().filter(|name| name.contains("_info")).collect();
        assert_eq!(infos.len(), 1);
        assert!(infos[0].contains("operstate=\"down\""), "{infos:?}");
    }

    #[test]
    fn hostile_files_are_counted_and_a_lost_interface_ends() {
        let mut bench = bench();
        bench.file("class/net/eth0/mtu", b"\xff\xfe");
        bench.file("class/net/eth0/ifalias", &[0x1b; 100_000]);
        assert_eq!(bench.tick(), Ok(1));
        std::fs::remove_dir_all(bench.path("class/net/eth0")).unwrap();
        assert_eq!(bench.tick(), Ok(0));
        assert_eq!(bench.len(), 0);
    }
}
