//! The kernel's load balancer: what went through it, and the connections of each server behind it.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::Path;

use super::metric::Metric;
use super::parse;
use super::source::{Found, HeldFile, Pass, Source, SourceError};

/// Longest text taken into a label, in bytes.
const TEXT_MAX_BYTES: usize = 64;
const STATS: &str = "/proc/net/ip_vs_stats";
const SERVERS: &str = "/proc/net/ip_vs";
const LABELS: [&str; 6] = ["local_address", "local_mark", "local_port", "proto", "remote_address", "remote_port"];

/// In the order of the file, then of a server's line.
pub(super) static METRICS: [Metric; 8] = [
    Metric::counter("node_ipvs_connections_total", "connections", STATS, "Connections made."),
    Metric::counter("node_ipvs_incoming_packets_total", "packets", STATS, "Packets to the servers."),
    Metric::counter("node_ipvs_outgoing_packets_total", "packets", STATS, "Packets from the servers."),
    Metric::counter("node_ipvs_incoming_bytes_total", "bytes", STATS, "Bytes to the servers."),
    Metric::counter("node_ipvs_outgoing_bytes_total", "bytes", STATS, "Bytes from the servers."),
    Metric::gauge("node_ipvs_backend_weight", "", SERVERS, "Weight of a server.").by(&LABELS),
    Metric::gauge("node_ipvs_backend_connections_active", "connections", SERVERS, "Active connections of a server.")
        .by(&LABELS),
    Metric::gauge("node_ipvs_backend_connections_inactive", "connections", SERVERS, "Its other connections.")
        .by(&LABELS),
];
const SUMS: usize = 5;

/// The load balancer.
pub(super) struct Ipvs {
    stats: HeldFile,
    servers: HeldFile,
    series: Found,
}

impl Ipvs {
    pub(super) fn new(proc_root: &Path) -> Self {
        let file = |name: &str| HeldFile::optional(proc_root.join("net").join(name));
        Self { stats: file("ip_vs_stats"), servers: file("ip_vs"), series: Found::default() }
    }
}

/// What the lines of servers belong to.
#[derive(Default)]
struct Service {
    proto: String,
    address: String,
    port: String,
    mark: String,
}

impl Source for Ipvs {
    fn name(&self) -> &'static str {
        "ipvs"
    }

    fn gather(&mut self, pass: &mut Pass<'_>) -> Result<(), SourceError> {
        let (sink, series) = (&mut pass.sink, &mut self.series);
        let Some(text) = self.stats.read(pass.buffer, &mut sink.malformed)? else { return Ok(()) };
        series.begin();
        // Behind two lines of titles.
        let sums = parse::lines(text).nth(2).into_iter().flat_map(parse::words);
        for (metric, word) in METRICS[..SUMS].iter().zip(sums) {
            series.set(sink, metric, &[], parse::hex(word).map(|number| number as f64));
        }
        let text = self.servers.read(pass.buffer, &mut sink.malformed)?.unwrap_or_default();
        let mut service = None;
        for line in parse::lines(text) {
            let mut words = parse::words(line);
            match words.next() {
                Some(b"->") => {
                    // The titles have such a line, too: it has no service.
                    let Some(service) = &service else { continue };
                    let Some((address, port)) = words.next().and_then(place) else {
                        sink.malformed += 1;
                        continue;
                    };
                    let Service { proto, address: own, port: own_port, mark } = service;
                    let values: [&str; LABELS.len()] = [own, mark, own_port, proto, &address, &port];
                    let mut labels = LABELS.map(|label| (label, ""));
                    labels.iter_mut().zip(values).for_each(|(label, value)| label.1 = value);
                    // How packets reach it comes first.
                    for (metric, word) in METRICS[SUMS..].iter().zip(words.skip(1)) {
                        series.set(sink, metric, &labels, parse::count(word));
                    }
                }
                Some(proto @ (b"TCP" | b"UDP" | b"SCTP")) => {
                    service = words.next().and_then(place).map(|(address, port)| Service {
                        proto: parse::text(proto, TEXT_MAX_BYTES),
                        address,
                        port,
                        ..Service::default()
                    });
                    sink.malformed += u64::from(service.is_none());
                }
                Some(b"FWM") => {
                    let mark = parse::text(words.next().unwrap_or_default(), TEXT_MAX_BYTES);
                    service =
                        Some(Service { proto: "FWM".to_owned(), port: "0".to_owned(), mark, ..Service::default() });
                }
                _ => service = None,
            }
        }
        series.end();
        Ok(())
    }
}

