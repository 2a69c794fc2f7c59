//! /proc/mdstat: software RAID arrays, their state, their disks, how far a rebuild is.

use std::path::Path;

use super::metric::Metric;
use super::parse;
use super::source::{HeldFile, Keyed, Pass, Source, SourceError};
use super::table::Handle;

/// Longest name of an array taken, in bytes.
const NAME_MAX_BYTES: usize = 64;
const FILE: &str = "/proc/mdstat";

/// What an array gives.
pub(super) static METRICS: [Metric; 5] = [
    Metric::gauge("node_md_state", "", FILE, "1 at the state that the array is in, else 0.").by(&["device", "state"]),
    Metric::gauge("node_md_disks", "disks", FILE, "Disks of an array in a state.").by(&["device", "state"]),
    Metric::gauge("node_md_disks_required", "disks", FILE, "Disks that a whole array has.").by(&["device"]),
    Metric::gauge("node_md_blocks", "blocks", FILE, "Size of an array, in KiB.").by(&["device"]),
    Metric::gauge("node_md_blocks_synced", "blocks", FILE, "How much of it is in sync, in KiB.").by(&["device"]),
];
const STATE: usize = 0;
const DISKS: usize = 1;
const REQUIRED: usize = 2;
const BLOCKS: usize = 3;
const SYNCED: usize = 4;

/// States of an array; a word of the progress line says which rebuild it is.
const STATES: [(&str, &[u8]); 5] =
    [("active", b""), ("inactive", b""), ("recovering", b"recovery"), ("resync", b"resync"), ("check", b"check")];
const ACTIVE: usize = 0;
const INACTIVE: usize = 1;
/// States of a disk.
const DISK_STATES: [&str; 4] = ["active", "failed", "spare", "down"];

/// /proc/mdstat.
pub(super) struct Raid {
    file: HeldFile,
    arrays: Keyed<Series>,
}

#[derive(Default)]
struct Series {
    label: String,
    states: [Handle; STATES.len()],
    disks: [Handle; DISK_STATES.len()],
    numbers: [Handle; 3],
}

/// What the lines of an array say.
#[derive(Debug, Default, PartialEq)]
struct Array {
    state: usize,
    /// Named in the first line, those that failed or are spare among them.
    listed: u64,
    failed: u64,
    spare: u64,
    /// `[2/1]`: required and active.
    disks: Option<(u64, u64)>,
    blocks: Option<u64>,
    synced: Option<u64>,
}

impl Raid {
    pub(super) fn new(proc_root: &Path) -> Self {
        Self { file: HeldFile::optional(proc_root.join("mdstat")), arrays: Keyed::default() }
    }
}

impl Source for Raid {
    fn name(&self) -> &'static str {
        "raid"
    }

    fn gather(&mut self, pass: &mut Pass<'_>) -> Result<(), SourceError> {
        let sink = &mut pass.sink;
        let Some(text) = self.file.read(pass.buffer, &mut sink.malformed)? else { return Ok(()) };
        self.arrays.begin();
        let mut lines = parse::lines(text).peekable();
        while let Some(line) = lines.next() {
            // `md0 : active raid1 vdc[1] vdb[0]`, then lines that begin with a blank.
            let name = parse::words(line).next().filter(|name| name.starts_with(b"md"));
            let (Some(name), b':') = (name, parse::words(line).nth(1).map_or(0, |word| word[0])) else { continue };
            let mut array = Array::begin(line);
            while let Some(line) = lines.next_if(|line| line.starts_with(b" ") || line.starts_with(b"\t")) {
                array.read(line);
            }
            let made = |name: &[u8]| Series { label: parse::text(name, NAME_MAX_BYTES), ..Series::default() };
            match self.arrays.entry(name, made) {
                Some(series) => series.set(&array, sink),
                None => sink.malformed += 1,
            }
        }
        self.arrays.end();
        Ok(())
    }
}

impl Array {
    fn begin(line: &[u8]) -> Self {
        let mut array = Self { state: INACTIVE, ..Self::default() };
        for word in parse::words(line).skip(2) {
            if word == b"active" {
                array.state = ACTIVE;
            }
            // `vdc[1](F)`.
            if let Some((_, rest)) = parse::split_at_byte(word, b'[') {
                array.listed += 1;
                array.failed += u64::from(rest.ends_with(b"(F)"));
                array.spare += u64::from(rest.ends_with(b"(S)"));
            }
        }
        array
    }

