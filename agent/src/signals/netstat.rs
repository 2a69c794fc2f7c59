//! The kernel's protocol counters (/proc/net/netstat, snmp, snmp6) and its counts of sockets (sockstat, sockstat6).
//!
//! Of the protocol counters the subset that node_exporter takes by default: errors, octets, TCP opens, segments,
//! retransmits and listen queues, UDP datagrams and buffer errors.

use std::path::Path;

use super::memory::family_name;
use super::metric::Metric;
use super::parse;
use super::source::{HeldFile, Keyed, Pass, Source, SourceError};
use super::table::Handle;

/// What the protocol files give.
pub(super) static NETSTAT: [Metric; 1] = [Metric::untyped(
    "node_netstat_*",
    "events, packets or bytes",
    "/proc/net/netstat, snmp, snmp6",
    "A protocol's counter, such as Tcp_RetransSegs.",
)];

/// /proc/net/netstat, snmp and snmp6.
pub(super) struct Netstat {
    /// A line of headings, then a line of numbers, each beginning with the protocol.
    paired: [HeldFile; 2],
    /// A heading and a number a line.
    single: HeldFile,
    /// By the line of headings: the columns taken.
    headings: Keyed<Vec<(usize, Field)>>,
    singles: Keyed<Option<Field>>,
}

struct Field {
    name: String,
    handle: Handle,
}

impl Netstat {
    pub(super) fn new(proc_root: &Path) -> Self {
        let file = |name: &str| HeldFile::optional(proc_root.join("net").join(name));
        Self {
            paired: [file("netstat"), file("snmp")],
            single: file("snmp6"),
            headings: Keyed::default(),
            singles: Keyed::default(),
        }
    }

    fn gather_paired(&mut self, pass: &mut Pass<'_>) -> Result<(), SourceError> {
        let sink = &mut pass.sink;
        let mut outcome = Ok(());
        for file in &mut self.paired {
            let text = match file.read(pass.buffer, &mut sink.malformed) {
                Ok(text) => text.unwrap_or_default(),
                Err(error) => {
                    outcome = Err(error);
                    continue;
                }
            };
            let mut lines = parse::lines(text);
            while let (Some(heading), Some(numbers)) = (lines.next(), lines.next()) {
                if parse::words(heading).next() != parse::words(numbers).next() {
                    sink.malformed += 1;
                    continue;
                }
                let mut numbers = parse::words(numbers).enumerate();
                let Some(columns) = self.headings.entry(heading, taken_columns) else {
                    sink.malformed += 1;
                    continue;
                };
                for (column, field) in columns {
                    let word = numbers.find(|(at, _)| at == column).map(|(_, word)| word);
                    let value = word.and_then(parse::signed);
                    sink.set_named(&mut field.handle, &NETSTAT[0], &field.name, &[], value);
                }
            }
        }
        outcome
    }

    fn gather_single(&mut self, pass: &mut Pass<'_>) -> Result<(), SourceError> {
        let sink = &mut pass.sink;
        let text = self.single.read(pass.buffer, &mut sink.malformed)?.unwrap_or_default();
        for line in parse::lines(text) {
            let mut words = parse::words(line);
            let Some(key) = words.next() else { continue };
            if let Some(Some(field)) = self.singles.entry(key, taken_single) {
                let value = words.next().and_then(parse::count);
                sink.set_named(&mut field.handle, &NETSTAT[0], &field.name, &[], value);
            }
        }
        Ok(())
    }
}

impl Source for Netstat {
    fn name(&self) -> &'static str {
        "netstat"
    }

    fn gather(&mut self, pass: &mut Pass<'_>) -> Result<(), SourceError> {
        self.headings.begin();
        self.singles.begin();
        let paired = self.gather_paired(pass);
        let single = self.gather_single(pass);
        self.headings.end();
        self.singles.end();
        paired.and(single)
    }
}

/// The columns to take of `TcpExt: SyncookiesSent SyncookiesRecv …`.
fn taken_columns(heading: &[u8]) -> Vec<(usize, Field)> {
    let Some((protocol, _)) = parse::split_at_byte(heading, b':') else { return Vec::new() };
    let taken = |(at, word)| Some((at, Field::taken(protocol, word)?));
    parse::words(heading).enumerate().skip(1).filter_map(taken).collect()
}

