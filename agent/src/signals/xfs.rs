//! What XFS counts of each filesystem: extents, B-trees, inodes, calls.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::metric::Metric;
use super::network::DEVICE_MAX_BYTES;
use super::parse;
use super::source::{Directory, Found, Pass, Source, SourceError};

const FILES: &str = "/sys/fs/xfs/*/stats/stats";

const fn counter(name: &'static str, unit: &'static str, help: &'static str) -> Metric {
    Metric::counter(name, unit, FILES, help).by(&["device"])
}

/// What a filesystem counts, line by line.
pub(super) static METRICS: [Metric; 39] = [
    counter("node_xfs_extent_allocation_extents_allocated_total", "extents", "Extents allocated."),
    counter("node_xfs_extent_allocation_blocks_allocated_total", "blocks", "Blocks allocated."),
    counter("node_xfs_extent_allocation_extents_freed_total", "extents", "Extents freed."),
    counter("node_xfs_extent_allocation_blocks_freed_total", "blocks", "Blocks freed."),
    counter("node_xfs_allocation_btree_lookups_total", "lookups", "Lookups in the B-trees of free space."),
    counter("node_xfs_allocation_btree_compares_total", "compares", "Compares in them."),
    counter("node_xfs_allocation_btree_records_inserted_total", "records", "Records put into them."),
    counter("node_xfs_allocation_btree_records_deleted_total", "records", "Records taken out of them."),
    counter("node_xfs_block_mapping_reads_total", "operations", "Blocks looked up for reads."),
    counter("node_xfs_block_mapping_writes_total", "operations", "Blocks looked up for writes."),
    counter("node_xfs_block_mapping_unmaps_total", "operations", "Blocks given back."),
    counter("node_xfs_block_mapping_extent_list_insertions_total", "extents", "Extents put into files' lists."),
    counter("node_xfs_block_mapping_extent_list_deletions_total", "extents", "Extents taken out of files' lists."),
    counter("node_xfs_block_mapping_extent_list_lookups_total", "lookups", "Lookups in files' lists of extents."),
    counter("node_xfs_block_mapping_extent_list_compares_total", "compares", "Compares in them."),
    counter("node_xfs_block_map_btree_lookups_total", "lookups", "Lookups in the B-trees of files' blocks."),
    counter("node_xfs_block_map_btree_compares_total", "compares", "Compares in them."),
    counter("node_xfs_block_map_btree_records_inserted_total", "records", "Records put into them."),
    counter("node_xfs_block_map_btree_records_deleted_total", "records", "Records taken out of them."),
    counter(
        "node_xfs_directory_operation_lookup_total",
        "operations",
        "Names looked up on disk: the kernel's cache had them not.",
    ),
    counter("node_xfs_directory_operation_create_total", "operations", "Entries of directories made."),
    counter("node_xfs_directory_operation_remove_total", "operations", "Entries of directories removed."),
    counter("node_xfs_directory_operation_getdents_total", "operations", "Directories listed."),
    counter("node_xfs_inode_operation_attempts_total", "inodes", "Inodes looked for in the cache."),
    counter("node_xfs_inode_operation_found_total", "inodes", "Inodes found in the cache."),
    counter(
        "node_xfs_inode_operation_recycled_total",
        "inodes",
        "Inodes found in the cache while they were being recycled.",
    ),
    counter("node_xfs_inode_operation_missed_total", "inodes", "Inodes not found in the cache."),
    counter("node_xfs_inode_operation_duplicates_total", "inodes", "Inodes that another process had put in meanwhile."),
    counter("node_xfs_inode_operation_reclaims_total", "inodes", "Inodes taken out of the cache to make room."),
    counter("node_xfs_inode_operation_attribute_changes_total", "operations", "Changes of inodes' attributes."),
    counter("node_xfs_write_calls_total", "calls", "Calls of write(2)."),
    counter("node_xfs_read_calls_total", "calls", "Calls of read(2)."),
    counter("node_xfs_vnode_active_total", "vnodes", "Vnodes not on free lists."),
    counter("node_xfs_vnode_allocate_total", "calls", "Vnodes allocated."),
    counter("node_xfs_vnode_get_total", "calls", "Vnodes got."),
    counter("node_xfs_vnode_hold_total", "calls", "Vnodes held."),
    counter("node_xfs_vnode_release_total", "calls", "Vnodes released."),
    counter("node_xfs_vnode_reclaim_total", "calls", "Vnodes reclaimed."),
    counter("node_xfs_vnode_remove_total", "calls", "Vnodes removed."),
];

/// Lines of a file, and how many of [`METRICS`] their first numbers are.
const LINES: [(&[u8], usize); 8] = [
    (b"extent_alloc", 4),
    (b"abt", 4),
    (b"blk_map", 7),
    (b"bmbt", 4),
    (b"dir", 4),
    (b"ig", 7),
    (b"rw", 2),
    (b"vnodes", 7),
];

/// Every filesystem's counters.
pub(super) struct Xfs {
    dir: Directory,
    series: Found,
}

impl Xfs {
    pub(super) fn new(sys_root: &Path) -> Self {
        Self { dir: Directory::new(sys_root.join("fs/xfs")), series: Found::default() }
    }
}

impl Source for Xfs {
    fn name(&self) -> &'static str {
        "xfs"
    }

    fn gather(&mut self, pass: &mut Pass<'_>) -> Result<(), SourceError> {
        let names = self.dir.names()?;
        self.series.begin();
        for name in names {
            // Beside the filesystems stand the sums of them.
            let path = self.dir.path().join(&name).join("stats/stats");
            let Some(text) = pass.buffer.read_small(&path) else { continue };
            let device = parse::text(name.as_bytes(), DEVICE_MAX_BYTES);
            let mut first = 0;
            for (key, count) in LINES {
                let line = parse::lines(text).find(|line| parse::words(line).next() == Some(key));
                let words = line.into_iter().flat_map(parse::words).skip(1);
                for (metric, word) in METRICS[first..first + count].iter().zip(words) {
                    self.series.set(&mut pass.sink, metric, &[("device", &device)], parse::count(word));
                }
                first += count;
            }
        }
        self.series.end();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Bench, survives_mutation};
    use super::*;

    const TEXT: &[u8] = b"extent_alloc 2 3 4 5\nabt 6 7 8 9\nblk_map 10 11 12 13 14 15 16\nbmbt 17 18 19 20\n\
        dir 21 22 23 24\ntrans 1 1 1\nig 25 26 27 28 29 30 31\nlog 1 2 3\nrw 32 33\nattr 1 2 3 4\n\
        vnodes 34 35 36 37 38 39 40 41\nxpc 399724544 92823103 86219234\n";

    #[test]
    fn a_filesystems_counters_have_their_names() {
        let mut bench = Bench::new(|root| Box::new(Xfs::new(root)));
        bench.file("fs/xfs/sda1/stats/stats", TEXT);
        bench.file("fs/xfs/stats/stats_clear", b"");
        assert_eq!(bench.tick(), Ok(0));
        assert_eq!(bench.len(), METRICS.len());
        for (metric, value) in METRICS.iter().zip(2_u8..) {
            let series = format!("{}{{device=\"sda1\"}}", metric.name);
            assert_eq!(bench.value(&series), Some(f64::from(value)), "{series}");
        }
        survives_mutation("fs/xfs/sda1/stats/stats", TEXT, |root| Box::new(Xfs::new(root)));
    }

    #[test]
    fn every_metric_is_of_a_line() {
        assert_eq!(LINES.iter().map(|(_, count)| count).sum::<usize>(), METRICS.len());
    }
}
