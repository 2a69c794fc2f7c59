//! What metrics mean: help and unit of those that our agent sends, from its reference, which is made from its code.

use std::collections::HashMap;
use std::sync::LazyLock;

/// Tables of `| metric | type | unit | labels | source | meaning |`.
const REFERENCE: &str = include_str!("../../../docs/reference/signals.md");

/// Help and unit.
type Entry = (&'static str, &'static str);

struct Known {
    exact: HashMap<&'static str, Entry>,
    /// Names in which a `*` stands for a kernel's field: what is before it, what is after.
    families: Vec<(&'static str, &'static str, Entry)>,
}

static KNOWN: LazyLock<Known> = LazyLock::new(|| {
    let mut known = Known { exact: HashMap::new(), families: Vec::new() };
    for (name, entry) in REFERENCE.lines().filter_map(row) {
        match name.split_once('*') {
            Some((before, after)) => known.families.push((before, after, entry)),
            None => {
                known.exact.insert(name, entry);
            }
        }
    }
    // The longest first: it says most.
    known.families.sort_by_key(|(before, after, _)| std::cmp::Reverse(before.len() + after.len()));
    known
});

fn row(line: &'static str) -> Option<(&'static str, Entry)> {
    let mut cells = line.strip_prefix("| `")?.strip_suffix(" |")?.split(" | ");
    let name = cells.next()?.strip_suffix('`')?;
    let unit = cells.nth(1)?;
    let help = cells.last()?;
    Some((name, (help, unit)))
}

/// Help and unit of a metric, if it is known.
pub(super) fn of(metric: &str) -> Option<Entry> {
    let fits = |(before, after, _): &&(&str, &str, Entry)| {
        metric.len() > before.len() + after.len() && metric.starts_with(before) && metric.ends_with(after)
    };
    KNOWN.exact.get(metric).copied().or_else(|| KNOWN.families.iter().find(fits).map(|(_, _, entry)| *entry))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_agents_metrics_have_help() {
        assert!(KNOWN.exact.len() > 100 && KNOWN.families.len() > 2);
        assert_eq!(
            of("node_cpu_seconds_total"),
            Some(("Seconds that a core spent in a mode. Guest time is also in user and nice.", "seconds"))
        );
        assert_eq!(of("node_memory_MemFree_bytes").unwrap().1, "bytes");
        assert_eq!(of("node_memory_HugePages_Free").unwrap().1, "pages");
        assert_eq!(of("nope"), None);
    }
}
