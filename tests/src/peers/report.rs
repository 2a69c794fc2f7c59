//! The one table: a measure a line, the three side by side, ratios, and the targets.

use super::server::Kind;
use crate::fleet::figures::{Table, figure};

/// What a line is held to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Target {
    /// At most so much.
    AtMost(f64),
    /// At least so much.
    AtLeast(f64),
    /// At most so many times what VictoriaMetrics has.
    OfVictoria(f64),
    /// At most so many times what Prometheus has.
    OfPrometheus(f64),
    /// None.
    None,
}

/// The table as it grows.
#[derive(Debug, Default)]
pub struct Report {
    lines: Vec<(String, [f64; 3], Target)>,
}

impl Report {
    /// Adds a line: values in the order of [`Kind::ALL`], NaN where there is none.
    pub fn line(&mut self, measure: &str, values: [f64; 3], target: Target) {
        eprintln!("{measure}: {}", values.map(|value| figure(value, decimals(value))).join(" | "));
        self.lines.push((measure.to_owned(), values, target));
    }

    /// Adds a line of Pitwatch alone.
    pub fn own(&mut self, measure: &str, value: f64, target: Target) {
        self.line(measure, [value, f64::NAN, f64::NAN], target);
    }

    /// The table, as Markdown.
    #[must_use]
    pub fn table(&self) -> Table {
        let [ours, victoria, prometheus] = Kind::ALL.map(Kind::name);
        let mut table = Table::new(&["measure", ours, victoria, prometheus, "÷ VM", "÷ Prom.", "target", ""]);
        for (measure, values, target) in &self.lines {
            let [own, victoria, prometheus] = *values;
            let (to_victoria, to_prometheus) = (own / victoria, own / prometheus);
            let (text, met) = match *target {
                Target::AtMost(most) => (format!("≤ {most}"), Some(own <= most)),
                Target::AtLeast(least) => (format!("≥ {least}"), Some(own >= least)),
                Target::OfVictoria(most) => (format!("≤ {most} × VM"), Some(to_victoria <= most)),
                Target::OfPrometheus(most) => (format!("≤ {most} × Prom."), Some(to_prometheus <= most)),
                Target::None => (String::new(), None),
            };
            let mut cells = vec![measure.clone()];
            cells.extend(values.map(|value| figure(value, decimals(value))));
            cells.extend([to_victoria, to_prometheus].map(|ratio| figure(ratio, 2)));
            cells.push(text);
            cells.push(met.map_or("", crate::fleet::figures::verdict).to_owned());
            table.row(cells);
        }
        table
    }
}

fn decimals(value: f64) -> usize {
    if value.abs() < 10.0 { 3 } else { usize::from(value.abs() < 1000.0) }
}
