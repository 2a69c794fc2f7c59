//! A template's text: refused, or rendered within its limits.

#![no_main]

use libfuzzer_sys::fuzz_target;
use pitwatch_alerting::template::{Context, Template};
use pitwatch_alerting::{LabelSet, Row, limits};

fuzz_target!(|text: &str| {
    let Ok(template) = Template::parse(text) else { return };
    let labels = LabelSet::new([("__name__", "x"), ("instance", "a:1"), ("n", "12.5")]);
    let row = Row { labels: labels.clone(), value: -0.5 };
    let query = |expr: &str| if expr.len() > 3 { Err("no".to_owned()) } else { Ok(vec![row.clone(), row.clone()]) };
    let context = Context {
        labels: &labels,
        value: f64::from(text.len() as u32) * 1.5e3,
        now_ms: 1_772_331_240_000,
        external_labels: &labels,
        external_url: "http://x/y",
        query: &query,
    };
    if let Ok(text) = template.render(&context) {
        assert!(text.len() <= limits::TEMPLATE_OUTPUT_MAX_BYTES);
    }
});
