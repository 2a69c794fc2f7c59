//! What the kernel's NFS server was asked: calls, errors, requests by operation.
//!
//! `/proc/net/rpc/nfsd` is there while the server is loaded, in the form of the client's file.

use std::path::Path;

use super::super::metric::Metric;
use super::super::parse;
use super::super::source::{Found, HeldFile, Pass, Source, SourceError};
use super::VERSION_3;

const FILE: &str = "/proc/net/rpc/nfsd";

const fn counter(name: &'static str, unit: &'static str, help: &'static str) -> Metric {
    Metric::counter(name, unit, FILE, help)
}

/// What the server counts.
pub(in super::super) static METRICS: [Metric; 14] = [
    counter("node_nfsd_reply_cache_hits_total", "calls", "Calls answered again: the client had lost the answer."),
    counter("node_nfsd_reply_cache_misses_total", "calls", "Calls whose answers were kept."),
    counter("node_nfsd_reply_cache_nocache_total", "calls", "Calls whose answers need not be kept."),
    counter("node_nfsd_file_handles_stale_total", "handles", "Handles of files that are gone."),
    counter("node_nfsd_disk_bytes_read_total", "bytes", "Bytes read for clients."),
    counter("node_nfsd_disk_bytes_written_total", "bytes", "Bytes written for clients."),
    Metric::gauge("node_nfsd_server_threads", "threads", FILE, "Threads of the server."),
    Metric::gauge(
        "node_nfsd_read_ahead_cache_size_blocks",
        "blocks",
        FILE,
        "Size of the cache of reads ahead (before Linux 5.4).",
    ),
    counter("node_nfsd_read_ahead_cache_not_found_total", "reads", "Reads not found in it."),
    counter("node_nfsd_packets_total", "packets", "Packets by transport.").by(&["proto"]),
    counter("node_nfsd_connections_total", "connections", "TCP connections."),
    counter("node_nfsd_rpc_errors_total", "calls", "Calls refused, by what was wrong.").by(&["error"]),
    counter("node_nfsd_server_rpcs_total", "calls", "Calls."),
    counter("node_nfsd_requests_total", "requests", "Requests by the protocol's version and operation.")
        .by(&["method", "proto"]),
];

const PACKETS: usize = 9;
const CONNECTIONS: usize = 10;
const ERRORS: usize = 11;
const RPCS: usize = 12;
const REQUESTS: usize = 13;

/// The lines of plain numbers: their key, the first of the metrics and how many there are, how many numbers stand before them.
const PLAIN: [(&[u8], usize, usize, usize); 6] = [
    (b"rc", 0, 3, 0),
    (b"fh", 3, 1, 0),
    (b"io", 4, 2, 0),
    (b"th", 6, 1, 0),
    (b"ra", 7, 1, 0),
    // Between them stand ten numbers: how deep reads were found.
    (b"ra", 8, 1, 11),
];

/// RFC 1094.
const VERSION_2: [&str; 18] = [
    "Null", "GetAttr", "SetAttr", "Root", "Lookup", "ReadLink", "Read", "WrCache", "Write", "Create", "Remove",
    "Rename", "Link", "SymLink", "MkDir", "RmDir", "ReadDir", "FsStat",
];
/// RFC 7530; the first three are none.
const VERSION_4: [&str; 40] = [
    "",
    "",
    "",
    "Access",
    "Close",
    "Commit",
    "Create",
    "DelegPurge",
    "DelegReturn",
    "GetAttr",
    "GetFH",
    "Link",
    "Lock",
    "Lockt",
    "Locku",
    "Lookup",
    "LookupRoot",
    "Nverify",
    "Open",
    "OpenAttr",
    "OpenConfirm",
    "OpenDgrd",
    "PutFH",
    "PutPubFH",
    "PutRootFH",
    "Read",
    "ReadDir",
    "ReadLink",
    "Remove",
    "Rename",
    "Renew",
    "RestoreFH",
    "SaveFH",
    "SecInfo",
    "SetAttr",
    "SetClientID",
    "SetClientIDConfirm",
    "Verify",
    "Write",
    "RelLockOwner",
];

/// The server's counters.
pub(in super::super) struct Nfsd {
    file: HeldFile,
    series: Found,
}

impl Nfsd {
    pub(in super::super) fn new(proc_root: &Path) -> Self {
        Self { file: HeldFile::optional(proc_root.join("net/rpc/nfsd")), series: Found::default() }
    }
}

