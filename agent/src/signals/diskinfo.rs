//! What a disk is: model, serial number and place, as udev knows it.

use std::path::{Path, PathBuf};

use super::disks::excluded;
use super::metric::Metric;
use super::network::DEVICE_MAX_BYTES;
use super::parse;
use super::source::{Buffer, HeldFile, Keyed, Pass, Source, SourceError};
use super::table::Handle;

/// Longest text taken into a label, in bytes.
const TEXT_MAX_BYTES: usize = 255;

const LABELS: [&str; 8] = ["device", "major", "minor", "model", "path", "revision", "serial", "wwn"];

/// What a disk gives.
pub(super) static METRICS: [Metric; 1] =
    [Metric::gauge("node_disk_info", "", "/run/udev/data", "A disk; always 1.").by(&LABELS)];

/// udev's properties behind the last five labels; of two, the first that is there.
const PROPERTIES: [&[&[u8]]; 5] =
    [&[b"ID_MODEL"], &[b"ID_PATH"], &[b"ID_REVISION"], &[b"SCSI_IDENT_SERIAL", b"ID_SERIAL_SHORT"], &[b"ID_WWN"]];

/// The disks of /proc/diskstats.
pub(super) struct DiskInfo {
    file: HeldFile,
    udev: PathBuf,
    /// By the numbers and the name.
    disks: Keyed<Option<Disk>>,
}

#[derive(Default)]
struct Disk {
    name: [String; 3],
    properties: [String; PROPERTIES.len()],
    handle: Handle,
}

impl DiskInfo {
    pub(super) fn new(proc_root: &Path, root: &Path) -> Self {
        let file = HeldFile::optional(proc_root.join("diskstats"));
        Self { file, udev: root.join("run/udev/data"), disks: Keyed::default() }
    }
}

impl Source for DiskInfo {
    fn name(&self) -> &'static str {
        "disk_info"
    }

    fn gather(&mut self, pass: &mut Pass<'_>) -> Result<(), SourceError> {
        let Some(text) = self.file.read(pass.buffer, &mut pass.sink.malformed)? else { return Ok(()) };
        self.disks.begin();
        for line in parse::lines(text) {
            let mut words = parse::words(line);
            let (Some(major), Some(minor), Some(name)) = (words.next(), words.next(), words.next()) else {
                pass.sink.malformed += 1;
                continue;
            };
            let made = |_: &[u8]| {
                (!excluded(name)).then(|| Disk {
                    name: [name, major, minor].map(|text| parse::text(text, DEVICE_MAX_BYTES)),
                    ..Disk::default()
                })
            };
            if self.disks.entry(&[major, minor, name].join(&b' '), made).is_none() {
                pass.sink.malformed += 1;
            }
        }
        self.disks.end();
        for disk in self.disks.values().flatten() {
            disk.set(&self.udev, pass);
        }
        Ok(())
    }
}

impl Disk {
    fn set(&mut self, udev: &Path, pass: &mut Pass<'_>) {
        let [name, major, minor] = &self.name;
        let number = |text: &str| parse::whole(text.as_bytes()).unwrap_or(u64::MAX);
        let path = udev.join(format!("b{}:{}", number(major), number(minor)));
        let properties = properties(&path, pass.buffer);
        if properties != self.properties {
            self.properties = properties;
            self.handle = Handle::default();
        }
        let texts = [name, major, minor].into_iter().chain(&self.properties).map(String::as_str);
        let labels: Vec<_> = LABELS.into_iter().zip(texts).collect();
        pass.sink.set(&mut self.handle, &METRICS[0], &labels, Some(1.0));
    }
}

/// `E:ID_MODEL=…` lines of udev's file of a device; without one all are empty.
fn properties(path: &Path, buffer: &mut Buffer) -> [String; PROPERTIES.len()] {
    let text = buffer.read_small(path).unwrap_or_default();
    PROPERTIES.map(|names| {
        let found = names.iter().find_map(|name| {
            parse::lines(text).find_map(|line| {
                let (key, value) = parse::split_at_byte(line.strip_prefix(b"E:")?, b'=')?;
                (key == *name).then_some(value)
            })
        });
        parse::text(found.unwrap_or_default(), TEXT_MAX_BYTES)
    })
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Bench, survives_mutation};
    use super::*;

    #[test]
    fn a_disk_is_what_udev_says() {
        let mut bench = Bench::new(|root| Box::new(DiskInfo::new(root, root)));
        bench.file("diskstats", b"   8       0 sda 1 2 3\n   8       1 sda1 1 2 3\n 254 0 vda 1\nbad\n");
        bench.file("run/udev/data/b8:0", b"S:disk/by-id/x\nE:ID_MODEL=Disk_9000\nE:ID_SERIAL_SHORT=S1\nE:ID_WWN=0x5\n");
        assert_eq!(bench.tick(), Ok(1));
        assert_eq!(
            bench.names(),
            [
                "node_disk_info{device=\"sda\",major=\"8\",minor=\"0\",model=\"Disk_9000\",serial=\"S1\",wwn=\"0x5\"}",
                "node_disk_info{device=\"vda\",major=\"254\",minor=\"0\"}"
            ]
        );
        let real = b"   8       0 sda 1 2 3\n   8       1 sda1 1 2 3\n 254 0 vda 1\n";
        survives_mutation("diskstats", real, |root| Box::new(DiskInfo::new(root, root)));
    }
}
