//! Runs every PromQL script (`*.test`) of a directory: `cargo run --release -p pitwatch-promql --example promqltest -- DIR`.
//! `-v` also prints why each failed `eval` failed.

use std::path::Path;
use std::process::ExitCode;

use pitwatch_promql::promqltest::{Outcome, run_directory};

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let verbose = args.iter().any(|a| a == "-v");
    let Some(directory) = args.iter().find(|a| *a != "-v") else {
        eprintln!("usage: promqltest [-v] DIR");
        return ExitCode::from(2);
    };
    let reports = match run_directory(Path::new(directory)) {
        Ok(reports) => reports,
        Err(error) => {
            eprintln!("{directory}: {error}");
            return ExitCode::from(2);
        }
    };
    let (mut passed, mut failed) = (0, 0);
    for report in &reports {
        let skipped: Vec<String> = report.skipped().iter().map(|(reason, n)| format!("{n} {reason}")).collect();
        let skips: usize = report.skipped().values().sum();
        let reasons = if skipped.is_empty() { String::new() } else { format!(" ({})", skipped.join(", ")) };
        println!("{}: {} passed, {} failed, {skips} skipped{reasons}", report.name, report.passed(), report.failed());
        if verbose {
            for (line, outcome) in &report.outcomes {
                if let Outcome::Failed(reason) = outcome {
                    println!("  line {line}: {reason}");
                }
            }
        }
        passed += report.passed();
        failed += report.failed();
    }
    println!("{passed} passed, {failed} failed");
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
