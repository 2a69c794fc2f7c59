//! A rule file's text: read or refused, and what is read can be evaluated and its texts rendered.

#![no_main]

use libfuzzer_sys::fuzz_target;
use pitwatch_alerting::engine::{Options, Scope, Wake};
use pitwatch_alerting::{Engine, LabelSet, Prepared, Row, RuleFile, RuleSample, Source};
use pitwatch_promql::Expr;

/// One row for every expression.
struct OneRow;

impl Source for OneRow {
    type Prepared = Expr;

    fn prepare(&self, expr: &str) -> Result<Prepared<Expr>, String> {
        pitwatch_rules::prepare(expr)
    }

    fn run(&self, _: &Expr, _: Scope<'_>, ts_ms: i64) -> Result<Vec<Row>, String> {
        let labels = LabelSet::new([("__name__", "x"), ("instance", "a\"b"), ("device", "sda")]);
        // Rows come and go, so that alerts resolve.
        Ok(if ts_ms % 3 == 0 { Vec::new() } else { vec![Row { labels, value: ts_ms as f64 / 7.0 }] })
    }

    fn record(&mut self, _: &str, _: i64, _: &[RuleSample]) {}

    fn clock_us(&self) -> u64 {
        0
    }
}

fuzz_target!(|text: &str| {
    if let Ok(file) = RuleFile::parse("fuzz", text, pitwatch_rules::prepare) {
        let mut engine = Engine::new(vec![file], Options::default());
        for now_ms in [0, 1, 1_000_001, 5_000_000_000] {
            engine.evaluate(Wake::Every, now_ms, &mut OneRow);
        }
    }
});
