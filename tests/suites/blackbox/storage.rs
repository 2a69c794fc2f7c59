//! What filesystems count of themselves, XFS and Btrfs on loop devices, beside what Debian's node_exporter makes of the same files.

use std::collections::BTreeMap;
use std::fs;
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::Context as _;
use pitwatch_tests::http::Api;
use pitwatch_tests::programs::{Process, free_port};

use crate::host::{Disk, once, run};
use crate::support::wait_for;

/// The least that mkfs.xfs makes a filesystem of.
const XFS_BYTES: u64 = 320 << 20;
const BTRFS_BYTES: u64 = 160 << 20;
const WRITTEN_BYTES: usize = 5_000_000;
/// What node_exporter asks the filesystem itself, as root (docs/reference/signals.md).
const ASKED: [&str; 2] = ["node_btrfs_device_unused_bytes", "node_btrfs_device_errors_total"];

/// Series of XFS and Btrfs, without the label that node_exporter has from the filesystem itself.
fn theirs(dir: &Path) -> anyhow::Result<BTreeMap<String, f64>> {
    let port = free_port()?;
    let mut command = Command::new("prometheus-node-exporter");
    command.arg(format!("--web.listen-address=127.0.0.1:{port}"));
    command.args(["--collector.disable-defaults", "--collector.xfs", "--collector.btrfs"]);
    let _exporter = Process::start(&mut command, &dir.join("node_exporter.log"))?;
    wait_for("node_exporter", Duration::from_secs(40), || TcpStream::connect(("127.0.0.1", port)).ok())?;
    let (_, page) = Api::new(&format!("http://127.0.0.1:{port}"), "")?.get_text("/metrics", &[])?;
    let mut found = BTreeMap::new();
    for line in page.lines().filter(|line| line.starts_with("node_xfs_") || line.starts_with("node_btrfs_")) {
        let (series, value) = line.rsplit_once(' ').context("a line without a value")?;
        let (name, labels) = series.split_once('{').context("a series without labels")?;
        let labels = labels.trim_end_matches('}').split(',');
        let kept: Vec<&str> =
            labels.filter(|label| !label.starts_with("btrfs_dev_uuid=") && !label.ends_with("=\"\"")).collect();
        if !ASKED.contains(&name) {
            found.insert(format!("{name}{{{}}}", kept.join(",")), value.parse()?);
        }
    }
    Ok(found)
}

/// The same of the agent, without the label that its configuration gives every series.
fn ours() -> anyhow::Result<BTreeMap<String, f64>> {
    let mut all = once()?;
    all.retain(|series, _| series.starts_with("node_xfs_") || series.starts_with("node_btrfs_"));
    // Debian 12's node_exporter knows nothing of commits.
    all.retain(|series, _| !series.contains("_commit"));
    Ok(all
        .into_iter()
        .map(|(series, value)| (series.replace(",job=\"node\"", "").replace("job=\"node\",", ""), value))
        .collect())
}

#[test]
fn xfs_and_btrfs_count_what_node_exporter_says_they_do() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let disks = [("xfs", XFS_BYTES), ("btrfs", BTRFS_BYTES)].map(|(fstype, bytes)| {
        let known = fs::read_to_string("/proc/filesystems")?.split_whitespace().any(|name| name == fstype);
        if !known {
            eprintln!("skipped: this kernel has no {fstype}");
            return Ok(None);
        }
        Disk::mount(dir.path(), bytes, fstype, &[])
    });
    let disks: Vec<Disk> = disks.into_iter().collect::<anyhow::Result<Vec<_>>>()?.into_iter().flatten().collect();
    if disks.is_empty() {
        eprintln!("skipped: neither XFS nor Btrfs can be mounted here");
        return Ok(());
    }
    let before = ours()?;
    for disk in &disks {
        fs::write(Path::new(&disk.point).join("file"), vec![7; WRITTEN_BYTES])?;
        run("sync", &["-f", &disk.point])?;
    }
    // Both read counters that the kernel's own threads may move meanwhile.
    let (theirs, ours) = wait_for("both to say the same", Duration::from_secs(60), || {
        let (theirs, ours) = (theirs(dir.path()).ok()?, ours().ok()?);
        (theirs == ours).then_some((theirs, ours))
    })
    .with_context(|| format!("theirs: {:#?}\nours: {:#?}", theirs(dir.path()), ours()))?;
    anyhow::ensure!(!theirs.is_empty() && theirs.len() == ours.len());
    for disk in &disks {
        let device = disk.device.trim_start_matches("/dev/");
        let grown = |metric: &str, label: &str| {
            let of = |all: &BTreeMap<String, f64>| -> f64 {
                let meant = |series: &str| series.starts_with(&format!("{metric}{{")) && series.contains(label);
                all.iter().filter(|(series, _)| meant(series)).map(|(_, value)| value).sum()
            };
            of(&ours) - of(&before)
        };
        let blocks = grown("node_xfs_extent_allocation_blocks_allocated_total", &format!("device=\"{device}\""));
        let bytes = grown("node_btrfs_used_bytes", "block_group_type=\"data\"");
        let is_xfs = disk.point.contains("/xfs-");
        anyhow::ensure!(!is_xfs || blocks >= WRITTEN_BYTES as f64 / 4096.0, "{blocks} blocks more");
        anyhow::ensure!(is_xfs || bytes >= WRITTEN_BYTES as f64, "{bytes} bytes more");
    }
    Ok(())
}
