//! The Prometheus text format of tables: what `pitwatch-agent once` prints.
//!
//! Metrics come sorted by name, each with its HELP and TYPE; series come sorted by labels. Series without a value
//! (the stale marker) are left out. There are no timestamps: the values are of now.

use std::io::{self, Write};

use pitwatch_shared::codec::SeriesDef;
use pitwatch_shared::model::{MetricType, is_stale};

use crate::signals::{Table, metric};

/// Writes every live series of `tables`.
///
/// # Errors
/// Those of `out`.
pub fn write<'a>(out: &mut impl Write, tables: impl IntoIterator<Item = &'a Table>) -> io::Result<()> {
    let mut series: Vec<(&SeriesDef, f64)> = Vec::new();
    for table in tables {
        let values = table.values();
        let valued = table.live().filter_map(|def| Some((def, *values.get(def.slot as usize)?)));
        series.extend(valued.filter(|(_, value)| !is_stale(*value)));
    }
    series.sort_by(|(a, _), (b, _)| (a.labels.metric(), &a.labels).cmp(&(b.labels.metric(), &b.labels)));
    let mut headed = None;
    for (def, value) in series {
        let name = def.labels.metric();
        if headed != Some(name) {
            head(out, name, def.kind)?;
            headed = Some(name);
        }
        writeln!(out, "{} {}", def.labels, Value(value))?;
    }
    Ok(())
}

fn head(out: &mut impl Write, name: &str, kind: MetricType) -> io::Result<()> {
    if let Some(metric) = metric(name) {
        writeln!(out, "# HELP {name} {}", metric.help.replace('\\', "\\\\").replace('\n', "\\n"))?;
    }
    // The text format's word for what has no type; OpenMetrics and the model say "unknown".
    let kind = if kind == MetricType::Unknown { "untyped" } else { kind.as_str() };
    writeln!(out, "# TYPE {name} {kind}")
}

/// A value as the text format writes it.
struct Value(f64);

impl std::fmt::Display for Value {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.0.is_nan() {
            f.write_str("NaN")
        } else if self.0.is_infinite() {
            f.write_str(if self.0 > 0.0 { "+Inf" } else { "-Inf" })
        } else {
            write!(f, "{}", self.0)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::process::{Command, Stdio};
    use std::time::Duration;

    use super::*;
    use crate::signals::{Now, Signals, SignalsConfig};

    /// Two gatherings of every group, so that what is a difference has a value.
    fn whole_host() -> Vec<u8> {
        let labels = [("job".to_owned(), "node".to_owned()), ("role".to_owned(), "a \"b\"\\\n".to_owned())];
        let mut signals = Signals::new(&SignalsConfig::default(), &labels);
        signals.be_patient(Duration::from_secs(30));
        let mut out = Vec::new();
        for _ in 0..2 {
            for group in 0..signals.groups().len() as u16 {
                signals.gather(group, Now::read());
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        write(&mut out, signals.tables()).unwrap();
        out
    }

    #[test]
    fn metrics_are_sorted_with_one_heading_each() {
        let text = String::from_utf8(whole_host()).unwrap();
        let headed: Vec<_> = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")).collect();
        let names: Vec<_> = headed.iter().filter_map(|line| line.split(' ').next()).collect();
        assert!(names.is_sorted() && names.windows(2).all(|pair| pair[0] != pair[1]));
        assert!(names.contains(&"node_load1") && names.contains(&"pitwatch_agent_build_info"), "{names:?}");
        assert!(
            text.contains("# TYPE node_vmstat_pgfault untyped\n# HELP") || text.contains("# HELP node_vmstat_pgfault ")
        );
        assert!(text.contains("job=\"node\",role=\"a \\\"b\\\"\\\\\\n\""));
        assert!(!text.contains("instance="));
    }

    #[test]
    fn values_are_written_as_the_format_wants_them() {
        let text =
            [1.0, 0.1, 1e21, -0.5, f64::NAN, f64::INFINITY, f64::NEG_INFINITY].map(|value| Value(value).to_string());
        assert_eq!(text, ["1", "0.1", "1000000000000000000000", "-0.5", "NaN", "+Inf", "-Inf"]);
    }

    /// promtool reads it all, and finds fault with node_exporter's own names only.
    #[test]
    fn promtool_accepts_it() {
        let mut promtool = Command::new("promtool");
        promtool.args(["check", "metrics"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let Ok(mut child) = promtool.spawn() else {
            eprintln!("promtool is not installed: not checked");
            return;
        };
        child.stdin.take().unwrap().write_all(&whole_host()).unwrap();
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        let inherited = |line: &str| {
            line.starts_with("node_")
                && (line.ends_with("metric names should be written in 'snake_case' not 'camelCase'")
                    || line.ends_with("use base unit \"bytes\" instead of \"bits\""))
        };
        let faults: Vec<_> = said.lines().filter(|line| !inherited(line)).collect();
        assert_eq!(faults, [""; 0]);
        assert!(said.lines().count() > 10, "promtool knows node_exporter's names: {said}");
    }
}
