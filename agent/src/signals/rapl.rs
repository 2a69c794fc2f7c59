//! Energy that the processor's domains used, where this user may read it: since CVE-2020-8694 the counters are root's.

use std::collections::HashMap;
use std::path::Path;

use super::metric::Metric;
use super::parse;
use super::source::{Directory, Found, Pass, Source, SourceError};

/// Longest name of a domain, in bytes.
const NAME_MAX_BYTES: usize = 64;
const FILES: &str = "/sys/class/powercap/*/energy_uj";

/// What a domain gives, by its name.
pub(super) static METRICS: [Metric; 1] =
    [Metric::counter("node_rapl_*_joules_total", "joules", FILES, "Energy that a domain of the processor used.")
        .by(&["index", "path"])];

/// /sys/class/powercap.
pub(super) struct Rapl {
    dir: Directory,
    series: Found,
}

impl Rapl {
    pub(super) fn new(sys_root: &Path) -> Self {
        Self { dir: Directory::new(sys_root.join("class/powercap")), series: Found::default() }
    }
}

impl Source for Rapl {
    fn name(&self) -> &'static str {
        "rapl"
    }

    fn gather(&mut self, pass: &mut Pass<'_>) -> Result<(), SourceError> {
        let names = self.dir.names()?;
        self.series.begin();
        let mut indices: HashMap<String, u64> = HashMap::new();
        for name in names {
            let dir = self.dir.path().join(name);
            let Some(name) = pass.buffer.read_small(&dir.join("name")) else { continue };
            let Some((domain, index)) = domain_of(name) else {
                pass.sink.malformed += 1;
                continue;
            };
            // A name without a number is that of several packages' domains, in their order.
            let index = index.unwrap_or_else(|| indices.get(&domain).copied().unwrap_or_default());
            indices.insert(domain.clone(), index.saturating_add(1));
            let Some(energy) = pass.buffer.read_small(&dir.join("energy_uj")) else { continue };
            let joules = parse::count(energy).map(|microjoules| microjoules / 1e6);
            let name = format!("node_rapl_{domain}_joules_total");
            let labels = [("index", &*index.to_string()), ("path", &*dir.to_string_lossy())];
            self.series.set_named(&mut pass.sink, &METRICS[0], &name, &labels, joules);
        }
        self.series.end();
        Ok(())
    }
}

/// `package-0`: the name as part of a metric's, and its number. `None`: it is no name.
fn domain_of(name: &[u8]) -> Option<(String, Option<u64>)> {
    let name = std::str::from_utf8(name).ok().filter(|name| name.len() <= NAME_MAX_BYTES)?;
    let (domain, index) = match name.split_once('-') {
        Some((domain, digits)) if parse::whole(digits.as_bytes()).is_some() => {
            (domain, parse::whole(digits.as_bytes()))
        }
        _ => (name, None),
    };
    let word = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
    (!domain.is_empty()).then(|| (domain.chars().map(word).collect(), index))
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Bench, survives_mutation};
    use super::*;

    #[test]
    fn domains_are_counted_by_name_and_number() {
        let mut bench = Bench::new(|root| Box::new(Rapl::new(root)));
        let domain = |bench: &Bench, dir: &str, name: &str, energy: &str| {
            bench.file(&format!("class/powercap/{dir}/name"), name.as_bytes());
            bench.file(&format!("class/powercap/{dir}/energy_uj"), energy.as_bytes());
        };
        domain(&bench, "intel-rapl:0", "package-0\n", "240422366267\n");
        domain(&bench, "intel-rapl:0:0", "core\n", "118821284256\n");
        domain(&bench, "intel-rapl:1", "package-10\n", "1\n");
        domain(&bench, "intel-rapl:1:0", "core\n", "2000000\n");
        bench.file("class/powercap/intel-rapl/enabled", b"1\n");
        assert_eq!(bench.tick(), Ok(0));
        let value = |name: &str, index: &str, dir: &str| {
            let path = bench.path(&format!("class/powercap/{dir}"));
            bench.value(&format!("node_rapl_{name}_joules_total{{index=\"{index}\",path=\"{}\"}}", path.display()))
        };
        assert_eq!(value("package", "0", "intel-rapl:0"), Some(240_422.366_267));
        assert_eq!(value("package", "10", "intel-rapl:1"), Some(1e-6));
        assert_eq!(value("core", "1", "intel-rapl:1:0"), Some(2.0));
        assert_eq!(bench.len(), 4);
        survives_mutation("class/powercap/intel-rapl:0/name", b"package-0\n", |root| Box::new(Rapl::new(root)));
    }
}
