//! A query's text: parsed or refused, and what is parsed prints as itself.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &str| {
    if let Ok(expr) = pitwatch_promql::parse(input) {
        let printed = expr.to_string();
        let again = pitwatch_promql::parse(&printed).expect("what is printed parses");
        assert_eq!(again.to_string(), printed);
    }
});