/// `Ip6InOctets`: the protocol ends at the 6.
fn taken_single(key: &[u8]) -> Option<Field> {
    let at = key.iter().position(|byte| *byte == b'6')?;
    Field::taken(&key[..=at], &key[at + 1..])
}

impl Field {
    fn taken(protocol: &[u8], field: &[u8]) -> Option<Self> {
        let joined = [protocol, b"_", field].concat();
        taken_of_netstat(protocol, field)
            .then(|| family_name(&NETSTAT[0], &joined))
            .flatten()
            .map(|name| Self { name, handle: Handle::default() })
    }
}

/// node_exporter's default `collector.netstat.fields`.
fn taken_of_netstat(protocol: &[u8], field: &[u8]) -> bool {
    let common = matches!(field, b"InErrors" | b"InErrs");
    let listed = match protocol {
        b"Ip" => field == b"Forwarding",
        b"Ip6" | b"IpExt" => matches!(field, b"InOctets" | b"OutOctets"),
        b"Icmp" | b"Icmp6" => matches!(field, b"InMsgs" | b"OutMsgs"),
        b"Tcp" => matches!(
            field,
            b"ActiveOpens" | b"InSegs" | b"OutSegs" | b"OutRsts" | b"PassiveOpens" | b"RetransSegs" | b"CurrEstab"
        ),
        b"TcpExt" => {
            field.starts_with(b"Listen")
                || field.starts_with(b"Syncookies")
                || matches!(field, b"TCPSynRetrans" | b"TCPTimeouts" | b"TCPOFOQueue" | b"TCPRcvQDrop")
        }
        b"Udp" | b"Udp6" => {
            matches!(field, b"InDatagrams" | b"OutDatagrams" | b"NoPorts" | b"RcvbufErrors" | b"SndbufErrors")
        }
        _ => false,
    };
    common || listed
}

/// What the socket files give.
pub(super) static SOCKSTAT: [Metric; 1] = [Metric::gauge(
    "node_sockstat_*",
    "sockets, pages or bytes",
    "/proc/net/sockstat, sockstat6",
    "A protocol's count of sockets or of their memory; *_mem is in pages, *_mem_bytes in bytes.",
)];

/// /proc/net/sockstat and sockstat6.
pub(super) struct Sockstat {
    files: [HeldFile; 2],
    protocols: Keyed<Keyed<Option<Count>>>,
    page_bytes: f64,
}

struct Count {
    field: Field,
    /// For memory, which the kernel counts in pages.
    bytes: Option<Field>,
}

impl Sockstat {
    pub(super) fn new(proc_root: &Path) -> Self {
        let files = ["sockstat", "sockstat6"].map(|name| HeldFile::optional(proc_root.join("net").join(name)));
        Self { files, protocols: Keyed::default(), page_bytes: rustix::param::page_size() as f64 }
    }
}

impl Source for Sockstat {
    fn name(&self) -> &'static str {
        "sockstat"
    }

    fn gather(&mut self, pass: &mut Pass<'_>) -> Result<(), SourceError> {
        let sink = &mut pass.sink;
        let mut outcome = Ok(());
        self.protocols.begin();
        for file in &mut self.files {
            let text = match file.read(pass.buffer, &mut sink.malformed) {
                Ok(text) => text.unwrap_or_default(),
                Err(error) => {
                    outcome = Err(error);
                    continue;
                }
            };
            for line in parse::lines(text) {
                let Some((protocol, rest)) = parse::split_at_byte(line, b':') else {
                    sink.malformed += 1;
                    continue;
                };
                let Some(counts) = self.protocols.entry(protocol, |_| Keyed::default()) else {
                    sink.malformed += 1;
                    continue;
                };
                counts.begin();
                let mut words = parse::words(rest);
                while let (Some(field), Some(number)) = (words.next(), words.next()) {
                    let Some(Some(count)) = counts.entry(field, |field| Count::new(protocol, field)) else {
                        sink.malformed += 1;
                        continue;
                    };
                    let value = parse::count(number);
                    sink.set_named(&mut count.field.handle, &SOCKSTAT[0], &count.field.name, &[], value);
                    if let Some(bytes) = &mut count.bytes {
                        let value = value.map(|pages| pages * self.page_bytes);
                        sink.set_named(&mut bytes.handle, &SOCKSTAT[0], &bytes.name, &[], value);
                    }
                }
                counts.end();
            }
        }
        self.protocols.end();
        outcome
    }
}

