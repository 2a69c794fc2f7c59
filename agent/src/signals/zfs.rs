//! What ZFS counts: its caches and queues, each pool's state and IO, each dataset's reads and writes.
//!
//! `/proc/spl/kstat/zfs` holds a file a part and a directory a pool. A file names its numbers itself, and these names become the
//! metrics': what a newer ZFS counts is given without being known here.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::metric::Metric;
use super::parse;
use super::source::{Directory, Found, Pass, Source, SourceError, names_in};

/// Longest text taken into a label or a name, in bytes.
const TEXT_MAX_BYTES: usize = 255;
const FILES: &str = "/proc/spl/kstat/zfs/*";

const STATE: usize = 0;
const DATASET: usize = 1;
const POOL: usize = 2;
const PART: usize = 3;

/// What is given; a name is of the first that covers it.
pub(super) static METRICS: [Metric; 4] = [
    Metric::gauge("node_zfs_zpool_state", "", FILES, "1 at the state that the pool is in, else 0.")
        .by(&["state", "zpool"]),
    Metric::untyped(
        "node_zfs_zpool_dataset_*",
        "in the name",
        FILES,
        "A number of a dataset: reads, writes, nread, nwritten, …",
    )
    .by(&["dataset", "zpool"]),
    Metric::untyped("node_zfs_zpool_*", "in the name", FILES, "A number of a pool's IO (before OpenZFS 2.1).")
        .by(&["zpool"]),
    Metric::untyped("node_zfs_*", "in the name", FILES, "A number of a part, such as arc_hits."),
];

/// The parts' files, and what their metrics are called.
const PARTS: [(&str, &str); 11] = [
    ("abdstats", "abd"),
    ("arcstats", "arc"),
    ("dbufstats", "dbuf"),
    ("dmu_tx", "dmu_tx"),
    ("dnodestats", "dnode"),
    ("fm", "fm"),
    ("vdev_cache_stats", "vdev_cache"),
    ("vdev_mirror_stats", "vdev_mirror"),
    ("xuio_stats", "xuio"),
    ("zfetchstats", "zfetch"),
    ("zil", "zil"),
];
const STATES: [&str; 7] = ["online", "degraded", "faulted", "offline", "removed", "unavail", "suspended"];
/// Types of numbers that are whole: signed and unsigned, of 64 bits.
const WHOLE: [&[u8]; 2] = [b"3", b"4"];

/// All that ZFS counts.
pub(super) struct Zfs {
    dir: Directory,
    series: Found,
}

impl Zfs {
    pub(super) fn new(proc_root: &Path) -> Self {
        Self { dir: Directory::new(proc_root.join("spl/kstat/zfs")), series: Found::default() }
    }

    fn part(&mut self, file: &Path, part: &str, pass: &mut Pass<'_>) -> Result<(), SourceError> {
        let Some(text) = pass.buffer.read_once(file)? else { return Ok(()) };
        for (name, value) in numbers(text) {
            match name_of(name) {
                Some(name) => {
                    let name = format!("node_zfs_{part}_{name}");
                    self.series.set_named(&mut pass.sink, &METRICS[PART], &name, &[], value);
                }
                None => pass.sink.malformed += 1,
            }
        }
        Ok(())
    }

    fn pool(&mut self, dir: &Path, pool: &str, pass: &mut Pass<'_>) -> Result<(), SourceError> {
        if let Some(state) = pass.buffer.read_small(&dir.join("state")) {
            let state = parse::text(state, TEXT_MAX_BYTES).to_lowercase();
            for name in STATES {
                let value = f64::from(u8::from(name == state));
                self.series.set(&mut pass.sink, &METRICS[STATE], &[("state", name), ("zpool", pool)], Some(value));
            }
        }
        if let Some(text) = pass.buffer.read_once(&dir.join("io"))? {
            // A line of names, one of numbers.
            let mut lines = parse::lines(text).skip_while(|line| parse::words(line).next() != Some(b"nread"));
            let (names, values) = (lines.next().unwrap_or_default(), lines.next().unwrap_or_default());
            for (name, value) in parse::words(names).zip(parse::words(values)) {
                let Some(name) = name_of(name) else { continue };
                let name = format!("node_zfs_zpool_{name}");
                self.series.set_named(&mut pass.sink, &METRICS[POOL], &name, &[("zpool", pool)], parse::count(value));
            }
        }
        for name in names_in(dir).iter().filter(|name| name.as_bytes().starts_with(b"objset-")) {
            self.dataset(&dir.join(name), pool, pass)?;
        }
        Ok(())
    }

    fn dataset(&mut self, file: &Path, pool: &str, pass: &mut Pass<'_>) -> Result<(), SourceError> {
        let Some(text) = pass.buffer.read_once(file)? else { return Ok(()) };
        // The name is the only text; a name may hold blanks.
        let name = parse::lines(text).find_map(|line| line.strip_prefix(b"dataset_name"));
        let name = name.map(parse::trim).and_then(|rest| rest.strip_prefix(b"7")).map(parse::trim);
        let Some(dataset) = name.map(|name| parse::text(name, TEXT_MAX_BYTES)) else {
            pass.sink.malformed += 1;
            return Ok(());
        };
        let labels = [("dataset", &*dataset), ("zpool", pool)];
        for (name, value) in numbers(text) {
            let Some(name) = name_of(name) else { continue };
            let name = format!("node_zfs_zpool_dataset_{name}");
            self.series.set_named(&mut pass.sink, &METRICS[DATASET], &name, &labels, value);
        }
        Ok(())
    }
}

