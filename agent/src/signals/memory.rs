//! /proc/meminfo, every field of it, and the fields of /proc/vmstat that node_exporter takes by default.

use std::path::Path;

use super::metric::Metric;
use super::parse;
use super::source::{HeldFile, Keyed, Pass, Source, SourceError};
use super::table::Handle;

/// Longest name of a field taken into a metric's name, in bytes; the kernel's longest has 17.
pub(super) const FIELD_MAX_BYTES: usize = 64;

/// What /proc/meminfo gives: fields with a unit, fields without.
pub(super) static MEMINFO: [Metric; 2] = [
    Metric::gauge(
        "node_memory_*_bytes",
        "bytes",
        "/proc/meminfo",
        "A field of /proc/meminfo; Active(anon) is called Active_anon.",
    ),
    Metric::gauge("node_memory_*", "pages", "/proc/meminfo", "A field of /proc/meminfo that counts huge pages."),
];

/// What /proc/vmstat gives.
pub(super) static VMSTAT: [Metric; 1] = [Metric::untyped(
    "node_vmstat_*",
    "pages or events",
    "/proc/vmstat",
    "A field of /proc/vmstat: oom_kill, pgpg*, pswp* and pg*fault*.",
)];

/// /proc/meminfo.
pub(super) struct Memory {
    file: HeldFile,
    fields: Keyed<Field>,
}

struct Field {
    /// `None`: not a field to take.
    name: Option<String>,
    handle: Handle,
}

impl Memory {
    pub(super) fn new(proc_root: &Path) -> Self {
        Self { file: HeldFile::required(proc_root.join("meminfo")), fields: Keyed::default() }
    }
}

impl Source for Memory {
    fn name(&self) -> &'static str {
        "memory"
    }

    fn gather(&mut self, pass: &mut Pass<'_>) -> Result<(), SourceError> {
        let sink = &mut pass.sink;
        let Some(text) = self.file.read(pass.buffer, &mut sink.malformed)? else { return Ok(()) };
        self.fields.begin();
        for line in parse::lines(text) {
            let Some((key, rest)) = parse::split_at_byte(line, b':') else {
                sink.malformed += 1;
                continue;
            };
            let mut words = parse::words(rest);
            let value = words.next().and_then(parse::count);
            let (metric, scale) = match words.next() {
                None => (&MEMINFO[1], 1.0),
                Some(b"kB") => (&MEMINFO[0], 1024.0),
                Some(_) => {
                    sink.malformed += 1;
                    continue;
                }
            };
            let made = |key: &[u8]| Field { name: metric_name(key, metric), handle: Handle::default() };
            match self.fields.entry(key, made) {
                Some(Field { name: Some(name), handle }) => {
                    sink.set_named(handle, metric, name, &[], value.map(|value| value * scale));
                }
                _ => sink.malformed += 1,
            }
        }
        self.fields.end();
        if self.fields.len() > 0 { Ok(()) } else { Err(self.file.malformed()) }
    }
}

/// `Active(anon)` becomes `Active_anon`; a name that a metric cannot have is `None`.
fn metric_name(key: &[u8], metric: &Metric) -> Option<String> {
    let plain: Vec<u8> = key.iter().filter(|byte| **byte != b')').map(|b| if *b == b'(' { b'_' } else { *b }).collect();
    family_name(metric, &plain)
}

/// The name of `metric`'s family for a kernel's field, if a metric can have it.
pub(super) fn family_name(metric: &Metric, field: &[u8]) -> Option<String> {
    let fits = !field.is_empty()
        && field.len() <= FIELD_MAX_BYTES
        && field.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'_');
    let field = fits.then(|| std::str::from_utf8(field).ok()).flatten()?;
    Some(metric.name.replacen('*', field, 1))
}

/// /proc/vmstat.
pub(super) struct Vmstat {
    file: HeldFile,
    fields: Keyed<Field>,
}

impl Vmstat {
    pub(super) fn new(proc_root: &Path) -> Self {
        Self { file: HeldFile::optional(proc_root.join("vmstat")), fields: Keyed::default() }
    }
}