    fn read(&mut self, line: &[u8]) {
        let mut before: &[u8] = b"";
        for word in parse::words(line) {
            if word == b"blocks" {
                self.blocks = parse::whole(before);
            }
            let bracketed = word.strip_prefix(b"[").and_then(|word| word.strip_suffix(b"]"));
            if let Some((required, active)) = bracketed.and_then(|word| parse::split_at_byte(word, b'/')) {
                self.disks = parse::whole(required).zip(parse::whole(active)).or(self.disks);
            }
            // `recovery = 12.6% (37043392/292945152) …`
            if let Some(state) = STATES.iter().position(|(_, name)| !name.is_empty() && *name == word) {
                self.state = state;
            }
            let progress = word.strip_prefix(b"(").and_then(|word| parse::split_at_byte(word, b'/'));
            if let Some(synced) = progress.and_then(|(synced, _)| parse::whole(synced)) {
                self.synced = Some(synced);
            }
            before = word;
        }
    }
}

impl Series {
    fn set(&mut self, array: &Array, sink: &mut super::source::Sink<'_>) {
        let device = ("device", self.label.as_str());
        for (at, ((name, _), handle)) in STATES.into_iter().zip(&mut self.states).enumerate() {
            let value = f64::from(u8::from(at == array.state));
            sink.set(handle, &METRICS[STATE], &[device, ("state", name)], Some(value));
        }
        let whole = array.listed.saturating_sub(array.failed + array.spare);
        let (required, active) = array.disks.unwrap_or((whole, if array.state == INACTIVE { 0 } else { whole }));
        let counts = [active, array.failed, array.spare, required.saturating_sub(active)];
        for ((name, handle), count) in DISK_STATES.into_iter().zip(&mut self.disks).zip(counts) {
            sink.set(handle, &METRICS[DISKS], &[device, ("state", name)], Some(count as f64));
        }
        let synced = array.synced.or(array.blocks);
        let numbers = [(REQUIRED, Some(required)), (BLOCKS, array.blocks), (SYNCED, synced)];
        for ((metric, number), handle) in numbers.into_iter().zip(&mut self.numbers) {
            sink.set(handle, &METRICS[metric], &[device], number.map(|number| number as f64));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Bench, survives_mutation};
    use super::*;

    const TEXT: &[u8] = b"Personalities : [raid1] [raid6] [raid5] [raid4]\n\
        md0 : active raid1 vdc[2] vdb[0] vdd[1](F)\n      1047552 blocks super 1.2 [2/1] [U_]\n\
        \x20     [==>..................]  recovery = 12.6% (131072/1047552) finish=0.5min speed=26214K/sec\n      \n\
        md1 : inactive vdf[1](S)\n      523776 blocks super 1.2\n       \n\
        md2 : active raid0 vdh[1] vdg[0]\n      2093056 blocks super 1.2 512k chunks\n      \n\
        unused devices: <none>\n";

    fn bench() -> Bench {
        Bench::new(|root| Box::new(Raid::new(root)))
    }

    #[test]
    fn an_array_gives_its_state_and_its_disks() {
        let mut bench = bench();
        bench.file("mdstat", TEXT);
        assert_eq!(bench.tick(), Ok(0));
        let value = |name: &str, device: &str, state: &str| {
            bench.value(&format!("node_md_{name}{{device=\"{device}\",state=\"{state}\"}}")).unwrap()
        };
        assert_eq!(STATES.map(|(name, _)| value("state", "md0", name)), [0.0, 0.0, 1.0, 0.0, 0.0]);
        assert_eq!(DISK_STATES.map(|name| value("disks", "md0", name)), [1.0, 1.0, 0.0, 1.0]);
        assert_eq!(STATES.map(|(name, _)| value("state", "md1", name)), [0.0, 1.0, 0.0, 0.0, 0.0]);
        assert_eq!(value("disks", "md1", "spare"), 1.0);
        assert_eq!(value("disks", "md2", "active"), 2.0);
        assert_eq!(bench.value("node_md_disks_required{device=\"md0\"}"), Some(2.0));
        assert_eq!(bench.value("node_md_blocks{device=\"md0\"}"), Some(1_047_552.0));
        assert_eq!(bench.value("node_md_blocks_synced{device=\"md0\"}"), Some(131_072.0));
        assert_eq!(bench.value("node_md_blocks_synced{device=\"md2\"}"), Some(2_093_056.0));
    }

    #[test]
    fn mutated_files_are_survived_and_an_array_that_is_stopped_ends() {
        let mut bench = bench();
        bench.file("mdstat", TEXT);
        bench.tick().unwrap();
        bench.file("mdstat", b"Personalities : [raid1]\nunused devices: <none>\n");
        assert_eq!(bench.tick(), Ok(0));
        assert_eq!(bench.len(), 0);
        // A short name can have twelve series.
        let real: &'static [u8] = Box::leak([TEXT, &[b'\n'; 2000]].concat().into_boxed_slice());
        survives_mutation("mdstat", real, |root| Box::new(Raid::new(root)));
    }
}