impl Source for Nfsd {
    fn name(&self) -> &'static str {
        "nfsd"
    }

    fn gather(&mut self, pass: &mut Pass<'_>) -> Result<(), SourceError> {
        let sink = &mut pass.sink;
        let Some(text) = self.file.read(pass.buffer, &mut sink.malformed)? else { return Ok(()) };
        let series = &mut self.series;
        series.begin();
        for line in parse::lines(text) {
            let mut words = parse::words(line);
            let key = words.next().unwrap_or_default();
            let numbers: Vec<_> = words.map(parse::count).collect();
            let after = |before: usize| numbers.iter().copied().skip(before);
            match key {
                b"net" => {
                    for ((metric, labels), value) in
                        [(PACKETS, &[("proto", "udp")][..]), (PACKETS, &[("proto", "tcp")]), (CONNECTIONS, &[])]
                            .into_iter()
                            .zip(after(1))
                    {
                        series.set(sink, &METRICS[metric], labels, value);
                    }
                }
                b"rpc" => {
                    // All calls, all errors, errors by kind.
                    let kinds = [("fmt", 2), ("auth", 3), ("cInt", 4)];
                    for (at, value) in after(0).enumerate() {
                        let kind = kinds.iter().find(|(_, place)| *place == at);
                        match (at, kind) {
                            (0, _) => series.set(sink, &METRICS[RPCS], &[], value),
                            (_, Some((kind, _))) => series.set(sink, &METRICS[ERRORS], &[("error", kind)], value),
                            _ => {}
                        }
                    }
                }
                b"proc2" | b"proc3" | b"proc4ops" => {
                    let (proto, names) = match key {
                        b"proc2" => ("2", &VERSION_2[1..]),
                        b"proc3" => ("3", &VERSION_3[1..]),
                        _ => ("4", &VERSION_4[1..]),
                    };
                    // Before them stand how many there are and the first of them, which does nothing.
                    for (name, value) in names.iter().zip(after(2)).filter(|(name, _)| !name.is_empty()) {
                        series.set(sink, &METRICS[REQUESTS], &[("method", name), ("proto", proto)], value);
                    }
                }
                _ => {
                    for (_, first, count, before) in PLAIN.into_iter().filter(|(of, ..)| *of == key) {
                        for (metric, value) in METRICS[first..first + count].iter().zip(after(before)) {
                            series.set(sink, metric, &[], value);
                        }
                    }
                }
            }
        }
        series.end();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::testing::{Bench, survives_mutation};
    use super::*;

    const TEXT: &[u8] = b"rc 0 6 18622\nfh 1 0 0 0 0\nio 157286400 72864\nth 8 0 0.000 0.000 0.000\n\
        ra 32 0 0 0 0 0 0 0 0 0 0 5\nnet 18628 3 18625 6\nrpc 18628 6 1 2 3\n\
        proc2 18 2 69 0 0 4410 0 0 0 0 0 0 0 0 0 0 0 99 2\n\
        proc3 22 2 112 0 2719 111 0 0 0 0 0 0 0 0 0 0 0 27 216 0 2 1 7\nproc4 2 2 10853\n\
        proc4ops 72 0 0 0 1098 2 0 0 0 0 8179 5896 0 0 0 0 5900 0 0 2 0 2 0 9609 0 2 150 1272 0 0 0 1236 0 0 0 0 3 3 0 0 17\n";

    #[test]
    fn the_servers_calls_are_counted_by_operation() {
        let mut bench = Bench::new(|root| Box::new(Nfsd::new(root)));
        bench.file("net/rpc/nfsd", TEXT);
        assert_eq!(bench.tick(), Ok(0));
        for (series, value) in [
            ("reply_cache_misses_total", 6.0),
            ("reply_cache_nocache_total", 18_622.0),
            ("file_handles_stale_total", 1.0),
            ("disk_bytes_written_total", 72_864.0),
            ("server_threads", 8.0),
            ("read_ahead_cache_size_blocks", 32.0),
            ("read_ahead_cache_not_found_total", 5.0),
            ("packets_total{proto=\"udp\"}", 3.0),
            ("packets_total{proto=\"tcp\"}", 18_625.0),
            ("connections_total", 6.0),
            ("server_rpcs_total", 18_628.0),
            ("rpc_errors_total{error=\"fmt\"}", 1.0),
            ("rpc_errors_total{error=\"cInt\"}", 3.0),
            ("requests_total{method=\"GetAttr\",proto=\"2\"}", 69.0),
            ("requests_total{method=\"FsStat\",proto=\"2\"}", 2.0),
            ("requests_total{method=\"GetAttr\",proto=\"3\"}", 112.0),
            ("requests_total{method=\"Commit\",proto=\"3\"}", 7.0),
            ("requests_total{method=\"Access\",proto=\"4\"}", 1098.0),
            ("requests_total{method=\"Lookup\",proto=\"4\"}", 5900.0),
            ("requests_total{method=\"Write\",proto=\"4\"}", 0.0),
            ("requests_total{method=\"RelLockOwner\",proto=\"4\"}", 17.0),
        ] {
            assert_eq!(bench.value(&format!("node_nfsd_{series}")), Some(value), "{series}");
        }
        assert_eq!(bench.len(), 9 + 3 + 4 + 17 + 21 + 37);
        bench.file("net/rpc/nfsd", b"rc x\nth\nproc3 22\nra 1\n");
        assert_eq!(bench.tick(), Ok(1));
        assert_eq!(bench.names(), ["node_nfsd_read_ahead_cache_size_blocks"]);
        survives_mutation("net/rpc/nfsd", TEXT, |root| Box::new(Nfsd::new(root)));
    }
}
