//! Matchers and silences as people and programs send them: read or refused, and what is read prints as itself.

#![no_main]

use libfuzzer_sys::fuzz_target;
use pitwatch_alerting::Silence;
use pitwatch_alerting::matchers::{parse_matchers, to_text};

fuzz_target!(|input: &str| {
    if let Ok(matchers) = parse_matchers(input) {
        assert_eq!(parse_matchers(&to_text(&matchers)).expect("what is printed reads"), matchers);
    }
    let _ = serde_json::from_str::<Silence>(input);
});
