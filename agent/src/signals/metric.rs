//! What is known of a metric before any value of it: name, type, unit, labels, where it is read, what it means.
//!
//! Every source keeps a table of its [`Metric`]s; [`super::REGISTRY`] lists the tables. The text format's HELP and
//! TYPE lines and docs/reference/signals.md come from here.

use pitwatch_shared::model::MetricType;

/// A metric, or a family of them whose names hold a field of the kernel's (`*` in the name).
#[derive(Debug)]
pub struct Metric {
    /// The name; one `*` stands for the name of a kernel's field.
    pub name: &'static str,
    /// What its values mean.
    pub kind: MetricType,
    /// The unit of its values, in words.
    pub unit: &'static str,
    /// Its labels besides the host's own.
    pub labels: &'static [&'static str],
    /// The file, or the kernel's call, that it is read from.
    pub source: &'static str,
    /// One sentence for the HELP line.
    pub help: &'static str,
}

impl Metric {
    /// A counter without labels of its own.
    #[must_use]
    pub const fn counter(name: &'static str, unit: &'static str, source: &'static str, help: &'static str) -> Self {
        Self { name, kind: MetricType::Counter, unit, labels: &[], source, help }
    }

    /// A gauge without labels of its own.
    #[must_use]
    pub const fn gauge(name: &'static str, unit: &'static str, source: &'static str, help: &'static str) -> Self {
        Self { name, kind: MetricType::Gauge, unit, labels: &[], source, help }
    }

    /// A metric without a type: node_exporter says none for it, and neither do we.
    #[must_use]
    pub const fn untyped(name: &'static str, unit: &'static str, source: &'static str, help: &'static str) -> Self {
        Self { name, kind: MetricType::Unknown, unit, labels: &[], source, help }
    }

    /// The same metric with these labels.
    #[must_use]
    pub const fn by(mut self, labels: &'static [&'static str]) -> Self {
        self.labels = labels;
        self
    }

    /// Whether `name` is this metric, or one of this family.
    #[must_use]
    pub fn covers(&self, name: &str) -> bool {
        match self.name.split_once('*') {
            None => self.name == name,
            Some((head, tail)) => {
                name.len() > head.len() + tail.len() && name.starts_with(head) && name.ends_with(tail)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_family_covers_its_members_only() {
        let family = Metric::gauge("node_memory_*_bytes", "bytes", "/proc/meminfo", "A field.");
        assert!(family.covers("node_memory_MemFree_bytes"));
        assert!(!family.covers("node_memory_bytes"));
        assert!(!family.covers("node_memory__bytes"));
        assert!(!family.covers("node_memory_HugePages_Total"));
        assert!(Metric::gauge("node_load1", "", "", "").covers("node_load1"));
    }
}