/// `C0A80016:0CEA` or `[2620:…:0001]:0050`: an address and a port.
fn place(word: &[u8]) -> Option<(String, String)> {
    let at = word.iter().rposition(|&byte| byte == b':')?;
    let (address, port) = (&word[..at], &word[at + 1..]);
    let address = match address {
        [b'[', inner @ .., b']'] => std::str::from_utf8(inner).ok()?.parse::<Ipv6Addr>().ok()?.to_string(),
        hex => Ipv4Addr::from(u32::try_from(parse::hex(hex)?).ok()?).to_string(),
    };
    Some((address, u16::try_from(parse::hex(port)?).ok()?.to_string()))
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Bench, survives_mutation};
    use super::*;

    const SUMMED: &[u8] = b"   Total Incoming Outgoing         Incoming         Outgoing\n\
        \x20  Conns  Packets  Packets            Bytes            Bytes\n 16AA370 E33656E5        0     51D8C8883AB3                0\n\n\
        \x20Conns/s   Pkts/s   Pkts/s          Bytes/s          Bytes/s\n       4     1FB3        0          1282A8F                0\n";
    const TEXT: &[u8] = b"IP Virtual Server version 1.2.1 (size=4096)\nProt LocalAddress:Port Scheduler Flags\n\
        \x20 -> RemoteAddress:Port Forward Weight ActiveConn InActConn\nTCP  C0A80016:0CEA wlc\n\
        \x20 -> C0A85216:0CEA      Tunnel  100    248        2\nTCP  [2620:0000:0000:0000:0000:0000:0000:0001]:0050 sh\n\
        \x20 -> [2620:0000:0000:0000:0000:0000:0000:0002]:0050      Route   1      3        4\nFWM  10001000 wlc\n\
        \x20 -> C0A83215:0CEA      Route   0      7        6\n";

    #[test]
    fn sums_and_servers_are_given() {
        let mut bench = Bench::new(|root| Box::new(Ipvs::new(root)));
        bench.file("net/ip_vs_stats", SUMMED);
        bench.file("net/ip_vs", TEXT);
        assert_eq!(bench.tick(), Ok(0));
        assert_eq!(bench.value("node_ipvs_connections_total"), Some(23_765_872.0));
        assert_eq!(bench.value("node_ipvs_incoming_bytes_total"), Some(89_991_519_156_915.0));
        let server = |name: &str, labels: &str| bench.value(&format!("node_ipvs_backend_{name}{{{labels}}}"));
        let tcp = "local_address=\"192.168.0.22\",local_port=\"3306\",proto=\"TCP\",remote_address=\"192.168.82.22\",remote_port=\"3306\"";
        assert_eq!(server("weight", tcp), Some(100.0));
        assert_eq!(server("connections_active", tcp), Some(248.0));
        assert_eq!(server("connections_inactive", tcp), Some(2.0));
        let six =
            "local_address=\"2620::1\",local_port=\"80\",proto=\"TCP\",remote_address=\"2620::2\",remote_port=\"80\"";
        assert_eq!(server("connections_inactive", six), Some(4.0));
        let marked = "local_mark=\"10001000\",local_port=\"0\",proto=\"FWM\",remote_address=\"192.168.50.21\",remote_port=\"3306\"";
        assert_eq!(server("connections_active", marked), Some(7.0));
        assert_eq!(bench.len(), 5 + 9);
        bench.file(
            "net/ip_vs",
            b"TCP C0A80016 wlc\n -> C0A85216:0CEA Tunnel 1 2 3\nUDP C0A80016:0CEA wlc\n -> x Tunnel 1 2 3\n",
        );
        assert_eq!(bench.tick(), Ok(2));
        assert_eq!(bench.len(), 5);
    }

    #[test]
    fn mutated_files_are_survived() {
        survives_mutation("net/ip_vs_stats", SUMMED, |root| Box::new(Ipvs::new(root)));
        survives_mutation("net/ip_vs", TEXT, |root| Box::new(Ipvs::new(root)));
    }
}
