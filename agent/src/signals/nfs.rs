//! What the kernel's NFS client asked of its servers: calls, retransmissions, requests by operation.
//!
//! `/proc/net/rpc/nfs` is there while the client is loaded. Each line is a word and its counters; the fields of a `proc` line
//! are operations in the protocol's order, of which a newer kernel has more at the end: those without a name here are left out.

pub(super) mod server;

use std::path::Path;

use super::metric::Metric;
use super::parse;
use super::source::{HeldFile, Pass, Source, SourceError};
use super::table::Handle;

const FILE: &str = "/proc/net/rpc/nfs";

const PACKETS: usize = 0;
const CONNECTIONS: usize = 1;
const RPCS: usize = 2;
const RETRANSMISSIONS: usize = 3;
const REFRESHES: usize = 4;
const REQUESTS: usize = 5;

/// What the client counts.
pub(super) static METRICS: [Metric; 6] = [
    Metric::counter("node_nfs_packets_total", "packets", FILE, "Packets of the NFS client by transport.")
        .by(&["protocol"]),
    Metric::counter("node_nfs_connections_total", "connections", FILE, "TCP connections of the NFS client."),
    Metric::counter("node_nfs_rpcs_total", "calls", FILE, "Calls of the NFS client."),
    Metric::counter("node_nfs_rpc_retransmissions_total", "calls", FILE, "Calls that had to be sent again."),
    Metric::counter(
        "node_nfs_rpc_authentication_refreshes_total",
        "calls",
        FILE,
        "Times that credentials were refreshed.",
    ),
    Metric::counter("node_nfs_requests_total", "requests", FILE, "Requests by the protocol's version and operation.")
        .by(&["method", "proto"]),
];

const TRANSPORTS: [&str; 2] = ["udp", "tcp"];
/// RFC 1813.
const VERSION_3: [&str; 22] = [
    "Null",
    "GetAttr",
    "SetAttr",
    "Lookup",
    "Access",
    "ReadLink",
    "Read",
    "Write",
    "Create",
    "MkDir",
    "SymLink",
    "MkNod",
    "Remove",
    "RmDir",
    "Rename",
    "Link",
    "ReadDir",
    "ReadDirPlus",
    "FsStat",
    "FsInfo",
    "PathConf",
    "Commit",
];
/// The client's own order (`linux/nfs4.h`): version 4 has one procedure on the wire.
const VERSION_4: [&str; 59] = [
    "Null",
    "Read",
    "Write",
    "Commit",
    "Open",
    "OpenConfirm",
    "OpenNoattr",
    "OpenDowngrade",
    "Close",
    "Setattr",
    "FsInfo",
    "Renew",
    "SetClientID",
    "SetClientIDConfirm",
    "Lock",
    "Lockt",
    "Locku",
    "Access",
    "Getattr",
    "Lookup",
    "LookupRoot",
    "Remove",
    "Rename",
    "Link",
    "Symlink",
    "Create",
    "Pathconf",
    "StatFs",
    "ReadLink",
    "ReadDir",
    "ServerCaps",
    "DelegReturn",
    "GetACL",
    "SetACL",
    "FsLocations",
    "ReleaseLockowner",
    "Secinfo",
    "FsidPresent",
    "ExchangeID",
    "CreateSession",
    "DestroySession",
    "Sequence",
    "GetLeaseTime",
    "ReclaimComplete",
    "LayoutGet",
    "GetDeviceInfo",
    "LayoutCommit",
    "LayoutReturn",
    "SecinfoNoName",
    "TestStateID",
    "FreeStateID",
    "GetDeviceList",
    "BindConnToSession",
    "DestroyClientID",
    "Seek",
    "Allocate",
    "DeAllocate",
    "LayoutStats",
    "Clone",
];

/// The client's counters.
pub(super) struct Nfs {
    file: HeldFile,
    packets: [Handle; TRANSPORTS.len()],
    numbers: [Handle; REQUESTS],
    version_3: [Handle; VERSION_3.len()],
    version_4: [Handle; VERSION_4.len()],
}