impl Count {
    fn new(protocol: &[u8], field: &[u8]) -> Option<Self> {
        let joined = [protocol, b"_", field].concat();
        let named = |name| Field { name, handle: Handle::default() };
        let of_memory = (field == b"mem").then(|| [&joined[..], b"_bytes"].concat());
        Some(Self {
            field: named(family_name(&SOCKSTAT[0], &joined)?),
            bytes: of_memory.and_then(|name| family_name(&SOCKSTAT[0], &name)).map(named),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Bench, survives_mutation};
    use super::*;

    #[test]
    fn captured_files_give_the_default_subset() {
        let mut bench = Bench::new(|root| Box::new(Netstat::new(root)));
        bench.file("net/netstat", include_bytes!("../../testdata/proc/net/netstat"));
        bench.file("net/snmp", include_bytes!("../../testdata/proc/net/snmp"));
        bench.file("net/snmp6", include_bytes!("../../testdata/proc/net/snmp6"));
        assert_eq!(bench.tick(), Ok(0));
        assert_eq!(bench.value("node_netstat_Ip_Forwarding"), Some(2.0));
        assert_eq!(bench.value("node_netstat_Ip6_InOctets"), Some(128.0));
        assert_eq!(bench.value("node_netstat_Icmp6_InErrors"), Some(1.0));
        assert_eq!(bench.value("node_netstat_Icmp_InMsgs"), Some(1.0));
        for name in
            ["Tcp_RetransSegs", "TcpExt_ListenOverflows", "TcpExt_TCPTimeouts", "Udp6_NoPorts", "IpExt_InOctets"]
        {
            assert!(bench.value(&format!("node_netstat_{name}")).is_some(), "{name}");
        }
        assert!(bench.names().iter().all(|name| !name.contains("DefaultTTL")));
    }

    #[test]
    fn numbers_that_do_not_fit_their_headings_are_counted() {
        let mut bench = Bench::new(|root| Box::new(Netstat::new(root)));
        bench.file(
            "net/snmp",
            b"Tcp: InSegs OutSegs CurrEstab\nTcp: 5\nUdp: NoPorts\nIcmp: 4\nUdp: InErrors\nUdp: -1\nx",
        );
        assert_eq!(bench.tick(), Ok(3));
        assert_eq!(bench.value("node_netstat_Tcp_InSegs"), Some(5.0));
        assert_eq!(bench.value("node_netstat_Udp_InErrors"), Some(-1.0));
        assert_eq!(bench.len(), 2);
    }

    #[test]
    fn sockets_are_counted_and_their_memory_is_in_pages_and_bytes() {
        let mut bench = Bench::new(|root| Box::new(Sockstat::new(root)));
        bench.file("net/sockstat", b"sockets: used 18\nTCP: inuse 1 orphan 0 tw 1 alloc 1 mem 121\n");
        bench.file("net/sockstat6", b"FRAG6: inuse 0 memory 7\nbad line\nTCP6: in-use 4 inuse x\n");
        assert_eq!(bench.tick(), Ok(3));
        let page = rustix::param::page_size() as f64;
        assert_eq!(bench.value("node_sockstat_sockets_used"), Some(18.0));
        assert_eq!(bench.value("node_sockstat_TCP_mem"), Some(121.0));
        assert_eq!(bench.value("node_sockstat_TCP_mem_bytes"), Some(121.0 * page));
        assert_eq!(bench.value("node_sockstat_FRAG6_memory"), Some(7.0));
    }

    #[test]
    fn mutated_files_are_survived() {
        let netstat = |root: &Path| -> Box<dyn Source> { Box::new(Netstat::new(root)) };
        survives_mutation("net/netstat", include_bytes!("../../testdata/proc/net/netstat"), netstat);
        survives_mutation("net/snmp6", include_bytes!("../../testdata/proc/net/snmp6"), netstat);
        let sockstat = include_bytes!("../../testdata/proc/net/sockstat");
        survives_mutation("net/sockstat", sockstat, |root| Box::new(Sockstat::new(root)));
    }
}
