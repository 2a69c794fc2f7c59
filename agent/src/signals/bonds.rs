//! Bonded interfaces: how many slaves a bond has, and how many of them work.

use std::path::{Path, PathBuf};

use super::metric::Metric;
use super::network::DEVICE_MAX_BYTES;
use super::parse;
use super::source::{Keyed, Pass, Source, SourceError};
use super::table::Handle;

const FILES: &str = "/sys/class/net/*/bonding";

/// What a bond gives.
pub(super) static METRICS: [Metric; 2] = [
    Metric::gauge("node_bonding_slaves", "interfaces", FILES, "Interfaces of a bond.").by(&["master"]),
    Metric::gauge("node_bonding_active", "interfaces", FILES, "Interfaces of a bond that have a link.").by(&["master"]),
];

/// The bonds.
pub(super) struct Bonds {
    dir: PathBuf,
    bonds: Keyed<(String, [Handle; METRICS.len()])>,
}

impl Bonds {
    pub(super) fn new(sys_root: &Path) -> Self {
        Self { dir: sys_root.join("class/net"), bonds: Keyed::default() }
    }
}

impl Source for Bonds {
    fn name(&self) -> &'static str {
        "bonds"
    }

    fn gather(&mut self, pass: &mut Pass<'_>) -> Result<(), SourceError> {
        let masters = pass.buffer.read_small(&self.dir.join("bonding_masters")).unwrap_or_default().to_vec();
        self.bonds.begin();
        for master in parse::words(&masters) {
            let made = |name: &[u8]| (parse::text(name, DEVICE_MAX_BYTES), Default::default());
            let Some((label, handles)) = self.bonds.entry(master, made) else {
                pass.sink.malformed += 1;
                continue;
            };
            let dir = self.dir.join(&*label);
            let slaves = pass.buffer.read_small(&dir.join("bonding/slaves")).unwrap_or_default().to_vec();
            let (mut count, mut up) = (0_u32, 0_u32);
            for slave in parse::words(&slaves) {
                let lower = format!("lower_{}", parse::text(slave, DEVICE_MAX_BYTES));
                let path = ["bonding_slave", "slave"].map(|below| dir.join(&lower).join(below).join("mii_status"));
                let is_up = path.iter().any(|path| pass.buffer.read_small(path) == Some(b"up"));
                (count, up) = (count + 1, up + u32::from(is_up));
            }
            for ((handle, metric), value) in handles.iter_mut().zip(&METRICS).zip([count, up]) {
                pass.sink.set(handle, metric, &[("master", label)], Some(f64::from(value)));
            }
        }
        self.bonds.end();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::Bench;
    use super::*;

    #[test]
    fn a_bond_counts_its_slaves_and_those_with_a_link() {
        let mut bench = Bench::new(|root| Box::new(Bonds::new(root)));
        assert_eq!((bench.tick(), bench.len()), (Ok(0), 0));
        bench.file("class/net/bonding_masters", b"bond0 bond1\n");
        bench.file("class/net/bond0/bonding/slaves", b"eth0 eth1\n");
        bench.file("class/net/bond0/lower_eth0/bonding_slave/mii_status", b"up\n");
        bench.file("class/net/bond0/lower_eth1/bonding_slave/mii_status", b"down\n");
        assert_eq!(bench.tick(), Ok(0));
        assert_eq!(bench.value("node_bonding_slaves{master=\"bond0\"}"), Some(2.0));
        assert_eq!(bench.value("node_bonding_active{master=\"bond0\"}"), Some(1.0));
        assert_eq!(bench.value("node_bonding_slaves{master=\"bond1\"}"), Some(0.0));
    }
}
