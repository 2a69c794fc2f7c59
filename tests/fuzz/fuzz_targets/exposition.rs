//! The text format of applications, Prometheus' and OpenMetrics: read or refused, its labels too.

#![no_main]

use libfuzzer_sys::fuzz_target;
use pitwatch_agent::apps::exposition::{Timestamps, parse};

fuzz_target!(|text: &str| {
    for timestamps in [Timestamps::Ignored, Timestamps::Refused] {
        let mut samples = Vec::new();
        if let Ok(count) = parse(text, timestamps, 1000, &mut samples) {
            assert!(count >= samples.len());
            for sample in &samples {
                assert!(sample.series.starts_with(sample.name));
                sample.labels().for_each(drop);
            }
        }
    }
});
