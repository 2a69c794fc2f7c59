//! Prometheus' own scripts against this engine: every `eval` that `cases.tsv` marks must pass, and nothing else that is
//! run may fail. Those scripts lie outside of the project; `PROMQLTEST_DIR` says where else to look. Our own lie beside.

use std::collections::BTreeMap;
use std::path::PathBuf;

use pitwatch_promql::promqltest::{Outcome, run_directory};

fn directory() -> PathBuf {
    match std::env::var_os("PROMQLTEST_DIR") {
        Some(directory) => directory.into(),
        None => PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/promqltest"),
    }
}

#[test]
fn every_script_passes() {
    let directory = directory();
    if !directory.is_dir() {
        eprintln!("skipped: {} is not there; set PROMQLTEST_DIR to the directory of the scripts", directory.display());
        return;
    }
    let reports = run_directory(&directory).unwrap();
    assert!(!reports.is_empty(), "no scripts in {}", directory.display());
    let mut outcomes = BTreeMap::new();
    let mut problems = Vec::new();
    for report in &reports {
        for (line, outcome) in &report.outcomes {
            if let Outcome::Failed(reason) = outcome {
                problems.push(format!("{}:{line}: {reason}", report.name));
            }
            outcomes.insert((report.name.clone(), *line), outcome.clone());
        }
    }
    let cases = std::fs::read_to_string(directory.join("cases.tsv")).unwrap_or_default();
    let mut kept = 0;
    for case in cases.lines().skip(1) {
        let fields: Vec<&str> = case.split('\t').collect();
        if fields[3] != "1" {
            continue;
        }
        kept += 1;
        let line: usize = fields[1].parse().unwrap();
        match outcomes.get(&(fields[0].to_owned(), line)) {
            Some(Outcome::Passed | Outcome::Failed(_)) => {}
            other => problems.push(format!("{}:{line}: must run, but: {other:?}: {}", fields[0], fields[5])),
        }
    }
    let passed = outcomes.values().filter(|o| **o == Outcome::Passed).count();
    println!("{passed} passed, {} problems, {kept} kept by cases.tsv", problems.len());
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

/// Our own scripts, over themes of which Prometheus keeps some, too.
#[test]
fn our_scripts_pass() {
    let reports = run_directory(&PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/scripts")).unwrap();
    let mut problems = Vec::new();
    let mut passed = 0;
    for report in &reports {
        passed += report.passed();
        for (line, outcome) in &report.outcomes {
            match outcome {
                Outcome::Passed => {}
                // The scripts of what is not there are there to be skipped.
                Outcome::Skipped(_) if report.name == "native_histograms.test" => {}
                other => problems.push(format!("{}:{line}: {other:?}", report.name)),
            }
        }
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
    assert!(passed > 100, "only {passed}");
}
