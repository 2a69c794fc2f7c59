//! What a disk is, as udev knows it: model, serial number and place, what filesystem or logical volume is on it, its cache.

use std::path::{Path, PathBuf};

use super::disks::excluded;
use super::metric::Metric;
use super::network::DEVICE_MAX_BYTES;
use super::parse;
use super::source::{Found, HeldFile, Pass, Sink, Source, SourceError};

/// Longest text taken into a label, in bytes.
const TEXT_MAX_BYTES: usize = 255;
/// Most bytes of udev's file of a device that are looked at; usual are a few hundred.
const FILE_MAX_BYTES: usize = 64 * 1024;
const FILES: &str = "/run/udev/data";

/// What a disk gives: in the order of [`INFOS`], then of [`NUMBERS`].
pub(super) static METRICS: [Metric; INFOS.len() + NUMBERS.len()] = [
    Metric::gauge("node_disk_info", "", FILES, "A disk; always 1.")
        .by(&["device", "major", "minor", "model", "path", "revision", "serial", "wwn"]),
    Metric::gauge("node_disk_filesystem_info", "", FILES, "The filesystem on a disk; always 1.")
        .by(&["device", "type", "usage", "uuid", "version"]),
    Metric::gauge("node_disk_device_mapper_info", "", FILES, "The logical volume that a disk is; always 1.")
        .by(&["device", "lv_layer", "lv_name", "name", "uuid", "vg_name"]),
    Metric::gauge(
        "node_disk_ata_rotation_rate_rpm",
        "turns a minute",
        FILES,
        "How fast an ATA disk turns; 0 if it does not.",
    )
    .by(&["device"]),
    Metric::gauge("node_disk_ata_write_cache", "", FILES, "Whether an ATA disk has a cache for writes.")
        .by(&["device"]),
    Metric::gauge("node_disk_ata_write_cache_enabled", "", FILES, "Whether it is in use.").by(&["device"]),
];

