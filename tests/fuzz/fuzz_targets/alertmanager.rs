//! An `alertmanager.yml`: read or refused with lines, and what is read routes any alert.

#![no_main]

use libfuzzer_sys::fuzz_target;
use pitwatch_alerting::{LabelSet, Routing};

fuzz_target!(|input: &str| {
    if let Ok(routing) = Routing::parse("am.yml", input, &|_| None) {
        let labels = LabelSet::new([("alertname", "A"), ("instance", "x")]);
        assert!(!routing.matching(&labels).is_empty(), "the root takes everything");
        let _ = routing.to_text();
    }
});
