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