impl Nfs {
    pub(super) fn new(proc_root: &Path) -> Self {
        Self {
            file: HeldFile::optional(proc_root.join("net/rpc/nfs")),
            packets: Default::default(),
            numbers: Default::default(),
            version_3: Default::default(),
            version_4: [Handle::default(); VERSION_4.len()],
        }
    }
}

impl Source for Nfs {
    fn name(&self) -> &'static str {
        "nfs"
    }

    fn gather(&mut self, pass: &mut Pass<'_>) -> Result<(), SourceError> {
        let sink = &mut pass.sink;
        let Some(text) = self.file.read(pass.buffer, &mut sink.malformed)? else { return Ok(()) };
        for line in parse::lines(text) {
            let mut words = parse::words(line);
            let kind = words.next().unwrap_or_default();
            let mut next = || words.next().and_then(parse::whole).map(|number| number as f64);
            match kind {
                // Of all packets, by UDP, by TCP; connections.
                b"net" => {
                    next();
                    for (name, handle) in TRANSPORTS.iter().zip(&mut self.packets) {
                        sink.set(handle, &METRICS[PACKETS], &[("protocol", name)], next());
                    }
                    sink.set(&mut self.numbers[CONNECTIONS], &METRICS[CONNECTIONS], &[], next());
                }
                b"rpc" => {
                    for metric in [RPCS, RETRANSMISSIONS, REFRESHES] {
                        sink.set(&mut self.numbers[metric], &METRICS[metric], &[], next());
                    }
                }
                b"proc3" | b"proc4" => {
                    let (proto, names, handles) = match kind {
                        b"proc3" => ("3", &VERSION_3[..], &mut self.version_3[..]),
                        _ => ("4", &VERSION_4[..], &mut self.version_4[..]),
                    };
                    // How many there are.
                    next();
                    for (name, handle) in names.iter().zip(handles) {
                        let Some(number) = next() else { break };
                        sink.set(handle, &METRICS[REQUESTS], &[("method", name), ("proto", proto)], Some(number));
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Bench, survives_mutation};
    use super::*;

    const TEXT: &[u8] = b"net 70 10 60 45\nrpc 1218785755 374636 1218815394\n\
        proc2 18 16 57 74 52 71 73 45 86 0 52 83 61 17 53 50 23 70 82\n\
        proc3 22 0 1061909262 48906 4077635 117661341 5 29391916 2570425 0 0 0 0 0 0 0 0 0 0 0 0 0 9\n\
        proc4 4 98 51 54 83\n";

    #[test]
    fn the_clients_calls_are_counted_by_operation() {
        let mut bench = Bench::new(|root| Box::new(Nfs::new(root)));
        assert_eq!((bench.tick(), bench.len()), (Ok(0), 0), "a host without the client");
        let mut bench = Bench::new(|root| Box::new(Nfs::new(root)));
        bench.file("net/rpc/nfs", TEXT);
        assert_eq!(bench.tick(), Ok(0));
        for (series, value) in [
            ("packets_total{protocol=\"udp\"}", 10.0),
            ("packets_total{protocol=\"tcp\"}", 60.0),
            ("connections_total", 45.0),
            ("rpcs_total", 1_218_785_755.0),
            ("rpc_retransmissions_total", 374_636.0),
            ("rpc_authentication_refreshes_total", 1_218_815_394.0),
            ("requests_total{method=\"GetAttr\",proto=\"3\"}", 1_061_909_262.0),
            ("requests_total{method=\"Commit\",proto=\"3\"}", 9.0),
            ("requests_total{method=\"Commit\",proto=\"4\"}", 83.0),
        ] {
            assert_eq!(bench.value(&format!("node_nfs_{series}")), Some(value), "{series}");
        }
        assert_eq!(bench.len(), 6 + VERSION_3.len() + 4, "an older kernel knows fewer operations");
        bench.file("net/rpc/nfs", b"net 1 x\nproc3 22 1 y 2\nrpc\n");
        assert!(bench.tick().is_ok_and(|malformed| malformed > 0));
        survives_mutation("net/rpc/nfs", TEXT, |root| Box::new(Nfs::new(root)));
    }
}
