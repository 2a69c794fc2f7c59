//! A unit test file of rules: run or refused.

#![no_main]

use std::cell::RefCell;
use std::path::PathBuf;

use libfuzzer_sys::fuzz_target;
use pitwatch_alerting::Semantics;

thread_local! {
    static FILE: RefCell<PathBuf> = RefCell::new(std::env::temp_dir().join(format!("rule-tests-{}", std::process::id())));
}

fuzz_target!(|text: &[u8]| {
    FILE.with_borrow(|path| {
        std::fs::write(path, text).expect("a file");
        let _ = pitwatch_rules::unit::run(path, Semantics::Prometheus);
    });
});
