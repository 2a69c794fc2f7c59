//! The stock rules: every alert has a unit test, which passes here as with `promtool`; what Pitwatch adds has its own.

// The helpers of these tests are not in test functions, where clippy.toml allows it.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use pitwatch_alerting::engine::Options;
use pitwatch_alerting::rules::RuleKind;
use pitwatch_alerting::{RuleFile, Semantics};
use pitwatch_rules::{prepare, unit};

fn yml(dir: &str) -> Vec<PathBuf> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../packaging/rules").join(dir);
    let mut files: Vec<_> = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|end| end == "yml"));
    files.sort();
    files
}

fn all_pass(dir: &str, semantics: Semantics) -> usize {
    let mut expectations = 0;
    for path in yml(dir) {
        let verdict = unit::run(&path, semantics);
        assert!(verdict.errors.is_empty(), "{}\n{}", path.display(), verdict.errors.join("\n"));
        assert!(verdict.warnings.is_empty() && verdict.expectations > 0, "{}: {verdict:?}", path.display());
        expectations += verdict.expectations;
    }
    expectations
}

#[test]
fn the_unit_tests_of_the_stock_rules_pass() {
    assert!(all_pass("tests", Semantics::Prometheus) >= 75);
}

#[test]
fn what_pitwatch_adds_has_tests_too() {
    assert!(all_pass("tests/pitwatch", Options::default().semantics) >= 5);
}

#[test]
fn every_stock_alert_has_a_test() {
    let tests: String = yml("tests").iter().map(|path| std::fs::read_to_string(path).unwrap()).collect();
    let mut untested = BTreeSet::new();
    let mut seen = 0;
    for path in yml("") {
        let text = std::fs::read_to_string(&path).unwrap();
        let file =
            RuleFile::parse(&path.display().to_string(), &text, prepare).unwrap_or_else(|errors| panic!("{errors}"));
        for rule in file.groups.iter().flat_map(|group| &group.rules) {
            if matches!(rule.kind, RuleKind::Alert(_)) {
                seen += 1;
                if !tests.contains(&*rule.name) {
                    untested.insert(rule.name.to_string());
                }
            }
        }
    }
    assert!(seen > 70 && untested.is_empty(), "{untested:?}");
}
