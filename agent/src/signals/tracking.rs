//! Tables that the network keeps: neighbours (/proc/net/arp) and tracked connections (/proc/net/stat/nf_conntrack).

use std::path::Path;

use super::metric::Metric;
use super::network::DEVICE_MAX_BYTES;
use super::parse;
use super::source::{HeldFile, Keyed, Pass, Source, SourceError};
use super::table::Handle;

const STAT: &str = "/proc/net/stat/nf_conntrack";

/// What the statistics of connection tracking give, added up over the cores.
pub(super) static CONNTRACK_STAT: [Metric; 8] = [
    Metric::gauge("node_nf_conntrack_stat_found", "packets", STAT, "Packets of connections that were known."),
    Metric::gauge("node_nf_conntrack_stat_invalid", "packets", STAT, "Packets that could not be tracked."),
    Metric::gauge("node_nf_conntrack_stat_ignore", "packets", STAT, "Packets of connections that are not tracked."),
    Metric::gauge("node_nf_conntrack_stat_insert", "connections", STAT, "Connections put into the table."),
    Metric::gauge("node_nf_conntrack_stat_insert_failed", "connections", STAT, "Connections that were there already."),
    Metric::gauge("node_nf_conntrack_stat_drop", "packets", STAT, "Packets dropped: the table was full or failed."),
    Metric::gauge("node_nf_conntrack_stat_early_drop", "connections", STAT, "Connections dropped to make room."),
    Metric::gauge("node_nf_conntrack_stat_search_restart", "searches", STAT, "Searches begun anew as the table grew."),
];

/// The heading of each of [`CONNTRACK_STAT`].
const HEADINGS: [&[u8]; CONNTRACK_STAT.len()] =
    [b"found", b"invalid", b"ignore", b"insert", b"insert_failed", b"drop", b"early_drop", b"search_restart"];

/// /proc/net/stat/nf_conntrack.
pub(super) struct ConntrackStat {
    file: HeldFile,
    handles: [Handle; CONNTRACK_STAT.len()],
}

impl ConntrackStat {
    pub(super) fn new(proc_root: &Path) -> Self {
        Self { file: HeldFile::optional(proc_root.join("net/stat/nf_conntrack")), handles: Default::default() }
    }
}

impl Source for ConntrackStat {
    fn name(&self) -> &'static str {
        "conntrack_stat"
    }

    fn gather(&mut self, pass: &mut Pass<'_>) -> Result<(), SourceError> {
        let sink = &mut pass.sink;
        let Some(text) = self.file.read(pass.buffer, &mut sink.malformed)? else { return Ok(()) };
        let mut lines = parse::lines(text);
        let Some(heading) = lines.next() else { return Err(self.file.malformed()) };
        let mut sums = [0.0; CONNTRACK_STAT.len()];
        for line in lines {
            for (heading, word) in parse::words(heading).zip(parse::words(line)) {
                let Some(at) = HEADINGS.iter().position(|wanted| *wanted == heading) else { continue };
                match parse::hex(word) {
                    Some(number) => sums[at] += number as f64,
                    None => sink.malformed += 1,
                }
            }
        }
        for (at, (handle, metric)) in self.handles.iter_mut().zip(&CONNTRACK_STAT).enumerate() {
            // Kernels drop a column now and then.
            if parse::words(heading).any(|word| word == HEADINGS[at]) {
                sink.set(handle, metric, &[], Some(sums[at]));
            }
        }
        Ok(())
    }
}

/// What the neighbour table gives.
pub(super) static ARP: [Metric; 1] =
    [Metric::gauge("node_arp_entries", "neighbours", "/proc/net/arp", "IPv4 neighbours known on an interface.")
        .by(&["device"])];

/// /proc/net/arp.
pub(super) struct Arp {
    file: HeldFile,
    devices: Keyed<Neighbours>,
}

struct Neighbours {
    label: String,
    count: u64,
    handle: Handle,
}

impl Arp {
    pub(super) fn new(proc_root: &Path) -> Self {
        Self { file: HeldFile::optional(proc_root.join("net/arp")), devices: Keyed::default() }
    }
}

impl Source for Arp {
    fn name(&self) -> &'static str {
        "arp"
    }

    fn gather(&mut self, pass: &mut Pass<'_>) -> Result<(), SourceError> {
        let sink = &mut pass.sink;
        let Some(text) = self.file.read(pass.buffer, &mut sink.malformed)? else { return Ok(()) };
        self.devices.begin();
        for known in self.devices.values() {
            known.count = 0;
        }
        for line in parse::lines(text).skip(1) {
            // IP address, HW type, flags, HW address, mask, device.
            let Some(device) = parse::words(line).nth(5) else {
                sink.malformed += 1;
                continue;
            };
            let made = |name: &[u8]| Neighbours {
                label: parse::text(name, DEVICE_MAX_BYTES),
                count: 0,
                handle: Handle::default(),
            };
            match self.devices.entry(device, made) {
                Some(neighbours) => neighbours.count += 1,
                None => sink.malformed += 1,
            }
        }
        self.devices.end();
        for Neighbours { label, count, handle } in self.devices.values() {
            sink.set(handle, &ARP[0], &[("device", label)], Some(*count as f64));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Bench, survives_mutation};
    use super::*;

    const STAT_TEXT: &[u8] = b"entries  clashres found new invalid insert insert_failed drop search_restart\n\
        00000003  00000000 0000000a 00000000 00000002 00000000 00000000 00000001 00000000\n\
        00000003  00000000 00000006 00000000 00000000 00000000 00000000 00000001 00000000\n";

    #[test]
    fn statistics_are_added_up_over_the_cores() {
        let mut bench = Bench::new(|root| Box::new(ConntrackStat::new(root)));
        bench.file("net/stat/nf_conntrack", STAT_TEXT);
        assert_eq!(bench.tick(), Ok(0));
        assert_eq!(bench.value("node_nf_conntrack_stat_found"), Some(16.0));
        assert_eq!(bench.value("node_nf_conntrack_stat_drop"), Some(2.0));
        assert_eq!(bench.value("node_nf_conntrack_stat_ignore"), None, "a kernel without the column");
        bench.file("net/stat/nf_conntrack", b"found drop\n1 x\n");
        assert_eq!(bench.tick(), Ok(1));
        survives_mutation("net/stat/nf_conntrack", STAT_TEXT, |root| Box::new(ConntrackStat::new(root)));
    }

    #[test]
    fn neighbours_are_counted_by_interface() {
        let text = b"IP address HW type Flags HW address Mask Device\n\
            192.0.2.1 0x1 0x2 02:00:00:00:00:05 * eth0\n192.0.2.9 0x1 0x2 02:00:00:00:00:06 * eth0\n\
            198.51.100.1 0x1 0x0 00:00:00:00:00:00 * wg0\n";
        let mut bench = Bench::new(|root| Box::new(Arp::new(root)));
        bench.file("net/arp", text);
        assert_eq!(bench.tick(), Ok(0));
        assert_eq!(bench.value("node_arp_entries{device=\"eth0\"}"), Some(2.0));
        assert_eq!(bench.value("node_arp_entries{device=\"wg0\"}"), Some(1.0));
        bench.file("net/arp", b"IP address HW type Flags HW address Mask Device\nshort line\n");
        assert_eq!(bench.tick(), Ok(1));
        assert_eq!(bench.len(), 0);
        survives_mutation("net/arp", text, |root| Box::new(Arp::new(root)));
    }
}