impl Source for Vmstat {
    fn name(&self) -> &'static str {
        "vmstat"
    }

    fn gather(&mut self, pass: &mut Pass<'_>) -> Result<(), SourceError> {
        let sink = &mut pass.sink;
        let Some(text) = self.file.read(pass.buffer, &mut sink.malformed)? else { return Ok(()) };
        self.fields.begin();
        for line in parse::lines(text).filter(|line| taken_of_vmstat(line)) {
            let mut words = parse::words(line);
            let Some(key) = words.next() else { continue };
            let made = |key: &[u8]| Field { name: family_name(&VMSTAT[0], key), handle: Handle::default() };
            match self.fields.entry(key, made) {
                Some(Field { name: Some(name), handle }) => {
                    sink.set_named(handle, &VMSTAT[0], name, &[], words.next().and_then(parse::count));
                }
                _ => sink.malformed += 1,
            }
        }
        self.fields.end();
        if self.fields.len() > 0 { Ok(()) } else { Err(self.file.malformed()) }
    }
}

/// node_exporter's `^(oom_kill|pgpg|pswp|pg.*fault).*`.
fn taken_of_vmstat(line: &[u8]) -> bool {
    let fault = || line.starts_with(b"pg") && line.windows(5).any(|part| part == b"fault");
    line.starts_with(b"oom_kill") || line.starts_with(b"pgpg") || line.starts_with(b"pswp") || fault()
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Bench, survives_mutation};
    use super::*;

    #[test]
    fn every_field_of_meminfo_is_a_metric() {
        let mut bench = Bench::new(|root| Box::new(Memory::new(root)));
        let real = include_bytes!("../../testdata/proc/meminfo");
        bench.file("meminfo", real);
        assert_eq!(bench.tick(), Ok(0));
        assert_eq!(bench.value("node_memory_MemTotal_bytes"), Some(24_683_656.0 * 1024.0));
        assert_eq!(bench.value("node_memory_Active_anon_bytes"), Some(1552.0 * 1024.0));
        assert_eq!(bench.value("node_memory_HugePages_Total"), Some(0.0));
        assert_eq!(bench.value("node_memory_Hugepagesize_bytes"), Some(2048.0 * 1024.0));
        assert_eq!(bench.len(), real.iter().filter(|byte| **byte == b'\n').count());
    }

    #[test]
    fn hostile_meminfo_is_skipped_and_counted() {
        let mut bench = Bench::new(|root| Box::new(Memory::new(root)));
        let long = "L".repeat(5000);
        bench.file(
            "meminfo",
            format!(
                "MemFree: 1 kB\nBad name: 1 kB\nMemTotal: 1 MB\nno colon\nBig: 99999999999999999999 kB\n{long}: 1 kB\n"
            )
            .as_bytes(),
        );
        assert_eq!(bench.tick(), Ok(5));
        assert_eq!(bench.names(), ["node_memory_MemFree_bytes"]);
    }

    #[test]
    fn vmstat_gives_the_default_subset() {
        let mut bench = Bench::new(|root| Box::new(Vmstat::new(root)));
        assert_eq!(bench.tick(), Ok(0), "a kernel without the file is no error");
        let mut bench = Bench::new(|root| Box::new(Vmstat::new(root)));
        bench.file("vmstat", include_bytes!("../../testdata/proc/vmstat"));
        assert_eq!(bench.tick(), Ok(0));
        let names = ["oom_kill", "pgfault", "pgmajfault", "pgpgin", "pgpgout", "pswpin", "pswpout"];
        assert_eq!(bench.names(), names.map(|name| format!("node_vmstat_{name}")));
    }

    #[test]
    fn mutated_files_are_survived() {
        let meminfo = include_bytes!("../../testdata/proc/meminfo");
        survives_mutation("meminfo", meminfo, |root| Box::new(Memory::new(root)));
        let vmstat = include_bytes!("../../testdata/proc/vmstat");
        survives_mutation("vmstat", vmstat, |root| Box::new(Vmstat::new(root)));
    }
}