impl Source for Zfs {
    fn name(&self) -> &'static str {
        "zfs"
    }

    fn gather(&mut self, pass: &mut Pass<'_>) -> Result<(), SourceError> {
        let names = self.dir.names()?;
        self.series.begin();
        let mut outcome = Ok(());
        for name in names {
            let path = self.dir.path().join(&name);
            let part = PARTS.iter().find(|(file, _)| name.as_bytes() == file.as_bytes());
            let own = match part {
                Some((_, part)) => self.part(&path, part, pass),
                None if path.is_dir() => self.pool(&path, &parse::text(name.as_bytes(), TEXT_MAX_BYTES), pass),
                None => Ok(()),
            };
            outcome = outcome.and(own);
        }
        self.series.end();
        outcome
    }
}

/// The lines `NAME TYPE NUMBER` behind `name type data`.
fn numbers(text: &[u8]) -> impl Iterator<Item = (&[u8], Option<f64>)> {
    let lines = parse::lines(text).skip_while(|line| !parse::words(line).eq([&b"name"[..], b"type", b"data"])).skip(1);
    lines.filter_map(|line| {
        let mut words = parse::words(line);
        let (name, kind, value) = (words.next()?, words.next()?, words.next()?);
        WHOLE.contains(&kind).then(|| (name, parse::signed(value)))
    })
}

/// A number's name as part of a metric's; `None`: it is no name.
fn name_of(name: &[u8]) -> Option<String> {
    let good =
        name.len() <= TEXT_MAX_BYTES && name.iter().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(byte));
    good.then(|| String::from_utf8_lossy(name).replace('-', "_"))
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Bench, survives_mutation};
    use super::*;

    const ARC: &[u8] = b"6 1 0x01 91 4368 5266997922 97951858082072\nname                            type data\n\
        hits                            4    8772612\nmemory_available_bytes          3    -922337203685477580\n\
        l2-feeds                        4    7\nname_of_it                      7    text\n";
    const DATASET: &[u8] = b"36 1 0x01 7 1904 1 2\nname                            type data\n\
        dataset_name                    7    tank/a b\nwrites                          4    4\nnwritten                        4    6\n";

    fn bench() -> Bench {
        let bench = Bench::new(|root| Box::new(Zfs::new(root)));
        bench.file("spl/kstat/zfs/arcstats", ARC);
        bench.file("spl/kstat/zfs/chksum_bench", b"implementation native 1k\n");
        bench.file("spl/kstat/zfs/tank/state", b"DEGRADED\n");
        bench.file(
            "spl/kstat/zfs/tank/io",
            b"12 3 0x00 1 80 1 2\nnread    nwritten reads    writes\n1884160  3206144  22       132\n",
        );
        bench.file("spl/kstat/zfs/tank/objset-0x36", DATASET);
        bench
    }

    #[test]
    fn parts_pools_and_datasets_are_counted() {
        let mut bench = bench();
        assert_eq!(bench.tick(), Ok(0));
        assert_eq!(bench.value("node_zfs_arc_hits"), Some(8_772_612.0));
        assert_eq!(bench.value("node_zfs_arc_memory_available_bytes"), Some(-9.223_372_036_854_776e17));
        assert_eq!(bench.value("node_zfs_arc_l2_feeds"), Some(7.0));
        assert_eq!(bench.value("node_zfs_zpool_state{state=\"degraded\",zpool=\"tank\"}"), Some(1.0));
        assert_eq!(bench.value("node_zfs_zpool_state{state=\"online\",zpool=\"tank\"}"), Some(0.0));
        assert_eq!(bench.value("node_zfs_zpool_nread{zpool=\"tank\"}"), Some(1_884_160.0));
        assert_eq!(bench.value("node_zfs_zpool_writes{zpool=\"tank\"}"), Some(132.0));
        assert_eq!(bench.value("node_zfs_zpool_dataset_nwritten{dataset=\"tank/a b\",zpool=\"tank\"}"), Some(6.0));
        assert_eq!(bench.len(), 3 + 7 + 4 + 2);
    }

    #[test]
    fn a_pool_that_is_exported_ends() {
        let mut bench = bench();
        bench.tick().unwrap();
        std::fs::remove_dir_all(bench.path("spl/kstat/zfs/tank")).unwrap();
        assert_eq!(bench.tick(), Ok(0));
        assert_eq!(bench.len(), 3);
    }

    #[test]
    fn mutated_files_are_survived() {
        survives_mutation("spl/kstat/zfs/arcstats", ARC, |root| Box::new(Zfs::new(root)));
        survives_mutation("spl/kstat/zfs/tank/objset-0x36", DATASET, |root| Box::new(Zfs::new(root)));
    }
}