/// A label and udev's properties for it: of two, the first that is there.
type Property = (&'static str, &'static [&'static str]);

/// Of each info metric the properties behind its labels; the first of them, if any is required, must be there.
const INFOS: [(bool, &[Property]); 3] = [
    (
        false,
        &[
            ("model", &["ID_MODEL"]),
            ("path", &["ID_PATH"]),
            ("revision", &["ID_REVISION"]),
            ("serial", &["SCSI_IDENT_SERIAL", "ID_SERIAL_SHORT"]),
            ("wwn", &["ID_WWN"]),
        ],
    ),
    (
        true,
        &[
            ("type", &["ID_FS_TYPE"]),
            ("usage", &["ID_FS_USAGE"]),
            ("uuid", &["ID_FS_UUID"]),
            ("version", &["ID_FS_VERSION"]),
        ],
    ),
    (
        true,
        &[
            ("name", &["DM_NAME"]),
            ("lv_layer", &["DM_LV_LAYER"]),
            ("lv_name", &["DM_LV_NAME"]),
            ("uuid", &["DM_UUID"]),
            ("vg_name", &["DM_VG_NAME"]),
        ],
    ),
];
const NUMBERS: [&str; 3] = ["ID_ATA_ROTATION_RATE_RPM", "ID_ATA_WRITE_CACHE", "ID_ATA_WRITE_CACHE_ENABLED"];

/// The disks of /proc/diskstats.
pub(super) struct DiskInfo {
    file: HeldFile,
    udev: PathBuf,
    series: Found,
}

impl DiskInfo {
    pub(super) fn new(proc_root: &Path, root: &Path) -> Self {
        let file = HeldFile::optional(proc_root.join("diskstats"));
        Self { file, udev: root.join("run/udev/data"), series: Found::default() }
    }

    fn disk(&mut self, [name, major, minor]: [&str; 3], udev: &[u8], sink: &mut Sink<'_>) {
        for (at, (required, properties)) in INFOS.into_iter().enumerate() {
            let texts: Vec<_> = properties.iter().map(|(label, names)| (*label, property(udev, names))).collect();
            if required && texts[0].1.is_empty() {
                continue;
            }
            let texts = texts.iter().map(|(label, text)| (*label, text.as_str()));
            let numbers = (at == 0).then_some([("major", major), ("minor", minor)]).into_iter().flatten();
            let labels: Vec<_> = [("device", name)].into_iter().chain(numbers).chain(texts).collect();
            self.series.set(sink, &METRICS[at], &labels, Some(1.0));
        }
        for (metric, number) in METRICS[INFOS.len()..].iter().zip(NUMBERS) {
            let number = property(udev, &[number]);
            if !number.is_empty() {
                self.series.set(sink, metric, &[("device", name)], parse::count(number.as_bytes()));
            }
        }
    }
}

impl Source for DiskInfo {
    fn name(&self) -> &'static str {
        "disk_info"
    }

    fn gather(&mut self, pass: &mut Pass<'_>) -> Result<(), SourceError> {
        let Some(text) = self.file.read(pass.buffer, &mut pass.sink.malformed)? else { return Ok(()) };
        let mut disks = Vec::new();
        for line in parse::lines(text) {
            let mut words = parse::words(line);
            let (Some(major), Some(minor), Some(name)) = (words.next(), words.next(), words.next()) else {
                pass.sink.malformed += 1;
                continue;
            };
            if !excluded(name) {
                disks.push([name, major, minor].map(|text| parse::text(text, DEVICE_MAX_BYTES)));
            }
        }
        self.series.begin();
        for disk in &disks {
            let [name, major, minor] = disk.each_ref().map(String::as_str);
            let number = |text: &str| parse::whole(text.as_bytes()).unwrap_or(u64::MAX);
            let path = self.udev.join(format!("b{}:{}", number(major), number(minor)));
            let udev = pass.buffer.read_small(&path).unwrap_or_default();
            self.disk([name, major, minor], &udev[..udev.len().min(FILE_MAX_BYTES)], &mut pass.sink);
        }
        self.series.end();
        Ok(())
    }
}

/// The value of the first of `names` among the `E:ID_MODEL=…` lines of udev's file of a device; empty without one.
fn property(udev: &[u8], names: &[&str]) -> String {
    let found = names.iter().find_map(|name| {
        parse::lines(udev).find_map(|line| {
            let (key, value) = parse::split_at_byte(line.strip_prefix(b"E:")?, b'=')?;
            (key == name.as_bytes()).then_some(value)
        })
    });
    parse::text(found.unwrap_or_default(), TEXT_MAX_BYTES)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Bench, survives_mutation};
    use super::*;

    fn bench() -> Bench {
        Bench::new(|root| Box::new(DiskInfo::new(root, root)))
    }

    #[test]
    fn a_disk_is_what_udev_says() {
        let mut bench = bench();
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

    #[test]
    fn a_disk_says_what_is_on_it_and_how_it_caches() {
        let mut bench = bench();
        bench.file("diskstats", b"   8       0 sda 1 2 3\n 253 0 dm-0 1 2 3\n");
        let sda =
            b"E:ID_ATA=1\nE:ID_ATA_WRITE_CACHE=1\nE:ID_ATA_WRITE_CACHE_ENABLED=0\nE:ID_ATA_ROTATION_RATE_RPM=7200\n";
        bench.file("run/udev/data/b8:0", sda);
        let volume = b"E:DM_NAME=vg-data\nE:DM_VG_NAME=vg\nE:DM_LV_NAME=data\nE:DM_UUID=LVM-1\nE:ID_FS_TYPE=xfs\nE:ID_FS_UUID=u\n";
        bench.file("run/udev/data/b253:0", volume);
        assert_eq!(bench.tick(), Ok(0));
        assert_eq!(bench.value("node_disk_ata_rotation_rate_rpm{device=\"sda\"}"), Some(7200.0));
        assert_eq!(bench.value("node_disk_ata_write_cache{device=\"sda\"}"), Some(1.0));
        assert_eq!(bench.value("node_disk_ata_write_cache_enabled{device=\"sda\"}"), Some(0.0));
        assert_eq!(bench.value("node_disk_filesystem_info{device=\"dm-0\",type=\"xfs\",uuid=\"u\"}"), Some(1.0));
        let mapper = "node_disk_device_mapper_info{device=\"dm-0\",lv_name=\"data\",name=\"vg-data\",uuid=\"LVM-1\",vg_name=\"vg\"}";
        assert_eq!(bench.value(mapper), Some(1.0));
        assert_eq!(bench.len(), 2 + 3 + 2);
    }
}
